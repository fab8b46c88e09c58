"""Settings that name a file, such as teacher.file: two runs have the same where the files held the same, as
run.json tells of every stage, wherever they lay. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kdx.report.run.names import visible
from kdx.store.stage import split_number

_NODES = {"given-answers": "teacher", "teacher-pretrain": "teacher", "student-train": "student"}
"""stage -> the node of the configuration whose files it reads."""


def digests_of_files(stages: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key -> digest of the file that it names, as far as the stages of a run.json say. settings: of
    the run, of which those that are no text are no path."""
    found = {}
    for stage in stages:
        name, number = split_number(str(stage.get("name")))
        sources = stage.get("sources")
        for key, digest in sources.items() if isinstance(sources, Mapping) else ():
            for node in _nodes(name, number):
                setting = f"{node}.{str(key).rpartition('.')[2]}"
                if isinstance(settings.get(setting), str):
                    found[setting] = visible(str(digest))
    return found


def _nodes(stage: str, number: int | None) -> Iterator[str]:
    """Of a member of an ensemble its own; the first has that of the teacher too, where all have that."""
    if stage == "teacher-pretrain" and number is not None:
        yield f"members.{number}"
    if stage in _NODES and number in (None, 1):
        yield _NODES[stage]
