"""Stored weights put to the test: measured on a split of their own or other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from kdx.core.class_names import nfc
from kdx.core.errors import UserError, together
from kdx.core.own_metric import OwnMetric
from kdx.core.scorer import Scorer
from kdx.core.trees import all_finite
from kdx.core.types import Answers, Split
from kdx.data.pictures.fitted import in_shape
from kdx.data.reader import OfArray
from kdx.pipeline.stages.arrays import build_task, open_split, part_of_split
from kdx.pipeline.stages.measuring import build_metric
from kdx.runs.stored import Weights
from kdx.store.artifact import Artifact
from kdx.store.component import Component, targets
from kdx.store.moved import kind_of_old
from kdx.store.resolve import own_error
from kdx.tasks import chance
from kdx.tasks.classification import Classification
from kdx.tasks.shown import AGREEMENT
from kdx.tasks.without_labels import confidences, estimated_shares
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime


def network_by_name(weights: Weights, shown: Sequence[str]) -> list[int] | None:
    """The number that each class of a data set has for the network, which may know more, in any order; None
    where they share no name, and are matched by position. By `Weights.names`, where there are such, -1 of a
    class that the network has not."""
    if weights.names is None and list(shown) == weights.about.get("classes", []):
        return list(range(len(shown)))
    numbers = {nfc(name): number for number, name in enumerate(weights.about.get("classes", []))}
    if (other := weights.names) is not None:
        return [numbers.get(nfc(other.get(nfc(name), name)), -1) for name in shown]
    found = [numbers.get(nfc(name)) for name in shown]
    return None if None in found else found


def own_metrics(config: Mapping[str, Any], allow: Sequence[str]) -> tuple[dict[str, Component], list[str]]:
    """(the user's own metrics that a run names and allow= lets in, what is said of the others). config: of
    its run.json.
    """
    named = config.get("metrics")
    found, left = {}, []
    for name, spec in named.items() if isinstance(named, Mapping) else ():
        code = [str(target) for target in targets(spec)] if isinstance(spec, dict) else []
        if code and all(any(target.startswith(f"{root}.") for root in ("kdx", *allow)) for target in code):
            found[str(name)] = Component(spec)
        else:
            left.append(str(name))
    return found, [
        f"not measured: {together(left)}, as {'it is a metric' if len(left) == 1 else 'they are metrics'} of "
        "a package of your own: allow=[package] lets it in"
    ] if left else []


def _own_value(own: OwnMetric, answers: Answers, rows: Split) -> float:
    try:
        return float(own.measure(answers, rows.known))
    except Exception as error:
        if where := own_error(error):
            raise UserError(f"metrics.{own.metric.name}: your own code fails: {where}") from error
        raise


@dataclass(frozen=True)
class Beside:
    """A teacher that others are held against. network: in eval mode, on the device; answers: to the rows that
    these are asked of, as its task keeps them."""

    weights: Weights
    network: nn.Module
    answers: Answers

    def compares(self, weights: Weights, network: nn.Module) -> bool:
        """Whether a network answers what the teacher does."""
        mine, theirs = (kind_of_old(w.about)["task"] for w in (self.weights, weights))
        return mine == theirs and not isinstance(network, Scorer)


def teacher_beside(weights: Weights, data: Artifact, split: str, runtime: Runtime) -> Beside | None:
    """A teacher and its answers to a split; None where it gives none that others could be held against, as
    it reads other tokens than they do."""
    network = runtime.place(weights.network())
    if isinstance(network, Scorer):
        return None
    rows, task = _rows(weights, data, split, runtime), build_task(weights.about)
    return Beside(weights, network, _answers(weights, network, rows, runtime, Condensing(task)))


def measure(
    weights: Weights,
    data: Artifact,
    split: str,
    runtime: Runtime,
    metrics: Mapping[str, Component] | None = None,
    teacher: Beside | None = None,
    learned: Artifact | None = None,
) -> dict[str, Any]:
    """{the task's metrics by name, "n", "model", "recall" (by class, where there are some), "metric" and
    "metrics" (how they are shown), "guesses"} of the network on the clean rows of a split, in full precision.
    guesses: the class that it is no better than always naming, else None. metrics: the user's own, by name.
    teacher: whom its answers are held against as well, or who it is itself; None: nobody. learned: other data
    that the weights come from, by whose validation split the accuracy is estimated without labels too
    ("estimates"); None: it is not.
    """
    own = [build_metric(name, described) for name, described in (metrics or {}).items()]
    rows, task = _rows(weights, data, split, runtime), build_task(weights.about)
    against = None
    if teacher and weights is teacher.weights:
        answers = teacher.answers
    else:
        network = runtime.place(weights.network())
        against = teacher if teacher and teacher.compares(weights, network) else None
        kept = Condensing(task, against.network if against else None)
        answers = _answers(weights, network, rows, runtime, kept)
    found = {"model": weights.model, **task.metrics(answers, rows.known), "n": len(rows)}
    if against and AGREEMENT.name in task.shown:
        found[AGREEMENT.name] = task.agreement(answers, against.answers).double().mean().item()
    found |= {metric.metric.name: _own_value(metric, answers, rows) for metric in own}
    details, guesses = task.details(answers, rows.known, "validation"), None
    if isinstance(task, Classification):
        counts = rows.known.bincount(minlength=len(task.classes)).tolist()
        if chance.guesses(found["accuracy"], found["balanced_accuracy"], counts):
            guesses = task.classes[chance.largest(counts)[0]]
    shown = {
        "metric": task.metric.document(),
        "metrics": [
            metric.document()
            for metric in (*task.shown.values(), *(metric.metric for metric in own))
            if metric.name in found
        ],
    }
    if learned and (estimated := _estimated(weights, task, answers, learned, runtime)):
        found["estimates"] = estimated
    return found | {"recall": details.get("recall", []), **shown, "guesses": guesses}


def _estimated(
    weights: Weights, task: Any, answers: Answers, learned: Artifact, runtime: Runtime
) -> dict[str, float]:
    """See kdx.tasks.without_labels; empty where answers are no classes. answers: to the rows that it is
    estimated of."""
    if not isinstance(task, Classification):
        return {}
    sure, known, right = confidences(_tempered(weights, task, answers)), None, None
    own = replace(weights, names=None)
    if open_split(learned, "validation", runtime) is not None:
        rows = _rows(own, learned, "validation", runtime)
        said = _answers(own, runtime.place(own.network()), rows, runtime, Condensing(task))
        known, right = confidences(_tempered(own, task, said)), task.right(said, rows.known)
    return estimated_shares(sure, known, right)


def _tempered(weights: Weights, task: Classification, answers: Answers) -> torch.Tensor:
    """(N, K) probabilities at the temperature at which it taught."""
    return task.probs(task.tempered(answers, weights.temperature))


def _rows(weights: Weights, data: Artifact, split: str, runtime: Runtime) -> Split:
    """The rows of a split, with their classes numbered as the network knows them; without those that it does
    not know."""
    rows, about = open_split(data, split, runtime), data.json("data.json")
    if rows is None:
        raise UserError(f"the data has no {split} split: set dataset.{split}, or choose another with split=")
    if weights.names is not None and about.get("reads") == "pictures":
        rows = _in_size(rows, weights.about["shape"])
    if numbers := network_by_name(weights, about.get("classes", [])):
        rows = replace(rows, truth=torch.tensor(numbers)[rows.known])
        known = torch.nonzero(rows.known >= 0).flatten()
        if not len(known):
            raise UserError(f"no {split} row is of a class that {weights.who} knows: mend classes_map")
        return rows if len(known) == len(rows) else part_of_split(rows, known)
    return rows


def _in_size(rows: Split, shape: Sequence[int]) -> Split:
    """Pictures in the size and the channels (C, H, W) that a network reads."""
    if list(rows.inputs.shape[1:]) == list(shape):
        return rows
    pictures = rows.inputs.rows if isinstance(rows.inputs, OfArray) else rows.inputs.cpu().numpy()
    return replace(rows, inputs=OfArray(in_shape(pictures, tuple(shape))))


def _answers(
    weights: Weights, network: nn.Module, rows: Split, runtime: Runtime, kept: Condensing
) -> Answers:
    answers = predict(network, rows, runtime, batch=kept.batch, kept=kept)
    if not all_finite(answers):
        raise UserError(
            f"the answers of {weights.who} are not finite (NaN or infinite): the weights in "
            f"'{weights.file}' are of no use"
        )
    return answers
