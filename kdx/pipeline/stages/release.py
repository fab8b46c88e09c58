"""release: the labels that noisy votes give to the public rows that were asked about, and what that costs.
What the student ever learns of the votes is written here."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.methods.private_budget import check_accountant, doubts, epsilon_closed, epsilon_spent
from kdx.methods.private_votes import UNANSWERED, VoteNoise, count_votes, noisy_labels, source_of_noise
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime


def run(
    work: Work,
    runtime: Runtime,
    *,
    votes: Artifact,
    noise: Mapping[str, Any],
    delta: float,
    seed: int | None,
    beside: Sequence[float] = (0.0, 0.0),
    known_beside: bool = False,
) -> None:
    """noise: a kdx.methods.private_votes.VoteNoise as a document. seed None: the noise is drawn from the
    operating system and its source is not kept, so that the stage has no second run with the same answers;
    what makes the labels known again is this artifact. beside: (epsilon, delta) of what else was released of
    the private rows, such as made-up public ones; known_beside: whether the noise of that has a seed.

    Files: labels.npy (Q,) int64, UNANSWERED where the vote was not sure; asked.npy (Q,) as of `votes`;
    release.json, the guarantee.
    """
    check_accountant()
    about, asked = votes.json("shards.json"), np.load(votes.file("asked.npy"))
    how = VoteNoise(**noise)
    counted = count_votes(np.load(votes.file("said.npy")), about["classes"])
    labels = noisy_labels(counted, how, source_of_noise(seed))
    answered = int((labels != UNANSWERED).sum())
    if not answered:
        raise UserError(
            f"none of {len(asked)} queries was answered: no vote was sure enough; lower recipe.threshold "
            f"({how.threshold:g} of {about['shards']} votes) or recipe.threshold_sigma"
        )
    np.save(work.path / "labels.npy", labels)
    np.save(work.path / "asked.npy", asked)
    found = guarantee(how, len(asked), delta, about["shards"], seed)
    if any(beside):
        found |= {"epsilon_of_pool": beside[0], "delta": delta + beside[1]}
        found |= {key: found[key] + beside[0] for key in ("epsilon", "epsilon_closed_form")}
    found["known_seed"] |= known_beside
    work.write_json("release.json", {**found, "answered": answered})
    work.note(
        f"{answered:,} of {len(asked):,} public rows have a released label: epsilon "
        f"{found['epsilon']:.2f} at delta {found['delta']:g}"
    )
    for doubt in doubts(found["epsilon"], found["delta"], about["shards"] * about["rows"]):
        work.note(doubt, "warning")
    if seed is not None or known_beside:
        which = "pool.noise_seed" if seed is None else f"recipe.noise_seed={seed}"
        work.note(
            f"{which} makes the noise known to everybody who reads this run: the guarantee "
            "holds towards nobody who knows it",
            "warning",
        )


def guarantee(noise: VoteNoise, queries: int, delta: float, shards: int, seed: int | None) -> dict[str, Any]:
    """What is promised, as a document. It hangs on no private row."""
    return {
        "noise": noise.document(),
        "noise_in_words": noise.in_words(),
        "shards": shards,
        "queries": queries,
        "delta": delta,
        "epsilon": epsilon_spent(noise, queries, delta),
        "epsilon_closed_form": epsilon_closed(noise, queries, delta),
        "accountant": f"dp-accounting {importlib.metadata.version('dp-accounting')}, PLD",
        "neighbours": "data sets of the same size that differ in one private row",
        "covers": "the released labels, and all that is made of them and of public rows alone",
        "known_seed": seed is not None,
    }
