"""Networks that act: between the states of a pole on a cart and any network for numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core import cart_pole
from kdx.core.checks import integer
from kdx.core.episodes import Acts, Episodes
from kdx.models.adapt import Adapter, Around


class ControlAdapter(Adapter):
    """horizon: steps after which an episode ends where the pole still stands."""

    def __init__(self, *, horizon: int):
        self.horizon = integer("dataset.horizon", horizon, low=1, high=cart_pole.MOST_STEPS)

    def wrap(self, made: nn.Module, shape: tuple[int]) -> Around:
        return ActingNetwork(made, self.horizon)

    def small(self, inputs: Tensor) -> np.ndarray:
        return inputs.cpu().double().numpy()


class ActingNetwork(Around, Acts):
    """(B, 4) states -> (B, 2) logits of the actions; see kdx.core.cart_pole. The reward of a step after which
    the pole stands is 1."""

    def __init__(self, net: nn.Module, horizon: int):
        super().__init__(net)
        self.horizon = horizon
        self.register_buffer("usual", torch.tensor(cart_pole.BOX))

    def prepare(self, x: Any) -> Tensor:
        return x / self.usual

    @torch.no_grad()
    def episodes(self, states: Tensor, *, drawn: bool) -> Episodes:
        going = torch.ones(len(states), dtype=torch.bool, device=states.device)
        seen: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for _ in range(self.horizon):
            logits = self(states).float()
            actions = logits.softmax(1).multinomial(1)[:, 0] if drawn else logits.argmax(1)
            after = cart_pole.next_states(states, actions, torch)
            still = going & cart_pole.stands(after)
            seen.append((states, actions, still.float(), going))
            # a state that has fallen stays, so that no number runs off
            states, going = torch.where(still[:, None], after, states), still
            if not going.any():
                break
        return Episodes(*(torch.stack(found) for found in zip(*seen, strict=True)))

    def acted(self, states: Tensor) -> dict[str, Tensor]:
        return {"logits": self(states), "return": self.episodes(states, drawn=False).returns}
