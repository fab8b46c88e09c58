"""What is kept of a teacher's answers that are distributions over classes or tokens: all logits, the k
likeliest with the mass of the others, draws, or what the teacher's last layer reads. How they lie on the
disk and are read: kdx.core.sparse_answers, kdx.core.hidden_answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdx.core.answers import Answers
from kdx.core.divergence import over_temperature, pieces, rows_at_once
from kdx.core.errors import UserError
from kdx.core.hidden_answers import STATES, head_of
from kdx.core.sparse_answers import COUNT_RANGE, DRAWS, ENTROPY, IDS, LOGP, TAIL, TRUE, drawn_ids
from kdx.core.sparse_divergence import count_draws, draw_counts, top_k
from kdx.core.task import Task
from kdx.core.types import Batch
from kdx.data.views.draws import Draws
from kdx.tasks.kept import HIDDEN_STATES, id_bytes

MASS = 0.6
"""Where the k likeliest have less of the mass, students of them lose to students without a teacher."""
_SHARED = 0.9
"""Of the draws that one teacher's answers give twice at least so many are the same."""
_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Place:
    """Where among the places of a batch, row after row. of_row: how many each row has."""

    start: int
    of_row: int


@dataclass(frozen=True)
class AnswerFormat(ABC):
    """A format other than dense, of one task. temperature: of the probabilities that are kept; seed: of
    draws.

    pack: B answers as they are stored; alike: what is otherwise in stored answers than in fresh ones, packed
    too, None: nothing.
    """

    task: Task
    temperature: float
    seed: int
    name: ClassVar[str]

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Plain data for answers.json."""

    @abstractmethod
    def _kept(self, log_p: Tensor, batch: Batch, place: Place) -> dict[str, Tensor]:
        """log_p: (n, V) of places from `place` on."""

    def pack(self, answers: Answers, batch: Batch) -> dict[str, Tensor]:
        logits, true = self.task.categories(answers, batch.y)
        places = logits.shape[:-1]
        flat = logits.reshape(-1, logits.shape[-1])
        known = torch.full((len(flat),), -1, device=flat.device) if true is None else true.reshape(-1)
        parts: dict[str, list[Tensor]] = {}
        for part in pieces(len(flat), rows_at_once(flat)):
            log_p = over_temperature(flat[part], self.temperature).log_softmax(1)
            found = self._kept(log_p, batch, Place(part.start, max(1, len(flat) // max(1, len(batch)))))
            found[ENTROPY] = half(-torch.where(log_p > -torch.inf, log_p.exp() * log_p, 0).sum(1))
            found[TRUE] = half(_of_true(flat[part], known[part]))
            for name, leaf in found.items():
                parts.setdefault(name, []).append(leaf)
        whole = {name: torch.cat(some) for name, some in parts.items()}
        return {name: leaf.reshape(*places, *leaf.shape[1:]) for name, leaf in whole.items()}

    def like(self) -> dict[str, Tensor]:
        """What one row is packed as."""
        none = torch.zeros(1, dtype=torch.int64)
        return self.pack(self.task.made_up(1), Batch("labelled", none, none, {}))

    def alike(self, stored: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> str | None:
        for name in (ENTROPY, TRUE):
            gap = (stored[name].float() - fresh[name].float()).abs().nan_to_num(0.0)
            if bool((gap > allowed(fresh[name])).any()):
                what = "the entropy" if name == ENTROPY else "the log-probability of the true one"
                return _said(what, stored[name], fresh[name], gap)
        return self._alike(stored, fresh)

    @abstractmethod
    def _alike(self, stored: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> str | None: ...


@dataclass(frozen=True)
class TopK(AnswerFormat):
    """The k likeliest ids, uint8, uint16 or int32 as the vocabulary needs, their log-probabilities and that
    of all others together, both float16: 3k + 2, 4k + 2 or 6k + 2 bytes a place, and 4 of entropy and
    truth."""

    k: int
    name: ClassVar[str] = "topk"

    def about(self) -> dict[str, Any]:
        return {"name": self.name, "k": self.k, "temperature": self.temperature}

    def _kept(self, log_p: Tensor, batch: Batch, place: Place) -> dict[str, Tensor]:
        ids, logp, rest = top_k(log_p, self.k, 1.0)
        kind = {1: torch.uint8, 2: torch.uint16, 4: torch.int32}[id_bytes(log_p.shape[1])]
        return {IDS: ids.to(kind), LOGP: half(logp), TAIL: half(rest)}

    def _alike(self, stored: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> str | None:
        gap = (stored[LOGP].float() - fresh[LOGP].float()).abs()
        if bool((gap > allowed(fresh[LOGP])).any()):
            return _said(f"a log-probability among the {self.k} likeliest", stored[LOGP], fresh[LOGP], gap)
        same = fresh[IDS].long() == stored[IDS].long()[..., :1]
        own = torch.where(same, fresh[LOGP].float(), -torch.inf).amax(-1)
        other = own < fresh[LOGP][..., 0].float() - 0.05  # of two that are equally likely either may be first
        return "another id is the likeliest" if bool(other.any()) else None


@dataclass(frozen=True)
class Sampled(AnswerFormat):
    """N draws with replacement: each id that was drawn_ids, of 1, 2 or 4 bytes, and a count of one; 1 byte a
    place says how many there are, and 4 are of entropy and truth. Which numbers are drawn hangs on the seed,
    the split, the row and its view alone."""

    draws: int
    name: ClassVar[str] = "sampled"

    def about(self) -> dict[str, Any]:
        return {"name": self.name, "draws": self.draws, "temperature": self.temperature}

    def _kept(self, log_p: Tensor, batch: Batch, place: Place) -> dict[str, Tensor]:
        ids, counts = count_draws(draw_counts(log_p.exp(), self._uniform(batch, place, log_p)))
        return {DRAWS: ids * COUNT_RANGE + counts}

    def _uniform(self, batch: Batch, place: Place, like: Tensor) -> Tensor:
        """(n, N) in [0, 1): each row's numbers are its places' one after the other."""
        first, last = place.start // place.of_row, -(-(place.start + len(like)) // place.of_row)
        index, view = batch.index[first:last].cpu(), batch.view[first:last].cpu()
        found = Draws(self.seed, batch.split, index, view).uniform("answers", place.of_row * self.draws)
        of_places = found.reshape(-1, self.draws)[place.start - first * place.of_row :]
        return of_places[: len(like)].to(like.device)

    def _alike(self, stored: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> str | None:
        """The same numbers are drawn; at the edge of an id a last bit decides."""
        (ids, counts), (others, theirs) = (
            drawn_ids({DRAWS: found[DRAWS].long()}) for found in (stored, fresh)
        )
        both = torch.minimum(counts[..., :, None], theirs[..., None, :])
        shared = (both * (ids[..., :, None] == others[..., None, :])).sum((-2, -1)) / self.draws
        if bool((shared >= _SHARED).all()):
            return None
        return f"of {self.draws} draws {shared.min().item() * self.draws:.0f} are the same"


@dataclass(frozen=True)
class HiddenStates(AnswerFormat):
    """What the teacher's last layer reads, float16: 2 d bytes a place, and 4 of entropy and truth. The layer
    itself lies beside, once."""

    width: int
    name: ClassVar[str] = HIDDEN_STATES

    def about(self) -> dict[str, Any]:
        return {"name": self.name, "width": self.width}

    def pack(self, answers: Answers, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(answers, Mapping)
        return {STATES: half(answers[STATES]), **super().pack(answers, batch)}

    def like(self) -> dict[str, Tensor]:
        places = self.task.categories(self.task.made_up(1), None)[0].shape[:-1]
        shapes = {STATES: (*places, self.width), ENTROPY: places, TRUE: places}
        return {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}

    def _kept(self, log_p: Tensor, batch: Batch, place: Place) -> dict[str, Tensor]:
        return {}

    def _alike(self, stored: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> str | None:
        """fresh: with the last layer, as the network has it."""
        gap = (stored[STATES].float() - fresh[STATES].float()).abs()
        if bool((gap > allowed(fresh[STATES])).any()):
            return _said("a hidden state", stored[STATES], fresh[STATES], gap)
        there, own = head_of(stored), head_of(fresh)
        same = there.shape == own.shape and torch.allclose(there, own)
        return None if same else "its last layer is another than the one that lies there"


def half(values: Tensor) -> Tensor:
    """In half precision, what is beyond it cut off; nan stays."""
    return values.clamp(-_HALF, _HALF).half()


def top_mass(task: Task, answers: Answers, k: int, temperature: float) -> Tensor:
    """(n,) the mass of the k likeliest at each place of some answers."""
    logits, _ = task.categories(answers, None)
    flat = logits.reshape(-1, logits.shape[-1])
    few = min(k, flat.shape[1])
    parts = pieces(len(flat), rows_at_once(flat))
    return torch.cat([top_k(flat[part], few, temperature)[1].exp().sum(1) for part in parts])


def whole_alike(stored: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> str | None:
    """What is otherwise in stored answers than in fresh ones, where they are kept whole; None: nothing."""
    for leaf, values in fresh.items():
        gap = (values.float() - stored[leaf].float()).abs()
        if bool((gap > allowed(values)).any()):
            worst = gap.flatten().argmax()
            found = values.flatten()[worst].item(), stored[leaf].flatten()[worst].item()
            return f"a number is {found[0]:.3f} and not {found[1]:.3f}"
    return None


def distributions(task: Task) -> dict[str, int] | None:
    """How many distributions an answer is, and over how many classes or tokens; None: it is of another
    kind."""
    try:
        logits, _ = task.categories(task.made_up(1, torch.Generator()), None)
    except UserError:
        return None
    return {"places": logits[..., 0].numel(), "width": logits.shape[-1]}


def _of_true(logits: Tensor, true: Tensor) -> Tensor:
    """(n,) log-probability of the true id, nan where it is -1."""
    found = over_temperature(logits, 1.0).log_softmax(1).gather(1, true.clamp_min(0)[:, None])[:, 0]
    return torch.where(true >= 0, found, torch.nan)


def allowed(values: Tensor) -> Tensor:
    """How far two of one teacher may be apart: bits of half precision, and of sums in another order."""
    return 0.02 + 0.01 * values.float().abs()


def _said(what: str, stored: Tensor, fresh: Tensor, gap: Tensor) -> str:
    worst = gap.flatten().argmax()
    return f"{what} is {fresh.flatten()[worst].item():.3f} and not {stored.flatten()[worst].item():.3f}"
