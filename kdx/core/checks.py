"""Range checks that hyperparameters share: each returns the value or raises a UserError that says what was
wanted and what was given.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from kdx.core import files
from kdx.core.errors import UserError, UserErrors, WrongStudent, nearest

MOST = 2**63 - 1
"""The largest whole number that any setting takes: that of 64 bits, as the libraries below hold them."""
LONGEST = 60
"""Letters of a value that a message shows."""
_DEEPEST = 8
"""Lists in lists that a value may be."""
LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of one name, and of a path with all of its names, that Linux takes."""
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
) -> float:
    """A finite number in [low, high], or in the open interval where an end is open."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(f"{name} must be a number; given: {shown(value)}")
        return _inside(low, high)
    below = value <= low if open_low else value < low
    above = value >= high if open_high else value > high
    if below or above or not _finite(value):
        interval = _interval(low, high, open_low, open_high)
        if interval != "finite" and (
            value != value or not (below or above)
        ):  # NaN, or an open end's infinity
            interval = f"finite{',' if ' and ' in interval else ' and'} {interval}"
        refuse(f"{name} must be {interval}; given: {shown(value)}")
        return _inside(low, high)
    return value


def integer(name: str, value: Any, *, low: int, high: int = MOST, instead: int | None = None) -> int:
    """instead: what stands in for one that is refused and only reported; None: `low`."""
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(f"{name} must be a whole number; given: {shown(value)}")
        return low if instead is None else instead
    if not low <= value <= high:
        refuse(
            f"{name} must be at least "
            f"{low}{'' if value < low else f' and at most {high}'}; given: {shown(value)}"
        )
        return low if instead is None else instead
    return value


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in options:
        refuse(f"{name} has no option {shown(value)}{nearest(str(value)[:LONGEST], options)}")
        return options[0]
    return value


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        refuse(f"{name} must be true or false; given: {shown(value)}")
        return False
    return value


def path(name: str, value: Any, what: str = "a folder") -> Path:
    """A path given as text, `~` expanded. Raises UserError where no file system could have it."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{name} must be the path of {what}; given: {shown(value)}")
    bare = value.encode("utf-8", "surrogatepass")
    if (
        b"\0" in bare
        or len(bare) > LONGEST_PATH
        or any(len(part) > LONGEST_NAME for part in bare.split(b"/"))
    ):
        raise UserError(
            f"{name} is no path that a file system could have (a name has at most {LONGEST_NAME} bytes); "
            f"given: {shown(value)}"
        )
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise UserError(
            f"{name}={shown(value, bare=True)} begins with '~', and there is no such user"
        ) from None


def output(name: str, value: Any) -> Path:
    """The path of a file that a command writes at its end, for kdx.core.files.write_output; `~` expanded.
    Asked before the work: a folder to hold it is there.
    """
    found = path(name, value, "a file")
    leads = Path(os.path.realpath(found)) if found.is_symlink() else found.absolute()
    if found.is_dir() or not (found.exists() or leads.parent.is_dir()):
        raise UserError(
            f"{name}={shown(value, bare=True)}: "
            + ("this is a folder; name a file in it" if found.is_dir() else "its folder does not exist")
        )
    return found


def place(name: str, value: Any) -> Path:
    """The path of a folder, which need not exist yet; `~` expanded.
    Whether it may be written is not asked.
    """
    found = path(name, value)
    if not (there := existing(found)).is_dir():
        refuse(f"{name}={shown(value, bare=True)} cannot be a folder: '{there}' is {_what(there)}")
    return found


def _what(there: Path) -> str:
    found = files.kind_at(there)
    return (
        (
            "a link to "
            f"{'what is not there' if not there.exists() else files.kind_at(Path(os.path.realpath(there)))}"
        )
        if found == "a link"
        else found or "gone"
    )


def folder(name: str, value: Any) -> Path:
    """A folder to write to, which need not exist yet; `~` expanded."""
    found = place(name, value)
    in_utf8(name, found)
    there = existing(found)
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        refuse(f"{name}={shown(value, bare=True)} cannot be written: no permission to write in '{there}'")
    return found


def in_utf8(name: str, path: Path) -> None:
    """Refuses a folder to write to, named or that of the working directory, that TensorBoard, JSON and
    reports could not name.
    """
    if odd := [
        part
        for part in path.absolute().parts
        if not part.isascii() and any("\udc80" <= letter <= "\udcff" for letter in part)
    ]:
        refuse(
            f"{name}={shown(str(path), bare=True)} lies in the folder "
            f"'{shown(odd[0], bare=True)}', whose name is not UTF-8, and TensorBoard cannot write "
            f"there: work in another folder, or set {name}=PATH"
        )


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    path = path.absolute()
    while not os.path.lexists(path):
        path = path.parent
    return path


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
