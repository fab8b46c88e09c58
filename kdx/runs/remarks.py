"""What there is to say of data that stored weights are measured on: what sets them apart from what the
weights learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdx.core.errors import together
from kdx.core.trees import leaves
from kdx.data.copies import identify
from kdx.data.phrases import are, few
from kdx.data.stored import LazyRows
from kdx.pipeline.stages.arrays import build_task, read_inputs
from kdx.runs.measure import network_by_name
from kdx.runs.other_data import noun_of
from kdx.runs.stored import Weights
from kdx.store.artifact import Artifact
from kdx.store.moved import kind_of_old
from kdx.tasks.classification import Classification
from kdx.tasks.several_heads import SeveralHeads
from kdx.tasks.without_labels import KNOWN_ERROR, estimates_in_words

_NOTABLE, _MORE = 0.05, 1.5
"""Tokens that a vocabulary lacks are mentioned from that share on, where they are so many times those of the
run's own texts.
"""


def by_task(weights: Mapping[str, Weights]) -> list[str]:
    """Of networks with a head a task."""
    tasks = (build_task(found.about) for found in weights.values())
    if not any(isinstance(task, SeveralHeads) for task in tasks):
        return []
    return ["by task: each row is answered among the classes of its own task, which is known here"]


def strange(learned: Artifact, data: Artifact, split: str) -> list[str]:
    """What sets the pictures of a split apart from new ones of the same kind: learned from already, or read
    in another way: with another black and white, cut otherwise, on another background."""
    notes = []
    noun = noun_of(kind_of_old(data.json("data.json"))["reads"])
    read, read_now = (found.json("data.json").get("files") or {} for found in (learned, data))
    for key in ("fit", "background"):
        was, now = (str(how[key]).replace(" ", "") if key in how else None for how in (read, read_now))
        if was and now and was != now:
            notes.append(
                f"dataset.{key} was {was} for the pictures learned from, and is {now} for these: "
                f"dataset.{key}={was} reads them alike"
            )
    before, now = (how.get("range", {}) for how in (read, read_now))
    for depth in sorted(before.keys() & now.keys()):
        if before[depth] != now[depth]:
            (low, high), (low_now, high_now) = before[depth], now[depth]
            notes.append(
                f"black to white was {low:.9g} to {high:.9g} in the {depth} pictures learned from, and is "
                f"{low_now:.9g} to {high_now:.9g} in these: dataset.range=[{low:.9g},{high:.9g}] reads them "
                "alike"
            )
    files = {"these": (data, split), **{part: (learned, part) for part in ("labelled", "unlabelled")}}
    rows = {
        name: opened
        for name, (found, part) in files.items()
        if (opened := read_inputs(found, part)) is not None
        and all(not isinstance(leaf, LazyRows) or leaf.cheap for leaf in leaves(opened).values())
    }
    if "these" not in rows:  # decoded as they are shown, and not to be compared
        return notes
    ids = identify(rows)
    these = ids.pop("these")
    seen = int(np.isin(these, np.concatenate([these[:0], *ids.values()])).sum())
    if seen:
        notes.append(
            f"{are(seen, f'of {len(these):,} {split} {noun}s')} among those that were trained on, so that "
            f"the figures are none of new {noun}s"
        )
    return notes


def unknown_tokens(learned: Artifact | None, data: Artifact, split: str) -> list[str]:
    """What is said of texts of which many tokens are not in the vocabulary of the network: it reads each as
    one and the same. learned: the data that it learned from, where they are known.
    """

    def share(of: Artifact) -> float | None:
        found: float | None = ((of.json("data.json").get("texts") or {}).get("unknown") or {}).get(split)
        return found

    here, there = share(data), share(learned) if learned else None
    if here is None or here < max(_NOTABLE, _MORE * (there or 0.0)):
        return []
    beside = "" if there is None else f", and of the run's own {there:.1%}"
    return [
        f"{here:.1%} of the {split} tokens are unknown in the vocabulary that the network learned "
        f"with{beside}: it knows these texts less well"
    ]


def other_names(about: Mapping[str, Any], weights: Mapping[str, Any]) -> list[str]:
    """Where the data's classes have other names than those that a network learned. about: of the data."""
    here = about.get("classes")
    other = [w for w in weights.values() if here and network_by_name(w, here) is None]
    if not other:
        return []
    pairs = [f"{one} as {there}" for one, there in zip(here or (), other[0].about["classes"], strict=False)]
    return [
        f"the classes of {about['dataset']} have other names than those that "
        f"{together([w.who for w in other])} learned; they are matched by position: "
        f"{', '.join(pairs[:10])}{' and more' if len(pairs) > 10 else ''}"
    ]


def without_a_class(about: Mapping[str, Any], weights: Mapping[str, Any]) -> list[str]:
    """Classes of the data whose rows are not measured, as the network has none such. about: of the data."""
    here, first = about.get("classes") or [], next(iter(weights.values()))
    if first.names is None:
        return []
    numbers = network_by_name(first, here) or []
    gone = [str(name) for name, number in zip(here, numbers, strict=True) if number < 0]
    return [f"classes without one of the network's, whose rows are left out: {few(gone)}"] if gone else []


def estimated(results: Mapping[str, Any]) -> list[str]:
    """Of each network that was measured on other data what is estimated there without labels."""
    return [
        f"{role}: {found['accuracy']:.1%} of the {found['n']:,} rows are right; ESTIMATED without their "
        f"labels {estimates_in_words(found['estimates'])}; {KNOWN_ERROR}"
        for role, found in results.items()
        if found.get("estimates")
    ]


def not_estimated(weights: Weights, data: Artifact) -> list[str]:
    """Why nothing is estimated of weights that were put to other data than theirs."""
    about = data.json("data.json")
    other = weights.names is not None or weights.about.get("dataset") != about["dataset"]
    if not other or not isinstance(build_task(weights.about), Classification):
        return []
    return [
        "nothing is ESTIMATED without labels here, as a file of weights lacks the validation rows by which "
        "that is done: kdx evaluate of the run folder does it"
    ]


def lacking(split: str, weights: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Classes that no picture shows."""
    lacking = {
        str(w.about["classes"][k]): None
        for role, w in weights.items()
        for k, share in enumerate(results[role].get("recall") or [])
        if share is None
    }
    if not lacking:
        return []
    some = ", ".join(list(lacking)[:10]) + (" and more" if len(lacking) > 10 else "")
    return [
        f"no {split} picture shows {some}: the figures say nothing of {'it' if len(lacking) == 1 else 'them'}"
    ]
