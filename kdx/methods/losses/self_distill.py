"""Self-distillation: the student's teacher is its own past, or its own last layer."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdx.core.checks import choice, integer, number
from kdx.core.errors import Caution, UserError
from kdx.core.math import kl
from kdx.core.task import Categorical
from kdx.core.trees import tree
from kdx.core.types import Answers, Objective, Outcome, Parts, Streams
from kdx.methods.logits import Setting, checked_setting, value_at
from kdx.models.exits import Exits

_TEACHERS = ("snapshot", "deepest")
_USUAL: Mapping[str, tuple[object, object]] = {"snapshot": ([0.0, 0.8], 1.0), "deepest": (0.1, 3.0)}
"""alpha and temperature where none is given."""
_LATE = 0.9
"""Share of the training after which a note says that there was no snapshot."""
_ONLY = {"every": "snapshot", "heads_at": "deepest", "hint": "deepest", "weight": "deepest"}
"""Keys of one of the two ways."""


class SelfDistill(Objective):
    """teacher "snapshot": loss = mean over labelled rows of (1 - alpha) * cross-entropy + alpha * T^2
    KL(snapshot^T || student^T), the snapshot in eval mode and without gradient.

    The snapshot is the student at the end of the last `every` epochs, and answers for the next ones. every =
    1 is PS-KD (Kim, Ji, Yoon and Hwang 2021, arXiv 2006.12000), whose alpha grows in a straight line, [0,
    0.8]: at T = 1 the gradient is that of its cross-entropy to the mixture (1 - alpha) y + alpha p. More,
    with an alpha that stands, is Snapshot distillation (Yang, Xie, Su and Yuille 2019, arXiv 1812.00123):
    `every` epochs are its mini-generation. Before the first snapshot the labels count in full. alpha = 0 is
    `supervised`. Deviations: alpha moves with every step, not every epoch; no cyclic learning rate, which
    Snapshot distillation has, but the schedule of student_train.

    teacher "deepest", Be Your Own Teacher (Zhang et al. 2019, arXiv 1905.08094, section 3): heads on layers
    before the last. loss = mean over labelled rows of the student's cross-entropy + weight * sum over heads i
    of [(1 - alpha) * its cross-entropy + alpha * T^2 KL(student^T || head^T) + hint * |F_i - F|^2], the
    student's answer and F, what its last linear layer sees, without gradient. Heads, see
    kdx.models.exits.Exits, train with it and are gone from what is exported; their gradient reaches the
    layers that they stand on. weight 0 is `supervised`; alpha and hint 0 leave cross-entropy of every head
    (deep supervision).

    No pool is read, as in the papers. alpha in [0, 1], temperature > 0: each a number, or [from, to], a
    straight line over the training; None: [0, 0.8] and 1 of a snapshot, 0.1 and 3 of the deepest layer. every
    >= 1, epochs; hint >= 0; weight >= 0. Cost: of a snapshot one more forward pass a step and a copy of the
    weights; of heads two small convolutions each.
    """

    uses = ("labelled",)
    needs_task = Categorical
    reads = ()
    taps_with = {"teacher": "deepest"}
    task: Categorical

    def __init__(
        self,
        parts: Parts,
        *,
        teacher: str,
        alpha: float | Sequence[float] | None,
        temperature: float | Sequence[float] | None,
        every: int,
        heads_at: str | Sequence[str],
        hint: float,
        weight: float,
    ):
        super().__init__(parts)
        self.teacher = choice("loss.teacher", teacher, _TEACHERS)
        usual = _USUAL[self.teacher]
        self.alpha = checked_setting("loss.alpha", usual[0] if alpha is None else alpha, low=0, high=1)
        self.temperature: Setting = checked_setting(
            "loss.temperature", usual[1] if temperature is None else temperature, low=0, open_low=True
        )
        every = integer("loss.every", every, low=1)
        self.hint = number("loss.hint", hint, low=0)
        self.weight = number("loss.weight", weight, low=0)
        self.past = Snapshot(parts.student, every) if self.teacher == "snapshot" else None
        self.exits = self._exits(parts, heads_at) if self.teacher == "deepest" else None

    def _exits(self, parts: Parts, at: str | Sequence[str]) -> Exits:
        if parts.example is None:
            raise UserError("loss.teacher=deepest looks into the student with one row, and there is none")
        return Exits(parts.student, parts.example, at=at, classes=len(self.task.classes))

    def idle(self) -> Mapping[str, str]:
        found = {
            key: f"it is of loss.teacher={way}, and this run has {self.teacher}: leave one of them out"
            for key, way in _ONLY.items()
            if way != self.teacher
        }
        if self.exits is not None and self.weight == 0:
            why = "loss.weight=0 gives the heads no weight: leave one of them out"
            found |= dict.fromkeys(("alpha", "temperature", "hint"), why)
        elif self.alpha == 0:
            why = "loss.alpha=0 gives the student's own answers no weight: leave one of them out"
            found |= dict.fromkeys(("temperature", *(["every"] if self.past else [])), why)
        return found

    def train(self, mode: bool = True) -> SelfDistill:
        super().train(mode)
        if self.past is not None:
            self.past.eval()
        return self

    def forward(self, streams: Streams, progress: float) -> Outcome:
        shown, y = streams["labelled"].views["main"], streams["labelled"].y
        said = self.student(shown)
        alpha, heat = value_at(self.alpha, progress), value_at(self.temperature, progress)
        labels = self.task.loss(said, y, self.class_weights).mean()
        if self.exits is not None:
            return self._heads(said, y, labels, alpha, heat)
        answers = self.past.answers(shown, progress) if self.past is not None else None
        if answers is None:
            return Outcome({"labels": labels})
        apart = kl(said, answers, heat).mean()
        agreement = lambda: self.task.agreement(said, answers).float().mean()  # noqa: E731
        return Outcome({"labels": (1 - alpha) * labels, "snapshot": alpha * apart}, {"agreement": agreement})

    def _heads(self, own: Answers, y: Answers, labels: Tensor, alpha: float, heat: float) -> Outcome:
        heads, deepest = self.exits()
        said = tree(Tensor.detach, own)
        known, apart, away = [], [], []
        for head in heads:
            known.append(self.task.loss(head.logits, y, self.class_weights).mean())
            apart.append(kl(head.logits, said, heat).mean())
            away.append((head.feature.float() - deepest.float()).square().sum(1).mean())
        shares = {"labels": 1 - alpha, "deepest": alpha, "hint": self.hint}
        terms = {
            f"heads/{name}": self.weight * share * torch.stack(losses).sum()
            for (name, share), losses in zip(shares.items(), (known, apart, away), strict=True)
        }

        def agreement() -> Tensor:
            found = [self.task.agreement(head.logits, said).float().mean() for head in heads]
            return torch.stack(found).mean().detach()

        return Outcome({"labels": labels, **terms}, {"agreement": agreement})

    def refresh(self) -> Mapping[str, float]:
        if self.past is None:
            return {}
        self.past.epoch(self.student)
        return {"snapshots": float(self.past.taken)}


class Snapshot(nn.Module):
    """A network as it was some epochs ago, in eval mode. The copy and the counts are in the state dict, so
    that a resumed run goes on bit for bit."""

    def __init__(self, network: nn.Module, every: int):
        """every: epochs from one to the next."""
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.every, self.begun, self.taken, self.warned = every, 0, 0, False

    @torch.no_grad()
    def epoch(self, network: nn.Module) -> None:
        """To be called as each epoch begins, the first among them."""
        if self.begun and self.begun % self.every == 0:
            self.network.load_state_dict(network.state_dict())
            self.taken += 1
        self.begun += 1

    @torch.no_grad()
    def answers(self, shown: Tensor, progress: float) -> Tensor | None:
        """None: there is no snapshot yet."""
        if self.taken:
            found: Tensor = self.network(shown)
            return found
        if progress >= _LATE and not self.warned:
            self.warned = True
            epochs = "epoch" if self.every == 1 else f"{self.every} epochs"
            warnings.warn(
                "loss=self_distill has met no snapshot of the student so far, and has learned from labels "
                f"alone: it takes one after each {epochs}; lower loss.every, or train for longer",
                Caution,
                stacklevel=2,
            )
        return None

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.begun, self.taken, int(self.warned)])

    def set_extra_state(self, state: Tensor) -> None:
        self.begun, self.taken, warned = state.tolist()
        self.warned = bool(warned)
