"""A finished stage's manifest: what it says, how it is read, and how a folder is sealed by it. Standard
library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import plain_path, read_json, write_atomically
from kdx.core.shapes import COUNT, MADE, expect_shape
from kdx.store.source import sha256

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.pt"
DIGESTS = "checkpoint.json"
BEGUN = "begun.json"
LEFTOVERS = (CHECKPOINT, DIGESTS, BEGUN)
"""Files of an unfinished stage that are not published."""
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


@contextlib.contextmanager
def permitted(file: Path) -> Iterator[None]:
    """Inside, what this user may not read is Unreadable."""
    try:
        yield
    except PermissionError as error:
        raise Unreadable(
            f"'{file}' may not be read by you: ask its owner for permission, or name "
            "another store with store=PATH"
        ) from error


def there(file: Path) -> os.stat_result | None:
    """None where nothing is; Unreadable where this user may not know."""
    with permitted(file):
        try:
            return os.stat(file)
        except PermissionError:
            raise
        except (OSError, ValueError):  # a name that no file can have
            return None


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


def begin(partial: Path, whole: Mapping[str, Any]) -> None:
    """Lets an unfinished folder tell what it is made of. whole: see `key_of`."""
    write_atomically(partial / BEGUN, json.dumps(whole))


def inputs_begun(partial: Path, key: str) -> dict[str, Any] | None:
    """The inputs of an unfinished folder; None where it does not tell, or has another key."""
    try:
        found = read_json(partial / BEGUN)
    except UserError:
        return None
    try:
        return dict(found["inputs"]) if stands_for(found) == key else None
    except (LookupError, TypeError, ValueError):
        return None


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Of all that a manifest says,
    so that a changed one is known where neither its key nor its files tell.
    """
    return key_of({k: v for k, v in manifest.items() if k != "sha256"})


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


def named_sources(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(argument, digest) of each file or folder that canonical inputs name by its content."""
    if isinstance(value, dict):
        if isinstance(value.get("source"), str):
            yield name, value["source"]
        for key, inner in value.items():
            yield from (
                ((f"{name}.{k}", v) for k, v in inner.items())
                if key == "sources"
                else named_sources(inner, f"{name}.{key}".lstrip("."))
            )
    elif isinstance(value, list):
        for inner in value:
            yield from named_sources(inner, name)
