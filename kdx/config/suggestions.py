"""What to type instead of a network that does not go with the data."""

from __future__ import annotations

from collections.abc import Collection

from kdx import models
from kdx.config.named_options import read_assistants
from kdx.config.options import options_of
from kdx.config.teachers import is_fitted
from kdx.config.trying import trying
from kdx.core.errors import rows_called
from kdx.core.several import kinds_in

_FIRST = ("cnn_small",)
"""What is suggested before others, where it reads such rows: it trains within seconds."""


def networks_for(reads: str, besides: Collection[str] = ()) -> list[str]:
    """Options of conf/model that are trained by steps and read such rows, the one to suggest first. besides:
    those that are chosen already come last.
    """
    found = [name for name in options_of("model") if _reads(name, reads)]
    return sorted(found, key=lambda name: (name in besides, name not in _FIRST, name))


def _reads(name: str, reads: str) -> bool:
    """An option that cannot be read is none."""
    with trying([]):
        (model,) = read_assistants([name])
        fits = any(kind in models.rows_read(model) for kind in kinds_in(reads))
        return fits and not is_fitted(model.spec)
    return False


def such_as(key: str, reads: str, besides: Collection[str] = ()) -> str:
    """ "one that reads texts, such as student=bag". key: student, teacher, or one of several names."""
    known = networks_for(reads, besides)
    named = f"{known[0]}" if known and key in ("student", "teacher") else f"[{', '.join(known[:1])}]"
    return f"one that reads {rows_called(reads)}" + (f", such as {key}={named}" if known else "")
