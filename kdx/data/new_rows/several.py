"""New rows with several inputs, of one file of columns: each input is read as it is where it is alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce

import numpy as np

from kdx.core.errors import UserError
from kdx.core.trees import picked
from kdx.data.new_rows.rows import ROW_COLUMN, NewRows, RowBlock


class NewPairs(NewRows):
    """readers: name of an input -> what reads it, all of the same file, of which a row is known by its
    number. A row that one of them cannot read is left out. Raises UserError where two read one column."""

    def __init__(self, readers: Mapping[str, NewRows]):
        self._readers = dict(readers)
        self.count = next(iter(readers.values())).count
        used = [column for reader in readers.values() for column in reader.columns]
        if twice := sorted({column for column in used if used.count(column) > 1}):
            raise UserError(
                f"two inputs of this network have a column '{twice[0]}', and a file of new rows has one: "
                "give them different names, and train again"
            )
        for reader in readers.values():
            reader.further = [column for column in reader.further if column not in used]

    @property
    def unread(self) -> list[tuple[str, str]]:  # type: ignore[override]
        """Of each row what the first that could not read it says."""
        found: dict[str, str] = {}
        for reader in self._readers.values():
            for name, why in reader.unread:
                found.setdefault(name, why)
        return sorted(found.items(), key=lambda one: int(one[0].rpartition(" ")[2]))

    def blocks(self, size: int) -> Iterator[RowBlock]:
        each = {name: reader.blocks(size) for name, reader in self._readers.items()}
        held = {name: next(blocks, None) for name, blocks in each.items()}
        while all(held.values()):
            there = {name: block for name, block in held.items() if block}
            known = {name: np.asarray(block.known_by[ROW_COLUMN]) for name, block in there.items()}
            rows = reduce(np.intersect1d, known.values())
            if len(rows):
                inputs = {
                    name: picked(block.inputs, np.searchsorted(known[name], rows))
                    for name, block in there.items()
                }
                yield RowBlock({ROW_COLUMN: rows.tolist()}, inputs)
            first = min(
                int(numbers[-1]) for numbers in known.values()
            )  # what ends there is of no further use
            for name, numbers in known.items():
                if numbers[-1] == first:
                    held[name] = next(each[name], None)

    def notes(self) -> list[str]:
        return [note for reader in self._readers.values() for note in reader.notes()]
