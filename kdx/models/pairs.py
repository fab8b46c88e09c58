"""Hidden layers of the student beside those of the teacher: which ones, and their features at one size. For
terms on hidden features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest
from kdx.core.trees import tree
from kdx.core.types import Frozen, Inputs, Parts
from kdx.models.modes import evaluating
from kdx.models.tap import Tap, check_tappable, penultimate

WRAPPED = "net."
"""What the names of a network's own layers begin with inside kdx.models.adapt; users leave it out."""


@dataclass(frozen=True)
class Layer:
    """name: as the user writes it. channels, size: (C, H, W) of its feature as a map, for one row."""

    name: str
    module: nn.Module
    channels: int
    size: tuple[int, int]


def as_map(feature: Tensor) -> Tensor:
    """(B, C, H, W), (B, D) or (B, N, D) -> (B, C, H, W). A dense feature is a map of 1x1, and so is the mean
    of N tokens, unless they are a square, with or without one more in front for the class: then they are the
    map that they were made of.
    """
    if feature.dim() == 4:
        return feature
    if feature.dim() == 2:
        return feature[:, :, None, None]
    side = math.isqrt(feature.shape[1])
    if feature.shape[1] - side**2 not in (0, 1):
        return feature.mean(1)[:, :, None, None]
    return feature[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))


def fitted_to(example: Inputs, like: Tensor) -> Inputs:
    """The made-up row where a network's weights lie, its numbers as precise as these."""
    return tree(lambda leaf: leaf.to(like) if leaf.is_floating_point() else leaf.to(like.device), example)


@torch.no_grad()
def survey(network: nn.Module, example: Inputs) -> list[Layer]:
    """The layers whose output for `example`, one row, is a feature, in the order in which they are done; the
    answer is among them.
    """
    names = {module: name.removeprefix(WRAPPED) for name, module in network.named_modules()}
    found: dict[nn.Module, Layer] = {}

    def note(module: nn.Module, given: tuple, made: object) -> None:
        if isinstance(made, Tensor) and made.dim() in (2, 3, 4) and made.shape[0] == 1:
            feature = as_map(made)
            # a layer that runs several times stands where it last ran, as a Tap sees it
            found.pop(module, None)
            found[module] = Layer(names[module], module, feature.shape[1], tuple(feature.shape[2:]))

    handles = [module.register_forward_hook(note) for module in names]
    try:
        like = next(network.parameters(), torch.zeros(()))
        with evaluating(network):
            network(fitted_to(example, like))
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def deepest_layers(layers: Sequence[Layer]) -> list[Layer]:
    """The last layer at each size of map, the deepest last. Sizes of 1x1 (pooled, dense) do not count, nor
    what lies inside a block: in a module that gives a map itself and is no plain sequence of others.
    """
    maps = [layer for layer in layers if layer.size != (1, 1)]
    blocks = tuple(f"{layer.name}." for layer in maps if not isinstance(layer.module, nn.Sequential))
    return list({layer.size: layer for layer in maps if not layer.name.startswith(blocks)}.values())


def one_teacher(parts: Parts) -> tuple[Frozen, Inputs]:
    """(the teacher whose hidden layers a term reads, a made-up row). Raises UserError where there is none, or
    several."""
    if not parts.live_teachers:
        raise UserError(
            "loss.features reads the hidden features of the teacher's network, and this run has no "
            "teacher: set loss.features=none"
        )
    if len(parts.live_teachers) > 1:
        raise UserError(
            "loss.features reads the hidden features of one teacher's network, and this run has "
            f"{len(parts.live_teachers)} teachers: set loss.features=none, or name one with teacher="
        )
    if parts.example is None:
        raise ValueError("terms on hidden features need Parts.example")
    return parts.live_teachers[0], parts.example


@torch.no_grad()
def last_states(network: nn.Module, example: Inputs) -> nn.Module | None:
    """The module that is done last of those that give a sequence of hidden states, (B, N, D), for one row;
    None: there is none. The answer itself is no such sequence.
    """
    found: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, given: tuple, made: object) -> None:
        if isinstance(made, Tensor) and made.dim() == 3:
            found.append((module, made))

    handles = [module.register_forward_hook(note) for module in network.modules()]
    try:
        like = next(network.parameters(), torch.zeros(()))
        with evaluating(network):
            answer = network(fitted_to(example, like))
    finally:
        for handle in handles:
            handle.remove()
    return next((module for module, made in reversed(found) if made is not answer), None)


class Side:
    """What the terms read of one of the two networks: the student or the teacher."""

    def __init__(self, network: nn.Module, example: Inputs, role: str, key: str | None = None):
        """key: the setting that names its layers, for sentences; None: `loss.layers.ROLE`."""
        check_tappable(network, role)
        self.network, self.role, self.key = network, role, key or f"loss.layers.{role}"
        self.layers = survey(network, example)
        self.stages = deepest_layers(self.layers)

    def named(self, names: Sequence[str]) -> list[Tap]:
        """A tap on each named layer.
        UserError where there is none, or where it gives nothing that can be read.
        """
        known = {layer.name: layer for layer in self.layers}
        for name in names:
            if name not in known:
                shown = (
                    ", ".join(f"{s.name} ({s.channels}x{s.size[0]}x{s.size[1]})" for s in self.stages)
                    or "the one before the last linear layer"
                )
                raise UserError(
                    f"{self.key}: the {self.role} has no layer '{name}' with a feature to read"
                    f"{nearest(name, filter(None, known))}; auto takes of: {shown}"
                )
        return [Tap(known[name].module, at="output") for name in names]


class Pairs:
    """Features of student and teacher for the same pictures, layer by layer, as maps of one size.

    student, teacher: names of layers, or "auto". The two lists are as long, and stand in the order in which
    they are paired. Auto is `deepest_layers`, from the deepest up, as many as the other side has; of a
    network without maps, what its last linear layer sees. With `middle` there is one pair, and auto is the
    middle one of these (of an even number the later); with `last` the last.

    The larger of two maps is averaged down to the smaller, side by side (`read`), or left as it is (`take`);
    a dense feature is a map of 1x1. shapes, channels: (student's, teacher's) of each pair, as they are: (C,
    H, W), and C.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        middle: bool,
        last: bool = False,
    ):
        self.teacher, example = one_teacher(parts)
        asked = {"student": asked_names("student", student), "teacher": asked_names("teacher", teacher)}
        networks = {"student": parts.student, "teacher": self.teacher.network}
        sides = {role: Side(network, example, role) for role, network in networks.items()}
        counts = {
            role: 1 if middle or last else len(names) if names else len(sides[role].stages) or 1
            for role, names in asked.items()
        }
        count = min(counts.values())
        for role, names in asked.items():
            if names and len(names) != count:
                raise UserError(
                    f"loss.layers.{role} names {len(names)} layers, and there is {count} to pair them "
                    "with: name as many on both sides"
                )
        taps = {role: _choose(sides[role], names, count, middle) for role, names in asked.items()}
        self.taps = list(zip(taps["student"], taps["teacher"], strict=True))
        with torch.no_grad(), evaluating(parts.student):
            like = next(parts.student.parameters(), torch.zeros(()))
            row = fitted_to(example, like)
            parts.student(row)
            self.shapes = [(tuple(s.shape[1:]), tuple(t.shape[1:])) for s, t in self.take(row)]
        self.channels = [(s[0], t[0]) for s, t in self.shapes]

    def read(self, inputs: Inputs) -> list[tuple[Tensor, Tensor]]:
        """For B rows that the student has just been shown: (B, Cs, h, w) with gradient and (B, Ct, h, w)
        without, a pair.
        """
        return [_alike(s, t) for s, t in self.take(inputs)]

    def take(self, inputs: Inputs) -> list[tuple[Tensor, Tensor]]:
        """As `read`, each map at its own size."""
        self.teacher(inputs)
        return [(as_map(s.take()), as_map(t.take())) for s, t in self.taps]


def asked_names(role: str, asked: str | Sequence[str], key: str | None = None) -> list[str] | None:
    """None: auto. key: as of a `Side`."""
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"{key or f'loss.layers.{role}'} must be auto, the name of a layer or a list of names, such as "
            f"[stage1, stage2]; given: {shown(asked)}"
        )
    return None if names == ["auto"] else names


def _choose(side: Side, names: list[str] | None, count: int, middle: bool) -> list[Tap]:
    if names:
        return side.named(names)
    if not side.stages:
        return [penultimate(side.network)]
    chosen = side.stages[len(side.stages) // 2 :][:1] if middle else side.stages[-count:]
    return [Tap(layer.module, at="output") for layer in chosen]


def _alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both averaged down to the smaller height and the smaller width of the two."""
    size = [min(sides) for sides in zip(student.shape[2:], teacher.shape[2:], strict=True)]
    return tuple(
        f if list(f.shape[2:]) == size else F.adaptive_avg_pool2d(f, size) for f in (student, teacher)
    )
