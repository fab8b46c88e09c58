"""Range checks that hyperparameters share: each returns the value or raises a Fault that says what was wanted and what was given."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from kdx.faults import Fault, Faults, nearest

_gathered: ContextVar[list[str] | None] = ContextVar("gathered", default=None)


@contextmanager
def gather(into: list[str], prefix: str = "") -> Iterator[None]:
    """Inside, checks add their message to `into` and go on, so that all faults of a component are told together."""
    found: list[str] = []
    token = _gathered.set(found)
    try:
        yield
    except Faults as error:
        found += error.messages
    except Fault as error:
        found.append(str(error))
    except (TypeError, ValueError, AttributeError):
        if not found:  # else: a value already told to be wrong went on to break something
            raise
    finally:
        _gathered.reset(token)
        into += [f"{prefix}{message}" for message in found]


def refuse(message: str) -> None:
    found = _gathered.get()
    if found is None:
        raise Fault(message)
    found.append(message)


def number(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False, open_high: bool = False) -> float:
    """A finite number in [low, high], or in the open interval where an end is open."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(f"{name} must be a number; given: {shown(value)}")
        return value
    below = value <= low if open_low else value < low
    above = value >= high if open_high else value > high
    if not math.isfinite(value) or below or above:
        refuse(f"{name} must be {_interval(low, high, open_low, open_high)}; given: {value}")
    return value


def integer(name: str, value: Any, *, low: int, high: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(f"{name} must be a whole number; given: {shown(value)}")
        return value
    if value < low or (high is not None and value > high):
        refuse(f"{name} must be at least {low}{'' if high is None else f' and at most {high}'}; given: {value}")
    return value


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    if value not in options:
        refuse(f"{name} has no option {shown(value)}{nearest(str(value), options)}")
    return value


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        refuse(f"{name} must be true or false; given: {shown(value)}")
    return value


def place(name: str, value: Any) -> Path:
    """The path of a folder, which need not exist yet; `~` expanded. Whether it may be written is not asked."""
    if not isinstance(value, str) or not value.strip():
        refuse(f"{name} must be the path of a folder; given: {shown(value)}")
        return Path()
    path = Path(value).expanduser()
    if not (there := existing(path)).is_dir():
        refuse(f"{name}={value} cannot be a folder: '{there}' is a file")
    return path


def folder(name: str, value: Any) -> Path:
    """A folder to write to, which need not exist yet; `~` expanded."""
    path = place(name, value)
    there = existing(path)
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        refuse(f"{name}={value} cannot be written: no permission to write in '{there}'")
    return path


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    path = path.absolute()
    while not os.path.lexists(path):
        path = path.parent
    return path


def shown(value: Any, bare: bool = False) -> str:
    """A value as one writes it on the command line. bare: without the quotes of a text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(v, bare=True) for v in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {shown(v, bare=True)}' for k, v in value.items())}}}"
    return str(value) if bare else repr(value)


def _interval(low: float, high: float, open_low: bool, open_high: bool) -> str:
    lower = f"greater than {low:g}" if open_low else f"at least {low:g}"
    upper = f"less than {high:g}" if open_high else f"at most {high:g}"
    parts = ([lower] if low > -math.inf else []) + ([upper] if high < math.inf else [])
    return " and ".join(parts) or "finite"
