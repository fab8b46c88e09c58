"""The life of the process that `kdx.store.beside` begins: one stage, then it ends. No torch of its own."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import threading
from pathlib import Path

from kdx.core import signals
from kdx.store import resolve
from kdx.store.beside import FOUND, Errand, Reporting
from kdx.store.store import Store
from kdx.store.work import Listener


class _Reports(Listener):
    def __init__(self, folder: Path):
        self.folder, self.reporting = folder, Reporting(folder)

    def progress(self, name: str, done: int, total: int, text: str) -> None:
        self.reporting(done, total, text)

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        if cached:  # by another run, which this one has waited for, perhaps
            (self.folder / FOUND).touch()


def _end_with_the_other() -> None:
    """Waits until who began this process has closed what it reads from, or is gone."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    # of a process that was stopped the main thread may still wake up, and would not hear one sent to the
    # process, which goes to a thread that is awake
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def main() -> int:
    made: Errand = pickle.load(sys.stdin.buffer)  # of the process that began this one
    resolve.allow(made.allowed)
    with signals.heeded():
        threading.Thread(target=_end_with_the_other, daemon=True).start()
        try:
            store = Store(made.root, made.runtime, _Reports(made.folder))
            store.run(made.stage, name=made.name, **made.inputs)
        except KeyboardInterrupt as error:
            shutil.rmtree(made.folder, ignore_errors=True)  # who would have done so may be gone
            return signals.code_of(error)
        except Exception as error:  # whoever waits for it makes the stage itself, and tells in full
            print(f"{type(error).__name__}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
