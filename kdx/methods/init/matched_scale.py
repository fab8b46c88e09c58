"""Random numbers of the size of the teacher's: a control of GUIDE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.methods.init._carry import both_parts


class MatchedScale(Initialiser):
    """The student's table of tokens is drawn from a normal distribution with mean 0 and the root mean square
    of the teacher's; all else begins fresh. A table of the wrong scale alone can slow the training down
    (arXiv 2407.12514). The student may have any width and any family.
    """

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        both_parts("matched_scale", student, teacher)

    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        own, other = both_parts("matched_scale", student, beginning.teacher)
        scale = other.whole["table"].tensor.double().square().mean().sqrt().item()
        table, drawn = own.whole["table"].tensor, beginning.generator
        table.copy_(scale * torch.randn(table.shape, generator=drawn, device=drawn.device))
        return [f"the table of tokens is drawn with the deviation of the teacher's, {scale:.3g}"]
