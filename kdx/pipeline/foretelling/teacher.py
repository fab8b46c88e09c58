"""Of the stage that trains the teacher: whether there is one, how good it is, and what becomes of one that is
no better than guessing, or than the student alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.core.errors import together
from kdx.core.roles import ROLE_WORDS, role_trained_by
from kdx.pipeline.foretelling import Beforehand, Foretelling, PlannedRun, PlannedStage, Rehearsed, Steps
from kdx.pipeline.foretelling.rollouts import rolled_rows
from kdx.pipeline.foretelling.training import NetworkTraining
from kdx.pipeline.scores import answer_bytes, metric_of, score_of
from kdx.pipeline.stages import GATE, LABEL, LABEL_SHARD, PREPARE, PRETRAIN, ROLLOUT, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.stage import split_number
from kdx.tasks import chance


class Pretrain(NetworkTraining):
    def noun(self, name: str) -> str | None:
        return "teacher"

    def teacher(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """Of an ensemble each member, and after the last of them what they are together."""
        number, count = split_number(step.name)[1], len(job.experiment.teachers)
        asked = job.first(LABEL, LABEL_SHARD)
        if number is None:
            return _of_all(job, step, asked, _known_score(job, step, asked)) if _first(job, step) else []
        found = (
            f"member {number}, {_whereabouts(job, step)}: {_measured(step, _known_score(job, step, None))}"
        )
        if number < count:
            return [found]
        return [found, *_of_all(job, step, asked, _noted(asked, "answers.json"))]


class BeforeTeacher(Pretrain):
    """Of what comes before the teacher: the network as it was before its own training."""

    def noun(self, name: str) -> str | None:
        return "teacher before its training"

    def teacher(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        return []


def _first(job: PlannedRun, step: PlannedStage) -> bool:
    return step is job.first(PRETRAIN)


def _measured(step: PlannedStage, score: float | None) -> str:
    rows, metric = _validation(step), metric_of(step.inputs["data"])
    if score is None:
        return f"its {metric.title} is not known yet"
    if metric.share:
        return f"{score:.1%} of {rows} validation rows right"
    return f"{metric.title} {metric.text(score)} on {rows} validation rows"


def _measured_part(step: PlannedStage, part: Mapping[str, Any] | None) -> str:
    """Of answers in a file. part: where it answers some rows of validation, what these showed."""
    if part is None or part["score"] is None:
        return _measured(step, _noted(step, "answers.json"))
    metric = metric_of(step.inputs["data"])
    return f"{metric.title} {metric.text(part['score'])} on {part['n']:,} of {part['of']:,} validation rows"


def _validation(step: PlannedStage) -> int:
    """Rows."""
    return int(step.inputs["data"].json("data.json")["counts"]["validation"])


def _of_all(
    job: PlannedRun, step: PlannedStage, asked: PlannedStage | None, score: float | None
) -> list[str]:
    """What is said of the teacher, of an ensemble as a whole."""
    several = len(job.experiment.teachers) > 1
    where = "which answer together" if several else _whereabouts(job, step, named=False)
    found = [f"{job.experiment.teacher_name}, {where}: {_measured(step, score)}"]
    if not asked and (written := job.first(ROLLOUT)):
        rows = rolled_rows(written)
        found.append(f"it writes {rows:,} rows, and answers none: what the gate reads was measured before")
    elif not asked:
        return [*found, _unasked(job, step)]
    if not _validation(step):
        return [
            *found,
            "without a validation split nothing tells whether it is better than guessing, and the gate "
            "cannot speak: set dataset.validation=0.1, say",
        ]
    always = ""
    if step.inputs["data"].json("data.json").get("classes"):
        always = _beside_guessing(job, step, score, found)
    elif score is not None and _changes(step):
        found[0] += " before that"
    return [*found, *_of_gate(job, always)]


def _unasked(job: PlannedRun, step: PlannedStage) -> str:
    """What hangs on a teacher whose answers no stage lays down before the student trains."""
    own, further, beside = step.artifact.key, {step.artifact.key}, set()
    direct = live = False
    for other in job.steps:
        begun, answered = other.inputs.get("init"), other.inputs.get("teacher")
        if isinstance(begun, Artifact) and begun.key in further:
            further.add(other.artifact.key)
        if isinstance(answered, Artifact) and answered.key == own:
            beside.add(other.artifact.key)
        taught = {teacher.key for teacher in other.inputs.get("teachers") or ()}
        direct, live = direct or own in taught, live or bool(taught & further)
    if live:
        whose = "its answers" if direct else "the answers of the network that goes on from it"
        return (
            f"the student learns from {whose} as it trains, so how good it is counts, and no gate looks at "
            "that before"
        )
    if beside:
        taught_so = [o.name for o in job.steps if o.stage == TRAIN and o.inputs["data"].key in beside]
        words = together([f"the {ROLE_WORDS.get(role_trained_by(name) or '', name)}" for name in taught_so])
        return f"it stands beside: {words} learns from its answers, a control, and the student does not"
    return "no answers are asked of it, so nothing depends on how good it is"


class GivenAnswers(Foretelling):
    """Of the stage that lays down answers which came in a file."""

    whose = "the answers of the file"

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        counts = inputs["data"].json("data.json")["counts"]
        splits = {split: {"views": 1, "first": 0} for split in ("labelled", "unlabelled", "validation")}
        about = {"splits": splits, "some": [], "given": counts, "validation_score": None}
        return {"answers.json": about}

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        return {"start": 1}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return "answers of a file"

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        each = answer_bytes(step.inputs["data"].json("data.json"))
        return sum(self.counts(step).values()) * (each + 8)

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.given import lay_given

        return lay_given(bench, step, inputs, folder)

    def tried(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        from kdx.data.given import said_of_columns, taken_by_order
        from kdx.pipeline.stages.arrays import build_task
        from kdx.pipeline.stages.given import read_answers

        data = step.inputs["data"].json("data.json")
        rows, _ = read_answers(build_task(data), step.inputs["answers"])
        said = said_of_columns(rows)
        if taken_by_order(rows):
            whose = "pool" if len(rows) == data["counts"]["unlabelled"] else "data set"
            said.insert(0, f"its {len(rows):,} rows are taken by order, for those of the {whose}")
        return ["answers: those of the file, one to each clean row", *(f"answers: {text}" for text in said)]

    def teacher(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        where = f"of the file '{step.inputs['answers'].spec['file']}', as they are"
        part = step.artifact.json("answers.json").get("validation_part") if step.stored else None
        found = f"answers, {where}: {_measured_part(step, part)}"
        return [found, *_of_gate(job, "")] if _validation(step) else [found]


def _changes(step: PlannedStage) -> bool:
    """Whether it is still to be trained: a new last layer knows nothing yet."""
    return not step.stored and step.inputs["training"] is not None


def _beside_guessing(job: PlannedRun, step: PlannedStage, score: float | None, found: list[str]) -> str:
    """Adds what guessing attains, and returns how that is called."""
    prepared, rows = job.first(PREPARE), step.inputs["data"].json("data.json")["counts"]["validation"]
    name, share = _largest(step.inputs["data"])
    line, always = chance.chance_level(share, rows), f'always "{name}"'
    about = "" if prepared and prepared.stored else "about "
    if score is not None and _changes(step):
        found[0] += " before that"
    elif score is not None and score < line:
        found[0] += f", which is NO BETTER THAN {always}"
    found.append(
        f"below {line:.1%} it is no better than {always}, the class that "
        f"{about}{share:.1%} of these rows have"
    )
    return always


def _of_gate(job: PlannedRun, always: str) -> list[str]:
    other = always or "knowing nothing"
    if "baseline" in job.experiment.controls:
        other = f"the student alone (or than {other}, if that is better)"
    warns = job.experiment.pseudo_label["gate"] == "warn"
    then = (
        "this is warned of, and the run goes on (gate=error stops it)"
        if warns
        else "the run stops there (gate=error)"
    )
    other += ", all classes weighing alike," if job.experiment.class_weights == "balanced" else ""
    found = [
        f"gate, before the student trains: where the teacher is not better than {other} by two standard "
        f"errors of the paired difference, {then}"
    ]
    stored = job.first(GATE)
    if stored and stored.stored:
        found.append(stored.artifact.json("gate.json")["text"])
    return found


def _largest(data: Artifact) -> tuple[str, float]:
    """(the class that most rows of validation have, its share); of data that are not prepared, those of the
    train part, which it is drawn from.
    """
    about = data.json("data.json")
    which, share = chance.largest(about["strata"])
    return about["classes"][which], share


def _whereabouts(job: PlannedRun, step: PlannedStage, named: bool = True) -> str:
    """named: whether it is called by its name, too."""
    asked = job.experiment.teachers[(split_number(step.name)[1] or 1) - 1]
    called = f"{asked.name}, " if named else ""
    if step.stored:
        return f"{called}in the store"
    if asked.finished:
        return f"{called}a finished network in the file '{asked.model.spec.get('file')}', answers only"
    if asked.fitted:
        return f"{called}fitted to the labelled rows at once"
    origin = (
        f"the checkpoint '{asked.checkpoint.file.paths[0]}'" if asked.checkpoint else "pretrained weights"
    )
    if asked.training is None:
        return f"{called}{origin}, as it is"
    further = f"{origin}, to be trained further" if asked.checkpoint else "not in the store and trained first"
    return f"{called}{further}"


def _known_score(job: PlannedRun, teacher: PlannedStage, asked: PlannedStage | None) -> float | None:
    """On validation: as a stage has noted it, or measured now where the weights are there and it takes no
    longer than a few seconds.
    """
    for step, file in ((asked, "answers.json"), (teacher, "summary.json")):
        if (found := _noted(step, file)) is not None:
            return found
    there = teacher.stored or teacher.inputs["checkpoint"] or teacher.inputs["training"] is None
    if not job.bench or not there:
        return None
    data = job.all_steps[teacher.inputs["data"].key]
    if not data.stored and job.rehearsed(data).black:
        return None
    from kdx.pipeline.foretelling.rehearsal.others import score_now

    return score_now(job.bench, teacher)


def _noted(step: PlannedStage | None, file: str) -> float | None:
    """The score that a stage of the store has noted."""
    return score_of(step.artifact.json(file)) if step and step.stored else None
