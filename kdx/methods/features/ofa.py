"""One for all (Hao et al. 2023, arXiv 2310.19444): the stages of a student that is built unlike its teacher
are taught in the one space that both share, that of the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdx.core.checks import integer, number
from kdx.core.errors import UserError
from kdx.core.task import Categorical
from kdx.core.trees import moved, rows_of
from kdx.core.types import Batch, Features, Parts, Shown
from kdx.models.modes import evaluating
from kdx.models.pairs import Side, as_map, asked_names, fitted_to, one_teacher
from kdx.models.tap import Tap, penultimate


def enhanced(student: Tensor, teacher: Tensor, target: Tensor, gamma: float, temperature: float) -> Tensor:
    """(B, K) logits of both, (B,) int64 classes, -1: not known -> (B,): cross-entropy, nats, of the student's
    probabilities to the teacher's, where p of the target is (1 + p)^gamma - 1.

    gamma = 1, or no target: plain cross-entropy to the teacher. Both logits are divided by the temperature.
    """
    wanted = (teacher / temperature).softmax(1)
    known = target >= 0
    place = target.clamp(min=0)[:, None]
    p = wanted.gather(1, place)
    more = torch.where(known[:, None], (1 + p) ** gamma - 1, p)
    return -(wanted.scatter(1, place, more) * (student / temperature).log_softmax(1)).sum(1)


def exit_of(channels: int, dense: bool, width: int, classes: int) -> nn.Module:
    """A small branch: (B, channels, H, W) -> (B, classes)"""
    first = nn.Conv2d(channels, width, 1 if dense else 3, padding=0 if dense else 1)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class OFA(Features):
    """term exits = weight * sum over the student's stages of the mean over rows of `enhanced`, between the
    logits of a small branch of that stage and the teacher's.

    weight >= 0, gamma >= 1, temperature > 0, width >= 1: channels inside a branch. student: names of layers,
    or auto, the last layer at each size of map, and of a network without maps what its last linear layer
    sees; tokens of a ViT are the map that they were made of. Where the label is not known, as in a pool, and
    where rows were mixed, nothing is enhanced.
    Deviations, of the authors' code (the paper's own equations and its range of gamma were not checked):
    gamma acts on the target alone, where the code raises the other probabilities too; 1 is taken off the
    target, as there, since the labels have a term of their own; a branch is one convolution and a linear
    layer, where theirs goes down to the last stage's size by separable convolutions, patch merging and
    attention; the last answer is taught by the loss itself, where theirs is enhanced too.
    Cost: the teacher's network forwards each batch; a convolution a stage. The branches are not exported.
    """

    needs_task = Categorical

    def __init__(
        self,
        parts: Parts,
        *,
        weight: float,
        gamma: float,
        temperature: float,
        width: int,
        student: str | Sequence[str],
    ):
        super().__init__()
        self.weight = number("loss.features.ofa.weight", weight, low=0)
        self.gamma = number("loss.features.ofa.gamma", gamma, low=1)
        self.temperature = number("loss.features.ofa.temperature", temperature, low=0, open_low=True)
        width = integer("loss.features.ofa.width", width, low=1)
        self.teacher, example = one_teacher(parts)
        side, names = Side(parts.student, example, "student"), asked_names("student", student)
        if names:
            self.taps = side.named(names)
        elif side.stages:
            self.taps = [Tap(layer.module, at="output") for layer in side.stages]
        else:
            self.taps = [penultimate(parts.student)]
        with torch.no_grad(), evaluating(parts.student):
            row = fitted_to(example, next(parts.student.parameters(), torch.zeros(())))
            parts.student(row)
            maps = [as_map(tap.take()) for tap in self.taps]
            said = self.teacher(row)
        if not isinstance(said, Tensor) or said.dim() != 2:
            raise UserError(
                "loss.features=ofa teaches answers of one class a row, and this teacher's are of another "
                "form: set loss.features=none, or another"
            )
        with torch.random.fork_rng(devices=[]):  # the student's own noise stays what it is without this term
            self.exits = nn.ModuleList(
                exit_of(found.shape[1], found.shape[2:] == (1, 1), width, said.shape[1]) for found in maps
            )

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        wanted = self.teacher(shown.inputs).float()
        target = torch.cat([moved(_classes(batch), wanted.device) for batch in shown.batches])
        losses = [
            enhanced(made(as_map(tap.take())).float(), wanted, target, self.gamma, self.temperature).mean()
            for made, tap in zip(self.exits, self.taps, strict=True)
        ]
        return {"exits": self.weight * sum(losses)}


def _classes(batch: Batch) -> Tensor:
    """(B,) int64; -1 where it is not known, or no one class."""
    if isinstance(batch.y, Tensor) and batch.y.dim() == 1 and not batch.y.is_floating_point():
        return batch.y
    return torch.full((rows_of(batch.index),), -1, device=batch.index.device)
