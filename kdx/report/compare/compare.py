"""Many runs side by side: groups that differ by seed only, what each is worth, and against a reference, pair
by pair. Pure functions.

found = compare([entry("a", json.loads(run_json)), ...])     # see kdx.report.compare.entries
print(rows(found))                                            # see kdx.report.compare.rows
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kdx.core.errors import UserError, nearest
from kdx.core.metric import Metric
from kdx.report.compare import protocols
from kdx.report.compare.caveats import (
    answered_otherwise,
    best_of_rounds,
    bills,
    fold,
    moving_teachers,
    other_code,
    releases,
    twice,
    unlike_students,
)
from kdx.report.compare.entries import Entry
from kdx.report.compare.groups import Group, make_group
from kdx.report.compare.measured import OwnRole, common_words
from kdx.report.compare.references import OWN, with_reference
from kdx.report.metric import finer
from kdx.report.run.names import Settings, changed, join


@dataclass(frozen=True)
class Comparison:
    """groups: the best first. metric: that is compared; counts: that the runs were made for, which their
    curves show. reference: as asked for. comparisons: how many p were corrected for. notes: what was folded
    or left out; warnings: what a reader must not miss. protocol: in words, what all runs share."""

    groups: tuple[Group, ...]
    metric: Metric
    counts: Metric
    reference: str
    comparisons: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    protocol: Mapping[str, str]

    @property
    def roles(self) -> dict[str, OwnRole]:
        """Those of the runs that kdx does not have."""
        return {role: own for g in self.groups for e in g.entries for role, own in e.roles.items()}

    def called(self, role: str) -> OwnRole:
        """What a role of kdx is called in these runs."""
        return common_words([e.called for g in self.groups for e in g.entries], role)


def compare_runs(
    runs: Sequence[Entry], reference: str | None = None, metric: str | None = None
) -> Comparison:
    """runs: one or more. reference: None or "baseline", or a name as printed, or words of one, such as
    loss=kd: a group is then compared with the group that has these words and else its own. metric: the name
    of one that the runs show, None: the one that counts. Raises UserError(s): protocols that differ, a metric
    and a reference that are none."""
    if not runs:
        raise UserError("there is nothing to compare: no run is finished and has results")
    runs = _by_content(runs)
    parts = _parts(runs)
    words = changed([_asked(part) for part in parts]) if len(parts) > 1 else [_alone(runs[0])]
    spoken = _unique([join(found) for found in words])
    row = {e: name for name, part in zip(spoken, parts, strict=True) for e in map(id, part)}
    protocols.check_protocols(runs, lambda e: row[id(e)])
    of = _finer(asked_metric(runs, metric) if metric else runs[0].counts, runs)
    groups, notes, warnings = [], [], []
    for name, found, part in zip(spoken, words, parts, strict=True):
        kept, folded, said = fold(name, part, of.name)
        notes += folded
        warnings += said
        groups.append(make_group(name, found, kept, of))
    groups = with_reference([g for g in groups if g], reference, of)
    if not groups:
        raise UserError(f"there is nothing to compare: no student has {of.name} on the test split")
    named = [(g.name, g.entries) for g in groups]
    warnings += other_code(named) + twice(named) + moving_teachers(named) + unlike_students(named)
    warnings += answered_otherwise(named) + releases(named)
    notes += best_of_rounds(named) + bills(named)
    groups.sort(key=lambda g: _first(g.test.mean, of.more))
    tested = sum(g.against is not None and g.against.found.p is not None for g in groups)
    return Comparison(
        tuple(groups),
        of,
        runs[0].counts,
        reference or OWN,
        tested,
        tuple(notes),
        tuple(warnings),
        protocols.shared(runs),
    )


def asked_metric(runs: Sequence[Entry], name: str) -> Metric:
    """The metric of this name that the runs show. Raises UserError where they show none, or not the same."""
    found = [e.metrics[name] for e in runs if name in e.metrics]
    if not found:
        has = {of for e in runs for of in e.metrics if e.score("student", of) is not None}
        known = [of for of in dict.fromkeys(of for e in runs for of in e.metrics) if of in has]
        hint = nearest(name, known)
        rest = f" (of {', '.join(known)})" if "did you mean" in hint else ""
        raise UserError(f"metric={name}: the runs have no such metric{hint}{rest}")
    other = next((m for m in found if m.meaning != found[0].meaning), None)
    if other:
        raise UserError(
            f"metric={name}: not the same in all runs, but {found[0].meaning} and {other.meaning}; compare "
            "fewer with where="
        )
    return found[0]


def _finer(metric: Metric, runs: Sequence[Entry]) -> Metric:
    """Of many test rows a figure in per cent gets a digit more."""
    return finer(metric, max((e.networks["student"].score("test", "n") or 0 for e in runs), default=0))


def _by_content(runs: Sequence[Entry]) -> list[Entry]:
    """The runs, in which settings that name files are alike where these are. A file has the path that the
    first run has, with a part of its digest where another content lay there."""
    first: dict[tuple[str, str], str] = {}
    for run in runs:
        for key, digest in run.files.items():
            first.setdefault((key, digest), run.settings[key])
    many: dict[tuple[str, str], int] = {}
    for (key, _), path in first.items():
        many[key, path] = many.get((key, path), 0) + 1
    called = {
        (key, digest): path if many[key, path] == 1 else f"{path} ({digest[:8]})"
        for (key, digest), path in first.items()
    }
    return [
        replace(run, settings={**run.settings, **{key: called[key, of] for key, of in run.files.items()}})
        for run in runs
    ]


def _parts(runs: Sequence[Entry]) -> list[list[Entry]]:
    """The runs by their settings, in the order in which they come, each part by seed."""
    found: dict[str, list[Entry]] = {}
    for e in runs:
        found.setdefault(json.dumps(e.settings, sort_keys=True), []).append(e)
    return [sorted(part, key=lambda e: (e.seed, e.started)) for part in found.values()]


def _asked(part: Sequence[Entry]) -> Settings:
    """What runs that differ by seed only were asked for, on each of their command lines."""
    return replace(part[0].asked, given=frozenset.intersection(*(e.given for e in part)))


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


def level(found: Comparison, group: Group, role: str) -> float | None:
    """Of another network of the group's runs, such as "baseline" or "teacher", the mean on the test split in
    the metric's unit; None where a run lacks it.
    """
    values = [e.score(role, found.metric.name) for e in group.entries]
    return None if None in values else found.metric.scale * sum(values) / len(values)


SORTS = {
    "test": lambda g, c: _first(g.test.mean, c.metric.more),
    "validation": lambda g, c: _last(g.validation and _first(g.validation.mean, c.metric.more)),
    "gain": lambda g, c: _last(g.gain and -g.gain.found.mean),
    "difference": lambda g, c: _last(g.against and -g.against.found.mean),
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


def _first(value: float, more: bool) -> float:
    """What the best is sorted by, in rising order."""
    return -value if more else value


def _last(value: float | None) -> float:
    return float("inf") if value is None else value


def _natural(name: str) -> list[tuple[int, float, str]]:
    """Numbers in a name by their size: labelled=50 before labelled=100."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]
