"""The store: every finished stage is kept under a key made of what produced it, so nothing is computed twice. No torch."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.artifact import CHECKPOINT, CLOCK, LEFTOVERS, MANIFEST, Artifact, key_of, lines, seal, verify
from kdx.component import Component, Source, code_digest, targets
from kdx.disk import write_atomically
from kdx.faults import Fault

NUMBERED = re.compile(r"(.+?)(?:-(\d+))?")
NEARLY_NOTHING = 1 << 16
"""Bytes free on a disk that counts as full."""


def subseed(seed: int, *path: str | int) -> int:
    """A seed of 63 bits for one purpose, e.g. subseed(3, "student", 0): independent of the seeds of every other purpose."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *path]).encode()).digest()[:8], "big") >> 1


def split_number(name: str) -> tuple[str, int | None]:
    """Where there are several rounds a stage's name ends with its number: "student-train-2" -> ("student-train", 2); else None."""
    stem, number = NUMBERED.fullmatch(name).groups()
    return stem, None if number is None else int(number)


class Listener:
    """Hears what a run does. Every method may be left as it is."""

    def started(self, name: str, key: str, cached: bool) -> None: ...

    def record(self, name: str, record: Mapping[str, float]) -> None: ...

    def progress(self, name: str, done: int, total: int, text: str) -> None: ...

    def note(self, name: str, text: str, level: str) -> None: ...

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None: ...


@dataclass(frozen=True)
class Stage:
    """A step of a run: `module.run(work, runtime, **inputs)` reads artifacts and writes files into `work.path`.

    Held by name, so that a run which finds everything in the store imports none of it. `version` is raised by hand where the
    meaning of the files changes although the code's digest could not tell.
    """

    name: str
    module: str
    version: int = 1

    def __call__(self, work: Work, runtime: Any, **inputs: Any) -> None:
        importlib.import_module(self.module).run(work, runtime, **inputs)


class Work:
    """What a running stage is given: a folder of its own, and the ways to tell what it does."""

    def __init__(self, path: Path, name: str, listener: Listener):
        self.path, self.name, self.listener = path, name, listener
        self.checkpoint = path / CHECKPOINT
        notes = list(lines(path / "notes.jsonl"))
        self._notes = {line["text"] for line in notes}
        if notes:  # less a line that a kill cut off, which the next one would be glued to
            write_atomically(path / "notes.jsonl", "".join(json.dumps(line) + "\n" for line in notes))

    def record(self, record: Mapping[str, float]) -> None:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        self.listener.record(self.name, record)

    def rewind(self, step: int) -> None:
        """Forgets the records at or after `step` and tells the earlier ones again: the stage goes on from a checkpoint."""
        path = self.path / "metrics.jsonl"
        kept = [r for r in lines(path) if r["step"] < step]
        write_atomically(path, "".join(json.dumps(r) + "\n" for r in kept))
        for record in kept:
            self.listener.record(self.name, record)

    def progress(self, done: int, total: int, text: str = "") -> None:
        self.listener.progress(self.name, done, total, text)

    def note(self, text: str, level: str = "info") -> None:
        """Something the user should know; kept with the artifact, so that a run from the store says it too."""
        if text not in self._notes:
            self._notes.add(text)
            with (self.path / "notes.jsonl").open("a") as file:
                file.write(json.dumps({"text": text, "level": level}) + "\n")
        self.listener.note(self.name, text, level)

    def write_json(self, name: str, value: Any) -> None:
        (self.path / name).write_text(json.dumps(value, indent=1) + "\n")


class Halt(Exception):
    """The next stage lies beyond the stages that were asked for."""


class Miss(Exception):
    """Only asked whether everything is in the store, and it is not."""


Asked = Callable[[str, Stage, str, Mapping[str, Any], Artifact | None], Artifact]
"""(the run's name of a stage, the stage, its key, its inputs, the artifact where the store has it) -> what the run goes on with."""


class Store:
    """root/<stage>/<key>/ holds finished stages, root/<stage>/<key>.partial/ unfinished ones, root/locks/ one lock a key.

    runtime is handed to the stages and enters no key. until: names of the stages that may run; None: all. peek: run nothing, raise Miss.
    asked: run nothing, and go on with what this answers for each stage.
    """

    def __init__(self, root: Path, runtime: Any, listener: Listener, *, until: frozenset[str] | None = None, peek: bool = False,
                 asked: Asked | None = None):  # fmt: skip
        self.root, self.runtime, self.listener = Path(root), runtime, listener
        self.until, self.peek, self.asked = until, peek or asked is not None, asked
        self.done: dict[str, Artifact] = {}
        Source.memo = self.root / "sources.json"

    def key(self, stage: Stage, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """(64 hexadecimal digits, the canonical inputs behind them). A type that has no canonical form is a TypeError."""
        specs: list[str] = []
        what = {name: _canonical(value, specs) for name, value in sorted(inputs.items())}
        whole = {"stage": stage.name, "version": stage.version, "inputs": what, "code": code_digest([stage.module, *specs])}
        return key_of(whole), whole

    def run(self, stage: Stage, /, *, name: str | None = None, **inputs: Any) -> Artifact:
        """The artifact of `stage` on these inputs: loaded where its key exists, else made and published. name: what the run calls it."""
        name = name or stage.name
        if self.until is not None and split_number(name)[0] not in self.until:
            raise Halt(name)
        key, whole = self.key(stage, inputs)
        final = self.root / stage.name / key
        artifact = self._load(stage, key, name)
        if self.asked:
            artifact = self.asked(name, stage, key, inputs, artifact)
        if artifact is None:
            if self.peek:
                raise Miss(name)
            with self._lock(stage, key, name):
                artifact = self._load(stage, key, name, mend=True)
                if artifact is None:
                    artifact = self._make(stage, key, name, whole, inputs, final)
        self.done[name] = artifact
        return artifact

    def _load(self, stage: Stage, key: str, name: str, *, mend: bool = False) -> Artifact | None:
        """The artifact where it is there and whole. mend (by the lock's owner only): a damaged folder is told of and put aside."""
        path = self.root / stage.name / key
        if not (path / MANIFEST).is_file():
            return None
        if self.peek:
            return Artifact(stage.name, key, path)
        damage = verify(path)
        if damage and not mend:
            return None
        if damage:
            aside = path.with_name(f"{key}.damaged-{time.time_ns()}")
            path.rename(aside)
            self.listener.note(name, f"the store is damaged: {damage}; {name} runs again (the damaged folder is kept as {aside})", "warning")
            return None
        artifact = Artifact(stage.name, key, path)
        self.listener.started(name, key, True)
        for record in lines(path / "metrics.jsonl"):
            self.listener.record(name, record)
        for line in lines(path / "notes.jsonl"):
            self.listener.note(name, line["text"], line["level"])
        self.listener.finished(name, key, True, artifact.manifest["seconds"])
        return artifact

    def _make(self, stage: Stage, key: str, name: str, whole: Mapping, inputs: Mapping, final: Path) -> Artifact:
        partial = final.with_name(f"{key}.partial")
        no_link(partial)
        partial.mkdir(parents=True, exist_ok=True)
        for link in [p for p in partial.rglob("*") if p.is_symlink()]:  # no stage makes one, and what it writes would go elsewhere
            link.unlink()
        self.listener.started(name, key, False)
        clock = partial / CLOCK
        begun = time.monotonic() - _number(clock)
        try:
            if verify(partial) is not None:  # else complete already: only the last rename was missing
                (partial / MANIFEST).unlink(missing_ok=True)
                self.runtime = self.runtime.settle()
                stage(Work(partial, name, self.listener), self.runtime, **inputs)
                for cut_off in partial.rglob("*.tmp"):  # a kill in the middle of writing leaves one
                    cut_off.unlink()
                seal(partial, {**whole, "made": self.runtime.where(), "seconds": time.monotonic() - begun, "created": time.time()})
            for leftover in LEFTOVERS:
                (partial / leftover).unlink(missing_ok=True)
            if final.exists():
                shutil.rmtree(final)
            os.rename(partial, final)
        except Exception as error:
            if _disk_full(error, self.root):
                raise Fault(f"no space left on the disk of {self.root}: {name} stopped. Free some, then run the same command to go on") from error
            raise
        finally:
            if partial.is_dir():
                with _suppress_full_disk():
                    clock.write_text(str(time.monotonic() - begun))
        artifact = Artifact(stage.name, key, final)
        self.listener.finished(name, key, False, artifact.manifest["seconds"])
        return artifact

    @contextmanager
    def _lock(self, stage: Stage, key: str, name: str) -> Iterator[None]:
        import filelock

        lock = filelock.FileLock(lock_file(self.root, stage.name, key))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            self.listener.note(name, f"another run is at work on {name}; waiting for it", "info")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def lock_file(root: Path, stage: str, key: str) -> Path:
    """The lock of a key; its folder is made. It is emptied when it is opened, so it must not be a link to anything."""
    folder = root / "locks"
    no_link(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{stage}-{key[:32]}.lock"
    no_link(file)
    return file


def no_link(path: Path) -> None:
    """A Fault where a place that the store writes to is a link: the store may have come from somebody else."""
    if path.is_symlink():
        raise Fault(f"'{path}' is a link, and the store would write to where it leads: remove it")


def _canonical(value: Any, specs: list[str]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_canonical(v, specs) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _canonical(v, specs) for k, v in value.items()}
    if isinstance(value, Component):
        specs += targets(value.spec)
        spec = {k: v for k, v in value.spec.items() if k not in value.places}
        return {"component": spec, "sources": {k: s.digest() for k, s in sorted(value.sources.items())}}
    if isinstance(value, Source):
        return {"source": value.digest()}
    if isinstance(value, Artifact):
        return {"artifact": f"{value.stage}/{value.key}"}
    raise TypeError(f"{type(value).__name__} cannot be part of a key: {value!r}")


def _number(path: Path) -> float:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return 0.0


def _disk_full(error: Exception, root: Path) -> bool:
    """Whether an error means a full disk. torch, numpy and safetensors raise kinds of their own, some without a word of the reason."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    writing = isinstance(error, OSError) or type(error).__name__ in ("SafetensorError", "RuntimeError")
    return writing and ("No space left" in str(error) or shutil.disk_usage(root).free < NEARLY_NOTHING)


@contextmanager
def _suppress_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError:
        pass
