"""One row of a comparison: runs that differ by seed only, what they are worth, and their differences from a
reference, pair by pair. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdx.core.metric import Metric
from kdx.report.compare.entries import Entry
from kdx.report.compare.measured import common_words
from kdx.report.compare.statistics import Paired, Spread, paired, spread, t_interval


@dataclass(frozen=True)
class Against:
    """By how much a group is better than its reference, in the metric's unit: below 0 where it is worse.
    seeds: of the pairs, in order. found.wins: pairs in which the group is better. holm: p corrected for the
    number of comparisons.
    """

    reference: str
    seeds: tuple[int, ...]
    found: Paired
    interval: tuple[float, float] | None
    holm: float | None = None


@dataclass(frozen=True)
class Group:
    """Runs that differ by seed only, one a student. words: of its name. test: of the metric on the test
    split, validation: of the same there. gain: against its own baseline. against: the chosen reference; None
    for that itself and where no seed is shared. gap_closed: mean gain / mean gain of the teachers over the
    baselines, None where the teacher is not better. All in the metric's unit."""

    name: str
    words: Mapping[str, str]
    entries: tuple[Entry, ...]
    test: Spread
    interval: tuple[float, float] | None
    validation: Spread | None
    gain: Against | None
    against: Against | None
    gap_closed: float | None
    is_reference: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(e.seed for e in self.entries)

    def mean(self, role: str, key: str) -> float | None:
        """Of `parameters`, `flops` or `latency_ms` over the runs that have it."""
        values = [
            e.networks[role].about[key]
            for e in self.entries
            if role in e.networks and key in e.networks[role].about
        ]
        return sum(values) / len(values) if values else None


def make_group(name: str, words: Mapping[str, str], entries: Sequence[Entry], metric: Metric) -> Group | None:
    """None where no run has the metric on the test split."""
    entries = [e for e in entries if e.score("student", metric.name) is not None]
    if not entries:
        return None
    test = spread([metric.scale * e.score("student", metric.name) for e in entries])
    validated = [e.score("student", metric.name, "validation") for e in entries]
    validated = [metric.scale * value for value in validated if value is not None]
    own = {e.seed: e.score("baseline", metric.name) for e in entries}
    gain = against(
        common_words([e.called for e in entries], "baseline").words,
        entries,
        {s: v for s, v in own.items() if v is not None},
        metric,
    )
    return Group(
        name,
        words,
        tuple(entries),
        test,
        _possible(t_interval(test), metric),
        spread(validated) if validated else None,
        gain,
        None,
        _gap_closed(entries, metric),
    )


def _possible(found: tuple[float, float] | None, metric: Metric) -> tuple[float, float] | None:
    """The part of a mean's interval in which it can lie: Student's knows no bounds."""
    if found is None:
        return None
    low, high = found
    low = low if metric.low is None else max(metric.scale * metric.low, low)
    return low, high if metric.high is None else min(metric.scale * metric.high, high)


def _gap_closed(entries: Sequence[Entry], metric: Metric) -> float | None:
    sides = [[e.score(role, metric.name) for role in ("teacher", "baseline", "student")] for e in entries]
    sides = [side for side in sides if None not in side]
    if not sides:
        return None
    teacher, alone, student = (sum(values) / len(sides) for values in zip(*sides, strict=True))
    gap = metric.gain(teacher, alone)
    return metric.gain(student, alone) / gap if gap > 0 else None


def against(
    reference: str, entries: Sequence[Entry], other: Mapping[int, float], metric: Metric
) -> Against | None:
    """other: seed -> the reference's value, as it was measured. None where no seed is shared."""
    shared = [e for e in entries if e.seed in other]
    if not shared:
        return None
    mine = [metric.scale * e.score("student", metric.name) for e in shared]
    theirs = [metric.scale * other[e.seed] for e in shared]
    more, less = (mine, theirs) if metric.more else (theirs, mine)
    found = paired(more, less)
    differences = spread([a - b for a, b in zip(more, less, strict=True)])
    return Against(reference, tuple(e.seed for e in shared), found, t_interval(differences))
