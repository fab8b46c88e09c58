"""The documents of a corpus as bytes: files, a folder of them, or the help that ships inside Python. Numpy
and the standard library only.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.core.errors import UserError
from kdx.data.loading import damaged, read_file
from kdx.data.phrases import few
from kdx.data.pictures.walk import as_text, readable
from kdx.data.raw import Note

SHIPPED = "pydoc_data.topics"
"""What is read where nothing is named: what `help()` of Python tells of the language, 79 documents."""
BETWEEN = b"\0"
"""Stands between documents, and at no other place."""


@dataclass(frozen=True)
class Documents:
    """text: all of them in order, BETWEEN between two. starts: where each begins; names: what each is
    called."""

    text: bytes
    starts: tuple[int, ...]
    names: tuple[str, ...]
    notes: tuple[Note, ...] = ()


def corpus_files(root: Path | None, endings: Sequence[str]) -> list[tuple[str, Path]]:
    """(name, path) of each file that is read, in order of name. Raises UserError where there is none."""
    if root is None:
        return [("topics.py", _shipped())]
    if root.is_file():
        return [(as_text(root.name), root)]
    if not root.is_dir():
        raise UserError(
            f"dataset.root: '{readable(root)}' does not exist: name a file of text or a folder of such"
        )
    found, others = [], []
    for here, folders, files in os.walk(root, onerror=_stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            inner = as_text(path.relative_to(root).as_posix())
            if name.startswith(".") or not path.is_file():
                continue
            (found if path.suffix.lower() in endings else others).append((inner, path))
    if not found:
        holds = f"it holds {few([name for name, _ in others])}" if others else "it is empty"
        raise UserError(
            f"dataset.root: '{readable(root)}' holds no file that ends with {' or '.join(endings)}; {holds}: "
            "name a file, or other endings with dataset.endings=[.ending]"
        )
    return sorted(found)


def read_documents(root: Path | None, endings: Sequence[str]) -> Documents:
    """Empty documents are left out, and that is said. Raises UserError where nothing is left, or a file is no
    text.
    """
    files = corpus_files(root, endings)
    found = _topics(files[0][1]) if root is None else [(name, read_file(path)) for name, path in files]
    for name, text in found:
        if BETWEEN in text:
            raise UserError(
                f"the document '{name}' holds a NUL byte, as no text does, and kdx puts one between two "
                "documents: leave the file out, or take the byte out"
            )
    empty = [name for name, text in found if not text.strip()]
    kept = [(name, text) for name, text in found if text.strip()]
    if not kept:
        raise UserError(f"there is no text in the corpus: all of its documents are empty ({few(empty)})")
    starts, place = [], 0
    for _, text in kept:
        starts.append(place)
        place += len(text) + len(BETWEEN)
    notes: tuple[Note, ...] = ()
    if empty:
        notes = ((f"empty documents were left out: {len(empty):,} ({few(empty)})", "warning"),)
    names = tuple(name for name, _ in kept)
    return Documents(BETWEEN.join(text for _, text in kept), tuple(starts), names, notes)


def _shipped() -> Path:
    spec = importlib.util.find_spec(SHIPPED)
    if spec is None or spec.origin is None:
        raise UserError(
            f"this Python has no {SHIPPED}, which dataset=corpus reads by itself: name a text or a folder of "
            "texts with dataset.root=PATH"
        )
    return Path(spec.origin)


def _topics(path: Path) -> list[tuple[str, bytes]]:
    """The texts of the file, which assigns a dict of them to one name."""
    try:
        body = ast.parse(read_file(path)).body
        topics = next(ast.literal_eval(line.value) for line in body if isinstance(line, ast.Assign))
        return [(str(name), str(text).encode()) for name, text in topics.items()]
    except (SyntaxError, ValueError, StopIteration, AttributeError) as error:
        raise damaged(path, f"it is not as Python ships it ({error})") from None


def _stop(error: OSError) -> None:
    raise UserError(
        f"the folder '{readable(error.filename)}' cannot be read: {error.strerror}; give yourself "
        "permission, or move it away"
    ) from error
