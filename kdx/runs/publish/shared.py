"""What is published of a run: plain values, read from its folder. No torch."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from kdx.core.errors import UserError
from kdx.report.compare.curves import FURTHEST, LONGEST_FILE, metric_lines
from kdx.report.compare.search import run_folders
from kdx.report.run.names import Settings, choices, name_runs, settings, typed, visible
from kdx.report.run.tensorboard import is_number
from kdx.runs.lineage import released
from kdx.runs.publish.files import lay_files
from kdx.runs.publish.scores import RELEASED_STAGES, scores_of
from kdx.runs.reading import Run, read_run
from kdx.store.stage import split_number

_DEPTH = 3
"""Levels below a named folder at which a run folder may lie."""
_LONGEST = 5000
"""Letters of a command line that is kept."""
_AT_WORK = ("running", "running, or died")
_NO_METRICS = ("step", "stage", "metric")
PRIVATE = (
    "this run has private rows: only what was released of them is published, the figures of the student and "
    "of the student of true public labels on public rows, and no report, no pictures and no other role"
)
NO_EXAMPLES = "pictures and names of single rows were left out: examples=true publishes them too"


class Point(NamedTuple):
    """What one record of a stage says. values: finite."""

    stage: str
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Shared:
    """id: the same wherever its folder lies. params: flat settings, without those that say where files lie.
    scores: see `scores_of`. private: whether it has private rows."""

    run: Run
    id: str
    name: str
    asked: Settings
    params: Mapping[str, bool | int | float | str]
    tags: Mapping[str, str]
    scores: Mapping[str, float]
    private: bool

    @property
    def state(self) -> str:
        return self.run.state

    def moment(self, key: str) -> float | None:
        """Seconds since 1970 at which it "started" or "ended"."""
        try:
            return datetime.fromisoformat(self.run.document[key]).timestamp()
        except (LookupError, TypeError, ValueError, OverflowError):
            return None

    def points(self) -> Iterator[Point]:
        """Of metrics.jsonl, in its order; what is no record is passed over."""
        for line in metric_lines(self.run.path):
            point = _point(line)
            if point and (not self.private or split_number(point.stage)[0] in RELEASED_STAGES):
                yield point

    def remarks(self, *, examples: bool) -> list[str]:
        """What is left out of what is published, in sentences."""
        said = [PRIVATE] if self.private else [] if examples else [NO_EXAMPLES]
        curves = self.run.path / "metrics.jsonl"
        if curves.is_file() and curves.stat().st_size > LONGEST_FILE:
            said.append(f"the curves were left out: metrics.jsonl is larger than {LONGEST_FILE >> 20} MB")
        return said

    @contextmanager
    def files(self, *, examples: bool) -> Iterator[Path]:
        """A folder that holds what is published beside numbers, for as long as it is needed."""
        with tempfile.TemporaryDirectory(prefix="kdx-publish-") as place:
            if not self.private:
                lay_files(self.run.path, self.run.document, Path(place), examples=examples)
            yield Path(place)


def _point(line: bytes) -> Point | None:
    try:
        record = json.loads(line)
        step, stage = record["step"], record["stage"]
        values = {
            visible(str(name)): float(value)
            for name, value in record.items()
            if name not in _NO_METRICS and is_number(value) and math.isfinite(value)
        }
    except (ValueError, LookupError, TypeError, RecursionError, AttributeError, OverflowError):
        return None
    fits = isinstance(stage, str) and is_number(step) and 0 <= step <= FURTHEST
    return Point(visible(stage), int(step), values) if fits and values else None


def shared_runs(
    path: Path, *, store: str | None, name: str | None
) -> tuple[list[Shared], str | None, list[str]]:
    """(the runs at or below a path, the name of their group where it is no run folder itself, lines of what
    is not published and why). name: what the run, or the group, is to be called, in place of its
    folder's name.

    One run that is named is published however it ended, with how as its status; of a folder of many the
    finished ones. Raises UserError where there is nothing to publish.
    """
    if (path / "run.json").is_file() or not path.is_dir():
        run = read_run(path, store, figures=True)
        if run.state in _AT_WORK:
            raise UserError(f"the run '{path}' is {run.state}: publish it when it has ended")
        said = visible(name or path.resolve().name)
        return [_shared(run, said, None)], None, []
    group, runs, lines = visible(name or path.resolve().name), [], []
    for folder in run_folders(path, _DEPTH):
        try:
            run = read_run(folder, store, figures=True)
        except UserError as error:
            lines.append(f"not read: {' '.join(str(error).split())}")
            continue
        if run.state == "finished":
            runs.append(run)
        else:
            lines.append(f"not published: {visible(folder.name)} is {visible(run.state)}")
    if not runs:
        raise UserError(
            "\n".join([f"'{path}' holds no finished run, {_DEPTH} levels down: nothing to publish", *lines])
        )
    asked = [_asked(run) for run in runs]
    named = name_runs(asked, [visible(run.path.name) for run in runs])
    return [_shared(run, said, group) for run, said in zip(runs, named, strict=True)], group, lines


def _asked(run: Run) -> Settings:
    return settings(run.document["config"], run.document.get("command"), run.document.get("protocol"))


def _shared(run: Run, name: str, group: str | None) -> Shared:
    asked, private = _asked(run), released(run, "student")
    params = {**asked.values, **asked.choices}
    return Shared(
        run=run,
        id=identity(run.document),
        name=name,
        asked=asked,
        params={key: _plain(value) for key, value in params.items()},
        tags=_tags(run, group),
        scores=scores_of(run.document, private=private),
        private=private,
    )


def identity(document: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that a run.json has wherever it lies, and a run made again has not."""
    of = [document.get(key) for key in ("started", "command", "host")]
    of.append((document.get("config") or {}).get("seed"))
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | str) or is_number(value) else typed(value)


def _tags(run: Run, group: str | None) -> dict[str, str]:
    document = run.document
    made, chosen = document.get("environment") or {}, choices(document["config"])
    command: Sequence[Any] = document.get("command") or []
    found = {
        "kdx.run": identity(document),
        "kdx.status": run.state,
        "kdx.seed": document["config"].get("seed"),
        "kdx.version": made.get("kdx"),
        "kdx.commit": made.get("commit"),
        "kdx.sweep": group,
        "kdx.command": shlex.join(map(str, command))[:_LONGEST],
        **{f"kdx.{key}": chosen.get(key) for key in ("dataset", "teacher", "student", "loss")},
    }
    return {key: visible(str(value)) for key, value in found.items() if value not in (None, "")}
