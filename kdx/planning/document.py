"""What `kdx plan` tells of some runs, as one plain document: stages, estimates, checks, the teacher, the
terms of the loss, the protocol.

Imports torch only where a stage is missing and so has to be rehearsed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.config.wire import Order
from kdx.core import checks
from kdx.pipeline.recipes.steps import class_order_warnings
from kdx.pipeline.stages import GATE, LABEL, PREPARE, PRETRAIN, PROBE, TRAIN
from kdx.planning.dry_run import Kinds, PlannedStage, forecast
from kdx.runs.run import protocol
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.store import split_number
from kdx.tasks import chance


@dataclass(frozen=True)
class _Job:
    """One run, foreseen. stop: why it will end early, if that is known."""

    words: list[str]
    order: Order
    steps: list[PlannedStage]
    stop: str | None

    def first(self, *names: Any) -> PlannedStage | None:
        """The first step of one of these stages."""
        return next((step for step in self.steps if step.stage in names), None)

    @property
    def data(self) -> Mapping[str, Any]:
        return self.first(PREPARE).artifact.json("data.json")


class Survey:
    """The runs of one command line, and a rehearsal of each kind of stage that is missing."""

    def __init__(
        self, jobs: Iterable[tuple[Sequence[str], Order]], scratch: Path, tell: Callable[[str], None]
    ):
        described: dict[str, Any] = {}
        self.jobs = [_Job(list(words), order, *forecast(order, scratch, described)) for words, order in jobs]
        self.steps: dict[str, PlannedStage] = {}
        for step in (step for job in self.jobs for step in job.steps):
            # a round under its own name, not as what may be the best
            if step.key not in self.steps or self.steps[step.key].until:
                self.steps[step.key] = step
        self.kinds = Kinds(self.steps)
        self.missing = [step for step in self.steps.values() if not step.stored]
        self.rehearsals = self.rehearse(scratch, tell) if self.missing else None

    def rehearse(self, scratch: Path, tell: Callable[[str], None]) -> Any:
        """Of stages of one kind, that which finds most of what it reads in the store."""
        from kdx.planning.timing import Rehearsals

        made = Rehearsals(self.steps, self.kinds, scratch, self.jobs[0].order.runtime.settle(), tell)
        alike: dict[str, list[PlannedStage]] = {}
        for step in self.missing:
            alike.setdefault(self.kinds.of(step), []).append(step)
        for steps in alike.values():
            made.of(max(steps, key=lambda step: sum(self.steps[key].stored for key in self.above(step))))
        return made

    def above(self, step: PlannedStage) -> set[str]:
        """Keys of all that a stage is made from."""
        found: set[str] = set()
        todo = keys_in(step.inputs)
        while todo:
            key = todo.pop()
            if key not in found:
                found.add(key)
                todo += keys_in(self.steps[key].inputs)
        return found

    def entry(self, step: PlannedStage) -> dict[str, Any]:
        """What is said of a stage. took: seconds, when it ran; seconds, memory, disk (bytes), work: of one
        that is missing, as estimated.
        """
        found = {
            "name": step.name,
            "stage": step.stage.name,
            "state": step.state,
            "kind": self.kinds.of(step),
        }
        if step.stored:
            return found | {"took": step.artifact.manifest["seconds"]}
        from kdx.planning import work

        seen = self.rehearsals.of(step)
        norms = (
            {}
            if seen.black
            else {
                k: v
                for k, v in (("gradient_norms", seen.norms), ("gradient_norms_at_the_end", seen.late))
                if v
            }
        )
        return found | {
            "seconds": seen.seconds(work.amounts(step, self.steps)),
            "memory": seen.memory,
            "disk": work.disk(step, self.steps, seen.weights),
            "work": work.in_words(step, self.steps),
            **norms,
        }


def keys_in(value: Any) -> list[str]:
    """Keys of the artifacts among some inputs."""
    if isinstance(value, Artifact):
        return [value.key]
    if isinstance(value, Mapping | list | tuple):
        return [
            key
            for inner in (value.values() if isinstance(value, Mapping) else value)
            for key in keys_in(inner)
        ]
    return []


def look_ahead(jobs: Iterable[tuple[Sequence[str], Order]], tell: Callable[[str], None]) -> dict[str, Any]:
    """The document; docs/commands.md tells its keys. tell: hears what is being rehearsed."""
    with tempfile.TemporaryDirectory(prefix="kdx-plan-") as scratch:
        return document(Survey(jobs, Path(scratch), tell))


def document(survey: Survey) -> dict[str, Any]:
    entries = {key: survey.entry(step) for key, step in survey.steps.items()}
    kinds = list(dict.fromkeys(e["kind"] for e in entries.values()))
    for entry in entries.values():
        entry["kind"] = kinds.index(entry["kind"])
    paid: set[str] = set()
    described = []
    for job in survey.jobs:
        mine = {step.key for step in job.steps if not step.stored} - paid
        paid |= mine
        stages = [
            {
                "name": s.name,
                "key": s.key,
                "state": s.state,
                "until": s.until,
                "perhaps": s.perhaps,
                "same": s.same,
            }
            for s in job.steps
        ]
        described.append(
            {
                "words": job.words,
                "stages": stages,
                "to_run": len(mine),
                "seconds": total(entries[key] for key in mine),
            }
        )
    order = survey.jobs[0].order
    states = [step.state for step in survey.steps.values()]
    missing = [entries[step.key] for step in survey.missing]
    free = shutil.disk_usage(checks.existing(order.store)).free
    peak, loading = (survey.rehearsals.peak, survey.rehearsals.loading) if survey.rehearsals else (None, 0.0)
    return {
        "store": str(order.store),
        "device": survey.rehearsals.bench.runtime.describe() if survey.rehearsals else None,
        "counts": {
            "jobs": len(described),
            "stages": len(states),
            **{state: states.count(state) for state in ("hit", "miss", "unknown")},
        },
        "seconds": total(missing) + loading,
        "loading": loading,
        "not_timed": sorted({e["name"] for e in missing if e["seconds"] is None}),
        "memory": {
            "peak": max((e["memory"] or 0 for e in missing), default=0) or None,
            "free": peak.free(),
            "of": peak.of,
        }
        if peak
        else None,
        "disk": {"needed": sum(e["disk"] for e in missing), "free": free},
        "checks": gathered(survey, _checked),
        "teacher": gathered(survey, _gate),
        "loss": gathered(survey, terms),
        "protocol": gathered(survey, rules),
        "jobs": described,
        "stages": entries,
    }


def total(entries: Iterable[Mapping[str, Any]]) -> float:
    """Seconds of those that were timed."""
    return sum(entry["seconds"] or 0.0 for entry in entries)


def gathered(survey: Survey, section: Callable[[Survey, _Job], list[str]]) -> list[dict[str, Any]]:
    """Each sentence once, with the numbers of the jobs that it is true of: [{"text", "jobs"}]."""
    found: dict[str, list[int]] = {}
    for number, job in enumerate(survey.jobs):
        for text in dict.fromkeys(section(survey, job)):
            found.setdefault(text, []).append(number)
    return [{"text": text, "jobs": jobs} for text, jobs in found.items()]


def _checked(survey: Survey, job: _Job) -> list[str]:
    """What kdx.config.validate looked at (it raises UserErrors otherwise), and what was settled by it."""
    data, plan, choices = job.data, job.order.plan, job.order.config["choices"]
    names = ", ".join(map(str, data["classes"][:10])) + (", ..." if len(data["classes"]) > 10 else "")
    found = [
        f"classes: {len(data['classes'])} ({names}), of the data, the teacher and the student alike",
        (
            f"pictures: {'x'.join(map(str, data['shape']))}, taken by the teacher {choices['teacher']} and "
            f"the student {choices['student']}"
        ),
    ]
    if plan.student_train:
        found.append(augmented(plan.student_train))
    if job.first(PREPARE).stored:
        found += [
            f"of the data: {note['text']}"
            for note in job.first(PREPARE).artifact.lines("notes.jsonl")
            if note["level"] == "warning"
        ]
    if all(step.stored for step in job.steps):
        return [*found, "everything is in the store: nothing has to be tried"]
    found.append(
        f"loss {choices['loss']} and those of teacher and controls: built, and tried forward and backward on "
        "pictures of this shape"
    )
    for role, given in (("teacher", plan.checkpoint), ("student", plan.student_checkpoint)):
        found += [f"checkpoint: the weights of '{given.file.paths[0]}' fit the {role}"] if given else []
        warnings = (
            class_order_warnings(
                role, given, data["classes"], role == "student" or plan.teacher_pretrain is not None
            )
            if given
            else None
        )
        found += [f"checkpoint: {warnings[0]}"] if warnings else []
    begun = [step for step in job.steps if step.inputs.get("checkpoint") and not step.stored]
    found += dict.fromkeys(
        f"checkpoint: {note}" for step in begun for note in survey.rehearsals.of(step).notes
    )
    for step in job.steps:
        if step.stage == PROBE:
            probe = step.artifact.json("probe.json")
            times = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in probe["seconds"].items())
            found.append(
                f"precision=auto: {probe['precision']} ({times} a step of "
                f"{step.inputs['model'].target.rpartition('.')[2]})"
            )
    asked = [step for step in job.steps if step.stage == LABEL]
    return [*found, _answered(asked)] if asked else found


def _answered(asked: Sequence[PlannedStage]) -> str:
    """How the teacher answers. asked: the labelling stages."""
    if any(step.inputs["rows"] for step in asked):
        return "answers: of the rows that are bought, stored"
    views = max((count for step in asked for count in step.inputs["views"].values()), default=0)
    if not views:
        return "answers: of the live teacher, at every step"
    return f"answers: stored, {views} {'view' if views == 1 else 'views'} of a row at most"


def augmented(training: Component) -> str:
    """What is done to the student's pictures, and whether they are mirrored, which no augmentation does that
    was not asked to.
    """
    steps = [*training.spec["augment"], *training.spec["strong_augment"]]
    names = ", ".join(dict.fromkeys(name for name, _ in steps)) or "none"
    mirrored = any(step.get("flip") for _, step in steps)
    return f"augmentation of the student's pictures: {names}; " + (
        (
            "some are mirrored, which is wrong where a mirrored picture is another thing, as with writing: "
            "augment=[affine] does not"
        )
        if mirrored
        else "they are not mirrored: augment=[flip_crop] asks for it"
    )


def _gate(survey: Survey, job: _Job) -> list[str]:
    """Whether there is a teacher, how good it is, and what becomes of one that is no better than guessing, or
    than the student alone.
    """
    teacher, asked, data = job.first(PRETRAIN), job.first(LABEL), job.data
    rows = data["counts"]["validation"]
    where, accuracy = whereabouts(survey, job, teacher), _known_accuracy(survey, teacher, asked)
    measured = (
        f"{accuracy:.1%} of {rows} validation rows right"
        if accuracy is not None
        else "its accuracy is not known yet"
    )
    found = [f"{job.order.config['choices']['teacher']}, {where}: {measured}"]
    if not asked:
        return [*found, "no answers are asked of it, so nothing depends on how good it is"]
    if not rows:
        return [
            *found,
            "without a validation split nothing tells whether it is better than guessing, and the gate "
            "cannot speak: set dataset.validation=0.1, say",
        ]
    name, share = _largest(job.first(PREPARE).artifact)
    line, always, about = (
        chance.chance_level(share, rows),
        f'always "{name}"',
        "" if job.first(PREPARE).stored else "about ",
    )
    if accuracy is not None and not teacher.stored and teacher.inputs["training"] is not None:
        found[0] += " before that"  # a new last layer knows nothing yet
    elif accuracy is not None and accuracy < line:
        found[0] += f", which is NO BETTER THAN {always}"
    found.append(
        f"below {line:.1%} it is no better than {always}, the class that "
        f"{about}{share:.1%} of these rows have"
    )
    other = "the student alone" if "baseline" in job.order.plan.controls else always
    then = (
        "this is warned of, and the run goes on (gate=error stops it)"
        if job.order.plan.pseudo_label["gate"] == "warn"
        else "the run stops there (gate=error)"
    )
    other += " in balanced accuracy" if job.order.plan.class_weights == "balanced" else ""
    found.append(
        f"gate, before the student trains: where the teacher is not better than {other} by two standard "
        f"errors of the paired difference, {then}"
    )
    stored = job.first(GATE)
    if stored and stored.stored:
        found.append(stored.artifact.json("gate.json")["text"])
    return [*found, *([f"this run will stop: {job.stop}"] if job.stop else [])]


def _largest(data: Artifact) -> tuple[str, float]:
    """(the class that most rows of validation have, its share); of data that are not prepared, those of the
    train part, which it is drawn from.
    """
    import numpy as np

    about = data.json("data.json")
    counts = about.get("train_per_class") or np.bincount(np.load(data.file("validation.labels.npy"))).tolist()
    which, share = chance.largest(counts)
    return about["classes"][which], share


def whereabouts(survey: Survey, job: _Job, teacher: PlannedStage) -> str:
    plan = job.order.plan
    if teacher.stored:
        return "in the store"
    origin = f"the checkpoint '{plan.checkpoint.file.paths[0]}'" if plan.checkpoint else "pretrained weights"
    if plan.teacher_pretrain is None:
        return f"{origin}, as it is"
    return f"{origin}, to be trained further" if plan.checkpoint else "not in the store and trained first"


def _known_accuracy(survey: Survey, teacher: PlannedStage, asked: PlannedStage | None) -> float | None:
    """On validation: as a stage has noted it, or measured now where the weights are there and it takes no
    longer than a few seconds.
    """
    for step, file in ((asked, "answers.json"), (teacher, "summary.json")):
        if (
            step
            and step.stored
            and (found := step.artifact.json(file).get("validation_accuracy")) is not None
        ):
            return found
    if survey.rehearsals and (
        teacher.stored or teacher.inputs["checkpoint"] or teacher.inputs["training"] is None
    ):
        return survey.rehearsals.accuracy(teacher)
    return None


def terms(survey: Survey, job: _Job) -> list[str]:
    """How strongly each term of the student's loss pulls at its first step."""
    students = [
        step
        for step in job.steps
        if step.stage == TRAIN and split_number(step.name)[0] == "student-train" and not step.until
    ]
    seen = [(step, norms_of(survey, step)) for step in students]
    if not seen:
        return []
    step, norms = next(((step, norms) for step, norms in seen if len(norms) > 1), seen[-1])
    if not step.stored and survey.rehearsals.of(step).black:
        return [
            (
                "not reported: the data are not prepared, and are too many to prepare for a plan; run "
                "stages=[teacher_pretrain] first"
            )
        ]
    if len(norms) < 2:
        return [f"one term ({', '.join(norms) or 'not logged'}): there is no ratio to tell"]
    size = step.inputs["training"].spec["batch_size"]
    how = "as logged when it ran" if step.stored else f"on a real batch of {size}{_of_teacher(survey, step)}"
    late = {} if step.stored else survey.rehearsals.of(step).late
    return [
        (
            f"gradient norms at the first step of {step.name}, {how}: "
            f"{', '.join(f'{name} {norm:.3g}' for name, norm in norms.items())}; {ratio(norms)}"
        ),
        *([f"weighted as at the last step, on the same batch: {ratio(late)}"] if late else []),
    ]


def ratio(norms: Mapping[str, float]) -> str:
    """ "labels : pool = 1 : 0.3"; the first that is not zero is 1."""
    unit = next((norm for norm in norms.values() if norm > 0), 1.0)
    return f"{' : '.join(norms)} = {' : '.join(f'{norm / unit:.3g}' for norm in norms.values())}"


def norms_of(survey: Survey, step: PlannedStage) -> dict[str, float]:
    if not step.stored:
        return survey.rehearsals.of(step).norms
    for record in step.artifact.lines("metrics.jsonl"):
        found = {
            name.partition("/")[2]: value for name, value in record.items() if name.startswith("gradient/")
        }
        if found:
            return found
    return {}


def _of_teacher(survey: Survey, step: PlannedStage) -> str:
    """Whose answers the batch has, of the rehearsal that stands for all stages of its kind."""
    step = survey.rehearsals.example(step)
    if not step.inputs.get("answers"):
        return ""
    asked = survey.steps[step.inputs["answers"].key]
    teachers = [survey.steps[teacher.key] for teacher in asked.inputs["teachers"]]
    if asked.stored or all(teacher.stored for teacher in teachers):
        return ", with a teacher of the store"
    if any(teacher.inputs.get("checkpoint") or teacher.inputs["training"] is None for teacher in teachers):
        return ", with the teacher's weights as they are given"
    return ", with an untrained teacher, as there is no other yet"


def rules(survey: Survey, job: _Job) -> list[str]:
    """The protocol of a run, which a comparison must agree on, in words."""
    followed, plan, counts = protocol(job.order, None), job.order.plan, job.data["counts"]
    found = [
        f"splits of {job.order.config['choices']['dataset']}, drawn by the seed: {counts['labelled']:,} "
        f"labelled, {counts['unlabelled']:,} in the pool, without labels, {counts['validation']:,} "
        f"validation, {counts['test']:,} test",
        f"selection: {followed['selection']}; the table shows the {followed['headline']} weights",
        f"test split: {followed['test']}",
        f"matched baseline: {followed['baseline'] or 'none (baseline=false)'}",
    ]
    if plan.duplicates == "drop":
        found.append(
            "equal pictures: copies are left out on the side of training, so there may be fewer rows than "
            "said here (dataset.duplicates=drop)"
        )
    if plan.rounds > 1:
        found.append(
            f"rounds: {plan.rounds}, of which "
            + ("the last counts" if plan.budget else "the best on validation counts")
        )
    if plan.assistants:
        found.append(
            f"assistants: {len(plan.assistants)} between teacher and student, each taught by the one before "
            "and trained as the student is"
        )
    return found
