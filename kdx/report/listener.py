"""What a store tells while stages run. Everything that watches a run is a Listener."""

from __future__ import annotations


class Listener:
    """Hears of stages in order: started, then records, progress and notes, then finished. Every method does nothing by default.

    A cached stage is heard of as well: its records are replayed between `started` and `finished`. Steps increase strictly within
    a stage; a resumed stage replays its earlier records first.
    """

    def started(self, name: str, key: str, cached: bool) -> None:
        """name: the stage ("teacher-pretrain"); key: its address in the store; cached: nothing is computed."""

    def record(self, name: str, record: dict) -> None:
        """record: {"step": int, "<metric>": float, ...}, one line of the stage's metrics.jsonl."""

    def progress(self, name: str, done: int, total: int, text: str) -> None:
        """done of total units (steps, batches) are complete; text: a few words on what is going on, or ""."""

    def note(self, name: str, text: str, level: str) -> None:
        """Something the user should know. level: "info" or "warning"."""

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        """seconds: wall time that the stage took in this run."""


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
