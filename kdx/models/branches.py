"""Further heads of a network on one trunk: all layers before one of them are shared and computed once. No
forward of a network is touched: what shared layers give is recorded by hooks and handed to the heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from kdx.core.checks import shown
from kdx.core.errors import WrongStudent, nearest
from kdx.core.types import Answers, Inputs
from kdx.models.modes import evaluating
from kdx.models.pairs import WRAPPED, fitted_to


class Branches(nn.Module):
    """A network's answers and those of further heads, each with layers of its own from one layer on.

    A head is a fresh copy of the network whose shared layers hand over what those of the network itself have
    just computed; parameters that lie directly in modules around the branching layer are shared too. The
    network is left as it is: hooks are on it during a pass only. The gradient of shared parameters is divided
    by the number of answers, so that it is the mean over heads.
    """

    def __init__(
        self, network: nn.Module, new: Callable[[], nn.Module], *, further: int, at: str, example: Inputs
    ):
        """new: makes a network like it, with weights of its own. further: heads beside its own. at: the first
        layer that each head has for itself, by its name; "auto": that after which fewer than half of them
        come. example: one made-up row.
        """
        super().__init__()
        order = executed(network, example)
        self.at = branching_layer(network, order, at)
        self._shared = shared_layers(network, order, self.at)
        self._network = (network,)  # in a tuple: it is no child, and is saved by who trains it
        self._recorded: dict[str, list[Any]] = {}
        self.heads = nn.ModuleList(self._head(new()) for _ in range(further))
        for parameter in self.trunk():
            parameter.register_hook(lambda gradient: gradient / (1 + further))

    def trunk(self) -> list[nn.Parameter]:
        """The shared parameters that are trained."""
        network = self._network[0]
        inside = [p for name in self._shared for p in network.get_submodule(name).parameters()]
        around = [p for name in _around(self.at) for p in network.get_submodule(name)._parameters.values()]
        return [p for p in dict.fromkeys([*inside, *around]) if p is not None and p.requires_grad]

    def own(self, head: int) -> list[nn.Parameter]:
        """The parameters that a further head has for itself, from 0."""
        shared = set(self._network[0].parameters())
        return [p for p in self.heads[head].parameters() if p not in shared and p.requires_grad]

    def forward(self, inputs: Inputs) -> list[Answers]:
        """The answers of the network and of each further head."""
        with self._recording():
            first = self._network[0](inputs)
        answers = [first]
        for head in self.heads:
            for module in head.modules():
                if isinstance(module, Replay):
                    module.turn = 0
            answers.append(head(inputs))
        self._recorded.clear()
        return answers

    def _head(self, fresh: nn.Module) -> nn.Module:
        network = self._network[0]
        for name in self._shared:
            parent, _, last = name.rpartition(".")
            setattr(fresh.get_submodule(parent), last, Replay(self._recorded, name))
        for name in _around(self.at):
            its, own = network.get_submodule(name), fresh.get_submodule(name)
            own._parameters.update(its._parameters)
            own._buffers.update(its._buffers)
        return fresh

    @contextmanager
    def _recording(self) -> Iterator[None]:
        self._recorded.clear()
        handles = []
        for name in self._shared:
            kept: list[Any] = []
            self._recorded[name] = kept
            module = self._network[0].get_submodule(name)
            handles.append(module.register_forward_hook(lambda m, given, made, kept=kept: kept.append(made)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Replay(nn.Module):
    """Stands in for a shared layer: gives what that gave in the same call of this pass."""

    def __init__(self, recorded: Mapping[str, Sequence[Any]], name: str):
        super().__init__()
        self._recorded, self._name, self.turn = recorded, name, 0

    def forward(self, *given: Any, **named: Any) -> Any:
        made = self._recorded[self._name][self.turn]
        self.turn += 1
        return made


def executed(network: nn.Module, example: Inputs) -> dict[str, tuple[int, int]]:
    """Name of each module that runs for one row -> (when it first begins, when it last ends), counted."""
    found: dict[str, tuple[int, int]] = {}
    clock = iter(range(1 << 40))

    def begins(name: str) -> None:
        found.setdefault(name, (next(clock), -1))

    def ends(name: str) -> None:
        found[name] = (found[name][0], next(clock))

    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, given, name=name: begins(name)))
        handles.append(module.register_forward_hook(lambda m, given, made, name=name: ends(name)))
    try:
        with evaluating(network), torch.no_grad():
            network(fitted_to(example, next(network.parameters(), torch.zeros(()))))
    finally:
        for handle in handles:
            handle.remove()
    return found


def branching_layer(network: nn.Module, order: Mapping[str, tuple[int, int]], at: str) -> str:
    """The full name of the layer that a user names, or of the one that "auto" stands for. Raises
    UserError."""
    if at == "auto":
        return _halfway(network, order)
    names = {name.removeprefix(WRAPPED): name for name in order if name}
    if not isinstance(at, str) or at not in names:
        raise WrongStudent(f"loss.branch_at: the student has no layer {shown(at)}{nearest(str(at), names)}")
    return names[at]


def _halfway(network: nn.Module, order: Mapping[str, tuple[int, int]]) -> str:
    place = ""
    while True:
        inside = network.get_submodule(place)
        named = {f"{place}.{name}".lstrip("."): child for name, child in inside.named_children()}
        layers = sorted(
            (
                name
                for name, child in named.items()
                if name in order and any(True for _ in child.parameters())
            ),
            key=lambda name: order[name],
        )
        if not layers:
            raise WrongStudent(
                "loss=collaborative gives the student several heads, and it has no layers to share: choose "
                "another student, or loss=mutual"
            )
        if len(layers) > 1 or not any(True for _ in named[layers[0]].children()):
            return layers[min(math.ceil(len(layers) / 2), len(layers) - 1)]
        place = layers[0]


def shared_layers(network: nn.Module, order: Mapping[str, tuple[int, int]], at: str) -> list[str]:
    """The modules that end before the branching layer begins, without those inside of others."""
    begins = order[at][0]
    before = {name for name, (_, end) in order.items() if -1 < end < begins}
    return [name for name in order if name in before and not any(above in before for above in _around(name))]


def _around(name: str) -> list[str]:
    """The modules that a module lies in, from the whole network down."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))]
