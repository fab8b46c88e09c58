"""Counts, bytes, shares and small numbers as short text."""

from __future__ import annotations


def magnitude(count: int | None) -> str:
    """1234 -> "1.23k": three significant figures with a unit."""
    if count is None:
        return "-"
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return three_figures(count / scale) + unit
    return str(count)


def whole_number(count: int | None) -> str:
    """1234 -> "1,234"."""
    return "-" if count is None else f"{count:,}"


def bytes_in_words(count: int | None) -> str:
    """Bytes on disk, decimal units: 94_100_000 -> "94.1 MB"."""
    if count is None:
        return "-"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{three_figures(count / scale)} {unit}"
    return f"{count} B"


def three_figures(value: float | None) -> str:
    """At least three significant figures, never an exponent: 0.0412, 3.14, 41.2, 1,234."""
    if value is None:
        return "-"
    if value <= 0 or value >= 100:
        return f"{value:z,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}" if value >= 1e-4 else "<0.0001"


def decimals(value: float | None, digits: int) -> str:
    """ "-" where there is none, as of a figure that was not finite."""
    return "-" if value is None else f"{value:z.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """0.123 -> "12.3%"."""
    return "-" if value is None else f"{100 * value:z.{digits}f}%"


def share(value: float | None) -> str:
    """A share in a column of per cent."""
    return percent(value).rstrip("%")
