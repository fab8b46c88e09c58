"""What the rules that sort out pseudo-labels share: the teacher's confidence, the numbers of the report, and what is said of an empty class."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdx.faults import Fault
from kdx.select.common import by_row


def confident(logits: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, C) logits of the teacher -> (rows whose largest probability is at least `threshold`, ascending; of all rows (n,) that probability,
    and (n,) int64 its class). Fault where no row is.
    """
    sure, label = by_row(lambda p: p.max(axis=1), logits, np.arange(len(logits)), "teacher"), logits.argmax(axis=1)
    rows = np.flatnonzero(sure >= threshold)
    if not len(rows):
        half = np.floor(100 * np.median(sure)) / 100
        raise Fault(f"no pseudo-label reaches select.threshold={threshold}: the teacher's highest confidence in the pool is {sure.max():.4f}, "
                    f"and half of its answers reach {half:g}; set select.threshold={half:g}, or train the teacher better")  # fmt: skip
    return rows, sure, label


def describe(rows: np.ndarray, sure: np.ndarray, label: np.ndarray, classes: int) -> dict[str, Any]:
    """Numbers for the report. rows: the chosen ones, with their copies; sure, label: of the whole pool."""
    kept = np.unique(rows)
    return {
        "pool": len(sure), "kept": len(kept), "copies": len(rows), "highest_confidence": float(sure.max()),
        "lowest_kept": float(sure[kept].min()), "mean_confidence_kept": float(sure[rows].mean()),
        "by_class": np.bincount(label[rows], minlength=classes).tolist(),
        "pool_by_class": np.bincount(label, minlength=classes).tolist(),
    }  # fmt: skip


def missing(label: np.ndarray, classes: int) -> tuple[str, ...]:
    """A warning where classes have no pseudo-label left. label: (m,) classes of the chosen rows."""
    none = np.flatnonzero(np.bincount(label, minlength=classes) == 0)
    if not len(none):
        return ()
    named = ", ".join(map(str, none[:10])) + (", ..." if len(none) > 10 else "")
    return (f"{len(none)} of {classes} classes have no pseudo-label (counted from 0: {named}): "
            "the student learns them from its labels alone; a lower select.threshold keeps more",)  # fmt: skip
