"""A student that begins with its teacher's first block alone: a control of GUIDE."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.checks import choice, flag
from kdx.methods.init._carry import Carried, both_parts, carry, check_depth, check_family, check_no_larger


class BlockOnly(Initialiser):
    """The student's first block, or all, is the teacher's as in init=guide, written for the directions of the
    teacher's table; the student's own table begins fresh. blocks, projection, rescale, norm: as in guide.
    """

    def __init__(self, *, blocks: str, projection: str, rescale: bool, norm: str):
        self.blocks = choice("init.blocks", blocks, ("first", "all"))
        self.projection = choice("init.projection", projection, ("m", "select"))
        self.rescale = flag("init.rescale", rescale)
        self.norm = choice("init.norm", norm, ("ones", "select"))

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        own, other = both_parts("block", student, teacher)
        check_family("block", own, other)
        check_no_larger("block", own, other, "width", "heads", "head_width", "hidden")
        check_depth("block", own, other, len(own.blocks) if self.blocks == "all" else 1)

    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        own, other = both_parts("block", student, beginning.teacher)
        what = Carried(
            table=False,
            positions=False,
            blocks=len(own.blocks) if self.blocks == "all" else 1,
            head=False,
            projection=self.projection,
            rescale=self.rescale,
            norms=self.norm == "select",
        )
        return carry(own, other, what)
