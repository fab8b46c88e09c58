"""proxy: what a teacher makes of a pool that is of another data set, before a student learns from it: three
numbers that may warn early, and estimates of how often it is right there. None of them needs a label of the
pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.core.task import Categorical
from kdx.core.trees import joined, moved, tree
from kdx.core.types import Answers, Frozen, Split
from kdx.data.streams import sequential
from kdx.methods.features.mmd import median_of_pairs, mmd
from kdx.methods.temperature import fit_temperature
from kdx.models.tap import one_vector, penultimate
from kdx.pipeline.stages.aggregating import aggregate_in
from kdx.pipeline.stages.arrays import build_task, need_split, open_split, part_drawn
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.tasks.pseudo_labels import less_sure
from kdx.tasks.without_labels import (
    KNOWN_ERROR,
    confidences,
    estimated_shares,
    estimates_in_words,
    mean_confidence,
)
from kdx.training.runtime import Runtime

ROWS_LOOKED_AT = 1000
"""Rows of each split at most, drawn at random and always the same."""
LEAST_NAMED = 0.75
"""Of the classes that a teacher uses on validation, the share below which a pool is warned of."""


def run(
    work: Work, runtime: Runtime, *, data: Artifact, teachers: Sequence[Artifact], answers: Artifact
) -> None:
    """Files: proxy.json {"n", "validation_n", "classes", "classes_used" and "confidence" of "pool" and
    "validation" (None without that split), "mmd" between the features of both, "validation_right" (None
    without it), "estimates" (kdx.tasks.without_labels) of how often it is right on the pool, "warn" whether
    it is warned of, "few" and "less_sure" for which of the two reasons, "temperature" that would be
    fitted on validation to answers as they are (None without it, or where they have one already), "text"}.

    answers: what the student learns from: probabilities are those of the teacher that answers there, several
    made one and with the temperature that was given or fitted; features are those of the first. classes_used:
    exp(H) of the shares of the classes that they name, from 1 to their number. confidence: the mean
    probability of the class that is named. mmd: the biased estimate of MMD^2 between what the last linear
    layer sees of pool and validation, with the widths of kdx.methods.features.mmd; None where no layer of it
    can be read."""
    about = data.json("data.json")
    task = build_task(about)
    if not isinstance(task, Categorical):
        raise UserError("what a teacher makes of a proxy is known of classes only")
    validation = open_split(data, "validation", runtime)
    shown = [part_drawn(need_split(data, "unlabelled", runtime), ROWS_LOOKED_AT)]
    shown += [] if validation is None else [part_drawn(validation, ROWS_LOOKED_AT)]
    told = answers.json("answers.json")
    said = _of_teachers(teachers, task, shown, runtime, told)
    temperature = float(told.get("temperature", 1))
    pool, *rest = [(task.probs(task.tempered(one, temperature)), features) for one, features in said]
    known = rest[0] if rest else None
    right = None if known is None else known[0].max(1).indices == moved(shown[1].known, "cpu")
    sure = None if known is None else confidences(known[0])
    found: dict[str, Any] = {
        "n": len(pool[0]),
        "validation_n": len(known[0]) if known else 0,
        "classes": len(task.classes),
        "classes_used": {"pool": classes_used(pool[0]), "validation": known and classes_used(known[0])},
        "confidence": {"pool": _sure(pool[0]), "validation": known and _sure(known[0])},
        "mmd": features_apart(pool[1], known[1]) if known else None,
        "validation_right": None if right is None else round(float(right.double().mean()), 6),
        "estimates": estimated_shares(confidences(pool[0]), sure, right),
    }
    if known and temperature == 1:
        found["temperature"] = round(fit_temperature(task, said[1][0], moved(shown[1].known, "cpu")), 4)
    found |= reasons_of(found)
    found |= {"warn": found["few"] or found["less_sure"], "text": text_of(found)}
    work.write_json("proxy.json", found)
    work.note(found["text"], "warning" if found["warn"] else "info")


def reasons_of(found: dict[str, Any]) -> dict[str, bool]:
    """Whether the teacher names too few classes there ("few"), and is less sure than on validation
    ("less_sure"): either is warned of."""
    used, sure = found["classes_used"], found["confidence"]
    known = sure["validation"]
    return {
        "few": bool(used["pool"] < LEAST_NAMED * (used["validation"] or found["classes"])),
        "less_sure": bool(known and less_sure(sure["pool"], found["n"], known, found["validation_n"])),
    }


def _of_teachers(
    teachers: Sequence[Artifact],
    task: Categorical,
    shown: Sequence[Split],
    runtime: Runtime,
    about: Mapping[str, Any],
) -> list[tuple[Answers, Tensor | None]]:
    """Of each split what the teachers answer together, without a temperature, and the features of the first.
    about: an answers.json."""
    combine = aggregate_in(about, task)
    found: list[list[tuple[Answers, Tensor | None]]] = [[] for _ in shown]
    for teacher in teachers:
        network = Frozen(runtime.place(open_network(teacher))).network
        for several, split in zip(found, shown, strict=True):
            several.append(answers_and_features(network, split, runtime))
    return [
        (combine([a for a, _ in several]) if len(several) > 1 else several[0][0], several[0][1])
        for several in found
    ]


@torch.inference_mode()
def answers_and_features(network: nn.Module, split: Split, runtime: Runtime) -> tuple[Answers, Tensor | None]:
    """(its answers to the clean rows, (N, D) what the last linear layer sees, None where there is none)"""
    answers, features = [], []
    try:
        tap = penultimate(network)
    except UserError:
        tap = None
    for rows in sequential(split, batch=256, views=None, view=0, device=torch.device(runtime.device)):
        answers.append(moved(tree(lambda leaf: leaf.float(), network(rows.views["main"])), "cpu"))
        if tap is not None:
            features.append(one_vector(tap.take()))
    if tap is not None:
        tap.close()
    return joined(answers), torch.cat(features) if features else None


def classes_used(probs: Tensor) -> float:
    """(N, K) -> in [1, K]: exp of the entropy of how often each class is the likeliest. K: all equally
    often."""
    shares = torch.bincount(probs.max(1).indices, minlength=probs.shape[1]) / len(probs)
    return round(float(torch.special.entr(shares).sum().exp()), 4)


def _sure(probs: Tensor) -> float:
    return round(mean_confidence(confidences(probs)), 6)


def features_apart(one: Tensor | None, other: Tensor | None) -> float | None:
    """(N, D), (M, D) -> MMD^2, with kernels of half, one and two times the median squared distance."""
    if one is None or other is None or len(one) < 2 or len(other) < 2:
        return None
    median = median_of_pairs(torch.cat([one, other]))
    return round(float(mmd(one, other, [0.5 * median, median, 2 * median])), 6)


def text_of(found: dict[str, Any]) -> str:
    used, certain = found["classes_used"], found["confidence"]
    beside = "" if used["validation"] is None else f" (on validation {used['validation']:.1f})"
    than = "" if certain["validation"] is None else f" (there {certain['validation']:.0%})"
    far = "" if found["mmd"] is None else f", and MMD² between their features is {found['mmd']:.3f}"
    right = found["validation_right"]
    there = "" if right is None else f" (on validation it is right of {right:.0%})"
    return (
        f"on this pool the teacher names {used['pool']:.1f} of {found['classes']} classes{beside}, and is "
        f"{certain['pool']:.0%} sure on average{than}{far}; the fewer classes it names, the less a student "
        f"learns there. ESTIMATED, without a label, it is right there of "
        f"{estimates_in_words(found['estimates'])}{there}; {KNOWN_ERROR}"
    )
