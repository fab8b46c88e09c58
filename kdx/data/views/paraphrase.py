"""Paraphrases of a file as views of texts: whoever wrote them, a person or a network; nothing is run."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kdx.core.checks import shown
from kdx.core.errors import UserError
from kdx.core.trees import leaves
from kdx.core.types import Inputs
from kdx.data.text.tokens import Encoder
from kdx.data.views.chain import Step
from kdx.data.views.draws import Draws

_TEXT, _OTHERS = "text", "paraphrase"
_KINDS = (".csv", ".tsv", ".jsonl", ".ndjson")
_BLOCK = 8192
"""Rows that are looked at together."""


class Paraphrase(Step):
    """Puts one of its paraphrases in the place of a text, each as likely; a text without one stays.

    file: CSV or TSV with a column `text` and others that begin with `paraphrase`, or JSON lines of objects
    with `text` and `paraphrases`, a list; a text may stand in several rows. content: the SHA-256 of the file
    as the run was composed, None: not looked at. A row is known by its tokens, so that texts which a network
    sees as one have their paraphrases together.
    """

    reads = "texts"
    moves_only = True
    reads_stored = True
    paths: ClassVar[tuple[str, ...]] = ("file",)

    def __init__(self, *, file: str | None, content: str | None):
        if not isinstance(file, str) or not file:
            raise UserError(
                "augment.paraphrase.file must name a file of paraphrases, such as own.csv; given: "
                f"{shown(file)}"
            )
        self.path, self.content = Path(file).expanduser(), content
        if self.path.suffix.lower() not in _KINDS:
            raise UserError(f"augment.paraphrase.file '{file}' must end with {', '.join(_KINDS)}")
        self._known: dict[bytes, Tensor] | None = None
        self._length = 0

    def meet(self, files: Mapping[str, str], rows: Mapping[str, Inputs]) -> Sequence[str]:
        if "tokenizer.json" not in files:
            raise UserError("augment.paraphrase reads texts by their tokenizer, and these rows have none")
        whole = {split: leaves(inputs)[""] for split, inputs in rows.items() if len(leaves(inputs)[""])}
        self._length = next(iter(whole.values())).shape[1] if whole else 0
        self._known = self._rows_of(files["tokenizer.json"])
        return [
            f"augment.paraphrase: {self._covered(inputs):,} of {len(inputs):,} {split} rows have paraphrases "
            f"in {self.path.name}; the others stay as they are"
            for split, inputs in whole.items()
        ]

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        if self._known is None:
            raise UserError("augment.paraphrase has met no data yet")
        drawn = draws.uniform(op, 1)[:, 0].tolist()
        found = x.clone()
        for place, row in enumerate(_keys(x)):
            if (several := self._known.get(row)) is not None:
                found[place] = several[int(drawn[place] * len(several))].to(x)
        return found

    def _rows_of(self, tokenizer: str) -> dict[bytes, Tensor]:
        """The tokens of a text -> (n, L) those of its paraphrases, in the order of the file, each once."""
        pairs = list(self._pairs())
        encoder = Encoder(tokenizer, self._length)
        texts, others = (encoder.rows([pair[side] for pair in pairs])[0] for side in (0, 1))
        found: dict[bytes, dict[bytes, np.ndarray]] = {}
        for key, text, other in zip(_keys(texts), texts, others, strict=True):
            if other.any() and not np.array_equal(text, other):
                found.setdefault(key, {})[other.tobytes()] = other
        return {key: torch.from_numpy(np.stack(list(of.values()))) for key, of in found.items()}

    def _covered(self, inputs: Any) -> int:
        """How many rows have a paraphrase."""
        assert self._known is not None
        starts = range(0, len(inputs), _BLOCK)
        blocks = (inputs[start : start + _BLOCK] for start in starts)
        return sum(key in self._known for block in blocks for key in _keys(block))

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """Each text with each of its paraphrases."""
        try:
            content = self.path.read_bytes()
            lines = content.decode("utf-8-sig")
        except OSError as error:
            raise UserError(
                f"augment.paraphrase.file '{self.path}' cannot be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError as error:
            raise UserError(
                f"augment.paraphrase.file '{self.path}' is no UTF-8: byte {error.start}"
            ) from None
        if self.content is not None and hashlib.sha256(content).hexdigest() != self.content:
            raise UserError(
                f"augment.paraphrase.file '{self.path}' has changed since the run began: run the command "
                "again"
            )
        found = self._of_json(lines) if "json" in self.path.suffix else self._of_columns(lines)
        empty = True
        for text, others in found:
            empty = False
            yield from ((text.strip(), other.strip()) for other in others if other.strip())
        if empty:
            raise UserError(f"augment.paraphrase.file '{self.path}' holds no row")

    def _of_columns(self, lines: str) -> Iterator[tuple[str, list[str]]]:
        rows = csv.DictReader(
            lines.splitlines(keepends=True), delimiter="\t" if self.path.suffix == ".tsv" else ","
        )
        names = rows.fieldnames or []
        columns = [name for name in names if name.lower().startswith(_OTHERS)]
        if _TEXT not in names or not columns:
            raise UserError(
                f"augment.paraphrase.file '{self.path}' needs a column {_TEXT} and one or more that "
                f"begin with {_OTHERS}; it has {', '.join(names) or 'none'}"
            )
        for row in rows:
            yield row[_TEXT] or "", [row[name] or "" for name in columns]

    def _of_json(self, lines: str) -> Iterator[tuple[str, list[str]]]:
        for number, line in enumerate(lines.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                text, others = row[_TEXT], row[f"{_OTHERS}s"]
                fits = isinstance(text, str) and all(isinstance(other, str) for other in others)
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                raise UserError(
                    f"augment.paraphrase.file '{self.path}', line {number}: it must be an object with "
                    f"{_TEXT} and {_OTHERS}s, a list of texts"
                )
            yield text, others


def _keys(rows: Any) -> Iterator[bytes]:
    """(N, L) tokens -> what each row is known by"""
    whole = rows.cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
    for row in np.ascontiguousarray(whole, np.int32):
        yield row.tobytes()
