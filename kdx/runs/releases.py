"""Releases of private rows that are known here, as run folders tell of them: another one of the same rows
adds its epsilon. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdx.config.unused import idle
from kdx.config.wire import Order
from kdx.core.errors import UserError
from kdx.data.phrases import counted
from kdx.pipeline.recipes.recipe import build_recipe
from kdx.pipeline.stages import RELEASE
from kdx.runs.cleanup import every_run_folder
from kdx.runs.reading import Run, read_run

_SIZES = ("labelled", "unlabelled", "validation", "test", "duplicates", "near_copies", "on_error")
"""Keys of a data set that change which of its rows are private, and not whose they are."""
_MAKES = ("recipe", "pool", "made_up", "seed", "dataset", "teacher", "teacher_loss", "teacher_pretrain")
"""What of a configuration the released labels are made of."""
_BESIDE = ("recipe.epsilon", "recipe.attack")
"""Of these what changes nothing of a release."""


@dataclass(frozen=True)
class KnownRelease:
    """run: the folder of a run that names it. times: how often it was made, each with noise of its own, in
    stores of their own or anew. epsilon: None where it is not known. alike: whether the same words made it.
    there: whether the store of the new run has it."""

    key: str
    run: Path
    times: int
    epsilon: float | None
    alike: bool
    there: bool


def _places(store: Path) -> list[Path]:
    """Where kdx train puts run folders: beside the store, and in outputs."""
    tops = (store.absolute().parent, Path("outputs").absolute())
    found = dict.fromkeys(top / kind for top in tops for kind in ("runs", "sweeps", "reruns"))
    return [path for path in found if path.is_dir()]


def made_again(order: Order, beside: Sequence[Path]) -> list[str]:
    """Why a run that would release labels of private rows is refused: the same words have done so, and its
    store has nothing of it. beside: further run folders, such as that of --config. At most one sentence.
    """
    if not _releases(order):
        return []
    again = [one for one in known_releases(order, beside) if one.alike and not one.there]
    return [
        f"'{one.run}' has released labels of these private rows already, and a release is made once: another "
        "one draws its noise anew, and the epsilons would add"
        + ("" if one.epsilon is None else f" to {(one.times + 1) * one.epsilon:.2f}")
        + "; give it the store of that run (store=PATH), or name the seeds of its noise (recipe.noise_seed, "
        "and of a made-up table pool.noise_seed), which guarantees nothing"
        for one in again[:1]
    ]


def sum_of_releases(
    order: Order, stages: Sequence[Mapping[str, Any]], results: Mapping[str, Any]
) -> list[str]:
    """What there is to say where a run has made a release, and further ones of the same private rows are
    known. stages, results: of its run.json."""
    made = [one["key"] for one in stages if one.get("name") == RELEASE.name and not one.get("cached")]
    if not made or not _releases(order):
        return []
    key, epsilon = made[-1], float(results["privacy"]["epsilon"])
    found = [replace(one, times=one.times - (one.key == key)) for one in known_releases(order)]
    others = [one for one in found if one.times]
    count = sum(one.times for one in others)
    if not count:
        return []
    whole = epsilon + sum(one.times * one.epsilon for one in others if one.epsilon is not None)
    unknown = sum(one.times for one in others if one.epsilon is None)
    more = f", and {counted(unknown, 'release')} of unknown epsilon" if unknown else ""
    return [
        f"{counted(count, 'other release')} of the same data set {'is' if count == 1 else 'are'} known here "
        f"('{others[0].run}'{' and further' if count > 1 else ''}): for a row that was private in all of "
        f"them the epsilons add to {whole:.2f}{more}"
    ]


def known_releases(order: Order, beside: Sequence[Path] = ()) -> list[KnownRelease]:
    """Of the data set of an order, by run folders beside its store, in outputs, and beside."""
    folders = [*beside, *every_run_folder(_places(order.store), order.store)]
    by_key: dict[str, list[Run]] = {}
    for folder in dict.fromkeys(map(Path.absolute, folders)):
        run = _read(folder)
        if run is None or _data(run.document["config"]) != _data(order.config):
            continue
        if (key := _released(run)) is not None:
            by_key.setdefault(key, []).append(run)
    return [_of_runs(order, key, runs) for key, runs in by_key.items()]


def _of_runs(order: Order, key: str, runs: Sequence[Run]) -> KnownRelease:
    """runs: all that name it. One that took it from its store made none; a copy of a folder is no second
    run."""
    made = {str(run.document.get("started")) for run in runs if _made_itself(run)}
    configs = [run.document["config"] for run in runs]
    alike = _words_of_release(order.config, order)
    same = any(_words_of_release(config, order) == alike for config in configs)
    epsilon = next((found for run in runs if (found := _epsilon(run)) is not None), None)
    there = (order.store / RELEASE.name / key).is_dir()
    return KnownRelease(key, runs[0].path, max(1, len(made)), epsilon, same, there)


def _words_of_release(config: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """What of a configuration the labels that an order releases are made of: its nodes without
    what lies idle in the order, and what only says how much may be spent and what is measured beside it."""
    own = {group: order.config[group] for group in _MAKES if isinstance(order.config.get(group), Mapping)}
    keys = [f"{group}.{key}" for group, node in own.items() for key in node]
    without = {*idle(order.config, keys), *_BESIDE}
    found = {}
    for group in (group for group in _MAKES if group in config):
        node = config[group]
        whole = not isinstance(node, Mapping)
        found[group] = (
            node if whole else {key: value for key, value in node.items() if f"{group}.{key}" not in without}
        )
    return found


def _releases(order: Order) -> bool:
    return bool(order.recipe and build_recipe(order.recipe).releases(order.experiment))


def _read(folder: Path) -> Run | None:
    try:
        return read_run(folder)
    except UserError:  # its own command says why
        return None


def _released(run: Run) -> str | None:
    """The key of what a run released, where its noise has no seed."""
    keys = [key for stage, key in run.stages.values() if stage == RELEASE.name]
    return keys[-1] if keys and not _promise(run).get("known_seed") else None


def _made_itself(run: Run) -> bool:
    entries = [one for one in run.document["stages"] if one.get("name") == RELEASE.name]
    return any(not one.get("cached") for one in entries)


def _promise(run: Run) -> Mapping[str, Any]:
    results = run.document.get("results")
    found = results.get("privacy") if isinstance(results, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _epsilon(run: Run) -> float | None:
    found = _promise(run).get("epsilon")
    return float(found) if isinstance(found, int | float) else None


def _data(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What tells one data set from another; files by where they lie."""
    described = config.get("dataset")
    values = described.items() if isinstance(described, Mapping) else ()
    return sorted((key, _placed(value)) for key, value in values if key not in _SIZES)


def _placed(value: Any) -> str:
    """A file by its place, all else as it is written."""
    if isinstance(value, str) and value and (found := Path(value).expanduser()).exists():
        return str(found.resolve())
    return repr(value)
