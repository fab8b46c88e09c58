"""A pole that stands on a cart and must not fall (Barto, Sutton and Anderson 1983, "Neuronlike adaptive
elements that can solve difficult learning control problems"): its dynamics, for numpy and torch alike.
Imports numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ACTIONS = ("left", "right")
"""What the cart is pushed to, by the numbers of the actions."""
FARTHEST, STEEPEST = 2.4, 12 * np.pi / 180
"""|position| and |angle| beyond which an episode is over."""
BOX = (FARTHEST, 2.0, STEEPEST, 2.0)
"""How far the numbers of a state go, each to both sides: of speeds what is usual."""
MOST_STEPS = 1000
"""Of an episode."""
_GRAVITY, _CART, _POLE, _HALF, _PUSH, _SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02


def next_states(states: Any, actions: Any, of: Any = np) -> Any:
    """(B, 4) states, (B,) numbers of actions -> (B, 4), 0.02 s later, by Euler's rule. A state: position
    (m), velocity (m/s), angle (rad) and turn (rad/s); at angle 0 the pole stands upright. of: numpy, or torch
    where states are tensors."""
    x, v, angle, turn = states[:, 0], states[:, 1], states[:, 2], states[:, 3]
    push = _PUSH * (2 * actions - 1)
    sin, cos, mass = of.sin(angle), of.cos(angle), _CART + _POLE
    pushed = (push + _POLE * _HALF * turn**2 * sin) / mass
    bend = (_GRAVITY * sin - cos * pushed) / (_HALF * (4 / 3 - _POLE * cos**2 / mass))
    speed_up = pushed - _POLE * _HALF * bend * cos / mass
    return of.stack(
        [x + _SECONDS * v, v + _SECONDS * speed_up, angle + _SECONDS * turn, turn + _SECONDS * bend], 1
    )


def stands(states: Any) -> Any:
    """(B, 4) -> (B,) bool: whether the episode goes on."""
    return (abs(states[:, 0]) <= FARTHEST) & (abs(states[:, 2]) <= STEEPEST)


def steps_held(states: np.ndarray, action: int, horizon: int) -> np.ndarray:
    """(B, 4) -> (B,) float32: how many steps the pole stands where one action is held to, at most horizon."""
    count, going = np.zeros(len(states), np.float32), np.ones(len(states), bool)
    actions = np.full(len(states), action)
    for _ in range(horizon):
        states = next_states(states, actions)
        going &= stands(states)
        count += going
        if not going.any():
            break
    return count
