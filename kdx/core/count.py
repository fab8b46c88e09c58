"""A count that goes on with a training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Count(nn.Module):
    """How often something was done so far. It is in the state dict and stays on the processor, where asking
    it waits for no other device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    def next(self) -> int:
        """The number before this time."""
        self.done += 1
        return self.done - 1

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.done)

    def set_extra_state(self, state: Tensor) -> None:
        self.done = int(state)
