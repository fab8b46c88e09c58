"""Processes that torchrun has started side by side. Standard library only."""

from __future__ import annotations

import os


def launched() -> tuple[int, int] | None:
    """(the number of this process, of how many), where torchrun started several; None: it stands alone."""
    count, number = os.environ.get("WORLD_SIZE", ""), os.environ.get("RANK", "")
    if not (count.isdigit() and int(count) > 1 and number.isdigit() and "MASTER_ADDR" in os.environ):
        return None
    return int(number), int(count)
