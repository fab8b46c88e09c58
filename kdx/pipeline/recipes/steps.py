"""Recipes: which stages run in which order. A new journey is a new function here and one file in
conf/recipe/.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdx.artifact import Artifact
from kdx.budget import by_round, passes, shares, stored_bytes, to_buy, total_steps, used
from kdx.component import Component, Source
from kdx.disk import kind, read_json
from kdx.faults import Fault
from kdx.stages import CHOOSE, GATE, LABEL, PREPARE, PRETRAIN, PROBE, REVEAL, TRAIN
from kdx.store import Store, subseed


@dataclass(frozen=True)
class Control:
    """A student to compare with: it learns from labels only, at the distilled student's number of steps and
    batch size.

    also: the split whose labels it learns from beside the labelled rows: "unlabelled", the pool's hidden ones
    where they are known, or "validation", after which nothing validates it.
    """

    loss: Component
    model: Component
    training: Component
    also: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights to begin with. key: where in it they lie, None: where they usually do."""

    file: Source
    key: str | None


@dataclass(frozen=True)
class Plan:
    """What a recipe is asked for: components, files and numbers, never a config object.

    sizes: labelled, unlabelled, validation, test. class_weights: of the labels' cross-entropy in every
    training, and so of the gate, none | balanced. duplicates: what becomes of equal pictures
    (kdx.stages.prepare). checkpoint: the teacher's weights. student_checkpoint: those that the student and
    its controls begin with. assistants: networks between teacher and student, largest first. teacher_pretrain
    None: the teacher is taken as it is. controls: role -> what is trained beside the student ("baseline": its
    model, initialisation and augmentation too; "noiseless": the same without augmentation and dropout;
    "ceiling": as baseline, with the pool's hidden labels; "validation_labels": as baseline, with those of
    validation). select None: the whole pool. budget: answers that
    the recipe `active` buys, or their share of the pool. student_init: what the student of a later round
    begins with. round_patience: rounds without improvement on validation after which it ends, None: none.
    """

    dataset: Component
    sizes: Mapping[str, Any]
    class_weights: str
    duplicates: str
    teacher: Component
    checkpoint: Checkpoint | None
    student: Component
    student_checkpoint: Checkpoint | None
    teacher_loss: Component
    loss: Component
    assistants: Sequence[Component]
    controls: Mapping[str, Control]
    teacher_pretrain: Component | None
    pseudo_label: Mapping[str, Any]
    student_train: Component
    seed: int
    select: Component | None
    rounds: int
    student_init: str
    round_patience: int | None
    budget: int | float | None


def distil(store: Store, plan: Plan) -> None:
    """The default journey: teacher-pretrain, pseudo-label, baseline-train, gate, student-train. In further
    rounds the student is the teacher; the best one counts."""
    data, judge = teach(store, plan)
    views, pupil = views_to_answer(data, plan), student(store, data, plan)
    students: list[Artifact] = []
    lessons: list[dict[str, Any]] = []
    for number in range(1, plan.rounds + 1):
        answers = ask(store, data, judge, plan, views, name=round_name("pseudo-label", number, plan))
        if number == 1:
            alone(store, plan, pupil, answers)
        rows = (
            store.run(
                CHOOSE,
                name=round_name("choose", number, plan),
                data=data,
                answers=answers,
                rule=plan.select,
                seed=subseed(plan.seed, "choose", number),
            )
            if plan.select
            else None
        )
        lesson = {
            **pupil,
            "answers": answers,
            "teachers": [] if views else [judge],
            "rows": rows,
            "view": plan.pseudo_label["view"],
            "networks": [judge] if views else [],
            "loss": plan.loss,
            "init": judge if plan.student_init == "previous" and number > 1 else None,
        }
        judge = store.run(TRAIN, name=round_name("student-train", number, plan), **lesson)
        students.append(judge)
        lessons.append(lesson)
        if waited(students) >= (plan.round_patience or plan.rounds):
            break
    if plan.rounds > 1:  # the best round under the student's own name: it is in the store by now
        store.run(TRAIN, name="student-train", **lessons[best_round(students)])
    compare(store, plan, pupil)


def active(store: Store, plan: Plan) -> None:
    """Buys the teacher's answers for `budget` rows of the pool, over rounds: the student so far judges, the
    rule chooses, the teacher answers.

    The last round counts, as it has learned from all that was bought: also where an earlier one was better on
    validation.
    """
    data, judge = teach(store, plan)
    pupil = student(store, data, plan)
    # validation only: how often the teacher errs
    empty = ask(store, data, judge, plan, {}, name="pseudo-label-0", pool=False)
    alone(store, plan, pupil, empty)
    made = store.run(TRAIN, name="student-train-0", **pupil, loss=plan.teacher_loss)
    rows = answers = None
    lesson: dict[str, Any] = {}
    total = to_buy(plan.budget, data.json("data.json")["counts"]["unlabelled"])
    for number, count in enumerate(by_round(total, plan.rounds), 1):
        rows = store.run(
            CHOOSE,
            name=f"choose-{number}",
            data=data,
            answers=empty,
            rule=plan.select,
            pupil=made,
            earlier=rows,
            count=count,
            seed=subseed(plan.seed, "choose", number),
        )
        answers = ask(
            store,
            data,
            judge,
            plan,
            {"unlabelled": 1, "labelled": 1},
            name=f"pseudo-label-{number}",
            rows=rows,
        )
        lesson = {
            **pupil,
            "answers": answers,
            "rows": rows,
            "view": "clean",
            "loss": plan.loss,
            "networks": [judge],
            "init": made if plan.student_init == "previous" else None,
        }
        made = store.run(TRAIN, name=f"student-train-{number}", **lesson)
    store.run(TRAIN, name="student-train", **lesson)
    compare(store, plan, pupil)


def chain(store: Store, plan: Plan) -> None:
    """Teacher assistants (Mirzadeh et al. 2020, arXiv 1902.03393): the teacher teaches the first, each the
    next one, and the last the student.

    All of them train as the student does, with its loss; the control is the run without assistants.
    """
    data, judge = teach(store, plan)
    views, pupil = views_to_answer(data, plan), student(store, data, plan)
    lesson: dict[str, Any] = {}
    for number, model in enumerate([*plan.assistants, plan.student], 1):
        answers = ask(store, data, judge, plan, views, name=f"pseudo-label-{number}")
        if number == 1:
            alone(store, plan, pupil, answers)
        begins = begin(plan.student_checkpoint if number > len(plan.assistants) else None)
        lesson = {
            **pupil,
            "model": model,
            **begins,
            "answers": answers,
            "teachers": [] if views else [judge],
            "view": plan.pseudo_label["view"],
            "networks": [judge] if views else [],
            "loss": plan.loss,
            "rows": None,
            "init": None,
        }
        judge = store.run(TRAIN, name=f"student-train-{number}", **lesson)
    store.run(TRAIN, name="student-train", **lesson)
    compare(store, plan, pupil)


def supervised(store: Store, plan: Plan) -> None:
    """No answers of a teacher: the student learns from labels, or from its own answers. The teacher is
    trained all the same, to be compared with.
    """
    data, _ = teach(store, plan)
    pupil = student(store, data, plan)
    alone(store, plan, pupil, None)
    store.run(TRAIN, name="student-train", **pupil, loss=plan.loss)
    compare(store, plan, pupil)


def alone(store: Store, plan: Plan, pupil: Mapping[str, Any], answers: Artifact | None) -> None:
    """The matched baseline before any other student, and then the gate: so what cannot gain is told before
    the longest stage, not after it.
    """
    trained = control(store, plan, pupil, "baseline") if "baseline" in plan.controls else None
    if answers:
        gate(store, plan, pupil["data"], answers, trained)


def compare(store: Store, plan: Plan, pupil: Mapping[str, Any]) -> None:
    """Trains the other controls. Only here, when everything else is done, are hidden labels given back, and
    only to the control that asks for them.
    """
    for name in plan.controls:
        if name != "baseline":
            control(store, plan, pupil, name)


def control(store: Store, plan: Plan, pupil: Mapping[str, Any], name: str) -> Artifact:
    asked, data = plan.controls[name], pupil["data"]
    training = asked.training
    if asked.also:
        data = store.run(
            REVEAL,
            name="reveal" if asked.also == "unlabelled" else f"reveal-{asked.also}",
            data=data,
            split=asked.also,
        )
    if asked.also == "validation":
        training = all_the_way(training, pupil["data"].json("data.json")["counts"])
    stage = f"{name.replace('_', '-')}-train"
    return store.run(
        TRAIN,
        name=stage,
        **{**pupil, "data": data, "model": asked.model, "training": training},
        loss=asked.loss,
    )


def all_the_way(training: Component, counts: Mapping[str, int]) -> Component:
    """The same training where validation's rows are learned from too: as many steps as without them, to the
    end, as nothing is left that tells when to stop. counts: rows of each split before. A limit on the
    labelled rows has these rows beside it."""
    spec = training.spec
    steps = total_steps(spec, used(counts, spec["rows"])["labelled"] + counts["unlabelled"], "student_train")
    return Component(
        {
            **spec,
            "length": f"{steps} steps",
            "patience": None,
            "target": None,
            "rows": spec["rows"] and spec["rows"] + counts["validation"],
        }
    )


def round_name(stage: str, number: int, plan: Plan) -> str:
    return f"{stage}-{number}" if plan.rounds > 1 else stage


def accuracies(tried: Sequence[Artifact]) -> list[float]:
    """Of each round's last weights on validation; without a validation split every later round counts as
    better.
    """
    found = [made.json("summary.json")["validation_accuracy"] for made in tried]
    return [float(number) if value is None else value for number, value in enumerate(found)]


def best_round(tried: Sequence[Artifact]) -> int:
    """The first of the best."""
    found = accuracies(tried)
    return found.index(max(found))


def waited(tried: Sequence[Artifact]) -> int:
    """Rounds since the best one."""
    return len(tried) - 1 - best_round(tried)


def ask(
    store: Store,
    data: Artifact,
    judge: Artifact,
    plan: Plan,
    views: Mapping[str, int],
    *,
    name: str,
    pool: bool = True,
    rows: Artifact | None = None,
) -> Artifact:
    """The teacher's answers. pool: whether to any of its rows."""
    precision = precise(store, data, plan.teacher, plan.teacher_pretrain)
    return store.run(
        LABEL,
        name=name,
        data=data,
        teachers=[judge],
        augment=augmentation(plan.student_train),
        views=views,
        clean=plan.pseudo_label["view"] == "clean" or rows is not None,
        seed=subseed(plan.seed, "views"),
        precision=precision,
        pool=pool,
        rows=rows,
        passes=plan.pseudo_label["passes"],
    )


def teach(store: Store, plan: Plan) -> tuple[Artifact, Artifact]:
    """(the prepared data, the teacher)"""
    data = store.run(
        PREPARE,
        dataset=plan.dataset,
        **plan.sizes,
        duplicates=plan.duplicates,
        seed=subseed(plan.seed, "split"),
    )
    classes = data.json("data.json")["classes"]
    for role, given in (("teacher", plan.checkpoint), ("student", plan.student_checkpoint)):
        if given and (
            told := told_of_classes(
                role, given, classes, trained=role == "student" or plan.teacher_pretrain is not None
            )
        ):
            store.listener.note(PRETRAIN.name if role == "teacher" else TRAIN.name, *told)
    judge = store.run(
        PRETRAIN,
        data=data,
        model=plan.teacher,
        **begin(plan.checkpoint),
        loss=plan.teacher_loss,
        training=plan.teacher_pretrain,
        precision=precise(store, data, plan.teacher, plan.teacher_pretrain),
        epoch=["labelled"],
        seed=subseed(plan.seed, "teacher", 0),
        views_seed=subseed(plan.seed, "views", "teacher"),
        class_weights=plan.class_weights if plan.teacher_pretrain else "none",
    )
    return data, judge


def student(store: Store, data: Artifact, plan: Plan) -> dict[str, Any]:
    """What the distilled student and its controls share."""
    return {
        "data": data,
        "model": plan.student,
        **begin(plan.student_checkpoint),
        "training": plan.student_train,
        "epoch": ["labelled", "unlabelled"],
        "precision": precise(store, data, plan.student, plan.student_train),
        "seed": subseed(plan.seed, "student", 0),
        "views_seed": subseed(plan.seed, "views"),
        "class_weights": plan.class_weights,
    }


def told_of_classes(
    role: str, checkpoint: Checkpoint, classes: Sequence[Any], trained: bool
) -> tuple[str, str] | None:
    """What there is to tell, with its level, where the model.json beside a file of weights names other
    classes than the data have: weights know positions only. trained: whether the network is trained on.
    Raises Fault where a teacher that is taken as it is would answer with wrong names."""
    beside = checkpoint.file.paths[0].with_name("model.json")
    try:
        about = read_json(beside) if kind(beside) == "a file" else None
    except Fault:
        return None  # not needed, and no business of this run
    learned = about.get("classes") if isinstance(about, dict) else None
    names = [unicodedata.normalize("NFC", str(name)) for name in classes]
    if (
        not isinstance(learned, list)
        or len(learned) != len(names)
        or (learned := [unicodedata.normalize("NFC", str(n)) for n in learned]) == names
    ):
        return None
    pairs = [f"{here} as {there}" for here, there in zip(names, learned, strict=True) if here != there]
    what = (
        f"{role}.checkpoint='{checkpoint.file.paths[0]}' learned other classes than the data's, by the "
        "model.json beside it"
    )
    shown = ", ".join(pairs[:10]) + (" and more" if len(pairs) > 10 else "")
    if trained:
        return f"{what}, and begins with their last layer: {shown}", "info"
    if set(names) & set(learned):
        raise Fault(
            f"{what}, and would answer with wrong names: {shown}; give the classes its names in its order, "
            "or set teacher_pretrain.epochs=5, say, to train it on"
        )
    return f"{what}; they are matched by position: {shown}", "warning"


def begin(checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The inputs of a training stage that say which file of weights it begins with."""
    return {"checkpoint": checkpoint and checkpoint.file, "checkpoint_key": checkpoint and checkpoint.key}


def precise(store: Store, data: Artifact, model: Component, training: Component | None) -> str:
    """ "fp32" or "bf16"; `auto` is settled by a probe on this machine, whose answer is kept in the store."""
    asked = training.spec["precision"] if training else "fp32"
    if asked != "auto":
        return asked
    found = store.run(
        PROBE,
        data=data,
        model=model,
        batch_size=training.spec["batch_size"],
        machine=store.runtime.describe(),
    )
    return found.json("probe.json")["precision"]


def views_to_answer(data: Artifact, plan: Plan) -> dict[str, int]:
    """split -> stored views of each row; empty: the student asks the live teacher."""
    about = data.json("data.json")
    counts = {name: about["counts"][name] for name in ("labelled", "unlabelled") if about["counts"][name]}
    spec, asked = plan.student_train.spec, plan.pseudo_label
    seen_rows = used(counts, spec["rows"])
    steps = total_steps(spec, sum(seen_rows.values()), "student_train")
    if asked["view"] == "clean" or not spec["augment"]:
        views = dict.fromkeys(counts, 1)
    else:
        views = passes(steps, shares(spec["batch_size"], seen_rows, spec["labelled_share"]), seen_rows)
        views = {name: min(seen, asked["views"] or seen) for name, seen in views.items()}
    fits = stored_bytes(counts, views, len(about["classes"])) <= asked["limit"]
    # A choice among the rows is made after they are answered, so how often a row will be seen is not known
    # yet: augmented, the teacher is live.
    if plan.select and asked["view"] == "same" and spec["augment"] and asked["views"] is None:
        return {}
    return views if asked["mode"] == "stored" or (asked["mode"] == "auto" and fits) else {}


def augmentation(training: Component) -> list[tuple[str, Component]]:
    return [(name, Component(spec)) for name, spec in training.spec["augment"]]


def gate(store: Store, plan: Plan, data: Artifact, answers: Artifact, trained: Artifact | None) -> None:
    """Says where nothing is to be gained from the teacher, or stops the run there, where the user asked for
    that. trained: the student alone.
    """
    mode, old = plan.pseudo_label["gate"], plan.pseudo_label["near_chance"]
    found = store.run(GATE, data=data, answers=answers, alone=trained, class_weights=plan.class_weights).json(
        "gate.json"
    )
    if old:
        store.listener.note(
            "gate",
            f"pseudo_label.near_chance is the old name of pseudo_label.gate, and read as that: gate={old}",
            "info",
        )
    if found["gain"] is None:
        store.listener.note("gate", found["text"], "warning" if mode == "error" else "info")
    elif not found["gain"]:
        if mode == "error":
            raise Fault(f"{found['text']}. To go on all the same: pseudo_label.gate=warn")
        store.listener.note("gate", found["text"], "warning")
