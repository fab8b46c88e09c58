"""A stage: how it is called, what it runs, and a seed for each of its purposes. No torch."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import json
import re
from dataclasses import dataclass
from typing import Any

from kdx.core import shortage
from kdx.core.errors import UserError
from kdx.store.manifest import published
from kdx.store.work import Work

NUMBERED = re.compile(r"(.+?)(?:-(\d+))?")


def subseed(seed: int, *path: str | int) -> int:
    """A seed of 63 bits for one purpose, e.g. subseed(3, "student", 0): independent of the seeds of every
    other purpose.
    """
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *path]).encode()).digest()[:8], "big") >> 1


def split_number(name: str) -> tuple[str, int | None]:
    """Where there are several rounds a stage's name ends with its number: "student-train-2" ->
    ("student-train", 2); else None.
    """
    match = NUMBERED.fullmatch(name)
    return (match[1], int(match[2])) if match and match[2] else (name, None)


@dataclass(frozen=True)
class Stage:
    """A step of a run: `module.run(work, runtime, **inputs)` reads artifacts and writes files into
    `work.path`.

    Held by name, so that a run which finds everything in the store imports none of it. `version` is raised by
    hand where the meaning of the files changes although the code's digest could not tell. writes: files that
    it always leaves, as patterns; a folder without one of them is damaged. resumes: of what a killed one
    left,
    the files that it goes on from, as patterns; it checks them itself, and all others are removed. node: of
    the
    configuration, of those that `stages=` names (kdx.training.length.STAGES); None: it runs wherever it is
    asked for. lower: what to lower where this machine has too little memory for it. foretold: the address of
    a kdx.pipeline.foretelling.Foretelling, which says what it will do before it has run; None: nothing.
    """

    name: str
    module: str
    version: int = 1
    writes: tuple[str, ...] = ()
    resumes: tuple[str, ...] = ()
    node: str | None = None
    lower: str = shortage.ELSE
    foretold: str | None = None

    def __call__(self, work: Work, runtime: Any, **inputs: Any) -> None:
        importlib.import_module(self.module).run(work, runtime, **inputs)
        self._check_written(work)

    def _check_written(self, work: Work) -> None:
        """UserError of a stage of the user's own that left a file out which it declares; of kdx's own it is a
        RuntimeError.
        """
        found = published(work.path)
        if missing := [name for name in self.writes if not fnmatch.filter(found, name)]:
            own = self.module.partition(".")[0] != "kdx"
            raise (UserError if own else RuntimeError)(
                f"{work.name} wrote no {missing[0]}, and its Stage in {self.module} declares it in `writes`: "
                "write it into work.path, or leave it out there"
            )
