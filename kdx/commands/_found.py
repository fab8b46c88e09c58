"""The runs that lie in some folders, each checked, for a comparison of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.pipeline.scores import digests_of
from kdx.report.compare.caveats import some
from kdx.report.compare.compare import Comparison, compare_runs
from kdx.report.compare.entries import STUDENT, Entry, entry
from kdx.report.compare.search import run_folders
from kdx.report.run.names import visible
from kdx.runs.reading import Run, read_run
from kdx.store.manifest import MANIFEST, read_manifest, stands_for

_DEPTH = 3
"""Levels below a named folder at which a run folder may lie: outputs/sweeps/<sweep>/<job> from outputs."""


@dataclass
class Found:
    """What lay in the folders. lines: what is not compared and why. damaged: how many could not be read."""

    entries: list[Entry] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    damaged: int = 0
    paths: dict[str, Path] = field(default_factory=dict)


def collect(paths: Sequence[Path]) -> Found:
    """Every run at or below the paths, checked. Raises UserError for a path that is not there or holds no run
    folder.
    """
    found, seen = Found(), set()
    named: dict[str, list[str]] = {}
    manifests: dict[Path, Mapping[str, Any] | None] = {}
    for path in paths:
        folders = run_folders(path, _DEPTH)
        if not folders:
            raise UserError(
                f"'{path}' "
                f"{'holds no run folder, three levels down' if path.is_dir() else 'does not exist: kdx compare needs run folders'}"  # noqa: E501
            )
        for folder in folders:
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            name = visible(os.path.relpath(folder))
            try:
                run = read_run(folder, figures=True)
                state = _state(run)
                if state == "finished":
                    found.entries.append(entry(name, run.document, *_from_store(run, manifests)))
                    found.paths[name] = folder
            except UserError as error:
                found.damaged += 1
                found.lines.append(f"not read: {visible(' '.join(str(error).split()))}")
                continue
            named.setdefault(state, []).append(name)
    for state in (s for s in named if s != "finished"):
        found.lines.append(
            f"not compared: {len(named[state])} {'run' if len(named[state]) == 1 else 'runs'} {state}: "
            f"{some(named[state])}"
        )
    return found


def _state(run: Run) -> str:
    """finished: with a student that was measured; else what it is in words."""
    state = run.state
    if state != "finished":
        return visible(state)[:40]
    results = run.document.get("results")
    return (
        "finished"
        if isinstance(results, dict) and results.get("student")
        else "without a student that was measured"
    )


def _from_store(
    run: Run, manifests: dict[Path, Mapping[str, Any] | None]
) -> tuple[dict[str, str] | None, str | None]:
    """(digests of the splits, digest of the student's code) from the manifests, where the store is at hand. A
    manifest is read once.
    """
    protocol = run.document.get("protocol")
    data = (
        None
        if isinstance(protocol, dict) and protocol.get("digests")
        else _manifest(run, "prepare", manifests)
    )
    student = _manifest(run, STUDENT, manifests)
    # where splits are numbers of rows, run.json alone tells what the rows hold
    own = data is not None and not any(name.endswith(".rows.npy") for name in data["files"])
    return digests_of(data["files"]) if data and own else None, student["code"] if student else None


def _manifest(
    run: Run, name: str, manifests: dict[Path, Mapping[str, Any] | None]
) -> Mapping[str, Any] | None:
    if name not in run.stages:
        return None
    stage, key = run.stages[name]
    for store in run.stores:
        file = store / stage / key / MANIFEST
        if file not in manifests:
            try:
                read = read_manifest(file)
                manifests[file] = read if stands_for(read) == key else None
            except UserError:
                manifests[file] = None  # not here, or damaged: then this is not known
        if manifests[file]:
            return manifests[file]
    return None


def sweep_summary(folder: Path) -> tuple[Comparison | None, list[str], list[Entry]]:
    """(the comparison of a sweep's folder for `show_comparison`, lines of what is not in it, runs that are
    finished and stand in no one table).

    None where there is nothing to compare, or what must not be mixed, and the lines say why.
    """
    found = Found()
    try:
        found = collect([folder])
        return (compare_runs(found.entries) if found.entries else None), found.lines, []
    except UserError as error:
        return None, [*str(error).splitlines(), *found.lines], found.entries
