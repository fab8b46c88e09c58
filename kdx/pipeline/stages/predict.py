"""predict: what a network answers to the rows that `evaluate` measures, kept for every run that has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdx.core.trees import from_leaves, leaves
from kdx.core.types import Answers, Split
from kdx.pipeline.scores import SPLITS_MEASURED
from kdx.pipeline.stages.aggregating import aggregate_in, open_combined
from kdx.pipeline.stages.arrays import build_task, open_split, part_drawn
from kdx.pipeline.stages.files import best_is_last, has_weights, open_together
from kdx.pipeline.stages.measuring import Measure
from kdx.pipeline.stages.under_shift import measured_under_shifts
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Work
from kdx.training.runtime import Runtime

_ABOUT, _ANSWERS = "predicted.json", "answers.safetensors"
_ROLE = "it"


@dataclass(frozen=True)
class Predicted:
    """What a network answers with one set of its weights. network: None where it was not opened for that.
    answers: split -> its answers, as `Task.condense` keeps them. apart: split -> those of each member of an
    ensemble, else empty. aggregate: see `kdx.pipeline.stages.aggregating.settle_aggregate`."""

    network: nn.Module | None
    answers: Mapping[str, Answers]
    apart: Mapping[str, Sequence[Answers]]
    aggregate: Mapping[str, Any]


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    model: Artifact | Sequence[Artifact],
    rows: Mapping[str, int],
    shifts: Sequence[tuple[str, Component]] = (),
    seed: int | None = None,
    aggregate: Component | None = None,
) -> None:
    """model: a training artifact, of an ensemble its members. rows: split, as `evaluate` calls it -> of how
    many of its rows the network is asked. shifts, seed: see `evaluate`, aggregate too.

    Files: answers.safetensors, the answers with its last and with its best weights, float32 or as they are;
    predicted.json, what is found of the aggregate, and the metric that counts under each shift."""
    several = [model] if isinstance(model, Artifact) else model
    measure = Measure(build_task(data.json("data.json")), {}, runtime)
    splits = {
        name: part_drawn(split, rows[name])
        for name in rows
        if (split := open_split(data, SPLITS_MEASURED[name], runtime)) is not None
    }
    about: dict[str, Any] = {"aggregate": {}, "under_shift": {}}
    arrays: dict[str, Tensor] = {}
    for which in ("last", "best"):
        if not has_weights(several, which) or (which == "best" and best_is_last(several)):
            continue
        found = ask_network(several, which, splits, measure, data=data, aggregate=aggregate)
        work.progress(1 if which == "last" else 2, 2, f"{which} weights")
        about["aggregate"][which] = dict(found.aggregate)
        for name, answers in found.answers.items():
            for place, one in enumerate((answers, *found.apart.get(name, ()))):
                for leaf, array in leaves(one).items():
                    # its own memory, as files of safetensors have no part of an array twice
                    arrays[f"{which}.{name}.{place}.{leaf}"] = array.contiguous().clone()
        if which == "last" and shifts and seed is not None:
            assert found.network is not None
            seen = measured_under_shifts(shifts, seed, {_ROLE: found.network}, splits["test"], measure)
            about["under_shift"] = {
                kind: {name: value[_ROLE] for name, value in values.items() if _ROLE in value}
                for kind, values in seen.items()
            }
        del found
    save_file(arrays, work.path / _ANSWERS)
    work.write_json(_ABOUT, about)


def ask_network(
    several: Sequence[Artifact],
    which: str,
    splits: Mapping[str, Split],
    measure: Measure,
    beside: nn.Module | None = None,
    *,
    data: Artifact,
    aggregate: Component | None,
) -> Predicted:
    """The network of one training artifact, or of several the ensemble, opened with these weights and asked.
    beside: see `Measure.several_answers`."""
    network, combined = open_combined(several, which, measure.runtime, data, aggregate)
    answers, apart = measure.several_answers(network, splits, beside)
    return Predicted(network, answers, apart, combined)


class KeptAnswers:
    """The files of this stage. under_shift: "shifts" or "attacks" -> name -> the metric that counts."""

    def __init__(self, artifact: Artifact):
        about = artifact.json(_ABOUT)
        self.under_shift: Mapping[str, Mapping[str, float]] = about["under_shift"]
        self._aggregate = about["aggregate"]
        self._arrays: Mapping[str, Tensor] = load_file(artifact.file(_ANSWERS))

    def predicted(
        self, several: Sequence[Artifact], which: str, splits: Mapping[str, Split], measure: Measure
    ) -> Predicted:
        """As `ask_network`, of the same networks; only that with the last weights is opened."""
        found: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in splits}
        for key, array in self._arrays.items():
            weights, name, place, leaf = key.split(".", 3)
            if weights == which and name in found:
                found[name].setdefault(int(place), {})[leaf] = array
        each = {name: [from_leaves(by[place]) for place in sorted(by)] for name, by in found.items()}
        combined = self._aggregate[which]
        network = None
        if which == "last":
            network = measure.runtime.place(open_together(several, which))
            if combined:
                network.combine = aggregate_in(combined, measure.task)
        return Predicted(
            network,
            {name: answers[0] for name, answers in each.items()},
            {name: answers[1:] for name, answers in each.items()} if len(several) > 1 else {},
            combined,
        )
