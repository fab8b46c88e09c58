"""proxy: what a teacher makes of a pool that is of another data set, before a student learns from it: three
numbers that may warn early. None of them needs a label of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.core.task import Categorical
from kdx.core.types import Frozen, Split
from kdx.data.streams import sequential
from kdx.methods.features.mmd import median_of_pairs, mmd
from kdx.models.tap import penultimate
from kdx.pipeline.stages.arrays import build_task, need_split, open_split, part_drawn
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime

ROWS_LOOKED_AT = 1000
"""Rows of each split at most, drawn at random and always the same."""
LEAST_NAMED = 0.75
"""Of the classes that a teacher uses on validation, the share below which a pool is warned of."""


def run(work: Work, runtime: Runtime, *, data: Artifact, teachers: Sequence[Artifact]) -> None:
    """Files: proxy.json {"n", "validation_n", "classes", "classes_used" and "confidence" of "pool" and
    "validation" (None without that split), "mmd" between the features of both, "text"}.

    classes_used: exp(H) of the shares of the classes that the (first) teacher names, from 1 to their number.
    confidence: the mean probability of the class that it names. mmd: the biased estimate of MMD^2 between
    what its last linear layer sees of pool and validation, with the widths of
    kdx.methods.features.mmd; None where no layer of it can be read."""
    about = data.json("data.json")
    task = build_task(about)
    if not isinstance(task, Categorical):
        raise UserError("what a teacher makes of a proxy is known of classes only")
    network = Frozen(runtime.place(open_network(teachers[0]))).network
    pool = probs_and_features(
        network, task, part_drawn(need_split(data, "unlabelled", runtime), ROWS_LOOKED_AT), runtime
    )
    validation = open_split(data, "validation", runtime)
    known = (
        None
        if validation is None
        else probs_and_features(network, task, part_drawn(validation, ROWS_LOOKED_AT), runtime)
    )
    found: dict[str, Any] = {
        "n": len(pool[0]),
        "validation_n": len(known[0]) if known else 0,
        "classes": len(task.classes),
        "classes_used": {"pool": classes_used(pool[0]), "validation": known and classes_used(known[0])},
        "confidence": {"pool": mean_confidence(pool[0]), "validation": known and mean_confidence(known[0])},
        "mmd": features_apart(pool[1], known[1]) if known else None,
    }
    found["text"] = text_of(found)
    work.write_json("proxy.json", found)
    used = found["classes_used"]
    few = used["pool"] < LEAST_NAMED * (used["validation"] or found["classes"])
    work.note(found["text"], "warning" if few else "info")


@torch.inference_mode()
def probs_and_features(
    network: nn.Module, task: Categorical, split: Split, runtime: Runtime
) -> tuple[Tensor, Tensor | None]:
    """((N, K) probabilities, (N, D) what the last linear layer sees, None where there is none)"""
    probs, features = [], []
    try:
        tap = penultimate(network)
    except UserError:
        tap = None
    for rows in sequential(split, batch=256, views=None, view=0, device=torch.device(runtime.device)):
        probs.append(task.probs(network(rows.views["main"])).float().cpu())
        if tap is not None:
            read = tap.take().float()
            features.append((read.flatten(1, -2).mean(1) if read.dim() > 2 else read).cpu())
    if tap is not None:
        tap.close()
    return torch.cat(probs), torch.cat(features) if features else None


def classes_used(probs: Tensor) -> float:
    """(N, K) -> in [1, K]: exp of the entropy of how often each class is the likeliest. K: all equally
    often."""
    shares = torch.bincount(probs.max(1).indices, minlength=probs.shape[1]) / len(probs)
    return round(float(torch.special.entr(shares).sum().exp()), 4)


def mean_confidence(probs: Tensor) -> float:
    """(N, K) -> the mean of each row's largest."""
    return round(float(probs.max(1).values.mean()), 6)


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
    return (
        f"on this pool the teacher names {used['pool']:.1f} of {found['classes']} classes{beside}, and is "
        f"{certain['pool']:.0%} sure on average{than}{far}; the fewer classes it names, the less a student "
        "learns there"
    )
