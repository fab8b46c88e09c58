"""Late fusion: a network for each input of a row, and one linear layer over what their last layers see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.core.types import Inputs
from kdx.models.adapt import Around


class Fusion(nn.Module):
    """The features of several networks, each of which reads an input and ends in a linear layer, which is
    taken away, side by side through one linear layer (Baltrusaitis et al. 2019, arXiv 1705.09406, section
    6.1: fused late).

    networks: described, one for each input that is read. build: makes the network of a place that reads its
    input; `kdx.models.build_for` gives it. outputs: numbers of an answer.
    """

    networks: ClassVar[tuple[str, ...]] = ("networks",)
    """Keys that name networks of conf/model in a list, as an Objective's."""

    def __init__(self, *, networks: Sequence[Any], build: Callable[[Any, int], nn.Module], outputs: Any):
        super().__init__()
        if not isinstance(outputs, int):
            raise UserError("fusion gives one answer, and here it has several parts: choose another network")
        members = [build(model, place) for place, model in enumerate(networks)]
        wide = [_without_head(member) for member in members]
        self.members = nn.ModuleList(members)
        self.head = nn.Linear(sum(wide), outputs)

    def forward(self, inputs: Inputs) -> Tensor:
        """Rows with the inputs of all members -> (B, outputs)"""
        return self.head(torch.cat([member(inputs).flatten(1) for member in self.members], 1))


def _without_head(member: nn.Module) -> int:
    """Takes the last linear layer away; how many numbers it saw."""
    if isinstance(member, Around):
        member.units = None
    linear = [(name, part) for name, part in member.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UserError(
            f"fusion joins what the last linear layers of its networks see, and {type(member).__name__} has "
            "none: name another in networks"
        )
    name, last = linear[-1]
    above, _, own = name.rpartition(".")
    setattr(member.get_submodule(above), own, nn.Identity())
    return last.in_features
