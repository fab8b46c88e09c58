"""What may be kept of a teacher's distributions over classes or tokens, and the bytes that it takes. No
torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIDDEN_STATES = "hidden"
ANSWER_FORMATS = ("dense", "topk", "sampled", "auto", HIDDEN_STATES, "text")
MOST_DRAWS = 255
"""How often an id was drawn lies in one byte."""


def place_bytes(width: int, form: Mapping[str, Any]) -> int:
    """Of what is kept of one distribution over so many classes or tokens, at most; of draws fewer where a few
    ids are drawn again and again."""
    if form["name"] == HIDDEN_STATES:
        return 4 + 2 * int(form["width"])
    each = id_bytes(width)
    top = form["k"] * (each + 2) + 2
    drawn = min(form["draws"], width) * (each + 1) + 1
    return 4 + {"topk": top, "sampled": drawn, "auto": max(top, drawn)}[form["name"]]


def id_bytes(width: int) -> int:
    """Bytes of an id of so many."""
    return 1 if width <= 1 << 8 else 2 if width <= 1 << 16 else 4
