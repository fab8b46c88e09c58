"""Two files of columns whose rows belong together: by their order, or by a column that both have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdx.core.errors import UserError
from kdx.data.column_files import names_in, read_columns
from kdx.data.columns import need_column
from kdx.data.phrases import are, counted, few


def partners(first: Path, second: Path, key: str | None, rows: tuple[int, int]) -> tuple[np.ndarray, str]:
    """((N,) int64, of each row of the first file its row of the second; what there is to say, "": nothing).

    key: a column of both, None: they are in one order. rows: of each file. Raises UserError where a row of
    the first has none, or several.
    """
    if key is None:
        if rows[0] != rows[1]:
            raise UserError(
                f"'{first.name}' has {rows[0]:,} rows and '{second.name}' {rows[1]:,}, and without a key "
                "row i of the one belongs to row i of the other: name a column of both with dataset.key=NAME"
            )
        return np.arange(rows[0], dtype=np.int64), ""
    mine, others = (_values(path, key) for path in (first, second))
    places: dict[str, int] = {}
    for place, value in enumerate(others):
        if places.setdefault(value, place) != place:
            raise UserError(
                f"'{second.name}' has two rows with {key}={value} (rows {places[value] + 1}, {place + 1}), "
                "so that it cannot be known which belongs to a row of the other file: keep one"
            )
    if lone := [value for value in mine if value not in places]:
        raise UserError(
            f"{are(len(lone), f'of {len(mine):,} rows of {first.name}')} without a row of '{second.name}' "
            f"({key}={few(lone)}): add those, or leave the rows out"
        )
    spare = len(others) - len(set(mine))
    note = f"{counted(spare, 'row')} of {second.name} {'belongs' if spare == 1 else 'belong'} to none and "
    note += f"{'is' if spare == 1 else 'are'} left out"
    return np.array([places[value] for value in mine], np.int64), note if spare else ""


def _values(path: Path, key: str) -> Sequence[str]:
    need_column(path, names_in(path), key, "dataset.key")
    found = read_columns(path, only=[key], as_text=[key])[key].text()
    if missing := [place for place, value in enumerate(found) if not value]:
        raise UserError(f"'{path.name}' has no {key} in row {missing[0] + 1}: every row needs one")
    return [str(value) for value in found]
