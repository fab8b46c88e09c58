"""The student learns from rows that it has gone on with itself, in segments of one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kdx.core.checks import integer, number
from kdx.core.errors import UserError
from kdx.core.rollouts import Rolling
from kdx.pipeline.controls.control import altered
from kdx.pipeline.recipes.asking import Asking, ToAnswer, ask_teacher, how_to_ask, rows_looked_at
from kdx.pipeline.recipes.checks import taught_splits
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe, Request
from kdx.pipeline.recipes.steps import beginning, student_alone, taught_by, train_controls
from kdx.pipeline.stages import ROLLOUT, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.declared import declared
from kdx.store.stage import subseed
from kdx.store.store import Store
from kdx.training.length import by_round, length, shares, total_steps, used


class OnPolicy(Recipe):
    """One training in segments (Agarwal et al. 2023, arXiv 2306.13649): before each but the first the student
    so far goes on with the beginnings of rows, the teacher answers what came of it, and the student learns
    from that with the optimiser and the schedule with which it had stopped.

    segments: how many. on_policy: the share of the rows that a segment shows which the student went on with,
    in [0, 1]; 0: none, and then the weights are those of `distil`, bit for bit. prompt, temperature: see
    kdx.core.rollouts.Rolling.
    """

    def __init__(self, *, segments: int, on_policy: float, prompt: int | float, temperature: float):
        self.segments = integer("recipe.segments", segments, low=1)
        self.on_policy = number("recipe.on_policy", on_policy, low=0, high=1)
        self.rolling: Rolling = Rolling(prompt, temperature)

    def run(self, store: Store, experiment: Experiment) -> None:
        data, teachers, inputs = taught_by(store, experiment)
        ends = self._ends(data, experiment)
        asking = self._first_asking(data, experiment, ends[0])
        answers = asking.answers(store, data, teachers, "pseudo-label")
        student_alone(store, experiment, inputs, answers)
        lesson = {**inputs, **asking.lesson(answers, teachers), **beginning(experiment, teachers)}
        made: Artifact | None = None
        for segment, end in enumerate(ends, 1):
            if made and self.on_policy:
                part = (segment, ends[segment - 2], end)
                lesson |= self._rolled(store, experiment, asking, {**inputs, "student": made}, teachers, part)
            going = {"onward": made} if made else {}
            if segment < len(ends):
                made = store.run(TRAIN, name=f"{TRAIN.name}-{segment}", **lesson, **going, stop=end)
            else:
                store.run(TRAIN, name="student-train", **lesson, **going)
        train_controls(store, experiment, inputs)

    def _ends(self, data: Artifact, experiment: Experiment) -> list[int]:
        """The step behind each segment's last."""
        spec, counts = experiment.student_train.spec, data.json("data.json")["counts"]
        rows = used(counts, spec["rows"])
        steps = total_steps(spec, rows["labelled"] + rows["unlabelled"], "student_train")
        if self.segments > steps:
            raise UserError(self._too_many(steps))
        sizes = by_round(steps, self.segments)
        return [sum(sizes[:segment]) for segment in range(1, self.segments + 1)]

    def _too_many(self, steps: int) -> str:
        return (
            f"recipe.segments={self.segments} cut a training of {steps} steps, and each has one at "
            f"least: set recipe.segments={steps} at most, or a longer training (student_train.steps)"
        )

    def _first_asking(self, data: Artifact, experiment: Experiment, end: int) -> Asking:
        """Of the rows as they are, which without rollouts all segments show, else the first alone."""
        asking = how_to_ask(data, experiment)
        if not self.on_policy or self.segments == 1:
            return asking
        first = altered(experiment.student_train, length=f"{end} steps", epochs=None, steps=None)
        return replace(asking, looked_at=rows_looked_at(data, replace(experiment, student_train=first)))

    def _rolled(
        self,
        store: Store,
        experiment: Experiment,
        asking: Asking,
        inputs: Mapping[str, Any],
        teachers: list[Artifact],
        part: tuple[int, int, int],
    ) -> dict[str, Any]:
        """What a segment learns from in place of the rows as they are. part: its number, its first step and
        the first behind it."""
        segment, start, end = part
        data, counts = inputs["data"], inputs["data"].json("data.json")["counts"]
        splits = [name for name in dict.fromkeys(taught_splits(experiment)) if counts.get(name)]
        rolled = store.run(
            ROLLOUT,
            name=f"{ROLLOUT.name}-{segment}",
            data=data,
            network=inputs["student"],
            training=inputs["training"],
            splits=splits,
            steps=[start, end],
            share=self.on_policy,
            rolling=self.rolling.document(),
            seeds={"views": inputs["views_seed"], "rollout": subseed(experiment.seed, "rollout")},
        )
        if asking.live:
            return {"data": rolled}
        answers = ask_teacher(
            store,
            rolled,
            teachers,
            experiment,
            asking.views,
            name=f"pseudo-label-{segment}",
            which=ToAnswer(pool=False, looked_at=shown_between(data, experiment, start, end), only=rolled),
        )
        return {"data": rolled, "answers": answers}

    def errors(self, asked: Request) -> Iterator[str]:
        yield from super().errors(asked)
        experiment = asked.experiment
        if experiment.loss and not declared(experiment.loss.target, "reads"):
            yield (
                "recipe=on_policy lets the teacher answer what the student goes on with, and "
                f"loss={asked.config['choices']['loss']} learns from no teacher: choose another loss, such "
                "as kd, or leave recipe= out"
            )
        steps = _steps_typed(experiment)
        if steps is not None and self.segments > steps:
            yield self._too_many(steps)
        if self.segments == 1 and self.on_policy:
            yield (
                "recipe.segments=1 has no later segment whose rows the student could go on with: set "
                "recipe.segments=4, say, or recipe.on_policy=0"
            )
        if experiment.rounds != 1 or experiment.select:
            yield (
                "recipe=on_policy cuts one training over all rows into segments: leave rounds= and select= "
                "out, and set recipe.segments"
            )

    def protocol(self, experiment: Experiment) -> list[str]:
        share = f"{100 * self.on_policy:g}% of the rows that each but the first shows are gone on with by the"
        return [f"segments: {self.segments}, of one training; {share} student so far"]


def _steps_typed(experiment: Experiment) -> int | None:
    """Steps of the student's training where they hang on no number of rows."""
    if not experiment.student_train:
        return None
    count, unit = length(experiment.student_train.spec, "student_train")
    return int(count) if unit == "steps" else None


def shown_between(data: Artifact, experiment: Experiment, start: int, end: int) -> dict[str, int]:
    """split -> how many of its rows these steps show at most, of splits of which they do not show all."""
    spec, counts = experiment.student_train.spec, data.json("data.json")["counts"]
    seen = {
        name: count
        for name, count in used(counts, spec["rows"]).items()
        if count and name in taught_splits(experiment)
    }
    batch = shares(spec["batch_size"], seen, spec["labelled_share"])
    return {
        name: most for name in batch if (most := min(seen[name], (end - start) * batch[name])) < counts[name]
    }
