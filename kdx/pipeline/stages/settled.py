"""Who answers a labelling stage, and in which form: settled before the first answer, alike by each of the
shards and by whoever puts these together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.core.hidden_answers import TellsHidden, head_width, several_hidden, tells_hidden
from kdx.core.task import Task
from kdx.core.trees import all_finite
from kdx.core.types import Answers, Batch, Frozen, Teacher
from kdx.data.streams import sequential
from kdx.data.views.chain import Chain, Views
from kdx.methods.teachers import live_teacher
from kdx.pipeline.stages.acquaint import meet_rows
from kdx.pipeline.stages.aggregating import equal_networks, settle_aggregate
from kdx.pipeline.stages.answers import SAMPLE, sampled_rows
from kdx.pipeline.stages.arrays import build_task, need_split
from kdx.pipeline.stages.asked import rows_seen, some_rows, split_of, to_answer
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.packing import DENSE, FORMAT_JSON, Packing, packing_of, settle_format
from kdx.pipeline.stages.spread import BATCH
from kdx.pipeline.stages.tempering import temper
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Work
from kdx.tasks.kept import HIDDEN_STATES
from kdx.training.runtime import Runtime


@dataclass(frozen=True)
class LabelInputs:
    """What answers hang on, of all of them and of one shard alike. views: split -> how many views of each row
    (empty: the student will ask the live teacher). clean: one view, the clean row. pool: whether anything of
    the pool is answered. rows: only these rows of it. temperature: of all answers, or "fitted"
    (kdx.pipeline.stages.tempering); answers.json then has it. looked_at: split -> how many rows its training
    looks at, where that ends before its first pass: no other one is answered. form: what is kept of each
    answer, see kdx.pipeline.stages.packing.settle_format; None: all of it. only: a rollout, which says which
    rows of each split are answered (seen.<split>.npy), however many. aggregate: what makes one answer of
    those of several teachers, None: the mean; answers.json then has it (kdx.pipeline.stages.aggregating).
    """

    data: Artifact
    teachers: Sequence[Artifact]
    augment: Sequence[tuple[str, Component]]
    views: Mapping[str, int]
    clean: bool
    seed: int
    precision: str
    pool: bool
    rows: Artifact | None = None
    temperature: float | str = 1
    looked_at: Mapping[str, int] | None = None
    form: Mapping[str, Any] | None = None
    only: Artifact | None = None
    aggregate: Component | None = None


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

    @property
    def batch(self) -> int:
        """Rows that are answered together."""
        return self.task.rows_together(BATCH)


@dataclass(frozen=True)
class Settled:
    """asked: who answers what. wanted: file -> (views of each row, the first of them). hidden: the network
    whose hidden states are kept, None: none's are. found: what answers.json tells of the temperature and of
    what makes one answer of several. mass: see kdx.pipeline.stages.packing.settle_format."""

    networks: Sequence[nn.Module]
    asked: Answering
    wanted: Mapping[str, tuple[int, int]]
    bought: Tensor | None
    hidden: TellsHidden | None
    mass: Mapping[str, Any] | None
    found: Mapping[str, Any] = field(default_factory=dict)

    def alike(self) -> dict[str, Any]:
        """What all who answer a part must have settled alike."""
        return {**self.found, "format": self.asked.packing.about(), "mass": self.mass}


def which_rows(inputs: LabelInputs, counts: Mapping[str, int], bought: Tensor | None) -> dict[str, Tensor]:
    """split -> its rows that are answered, ascending, where not all are."""
    looked_at = inputs.looked_at or {}
    some = {
        split: found
        for split in looked_at
        if (found := some_rows(split, counts, looked_at, inputs.seed)) is not None
    }
    some |= {} if inputs.only is None else rows_seen(inputs.only)
    return some | ({} if bought is None else {"unlabelled": bought})


def settle_asking(work: Work, runtime: Runtime, inputs: LabelInputs) -> Settled:
    """Writes the file that says in which format answers are kept."""
    data, precision, seed = inputs.data, inputs.precision, inputs.seed
    about = data.json("data.json")
    task = build_task(about)
    networks = [runtime.place(open_network(t)) for t in inputs.teachers]
    frozen = [Frozen(n) for n in networks]
    combine, found = settle_aggregate(work.note, runtime, data, frozen, inputs.aggregate, precision)
    form, hidden = inputs.form, hidden_network(networks, inputs.form)
    if hidden:
        form = {**(form or {}), "width": head_width(hidden)}
    teacher = live_teacher(frozen, "main", combine, hidden=hidden is not None)
    for one, other in equal_networks(networks):
        work.note(
            f"the members {one} and {other} of the teacher are one and the same network, which counts twice: "
            "no seed sets them apart",
            "warning",
        )
    if inputs.temperature != 1:
        teacher, fitted = temper(work, runtime, data, task, teacher, inputs.temperature, precision)
        found = {"temperature": fitted, **found}
    steps = [(name, c.build()) for name, c in inputs.augment]
    for text in meet_rows(steps, data, runtime):
        work.note(text)
    maker = Views(Chain(steps), seed)
    whole_pool = inputs.pool and inputs.rows is None
    names = [name for name, _ in inputs.augment]
    wanted = to_answer(about["counts"], inputs.views, inputs.clean, whole_pool, names)
    bought = None if inputs.rows is None else torch.from_numpy(np.load(inputs.rows.file("rows.npy"))).unique()
    some = which_rows(inputs, about["counts"], bought)
    asked = Answering(task, teacher, maker, precision, some, packing_of(DENSE, task, seed))
    packing, mass = settle_format(form, task, seed, lambda: first_answers(runtime, data, wanted, asked), work)
    if task.several_forms and wanted:
        packing = packing.in_form_of(first_answers(runtime, data, wanted, asked))
    work.write_json(FORMAT_JSON, packing.about())
    return Settled(networks, replace(asked, packing=packing), wanted, bought, hidden, mass, found)


def hidden_network(networks: Sequence[nn.Module], form: Mapping[str, Any] | None) -> TellsHidden | None:
    """The teacher's network where its hidden states are kept; None: its answers are. Raises UserError where
    it tells none."""
    if form is None or form["name"] != HIDDEN_STATES:
        return None
    if len(networks) > 1:
        raise UserError(several_hidden(len(networks)))
    return tells_hidden(networks[0], "this one")


def first_answers(
    runtime: Runtime, data: Artifact, wanted: Mapping[str, tuple[int, int]], asked: Answering
) -> Answers:
    """Those to one batch of the rows that are learned from, in their first view."""
    name = next((name for name in ("labelled", "unlabelled") if name in wanted), next(iter(wanted)))
    split = need_split(data, split_of(name), runtime)
    batch = next(
        iter(
            sequential(
                split,
                batch=asked.batch,
                views=asked.maker,
                view=wanted[name][1],
                task=asked.task,
                device=torch.device(runtime.device),
                rows=asked.rows(name, len(split)),
            )
        )
    )
    return ask(asked, batch, name, runtime)


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
