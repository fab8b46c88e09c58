"""A pretrained causal language model whose tokens are others than the rows': it reads and writes text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdx.core.answers import Answers
from kdx.core.errors import UserError
from kdx.core.rollouts import Rolling
from kdx.core.scorer import Scorer
from kdx.core.trees import Tree
from kdx.models import reads
from kdx.models.causal_lm import CausalLM
from kdx.models.decoder import TOKENS_READ
from kdx.models.decoder_layers import DecoderShape
from kdx.models.reread import reread
from kdx.models.sampling import drawn_on
from kdx.models.vocabulary import Vocabulary

MOST_TOKENS = 16
"""Tokens of its own that are drawn for each place of a row at most."""
_LOGITS = 1 << 25
"""Numbers that are made together, so that they take no more than 128 MB."""


@reads(TOKENS_READ)
class CausalLMText(CausalLM, Scorer):
    """As CausalLM, with any tokenizer.json: rows become bytes, these its own tokens, and the other way round.

    It gives no answers over the rows' tokens. It goes on with the beginning of a row as with any text
    (`write`), and tells how many bits a row takes (`score`).
    """

    answers: ClassVar[bool] = False
    """Read from the class's file where torch is not wanted: it gives none, see kdx.core.scorer.Scorer."""

    _own: Vocabulary | None = None
    _rows: Vocabulary | None = None

    def __init__(self, *, shape: Sequence[int], outputs: int, vocabulary: int, path: str):
        super().__init__(
            shape=shape,
            outputs=outputs,
            vocabulary=vocabulary,
            path=path,
            dropout=0.0,
            stochastic_depth=0.0,
            checkpointing=False,
        )

    def _read_tokenizer(self, text: str) -> None:
        super()._read_tokenizer(text)
        self._own = Vocabulary(text)
        self.register_buffer("tokenizer", torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        given = state.get(f"{prefix}tokenizer")
        if isinstance(given, Tensor):
            self._read_tokenizer(bytes(given.cpu().numpy()).decode())
        super()._load_from_state_dict(state, prefix, *rest)

    def _check_rows(self, path: str, made: DecoderShape, vocabulary: int, length: int) -> None:
        """Rows of any form: a text that is longer than its positions is read in parts."""
        if made.positions < 2:
            raise UserError(f"the model in '{path}' has {made.positions} position, and reads no text with it")

    def check_tokens(self, tokenizer: str) -> None:
        self._rows = Vocabulary(tokenizer)
        if self._own is not None:
            self.remarks = [
                f"the teacher reads {self._own.size:,} tokens of its own, and the data set has "
                f"{self._rows.size:,}: it is measured in bits a byte on the text itself, and answers nothing "
                "token by token"
            ]

    @property
    def head_weight(self) -> Tensor:
        """Of the tokens that its tokenizer has: a table is often rounded up."""
        whole = self.embedding.weight if self.head is None else self.head.weight
        assert self._own is not None
        return whole[: self._own.size]

    @property
    def _vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """(its own, that of the rows)"""
        assert self._own is not None and self._rows is not None, "known once weights are read"
        return self._own, self._rows

    def forward(self, tokens: Tensor, cache: object = None) -> Answers:  # type: ignore[override]
        """(B, L) tokens of the rows -> {"log_prob": (B, L)} of the token behind each, as `score`; behind the
        last none is known, and 0 stands there."""
        known = F.pad(tokens[:, 1:].int(), (0, 1), value=-1)
        return self.score(tokens, {"token": known})

    # how likely a text is

    @torch.no_grad()
    def score(self, rows: Tree, truth: Answers) -> Answers:
        """Of the bytes behind a row's first token, in nats: what each token of its own takes, shared out
        evenly among the bytes that it stands for. One that begins within the row's first token counts in
        full. What it cannot read as it is written takes log 256 a byte."""
        assert isinstance(rows, Tensor) and not isinstance(truth, Tensor)
        own, theirs = self._vocabularies
        token = truth["token"].cpu().numpy()
        shown = rows.cpu().numpy().astype(np.int64)
        behind = np.where(token >= 0, token, np.roll(shown, -1, 1))
        counted = (token.shape[1] - np.argmax(token[:, ::-1] >= 0, 1)) * (token >= 0).any(1)
        whole = np.concatenate([shown[:, :1], behind], 1).tolist()
        readings = [
            reread(row[: until + 1], theirs, own) for row, until in zip(whole, counted.tolist(), strict=True)
        ]
        nats = self._nats([reading.tokens for reading in readings])
        lost = np.zeros(token.shape)
        for number, reading in enumerate(readings):
            places = reading.by_place(nats[number])
            lost[number, : len(places)] = places
        return {"log_prob": torch.from_numpy(np.where(token >= 0, -lost, 0.0)).to(rows.device).float()}

    def _nats(self, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Of each token of each text what it takes behind those before it; of the first 0."""
        found = [np.zeros(len(text)) for text in texts]
        parts = [
            (n, *part) for n, text in enumerate(texts) for part in _parts(len(text), self.shape.positions)
        ]
        together = max(1, _LOGITS // (self.shape.positions * self._vocabularies[0].size))
        for start in range(0, len(parts), together):
            some = parts[start : start + together]
            longest = max(end - begin for _, begin, end, _ in some)
            asked = np.zeros((len(some), longest + 1), np.int64)
            for line, (n, begin, end, _) in enumerate(some):
                asked[line, : end + 1 - begin] = texts[n][begin : end + 1]
            asked_of = torch.from_numpy(asked).to(self.head_weight.device)
            logits = F.linear(self.hidden(asked_of[:, :-1]), self.head_weight)
            lost = F.cross_entropy(
                logits.flatten(0, 1).float(), asked_of[:, 1:].flatten(), reduction="none"
            ).view(len(some), longest)
            for line, (n, begin, end, first) in zip(lost.cpu().double().numpy(), some, strict=True):
                found[n][first : end + 1] = line[first - begin - 1 : end - begin]
        return found

    # text that it writes

    def roll_out(self, rows: Tree, how: Rolling, generator: torch.Generator) -> Tree:
        """As `write`; places that are not written hold token 0."""
        return self.write(rows, how, generator)[0]

    @torch.no_grad()
    def write(self, rows: Tree, how: Rolling, generator: torch.Generator) -> tuple[Tree, Tensor]:
        """(B, L) -> ((B, L), (B,) places that are written). The kept beginning and what it goes on with are
        one text, and the row is the first tokens of that in the rows' vocabulary: where two letters meet that
        one token stands for, it is that token. It writes until a row is full, at most MOST_TOKENS tokens of
        its own a place."""
        assert isinstance(rows, Tensor)
        own, theirs = self._vocabularies
        count, places = rows.shape
        kept = rows[:, : how.kept(places)].tolist()
        texts = [_Text(row, theirs, own) for row in kept]
        draws = torch.rand((count, MOST_TOKENS * places), generator=generator, dtype=torch.float64)
        open_rows = list(range(count))
        while open_rows:
            for group, many in self._groups({row: texts[row] for row in open_rows}, places):
                self._go_on(group, texts, draws, many, how.temperature)
            # one more than fit: the last token may grow with the next letter
            open_rows = [
                row
                for row in open_rows
                if len(texts[row].laid) <= places and texts[row].drawn < draws.shape[1]
            ]
        laid = torch.zeros_like(rows)
        found = [text.laid[:places] for text in texts]
        for row, tokens in enumerate(found):
            laid[row, : len(tokens)] = torch.tensor(tokens, dtype=rows.dtype)
        return laid, torch.tensor([len(tokens) for tokens in found])

    def _groups(self, texts: Mapping[int, _Text], places: int) -> Iterator[tuple[list[int], int]]:
        """(rows whose texts are read with as many tokens, how many are drawn behind these: about what a row
        of so many places still wants)"""
        half = max(1, self.shape.positions // 2)
        by_length: dict[int, list[int]] = {}
        for row, text in texts.items():
            by_length.setdefault(min(len(text.tokens), half), []).append(row)
        for length, group in sorted(by_length.items()):
            wanted = max(texts[row].needed(places) for row in group)
            yield group, min(self.shape.positions - length, wanted)

    def _go_on(
        self, which: Sequence[int], texts: Sequence[_Text], draws: Tensor, many: int, temperature: float
    ) -> None:
        """Writes `many` tokens behind these texts, or as many as there are numbers left to draw them by."""
        half = max(1, self.shape.positions // 2)
        device = self.head_weight.device
        read = torch.tensor([texts[row].tokens[-half:] for row in which], device=device)
        drawn = [draws[row, texts[row].drawn : texts[row].drawn + many] for row in which]
        many = min(len(one) for one in drawn)
        made = drawn_on(
            self.last_logits, read, torch.stack([one[:many] for one in drawn]).to(device), temperature
        )
        for row, new in zip(which, made[:, read.shape[1] :].tolist(), strict=True):
            texts[row].add(new)


class _Text:
    """A text that a network goes on with. prompt: tokens of the rows' vocabulary, with which it begins.

    tokens: of the network's own. laid: all of it in the rows' vocabulary.
    """

    def __init__(self, prompt: list[int], theirs: Vocabulary, own: Vocabulary):
        self._prompt, self._theirs, self._own = theirs.documents(prompt), theirs, own
        self._new: list[int] = []
        begun = own.laid(self._prompt)
        if own.begin is not None and (own.begins or not begun):
            begun = [own.begin, *begun]
        self.tokens, self.laid = begun or [0], prompt

    def needed(self, places: int) -> int:
        """Tokens of its own that fill about so many places and one more, by what a place took so far."""
        each = len(self.tokens) / max(1, len(self.laid))
        return max(1, math.ceil((places + 1 - len(self.laid)) * each))

    @property
    def drawn(self) -> int:
        return len(self._new)

    def add(self, tokens: list[int]) -> None:
        self._new += tokens
        self.tokens += tokens
        # documents without a letter, but the first, are left out
        first, *others = self._own.documents(self._new)
        last = self._prompt[-1] + first
        self.laid = self._theirs.laid([*self._prompt[:-1], last, *filter(None, others)])


def _parts(length: int, room: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, first): tokens from start up to end - 1 are read together, and those from first up to end
    are measured. Each but the first of all is so once, by half of the room at least of those before it."""
    start, first = 0, 1
    while first < length:
        end = min(start + room, length - 1)
        yield start, end, first
        first, start = end + 1, max(0, end - room // 2)
