"""What a student's weights begin with: the slot `init`. Imports torch only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from kdx.core.types import Split


@dataclass(frozen=True)
class Beginning:
    """What an Initialiser may read. teacher: the network that it reads (`Initialiser.of`), in eval mode and
    without gradient; splits: rows that training may see ("labelled", and "unlabelled" where there is a pool);
    generator: whence all that it draws.
    """

    teacher: nn.Module
    splits: Mapping[str, Split]
    generator: torch.Generator


class Initialiser(ABC):
    """What a student's weights begin with, made of its teacher's: the slot `init`. Subclasses are final. They
    take keyword-only hyperparameters without defaults, and check each of them.

    Only the distilled student begins so: the matched baseline and the other controls begin with fresh
    weights, as nobody without the teacher could begin otherwise.
    """

    of: ClassVar[str] = "teacher"
    """Whose network it reads: "teacher", the first of all rounds; or "round", the student of the round
    before, and in the first round nothing is done."""

    @abstractmethod
    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        """Raises UserError where these two do not go together; asked before any work, of networks with any
        weights. It must be quick.
        """

    @abstractmethod
    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        """Changes the student's weights in place; what it gives is what there is to say of it, a sentence
        each.
        """
