"""The store looked after: what lies in it, which runs need it, and what can go. Deletes nothing outside the
store. No torch.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import kind_at, own_file, read_json
from kdx.pipeline.stages import LABEL, LABEL_SHARD
from kdx.runs.artifacts import open_artifact
from kdx.runs.reading import read_run
from kdx.runs.store_entries import ENTRY, StoreEntry
from kdx.store.disk import lock_file, lock_name

_LOCK = re.compile(r"[a-z][a-z0-9-]*-[0-9a-f]{32}\.lock")
_DEPTH = 3
"""Levels below a folder of runs at which a run folder may lie: outputs/sweeps/<sweep>/<job>."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def every_run_folder(tops: Sequence[Path], store: Path) -> list[Path]:
    """Every run folder below `tops`, also one inside another (kdx.report.compare.search leaves that out):
    what is not found here is freed. Links are not followed, and the store is not searched."""
    found = []
    for top in tops:
        for folder, below, files in os.walk(top):
            here = Path(folder)
            if "run.json" in files:
                found.append(here)
            if len(here.relative_to(top).parts) >= _DEPTH or here.resolve() == store.resolve():
                below.clear()
    return found


def users(folders: Sequence[Path]) -> dict[str, list[str]]:
    """ "stage/key" -> names of the run folders whose run.json names it. A run.json that cannot be read is a
    UserError : it may need anything.
    """
    found: dict[str, list[str]] = {}
    for folder in folders:
        for stage, key in read_run(folder).stages.values():
            found.setdefault(f"{stage}/{key}", []).append(folder.name)
    return found


def needed(all_entries: Sequence[StoreEntry], used: Mapping[str, Sequence[str]]) -> set[str]:
    """ "stage/key" of what runs name, and of all that those were made from; not of shards of answers that
    have been put together, which nothing reads any more."""
    by_name = {e.name: e for e in all_entries if e.state == "finished"}
    found: set[str] = set()
    todo = [name for name in used if not _put_together(by_name.get(name), by_name)]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += by_name[name].needs if name in by_name else []
    return found


def _put_together(entry: StoreEntry | None, finished: Mapping[str, StoreEntry]) -> bool:
    """Whether it is a shard of answers, and the whole is there."""
    if entry is None or entry.stage != LABEL_SHARD.name:
        return False
    try:
        whole = read_json(entry.path / LABEL_SHARD.writes[0])["whole"]
    except (UserError, LookupError, TypeError):
        return False
    return f"{LABEL.name}/{whole}" in finished


def removable(
    all_entries: Sequence[StoreEntry], keep: set[str], older_than: float, now: float
) -> list[tuple[StoreEntry, str]]:
    """(entry, why it can go). Unfinished ones that were touched in the last `older_than` seconds stay: they
    can be resumed.
    """
    found = []
    for entry in all_entries:
        if entry.state == "damaged" and (ENTRY.fullmatch(entry.path.name)[2] or entry.name not in keep):
            found.append((entry, "damaged"))
        elif entry.state == "unfinished" and now - entry.made >= older_than:
            found.append((entry, f"unfinished, not touched for {age(now - entry.made)}"))
        elif entry.state == "finished" and entry.name not in keep:
            found.append((entry, "no run refers to it"))
    return found


def busy(store: Path, entry: StoreEntry) -> bool:
    """Whether a run is at work on this key now. Looks only: no lock is made for it."""
    return _held(store / "locks" / lock_name(entry.stage, entry.key))


def _held(file: Path) -> bool:
    """Whether another process holds a lock. False where this user may not try: what is asked for is then
    refused anyway.
    """
    import filelock

    if kind_at(file) is None:
        return False
    own_file(file, "kdx cache")
    try:
        with filelock.FileLock(file, timeout=0):
            return False
    except PermissionError:
        return False
    except filelock.Timeout:
        return True


def lock(store: Path, entry: StoreEntry) -> Any:
    """The lock that Store takes for this key, without waiting."""
    import filelock

    return filelock.FileLock(lock_file(store, entry.stage, entry.key), timeout=0)


def free_locks(store: Path, delete: bool) -> int:
    """How many lock files nobody holds; deletes them. One is deleted by whoever holds it, and filelock takes
    none that has gone meanwhile.
    """
    import filelock

    free = 0
    for file in sorted((store / "locks").glob("*.lock")) if kind_at(store / "locks") == "a folder" else []:
        if not _LOCK.fullmatch(file.name) or kind_at(file) != "a file":
            continue
        if not delete:
            free += not _held(file)
            continue
        try:
            with filelock.FileLock(file, timeout=0):
                file.unlink()
                free += 1
        except filelock.Timeout:
            pass
    return free


def remove(store: Path, entry: StoreEntry) -> bool:
    """Deletes one folder of the store; False where a run is at work on it. It is renamed first, so that half
    a folder never looks whole.
    """
    import filelock

    inside = entry.path.parent.resolve() == store.resolve() / entry.stage and ENTRY.fullmatch(entry.path.name)
    if not inside or entry.path.is_symlink():
        raise UserError(f"'{entry.path}' is not in the store '{store}': nothing was deleted")
    try:
        with lock(store, entry):
            doomed = entry.path.with_name(f"{entry.key}.damaged-{time.time_ns()}")
            entry.path.rename(doomed)
            shutil.rmtree(doomed)
    except filelock.Timeout:
        return False
    return True


def damage(store: Path, entry: StoreEntry) -> str | None:
    """What is wrong with a finished artifact, naming the file; None where every file has its hash and the key
    is that of the manifest.
    """
    try:
        open_artifact(store, entry.stage, entry.key)
    except UserError as error:
        return str(error)
    return None


def parse_duration(text: str) -> float:
    """ "7d" -> seconds; s, m, h, d and w are known, and 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])|0()", text)
    if not match:
        raise UserError(f"older_than must be a time such as 7d, 12h or 0; given: {text!r}")
    return float(match[1]) * _UNITS[match[2]] if match[1] else 0.0


def age(seconds: float) -> str:
    """90000 -> "25 h": in the largest unit of which there are at least two."""
    for words, unit in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {words}"
    return f"{max(seconds, 0):.0f} s"
