"""What a running stage is given, and whoever hears what it does. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import read_json, write_atomically
from kdx.store.artifact import METRICS_FILE, NOTES
from kdx.store.manifest import CHECKPOINT, DIGESTS
from kdx.store.source import sha256
from kdx.store.verification import is_note, is_record

PLANNED = "planned"
"""The level of what is noted of a run that is only planned, beside "info" and "warning"."""


class Listener:
    """Hears what a run does. Every method may be left as it is."""

    def started(self, name: str, key: str, cached: bool) -> None: ...

    def record(self, name: str, record: Mapping[str, Any]) -> None: ...

    def progress(self, name: str, done: int, total: int, text: str) -> None: ...

    def note(self, name: str, text: str, level: str) -> None: ...

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None: ...


class Work:
    """What a running stage is given: a folder of its own, and the ways to tell what it does.

    key: the stage's own, which a checkpoint is bound to: one of another stage, copied here, is none.
    """

    def __init__(self, path: Path, name: str, listener: Listener, key: str = ""):
        self.path, self.name, self.listener, self.key = path, name, listener, key
        self.checkpoint = path / CHECKPOINT
        self._records: list[Mapping[str, Any]] = []
        self._notes: dict[str, str] = {}
        self._said: set[str] = set()
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the stage has been at work, with what went into the checkpoint that it goes on from."""
        return time.monotonic() - self._begun

    def spent(self, seconds: float) -> None:
        """Counts it in that so many had passed when what the stage goes on from was kept."""
        self._begun = min(self._begun, time.monotonic() - seconds)

    def record(self, record: Mapping[str, Any]) -> None:
        self._records.append(record)
        with (self.path / METRICS_FILE).open("a") as file:
            file.write(json.dumps(record) + "\n")
        self.listener.record(self.name, record)

    def progress(self, done: int, total: int, text: str = "") -> None:
        self.listener.progress(self.name, done, total, text)

    def note(self, text: str, level: str = "info") -> None:
        """Something the user should know;
        kept with the artifact, so that a run from the store says it too.
        """
        self._note(text, level)
        if text not in self._said:  # of each row, or view, perhaps
            self._said.add(text)
            self.listener.note(self.name, text, level)

    def _note(self, text: str, level: str) -> None:
        if text not in self._notes:
            self._notes[text] = level
            with (self.path / NOTES).open("a") as file:
                file.write(json.dumps({"text": text, "level": level}) + "\n")

    def write_json(self, name: str, value: Any) -> None:
        (self.path / name).write_text(json.dumps(value, indent=1) + "\n")

    # A stage that goes on

    def so_far(self) -> str:
        """What was recorded and noted so far and how long it took, to be kept in a checkpoint: files beside
        it may be damaged apart from it.
        """
        return json.dumps(
            {"records": self._records, "notes": list(self._notes.items()), "seconds": self.seconds}
        )

    def report_again(self, so_far: str) -> None:
        """Goes on from `so_far`: its records are reported again, its warnings too, and it was at work as long
        as it says. Raises ValueError if it is none.
        """
        found = json.loads(so_far)
        records, notes = found["records"], [{"text": text, "level": level} for text, level in found["notes"]]
        if not (all(map(is_record, records)) and all(map(is_note, notes))):
            raise ValueError("its records are not as kdx writes them")
        self.spent(float(found["seconds"]))
        for record in records:
            self.record(record)
        for note in notes:
            (self.note if note["level"] == "warning" else self._note)(**note)

    def keep(self, temporary: Path) -> None:
        """Makes a finished file the checkpoint. The digests of the one before and of this are written first:
        at any moment the checkpoint that is there is known."""
        made = self.digest(temporary)
        write_atomically(self.path / DIGESTS, json.dumps([*self._digests()[-1:], made]))
        os.replace(temporary, self.checkpoint)

    def kept(self) -> bool:
        """Whether a checkpoint of this very stage is here, byte for byte; one that is not is reported and
        removed.
        """
        if not os.path.lexists(self.checkpoint):
            return False
        try:
            if self.digest(self.checkpoint) in self._digests():
                return True
            self.begin_anew("it is not as it was written")
        except OSError as error:
            self.begin_anew(error.strerror or str(error))
        return False

    def begin_anew(self, why: str) -> None:
        """Says that what a killed stage left cannot be gone on with, and removes it."""
        for name in (CHECKPOINT, DIGESTS):
            (self.path / name).unlink(missing_ok=True)
        self.note(f"begins anew: its checkpoint {self.checkpoint} cannot be used ({why})", "warning")

    def digest(self, file: Path) -> str:
        return hashlib.sha256(f"{self.key}\n{sha256(file)}".encode()).hexdigest()

    def _digests(self) -> list[str]:
        try:
            found = read_json(self.path / DIGESTS)
        except UserError:
            return []
        return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
