"""Where a data set of texts takes its vocabulary from. Imports the standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def words_to_name(described: Mapping[str, Any]) -> str | None:
    """What to set so that a described data set makes no vocabulary of its own texts; None: it makes none."""
    made = "root" in described and described.get("tokenizer", "") is None
    return "dataset.tokenizer=FILE" if made else None
