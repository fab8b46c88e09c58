"""A corpus cut into what is trained, validated and tested with: contiguous parts, in this order."""

from __future__ import annotations

from collections.abc import Sequence

from kdx.core.errors import UserError

_NEAR = 0.25
"""A cut is moved to where a document begins if that is nearer than this share of the part behind it."""


def cuts(size: int, starts: Sequence[int], validation: float, test: float) -> tuple[int, int]:
    """(where validation begins, where test begins) in `size` bytes; a part without a share is empty. starts:
    where documents begin. validation, test: shares of the bytes, 0 <= share, together below 1.

    A cut lies at the byte that the share says, or where a document begins, if that is near.
    """
    if validation + test >= 1:
        raise UserError(
            f"dataset.validation_share={validation:g} and dataset.test_share={test:g} leave nothing to train "
            "with: together they must be below 1"
        )
    last = _moved(size - round(test * size), starts, test * size)
    first = _moved(last - round(validation * size), starts, validation * size)
    return first, last


def _moved(cut: int, starts: Sequence[int], part: float) -> int:
    nearest = min(starts, key=lambda start: abs(start - cut))
    return nearest if 0 < nearest and abs(nearest - cut) < _NEAR * part else cut


def whole_letters(text: bytes, cut: int) -> int:
    """The place at or before the cut where a letter of UTF-8 begins."""
    while 0 < cut < len(text) and text[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut
