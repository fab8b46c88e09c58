"""A moving average of a network's weights: the teacher of Mean Teacher, and the network that Noisy Student
and FixMatch evaluate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdx.core.checks import number


def mean_teacher_decay(step: int, decay: float) -> float:
    """min(1 - 1 / (step + 1), decay): the plain mean of all weights so far, until `decay` takes over. step >=
    1 counts the updates.

    Tarvainen and Valpola 2017 (arXiv 1703.01780), section 2 and the authors' code. decay in [0, 1).
    """
    return min(1 - 1 / (step + 1), decay)


def noisy_student_decay(step: int, decay: float) -> float:
    """min(decay, (1 + step) / (10 + step)): about the last tenth of the training, until `decay` takes over.
    step >= 1 counts the updates.

    Xie et al. 2020 (arXiv 1911.04252), the authors' code; TensorFlow's rule for `num_updates`. decay in [0,
    1).
    """
    return min(decay, (1 + step) / (10 + step))


class Average(nn.Module):
    """A copy of a network whose weights follow it: mine = d * mine + (1 - d) * its, with d = rule(number of
    updates, decay).

    Parameters and floating-point buffers (the mean and variance of batch normalisation) are averaged, other
    buffers are copied. With decay 0 the copy is the network itself after each update. The copy takes no
    gradient; it and the count are in the state dict, so that a resumed run goes on bit for bit. Deviation:
    Mean Teacher's code averages the parameters only.
    """

    def __init__(self, network: nn.Module, *, rule: Callable[[int, float], float], decay: float):
        """Copies `network` as it is now, so hooks must be put on it later. Its mode, train or eval, is set by
        whoever holds the average.
        """
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.rule, self.decay = rule, decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the copy towards `network`; to be called after each optimiser step."""
        self.updates += 1
        keep = self.rule(self.updates, self.decay)
        mine, its = [*self.network.parameters()], [*network.parameters()]
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            if own.is_floating_point():
                mine.append(own)
                its.append(other)
            else:
                own.copy_(other)
        torch._foreach_lerp_(mine, its, 1 - keep)

    # The count decides the next decay on the host: as a buffer it would have to be fetched from the
    # accelerator at each step.
    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        self.updates = int(state)


def optional_average(student: nn.Module, ema: float | None) -> Average | None:
    """What `loss.ema` asks for: decay in [0, 1) of the average, by Noisy Student's rule; None: no average."""
    if ema is None:
        return None
    return Average(
        student, rule=noisy_student_decay, decay=number("loss.ema", ema, low=0, high=1, open_high=True)
    )
