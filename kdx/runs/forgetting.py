"""What the store has made of some data, to be erased, and what lies out of its reach. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import kind_at
from kdx.pipeline import stages
from kdx.report.run import document
from kdx.runs import cleanup
from kdx.runs.artifacts import read_run_manifest
from kdx.runs.reading import Run, read_run
from kdx.runs.store_entries import StoreEntry
from kdx.store.manifest import KEY, MANIFEST, inputs_begun, named_sources
from kdx.store.source import Source

_FEWEST = 8
"""Digits of a key that are enough to name it."""
_CARD, _OWN = "card.json", "store"


@dataclass(frozen=True)
class MadeOf:
    """entries: what was made of the data, what was made of others first. untold: folders that do not tell
    what they were made of, as they are damaged, or were begun by an older kdx. runs: run folders that name
    any of the entries: they hold figures and rows of their own. exports: exported networks in them. apart:
    how many runs are at work that have named their data, and none of the entries. stores: other stores, which
    runs that name any of the entries wrote down as theirs, and which were not looked through."""

    entries: Sequence[StoreEntry]
    untold: Sequence[StoreEntry]
    runs: Sequence[Path]
    exports: Sequence[Path]
    apart: int = 0
    stores: Sequence[Path] = ()


def own_stores(folders: Sequence[Path], store: Path) -> list[Path]:
    """Stores that lie inside run folders, as reruns have them, beside `store`. No link is followed."""
    inside = [folder / _OWN for folder in folders]
    return [each for each in inside if kind_at(each) == "a folder" and each.resolve() != store.resolve()]


def made_of(data: str, store: Path, entries: Sequence[StoreEntry], folders: Sequence[Path]) -> MadeOf:
    """data: a run folder, a file or a folder of data, or the key of an artifact, or its beginning. entries:
    of all stores that are looked through. folders: every run folder. Raises UserError where nothing is found
    that it could mean."""
    runs = [_read(folder) for folder in folders]
    known = [entry for entry in entries if entry.key]
    inputs = {entry.path: _inputs(entry) for entry in known}
    roots = _roots(data, store, known, inputs, runs)
    if not roots:
        raise UserError(
            f"nothing in the store '{store}' was made of '{data}': name a run folder, a file or a folder of "
            "data as a run named it, or a key of `kdx cache ls`"
        )
    doomed = _descendants(roots, known)
    names = {entry.name for entry in doomed}
    touched = [run for run in runs if any(f"{stage}/{key}" in names for stage, key in run.stages.values())]
    return MadeOf(
        doomed,
        [entry for entry in known if entry not in doomed and inputs[entry.path] is None],
        [run.path for run in touched],
        sorted({card.parent for run in touched for card in run.path.rglob(_CARD)}),
        sum(_first(run) != set() and _at_work(run) for run in runs if run not in touched),
        _elsewhere(touched, {entry.store.resolve() for entry in entries} | {store.resolve()}),
    )


def _at_work(run: Run) -> bool:
    return document.state(run.path, run.document) == "running"


def _elsewhere(runs: Sequence[Run], known: set[Path]) -> list[Path]:
    named = {Path(run.document["config"].get("store") or ".").expanduser() for run in runs}
    return sorted(each for each in named - {Path(".")} if each.is_dir() and each.resolve() not in known)


def check_idle(found: MadeOf) -> None:
    """Raises UserError where a run is at work on any of it, or might be: what is unfinished does not tell
    what it is made of, and belongs to a run of other data where there are as many of those at work."""
    busy = [entry for entry in found.entries if cleanup.busy(entry.store, entry)]
    unknown = [entry for entry in found.untold if cleanup.busy(entry.store, entry)]
    for entry in (*busy, *(unknown if len(unknown) > found.apart else ())):
        raise UserError(
            f"a run is at work on {entry.stage} {entry.key[:12]}: wait for its end, or stop it; nothing "
            "was erased"
        )
    for folder in found.runs:
        if document.state(folder, _read(folder).document) == "running":
            raise UserError(
                f"the run '{folder}' is at work: wait for its end, or stop it; nothing was erased"
            )


def _read(folder: Path) -> Run:
    return read_run(folder)


def _inputs(entry: StoreEntry) -> Mapping[str, Any] | None:
    """None where they are not known."""
    try:
        found: Mapping[str, Any] = read_run_manifest(entry.path / MANIFEST)["inputs"]
    except UserError:
        return inputs_begun(entry.path, entry.key)
    return found


def _roots(
    data: str,
    store: Path,
    entries: Sequence[StoreEntry],
    inputs: Mapping[Path, Mapping[str, Any] | None],
    runs: Sequence[Run],
) -> list[StoreEntry]:
    """The entries that begin with it."""
    key = data.rpartition("/")[2]
    if len(key) >= _FEWEST and KEY.fullmatch(key.ljust(64, "0")) and not os.path.lexists(data):
        return _named(key, entries, store)
    path = Path(data).expanduser()
    if not os.path.lexists(path):
        raise UserError(f"'{data}' does not exist, and is no key: name a run folder, data, or a key")
    if (path / "run.json").is_file():
        first = _first(read_run(path))
        sources = {
            digest for entry in entries if entry.name in first for digest in _digests(inputs[entry.path])
        }
        return [e for e in entries if e.name in first or sources & _digests(inputs[e.path])]
    digests, by_path = set(_forms(path)), _named_by(path, runs)
    return [e for e in entries if e.name in by_path or digests & _digests(inputs[e.path])]


def _named(key: str, entries: Sequence[StoreEntry], store: Path) -> list[StoreEntry]:
    found = [entry for entry in entries if entry.key.startswith(key)]
    if len({entry.name for entry in found}) > 1:
        raise UserError(
            f"{len(found)} folders of the store '{store}' have a key that begins with {key}: give more of it"
        )
    return found


def _digests(inputs: Mapping[str, Any] | None) -> set[str]:
    """Of the files from outside that canonical inputs name."""
    return {digest for _, digest in named_sources(inputs)}


def _first(run: Run) -> set[str]:
    """ "stage/key" of what a run made of its data before all else."""
    for stage in (stages.DECODE.name, stages.PREPARE.name):
        if found := {f"{name}/{key}" for name, key in run.stages.values() if name == stage}:
            return found
    return set()


def _forms(path: Path) -> Iterator[str]:
    """The digests under which data sets know a file or a folder."""
    try:
        yield Source(path).digest()
        if path.is_file():
            ending = path.suffix
            for name in ("", path.name, f"rows{ending}", ending[1:]):
                yield Source(named=[(name, path)]).digest()
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror or error})") from error


def _named_by(path: Path, runs: Sequence[Run]) -> set[str]:
    """The first entries of the runs whose data set names this path, or one inside it."""
    found: set[str] = set()
    wanted = path.resolve()
    for run in runs:
        described = run.document["config"].get("dataset")
        values = described.values() if isinstance(described, Mapping) else ()
        named = [Path(value).expanduser() for value in values if isinstance(value, str) and value]
        if any(wanted in (place.resolve(), *place.resolve().parents) for place in named):
            found |= _first(run)
    return found


def _descendants(roots: Sequence[StoreEntry], entries: Sequence[StoreEntry]) -> list[StoreEntry]:
    """All that was made of them, and they themselves; what was made of another stands before it."""
    needs: dict[str, set[str]] = {}
    for entry in entries:  # a folder that was put aside has the name of the whole one
        needs.setdefault(entry.name, set()).update(entry.needs)
    doomed = {entry.name for entry in roots}
    while more := {name for name, before in needs.items() if doomed & set(before)} - doomed:
        doomed |= more
    depth: dict[str, int] = {}

    def deep(name: str) -> int:
        if name not in depth:
            depth[name] = 0
            depth[name] = 1 + max((deep(one) for one in needs.get(name, ()) if one in doomed), default=0)
        return depth[name]

    return sorted((entry for entry in entries if entry.name in doomed), key=lambda entry: -deep(entry.name))
