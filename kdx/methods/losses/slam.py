"""SLaM: Student-Label Mixing for distillation with unlabelled examples (arXiv 2302.03806).

The teacher's answer is taken for right with probability alpha, and else for any of the other k - 1 of its
first k choices: the student's prediction, mixed in that way, is fitted to the answer, and the plain student
is what is used afterwards. The mix is the paper's Remark B.1; how alpha(x) and k(x) are estimated in detail,
and whether its tables are of hard or soft answers, could not be checked against the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdx.core.checks import choice, flag, integer, number, refuse
from kdx.core.math import margin
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods import estimators
from kdx.methods.forward import forward_with_teacher
from kdx.methods.hidden_terms import HiddenTerms

_METHOD = "loss=slam"
_LEAST = 1e-7
"""Outside the first k choices the mix is alpha * f, which may be nothing."""


def first_choices(probs: Tensor, k: Tensor) -> Tensor:
    """(B, C) probabilities, (B,) int64 -> (B, C) of 0 and 1: marks the k[b] largest entries of row b; of
    equal ones the first.
    """
    order = probs.argsort(dim=1, descending=True, stable=True)
    marks = torch.arange(probs.shape[1], device=probs.device) < k[:, None]
    return torch.zeros_like(probs).scatter_(1, order, marks.to(probs.dtype))


def mixed_answers(student: Tensor, teacher: Tensor, alpha: Tensor, k: Tensor, *, normalised: bool) -> Tensor:
    """(B, C) probabilities of both, (B,) alpha in [0, 1], (B,) int64 k in [2, C] -> (B, C): alpha f + (1 -
    alpha) (1 - f) on the first k.

    Remark B.1: without normalisation the entries lie in [0, max(alpha, 1 - alpha)] and do not sum to 1, so
    this is nothing to hand to a KL divergence. normalised divides the second part by k - 1, the form of the
    theory, whose sum is 1 where the student's mass lies on the first k. For k = 2 the two are the same.
    """
    others = (1 - student) * first_choices(teacher, k)
    if normalised:
        others = others / (k[:, None] - 1)
    return alpha[:, None] * student + (1 - alpha[:, None]) * others


def slam_loss(
    student: Tensor, teacher: Tensor, alpha: Tensor, k: Tensor, *, hard: bool, normalised: bool
) -> Tensor:
    """As `mixed_answers` -> (B,): cross-entropy of the mix to the teacher's first choice (hard) or its
    probabilities, nats, >= 0.

    The first k choices come from the teacher's probabilities in both. alpha = 1 is plain cross-entropy.
    """
    log_mix = mixed_answers(student, teacher, alpha, k, normalised=normalised).clamp_min(_LEAST).log()
    if hard:
        return -log_mix.gather(1, teacher.argmax(1, keepdim=True))[:, 0]
    return -(teacher * log_mix).sum(1)


class SLaM(Objective):
    """loss = (sum over labelled rows of CE(y, student) + sum over pool rows of w * slam) / all rows, and the
    features' terms.

    hard, normalised: see `slam_loss` and `mixed_answers`. alpha_floor in [0.5, 1]: alpha(x) = max(floor,
    isotonic fit of the teacher's accuracy on its margin); 1 is distillation without a mix. k: the number of
    choices, in [2, C]; null: the smallest, at least 2, whose estimated top-k accuracy (by the score
    `top_k_by`, see `kdx.methods.estimators.top_k_score`) reaches threshold, in [0, 1]. Both are fitted once,
    by the first `refresh`, on the teacher's answers to validation, one view of each row such as the pool has;
    before that alpha is 1. weights, features: components, built with `parts`.
    """

    uses = ("labelled", "unlabelled")
    needs_task = Categorical
    reads_validation = True

    def __init__(
        self,
        parts: Parts,
        *,
        hard: bool,
        normalised: bool,
        alpha_floor: float,
        k: int | None,
        threshold: float,
        top_k_by: str,
        weights: Any,
        features: Any,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.hard, self.normalised = flag("loss.hard", hard), flag("loss.normalised", normalised)
        self.floor = number("loss.alpha_floor", alpha_floor, low=0.5, high=1)
        self.k = None if k is None else integer("loss.k", k, low=2)
        classes = len(parts.task.classes)
        if self.k is not None and isinstance(k, int) and k > classes:
            refuse(
                f"loss.k={k} is more than the {classes} classes: give 2 to {classes}, or "
                "null to have it estimated"
            )
        self.threshold = number("loss.threshold", threshold, low=0, high=1)
        self.by = choice("loss.top_k_by", top_k_by, estimators.BY)
        rows = len(estimators.validation_split(parts.validation, _METHOD))
        self.parts = parts  # no module: its student is trained and saved as this loss's own
        self.weights, self.features = weights.build(parts), HiddenTerms(features, parts)
        knots = max(2, rows)
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("alpha_knots", torch.zeros(knots))
        self.register_buffer("alpha_values", torch.ones(knots))
        self.register_buffer(
            "cuts", torch.cat([torch.tensor([torch.inf]), torch.full((classes - 1,), -torch.inf)])
        )

    def idle(self) -> Mapping[str, str]:
        why = None
        if len(self.parts.task.classes) == 2:
            why = "it is what k is estimated by, and of two classes k is 2: leave it out"
        elif self.k is not None:
            why = f"it is what k is estimated by, and loss.k={self.k}: leave one of them out"
        return dict.fromkeys(("threshold", "top_k_by"), why) if why else {}

    @torch.no_grad()
    def refresh(self) -> Mapping[str, float]:
        return {**super().refresh(), **({} if self.fitted else self.fit())}

    def fit(self) -> Mapping[str, float]:
        truth, answers = estimators.validation_answers(self.parts, self.teacher)
        probs = answers.softmax(1)
        right = probs.argmax(1) == truth
        estimators.caution(
            truth,
            right,
            _METHOD,
            "alpha is 1 everywhere, which is distillation without a mix",
            f"alpha is its floor, {self.floor:g}, everywhere, and the answers are of little use",
        )
        knots, values = estimators.isotonic(margin(probs), right.float())
        self.alpha_knots.copy_(knots)
        self.alpha_values.copy_(values)
        self.cuts.copy_(estimators.top_k_cuts(probs, truth, self.threshold, self.by))
        self.fitted.fill_(True)
        alpha, k = self.mixing(probs)
        return {
            "teacher_right": right.float().mean().item(),
            "alpha_mean": alpha.mean().item(),
            "k_mean": k.float().mean().item(),
        }

    def curves(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """margin/isotonic: the teacher's accuracy as fitted; margin/alpha: what is made of it, at least the
        floor (margin/floor).
        """
        if not self.fitted:
            return {}
        # Where the fit crosses the floor alpha has a corner of its own.
        corner = estimators.reaches(self.alpha_knots, self.alpha_values, self.floor)
        further = torch.tensor(
            [0.0, 1.0, *([corner] if math.isfinite(corner) else [])], device=self.alpha_knots.device
        )
        x = torch.cat([self.alpha_knots, further]).unique()
        fit = estimators.interpolate(x, self.alpha_knots, self.alpha_values)
        return {
            "margin/isotonic": (x, fit),
            "margin/alpha": (x, fit.clamp_min(self.floor)),
            "margin/floor": (x, torch.full_like(x, self.floor)),
        }

    def mixing(self, probs: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's (n, C) probabilities -> alpha (n,) in [floor, 1] and k (n,) int64 in [2, C]"""
        alpha = estimators.interpolate(margin(probs), self.alpha_knots, self.alpha_values).clamp_min(
            self.floor
        )
        k = (
            estimators.smallest_k(probs, self.cuts, self.by)
            if self.k is None
            else torch.full_like(alpha, self.k, dtype=torch.int64)
        )
        return alpha, k

    def forward(self, streams: Streams, progress: float) -> Outcome:
        joint = forward_with_teacher(self, streams, progress)
        teacher = joint.answers.softmax(1)
        alpha, k = self.mixing(teacher)
        losses = slam_loss(
            joint.own.float().softmax(1), teacher, alpha, k, hard=self.hard, normalised=self.normalised
        )
        return joint.outcome(losses, alpha=alpha, k=k)
