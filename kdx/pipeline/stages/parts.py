"""What a training is built from: its inputs, first weights, teachers and all else that a loss may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from safetensors.torch import load_file
from torch import nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.examples import blank
from kdx.core.task import Task
from kdx.core.types import Batch, Frozen, Parts, Split, Teacher
from kdx.data.streams import as_trained
from kdx.data.views.chain import Chain, Views
from kdx.methods.teachers import live_teacher
from kdx.methods.temperature import Tempered
from kdx.models.fitting import WeightsNote
from kdx.models.weights import NEW_HEAD, left_out_head, load_weights
from kdx.pipeline.stages.aggregating import aggregate_in
from kdx.pipeline.stages.answers import digest_of_views, extras, stored_answers
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import new_network, open_network
from kdx.pipeline.stages.streams import truth_used
from kdx.store.artifact import Artifact
from kdx.store.component import Component, terms_of
from kdx.store.declared import declared
from kdx.store.moved import kind_of_old
from kdx.store.source import Source
from kdx.store.stage import split_number
from kdx.training.runtime import Runtime
from kdx.training.settings import Training


@dataclass(frozen=True)
class TrainInputs:
    """The inputs of a training stage, by the names that they have in its key.

    epoch: the splits that one epoch passes over. answers: stored labels; teachers: live ones. networks:
    teachers whose answers are stored, for the losses that read hidden features; no other opens them. rows:
    the rows of the pool that are used. checkpoint: a file of weights that the network begins with, and where
    in it they lie; init: whose last weights it begins with; initialiser: what these are made into first,
    None: they are taken as they are. class_weights: none, or balanced: see
    `kdx.core.task.Task.balanced`, over the labelled rows that are used. stop: the step before which this part
    of a training ends, and leaves all that the next part needs; None: it goes to the end. onward: the part
    before, with which it goes on: weights, optimiser, schedule, step, random numbers. moving: how the live
    teacher moves meanwhile, None: it stands. through: the network trained on another data set whose weights
    this one begins with, but for a last layer of another size.
    """

    data: Artifact
    model: Component
    loss: Component
    training: Component
    precision: str
    seed: int
    views_seed: int
    epoch: Sequence[str]
    answers: Artifact | None = None
    teachers: Sequence[Artifact] = ()
    view: str = "same"
    checkpoint: Source | None = None
    checkpoint_key: str | None = None
    rows: Artifact | None = None
    init: Artifact | None = None
    initialiser: Component | None = None
    networks: Sequence[Artifact] = ()
    class_weights: str = "none"
    stop: int | None = None
    onward: Artifact | None = None
    moving: Component | None = None
    through: Artifact | None = None


def first_weights(
    name: str, runtime: Runtime, inputs: TrainInputs
) -> tuple[nn.Module, Sequence[WeightsNote]]:
    """(the network before its first step, what to tell of its checkpoint or of what it was made of)"""
    checkpoint, fresh = inputs.checkpoint, not (inputs.checkpoint or inputs.through)
    student = new_network(inputs.model, inputs.data.json("data.json"), read_weights=fresh)
    role = "teacher" if split_number(name)[0].startswith("teacher-") else "student"
    notes: list[WeightsNote] = []
    if inputs.through:
        notes = begin_through(student, inputs.through)
    elif checkpoint:
        notes = load_weights(
            student, checkpoint.paths[0], key=inputs.checkpoint_key, role=role, new_head=True
        )
    student = runtime.place(student)
    return student, [*notes, *_initialised(student, runtime, inputs)]


def begin_through(network: nn.Module, before: Artifact) -> list[WeightsNote]:
    """The weights that it had after another data set, but for a last layer of another size."""
    found = load_weights(network, before.file("last.safetensors"), new_head=True)
    if not left_out_head(found):
        return []
    return [(f"the data set before has other classes: {NEW_HEAD}", "info")]


def _initialised(student: nn.Module, runtime: Runtime, inputs: TrainInputs) -> list[WeightsNote]:
    """Changes the student's weights in place, and draws nothing from torch's global generator."""
    if not inputs.init or inputs.onward:
        return []
    if inputs.initialiser is None:
        student.load_state_dict(load_file(inputs.init.file("last.safetensors")))
        return []
    initialiser: Initialiser = inputs.initialiser.build()
    with torch.random.fork_rng():
        teacher = Frozen(runtime.place(open_network(inputs.init))).network
    opened = {name: open_split(inputs.data, name, runtime) for name in ("labelled", "unlabelled")}
    seen = {name: split for name, split in opened.items() if split is not None}
    generator = torch.Generator().manual_seed(inputs.seed)
    with torch.no_grad():
        said = initialiser(student, Beginning(teacher, seen, generator))
    return [(sentence, "info") for sentence in said]


def parts_of(
    student: nn.Module, task: Task, settings: Training, runtime: Runtime, inputs: TrainInputs
) -> Parts:
    """What the objective is built from. Networks that are opened draw from torch's global generator: in this
    order.
    """
    data, answers, about = inputs.data, inputs.answers, inputs.data.json("data.json")
    validation = open_split(data, "validation", runtime)
    others = (*inputs.teachers, *(inputs.networks if reads_networks(inputs.loss) else ()))
    live = [Frozen(runtime.place(open_network(t))) for t in others]
    teacher: Teacher | None = None
    if inputs.teachers:
        kept = answers.json("answers.json") if answers else {}
        combine = aggregate_in(kept, task)
        teacher = live_teacher(live, "clean" if inputs.view == "clean" else "main", combine, task=task)
        temperature = kept.get("temperature", 1)
        teacher = teacher if temperature == 1 else Tempered(teacher, temperature, task)
    elif answers:
        heat = inputs.loss.spec.get("temperature", 1)
        # where it moves, or is the loss's own affair, answers are kept whole, which have none: see
        # kdx.config.kinds.check_format
        one = None if heat is None or isinstance(heat, list) else float(heat)
        teacher = stored_answers(answers, runtime.device, views_of(inputs), task, one)
    balanced = inputs.class_weights == "balanced"
    return Parts(
        student=student,
        new_student=lambda: runtime.place(
            new_network(inputs.model, about, read_weights=inputs.checkpoint is None)
        ),
        teacher=teacher,
        live_teachers=live,
        validation=validation,
        task=task,
        extras=extras(answers, runtime.device) if answers else {},
        teacher_size=answers.json("answers.json")["teacher_size"] if answers else None,
        example=blank(kind_of_old(about)["example"]),
        class_weights=task.balanced(truth_used(data, task, settings, inputs.views_seed))
        if balanced
        else None,
        validation_views=shown_in_training(validation, settings, runtime, inputs.views_seed, task),
        rows=about["counts"],
        build=lambda model: runtime.place(new_network(model, about)),
    )


def views_of(inputs: TrainInputs) -> str:
    """The digest of the inputs that a training shows."""
    return digest_of_views(inputs.training.spec["augment"], inputs.views_seed)


def shown_in_training(
    validation: Split | None, settings: Training, runtime: Runtime, seed: int, task: Task
) -> Callable[[], Iterator[Batch]] | None:
    """The validation rows as training shows rows; None where it shows clean ones, or mixes them."""
    chain = Chain(settings.augment)
    if validation is None or not len(chain) or chain.mixup is not None:
        return None
    device = torch.device(runtime.device)
    return partial(as_trained, validation, Views(chain, seed), device=device, task=task)


def reads_networks(loss: Component) -> bool:
    """Whether a loss, or its terms on hidden features, reads the teacher's network, which is needed beside
    its answers.
    """
    asked = [loss, *map(Component, terms_of(loss.spec).values())]
    return any("network" in declared(one.target, "reads", ()) for one in asked)
