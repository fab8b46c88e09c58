"""What notebooks show: HTML that needs no network and no other file. All text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from kdx.core.errors import UserError
from kdx.core.files import own_file

_LARGEST = 1 << 20
"""Bytes of a picture that is shown."""
_PNG = b"\x89PNG\r\n\x1a\n"


def html_block(title: str, *parts: str) -> str:
    return f"<div><p><b>{escape(title)}</b></p>{''.join(parts)}</div>"


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, the others, which are numbers, to the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        style = ["left"] + ["right"] * (len(cells) - 1)
        return "".join(
            f'<{tag} style="text-align: {side}">{escape(str(cell))}</{tag}>'
            for cell, side in zip(cells, style, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{line(header, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def html_list(texts: Iterable[str]) -> str:
    shown = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{shown}</ul>" if shown else ""


def picture(path: Path, about: str) -> str:
    """A PNG file inside the page; nothing where there is none, or where it is no file of the run's own."""
    try:
        own_file(path, "the run")
        content = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
    except (OSError, UserError):
        return ""
    if not content.startswith(_PNG):
        return ""
    data = base64.b64encode(content).decode()
    return f'<img alt="{escape(about)}" style="max-width: 100%" src="data:image/png;base64,{data}">'
