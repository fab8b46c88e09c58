"""A finished stage's folder: what its manifest says, how it is sealed and how it is checked. Standard library
only.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.core import snapshot
from kdx.core.errors import UserError
from kdx.core.files import LARGEST, plain_path, read_json, write_atomically
from kdx.core.metric import is_metric
from kdx.core.shapes import COUNT, MADE, expect_shape
from kdx.store.moved import written_before
from kdx.store.source import settled, sha256

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.pt"
DIGESTS = "checkpoint.json"
LEFTOVERS = (CHECKPOINT, DIGESTS)
"""Files of an unfinished stage that are not published."""
METRICS_FILE, NOTES = "metrics.jsonl", "notes.jsonl"
_SMALL = 1 << 16
_LEVELS = ("info", "warning")
KEY = re.compile(r"[0-9a-f]{64}")
FIELDS = {
    "stage": str,
    "version": int,
    "inputs": dict,
    "code": str,
    "files": dict,
    "created": COUNT,
    "seconds": COUNT,
}


class Unreadable(UserError):
    """Something of the store may not be read by this user: nobody can say whether it is whole."""


@dataclass(frozen=True)
class Artifact:
    """A finished stage's folder. Nothing in it changes any more."""

    stage: str
    key: str
    path: Path

    def file(self, name: str) -> Path:
        return self.path / name

    def json(self, name: str) -> Any:
        return read_json(self.file(name), strict=False)

    def lines(self, name: str) -> list[Any]:
        return list(lines(self.file(name)))

    @property
    def manifest(self) -> dict[str, Any]:
        return self.json(MANIFEST)


def key_of(whole: Mapping[str, Any]) -> str:
    """The key of {"stage", "version", "inputs", "code"}: a manifest holds these four, so a folder's name can
    be checked against them.
    """
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def stands_for(manifest: Mapping[str, Any]) -> str:
    """The key of what a manifest says."""
    return key_of({k: manifest[k] for k in ("stage", "version", "inputs", "code")})


def read_manifest(file: Path) -> dict[str, Any]:
    """A manifest with all that kdx reads of it, of the right type. Raises UserError, naming the field;
    Unreadable where it may not be read.
    """
    there(file)
    manifest = expect_shape(read_json(file), dict, file, "all of it")
    for key, kind in FIELDS.items():
        expect_shape(manifest.get(key), kind, file, key)
    expect_shape(manifest.get("made", {}), MADE, file, "made")
    for name, entry in manifest["files"].items():
        if not plain_path(name):
            raise UserError(f"'{file}' names a file outside its folder: {name!r}")
        expect_shape(expect_shape(entry, dict, file, "files").get("sha256"), str, file, "files: sha256")
        expect_shape(entry.get("size"), int, file, "files: size")
    return manifest


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


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Unreadable(
            f"'{file}' may not be read by you: ask its owner for permission, or name "
            "another store with store=PATH"
        ) from error


def there(file: Path) -> os.stat_result | None:
    """None where nothing is; Unreadable where this user may not know."""
    with _readable(file):
        try:
            return os.stat(file)
        except PermissionError:
            raise
        except (OSError, ValueError):  # a name that no file can have
            return None


def _digest_of(file: Path, about: os.stat_result) -> str:
    """SHA-256 of a file. about: what `there` says of it.

    Inside one command a large one is read once, as long as its size, its times and its inode stay: the runs
    of a sweep share decoded rows. Between commands nothing is remembered: what a disk loses changes no time.
    """
    with _readable(file):
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


def published(partial: Path) -> list[str]:
    """The files of an unfinished folder that are published with it, as its manifest names them."""
    return [
        path.relative_to(partial).as_posix()
        for path in sorted(partial.rglob("*"))
        if path.is_file() and path.name not in LEFTOVERS and not path.name.startswith(".")
    ]


def seal(partial: Path, about: Mapping[str, Any]) -> None:
    """The manifest comes last: a folder that has one is complete. What only serves a resume is not part of
    it.

    Every file gets the mode that this process gives to files that it makes: safetensors makes its own
    readable by nobody else.
    """
    plain = partial / f"{MANIFEST}.tmp"
    plain.unlink(missing_ok=True)
    plain.touch()
    mode = plain.stat().st_mode & 0o777
    plain.unlink()
    files = {}
    for name in published(partial):
        path = partial / name
        with path.open("rb") as file:
            os.fsync(file.fileno())
        if path.stat().st_mode & 0o777 != mode:
            with contextlib.suppress(PermissionError):  # another user's, who made it before this one went on
                path.chmod(mode)
        files[name] = {"sha256": sha256(path), "size": path.stat().st_size}
    whole = {**about, "files": files}
    write_atomically(partial / MANIFEST, json.dumps({**whole, "sha256": manifest_digest(whole)}, indent=1))


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Of all that a manifest says,
    so that a changed one is known where neither its key nor its files tell.
    """
    return key_of({k: v for k, v in manifest.items() if k != "sha256"})


def lines(path: Path) -> Iterator[Any]:
    """The JSON lines of a file; a last line cut off by a kill is passed over."""
    if not path.is_file():
        return
    with path.open() as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                return


# What is read of somebody's JSON


def references(value: Any) -> Iterator[tuple[str, str]]:
    """(stage, key) of each artifact that canonical inputs name."""
    if isinstance(value, dict):
        if set(value) == {"artifact"} and isinstance(value["artifact"], str):
            stage, _, key = value["artifact"].partition("/")
            yield stage, key
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
