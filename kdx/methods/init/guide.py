"""GUIDE (Trinh, Menghani and Vee 2025, arXiv 2510.06502): the student begins inside of the teacher."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.checks import choice, flag
from kdx.methods.init._carry import (
    Carried,
    both_parts,
    carry,
    check_depth,
    check_family,
    check_no_larger,
    check_no_longer,
    check_vocabulary,
)


class Guide(Initialiser):
    """The student's table is the teacher's in the few directions M that hold most of it, E M; the first
    block reads and writes these: its weights are multiplied by M, and of heads, numbers of a head and hidden
    ones some are selected, evenly spaced.

    Where the table has no more directions than the student is wide, what a layer of the first block makes of
    an embedding is exactly what the teacher's makes of it: (E M)(M^T W) = E W. The norms between are not
    linear, so the block as a whole is near to the teacher's, and no more.

    The paper's body was not readable to us: what is derived and not read is an option. centre, rescale,
    projection, norm: see `Carried`; blocks: "first" or "all"; positions, head: whether these come from the
    teacher too.
    """

    def __init__(
        self,
        *,
        centre: bool,
        blocks: str,
        projection: str,
        rescale: bool,
        norm: str,
        positions: bool,
        head: bool,
    ):
        self.centre = flag("init.centre", centre)
        self.blocks = choice("init.blocks", blocks, ("first", "all"))
        self.projection = choice("init.projection", projection, ("m", "select"))
        self.rescale = flag("init.rescale", rescale)
        self.norm = choice("init.norm", norm, ("ones", "select"))
        self.positions, self.head = flag("init.positions", positions), flag("init.head", head)

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        own, other = both_parts("guide", student, teacher)
        check_family("guide", own, other)
        check_no_larger("guide", own, other, "width", "heads", "head_width", "hidden")
        check_depth("guide", own, other, len(own.blocks) if self.blocks == "all" else 1)
        check_vocabulary("guide", student, teacher, own, other)
        if self.positions:
            check_no_longer("guide", own, other)

    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        own, other = both_parts("guide", student, beginning.teacher)
        what = Carried(
            table=True,
            positions=self.positions,
            blocks=len(own.blocks) if self.blocks == "all" else 1,
            head=self.head,
            centre=self.centre,
            projection=self.projection,
            rescale=self.rescale,
            norms=self.norm == "select",
        )
        return carry(own, other, what)
