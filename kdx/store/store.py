"""The store: every finished stage is kept under a key made of what produced it, so nothing is computed twice.
No torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kdx.core import shortage, signals, snapshot
from kdx.core.errors import UserError
from kdx.core.files import kind_at
from kdx.store.artifact import METRICS_FILE, NOTES, Artifact, lines
from kdx.store.beside import OtherProcess
from kdx.store.disk import Notify, disk_full, locked, may_write
from kdx.store.manifest import LEFTOVERS, MANIFEST, begin, seal, there
from kdx.store.source import Source
from kdx.store.stage import Stage
from kdx.store.stage_key import key_with_inputs
from kdx.store.unfinished import greet, open_partial, put_aside
from kdx.store.verification import verify
from kdx.store.work import Listener, Work

SOURCES = "sources.json"
"""In the store's folder: the digests of files from outside, by where they lie."""


class Halt(Exception):
    """The next stage lies beyond those that were asked for."""


class Miss(Exception):
    """Only asked whether everything is in the store, and it is not."""


Asked = Callable[[str, Stage, str, Mapping[str, Any], Artifact | None], Artifact]
"""(the run's name of a stage, the stage, its key, its inputs, the artifact where the store has it) -> what
the run goes on with.
"""
MadeWith = Callable[["Store", Stage, str, Mapping[str, Any]], Any]
"""(the store, the stage, the run's name of it, its inputs) -> the runtime that it is made with, set."""


class Store:
    """root/<stage>/<key>/ holds finished stages, root/<stage>/<key>.partial/ unfinished ones, root/locks/ one
    lock a key.

    runtime is handed to the stages and enters no key. until: the nodes whose stages may run, see Stage; None:
    all. peek: run nothing, raise Miss. asked: run nothing, and go on with what this answers for each stage.
    settled: what a stage is made with, None: the runtime, settled. beside: the process that makes a stage
    meanwhile, None: there may be none.
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
        settled: MadeWith | None = None,
        beside: OtherProcess | None = None,
    ):
        self.root, self.runtime, self.listener = Path(root), runtime, listener
        self.until, self.peek, self.asked = until, peek or asked is not None, asked
        self.settled, self.beside = settled, beside
        self.done: dict[str, Artifact] = {}
        Source.memo = self.root / SOURCES

    def key(self, stage: Stage, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """See `key_with_inputs`."""
        return key_with_inputs(stage, inputs, self.root / "code.json")

    def run(self, stage: Stage, /, *, name: str | None = None, **inputs: Any) -> Artifact:
        """The artifact of `stage` on these inputs: loaded where its key exists, else made and published.
        name: what the run calls it.
        """
        return self.make(stage, name or stage.name, inputs, {})

    def make(
        self, stage: Stage, name: str, inputs: Mapping[str, Any], further: Mapping[str, Any]
    ) -> Artifact:
        """The same. further: more arguments of the stage, which change nothing of what it writes and enter
        no key."""
        found = self._run(stage, name, inputs, further, wait=True)
        assert found is not None
        return found

    def share(
        self,
        stage: Stage,
        several: Mapping[str, Mapping[str, Any]],
        further: Mapping[str, Any],
    ) -> list[Artifact]:
        """The artifacts of a stage on several inputs, by what the run calls each. One that another process is
        at work on is passed over as long as there are others to make: so processes that are given the same
        share the work. further: see `make`."""
        found: dict[str, Artifact] = {}
        while left := [name for name in several if name not in found]:
            before = len(found)
            for name in left:
                made = self._run(stage, name, several[name], further, wait=False)
                found |= {name: made} if made else {}
            if len(found) == before:  # all are in other hands
                found[left[0]] = self.make(stage, left[0], several[left[0]], further)
        return [found[name] for name in several]

    def has_any(self, stage: Stage, **inputs: Any) -> bool:
        """Whether something lies in the artifact's place, whole or not: what is damaged is reported, and
        made again, by whoever asks for it."""
        return kind_at(self.root / stage.name / self.key(stage, inputs)[0]) is not None

    def has_whole(self, stage: Stage, **inputs: Any) -> bool:
        """Whether the artifact is there, all its files as they were published."""
        key, _ = self.key(stage, inputs)
        path = self.root / stage.name / key
        return kind_at(path) is not None and self._damage(stage, key, path) is None

    def _run(
        self,
        stage: Stage,
        name: str,
        inputs: Mapping[str, Any],
        further: Mapping[str, Any],
        *,
        wait: bool,
    ) -> Artifact | None:
        """None where another process is at work on it, and nobody waits."""
        if self.until is not None and stage.node is not None and stage.node not in self.until:
            raise Halt(name)
        key, whole = self.key(stage, inputs)
        final = self.root / stage.name / key
        beside = self._wait(key, name)
        artifact = self._load(stage, key, name, beside=beside)
        if self.asked:
            artifact = self.asked(name, stage, key, inputs, artifact)
        if artifact is None:
            if self.peek:
                raise Miss(name)
            says = f"another run is at work on {name}; waiting for it"
            with locked(self.root, stage.name, key, says if wait else None, self._note(name)) as held:
                if not held:
                    return None
                artifact = self._load(stage, key, name, mend=True, beside=beside)
                if artifact is None:
                    artifact = self._make(stage, key, name, whole, {**inputs, **further}, final, beside)
        self.done[name] = artifact
        # one that a library swallowed, or that came while a last step was being published
        signals.raise_if_stopped()
        return artifact

    def begin_beside(self, stage: Stage, runtime: Any, name: str, **inputs: Any) -> None:
        """Has another process make it meanwhile; `run` waits for that. runtime: what it computes with."""
        if self.beside:
            self.beside.begin(self.key(stage, inputs)[0], self.root, runtime, stage, name, inputs)

    def _wait(self, key: str, name: str) -> bool | None:
        """Waits for the process beside, where it makes this, as listeners then know; whether it made it, None
        where it was not asked to."""
        if not (self.beside and self.beside.makes(key)):
            return None
        self.listener.started(name, key, False)
        ended = self.beside.wait(lambda *found: self.listener.progress(name, *found))
        signals.raise_if_stopped()
        if ended.how:
            hint = " (device.wait_seconds)" if ended.hung else ""
            self.listener.note(
                name,
                f"the process that made it {ended.how}{hint}; it is made here",
                "warning" if ended.hung else "info",
            )
        return not ended.how and not ended.found

    def _note(self, name: str) -> Notify:
        return partial(self.listener.note, name)

    def _load(
        self, stage: Stage, key: str, name: str, *, mend: bool = False, beside: bool | None = None
    ) -> Artifact | None:
        """The artifact where it is there and whole. mend (by the lock's owner only): a damaged folder is
        reported and put aside. beside: see `_wait`.
        """
        path = self.root / stage.name / key
        if kind_at(path) is None:
            there(path)  # raises where nobody may know
            return None
        damage = self._damage(stage, key, path)
        if damage and mend:
            put_aside(self.root, path, self._note(name), f"the store is damaged: {damage}; it runs again")
        if damage:
            return None
        artifact = Artifact(stage.name, key, path)
        if self.peek:
            return artifact
        if beside is None:
            self.listener.started(name, key, True)
        for record in lines(path / METRICS_FILE):
            self.listener.record(name, record)
        for line in lines(path / NOTES):
            self.listener.note(name, line["text"], line["level"])
        self.listener.finished(name, key, not beside, artifact.manifest["seconds"])
        return artifact

    def _damage(self, stage: Stage, key: str, path: Path) -> str | None:
        """See `verify`. The runs of a command that are looked at before any work share many artifacts, and
        one that was whole is looked through once for all of them; who works with it looks again.
        """

        def look() -> str | None:
            return verify(path, stage=stage.name, key=key, writes=stage.writes, quick=self.peek, own=True)

        if not self.peek:
            return look()
        where = ("whole", os.path.abspath(path))
        return snapshot.while_same(where, str(path / MANIFEST), look, lambda damage: damage is None)

    def _make(
        self,
        stage: Stage,
        key: str,
        name: str,
        whole: Mapping[str, Any],
        inputs: Mapping[str, Any],
        final: Path,
        beside: bool | None,
    ) -> Artifact:
        unfinished, note = final.with_name(f"{key}.partial"), self._note(name)
        try:
            runtime = self.settled(self, stage, name, inputs) if self.settled else None
            if beside is None:
                self.listener.started(name, key, False)
            with may_write(self.root):
                greet(self.root, note)
                if not open_partial(self.root, stage, key, unfinished, note):
                    begin(unfinished, whole)
                    if runtime is None:
                        runtime = self.runtime = self.runtime.settle()
                    work = Work(unfinished, name, self.listener, key)
                    stage(work, runtime, **inputs)
                    seal(
                        unfinished,
                        {
                            **whole,
                            "made": runtime.where(),
                            "seconds": work.seconds,
                            "created": time.time(),
                        },
                    )
                for leftover in LEFTOVERS:
                    (unfinished / leftover).unlink(missing_ok=True)
                if kind_at(final) is not None:
                    put_aside(self.root, final, note, "a folder of another process was in its place")
                os.rename(unfinished, final)
        except Exception as error:
            if why := shortage.sentence(error, name, stage.lower):
                raise shortage.Shortage(why) from error
            if disk_full(error, self.root):
                raise UserError(
                    f"no space left on the disk of {self.root}: {name} stopped. Free some, then run the same "
                    "command to go on"
                ) from error
            raise
        artifact = Artifact(stage.name, key, final)
        self.listener.finished(name, key, False, artifact.manifest["seconds"])
        return artifact
