"""Networks by name. A function a family, each taking normalised pixels; `build` wraps what it returns to take
pixels in [0, 1].

Adding a model is one function here, `(*, shape, classes, dropout, stochastic_depth, ...) -> nn.Module`, and
one YAML in `conf/model/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from kdx.models import pretrained, size
from kdx.models.adapt import Adapted, Fitted, Inputs

HELD = size.Held()


class Buildable(Protocol):
    """A model described but not built: a `kdx.store.store.Component`."""

    def build(self, **more: Any) -> Any: ...


def build(
    model: Buildable,
    *,
    shape: Sequence[int],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    read_weights: bool = True,
    held: size.Held = HELD,
) -> Adapted:
    """The network that `model` describes, for pictures of `shape` (C, H, W) in [0, 1] and `classes` classes.

    mean, std: the dataset's, one a channel; a pretrained network brings its own.
    held: what it takes of the memory, which must be there (UserError).
    read_weights: False builds a pretrained network without its file, for weights of another file that are
    loaded next.
    """
    shape = tuple(int(n) for n in shape)
    with pretrained.reading(read_weights), size.within_memory(held):
        made = model.build(shape=shape, classes=int(classes))
    fitted = (
        made
        if isinstance(made, Fitted)
        else Fitted(made, Inputs(channels=shape[0], size=shape[1:], mean=None, std=None))
    )
    inputs = fitted.inputs
    return Adapted(
        fitted.net,
        shape=shape,
        channels=inputs.channels,
        size=inputs.size,
        mean=mean if inputs.mean is None else inputs.mean,
        std=std if inputs.std is None else inputs.std,
    )
