"""What a network can do that goes on from the beginning of a row by itself: rollouts, of which it learns what
its own mistakes lead to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdx.core.checks import integer, number
from kdx.core.errors import UserError

if TYPE_CHECKING:
    import torch

    from kdx.core.trees import Tree


@dataclass(frozen=True)
class Rolling:
    """How rows are gone on with. prompt: places of a row that are kept, a whole number of at least 1, or
    their share, in (0, 1). temperature: > 0, divides the logits of what is drawn from; 1: as the network says
    it. node, key: what prompt and temperature are called in the configuration, for sentences.
    """

    prompt: int | float
    temperature: float
    node: str = "recipe"
    key: str = "temperature"

    def __post_init__(self) -> None:
        if isinstance(self.prompt, int) and not isinstance(self.prompt, bool):
            integer(f"{self.node}.prompt", self.prompt, low=1)
        else:
            number(f"{self.node}.prompt", self.prompt, low=0, high=1, open_low=True, open_high=True)
        number(f"{self.node}.{self.key}", self.temperature, low=0, open_low=True)

    def document(self) -> dict[str, int | float]:
        """What decides what comes of it, as plain data."""
        return {"prompt": self.prompt, "temperature": self.temperature}

    def kept(self, places: int) -> int:
        """Places of a row of so many that are kept: one at least, and all but one at most."""
        asked = self.prompt if isinstance(self.prompt, int) else round(self.prompt * places)
        return min(max(1, asked), max(1, places - 1))


class RollsOut(ABC):
    """A network that goes on from the beginning of a row."""

    @abstractmethod
    def roll_out(self, rows: Tree, how: Rolling, generator: torch.Generator) -> Tree:
        """Rows of the same form, which begin as these and are gone on with by the network. generator: on the
        CPU, whence all that is drawn. In eval mode and without gradient.
        """

    def write(self, rows: Tree, how: Rolling, generator: torch.Generator) -> tuple[Tree, torch.Tensor | None]:
        """(as `roll_out`, (B,) int64 how many places of each row are written, the kept ones among them; None:
        all of them)"""
        return self.roll_out(rows, how, generator), None

    @abstractmethod
    def check_rolling(self, places: int, how: Rolling) -> None:
        """Raises UserError where rows of so many places cannot be gone on with so."""


def cannot_roll_out(who: str, role: str = "student") -> UserError:
    """The error of a network that is no RollsOut. who: what it is called; role: student, or teacher."""
    asks, other = (
        ("recipe=on_policy lets the student go", "leave recipe= out")
        if role == "student"
        else ("pseudo_label.format=text lets the teacher go", "leave pseudo_label.format= out")
    )
    return UserError(
        f"{asks} on with the beginnings of rows, and {who} does not: choose a {role} that does, such as "
        f"{role}=gpt_tiny with dataset=corpus, or {other}"
    )
