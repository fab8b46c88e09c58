"""How rows are made of noise by a network (kdx.methods.inversion does it). No torch."""

from __future__ import annotations

from dataclasses import dataclass

from kdx.core.checks import integer, number


@dataclass(frozen=True)
class Inversion:
    """steps >= 1 of Adam at rate lr > 0. batch_norm, smoothness >= 0: weights of the two priors."""

    steps: int
    lr: float
    batch_norm: float
    smoothness: float

    def __post_init__(self) -> None:
        integer("recipe.steps", self.steps, low=1)
        number("recipe.lr", self.lr, low=0, open_low=True)
        number("recipe.batch_norm", self.batch_norm, low=0)
        number("recipe.smoothness", self.smoothness, low=0)
