"""From the rows that a data set holds to what a network wants: adapters, which a data set names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.errors import UserError
from kdx.core.levels import as_float


class Adapter(ABC):
    """What stands between the rows of a data set and a network. Its arguments are plain data."""

    @abstractmethod
    def wrap(self, made: Any, shape: Any) -> nn.Module:
        """The network that takes rows as the data set gives them. made: what a model's function returned.
        shape: of one row, or {name: shape}.
        """

    def shape(self, shape: Any) -> Any:
        """The shape of one row as the network inside sees it. shape: of one row, or {name: shape}."""
        return shape

    def arguments(self) -> dict[str, Any]:
        """What a model's function is given beside `shape` and `outputs`, where it says by `reads` that it
        reads such rows.
        """
        return {}

    def small(self, inputs: Any) -> np.ndarray | None:
        """(N, D) float64: rows in a few numbers, for a linear classifier; None: there are none."""
        return None

    def displayed(self, inputs: Any) -> list[str] | None:
        """Of each row what people are shown of it, as text; None: nothing."""
        return None

    def files(self) -> dict[str, str]:
        """Name -> text of the files that an exported network is accompanied by, as without them nobody could
        make rows for it.
        """
        return {}


class Around(nn.Module, ABC):
    """A network between what a data set's rows need before it (`prepare`) and what makes answers of its
    numbers (`units`, see `Task.units`). All that it knows is in its state dict or fixed, so it can be saved,
    exported and served alone.

    input_name: which of the inputs of a row it reads, of rows with several; None: the row is its input.
    """

    def __init__(self, net: nn.Module, units: nn.Module | None = None):
        super().__init__()
        self.net = net
        self.units = units
        self.input_name: str | None = None

    @abstractmethod
    def prepare(self, x: Any) -> Any:
        """What the network inside sees."""

    def seen(self, x: Any) -> Any:
        """Rows as the data set gives them -> what the network inside sees."""
        return self.prepare(x if self.input_name is None else x[self.input_name])

    def forward(self, x: Any) -> Any:
        answers = self.net(self.seen(x))
        return answers if self.units is None else self.units(answers)


class Plain(Around):
    """A network that takes rows as they are."""

    def prepare(self, x: Any) -> Any:
        return x


class Finished(nn.Module):
    """A network that answers in the task's units by itself, as one that was fitted to the truth does.

    inputs: the pictures that it wants to see, None: those of the data set, normalised.
    """

    inputs: InputFormat | None = None

    def unprepared(self, shape: tuple[int, ...]) -> bool:
        """Whether it wants rows of a table as the data set holds them, of that shape; else as other networks
        see them."""
        return False


def in_units(network: nn.Module, units: nn.Module | None) -> nn.Module:
    """The network with its answers in the task's units."""
    inner = network.net if isinstance(network, Around) else network
    if units is None or isinstance(inner, Finished):
        return network
    if not isinstance(network, Around):
        return Plain(network, units)
    network.units = units
    return network


def reading_input(network: nn.Module, name: str) -> Around:
    """The network that takes rows with several inputs, and reads the one of that name."""
    around = network if isinstance(network, Around) else Plain(network)
    around.input_name = name
    return around


@dataclass(frozen=True)
class InputFormat:
    """What a network wants to see. `mean` and `std` are one a channel; None: the dataset's."""

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class Fitted:
    """A network with inputs of its own, as a pretrained one has. A model function may return it in place of
    the bare network.
    """

    net: nn.Module
    inputs: InputFormat


class PictureAdapter(Adapter):
    """mean, std: of each channel of the data set's pictures, in units of [0, 1]; a pretrained network brings
    its own.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]):
        self.mean, self.std = mean, std

    def wrap(self, made: nn.Module | Fitted, shape: tuple[int, int, int]) -> Adapted:
        own = made.inputs if isinstance(made, Finished) else None
        fitted = (
            made
            if isinstance(made, Fitted)
            else Fitted(made, own)
            if own
            else Fitted(made, InputFormat(channels=shape[0], size=shape[1:], mean=None, std=None))
        )
        inputs = fitted.inputs
        return Adapted(
            fitted.net,
            shape=shape,
            channels=inputs.channels,
            size=inputs.size,
            mean=self.mean if inputs.mean is None else inputs.mean,
            std=self.std if inputs.std is None else inputs.std,
        )

    def small(self, inputs: Tensor) -> np.ndarray:
        """Averaged down to 8x8 at most."""
        pictures = as_float(inputs.cpu())
        height, width = (min(8, side) for side in pictures.shape[-2:])
        return F.adaptive_avg_pool2d(pictures, (height, width)).flatten(1).double().numpy()


class Adapted(Around):
    """A network that takes pixels as the datasets give them: (B, C, H, W) float in [0, 1] -> (B, K) logits.

    Grey pictures are repeated to the network's channels, resized to its size, and normalised; each only where
    the network needs it.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        shape: tuple[int, int, int],
        channels: int,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
    ):
        """shape: (C, H, W) of the pictures. channels, size: what `net` takes. mean, std: one a channel of
        `net`, std > 0.
        """
        super().__init__(net)
        if channels not in (shape[0], 3) or (channels != shape[0] and shape[0] != 1):
            raise UserError(
                f"the model takes pictures of {channels} channel{'s' * (channels != 1)} and these have "
                f"{shape[0]}: only grey can be repeated; set weights=null"
            )
        if len(mean) != channels or len(std) != channels:
            raise UserError(
                f"mean and std want one number a channel ({channels}); given {len(mean)} and {len(std)}"
            )
        if not all(s > 0 for s in std):
            raise UserError(
                f"std must be above 0 in every channel, not {[float(s) for s in std]}: "
                "give a constant channel 1"
            )
        self.channels = channels
        self.repeats = channels // shape[0]
        self.size = tuple(size)
        self.resizes = self.size != tuple(shape[1:])
        # Without antialiasing a shrunk picture keeps one pixel in several and drops the rest; for enlarging
        # it changes nothing.
        self.shrinks = self.size[0] < shape[1] or self.size[1] < shape[2]
        self.register_buffer("mean", torch.tensor([float(m) for m in mean]).view(1, channels, 1, 1))
        self.register_buffer("std", torch.tensor([float(s) for s in std]).view(1, channels, 1, 1))

    def prepare(self, x: Tensor) -> Tensor:
        if self.repeats > 1:
            x = x.expand(-1, self.channels, -1, -1)
        if self.resizes:
            x = F.interpolate(x, size=self.size, mode="bilinear", align_corners=False, antialias=self.shrinks)
        return (x - self.mean) / self.std
