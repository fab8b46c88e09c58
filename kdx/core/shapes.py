"""What a document that was read must look like: types, numbers in bounds, lists and objects of them, and what
is wrong in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LARGEST_NUMBER = 1e18
"""Beyond this a number is nobody's count."""


@dataclass(frozen=True)
class Number:
    """A finite number in [low, high]."""

    low: float = -LARGEST_NUMBER
    high: float = LARGEST_NUMBER

    def wrong(self, value: Any) -> str | None:
        if type(value) in (int, float) and self.low <= value <= self.high:
            return None
        bounds = f" from {self.low:g} to {self.high:g}" if type(value) in (int, float) else ""
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
    return next(all_wrong(value, shape, where), None)


def all_wrong(value: Any, shape: Any, where: str) -> Iterator[str]:
    """Sentences: results.student.flops must be a number from 0 to 1e+18, and is -3."""
    if not _fits(value, shape):  # most do, and then no sentence need be made
        yield from _all_wrong(value, shape, where)


def _fits(value: Any, shape: Any) -> bool:
    if isinstance(shape, Number):
        return type(value) in (int, float) and shape.low <= value <= shape.high
    kind: type[Any] = shape if isinstance(shape, type) else type(shape)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return False
    if isinstance(shape, list):
        inner, maybe = (shape[0].inner, True) if isinstance(shape[0], Maybe) else (shape[0], False)
        if isinstance(inner, Number):  # most of a document are numbers
            low, high = inner.low, inner.high
            for item in value:
                fine = type(item) in (int, float) and low <= item <= high
                if not fine and not (item is None and maybe):
                    return False
            return True
        return all((item is None and maybe) or _fits(item, inner) for item in value)
    if isinstance(shape, dict) and shape:
        rest = shape.get("*")
        for key, inner in value.items():
            wanted = shape.get(key, rest)
            if wanted is not None and inner is not None and not _fits(inner, wanted):
                return False
    return True


def _all_wrong(value: Any, shape: Any, where: str) -> Iterator[str]:
    kind: type[Any] = shape if isinstance(shape, type) else type(shape)
    if isinstance(shape, Number):
        if why := shape.wrong(value):
            yield f"{where} {why}, and is {value_in_words(value)}"
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f"{where} must be {ASKED[kind]}, and is {value_in_words(value)}"
    elif isinstance(shape, list):
        inner = shape[0].inner if isinstance(shape[0], Maybe) else shape[0]
        for item in value:
            if isinstance(inner, Number) and inner.wrong(item) is None:
                continue  # most of a document are numbers
            if item is not None or not isinstance(shape[0], Maybe):
                yield from _all_wrong(item, inner, f"each of {where}")
    elif isinstance(shape, dict) and shape:
        for key, inner in value.items():
            wanted = shape.get(key, shape.get("*"))
            if wanted is not None and inner is not None:
                yield from _all_wrong(inner, wanted, f"{where}.{key[:40]}".lstrip("."))


def value_in_words(value: Any) -> str:
    """A value in a sentence: a short one itself."""
    if value is None:
        return "null"
    return _NAMES.get(type(value)) or str(value)[:40]
