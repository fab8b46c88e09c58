"""Vanilla distillation with unlabelled examples: labels on the labelled rows, the teacher's word on the pool (soft or hard)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kdx.checks import flag
from kdx.core import Objective, Outcome, Parts, Streams
from kdx.functional import cross_entropy, margin


class Soft(Objective):
    """loss = (sum over labelled rows of CE(y, student) + sum over pool rows of w * CE(q, student)) / all rows, and the features' terms.

    q: the teacher's probabilities, or with hard its first choice. weights, features: components, built with `parts`; w in [0, 1]. Labelled
    and pool rows share one forward pass. With w = 1 and no features this is plain distillation at temperature 1.
    """

    uses = ("labelled", "unlabelled")

    def __init__(self, parts: Parts, *, hard: bool, weights: Any, features: Any):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.hard = flag("loss.hard", hard)
        self.weights, self.features = weights.build(parts), features.build(parts)

    def refresh(self) -> Mapping[str, float]:
        return self.weights.refresh()

    def forward(self, streams: Streams, progress: float) -> Outcome:
        labelled, pool = streams["labelled"], streams["unlabelled"]
        pixels = torch.cat([labelled.views["main"], pool.views["main"]])
        logits = self.student(pixels)
        features = self.features(pixels)
        own, answers = logits[len(labelled) :], self.teacher(pool)
        weight = self.weights(answers, own.detach())
        targets = answers.argmax(1) if self.hard else answers.softmax(1)
        return Outcome(
            terms={
                "labels": cross_entropy(logits[: len(labelled)], labelled.y).sum() / len(logits),
                "pool": (weight * cross_entropy(own, targets)).sum() / len(logits),
                **features,
            },
            monitors={
                "agreement": (own.argmax(1) == answers.argmax(1)).float().mean(),
                "unlabelled/weight": weight,
                "unlabelled/student_margin": margin(own.detach().float().softmax(1)),
            },
        )
