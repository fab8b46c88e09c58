"""Settings that could never act in the run that they are typed for, such as a patience where nothing
validates: reported before any work.

Only what was typed is looked at: defaults, and what a chosen option brings along, may lie idle. Plain values
in, sentences out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kdx.core.checks import shown
from kdx.pipeline.recipes.checks import idle_gate
from kdx.pipeline.recipes.recipe import build_recipe
from kdx.store.component import Component
from kdx.training.length import length

TRAININGS = ("teacher_pretrain", "student_train")
VALIDATIONS = 20
"""How often a training validates, unless set otherwise: kdx.pipeline.stages.watch.VALIDATIONS, which a test
holds this to.
"""


def idle(
    config: Mapping[str, Any], typed: Iterable[str], rows: Mapping[str, int] | None = None
) -> dict[str, str]:
    """key -> why it cannot act, of the dotted keys that were typed.

    config: plain values that passed all other checks. rows: of each split, as far as they are known; without,
    the size that is asked for.
    """
    typed = set(typed)
    recipe = build_recipe(Component(config["recipe"]))
    found = [*_validation(config, rows), *recipe.idle(config), *_pool(config, rows)]
    for node in TRAININGS:
        found += _training(node, config[node])
    return {key: f"{key}={_value(config, key)} can never act: {why}" for key, why in found if key in typed}


def _value(config: Mapping[str, Any], key: str) -> str:
    node: Any = config
    for name in key.split("."):
        node = node[name]
    return shown(node, bare=True)


def _validation(config: Mapping[str, Any], rows: Mapping[str, int] | None) -> Iterator[tuple[str, str]]:
    """What waits for a look at the validation split."""
    if rows.get("validation") if rows else config["dataset"]["validation"] is not None:
        return
    why = (
        "it goes by the validation split, and this run has none: set "
        "dataset.validation=0.1, say, or leave it out"
    )
    for node in TRAININGS:
        yield from (
            (f"{node}.{key}", why)
            for key in ("patience", "target", "evaluate_every")
            if config[node][key] is not None
        )
    if config["round_patience"] is not None:
        yield "round_patience", why
    if config["headline"] == "best":
        yield "headline", why
    yield from idle_gate(config, why)


def _pool(config: Mapping[str, Any], rows: Mapping[str, int] | None) -> Iterator[tuple[str, str]]:
    if config["student_train"]["labelled_share"] is not None and rows and not rows.get("unlabelled"):
        yield (
            "student_train.labelled_share",
            (
                "this run has no pool, so a batch is all labelled: set "
                "dataset.labelled=0.1, say, or leave it out"
            ),
        )
    if config["teacher_pretrain"]["labelled_share"] is not None:
        yield (
            "teacher_pretrain.labelled_share",
            "the teacher learns from labelled examples alone: leave it out",
        )
    if config["pseudo_label"]["mode"] != "auto":
        yield (
            "pseudo_label.limit",
            (
                f"it is what mode=auto goes by, and pseudo_label.mode={config['pseudo_label']['mode']}: "
                "leave one of them out"
            ),
        )


def _training(node: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the optimiser, the schedule or the length of a training leaves without effect."""
    if spec["optimiser"] == "adamw":
        yield (
            f"{node}.momentum",
            f"it is for sgd, and {node}.optimiser=adamw: set {node}.optimiser=sgd, or leave it out",
        )
    if spec["schedule"] != "step":
        yield (
            f"{node}.milestones",
            (
                f"they are for the schedule step, and {node}.schedule={spec['schedule']}: set "
                f"{node}.schedule=step, or leave them out"
            ),
        )
    if spec["schedule"] == "one_cycle" and spec["warmup"] != 0:
        yield (
            f"{node}.warmup",
            f"{node}.schedule=one_cycle has a warm-up of its own: leave it out, or choose another schedule",
        )
    steps, unit = length(spec, node)
    if unit != "steps":
        return
    if spec["schedule"] != "one_cycle" and isinstance(spec["warmup"], int) and spec["warmup"] >= steps:
        yield (
            f"{node}.warmup",
            f"the training has {steps} steps and would end before the full rate: set it lower",
        )
    looks = math.ceil(steps / (spec["evaluate_every"] or max(1, steps // VALIDATIONS)))
    if spec["patience"] is not None and spec["patience"] >= looks:
        yield (
            f"{node}.patience",
            f"the training looks at validation {looks} times in all: set it lower, or {node}.evaluate_every",
        )
