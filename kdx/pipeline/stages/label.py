"""pseudo-label: the teacher's answers to every row and view that the student will see, written once, as the
task packs them, or a part of each (`pseudo_label.format`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.core.files import write_atomically
from kdx.core.hidden_answers import TellsHidden, head_width, several_hidden, tells_hidden
from kdx.core.task import Task
from kdx.core.trees import all_finite
from kdx.core.types import Answers, Batch, Frozen, Teacher
from kdx.data.npy import let_go
from kdx.data.ragged import RaggedArray
from kdx.data.streams import sequential
from kdx.data.views.chain import Chain, Views
from kdx.methods.teachers import live_teacher
from kdx.models import size
from kdx.pipeline.stages.acquaint import meet_rows
from kdx.pipeline.stages.acting import acted_on_validation
from kdx.pipeline.stages.aggregating import equal_networks, settle_aggregate
from kdx.pipeline.stages.answers import (
    SAMPLE,
    digest_of_views,
    places_file,
    sampled_rows,
    score_of_validation,
)
from kdx.pipeline.stages.arrays import build_task, need_split, open_split
from kdx.pipeline.stages.asked import MIXUP, places_of, rows_seen, some_rows, split_of, to_answer
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.left import answered, view_digest
from kdx.pipeline.stages.packing import (
    DENSE,
    FORMAT_JSON,
    Packing,
    digest_of_data,
    open_files,
    packing_of,
    save_head,
    settle_format,
)
from kdx.pipeline.stages.spread import BATCH, Passes, write_spread
from kdx.pipeline.stages.tempering import temper
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Work
from kdx.tasks.kept import HIDDEN_STATES
from kdx.training.runtime import Runtime

_LET_GO = 64
"""Batches after which the pages of a file that is being filled are given back."""


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
    temperature: float | str = 1,
    looked_at: Mapping[str, int] | None = None,
    form: Mapping[str, Any] | None = None,
    only: Artifact | None = None,
    aggregate: Component | None = None,
) -> None:
    """views: split -> how many views of each row (empty: the student will ask the live teacher). clean: one
    view, the clean row. pool: whether anything of the pool is answered. rows: only these rows of it. passes:
    of Monte-Carlo dropout over the clean ones of those rows, whose spread is kept as extras. looked_at: split
    -> how many rows its training looks at, where that ends before its first pass: no other one is answered.
    temperature: of all answers, or "fitted" (kdx.pipeline.stages.tempering); answers.json then has it.
    form: what is kept of each answer, see kdx.pipeline.stages.packing.settle_format; None: all of it.
    only: a rollout, which says which rows of each split are answered (seen.<split>.npy), however many.
    aggregate: what makes one answer of those of several teachers, None: the mean; answers.json then has it
    (kdx.pipeline.stages.aggregating).

    Files: <split>.npy (N, V, ...), or <split>.NAME.npy for each of several arrays, head.npy beside hidden
    states; answers.json. Slot v of a row answers exactly the inputs of view `first` + v, which are a pure
    function of (seed, split, row, view): 1 + v where the student is augmented, 0 for the clean row. Always
    answered are the validation split, clean and (slot 1) in one view such as those of the pool, and the whole
    pool, clean (clean.npy where unlabelled.npy holds other views), unless `rows` are given or not all are
    looked at: then places.SPLIT.npy says where each row's answer lies. Where the teacher is asked live about
    augmented views, sample.npy holds its answers to one of them; validation.by_row.npy is what one attains
    there that acts. An interrupted stage goes on at the view it had reached.
    """
    about = data.json("data.json")
    task = build_task(about)
    networks = [runtime.place(open_network(t)) for t in teachers]
    frozen = [Frozen(n) for n in networks]
    combine, combined = settle_aggregate(work.note, runtime, data, frozen, aggregate, precision)
    hidden = hidden_network(networks, form)
    if hidden:
        form = {**(form or {}), "width": head_width(hidden)}
    teacher = live_teacher(frozen, "main", combine, hidden=hidden is not None)
    for one, other in equal_networks(networks):
        work.note(
            f"the members {one} and {other} of the teacher are one and the same network, which counts twice: "
            "no seed sets them apart",
            "warning",
        )
    found_temperature: dict[str, float] = {}
    if temperature != 1:
        teacher, fitted = temper(work, runtime, data, task, teacher, temperature, precision)
        found_temperature = {"temperature": fitted}
    steps = [(name, c.build()) for name, c in augment]
    for text in meet_rows(steps, data, runtime):
        work.note(text)
    maker = Views(Chain(steps), seed)
    wanted = to_answer(about["counts"], views, clean, pool and rows is None, [name for name, _ in augment])
    bought = None if rows is None else torch.from_numpy(np.load(rows.file("rows.npy"))).unique()
    some = {
        split: found
        for split in looked_at or {}
        if (found := some_rows(split, about["counts"], looked_at or {}, seed)) is not None
    }
    some |= {} if only is None else rows_seen(only)
    some |= {} if bought is None else {"unlabelled": bought}
    asked_for = Answering(task, teacher, maker, precision, some, packing_of(DENSE, task, seed))
    packing, mass = settle_format(
        form, task, seed, lambda: first_answers(work, runtime, data, wanted, asked_for), work
    )
    if task.several_forms and wanted:
        packing = packing.in_form_of(first_answers(work, runtime, data, wanted, asked_for))
    work.write_json(FORMAT_JSON, packing.about())
    asked_for = replace(asked_for, packing=packing)
    _answer(work, runtime, data, wanted, asked_for)
    if hidden:
        save_head(work.path, hidden)
    for split, found in some.items():
        np.save(work.path / places_file(split), places_of(found, about["counts"][split]).numpy())
    asked = open_split(data, "unlabelled", runtime) if passes and pool else None
    spread = Passes(task, networks, passes, seed, some.get("unlabelled"))
    extras = write_spread(work, runtime, asked, spread) if asked else []
    acted = acted_on_validation(work, networks, data, task, runtime)
    splits = {name: {"views": count, "first": first} for name, (count, first) in wanted.items()}
    work.write_json(
        "answers.json",
        {
            "splits": splits,
            "clean": clean,
            "views": digest_of_views(augment, seed),
            "extras": extras,
            "pool": about["counts"]["unlabelled"],
            "moved": bool(augment) and not clean,
            "mixed": not clean and MIXUP in dict(augment),
            "bought": None if bought is None else len(bought),
            "some": sorted(some),
            "teachers": [t.key for t in teachers],
            "teacher_size": size.most_parameters(networks),
            "validation_score": score_of_validation(work.path, data, task) if acted is None else acted,
            **found_temperature,
            **combined,
            "format": packing.about(),
            "mass": mass,
            "data": digest_of_data(about),
            "precision": precision,
            "seed": seed,
        },
    )


def hidden_network(networks: Sequence[nn.Module], form: Mapping[str, Any] | None) -> TellsHidden | None:
    """The teacher's network where its hidden states are kept; None: its answers are. Raises UserError where
    it tells none."""
    if form is None or form["name"] != HIDDEN_STATES:
        return None
    if len(networks) > 1:
        raise UserError(several_hidden(len(networks)))
    return tells_hidden(networks[0], "this one")


@dataclass(frozen=True)
class Answering:
    """Who answers what. maker: of the views. some: split -> its rows that are answered, where not all are.
    packing: what is kept of each answer."""

    task: Task
    teacher: Teacher
    maker: Views
    precision: str
    some: Mapping[str, Tensor]
    packing: Packing

    def rows(self, file: str, whole: int) -> Tensor:
        """Those of a split, of `whole` rows, that a file answers, ascending."""
        rows = self.some.get(split_of(file), torch.arange(whole))
        return rows[torch.from_numpy(sampled_rows(len(rows)))] if file == SAMPLE else rows


def _answer(
    work: Work, runtime: Runtime, data: Artifact, wanted: Mapping[str, tuple[int, int]], asked: Answering
) -> None:
    """Writes the files of answers, view by view. wanted: see `to_answer`."""
    done = answered(work, wanted)
    total = sum(count for count, _ in wanted.values())
    for name, (count, first) in wanted.items():
        split = need_split(data, split_of(name), runtime)
        rows = asked.rows(name, len(split))
        places = places_of(rows, len(split))
        fresh = all(name != other for other, _ in done)
        files = open_files(work, name, asked.packing, (len(rows), count), fresh)
        cut_off(files, [slot for other, slot in done if other == name])
        for slot in range(count):
            if as_left(work, files, name, slot, done):
                continue
            batches = sequential(
                split,
                batch=asked.task.rows_together(BATCH),
                views=asked.maker,
                view=first + slot,
                task=asked.task,
                device=torch.device(runtime.device),
                rows=rows,
            )
            for number, batch in enumerate(batches):
                packed = pack_answers(asked, batch, name, runtime)
                for leaf, file in files.items():
                    file[places[batch.index.cpu()].numpy(), slot] = packed[leaf].cpu().numpy()
                    if number % _LET_GO == 0:
                        let_go(file)
            took = round(work.seconds, 3)
            done[name, slot] = (took, view_digest(work, files, name, slot, took))
            for file in files.values():
                file.flush()
            write_atomically(work.checkpoint, json.dumps([[*which, *held] for which, held in done.items()]))
            work.progress(len(done), total, name)
        del files


def first_answers(
    work: Work, runtime: Runtime, data: Artifact, wanted: Mapping[str, tuple[int, int]], asked: Answering
) -> Answers:
    """Those to one batch of the rows that are learned from, in their first view."""
    name = next((name for name in ("labelled", "unlabelled") if name in wanted), next(iter(wanted)))
    split = need_split(data, split_of(name), runtime)
    batch = next(
        iter(
            sequential(
                split,
                batch=asked.task.rows_together(BATCH),
                views=asked.maker,
                view=wanted[name][1],
                task=asked.task,
                device=torch.device(runtime.device),
                rows=asked.rows(name, len(split)),
            )
        )
    )
    return ask(asked, batch, name, runtime)


def cut_off(files: Mapping[str, Any], done: Sequence[int]) -> None:
    """Of files that grow as they are written: what a stopped run had begun is forgotten. done: slots."""
    for file in files.values():
        if isinstance(file, RaggedArray):
            file.cut(done)


def as_left(
    work: Work,
    files: Mapping[str, Any],
    name: str,
    slot: int,
    done: dict[tuple[str, int], tuple[float, str]],
) -> bool:
    """Whether a stopped run answered this view, and its answers are as they were written: then its time
    counts too. Of others it says that they are made again. done: what `answered` found, and what came since;
    such a view is taken out.
    """
    before = done.pop((name, slot), None)
    if before is None:
        return False
    if before[1] != view_digest(work, files, name, slot, before[0]):
        path = work.path / f"{name}.npy"
        work.note(
            f"answers that a stopped run had left in {path} are not as they were written, and are made again",
            "warning",
        )
        return False
    done[name, slot] = before
    work.spent(before[0])
    return True


def ask(asked: Answering, batch: Batch, name: str, runtime: Runtime) -> Answers:
    """The answers to a batch."""
    with torch.inference_mode(), runtime.autocast(asked.precision):
        answers = asked.teacher(batch)
    if not all_finite(answers):
        raise FloatingPointError(
            f"the teacher's answers for '{name}' are not finite (NaN or infinite): its training has "
            "diverged, or the weights that it was given are of no use"
        )
    return answers


def pack_answers(asked: Answering, batch: Batch, name: str, runtime: Runtime) -> dict[str, Tensor]:
    """The answers to a batch as they are stored."""
    answers = ask(asked, batch, name, runtime)
    with torch.inference_mode():
        return asked.packing.pack(answers, batch, name)
