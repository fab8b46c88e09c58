"""The folder of a run that begins."""

from __future__ import annotations

from pathlib import Path

from kdx.config.wire import Order
from kdx.core import signals
from kdx.report.run.folder import RunFolder
from kdx.runs.run import protocol
from kdx.runs.traces import environment


def begin_folder(path: Path, order: Order, command: list[str], host: str | None) -> RunFolder:
    """A run's folder, which says what was asked for, where its store is and which machine is at work on it.
    It is not saved yet.

    command: as it was typed. host: see `kdx.report.run.document.at_work`.
    """
    with signals.held():  # a folder that says `running` is always reported better
        folder = RunFolder(path, dict(order.config), protocol(order, None), environment(order), command)
    folder.run |= {"store": str(order.store.resolve()), "host": host}
    return folder
