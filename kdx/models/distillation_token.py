"""A vision transformer's distillation token (Touvron et al. 2021, arXiv 2012.12877): beside the class token
one more reads the picture, with a last layer of its own, which can learn from a teacher.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

_OF_TIMM = {
    ("timm.models.deit", "VisionTransformerDistilled"),
    ("timm.models.levit", "LevitDistilled"),
}
"""Module and name of the networks of timm that have one."""


class MayHaveDistillationToken(nn.Module, ABC):
    """A network that says which of its layers answer."""

    @abstractmethod
    def token_heads(self) -> tuple[nn.Module, nn.Module] | None:
        """The last layers of the class token and of the distillation token, each (B, width) -> (B, C) logits;
        None: it has the first alone."""


def token_heads(network: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Those of the vision transformer in a network; None: nothing in it has a distillation token."""
    for module in network.modules():
        if isinstance(module, MayHaveDistillationToken):
            return module.token_heads()
        if (type(module).__module__, type(module).__name__) in _OF_TIMM:
            return module.head, module.head_dist
    return None


def mean_of_two(one: Tensor, other: Tensor) -> Tensor:
    """(B, C) logits of both -> (B, C) logits, whose softmax is the mean of their softmaxes (the paper's late
    fusion): the logarithm of it."""
    return torch.logaddexp(one.log_softmax(1), other.log_softmax(1)) - math.log(2)
