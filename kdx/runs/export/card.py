"""card.md: what an exported network is and what made it, from its card.json alone. Names cannot become
markup. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kdx.report.run.markdown import code, escape, fenced, markdown_table, moment
from kdx.report.run.table import bytes_in_words, decimals
from kdx.report.run.verdict import ROLE_WORDS, percent, points

USE = {
    "state_dict": ("With kdx", 'import kdx\n\nnetwork = kdx.load("FOLDER")\nlogits = network(pixels)'),
    "torch_export": (
        "Without kdx, with PyTorch",
        'import torch\n\nnetwork = torch.export.load("FOLDER/FILE").module()\nlogits = network(pixels)',
    ),
    "onnx": (
        "Without PyTorch, with ONNX Runtime",
        'import onnxruntime\n\nsession = onnxruntime.InferenceSession("FOLDER/FILE")\n'
        '(logits,) = session.run(None, {"pixels": pixels})',
    ),
}


def markdown(card: Mapping[str, Any]) -> str:
    """card: the content of card.json, as kdx.runs.export.export writes it."""
    parts = [
        f"# {escape(card['model'])}: {escape(ROLE_WORDS[card['role']])}",
        opening(card),
        *_contract(card),
        *use(card),
        *_results(card),
    ]
    parts += [*lineage(card), *parity(card), *rest(card)]
    return "\n\n".join(parts) + "\n"


def opening(card: Mapping[str, Any]) -> str:
    text = f"{card['parameters']:,} parameters, {bytes_in_words(card['bytes'])}. Weights: {card['which']}."
    text += f" Exported {escape(card['exported'])} by kdx {escape(card['kdx'])}."
    return text + f"\n\nKey: {code(card['artifact'])}"


def _contract(card: Mapping[str, Any]) -> list[str]:
    wanted = card["input"]
    channels, height, width = wanted["shape"]
    lines = [
        f"- input {code('pixels')}: float32, shape (N, {channels}, {height}, {width}), any N of at least 1",
        f"- values from 0 to 1 (a byte divided by 255); channels: {escape(wanted['channels'])}",
        "- the normalisation is built in: do not normalise before",
        f"- output {code('logits')}: float32, shape (N, {len(card['classes'])}); softmax gives probabilities",
    ]
    names = markdown_table(
        ["index", "class"], [[str(i), escape(name)] for i, name in enumerate(card["classes"])]
    )
    return [
        "## Input and output",
        "\n".join(lines),
        f"<details><summary>Classes</summary>\n\n{names}\n\n</details>",
    ]


def use(card: Mapping[str, Any]) -> list[str]:
    lines = ["## Use"]
    for name, entry in card["formats"].items():
        words, text = USE[name]
        lines.append(f"{words}:\n\n{fenced(text.replace('FILE', entry['file']), 'python')}")
    return lines


def _results(card: Mapping[str, Any]) -> list[str]:
    """Every role's figures side by side: the control is the student alone."""
    if not card["metrics"]:
        return ["## Results", "This run was not evaluated."]
    which, rows = card["which"], []
    for role, words in ROLE_WORDS.items():
        about = card["metrics"].get(role)
        numbers = (about or {}).get(which) or {}
        test, validation = numbers.get("test") or {}, numbers.get("validation") or {}
        if about:
            rows.append(
                [
                    escape(words),
                    f"{about['parameters']:,}",
                    percent(validation.get("accuracy")),
                    percent(test.get("accuracy")),
                    decimals(test.get("ece"), 3),
                    decimals(test.get("nll"), 3),
                    percent(test.get("agreement")),
                    str(test.get("n", "-")),
                ]
            )
    header = ["", "parameters", "validation", "test", "ECE", "NLL", "agreement with the teacher", "test rows"]
    lines = ["## Results", markdown_table(header, rows)]
    if card["gain"] is not None:
        lines.append(
            f"Gain of distillation over the student alone: {points(card['gain'])} points of test "
            "accuracy, from one seed."
        )
    return lines


def lineage(card: Mapping[str, Any]) -> list[str]:
    made, data = card["lineage"], card["lineage"]["data"]
    parts = ["## Lineage"]
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
    parts.append(f"{escape(ROLE_WORDS[card['role']]).capitalize()}:\n\n{markdown_table(['', 'value'], rows)}")
    for teacher in made["teachers"]:
        metrics = (
            (card["metrics"].get("teacher") or {}) if teacher["artifact"] == card["teacher_artifact"] else {}
        )
        accuracy = ((metrics.get(card["which"]) or metrics.get("last") or {}).get("test") or {}).get(
            "accuracy"
        )
        rows = [
            ["key", code(teacher["artifact"])],
            ["model", spec(teacher["model"])],
            ["loss", spec(teacher["loss"])],
            ["training", spec(teacher["training"]) if teacher["training"] else "none: taken as it is"],
            ["checkpoint (SHA-256)", code(teacher["checkpoint"]) if teacher["checkpoint"] else "none"],
            ["data", code(teacher["data"])],
            ["test accuracy", percent(accuracy)],
            ["code", code(teacher["code"])],
        ]
        parts.append(f"Teacher:\n\n{markdown_table(['', 'value'], rows)}")
    labels = made["labels"]
    if labels is None:
        parts.append("Labels: those of the dataset only; no teacher.")
    else:
        rows = [
            ["key", code(labels["artifact"])],
            ["mode", escape(labels["mode"])],
            ["the teacher sees", escape(f"{labels['view']} view")],
            ["stored views of a row", code(json.dumps(labels["views"]))],
            ["augmentation", escape(", ".join(labels["augment"]) or "none")],
            ["teacher on validation", percent(labels["teacher_accuracy_on_validation"])],
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
                percent(same["argmax_agreement"], 2),
                str(same["rows"]),
            ]
        )
    header = [
        "format",
        "file",
        "size",
        "largest difference of a logit",
        "same class",
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
        f"<details><summary>Environment</summary>\n\n{environment}\n\n</details>",
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
