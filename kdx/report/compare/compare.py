"""Many runs side by side: groups that differ by seed only, what each is worth, and against a reference, pair
by pair. Pure functions.

found = compare([entry("a", json.loads(run_json)), ...])     # see kdx.report.compare.entries
print(rows(found))                                            # see kdx.report.compare.rows
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kdx.core.errors import UserError, nearest
from kdx.report.compare import protocols
from kdx.report.compare.caveats import best_of_rounds, fold, other_code, some, twice
from kdx.report.compare.entries import Entry
from kdx.report.compare.statistics import Paired, Spread, holm, paired, spread, t_interval
from kdx.report.run.names import changed, join

OWN = "baseline"
"""The default reference: each run's own matched baseline."""


@dataclass(frozen=True)
class Metric:
    """unit: what a fraction is multiplied by where it is shown. digits: after the point. more: whether more
    is better. high: the most that there can be, in the unit; the least is 0."""

    name: str
    unit: float
    digits: int
    more: bool
    high: float

    def possible(self, found: tuple[float, float] | None) -> tuple[float, float] | None:
        """The part of a mean's interval in which it can lie: Student's knows no bounds."""
        return found and (max(0.0, found[0]), min(self.high, found[1]))


METRICS = {
    "accuracy": Metric("test %", 100, 1, True, 100),
    "balanced_accuracy": Metric("balanced test %", 100, 1, True, 100),
    "ece": Metric("ECE", 1, 3, False, 1),
    "nll": Metric("NLL", 1, 3, False, math.inf),
    "agreement": Metric("agreement %", 100, 1, True, 100),
}


@dataclass(frozen=True)
class Against:
    """A group less its reference. seeds: of the pairs, in order. found.wins: pairs in which the group is
    better. holm: p corrected for the number of comparisons. All in the metric's unit."""

    reference: str
    seeds: tuple[int, ...]
    found: Paired
    interval: tuple[float, float] | None
    holm: float | None = None


@dataclass(frozen=True)
class Group:
    """Runs that differ by seed only, one a student. words: of its name. test: of the metric on the test
    split, validation: of the same there. gain: against its own baseline. against: the chosen reference; None
    for that itself and where no seed is shared. gap_closed: mean gain / (mean of the teachers - mean of the
    baselines), None where the teacher is not better. All in the metric's unit."""

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


@dataclass(frozen=True)
class Comparison:
    """groups: the best first. reference: as asked for. comparisons: how many p were corrected for. notes:
    what was folded or left out; warnings: what a reader must not miss. protocol: in words, what all runs
    share."""

    groups: tuple[Group, ...]
    metric: Metric
    measure: str
    reference: str
    comparisons: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    protocol: Mapping[str, str]


def compare_runs(runs: Sequence[Entry], reference: str | None = None, metric: str = "accuracy") -> Comparison:
    """runs: one or more. reference: None or "baseline", or a name as printed, or words of one, such as
    loss=kd: a group is then compared with the group that has these words and else its own. Raises
    UserError(s): protocols that differ, and a reference that is none."""
    if not runs:
        raise UserError("there is nothing to compare: no run is finished and has results")
    parts = _parts(runs)
    words = changed([part[0].asked for part in parts]) if len(parts) > 1 else [_alone(runs[0])]
    spoken = _unique([join(found) for found in words])
    row = {e: name for name, part in zip(spoken, parts, strict=True) for e in map(id, part)}
    protocols.check_protocols(runs, lambda e: row[id(e)])
    of = METRICS[metric]
    tests = max((e.networks["student"].score("test", "n") or 0 for e in runs), default=0)
    of = replace(of, digits=2) if of.unit == 100 and tests >= 5000 else of
    groups, notes, warnings = [], [], []
    for name, found, part in zip(spoken, words, parts, strict=True):
        kept, folded, said = fold(name, part, metric)
        notes += folded
        warnings += said
        groups.append(_group(name, found, kept, metric, of))
    groups = _with_reference([g for g in groups if g], reference, metric, of)
    if not groups:
        raise UserError(f"there is nothing to compare: no student has {metric} on the test split")
    named = [(g.name, g.entries) for g in groups]
    warnings += other_code(named) + twice(named)
    notes += best_of_rounds(named)
    groups.sort(key=lambda g: -g.test.mean if of.more else g.test.mean)
    tested = sum(g.against is not None and g.against.found.p is not None for g in groups)
    return Comparison(
        tuple(groups),
        of,
        metric,
        reference or OWN,
        tested,
        tuple(notes),
        tuple(warnings),
        protocols.shared(runs),
    )


def _parts(runs: Sequence[Entry]) -> list[list[Entry]]:
    """The runs by their settings, in the order in which they come, each part by seed."""
    found: dict[str, list[Entry]] = {}
    for e in runs:
        found.setdefault(json.dumps(e.settings, sort_keys=True), []).append(e)
    return [sorted(part, key=lambda e: (e.seed, e.started)) for part in found.values()]


def _alone(only: Entry) -> dict[str, str]:
    """The words of a row that is the only one."""
    return {key: only.choices[key] for key in ("loss", "student") if key in only.choices} or {"seed": "any"}


def _unique(spoken: Sequence[str]) -> list[str]:
    """Names that are alike (values that are written alike and are not the same) get a number."""
    heard: Counter[str] = Counter()
    found = []
    for name in spoken:
        heard[name] += 1
        found.append(name if heard[name] == 1 else f"{name} ({heard[name]})")
    return found


def _group(
    name: str, words: Mapping[str, str], entries: Sequence[Entry], metric: str, of: Metric
) -> Group | None:
    entries = [e for e in entries if e.score("student", metric) is not None]
    if not entries:
        return None
    test = spread([of.unit * e.score("student", metric) for e in entries])
    validated = [of.unit * v for e in entries if (v := e.score("student", metric, "validation")) is not None]
    own = {e.seed: e.score("baseline", metric) for e in entries}
    gain = _against(
        "student alone", entries, {seed: v for seed, v in own.items() if v is not None}, metric, of
    )
    return Group(
        name,
        words,
        tuple(entries),
        test,
        of.possible(t_interval(test)),
        spread(validated) if validated else None,
        gain,
        None,
        _gap_closed(entries, metric, of),
    )


def _gap_closed(entries: Sequence[Entry], metric: str, of: Metric) -> float | None:
    sides = [[e.score(role, metric) for role in ("teacher", "baseline", "student")] for e in entries]
    sides = [side for side in sides if None not in side]
    if not sides:
        return None
    teacher, alone, student = (sum(values) / len(sides) for values in zip(*sides, strict=True))
    gap = teacher - alone if of.more else alone - teacher
    return ((student - alone) if of.more else (alone - student)) / gap if gap > 0 else None


def _against(
    reference: str, entries: Sequence[Entry], other: Mapping[int, float], metric: str, of: Metric
) -> Against | None:
    """other: seed -> the reference's value, a fraction."""
    shared = [e for e in entries if e.seed in other]
    if not shared:
        return None
    mine, theirs = (
        [of.unit * e.score("student", metric) for e in shared],
        [of.unit * other[e.seed] for e in shared],
    )
    found = paired(mine, theirs)
    if not of.more:
        found = replace(found, wins=found.losses, losses=found.wins)
    differences = spread([a - b for a, b in zip(mine, theirs, strict=True)])
    return Against(reference, tuple(e.seed for e in shared), found, t_interval(differences))


def _with_reference(groups: Sequence[Group], reference: str | None, metric: str, of: Metric) -> list[Group]:
    """Every group against its reference, p corrected for all of them together."""
    if reference in (None, OWN):
        made = [replace(g, against=g.gain) for g in groups]
    else:
        made = []
        for g, other in zip(groups, _references(groups, reference), strict=True):
            values = {e.seed: e.score("student", metric) for e in other.entries}
            against = None if g is other else _against(other.name, g.entries, values, metric, of)
            made.append(replace(g, is_reference=g is other, against=against))
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


def level(found: Comparison, group: Group, role: str) -> float | None:
    """Of another network of the group's runs, "baseline" or "teacher", the mean on the test split in the
    metric's unit; None where a run lacks it.
    """
    values = [e.score(role, found.measure) for e in group.entries]
    return None if None in values else found.metric.unit * sum(values) / len(values)


SORTS = {
    "test": lambda g, c: -g.test.mean if c.metric.more else g.test.mean,
    "validation": lambda g, c: _last(
        g.validation and (-g.validation.mean if c.metric.more else g.validation.mean)
    ),
    "gain": lambda g, c: _last(g.gain and (-g.gain.found.mean if c.metric.more else g.gain.found.mean)),
    "difference": lambda g, c: _last(
        g.against and (-g.against.found.mean if c.metric.more else g.against.found.mean)
    ),
    "gap_closed": lambda g, c: _last(None if g.gap_closed is None else -g.gap_closed),
    "p": lambda g, c: _last(g.against and g.against.holm),
    "parameters": lambda g, c: _last(g.mean("student", "parameters")),
    "flops": lambda g, c: _last(g.mean("student", "flops")),
    "latency": lambda g, c: _last(g.mean("student", "latency_ms")),
    "name": lambda g, c: _natural(g.name),
}
"""The best, the surest, the smallest or the first in the alphabet comes first; what has none comes last."""


def arranged(found: Comparison, by: str) -> Comparison:
    return replace(found, groups=tuple(sorted(found.groups, key=lambda g: SORTS[by](g, found))))


def _last(value: float | None) -> float:
    return float("inf") if value is None else value


def _natural(name: str) -> list[tuple[int, float, str]]:
    """Numbers in a name by their size: labelled=50 before labelled=100."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]
