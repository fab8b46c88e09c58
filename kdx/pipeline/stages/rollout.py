"""rollout: a prepared data set some of whose rows are gone on with by a network: by the student so far, which
is to learn what its own mistakes lead to, or by the teacher, whose rows are learned from as they are.

Rows are those that the next part of the training shows, so that nothing is made that nobody sees. The truth
of a row that the student went on with is marked as unknown: a teacher answers it, and no label is learned
from it. That of a row that the teacher went on with is what the row itself tells.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.rollouts import Rolling, RollsOut, cannot_roll_out
from kdx.core.task import Task
from kdx.core.trees import Tree, from_leaves, leaves, picked, rows_of, tree
from kdx.core.types import Frozen, Split
from kdx.data.order import RowOrder
from kdx.data.stored import in_blocks
from kdx.data.streams import sequential
from kdx.pipeline.stages.arrays import (
    DECODED,
    INPUTS,
    ROW_NUMBERS,
    TRUTH,
    array_file,
    array_files,
    build_task,
    decoded_folder,
    digest_of,
    need_split,
    pointer,
    read_arrays,
    read_inputs,
    save_arrays,
)
from kdx.pipeline.stages.asked import SHOWN_ROWS
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.spread import BATCH
from kdx.pipeline.stages.streams import labelled_rows
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.stage import subseed
from kdx.store.work import Work
from kdx.training.length import shares
from kdx.training.runtime import Runtime
from kdx.training.settings import Training

ROLLED = "rolled"
"""Name of the files that say which rows were gone on with."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    network: Artifact,
    training: Component,
    splits: Sequence[str],
    steps: Sequence[int],
    share: float,
    rolling: Mapping[str, Any],
    seeds: Mapping[str, int],
    truth: str = "unknown",
) -> None:
    """network: whose last weights go on with rows. splits: those that its training passes over. steps: the
    first step of the next part of the training, and the first behind it. share: of the rows that these steps
    show, in (0, 1]. rolling: of kdx.core.rollouts.Rolling. seeds: "views" of the training, by which its
    order of rows is known, and "rollout". truth: of a row that was gone on with, "unknown", or "own": what it
    tells itself (`Task.truth_within`), and the network is then a teacher.

    Files: as those of kdx.pipeline.stages.prepare, without a test split and without the pool's truth;
    rolled.<split>.npy and seen.<split>.npy (n,) int64 ascending: rows that were gone on with, and all rows
    that the steps show. What is drawn is a function of the seed and the network's key.
    """
    about = data.json("data.json")
    task, settings, how = build_task(about), training.build(), Rolling(**rolling)
    writer = rolling_network(network, runtime, "teacher" if truth == "own" else "student")
    next_part = NextPart(data, task, settings, steps, seeds["views"])
    counts, digests = dict(about["counts"]), dict(about.get("digests", {}))
    seen = {name: next_part.rows(name, splits) for name in splits if counts.get(name)}
    begin = subseed(seeds["rollout"], "rollout", network.key)
    chosen = {name: share_of_rows(rows, share, subseed(begin, name)) for name, rows in seen.items()}
    total, done = sum(map(len, chosen.values())), 0
    for name in ("labelled", "unlabelled"):
        if not counts.get(name):
            copy_split(work, data, name)
            continue
        rows = chosen.get(name, torch.zeros(0, dtype=torch.int64))
        laid = lay_inputs(work, data, name)
        asked = RollingOut(writer, how, task, runtime, subseed(begin, "draws", name))
        written: list[np.ndarray] = []
        for index, made, places in asked.rows(need_split(data, name, runtime), rows):
            for leaf, array in laid.items():
                array[index.numpy()] = leaves(made)[leaf].cpu().numpy()
            written += [] if places is None else [places.cpu().numpy()]
            done += len(index)
            work.progress(done, total, name)
        digests[name] = lay_truth(work, data, name, task, Rolled(rows, laid, written), truth == "own")
        if name in seen:
            np.save(work.path / f"{ROLLED}.{name}.npy", rows.numpy())
            np.save(work.path / f"{SHOWN_ROWS}.{name}.npy", seen[name].numpy())
    copy_split(work, data, "validation")
    if DECODED in about:
        about = {**about, DECODED: pointer(work.path, decoded_folder(data, about))}
    work.write_json("data.json", {**about, "counts": {**counts, "test": 0}, "digests": digests, "hidden": 0})
    work.note(
        f"{total:,} of the {sum(map(len, seen.values())):,} rows that steps {steps[0]:,} to {steps[1]:,} "
        f"show are gone on with by the {'teacher' if truth == 'own' else 'student so far'}"
    )


def rolling_network(made: Artifact, runtime: Runtime, role: str) -> RollsOut:
    """The network, in eval mode. Raises UserError where it cannot go on with a row."""
    network: nn.Module = Frozen(runtime.place(open_network(made))).network
    if not isinstance(network, RollsOut):
        raise cannot_roll_out(type(network).__name__, role)
    return network


@dataclass(frozen=True)
class NextPart:
    """The steps of a training from steps[0] up to steps[1]. seed: of its views."""

    data: Artifact
    task: Task
    settings: Training
    steps: Sequence[int]
    seed: int

    def rows(self, name: str, splits: Sequence[str]) -> Tensor:
        """(n,) int64 ascending: the rows of a split that they show, as kdx.pipeline.stages.streams has it."""
        counts = self.data.json("data.json")["counts"]
        kept = self._few() if "labelled" in splits else None
        sizes = {
            one: len(kept) if one == "labelled" and kept is not None else counts[one]
            for one in splits
            if counts.get(one)
        }
        batch = shares(self.settings.batch_size, sizes, self.settings.labelled_share)[name]
        order = RowOrder(sizes[name], batch, subseed(self.seed, "order", name))
        places = torch.cat([order.rows(step)[0] for step in range(*self.steps)]).unique()
        return torch.from_numpy(kept)[places] if name == "labelled" and kept is not None else places

    def _few(self) -> np.ndarray | None:
        truth = tree(torch.from_numpy, read_arrays(self.data, f"labelled.{TRUTH}"))
        return labelled_rows(truth, self.task, self.settings, self.seed)


def share_of_rows(rows: Tensor, share: float, seed: int) -> Tensor:
    """This share of them, rounded, ascending."""
    generator = torch.Generator().manual_seed(seed)
    return rows[torch.randperm(len(rows), generator=generator)[: round(share * len(rows))]].sort().values


@dataclass(frozen=True)
class RollingOut:
    """What goes on with rows. seed: of the draws."""

    network: RollsOut
    how: Rolling
    task: Task
    runtime: Runtime
    seed: int

    def rows(self, split: Split, rows: Tensor) -> Iterator[tuple[Tensor, Tree, Tensor | None]]:
        """(which of `rows`, what they have become, how many places of each are written, None: all), some at a
        time."""
        batches = sequential(
            split,
            batch=self.task.rows_together(BATCH),
            views=None,
            view=0,
            device=torch.device(self.runtime.device),
            rows=rows,
        )
        for number, batch in enumerate(batches if len(rows) else ()):
            generator = torch.Generator().manual_seed(subseed(self.seed, number))
            with torch.inference_mode():
                made, places = self.network.write(batch.views["main"], self.how, generator)
                yield batch.index.cpu(), made, places


def lay_inputs(work: Work, data: Artifact, name: str) -> dict[str, Any]:
    """The rows of a split as files of their own, to be written into."""
    found = {}
    for leaf, array in leaves(read_inputs(data, name)).items():
        path = work.path / array_file(f"{name}.{INPUTS}", leaf)
        found[leaf] = np.lib.format.open_memmap(path, "w+", array.dtype, array.shape)
        start = 0
        for block in in_blocks(array):
            found[leaf][start : start + len(block)] = block
            start += len(block)
    return found


@dataclass(frozen=True)
class Rolled:
    """rows: of a split, that were gone on with. inputs: all of the split's, by name. written: of these rows
    how many places hold something, in parts; nothing: all do."""

    rows: Tensor
    inputs: Mapping[str, Any]
    written: Sequence[np.ndarray]


def lay_truth(work: Work, data: Artifact, name: str, task: Task, made: Rolled, own: bool) -> str:
    """The numbers and the truth of a split, of rows that were gone on with unknown, or what they tell
    themselves; returns one digest of all that it holds."""
    digests, rows, inputs = [], made.rows, made.inputs
    for array in inputs.values():
        array.flush()
        digests.append(digest_of(array))
    count = rows_of(dict(inputs)) if len(inputs) > 1 else len(next(iter(inputs.values())))
    np.save(work.path / f"{name}.{ROW_NUMBERS}.npy", np.arange(count, dtype=np.int64))
    truth = read_arrays(data, f"{name}.{TRUTH}")
    if truth is not None:
        written = picked(from_leaves(inputs), rows.numpy())
        if own:
            places = {"written": np.concatenate(made.written)} if made.written else {}
            new = leaves(task.truth_within(written, truth, **places))
        else:
            new = leaves(task.unknown(truth, len(rows)))
        for leaf, array in leaves(truth).items():
            array[rows.numpy()] = new[leaf]
            digests.append(digest_of(array))
        save_arrays(work, f"{name}.{TRUTH}", truth)
    return "-".join(digests)


def copy_split(work: Work, data: Artifact, name: str) -> None:
    """As it was."""
    for what in (ROW_NUMBERS, INPUTS, TRUTH):
        for file in array_files(data.path, f"{name}.{what}").values():
            shutil.copyfile(file, work.path / Path(file).name)
