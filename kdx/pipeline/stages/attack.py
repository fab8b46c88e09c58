"""attack: whether one can guess from a network's answers which rows it learned from, for the recipe
`private`. It reads private rows and their labels: no guarantee covers what it says, and nothing is made of
it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.trees import moved
from kdx.core.types import Split
from kdx.methods.membership import ShadowAttack, attacked, by_loss
from kdx.pipeline.stages.arrays import TRUTH, need_split, read_arrays
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.shards import only_rows, voting_task
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

_FEWEST = 20
"""_Rows of each kind that a figure needs."""
_Rows = tuple[Split, np.ndarray]
"""_Rows and their classes."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    rows: Mapping[str, Artifact],
    shadow: Artifact,
    targets: Mapping[str, Artifact],
    seed: int,
) -> None:
    """rows: "private", the members; "public", in whose pool the others are, those of known truth that were
    not asked about ("asked", the votes): one half of them is for the figures, the other teaches the attack of
    the shadow model beside the labelled rows of "shadow", which the network `shadow` has learned from.
    targets: who is attacked.

    File: attack.json {"loss" | "shadow": {target: {"auc", "standard_error", "members", "others"}}}.
    """
    public, private = rows["public"], rows["private"]
    task = voting_task(public.json("data.json"))
    random = np.random.Generator(np.random.PCG64(seed))
    hidden = read_arrays(public, TRUTH)
    free = np.flatnonzero(task.known(hidden))
    free = random.permutation(np.setdiff1d(free, np.load(rows["asked"].file("asked.npy"))))
    truth = read_arrays(private, f"labelled.{TRUTH}")
    half = len(free) // 2
    if half < _FEWEST or len(truth) < _FEWEST:
        raise UserError(
            f"recipe.attack=true compares private rows with public ones of known label that were not asked "
            f"about, and there are {len(truth)} and {half}, for {_FEWEST} at least: set recipe.queries "
            "lower, or recipe.attack=false"
        )
    few = np.sort(random.permutation(len(truth))[:half])
    pool, own = need_split(public, "unlabelled", runtime), need_split(private, "labelled", runtime)
    members: _Rows = (only_rows(own, few), truth[few])
    others: _Rows = _part(pool, hidden, free[:half])
    learned: _Rows = (
        need_split(rows["shadow"], "labelled", runtime),
        read_arrays(rows["shadow"], f"labelled.{TRUTH}"),
    )
    unseen: _Rows = _part(pool, hidden, free[half:])

    def said(artifact: Artifact, those: _Rows) -> tuple[np.ndarray, np.ndarray]:
        network = runtime.place(open_network(artifact))
        with torch.no_grad():
            answers = moved(predict(network, those[0], runtime), "cpu")
        return np.asarray(task.probs(answers).double()), those[1]

    by_shadow = ShadowAttack(said(shadow, learned), said(shadow, unseen))
    found: dict[str, dict[str, Any]] = {"loss": {}, "shadow": {}}
    for name, target in targets.items():
        inside, outside = said(target, members), said(target, others)
        for how, score in (("loss", by_loss), ("shadow", by_shadow)):
            found[how][name] = asdict(attacked(score(*inside), score(*outside)))
    work.write_json("attack.json", found)


def _part(pool: Split, truth: np.ndarray, rows: np.ndarray) -> _Rows:
    rows = np.sort(rows)
    return only_rows(pool, rows), truth[rows]
