"""How notes on a data set count things and name a few of them."""

from __future__ import annotations

from collections.abc import Sequence

RARE = 0.01
"""What is odd about fewer than this share of some pictures is reported quietly: it moves an accuracy by less
than a point.
"""


def counted(number: int, noun: str) -> str:
    """ "1 picture", "1,234 pictures" """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def are(number: int, what: str = "") -> str:
    """ "1 of 30 pictures is", "2 of 30 pictures are" """
    return f"{number:,}{what and f' {what}'} {'is' if number == 1 else 'are'}"


NAMED = 3


def few(names: Sequence[str], whole: int | None = None) -> str:
    """The first NAMED of them, and how many more there are. whole: how many there are, where `names` are the
    first ones only.
    """
    more = (len(names) if whole is None else whole) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
