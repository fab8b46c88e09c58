"""Lines that go on below one another at words, as wide as the terminal that they are printed to."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TextIO

_NARROWEST = 40
"""Columns below which no line is folded."""


def columns_of(stream: TextIO) -> int | None:
    """Columns of the terminal that a stream is; None of a pipe or a file, which get whole lines."""
    try:
        wide = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError, AttributeError):
        return None
    return wide if wide >= _NARROWEST else None


def fold_lines(text: str, columns: int | None, hang: int = 0) -> str:
    """Each line of the text in so many columns, what goes on below it indented as it is, behind a dash if
    there is one. A word that is wider, such as a path, stays whole. columns: None: as it is.
    hang: blanks before what goes on, beside those.
    """
    if columns is None:
        return text
    lines = []
    for line in text.split("\n"):
        inner = line.lstrip(" ")
        indent = " " * (len(line) - len(inner) + 2 * inner.startswith("- ") + hang)
        folds = textwrap.wrap(
            line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        lines += folds if len(line) > columns and folds else [line]
    return "\n".join(lines)


def say(text: str, stream: TextIO | None = None, *, hang: int = 0, flush: bool = False) -> None:
    """Prints it, folded. stream: by default stdout. hang: as in `fold_lines`."""
    stream = stream or sys.stdout
    print(fold_lines(text, columns_of(stream), hang), file=stream, flush=flush)
