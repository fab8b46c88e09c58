"""Equal rows: in several splits, in several classes, several times in one. Numpy only.

Two rows are equal where the arrays that networks would see are, byte for byte, so a PNG and its BMP copy are
too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kdx.core.errors import UserErrors
from kdx.data.phrases import NAMED, RARE, are, counted, few
from kdx.data.raw import MEANING, Note, Raw
from kdx.data.stored import in_blocks

PRECEDENCE = ("test", "validation", "train", "unlabelled")
"""A row in several parts stays in the first of them."""


def identify(parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """part -> inputs of N rows, one array or several by name, to part -> (N,) int64, the same number where
    two rows are equal, in whichever part.
    """
    digests = {part: _digests(inputs) for part, inputs in parts.items()}
    whole = np.concatenate(list(digests.values()))
    numbers = np.unique(whole, return_inverse=True)[1].astype(np.int64)
    ends = np.cumsum([len(found) for found in digests.values()])[:-1]
    return dict(zip(digests, np.split(numbers, ends), strict=True))


def _digests(inputs: Any) -> np.ndarray:
    """(N,) uint64"""
    arrays = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    found = np.empty(len(arrays[0]), np.uint64)
    each = [(row for block in in_blocks(array) for row in block) for array in arrays]
    for number, row in enumerate(zip(*each, strict=True)):
        whole = hashlib.blake2b(digest_size=8)
        for leaf in row:
            whole.update(np.ascontiguousarray(leaf))
        found[number] = int.from_bytes(whole.digest())
    return found


def not_compared(asked: str, noun: str, instead: str = "duplicates=warn") -> str:
    """What is said where equal rows would have to be found, and not all are read. asked: key=value of
    `dataset`."""
    return (
        f"dataset.{asked} compares all {noun}s, and these are decoded only as they are shown "
        f"(dataset.encoded): set dataset.{instead}, or dataset.encoded=false"
    )


def drop(raw: Raw) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """(the rows of each part that stay, so that the data set has every row once; names of those left out).

    What is tested with keeps its rows, and training loses the copies: one of the test part leaves train and
    pool, one of train leaves the pool. A row under two classes of a part is left out altogether, as nothing
    tells which class is right. Raises UserErrors where that leaves a part without a row.
    """
    numbers = identify({part: inputs for part in PRECEDENCE if (inputs := raw.part(part)[0]) is not None})
    taken = np.empty(0, np.int64)
    kept, left_out, errors = {}, {}, []
    for part, ids in numbers.items():
        labels = raw.strata(part)
        first = np.zeros(len(ids), bool)
        first[np.unique(ids, return_index=True)[1]] = True
        torn = taken[:0] if labels is None else several_classes(ids, labels)
        keep = first & ~np.isin(ids, taken) & ~np.isin(ids, torn)
        kept[part], left_out[part] = (
            np.flatnonzero(keep),
            [raw.name(part, int(row)) for row in np.flatnonzero(~keep)],
        )
        if len(ids) and not keep.any():
            why = {
                f"in the {there} part too": np.isin(ids, others)
                for there, others in numbers.items()
                if there in kept and there != part
            }
            errors.append(
                _emptied(part, why | {"in two classes or more": np.isin(ids, torn)}, left_out[part], raw.noun)
            )
        taken = np.union1d(taken, ids)
    if errors:
        raise UserErrors(errors)
    return kept, left_out


def _emptied(part: str, why: Mapping[str, np.ndarray], names: Sequence[str], noun: str) -> str:
    """why: words -> (N,) bool, the rows that they are true of. names: of all rows of the part."""
    reasons = " and ".join(
        f"{'every one is' if rows.all() else are(int(rows.sum()))} {words}"
        for words, rows in why.items()
        if rows.any()
    )
    return (
        f"nothing is left {MEANING[part]}: of {counted(len(names), noun)} in the {part} part "
        f"{reasons} ({few(names)}), and dataset.duplicates=drop leaves them out. Give that part "
        f"other {noun}s{'' if part == 'train' else ' or take it away'}, or set "
        "dataset.duplicates=warn, which keeps them"
    )


def several_classes(ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The numbers that stand under two labels or more, in the order in which they come."""
    pairs = np.unique(np.stack([ids, labels], 1), axis=0)
    numbers, times = np.unique(pairs[:, 0], return_counts=True)
    known, firsts = np.unique(ids, return_index=True)
    found = numbers[times > 1]
    return found[np.argsort(firsts[np.searchsorted(known, found)])]


def find(
    parts: Mapping[str, Any],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    name: Callable[[str, int], str],
    noun: str = "picture",
    blank: Mapping[str, np.ndarray] | None = None,
) -> tuple[list[Note], dict[str, Any]]:
    """(what there is to say of copies, the same as JSON). parts: "labelled", "unlabelled", "validation" and
    "test" -> inputs of N rows. labels: (N,) of each, -1 where nobody knows; empty where rows have no classes.
    name: what row i of a part is called; noun: what a row is. blank: (N,) bool of each part, rows that are no
    copies whatever they equal."""
    ids = identify(parts)
    for part, rows in (blank or {}).items():
        ids[part][rows] = _numbers_of_their_own(part, list(ids), int(rows.sum()))
    notes: list[Note] = []

    def shared(here: str, there: Sequence[str], what: str) -> int:
        """Rows of one split that others hold too."""
        rows = np.flatnonzero(np.isin(ids[here], np.concatenate([ids[part] for part in there])))
        if len(rows):
            pairs = [
                f"{name(here, i)} = {name(*_first(ids, there, ids[here][i]))}" for i in rows[:NAMED].tolist()
            ]
            quiet = here == "unlabelled" or len(rows) < RARE * len(ids[here])
            notes.append(
                (
                    (
                        f"{are(len(rows), f'of {len(ids[here]):,} {here} {noun}s')} {what} "
                        f"({few(pairs, len(rows))})"
                    ),
                    "info" if quiet else "warning",
                )
            )
        return len(rows)

    found: dict[str, Any] = {
        "test_in_training": shared(
            "test",
            ("labelled", "unlabelled"),
            f"also trained on, so that the test figures are none of new {noun}s",
        ),
        "validation_in_training": shared(
            "validation",
            ("labelled", "unlabelled"),
            "also trained on, so that choosing by validation misleads",
        ),
        "test_in_validation": shared(
            "test", ("validation",), "in validation too, by which weights are chosen"
        ),
        "pool_in_labelled": shared("unlabelled", ("labelled",), "labelled too"),
    }
    found["in_several_classes"] = _torn(ids, labels, classes, name, notes, noun) if labels else 0
    found["copies"] = _again(ids, name, notes, noun)
    return notes, found


def _numbers_of_their_own(part: str, parts: Sequence[str], count: int) -> np.ndarray:
    """(count,) negative numbers that no row of another part has."""
    return -1 - parts.index(part) - len(parts) * np.arange(count)


def _first(ids: Mapping[str, np.ndarray], parts: Sequence[str], number: int) -> tuple[str, int]:
    """The split and the row where a row is found first."""
    return next((part, int(rows[0])) for part in parts if len(rows := np.flatnonzero(ids[part] == number)))


def _torn(
    ids: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    name: Callable[[str, int], str],
    notes: list[Note],
    noun: str,
) -> int:
    """Rows that stand under two classes or more."""
    rows = [(part, i) for part in ids for i in np.flatnonzero(labels[part] >= 0).tolist()]
    numbers = np.array([ids[part][i] for part, i in rows], np.int64)
    truth = np.array([labels[part][i] for part, i in rows], np.int64)
    torn = several_classes(numbers, truth)
    examples = []
    for number in torn[:NAMED]:
        those = np.flatnonzero(numbers == number)
        those = those[np.unique(truth[those], return_index=True)[1]]
        examples.append(" = ".join(f"{name(*rows[i])} ({classes[truth[i]]})" for i in those))
    if len(torn):
        level = "warning" if np.isin(numbers, torn).sum() >= RARE * len(rows) else "info"
        notes.append(
            (f"{counted(len(torn), noun)} in two classes or more ({few(examples, len(torn))})", level)
        )
    return len(torn)


def _again(
    ids: Mapping[str, np.ndarray], name: Callable[[str, int], str], notes: list[Note], noun: str
) -> dict[str, int]:
    """Rows of each split that are copies of an earlier one there; one sentence tells of all splits."""
    found, repeated, quiet, most, which = {}, [], True, 0, ""
    for part, rows in ids.items():
        numbers, firsts, times = np.unique(rows, return_index=True, return_counts=True)
        found[part] = copies = len(rows) - len(numbers)
        if copies:
            repeated.append(f"{copies:,} of {len(rows):,} {part}")
            quiet = quiet and copies < RARE * len(rows)
            if times.max() > most:
                most = int(times.max())
                which = name(part, int(firsts[times == most].min()))
    if repeated:
        splits = " and ".join(filter(None, [", ".join(repeated[:-1]), repeated[-1]]))
        verb = "is a copy" if sum(found.values()) == 1 else "are copies"
        notes.append(
            (
                f"{splits} {noun}s {verb} of others there; one {noun} is there {most} times ({which})",
                "info" if quiet else "warning",
            )
        )
    return found
