"""Range checks that hyperparameters share: each returns the value or raises a UserError that says what was
wanted and what was given.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from kdx.core.errors import UserError, UserErrors, WrongStudent, nearest

MOST = 2**63 - 1
"""The largest whole number that any setting takes: that of 64 bits, as the libraries below hold them."""
LONGEST = 60
"""Letters of a value that a message shows."""
_DEEPEST = 8
"""Lists in lists that a value may be."""
Made = TypeVar("Made")
_gathered: ContextVar[list[str] | None] = ContextVar("gathered", default=None)


@contextmanager
def gather(into: list[str], prefix: str = "") -> Iterator[None]:
    """Inside, a check that refuses a value adds its message to `into` and hands on a value that it allows, so
    that all errors are reported together.

    What is made inside from such a stand-in must not be used: see `attempt` and `whole`. Once something was
    refused, an exception is its echo and is not reported.
    """
    found: list[str] = []
    token = _gathered.set(found)
    try:
        yield
    except UserError as error:
        found += error.messages if isinstance(error, UserErrors) else [str(error)]
    except Exception:
        if not found:
            raise
    finally:
        _gathered.reset(token)
        into += [f"{prefix}{message}" for message in found]


@contextmanager
def whole() -> Iterator[None]:
    """Inside, checks refuse as in `gather`; at the end all that was refused is raised as one UserErrors, so
    nothing made inside is ever used.
    """
    found: list[str] = []
    token = _gathered.set(found)
    try:
        yield
    except Exception as error:
        if not found:
            raise
        found += (
            error.messages
            if isinstance(error, UserErrors)
            else [str(error)]
            if isinstance(error, UserError) and not isinstance(error, WrongStudent)
            else []
        )
    finally:
        _gathered.reset(token)
    if found:
        raise UserErrors(found)


def attempt(
    errors: list[str], function: Callable[..., Made], *arguments: Any, prefix: str = ""
) -> Made | None:
    """What the function returns, or None where something was refused, which is added to `errors`."""
    found: list[str] = []
    made = None
    with gather(found, prefix):
        made = function(*arguments)
    errors += found
    return None if found else made


def refuse(message: str) -> None:
    found = _gathered.get()
    if found is None:
        raise UserError(message)
    found.append(message)


def refuse_all(messages: Iterable[str]) -> None:
    for message in messages:
        refuse(message)


def agreed() -> None:
    """What follows compares values with each other: it is not done where one of them was refused. Raises
    UserErrors there.
    """
    if _gathered.get():
        raise UserErrors(())  # they are noted


def number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    words: Sequence[str] = (),
) -> float:
    """A finite number in [low, high], or in the open interval where an end is open. words: what else is
    allowed, as one types it: the caller has looked for these, and the message names them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(f"{name} must be a number{_or(words)}; given: {shown(value)}")
        return _inside(low, high)
    below = value <= low if open_low else value < low
    above = value >= high if open_high else value > high
    if below or above or not _finite(value):
        interval = _interval(low, high, open_low, open_high)
        if interval != "finite" and (
            value != value or not (below or above)
        ):  # NaN, or an open end's infinity
            interval = f"finite{',' if ' and ' in interval else ' and'} {interval}"
        refuse(f"{name} must be {interval}{_or(words)}; given: {shown(value)}")
        return _inside(low, high)
    return value


def integer(
    name: str,
    value: Any,
    *,
    low: int,
    high: int = MOST,
    instead: int | None = None,
    words: Sequence[str] = (),
) -> int:
    """instead: what stands in for one that is refused and only reported; None: `low`. words: see `number`."""
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(f"{name} must be a whole number{_or(words)}; given: {shown(value)}")
        return low if instead is None else instead
    if not low <= value <= high:
        refuse(
            f"{name} must be at least "
            f"{low}{'' if value < low else f' and at most {high}'}{_or(words)}; given: {shown(value)}"
        )
        return low if instead is None else instead
    return value


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in options:
        refuse(f"{name} has no option {shown(value)}{nearest(str(value)[:LONGEST], options)}")
        return options[0]
    return value


def flag(name: str, value: Any, *, words: Sequence[str] = ()) -> bool:
    """words: see `number`."""
    if not isinstance(value, bool):
        refuse(f"{name} must be true or false{_or(words)}; given: {shown(value)}")
        return False
    return value


def _or(words: Sequence[str]) -> str:
    return "".join(f", or {word}" for word in words)


def shown(value: Any, bare: bool = False) -> str:
    """A value as one writes it on the command line, cut short where it is long. bare: without the quotes of a
    text.
    """
    text = _written(value, bare)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 20]}... ({len(text):,} letters)"


def _written(value: Any, bare: bool, depth: int = 0) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(v, True, depth + 1) for v in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {_written(v, True, depth + 1)}' for k, v in value.items())}}}"
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"a number of {round(value.bit_length() * math.log10(2))} digits"
    if bare or not isinstance(value, str):
        return str(value) if bare else repr(value)
    # a byte that is no UTF-8 as that byte, as in `kdx.core.errors.printable`
    return re.sub(r"(?<!\\)((?:\\\\)*)\\udc([89a-f][0-9a-f])", r"\1\\x\2", repr(value))


def _finite(value: int | float) -> bool:
    """Whether it is one that a float can hold."""
    return -sys.float_info.max <= value <= sys.float_info.max


def _inside(low: float, high: float) -> float:
    """A number of the interval, off its ends where it can be."""
    if low > -math.inf and high < math.inf:
        return (low + high) / 2
    return low + 1 if low > -math.inf else high - 1 if high < math.inf else 0.0


def _interval(low: float, high: float, open_low: bool, open_high: bool) -> str:
    lower = f"greater than {low:g}" if open_low else f"at least {low:g}"
    upper = f"less than {high:g}" if open_high else f"at most {high:g}"
    parts = ([lower] if low > -math.inf else []) + ([upper] if high < math.inf else [])
    return " and ".join(parts) or "finite"
