"""Rows with several inputs by name, of which each network reads its own: a picture with a table, say. What
such a data set says that its rows are (`reads`) is the words of its inputs, in the order of their names,
joined: "pictures+table". Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

_JOINED_BY = "+"
BOXED = "pictures with boxes"
"""What rows are that have answers at places of theirs, which are left behind where what they show moves."""


def word_for(kinds: Mapping[str, str]) -> str:
    """The word for rows with these inputs. kinds: name -> what it is, "pictures" say."""
    return _JOINED_BY.join(kinds[name] for name in sorted(kinds))


def kinds_in(reads: str) -> tuple[str, ...]:
    """What rows of this word hold: the kinds of their inputs, or the word itself."""
    return tuple(reads.split(_JOINED_BY))


def kinds_by_name(reads: str, names: Collection[str]) -> dict[str, str]:
    """name -> what that input is; {} where rows have one input, by whatever names its arrays go."""
    kinds = kinds_in(reads)
    return dict(zip(sorted(names), kinds, strict=True)) if len(kinds) > 1 else {}
