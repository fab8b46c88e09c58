"""A stage that another process makes meanwhile, in the same store, under the stage's own lock. No torch.

The two share no memory: the process gets what the stage reads, publishes its folder, and who waits for it
takes that from the store. It ends when this process does, however that ends, and keeps what it had done.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdx.core.files import read_json
from kdx.store import resolve
from kdx.store.stage import Stage

if TYPE_CHECKING:
    import subprocess

PROGRESS = "progress.json"
"""In the process's own folder: [steps done, of how many, text], the last that is known."""
FOUND = "found"
"""There, in that folder, where the process found the artifact in the store and made none."""
_SAID = "said.txt"
_LOOK = 0.1
"""Seconds between two looks at it."""
_AWAKE = 1.0
"""Seconds between two looks that count at most: what passed besides, this process was held up itself."""
_LAST_STEP = 10.0
"""Seconds that it has for its step, and to keep what it has done, when it has to end."""


@dataclass(frozen=True)
class Errand:
    """What the process gets, as a pickle. allowed: the user's own packages that it may read. folder: its
    own."""

    root: Path
    runtime: Any
    stage: Stage
    name: str
    inputs: Mapping[str, Any]
    allowed: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Ended:
    """How it ended: "" where well. hung: this process has ended it. found: it made nothing, as the artifact
    was there by then."""

    how: str = ""
    hung: bool = False
    found: bool = False


class OtherProcess:
    """The one process beside this one, of one stage, if there is one. key: of that stage. leaves: threads
    that it leaves to this process. lasts: whether it may be waited for late; after: what waits for it then.
    patience: seconds that it may be waited for while none of its files changes.
    """

    def __init__(self) -> None:
        self.key, self.leaves, self.lasts, self.patience = "", 1, False, math.inf
        self.after: Callable[[], None] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._folder, self._partial = Path(), Path()

    def begin(self, key: str, root: Path, runtime: Any, stage: Stage, name: str, inputs: Any) -> None:
        """runtime: what it computes with."""
        import subprocess  # late: a run from the store begins none

        self._folder, self.key = Path(tempfile.mkdtemp(prefix="kdx-beside-")), key
        self._partial = root / stage.name / f"{key}.partial"
        made = Errand(root, runtime, stage, name, inputs, tuple(resolve.own_packages), self._folder)
        with (self._folder / _SAID).open("wb") as said:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "kdx.store.in_other_process"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.PIPE,  # open as long as this process lives
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is this process's to heed
            )
        assert self._child.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `wait` says
            self._child.stdin.write(pickle.dumps(made))
            self._child.stdin.flush()

    @property
    def busy(self) -> bool:
        """From its start until it was waited for, and not shorter: what hangs on that hangs on no timing."""
        return self._child is not None

    def makes(self, key: str) -> bool:
        """Whether it was begun for this key, and nobody waited for it yet."""
        return self.busy and key == self.key

    def wait(self, progress: Callable[[int, int, str], None]) -> Ended:
        """Until it has ended, or has hung for so long that it is ended here."""
        child, known = self._child, None
        assert child
        signs, silent, before = self._signs(), 0.0, time.monotonic()
        while child.poll() is None:
            if (found := self._progress()) and found != known:
                known = found
                progress(*found)
            time.sleep(_LOOK)
            now = time.monotonic()
            silent, before = silent + min(now - before, _AWAKE), now
            if (later := self._signs()) != signs:
                signs, silent = later, 0.0
            if silent >= self.patience:
                child.kill()
                self.end()
                return Ended(f"gave no sign of life for {self.patience:g} s and was ended", hung=True)
        code, how = child.returncode, ""
        if code:
            said = []
            with contextlib.suppress(OSError):  # one that was told to end takes its folder along
                said = (self._folder / _SAID).read_text(errors="replace").strip().splitlines()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            how += f": {said[-1][:300]}" if said else ""
        ended = Ended(how, found=(self._folder / FOUND).exists())
        self.end()
        return ended

    def _signs(self) -> list[tuple[str, int]]:
        """When its files were last written: those that it tells with, and those of the stage, which another
        run writes where it waits for that."""
        found = []
        for folder in (self._folder, self._partial):
            with contextlib.suppress(OSError):  # it is published, say
                found += [(entry.path, entry.stat().st_mtime_ns) for entry in os.scandir(folder)]
        return sorted(found)

    def _progress(self) -> tuple[int, int, str] | None:
        with contextlib.suppress(Exception):  # half of it is there
            done, total, text = read_json(self._folder / PROGRESS)
            return int(done), int(total), str(text)
        return None

    def end(self) -> None:
        """Lets it keep what it has done, and go; one that does not is killed."""
        import subprocess  # it was begun, or there is nothing to end

        child, self._child = self._child, None
        if child is None:
            return
        try:
            with contextlib.suppress(OSError):
                assert child.stdin
                child.stdin.close()
            if awake := vars(signal).get("SIGCONT"):
                child.send_signal(awake)  # one that was stopped could not heed it
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=_LAST_STEP)
        finally:  # of a second Ctrl-C too
            if child.poll() is None:
                child.kill()
                child.wait()
            shutil.rmtree(self._folder, ignore_errors=True)


class Reporting:
    """Writes PROGRESS, twice a second at most."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic):
        self.file, self.clock, self.written = folder / PROGRESS, clock, 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        if self.clock() - self.written >= 0.5:
            self.written = self.clock()
            with contextlib.suppress(OSError):
                self.file.write_text(json.dumps([done, total, text]))
