"""Text as Markdown in which names cannot become markup."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from kdx.core.errors import printable

FIGURE = re.compile(r"[-+\\]*[\d.,]*\s?(%|[kMG]?B?|s|ms|min)( of \d+)?$")
"""A cell that is a number with its unit, or the dash in place of one."""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; figures to the right, words to the left. The cells must be escaped already."""
    words = [any(not FIGURE.match(row[i]) for row in rows) for i in range(len(header))]
    lines = [header, ["---" if left or not i else "---:" for i, left in enumerate(words)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_of_cells(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`markdown_table` of cells that are escaped here."""
    return markdown_table([escape(cell) for cell in header], [[escape(c) for c in row] for row in rows])


def escape(text: Any) -> str:
    """Text that stays text: neither HTML nor Markdown, on one line."""
    flat = html.escape(" ".join(printable(str(text)).split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#~" else letter for letter in flat)


def code(text: Any) -> str:
    """Inline code that backticks and bars cannot break out of."""
    flat = " ".join(printable(str(text)).split()).replace("|", "\\|")
    ticks = "`" * (longest_run(flat) + 1)
    space = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{ticks}{space}{flat}{space}{ticks}"


def fenced(text: Any, language: str = "") -> str:
    """A code block that no line of the text can close."""
    plain = printable(str(text)).rstrip()
    fence = "`" * max(3, longest_run(plain) + 1)
    return f"{fence}{language}\n{plain}\n{fence}"


def folded(what: str, text: str, is_open: bool = False) -> str:
    """Markdown that a click on `what` opens. Both must be escaped already."""
    return f"<details{' open' if is_open else ''}><summary>{what}</summary>\n\n{text}\n\n</details>"


def longest_run(text: str) -> int:
    longest = current = 0
    for letter in text:
        current = current + 1 if letter == "`" else 0
        longest = max(longest, current)
    return longest
