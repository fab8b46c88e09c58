"""What of a teacher's parts goes into a student's, and whether the two go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdx.core.errors import UserError, together, type_name
from kdx.methods.init._basis import table_basis
from kdx.methods.init._selection import selected, selected_indices
from kdx.models.parts import LabelledTensor, TransformerParts, transformer_parts

DIGEST = "vocabulary_digest"
"""The buffer by which a network keeps what vocabulary it reads (kdx.models.tokens)."""
_READ_STREAM = ("q.weight", "k.weight", "v.weight", "up.weight", "gate.weight", "head.weight")
_WRITE_STREAM = ("o.weight", "o.bias", "down.weight", "down.bias")
_NORMS = ("norm1", "norm2", "norm")


@dataclass(frozen=True)
class Carried:
    """table, positions, head: whether these come from the teacher; head: the norm before it too. blocks: how
    many, from the first on. basis: the stream is multiplied by the table's directions; False: numbers of it
    are selected. centre: of the basis. projection: "m" or "select", how blocks write into the stream.
    rescale: weights that read the stream are multiplied by the root of (teacher's width / student's). norms:
    they are selected; False: fresh ones, 1 and 0.
    """

    table: bool
    positions: bool
    blocks: int
    head: bool
    basis: bool = True
    centre: bool = False
    projection: str = "m"
    rescale: bool = False
    norms: bool = False


def both_parts(
    init: str, student: nn.Module, teacher: nn.Module
) -> tuple[TransformerParts, TransformerParts]:
    """Those of two networks that read tokens. Raises UserError where one does not say what it is made of."""
    found = []
    for role, network in (("student", student), ("teacher", teacher)):
        parts = transformer_parts(network)
        if parts is None or not parts.tokens:
            raise UserError(
                f"init={init} reads the table and the blocks of decoders, and the {role} "
                f"({network_kind(network)}) is none: choose {role}=gpt_tiny or {role}=llama_tiny, say, or "
                "init=select, which takes pictures too"
            )
        found.append(parts)
    return found[0], found[1]


def network_kind(network: nn.Module) -> str:
    """The name of its class, inside of what prepares its rows."""
    return type_name(dict(network.named_children()).get("net", network)).partition(" ")[2]


def check_no_larger(init: str, student: TransformerParts, teacher: TransformerParts, *names: str) -> None:
    """Of each name ("width", "heads", "head_width", "hidden") the student has no more than the teacher."""
    words = {"head_width": "numbers a head (width / heads)"}
    wrong = [
        f"{words.get(name, name)} {getattr(student, name)} (teacher: {getattr(teacher, name)})"
        for name in names
        if getattr(student, name) > getattr(teacher, name)
    ]
    if wrong:
        raise UserError(
            f"init={init} takes a smaller network out of a larger one, and this student has more of "
            f"{together(wrong)}: give it no more than the teacher has; init=fresh takes any"
        )


def check_depth(init: str, student: TransformerParts, teacher: TransformerParts, blocks: int) -> None:
    if blocks > len(teacher.blocks):
        raise UserError(
            f"init={init} gives each of the student's {len(student.blocks)} blocks one of the teacher's, "
            f"which has {len(teacher.blocks)}: give student.depth={len(teacher.blocks)} at most"
        )


def check_family(init: str, student: TransformerParts, teacher: TransformerParts) -> None:
    if student.family != teacher.family:
        raise UserError(
            f"init={init} copies blocks, and those of a {student.family} student and a {teacher.family} "
            "teacher are made of other parts: choose two of one family, or init=table, which leaves the "
            "blocks fresh"
        )


def check_vocabulary(
    init: str, student: nn.Module, teacher: nn.Module, own: TransformerParts, other: TransformerParts
) -> None:
    """The student's tokens are the first of the teacher's."""
    rows, of = (len(parts.whole["table"].tensor) for parts in (own, other))
    if rows > of:
        raise UserError(
            f"init={init} gives each of the student's {rows} tokens the teacher's embedding, and the teacher "
            f"knows {of}: both must read one vocabulary, or the student's be the first of the teacher's"
        )
    check_digests(init, student, teacher)


def check_digests(init: str, student: nn.Module, teacher: nn.Module) -> None:
    """Both read one vocabulary, where both say which."""
    mine, theirs = _digest(student), _digest(teacher)
    if mine is not None and theirs is not None and not torch.equal(mine, theirs):
        raise UserError(
            f"init={init} needs one vocabulary, and teacher and student read texts by different ones, in "
            "which a number stands for other words: choose init=block, which reads no table, or init=fresh"
        )


def _digest(network: nn.Module) -> Tensor | None:
    """By which vocabulary it reads, None: not known."""
    for name, value in network.named_buffers():
        if name.rpartition(".")[2] == DIGEST and value.any():
            return value.cpu()
    return None


def check_no_longer(init: str, student: TransformerParts, teacher: TransformerParts) -> None:
    own, other = (parts.whole.get("positions") for parts in (student, teacher))
    if own is None or other is None:
        return
    rows, of = (part.tensor.shape[part.axes.index("positions")] for part in (own, other))
    if rows > of:
        raise UserError(
            f"init={init} gives each of the student's {rows} positions the teacher's, which has {of}: set "
            f"init.positions=false, or dataset.length={of} at most"
        )


def carry(
    student: TransformerParts, teacher: TransformerParts, what: Carried, rows: Tensor | None = None
) -> list[str]:
    """Writes what is wanted of the teacher into the student, and says what that was. rows: a permutation of
    the student's tokens, which get each other's rows of the table; None: their own."""
    indices, basis, notes = selected_indices(student, teacher), None, []
    if what.basis:
        table = teacher.whole["table"].tensor[: len(student.whole["table"].tensor)]
        basis, share = table_basis(table, student.width, what.centre)
        notes.append(
            f"{student.width} of {teacher.width} directions hold {share:.1%} of the teacher's table of tokens"
        )
    count = 0
    of = dict(teacher.whole) | ({"head.weight": teacher.whole["table"]} if teacher.tied else {})
    for name, part in student.whole.items():
        if _wanted(name, what) and name in of:
            value = _value(name, part, of[name], what, indices, basis)
            if name == "table" and what.centre and what.basis:
                value = value - value.mean(0)
            part.tensor.copy_(value if rows is None or name != "table" else value[rows])
            count += _came(name, part, what)
    for own, other in list(zip(student.blocks, teacher.blocks, strict=False))[: what.blocks]:
        for name, part in own.items():
            if name in other:
                part.tensor.copy_(_value(name, part, other[name], what, indices, basis))
                count += _came(name, part, what)
    every = sum(part.tensor.numel() for group in (student.whole, *student.blocks) for part in group.values())
    return [*notes, f"{count:,} of the student's {every:,} weights come from the teacher"]


def _wanted(name: str, what: Carried) -> bool:
    """Of a part outside of the blocks."""
    first = name.partition(".")[0]
    if first in ("head", "norm"):
        return what.head
    return {"table": what.table, "positions": what.positions}.get(first, what.table)


def _value(
    name: str,
    own: LabelledTensor,
    other: LabelledTensor,
    what: Carried,
    indices: Mapping[str, Tensor],
    basis: Tensor | None,
) -> Tensor:
    if _is_norm(name):
        if what.norms:
            return selected(other, own.tensor, indices)
        return torch.full(own.tensor.shape, float(name.endswith("weight")), dtype=torch.float64)
    writes = name in _WRITE_STREAM and what.projection == "select"
    found = selected(other, own.tensor, indices, None if writes else basis)
    if what.rescale and name in _READ_STREAM:
        found = found * (len(basis) / basis.shape[1]) ** 0.5 if basis is not None else found
    return found


def _came(name: str, part: LabelledTensor, what: Carried) -> int:
    """How many of its numbers are the teacher's."""
    return 0 if _is_norm(name) and not what.norms else part.tensor.numel()


def _is_norm(name: str) -> bool:
    return name.partition(".")[0] in _NORMS
