"""What reads new rows, whatever a row is: block by block, so that no more than one is held."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdx.core.errors import UserError

if TYPE_CHECKING:
    from kdx.core.warp import Warp

FILE_COLUMN, ROW_COLUMN = "file", "row"
"""What a row is known by: the place of its file in the folder, or its number in a file of rows, from 1."""


@dataclass(frozen=True)
class RowBlock:
    """n rows, one or more. known_by: FILE_COLUMN or ROW_COLUMN -> n values, and of rows whose
    truth is known columns of that. inputs: as networks are given
    them, numpy arrays or tensors, one or several by name. truth: in the task's form, None where that of some
    row is not known. warp: of pictures whose answers lie at places, where these lie in their files."""

    known_by: Mapping[str, Sequence[Any]]
    inputs: Any
    truth: Any = None
    warp: Warp | None = None


class NewRows(ABC):
    """count: how many rows there are, those that cannot be read among them. unread: what the rows so far are
    called that could not be read, and why. noun: one row, in sentences. columns: of a file of rows those that
    are read; further: others that there is something to say of."""

    noun: str = "row"
    columns: Sequence[str] = ()
    further: Sequence[str] = ()
    count: int
    unread: list[tuple[str, str]]

    @abstractmethod
    def blocks(self, size: int) -> Iterator[RowBlock]:
        """All rows that can be read, in order, `size` at most at a time; each block is made when it is asked
        for."""

    def notes(self) -> list[str]:
        """What there is to say once all rows are read."""
        return []


def check_there(place: Path) -> None:
    """Raises UserError where there is neither a file nor a folder."""
    if not os.path.exists(place):
        raise UserError(
            f"data='{place}' does not exist: name a folder or a file, or of a run one of its splits: pool, "
            "labelled, validation or test"
        )


def path_in(path: Path, folder: Path) -> str:
    """The place of a file in a folder, as it would be opened there; bytes that are no UTF-8 as their
    escapes."""
    inner = path.relative_to(folder).as_posix() if path != folder else path.name
    return inner.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
