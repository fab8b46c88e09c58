"""Several listeners as one."""

from __future__ import annotations

from kdx.store.work import Listener


class Many(Listener):
    """Passes everything on to several listeners, in the order given."""

    def __init__(self, *listeners: Listener):
        self.listeners = listeners

    def started(self, name: str, key: str, cached: bool) -> None:
        for listener in self.listeners:
            listener.started(name, key, cached)

    def record(self, name: str, record: dict) -> None:
        for listener in self.listeners:
            listener.record(name, record)

    def progress(self, name: str, done: int, total: int, text: str) -> None:
        for listener in self.listeners:
            listener.progress(name, done, total, text)

    def note(self, name: str, text: str, level: str) -> None:
        for listener in self.listeners:
            listener.note(name, text, level)

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        for listener in self.listeners:
            listener.finished(name, key, cached, seconds)
