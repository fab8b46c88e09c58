"""prepare: a data set read, split and laid down as arrays. The pool's truth, where there is one, lies in a file of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdx.component import Component
from kdx.data.splits import split
from kdx.runtime import Runtime
from kdx.store import Work


def run(work: Work, runtime: Runtime, *, dataset: Component, labelled: Any, unlabelled: Any, validation: Any, test: Any, seed: int) -> None:
    """Files: <split>.images.npy (N, C, H, W) uint8, <split>.labels.npy (N,) int64 for all but the pool, truth.npy (N,) for the pool
    (-1 where nobody knows), rows.json (where each row came from), data.json (shape, classes, mean, std, counts)."""
    raw = dataset.build().load(workers=runtime.workers)
    pool = raw.pool_images
    rows = split(raw.labels, pool=0 if pool is None else len(pool), has_test=raw.test_images is not None,
                 labelled=labelled, unlabelled=unlabelled, validation=validation, test=test, seed=seed)  # fmt: skip
    pictures = {"labelled": raw.images[rows.labelled], "validation": raw.images[rows.validation]}
    labels = {"labelled": raw.labels[rows.labelled], "validation": raw.labels[rows.validation]}
    if raw.test_images is None:
        pictures["test"], labels["test"] = raw.images[rows.test], raw.labels[rows.test]
    else:
        pictures["test"], labels["test"] = raw.test_images, raw.test_labels
    pictures["unlabelled"] = raw.images[rows.unlabelled]
    truth = raw.labels[rows.unlabelled]
    if pool is not None:
        pictures["unlabelled"] = np.concatenate([pictures["unlabelled"], pool[rows.pool]])
        truth = np.concatenate([truth, np.full(len(rows.pool), -1)])
    for name, images in pictures.items():
        np.save(work.path / f"{name}.images.npy", np.ascontiguousarray(images))
        if name in labels:
            np.save(work.path / f"{name}.labels.npy", labels[name].astype(np.int64))
    np.save(work.path / "truth.npy", truth.astype(np.int64))
    mean, std = channel_statistics([pictures["labelled"], pictures["unlabelled"]])
    if raw.skipped:
        work.note(f"pictures that could not be read and were skipped: {len(raw.skipped)}, the first {raw.skipped[0]}", "warning")
    unseen = [raw.classes[c] for c in np.flatnonzero(np.bincount(labels["labelled"], minlength=len(raw.classes)) == 0)]
    if unseen:
        first = ", ".join(map(str, unseen[:10])) + (" and more" if len(unseen) > 10 else "")
        work.note(f"no labelled example shows {len(unseen)} of the {len(raw.classes)} classes ({first}): the teacher has never seen them, and takes "
                  "pool and test pictures of them for something else", "warning")  # fmt: skip
    work.write_json("data.json", {
        "dataset": dataset.target.rpartition(".")[2], "shape": list(raw.images.shape[1:]), "classes": list(raw.classes),
        "mean": mean, "std": std, "counts": {name: len(images) for name, images in pictures.items()}, "skipped": list(raw.skipped),
    })  # fmt: skip


def channel_statistics(parts: list[np.ndarray]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in units of [0, 1], over the pictures that training may see: no validation, no test."""
    total, squares, count = 0.0, 0.0, 0
    for images in parts:
        for start in range(0, len(images), 4096):
            block = images[start : start + 4096].astype(np.float64) / 255
            total, squares = total + block.sum((0, 2, 3)), squares + (block**2).sum((0, 2, 3))
            count += block.shape[0] * block.shape[2] * block.shape[3]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
    return mean.round(6).tolist(), std.round(6).tolist()
