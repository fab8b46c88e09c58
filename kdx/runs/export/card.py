"""card.md: what an exported network is and what made it, from its card.json alone. Names cannot become
markup. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kdx.core.metric import Metric
from kdx.core.roles import known_roles, roles_of
from kdx.report.metric import with_unit
from kdx.report.run.markdown import moment
from kdx.report.run.markup import code, escape, fenced, folded, markdown_table, table_of_cells
from kdx.report.run.privacy import privacy_section
from kdx.report.run.sentences import gained
from kdx.report.run.sessions import session_cells
from kdx.report.run.units import bytes_in_words, percent, whole_number
from kdx.report.run.verdict import measured_on
from kdx.runs.export.inputs_outputs import taken_and_answered
from kdx.runs.export.preparing import preparing
from kdx.runs.export.use import use
from kdx.tasks.shown import counting_metric, shown_metrics

_ANSWERED = {
    "exact": "the largest votes of the teachers of the shards, without noise",
    "plain": "the answers of a teacher of all private rows",
}
_WHICH = {"last": "last (at the end of training)", "best": "best (on validation)"}


def markdown(card: Mapping[str, Any]) -> str:
    """card: the content of card.json, as kdx.runs.export.export writes it."""
    parts = [f"# {escape(card['model'])}: {escape(role_words(card))}", opening(card), *body(card)]
    return "\n\n".join(parts) + "\n"


def body(card: Mapping[str, Any]) -> list[str]:
    """All sections: what it takes and answers, its use, results, lineage."""
    parts = [*taken_and_answered(card), *preparing(card), *use(card), *_results(card)]
    parts += [*privacy_section(card["lineage"].get("privacy")), *lineage(card), *parity(card)]
    return [*parts, *rest(card)]


def role_words(card: Mapping[str, Any]) -> str:
    """What the exported network is."""
    about = known_roles(card["metrics"]).get(card["role"])
    return about.words if about else card["role"]


def opening(card: Mapping[str, Any]) -> str:
    counted = "" if card["parameters"] is None else f"{card['parameters']:,} parameters, "
    of_table = {True: ", which the table of its run shows", False: ", not those of the table of its run"}
    which = _WHICH.get(card["which"], escape(card["which"])) + of_table.get(card.get("of_table"), "")
    text = f"{counted}{bytes_in_words(card['bytes'])}. Weights: {which}."
    text += f" Exported {escape(card['exported'])} by kdx {escape(card['kdx'])}."
    return text + f"\n\nKey: {code(card['artifact'])}"


def _results(card: Mapping[str, Any]) -> list[str]:
    """Every role's figures side by side: the control is the student alone."""
    if not card["metrics"]:
        return ["## Results", "This run was not evaluated."]
    which, results, rows = card["which"], card["metrics"], []
    counts = counting_metric(results)
    beside = [m for m in shown_metrics(results).values() if m.column != "none" and m.name != counts.name]
    for role, about in roles_of(results).items():
        test, validation = (measured_on(results, role, which, split) for split in ("test", "validation"))
        rows.append(
            [
                escape(about.words),
                whole_number(results[role]["parameters"]),
                with_unit(counts, validation.get(counts.name)),
                with_unit(counts, test.get(counts.name)),
                *(with_unit(m, test.get(m.name)) for m in beside),
                str(test.get("n", "-")),
            ]
        )
    splits = [_head(counts, split) for split in ("validation", "test")]
    header = ["", "parameters", *splits, *(escape(m.title if m.unit else m.heading) for m in beside)]
    lines = ["## Results", markdown_table([*header, "test rows"], rows)]
    if card["gain"] is not None:
        lines.append(
            f"Gain of distillation over the {escape(known_roles(results)['baseline'].words)}: "
            f"{gained(counts, card['gain'])} of test {escape(counts.title)}, from one seed."
        )
    header, cells = session_cells(results)
    return [*lines, table_of_cells(header, cells)] if cells else lines


def _head(counts: Metric, split: str) -> str:
    """The values below it have their unit; what has none is named."""
    return split if counts.unit else escape(f"{split} {counts.title}")


def lineage(card: Mapping[str, Any]) -> list[str]:
    made, data, members = card["lineage"], card["lineage"]["data"], card.get("members") or []
    counts = counting_metric(card["metrics"])
    parts = ["## Lineage"]
    parts += [f"Member {n}:\n\n{_of_network(card, member)}" for n, member in enumerate(members, 1)]
    rows = [
        ["loss", spec(made["loss"])],
        ["training", spec(made["training"])],
        ["precision", code(made["precision"])],
        ["seed of the run", code(card["seed"])],
        ["made", date_of(made["created"])],
        ["code", code(made["code"])],
        *(
            [["checkpoint that it began with (SHA-256)", code(made["checkpoint"])]]
            if made.get("checkpoint")
            else []
        ),
    ]
    if card["role"] != "teacher" or not members:
        parts.append(f"{escape(role_words(card)).capitalize()}:\n\n{markdown_table(['', 'value'], rows)}")
    parts += [f"Teacher:\n\n{_of_network(card, teacher)}" for teacher in made["teachers"]]
    labels = made["labels"]
    if made.get("privacy"):
        parts.append("Labels: those that a noisy vote released, see Privacy.")
    elif labels is None:
        parts.append(_without_stored_answers(made))
    elif labels["mode"] == "given":
        rows = [
            ["key", code(labels["artifact"])],
            ["file (digest)", code(labels["file"])],
            ["rows that it answers", code(json.dumps(labels["given"]))],
            ["of these corrected by hand", escape(f"{labels['corrected']:,}")],
            ["on validation", _on_validation(counts, labels)],
        ]
        parts.append(
            "Answers from elsewhere, in a file, in place of a "
            f"teacher's:\n\n{markdown_table(['', 'value'], rows)}"
        )
    else:
        rows = [
            ["key", code(labels["artifact"])],
            ["mode", escape(labels["mode"])],
            ["the teacher sees", escape(f"{labels['view']} view")],
            ["stored views of a row", code(json.dumps(labels["views"]))],
            ["augmentation", escape(", ".join(labels["augment"]) or "none")],
            ["teacher on validation", with_unit(counts, teacher_score(labels))],
        ]
        parts.append(f"Labels of the teacher:\n\n{markdown_table(['', 'value'], rows)}")
    rows = [
        ["key", code(data["artifact"])],
        ["dataset", escape(data["dataset"])],
        ["asked for", code(json.dumps(data["sizes"]))],
        ["rows", code(json.dumps(data["counts"]))],
        ["files (SHA-256)", code(json.dumps(data["source_digests"]))],
    ]
    if data["range"]:
        rows.append(["black to white in the files", code(json.dumps(data["range"]))])
    return [*parts, f"Data:\n\n{markdown_table(['', 'value'], rows)}"]


def _without_stored_answers(made: Mapping[str, Any]) -> str:
    """The labels of a network whose teacher, if there was one, laid down no answers."""
    if (of := made.get("answered")) in _ANSWERED:
        return f"Labels: {_ANSWERED[of]}. Nothing is promised of the private rows."
    if asked := made.get("asked"):
        named = ", ".join(code(name) for name in asked)
        return f"Labels: those of the dataset, and the answers of {named}, which was asked as it learned."
    return "Labels: those of the dataset only; no teacher."


def _of_network(card: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """What made a teacher, or one network of several that are exported as one."""
    counts = counting_metric(card["metrics"])
    members = {member["artifact"]: member for member in card["metrics"].get("members") or []}
    alone = {card["teacher_artifact"]: card["metrics"].get("teacher") or {}}
    metrics = (members | alone).get(about["artifact"]) or {}
    tested = (metrics.get(card["which"]) or metrics.get("last") or {}).get("test") or {}
    untrained = "fitted at once" if about.get("fitted") else "taken as it is"
    rows = [
        ["key", code(about["artifact"])],
        ["model", spec(about["model"])],
        ["loss", spec(about["loss"])],
        ["training", spec(about["training"]) if about["training"] else f"none: {untrained}"],
        ["checkpoint (SHA-256)", code(about["checkpoint"]) if about["checkpoint"] else "none"],
        *_files_of(about["model"]),
        ["data", code(about["data"])],
        [f"test {escape(counts.title)}", with_unit(counts, tested.get(counts.name))],
        ["code", code(about["code"])],
    ]
    return markdown_table(["", "value"], rows)


def _on_validation(counts: Metric, labels: Mapping[str, Any]) -> str:
    """Of answers in a file, which may be to some rows."""
    if part := labels.get("validation_part"):
        return f"{with_unit(counts, part['score'])} on {part['n']:,} of {part['of']:,} rows"
    return with_unit(counts, teacher_score(labels))


def _files_of(model: Mapping[str, Any] | None) -> list[list[str]]:
    """A row for each file that a model is, as one in ONNX, known by its content."""
    return [[f"{name} (digest)", code(of)] for name, of in ((model or {}).get("sources") or {}).items()]


def teacher_score(labels: Mapping[str, Any]) -> float | None:
    """Of the teacher on validation; that of a task's own metric has a key of its own."""
    keys = ("teacher_score_on_validation", "teacher_accuracy_on_validation")
    return next((labels[key] for key in keys if key in labels), None)


def parity(card: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, entry in card["formats"].items():
        same = entry["parity"]
        rows.append(
            [
                escape(name),
                code(entry["file"]),
                bytes_in_words(entry["bytes"]),
                f"{same['max_abs_difference']:.2g}",
                *([percent(same.get("argmax_agreement"), 2)] if card.get("classes") else []),
                str(same["rows"]),
            ]
        )
    header = [
        "format",
        "file",
        "size",
        *(
            ["largest difference of a logit", "same class"]
            if card.get("classes")
            else ["largest difference of a number"]
        ),
        f"{escape(same['split'])} rows",
    ]
    return ["## Parity with the original", markdown_table(header, rows)]


def rest(card: Mapping[str, Any]) -> list[str]:
    run = card["run"]
    command = fenced(run["command"])
    about = {"run": run["environment"], "export": card["environment"]}
    environment = fenced(json.dumps(about, indent=1), "json")
    return [
        "## Run",
        (
            f"Started {escape(moment(run['started']))}; a stage that came from the store may be older. "
            f"Command:\n\n{command}"
        ),
        folded("Environment", environment),
        "card.json has all of this and every setting.",
    ]


def spec(component: Mapping[str, Any] | None) -> str:
    """`KD(temperature=4, alpha=0.9)`"""
    return code(component_line(component)) if component else "none"


def component_line(component: Mapping[str, Any]) -> str:
    """A spec in one line: the name and what it was given, without what was left at nothing."""
    given: Sequence[str] = [
        f"{k}={json.dumps(v)}"
        for k, v in component.items()
        if k not in ("_target_", "sources") and v is not None
    ]
    return f"{str(component.get('_target_')).rpartition('.')[2]}({', '.join(given)})"


def date_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
