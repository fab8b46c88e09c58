"""New texts, as tokens of the vocabulary that a network learned with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.data.column_files import ENDINGS, ending
from kdx.data.columns import name_some
from kdx.data.datasets.text import PLAIN_ENCODING, check_encoding, wrong_encoding
from kdx.data.new_rows.cells import cell_text, check_columns, column_names, read_cells, rows_in
from kdx.data.new_rows.rows import FILE_COLUMN, ROW_COLUMN, NewRows, RowBlock, check_there, path_in
from kdx.data.phrases import are
from kdx.data.pictures.walk import readable
from kdx.data.text.layout import TEXTS, texts_below
from kdx.data.text.table import PLAIN_TEXT, chosen
from kdx.data.text.tokens import Encoder


class NewTexts(NewRows):
    """Texts in a column of a file, or in .txt files: all of a folder, or one.

    tokenizer: the text of a tokenizer.json. length: tokens of a row. how: the data set's `text` (the column
    that holds them, where it was named) and `encoding` of .txt files. column: the one to read in its place.
    """

    noun = "text"

    def __init__(self, place: Path, tokenizer: str, length: int, how: Mapping[str, Any], column: str | None):
        check_there(place)
        self._place, self._encoder = place, Encoder(tokenizer, length)
        self._encoding = check_encoding(how.get("encoding", PLAIN_ENCODING))
        self.unread: list[tuple[str, str]] = []
        self._empty, self._cut, self._length = 0, 0, length
        self._notes: list[str] = []
        if place.is_dir():
            self._files = [path for path, _ in texts_below(place, [])]
            self.count = len(self._files)
            if not self._files:
                raise UserError(
                    f"'{readable(place)}' holds no {TEXTS[0]} file: name the file of columns, if it has one"
                )
        elif place.suffix.lower() in TEXTS:
            self._files, self.count = [place], 1
        elif ending(place):
            known = column_names(place)
            named = column or how.get("text")
            if column is None and named is not None and named not in known:
                raise UserError(
                    f"'{place}' lacks the column '{named}', which held the texts that the network learned "
                    "from: name the one that holds them with text=COLUMN; it has "
                    f"{name_some(known) or 'none'}"
                )
            self._column = chosen(place, known, named, PLAIN_TEXT, "text")
            check_columns(place, [self._column], "the network")
            self._notes.append(f"texts are in the column '{self._column}'")
            self.columns = [self._column]
            self._files, self.count = [], rows_in(place)
            if not self.count:
                raise UserError(f"'{place}' has no rows")
        else:
            raise UserError(
                f"data='{readable(place)}' must be a folder of {TEXTS[0]} files, one such file, or a file of "
                f"columns that ends with {', '.join(ENDINGS)}"
            )

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for header, names, texts in self._of_files(size) if self._files else self._of_column(size):
            if texts:
                rows, lengths = self._encoder.rows([text.strip() for text in texts])
                self._empty += int((lengths == 0).sum())
                self._cut += int((lengths > self._length).sum())
                yield RowBlock({header: names}, rows)

    def notes(self) -> list[str]:
        found, read = list(self._notes), self.count - len(self.unread)
        if self._empty:
            found.append(f"{are(self._empty, f'of {read:,} texts')} empty: such an answer tells nothing")
        if self._cut:
            found.append(f"{are(self._cut, f'of {read:,} texts')} longer than {self._length} tokens, and cut")
        return found

    def _of_files(self, size: int) -> Iterator[tuple[str, list[Any], list[str]]]:
        for start in range(0, len(self._files), size):
            names: list[str] = []
            texts: list[str] = []
            for path in self._files[start : start + size]:
                name = path_in(path, self._place)
                try:
                    texts.append(path.read_bytes().decode(self._encoding))
                    names.append(name)
                except UnicodeDecodeError as error:
                    self.unread.append((name, f"it {wrong_encoding(error, self._encoding)}"))
                except OSError as error:
                    self.unread.append((name, error.strerror or str(error)))
            yield FILE_COLUMN, names, texts

    def _of_column(self, size: int) -> Iterator[tuple[str, list[Any], list[str]]]:
        for cells in read_cells(self._place, [self._column], size):
            self.unread += [(f"row {number}", why) for number, why in cells.bad]
            texts = [cell_text(cell) or "" for cell in cells.columns[self._column]]
            yield ROW_COLUMN, list(cells.numbers), texts
