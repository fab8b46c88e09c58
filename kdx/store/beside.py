"""A stage that another process makes meanwhile, in the same store, under the stage's own lock. No torch.

The two share no memory: the process gets what the stage reads, publishes its folder, and who waits for it
takes that from the store. It ends when this process does, however that ends, and keeps what it had done.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
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
_SAID = "said.txt"
_LOOK = 0.1
"""Seconds between two looks at it."""
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


class OtherProcess:
    """The one process beside this one, of one stage, if there is one. key: of that stage. leaves: threads
    that it leaves to this process. lasts: whether it may be waited for late; after: what waits for it then.
    """

    def __init__(self) -> None:
        self.key, self.leaves, self.lasts = "", 1, False
        self.after: Callable[[], None] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._folder = Path()

    def begin(self, key: str, root: Path, runtime: Any, stage: Stage, name: str, inputs: Any) -> None:
        """runtime: what it computes with."""
        import subprocess  # late: a run from the store begins none

        self._folder, self.key = Path(tempfile.mkdtemp(prefix="kdx-beside-")), key
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

    def wait(self, progress: Callable[[int, int, str], None]) -> str:
        """Until it has ended; returns how, "" where well."""
        child, known = self._child, None
        assert child
        while child.poll() is None:
            if (found := self._progress()) and found != known:
                known = found
                progress(*found)
            time.sleep(_LOOK)
        code, how = child.returncode, ""
        if code:
            said = []
            with contextlib.suppress(OSError):  # one that was told to end takes its folder along
                said = (self._folder / _SAID).read_text(errors="replace").strip().splitlines()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            how += f": {said[-1][:300]}" if said else ""
        self.end()
        return how

    def _progress(self) -> tuple[int, int, str] | None:
        with contextlib.suppress(Exception):  # half of it is there
            done, total, text = read_json(self._folder / PROGRESS)
            return int(done), int(total), str(text)
        return None

    def end(self) -> None:
        """Lets it keep what it has done, and go."""
        child, self._child = self._child, None
        if child is None:
            return
        try:
            with contextlib.suppress(OSError):
                assert child.stdin
                child.stdin.close()
            child.wait(timeout=_LAST_STEP)
        except BaseException:
            child.kill()
            child.wait()
            raise
        finally:
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
