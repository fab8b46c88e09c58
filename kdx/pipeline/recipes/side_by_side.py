"""The student alone, which reads nothing of a teacher, trained meanwhile by a process of its own where that
is sooner done. No torch unless a stage has to run.

On two cores a small network gains little from the second one, and two trainings gain all of it; a large one
would wait for the half of the cores that it gave away. So the seconds of a step that the probe has measured
are compared, at the threads that each would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kdx.core.roles import control_stage
from kdx.pipeline.pace import fewest, long_training, step_seconds, steps_of
from kdx.pipeline.recipes.asking import how_to_ask
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.teachers import member_inputs
from kdx.pipeline.stages import PRETRAIN, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.store import Miss, Store
from kdx.store.work import PLANNED
from kdx.training.runtime import Runtime, share_of_cores

START = 3.0
"""Seconds from the start of a process to its first step."""
WORTH, WORTH_SHARE = 1.0, 0.05
"""Seconds, and the share of all, that must be saved: by going side by side at all, and by going on so beside
the student."""
_IN_TURN = "(device.side_by_side=false: in turn)"
_UNTIMED = (
    "trains beside the teacher, in a process of its own, where that is sooner done, which the run finds out "
    f"by a few timed steps {_IN_TURN}"
)


@dataclass(frozen=True)
class Lanes:
    """What a run's trainings take, in seconds, in turn and side by side. whole: at all threads that each can
    use; part: at those that are left, or that the process beside has. after: of all trainings of the student
    together."""

    teacher: tuple[float, float]
    alone: tuple[float, float]
    after: tuple[float, float]

    def choose(self, may_last: bool) -> str:
        """ "" (in turn), "teacher" (the student alone is made beside the teacher, and waited for), "student"
        (beside both). may_last: whether the last is allowed."""
        (teacher, slowed), (alone, beside), (after, after_slowed) = self.teacher, self.alone, self.after
        took = {
            "": teacher + alone + after,
            "teacher": max(slowed, START + beside) + after,
            "student": max(slowed + after_slowed, START + beside),
        }
        worth = max(WORTH, WORTH_SHARE * took[""])
        # what the gate says comes late where the student does not wait for it
        best = "student" if may_last and took["teacher"] - took["student"] >= worth else "teacher"
        return best if took[""] - took[best] >= worth else ""


@dataclass(frozen=True)
class SideBySide:
    """What the student alone is trained beside, see `Lanes.choose`, with how many threads. leaves: those for
    the other trainings. settled: the run's runtime."""

    lane: str
    threads: int
    leaves: int
    settled: Runtime

    def __str__(self) -> str:
        beside = "teacher and student" if self.lane == "student" else "teacher"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"trains beside the {beside}, in a process of its own with {threads} {_IN_TURN}"


def begin_beside(store: Store, experiment: Experiment, alone: Mapping[str, Any], students: int) -> None:
    """Begins the student alone in a process of its own, where that is sooner done; of a run that is planned
    it says so. alone: the inputs of its stage. students: how many trainings of the student may go on before
    it is needed."""
    if not (store.beside or store.asked) or not _may_begin(store, alone):
        return
    name = control_stage("baseline")
    try:
        found = choose_beside(store, experiment, alone, students)
    except Miss:
        store.listener.note(name, _UNTIMED, PLANNED)
        return
    if found and store.asked:
        store.listener.note(name, str(found), PLANNED)
    elif found and store.beside and (store.runtime.side_by_side is True or _room()):
        store.beside.leaves, store.beside.lasts = found.leaves, found.lane == "student"
        store.beside.patience = found.settled.wait_seconds
        store.listener.note(name, str(found), "info")
        store.begin_beside(TRAIN, replace(found.settled, threads=found.threads), name, **alone)


def _may_begin(store: Store, alone: Mapping[str, Any]) -> bool:
    """Whether it is asked for, and has to be made: all that can be said without torch."""
    asked: Runtime = store.runtime
    if asked.side_by_side is False or asked.gpus > 1:
        return False
    if store.until is not None and TRAIN.node not in store.until:
        return False
    if asked.side_by_side == "auto":
        several = asked.threads == "auto" and share_of_cores() > 1
        if not (several and asked.device in ("auto", "cpu") and long_training(TRAIN, alone)):
            return False
    return not store.has_any(TRAIN, **alone)


def choose_beside(
    store: Store, experiment: Experiment, alone: Mapping[str, Any], students: int
) -> SideBySide | None:
    """None: in turn. See `begin_beside`. Raises Miss where only the probe can tell, and nothing runs here."""
    settled, data = store.runtime.settle(), alone["data"]
    wanted, auto = store.runtime.side_by_side, store.runtime.threads == "auto"
    if settled.device != "cpu" and wanted == "auto":
        return None
    whole = int(settled.threads)
    half = max(1, whole // 2) if auto else whole
    may_last = students > 0 and experiment.pseudo_label["gate"] != "error"
    if wanted is True:
        lane, threads = ("student" if may_last else "teacher"), half
    else:
        pace = step_seconds(store, alone)
        if (threads := fewest(pace, half) or 0) == 0:
            return None  # a network that could not be tried, or so large that a part of them was not
        left = whole - threads
        steps = steps_of(alone)
        lanes = Lanes(
            _teacher_seconds(store, experiment, data, whole, left),
            (steps * _took(pace, whole), steps * pace[threads]),
            (students * steps * _took(pace, whole), students * steps * _took(pace, left)),
        )
        lane = lanes.choose(may_last and not how_to_ask(data, experiment).live)
    return SideBySide(lane, threads, (whole - threads if auto else whole) or 1, settled) if lane else None


def _took(seconds: Mapping[int, float], most: int) -> float:
    """A step, by as many of these threads as it will get."""
    threads = fewest(seconds, most)
    return min(seconds.values()) if threads is None else seconds[threads]


def _teacher_seconds(
    store: Store, experiment: Experiment, data: Artifact, whole: int, left: int
) -> tuple[float, float]:
    """What the teachers that are not there yet take, at all threads and at those that are left."""
    found = [0.0, 0.0]
    for teacher in experiment.teachers:
        inputs = member_inputs(store, data, experiment, teacher, None)
        if not long_training(PRETRAIN, inputs) or not (
            teacher.through or not store.has_any(PRETRAIN, **inputs)
        ):
            continue
        if not (pace := step_seconds(store, inputs)):
            return float("inf"), float("inf")
        for place, most in enumerate((whole, left)):
            found[place] += steps_of(inputs) * _took(pace, most)
    return found[0], found[1]


def _room() -> bool:
    """Whether this machine could hold as much again as this process holds."""
    from kdx.training.memory import Peak

    peak = Peak("cpu")
    free, held = peak.free(), peak.bytes()
    return free is None or held is None or free > 3 * held
