"""The store looked after: what lies in it, which runs need it, and what can go. Deletes nothing outside the
store. No torch.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import kind_at, own_file
from kdx.runs.export.card import component_line
from kdx.runs.reading import NAME, STAGE_NAMES, open_artifact, read_run, read_run_manifest
from kdx.store.disk import lock_file, lock_name
from kdx.store.manifest import MANIFEST, Unreadable, references, stands_for

_LOCK = re.compile(r"[a-z][a-z0-9-]*-[0-9a-f]{32}\.lock")
ENTRY = re.compile(r"([0-9a-f]{64})(\.partial|\.damaged-\d+)?")
_DEPTH = 3
"""Levels below a folder of runs at which a run folder may lie: outputs/sweeps/<sweep>/<job>."""
UNREADABLE = "unreadable"
"""The state of what this user may not read."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class StoreEntry:
    """One folder of the store. made: when it was finished or last touched, seconds since 1970. needs: what it
    was made from.
    """

    stage: str
    key: str
    state: str
    path: Path
    bytes: int
    made: float
    what: str
    needs: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.key}"


def store_entries(store: Path) -> list[StoreEntry]:
    """What lies in the store, by stage and age. Links are passed over: what is behind them is not the
    store's.
    """
    if not store.is_dir():
        raise UserError(f"the store '{store}' does not exist; name another with store=PATH")
    found = []
    names = (*STAGE_NAMES, *_own_stages(store))
    for stage in names:
        folder = store / stage
        if kind_at(folder) != "a folder":
            continue
        try:
            inside = list(folder.iterdir())
        except PermissionError:
            found.append(StoreEntry(stage, "", UNREADABLE, folder, 0, folder.stat().st_mtime, "", ()))
            continue
        for path in inside:
            match = ENTRY.fullmatch(path.name)
            if match and kind_at(path) == "a folder":
                state = "finished" if not match[2] else "unfinished" if match[2] == ".partial" else "damaged"
                found.append(_entry(stage, match[1], state, path))
    return sorted(found, key=lambda e: (names.index(e.stage), e.made))


def _own_stages(store: Path) -> list[str]:
    """Names of the stages of users' own that the store has finished folders of: another program's folders are
    left alone.
    """
    return sorted(
        folder.name
        for folder in (store.iterdir() if os.access(store, os.R_OK) else ())
        if NAME.fullmatch(folder.name)
        and folder.name not in (*STAGE_NAMES, "locks")
        and kind_at(folder) == "a folder"
        and os.access(folder, os.R_OK)
        and any(_made_by(folder.name, inside) for inside in folder.iterdir())
    )


def _made_by(stage: str, path: Path) -> bool:
    """Whether a folder has a manifest that names this stage."""
    if not ENTRY.fullmatch(path.name) or kind_at(path) != "a folder":
        return False
    try:
        return bool(read_run_manifest(path / MANIFEST)["stage"] == stage)
    except UserError:
        return False


def strangers(store: Path) -> list[str]:
    """What is in the place of a folder of the store and is none: a sentence each."""
    spots = [store / name for name in (*STAGE_NAMES, "locks")]
    spots += [
        path
        for folder in spots
        if kind_at(folder) == "a folder" and os.access(folder, os.R_OK)
        for path in folder.iterdir()
        if ENTRY.fullmatch(path.name)
    ]
    return [
        f"'{spot}' is {found}, where the store has folders, and was passed over"
        for spot in spots
        if (found := kind_at(spot)) not in (None, "a folder")
    ]


def _entry(stage: str, key: str, state: str, path: Path) -> StoreEntry:
    stats = [file.lstat() for file in _files(path)]
    made = max([stat.st_mtime for stat in stats] + [path.stat().st_mtime])
    what, needs = "", ()
    try:
        manifest = read_run_manifest(path / MANIFEST)
        made, what = manifest["created"], _describe(stage, manifest["inputs"])
        needs = tuple(f"{s}/{k}" for s, k in references(manifest["inputs"]))
        if (manifest["stage"], stands_for(manifest)) != (stage, key):
            state, needs = "damaged", ()
    except Unreadable:
        state = UNREADABLE
    except UserError:
        if state == "finished" or kind_at(path / MANIFEST):
            state = "damaged"
    return StoreEntry(stage, key, state, path, sum(stat.st_size for stat in stats), made, what, needs)


def _files(path: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(path):  # does not follow links
        yield from (Path(folder) / name for name in names)


def _describe(stage: str, inputs: Mapping[str, Any]) -> str:
    """What an artifact is, in a few words: `KD(temperature=4, alpha=0.9) cnn(widths=[4, 8], hidden=16)`"""
    words = [
        component_line(value["component"])
        for name in ("dataset", "loss", "model")
        if isinstance(value := inputs.get(name), dict) and isinstance(value.get("component"), dict)
    ]
    if stage == "prepare":
        words.append(f"labelled={inputs.get('labelled')}")
    if stage == "pseudo-label":
        views = inputs.get("views")
        words.append("answers of the live teacher" if not views else f"views of {views}")
    if stage == "evaluate" and isinstance(inputs.get("models"), dict):
        words.append(", ".join(map(str, inputs["models"])))
    return " ".join(words)


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
    """ "stage/key" of what runs name, and of all that those were made from."""
    by_name = {e.name: e for e in all_entries if e.state == "finished"}
    found: set[str] = set()
    todo = list(used)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += by_name[name].needs if name in by_name else []
    return found


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
