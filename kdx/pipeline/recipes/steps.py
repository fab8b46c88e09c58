"""What the recipes share: the stages that they ask for, with the inputs that are the same for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdx.core.errors import UserError, together
from kdx.core.metric import Metric
from kdx.core.roles import control_stage
from kdx.pipeline.controls.control import ControlTraining
from kdx.pipeline.recipes.data import prepare_data
from kdx.pipeline.recipes.experiment import Experiment, TeacherSetup
from kdx.pipeline.recipes.side_by_side import begin_beside
from kdx.pipeline.recipes.teachers import checkpoint_inputs, precise, teachers_on
from kdx.pipeline.recipes.written import gives_answers
from kdx.pipeline.scores import score_of
from kdx.pipeline.stages import CHOOSE, GATE, PROXY, REVEAL, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.declared import declared
from kdx.store.stage import split_number, subseed
from kdx.store.store import Store
from kdx.training.length import EPOCH


def taught_by(
    store: Store, experiment: Experiment, *, students: int = 1
) -> tuple[Artifact, list[Artifact], dict[str, Any]]:
    """(the prepared data, the teacher or the members of an ensemble, what the distilled student and its
    controls share). students: how many trainings of the student follow on `student_alone`."""
    data = prepare_data(store, experiment)
    inputs = student_inputs(store, data, experiment)
    if "baseline" in experiment.controls:
        counts = data.json("data.json")["counts"]
        alone = control_inputs(experiment.controls["baseline"], inputs, counts)
        begin_beside(store, experiment, alone, 0 if alone["loss"] == experiment.loss else students)
    return data, teachers_on(store, experiment, data), inputs


def student_alone(
    store: Store, experiment: Experiment, inputs: Mapping[str, Any], answers: Artifact | None
) -> None:
    """The matched baseline before any other student, and then the gate: so what cannot gain is reported
    before the longest stage, not after it. Where the baseline is made beside the student, both come when that
    is done.
    """

    def compare() -> None:
        controlled = "baseline" in experiment.controls
        trained = control(store, experiment, inputs, "baseline") if controlled else None
        if answers:
            gate(store, experiment, inputs["data"], answers, trained)

    if store.beside and store.beside.lasts:
        store.beside.after = compare
    else:
        compare()


def train_controls(store: Store, experiment: Experiment, inputs: Mapping[str, Any]) -> None:
    """Trains the other controls. Only here, when everything else is done, are hidden labels given back, and
    only to the control that asks for them.
    """
    if store.beside and store.beside.after:
        store.beside.after()
    for role in experiment.controls:
        if role != "baseline":
            control(store, experiment, inputs, role)


def control(store: Store, experiment: Experiment, inputs: Mapping[str, Any], role: str) -> Artifact:
    asked, data = experiment.controls[role], inputs["data"]
    if asked.also:
        name = REVEAL.name if asked.also == "unlabelled" else f"{REVEAL.name}-{asked.also}"
        data = store.run(REVEAL, name=name, data=data, split=asked.also)
    counts = inputs["data"].json("data.json")["counts"]
    return store.run(
        TRAIN, name=control_stage(role), **control_inputs(asked, {**inputs, "data": data}, counts)
    )


def control_inputs(
    asked: ControlTraining, inputs: Mapping[str, Any], counts: Mapping[str, int]
) -> dict[str, Any]:
    """Those of a control's training. inputs: of the student's. counts: rows of each split of the run."""
    return {**inputs, "model": asked.model, "training": asked.on(counts), "loss": asked.loss}


def rows_to_learn(
    store: Store, experiment: Experiment, data: Artifact, answers: Artifact, number: int, end: str = ""
) -> dict[str, Any]:
    """The input of a training that says which rows of the pool it learns from; none where it takes all.
    number: of the round. end: of the stage's name, where it chooses for another student than the round's."""
    if not experiment.select:
        return {}
    rows = store.run(
        CHOOSE,
        name=round_name(f"choose{end}", number, experiment),
        data=data,
        answers=answers,
        rule=experiment.select,
        seed=subseed(experiment.seed, "choose", number),
    )
    return {"rows": rows}


def round_name(stage: str, number: int, experiment: Experiment) -> str:
    return f"{stage}-{number}" if experiment.rounds > 1 else stage


def students(done: Mapping[str, Artifact]) -> dict[int | None, Artifact]:
    """The students by round, in order; None: the one that counts."""
    names = {name: split_number(name) for name in done}
    return {number: done[name] for name, (stem, number) in names.items() if stem == "student-train"}


def _scores(tried: Sequence[Artifact], metric: Metric) -> list[float]:
    """Of each round's last weights on validation; without a validation split every later round counts as
    better.
    """
    later = 1 if metric.more else -1
    found = [score_of(made.json("summary.json")) for made in tried]
    return [float(later * number) if value is None else value for number, value in enumerate(found)]


def best_round(tried: Sequence[Artifact], metric: Metric) -> int:
    """The first of the best."""
    return metric.first_best(_scores(tried, metric))


def waited(tried: Sequence[Artifact], metric: Metric) -> int:
    """Rounds since the best one."""
    return len(tried) - 1 - best_round(tried, metric)


def student_inputs(store: Store, data: Artifact, experiment: Experiment) -> dict[str, Any]:
    """What the distilled student and its controls share."""
    return {
        "data": data,
        "model": experiment.student,
        **checkpoint_inputs(experiment.student_checkpoint),
        "training": experiment.student_train,
        "epoch": list(EPOCH),
        "precision": precise(store, data, experiment.student, experiment.student_train),
        "seed": subseed(experiment.seed, "student", 0),
        "views_seed": subseed(experiment.seed, "views"),
        "class_weights": experiment.class_weights,
    }


def beginning(
    experiment: Experiment, teachers: Sequence[Artifact], before: Artifact | None = None
) -> dict[str, Any]:
    """The inputs of a student's training that say what its weights begin with. teachers: of the first round;
    before: the student of the round before, None: there is none.
    """
    if not experiment.init:
        return {"init": None}
    made = before if declared(experiment.init.target, "of") == "round" else teachers[0]
    return {"init": made, "initialiser": experiment.init} if made else {"init": None}


def gate(
    store: Store, experiment: Experiment, data: Artifact, answers: Artifact, trained: Artifact | None
) -> None:
    """Says where nothing is to be gained from the teacher, or stops the run there, where the user asked for
    that. trained: the student alone.
    """
    mode, old = experiment.pseudo_label["gate"], experiment.pseudo_label["near_chance"]
    best: dict[str, Any] = {"which": "best"} if experiment.headline == "best" else {}
    taught = _how_it_learns(experiment.teachers) if gives_answers(experiment) else "writes"
    how = "given" if experiment.given else taught
    learns: dict[str, Any] = {} if how == "steps" else {"learns": how}
    found = store.run(
        GATE,
        data=data,
        answers=answers,
        alone=trained,
        class_weights=experiment.class_weights,
        **best,
        **learns,
    ).json("gate.json")
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
            raise UserError(f"{found['text']}. To go on all the same: pseudo_label.gate=warn")
        store.listener.note("gate", found["text"], "warning")


def look_at_proxy(
    store: Store, experiment: Experiment, data: Artifact, teachers: Sequence[Artifact], answers: Artifact
) -> None:
    """What the teacher makes of a pool that is not the data set's own, where answers are classes. answers:
    what the student learns from."""
    if experiment.pool and not experiment.given and data.json("data.json").get("classes"):
        found = store.run(PROXY, data=data, teachers=teachers, answers=answers).json("proxy.json")
        if found.get("warn") and (options := _that_may_help(experiment, found)):
            store.listener.note(PROXY.name, f"what may lessen the harm of wrong answers: {options}", "info")


def _that_may_help(experiment: Experiment, proxy: Mapping[str, Any]) -> str:
    """What goes against what is wrong with answers to a pool, each with the option that applies it. proxy: a
    proxy.json. Of a teacher that is less sure there than elsewhere the sure answers may be learned from; one
    that names few classes may be sure of all of them. A temperature of 1 or less makes it no less sure."""
    found = []
    if proxy["few"]:
        found.append("a pool of other rows (pool=NAME)")
        teachers = experiment.teachers
        if any(t.checkpoint and t.training is None and not t.class_map for t in teachers):
            found.append("which of your classes the teacher's are (teacher.classes_map=FILE)")
    weight = experiment.loss.spec.get("alpha")
    if isinstance(weight, int | float) and weight > 0:
        found.append(f"a lower weight of the teacher (loss.alpha={weight / 2:g}, say)")
    if proxy["less_sure"] and experiment.select is None:
        found.append("learning only from answers that are sure enough (select=threshold)")
    asked = experiment.pseudo_label
    if (proxy.get("temperature") or 1) > 1 and not asked["passes"] and asked["temperature"] in ("auto", 1):
        found.append(
            "a temperature fitted on validation, about "
            f"{proxy['temperature']:.2g} (pseudo_label.temperature=fitted)"
        )
    return together(found, "or")


def _how_it_learns(teachers: Sequence[TeacherSetup]) -> str:
    """ "steps" where any of them is trained by steps, else "fitted" where any is, else "taken", or "finished"
    where all are finished networks in files."""
    if any(teacher.training is not None and not teacher.fitted for teacher in teachers):
        return "steps"
    if any(teacher.fitted and not teacher.finished for teacher in teachers):
        return "fitted"
    return "finished" if teachers and all(teacher.finished for teacher in teachers) else "taken"
