"""The exponential moving average of a network, for methods whose teacher or exported student is one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from kdx.checks import choice, number


def mean_teacher_decay(decay: float, step: int) -> float:
    """min(1 - 1 / (step + 1), decay): at first the plain mean of all steps. step: from 1. Steps 1, 2, 50: 1/2, 2/3, .9804.

    Tarvainen and Valpola 2017 (arXiv 1703.01780), as its released code does it.
    """
    return min(1 - 1 / (step + 1), decay)


def noisy_student_decay(decay: float, step: int) -> float:
    """min(decay, (1 + step) / (10 + step)): the early weights are forgotten soon. step: from 1. Steps 1, 8: 2/11, 1/2.

    TensorFlow's rule for a given number of updates, which the released code of Noisy Student uses (arXiv 1911.04252).
    """
    return min(decay, (1 + step) / (10 + step))


RULES = {"mean_teacher": mean_teacher_decay, "noisy_student": noisy_student_decay}


class Average(nn.Module):
    """`network`: a copy of a student that follows it, average <- d * average + (1 - d) * student after each step.

    decay in [0, 1): d's upper end; rule: how d grows to it. decay 0 is the student itself.
    buffers: "average" treats buffers of floating point (the running statistics of batch normalisation) as the parameters and copies the
    others; "own" leaves them to the copy, which gathers them in its own forward passes in train mode.
    Its parameters ask for no gradient, so no optimiser moves them. Weights, buffers and the number of steps are all in the state dict: a
    resumed average goes on bit for bit.
    """

    def __init__(self, student: nn.Module, *, decay: float, rule: str, buffers: str):
        super().__init__()
        self.decay = number("loss.ema", decay, low=0, high=1, open_high=True)
        self.rule = choice("the rule of an average", rule, tuple(RULES))
        self.buffers_rule = choice("the buffers of an average", buffers, ("average", "own"))
        self.network = copy.deepcopy(student).requires_grad_(False)
        self.steps = 0

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of the averaged network, without gradient; in the mode, train or eval, that it is in."""
        with torch.no_grad():
            return self.network(pixels)

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """One step of the average. Call it after the optimiser's."""
        self.steps += 1
        decay = RULES[self.rule](self.decay, self.steps)
        ours, theirs = list(self.network.parameters()), list(student.parameters())
        if self.buffers_rule == "average":
            for mine, other in zip(self.network.buffers(), student.buffers(), strict=True):
                if mine.is_floating_point():
                    ours.append(mine)
                    theirs.append(other)
                else:
                    mine.copy_(other)
        if ours:
            torch._foreach_lerp_(ours, theirs, 1 - decay)

    def get_extra_state(self) -> Tensor:
        """The count lives outside the buffers: read from an accelerator at each step, it would stall the training."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)
