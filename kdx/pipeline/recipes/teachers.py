"""How a recipe comes to its teacher: the stages that train it, and what is measured beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdx.core.class_names import learned_classes, nfc
from kdx.core.errors import UserError
from kdx.pipeline.pace import rows_of_a_part
from kdx.pipeline.recipes.data import decoded_rows, prepare_data
from kdx.pipeline.recipes.experiment import Checkpoint, Experiment, TeacherSetup, name_of_several
from kdx.pipeline.stages import BEFORE, DECODE, GIVEN, PREPARE, PRETRAIN, PROBE, THROUGH, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.stage import subseed
from kdx.store.store import Store

_HELD = 0.1
"""Of a data set that a teacher learns from before, the share that is held out to watch it by."""
_MAP_THEM = "say which of these each of its classes is (teacher.classes_map=FILE)"


def train_teacher(store: Store, experiment: Experiment) -> tuple[Artifact, list[Artifact]]:
    """(the prepared data, see `teachers_on`)"""
    data = prepare_data(store, experiment)
    return data, teachers_on(store, experiment, data)


def teachers_on(store: Store, experiment: Experiment, data: Artifact) -> list[Artifact]:
    """The teacher or the members of an ensemble; in place of these answers that are given."""
    if experiment.given:
        return [store.run(GIVEN, data=data, answers=experiment.given)]
    classes = data.json("data.json").get("classes")
    begun = [
        (PRETRAIN, "teacher", each.checkpoint, each.training is not None)
        for each in experiment.teachers
        if each.class_map is None
    ]
    for stage, role, given, trained in (*begun, (TRAIN, "student", experiment.student_checkpoint, True)):
        if given and classes and (warnings := class_order_warnings(role, given, classes, trained)):
            store.listener.note(stage.name, *warnings)
    named = list(zip(teacher_stages(len(experiment.teachers)), experiment.teachers, strict=True))
    befores = [through_others(store, data, experiment, teacher, name) for name, teacher in named]
    made = [
        train_member(store, data, experiment, teacher, name, before)
        for (name, teacher), before in zip(named, befores, strict=True)
    ]
    if len(experiment.teachers) == 1:
        _before_tuning(store, data, experiment, experiment.teachers[0], befores[0])
    elif tuned := [teacher.name for teacher in experiment.teachers if is_tuned(teacher)]:
        store.listener.note(
            PRETRAIN.name,
            f"{name_of_several(tuned)}: what it was before its fine-tuning is not measured in an ensemble; a "
            f"run with teacher={tuned[0]} alone has it in its table",
            "info",
        )
    return made


def teacher_stages(count: int) -> list[str]:
    """What a run calls the stages that train its teacher, of several by their numbers from 1."""
    return [f"{PRETRAIN.name}-{number}" for number in range(1, count + 1)] if count > 1 else [PRETRAIN.name]


def train_member(
    store: Store,
    data: Artifact,
    experiment: Experiment,
    teacher: TeacherSetup,
    name: str,
    before: Artifact | None = None,
) -> Artifact:
    return store.run(PRETRAIN, name=name, **member_inputs(store, data, experiment, teacher, before))


def member_inputs(
    store: Store, data: Artifact, experiment: Experiment, teacher: TeacherSetup, before: Artifact | None
) -> dict[str, Any]:
    """Members of one option differ in their first weights, their order of rows and their views; the first of
    them is the same network as in a run that has it alone.
    """
    further = [teacher.copy] if teacher.copy else []
    return {
        "data": data,
        "model": teacher.model,
        **checkpoint_inputs(None if before else teacher.checkpoint),
        "loss": experiment.teacher_loss,
        "training": teacher.training,
        "precision": precise(store, data, teacher.model, teacher.training),
        "epoch": ["labelled"],
        "seed": subseed(experiment.seed, "teacher", teacher.copy),
        "views_seed": subseed(experiment.seed, "views", "teacher", *further),
        "class_weights": experiment.class_weights if teacher.training else "none",
        **_stopped_first(experiment, teacher),
        **after_other(before),
        **({"class_map": teacher.class_map.document()} if teacher.class_map else {}),
    }


def through_others(
    store: Store, data: Artifact, experiment: Experiment, teacher: TeacherSetup, name: str
) -> Artifact | None:
    """The teacher after the last of the data sets that it learns from before, each beginning with the weights
    of the one before it; None: there are none. name: of the stage that trains it then."""
    before: Artifact | None = None
    member = name.removeprefix(PRETRAIN.name)
    for number, (_, source) in enumerate(teacher.through, 1):
        end = f"through{member}-{number}"
        other = store.run(
            PREPARE,
            name=f"{PREPARE.name}-{end}",
            decoded=decoded_rows(store, source, f"{DECODE.name}-{end}"),
            dataset=source,
            labelled=None,
            unlabelled=None,
            validation=_HELD,
            test=_HELD,
            duplicates="warn",
            seed=subseed(experiment.seed, "split"),
            form=data.json("data.json")["shape"],
        )
        fresh = before is None and teacher.checkpoint is None and not teacher.model.spec.get("weights")
        training = _all_at_once(teacher.training) if fresh else teacher.training
        before = store.run(
            THROUGH,
            name=f"{THROUGH.name}{member}-{number}",
            data=other,
            model=teacher.model,
            **checkpoint_inputs(None if before else teacher.checkpoint),
            loss=experiment.teacher_loss,
            training=training,
            precision=precise(store, other, teacher.model, training),
            epoch=["labelled"],
            seed=subseed(experiment.seed, "teacher", teacher.copy),
            views_seed=subseed(experiment.seed, "views", "teacher"),
            class_weights="none",
            **after_other(before),
        )
    return before


def after_other(before: Artifact | None) -> dict[str, Any]:
    """The input of a training that begins with what another data set left."""
    return {"through": before} if before else {}


def _all_at_once(training: Component | None) -> Component | None:
    """Fresh weights learn in all layers alike."""
    if training is None:
        return None
    spec = {key: value for key, value in training.spec.items() if key not in ("head_first", "layer_decay")}
    return Component(spec, training.sources)


def has_new_head(teacher: TeacherSetup) -> bool:
    """Whether it is known without looking that its last layer is a new one: weights of a library came with
    other classes, and nothing was learned since."""
    spec = teacher.model.spec
    return bool(spec.get("weights") or spec.get("pretrained")) and not (teacher.checkpoint or teacher.through)


def is_tuned(teacher: TeacherSetup) -> bool:
    """Whether it comes with weights and is trained on."""
    spec = teacher.model.spec
    begun = teacher.checkpoint or teacher.through or spec.get("weights") or spec.get("pretrained")
    return teacher.training is not None and bool(begun)


def _before_tuning(
    store: Store, data: Artifact, experiment: Experiment, teacher: TeacherSetup, before: Artifact | None
) -> None:
    """Of one that comes with weights and is trained on: what it was, to be measured beside it."""
    if not is_tuned(teacher):
        return
    store.run(
        BEFORE,
        data=data,
        model=teacher.model,
        **checkpoint_inputs(None if before else teacher.checkpoint),
        loss=experiment.teacher_loss,
        training=None,
        **after_other(before),
        seed=subseed(experiment.seed, "teacher", teacher.copy),
        new_head=True,
    )


def _stopped_first(experiment: Experiment, teacher: TeacherSetup) -> dict[str, Any]:
    """Of a network that is measured before it answers anything, whether the run stops there."""
    stops = "error" in (experiment.pseudo_label["gate"], experiment.pseudo_label["near_chance"])
    first = teacher.training is None and declared(teacher.model.target, "measured_first", False)
    return {"gate": "error"} if stops and first else {}


def class_order_warnings(
    role: str, checkpoint: Checkpoint, classes: Sequence[Any], trained: bool
) -> tuple[str, str] | None:
    """What there is to tell, with its level, where the model.json beside a file of weights names other
    classes than the data have: weights know positions only. trained: whether the network is trained on.
    Raises UserError where a teacher that is taken as it is would answer with wrong names."""
    learned = learned_classes(checkpoint.file.paths[0])
    names = [nfc(name) for name in classes]
    if learned is None or learned == names or (len(learned) != len(names) and trained):
        return None
    if len(learned) != len(names):
        raise UserError(
            f"{role}.checkpoint='{checkpoint.file.paths[0]}' learned {len(learned)} classes, by the "
            f"model.json beside it, and the data have {len(names)}: {_MAP_THEM}, or set "
            "teacher_pretrain.epochs=5, say, to train it on"
        )
    pairs = [f"{here} as {there}" for here, there in zip(names, learned, strict=True) if here != there]
    what = (
        f"{role}.checkpoint='{checkpoint.file.paths[0]}' learned other classes than the data's, by the "
        "model.json beside it"
    )
    shown = ", ".join(pairs[:10]) + (" and more" if len(pairs) > 10 else "")
    if trained:
        return f"{what}, and begins with their last layer: {shown}", "info"
    if set(names) & set(learned):
        raise UserError(
            f"{what}, and would answer with wrong names: {shown}; give the classes its names in its order, "
            f"{_MAP_THEM}, or set teacher_pretrain.epochs=5, say, to train it on"
        )
    return f"{what}; they are matched by position: {shown}", "warning"


def checkpoint_inputs(checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The inputs of a training stage that say which file of weights it begins with."""
    return {"checkpoint": checkpoint and checkpoint.file, "checkpoint_key": checkpoint and checkpoint.key}


def precise(store: Store, data: Artifact, model: Component, training: Component | None) -> str:
    """ "fp32" or "bf16"; `auto` is settled by a probe on this machine, whose answer is kept in the store."""
    if training is None:
        return "fp32"
    if (asked := training.spec["precision"]) != "auto":
        return asked
    found = store.run(
        PROBE,
        data=data,
        model=model,
        batch_size=rows_of_a_part(training),
        machine=store.runtime.describe(),
    )
    return found.json("probe.json")["precision"]
