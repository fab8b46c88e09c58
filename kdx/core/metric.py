"""How a number that a task measures is called, shown and compared. Standard library only.

A task says which metrics it has and which of them counts (`Task.shown`, `Task.primary`); run.json keeps what
is said here, so that whoever reads a run needs no task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from kdx.core.errors import UserError
from kdx.core.shapes import Number, wrong


@dataclass(frozen=True)
class Metric:
    """One metric of a task.

    name: its key in results.json and run.json. title: what it is called in tables. scale: what a value is
    multiplied by to be shown (100 for per cent). unit: what stands behind a shown value, such as "%". digits:
    after the point. more: whether more is better. low, high: the range of values, None: without end. gains:
    what a difference of two shown values is counted in, where that has a name of its own ("points" of per
    cent). head: over a column of its values on the test split, where that is not `test <title>`. share:
    whether it is the share of the rows that are right, so that n rows tell its (binomial) error. column:
    which tables of one run have a column for it, "table": all; "card": those with room; "none". note: what
    it is, a sentence below such a table.
    """

    name: str
    title: str
    scale: float = 1.0
    unit: str = ""
    digits: int = 3
    more: bool = True
    low: float | None = None
    high: float | None = None
    gains: str = ""
    head: str = ""
    share: bool = False
    column: str = "table"
    note: str = ""

    @property
    def heading(self) -> str:
        """Over a column of its shown values on the test split: "test %" """
        return self.head or f"test {self.labelled}"

    @property
    def labelled(self) -> str:
        """Its title with the unit, as beside an axis: "accuracy, %" """
        return f"{self.title}, {self.unit.strip()}" if self.unit.strip() else self.title

    @property
    def meaning(self) -> str:
        """What is the same where values can be compared: "accuracy (%, more is better)" """
        unit = f"{self.unit.strip()}, " if self.unit.strip() else ""
        return f"{self.name} ({unit}{'more' if self.more else 'less'} is better)"

    def shown(self, value: float) -> str:
        """A value without its unit: .956 -> "95.6"; never "-0.0" (z), here and below."""
        return f"{value * self.scale:z.{self.digits}f}"

    def text(self, value: float) -> str:
        """A value with its unit: .956 -> "95.6%" """
        return f"{self.shown(value)}{self.unit}"

    def difference(self, value: float) -> str:
        """A difference of two values, with its sign: .038 -> "+3.8" """
        return f"{value * self.scale:+z.{self.digits}f}"

    def counted(self, value: float, digits: int | None = None) -> str:
        """A difference with what it is counted in, a sign only below 0: .038 -> "3.8 points" """
        text = f"{value * self.scale:z.{self.digits if digits is None else digits}f}"
        return f"{text} {self.gains}" if self.gains else f"{text}{self.unit}"

    def gain(self, value: float, than: float) -> float:
        """By how much a value is better than another, in the metric's own unit; below 0 where it is worse."""
        return value - than if self.more else than - value

    def error(self, value: float) -> float:
        """What is smaller the better a value is: itself where less is better, else what it lacks of the most
        that there can be (1 of an accuracy), or its negative where there is no most.
        """
        return value if not self.more else -value if self.high is None else self.high - value

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than another; anything but nan is better than none (None)."""
        return value == value if than is None else self.gain(value, than) > 0

    def first_best(self, values: Sequence[float]) -> int:
        """The index of the first of the best."""
        return values.index((max if self.more else min)(values))

    def order(self, values: Iterable[float]) -> list[float]:
        """Best first."""
        return sorted(values, reverse=self.more)

    def document(self) -> dict[str, Any]:
        """As run.json keeps it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Metric:
        """What `document` wrote; keys of later versions are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in document.items() if key in known})


WRITTEN = {
    **dict.fromkeys(("name", "title", "unit", "gains", "head", "column", "note"), str),
    "scale": Number(1e-9, 1e9),
    "digits": int,
    **dict.fromkeys(("more", "share"), bool),
    **dict.fromkeys(("low", "high"), Number()),
}
"""The shape of `Metric.document` (see kdx.core.shapes)."""
_MOST_DIGITS, _LONGEST, _LONGEST_NOTE = 9, 60, 300


def checked_metric(document: Any, where: str) -> Metric:
    """A metric out of a document that anybody may have written. Raises UserError where it is none."""
    if why := wrong(document, WRITTEN, where):
        raise UserError(why)
    given = {key: document[key] for key in WRITTEN if document.get(key) is not None}
    for key in ("name", "title"):
        if not given.get(key):
            raise UserError(f"{where}.{key} is missing")
    for key, value in given.items():
        most = _LONGEST_NOTE if key == "note" else _LONGEST
        if isinstance(value, str) and not (len(value) <= most and value.isprintable()):
            raise UserError(f"{where}.{key} must be printable, and of at most {most} characters")
    if not 0 <= given.get("digits", 0) <= _MOST_DIGITS:
        raise UserError(f"{where}.digits must be from 0 to {_MOST_DIGITS}")
    return Metric.read(given)


def is_metric(document: Any) -> bool:
    """Whether `checked_metric` takes it."""
    try:
        checked_metric(document, "metric")
    except UserError:
        return False
    return True
