"""New pictures that a column of a file names, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.data.columns import name_some
from kdx.data.new_rows.cells import cell_text, check_columns, column_names, read_cells, rows_in
from kdx.data.new_rows.pictures import PictureReader
from kdx.data.new_rows.rows import ROW_COLUMN, NewRows, RowBlock

_PLAIN = ("picture", "image", "photo", "file")
"""Names of a column that tell that it names pictures."""


class NamedPictures(NewRows):
    """The pictures that a file of rows names, seen from its own folder. shape, how, workers: as of
    kdx.data.new_rows.pictures.NewPictures; how: `column` too, which names them, where the data set had
    one."""

    def __init__(self, place: Path, shape: tuple[int, ...], how: Mapping[str, Any], workers: int):
        known, named = column_names(place), how.get("column")
        if named is None:
            named = next((name for name in known if name.strip().lower() in _PLAIN), None)
        if named is None or named not in known:
            column = f"column '{named}'" if named else f"column of picture files ({', '.join(_PLAIN)})"
            raise UserError(
                f"'{place}' lacks the {column}, by which the network finds the picture of a row: it has "
                f"{name_some(known) or 'none'}"
            )
        check_columns(place, [named], "the network")
        self._place, self._column, self.columns = place, named, [named]
        self._reader = PictureReader(shape, how, workers, place.parent)
        self.count, self.unread = rows_in(place), []
        if not self.count:
            raise UserError(f"'{place}' has no rows")

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for cells in read_cells(self._place, [self._column], size):
            self.unread += [(f"row {number}", why) for number, why in cells.bad]
            names = [cell_text(cell) or "" for cell in cells.columns[self._column]]
            found = self._reader.read([self._place.parent / name for name in names])
            numbers, images = [], []
            for number, name, image in zip(cells.numbers, names, found, strict=True):
                if not name:
                    self.unread.append((f"row {number}", f"it has no {self._column}"))
                elif isinstance(image, str):
                    self.unread.append((f"row {number}", f"'{name}': {image}"))
                else:
                    numbers.append(number)
                    images.append(image)
            if images:
                yield RowBlock({ROW_COLUMN: numbers}, np.stack(images))

    def notes(self) -> list[str]:
        return [
            f"pictures are named in the column '{self._column}'",
            *self._reader.notes(self.count - len(self.unread)),
        ]
