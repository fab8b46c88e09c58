"""pseudo-label: the teacher's answers for every row and view that the student will see, written once as half-precision logits."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from kdx.artifact import Artifact
from kdx.component import Component
from kdx.core import Frozen
from kdx.data.augment import Chain, Views
from kdx.data.streams import sequential
from kdx.disk import write_atomically
from kdx.labels import HALF_MAX, teach
from kdx.runtime import Runtime
from kdx.stages.files import open_network, open_split
from kdx.store import Work

BATCH = 256


def run(work: Work, runtime: Runtime, *, data: Artifact, teachers: Sequence[Artifact], augment: Sequence[tuple[str, Component]],
        views: Mapping[str, int], clean: bool, seed: int, precision: str) -> None:  # fmt: skip
    """views: split -> how many views of each row (empty: the student will ask the live teacher). clean: one view, the clean picture.

    Files: <split>.npy (N, V, C) float16 logits; answers.json. Slot v of a row answers exactly the pixels of view `first` + v, which are
    a pure function of (seed, split, row, view): 1 + v where the student is augmented, 0 for the clean picture. The validation
    split is always answered, clean. An interrupted stage goes on at the view it had reached.
    """
    about = data.json("data.json")
    teacher = teach([Frozen(runtime.place(open_network(t))) for t in teachers], "main")
    maker = Views(Chain([(name, c.build()) for name, c in augment]), seed)
    wanted = {name: (1, 0) if clean else (count, 1) for name, count in views.items() if about["counts"].get(name)}
    if about["counts"].get("validation"):
        wanted["validation"] = (1, 0)
    done = json.loads(work.checkpoint.read_text()) if work.checkpoint.exists() else []
    total = sum(count for count, _ in wanted.values())
    for name, (count, first) in wanted.items():
        split = open_split(data, name, runtime)
        path = work.path / f"{name}.npy"
        shape = (len(split), count, len(about["classes"]))
        fresh = not any(d[0] == name for d in done)
        file = np.lib.format.open_memmap(path, mode="w+" if fresh else "r+", dtype=np.float16, shape=shape if fresh else None)
        if fresh:
            reserve(path)
        for slot in range(count):
            if [name, slot] in done:
                continue
            for batch in sequential(split, batch=BATCH, views=maker, view=first + slot, num_classes=len(about["classes"]),
                                    device=torch.device(runtime.device)):  # fmt: skip
                with torch.inference_mode(), runtime.autocast(precision):
                    logits = teacher(batch).float()
                if not torch.isfinite(logits).all():
                    raise FloatingPointError(f"the teacher's answers for '{name}' are not finite; its training has diverged")
                file[batch.index.cpu().numpy(), slot] = logits.clamp(-HALF_MAX, HALF_MAX).cpu().numpy()
            done.append([name, slot])
            file.flush()
            write_atomically(work.checkpoint, json.dumps(done))
            work.progress(len(done), total, name)
        del file
    accuracy, guessing = known_accuracy(work, data, len(about["classes"]))
    if guessing:
        work.note(f"the teacher is near chance ({accuracy:.1%} of {len(about['classes'])} classes on validation): labels from it are noise", "warning")
    splits = {name: {"views": count, "first": first} for name, (count, first) in wanted.items()}
    work.write_json("answers.json", {"splits": splits, "clean": clean, "classes": about["classes"], "teachers": [t.key for t in teachers],
                                     "validation_accuracy": accuracy, "near_chance": guessing})  # fmt: skip


def reserve(path: Path) -> None:
    """Takes a file's space on the disk now: a disk that is full is an error here, and would kill the process in the middle of a memory map."""
    if "posix_fallocate" in vars(os):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def known_accuracy(work: Work, data: Artifact, classes: int) -> tuple[float | None, bool]:
    """(the teacher's accuracy on validation, whether that is no better than guessing: within three standard errors, or 5 points, of 1/C)"""
    path = work.path / "validation.npy"
    if not path.exists():
        return None, False
    labels = np.load(data.file("validation.labels.npy"))
    accuracy = float((np.load(path)[:, 0].argmax(1) == labels).mean())
    chance = 1 / classes
    return accuracy, accuracy < chance + max(3 * (chance * (1 - chance) / len(labels)) ** 0.5, 0.05)
