"""How long a stage trains, and how a batch is shared between streams: whole numbers from whole numbers.
Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from kdx.core.checks import integer, refuse, shown
from kdx.core.errors import UserError

SIZES = ("labelled", "unlabelled", "validation", "test")
"""Of the splits: keys of every data set. A recipe may lay down further ones, under any name."""
EPOCH = ("labelled", "unlabelled")
"""The splits whose rows one epoch of student_train passes over."""
NOT_TRAINED_ON = ("validation", "test")
STAGES = ("teacher_pretrain", "pseudo_label", "student_train")
"""The nodes that hold the settings of the three stages, in order."""
LENGTH = re.compile(r"^\s*(\d{1,18})\s+(epochs?|steps?)\s*$")
_MOST = {"epochs": 1_000_000, "steps": 1_000_000_000}
"""Years of work: more of them are a slip of the pen."""


def length(training: Mapping[str, Any], node: str) -> tuple[int, str]:
    """(count, "epochs" | "steps") of a stage's settings: `epochs` or `steps` where one is given, else its
    default `length`.
    """
    epochs, steps = training["epochs"], training["steps"]
    if epochs is not None and steps is not None:
        refuse(f"{node}.epochs={epochs} and {node}.steps={steps} are both given; give one of them")
    for unit, value in (("epochs", epochs), ("steps", steps)):
        if value is not None:
            return integer(f"{node}.{unit}", value, low=1, high=_MOST[unit]), unit
    match = LENGTH.match(str(training["length"]))
    if not match or int(match[1]) < 1:
        refuse(
            f"{node}.length must read like '600 steps' or '200 epochs'; given: {shown(training['length'])}"
        )
        return 1, "steps"
    unit = match[2].rstrip("s") + "s"
    return integer(f"the {unit} of {node}.length", int(match[1]), low=1, high=_MOST[unit]), unit


def total_steps(training: Mapping[str, Any], rows: int, node: str) -> int:
    """Optimiser steps of a stage. rows: examples in one epoch."""
    count, unit = length(training, node)
    return count if unit == "steps" else math.ceil(count * rows / training["batch_size"])


def used(counts: Mapping[str, int], rows: int | None) -> dict[str, int]:
    """The counts with at most `rows` labelled examples."""
    return {**counts, "labelled": min(counts["labelled"], rows or counts["labelled"])}


def shares(batch: int, counts: Mapping[str, int], labelled_share: float | None) -> dict[str, int]:
    """Rows of each stream in a batch. counts: rows of each that the method reads, by name.

    labelled_share None: in proportion to the counts; else that part is of "labelled", and the others have
    the rest in proportion. Each stream gets one row at least. With one stream it has the whole batch.
    """
    rows = {name: count for name, count in counts.items() if count}
    if len(rows) < 2:
        return {next(iter(rows), "labelled"): batch}
    if batch < len(rows):
        raise UserError(
            f"student_train.batch_size must be at least {len(rows)} to hold {' and '.join(rows)} examples; "
            f"given: {batch}"
        )
    if "labelled" not in rows:
        return in_proportion(batch, rows)
    share = rows["labelled"] / sum(rows.values()) if labelled_share is None else labelled_share
    others = {name: count for name, count in rows.items() if name != "labelled"}
    labelled = min(max(round(batch * share), 1), batch - len(others))
    return {"labelled": labelled, **in_proportion(batch - labelled, others)}


def in_proportion(total: int, counts: Mapping[str, int]) -> dict[str, int]:
    """The total shared out by the counts, at least 1 each; total: as many as there are names, or more."""
    found, left, rest = {}, total, sum(counts.values())
    for place, (name, count) in enumerate(counts.items(), 1):
        most = left - (len(counts) - place)
        found[name] = min(max(round(left * count / rest), 1), most)
        left, rest = left - found[name], max(rest - count, 1)
    return found


def trained_on(counts: Mapping[str, int]) -> dict[str, int]:
    """Of the splits that have rows those that a training may show, by name."""
    return {name: count for name, count in counts.items() if count and name not in NOT_TRAINED_ON}


def passes(steps: int, batch: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """How often each stream's rows are seen:
    the number of different views of a row that training asks for.
    """
    return {name: math.ceil(steps * size / counts[name]) for name, size in batch.items()}


def stored_bytes(counts: Mapping[str, int], views: Mapping[str, int], answer: int) -> int:
    """Size of stored answers: rows x views x the bytes of one answer."""
    return sum(answer * counts[name] * views[name] for name in views)


def to_buy(budget: int | float, pool: int) -> int:
    """Answers of the teacher: a number, or a share of the pool, of which at least one is bought."""
    return budget if isinstance(budget, int) else max(1, round(budget * pool))


def by_round(total: int, rounds: int) -> list[int]:
    """How many of them in each round: they differ by one at most, and sum to `total`."""
    return [total * number // rounds - total * (number - 1) // rounds for number in range(1, rounds + 1)]
