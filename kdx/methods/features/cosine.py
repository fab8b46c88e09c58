"""Hidden states that point where the teacher's do: the third term of DistilBERT's loss (Sanh et al. 2019,
arXiv 1910.01108), beside the loss on its answers and that on labels; or whole features that do, as in the
PyTorch tutorial on knowledge distillation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import choice, number
from kdx.core.checks import shown as written
from kdx.core.errors import UserError
from kdx.core.types import Features, Inputs, Parts, Shown
from kdx.models.modes import evaluating
from kdx.models.pairs import Side, fitted_to, last_states, one_teacher
from kdx.models.row_features import RowFeatures
from kdx.models.tap import Tap, penultimate


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, N, D), (B, N, D) -> (): the mean of 1 - cosine over all positions at which the teacher's state is
    not zero, as an encoder's is where a text has ended; in [0, 2], 0 without such a position.
    """
    there = teacher.ne(0).any(2)
    apart = 1 - F.cosine_similarity(student.float(), teacher.float(), dim=2)
    return (apart * there).sum() / there.sum().clamp(min=1)


def as_states(feature: Tensor) -> Tensor:
    """(B, D), (B, N, D) or (B, C, H, W) -> (B, N, D): one state of a dense feature, one a place of a map."""
    if feature.dim() == 4:
        return feature.flatten(2).transpose(1, 2)
    return feature[:, None] if feature.dim() == 2 else feature


def flat_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, Ds), (B, Dt), Dt a multiple of Ds -> () in [0, 2]: the mean over rows of 1 - cosine of the
    student's feature with the teacher's, averaged to its length by neighbours."""
    pooled = F.avg_pool1d(teacher.float()[:, None], teacher.shape[1] // student.shape[1])[:, 0]
    return (1 - F.cosine_similarity(student.float(), pooled, dim=1)).mean()


class Cosine(Features):
    """term cosine = weight * `cosine_distance` of the hidden states of one layer of each, or with of=flat
    `flat_cosine` of their whole features.

    weight >= 0. student, teacher: the name of a layer, or "auto", the last that gives a sequence of hidden
    states, and of a network without one what its last linear layer sees. Where the two are not equally wide a
    linear layer without bias, which is learned, leads from the student's width to the teacher's; DistilBERT's
    are. of=flat is the PyTorch tutorial's (weight 0.25, beside 0.75 of the labels' loss): a map as one
    vector, with auto that of the last layer that gives one; nothing is learned, so the teacher's must be as
    long or a multiple.
    """

    def __init__(self, parts: Parts, *, weight: float, of: str, student: str, teacher: str):
        super().__init__()
        self.weight = number("loss.features.cosine.weight", weight, low=0)
        self.flat = None
        if choice("loss.features.cosine.of", of, ("states", "flat")) == "flat":
            self.flat = RowFeatures(parts, student=student, teacher=teacher, auto="map")
            _check_lengths(*self.flat.widths)
            return
        self.teacher, example = one_teacher(parts)
        networks = {"student": parts.student, "teacher": self.teacher.network}
        asked = {"student": student, "teacher": teacher}
        self.taps = [_tap(networks[role], example, role, asked[role]) for role in networks]
        with torch.no_grad(), evaluating(parts.student):
            row = fitted_to(example, next(parts.student.parameters(), torch.zeros(())))
            parts.student(row)
            own, others = self._take(row)
        if own.shape[1] != others.shape[1]:
            raise UserError(
                f"loss.features=cosine compares hidden states place by place, and the student's layer has "
                f"{own.shape[1]} of them, the teacher's {others.shape[1]}: name other layers with "
                "loss.layers.student= and loss.layers.teacher="
            )
        self.projector: nn.Module = nn.Identity()
        if own.shape[2] != others.shape[2]:
            with torch.random.fork_rng(devices=[]):  # the student's own noise stays as without this term
                self.projector = nn.Linear(own.shape[2], others.shape[2], bias=False)

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        if self.flat:
            return {"cosine": self.weight * flat_cosine(*self.flat.take(shown.inputs))}
        own, others = self._take(shown.inputs)
        return {"cosine": self.weight * cosine_distance(self.projector(own), others)}

    def _take(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """(B, N, Ds) with gradient, (B, N, Dt) without"""
        self.teacher(inputs)
        own, others = (as_states(tap.take()) for tap in self.taps)
        return own, others


def _check_lengths(student: int, teacher: int) -> None:
    if teacher % student:
        raise UserError(
            "loss.features.cosine.of=flat averages the teacher's feature to the student's length, and "
            f"{teacher} numbers cannot be averaged to {student}: name other layers with loss.layers.student= "
            "and loss.layers.teacher=, or choose loss.features=regressor, which has a projector"
        )


def _tap(network: nn.Module, example: Inputs, role: str, asked: str) -> Tap:
    if not isinstance(asked, str):
        raise UserError(f"loss.layers.{role} must be auto or the name of a layer; given: {written(asked)}")
    if asked != "auto":
        return Side(network, example, role).named([asked])[0]
    module = last_states(network, example)
    return penultimate(network) if module is None else Tap(module, at="output")
