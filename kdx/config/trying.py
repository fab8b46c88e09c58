"""The user's own code tried before any work: what it raises is one more error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kdx.core import checks
from kdx.core.errors import UserError, WrongPart
from kdx.store.resolve import error_in_one_line, own_error, place_of

ON_MADE_UP = " when it is tried on made-up data"


@contextmanager
def trying(errors: list[str], prefix: str = "", *, own: str = "") -> Iterator[None]:
    """`checks.gather`, also for what the user's own code raises: they are reported with where, and not with a
    traceback through ours.

    own: the address of what is tried. Where it is of the user's own, what goes wrong is theirs though none of
    their lines took part, as where it is called with arguments that it does not take, or gives what nobody
    can use.
    """
    try:
        with checks.gather(errors, prefix):
            try:
                yield
            except WrongPart as error:
                raise UserError(f"{error}{place_of(own)}") from error
    except (Exception, SystemExit) as error:
        found = own_error(error) or (f"{error_in_one_line(error)}{place}" if (place := place_of(own)) else "")
        if not found:
            raise
        errors.append(f"{prefix}your own code fails{ON_MADE_UP}: {found}")
