"""The run folder: run.json, metrics.jsonl, TensorBoard events, reports, figures, links to the artifacts."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from kdx.core import signals
from kdx.core.documents import dump, plain
from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.roles import known_roles
from kdx.report.metric import live_metric
from kdx.report.run.classes import by_class
from kdx.report.run.gallery import example_cells
from kdx.report.run.listeners import Listener
from kdx.report.run.markup import table_of_cells
from kdx.report.run.place import check_place, clear_place, file_name, link_artifact, take_back
from kdx.report.run.result_warnings import result_warnings
from kdx.report.run.rounds import series, steps
from kdx.report.run.tensorboard import Board, network_of_stage
from kdx.report.run.textcard import card
from kdx.report.run.verdict import present, score, summary, what_gained
from kdx.report.run.webpage import reports
from kdx.report.run.written import write_or_error, writing
from kdx.store.resolve import own_error
from kdx.tasks.shown import counting_metric

_ASKED = {"teacher": "teacher", "baseline": "student alone", "student": "student"}
"""The networks of the run's own question, and what they are called on TensorBoard, which shows the first five
figures only: these, the gain and the gap closed.
"""
AUDITED = ("accuracy", "accuracy_all", "expected_accuracy", "kept_share", "changed", "student_accuracy")
"""What the audit tells of each round, as fractions."""
_FIRST = "gate"
"""The stage whose warning stands before all others: without a good teacher little else matters."""
_DRAWN = ("train/loss", "validation/")
"""What the curves that are drawn begin with."""


class RunFolder(Listener):
    """Writes everything a run leaves behind but its weights, as it goes. run.json and metrics.jsonl are the
    truth, the rest are views.

    path: created if need be; what an earlier run in the same folder wrote is replaced. config, protocol,
    environment: plain values. command: the words as typed, the program first. Raises UserError where the
    folder cannot be written.
    """

    def __init__(self, path: Path | str, config: dict, protocol: dict, environment: dict, command: list[str]):
        self.path = Path(path)
        self.run: dict[str, Any] = {
            "status": "running",
            "config": plain(config),
            "stages": [],
            "results": None,
            "data": [],
            "protocol": plain(protocol),
            "environment": plain(environment),
            "started": now(),
            "ended": None,
            "seconds": None,
            "warnings": [],
            "command": [str(word) for word in command],
        }
        self.began = time.monotonic()  # the time of day may be set while a run is at work
        self.labels: dict[str, tuple[str, bool]] = {}
        self.keys: dict[str, list[str]] = {}
        self.series: dict[str, dict[str, list[tuple[int, float]]]] = {}
        self.artifacts: dict[str, str] = {}
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            check_place(self.path)
            clear_place(self.path)
            # Unbuffered, one write a line: a kill leaves whole lines.
            self.metrics = open(self.path / "metrics.jsonl", "wb", buffering=0)  # noqa: SIM115 (closed by `end`)
            self.board = Board(self.path)
            self.board.start_session(
                self.run["config"],
                " ".join(distinguishing_words(command)) or self.path.resolve().name,
                self.run["protocol"],
            )
        self.metric: Metric | None = None  # that of the curves, as soon as a stage has recorded one
        self.examples: tuple[list[str], list[list[str]]] | None = None
        self.save()

    @property
    def warnings(self) -> list[str]:
        return self.run["warnings"]

    def save(self) -> None:
        write_or_error(self.path / "run.json", dump(self.run))

    # What the store tells

    def started(self, name: str, key: str, cached: bool) -> None:
        """A name heard again with another key (a further teacher, a further round) is shown as name-2,
        name-3, ...
        """
        seen = self.keys.setdefault(name, [])
        heard = key in seen
        if not heard:
            seen.append(key)
        index = seen.index(key)
        self.labels[name] = (f"{name}-{index + 1}" if index else name, heard)

    def record(self, name: str, record: dict) -> None:
        label, heard = self.labels.get(name, (name, False))
        if heard:  # the same artifact asked for twice in a run: its curve is there already
            return
        line = plain({**record, "stage": label})
        with writing(self.path / "metrics.jsonl"):
            self.metrics.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            role, number = network_of_stage(label)
            values = {key: value for key, value in line.items() if key not in ("stage", "metric")}
            self.board.curves(role, number, values)
            self._lay_out(live_metric(line))
        heading = role if number is None else f"{role}-{number}"
        for curve, value in values.items():
            if curve.startswith(_DRAWN) and value is not None:
                self.series.setdefault(curve, {}).setdefault(heading, []).append((line["step"], value))

    def _lay_out(self, metric: Metric | None) -> None:
        """Charts of that metric on the board, which reads the first that are named."""
        if metric and not self.metric:
            self.metric = metric
            self.board.layout(metric)

    def note(self, name: str, text: str, level: str) -> None:
        if level == "warning":
            self.warn(text, first=name == _FIRST)
        elif name == "prepare" and level == "info" and text not in self.run["data"]:
            self.run["data"].append(text)

    def warn(self, text: str, first: bool = False) -> None:
        if text not in self.warnings:
            self.warnings.insert(0 if first else len(self.warnings), text)

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        label, heard = self.labels.get(name, (name, False))
        if not heard:
            self.run["stages"].append(
                {"name": label, "key": key, "cached": bool(cached), "seconds": round(float(seconds), 3)}
            )
            self.save()

    def link(self, name: str, target: Path | str) -> None:
        """artifacts/<name> points to `target`."""
        self.artifacts[name] = link_artifact(self.path, name, target)

    # How a run ends

    def finish(
        self, results: Mapping, examples: Mapping | None, headline: str = "last", audit: Mapping | None = None
    ) -> dict:
        """results: as in kdx.report.run.verdict; empty where the evaluate stage was not asked for. examples:
        {"images": (K, C, H, W) uint8, "truth": K classes, "predictions": {role: K classes}, "confidence":
        {role: K numbers}, "names": K texts} or None, the last two may be absent; without images truth and
        predictions are K texts. audit: the content of audit.json, or None. Returns the results with
        headline, gain and gap_closed.
        """
        outcome = plain(results)
        if audit:
            self.run["audit"] = plain(audit)
        if present(outcome):
            for warning in result_warnings(outcome, headline):
                self.warn(warning)
            outcome |= summary(outcome, headline)
            outcome |= what_gained(self.run["config"].get("choices") or {})
            outcome |= by_class(outcome, headline)
            self.run["results"] = outcome
            self.save()
        if examples and examples.get("images") is None:
            self.examples = example_cells(examples, known_roles(outcome), outcome.get("classes") or ())
        figures = self.draw(outcome, examples)
        with writing(self.path):
            self._final(outcome, audit)
        self.end("finished", figures)
        return outcome

    def _final(self, results: Mapping, audit: Mapping | None) -> None:
        """The few numbers of the whole run, and those of its rounds, as scalars."""
        title = counting_metric(results).title
        known, asked, others = known_roles(results), {}, {}
        for role in present(results):
            found = asked if role in _ASKED else others
            words = _ASKED.get(role) or known[role].words
            found[f"{words} {title}"] = score(results, role, results["headline"])
        self.board.final(
            {"gain": results.get("gain"), "gap closed": results.get("gap_closed"), **asked}, others
        )
        for number, found in enumerate(audit["rounds"] if audit else [], 1):
            learned = {
                f"learned {key}": value
                for key, value in (found.get("learned") or {}).items()
                if key in AUDITED
            }
            known = {key: found.get(key) for key in AUDITED} | (found.get("metrics") or {})
            self.board.scalars("audit", known | learned, number)
        if len(results.get("rounds") or []) > 1:
            counted, places = steps(results, audit)
            for split, points in series(results, places).items():
                for place, value in points:
                    self.board.scalars("rounds", {f"{split} {title} by {counted}": value}, place)

    def fail(self, exception: BaseException) -> None:
        """Records what went wrong. Never raises: the exception at hand matters more than a full disk."""
        said = f"{type(exception).__name__}: {exception}"
        with suppress(Exception):  # where in the user's own code, if any of it took part
            said = own_error(exception) or said
        self.run["error"] = str(exception) if isinstance(exception, UserError) else said
        self.run["traceback"] = "".join(traceback.format_exception(exception))
        self.end_quietly("failed")

    def interrupt(self) -> None:
        """Records that the user stopped the run; one that was finished stays so. Never raises."""
        if self.run["status"] == "running":
            self.end_quietly("interrupted")

    def discard(self) -> None:
        """Takes back a run that never began. Never raises."""
        with suppress(Exception):
            self.metrics.close()
            self.board.close()
        take_back(self.path)

    def end_quietly(self, status: str) -> None:
        with suppress(Exception):
            self.end(status, {})

    def end(self, status: str, figures: Mapping[str, str]) -> None:
        """Within it a signal is noted only: what says that a run is finished comes with its report."""
        with signals.held():
            self._end(status, figures)

    def _end(self, status: str, figures: Mapping[str, str]) -> None:
        self.run |= {"status": status, "ended": now(), "seconds": round(time.monotonic() - self.began, 3)}
        self.save()
        for name, text in reports(self.run, self.path, figures, self.artifacts, self.examples).items():
            write_or_error(self.path / name, text)
        with writing(self.path):
            self.metrics.close()
            self._lay_out(counting_metric(self.run["results"]))
            if self.examples:
                self.board.text("examples", table_of_cells(*self.examples))
            self.board.text("card", card(self.run, self.path.name))
            self.board.end_session(status == "finished")
            self.board.close()

    def draw(self, results: Mapping, examples: Mapping | None) -> dict[str, str]:
        """Writes figures/*.png, shows them on the board, and returns caption -> path."""
        from kdx.report.run.drawn import figures_of

        paths = {}
        for picture in figures_of(results, self.run.get("audit"), examples, self.series):
            spot = self.path / "figures" / f"{file_name(picture.tag)}.png"
            with writing(spot):
                spot.parent.mkdir(exist_ok=True)
                spot.write_bytes(picture.png)
                for tag, png in (picture.parts or {picture.tag: picture.png}).items():
                    self.board.image(tag, png)
            paths[picture.caption] = f"figures/{spot.name}"
        return paths


def distinguishing_words(command: Sequence[str]) -> list[str]:
    """The words of a command line that say what a run is, and not where and how fast it is computed. The seed
    comes first: it is short.
    """
    words = [word for word in command if "=" in word and not word.startswith(("hydra", "device", "store="))]
    return sorted(words, key=lambda word: not word.startswith("seed="))


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
