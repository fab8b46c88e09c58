"""The user's own code tried before any work: what it raises is one more error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kdx.core import checks
from kdx.store.resolve import own_error


@contextmanager
def trying(errors: list[str], prefix: str = "") -> Iterator[None]:
    """`checks.gather`, also for what the user's own code raises: they are reported with where, and not with a
    traceback through ours.
    """
    try:
        with checks.gather(errors, prefix):
            yield
    except Exception as error:
        own = own_error(error)
        if own is None:
            raise
        errors.append(f"{prefix}your own code fails when it is tried on made-up data: {own}")
