"""Files of a run that are whole or absent, and what is said where they cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdx.core import files
from kdx.core.errors import UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failure to write (no space, no permission) into a UserError that names the path."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {error.strerror or error}; make room or choose another folder with "
            "hydra.run.dir=PATH"
        ) from error


def write_or_error(path: Path, content: str | bytes) -> None:
    """The file holds either its old content or all of the new one; a failure to write is a UserError."""
    with writing(path):
        files.write_atomically(path, content)
