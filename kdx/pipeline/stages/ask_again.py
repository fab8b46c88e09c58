"""Whether stored answers are those of the teacher that they are said to be: before a training the first rows
of each split are asked again of the network itself."""

from __future__ import annotations

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.hidden_answers import HEAD, is_hidden
from kdx.core.task import Task
from kdx.core.trees import tensor_of_rows
from kdx.core.types import Answers, Batch, Frozen
from kdx.data.streams import sequential
from kdx.data.views.chain import Chain, Views
from kdx.methods.teachers import live_teacher
from kdx.methods.temperature import Tempered
from kdx.pipeline.stages.aggregating import aggregate_in
from kdx.pipeline.stages.answers import SAMPLE, mapped, places
from kdx.pipeline.stages.arrays import need_split
from kdx.pipeline.stages.asked import split_of
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.packing import Packing, packing_of
from kdx.pipeline.stages.parts import TrainInputs
from kdx.store.artifact import Artifact
from kdx.tasks.answer_formats import whole_alike
from kdx.tasks.kept import HIDDEN_STATES
from kdx.training.runtime import Runtime
from kdx.training.settings import Training

ROWS = 8
"""How many rows of each split are asked about."""


def ask_again(inputs: TrainInputs, runtime: Runtime, task: Task) -> None:
    """Raises UserError where a part of each answer is stored and the teacher's network says something else of
    the first rows: their folder was mixed up, say, or the network was. Answers that are stored whole are
    known by their key alone, and those of a file have no network. The random numbers of the training stay as
    they are.
    """
    answers = inputs.answers
    if answers is None or not inputs.networks:
        return
    about = answers.json("answers.json")
    if about.get("format", {"name": "dense"})["name"] == "dense" and not several_places(answers):
        return
    with torch.random.fork_rng(devices=[]):
        networks = [Frozen(runtime.place(open_network(one))) for one in inputs.networks]
    packing = packing_of(about["format"], task, about["seed"])
    hidden = about["format"]["name"] == HIDDEN_STATES
    teacher = live_teacher(networks, "main", aggregate_in(about, task), hidden=hidden)
    temperature = about.get("temperature", 1)
    teacher = teacher if temperature == 1 else Tempered(teacher, temperature, task)
    for name, found in about["splits"].items():
        if name == SAMPLE:
            continue
        batch = first_rows(inputs, answers, runtime, task, name, found["first"])
        with torch.inference_mode(), runtime.autocast(about["precision"]):
            said = teacher(batch)
        if (why := differs(packing, answers, name, said, batch)) is not None:
            raise UserError(
                f"the answers in '{answers.path}' are not those of this teacher: asked again about the first "
                f"{len(batch)} rows of '{name}', {why}; remove that folder, and run the same command again"
            )


def several_places(answers: Artifact) -> bool:
    """Whether a row has several distributions, whose answers are stored whole."""
    name = next(iter(answers.json("answers.json")["splits"]))
    return any(len(leaf.shape) > 3 for leaf in mapped(answers.path, name).values())


def first_rows(
    inputs: TrainInputs, answers: Artifact, runtime: Runtime, task: Task, name: str, view: int
) -> Batch:
    """The first rows of a split that were answered, in the first view that was."""
    split, where = need_split(inputs.data, split_of(name), runtime), places(answers, split_of(name))
    rows = torch.arange(len(split)) if where is None else torch.from_numpy(np.flatnonzero(where >= 0))
    settings: Training = inputs.training.build()
    return next(
        iter(
            sequential(
                split,
                batch=ROWS,
                views=Views(Chain(settings.augment), inputs.views_seed),
                view=view,
                task=task,
                device=torch.device(runtime.device),
                rows=rows[:ROWS],
            )
        )
    )


def differs(packing: Packing, answers: Artifact, name: str, said: Answers, batch: Batch) -> str | None:
    """What stored answers have otherwise, None: nothing."""
    where = places(answers, split_of(name))
    index = batch.index.cpu().numpy()
    rows = index if where is None else where[index]
    first = {leaf: found[:, 0][rows] for leaf, found in mapped(answers.path, name).items()}
    stored = {leaf: tensor_of_rows(found) for leaf, found in first.items()}
    kept = packing.of(name)
    beside = {HEAD: said[HEAD][:1]} if is_hidden(said) else {}
    fresh = {leaf: value.cpu() for leaf, value in {**packing.pack(said, batch, name), **beside}.items()}
    return whole_alike(stored, fresh) if kept is None else kept.alike(stored, fresh)
