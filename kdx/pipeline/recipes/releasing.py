"""What the recipe `private` checks before work: what reads or makes private rows, what a release costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.data.text.vocabulary import words_to_name
from kdx.methods.private_budget import affordable, epsilon_spent, noise_within
from kdx.methods.private_votes import VoteNoise
from kdx.pipeline.recipes.experiment import Experiment, TeacherSetup
from kdx.pipeline.recipes.recipe import Request
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.resolve import from_own_package

_OTHERS = ("ceiling", "validation_labels")
"""Controls that learn from labels which are no part of this."""


def too_dear(noise: VoteNoise, queries: int, whole: float, delta: float, beside: float = 0.0) -> str | None:
    """What a budget affords, where it is less than these queries cost; None where it suffices. beside: what
    is spent of it by other releases."""
    cost, budget = epsilon_spent(noise, queries, delta), whole - beside
    if cost <= budget:
        return None
    if budget <= 0:
        return (
            f"recipe.epsilon={whole:g} is less than what the made-up rows cost, {beside:g}, and {queries} "
            f"queries cost {cost:.3g} more: lower pool.epsilon, or raise the budget"
        )
    few, wide = affordable(noise, budget, delta), noise_within(noise, queries, budget, delta)
    threshold = f" with recipe.threshold_sigma={_up(wide.threshold_sigma)}" if wide.threshold_sigma else ""
    fewer = f"it affords {few}: set recipe.queries={few}, or" if few else "it affords none: set"
    parts = f"{cost + beside:.3g}: the made-up rows cost {beside:.3g}, and" if beside else "what"
    return (
        f"recipe.epsilon={whole:g} is less than {parts} {queries} queries cost{'' if beside else ','} "
        f"{cost:.3g} at delta {delta:g} with {noise.in_words()}; {fewer} "
        f"recipe.sigma={_up(wide.sigma)}{threshold}"
    )


def _up(value: float) -> str:
    """To three figures, never less."""
    shown = float(f"{value:.3g}")
    return f"{shown if shown >= value else float(f'{value * 1.005:.3g}'):g}"


def made_pool(experiment: Experiment) -> Component | None:
    """What makes the pool; None: it is no made-up one."""
    return experiment.pool.source if experiment.pool and experiment.pool.makes else None


def spent_beside(experiment: Experiment) -> tuple[float, float]:
    """(epsilon, delta) that made-up rows cost beside the votes."""
    costs = [maker.released() or (0.0, 0.0) for maker in _makers(experiment)]
    return sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)


def seeds_beside(experiment: Experiment) -> list[bool]:
    """Of each that makes rows of private ones with noise, whether the noise has a seed, so that it can be
    drawn again and hides nothing from whoever knows it."""
    charged = [maker for maker in _makers(experiment) if any(maker.released() or ())]
    return [getattr(maker, "noise_seed", None) is not None for maker in charged]


def _makers(experiment: Experiment) -> list[Any]:
    return [maker.build() for maker in (experiment.made_up, made_pool(experiment)) if maker]


def wrong_parts(asked: Request, attack: bool) -> Iterator[str]:
    """Settings that would let more of the private rows reach the student than the released labels."""
    experiment, choices = asked.experiment, asked.config["choices"]
    yield from _wrong_lesson(asked)
    if asked.classes is not None and not asked.classes:
        yield (
            "recipe=private counts votes for classes, and an answer of this data set is none: choose one "
            "with classes, or leave recipe= out"
        )
    if experiment.moving or experiment.select or experiment.rounds != 1:
        yield (
            "recipe=private asks once, about rows drawn at random: leave select=, rounds= and "
            "teacher.update= out"
        )
    if experiment.duplicates != "warn":
        yield (
            f"recipe=private keeps every public row whatever the private rows are, and dataset.duplicates="
            f"{experiment.duplicates} looks at both: leave it out"
        )
    public = words_to_name(experiment.dataset.spec) if experiment.pool else None
    if public and not made_pool(experiment):
        yield (
            "recipe=private makes no vocabulary of private texts, and those of pool="
            f"{choices.get('pool')} are brought to the form of these: name a vocabulary that is public with "
            f"{public}"
        )
    makers = {"made_up": experiment.made_up, "pool": made_pool(experiment)}
    for group, maker in makers.items():
        if maker and maker.build().released() is None:
            yield (
                f"recipe=private makes no public rows of private ones, as {group}={choices.get(group)} "
                "would: leave it out, or choose pool=synthetic_table"
            )
    if attack and (experiment.made_up or made_pool(experiment)):
        yield (
            "recipe.attack=true needs public rows whose labels are known, and made-up ones have none: leave "
            "it out"
        )
    for role in _OTHERS:
        if role in experiment.controls:
            yield (
                f"{role}=true is a control of other recipes; that of this one is the student on as many true "
                f"public labels (baseline=true): set {role}=false"
            )
    if attack and "baseline" not in experiment.controls:
        yield "recipe.attack=true learns its attack on the student of true public labels: set baseline=true"


def learns(teacher: TeacherSetup) -> bool:
    """Whether it learns from the rows that it is given, by steps or at once."""
    fitted = teacher.fitted and not teacher.finished
    return teacher.class_map is None and (fitted or teacher.training is not None)


def _wrong_lesson(asked: Request) -> Iterator[str]:
    """Of the loss, the teacher and what the student begins with."""
    experiment, loss = asked.experiment, asked.experiment.loss
    if loss and not from_own_package(loss.target) and declared(loss.target, "reads", ("answers",)):
        yield (
            "recipe=private gives the student released labels and no answers of a teacher, and "
            f"loss={asked.config['choices'].get('loss')} learns from those: choose loss=supervised, say"
        )
    teachers = experiment.teachers
    if len(teachers) > 1:
        yield "recipe=private trains one teacher a shard: name one, and set recipe.shards"
    elif teachers and not learns(teachers[0]):
        yield (
            "recipe=private trains its teachers on shards of the private rows, and teacher="
            f"{experiment.teacher_name} is taken as it is: set teacher_pretrain.epochs=5, say, or choose "
            "another"
        )
    elif teachers and teachers[0].checkpoint:
        yield (
            "recipe=private counts a private row as one vote, and weights in a file may have learned all of "
            "them before: give a network that is pretrained by its own `weights=` from public data, or leave "
            "teacher.checkpoint= out"
        )
    if experiment.student_checkpoint:
        yield (
            "recipe=private promises nothing of weights in a file, which may have learned the private rows: "
            "give a network that is pretrained by its own `weights=` from public data, or leave "
            "student.checkpoint= out"
        )
    if experiment.init and declared(experiment.init.target, "of", "teacher"):
        yield (
            "recipe=private lets no weights of a teacher reach the student, whose guarantee is about labels "
            "alone: leave init= out"
        )


def wrong_rows(rows: Mapping[str, int], shards: int, queries: int) -> Iterator[str]:
    """rows: of each split, empty where they are not known."""
    if not rows:
        return
    if not rows["unlabelled"]:
        yield (
            "recipe=private labels public rows, the pool, and this run has none: set dataset.labelled=0.5, "
            "say: these are the private rows, and the rest is public"
        )
    elif queries > rows["unlabelled"]:
        yield (
            f"recipe.queries={queries} asks about more public rows than the pool has: set "
            f"recipe.queries={rows['unlabelled']} at most"
        )
    if shards * 2 > rows["labelled"]:
        yield (
            f"recipe.shards={shards} are too many for {rows['labelled']} private rows, as each teacher needs "
            f"two classes: set recipe.shards={max(2, rows['labelled'] // 10)} at most"
        )
