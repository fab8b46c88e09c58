"""What `evaluate` measures of a network, and of the members of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kdx.core.errors import UserError, WrongPart
from kdx.core.metric import Metric
from kdx.core.own_metric import OwnMetric
from kdx.core.task import Task
from kdx.core.trees import picked, rows_of
from kdx.core.types import Answers, Batch, Split
from kdx.data.views.chain import Views
from kdx.models.ensemble import Apart, NetworkEnsemble, join_answers, split_answers
from kdx.pipeline.stages.answers import measured_answers
from kdx.pipeline.stages.files import MOVED_MODEL, open_network
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.source import sha256
from kdx.store.work import Work
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime


@dataclass(frozen=True)
class Measure:
    """How answers are measured. own: metrics of the user's own, by name."""

    task: Task
    own: Mapping[str, OwnMetric]
    runtime: Runtime

    def answers(
        self,
        network: nn.Module,
        split: Split,
        views: Views | None = None,
        beside: nn.Module | None = None,
    ) -> Answers:
        """As `Task.condense` keeps them. beside: the teacher, None: there is none to compare with."""
        kept = Condensing(self.task, beside)
        if not isinstance(network, Apart):
            return predict(network, split, self.runtime, batch=kept.batch, views=views, kept=kept)

        def each(answers: Answers, rows: Batch) -> Answers:
            return join_answers([kept(one, rows) for one in split_answers(answers)])

        return predict(network, split, self.runtime, batch=kept.batch, views=views, kept=each)

    def several_answers(
        self, network: nn.Module, splits: Mapping[str, Split], beside: nn.Module | None = None
    ) -> tuple[dict[str, Answers], dict[str, list[Answers]]]:
        """(split -> the network's answers, split -> those of each member of an ensemble, else nothing), as of
        `answers`; on the rows to train with, which are many, the teacher does not answer again beside it.
        """
        if not isinstance(network, NetworkEnsemble):
            compared = {name: None if name == "train" else beside for name in splits}
            return {name: self.answers(network, splits[name], None, compared[name]) for name in splits}, {}
        each = Apart(network)
        found = {name: split_answers(self.answers(each, split)) for name, split in splits.items()}
        return {name: one[0] for name, one in found.items()}, {name: one[1:] for name, one in found.items()}

    def metrics(self, answers: Answers, truth: Answers, teacher: Answers | None) -> dict[str, Any]:
        """The task's metrics, agreement with the teacher where the task has that, and the user's own."""
        found: dict[str, Any] = self.task.metrics(answers, truth)
        found["n"] = rows_of(truth)
        if teacher is not None and "agreement" in self.task.shown:
            found["agreement"] = self.task.agreement(answers, teacher).double().mean().item()
        return found | {name: float(own.measure(answers, truth)) for name, own in self.own.items()}


def keep_arrays(work: Work, details: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What a task tells of a split, with its `arrays` as files: NAME.<place>.npy, of which it then holds name
    ("file"), "shape" and "sha256". Counts have the smallest type that holds them.
    """
    kept = {}
    for name, found in (details.get("arrays") or {}).items():
        array, file = np.asarray(found.cpu()), f"{name}.{place}.npy"
        if array.dtype.kind in "iu" and array.size and array.min() >= 0:
            array = array.astype(np.min_scalar_type(array.max()))
        np.save(work.path / file, array)
        kept[name] = {"file": file, "shape": list(array.shape), "sha256": sha256(work.path / file)}
    return {**details, "arrays": kept} if kept else dict(details)


def measure_splits(
    work: Work,
    answers: Mapping[str, Answers],
    splits: Mapping[str, Split],
    measure: Measure,
    place: str,
    teacher: Mapping[str, Answers] | None = None,
) -> dict[str, dict[str, Any]]:
    """split -> the metrics of these answers, and what the task tells of them. place: role and weights, for
    the files that are kept. teacher: split -> the teacher's answers, None: there is none to agree with."""
    return {
        name: measure.metrics(found, splits[name].known, (teacher or {}).get(name))
        | keep_arrays(work, measure.task.details(found, splits[name].known, name), f"{place}.{name}")
        for name, found in answers.items()
    }


def measure_given(
    work: Work, given: Artifact, splits: Mapping[str, Split], measure: Measure
) -> tuple[dict[str, Any], dict[str, Answers]]:
    """(what the table shows of answers that came in a file, the answers to the splits whose every row has
    one): no network is known that gave them. Of validation what some rows show, with "of" how many: there
    "n" is how many have an answer, and these are none of the answers that others are held against."""
    stored = measured_answers(given, {split.name: len(split) for split in splits.values()})
    found: dict[str, Answers] = {}
    measured: dict[str, dict[str, Any]] = {}
    for name, split in splits.items():
        if split.name in stored:
            rows, packed = stored[split.name]
            truth = split.known if rows is None else picked(split.known, torch.from_numpy(rows))
            answers = measure.task.condensed(packed, truth)
            if rows is None:
                found[name] = answers
                measured |= measure_splits(work, {name: answers}, splits, measure, "teacher.last")
            else:
                measured[name] = measure.metrics(answers, truth, None) | {"of": len(split)}
    about: dict[str, Any] = {"steps": 0, "best_step": None, "precision": None, "stopped": None}
    return about | {"given": given.json("answers.json")["given"], "last": measured}, found


def measure_members(
    artifacts: Sequence[Artifact],
    splits: Mapping[str, Split],
    together: Mapping[str, Answers],
    apart: Mapping[str, Mapping[str, Sequence[Answers]]],
    measure: Measure,
) -> list[dict[str, Any]]:
    """What the table shows of each of several that answer together. together: split -> what they answer with
    their last weights. apart: weights -> split -> the answers of each, as far as they were given.
    """
    return [
        _of_member(
            artifact,
            splits,
            together,
            {which: {name: each[place] for name, each in named.items()} for which, named in apart.items()},
            measure,
        )
        for place, artifact in enumerate(artifacts)
    ]


def _of_member(
    artifact: Artifact,
    splits: Mapping[str, Split],
    together: Mapping[str, Answers],
    given: Mapping[str, Mapping[str, Answers]],
    measure: Measure,
) -> dict[str, Any]:
    found = {"key": artifact.key, **describe_role([artifact])}
    for which in ("last", "best"):
        if artifact.file(f"{which}.safetensors").exists():
            answers: Mapping[str, Answers] = given.get(which) or {}
            if not answers:  # another has no such weights, so they did not answer together with them
                network = measure.runtime.place(open_network(artifact, which))
                answers, _ = measure.several_answers(network, splits)
            found[which] = {
                name: measure.metrics(answers[name], split.known, together[name])
                for name, split in splits.items()
            }
    return found


def describe_role(artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """Of an ensemble all steps together, and no step or stop that would be of one of them."""
    summaries = [artifact.json("summary.json") for artifact in artifacts]
    models = [artifact.json("model.json")["component"]["_target_"] for artifact in artifacts]
    alone, precisions = len(artifacts) == 1, {summary["precision"] for summary in summaries}
    return {
        "model": " + ".join(name.rpartition(".")[2] for name in models),
        "steps": sum(summary["steps"] for summary in summaries),
        "best_step": summaries[0]["best_step"] if alone else None,
        "precision": precisions.pop() if len(precisions) == 1 else None,
        "stopped": summaries[0]["stopped"] if alone else None,
        **({"beside": summaries[0]["beside"]} if alone and summaries[0].get("beside") else {}),
        **({"new_head": True} if alone and summaries[0].get("new_head") else {}),
        **({"fitted": True} if all(summary.get("fitted") for summary in summaries) else {}),
    }


def describe_moved(artifact: Artifact) -> dict[str, Any]:
    """Of a teacher that moved as a student was trained: the steps are those of that training."""
    found, model = describe_role([artifact]), artifact.json(MOVED_MODEL)["component"]["_target_"]
    return {**found, "model": model.rpartition(".")[2], "best_step": None}


def build_metric(name: str, described: Component) -> OwnMetric:
    """Raises UserError where what is described is no metric, or is called otherwise."""
    found: OwnMetric = described.build_as(
        OwnMetric,
        f"metrics.{name}._target_ '{described.target}' is no metric: a class that inherits from "
        "kdx.core.task.OwnMetric",
    )
    if not isinstance(getattr(found, "metric", None), Metric):
        raise WrongPart(f"metrics.{name}: {type(found).__name__}.metric must be a kdx.core.metric.Metric")
    if found.metric.name != name:
        raise UserError(
            f"metrics.{name} is a metric called '{found.metric.name}': name it metrics.{found.metric.name}"
        )
    return found
