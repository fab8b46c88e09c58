"""Of the stages that train a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdx.pipeline.foretelling import (
    Beforehand,
    Foretelling,
    PlannedRun,
    PlannedStage,
    Rehearsed,
    Steps,
    foretelling_of,
    networks_asked,
)
from kdx.pipeline.scores import metric_of
from kdx.pipeline.stages import PRETRAIN, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.declared import declared
from kdx.store.stage import split_number
from kdx.training.length import shares

_FAR = 10**9
"""Beyond every score that a stored round may have."""


_BARELY = 1e-5
"""Of the strongest term's norm: what is below it is as good as nothing."""
_STATE = 4
"""What the part of a training leaves for the next, in weights: these, the optimiser's two averages, the best
so far."""


class NetworkTraining(Foretelling):
    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        from kdx.pipeline.stages.streams import lengths
        from kdx.pipeline.stages.watch import validate_every

        counts, training = self.counts(step), step.inputs["training"]
        if training is None or fitted(step):
            return {"start": 1}
        many, per_epoch = lengths(training, counts, step.inputs["epoch"], step.name)
        every = validate_every(training.spec["evaluate_every"], many)
        first, last = part_of_training(step, steps, many)
        looks = math.ceil(last / every) - math.ceil(first / every) if counts.get("validation") else 0
        return {
            "start": 1,
            "steps": last - first,
            "refreshes": math.ceil(last / per_epoch) - math.ceil(first / per_epoch),
            "validation": looks * counts.get("validation", 0),
        }

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        training = step.inputs["training"]
        if declared(step.inputs["model"].target, "finished", False):
            return "taken as it is"
        if fitted(step):
            return "fitted at once"
        if training is None:
            return "taken as it is"
        most = "at most " if training.spec["patience"] or training.spec["target"] else ""
        many = (self.amounts(step, steps) or {})["steps"]
        return f"{most}{many:,} steps of {training.spec['batch_size']}"

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """A step of one part of a training costs what one of another does."""
        return {k: v for k, v in super().costs(inputs).items() if k not in ("stop", "onward")}

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        best = self.counts(step).get("validation") and step.inputs["training"] is not None
        state = _STATE if step.inputs.get("stop") is not None else 0
        return weights * (state + (2 if best and not fitted(step) else 1))

    def face(self, step: PlannedStage, reduced: Callable[[Any], Any]) -> Any:
        return {"network": step.inputs["model"].spec, "checkpoint": reduced(step.inputs.get("checkpoint"))}

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.training import train

        return train(bench, step, inputs, folder)

    def load(self, bench: Any) -> None:
        from kdx.pipeline.foretelling.rehearsal.training import load_optimiser

        load_optimiser(bench)

    def tried(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        if step.stored or not step.inputs.get("checkpoint"):
            return []
        return [f"checkpoint: {note}" for note in job.rehearsed(step).notes]


class Train(NetworkTraining):
    guesses = True

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        better = 1 if look.improving == metric_of(inputs["data"]).more else -1
        guess = better * (_FAR + look.guess())
        validated = inputs["data"].json("data.json")["counts"]["validation"]
        return {"summary.json": {"validation_score": guess if validated else None}}

    def noun(self, name: str) -> str | None:
        return "student" if split_number(name)[0] == "student-train" else None

    def loss(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """How strongly each term of the student's loss pulls at its first step; said at the first student."""
        students = [
            other
            for other in job.steps
            if other.stage == TRAIN and split_number(other.name)[0] == "student-train" and not other.until
        ]
        if not students or step is not students[0]:
            return []
        seen = [(student, norms_of(job, student)) for student in students]
        step, norms = next(((one, norms) for one, norms in seen if len(norms) > 1), seen[-1])
        if not step.stored and job.rehearsed(step).black:
            return [
                (
                    "not reported: the data are not prepared, and are too many to prepare for a plan; run "
                    "stages=[teacher_pretrain] first"
                )
            ]
        if not step.stored and not job.rehearsed(step).known:
            return ["not reported: it hangs on what only a run can tell"]
        if len(norms) < 2:
            return [f"one term ({', '.join(norms) or 'not logged'}): there is no ratio to tell"]
        size = step.inputs["training"].spec["batch_size"]
        how = "as logged when it ran" if step.stored else f"on a real batch of {size}{_of_teacher(job, step)}"
        late = {} if step.stored else job.rehearsed(step).late
        terms = ", ".join(f"{name} {norm:.3g}" for name, norm in norms.items())
        return [
            f"gradient norms at the first step of {step.name}, {how}: {terms}; {ratio(norms)}",
            *_barely(norms, late, _begins_as_taught(job, step)),
            *([f"weighted as at the last step, on the same batch: {ratio(late)}"] if late else []),
        ]

    def protocol(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """Where a loss without a teacher reads the pool, how many labelled rows a step has beside the student
        alone's, whose batches hold nothing else."""
        loss, size = step.inputs["loss"].target, step.inputs["training"].spec["batch_size"]
        own = step.name == "student-train" and "unlabelled" in declared(loss, "uses", ())
        if not own or declared(loss, "reads", ("answers",)) or "baseline" not in job.experiment.controls:
            return []
        counts = {name: rows for name in ("labelled", "unlabelled") if (rows := self.counts(step).get(name))}
        labelled = shares(size, counts, step.inputs["training"].spec["labelled_share"])["labelled"]
        return [
            f"rows a step: {labelled} of the student's {size} are labelled, and all {size} of the student "
            f"alone's; the control with as many is loss=supervised student_train.batch_size={labelled}"
        ]


def part_of_training(step: PlannedStage, steps: Steps, many: int) -> tuple[int, int]:
    """(its first step, the first behind it), of a training of so many in all that may be cut into parts."""
    before, stop = step.inputs.get("onward"), step.inputs.get("stop")
    return (int(steps[before.key].inputs["stop"]) if before else 0), many if stop is None else int(stop)


def fitted(step: PlannedStage) -> bool:
    """Whether no step is made, as its model is fitted to the rows at once."""
    from kdx.models.estimator import is_estimator

    return is_estimator(step.inputs["model"])


def ratio(norms: Mapping[str, float]) -> str:
    """ "labels : pool = 1 : 0.3"; the first that is not zero is 1."""
    unit = next((norm for norm in norms.values() if norm > 0), 1.0)
    return f"{' : '.join(norms)} = {' : '.join(f'{norm / unit:.3g}' for norm in norms.values())}"


def _barely(norms: Mapping[str, float], late: Mapping[str, float], same: bool) -> list[str]:
    """Why terms that (nearly) vanish at the first step need not do so later. late: those of the last step,
    {} where these are not known. same: whether the student begins as the network that teaches it."""
    most, last = max(norms.values()), max(late.values(), default=0.0)
    found: dict[str, list[str]] = {}
    for name in (name for name, norm in norms.items() if norm == 0 or norm < _BARELY * most):
        if "/" in name:
            why = "0, as it trains another network than the student"
        elif late.get(name, 0.0) > _BARELY * last:
            why = "about 0 at the first step alone, as its weight grows over the training"
        elif same:
            why = (
                "about 0 at the first step alone, where the student still equals the network that teaches it"
            )
        else:
            why = "about 0 at the first step, which tells nothing of later ones"
        found.setdefault(why, []).append(name)
    return [f"{', '.join(names)}: {why}" for why, names in found.items()]


def _begins_as_taught(job: PlannedRun, step: PlannedStage) -> bool:
    """Whether the student begins with the weights of a network that teaches it."""
    begun, answers = step.inputs.get("init"), step.inputs.get("answers")
    asked = [*(step.inputs.get("teachers") or ()), *(step.inputs.get("networks") or ())]
    asked += networks_asked(job.all_steps[answers.key]) if answers else []
    return isinstance(begun, Artifact) and begun.key in {network.key for network in asked}


def norms_of(job: PlannedRun, step: PlannedStage) -> dict[str, float]:
    if not step.stored:
        return job.rehearsed(step).norms
    for record in step.artifact.lines("metrics.jsonl"):
        found = {
            name.partition("/")[2]: value for name, value in record.items() if name.startswith("gradient/")
        }
        if found:
            return found
    return {}


def _of_teacher(job: PlannedRun, step: PlannedStage) -> str:
    """Whose answers the batch has, of the rehearsal that stands for all stages of its kind."""
    step = job.example(step)
    if not step.inputs.get("answers"):
        return ""
    asked = job.all_steps[step.inputs["answers"].key]
    teachers = [job.all_steps[teacher.key] for teacher in networks_asked(asked)]
    if not teachers:
        return f", with {whose}" if (whose := foretelling_of(asked.stage).whose) else ""
    who = "teacher" if job.first(PRETRAIN) else "network of the session before"
    if asked.stored or all(teacher.stored for teacher in teachers):
        return f", with a {who} of the store"
    if any(fitted(teacher) for teacher in teachers):
        return f", with the {who}'s answers"
    if any(teacher.inputs.get("checkpoint") or teacher.inputs["training"] is None for teacher in teachers):
        return f", with the {who}'s weights as they are given"
    return f", with an untrained {who}, as there is no other yet"
