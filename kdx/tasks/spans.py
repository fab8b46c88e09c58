"""An answer is a piece of a text: of each position of a row how likely the piece begins and ends there,
logits (B, 2, L). The truth holds the positions, and what a span says in words: see `Spans`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.core.answers import AnswerColumns, Answers, Given, Nothing
from kdx.core.checks import integer
from kdx.core.errors import UserError
from kdx.core.math import kl
from kdx.core.metric import Metric
from kdx.core.positions import NOT_KNOWN, OUTSIDE
from kdx.core.task import Task
from kdx.tasks.answer_score import answer_f1, exact_match
from kdx.tasks.given import HALF_MAX
from kdx.tasks.shown import AGREEMENT

_STARTS = (1, 2, 3, 5, 10, 20)
"""Of how many first tokens who knows nothing may answer."""
F1 = Metric(
    "f1",
    "F1",
    100,
    "%",
    1,
    True,
    0,
    1,
    "points",
    "test F1 %",
    note="F1: of the words of the answer and of the right one, the best over several right ones.",
)
EXACT_MATCH = Metric("exact_match", "exact match", 100, "%", 1, True, 0, 1, "points", "exact %", share=True)
_AGREEMENT = replace(
    AGREEMENT, note="Agreement: share of test rows on which the model and the teacher name the same span."
)


class Spans(Task):
    """length: positions of a window. windows: of a row, which then has L = windows * length positions, one
    window behind the other: parts of one text that may overlap, and no span reaches from one into the next.
    longest: tokens of an answer at most. no_answer: whether there are questions without an answer; then the
    first position that is not masked means that, and no span begins there.

    Answers are logits (B, 2, L), of starts and of ends, OUTSIDE where no answer can be; what is answered is
    the span of at most `longest` positions with the largest sum. The truth, of each row: start, end (int32):
    its positions, both inclusive, NOT_KNOWN or LOST; text (C,) uint8: the text that spans are pieces of, in
    UTF-8, filled up with 0; left, right (L,) int16: from which byte of it to which each position reaches, 0
    and 0 where it is no part of the text; answers (A,) uint8: the right ones, a line each. So F1 and exact
    match are those of texts, not of tokens. A truth that is LOST has no loss, and is measured.
    """

    width = 2
    shown = {metric.name: metric for metric in (F1, EXACT_MATCH, _AGREEMENT)}
    primary = F1.name
    paired = F1
    words: ClassVar = "a piece of a text"

    def __init__(self, *, length: int, longest: int, no_answer: bool = False, windows: int = 1):
        self.length, self.longest, self.no_answer = int(length), int(longest), bool(no_answer)
        self.windows = integer("windows", windows, low=1)
        if not 1 <= self.longest <= self.length:
            raise UserError(
                f"longest={longest}: an answer has from 1 token to the {length} of a row (dataset.length)"
            )

    # training

    def loss(self, answers: Answers, truth: Answers, weights: Tensor | None = None) -> Tensor:
        """The cross-entropy of the start plus that of the end over all positions of a row; 0 where the truth
        is at no position. What windows share stands in several of them: right is then each of its places, and
        their probabilities are added (Clark and Gardner 2018, arXiv 1710.10723)."""
        logits = _logits(answers)
        if self.windows > 1:
            return _loss_of_copies(logits, _arrays(truth))
        found = torch.zeros(len(logits), device=logits.device)
        for place, name in enumerate(("start", "end")):
            wanted = _arrays(truth)[name].long().clamp_min(-1)
            found = found + F.cross_entropy(
                logits[:, place].float(), wanted, reduction="none", ignore_index=-1
            )
        return found

    def match(self, student: Answers, teacher: Answers, temperature: float) -> Tensor:
        """T^2 times the divergence of the starts plus that of the ends."""
        said, wanted = _logits(student), _logits(teacher)
        return kl(said[:, 0], wanted[:, 0], temperature) + kl(said[:, 1], wanted[:, 1], temperature)

    def agreement(self, student: Answers, teacher: Answers) -> Tensor:
        """Whether both name the same span."""
        pairs = zip(self.best(student)[:2], self.best(teacher)[:2], strict=True)
        (starts, ends) = (own == other for own, other in pairs)
        return starts & ends

    def mean(self, several: Sequence[Answers]) -> Tensor:
        """The logarithm of the mean of the probabilities of starts, and of ends."""
        probs = torch.stack([_logits(answers).softmax(2) for answers in several]).mean(0)
        masked = torch.stack([_logits(answers) <= OUTSIDE / 2 for answers in several]).all(0)
        return probs.clamp_min(1e-30).log().masked_fill(masked, OUTSIDE)

    # what is answered

    def best(self, answers: Answers) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row the start, the end and the confidence of the span with the largest sum of its two
        logits, (B,) each: of equal ones the shortest that begins first. confidence: the product of the two
        probabilities."""
        logits = _logits(answers).float()
        starts, ends = logits.unbind(1)
        last = starts.shape[1]
        inner = starts
        if self.no_answer:
            none = (starts > OUTSIDE / 2).int().argmax(1, keepdim=True)
            inner = starts.scatter(1, none, 2 * OUTSIDE)
        score, start = (starts + ends).max(1)
        end = start.clone()
        length = last // self.windows
        begun, ended = (one.unflatten(1, (self.windows, length)) for one in (inner, ends))
        for more in range(1, min(self.longest, length)):
            found, at = (begun[:, :, : length - more] + ended[:, :, more:]).flatten(1).max(1)
            at = at + at.div(length - more, rounding_mode="floor") * more
            better = found > score
            score, start = torch.where(better, found, score), torch.where(better, at, start)
            end = torch.where(better, at + more, end)
        sure = logits.log_softmax(2).double()
        rows = torch.arange(len(logits), device=logits.device)
        return start, end, (sure[rows, 0, start] + sure[rows, 1, end]).exp()

    def texts(self, answers: Answers, truth: Answers) -> list[str]:
        """What each row is answered in words; "": that there is no answer."""
        start, end, _ = self.best(answers)
        return _cut_out(start.cpu().numpy(), end.cpu().numpy(), truth)

    # measuring

    def metrics(self, answers: Answers, truth: Answers) -> dict[str, float]:
        said, right = self.texts(answers, truth), _right_answers(truth)
        rows = max(1, len(said))
        pairs = list(zip(said, right, strict=True))
        return {
            "f1": sum(answer_f1(*pair) for pair in pairs) / rows,
            "exact_match": sum(exact_match(*pair) for pair in pairs) / rows,
        }

    def by_row(self, answers: Answers, truth: Answers) -> Tensor:
        """F1"""
        return _scores(self.texts(answers, truth), truth)

    def right(self, answers: Answers, truth: Answers) -> Tensor:
        """Exact match"""
        pairs = zip(self.texts(answers, truth), _right_answers(truth), strict=True)
        return torch.tensor([exact_match(*pair) for pair in pairs], dtype=torch.bool)

    def confidence(self, answers: Answers) -> Tensor:
        return self.best(answers)[2].float().clamp(0, 1)

    def knowing_nothing(self, truth: Answers) -> Nothing:
        """Always that there is no answer, or always as many first tokens of the text, or all of it."""
        right = np.asarray(_arrays(truth)["right"].cpu())
        first = (right > 0).argmax(1)
        last = right.shape[1] - 1 - (right[:, ::-1] > 0).argmax(1)
        within = right[:, : right.shape[1] // self.windows]
        inside = within.shape[1] - 1 - (within[:, ::-1] > 0).argmax(1)
        said = {"always all of the text": _cut_out(first, last, truth)}
        for count in _STARTS:
            words = f"always the first {f'{count} tokens' if count > 1 else 'token'} of the text"
            said[words] = _cut_out(first, np.minimum(first + count - 1, inside), truth)
        if self.no_answer:
            said["always that there is no answer"] = [""] * len(right)
        scores = {words: _scores(texts, truth) for words, texts in said.items()}
        best = max(scores, key=lambda words: scores[words].mean().item() if len(right) else 0.0)
        return Nothing(best, scores[best])

    # shown

    def displayed(self, answers: Answers) -> list[Any]:
        """Of the truth its first answer in words, of answers the positions; see `displayed_beside`."""
        if isinstance(answers, Mapping):
            starts = answers["start"].tolist()
            pairs = zip(starts, _right_answers(answers), strict=True)
            return ["-" if start == NOT_KNOWN else _named(right[:1]) for start, right in pairs]
        start, end, _ = self.best(answers)
        pairs = zip(start.tolist(), end.tolist(), strict=True)
        return [f"positions {first} to {last}" for first, last in pairs]

    def displayed_beside(self, answers: Answers, truth: Answers) -> list[Any]:
        """The answers in words."""
        return [_named([text] if text else []) for text in self.texts(answers, truth)]

    def columns(self, answers: Answers, wanted: AnswerColumns) -> dict[str, Any]:
        """value:start and value:end, positions of the row; confidence"""
        if wanted != AnswerColumns():
            super().columns(answers, wanted)  # refuses
        start, end, sure = (found.double().numpy() for found in self.best(answers))
        return {"value:start": start, "value:end": end, "confidence": sure}

    def columns_beside(self, answers: Answers, truth: Answers) -> dict[str, Any]:
        """label too: the answer in words."""
        return {"label": self.displayed_beside(answers, truth), **self.columns(answers, AnswerColumns())}

    def answer_texts(self, answers: Answers, truth: Answers) -> list[str]:
        """As SQuAD's script reads them: "" where there is no answer."""
        return self.texts(answers, truth)

    def truth_columns(self, truth: Answers) -> dict[str, Any]:
        """truth: the first right answer in words; None where nobody knows it. truth:start, truth:end"""
        places = {}
        for name in ("start", "end"):
            at = _arrays(truth)[name].double()
            places[f"truth:{name}"] = torch.where(at < 0, torch.nan, at).numpy()
        texts = [None if text == "-" else text for text in self.displayed(truth)]
        return {"truth": texts, **places}

    # answers from elsewhere

    def of_array(self, array: np.ndarray) -> dict[str, np.ndarray]:
        raise UserError(_FROM_FILES)

    def given(self, columns: Mapping[str, Any], called: Callable[[int], str]) -> Given:
        raise UserError(_FROM_FILES)

    # stored answers

    def pack(self, answers: Answers) -> dict[str, Tensor]:
        """Half-precision logits."""
        return {"": _logits(answers).clamp(-HALF_MAX, HALF_MAX).half()}

    # the truth as data

    def known(self, truth: Any) -> np.ndarray:
        return np.asarray(truth["start"]) != NOT_KNOWN

    def unknown(self, like: Any, rows: int) -> Any:
        return {
            name: np.full((rows, *leaf.shape[1:]), NOT_KNOWN if name in ("start", "end") else 0, leaf.dtype)
            for name, leaf in like.items()
        }

    def made_up(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(rows, 2, self.windows * self.length, generator=generator)

    def made_up_truth(self, rows: int, generator: torch.Generator | None = None) -> Answers:
        """Each position is a letter, and the right answer one of them."""
        places = self.windows * self.length
        place = torch.arange(rows) % places
        at = torch.arange(places, dtype=torch.int16).expand(rows, -1).clone()
        letters = (torch.arange(places) % 26 + ord("a")).to(torch.uint8).expand(rows, -1).clone()
        return {
            "start": place.int(),
            "end": place.int(),
            "text": letters,
            "left": at,
            "right": at + 1,
            "answers": letters[torch.arange(rows), place][:, None],
        }


_FROM_FILES = (
    "answers that are pieces of a text are not read from a file: give a teacher that is a network, or a data "
    "set that has these answers in it"
)


def _logits(answers: Answers) -> Tensor:
    if isinstance(answers, Tensor):
        return answers
    raise UserError(
        "the answer of a network that finds spans is one tensor (B, 2, L) of logits; given several: "
        f"{', '.join(answers)}"
    )


def _arrays(truth: Answers) -> Mapping[str, Tensor]:
    if isinstance(truth, Mapping):
        return truth
    raise UserError("the truth of spans is several arrays by name (see docs/task.md); given one")


def _loss_of_copies(logits: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
    """(B, 2, L) -> (B,): less the logarithm of the probability of all places that stand for the same bytes as
    the right one."""
    found = torch.zeros(len(logits), device=logits.device)
    said = logits.float().log_softmax(2)
    edges = truth["left"], truth["right"]
    for place, name in enumerate(("start", "end")):
        wanted = truth[name].long()
        at = wanted.clamp_min(0)[:, None]
        same = edges[1] > edges[0]
        for edge in edges:
            same = same & (edge == edge.gather(1, at))
        same = same.scatter(1, at, True)
        lost = -said[:, place].masked_fill(~same, -torch.inf).logsumexp(1)
        found = found + torch.where(wanted >= 0, lost, 0.0)
    return found


def _named(right: Sequence[str]) -> str:
    return right[0] if right else "no answer"


def _right_answers(truth: Answers) -> list[list[str]]:
    """Of each row the right answers, [] where there is none."""
    rows = np.asarray(_arrays(truth)["answers"].cpu())
    return [[line for line in _decoded(row).split("\n") if line] for row in rows]


def _decoded(row: np.ndarray) -> str:
    return row.tobytes().rstrip(b"\0").decode("utf-8", "ignore")


def _cut_out(start: np.ndarray, end: np.ndarray, truth: Answers) -> list[str]:
    """What stands in the texts from one position to another, both (N,) and inclusive."""
    text, left, right = (np.asarray(_arrays(truth)[name].cpu()) for name in ("text", "left", "right"))
    rows = np.arange(len(text))
    pieces = zip(text, left[rows, start].tolist(), right[rows, end].tolist(), strict=True)
    return [_decoded(row[first : max(first, last)]) for row, first, last in pieces]


def _scores(said: Sequence[str], truth: Answers) -> Tensor:
    """(N,) F1"""
    pairs = zip(said, _right_answers(truth), strict=True)
    return torch.tensor([answer_f1(*pair) for pair in pairs], dtype=torch.float64)
