"""evaluate: every network of the run on the same rows, side by side. The only stage that opens the test
split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kdx.core.errors import UserError
from kdx.core.examples import blank, random_rows
from kdx.core.files import finite_or_null
from kdx.core.task import OwnMetric, Task
from kdx.core.trees import all_finite, leaves, picked, rows_of
from kdx.core.types import Answers, Split
from kdx.data.views.chain import Chain, Views
from kdx.models import size
from kdx.pipeline.stages.arrays import build_task, open_split
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.moved import kind_of_old
from kdx.store.work import Work
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

SPLITS = {"train": "labelled", "validation": "validation", "test": "test"}
EXAMPLES = 16


@dataclass(frozen=True)
class Measure:
    """How answers are measured. own: metrics of the user's own, by name."""

    task: Task
    own: Mapping[str, OwnMetric]
    runtime: Runtime

    def answers(self, network: nn.Module, split: Split, views: Views | None = None) -> Answers:
        return predict(network, split, self.runtime, views=views)

    def metrics(self, answers: Answers, split: Split, teacher: Answers | None) -> dict[str, Any]:
        """The task's metrics, agreement with the teacher where the task has that, and the user's own."""
        found: dict[str, Any] = self.task.metrics(answers, split.known)
        found["n"] = len(split)
        if teacher is not None and "agreement" in self.task.shown:
            found["agreement"] = self.task.agreement(answers, teacher).double().mean().item()
        return found | {name: float(own.measure(answers, split.known)) for name, own in self.own.items()}


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    models: Mapping[str, Artifact],
    rounds: Sequence[Artifact],
    shifts: Sequence[tuple[str, Component]],
    seed: int,
    learned: Mapping[str, Sequence[str]],
    metrics: Mapping[str, Component],
) -> None:
    """models: role -> training artifact, the teacher first. rounds: the students of an iterated recipe, in
    order. shifts: by name, steps of a view that the test rows are seen through as well; seed: of what is
    random in them. learned: role -> splits that it learned from beside the labelled rows, so that they tell
    nothing of it. metrics: the user's own, by name.

    Files: results.json (see docs/run-json.md), examples.json, and examples.npy where rows are levels."""
    about = data.json("data.json")
    own = {name: build_metric(name, described) for name, described in metrics.items()}
    measure = Measure(build_task(about), own, runtime)
    opened = {name: open_split(data, split, runtime) for name, split in SPLITS.items()}
    splits = {name: split for name, split in opened.items() if split is not None}
    results: dict[str, Any] = of_task(measure, splits)
    last: dict[str, nn.Module] = {}
    answers: dict[str, dict[str, Answers]] = {}
    for number, (role, artifact) in enumerate(models.items()):
        results[role] = _describe(artifact)
        for which in ("last", "best"):
            if not artifact.file(f"{which}.safetensors").exists():
                continue
            network = runtime.place(open_network(artifact, which))
            fair = {name: split for name, split in splits.items() if name not in learned.get(role, ())}
            found = {name: measure.answers(network, split) for name, split in fair.items()}
            if which == "last":
                last[role], answers[role] = network, found
            teacher = answers.get("teacher") if role != "teacher" else None
            results[role][which] = {
                name: measure.metrics(found[name], splits[name], teacher[name] if teacher else None)
                | measure.task.details(found[name], splits[name].known, name)
                for name in found
            }
            if broken := [name for name, one in found.items() if not all_finite(one)]:
                results[role].setdefault("not_finite", {})[which] = broken
        work.progress(number + 1, len(models), role)
    for role, sizes in sizes_and_speeds(last, about, runtime).items():
        results[role] |= sizes
    results["shifts"] = {
        name: _shifted(last, splits["test"], Views(Chain([(name, step.build())]), seed), measure)
        for name, step in shifts
    }
    results["rounds"] = [_of_round(artifact, splits, answers.get("teacher"), measure) for artifact in rounds]
    work.write_json("results.json", finite_or_null(results))
    test = {role: found["test"] for role, found in answers.items()}
    write_examples(work, splits["test"], test, measure.task)


def build_metric(name: str, described: Component) -> OwnMetric:
    """Raises UserError where what is described is no metric, or is called otherwise."""
    found: OwnMetric = described.build_as(
        OwnMetric,
        f"metrics.{name}._target_ '{described.target}' is no metric: a class that inherits from "
        "kdx.core.task.OwnMetric",
    )
    if found.metric.name != name:
        raise UserError(
            f"metrics.{name} is a metric called '{found.metric.name}': name it metrics.{found.metric.name}"
        )
    return found


def of_task(measure: Measure, splits: Mapping[str, Split]) -> dict[str, Any]:
    """What hangs on no network: the metrics, and what the task tells of the truth."""
    task = measure.task
    own = [metric.metric for metric in measure.own.values()]
    found = {
        **task.summary({name: split.known for name, split in splits.items()}),
        "metric": task.metric.document(),
        "metrics": [metric.document() for metric in (*task.shown.values(), *own)],
    }
    if "class_counts" in found:  # who knows nothing names the largest class: these tell
        return found
    nothing = {name: task.knowing_nothing(split.known) for name, split in splits.items()}
    return found | {
        "floor": {
            name: {"value": task.floor(splits[name].known), "words": of.words} for name, of in nothing.items()
        }
    }


def sizes_and_speeds(
    networks: Mapping[str, nn.Module], about: Mapping[str, Any], runtime: Runtime
) -> dict[str, dict[str, Any]]:
    """How large and how slow each network is."""
    example = kind_of_old(about)["example"]
    pace = size.latency(networks, random_rows(example, 1), runtime.device)
    return {
        role: {
            "parameters": size.parameters(network),
            "bytes": size.bytes(network),
            "flops": size.flops(network, blank(example)),
            "latency_ms": pace[role],
        }
        for role, network in networks.items()
    }


def _shifted(
    networks: Mapping[str, nn.Module], test: Split, views: Views, measure: Measure
) -> dict[str, float]:
    """role -> the metric that counts, of the last weights on the test rows under one shift, the same rows for
    every role.
    """
    task = measure.task
    return {
        role: task.metrics(measure.answers(network, test, views), test.known)[task.primary]
        for role, network in networks.items()
    }


def _of_round(
    artifact: Artifact,
    splits: Mapping[str, Split],
    teacher: Mapping[str, Answers] | None,
    measure: Measure,
) -> dict[str, Any]:
    """What the table of rounds shows: the last weights on each split."""
    network = measure.runtime.place(open_network(artifact, "last"))
    found = {name: measure.answers(network, split) for name, split in splits.items()}
    return {
        "key": artifact.key,
        **{
            name: measure.metrics(answers, splits[name], teacher[name] if teacher else None)
            for name, answers in found.items()
        },
    }


def _describe(artifact: Artifact) -> dict[str, Any]:
    summary, model = artifact.json("summary.json"), artifact.json("model.json")
    return {
        "model": model["component"]["_target_"].rpartition(".")[2],
        "steps": summary["steps"],
        "best_step": summary["best_step"],
        "precision": summary["precision"],
        "stopped": summary["stopped"],
    }


def write_examples(work: Work, test: Split, answers: Mapping[str, Answers], task: Task) -> None:
    """Some test rows with every network's answer: first those that the networks disagree on or get wrong,
    then others. Levels are kept as they are stored, to be drawn.
    """
    rows = _chosen(test, answers, task)
    inputs = leaves(test.inputs)
    if set(inputs) == {""} and inputs[""].dtype == torch.uint8:
        shown = inputs[""]
        np.save(work.path / "examples.npy", shown[rows.to(shown.device)].cpu().numpy())
    some = {role: picked(found, rows) for role, found in answers.items()}
    sure = {role: task.confidence(found) for role, found in some.items()}
    work.write_json(
        "examples.json",
        {
            "rows": rows.tolist(),
            "truth": task.displayed(picked(test.known, rows)),
            "predictions": {role: task.displayed(found) for role, found in some.items()},
            "confidence": {role: found.tolist() for role, found in sure.items() if found is not None},
        },
    )


def _chosen(test: Split, answers: Mapping[str, Answers], task: Task) -> torch.Tensor:
    """Half of the rows wrong somewhere, as far as there are such; where nothing is right or wrong, evenly
    spread.
    """
    right = [task.right(found, test.known) for found in answers.values()]
    known = [found for found in right if found is not None]
    if not known:
        return torch.linspace(0, rows_of(test.inputs) - 1, min(EXAMPLES, len(test))).long().unique()
    wrong = torch.stack([~found for found in known]).sum(0)
    first = wrong.nonzero().flatten()[: EXAMPLES // 2]
    return torch.cat([first, (wrong == 0).nonzero().flatten()])[:EXAMPLES].sort().values
