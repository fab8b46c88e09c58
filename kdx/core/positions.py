"""How rows of positions, of which some can be an answer and some cannot, are written as numbers."""

from __future__ import annotations

OUTSIDE = -1e4
"""The logit of a position that can be no answer. Finite, so that it can be stored and compared."""
NOT_KNOWN, LOST = -1, -2
"""In place of a position: nobody knows the answer; it is known, and lies at no position of the row."""
