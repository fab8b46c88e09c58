"""Debiasing weights (Weighted Distillation with Unlabeled Examples, arXiv 2210.06711).

The paper's weights make the risk on the teacher's labels equal the risk on the truth. That the neighbourhood
is of so many points, and the mean of ratios, are this project's reading: the paper's appendix could not be
checked. `ratio_of_means` is a variant of our own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from kdx.core.checks import choice, flag, integer
from kdx.core.errors import Caution
from kdx.core.math import cross_entropy
from kdx.core.task import Categorical
from kdx.core.types import Parts, Weighting
from kdx.methods import estimators
from kdx.methods import neighbours as by_neighbours
from kdx.models import modes

_METHOD = "loss.weights=debiased"


class Debiased(Weighting):
    """w = min{1, 1 / (1 + p (d - 1))}: p, how often the teacher is wrong; d, the student's loss on its wrong
    answer over that on the truth.

    Both are taken from the `neighbours` nearest validation rows in (teacher's margin, student's margin);
    null: round(sqrt(V) / 2), at least
    1. The student's margins and losses on validation move, so `refresh` takes them anew (eval mode, one view
       of each row, such as training shows); the row that is asked about has the margin of the training pass
       (its view, with dropout). Before the first refresh w = 1. hard: whether the loss reads the teacher's
       first choice or its probabilities, as `loss.hard`. estimator: see
       `kdx.methods.neighbours.neighbour_weights`. grid: null searches exactly, in each batch; a number of
       cells a side looks the weights up, faster above some thousands of rows.
    """

    needs_task = Categorical
    reads_validation = True

    def __init__(self, parts: Parts, *, hard: bool, estimator: str, neighbours: int | None, grid: int | None):
        super().__init__()
        self.hard = flag("loss.weights.hard", hard)
        self.estimator = choice("loss.weights.estimator", estimator, by_neighbours.ESTIMATORS)
        self.grid = None if grid is None else integer("loss.weights.grid", grid, low=2, high=4096)
        rows = len(estimators.validation_split(parts.validation, _METHOD))
        asked = (
            max(1, round(rows**0.5 / 2))
            if neighbours is None
            else integer("loss.weights.neighbours", neighbours, low=1)
        )
        self.neighbours = min(asked, rows)
        if asked > rows:
            warnings.warn(
                f"{_METHOD}: loss.weights.neighbours={asked} is more than the {rows} validation rows: all of "
                "them are everybody's neighbours, so the weight is the same everywhere",
                Caution,
                stacklevel=2,
            )
        self.parts = parts  # no module: the student is the loss's to train and to save
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("points", torch.zeros(rows, 2))
        self.register_buffer("wrong", torch.zeros(rows, dtype=torch.bool))
        self.register_buffer("true", torch.ones(rows))
        self.register_buffer("noisy", torch.ones(rows))
        self.register_buffer("cells", torch.ones((0, 0) if grid is None else (grid, grid)))

    @torch.no_grad()
    def refresh(self) -> Mapping[str, float]:
        student, where = self.parts.student, self.points.device
        with modes.evaluating(student):
            truth, logits, answers = estimators.validation_answers(
                self.parts, lambda b: student(b.views["main"].to(where)), self.parts.teacher
            )
        if not logits.isfinite().all():
            return {}  # the training has diverged: the loss of the next step says so, and names its term
        right = answers.argmax(1) == truth
        if not self.fitted:
            estimators.caution(
                truth, right, _METHOD, "every weight is 1, as without weights", "every answer counts as wrong"
            )
        self.points.copy_(by_neighbours.margins(answers, logits))
        self.wrong.copy_(~right)
        self.true.copy_(cross_entropy(logits, truth))
        self.noisy.copy_(cross_entropy(logits, answers.argmax(1) if self.hard else answers.softmax(1)))
        if self.grid is not None:
            self.cells.copy_(
                by_neighbours.weight_grid(
                    *self._statistics(), k=self.neighbours, estimator=self.estimator, cells=self.grid
                )
            )
        self.fitted.fill_(True)
        weights = self.weights(self.points)
        _, d = by_neighbours.distortion(
            torch.arange(len(truth), device=where)[None], self.wrong, self.true, self.noisy
        )
        return {
            "weight_mean": weights.mean().item(),
            "weight_right": _mean(weights[right]),
            "weight_wrong": _mean(weights[~right]),
            "distortion": d.item(),
            "teacher_wrong": 1 - right.float().mean().item(),
        }

    def forward(self, answers: Tensor, logits: Tensor) -> Tensor:
        return self.weights(by_neighbours.margins(answers, logits))

    def weights(self, margins: Tensor) -> Tensor:
        """(n, 2) margins of teacher and student -> (n,) weights in [0, 1]"""
        if self.grid is not None:
            return by_neighbours.look_up(self.cells, margins)
        points, *rest = self._statistics()
        return by_neighbours.neighbour_weights(
            by_neighbours.nearest_points(points, margins, self.neighbours), *rest, self.estimator
        )

    def _statistics(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.points, self.wrong, self.true, self.noisy


def _mean(weights: Tensor) -> float:
    """1 where there are none: a weight that nothing asks for is the neutral one, and the log holds numbers
    only.
    """
    return weights.mean().item() if len(weights) else 1.0
