"""The end of a sweep: what came of its runs, and how they compare."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.commands._comparison import show_comparison
from kdx.commands._found import sweep_summary
from kdx.commands._show import show_table
from kdx.commands._tell import run_document
from kdx.config.grid import swept_key
from kdx.core import output
from kdx.report.compare import documents
from kdx.report.compare.caveats import some
from kdx.report.compare.compare import Comparison
from kdx.report.compare.entries import Entry
from kdx.report.compare.measured import common_words
from kdx.report.run import document
from kdx.runs import sweep
from kdx.runs.sweep import Sweep


def conclude(place: Sweep) -> int:
    """Tells what came of the runs."""
    runs = place.runs()
    failed = {
        name: why_unfinished(place.path / name, run) for name, run in runs.items() if not sweep.finished(run)
    }
    found, lines, apart = sweep_summary(place.path)
    if output.wants_document():
        output.answer(_document(place, runs, failed, found, lines))
    elif shards := shards_in_words(place, runs):
        print(f"\n{shards}")
    elif found:
        show_comparison(found)
    elif apart:
        side_by_side(apart, lines, finished=len(runs) - len(failed), whole=len(runs))
    elif len(failed) < len(runs):
        print("\n".join(lines), file=sys.stderr)
    if failed:
        why: dict[str, list[str]] = {}
        for name, cause in failed.items():
            why.setdefault(cause, []).append(name)
        rows = [[some(names), cause] for cause, names in why.items()]
        show_table(
            f"{len(failed)} of {len(runs)} runs are not finished:",
            ["runs", "reason"],
            rows,
            ["Run the same command again: only these will run."],
        )
    folder = os.path.relpath(place.path)
    print(
        f"\nruns: {folder}\n  kdx compare {folder} {'where=KEY=VALUE ' if apart else ''}--html "
        f"report.html\n  kdx board {folder}"
    )
    output.instead(f"the runs are in {folder}, and kdx compare {folder} shows them")
    return 1 if failed or not runs else 0


def shards_in_words(place: Sweep, runs: Mapping[str, Any]) -> str | None:
    """Of a sweep that makes shards of answers: how many are there, and what to do when all are; None of any
    other sweep."""
    command = (sweep.read_sweep(place.path / sweep.SWEEP_FILE) or {}).get("command") or []
    if not any(word.startswith("pseudo_label.shard=") for word in command):
        return None
    made: dict[int, bool] = {}
    of = 0
    for name, about in runs.items():
        asked = ((sweep.run_in(place.path / name) or {}).get("config") or {}).get("pseudo_label") or {}
        if about and asked.get("shard") is None:
            return None
        if about:
            made[asked["shard"]] = made.get(asked["shard"], True) and sweep.finished(about)
            of = asked["shards"]
    if not made:
        return None
    left = [word for word in command if not re.match(r"(-m$|--multirun$|pseudo_label\.shard=)", word)]
    left = [word for word in left if not re.match(r"(hydra[./]launcher|launcher=|hydra\.sweep)", word)]
    several = ["-m"] if any(swept_key(word) for word in left) else []
    return (
        f"{sum(made.values())} of {of} shards are in the store; when all are, this puts them together and "
        f"goes on:\n  {shlex.join([*left[:2], *several, *left[2:]])}"
    )


def _document(
    place: Sweep,
    runs: Mapping[str, Any],
    failed: Mapping[str, str],
    found: Comparison | None,
    lines: Sequence[str],
) -> dict[str, Any]:
    """What --json says of a sweep: its runs, and their comparison, or why there is none."""
    listed = []
    for name in runs:
        run = sweep.run_in(place.path / name) or {}
        about = {"words": list((place.jobs or {}).get(name, (run.get("command") or [])[2:]))}
        listed.append(
            {**about, **run_document(place.path / name, run)}
            | ({"why": failed[name]} if name in failed else {})
        )
    compared = documents.as_document(found, lines) if found else None
    return {
        "folder": os.path.relpath(place.path),
        "runs": listed,
        "comparison": compared,
        "notes": list(lines),
    }


def side_by_side(entries: Sequence[Entry], lines: Sequence[str], *, finished: int, whole: int) -> None:
    """Runs that are finished and must not be compared, each with its own figures. lines: why."""
    roles = ("teacher", "baseline", "student")
    several = len({e.counts.meaning for e in entries}) > 1
    rows = [
        [Path(e.name).name, *([e.counts.title] if several else []), *(_shown(e, role) for role in roles)]
        for e in entries
    ]
    done = (
        f"the {whole} runs are finished" if finished == whole else f"{finished} of {whole} runs are finished"
    )
    show_table(
        f"{done}; each has a test split or a protocol of its own, so they are not compared, and no row is "
        "better than another:",
        [
            "run",
            *(["metric"] if several else []),
            *(f"{common_words([e.called for e in entries], role).words}, test" for role in roles),
        ],
        rows,
        lines,
    )


def _shown(e: Entry, role: str) -> str:
    value = e.score(role, e.counts.name)
    return "-" if value is None else e.counts.text(value)


def why_unfinished(folder: Path, run: Mapping[str, Any] | None) -> str:
    """Why a run is not finished, in one line."""
    if not run:
        return "did not begin"
    if run.get("status") in ("failed", sweep.DAMAGED):
        return (str(run.get("error") or "").splitlines() or ["no reason given"])[0]
    return {document.DIED: "was killed or stopped in the middle", "interrupted": "was interrupted"}.get(
        state := document.state(folder, run), state
    )
