"""Where the store of a run folder may lie. Standard library only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def possible_stores(
    path: Path, document: Mapping[str, Any], found: Mapping[str, tuple[str, str]]
) -> Iterator[Path]:
    """From the surest to the least sure. The links are relative: they survive when runs and store are moved
    together; the path in run.json survives when the run folder alone is moved; `config.store` is relative to
    the working directory of the run."""
    for name, (stage, key) in found.items():
        target = _follow(path / "artifacts" / name)
        if target is not None and target.name == key and target.parent.name == stage:
            yield target.parent.parent
    if isinstance(document.get("store"), str):
        yield Path(document["store"])
    named = document["config"].get("store")
    if isinstance(named, str):
        with contextlib.suppress(RuntimeError):  # the home of somebody who is not here
            named = Path(named).expanduser()
        relative = Path(named)
        yield relative
        if not relative.is_absolute():
            yield from (
                parent / relative for parent in path.resolve().parents if os.path.isdir(parent / relative)
            )


def _follow(link: Path) -> Path | None:
    """Where a link of artifacts/ leads; where links are not allowed, a text file with the path stands for
    one.
    """
    try:
        if link.is_symlink():
            return link.resolve()
        if link.is_file() and link.stat().st_size < 4096:
            return (link.parent / link.read_text(encoding="utf-8", errors="replace").strip()).resolve()
    except (OSError, ValueError, RuntimeError):  # links in a circle, a name that no file can have
        pass
    return None
