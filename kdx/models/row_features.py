"""One feature a row of the student, beside one of the teacher or alone: for terms that compare rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.core.trees import rows_of
from kdx.core.types import Inputs, Parts
from kdx.models.modes import evaluating
from kdx.models.pairs import Side, asked_names, fitted_to, one_teacher
from kdx.models.tap import Tap, check_tappable, penultimate


class StudentRows:
    """The feature of one layer of the student, a row of it as one vector: for terms that read no teacher.

    layer: its name, or "auto": what the last linear layer sees. width: D.
    """

    def __init__(self, parts: Parts, *, layer: str | Sequence[str]):
        if parts.example is None:
            raise ValueError("terms on hidden features need Parts.example")
        self.tap = _tap(parts.student, parts.example, "student", layer, "vector")
        with torch.no_grad(), evaluating(parts.student):
            parts.student(fitted_to(parts.example, next(parts.student.parameters(), torch.zeros(()))))
            self.width = self.take().shape[1]

    def take(self) -> Tensor:
        """(B, D) of the rows that the student has just been shown, with gradient, in single precision at
        least."""
        return _precise(self.tap.take().flatten(1))


class RowFeatures:
    """The feature of one layer of each network, a row of it as one vector.

    student, teacher: the name of a layer, or "auto": what the last linear layer sees; with auto="map" the
    last layer that gives a map, and of a network without one that vector too. widths: (Ds, Dt).
    """

    def __init__(
        self,
        parts: Parts,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        auto: Literal["vector", "map"] = "vector",
    ):
        self.teacher, example = one_teacher(parts)
        networks = {"student": parts.student, "teacher": self.teacher.network}
        asked = {"student": student, "teacher": teacher}
        self.taps = [_tap(networks[role], example, role, asked[role], auto) for role in networks]
        with torch.no_grad(), evaluating(parts.student):
            row = fitted_to(example, next(parts.student.parameters(), torch.zeros(())))
            parts.student(row)
            own, others = self.take(row)
        self.widths = (own.shape[1], others.shape[1])

    def take(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """For B rows that the student has just been shown: (B, Ds) with gradient and (B, Dt) without, in
        single precision at least.
        """
        self.teacher(inputs)
        own, others = (_precise(tap.take().flatten(1)) for tap in self.taps)
        return own, others

    def several(self, term: str, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """`take`, of two rows at least. Raises UserError."""
        found = self.take(inputs)  # also where it is refused, so that no feature is left behind
        if rows_of(inputs) < 2:
            raise UserError(
                f"loss.features={term} compares the rows of a batch with each other, and this one has "
                f"{rows_of(inputs)}: set student_train.batch_size to 2 at least"
            )
        return found


def in_full(feature: Tensor) -> AbstractContextManager[None]:
    """Inside, products of features are as precise as these, also where the training is in bf16: distances
    are small differences of such."""
    return torch.autocast(feature.device.type, enabled=False)


def _precise(feature: Tensor) -> Tensor:
    return feature if feature.dtype == torch.float64 else feature.float()


def _tap(network: nn.Module, example: Inputs, role: str, asked: str | Sequence[str], auto: str) -> Tap:
    names = asked_names(role, asked)
    if names is None and auto == "vector":
        check_tappable(network, role)
        return penultimate(network)
    side = Side(network, example, role)
    if names is None:
        return Tap(side.stages[-1].module, at="output") if side.stages else penultimate(network)
    if len(names) != 1:
        raise UserError(f"loss.layers.{role} names {len(names)} layers, and one is read: name one")
    return side.named(names)[0]
