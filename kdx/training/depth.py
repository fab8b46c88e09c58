"""How a network that comes with weights is fine-tuned: its last layer first, then all, with rates by
depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from kdx.core.errors import UserError
from kdx.core.types import ParameterGroup
from kdx.models.depth import layers_by_depth
from kdx.training.settings import Training


def groups_by_depth(
    groups: Sequence[ParameterGroup], network: nn.Module, settings: Training, steps: int
) -> Sequence[ParameterGroup]:
    """The groups of a training with the parameters of `network` in one group a layer: the rate of the last is
    that of their group, of each layer before it `layer_decay` times that of the next (Howard and Ruder 2018,
    arXiv 1801.06146), and all but the last wait until `head_first` is over (Kumar et al. 2022, arXiv
    2202.10054). As they are where neither is asked for.
    """
    first = settings.head_first if isinstance(settings.head_first, int) else settings.head_first * steps
    if not first and settings.layer_decay == 1:
        return groups
    check_head_first("teacher_pretrain", settings.head_first, steps)
    layers = layers_by_depth(network)
    return [made for group in groups for made in _split(group, layers, settings.layer_decay, round(first))]


def check_head_first(node: str, first: int | float, steps: int) -> None:
    """Raises UserError where the last layer would learn alone for longer than the training lasts. node: of
    the settings."""
    if isinstance(first, int) and first > steps:
        raise UserError(
            f"{node}.head_first={first} steps are more than the {steps} of the training: fewer, or a share "
            "such as 0.2"
        )


def _split(
    group: ParameterGroup, layers: Sequence[Sequence[nn.Parameter]], decay: float, first: int
) -> Iterator[ParameterGroup]:
    held = {id(parameter) for parameter in group.parameters}
    known: set[int] = set()
    for number, layer in enumerate(layers, 1):
        mine = [parameter for parameter in layer if id(parameter) in held]
        known |= {id(parameter) for parameter in mine}
        after, last = len(layers) - number, number == len(layers)
        if mine:
            name, rate = f"{group.name}/{number}", group.rate * decay**after
            yield replace(group, name=name, parameters=mine, rate=rate, begins=0 if last else first)
    rest = [parameter for parameter in group.parameters if id(parameter) not in known]
    if rest:
        yield replace(group, parameters=rest)
