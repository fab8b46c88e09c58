"""What a document that was read must look like: types, numbers in bounds, lists and objects of them, and what
is wrong in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError

LARGEST_NUMBER = 1e18
"""Beyond this a number is nobody's count."""
_NUMBERS = (int, float)


@dataclass(frozen=True)
class Number:
    """A finite number in [low, high]."""

    low: float = -LARGEST_NUMBER
    high: float = LARGEST_NUMBER

    def wrong(self, value: Any) -> str | None:
        if type(value) in _NUMBERS and self.low <= value <= self.high:
            return None
        bounds = f" from {self.low:g} to {self.high:g}" if type(value) in _NUMBERS else ""
        return f"must be a number{bounds}"


@dataclass(frozen=True)
class Maybe:
    """In a list: what may be null there. Elsewhere everything may be."""

    inner: Any


COUNT, SHARE = Number(low=0), Number(low=0, high=1 + 1e-6)  # a mean of ones may round to a little more
MADE = {
    "device": str,
    "threads": COUNT,
    "hardware": str,
    **dict.fromkeys(("kdx", "python", "torch", "torchvision", "numpy"), str),
}
"""With what a stage was made: see Runtime.where."""
_NAMES = {str: "text", bool: "true or false", list: "a list", dict: "an object"}
ASKED = {**_NAMES, int: "a whole number"}


def wrong(value: Any, shape: Any, where: str) -> str | None:
    """What is wrong with a value that must be there, in a sentence;
    None where it has the shape (see SHAPE).
    """
    if value is None:
        return f"{where} is missing"
    if type(value) is shape:
        return None
    return next(all_wrong(value, shape, where), None)


def expect_shape(value: Any, shape: Any, file: Path | str, what: str) -> Any:
    """The value, which has a shape as kdx.report.run.document has them, or a UserError."""
    if found := wrong(value, shape, what):
        raise UserError(f"'{file}' is not as kdx writes it: {found}")
    return value


def all_wrong(value: Any, shape: Any, where: str) -> Iterator[str]:
    """Sentences: results.student.flops must be a number from 0 to 1e+18, and is -3."""
    found: list[str] = []
    _look(value, shape, where, found)
    return iter(found)


_Path = str | tuple["_Path", str | None]
"""Where a value stands: a name, or (where that lies in which it stands, its key; None: one of a list). Put in
words only of a value that is wrong, as most are not.
"""


def _look(value: Any, shape: Any, path: _Path, found: list[str]) -> None:
    """Adds what is wrong to `found`."""
    kind: type[Any] = shape if isinstance(shape, type) else type(shape)
    if isinstance(shape, Number):
        if why := shape.wrong(value):
            found.append(f"{_in_words(path)} {why}, and is {value_in_words(value)}")
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        found.append(f"{_in_words(path)} must be {ASKED[kind]}, and is {value_in_words(value)}")
    elif isinstance(shape, list):
        inner, maybe = (shape[0].inner, True) if isinstance(shape[0], Maybe) else (shape[0], False)
        low, high = (inner.low, inner.high) if isinstance(inner, Number) else (1.0, 0.0)
        for item in value:
            if type(item) in _NUMBERS and low <= item <= high:
                continue  # most of a document are numbers
            if item is not None or not maybe:
                _look(item, inner, (path, None), found)
    elif isinstance(shape, dict) and shape:
        rest = shape.get("*")
        for key, inner in value.items():
            wanted = shape.get(key, rest)
            if wanted is None or inner is None or type(inner) is wanted:
                continue
            if type(wanted) is Number and type(inner) in _NUMBERS and wanted.low <= inner <= wanted.high:
                continue
            _look(inner, wanted, (path, key), found)


def _in_words(path: _Path) -> str:
    if isinstance(path, str):
        return path
    of, key = path
    return f"each of {_in_words(of)}" if key is None else f"{_in_words(of)}.{key[:40]}".lstrip(".")


def value_in_words(value: Any) -> str:
    """A value in a sentence: a short one itself."""
    if value is None:
        return "null"
    return _NAMES.get(type(value)) or str(value)[:40]
