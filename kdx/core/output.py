"""stdout and stderr that cost no work: what cannot be written is reported once, a closed stream is as
/dev/null, and a terminal without Unicode gets ASCII.
With --json one document goes to stdout, and nothing else; a caller in Python gets it as it is.

Standard library only.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from kdx.core.documents import plain
from kdx.core.folded import say

ASCII = {
    "±": "+-",
    "×": "x",
    "…": "...",
    "→": "->",
    "–": "-",
    "—": "-",
    "−": "-",
    "·": ".",
    "─": "-",
    "━": "-",
    "╸": "-",
    "╺": "-",
    "│": "|",
}
"""How what tables and bars are made of is shown in an encoding that lacks it. Other characters become their
escapes.
"""


def plainer(error: UnicodeError) -> tuple[str, int]:
    """Never fails: see `ASCII`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(
        ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters
    ), error.end


codecs.register_error("kdx.plainer", plainer)


class Enduring:
    """A text stream that keeps its first failure to write in `lost` instead of raising it. unread: whether
    that its reader is gone is raised all the same.
    """

    def __init__(self, stream: Any, *, unread: bool):
        self.stream, self.unread = stream, unread
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._kept():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._kept():
            self.stream.flush()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.unread and isinstance(error, BrokenPipeError):
                raise
            self.lost = self.lost or error


@contextlib.contextmanager
def enduring() -> Iterator[None]:
    """Inside, sys.stdout and sys.stderr are Enduring."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        fill()
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    plain = []
    for stream in before:
        with contextlib.suppress(AttributeError, ValueError):  # a stream that is no file
            how = stream.errors
            if how in ("strict", "backslashreplace", "surrogateescape"):  # the last in the C locale
                stream.reconfigure(errors="kdx.plainer")
                plain.append((stream, how))
    sys.stdout, sys.stderr = Enduring(before[0], unread=True), Enduring(before[1], unread=False)
    made = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in made:
            hush(stream)
        for stream, how in plain:
            with contextlib.suppress(OSError, ValueError):  # closed by somebody
                stream.reconfigure(errors=how)
        sys.stdout, sys.stderr = before


def fill() -> None:
    """Opens /dev/null where a stream was closed (`>&-`): else the next file opened would take its number, and
    be written to by whoever prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if vars(sys)[name] is None:
            place = os.open(os.devnull, os.O_RDWR)
            if place != number:
                os.dup2(place, number)
                os.close(place)
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115 (as long as the process)


def hush(stream: Enduring) -> None:
    """The interpreter flushes once more when it ends; what could not be written must find somewhere to go."""
    try:
        stream.stream.flush()
    except OSError as error:
        stream.lost = stream.lost or error
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.stream.fileno())
    except ValueError:
        pass  # closed by somebody: nothing is left to write


def lost() -> str | None:
    """Why not all could be printed to stdout, in words; None where it could."""
    if not isinstance(sys.stdout, Enduring):
        return None
    sys.stdout.flush()
    error = sys.stdout.lost
    return None if error is None else error.strerror or str(error)


def instead(where: str) -> None:
    """At the end of what did work besides printing: tells where to find what could not be printed, which then
    is no failure. where: a clause.
    """
    out, why = sys.stdout, lost()
    if why and isinstance(out, Enduring):
        out.lost = None
        print(f"not all could be printed ({why}): {where}", file=sys.stderr)


class Document:
    """What a command answers under --json. to: the stdout that it is written on; None: it is kept, for a
    caller in Python.

    value: what was answered, plain values as json.loads gives them. error: what ended the command, for the
    caller to raise.
    """

    def __init__(self, to: Any):
        self.to, self.answered = to, False
        self.value: Any = None
        self.error: str | None = None


_document: Document | None = None


@contextlib.contextmanager
def one_document(*, kept: bool = False) -> Iterator[Document]:
    """Inside, everything that is printed goes to stderr, and what is handed to `answer` to stdout, or, kept,
    into the document.
    """
    global _document
    before = _document
    _document = Document(None if kept else sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield _document
    finally:
        _document = before


def wants_document() -> bool:
    """Whether a document is asked for in place of tables and sentences."""
    return _document is not None


def has_answered() -> bool:
    return _document is not None and _document.answered


def answer(value: Any) -> None:
    """The document of this command; only the first counts. NaN and infinities become null."""
    if _document is None or _document.answered:
        return
    _document.answered, _document.value = True, plain(value)
    if _document.to is not None:
        _document.to.write(json.dumps(_document.value, indent=2, allow_nan=False) + "\n")
        _document.to.flush()


def report_error(text: str, document: Mapping[str, Any] | None = None) -> None:
    """Says on stderr what ends this command, and answers with `document`, by default its lines as `errors`.
    For a caller in Python it is kept instead of printed, to be raised.
    """
    if _document is None or _document.to is not None:
        say(text, sys.stderr)
    else:
        _document.error = text
    answer({"errors": text.splitlines()} if document is None else document)
