"""prepare: a data set read, split and laid down as arrays. The pool's truth, where there is one, lies in a
file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from kdx.core.errors import UserError, UserErrors, within
from kdx.core.levels import as_float
from kdx.data import copies
from kdx.data.pictures import findings
from kdx.data.raw import MEANING, PARTS, Raw, few, per_class
from kdx.data.splits import Rows, split
from kdx.store.component import Component
from kdx.store.store import Work
from kdx.training.runtime import Runtime

FLOOR = 1e-3
"""The least standard deviation that pictures are divided by, of the way from black to white."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    dataset: Component,
    labelled: Any,
    unlabelled: Any,
    validation: Any,
    test: Any,
    duplicates: str,
    seed: int,
) -> None:
    """Files: <split>.images.npy (N, C, H, W) uint8, <split>.labels.npy (N,) int64 for all but the pool,
    truth.npy (N,) for the pool (-1 where nobody knows), data.json (shape, classes, mean, std, counts, sizes
    of the files, and what was found odd about the pictures).

    duplicates: of equal pictures "warn", "drop" the copies (kdx.data.copies), or make them an "error".
    """
    raw = dataset.build().load(workers=runtime.workers)
    check_parts(raw)
    raw, left_out, lost = less(raw) if duplicates == "drop" else (raw, {}, [])
    gone = sum(map(len, left_out.values()))
    with (
        within(f"once dataset.duplicates=drop has left out {gone:,} of the pictures")
        if gone
        else nullcontext()
    ):
        rows = split(
            raw.labels,
            pool=0 if raw.pool_images is None else len(raw.pool_images),
            has_test=raw.test_images is not None,
            labelled=labelled,
            unlabelled=unlabelled,
            validation=validation if raw.validation_images is None else None,
            test=test,
            seed=seed,
        )
    pictures, labels, truth = parted(raw, rows)
    lay_down(work, pictures, labels, truth)
    mean, std = channel_statistics([pictures["labelled"], pictures["unlabelled"]])
    counts = {name: len(pictures[name]) for name in ("labelled", "unlabelled", "validation", "test")}
    work.note(_summary(raw, counts))
    about = look(work, raw, rows, pictures, labels | {"unlabelled": truth}, duplicates, left_out)
    for text, level in remarks(raw, labels, std, lost):
        work.note(text, level)
    work.write_json(
        "data.json",
        {
            "dataset": dataset.target.rpartition(".")[2],
            "shape": list(raw.images.shape[1:]),
            "classes": list(raw.classes),
            "mean": mean,
            "std": std,
            "counts": {name: len(images) for name, images in pictures.items()},
            "skipped": list(raw.skipped),
            **({"sizes": sizes(raw.sizes)} if raw.sizes is not None and len(raw.sizes) else {}),
            **about,
        },
    )


def parted(raw: Raw, rows: Rows) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """(the pictures of each split, the classes of each but the pool, those of the pool, -1 where nobody knows
    them)
    """
    pictures = {"labelled": raw.images[rows.labelled], "validation": raw.images[rows.validation]}
    labels = {"labelled": raw.labels[rows.labelled], "validation": raw.labels[rows.validation]}
    if raw.test_images is None:
        pictures["test"], labels["test"] = raw.images[rows.test], raw.labels[rows.test]
    else:
        pictures["test"], labels["test"] = raw.test_images, raw.test_labels
    if raw.validation_images is not None:
        pictures["validation"], labels["validation"] = raw.validation_images, raw.validation_labels
    pictures["unlabelled"] = raw.images[rows.unlabelled]
    truth = raw.labels[rows.unlabelled]
    if raw.pool_images is not None:
        pictures["unlabelled"] = np.concatenate([pictures["unlabelled"], raw.pool_images[rows.pool]])
        truth = np.concatenate([truth, np.full(len(rows.pool), -1)])
    return pictures, labels, truth


def lay_down(
    work: Work, pictures: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], truth: np.ndarray
) -> None:
    """The arrays as files; the pool's truth in one of its own."""
    for name, images in pictures.items():
        np.save(work.path / f"{name}.images.npy", np.ascontiguousarray(images))
        if name in labels:
            np.save(work.path / f"{name}.labels.npy", labels[name].astype(np.int64))
    np.save(work.path / "truth.npy", truth.astype(np.int64))


def remarks(
    raw: Raw, labels: Mapping[str, np.ndarray], std: Sequence[float], lost: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """(sentence, level) of what is odd about the data set as a whole. lost: classes of which all train
    pictures were copies that are left out.
    """
    yield from findings.floored(std, FLOOR)
    tested = {name: labels[name] for name in ("validation", "test") if len(labels[name])}
    for text in gaps(tested, raw.classes):
        yield text, "info"
    if raw.skipped:
        yield (
            f"pictures that could not be read and were skipped: {len(raw.skipped)}, the first "
            f"{raw.skipped[0]}",
            "warning",
        )
    rows = np.bincount(labels["labelled"], minlength=len(raw.classes))
    unseen = [raw.classes[c] for c in np.flatnonzero(rows == 0)]
    if unseen:
        why = f", as dataset.duplicates=drop left out every train picture of {first(lost)}" if lost else ""
        them = "it" if len(unseen) == 1 else "them"
        yield (
            f"no labelled example shows {len(unseen)} of the {len(raw.classes)} classes "
            f"({first(unseen)}){why}: the teacher has never seen {them}, and takes pool and test pictures "
            f"of {them} for something else",
            "warning",
        )


def check_parts(raw: Raw) -> None:
    """Raises UserErrors where a part that is there holds no picture."""
    empty = [part for part in PARTS if (images := raw.part(part)[0]) is not None and not len(images)]
    if empty:
        raise UserErrors(
            (
                f"the {part} part of the data set holds no picture {MEANING[part]}: add "
                "some, or take the part away"
            )
            for part in empty
        )


def less(raw: Raw) -> tuple[Raw, dict[str, list[str]], list[str]]:
    """(the data set without copies, their names by part, classes that had pictures to train with and now have
    none). Raises UserError where fewer than two classes are left."""
    kept, left_out = copies.drop(raw)
    before, after = (per_class(found.labels, len(raw.classes)) for found in (raw, kept))
    lost = [name for name, had, has in zip(raw.classes, before, after, strict=True) if had and not has]
    if lost and np.count_nonzero(after) < 2:
        raise UserError(
            f"dataset.duplicates=drop leaves no train picture of {first(lost)}, and with that fewer than "
            f"two classes to train with ({few(left_out['train'])} left out): give them other pictures, or "
            "set dataset.duplicates=warn, which keeps them"
        )
    return kept, left_out, lost


def gaps(labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[str]:
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
        f"no {' or '.join(splits)} picture shows {len(lacking)} of the {len(classes)} classes "
        f"({first(lacking)}): {'its' if len(splits) == 1 else 'their'} figures say nothing of "
        f"{'it' if len(lacking) == 1 else 'them'}"
        for lacking, splits in found.items()
        if lacking
    ]


def _summary(raw: Raw, counts: Mapping[str, int]) -> str:
    """The data set in one line: classes, rows of each split, shape, and the sizes of the files where they are
    squares no longer.
    """
    split_sizes = ", ".join(f"{rows:,} {name}" for name, rows in counts.items() if rows)
    shape = "x".join(map(str, raw.images.shape[1:]))
    line = f"{len(raw.classes)} classes ({first(raw.classes)}); {split_sizes}; pictures of {shape}"
    if raw.sizes is None or not len(raw.sizes):
        return line
    found = {name: "x".join(map(str, size)) for name, size in sizes(raw.sizes).items()}
    if found["smallest"] == found["largest"]:
        return f"{line}, from files of {found['median']}"
    return f"{line}, from files of {found['smallest']} to {found['largest']} (median {found['median']})"


def sizes(found: np.ndarray) -> dict[str, list[int]]:
    """(N, 2), width and height -> those with the least and the greatest area, and the median of each side."""
    order = found.prod(1).argsort(kind="stable")
    return {
        "smallest": found[order[0]].tolist(),
        "largest": found[order[-1]].tolist(),
        "median": np.median(found, axis=0).astype(int).tolist(),
    }


def first(names: Sequence[str]) -> str:
    """The first ten."""
    return ", ".join(map(str, names[:10])) + (" and more" if len(names) > 10 else "")


def look(
    work: Work,
    raw: Raw,
    rows: Rows,
    pictures: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    duplicates: str,
    left_out: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Notes what the user should know of the pictures, and returns it for data.json. pictures, labels: of the
    splits. left_out: names of the copies that were dropped, by part."""

    def name(split: str, row: int) -> str:
        if split == "unlabelled":
            hidden = len(rows.unlabelled)
            return (
                raw.name("train", rows.unlabelled[row])
                if row < hidden
                else raw.name("unlabelled", rows.pool[row - hidden])
            )
        if split in ("validation", "test") and raw.part(split)[0] is not None:
            return raw.name(split, row)
        return raw.name("train", vars(rows)[split][row])

    same, found = copies.find(pictures, labels, raw.classes, name)
    if same and duplicates == "error":
        raise UserError(
            "; ".join(text for text, _ in same)
            + ": take the copies out, or set dataset.duplicates=drop, which does, or dataset.duplicates=warn"
        )
    dull, flat = findings.constant_pictures(pictures, name, raw.transparent)
    dropped = [
        (f"copies of other pictures left out of the {part} part: {len(names):,} ({few(names)})", "info")
        for part, names in left_out.items()
        if names
    ]
    for text, level in (*raw.notes, *dropped, *same, *dull):
        work.note(text, level)
    gone = {"dropped": {part: len(names) for part, names in left_out.items()}} if left_out else {}
    return {
        "duplicates": {**found, **gone},
        "flat": flat,
        **({"files": dict(raw.files)} if raw.files else {}),
    }


def channel_statistics(parts: list[np.ndarray]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in units of [0, 1], over the pictures that training may
    see: no validation, no test.
    """
    channels = parts[0].shape[1]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for images in parts:
        for start in range(0, len(images), 4096):
            block = as_float(torch.from_numpy(np.array(images[start : start + 4096])), torch.float64).numpy()
            total, squares = total + block.sum((0, 2, 3)), squares + (block**2).sum((0, 2, 3))
            count += block.shape[0] * block.shape[2] * block.shape[3]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, FLOOR**2))
    return mean.round(6).tolist(), std.round(6).tolist()
