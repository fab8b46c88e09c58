"""One arm of a claim with one seed: what `kdx train` or `kdx halfspace` would do, and the figures that are
read from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from kdx.commands import _tell, halfspace
from kdx.commands._folder import begin_folder
from kdx.commands._words import parse_words
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core import signals
from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.report.run import document
from kdx.runs.claims import COUNTS, ClaimFigure
from kdx.runs.row_predictions import write_predictions
from kdx.runs.run import perform, protocol
from kdx.runs.traces import trace
from kdx.runs.unread import write_unread
from kdx.store.artifact import Artifact
from kdx.store.work import Listener
from kdx.tasks.shown import shown_metrics

Look = Callable[[ClaimFigure], tuple[float, Metric]]
"""A figure -> (its value, how it is shown and compared)."""


def try_halfspace(
    arm: str, words: Sequence[str], seed: int, further: Sequence[str], place: Path
) -> tuple[Look, dict[str, Any]]:
    problem, _ = halfspace.asked(parse_words("halfspace", words, halfspace.OPTIONS))
    errors, _ = halfspace.measure_methods(problem, [seed])

    def look(figure: ClaimFigure) -> tuple[float, Metric]:
        if figure.at not in errors:
            raise UserError(f"kdx halfspace has no method '{figure.at}'; it has {', '.join(errors)}")
        return 1 - errors[figure.at][0], figure.shown_as({})

    return look, {"words": [*words, f"first_seed={seed}", "seeds=1"]}


def try_train(
    arm: str, words: Sequence[str], seed: int, further: Sequence[str], place: Path
) -> tuple[Look, dict[str, Any]]:
    """One run as `kdx train` makes it, with a run folder of its own (without pictures); what is stored is not
    computed again.
    """
    from kdx.report.run.listeners import Many
    from kdx.report.run.progress import Progress

    whole = [*words, *further, f"seed={seed}"]
    order = wire(compose.check_words(whole))
    path = place / f"{arm}-{seed}"
    with document.at_work(path, timeout=1) as host:
        folder = begin_folder(path, order, ["kdx", "train", *whole], host)
        try:
            signals.raise_if_stopped()
            folder.save()
            with Progress() if sys.stderr.isatty() else nullcontext(Listener()) as progress:
                found, artifacts = perform(order, Many(progress, folder))
            folder.run["protocol"] = protocol(order, artifacts["prepare"])
            for name, artifact in artifacts.items():
                folder.link(name, artifact.path)
            results = found.json("results.json")
            trace(folder.run, results, artifacts)
            folder.run["predictions"], _ = write_predictions(found, folder.path, results, order.headline)
            if unread := write_unread(artifacts["prepare"], folder.path):
                folder.run["unread"] = unread
            folder.finish(results, None, order.headline)
        except KeyboardInterrupt:
            with signals.held():
                folder.interrupt()
            raise
        except Exception as error:
            signals.raise_if_stopped()
            folder.fail(error)
            raise UserError(f"{_tell.error_line(error)}\n{_tell.where(error, path, order)}") from error
    stages = {**artifacts, "evaluate": found}
    metrics = shown_metrics(results)
    return lambda figure: (value(stages, figure, metrics), figure.shown_as(metrics)), {
        "words": whole,
        "folder": str(folder.path),
        "evaluate": found.key,
    }


def value(stages: Mapping[str, Artifact], figure: ClaimFigure, metrics: Mapping[str, Metric]) -> float:
    """A number out of a file of one of the run's stages: `at` are dotted keys, in a list counted from 0. Of
    metrics.jsonl the first key is how many steps were done, as 50 in 50.validation/loss. metrics: of the run,
    the one that counts first.
    """
    stage, _, name = figure.file.partition("/")
    if stage not in stages or not stages[stage].file(name).is_file():
        raise UserError(f"the run has no {figure.file}; its stages are {', '.join(stages)}")
    jsonl = name.endswith(".jsonl")
    node: Any = by_steps_done(stages[stage].lines(name)) if jsonl else stages[stage].json(name)
    keys = [next(iter(metrics)) if key == COUNTS else key for key in figure.at.split(".")]
    for depth, key in enumerate(keys, 1):
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, Mapping) and key in node:
            node = node[key]
        else:
            has = (
                f"it has {', '.join(map(str, node))}"
                if isinstance(node, Mapping)
                else f"there stands {str(node)[:60]}"
            )
            raise UserError(f"{figure.file} has no '{'.'.join(keys[:depth])}': {has}")
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise UserError(f"'{figure.at}' of {figure.file} is no number: {str(node)[:60]}")
    return float(node)


def by_steps_done(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Steps done -> all that a training recorded there. A record's `step` counts from 0."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        found.setdefault(str(record["step"] + 1), {}).update(record)
    return found
