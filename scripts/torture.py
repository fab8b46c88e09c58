#!/usr/bin/env python
"""Kills runs, damages what they leave, trains on hostile folders of pictures and types nasty lines, and counts what kdx must never do.

    python scripts/torture.py --seed 1                                 all of it: 30 kills, 400 damages, 150
                                                                       folders, 5,000 lines
    python scripts/torture.py --kills 5 --damages 40 --folders 10 --lines 100

silent: exit code 0, and other results than those of the undisturbed run (latencies and times apart), or
pictures that are neither used nor reported, or something written outside. traceback: one was printed, or an
exit code that is none of kdx's. hang: a command took more than --limit seconds. Exit code 1 where any count
is not 0. Each command runs in a fork of this process, which has imported torch and done nothing with it. The
same seed makes the same cases, but for the moments of kills. The code must not change meanwhile: keys hold
its digest.
"""  # noqa: E501

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")]

import damages  # noqa: E402
import hostile  # noqa: E402
from unprivileged import obey_modes  # noqa: E402

from kdx.core.files import kind_at  # noqa: E402
from kdx.store.manifest import LEFTOVERS  # noqa: E402

CPU = ("device=cpu", "device.threads=1", "device.checkpoint_seconds=0")
SMALL = (
    "dataset=folder",
    "dataset.image_size=16",
    "augment=[affine]",
    "teacher=cnn_small",
    "teacher.dropout=0.2",
    "student=mlp_small",
    *CPU,
)
WORDS = (
    *SMALL,
    "dataset.labelled=45",
    "dataset.validation=45",
    "dataset.test=45",
    "teacher_pretrain.steps=10",
    "teacher_pretrain.evaluate_every=2",
    "student_train.steps=10",
    "student_train.evaluate_every=3",
    "hydra.run.dir=rd",
    "store=store",
)
BRIEF = (*SMALL, "teacher_pretrain.steps=3", "student_train.steps=3", "hydra.run.dir=rd", "store=store")
TIMES = ("latency_ms", "seconds", "teacher_seconds_saved")
CODES = (0, 1, 2, 130, 141)
STOPS = (
    ("teacher-pretrain", 5),
    ("pseudo-label", 3),
    ("baseline-train", 4),
    ("student-train", 7),
    ("evaluate", 2),
    ("audit", 1),
    ("prepare", 0),
)
"""Where runs are killed whose unfinished stages are damaged:
the stage, and its how manyth sign of progress.
"""


@dataclass(frozen=True)
class Ended:
    """code: None where it had to be killed, as it took too long; minus the signal that ended it."""

    code: int | None
    out: str
    err: str

    @property
    def reported(self) -> str:
        return self.out + self.err


@dataclass
class Verdict:
    """What came of one case. what: the case, in words. code: of its last command."""

    what: str
    code: int | None = 0
    silent: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    said: str = ""

    def look(self, ended: Ended, words: Sequence[str]) -> Ended:
        """Notes what no command may do."""
        self.code, self.said = ended.code, ended.err.strip()[-600:]
        line = " ".join(words)[:200]
        if ended.code is None:
            self.hangs.append(line)
        elif (
            "Traceback" in ended.reported
            or "Error executing job" in ended.reported
            or ended.code not in CODES
        ):
            self.tracebacks.append(f"{line}: exit code {ended.code}: {ended.reported.strip()[-1500:]}")
        elif ended.code and not ended.reported.strip():
            self.tracebacks.append(f"{line}: exit code {ended.code} without a word")
        return ended


# Commands in forks


def run(
    place: Path,
    words: Sequence[str],
    limit: float,
    *,
    kill_after: float | None = None,
    stop: tuple[str, int] | None = None,
) -> Ended:
    """`kdx words` in `place`.
    stop: it kills itself at that sign of progress (0: at the stage's first file).
    """
    out, err = place / "out.txt", place / "err.txt"
    child = os.fork()
    if child == 0:
        os._exit(_command(place, words, out, err, stop))
    ends = time.monotonic() + (limit if kill_after is None else kill_after)
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            code = None if kill_after is None else -signal.SIGKILL
            break
        time.sleep(0.005)
    else:
        code = os.waitstatus_to_exitcode(done[1])
    return Ended(code, *(path.read_text(errors="replace") if path.is_file() else "" for path in (out, err)))


def _command(place: Path, words: Sequence[str], out: Path, err: Path, stop: tuple[str, int] | None) -> int:
    code = 70
    try:
        os.chdir(place)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.environ["HOME"] = str(place)
        from kdx import cli

        if stop:
            _kill_self(*stop)
        code = cli.main(list(words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _kill_self(stage: str, step: int) -> None:
    from kdx.store.work import Work

    progress, write_json = Work.progress, Work.write_json

    def stumble(work: Work, done: int, total: int, text: str = "") -> None:
        progress(work, done, total, text)
        if (work.name, done) == (stage, step):
            os.kill(os.getpid(), signal.SIGKILL)

    def last(work: Work, name: str, value: Any) -> None:
        write_json(work, name, value)
        if (work.name, 0) == (stage, step):
            os.kill(os.getpid(), signal.SIGKILL)

    Work.progress, Work.write_json = stumble, last


def import_all() -> None:
    for name in (
        "kdx.config.validate",
        "kdx.pipeline.stages.prepare",
        "kdx.pipeline.stages.pretrain",
        "kdx.pipeline.stages.train",
        "kdx.pipeline.stages.label",
        "kdx.pipeline.stages.gate",
        "kdx.pipeline.stages.audit",
        "kdx.pipeline.stages.evaluate",
        "kdx.commands.train",
        "kdx.commands.evaluate",
        "kdx.commands.cache",
        "kdx.commands.compare",
        "kdx.commands.plan",
        "kdx.runs.export.export",
        "kdx.report.run.folder",
        "kdx.report.run.figures",
        "kdx.report.run.table",
        "kdx.data.datasets.folder",
        "kdx.planning.document",
        "torch._dynamo",
        "sklearn.linear_model",
        "sklearn.model_selection",
    ):
        importlib.import_module(name)


# Results


def plain(value: Any) -> Any:
    """Without what tells of times."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in TIMES}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def results(place: Path) -> dict[str, Any]:
    """All that a run has made, but for times and notes:
    what a run that was disturbed must come to as well.
    """
    document = json.loads((place / "rd/run.json").read_text())
    found: dict[str, Any] = {
        "results": plain(document["results"]),
        "stages": [(s["name"], s["key"]) for s in document["stages"]],
        "status": document["status"],
    }
    for stage in document["stages"]:
        for file in sorted((place / "rd/artifacts" / stage["name"]).resolve().iterdir()):
            # nothing reads the last where a stage is finished
            if file.name not in (
                "manifest.json",
                "notes.jsonl",
                *LEFTOVERS,
            ):
                content = file.read_bytes()
                found[f"{stage['name']}/{file.name}"] = (
                    plain(json.loads(content)) if file.suffix == ".json" else content
                )
    return found


def differences(place: Path, wanted: dict[str, Any]) -> list[str]:
    try:
        found = results(place)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"the results cannot be read: {error!r}"]
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


@dataclass(frozen=True)
class Arena:
    """top: a folder of this torture's own. wanted: what the undisturbed run made; measured: what `kdx
    evaluate` says of it.
    """

    top: Path
    limit: float
    wanted: dict[str, Any] = field(default_factory=dict)
    measured: Any = None
    took: float = 0.0

    def place(self, name: str) -> Path:
        place = self.top / name
        (place / "outside").mkdir(parents=True)
        (place / "outside/precious").write_text("mine")
        return place

    @property
    def words(self) -> list[str]:
        return ["train", f"dataset.root={self.top / 'pictures'}", *WORDS]

    def untouched(self, place: Path, verdict: Verdict) -> None:
        if [p.name for p in (place / "outside").iterdir()] != ["precious"] or (
            place / "outside/precious"
        ).read_text() != "mine":
            verdict.silent.append("something was written through a link")


EVALUATE = ["evaluate", "rd", "json=figures.json", *CPU[:2]]


def begin(top: Path, limit: float) -> Arena:
    """The pictures, the undisturbed run and the places in which runs were killed."""
    hostile.classes(top / "pictures", random.Random(0), 70)
    for file in (top / "pictures").rglob("*"):
        os.utime(file, (1, 1))
    arena = Arena(top, limit)
    place = arena.place("undisturbed")
    began = time.monotonic()
    ended = run(place, arena.words, limit)
    took = time.monotonic() - began
    if ended.code != 0 or run(place, EVALUATE, limit).code != 0:
        raise SystemExit(f"the undisturbed run failed: {ended.reported}")
    measured = plain(json.loads((place / "figures.json").read_text())["results"])
    return Arena(top, limit, results(place), measured, took)


# The four parts


def kill(arena: Arena, number: int, rng: random.Random) -> Verdict:
    """One or several kills at moments that nobody chose, then on to the end."""
    verdict, place = Verdict(f"kill {number}"), arena.place(f"kill-{number}")
    for _ in range(rng.choice([1, 1, 2, 3])):
        run(place, arena.words, arena.limit, kill_after=rng.uniform(0, 1.1 * arena.took))
    if verdict.look(run(place, arena.words, arena.limit), arena.words).code == 0:
        verdict.silent += differences(place, arena.wanted)
    elif verdict.code is not None:
        verdict.tracebacks.append(f"it does not go on: {verdict.said}")
    return verdict


def targets(place: Path, rng: random.Random) -> Path:
    """Something that a run left: first of which kind, then which."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted((*place.glob("store/**/*"), *place.glob("rd/**/*"))):
        inside = path.relative_to(place).as_posix()
        partial, folder = ".partial" in inside, kind_at(path) == "a folder"
        name = (
            "partial folder"
            if partial and folder
            else "partial file"
            if partial
            else "link"
            if path.is_symlink()
            else "lock"
            if "/locks/" in inside
            else (
                "folder"
                if folder
                else path.name
                if path.name in ("manifest.json", "sources.json", "run.json", "metrics.jsonl", "train.log")
                else "run file"
                if inside.startswith("rd/")
                else path.suffix
            )
        )
        kinds.setdefault(name, []).append(path)
    several = [
        name
        for name in kinds
        for _ in range(
            4 if name.startswith("partial") else 2 if name in ("manifest.json", "folder", "run.json") else 1
        )
    ]
    return rng.choice(kinds[rng.choice(several)])


READERS = (
    ["export", "rd", "to=export", "format=state_dict"],
    ["compare", "rd", "json=compared.json"],
    ["cache", "ls", "store=store", "runs=."],
    ["cache", "verify", "store=store"],
    ["cache", "gc", "store=store", "runs=.", "older_than=0", "yes=true"],
)


def damage(arena: Arena, number: int, rng: random.Random) -> Verdict:
    """Something of a finished or a killed run is damaged; then a command reads it, and the run is asked for
    again.
    """
    name = rng.choice(["undisturbed", *(f"stopped-{stage}" for stage, _ in STOPS)])
    place = arena.top / f"damage-{number}"
    shutil.copytree(arena.top / name, place, symlinks=True)
    document = place / "rd/run.json"
    if document.is_file():  # it names its store by the whole path
        document.write_text(document.read_text().replace(str(arena.top / name), str(place)))
    dealt = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        for _ in range(20):
            target = targets(place, rng)
            how = rng.choice(damages.OF_FOLDERS if kind_at(target) == "a folder" else damages.OF_FILES)
            try:
                done = how(target, rng)
            except OSError:
                continue  # what was damaged before is in the way
            if done:
                dealt.append(f"{how.__name__} {target.relative_to(place)}")
                break
    verdict = Verdict(f"damage {number} ({name}): {', '.join(dealt)}")
    reader = rng.choice([None, None, EVALUATE, *READERS])
    if reader:
        verdict.what += f"; {reader[0]} {reader[1]}"
        ended = verdict.look(run(place, reader, arena.limit), reader)
        if reader is EVALUATE and ended.code == 0:
            said = plain(json.loads((place / "figures.json").read_text())["results"])
            verdict.silent += [
                f"evaluate says something else of {role}"
                for role in said
                if said[role] != arena.measured[role]
            ]
    if verdict.look(run(place, arena.words, arena.limit), arena.words).code == 0:
        verdict.silent += differences(place, arena.wanted)
    arena.untouched(place, verdict)
    return verdict


def folder(arena: Arena, number: int, rng: random.Random) -> Verdict:
    """A run on a folder of pictures as nobody would want it."""
    place = arena.place(f"folder-{number}")
    make = hostile.FOLDERS[number % len(hostile.FOLDERS)]
    made = make(place / "given", rng)
    words = [
        "train",
        *BRIEF,
        *([] if any(w.startswith("dataset.root=") for w in made.words) else ["dataset.root=given"]),
        *made.words,
    ]
    verdict = Verdict(f"folder {number}: {make.__name__} {' '.join(made.words)}")
    ended = verdict.look(run(place, words, arena.limit), words)
    if any(ord(c) < 32 and c not in "\n\t\r" for c in ended.reported):
        verdict.silent.append(f"letters that a terminal obeys: {ended.reported[-300:]!r}")
    if ended.code == 0 and made.pictures is not None:
        about = json.loads(next(place.glob("store/prepare/*/data.json")).read_text())
        used = sum(about["counts"].values()) + len(about["skipped"])
        if used != made.pictures:
            verdict.silent.append(f"{used} pictures of {made.pictures} were used or reported")
    arena.untouched(place, verdict)
    return verdict


LINES_A_CASE = 100


def lines(arena: Arena, number: int, rng: random.Random) -> Verdict:
    """Command lines of tests/nasty.py, one after another in a fork; what passes all checks is not trained."""
    import nasty

    verdict, place = Verdict(f"lines {number}"), arena.place(f"lines-{number}")
    (place / "here").mkdir()
    todo, at, journal = list(nasty.lines(rng.randrange(1 << 30), LINES_A_CASE)), 0, place / "journal"
    while at < len(todo):
        journal.write_text("")
        child = os.fork()
        if child == 0:
            _answer(place / "here", todo, at, journal)
        seen, since = 0, time.monotonic()
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if (size := journal.stat().st_size) > seen:
                seen, since = size, time.monotonic()
            if time.monotonic() - since > arena.limit:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.02)
        answers = [json.loads(line) for line in journal.read_text().splitlines()]
        reported = [
            f"{todo[at + n][0]} {' '.join(map(repr, todo[at + n][1]))[:300]}"
            for n in range(min(len(answers) + 1, len(todo) - at))
        ]
        verdict.tracebacks += [
            f"{line}: {wrong}" for line, wrong in zip(reported, answers, strict=False) if wrong
        ]
        at += len(answers)
        if at < len(todo):
            verdict.hangs.append(f"{reported[-1]}: it took too long, or died")
            at += 1
    arena.untouched(place, verdict)
    return verdict


def _answer(here: Path, todo: Sequence[tuple[str, list[str]]], at: int, journal: Path) -> None:
    """One line of the journal for each command line: what is wrong with the answer to it, or null. Never
    returns.
    """
    import nasty
    from pytest import MonkeyPatch

    os.chdir(here)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    nasty.stop_before_work(MonkeyPatch())
    with journal.open("a") as file:
        for command, words in todo[at:]:
            try:
                wrong = nasty.answer(command, words)
            except BaseException:
                wrong = traceback.format_exc()[-1500:]
            file.write(json.dumps(wrong) + "\n")
            file.flush()
    os._exit(0)


# All of them


def cases(
    asked: argparse.Namespace,
) -> Iterator[tuple[str, Callable[[Arena, int, random.Random], Verdict], int]]:
    for part, count in (
        ("kills", asked.kills),
        ("damages", asked.damages),
        ("folders", asked.folders),
        ("lines", -(-asked.lines // LINES_A_CASE)),
    ):
        for number in range(count):
            if asked.only is None or asked.only == number:
                yield (
                    part,
                    {"kills": kill, "damages": damage, "folders": folder, "lines": lines}[part],
                    number,
                )


def judged(arena: Arena, case: Callable, part: str, number: int, seed: int) -> Verdict:
    """One case with a random generator of its own; its places are removed."""
    try:
        verdict = case(arena, number, random.Random(f"{seed} {part} {number}"))
    except Exception:
        verdict = Verdict(f"{part} {number}", tracebacks=[f"torture itself: {traceback.format_exc()}"])
    if not os.environ.get("KDX_TORTURE_KEEP"):
        for place in arena.top.glob(f"{case.__name__}-{number}"):
            for spot, _, _ in os.walk(place):
                os.chmod(spot, 0o755)
            shutil.rmtree(place, ignore_errors=True)
    return verdict


def torture(arena: Arena, asked: argparse.Namespace) -> dict[str, list[Verdict]]:
    """part -> verdicts. Each case in a fork of its own, several at a time."""
    found: dict[str, list[Verdict]] = {"kills": [], "damages": [], "folders": [], "lines": []}
    todo, running = list(cases(asked)), {}
    whole, began = len(todo), time.monotonic()
    while todo or running:
        while todo and len(running) < asked.jobs:
            part, case, number = todo.pop(0)
            kept = arena.top / f"verdict-{part}-{number}"
            child = os.fork()
            if child == 0:
                kept.write_bytes(pickle.dumps(judged(arena, case, part, number, asked.seed)))
                os._exit(0)
            running[child] = part, kept
        child, _ = os.wait()
        part, kept = running.pop(child)
        verdict = (
            pickle.loads(kept.read_bytes())
            if kept.is_file()
            else Verdict(part, tracebacks=["torture itself was killed"])
        )
        kept.unlink(missing_ok=True)
        found[part].append(verdict)
        bad = [
            *(f"SILENT {x}" for x in verdict.silent),
            *(f"TRACEBACK {x}" for x in verdict.tracebacks),
            *(f"HANG {x}" for x in verdict.hangs),
        ]
        if bad or asked.verbose:
            more = [*bad, *([verdict.said] if asked.verbose else [])]
            print("\n    ".join([f"{verdict.what}: exit code {verdict.code}", *more]), flush=True)
        elif sys.stderr.isatty():
            print(
                f"\r{whole - len(todo) - len(running)} of {whole} cases, {time.monotonic() - began:.0f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )
    return found


def show(found: dict[str, list[Verdict]], seconds: float, seed: int) -> bool:
    """The table; whether all counts are 0."""
    print(f"\nseed {seed}, {seconds:.0f} s")
    print(f"{'':10}{'cases':>8}{'silent':>8}{'tracebacks':>12}{'hangs':>8}   exit codes")
    good = True
    for part, verdicts in found.items():
        counts = [sum(len(getattr(v, name)) for v in verdicts) for name in ("silent", "tracebacks", "hangs")]
        codes = ", ".join(
            f"{count} x {code}" for code, count in sorted(Counter(str(v.code) for v in verdicts).items())
        )
        number = len(verdicts) * (LINES_A_CASE if part == "lines" else 1)  # typed by the hundred
        print(
            f"{part:10}{number:>8}{counts[0]:>8}{counts[1]:>12}{counts[2]:>8}   "
            f"{codes if part != 'lines' else ''}"
        )
        good = good and not any(counts)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="One case: --kills 0 --folders 0 --lines 0 --only 17 --verbose",
    )
    for name, count in (("kills", 30), ("damages", 400), ("folders", 150), ("lines", 5000)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"default: {count}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a command hangs")
    parser.add_argument("--only", type=int, help="the case of this number alone")
    parser.add_argument("--verbose", action="store_true", help="each case, with what was said last")
    asked = parser.parse_args()
    obey_modes()
    import_all()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kdx-torture-", ignore_cleanup_errors=True) as top:
        os.environ["MPLCONFIGDIR"] = f"{top}/matplotlib"
        arena = begin(Path(top), asked.limit)
        if asked.damages:
            for stage, step in STOPS:
                run(arena.place(f"stopped-{stage}"), arena.words, arena.limit, stop=(stage, step))
        good = show(torture(arena, asked), time.monotonic() - began, asked.seed)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
