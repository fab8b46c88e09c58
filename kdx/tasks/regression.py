"""One or several numbers a row: answers (B, K) in the user's own units, or a teacher's with its variance;
truth (B, K), NaN where nobody knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.answers import AnswerColumns, Answers, Figure, Given, Nothing
from kdx.core.errors import UserError
from kdx.core.task import Numeric
from kdx.core.trees import leaves, moved
from kdx.tasks import given
from kdx.tasks.shown import DISTANCE, MAE, MSE, R2, RMSE

SHOWN_POINTS = 200
"""Rows that the figure of predicted against true shows at most."""
_BARS = 12
_VALUE, _VARIANCE = "value", "variance"


class Units(nn.Module):
    """Numbers of mean 0 and deviation 1 -> the user's own units, float32. centre, scale: (K,)"""

    centre: Tensor
    scale: Tensor

    def __init__(self, centre: Sequence[float], scale: Sequence[float]):
        super().__init__()
        self.register_buffer("centre", torch.tensor([float(value) for value in centre]))
        self.register_buffer("scale", torch.tensor([float(value) for value in scale]))

    def forward(self, x: Tensor) -> Tensor:
        return x.float() * self.scale + self.centre


class Regression(Numeric):
    """names: of the K numbers. centre, scale: mean and deviation of each over the labelled rows; a network is
    trained in these units, and its answers and all metrics are in the user's own.

    The loss of a row, and its distance from a teacher, is the mean over the K numbers of the squared
    difference divided by the squared scale: the same whatever units the user has. With one number the RMSE of
    the metrics is scale * sqrt(mean loss). Metrics over several numbers: the squared (absolute) differences
    in the user's units, their mean over rows and numbers; r2 is the mean of the numbers' own.
    """

    width: int
    shown = {metric.name: metric for metric in (RMSE, MAE, R2, DISTANCE)}
    primary = RMSE.name
    paired = MSE

    def __init__(
        self,
        *,
        names: Sequence[str],
        centre: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
    ):
        self.names, self.width = tuple(names), len(names)
        self.centre = [0.0] * self.width if centre is None else [float(value) for value in centre]
        self.scale = [1.0] * self.width if scale is None else [float(value) for value in scale]
        whole = self.width and len(self.centre) == len(self.scale) == self.width
        if not whole or not all(math.isfinite(value) for value in (*self.centre, *self.scale)):
            raise UserError("a task of numbers needs a name, a centre and a scale of each, finite ones")
        if min(self.scale) <= 0:
            raise UserError(f"the scale of a number must be above 0; given: {min(self.scale):g}")

    def fit(self, truth: Any) -> Mapping[str, Any]:
        """Raises UserError where a number is the same in all labelled rows."""
        known = np.asarray(truth, np.float64)
        spread = known.std(0)
        for name, value, deviation in zip(self.names, known[0], spread, strict=True):
            if deviation <= 1e-9 * max(1.0, abs(value)):
                raise UserError(
                    f"the target '{name}' is {value:g} in all {len(known):,} labelled rows: there is "
                    "nothing to learn from it; choose another dataset.target, or label more rows"
                )
        return {"centre": known.mean(0).tolist(), "scale": spread.tolist()}

    def units(self) -> Units:
        return Units(self.centre, self.scale)

    def numbers(self, answers: Answers) -> Tensor:
        return answers[_VALUE] if isinstance(answers, Mapping) else answers

    def variance(self, answers: Answers) -> Tensor | None:
        if not isinstance(answers, Mapping):
            return None
        told = answers[_VARIANCE]
        # an accelerator would be waited for in each step: there nan spreads to the loss, which is looked at
        if told.device.type == "cpu" and bool(told.isnan().any()):
            return None
        return told / self._scale(told).square()

    def loss(self, answers: Answers, truth: Answers, weights: Tensor | None = None) -> Tensor:
        return self._standard(answers, truth).square().mean(1)

    def match(self, student: Answers, teacher: Answers, temperature: float) -> Tensor:
        return self._standard(student, teacher).square().mean(1)

    def agreement(self, student: Answers, teacher: Answers) -> Tensor:
        """The mean absolute difference, less is closer."""
        return (self.numbers(student) - self.numbers(teacher)).abs().mean(1)

    def mix(self, truth: Answers, other: Answers, share: Tensor) -> Tensor:
        own, partner = self.numbers(truth), self.numbers(other)
        return own * share[:, None] + partner * (1 - share)[:, None]

    def mean(self, several: Sequence[Answers]) -> Answers:
        """The mean; where all tell their variance that of the mixture: the mean of the variances, and the
        variance of the means."""
        values = torch.stack([self.numbers(answers) for answers in several])
        if not all(isinstance(answers, Mapping) for answers in several):
            return values.mean(0)
        within = torch.stack([leaves(answers)[_VARIANCE] for answers in several]).mean(0)
        return {_VALUE: values.mean(0), _VARIANCE: within + values.var(0, unbiased=False)}

    def metrics(self, answers: Answers, truth: Answers) -> dict[str, float]:
        known = self.numbers(truth).double()
        errors = self.numbers(answers).double() - known
        around = (known - known.mean(0)).square().sum(0)
        r2 = 1 - errors.square().sum(0) / around
        return {
            "rmse": errors.square().mean().sqrt().item(),
            "mae": errors.abs().mean().item(),
            "r2": r2.mean().item() if bool((around > 0).all()) else float("nan"),
        }

    def by_row(self, answers: Answers, truth: Answers) -> Tensor:
        """The squared error."""
        return (self.numbers(answers) - self.numbers(truth)).double().square().mean(1)

    def knowing_nothing(self, truth: Answers) -> Nothing:
        return Nothing("the mean of all rows", self.by_row(self.numbers(truth).double().mean(0), truth))

    def floor(self, truth: Answers) -> float:
        return self.knowing_nothing(truth).by_row.mean().sqrt().item()

    def details(self, answers: Answers, truth: Answers, part: str) -> dict[str, Any]:
        if part == "train" or not bool(torch.isfinite(self.numbers(answers)).all()):
            return {}
        found = [
            figure
            for column, name in enumerate(self.names[:3])
            for figure in _figures(
                name if self.width > 1 else "",
                self.numbers(answers)[:, column].double(),
                self.numbers(truth)[:, column].double(),
            )
        ]
        return {"figures": [figure.document() for figure in found]}

    def displayed(self, answers: Answers) -> list[Any]:
        return super().displayed(self.numbers(answers))

    def columns(self, answers: Answers, wanted: AnswerColumns) -> dict[str, Any]:
        """value:NAME of each number, in the user's own units; deviation:NAME where the answers tell it."""
        super().columns(self.numbers(answers), wanted)
        found = {f"value:{name}": self.numbers(answers)[:, k].numpy() for k, name in enumerate(self.names)}
        if isinstance(answers, Mapping):
            deviation = answers[_VARIANCE].sqrt()
            found |= {f"deviation:{name}": deviation[:, k].numpy() for k, name in enumerate(self.names)}
        return found

    def given(self, columns: Mapping[str, Any], called: Callable[[int], str]) -> Given:
        """value:NAME of each number, and deviation:NAME of each, or of none."""
        return given.numbers_given(self.names, columns, called)

    def answers_of(self, truth: Answers) -> Answers:
        """Without a doubt."""
        values = self.numbers(truth).float()
        return {_VALUE: values, _VARIANCE: torch.zeros_like(values)}

    def truth_columns(self, truth: Answers) -> dict[str, Any]:
        """truth:NAME of each number, in the user's own units."""
        return {f"truth:{name}": self.numbers(truth)[:, k].numpy() for k, name in enumerate(self.names)}

    def pack(self, answers: Answers) -> dict[str, Tensor]:
        """The numbers and their variance, float32; NaN where the teacher does not tell it."""
        values = self.numbers(answers).float()
        said = answers[_VARIANCE] if isinstance(answers, Mapping) else torch.full_like(values, torch.nan)
        return {_VALUE: values, _VARIANCE: said.float()}

    def made_up(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        return self.units()(torch.randn(rows, self.width, generator=generator))

    made_up_truth = made_up

    def made_up_by_teacher(self, rows: int, generator: torch.Generator | None = None) -> Answers:
        values = self.made_up(rows, generator)
        return {_VALUE: values, _VARIANCE: values.square()}

    def _standard(self, first: Answers, second: Answers) -> Tensor:
        """(B, K) the difference in units of the scale."""
        values = self.numbers(first)
        return (values - self.numbers(second).to(values)) / self._scale(values)

    def _scale(self, like: Tensor) -> Tensor:
        return moved(torch.tensor(self.scale), like.device)


def _figures(name: str, said: Tensor, truth: Tensor) -> list[Figure]:
    """What is drawn of one number: predicted against true, and how the residuals are spread."""
    of, tag = f" of {name}" if name else "", f"-{name}" if name else ""
    order = truth.argsort()[torch.linspace(0, len(truth) - 1, min(SHOWN_POINTS, len(truth))).long()]
    ends = [truth.min().item(), truth.max().item()]
    lines = {
        "predicted": {"x": truth[order].tolist(), "y": said[order].tolist()},
        "as true": {"x": ends, "y": ends},
    }
    drawn = {"lines": lines, "points": ["predicted"], "below": f"true {name}".strip()}
    counts, edges = np.histogram((said - truth).numpy(), _BARS)
    return [
        Figure(f"Predicted against true{of}", f"predicted{tag}", "line", drawn),
        Figure(
            f"Residuals{of}: predicted less true",
            f"residuals{tag}",
            "bars",
            {"edges": edges.tolist(), "counts": counts.tolist()},
        ),
    ]
