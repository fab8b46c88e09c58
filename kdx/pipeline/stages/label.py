"""pseudo-label: the teacher's answers for every row and view that the student will see, written once as
half-precision logits.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.files import write_atomically
from kdx.core.types import Batch, Frozen, Split, Teacher
from kdx.data.streams import sequential
from kdx.data.views.augment import Chain, Views
from kdx.methods.teachers import live_teacher
from kdx.pipeline.stages.answers import CLEAN, HALF_MAX, SAMPLE, SAMPLED, digest_of_views, sampled_rows
from kdx.pipeline.stages.files import need_split, open_network, open_split
from kdx.pipeline.stages.left import answered, open_answers, view_digest
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.store import Work
from kdx.training.runtime import Runtime

BATCH = 256
MIXUP = "mixup"


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    teachers: Sequence[Artifact],
    augment: Sequence[tuple[str, Component]],
    views: Mapping[str, int],
    clean: bool,
    seed: int,
    precision: str,
    pool: bool,
    rows: Artifact | None = None,
    passes: int = 0,
) -> None:
    """views: split -> how many views of each row (empty: the student will ask the live teacher). clean: one
    view, the clean picture. pool: whether anything of the pool is answered. rows: only these rows of it.
    passes: of Monte-Carlo dropout over the clean pictures of those rows, whose spread is kept as extras.

    Files: <split>.npy (N, V, C) float16 logits; answers.json. Slot v of a row answers exactly the pixels of
    view `first` + v, which are a pure function of (seed, split, row, view): 1 + v where the student is
    augmented, 0 for the clean picture. Always answered are the validation split, clean and (slot 1) in one
    view such as those of the pool, and the whole pool, clean (clean.npy where unlabelled.npy holds other
    views) unless `rows` are given: then places.npy says where each row's answer lies. Where the teacher is
    asked live about augmented views, sample.npy holds its answers to one of them. An interrupted stage goes
    on at the view it had reached.
    """
    about = data.json("data.json")
    networks = [runtime.place(open_network(t)) for t in teachers]
    teacher = live_teacher([Frozen(n) for n in networks], "main")
    maker = Views(Chain([(name, c.build()) for name, c in augment]), seed)
    wanted = to_answer(about["counts"], views, clean, pool and rows is None, [name for name, _ in augment])
    bought = None if rows is None else torch.from_numpy(np.load(rows.file("rows.npy"))).unique()
    _answer(work, runtime, data, wanted, teacher, maker=maker, precision=precision, bought=bought)
    if bought is not None:
        np.save(work.path / "places.npy", places_of(bought, about["counts"]["unlabelled"]).numpy())
    asked = open_split(data, "unlabelled", runtime) if passes and pool else None
    extras = (
        write_spread(work, runtime, asked, networks, passes, seed, len(about["classes"]), bought)
        if asked
        else []
    )
    splits = {name: {"views": count, "first": first} for name, (count, first) in wanted.items()}
    work.write_json(
        "answers.json",
        {
            "splits": splits,
            "clean": clean,
            "views": digest_of_views(augment, seed),
            "classes": about["classes"],
            "extras": extras,
            "pool": about["counts"]["unlabelled"],
            "moved": bool(augment) and not clean,
            "mixed": not clean and MIXUP in dict(augment),
            "bought": None if bought is None else len(bought),
            "teachers": [t.key for t in teachers],
            "teacher_size": max(Frozen(n).size for n in networks),
            "validation_accuracy": _known_accuracy(work, data),
        },
    )


def _answer(
    work: Work,
    runtime: Runtime,
    data: Artifact,
    wanted: Mapping[str, tuple[int, int]],
    teacher: Teacher,
    *,
    maker: Views,
    precision: str,
    bought: Tensor | None,
) -> None:
    """Writes the files of answers, view by view. wanted: see `to_answer`. bought: the rows of the pool that
    are answered, None: all.
    """
    classes = len(data.json("data.json")["classes"])
    done = answered(work, wanted)
    total = sum(count for count, _ in wanted.values())
    for name, (count, first) in wanted.items():
        split = need_split(data, split_of(name), runtime)
        path = work.path / f"{name}.npy"
        some = {"unlabelled": bought, SAMPLE: torch.from_numpy(sampled_rows(len(split)))}.get(name)
        places = torch.arange(len(split)) if some is None else places_of(some, len(split))
        shape = (len(split) if some is None else len(some), count, classes)
        file = open_answers(path, shape, fresh=all(name != other for other, _ in done))
        reserve(path)
        for slot in range(count):
            if as_left(work, file, name, slot, done):
                continue
            batches = sequential(
                split,
                batch=BATCH,
                views=maker,
                view=first + slot,
                num_classes=classes,
                device=torch.device(runtime.device),
                rows=some,
            )
            for batch in batches:
                logits = logits_of(teacher, batch, name, runtime, precision)
                file[places[batch.index.cpu()].numpy(), slot] = logits.cpu().numpy()
            took = round(work.seconds, 3)
            done[name, slot] = (took, view_digest(work, file, name, slot, took))
            file.flush()
            write_atomically(work.checkpoint, json.dumps([[*which, *held] for which, held in done.items()]))
            work.progress(len(done), total, name)
        del file


def as_left(
    work: Work, file: np.ndarray, name: str, slot: int, done: dict[tuple[str, int], tuple[float, str]]
) -> bool:
    """Whether a stopped run answered this view, and its answers are as they were written: then its time
    counts too. Of others it says that they are made again. done: what `answered` found, and what came since;
    such a view is taken out.
    """
    before = done.pop((name, slot), None)
    if before is None:
        return False
    if before[1] != view_digest(work, file, name, slot, before[0]):
        path = work.path / f"{name}.npy"
        work.note(
            f"answers that a stopped run had left in {path} are not as they were written, and are made again",
            "warning",
        )
        return False
    done[name, slot] = before
    work.spent(before[0])
    return True


def logits_of(teacher: Teacher, batch: Batch, name: str, runtime: Runtime, precision: str) -> Tensor:
    """(B, C) logits that half precision can hold."""
    with torch.inference_mode(), runtime.autocast(precision):
        logits = teacher(batch).float()
    if not torch.isfinite(logits).all():
        raise FloatingPointError(
            f"the teacher's answers for '{name}' are not finite; its training has diverged"
        )
    return logits.clamp(-HALF_MAX, HALF_MAX)


def to_answer(
    counts: Mapping[str, int], views: Mapping[str, int], clean: bool, whole: bool, augment: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """file -> (views of each row, the first of them). whole: the whole pool is answered, clean as well.
    augment: names of the steps.

    Of mixed pictures no answer belongs to a row, so that nothing could be distinguished from answers to them.
    """
    wanted = {name: (1, 0) if clean else (count, 1) for name, count in views.items() if counts.get(name)}
    moved = bool(augment) and not clean and MIXUP not in augment
    if counts.get("validation"):
        wanted["validation"] = (2 if moved else 1, 0)
    if whole and counts.get("unlabelled") and not (clean and "unlabelled" in wanted):
        wanted[CLEAN] = (1, 0)
        if moved and not views:
            wanted[SAMPLE] = (1, 1)
    return wanted


def split_of(file: str) -> str:
    """The split whose rows a file answers."""
    return "unlabelled" if file in (CLEAN, SAMPLE) else file


def rows_of(file: str, counts: Mapping[str, int], asked: int) -> int:
    """How many rows a file answers. asked: of the pool, where answers are bought."""
    return {CLEAN: counts["unlabelled"], SAMPLE: min(SAMPLED, counts["unlabelled"]), "unlabelled": asked}.get(
        file
    ) or counts[file]


def places_of(rows: Tensor, n: int) -> Tensor:
    """(n,) int64: the place of each row among `rows`, -1 where it is not there."""
    places = torch.full((n,), -1)
    places[rows] = torch.arange(len(rows))
    return places


@torch.inference_mode()
def write_spread(
    work: Work,
    runtime: Runtime,
    split: Split,
    networks: Sequence[nn.Module],
    passes: int,
    seed: int,
    classes: int,
    rows: Tensor | None,
) -> list[str]:
    """Names of the extras written: mean and unbiased deviation of softmax(z) and (cool_) softmax(z / 2) over
    passes with dropout alive.

    Each extra.<name>.npy is (N, C) float32, nan for a row that is not among `rows`, where these are given.
    Several teachers take turns (Rizve et al. 2021, arXiv 2101.06329, have one, and 10 passes).
    """
    files = {
        name: np.full((len(split), classes), np.nan, np.float32)
        for name in ("mean", "std", "cool_mean", "cool_std")
    }
    torch.manual_seed(seed)
    for batch in sequential(
        split, batch=BATCH, views=None, view=0, device=torch.device(runtime.device), rows=rows
    ):
        index, answers = batch.index.cpu().numpy(), []
        for turn in range(passes):
            with awake(networks[turn % len(networks)]) as network:
                answers.append(network(batch.views["main"]).float().cpu())
        logits = torch.stack(answers)
        for prefix, probs in (("", logits.softmax(2)), ("cool_", (logits / 2).softmax(2))):
            files[f"{prefix}mean"][index] = probs.mean(0).numpy()
            files[f"{prefix}std"][index] = probs.std(0).numpy()
    for name, values in files.items():
        np.save(work.path / f"extra.{name}.npy", values)
    return list(files)


@contextlib.contextmanager
def awake(network: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode but for its dropout."""
    layers = [m for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]
    for layer in layers:
        layer.train()
    try:
        yield network
    finally:
        for layer in layers:
            layer.eval()


def reserve(path: Path) -> None:
    """Takes a file's space on the disk now: a disk that is full is an error here, and would kill the process
    in the middle of a memory map.
    """
    if "posix_fallocate" in vars(os):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _known_accuracy(work: Work, data: Artifact) -> float | None:
    """The teacher's on validation."""
    path = work.path / "validation.npy"
    if not path.exists():
        return None
    return float((np.load(path)[:, 0].argmax(1) == np.load(data.file("validation.labels.npy"))).mean())
