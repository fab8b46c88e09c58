"""What a part of the user's own begins as: the files that `kdx new` writes and that docs/your-own.md shows,
kept beside this one. Standard library only, but for what a metric may be called.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from string import Template

from kdx.config import options
from kdx.core.errors import UserError, nearest
from kdx.core.paths import conf_dir

_HERE = Path(__file__).resolve().parent
_OPTIONS = "conf"
"""The folder of a package that holds its options, laid out like conf/."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class _Kind:
    """files: template -> file in the package. words: what chooses it, behind `kdx train`."""

    files: Mapping[str, str]
    words: str


def _option(kind: str, group: str = "") -> dict[str, str]:
    return {f"{kind}.py": "$name.py", f"{kind}.yaml": f"{_OPTIONS}/{group or kind}/$name.yaml"}


PART_KINDS: Mapping[str, _Kind] = {
    "dataset": _Kind(_option("dataset"), "dataset=$name"),
    "torch_dataset": _Kind(_option("torch_dataset", "dataset"), "dataset=$name"),
    "model": _Kind(
        {
            **_option("model"),
            **{f"model_as_{role}.yaml": f"{_OPTIONS}/{role}/$name.yaml" for role in ("teacher", "student")},
        },
        "student=$name",
    ),
    "loss": _Kind(_option("loss"), "loss=$name"),
    "augment": _Kind(_option("augment"), "'augment=[$name]'"),
    "transform": _Kind(_option("transform", "augment"), "'augment=[$name]'"),
    "select": _Kind(_option("select"), "select=$name"),
    "metric": _Kind({"metric.py": "$name.py"}, "+metrics.$name._target_=$package.$name.$Class"),
}


def part_files(kind: str, name: str, package: str) -> dict[str, str]:
    """File, with its folders -> text: what is written for a part of this kind, name and package. Raises
    UserError where the kind or the name will not do."""
    if kind not in PART_KINDS:
        raise UserError(
            f"kdx new makes no {kind!r}{nearest(kind, PART_KINDS)}; docs/own-parts.md has what else there is"
        )
    _check_name(kind, name)
    names = _names(name, package)
    found = {
        f"{package}/{Template(file).substitute(names)}": Template(
            (_HERE / f"{template}.txt").read_text(encoding="utf-8")
        ).substitute(names)
        for template, file in PART_KINDS[kind].files.items()
    }
    defined = {"model": name}.get(kind, names["Class"])
    for file, text in found.items():
        if file.endswith(".py") and defined in _imported(text):
            raise UserError(f"the file of a {kind} imports something called {defined}: choose another name")
    return found


def trying_command(kind: str, name: str, package: str) -> str:
    """The command line that tries it."""
    folder = f" --config-dir {package}/{_OPTIONS}" if len(PART_KINDS[kind].files) > 1 else ""
    words = Template(PART_KINDS[kind].words).substitute(_names(name, package))
    return f"kdx train 'allow=[{package}]'{folder} {words}"


def _names(name: str, package: str) -> dict[str, str]:
    return {
        "name": name,
        "package": package,
        "Class": "".join(part[:1].upper() + part[1:] for part in name.split("_")),
    }


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(
            f"a {kind} is called by small letters, digits and _, beginning with a letter, such as my_{kind}; "
            f"given: {name!r}"
        )
    if name in dir(builtins) or name in sys.stdlib_module_names or _installed(name):
        raise UserError(f"Python or an installed package has '{name}' already: choose another name")
    for file in PART_KINDS[kind].files.values():
        if file.startswith(_OPTIONS) and (conf_dir().parent / Template(file).substitute(name=name)).is_file():
            raise UserError(f"kdx has a {kind} '{name}' of its own: choose another name")
    if kind == "metric":
        from kdx.config.contract import taken_names

        if name in taken_names():
            raise UserError(f"results keep something else as '{name}': choose another name")


def _installed(name: str) -> bool:
    """Whether `import NAME` would find something in a new process, but for what lies in this folder: what
    was imported here may lie elsewhere, or be gone.
    """
    found = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, None))), None)
    here = PathFinder.find_spec(name, [""])
    return found is not None and (here is None or found.origin != here.origin)


def check_package(package: str) -> None:
    """Raises UserError where what is laid in that folder would not be found under that name."""
    if not _NAME.fullmatch(package) or keyword.iskeyword(package):
        raise UserError(
            "package= is one name of small letters, digits and _, the folder here that your code lies in; "
            f"given: {package!r}"
        )
    if _installed(package):
        raise UserError(f"there is a package '{package}' already, elsewhere: choose another with package=")
    if package in options.folders():
        raise UserError(f"package={package} is called like a group of options: choose another")


def _imported(text: str) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
