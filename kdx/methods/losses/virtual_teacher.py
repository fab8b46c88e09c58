"""Teacher-free distillation by a virtual teacher, Tf-KD_reg (Yuan, Tay, Li, Wang and Feng 2020, "Revisiting
Knowledge Distillation via Label Smoothing Regularization", arXiv 1909.11723)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from kdx.core.checks import number
from kdx.core.math import kl
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams


def virtual_answers(y: Tensor, classes: int, correct: float) -> Tensor:
    """(L,) classes or (L, C) probabilities -> (L, C) probabilities of a teacher who is always right:
    `correct` on the label and the rest even on all others; of mixed labels the mixture of these."""
    marked = F.one_hot(y, classes).float() if y.dim() == 1 else y
    return marked * correct + (1 - marked) * (1 - correct) / (classes - 1)


class VirtualTeacher(Objective):
    """loss = alpha * mean over labelled rows of T^2 KL(virtual^T || student^T) + (1 - alpha) * mean over
    labelled rows of cross-entropy.

    virtual: `virtual_answers`, softened as a teacher's with the logits log virtual would be. correct in
    (1 / C, 1), 0.99 in the paper; temperature > 0, 20 and more there; alpha in [0, 1]. At T = 1 the gradient
    is that of `label_smoothing` with smoothing = alpha (1 - correct) C / (C - 1); with alpha = 0 this is
    `supervised`.

    Deviations: this is the paper's form, both at the temperature, with the T^2 of all losses here. The
    authors' code divides the virtual probabilities themselves by T before a softmax, leaves the student at
    temperature 1, and averages over classes too, times a factor of up to 100: targets that are even to some
    parts in a thousand. Their alpha differs by network. Cost: that of supervised.
    """

    uses = ("labelled",)
    needs_task = Categorical
    reads = ()

    def __init__(self, parts: Parts, *, correct: float, temperature: float, alpha: float):
        super().__init__(parts)
        self.classes = len(self.task.classes)
        self.correct = number(
            "loss.correct", correct, low=1 / self.classes, high=1, open_low=True, open_high=True
        )
        self.temperature = number("loss.temperature", temperature, low=0, open_low=True)
        self.alpha = number("loss.alpha", alpha, low=0, high=1)

    def idle(self) -> Mapping[str, str]:
        why = "loss.alpha=0 gives the virtual teacher no weight: leave one of them out"
        return dict.fromkeys(("correct", "temperature"), why) if self.alpha == 0 else {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        batch = streams["labelled"]
        said = self.student(batch.views["main"])
        virtual = virtual_answers(batch.y, self.classes, self.correct)
        return Outcome(
            terms={
                "virtual": self.alpha * kl(said, virtual.log(), self.temperature).mean(),
                "labels": (1 - self.alpha) * self.task.loss(said, batch.y, self.class_weights).mean(),
            }
        )
