"""Answers that come in a file: a .npy of rows in order, or a file of columns such as `kdx predict` writes
(docs/predict.md). What they mean is known by the task alone (`Task.given`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kdx.core.checks import shown
from kdx.core.errors import UserError
from kdx.data.column_files import ENDINGS, ending
from kdx.data.columns import name_some
from kdx.data.new_rows.cells import cell_number, cell_text, cell_word, column_names, read_cells
from kdx.data.new_rows.rows import FILE_COLUMN, ROW_COLUMN
from kdx.data.phrases import few
from kdx.data.pictures.walk import as_text

_LABEL, _NUMBERS = "label", ("p", "logit", "value", "deviation")
"""The column of words; what stands before the first colon of columns of numbers."""
_BESIDE = ("confidence", "margin")
_BLOCK = 1 << 16
_OTHER_WORDS = {
    FILE_COLUMN: "filename file_name files path filepath file_path image image_path img picture name",
    ROW_COLUMN: "rows number index row_number",
    _LABEL: "class labels classes class_name category target prediction predicted predicted_class answer y",
}
"""header -> what others call such a column."""


@dataclass(frozen=True, eq=False)
class AnsweredRows:
    """The rows of a file of answers. columns: header -> n values: of `label` words, None where there is none;
    of all others (n,) float64, nan where there is none. files: as the data set would call them; numbers: (n,)
    int64, of the decoded data set, from 0; neither: they are known by their order. left_out: columns that
    say nothing.
    """

    path: Path
    columns: Mapping[str, Any]
    files: Sequence[str] | None = None
    numbers: np.ndarray | None = None
    left_out: Sequence[str] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def called(self, row: int) -> str:
        """What a row is called in a sentence."""
        if self.files is not None:
            return f"'{self.files[row]}'"
        return f"row {row + 1 if self.numbers is None else int(self.numbers[row]) + 1}"


def taken_by_order(rows: AnsweredRows) -> bool:
    return rows.files is None and rows.numbers is None


def said_of_columns(rows: AnsweredRows) -> list[str]:
    """What there is to say of columns that are not read, and which header they may want."""
    said = [f"columns that are not read: {few(rows.left_out)}"] if rows.left_out else []
    wanted = [_LABEL] if _LABEL not in rows.columns else []
    wanted += [FILE_COLUMN, ROW_COLUMN] if taken_by_order(rows) else []
    return said + _other_headers(rows.left_out, wanted)


def _other_headers(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    purposes = {FILE_COLUMN: "names the rows", ROW_COLUMN: "numbers the rows", _LABEL: "is the answer"}
    return [
        f"call the column `{name}` `{header}` if it {purposes[header]}"
        for header in wanted
        for name in names
        if name.lower().replace(" ", "_") in _OTHER_WORDS[header].split()
    ]


class AnswersFile:
    """The option `teacher=answers`. file: .npy, CSV, TSV, JSON lines or Parquet."""

    given_answers: ClassVar[bool] = True
    """Read from this file where torch is not wanted (kdx.store.declared)."""
    paths: ClassVar[tuple[str, ...]] = ("file",)

    def __init__(self, *, file: str):
        self.path = Path(file).expanduser()

    def rows(self, spread: Callable[[np.ndarray], Mapping[str, Any]], words: Collection[str]) -> AnsweredRows:
        """spread: the columns of an array of answers (`Task.of_array`). words: that an answer may be, even
        where they look like none at all, such as a class "none". Raises UserError where the file cannot be
        read or holds no answers.
        """
        if self.path.suffix.lower() == ".npy":
            return AnsweredRows(self.path, spread(_array(self.path)))
        if not ending(self.path):
            raise UserError(
                f"teacher.file must end with .npy, {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; given: "
                f"{shown(str(self.path))}"
            )
        return _Columns(self.path, frozenset(words)).read()


def whose_order(path: Path, rows: int, pool: int, own: int, whole: int) -> str:
    """Of rows that are known by their order alone, whose that is: "pool", "own" (the pool without rows that
    were made up for it) or "all" (the decoded data set). Raises UserError where they are as many as none of
    these.
    """
    for name, count in (("pool", pool), ("own", own), ("all", whole)):
        if rows == count:
            return name
    raise UserError(
        f"teacher.file={path} holds {rows:,} rows by order, and the pool has {pool:,}, the whole data set "
        f"{whole:,}: "
        f"give one for each of either, in order, or a file of columns with `{FILE_COLUMN}` or "
        f"`{ROW_COLUMN}`, as `kdx predict RUN data=pool` writes it"
    )


def _array(path: Path) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        why = " ".join(str(error).split())[:160]
        raise UserError(f"'{path}' cannot be read as an array of numbers: {why}") from None
    if not isinstance(found, np.ndarray) or found.ndim not in (1, 2) or found.dtype.kind not in "fiu":
        form = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "several arrays"
        raise UserError(f"'{path}' must hold numbers, a row of them for each row of data; it holds {form}")
    if not len(found):
        raise UserError(f"'{path}' has no rows")
    return found.astype(np.float64).reshape(len(found), -1)


@dataclass
class _Columns:
    path: Path
    words: frozenset[str]
    bad: list[str] = field(default_factory=list)

    def read(self) -> AnsweredRows:
        names = column_names(self.path)
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise UserError(f"'{self.path}' has two columns that are called '{twice[0]}': rename one")
        key = next((name for name in (FILE_COLUMN, ROW_COLUMN) if name in names), None)
        answers = [name for name in names if _answers(name)]
        if not answers:
            raise UserError(
                f"'{self.path}' holds no answers: it needs a column `{_LABEL}`, or columns p:NAME, "
                f"logit:NAME or value:NAME, as `kdx predict` writes them; it has {name_some(names) or 'none'}"
                + "".join(f"; {hint}" for hint in _other_headers(names, [_LABEL]))
            )
        wanted = [*([key] if key else []), *answers]
        cells: dict[str, list[Any]] = {name: [] for name in wanted}
        for block in read_cells(self.path, wanted, _BLOCK):
            self.bad += [f"row {number}: {why}" for number, why in block.bad]
            for name, column in block.columns.items():
                cells[name] += map(self._reader(name), column)
        if not self.bad and not cells[wanted[0]]:
            raise UserError(f"'{self.path}' has no rows")
        columns = {name: cells[name] if name == _LABEL else np.array(cells[name], float) for name in answers}
        found = AnsweredRows(
            self.path,
            columns,
            files=cells[key] if key == FILE_COLUMN else None,
            numbers=np.array(cells[key], np.int64) - 1 if key == ROW_COLUMN else None,
            left_out=[name for name in names if name not in wanted and _said(name)],
        )
        self._check(found)
        return found

    def _reader(self, name: str) -> Callable[[Any], Any]:
        if name == _LABEL:
            return self._word
        return {FILE_COLUMN: self._file, ROW_COLUMN: self._number}.get(
            name, lambda cell: self._value(name, cell)
        )

    def _word(self, cell: Any) -> str | None:
        text = cell_text(cell)
        text = None if text is None else as_text(text)
        return text if text in self.words else cell_word(text and text.strip())

    def _file(self, cell: Any) -> str:
        return as_text(cell_text(cell) or "")

    def _number(self, cell: Any) -> int:
        """0 where it is no number of a row."""
        try:
            number = cell_number(cell)
            return int(number) if number == int(number) and 0 < number < 2**62 else 0
        except (ValueError, TypeError, OverflowError):
            return 0

    def _value(self, name: str, cell: Any) -> float:
        try:
            return cell_number(cell)
        except (ValueError, TypeError):
            self.bad.append(f"{name} is {shown(cell)}")
            return float("nan")

    def _check(self, found: AnsweredRows) -> None:
        """Raises UserError where a row could not be read, is nobody's, or stands twice."""
        if self.bad:
            raise UserError(f"'{self.path}' has rows that cannot be read: {few(self.bad)}")
        keys: Sequence[Any] = found.files if found.files is not None else []
        keys = found.numbers.tolist() if found.numbers is not None else keys
        if nameless := [str(row) for row, key in enumerate(keys, 1) if key in ("", -1)]:
            name = FILE_COLUMN if found.files is not None else ROW_COLUMN
            what = "a file" if found.files is not None else "the number of a row, from 1"
            raise UserError(
                f"'{self.path}' must have {what} in each cell of `{name}`; not so in its lines "
                f"{few(nameless)}"
            )
        if twice := [key for key, count in Counter(keys).items() if count > 1]:
            first = [found.called(keys.index(key)) for key in twice[:3]]
            raise UserError(
                f"'{self.path}' answers {len(twice):,} rows more than once, {few(first, len(twice))}: leave "
                "one answer of each"
            )


def _answers(name: str) -> bool:
    head, colon, _ = name.partition(":")
    return name == _LABEL or (bool(colon) and head in _NUMBERS)


def _said(name: str) -> bool:
    """Whether it is worth saying that a column is left out: not of what `kdx predict` writes beside."""
    return name.partition(":")[0] not in (_LABEL, *_BESIDE) and name not in (FILE_COLUMN, ROW_COLUMN)
