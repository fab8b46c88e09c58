"""Whether a teacher is any better than guessing. Standard library only."""

from __future__ import annotations


def nearly(classes: int, rows: int) -> float:
    """The accuracy on `rows` examples below which it is no better: 1/C and three standard errors, or 5 points, whichever is more.

    Though with a few rows only, an accuracy halfway between guessing and 1 is never taken for guessing.
    """
    chance = 1 / classes
    return chance + min(max(3 * (chance * (1 - chance) / rows) ** 0.5, 0.05), (1 - chance) / 2)
