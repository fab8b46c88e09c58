"""The numbers of a run that are published, by names that read well, and what of private rows is not. No
torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kdx.core.roles import roles_of
from kdx.report.run.tensorboard import is_number
from kdx.report.run.verdict import measured_on, of_table
from kdx.runs.lineage import promised
from kdx.tasks.shown import counting_metric

_SPLITS = ("train", "validation", "test")
_OF_NETWORK = ("parameters", "bytes", "flops", "latency_ms", "steps", "best_step")
_CALLED = {"baseline": "student_alone"}
RELEASED_STAGES = ("student-train", "baseline-train")
"""Of a run with private rows, the stages that read no more of them than was released."""


def role_name(role: str) -> str:
    """What a role is called in the names of scores."""
    return _CALLED.get(role, role)


def scores_of(document: Mapping[str, Any], *, private: bool) -> dict[str, float]:
    """`student/test/accuracy` -> value, as it is measured (a share is a fraction), of the weights that the
    table shows; only what is finite. document: a run.json that was checked. private: whether it has private
    rows, of which it shows no more than was released."""
    results = document.get("results")
    if not isinstance(results, Mapping):
        return {}
    shown = promised(results) if private else results
    found = [*_of_roles(shown, of_table(document)), *_of_run(results, private)]
    if not private:
        found += _under_shifts(results)
    return {name: float(value) for name, value in found if is_number(value) and math.isfinite(value)}


def _of_roles(results: Mapping[str, Any], which: str) -> Iterator[tuple[str, Any]]:
    for role in roles_of(results):
        for split in _SPLITS:
            for name, value in measured_on(results, role, which, split).items():
                yield f"{role_name(role)}/{split}/{name}", value
        for name in _OF_NETWORK:
            yield f"{role_name(role)}/{name}", results[role].get(name)


def _of_run(results: Mapping[str, Any], private: bool) -> Iterator[tuple[str, Any]]:
    yield "gain", results.get("gain")
    if private:  # the gap is to a teacher of private rows
        for name in ("epsilon", "delta"):
            yield f"privacy/{name}", (results.get("privacy") or {}).get(name)
    else:
        yield "gap_closed", results.get("gap_closed")


def _under_shifts(results: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    counts = counting_metric(results).name
    for kind in ("shifts", "attacks"):
        for shift, roles in (results.get(kind) or {}).items():
            for role, value in roles.items():
                yield f"{role_name(role)}/{shift}/{counts}", value
