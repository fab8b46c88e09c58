"""What makes one answer of those of several teachers, with what is found of it on validation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdx.core.aggregate import Aggregate, Combine, Combined
from kdx.core.errors import UserError
from kdx.core.fitness import Fitness
from kdx.core.task import Categorical, Task
from kdx.core.trees import joined, moved
from kdx.core.types import Answers, Frozen, Split
from kdx.data.streams import sequential
from kdx.methods.teachers import Live
from kdx.models.ensemble import NetworkEnsemble
from kdx.pipeline.stages.arrays import build_kind, build_task, need_split
from kdx.pipeline.stages.files import open_together
from kdx.pipeline.stages.spread import BATCH
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.training.runtime import Runtime


def settle_aggregate(
    note: Callable[..., None],
    runtime: Runtime,
    data: Artifact,
    members: Sequence[Frozen],
    aggregate: Component | None,
    precision: str,
) -> tuple[Combine, dict[str, Any]]:
    """(what makes one answer of theirs, what answers.json keeps of it: {"aggregate": {"component", and
    "weights" where it has some}}, nothing of the mean). note: hears (text, level) of what is to be known of
    it, and of the weights, which are found on the clean validation rows: the same numbers for the same
    networks, wherever they are asked for.
    """
    task = build_task(data.json("data.json"))
    if aggregate is None:
        return task.mean, {}
    (made, classes), name = build_aggregate(aggregate.spec, task), aggregate_name(aggregate)
    found = None
    if words := made.caution(len(members)):
        note(words, "warning")
    if made.reads_validation:
        rows = need_split(data, "validation", runtime)
        several = [_answers(member, rows, runtime, task, precision) for member in members]
        found = _weigh(made, classes, name, several, rows, note)
    kept = {"component": aggregate.spec, **({} if found is None else {"weights": found.tolist()})}
    return Combined(made, classes, found), {"aggregate": kept}


def _weigh(
    made: Aggregate,
    task: Categorical,
    name: str,
    several: Sequence[Answers],
    rows: Split,
    note: Callable[..., None],
) -> Tensor | None:
    """Its weights, by the answers of each to clean rows whose truth is known."""
    truth = moved(rows.known, "cpu")
    if not isinstance(truth, Tensor) or truth.dim() != 1 or truth.is_floating_point():
        raise UserError(f"aggregate={name} weighs teachers by classes, and the truth here is none")
    found = made.weights(torch.stack([task.probs(one).double() for one in several]), truth)
    if found is not None:
        here, mean = (
            float(task.loss(answers, truth).double().mean())
            for answers in (Combined(made, task, found)(several), task.mean(several))
        )
        note(
            f"the teachers weighed by aggregate={name}, on {len(rows):,} validation rows: "
            f"{made.in_sentence(found, task.classes)} (log loss there {here:.3f}, of the mean {mean:.3f})"
        )
    return found


def _answers(member: Frozen, rows: Split, runtime: Runtime, task: Task, precision: str) -> Answers:
    """Of one network to clean rows, on the CPU."""
    teacher, device = Live(member, "main"), torch.device(runtime.device)
    with torch.inference_mode(), runtime.autocast(precision):
        batches = sequential(rows, batch=BATCH, views=None, view=0, task=task, device=device)
        return joined([moved(teacher(batch), "cpu") for batch in batches])


def aggregate_in(kept: Mapping[str, Any], task: Task) -> Combine:
    """What `settle_aggregate` kept, at work again; the mean where it kept nothing. Raises UserError where
    that is none, as its file may come from somebody else."""
    about = kept.get("aggregate")
    if about is None:
        return task.mean
    made, classes = build_aggregate(about["component"], task)
    return Combined(made, classes, _weights(about.get("weights"), made, classes))


def _weights(found: Any, made: Aggregate, task: Categorical) -> Tensor | None:
    if not made.reads_validation:
        return None
    try:
        weights = torch.tensor(found, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        weights = torch.empty(())
    wide = weights.dim() == 1 or (weights.dim() == 2 and weights.shape[1] == len(task.classes))
    if (
        not wide
        or not bool((weights >= 0).all())
        or not torch.allclose(weights.sum(0), torch.ones(()).double())
    ):
        raise UserError(
            "the weights of the teachers that were kept are no weights: a number for each, or one for each "
            "class, that add up to 1; run the same `kdx train` again"
        )
    return weights


def build_aggregate(spec: Mapping[str, Any], task: Task) -> tuple[Aggregate, Categorical]:
    """(what a spec describes, the task). Raises UserError where it is none, or the task has no classes."""
    made: Aggregate = build_kind(spec, Aggregate, "aggregate")
    remedy = "leave aggregate= out, and the mean is taken"
    Fitness(f"aggregate={aggregate_name(Component(spec))}", made.needs_task, remedy).check(task)
    assert isinstance(task, Categorical)
    return made, task


def aggregate_name(aggregate: Component) -> str:
    """What its file is called: "vote"."""
    return aggregate.target.split(".")[-2]


def open_combined(
    artifacts: Sequence[Artifact],
    which: str,
    runtime: Runtime,
    data: Artifact,
    aggregate: Component | None,
    note: Callable[..., None] = lambda text, level="info": None,
) -> tuple[nn.Module, dict[str, Any]]:
    """(the network of one training artifact, or of several the ensemble, placed; what is kept of what makes
    one answer of theirs, see `settle_aggregate`)"""
    network = runtime.place(open_together(artifacts, which))
    if len(artifacts) == 1 or not isinstance(network, NetworkEnsemble):
        return network, {}
    members = [Frozen(member) for member in network.members]
    network.combine, kept = settle_aggregate(note, runtime, data, members, aggregate, "fp32")
    return network, kept


def equal_networks(networks: Sequence[nn.Module]) -> list[tuple[int, int]]:
    """Pairs of numbers, from 1, of those that have learned the same."""
    states = [network.state_dict() for network in networks]
    return [
        (one + 1, other + 1)
        for one, other in itertools.combinations(range(len(states)), 2)
        if states[one].keys() == states[other].keys()
        and all(torch.equal(states[one][name], states[other][name]) for name in states[one])
    ]
