"""Adversarially robust distillation (Goldblum, Fowl, Feizi and Goldstein 2020, AAAI, arXiv 1905.09747): the
student learns to answer on attacked pictures what the teacher answers on clean ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kdx.core.attack import ascend, box, usual_step
from kdx.core.checks import integer, number
from kdx.core.count import Count
from kdx.core.errors import UserError
from kdx.core.trees import moved
from kdx.core.types import Answers, Inputs, Objective, Outcome, Parts, Streams
from kdx.methods.forward import TaughtPass, known_and_own, taught_pass
from kdx.models.modes import evaluating

_NUMBERS = 4
"""Dimensions of a batch of pictures."""


class AdversarialKD(Objective):
    """loss = alpha * mean over all rows of match(student on the attacked row, teacher, T) + (1 - alpha) *
    mean over labelled rows of the task's own loss on the row as it is: equation 4 of the paper.

    The attack is `steps` of projected gradient ascent (`kdx.core.attack.ascend`), from a random place in the
    box of epsilon around the row, on the loss of the label, and of a pool row, which the paper has none of,
    on the distance from the teacher's answer. The teacher answers the row that is not attacked. temperature >
    0; alpha in [0, 1]; epsilon in [0, 1], the largest change of a value in [0, 1]: 0 is `kd`, bit for bit;
    steps >= 1; step: of one of them, > 0, None: 2.5 epsilon / steps. Deviation: while it is attacked the
    student is in eval mode, so that its running statistics are of rows that it learns from. Cost: steps
    forward and backward passes, and one more forward pass, beside those of `kd`.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    reads_kept = True
    attacks: Count
    """Batches attacked so far: the seed of where the next attack begins, so that a resume is exact."""

    def __init__(
        self,
        parts: Parts,
        *,
        temperature: float,
        alpha: float,
        epsilon: float,
        steps: int,
        step: float | None,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.temperature = number("loss.temperature", temperature, low=0, open_low=True)
        self.alpha = number("loss.alpha", alpha, low=0, high=1)
        self.epsilon = number("loss.epsilon", epsilon, low=0, high=1)
        self.steps = integer("loss.steps", steps, low=1, high=1000)
        usual = usual_step(self.epsilon, self.steps)
        self.attacks = Count()
        self.step = usual if step is None else number("loss.step", step, low=0, high=1, open_low=True)

    def idle(self) -> Mapping[str, str]:
        if self.epsilon == 0:
            return dict.fromkeys(("steps", "step"), "loss.epsilon=0 moves nothing: leave one of them out")
        return {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made, y = taught_pass(self, streams), streams["labelled"].y
        if self.epsilon == 0:
            apart, known = made.apart_and_known(y, self.temperature, self.class_weights)
        else:
            said = self.student(self.attacked(made, y))
            apart = self.task.match(said, made.answers, self.temperature).mean()
            known = self.task.loss(made.known, y, self.class_weights).mean()
        terms = {"distillation": self.alpha * apart, "labels": (1 - self.alpha) * known}
        return Outcome(terms, made.monitors())

    def attacked(self, made: TaughtPass, y: Answers) -> Tensor:
        """The rows of a step, moved against the student as it is."""
        x, labelled = picture_rows(made.shown), len(made.batches[0])
        low, high = box(x, self.epsilon)
        draws = torch.rand(x.shape, generator=torch.Generator().manual_seed(self.attacks.next()))
        begin = low + (high - low) * moved(draws, x.device).to(x)
        pool = known_and_own(made.answers, labelled)[1] if len(made.batches) > 1 else None

        def loss(moved: Tensor) -> Tensor:
            known, own = known_and_own(self.student(moved), labelled)
            of_labels = self.task.loss(known, y)
            if pool is None:
                return of_labels
            return torch.cat([of_labels, self.task.match(own, pool, self.temperature)])

        with evaluating(self.student):
            return ascend(x, loss, epsilon=self.epsilon, step=self.step, steps=self.steps, begin=begin)


def picture_rows(shown: Inputs) -> Tensor:
    """A batch of pictures. Raises UserError where it is something else."""
    if not isinstance(shown, Tensor) or shown.dim() != _NUMBERS or not shown.is_floating_point():
        raise UserError(
            "loss=adversarial_kd moves the values of pictures, and this data set holds other rows: choose "
            "loss=kd, or set loss.epsilon=0"
        )
    return shown
