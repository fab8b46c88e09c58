"""A finished stage's folder, and what is read of it. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.core.files import read_json
from kdx.store.manifest import MANIFEST

METRICS_FILE, NOTES = "metrics.jsonl", "notes.jsonl"


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
