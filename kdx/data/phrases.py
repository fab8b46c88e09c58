"""How notes on a data set count things and name a few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


MOST_KINDS = 6


def by_kind(names: Sequence[str]) -> str:
    """Files by their endings, the most frequent first, with the first names of each: "10 .txt (a/b.txt,
    a/c.txt, a/d.txt and 7 more), 2 .psd (a/x.psd, a/y.psd)"; beyond MOST_KINDS kinds how many there are of
    the others.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        before, dot, kind = name.rpartition("/")[2].rpartition(".")
        found.setdefault(f".{kind.lower()}" if before and dot else "without an ending", []).append(name)
    ordered = sorted(found.items(), key=lambda kind: (-len(kind[1]), kind[0]))
    said = [f"{len(of):,} {kind} ({few(of)})" for kind, of in ordered[:MOST_KINDS]]
    rest = sum(len(of) for _, of in ordered[MOST_KINDS:])
    return ", ".join([*said, f"{rest:,} of {len(ordered) - MOST_KINDS} other kinds"] if rest else said)


def in_form(example: Mapping[str, tuple[Sequence[int], str]]) -> str:
    """name -> (shape of a row, type), in words: "float32 13"."""
    return " and ".join(
        f"{name} {kind} {'x'.join(map(str, shape)) or 'one number'}".strip()
        for name, (shape, kind) in example.items()
    )
