"""The store: every finished stage is kept under a key made of what produced it, so nothing is computed twice.
No torch.
"""

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
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from kdx.core import shortage, signals
from kdx.core.errors import UserError
from kdx.core.files import kind_at, own_file, own_folder, write_atomically
from kdx.store.artifact import (
    LEFTOVERS,
    MANIFEST,
    METRICS_FILE,
    NOTES,
    Artifact,
    key_of,
    lines,
    seal,
    there,
    verify,
)
from kdx.store.component import Component, targets
from kdx.store.digest import code_digest
from kdx.store.source import Source
from kdx.store.work import Listener as Listener
from kdx.store.work import Work as Work

_WHO = "the store"
_KEYS, _MARK = 1, "keys.json"
"""In the store's folder: that its keys are made as they are today. A store without it was begun by an older
kdx.
"""
NUMBERED = re.compile(r"(.+?)(?:-(\d+))?")
NEARLY_NOTHING = 1 << 16
"""Bytes free on a disk that counts as full."""


def subseed(seed: int, *path: str | int) -> int:
    """A seed of 63 bits for one purpose, e.g. subseed(3, "student", 0): independent of the seeds of every
    other purpose.
    """
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *path]).encode()).digest()[:8], "big") >> 1


def split_number(name: str) -> tuple[str, int | None]:
    """Where there are several rounds a stage's name ends with its number: "student-train-2" ->
    ("student-train", 2); else None.
    """
    match = NUMBERED.fullmatch(name)
    return (match[1], int(match[2])) if match and match[2] else (name, None)


@dataclass(frozen=True)
class Stage:
    """A step of a run: `module.run(work, runtime, **inputs)` reads artifacts and writes files into
    `work.path`.

    Held by name, so that a run which finds everything in the store imports none of it. `version` is raised by
    hand where the meaning of the files changes although the code's digest could not tell. writes: files that
    it always leaves, as patterns; a folder without one of them is damaged. resumes: of what a killed one
    left,
    the files that it goes on from, as patterns; it checks them itself, and all others are removed. node: of
    the
    configuration, of those that `stages=` names (kdx.training.length.STAGES); None: it runs wherever it is
    asked for. lower: what to lower where this machine has too little memory for it. foretold: the address of
    a kdx.pipeline.foretelling.Foretelling, which says what it will do before it has run; None: nothing.
    """

    name: str
    module: str
    version: int = 1
    writes: tuple[str, ...] = ()
    resumes: tuple[str, ...] = ()
    node: str | None = None
    lower: str = shortage.ELSE
    foretold: str | None = None

    def __call__(self, work: Work, runtime: Any, **inputs: Any) -> None:
        importlib.import_module(self.module).run(work, runtime, **inputs)


class Halt(Exception):
    """The next stage lies beyond those that were asked for."""


class Miss(Exception):
    """Only asked whether everything is in the store, and it is not."""


Asked = Callable[[str, Stage, str, Mapping[str, Any], Artifact | None], Artifact]
"""(the run's name of a stage, the stage, its key, its inputs, the artifact where the store has it) -> what
the run goes on with.
"""


class Store:
    """root/<stage>/<key>/ holds finished stages, root/<stage>/<key>.partial/ unfinished ones, root/locks/ one
    lock a key.

    runtime is handed to the stages and enters no key. until: the nodes whose stages may run, see Stage; None:
    all. peek: run nothing, raise Miss. asked: run nothing, and go on with what this answers for each stage.
    """

    def __init__(
        self,
        root: Path,
        runtime: Any,
        listener: Listener,
        *,
        until: frozenset[str] | None = None,
        peek: bool = False,
        asked: Asked | None = None,
    ):
        self.root, self.runtime, self.listener = Path(root), runtime, listener
        self.until, self.peek, self.asked = until, peek or asked is not None, asked
        self.done: dict[str, Artifact] = {}
        Source.memo = self.root / "sources.json"

    def key(self, stage: Stage, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """(64 hexadecimal digits, the canonical inputs behind them). A type that has no canonical form is a
        TypeError.
        """
        specs: list[str] = []
        what = {name: _canonical(value, specs) for name, value in sorted(inputs.items())}
        whole = {
            "stage": stage.name,
            "version": stage.version,
            "inputs": what,
            "code": code_digest([stage.module, *specs]),
        }
        return key_of(whole), whole

    def run(self, stage: Stage, /, *, name: str | None = None, **inputs: Any) -> Artifact:
        """The artifact of `stage` on these inputs: loaded where its key exists, else made and published.
        name: what the run calls it.
        """
        name = name or stage.name
        if self.until is not None and stage.node is not None and stage.node not in self.until:
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
        # one that a library swallowed, or that came while a last step was being published
        signals.raise_if_stopped()
        return artifact

    def _load(self, stage: Stage, key: str, name: str, *, mend: bool = False) -> Artifact | None:
        """The artifact where it is there and whole. mend (by the lock's owner only): a damaged folder is
        reported and put aside.
        """
        path = self.root / stage.name / key
        if kind_at(path) is None:
            there(path)  # raises where nobody may know
            return None
        damage = verify(path, stage=stage.name, key=key, writes=stage.writes, quick=self.peek, own=True)
        if damage and mend:
            self._put_aside(path, name, f"the store is damaged: {damage}; it runs again")
        if damage:
            return None
        artifact = Artifact(stage.name, key, path)
        if self.peek:
            return artifact
        self.listener.started(name, key, True)
        for record in lines(path / METRICS_FILE):
            self.listener.record(name, record)
        for line in lines(path / NOTES):
            self.listener.note(name, line["text"], line["level"])
        self.listener.finished(name, key, True, artifact.manifest["seconds"])
        return artifact

    def _put_aside(self, path: Path, name: str, why: str) -> None:
        """Renames what cannot be used, be it a folder, a link or anything else: nothing is lost, and nothing
        is written through it.
        """
        aside = path.with_name(f"{path.name.removesuffix('.partial')}.damaged-{time.time_ns()}")
        with self._may_write():
            path.rename(aside)
        what = "the damaged folder" if kind_at(aside) == "a folder" else f"what was there, {kind_at(aside)},"
        self.listener.note(name, f"{why} ({what} is kept as {aside})", "warning")

    def _make(
        self,
        stage: Stage,
        key: str,
        name: str,
        whole: Mapping[str, Any],
        inputs: Mapping[str, Any],
        final: Path,
    ) -> Artifact:
        partial = final.with_name(f"{key}.partial")
        self.listener.started(name, key, False)
        try:
            with self._may_write():
                self._greet(name)
                sealed = self._open_partial(stage, key, name, partial)
                if not sealed:
                    self.runtime = self.runtime.settle()
                    work = Work(partial, name, self.listener, key)
                    stage(work, self.runtime, **inputs)
                    seal(
                        partial,
                        {
                            **whole,
                            "made": self.runtime.where(),
                            "seconds": work.seconds,
                            "created": time.time(),
                        },
                    )
                for leftover in LEFTOVERS:
                    (partial / leftover).unlink(missing_ok=True)
                if kind_at(final) is not None:
                    self._put_aside(final, name, "a folder of another process was in its place")
                os.rename(partial, final)
        except Exception as error:
            if why := shortage.sentence(error, name, stage.lower):
                raise shortage.Shortage(why) from error
            if _disk_full(error, self.root):
                raise UserError(
                    f"no space left on the disk of {self.root}: {name} stopped. Free some, then run the same "
                    "command to go on"
                ) from error
            raise
        artifact = Artifact(stage.name, key, final)
        self.listener.finished(name, key, False, artifact.manifest["seconds"])
        return artifact

    def _greet(self, name: str) -> None:
        """Tells once of a store of before, none of whose keys is asked for any more."""
        mark = self.root / _MARK
        if kind_at(mark) is None:
            if next(self.root.glob(f"*/*/{MANIFEST}"), None):
                self.listener.note(
                    name,
                    f"the store '{self.root}' was begun by an older kdx, which made its keys otherwise: "
                    "what is in it can still be evaluated, exported and run again, and is computed anew by "
                    "a run; `kdx cache gc` frees what no run needs",
                    "info",
                )
            write_atomically(mark, json.dumps({"keys": _KEYS}))

    def _open_partial(self, stage: Stage, key: str, name: str, partial: Path) -> bool:
        """Whether the unfinished folder is complete already, but for the last rename. Else it is there
        afterwards, and holds files to go on from alone.
        """
        own_folder(partial.parent, _WHO)
        if kind_at(partial) == "a link":
            own_folder(partial, _WHO)
        if kind_at(partial) not in (None, "a folder"):
            self._put_aside(
                partial,
                name,
                f"begins anew: there is {kind_at(partial)} in the place of its unfinished folder",
            )
        own_folder(partial, _WHO)
        if verify(partial, stage=stage.name, key=key, writes=stage.writes, own=True) is None:
            return True
        for inside in list(partial.iterdir()):
            found, wanted = kind_at(inside), any(fnmatch(inside.name, pattern) for pattern in stage.resumes)
            if wanted and found != "a file":
                self.listener.note(name, f"begins anew: there is {found} in the place of {inside}", "warning")
            if found == "a folder":
                shutil.rmtree(inside)
            elif found != "a file" or not wanted:
                inside.unlink()
        return False

    @contextmanager
    def _lock(self, stage: Stage, key: str, name: str) -> Iterator[None]:
        import filelock

        with self._may_write():
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

    @contextmanager
    def _may_write(self) -> Iterator[None]:
        """A store that is read only serves what it has; what it lacks cannot be made in it."""
        try:
            yield
        except OSError as error:
            inside = isinstance(error.filename, str | os.PathLike) and self.root.absolute() in (
                path := Path(error.filename).absolute(),
                *path.parents,
            )
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and inside:
                raise UserError(
                    f"the store '{self.root}' cannot be written ({error.strerror}: '{error.filename}'), and "
                    "something has to be made in it: name another with store=PATH"
                ) from error
            raise


def lock_file(root: Path, stage: str, key: str) -> Path:
    """The lock of a key; its folder is made.
    It is opened for writing, so it must not be a link to anything.
    """
    own_folder(root / "locks", _WHO)
    file = root / "locks" / lock_name(stage, key)
    own_file(file, _WHO)
    return file


def lock_name(stage: str, key: str) -> str:
    return f"{stage}-{key[:32]}.lock"


def _canonical(value: Any, specs: list[str]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_canonical(v, specs) for v in value]
    if isinstance(value, Mapping):
        if odd := [k for k in value if not isinstance(k, str)]:
            raise TypeError(
                f"{type(odd[0]).__name__} cannot name a part of a key, where 1 and '1' "
                f"would be one: {odd[0]!r}"
            )
        return {k: _canonical(v, specs) for k, v in value.items()}
    if isinstance(value, Component):
        specs += targets(value.spec)
        spec = {k: v for k, v in value.spec.items() if k not in value.places}
        return {"component": spec, "sources": {k: s.digest() for k, s in sorted(value.sources.items())}}
    if isinstance(value, Source):
        return {"source": value.digest()}
    if isinstance(value, Artifact):
        return {"artifact": f"{value.stage}/{value.key}"}
    raise TypeError(f"{type(value).__name__} cannot be part of a key: {value!r}")


def _disk_full(error: Exception, root: Path) -> bool:
    """Whether an error means a full disk. torch, numpy and safetensors raise kinds of their own, some without
    a word of the reason.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    writing = isinstance(error, OSError) or type(error).__name__ in ("SafetensorError", "RuntimeError")
    return writing and ("No space left" in str(error) or shutil.disk_usage(root).free < NEARLY_NOTHING)
