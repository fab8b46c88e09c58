"""A student that begins with its teacher's words alone: a control of GUIDE."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.checks import flag
from kdx.methods.init._carry import (
    Carried,
    both_parts,
    carry,
    check_no_larger,
    check_no_longer,
    check_vocabulary,
)


class TableOnly(Initialiser):
    """The student's table of tokens is the teacher's in the directions that hold most of it, as in
    init=guide; the blocks begin fresh, and may be of another family. centre: see `Carried`. positions: the
    table of positions too.
    """

    def __init__(self, *, centre: bool, positions: bool):
        self.centre, self.positions = flag("init.centre", centre), flag("init.positions", positions)

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        own, other = both_parts("table", student, teacher)
        check_no_larger("table", own, other, "width")
        check_vocabulary("table", student, teacher, own, other)
        if self.positions:
            check_no_longer("table", own, other)

    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        own, other = both_parts("table", student, beginning.teacher)
        what = Carried(table=True, positions=self.positions, blocks=0, head=False, centre=self.centre)
        return carry(own, other, what)
