"""Several inputs a row, of your own: a file of columns, one of which names pictures or holds texts, or two
files whose rows belong together. Teacher and student read their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kdx.core import checks, path_checks
from kdx.core.errors import UserError
from kdx.data.column_files import ending, names_in
from kdx.data.columns import names_of_columns
from kdx.data.files import Files
from kdx.data.join import partners
from kdx.data.loading import check_path
from kdx.data.paired import PairedRows, describe_paired
from kdx.data.phrases import few
from kdx.data.pictures.decode import Decoder, Reading
from kdx.data.pictures.findings import findings_report
from kdx.data.pictures.header import Header
from kdx.data.pictures.rows import Pictures
from kdx.data.pictures.rows import describe as describe_pictures
from kdx.data.raw import Description, Note, Raw, RowNames
from kdx.data.tables.overview import Overview, overview, without_target
from kdx.data.tables.reading import Plan, plan_columns
from kdx.data.tables.rows import TABLE, Table
from kdx.data.tables.target import Target, read_target
from kdx.data.text.rows import Part, Texts, describe_texts
from kdx.data.text.settings import token_settings
from kdx.data.words_of_rows import check_named, each_word, files_named

_PICTURE, _TEXT, _COLUMNS, _SECOND = "picture", "text", "table", "second"
"""What the inputs of a row are called."""


@dataclass(frozen=True)
class _Rows:
    """The rows of the file that have all of their inputs. parts: part -> (n,) their numbers there; truth: of
    all its N rows."""

    parts: Mapping[str, np.ndarray]
    truth: np.ndarray


class PairFiles:
    """file: rows, with a column or more to be predicted (target, kind: as of dataset=csv). Inputs of a row:
    "picture", where the column `picture` names files, seen from root (None: from where the file lies);
    "text", where the column `text` holds texts; "table", all other columns but those of `ignore`; "second",
    the columns of second_file, whose rows are found by the column `key` of both files, None: by their order.
    There must be two of them at least. A row without a target joins the pool.

    image_size, fit, background, max_pixels, on_error: see kdx.data.pictures.decode; a row whose picture is
    skipped is left out. tokens, vocabulary, min_frequency, lower, length, tokenizer: see
    kdx.data.text.tokens.Tokens.
    """

    paths: ClassVar = ("file", "second_file", "root", "tokenizer")

    def __init__(
        self,
        *,
        file: str | None,
        target: str | Sequence[str],
        kind: str,
        picture: str | None,
        root: str | None,
        text: str | None,
        second_file: str | None,
        key: str | None,
        ignore: Sequence[str] | str | None,
        image_size: int,
        fit: str,
        background: Any,
        max_pixels: int,
        on_error: str,
        tokens: str,
        vocabulary: int,
        min_frequency: int,
        lower: bool,
        length: int,
        tokenizer: str | None,
    ):
        self._file = None if file is None else path_checks.path("dataset.file", file, "a file")
        self._second = (
            None if second_file is None else path_checks.path("dataset.second_file", second_file, "a file")
        )
        self._root = None if root is None else check_path("root", root)
        self._targets = names_of_columns("target", target)
        self._kind = checks.choice("dataset.kind", kind, ("auto", "classes", "numbers"))
        self._ignore = names_of_columns("ignore", ignore)
        self._picture, self._text, self._key = picture, text, key
        for name, value in (("picture", picture), ("text", text), ("key", key)):
            if value is not None and (not isinstance(value, str) or not value):
                raise UserError(f"dataset.{name} must name a column; given {checks.shown(value)}")
        if picture is not None and picture == text:
            raise UserError(f"dataset.picture and dataset.text both name the column '{text}': name two")
        self._decoder = Decoder(
            image_size=image_size,
            fit=fit,
            background=background,
            range=None,
            max_pixels=max_pixels,
            on_error=on_error,
        )
        self._tokens = token_settings(tokens, vocabulary, min_frequency, lower, length, tokenizer)

    def files(self) -> Files:
        self.fetch()
        parts = {"train": [(f"rows{ending(self._first)}", self._first)]}
        if self._second:
            parts["second"] = [(f"rows{ending(self._second)}", self._second)]
        if self._picture:
            parts["pictures"] = list(dict(zip(self._named, self._paths, strict=True)).items())
        if self._tokens.file and self._text:
            parts["tokenizer"] = [("tokenizer.json", self._tokens.file)]
        return Files(parts)

    def fetch(self) -> None:
        if self._file is None:
            raise UserError("dataset.file must name a file of rows, such as dataset.file=rows.csv")
        for key, path in (("file", self._file), ("second_file", self._second)):
            if path is not None and not path.is_file():
                why = "is a folder, and must be a file of rows" if path.is_dir() else "is missing"
                raise UserError(f"the data file '{path}' {why}: see dataset.{key}")
        if not self._targets:
            raise UserError(
                f"dataset.target must name the column to be predicted; '{self._file}' has "
                f"{few(names_in(self._file))}"
            )
        if self._key and not self._second:
            raise UserError(
                "dataset.key joins two files, and there is one: set dataset.second_file, or leave it out"
            )
        if self._text:
            self._tokens.check_file()

    def describe(self) -> Description:
        """Reads the files, and of pictures their headers."""
        rows = self._rows(self._fine_headers()[1])
        counts = {part: len(found) for part, found in rows.parts.items()}
        classes, groups = self._plan.target.classes, None
        if classes is not None:
            groups = tuple(np.bincount(rows.truth[rows.parts["train"]], minlength=len(classes)).tolist())
        found: dict[str, Description] = {}
        if self._picture:
            shape = self._decoder.shape(self._reading)
            found[_PICTURE] = describe_pictures(shape, classes or (), counts["train"], groups or (), None, 0)
        if self._text:
            found[_TEXT] = describe_texts(
                self._tokens, classes or (), {"train": counts["train"]}, groups or ()
            )
        for name, plan in self._tables.items():
            example = {"": ((len(plan.columns),), "float32")}
            found[name] = Description({}, example, TABLE, counts["train"], adapter=plan.adapter())
        like = Description(
            self._plan.target.task, {}, "", counts["train"], groups, pool=counts.get("unlabelled", 0)
        )
        return describe_paired(self._several(found), like)

    def load(self, *, workers: int = 0) -> PairedRows:
        headers, fine = self._fine_headers()
        decoded, skipped = None, {row: found for row, found in enumerate(headers) if isinstance(found, str)}
        if self._picture:
            paths = self._paths
            decoded = self._decoder.decode([paths[i] for i in fine], self._reading, workers)
            skipped |= {int(i): decoded.skipped[paths[i]] for i in fine[~decoded.good]}
            fine = fine[decoded.good]
        rows = self._rows(fine)
        found: dict[str, Raw] = {}
        for name, plan in self._tables.items():
            found[name] = self._table(name, plan, rows)
        if decoded is not None:
            pictures = {part: decoded.images[np.searchsorted(fine, of)] for part, of in rows.parts.items()}
            found[_PICTURE] = Pictures(
                pictures["train"],
                rows.truth[rows.parts["train"]],
                self._plan.target.classes or (),
                pool_images=pictures.get("unlabelled"),
                files=findings_report(self._reading, self._decoder.square, ()),
            )
        if self._text:
            found[_TEXT] = self._texts(rows)
        names = {part: RowNames.of({self._first.name: [of]}) for part, of in rows.parts.items()}
        return PairedRows(
            {name: found[name] for name in sorted(self._several(found))},
            {"train": rows.truth[rows.parts["train"]]},
            self._plan.target.task,
            names,
            notes=(*self._notes, *(note for plan in self._tables.values() for note in plan.notes)),
            skipped={f"row {row + 1} of {self._first.name}": why for row, why in sorted(skipped.items())},
        )

    @property
    def _first(self) -> Path:
        assert self._file is not None
        return self._file

    @cached_property
    def _plan(self) -> Plan:
        """Of the file with the target; it may have no column of a table."""
        self.fetch()
        named = {"dataset.picture": self._picture, "dataset.text": self._text, "dataset.key": self._key}
        check_named(self._first, named, self._targets, self._ignore)
        apart = [name for name in (*named.values(), *self._ignore) if name is not None]
        parts, notes = {"train": overview(self._first, self._targets, apart)}, []
        target = read_target(parts, self._targets, self._kind, notes)
        columns = plan_columns(parts, self._targets)
        notes = [*columns.notes, *notes]
        return Plan(parts, target, tuple(columns.columns), columns.dropped, tuple(notes))

    @cached_property
    def _tables(self) -> dict[str, Plan]:
        """The inputs that are tables."""
        found = {_COLUMNS: self._plan} if self._plan.columns else {}
        if self._second:
            parts = {"train": overview(self._second, (), [self._key] if self._key else [])}
            columns = plan_columns(parts, ())
            if not columns.columns:
                raise UserError(f"'{self._second}' has no column of numbers or categories: name another file")
            found[_SECOND] = Plan(
                parts, Target((), None), tuple(columns.columns), columns.dropped, tuple(columns.notes)
            )
        return found

    def _several(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if len(inputs) > 1:
            return inputs
        raise UserError(
            f"a row of '{self._first}' has one input alone ({', '.join(inputs) or 'none'}), and a pair "
            "needs two: name a column of pictures (dataset.picture), one of texts (dataset.text) or "
            "dataset.second_file; a table alone is dataset=csv"
        )

    @cached_property
    def _partners(self) -> tuple[np.ndarray, str]:
        assert self._second is not None
        rows = self._plan.parts["train"].rows, self._tables[_SECOND].parts["train"].rows
        return partners(self._first, self._second, self._key, rows)

    @property
    def _notes(self) -> tuple[Note, ...]:
        return ((self._partners[1], "info"),) if self._second and self._partners[1] else ()

    def _table(self, name: str, plan: Plan, rows: _Rows) -> Table:
        held: Overview = plan.parts["train"]
        codes = plan.codes()
        values = np.concatenate([plan.inputs(held, columns, codes) for columns in held.file.batches()])
        if name == _SECOND:
            values = values[self._partners[0]]
        parts = {part: (values[of], None) for part, of in rows.parts.items()}
        return Table(parts, plan.columns, self._plan.target.task, dropped=plan.dropped)

    def _texts(self, rows: _Rows) -> Texts:
        assert self._text is not None
        texts = each_word(self._first, self._text, "dataset.text", empty=True)
        parts = (
            (part, Part([texts[i] for i in of], np.zeros(len(of), np.int64), [f"row {i + 1}" for i in of]))
            for part, of in rows.parts.items()
        )
        return Texts.of(parts, (), self._tokens)

    def _rows(self, fine: np.ndarray) -> _Rows:
        """fine: (n,) ascending, numbers of rows that have a picture."""
        if self._second:
            _ = self._partners  # refused here, where rows do not belong together
        plan, truths, lacking = self._plan, [], []
        for columns in plan.parts["train"].file.batches():
            truths.append(plan.target.truth(columns))
            lacking.append(without_target(columns, plan.target.names))
        without = np.concatenate(lacking)
        parts = {"train": fine[~without[fine]], "unlabelled": fine[without[fine]]}
        if not len(parts["train"]):
            raise UserError(f"no row of '{self._first}' has a target ({', '.join(self._targets)})")
        return _Rows({part: found for part, found in parts.items() if len(found)}, np.concatenate(truths))

    @cached_property
    def _named(self) -> list[str]:
        assert self._picture is not None
        return each_word(self._first, self._picture, "dataset.picture")

    @cached_property
    def _paths(self) -> list[Path]:
        return files_named(self._first, self._named, self._root)

    def _fine_headers(self) -> tuple[list[Header | str], np.ndarray]:
        """(of each row the header of its picture, or why there is none; numbers of those that have one)"""
        if not self._picture:
            return [], np.arange(self._plan.parts["train"].rows)
        paths = self._paths
        found = self._decoder.headers(paths, 0)
        return found, np.array([i for i, one in enumerate(found) if isinstance(one, Header)], np.int64)

    @cached_property
    def _reading(self) -> Reading:
        return self._decoder.reading([one for one in self._fine_headers()[0] if isinstance(one, Header)], 0)
