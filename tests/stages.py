"""Stages of a test's own: a package with the code of one, what it computes with, and who hears what a store
makes of it.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdx.store.work import Listener
from kdx.training.runtime import Runtime


def on_cpu(**more: Any) -> Runtime:
    """The settings of a runtime; more: those that are otherwise."""
    plain = {"device": "cpu", "threads": 1, "workers": 0, "channels_last": False, "compile": False}
    return Runtime(**{**plain, "checkpoint_seconds": 60, **more})


class Heard(Listener):
    """All that was said, in order; `notes`: the sentences alone."""

    def __init__(self):
        self.events = []

    @property
    def notes(self):
        return [event[2] for event in self.events if event[0] == "note"]

    def started(self, name, key, cached):
        self.events.append(("started", name, cached))

    def record(self, name, record):
        self.events.append(("record", name, record))

    def note(self, name, text, level):
        self.events.append(("note", level, text))

    def finished(self, name, key, cached, seconds):
        self.events.append(("finished", name, cached))


@contextlib.contextmanager
def own_package(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> Iterator[Path]:
    """Inside, place/code/name is a package that can be imported, here and by other processes of kdx, whose
    module `stage` has this code."""
    folder = place / "code" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "stage.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]
