"""What there is to say of a data set once it is split: in one line, and what is odd. Numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdx.core.errors import UserError, UserErrors
from kdx.core.trees import rows_of
from kdx.data import copies
from kdx.data.loading import per_class
from kdx.data.phrases import few
from kdx.data.raw import MEANING, PARTS, Note, Raw, skip_reasons


def in_one_line(raw: Raw, counts: Mapping[str, int]) -> str:
    """Classes, rows of each split, and what a row is like."""
    classes = raw.task.get("classes", ())
    split_sizes = ", ".join(f"{rows:,} {name}" for name, rows in counts.items() if rows)
    parts = [f"{len(classes)} classes ({first(classes)})"] if classes else []
    return "; ".join(filter(None, [*parts, split_sizes, raw.in_words()]))


def remarks(raw: Raw, labels: Mapping[str, np.ndarray], lost: Sequence[str]) -> Iterator[Note]:
    """What is odd about the data set as a whole. labels: (N,) class of each row by split, {} where rows have
    none. lost: classes of which all rows to train with were copies that are left out.
    """
    classes, noun = raw.task.get("classes", ()), raw.noun
    if labels:
        tested = {name: labels[name] for name in ("validation", "test") if len(labels[name])}
        for text in gaps(tested, classes, noun):
            yield text, "info"
    if skipped := skip_reasons(raw.skipped):
        name, why = next(iter(skipped.items()))
        yield (
            f"{noun}s that could not be read and were skipped: {len(skipped)}, the first "
            f"{name}{why and f': {why}'}; unread.csv in the run folder lists them",
            "warning",
        )
    if not labels:
        return
    rows = np.bincount(labels["labelled"], minlength=len(classes))
    unseen = [classes[c] for c in np.flatnonzero(rows == 0)]
    if unseen:
        why = f", as dataset.duplicates=drop left out every train {noun} of {first(lost)}" if lost else ""
        them = "it" if len(unseen) == 1 else "them"
        yield (
            f"no labelled example shows {len(unseen)} of the {len(classes)} classes "
            f"({first(unseen)}){why}: the teacher has never seen {them}, and takes pool and test {noun}s "
            f"of {them} for something else",
            "warning",
        )


def check_parts(raw: Raw) -> None:
    """Raises UserErrors where a part that is there holds no row."""
    empty = [part for part in PARTS if (found := raw.part(part)[0]) is not None and not rows_of(found)]
    if empty:
        raise UserErrors(
            (
                f"the {part} part of the data set holds no {raw.noun} {MEANING[part]}: add "
                "some, or take the part away"
            )
            for part in empty
        )


@dataclass(frozen=True)
class Less:
    """A data set without copies. kept: of each part the rows that stay; left_out: the names of the others;
    lost: classes that had rows to train with and now have none."""

    raw: Raw
    kept: Mapping[str, np.ndarray]
    left_out: Mapping[str, Sequence[str]]
    lost: Sequence[str]


def less(raw: Raw) -> Less:
    """Raises UserError where fewer than two classes are left."""
    kept, left_out = copies.drop(raw)
    fewer = raw.only({part: rows for part, rows in kept.items() if left_out[part]})
    classes = raw.task.get("classes", ())
    if not classes:
        return Less(fewer, kept, left_out, [])
    before, after = (per_class(found.strata("train"), len(classes)) for found in (raw, fewer))
    lost = [name for name, had, has in zip(classes, before, after, strict=True) if had and not has]
    if lost and np.count_nonzero(after) < 2:
        raise UserError(
            f"dataset.duplicates=drop leaves no train {raw.noun} of {first(lost)}, and with that fewer than "
            f"two classes to train with ({few(left_out['train'])} left out): give them other {raw.noun}s, or "
            "set dataset.duplicates=warn, which keeps them"
        )
    return Less(fewer, kept, left_out, lost)


def gaps(labels: Mapping[str, np.ndarray], classes: Sequence[str], noun: str = "picture") -> list[str]:
    """A sentence for each set of classes that splits lack, with the names of the splits. labels: split ->
    (N,)
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for split_name, truth in labels.items():
        lacking = tuple(
            name for name, rows in zip(classes, per_class(truth, len(classes)), strict=True) if not rows
        )
        found.setdefault(lacking, []).append(split_name)
    return [
        f"no {' or '.join(splits)} {noun} shows {len(lacking)} of the {len(classes)} classes "
        f"({first(lacking)}): {'its' if len(splits) == 1 else 'their'} figures say nothing of "
        f"{'it' if len(lacking) == 1 else 'them'}"
        for lacking, splits in found.items()
        if lacking
    ]


def first(names: Sequence[str]) -> str:
    """The first ten."""
    return ", ".join(map(str, names[:10])) + (" and more" if len(names) > 10 else "")
