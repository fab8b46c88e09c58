"""Whether the memory of this machine could hold what is asked for."""

from __future__ import annotations

import os

from kdx.core.checks import refuse


def fits(what: str, size: int, remedy: str) -> None:
    """Refuses work that would hold `size` bytes at once where the machine has less memory in all."""
    if (here := machine_memory()) is not None and size > here:
        refuse(
            f"{what} is too large for this machine: it would take about {giga(size)} of memory, of "
            f"{giga(here)}; {remedy}"
        )


def machine_memory() -> int | None:
    """Bytes of memory of this machine in all; None where the system does not tell."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "sysconf" in vars(os) else None


def giga(size: int) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 1e10 else f"{size / 1e9:.1f} GB"
