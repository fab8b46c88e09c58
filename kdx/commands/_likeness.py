"""What `kdx rerun` says: whether a run came out as it did before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdx.commands._show import show_table
from kdx.core.errors import printable
from kdx.core.folded import say
from kdx.runs import diff
from kdx.runs.diff import Likeness
from kdx.runs.reading import Run

REPORT, _SHOWN = "rerun.json", 20


def from_store(now: Run) -> list[str]:
    """Stages that were in the store before: not those that a run of several rounds names once more."""
    made = {entry["key"] for entry in now.document["stages"] if not entry["cached"]}
    return [entry["name"] for entry in now.document["stages"] if entry["cached"] and entry["key"] not in made]


def rerun_report(found: Likeness, run: Run, stored: Sequence[str]) -> dict[str, Any]:
    """rerun.json: see docs/run-json.md."""
    rows = {
        part: [{"what": what, "recorded": before, "now": after} for what, before, after in vars(found)[part]]
        for part in ("numbers", "weights", "environment")
    }
    return {
        "same": found.same,
        "compared": found.compared,
        **rows,
        "student": found.student,
        "stages": [{"name": name, "why": why} for name, why in found.stages],
        "from_store": list(stored),
    }


def show_likeness(found: Likeness, run: Run, now: Run, stored: Sequence[str]) -> None:
    print()
    if stored:
        everything = len(stored) == len(now.stages)
        print(
            printable(
                "from the store: "
                f"{'everything, so nothing was computed again' if everything else ', '.join(stored)}"
            )
        )
    if now.document["status"] != "finished":
        there = " as it did there" if run.document.get("error") == now.document.get("error") else ""
        print(f"the run failed here{there}: nothing to compare")
        return
    if not found.known:
        print(
            printable(
                f"there is nothing to compare with: the run '{run.path}' has no results (its status is "
                f"{run.state[:40]!r})"
            )
        )
    elif found.same:
        network = f", and the student's weights (SHA-256 {found.student})" if found.student else ""
        say(f"the same, bit for bit: {found.compared} numbers{network}")
        other = ", ".join(printable(what) for what, _, _ in found.environment)
        print(f"with another {other}" if other else "with the same versions, device and threads")
    elif found.numbers:
        rows = [
            [what, _figure(before), _figure(after), difference(before, after)]
            for what, before, after in diff.worth_showing(found.numbers, _SHOWN, found.metric)
        ]
        more = len(found.numbers) - len(rows)
        show_table(
            f"{len(found.numbers)} of {found.compared} numbers differ",
            ["", "recorded", "now", "difference"],
            rows,
            [f"and {more} more, cells of matrices among them: see {REPORT}"] if more else [],
        )
    else:
        print(
            f"the same {found.compared} numbers, from weights that differ: "
            f"{', '.join(what for what, _, _ in found.weights)}"
        )
    if found.known and not found.same:
        show_why(found)
    print(f"{now.path / REPORT}")


def show_why(found: Likeness) -> None:
    if found.stages:
        show_table(
            "Stages that were made of something else",
            ["stage", "why"],
            [[name, why] for name, why in found.stages],
        )
    if found.environment:
        rows = [
            [what, diff.brief_value(before), diff.brief_value(after)]
            for what, before, after in found.environment
        ]
        show_table("What the runs were made with", ["", "recorded", "now"], rows)
    if not found.stages and not found.environment:
        print(
            "every stage has the same key, and nothing that was recorded of device, threads and versions "
            "differs: something here is not deterministic, or the folder's numbers are not those of its run"
        )


def _figure(value: Any) -> str:
    return "-" if value is None else repr(value)


def difference(before: Any, after: Any) -> str:
    return "-" if before is None or after is None else f"{after - before:+.3g}"
