"""Whether a published folder is whole: its manifest, its files and no others, each with its hash.
Standard library only.
"""

from __future__ import annotations

import fnmatch
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.core import snapshot
from kdx.core.errors import UserError
from kdx.core.files import LARGEST
from kdx.core.metric import is_metric
from kdx.store.artifact import METRICS_FILE, NOTES
from kdx.store.manifest import (
    LEFTOVERS,
    MANIFEST,
    Unreadable,
    manifest_digest,
    permitted,
    read_manifest,
    stands_for,
    there,
)
from kdx.store.moved import written_before
from kdx.store.source import settled, sha256

_SMALL = 1 << 16
_LEVELS = ("info", "warning")


def verify(
    path: Path,
    *,
    stage: str | None = None,
    key: str | None = None,
    writes: Sequence[str] = (),
    quick: bool = False,
    own: bool = False,
) -> str | None:
    """What is wrong with a published folder, naming the file; None where it is whole.

    stage, key: what its place says it is; its manifest must say the same. writes: files that it must
    have, as patterns.
    quick: of files of more than SMALL bytes the size alone is compared. own: its manifest must have a digest
    of its own, which an older kdx did not write: without one nobody knows whether a file is left out that the
    stage writes on some inputs only, and no run needs an older one, whose code has another digest. Raises
    Unreadable where it may not be looked at.
    """
    try:
        manifest = read_manifest(path / MANIFEST)
    except Unreadable:
        raise
    except UserError as error:
        return str(error)
    if stage is not None and (manifest["stage"], stands_for(manifest)) != (stage, key):
        return f"'{path / MANIFEST}' does not belong to its folder: what it says has another key"
    if own and "sha256" not in manifest:
        return f"'{path / MANIFEST}' does not have a digest of its own"
    if manifest.get("sha256", whole := manifest_digest(manifest)) != whole:  # older ones have none
        return f"'{path / MANIFEST}' does not have the content that was published"
    listed = manifest["files"]
    if missing := [
        name
        for name in writes
        if not any(fnmatch.filter(listed, pattern) for pattern in (name, *written_before(name)))
    ]:
        return f"'{path / MANIFEST}' does not list {missing[0]}"
    for name, entry in manifest["files"].items():
        file = path / name
        about = there(file)
        if about is None or not stat.S_ISREG(about.st_mode):
            return f"{file} is missing"
        if about.st_size != entry["size"]:
            return f"{file} has {about.st_size} bytes instead of {entry['size']}"
        if not (quick and about.st_size > _SMALL) and _digest_of(file, about) != entry["sha256"]:
            return f"{file} does not have the content that was published"
    if strange := _unlisted(path, manifest["files"]):
        return f"{strange} is none of the files that were published"
    return _odd(path)


def _digest_of(file: Path, about: os.stat_result) -> str:
    """SHA-256 of a file. about: what `there` says of it.

    Inside one command a large one is read once, as long as its size, its times and its inode stay: the runs
    of a sweep share decoded rows. Between commands nothing is remembered: what a disk loses changes no time.
    """
    with permitted(file):
        if about.st_size <= _SMALL or not settled(about):
            return sha256(file)
        key = ("sha256", os.path.abspath(file))
        return snapshot.while_same(key, str(file), lambda: sha256(file), bool)


def _unlisted(path: Path, files: Mapping[str, Any]) -> Path | None:
    """A file that the manifest does not know: a stage that reads what is there would read it. What a desktop
    leaves, hidden, is no matter.
    """
    top = os.fspath(path)
    for here, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = "" if here == top else f"{Path(here).relative_to(path).as_posix()}/"
        for name in names:
            inside = f"{below}{name}"
            if inside not in files and inside not in (MANIFEST, *LEFTOVERS) and not name.startswith("."):
                return Path(here, name)
    return None


def _odd(path: Path) -> str | None:
    """Which of the records and notes, that are reported again with each run, is not as a stage writes it."""
    for name, fits in ((METRICS_FILE, is_record), (NOTES, is_note)):
        file = path / name
        if not file.is_file():
            continue
        if file.stat().st_size > LARGEST:
            return f"{file} is too large"
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                good = fits(json.loads(line))
            except (ValueError, RecursionError):
                good = False
            if not good:
                return f"{file}, line {number} is not as kdx writes it"
    return None


def is_record(value: Any) -> bool:
    """{"step": 3, "train/loss": 0.5, ...}; "metric": how that of validation is shown."""
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        return False
    return all(is_metric(found) if key == "metric" else _counts(found) for key, found in value.items())


def _counts(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 63
    return isinstance(value, float) or value is None


def is_note(value: Any) -> bool:
    """{"text": "...", "level": "warning"}"""
    return isinstance(value, dict) and isinstance(value.get("text"), str) and value.get("level") in _LEVELS
