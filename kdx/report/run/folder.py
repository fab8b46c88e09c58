"""The run folder: run.json, metrics.jsonl, TensorBoard events, report.md, figures, links to the artifacts."""

from __future__ import annotations

import json
import os
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from kdx.core import signals
from kdx.core.errors import UserError
from kdx.core.files import appendable, kind_at, own_file, own_folder
from kdx.core.roles import ROLES
from kdx.report.run.document import LOCK
from kdx.report.run.listeners import Listener
from kdx.report.run.markdown import report
from kdx.report.run.plain import dump, plain, write_or_error, writing
from kdx.report.run.tensorboard import Board
from kdx.report.run.textcard import card
from kdx.report.run.verdict import ROLE_WORDS, metric, present, result_warnings, rounded, summary, which_of
from kdx.store.store import split_number

_WHO = "the run"
PREFIX = {stage: role for role, stage in ROLES.items()}
_LATER = {
    "noiseless": "without noise,",
    "ceiling": "with all labels,",
    "validation_labels": "with validation labels,",
}
"""Names that sort behind the others, as TensorBoard shows the first five figures only."""
AUDITED = ("accuracy", "accuracy_all", "expected_accuracy", "kept_share", "changed", "student_accuracy")
"""What the audit tells of each round, as fractions."""
_FIRST = "gate"
"""The stage whose warning stands before all others: without a good teacher little else matters."""
CURVES = {"validation/accuracy": "Validation accuracy (%)", "train/loss": "Training loss"}


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
            self.check()
            self.clear()
            # Unbuffered, one write a line: a kill leaves whole lines.
            self.metrics = open(self.path / "metrics.jsonl", "wb", buffering=0)  # noqa: SIM115 (closed by `end`)
            self.board = Board(self.path)
            self.board.start_session(
                self.run["config"],
                " ".join(distinguishing_words(command)) or self.path.resolve().name,
                self.run["protocol"],
            )
            self.board.layout(ROLE_WORDS)
        self.save()

    @property
    def warnings(self) -> list[str]:
        return self.run["warnings"]

    def check(self) -> None:
        """Raises UserError where a link, a pipe or the like is in the place of something that is written: the
        folder may have come from somebody else.
        """
        for name in ("run.json", "report.md"):
            own_file(self.path / name, _WHO)
        for name in ("metrics.jsonl", "train.log"):
            appendable(self.path / name, _WHO)
        for name in ("figures", "artifacts"):
            if kind_at(self.path / name) is not None:
                own_folder(self.path / name, _WHO)
        for spot in (*(self.path / "figures").glob("*"), *self.path.glob("events.out.tfevents.*")):
            own_file(spot, _WHO)

    def clear(self) -> None:
        """Removes what an earlier run wrote here, and nothing else: a second event file would show each curve
        twice.
        """
        if not (self.path / "run.json").exists():
            return
        links = [old for old in self.path.glob("artifacts/*") if old.is_symlink() or old.is_file()]
        for old in [
            *self.path.glob("events.out.tfevents.*"),
            *self.path.glob("figures/*.png"),
            *links,
            self.path / "report.md",
        ]:
            old.unlink(missing_ok=True)

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
            prefix = _heading(label)
            values = {key: value for key, value in line.items() if key not in ("step", "stage")}
            self.board.scalars(prefix, values, line["step"])
        for curve in CURVES:
            if values.get(curve) is not None:
                self.series.setdefault(curve, {}).setdefault(prefix, []).append((line["step"], values[curve]))

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
        """artifacts/<name> points to `target`, relatively; a text file with the path stands in where links
        are not allowed.
        """
        spot = self.path / "artifacts" / re.sub(r"[^A-Za-z0-9._-]", "-", name)
        with writing(spot):
            spot.parent.mkdir(exist_ok=True)
            spot.unlink(missing_ok=True)
            relative = os.path.relpath(Path(target).resolve(), spot.parent.resolve())
            try:
                spot.symlink_to(relative, target_is_directory=True)
            except OSError:
                spot.write_text(relative + "\n", encoding="utf-8")
        self.artifacts[name] = f"artifacts/{spot.name}"

    # How a run ends

    def finish(
        self, results: Mapping, examples: Mapping | None, headline: str = "last", audit: Mapping | None = None
    ) -> dict:
        """results: as in kdx.report.run.verdict; empty where the evaluate stage was not asked for. examples:
        {"images": (K, C, H, W) uint8, "truth": K classes, "predictions": {role: K classes}} or None. audit:
        the content of audit.json, or None. Returns the results with headline, gain and gap_closed."""
        outcome = plain(results)
        if audit:
            self.run["audit"] = plain(audit)
        if present(outcome):
            for warning in result_warnings(outcome, headline):
                self.warn(warning)
            outcome |= summary(outcome, headline)
            self.run["results"] = outcome
            self.save()
        figures = self.draw(outcome, examples)
        with writing(self.path):
            accuracies = {
                f"{_LATER.get(role, role)} accuracy": metric(
                    outcome, role, outcome["headline"], "test", "accuracy"
                )
                for role in present(outcome)
            }
            self.board.final(
                {"gain": outcome.get("gain"), "gap closed": outcome.get("gap_closed"), **accuracies}
            )
            for number, found in enumerate(audit["rounds"] if audit else [], 1):
                learned = {
                    f"learned {key}": value
                    for key, value in (found.get("learned") or {}).items()
                    if key in AUDITED
                }
                self.board.scalars("audit", {key: found.get(key) for key in AUDITED} | learned, number)
        self.end("finished", figures)
        return outcome

    def fail(self, exception: BaseException) -> None:
        """Records what went wrong. Never raises: the exception at hand matters more than a full disk."""
        self.run["error"] = f"{type(exception).__name__}: {exception}"
        if isinstance(exception, UserError):
            self.run["error"] = str(exception)
        self.run["traceback"] = "".join(traceback.format_exception(exception))
        self.end_quietly("failed")

    def interrupt(self) -> None:
        """Records that the user stopped the run; one that was finished stays so. Never raises."""
        if self.run["status"] == "running":
            self.end_quietly("interrupted")

    def discard(self) -> None:
        """Takes back a run that never began: its files, the log that was opened for it, and the folder if
        nothing else is in it.
        """
        with suppress(Exception):
            self.metrics.close()
            self.board.close()
            self.clear()
            for name in ("run.json", "metrics.jsonl", "train.log", LOCK):
                (self.path / name).unlink(missing_ok=True)
            for folder in (self.path / "figures", self.path / "artifacts", self.path, self.path.parent):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

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
        text = report(self.run, str(self.path), figures, self.artifacts)
        write_or_error(self.path / "report.md", text)
        with writing(self.path):
            self.metrics.close()
            self.board.text("card", card(self.run, self.path.name))
            self.board.end_session(status == "finished")
            self.board.close()

    def draw(self, results: Mapping, examples: Mapping | None) -> dict[str, str]:
        """Writes figures/*.png, shows them on the board, and returns caption -> path."""
        from kdx.report.run import figures, rounds, shifts
        from kdx.report.run.reliability import diagram, draw_reliability

        pictures: list[tuple[str, str, bytes]] = []
        classes: Sequence[str] = results.get("classes") or []
        if examples is not None and len(examples["images"]):
            grid = figures.draw_pictures(
                examples["images"], examples["truth"], examples["predictions"], classes
            )
            pictures.append(("Test pictures with predictions", "predictions", grid))
        test = {
            role: results[role][which_of(role, results["headline"])].get("test") or {}
            for role in present(results)
        }
        for role, numbers in test.items():
            if numbers.get("confusion"):
                words = f"Confusion on the test split: {ROLE_WORDS[role]}"
                pictures.append(
                    (words, f"confusion/{role}", figures.draw_confusion(numbers["confusion"], classes, words))
                )
        for role, numbers in test.items():
            if numbers.get("reliability"):
                words = f"Reliability on the test split: {ROLE_WORDS[role]}"
                diagram_title = f"{words} (ECE {rounded(numbers['ece'], 3)}, n = {numbers['n']:,})"
                pictures.append(
                    (
                        words,
                        f"reliability/{role}",
                        diagram(numbers["reliability"], diagram_title, figures.ROLE_COLOURS[role]),
                    )
                )
        under = shifts.accuracies(results)
        if under:
            words = "Test accuracy (%) on shifted pictures"
            pictures.append((words, "shifts", figures.draw_bars(under, words)))
        if self.run.get("audit"):
            last = self.run["audit"]["rounds"][-1]
            bars = {
                "confidence": ("Confidence of the pseudo-labels kept (clean pictures)", last["confidence"])
            }
            if self.run["audit"]["teacher"]:
                bars["teacher-confidence"] = (
                    "Confidence of the teacher on validation",
                    self.run["audit"]["teacher"]["reliability"],
                )
            bars |= {
                f"monitor-{name}": (f"{name} of each pool row", m["histogram"])
                for name, m in last["monitors"].items()
                if "histogram" in m
            }
            pictures += [
                (words, f"audit/{tag}", figures.bars(histogram, words))
                for tag, (words, histogram) in bars.items()
            ]
            words = "Reliability of the teacher"
            if last["validation_margins"] and any(name.startswith("margin/") for name in last["curves"]):
                pictures.append(
                    (
                        words,
                        "audit/margins",
                        draw_reliability(last["validation_margins"], last["curves"], words),
                    )
                )
        if len(results.get("rounds") or []) > 1:
            counted, places = rounds.steps(results, self.run.get("audit"))
            words = f"Accuracy (%) by {counted}"
            pictures.append((words, "rounds", rounds.draw_rounds(results, self.run.get("audit"), words)))
            for split, points in rounds.series(results, places).items():
                for place, accuracy in points:
                    self.board.scalars("rounds", {f"{split} accuracy by {counted}": accuracy}, place)
        for name, words in CURVES.items():
            series = {
                role: points for role, points in self.series.get(name, {}).items() if role in ROLE_WORDS
            }
            if any(len(points) > 1 for points in series.values()):
                picture = figures.draw_curves(series, words, percent="%" in words)
                pictures.append((f"{words} over training", f"curves/{name.replace('/', '-')}", picture))
        paths = {}
        for caption, tag, png in pictures:
            spot = self.path / "figures" / f"{tag.replace('/', '-')}.png"
            with writing(spot):
                spot.parent.mkdir(exist_ok=True)
                spot.write_bytes(png)
                self.board.image(tag, png)
            paths[caption] = f"figures/{spot.name}"
        return paths


def distinguishing_words(command: Sequence[str]) -> list[str]:
    """The words of a command line that say what a run is, and not where and how fast it is computed. The seed
    comes first: it is short.
    """
    words = [word for word in command if "=" in word and not word.startswith(("hydra", "device", "store="))]
    return sorted(words, key=lambda word: not word.startswith("seed="))


def _heading(stage: str) -> str:
    """What a stage's curves are grouped under: the role that it trains, with the number of a round or of a
    further teacher.
    """
    stem, number = split_number(stage)
    role = PREFIX.get(stem, stem)
    return role if number is None else f"{role}-{number}"


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
