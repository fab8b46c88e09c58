"""Between rows with several inputs by name and networks, each of which reads its own: a picture with a table,
of which the teacher reads the one and the student the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest, rows_called, together
from kdx.models.adapt import Adapter


class NamedInputs(Adapter):
    """kinds: name -> what that input is, a word that networks read, such as "pictures". inputs: name -> the
    adapter of that input, None: nothing stands between it and a network."""

    def __init__(self, *, kinds: Mapping[str, str], inputs: Mapping[str, Any]):
        """inputs: as they are described, a `_target_` and its keys, which Component.build makes."""
        self.kinds = dict(kinds)
        self.inputs: dict[str, Adapter | None] = {
            name: None if described is None else described.build_as(Adapter, f"'{name}' has no adapter")
            for name, described in inputs.items()
        }

    def wrap(self, made: Any, shape: Any) -> nn.Module:
        raise TypeError("a network reads one of the inputs: kdx.models.build_for chooses it")

    def small(self, inputs: Any) -> np.ndarray | None:
        """Of each input that has such, side by side."""
        found = [
            few
            for name, adapter in self.inputs.items()
            if adapter is not None and (few := adapter.small(inputs[name])) is not None
        ]
        return np.concatenate(found, 1) if found else None

    def displayed(self, inputs: Any) -> list[str] | None:
        """Of the first that is shown as text."""
        each = (adapter.displayed(inputs[name]) for name, adapter in self.inputs.items() if adapter)
        return next((found for found in each if found is not None), None)

    def files(self) -> dict[str, str]:
        return {file: text for one in self.inputs.values() if one for file, text in one.files().items()}


def asked_inputs(key: str, asked: Any) -> tuple[str, ...]:
    """The names of inputs that a network is to read, () where none is asked for. key: "teacher.reads"."""
    several = [asked] if isinstance(asked, str) else [] if asked is None else asked
    if not isinstance(several, list | tuple) or not all(isinstance(name, str) and name for name in several):
        raise UserError(
            f"{key} must name an input of a row, such as {key}=picture, or several, such as "
            f"{key}=[picture,table]; given: {shown(asked)}"
        )
    return tuple(several)


def check_several(kinds: Mapping[str, str], wanted: Sequence[str], count: int, called: str, key: str) -> None:
    """Whether a fusion of `count` networks goes with the inputs that it is to read. key: "student.reads". See
    `input_to_read`. Raises UserError.
    """
    networks = f"{key.removesuffix('reads')}networks"
    said = f"{called} is made of {count} network{'s' * (count != 1)}"
    names = ",".join(kinds)
    if count < 2:
        raise UserError(
            f"{said}, and joins two or more: name a network for each input ({names}) in {networks}, "
            "or choose that network alone"
        )
    if count == len(wanted) or (not wanted and count <= len(kinds)):
        return
    if not wanted or count < len(wanted):
        which = f"{key} names {len(wanted)}" if wanted else f"rows here have {len(kinds)}"
        raise UserError(f"{said}, and {which} inputs: name a network for each in {networks}")
    cure = f"{key}=[{','.join(list(kinds)[:count])}]" if count <= len(kinds) else f"in {key}"
    raise UserError(
        f"{said}, and {key}={','.join(wanted)}, of the inputs {names}, names {len(wanted)}: say what each of "
        f"the networks reads, in their order, {cure}"
    )


def input_to_read(
    kinds: Mapping[str, str], wanted: Sequence[str], reads: Collection[str], called: str, key: str
) -> str:
    """Which of the inputs a network reads: the one that is asked for, else the only one that it can read.

    kinds: name -> what that input is; wanted: what `check_reads` gave; reads: what the network says that it
    reads. Raises UserError where that is none, or not one.
    """
    held = together([f"{name} ({rows_called(kind)})" for name, kind in kinds.items()])
    for name in wanted:
        if name not in kinds:
            raise UserError(f"{key}={name}: rows here have the inputs {held}{nearest(name, kinds)}")
    if len(wanted) > 1:
        raise UserError(
            f"{key} names {len(wanted)} inputs, and {called} reads one: name one, or set "
            f"{key.partition('.')[0]}=fusion, which is made of a network for each"
        )
    read = " or ".join(map(rows_called, reads))
    found = [name for name in (wanted or kinds) if kinds[name] in reads]
    if not found:
        where = f"{wanted[0]} holds {rows_called(kinds[wanted[0]])}" if wanted else f"rows here have {held}"
        raise UserError(f"{called} reads {read}, and {where}: choose a network that reads those")
    if len(found) > 1:
        raise UserError(
            f"{called} reads {read}, and rows here have the inputs {held}: say which it is to read, "
            f"{' or '.join(f'{key}={name}' for name in found)}"
        )
    return found[0]
