"""A column of words in a file of rows: texts, or names of other files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdx.core import snapshot
from kdx.core.errors import UserError
from kdx.data.column_files import names_in, read_columns
from kdx.data.columns import need_column
from kdx.data.phrases import counted, few


def each_word(path: Path, name: str, key: str, empty: bool = False) -> list[str]:
    """The words of a column, of which each row must have one. key: which names the column. empty: whether a
    row may have none, which is "" then."""
    need_column(path, names_in(path), name, key)

    def look() -> list[str | None]:
        return read_columns(path, only=[name], as_text=[name])[name].text()

    found = snapshot.while_same(("column", str(path), name), str(path), look, lambda _: True)
    if not empty and (lone := [row for row, word in enumerate(found) if not word]):
        raise UserError(f"row {lone[0] + 1} of '{path}' has no {name}: every row needs one")
    return [word or "" for word in found]


def files_named(path: Path, names: Sequence[str], root: Path | None) -> list[Path]:
    """The pictures that a file of rows names, seen from root, None: from its own folder. Raises UserError
    where one is not there."""
    root = path.parent if root is None else root
    paths = [root / name for name in names]
    if missing := [name for name, path in zip(names, paths, strict=True) if not os.path.isfile(path)]:
        raise UserError(
            f"'{path.name}' names {counted(len(missing), 'picture')} that "
            f"{'is' if len(missing) == 1 else 'are'} not in '{root}': {few(missing)}; see dataset.root"
        )
    return paths


def check_named(
    path: Path, named: Mapping[str, str | None], targets: Sequence[str], ignored: Sequence[str]
) -> None:
    """Whether the columns that keys name are there, and none is the target too. named: key -> column, None:
    it names none. Raises UserError."""
    known = names_in(path)
    for key, name in named.items():
        if name is not None:
            need_column(path, known, name, key)
            if name in targets:
                raise UserError(f"{key} and dataset.target both name '{name}': take it out of one")
    for name in (*targets, *ignored):
        need_column(path, known, name, "dataset.target" if name in targets else "dataset.ignore")
