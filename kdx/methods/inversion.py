"""Rows that a network takes for its own: made of noise, by the statistics that its batch-norm layers keep
(DeepInversion: Yin et al. 2020, arXiv 1912.08795, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdx.core.batch_norm import BatchNorm, batch_norms
from kdx.core.errors import UserError
from kdx.core.inversion import Inversion
from kdx.core.uncompiled import uncompiled


def norm_layers(network: nn.Module) -> list[BatchNorm]:
    """Its batch-norm layers that keep statistics. UserError where it has none."""
    found = [layer for layer in batch_norms(network) if layer.running_mean is not None]
    if not found:
        raise UserError(
            "recipe=data_free makes rows by the statistics of the teacher's batch-norm layers, and this "
            "teacher has none: choose one with such, as teacher=cnn or resnet20 is"
        )
    return found


@contextmanager
def statistics_seen(layers: list[BatchNorm]) -> Iterator[list[Tensor]]:
    """Inside, each forward pass of a network in eval mode appends, layer by layer, the distance of what the
    layer reads to what it has kept: |mean - running mean| + |variance - running variance|, Euclidean norms
    over its channels, (). The list is to be cleared before each."""
    found: list[Tensor] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read = inputs[0]
        axes = [axis for axis in range(read.dim()) if axis != 1]
        variance, mean = torch.var_mean(read, axes, correction=0)
        kept_mean, kept_variance = layer.running_mean, layer.running_var
        assert isinstance(kept_mean, Tensor) and isinstance(kept_variance, Tensor)
        found.append((mean - kept_mean).norm() + (variance - kept_variance).norm())

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def unevenness(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (): the mean squared difference of neighbours, along both axes (total variation,
    squared)."""
    return (x[..., 1:, :] - x[..., :-1, :]).square().mean() + (x[..., 1:] - x[..., :-1]).square().mean()


def invert(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    how: Inversion,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """shape (B, C, H, W) -> such rows in [0, 1], without gradient: sigmoid(z), z begun as standard normal
    noise and moved by Adam so that

        mean loss(network(x)) + batch_norm * sum over layers of `statistics_seen` + smoothness * `unevenness`

    becomes small. network: in eval mode, its parameters without gradient. loss: answers -> (B,), the
    cross-entropy of the classes that the rows are to be of. Deviations from the paper: sigmoid in place of
    clipping, squared differences in place of its total variation and its L2 prior, neither jitter nor
    competition with a student.
    """
    z = torch.randn(shape, generator=generator).to(device).requires_grad_()
    optimiser = uncompiled(torch.optim.Adam)([z], lr=how.lr)
    with torch.enable_grad(), statistics_seen(norm_layers(network)) as apart:
        for _ in range(how.steps):
            apart.clear()
            x = z.sigmoid()
            value = loss(network(x)).mean() + how.smoothness * unevenness(x)
            value = value + how.batch_norm * torch.stack(apart).sum()
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    return z.detach().sigmoid()
