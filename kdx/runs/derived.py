"""Figures of a claim that are made of its other figures, seed by seed. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest

WAYS = {"gap": 3, "sum": None, "plus": 1}
"""How a figure is made of others -> of how many, None: of any number from two on."""


@dataclass(frozen=True)
class DerivedFigure:
    """way "gap": of three figures (a, zero, one) the part (a - zero) / (one - zero) of the way from `zero` to
    `one` that a has gone, whichever way is better. "sum": of figures that were shares already, all together.
    "plus": one figure and a number `by`, for a claim that something is worse by no more than that.
    """

    way: str
    of: tuple[str, ...]
    by: float = 0.0

    def value(self, values: Mapping[str, float]) -> float:
        """Of one seed. values: those of the figures that it is made of. UserError where there is no way to
        go."""
        found = [values[name] for name in self.of]
        if self.way in ("sum", "plus"):
            return sum(found) + self.by
        a, zero, one = found
        if one == zero:
            raise UserError(
                f"{self.of[1]} and {self.of[2]} are both {zero:.6g}: no part of nothing is closed"
            )
        return (a - zero) / (one - zero)


def is_derived(spec: Any) -> bool:
    return isinstance(spec, Mapping) and any(way in spec for way in WAYS)


def parse_derived(key: str, spec: Mapping[str, Any], kinds: Mapping[str, str | None]) -> DerivedFigure:
    """{gap: [student, alone, teacher]}, {sum: [one, another]} or {plus: [one, -0.02]}. kinds: the figures
    that stand above it -> what each is counted in. Raises UserError."""
    if len(spec) != 1:
        raise UserError(f"{key} needs gap, sum or plus alone; given: {shown(spec)}")
    ((way, of),) = spec.items()
    wanted = WAYS[way]
    by = 0.0
    if way == "plus":
        numeric = isinstance(of, list) and len(of) == 2 and isinstance(of[1], int | float)
        if not numeric or isinstance(of[1], bool):
            raise UserError(f"{key}.plus must list a figure and a number; given: {shown(of)}")
        of, by = of[:1], float(of[1])
    if not isinstance(of, list) or (len(of) != wanted if wanted else len(of) < 2):
        what = "the figures [of, from, to]" if wanted else "two figures or more"
        raise UserError(f"{key}.{way} must list {what}; given: {shown(of)}")
    for name in of:
        if name not in kinds:
            raise UserError(f"{key}.{way} has no figure {shown(name)} above it{nearest(str(name), kinds)}")
    if len({kinds[name] for name in of}) > 1 or (way == "sum" and kinds[of[0]] != "share"):
        raise UserError(
            f"{key}.{way} is of {', '.join(f'{name} ({kinds[name]})' for name in of)}: "
            + ("only shares can be added up" if way == "sum" else "only alike figures can be compared")
        )
    return DerivedFigure(way, tuple(of), by)


def add_derived(derived: Mapping[str, DerivedFigure], values: dict[str, list[float]]) -> None:
    """Lays down their values beside those of the others, seed by seed, in the order in which they stand."""
    for name, figure in derived.items():
        seeds: Sequence[tuple[float, ...]] = list(zip(*(values[of] for of in figure.of), strict=True))
        values[name] = [figure.value(dict(zip(figure.of, one, strict=True))) for one in seeds]
