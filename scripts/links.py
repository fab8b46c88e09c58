"""Links of Markdown pages as they must be where a page is read elsewhere than in the repository: on the site
(scripts/docs), and as the long description of the package.
Needs the standard library alone.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

_CODE = r"^```.*?^```|^    [^\n]*|`[^`\n]+`"
_LINK = r"(!?)\[((?:[^\[\]\n]++|\n(?!\n)|\[[^\]\n]*\](?:\([^)\n]*\))?+)*+)\]\(([^)\s]+)\)"
_EITHER = re.compile(f"{_LINK}|{_CODE}", re.M | re.S)
_BEGINS = re.compile(r"(?<=\n)(?=<!-- table )|(?<= -->\n)(?=\|)")


def repository(root: Path) -> str | None:
    """Its address without a slash at the end, from `[project.urls]`; None: not filled in."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository")
    return address and address.rstrip("/")


def changed(text: str, target: Callable[[str], str | None]) -> str:
    """A page whose relative links lead to what `target` makes of them, outside of code; None: what is shown
    of the link stays, of a picture nothing.
    """

    def one(found: re.Match[str]) -> str:
        mark, shown, link = found.groups()
        if link is None:  # code
            return found[0]
        shown = _EITHER.sub(one, shown)
        if "://" in link or link.startswith(("#", "mailto:")):
            return f"{mark}[{shown}]({link})"
        to = target(link)
        return f"{mark}[{shown}]({to})" if to else "" if mark else shown

    return _EITHER.sub(one, text)


def address_of(path: str, at: str, address: str | None, folder: bool, picture: bool) -> str | None:
    """Of a file of the repository, seen by a reader; at: `#...` or nothing."""
    if address is None:
        return None
    return f"{address}/{'tree' if folder else 'raw' if picture else 'blob'}/main/{path}{at}"


def moved(path: Path, name: str, names: Mapping[Path, str], root: Path, address: str | None) -> str:
    """The page at `path` as it is called `name` on the site. names: file -> what it is called there."""

    def target(link: str) -> str | None:
        file, sharp, anchor = link.partition("#")
        to = (path.parent / file).resolve()
        if to in names:
            return os.path.relpath(names[to], os.path.dirname(name) or ".") + sharp + anchor
        return address_of(to.relative_to(root).as_posix(), sharp + anchor, address, to.is_dir(), False)

    return _BEGINS.sub("\n", changed(path.read_text(encoding="utf-8"), target))


def long_description(root: Path) -> str:
    """README.md for a package index, where a relative link leads nowhere."""
    address = repository(root)

    def target(link: str) -> str | None:
        file, sharp, anchor = link.partition("#")
        picture = file.endswith((".png", ".svg"))
        return address_of(file, sharp + anchor, address, (root / file).is_dir(), picture)

    return changed((root / "README.md").read_text(encoding="utf-8"), target)
