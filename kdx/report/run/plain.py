"""Values as strict JSON, and files that are whole or absent."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdx.core import files
from kdx.core.errors import UserError


def plain(value: Any) -> Any:
    """Strict JSON: NaN and infinities become null, numpy scalars numbers, arrays and tuples lists, anything
    unknown its text.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    import numpy as np

    if isinstance(value, np.bool_):
        return bool(value)
    return plain(value.tolist()) if isinstance(value, np.ndarray) else str(value)


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


def dump(value: Any) -> str:
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
