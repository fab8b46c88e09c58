"""Recipes: which stages run in which order. A new journey is a new function here and one file in conf/recipe/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdx.artifact import Artifact
from kdx.budget import passes, shares, stored_bytes, total_steps
from kdx.component import Component, Source
from kdx.faults import Fault
from kdx.stages import LABEL, PREPARE, PRETRAIN, PROBE, TRAIN
from kdx.store import Store, subseed


@dataclass(frozen=True)
class Plan:
    """What a recipe is asked for: components, files and numbers, never a config object.

    sizes: labelled, unlabelled, validation, test. checkpoint: the teacher's weights. teacher_pretrain None: the teacher is taken as it is.
    controls: role -> loss of a matched baseline: the student's model, initialisation, steps, batch size and augmentation, the labels only.
    """

    dataset: Component
    sizes: Mapping[str, Any]
    teacher: Component
    checkpoint: Source | None
    student: Component
    teacher_loss: Component
    loss: Component
    controls: Mapping[str, Component]
    teacher_pretrain: Component | None
    pseudo_label: Mapping[str, Any]
    student_train: Component
    seed: int


def distil(store: Store, plan: Plan) -> None:
    """The default journey: teacher-pretrain, pseudo-label, student-train, and the matched baseline."""
    data, judge = teach(store, plan)
    precision = precise(store, data, plan.teacher, plan.teacher_pretrain)
    views, clean = views_to_answer(data, plan), plan.pseudo_label["view"] == "clean"
    answers = store.run(LABEL, data=data, teachers=[judge], augment=augmentation(plan.student_train), views=views, clean=clean,
                        seed=subseed(plan.seed, "views"), precision=precision)  # fmt: skip
    gate(answers, plan)
    pupil = student(store, data, plan)
    store.run(TRAIN, name="student-train", **pupil, loss=plan.loss, answers=answers, teachers=[] if views else [judge],
              view=plan.pseudo_label["view"])  # fmt: skip
    for name, control in plan.controls.items():
        store.run(TRAIN, name=f"{name}-train", **pupil, loss=control)


def supervised(store: Store, plan: Plan) -> None:
    """No answers of a teacher: the student learns from labels only. The teacher is trained all the same, to be compared with."""
    data, _ = teach(store, plan)
    pupil = student(store, data, plan)
    store.run(TRAIN, name="student-train", **pupil, loss=plan.loss)
    for name, control in plan.controls.items():
        store.run(TRAIN, name=f"{name}-train", **pupil, loss=control)


def teach(store: Store, plan: Plan) -> tuple[Artifact, Artifact]:
    """(the prepared data, the teacher)"""
    data = store.run(PREPARE, dataset=plan.dataset, **plan.sizes, seed=subseed(plan.seed, "split"))
    judge = store.run(PRETRAIN, data=data, model=plan.teacher, checkpoint=plan.checkpoint, loss=plan.teacher_loss,
                      training=plan.teacher_pretrain, precision=precise(store, data, plan.teacher, plan.teacher_pretrain),
                      epoch=["labelled"], seed=subseed(plan.seed, "teacher", 0), views_seed=subseed(plan.seed, "views", "teacher"))  # fmt: skip
    return data, judge


def student(store: Store, data: Artifact, plan: Plan) -> dict[str, Any]:
    """What the distilled student and its controls share."""
    return {
        "data": data, "model": plan.student, "training": plan.student_train, "epoch": ["labelled", "unlabelled"],
        "precision": precise(store, data, plan.student, plan.student_train),
        "seed": subseed(plan.seed, "student", 0), "views_seed": subseed(plan.seed, "views"),
    }  # fmt: skip


def precise(store: Store, data: Artifact, model: Component, training: Component | None) -> str:
    """"fp32" or "bf16"; `auto` is settled by a probe on this machine, whose answer is kept in the store."""
    asked = training.spec["precision"] if training else "fp32"
    if asked != "auto":
        return asked
    found = store.run(PROBE, data=data, model=model, batch_size=training.spec["batch_size"], machine=store.runtime.describe())
    return found.json("probe.json")["precision"]


def views_to_answer(data: Artifact, plan: Plan) -> dict[str, int]:
    """split -> stored views of each row; empty: the student asks the live teacher."""
    about = data.json("data.json")
    counts = {name: about["counts"][name] for name in ("labelled", "unlabelled") if about["counts"][name]}
    spec, asked = plan.student_train.spec, plan.pseudo_label
    steps = total_steps(spec, sum(counts.values()), "student_train")
    if asked["view"] == "clean" or not spec["augment"]:
        views = dict.fromkeys(counts, 1)
    else:
        views = passes(steps, shares(spec["batch_size"], counts, spec["labelled_share"]), counts)
        views = {name: min(seen, asked["views"] or seen) for name, seen in views.items()}
    fits = stored_bytes(counts, views, len(about["classes"])) <= asked["limit"]
    return views if asked["mode"] == "stored" or (asked["mode"] == "auto" and fits) else {}


def augmentation(training: Component) -> list[tuple[str, Component]]:
    return [(name, Component(spec)) for name, spec in training.spec["augment"]]


def gate(answers: Artifact, plan: Plan) -> None:
    """Stops a run whose teacher is no better than guessing, where the user asked for that."""
    found = answers.json("answers.json")
    if found["near_chance"] and plan.pseudo_label["near_chance"] == "error":
        raise Fault(f"the teacher is near chance: {found['validation_accuracy']:.1%} of {len(found['classes'])} classes on validation; "
                    "train it longer (teacher_pretrain.steps), give it more labels (dataset.labelled), or set pseudo_label.near_chance=warn")  # fmt: skip
