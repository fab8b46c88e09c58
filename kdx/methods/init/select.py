"""Weight selection (Xu et al. 2023, arXiv 2311.18823): a student of evenly spaced numbers of its teacher."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.checks import choice
from kdx.core.errors import UserError
from kdx.methods.init._carry import (
    Carried,
    carry,
    check_depth,
    check_family,
    check_no_larger,
    check_no_longer,
    check_vocabulary,
)
from kdx.methods.init._selection import selected, uniform_indices
from kdx.models.parts import LabelledTensor, TransformerParts, transformer_parts

_ATTENTION = ("attn", "attention", "qkv", "in_proj")


class Select(Initialiser):
    """Each weight of the student is one of the teacher's, along every axis evenly spaced ones: whole heads
    and the same numbers of each where a transformer says what it is made of (decoders, vision
    transformers), else each tensor by its name (residual nets, ConvNeXts and others
    without attention). The student's blocks are the teacher's first ones.

    parts: "all", or "guide", those that init=guide takes (decoders only): table, positions, first block.
    """

    def __init__(self, *, parts: str):
        self.parts = choice("init.parts", parts, ("all", "guide"))

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        own, other = transformer_parts(student), transformer_parts(teacher)
        if own is not None and other is not None:
            self._check_parts(student, teacher, own, other)
        elif self.parts == "guide":
            raise _no_decoders()
        else:
            _pairs_by_name(student, teacher)

    def _check_parts(
        self, student: nn.Module, teacher: nn.Module, own: TransformerParts, other: TransformerParts
    ) -> None:
        check_family("select", own, other)
        check_no_larger("select", own, other, "width", "heads", "head_width", "hidden")
        if self.parts == "all":
            check_depth("select", own, other, len(own.blocks))
        if own.tokens:
            check_vocabulary("select", student, teacher, own, other)
            check_no_longer("select", own, other)
        elif self.parts == "guide":
            raise _no_decoders()
        else:
            _check_same_inputs(own, other)

    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        own, other = transformer_parts(student), transformer_parts(beginning.teacher)
        if own is None or other is None:
            return _select_by_name(student, beginning.teacher)
        everything = self.parts == "all"
        what = Carried(
            table=True,
            positions=True,
            blocks=len(own.blocks) if everything else 1,
            head=everything,
            basis=False,
            norms=True,
        )
        return carry(own, other, what)


def _no_decoders() -> UserError:
    return UserError("init.parts=guide takes what init=guide does, of decoders: set init.parts=all")


def _check_same_inputs(own: TransformerParts, other: TransformerParts) -> None:
    """Of pictures: the same patches and positions, as nothing is selected of these."""
    for name, part in own.whole.items():
        sides = [
            tuple(n for n, counts in zip(each.tensor.shape, each.axes, strict=True) if not counts)
            for each in (part, other.whole.get(name, part))
        ]
        if sides[0] != sides[1]:
            raise UserError(
                f"init=select needs pictures cut alike, and {name} of the student has {sides[0]} where the "
                f"teacher's has {sides[1]}: give both the same patch and size of pictures"
            )


def _pairs_by_name(student: nn.Module, teacher: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """(student's, teacher's) tensors of one name. Raises UserError where the two have no such form."""
    own, other = ({**dict(net.named_parameters()), **dict(net.named_buffers())} for net in (student, teacher))
    mixed = next((name for name in own if any(word in name for word in _ATTENTION)), None)
    if mixed is not None:
        raise UserError(
            f"init=select would mix the heads of attention in {mixed}: it knows those of decoders and of "
            "vision transformers, when student and teacher both are one; take init=fresh"
        )
    lacking = [name for name in own if name not in other]
    wrong = [
        name
        for name, value in own.items()
        if name not in lacking
        and (
            value.dim() != other[name].dim()
            or any(n > of for n, of in zip(value.shape, other[name].shape, strict=True))
        )
    ]
    if lacking or wrong:
        name = (lacking or wrong)[0]
        why = (
            f"{name} of the student is none of the teacher's"
            if lacking
            else f"{name} has {tuple(own[name].shape)} in the student and {tuple(other[name].shape)} in the "
            "teacher"
        )
        raise UserError(
            f"init=select takes a smaller network out of a larger one of the same form, and {why}: choose "
            "two of one family, the teacher wider and at least as deep, or init=fresh"
        )
    return [(value, other[name]) for name, value in own.items()]


def _select_by_name(student: nn.Module, teacher: nn.Module) -> list[str]:
    count = 0
    for own, other in _pairs_by_name(student, teacher):
        axes = tuple(str(axis) for axis in range(own.dim()))
        indices = {
            axis: uniform_indices(of, n) for axis, of, n in zip(axes, other.shape, own.shape, strict=True)
        }
        value = selected(LabelledTensor(other.detach(), axes), own, indices)
        own.detach().copy_(value)
        count += own.numel()
    return [f"all of the student's {count:,} weights come from the teacher, evenly spaced ones of each"]
