"""A finished stage's folder: what its manifest says, how it is sealed and how it is checked. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.component import sha256
from kdx.disk import read_json, write_atomically
from kdx.faults import Fault

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.pt"
CLOCK = "seconds"
LEFTOVERS = (CHECKPOINT, CLOCK)
"""Files of an unfinished stage that are not published."""


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
    """The key of {"stage", "version", "inputs", "code"}: a manifest holds these four, so a folder's name can be checked against them."""
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def verify(path: Path) -> str | None:
    """What is wrong with a published folder, naming the file; None where every file has its hash."""
    try:
        files = {name: (entry["size"], entry["sha256"]) for name, entry in read_json(path / MANIFEST)["files"].items()}
    except (Fault, KeyError, TypeError, AttributeError):
        return f"{path / MANIFEST} cannot be read"
    for name, (size, digest) in files.items():
        file = path / name
        if not os.path.isfile(file):
            return f"{file} is missing"
        if file.stat().st_size != size:
            return f"{file} has {file.stat().st_size} bytes instead of {size}"
        if sha256(file) != digest:
            return f"{file} does not have the content that was published"
    return None


def seal(partial: Path, about: Mapping[str, Any]) -> None:
    """The manifest comes last: a folder that has one is complete. What only serves a resume is not part of it."""
    files = {}
    for path in sorted(p for p in partial.rglob("*") if p.is_file() and p.name not in LEFTOVERS):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(partial).as_posix()] = {"sha256": sha256(path), "size": path.stat().st_size}
    write_atomically(partial / MANIFEST, json.dumps({**about, "files": files}, indent=1))


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
