"""GUIDE without the meaning of words: a control of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.checks import flag
from kdx.methods.init._carry import (
    Carried,
    both_parts,
    carry,
    check_family,
    check_no_larger,
    check_no_longer,
    check_vocabulary,
)


class Shuffled(Initialiser):
    """As init=guide, but each token gets the row of another one, drawn at random: the table has the same
    spectrum and the same scale, and says nothing of any word. positions: as in guide.
    """

    def __init__(self, *, positions: bool):
        self.positions = flag("init.positions", positions)

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        own, other = both_parts("shuffled", student, teacher)
        check_family("shuffled", own, other)
        check_no_larger("shuffled", own, other, "width", "heads", "head_width", "hidden")
        check_vocabulary("shuffled", student, teacher, own, other)
        if self.positions:
            check_no_longer("shuffled", own, other)

    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        own, other = both_parts("shuffled", student, beginning.teacher)
        drawn = beginning.generator
        order = torch.randperm(len(own.whole["table"].tensor), generator=drawn, device=drawn.device).cpu()
        what = Carried(table=True, positions=self.positions, blocks=1, head=False)
        return [*carry(own, other, what, order), "the rows of the table are shuffled"]
