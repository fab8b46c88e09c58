"""What a method warns of while it works becomes a note of its stage."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from kdx.core.errors import Caution
from kdx.store.work import Work


@contextlib.contextmanager
def cautions(work: Work) -> Iterator[set[str]]:
    """What a method finds worth a `Caution` inside is reported at once and kept as a warning of the run.
    Gives the texts reported so far.
    """
    given: set[str] = set()
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, Caution):
                given.add(str(message))
                work.note(str(message), "warning")
            else:
                usual(message, category, *rest, **more)

        warnings.simplefilter("always", Caution)
        warnings.showwarning = tell
        yield given
