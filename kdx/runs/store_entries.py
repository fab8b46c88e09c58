"""What lies in the store: each of its folders, what it is and what it was made from. Reads only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import kind_at
from kdx.runs.artifacts import NAME, STAGE_NAMES, read_run_manifest
from kdx.runs.export.card import component_line
from kdx.store.manifest import MANIFEST, Unreadable, inputs_begun, references, stands_for

ENTRY = re.compile(r"([0-9a-f]{64})(\.partial|\.damaged-\d+)?")


UNREADABLE = "unreadable"
"""The state of what this user may not read."""


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

    @property
    def store(self) -> Path:
        """Where it lies."""
        return self.path.parent.parent


@dataclass(frozen=True)
class StoreContents:
    """entries: by stage and age. strangers: what is in the place of a folder of the store and is none, a
    sentence each.
    """

    entries: list[StoreEntry]
    strangers: list[str]


def store_contents(store: Path) -> StoreContents:
    """What lies in the store, looked through once. Links are passed over: what is behind them is not the
    store's.
    """
    if not store.is_dir():
        raise UserError(f"the store '{store}' does not exist; name another with store=PATH")
    entries, outside, inside = [], [], []
    names = (*STAGE_NAMES, *_own_stages(store))
    for stage in (*names, "locks"):
        folder = store / stage
        ours, found = stage in STAGE_NAMES or stage == "locks", kind_at(folder)
        outside += [_strange(folder, found)] if ours and found not in (None, "a folder") else []
        if found != "a folder":
            continue
        try:
            below = list(folder.iterdir())
        except PermissionError:
            if stage != "locks":
                entries.append(StoreEntry(stage, "", UNREADABLE, folder, 0, folder.stat().st_mtime, "", ()))
            continue
        for path in below:
            if not (match := ENTRY.fullmatch(path.name)):
                continue
            found = kind_at(path)
            if found != "a folder":
                inside += [_strange(path, found)] if ours and found else []
            elif stage != "locks":
                state = "finished" if not match[2] else "unfinished" if match[2] == ".partial" else "damaged"
                entries.append(_entry(stage, match[1], state, path))
    entries.sort(key=lambda e: (names.index(e.stage), e.made))
    return StoreContents(entries, [*outside, *inside])


def _strange(path: Path, found: str) -> str:
    return f"'{path}' is {found}, where the store has folders, and was passed over"


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
        if (begun := inputs_begun(path, key)) is not None:
            what, needs = _describe(stage, begun), tuple(f"{s}/{k}" for s, k in references(begun))
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
    if stage == "label-shard" and isinstance(shard := inputs.get("shard"), list) and len(shard) == 2:
        words.append(f"shard {shard[0]} of {shard[1]}")
    if stage == "evaluate" and isinstance(inputs.get("models"), dict):
        words.append(", ".join(map(str, inputs["models"])))
    return " ".join(words)
