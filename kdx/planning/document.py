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
from kdx.core import path_checks
from kdx.core.roles import control_stage
from kdx.pipeline.foretelling import PlannedStage, Rehearsed, foretelling_of
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import build_recipe
from kdx.pipeline.stages import PREPARE
from kdx.planning.dry_run import BEYOND, Kinds, forecast, unless_unforeseen
from kdx.runs.run import rules
from kdx.store.artifact import Artifact
from kdx.store.stage import Stage, split_number
from kdx.training.length import STAGES


@dataclass(frozen=True)
class _Job:
    """One run, foreseen: a kdx.pipeline.foretelling.PlannedRun. end: why nothing is said of further stages,
    None: there are none. noted: what its recipe says of how they go.
    """

    words: list[str]
    order: Order
    steps: list[PlannedStage]
    end: str | None
    noted: list[str]
    survey: Survey

    def first(self, *stages: Stage) -> PlannedStage | None:
        return next((step for step in self.steps if step.stage in stages), None)

    def rehearsed(self, step: PlannedStage) -> Rehearsed:
        return self.survey.rehearsals.of(step)

    def example(self, step: PlannedStage) -> PlannedStage:
        return self.survey.rehearsals.example(step)

    @property
    def stop(self) -> str | None:
        """Why it will end early, if that is known."""
        return None if self.end and self.end.startswith(BEYOND) else self.end

    @property
    def experiment(self) -> Experiment:
        return self.order.experiment

    @property
    def choices(self) -> Mapping[str, Any]:
        return self.order.config["choices"]

    @property
    def all_steps(self) -> Mapping[str, PlannedStage]:
        return self.survey.steps

    @property
    def bench(self) -> Any:
        return self.survey.rehearsals and self.survey.rehearsals.bench


class Survey:
    """The runs of one command line, and a rehearsal of each kind of stage that is missing."""

    def __init__(
        self, jobs: Iterable[tuple[Sequence[str], Order]], scratch: Path, tell: Callable[[str], None]
    ):
        described: dict[str, Any] = {}
        self.jobs = []
        for words, order in jobs:
            steps, end = forecast(order, scratch, described, noted := [])
            self.jobs.append(_Job(list(words), order, steps, end, noted, self))
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

        made = Rehearsals(self.steps, self.kinds, scratch, self.jobs[0].order.runtime, tell)
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
        seen, foretelling = self.rehearsals.of(step), foretelling_of(step.stage)
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
            "seconds": seen.seconds(unless_unforeseen(foretelling.amounts, None, step, self.steps)),
            "memory": seen.memory,
            "disk": seen.beside + unless_unforeseen(foretelling.disk, 0, step, self.steps, seen.weights),
            "work": unless_unforeseen(foretelling.in_words, "unknown", step, self.steps),
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
    described = _runs(survey, entries)
    order = survey.jobs[0].order
    states = [step.state for step in survey.steps.values()]
    missing = [entries[step.key] for step in survey.missing]
    free = shutil.disk_usage(path_checks.existing(order.store)).free
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
        "stops": gathered(survey, lambda job: [job.stop] if job.stop else []),
        "beside": gathered(survey, lambda job: job.noted),
        "checks": gathered(survey, _checked),
        "teacher": gathered(survey, lambda job: _said(job, "teacher")),
        "loss": gathered(survey, lambda job: _said(job, "loss")),
        "protocol": gathered(survey, _rules),
        "nouns": nouns(survey.jobs),
        "jobs": described,
        "stages": entries,
    }


def _runs(survey: Survey, entries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is said of each run; a stage counts for the first that needs it."""
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
    return described


def total(entries: Iterable[Mapping[str, Any]]) -> float:
    """Seconds of those that were timed."""
    return sum(entry["seconds"] or 0.0 for entry in entries)


def gathered(survey: Survey, section: Callable[[_Job], list[str]]) -> list[dict[str, Any]]:
    """What is said of each job, as of `by_sentence`."""
    return by_sentence(section(job) for job in survey.jobs)


def by_sentence(said: Iterable[Iterable[str]]) -> list[dict[str, Any]]:
    """Each sentence once, with the numbers of the jobs that it is true of: [{"text", "jobs"}]."""
    found: dict[str, list[int]] = {}
    for number, sentences in enumerate(said):
        for text in dict.fromkeys(sentences):
            found.setdefault(text, []).append(number)
    return [{"text": text, "jobs": jobs} for text, jobs in found.items()]


def _said(job: _Job, section: str) -> list[str]:
    """What the stages of a run say for one section (see Foretelling), in order."""
    return [
        text
        for step in job.steps
        for text in unless_unforeseen(getattr(foretelling_of(step.stage), section), [], job, step)
    ]


def _checked(job: _Job) -> list[str]:
    """What kdx.config.validate looked at (it raises UserErrors otherwise), and what was settled by it."""
    found = _said(job, "checks")
    if all(step.stored for step in job.steps) and not job.stop:
        return [*found, "everything is in the store: nothing has to be tried"]
    found += _said(job, "tried")
    return found if job.stop == job.end else [*found, str(job.end)]


def _rules(job: _Job) -> list[str]:
    """The protocol of a run, which a comparison must agree on, in words."""
    prepared = job.first(PREPARE)
    counts = prepared.artifact.json("data.json")["counts"] if prepared else {}
    return [
        *_said(job, "splits"),
        *rules(job.order, counts.get("validation")),
        *_said(job, "protocol"),
        *build_recipe(job.order.recipe).protocol(job.experiment),
    ]


def nouns(jobs: Iterable[_Job]) -> dict[str, str]:
    """What several of a stage are counted as, by the run's name of it: node by node, then the controls."""
    found: dict[str, str] = {}
    controls: dict[str, str] = {}
    for job in jobs:
        for step in sorted(job.steps, key=lambda step: STAGES.index(step.stage.node or STAGES[0])):
            stem = split_number(step.name)[0]
            found |= {stem: noun} if (noun := foretelling_of(step.stage).noun(step.name)) else {}
        controls |= {
            control_stage(role): c.control.noun or role for role, c in job.experiment.controls.items()
        }
    return {**found, **controls}
