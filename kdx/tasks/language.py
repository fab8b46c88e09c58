"""The next token at every place of a window: answers (B, L, V) logits; truth {"token": (B, L) integers, -1
where it does not count, "bytes": (B, L) integers, how many bytes that token stands for}.

What is kept of answers for measuring (`condense`) is a few numbers a place in place of V.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdx.core.answers import AnswerColumns, Answers, Figure, Nothing
from kdx.core.checks import integer
from kdx.core.divergence import (
    Divergence,
    forward_and_cross_entropy,
    head_logits,
    over_temperature,
    pieces,
    rows_at_once,
)
from kdx.core.errors import UserError
from kdx.core.hidden_answers import STATES, head_of, is_hidden, logits_in_pieces, read_hidden
from kdx.core.metric import Metric
from kdx.core.sparse_answers import TRUE, divergence_from, is_sparse, likeliest, read_sparse
from kdx.core.sparse_divergence import weighted_cross_entropy
from kdx.core.task import Task
from kdx.core.trees import Tree
from kdx.tasks.given import HALF_MAX
from kdx.tasks.metrics import calibration_error, reliability_of
from kdx.tasks.shown import AGREEMENT

BITS_PER_BYTE = Metric(
    "bits",
    "bits/byte",
    more=False,
    low=0,
    note="Bits/byte: the bits that the text takes by the model's probabilities, for each byte of it.",
)
TOKEN_LOSS = Metric("loss", "loss per token", unit=" nats", more=False, low=0, column="card")
PERPLEXITY = Metric("perplexity", "perplexity", digits=2, more=False, low=1, column="card")
NEXT_TOKEN = Metric("accuracy", "next token right", 100, "%", 1, True, 0, 1, "points", "next %")
TEACHER_KL = Metric(
    "kl",
    "KL to the teacher",
    unit=" nats",
    more=False,
    low=0,
    head="KL",
    note="KL: of the teacher's probabilities from the model's, in nats a token.",
)
TOKEN_AGREEMENT = replace(
    AGREEMENT,
    note="Agreement: share of the places at which the model and the teacher name the same token.",
)
ACCEPTANCE = Metric("acceptance", "acceptance", 100, "%", 1, True, 0, 1, "points", column="card")
TOKEN_CALIBRATION = Metric(
    "ece", "calibration error of the next token", digits=3, more=False, low=0, high=1, column="card"
)
_SOFT = 2.0
"""A temperature from which on a caution is due: see docs/language.md."""
SPAN = 12
"""Tokens of the part of a window that is shown as its worst."""
_TOKEN, _BYTES = "token", "bytes"
_LOG_PROB, _TOP, _SURE, _KL, _SHARED = "log_prob", "top", "sure", "kl", "shared"
_ROW_BYTES, _ROW_TOKENS = "row_bytes", "row_tokens"


class NextToken(Task):
    """vocabulary: V, how many tokens there are; length: L, places of a window.

    The loss of a row is the mean of the cross-entropy over the places that count, its distance from a teacher
    the mean over all places of T^2 KL(teacher^T || student^T), both in nats. Metrics are of a whole split:
    `bits` is all bits over all bytes, `loss` the mean over all tokens that count, `perplexity` e to that,
    `kl`, `agreement` and `acceptance` (the sum of min(p, q), with which speculative decoding takes the
    student's tokens) means over these, against the live teacher on the same rows.
    """

    width: int
    shown = {
        metric.name: metric
        for metric in (
            BITS_PER_BYTE,
            TOKEN_LOSS,
            PERPLEXITY,
            NEXT_TOKEN,
            TEACHER_KL,
            TOKEN_AGREEMENT,
            ACCEPTANCE,
            TOKEN_CALIBRATION,
        )
    }
    primary = BITS_PER_BYTE.name
    paired = BITS_PER_BYTE
    words: ClassVar[str] = "the next token at every place of a row"
    beside: ClassVar[bool] = True

    def __init__(self, *, vocabulary: int, length: int):
        self.width = self.vocabulary = integer("vocabulary", vocabulary, low=2)
        self.length = integer("length", length, low=1)

    # training

    def loss(self, answers: Answers, truth: Answers, weights: Tensor | None = None) -> Tensor:
        if isinstance(answers, Mapping):
            return -answers[_LOG_PROB].sum(1) / answers[_ROW_TOKENS].clamp_min(1)
        token = _truth(truth)[_TOKEN].long()
        if token.numel() <= rows_at_once(answers):  # so few that a copy of the logits is nothing
            logits, wanted = over_temperature(answers.flatten(0, -2), 1), token.flatten().clamp_min(-1)
            lost = F.cross_entropy(logits, wanted, ignore_index=-1, reduction="none").reshape(token.shape)
        else:
            shares = (token >= 0)[..., None].float()
            lost = weighted_cross_entropy(answers, token.clamp_min(0)[..., None], shares, 1.0)
        return _mean_of_known(lost, token)

    def match(self, student: Answers, teacher: Answers, temperature: float) -> Tensor:
        how = Divergence("forward", beta=0.0, scale="smooth", temperature=temperature)
        return self.divergence(student, teacher, how, "bucket")

    def match_and_loss(
        self,
        student: Answers,
        teacher: Answers,
        truth: Answers,
        temperature: float,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        token = _truth(truth)[_TOKEN].long()
        if temperature != 1 or not isinstance(teacher, Tensor) or token.numel() > rows_at_once(teacher):
            return super().match_and_loss(student, teacher, truth, temperature, weights)
        apart, lost = forward_and_cross_entropy(
            _logits(student).flatten(0, 1), teacher.flatten(0, 1), token.flatten()
        )
        return apart.view_as(token).mean(1), _mean_of_known(lost.view_as(token), token)

    def divergence(self, student: Answers, teacher: Answers, how: Divergence, rest: str) -> Tensor:
        return divergence_from(_logits(student), teacher, how, rest).mean(1)

    def too_soft(self, temperature: float) -> str | None:
        if temperature < _SOFT:
            return None
        return (
            f"loss.temperature={temperature:g} flattens the probabilities of next tokens until the unlikely "
            "ones count most, and a student may then end worse than alone: loss=token_kd teaches at "
            "temperature 1"
        )

    def agreement(self, student: Answers, teacher: Answers) -> Tensor:
        """(B,) the share of places with the same likeliest token."""
        return (_top(student) == _top(teacher)).float().mean(1)

    def mean(self, several: Sequence[Answers]) -> Tensor:
        """The logarithm of the mean of the probabilities."""
        first, *others = (_logits(answers).float().log_softmax(-1) for answers in several)
        for other in others:
            first = torch.logaddexp(first, other)
        return first - math.log(len(several))

    # measuring

    def condense(self, answers: Answers, truth: Answers, teacher: Answers | None = None) -> Answers:
        """Of each place (B, L) the log-probability of the true token (0 where none counts), the likeliest
        token and its probability; beside a teacher the KL from it and the sum of min(p, q). Of each row the
        bytes and the tokens that count. Of a network that reads other tokens (kdx.core.scorer) the first of
        these alone.
        """
        known = _truth(truth)
        token = known[_TOKEN].long()
        if isinstance(answers, Mapping) and _LOG_PROB in answers:
            found = {_LOG_PROB: torch.where(token >= 0, answers[_LOG_PROB], 0.0)}
        elif is_sparse(answers):
            top, sure = likeliest(answers)
            found = {_LOG_PROB: torch.where(token >= 0, answers[TRUE], 0.0), _TOP: top.int(), _SURE: sure}
        else:
            found = _of_places(_logits(answers), token, None if teacher is None else _logits(teacher))
        counts = token >= 0
        return {
            **{name: values.view_as(token) for name, values in found.items()},
            _ROW_BYTES: (known[_BYTES] * counts).sum(1),
            _ROW_TOKENS: counts.sum(1),
        }

    def metrics(self, answers: Answers, truth: Answers) -> dict[str, float]:
        """`kl` and `acceptance` where answers were condensed beside a teacher's; of a network that reads
        other tokens `bits` alone, as all others are of the rows' tokens."""
        kept, counts = self._kept(answers, truth), _truth(truth)[_TOKEN] >= 0
        tokens, size = int(counts.sum()), int(kept[_ROW_BYTES].sum())
        loss = -kept[_LOG_PROB].double().sum().item() / tokens
        bits = {BITS_PER_BYTE.name: loss * tokens / size / math.log(2)}
        if _TOP not in kept:
            return bits
        found = {
            **bits,
            TOKEN_LOSS.name: loss,
            PERPLEXITY.name: math.exp(min(loss, 700.0)),
            NEXT_TOKEN.name: self._right(kept, truth)[counts].double().mean().item(),
            TOKEN_CALIBRATION.name: calibration_error(self._reliability(kept, truth)),
        }
        for metric, name in ((TEACHER_KL, _KL), (ACCEPTANCE, _SHARED)):
            if name in kept:
                found[metric.name] = kept[name][counts].double().mean().item()
        return found

    def quick(self, answers: Answers, truth: Answers) -> dict[str, float]:
        bits = self.metrics(answers, truth)[BITS_PER_BYTE.name]
        tokens = (_truth(truth)[_TOKEN] >= 0).sum().item()
        lost = -self._kept(answers, truth)[_LOG_PROB].double().sum().item()
        return {BITS_PER_BYTE.name: bits, TOKEN_LOSS.name: lost / tokens}

    def by_row(self, answers: Answers, truth: Answers) -> Tensor:
        """The bits of each row over the bytes of a mean row."""
        return _bits_over(-self._kept(answers, truth)[_LOG_PROB], truth)

    def knowing_nothing(self, truth: Answers) -> Nothing:
        token = _truth(truth)[_TOKEN].long()
        counts = token >= 0
        shares = token[counts].bincount(minlength=self.vocabulary).double()
        bits = -(shares / shares.sum()).log()
        lost = torch.where(counts, bits[token.clamp_min(0)], 0.0)
        return Nothing("the share of each token, whatever stands before it", _bits_over(lost, truth))

    def details(self, answers: Answers, truth: Answers, part: str) -> dict[str, Any]:
        if part == "train":
            return {}
        kept, counts = self._kept(answers, truth), _truth(truth)[_TOKEN] >= 0
        each = counts.sum(0)
        places = (each > 0).nonzero().flatten()
        lost = -kept[_LOG_PROB].double().sum(0)[places] / each[places]
        if _TOP not in kept:
            return {}
        data = {
            "lines": {"loss": {"x": (places + 1).tolist(), "y": lost.tolist()}},
            "below": "place in the window",
        }
        figure = Figure("Loss by place, in nats", "loss-by-place", "line", data)
        return {"figures": [figure.document()], "reliability": self._reliability(kept, truth)}

    def displayed(self, answers: Answers) -> list[str]:
        if isinstance(answers, Mapping) and _LOG_PROB in answers:
            return [f"{bits:.2f} bits/byte" for bits in _bits(answers).tolist()]
        if isinstance(answers, Mapping):
            counts = answers[_TOKEN] >= 0
            sizes = zip(counts.sum(1).tolist(), (answers[_BYTES] * counts).sum(1).tolist(), strict=True)
            return [f"{tokens:,} tokens, {size:,} bytes" for tokens, size in sizes]
        return [f"token {row[-1]} next" for row in _top(answers).tolist()]

    def hardest(self, answers: Answers, truth: Answers) -> Sequence[Tree]:
        """The SPAN tokens in a row that took the most bits."""
        lost = -self._kept(answers, truth)[_LOG_PROB]
        token, span = _truth(truth)[_TOKEN], min(SPAN, self.length)
        begins = lost.unfold(1, span, 1).sum(2).argmax(1).tolist()
        return [
            row[None, begin : begin + span].clamp_min(0) for row, begin in zip(token, begins, strict=True)
        ]

    def columns(self, answers: Answers, wanted: AnswerColumns) -> dict[str, Any]:
        """value:bits, the bits of a byte of the row, and value:loss, the nats of a token, of which a network
        that reads other tokens has none. Of rows whose truth is not known value:next, the likeliest token
        behind the last, and its confidence.
        """
        if wanted != AnswerColumns():
            raise UserError(
                f"top= and soft= are of classes, and an answer here is {self.words}: leave them out"
            )
        if isinstance(answers, Mapping):
            bits = {"value:bits": _bits(answers).numpy()}
            return bits | ({"value:loss": self.loss(answers, answers).numpy()} if _TOP in answers else {})
        sure = _logits(answers)[:, -1].float().softmax(-1).max(-1)
        return {"value:next": sure.indices.double().numpy(), "confidence": sure.values.numpy()}

    def truth_columns(self, truth: Answers) -> dict[str, Any]:
        """truth:tokens and truth:bytes: how many of them count in a row."""
        known = _truth(truth)
        counts = known[_TOKEN] >= 0
        return {
            "truth:tokens": counts.sum(1).numpy(),
            "truth:bytes": (known[_BYTES] * counts).sum(1).numpy(),
        }

    # answers from elsewhere

    def heads(self) -> list[str]:
        raise UserError(
            f"an answer here is {self.words}, and no file of columns holds such: train the teacher, or take "
            "it from its weights (teacher.checkpoint=)"
        )

    def answers_of(self, truth: Answers) -> Answers:
        token = _truth(truth)[_TOKEN].long().clamp_min(0)
        return torch.full((*token.shape, self.vocabulary), -HALF_MAX).scatter_(2, token[..., None], 0.0)

    # stored answers

    def pack(self, answers: Answers) -> dict[str, Tensor]:
        """Half-precision logits, of a place less its largest: the same probabilities, and none overflows."""
        logits = _logits(answers)
        least = logits - logits.amax(-1, keepdim=True)
        return {"": least.clamp_min(-HALF_MAX).half()}

    def unpack(self, stored: Mapping[str, Tensor]) -> Answers:
        if is_hidden(stored):
            return read_hidden(stored)
        return read_sparse(stored) if is_sparse(stored) else stored[""]

    def categories(self, answers: Answers, truth: Answers | None) -> tuple[Tensor, Tensor | None]:
        return _logits(answers), None if truth is None else _truth(truth)[_TOKEN].long()

    def row_bytes(self) -> int:
        return 2 * self.length * self.vocabulary

    # the truth as data

    def known(self, truth: Any) -> np.ndarray:
        found: np.ndarray = np.any(np.asarray(truth[_TOKEN]) >= 0, axis=1)
        return found

    def unknown(self, like: Any, rows: int) -> Any:
        shape = (rows, self.length)
        return {_TOKEN: np.full(shape, -1, np.int32), _BYTES: np.zeros(shape, np.int32)}

    def truth_within(self, rows: Any, like: Any, written: np.ndarray | None = None) -> Any:
        """What follows the last token of a row that is written is not known. How many bytes a token stands
        for is read off the other rows; one that stands in none of them counts none."""
        sizes = np.zeros(self.vocabulary, np.int32)
        seen = np.asarray(like[_TOKEN])
        sizes[seen[seen >= 0]] = np.asarray(like[_BYTES])[seen >= 0]
        following = np.asarray(rows)[:, 1:].astype(np.int32)
        token = np.pad(following, ((0, 0), (0, 1)), constant_values=-1)
        size = np.pad(sizes[following], ((0, 0), (0, 1)))
        if written is not None:
            behind = np.arange(1, token.shape[1] + 1) >= written[:, None]
            token, size = np.where(behind, np.int32(-1), token), np.where(behind, np.int32(0), size)
        return {_TOKEN: token, _BYTES: size}

    def made_up(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(rows, self.length, self.vocabulary, generator=generator)

    def made_up_truth(self, rows: int, generator: torch.Generator | None = None) -> Answers:
        token = torch.arange(rows * self.length, dtype=torch.int32).view(rows, self.length)
        return {_TOKEN: token % self.vocabulary, _BYTES: torch.ones_like(token)}

    # inside

    def _kept(self, answers: Answers, truth: Answers) -> Mapping[str, Tensor]:
        found = answers if isinstance(answers, Mapping) else self.condense(answers, truth)
        assert isinstance(found, Mapping)
        return found

    def _right(self, kept: Mapping[str, Tensor], truth: Answers) -> Tensor:
        """(N, L) bool"""
        right: Tensor = kept[_TOP] == _truth(truth)[_TOKEN]
        return right

    def _reliability(self, kept: Mapping[str, Tensor], truth: Answers) -> dict[str, list[Any]]:
        counts = _truth(truth)[_TOKEN] >= 0
        return reliability_of(kept[_SURE][counts].double(), self._right(kept, truth)[counts])


def _mean_of_known(lost: Tensor, token: Tensor) -> Tensor:
    """(B, L), 0 where the token does not count -> (B,)"""
    return lost.sum(1) / (token >= 0).sum(1).clamp_min(1)


def _truth(truth: Answers) -> Mapping[str, Tensor]:
    if isinstance(truth, Mapping):
        return truth
    raise UserError('the truth of next tokens is two arrays by name, "token" and "bytes"; given: one')


def _logits(answers: Answers) -> Tensor:
    """(B, L, V)"""
    if isinstance(answers, Tensor):
        return answers
    if is_hidden(answers):
        return head_logits(answers[STATES], head_of(answers))
    raise UserError(
        "the answer of a network that tells the next token is one tensor (B, L, V) of logits; given several: "
        f"{', '.join(answers)}"
    )


def _top(answers: Answers) -> Tensor:
    """(B, L) the likeliest token of each place."""
    if is_hidden(answers):
        found = torch.cat([logits.max(-1).indices for logits in logits_in_pieces(answers)])
        return found.view(answers[STATES].shape[:-1])
    if is_sparse(answers):
        return likeliest(answers)[0]
    if isinstance(answers, Mapping):
        return answers[_TOP]
    return answers.max(-1).indices  # of half precision five times as fast as argmax, and the same


def _bits(kept: Mapping[str, Tensor]) -> Tensor:
    """(B,) bits of a byte of each row."""
    return -kept[_LOG_PROB].sum(1) / kept[_ROW_BYTES].clamp_min(1) / math.log(2)


def _bits_over(lost: Tensor, truth: Answers) -> Tensor:
    """(N, L) nats of each place -> (N,) bits of each row over the bytes of a mean row, so that their mean is
    all bits over all bytes."""
    known = _truth(truth)
    sizes = (known[_BYTES] * (known[_TOKEN] >= 0)).sum(1)
    return lost.double().sum(1) / math.log(2) / sizes.double().mean().clamp_min(1e-9)


def _of_places(logits: Tensor, token: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
    """(B, L, V), (B, L), (B, L, V) -> what `condense` keeps of B * L places, by name. Numbers of the size of
    the logits are made for a chunk of places at a time.
    """
    parts: dict[str, list[Tensor]] = {}
    flat, wanted = logits.flatten(0, 1), token.flatten()
    for some in pieces(len(flat), rows_at_once(flat)):
        said = flat[some].float().log_softmax(-1)
        true, sure = wanted[some], said.max(-1)
        own = said.gather(1, true.clamp_min(0)[:, None])[:, 0]
        found = {
            _LOG_PROB: torch.where(true >= 0, own, 0.0),
            _TOP: sure.indices.int(),
            _SURE: sure.values.exp(),
        }
        if teacher is not None:
            taught = teacher.flatten(0, 1)[some].float().log_softmax(-1)
            # of a token that one of them rules out: 0 log 0 = 0
            each = torch.where(taught == -torch.inf, 0.0, taught.exp() * (taught - said))
            found |= {_KL: each.sum(-1), _SHARED: torch.minimum(taught, said).exp().sum(-1)}
        for name, values in found.items():
            parts.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in parts.items()}
