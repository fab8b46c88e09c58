"""evaluate: every network of the run on the same rows, side by side. It opens the test split, as `predict`
does for it and no stage that anything is learned in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import nn

from kdx.core.examples import blank, random_rows
from kdx.core.files import finite_or_null
from kdx.core.scorer import Scorer
from kdx.core.task import Task
from kdx.core.trees import all_finite, picked
from kdx.core.types import Answers, Split
from kdx.models import size
from kdx.models.ensemble import NetworkEnsemble
from kdx.pipeline.scores import SPLITS_MEASURED, rows_measured
from kdx.pipeline.stages.aggregating import aggregate_name
from kdx.pipeline.stages.arrays import build_task, drawn_rows, open_split, part_drawn
from kdx.pipeline.stages.examples import example_rows, write_examples
from kdx.pipeline.stages.files import (
    best_is_last,
    build_adapter,
    has_weights,
    open_moved,
    open_network,
)
from kdx.pipeline.stages.measuring import (
    Measure,
    build_metric,
    describe_moved,
    describe_role,
    measure_given,
    measure_members,
    measure_splits,
)
from kdx.pipeline.stages.names import known_by
from kdx.pipeline.stages.predict import KeptAnswers, ask_network
from kdx.pipeline.stages.row_answers import KEPT, RowAnswers
from kdx.pipeline.stages.under_shift import measured_under_shifts
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.moved import kind_of_old
from kdx.store.work import Work
from kdx.tasks.several_heads import SeveralHeads
from kdx.training.runtime import Runtime

_MOVED = "moved_teacher"


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    models: Mapping[str, Artifact | Sequence[Artifact]],
    rounds: Sequence[Artifact],
    shifts: Sequence[tuple[str, Component]],
    seed: int,
    learned: Mapping[str, Sequence[str]],
    metrics: Mapping[str, Component],
    given: Artifact | None = None,
    aggregate: Component | None = None,
    moved: Artifact | None = None,
    predicted: Mapping[str, Artifact] = MappingProxyType({}),
) -> None:
    """models: role -> training artifact, the teacher first; of an ensemble its members. rounds: the
    students of an iterated recipe, in order. shifts: by name, steps of a view that the test rows are seen
    through as well, and attacks; seed: of what is random in them. learned: role -> splits that it learned
    from beside the labelled rows, so that they tell nothing of it. metrics: the user's own, by name. given:
    answers that came in a file, which are the teacher's. aggregate: what makes one answer of those of several
    teachers, None: the mean; results.teacher.aggregate then has what was found of it, by weights. moved: the
    training in which the teacher moved: what it was at the end is the role "moved_teacher". predicted: role
    -> its answers, of the networks that were asked before (kdx.pipeline.stages.predict).

    Files: results.json (see docs/run-json.md) and the arrays that it names, predictions.json with those of
    each row (kdx.pipeline.stages.row_answers), examples.json, and examples.npy where rows are levels."""
    about = data.json("data.json")
    own = {name: build_metric(name, described) for name, described in metrics.items()}
    measure = Measure(task_measured(about, models), own, runtime)
    opened = {name: open_split(data, split, runtime) for name, split in SPLITS_MEASURED.items()}
    every = {name: split for name, split in opened.items() if split is not None}
    asked = rows_measured(about["counts"])
    splits = {name: part_drawn(split, asked[name]) for name, split in every.items()}
    results: dict[str, Any] = of_task(measure, every, splits)
    kept = RowAnswers(measure.task, splits)
    last: dict[str, nn.Module] = {}
    answers: dict[str, Mapping[str, Answers]] = {}
    asked_before = {role: KeptAnswers(artifact) for role, artifact in predicted.items()}
    if given is not None:
        results["teacher"], in_file = measure_given(work, given, every, measure)
        if "train" in in_file:
            in_file["train"] = picked(in_file["train"], drawn_rows(len(every["train"]), asked["train"]))
        kept.add("teacher", "last", in_file)
        answers["teacher"] = in_file
    for number, (role, made) in enumerate(models.items()):
        several = [made] if isinstance(made, Artifact) else made
        results[role], apart = describe_role(several), {}
        for which in ("last", "best"):
            if not has_weights(several, which):
                continue
            if which == "best" and best_is_last(several):
                found = answers[role]  # the same weights answer the same
            else:
                by = aggregate if role == "teacher" else None
                fair = {name: split for name, split in splits.items() if name not in learned.get(role, ())}
                if role in asked_before:
                    said = asked_before[role].predicted(several, which, fair, measure)
                else:
                    taught_by, _ = _beside(last, answers)
                    said = ask_network(several, which, fair, measure, taught_by, data=data, aggregate=by)
                if by and said.aggregate:
                    results[role].setdefault("aggregate", {"name": aggregate_name(by)})
                    results[role]["aggregate"][which] = said.aggregate["aggregate"]
                found, apart[which] = said.answers, said.apart
            kept.add(role, which, found)
            if which == "last":
                assert said.network is not None
                last[role], answers[role] = said.network, found
            teacher = _beside(last, answers)[1] if role != "teacher" else None
            results[role][which] = measure_splits(work, found, splits, measure, f"{role}.{which}", teacher)
            if broken := [name for name, one in found.items() if not all_finite(one)]:
                results[role].setdefault("not_finite", {})[which] = broken
        if len(several) > 1 and role == "teacher":
            results["members"] = measure_members(several, splits, answers[role], apart, measure)
        work.progress(number + 1, len(models), role)
    if moved is not None:
        last[_MOVED] = network = runtime.place(open_moved(moved))
        answers[_MOVED], _ = measure.several_answers(network, splits, _beside(last, answers)[0])
        results[_MOVED] = describe_moved(moved)
        results[_MOVED]["last"] = measure_splits(work, answers[_MOVED], splits, measure, f"{_MOVED}.last")
        kept.add(_MOVED, "last", answers[_MOVED])
    _best_of_taken(results, [*answers])
    for role, sizes in sizes_and_speeds(last, about, runtime).items():
        results[role] |= sizes
    if isinstance(together := last.get("teacher"), NetworkEnsemble):
        alone = {str(place): member for place, member in enumerate(together.members)}
        for place, sizes in sizes_and_speeds(alone, about, runtime).items():
            results["members"][int(place)] |= sizes
    seen = {role: found.under_shift for role, found in asked_before.items()}
    results |= measured_under_shifts(shifts, seed, last, splits["test"], measure, seen)
    beside = _beside(last, answers)
    results["rounds"] = [_of_round(artifact, splits, beside, measure) for artifact in rounds]
    work.write_json("results.json", finite_or_null(results))
    known = known_by(data, [name for name in KEPT if name in splits])
    kept.write(work, known)
    test = {role: found["test"] for role, found in answers.items() if "test" in found}
    rows = example_rows(splits["test"], test, kept.worst("last"), measure.task)
    write_examples(work, rows, known["test"], splits["test"], test, measure.task, build_adapter(about))


def task_measured(about: Mapping[str, Any], models: Mapping[str, Artifact | Sequence[Artifact]]) -> Task:
    """That of the data, about: its data.json; where the networks have a head a task, of which a row is known
    here, theirs."""
    every = [one for made in models.values() for one in ([made] if isinstance(made, Artifact) else made)]
    for found in (build_task(one.json("model.json")) for one in every):
        if isinstance(found, SeveralHeads):
            return found
    return build_task(about)


def _beside(
    last: Mapping[str, nn.Module], answers: Mapping[str, Mapping[str, Answers]]
) -> tuple[nn.Module | None, Mapping[str, Answers] | None]:
    """(the teacher's network, its answers by split), as far as there are any that others are held against."""
    network = last.get("teacher")
    return (None, None) if isinstance(network, Scorer) else (network, answers.get("teacher"))


def _best_of_taken(results: dict[str, Any], roles: Iterable[str]) -> None:
    """A network of which no step was made here has one set of weights: where others have best ones, these
    are its best as well.
    """
    if any("best" in results[role] for role in roles):
        for role in roles:
            if not results[role]["steps"]:
                results[role].setdefault("best", results[role]["last"])
    for member in results.get("members", []):
        if not member["steps"] and "best" in results["teacher"]:
            member.setdefault("best", member["last"])


def of_task(measure: Measure, every: Mapping[str, Split], splits: Mapping[str, Split]) -> dict[str, Any]:
    """What hangs on no network: the metrics, and what the task tells of the truth. every: the splits whole;
    splits: the rows of them that networks are measured on."""
    task = measure.task
    own = [metric.metric for metric in measure.own.values()]
    found = {
        **task.summary({name: split.known for name, split in every.items()}),
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


def _of_round(
    artifact: Artifact,
    splits: Mapping[str, Split],
    beside: tuple[nn.Module | None, Mapping[str, Answers] | None],
    measure: Measure,
) -> dict[str, Any]:
    """What the table of rounds shows: the last weights on each split. beside: the teacher and its answers."""
    network, (taught, teacher) = measure.runtime.place(open_network(artifact, "last")), beside
    found = {name: measure.answers(network, split, None, taught) for name, split in splits.items()}
    return {
        "key": artifact.key,
        **{
            name: measure.metrics(answers, splits[name].known, (teacher or {}).get(name))
            for name, answers in found.items()
        },
    }
