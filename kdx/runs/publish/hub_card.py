"""README.md of a student on Hugging Face's hub: the head in YAML, which the hub's own library writes, and
what a reader must know before using it. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kdx.core.metric import Metric
from kdx.core.roles import known_roles
from kdx.report.metric import with_unit
from kdx.report.run.markup import code, escape, fenced
from kdx.report.run.uncertainty import standard_error
from kdx.report.run.verdict import measured_on
from kdx.runs.export.card import body, component_line, opening
from kdx.runs.lineage import AGAINST_TEACHER
from kdx.runs.publish.publisher import Publishing
from kdx.runs.publish.shared import Shared
from kdx.store.places import recorded
from kdx.tasks.shown import counting_metric, shown_metrics

README, UNFILLED = "README.md", "TO BE FILLED IN"
_TASKS = {
    ("pictures", True): "image-classification",
    ("table", True): "tabular-classification",
    ("table", False): "tabular-regression",
    ("tokens", True): "text-classification",
}
"""(what a network reads, whether it answers classes) -> what the hub calls that."""


def readme(card: Mapping[str, Any], run: Shared, asked: Publishing) -> str:
    """card: that of the export (card.json), of which nothing is withheld here that was not there."""
    from huggingface_hub import ModelCard

    head = f"---\n{_head(card, run, asked).to_yaml()}\n---"
    parts = [
        f"# {escape(str(asked.destination.repository).partition('/')[2])}",
        *_what(card, run, asked),
        *_licences(card, asked),
        *_intended(card, run),
        *_limits(card, run),
        *(part.replace('"FOLDER"', "FOLDER").replace('"FOLDER/', 'FOLDER + "/') for part in body(card)),
    ]
    return str(ModelCard("\n\n".join([head, *parts]) + "\n"))


def _head(card: Mapping[str, Any], run: Shared, asked: Publishing) -> Any:
    from huggingface_hub import ModelCardData

    kind = hub_task(card)
    metrics = [metric.name for metric, _ in _measured(card)]
    by_hand = {"license": "other", "license_name": "to-be-filled-in"}
    return ModelCardData(
        **({"license": asked.license} if asked.license else by_hand),
        library_name="transformers" if "save_pretrained" in card["formats"] else "kdx",
        pipeline_tag=kind,
        tags=["knowledge-distillation", "pytorch", "kdx"],
        datasets=[own] if (own := public_dataset(run)) else None,
        metrics=metrics or None,
        model_name=str(asked.destination.repository).partition("/")[2],
        eval_results=list(_evaluated(card, run, kind or "other")) or None,
    )


def hub_task(card: Mapping[str, Any]) -> str | None:
    """What the hub calls a network that reads such rows and answers so; None where it has no word."""
    reads = card["input"].get("reads", "pictures")
    if "save_pretrained" in card["formats"]:
        return "text-generation"
    return _TASKS.get((reads, bool(card.get("classes"))))


def public_dataset(run: Shared) -> str | None:
    """The name of the data set; None where it is files of the user's own, whose place says nothing."""
    config = run.run.document["config"]
    own = recorded(config, run.run.document.get("protocol"))
    typed = [key for key in own if (config.get("dataset") or {}).get(key.removeprefix("dataset."))]
    name = run.asked.choices.get("dataset")
    return None if typed else name


def _measured(card: Mapping[str, Any]) -> Iterator[tuple[Metric, float]]:
    """What the student attains on the test split, in each metric that its run shows, but those that hold it
    against its teacher."""
    results = card["metrics"]
    test = measured_on(results, "student", card["which"]) if results else {}
    for name, metric in shown_metrics(results).items() if results else ():
        value = test.get(name)
        known = isinstance(value, int | float) and math.isfinite(value)
        if known and name not in AGAINST_TEACHER:
            yield metric, value


def _evaluated(card: Mapping[str, Any], run: Shared, kind: str) -> Iterator[Any]:
    from huggingface_hub import EvalResult

    named = card["lineage"]["data"]["dataset"]
    for metric, value in _measured(card):
        yield EvalResult(
            task_type=kind,
            dataset_type=public_dataset(run) or "own-files",
            dataset_name=str(named),
            dataset_split="test",
            metric_type=metric.name,
            metric_name=metric.title,
            metric_value=value,
        )


def _what(card: Mapping[str, Any], run: Shared, asked: Publishing) -> list[str]:
    chosen, made = run.asked.choices, card["lineage"]
    loss = component_line(made["loss"]) if made["loss"] else str(chosen.get("loss"))
    teacher = escape(chosen.get("teacher", "none"))
    whom = "labels that a noisy vote released, see Privacy," if run.private else f"the teacher {teacher}"
    text = (
        f"A {escape(card['model'])} that kdx {escape(card['kdx'])} distilled from {whom} on "
        f"{escape(made['data']['dataset'])}, by {code(loss)}, seed {code(card['seed'])}. {opening(card)}"
    )
    repository = asked.destination.repository
    get = f'import huggingface_hub\n\nFOLDER = huggingface_hub.snapshot_download("{repository}")'
    return [
        text,
        f"In the code below FOLDER is where the hub's library lays this down:\n\n{fenced(get, 'python')}",
    ]


def _licences(card: Mapping[str, Any], asked: Publishing) -> list[str]:
    data = escape(card["lineage"]["data"]["dataset"])
    weights = asked.license or f"**{UNFILLED}** (here and as `license` in the head of this file)"
    whose = asked.data_license or (
        f"**{UNFILLED}**: under what licence the data may be used, and whether a model that was trained on "
        "them may be handed on"
    )
    also = "of the teacher's weights, where they came from elsewhere"
    teachers = any(one.get("checkpoint") for one in card["lineage"]["teachers"])
    lines = [f"- of this model: {weights}", f"- of the data ({data}): {whose}"]
    lines += [f"- {also}: **{UNFILLED}**"] if teachers else []
    return ["## Licences", "\n".join(lines)]


def _intended(card: Mapping[str, Any], run: Shared) -> list[str]:
    data = escape(card["lineage"]["data"]["dataset"])
    return [
        "## Intended use",
        f"Rows like those of {data}, in the form that the section on input and output says, and comparisons "
        "of methods of distillation. What it is worth on other rows nobody has measured: measure it on rows "
        "of your own before it decides anything.",
        f"Who is to use it, and for what it is not to be used: **{UNFILLED}**.",
    ]


def _limits(card: Mapping[str, Any], run: Shared) -> list[str]:
    lines, results = [], card["metrics"]
    if results:
        counts = counting_metric(results)
        test = measured_on(results, "student", card["which"])
        value, n = test.get(counts.name), test.get("n")
        if value is not None and n:
            sure = ""
            if counts.share:
                error = counts.scale * standard_error(value, n)
                sure = f", good to {error:.1f} {counts.gains} (one binomial standard error)"
            lines.append(
                f"Its test {escape(counts.title)} is {with_unit(counts, value)}, of one seed, on {n:,} rows"
                f"{sure}; a difference of one seed is no proof."
            )
        alone = measured_on(results, "baseline", card["which"]).get(counts.name)
        if alone is not None:
            lines.append(
                f"The control ({escape(known_roles(results)['baseline'].words)}: the same network, trained "
                f"in the same way) has {with_unit(counts, alone)} there."
            )
    lines.append("It repeats errors of its teacher, and of the labels.")
    warned = [] if run.private else [str(text) for text in run.run.document.get("warnings") or []]
    return ["## Limits", "\n".join(f"- {line}" for line in [*lines, *map(escape, warned)])]
