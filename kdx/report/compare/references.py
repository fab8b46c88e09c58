"""What the rows of a comparison are held against: each run's own student alone, or another row. Pure
functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kdx.core.errors import UserError, nearest
from kdx.core.metric import Metric
from kdx.report.compare.caveats import some
from kdx.report.compare.groups import Group, against
from kdx.report.compare.statistics import holm

OWN = "baseline"
"""The default reference: each run's own matched baseline."""


def with_reference(groups: Sequence[Group], reference: str | None, metric: Metric) -> list[Group]:
    """Every group against its reference, p corrected for all of them together."""
    if reference in (None, OWN):
        made = [replace(g, against=g.gain) for g in groups]
    else:
        made = []
        for g, other in zip(groups, _references(groups, reference), strict=True):
            values = {e.seed: e.score("student", metric.name) for e in other.entries}
            found = None if g is other else against(other.name, g.entries, values, metric)
            made.append(replace(g, is_reference=g is other, against=found))
    corrected = holm([g.against.found.p if g.against else None for g in made])
    return [
        replace(g, against=replace(g.against, holm=p)) if g.against else g
        for g, p in zip(made, corrected, strict=True)
    ]


def _references(groups: Sequence[Group], reference: str) -> list[Group]:
    """The reference of each group: the only one that is called so, or that has these words and, of several,
    else no other words than it.
    """
    exact = [g for g in groups if g.name == reference]
    words = dict(word.partition("=")[::2] for word in reference.split())
    fitting = exact or [
        g for g in groups if words and all(value and _says(g, key) == value for key, value in words.items())
    ]
    if not fitting:
        known = [*(g.name for g in groups), *(f"{k}={v}" for g in groups for k, v in g.words.items()), OWN]
        raise UserError(
            f"reference={reference}: no row is called so, or has these "
            f"words{nearest(reference, dict.fromkeys(known))}"
        )
    found = []
    for g in groups:
        own = (
            fitting
            if len(fitting) == 1
            else [g]
            if g in fitting
            else [f for f in fitting if _else(f, words).items() <= g.words.items()]
        )
        if len(own) != 1:
            what = "several rows fit" if own else "none of the rows that fit is the match of"
            candidates = some([f.name for f in own or fitting])
            raise UserError(
                f"reference={reference}: {what} '{g.name}': {candidates}; name one of them, or "
                "compare fewer with where="
            )
        found += own
    return found


def _else(group: Group, words: Mapping[str, str]) -> dict[str, str]:
    """The other words of its name."""
    return {key: value for key, value in group.words.items() if key not in words}


def _says(group: Group, key: str) -> str | None:
    return group.words.get(key, group.entries[0].value(key))
