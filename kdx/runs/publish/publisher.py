"""What a destination is: it takes runs, and says of each where it is. No torch, and no client is imported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdx.config.destinations import Destination
from kdx.core.aloud import quiet
from kdx.core.errors import UserError
from kdx.runs.publish.shared import Shared


class NotPublished(UserError):
    """A destination could not be reached, or refused: what was asked for is right, and can be asked again."""


class Receipt(NamedTuple):
    """run: its name. where: what finds it there. fresh: False where it was there already. note: what is left
    to do."""

    run: str
    where: str
    fresh: bool = True
    note: str = ""


@dataclass(frozen=True)
class Publishing:
    """How runs are to be published: the options of `kdx publish`. group: of a folder of runs, its name. out:
    where files go of destinations that are folders."""

    destination: Destination
    out: Path
    project: str = "kdx"
    group: str | None = None
    again: bool = False
    examples: bool = False
    weights: bool = False
    dry: bool = False
    private: bool = True
    license: str | None = None
    data_license: str | None = None
    formats: Sequence[str] = ("state_dict",)
    allow: Sequence[str] = ()


class Publisher(ABC):
    """look: the command that shows what was published, empty where there is none. hint: what to do where the
    place cannot be reached."""

    look = ""
    hint = ""

    def __init__(self, asked: Publishing):
        self.asked = asked

    @abstractmethod
    def send(self, runs: Sequence[Shared]) -> Iterator[Receipt]:
        """Raises NotPublished where it cannot; what was sent before is there."""


class Tracker(Publisher):
    """A place that keeps runs one by one, with settings, numbers and files."""

    @abstractmethod
    def find(self, run: Shared) -> str | None:
        """Where the run is there; None: it is not, as far as that can be known."""

    @abstractmethod
    def put(self, run: Shared, files: Path) -> str:
        """Publishes it, and gives where. files: a folder of what it keeps beside numbers, maybe empty."""

    def send(self, runs: Sequence[Shared]) -> Iterator[Receipt]:
        for run in runs:
            with reaching(self.asked.destination, self.hint):
                there = None if self.asked.again else self.find(run)
            if there:
                yield Receipt(run.name, there, fresh=False)
                continue
            with run.files(examples=self.asked.examples) as files:
                note = self._add_weights(run, files) if self.asked.weights else ""
                with reaching(self.asked.destination, self.hint):
                    where = self.put(run, files)
            yield Receipt(run.name, where, note=note)

    def _add_weights(self, run: Shared, files: Path) -> str:
        if "student" not in run.run.roles():
            return "no weights: the run has no student"
        from kdx.report.run.verdict import of_table, which_of
        from kdx.runs.export.export import export

        export(
            run.run,
            role="student",
            which=which_of("student", of_table(run.run.document)),
            formats=self.asked.formats,
            to=files / "student",
            allow=self.asked.allow,
        )
        return ""


@contextmanager
def reaching(destination: Destination, hint: str = "") -> Iterator[None]:
    """Keeps a client from thinking aloud, and makes one sentence of whatever it raises. hint: its end."""
    try:
        with quiet():
            yield
    except UserError:
        raise
    except Exception as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise NotPublished(f"{destination} could not be reached, or refused: {why[:300]}{hint}") from error
