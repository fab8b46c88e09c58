"""Errors that are the user's to mend: told in one to three plain lines, never as a traceback. Standard library only."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class Fault(Exception):
    """Something the user asked for cannot be done. The message says what was wanted, what was given and what to do."""


class Faults(Fault):
    """Several faults found together."""

    def __init__(self, messages: Iterable[str]):
        self.messages = list(dict.fromkeys(str(m) for m in messages))
        super().__init__("\n".join(self.messages))


class Caution(UserWarning):
    """Something that a method noticed and the user should know; given with `warnings.warn`, it is shown and kept with the run."""


@contextlib.contextmanager
def within(what: str) -> Iterator[None]:
    """A Fault raised inside says first where: `claim kd: the key ...`."""
    try:
        yield
    except Fault as error:
        raise Fault(f"{what}: {error}") from error


def nearest(word: str, options: Iterable[str]) -> str:
    """A clause that names the closest option, or all of them when they are few: `; did you mean 'kd'?`"""
    options = sorted(str(o) for o in options)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; one of: {', '.join(options)}" if options and len(options) <= 40 else ""
