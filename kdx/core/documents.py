"""Values as documents: strict JSON, which any program reads. Standard library only."""

from __future__ import annotations

import json
import math
import numbers
import sys
from collections.abc import Mapping
from typing import Any


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
    numpy: Any = sys.modules.get("numpy")  # who has none of it hands over none of it
    if numpy and isinstance(value, numpy.bool_):
        return bool(value)
    return plain(value.tolist()) if numpy and isinstance(value, numpy.ndarray) else str(value)


def dump(value: Any) -> str:
    """A document as the text of a file, see `plain`."""
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
