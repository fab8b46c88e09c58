"""What an exported network takes and answers, for card.md. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kdx.report.run.markup import code, escape, folded, markdown_table


def taken_and_answered(card: Mapping[str, Any]) -> list[str]:
    wanted = card["input"]
    if "inputs" in wanted:
        return ["## Input and output", "\n".join([*_named(wanted), *_output(card)]), *_classes(card)]
    channels, height, width = wanted["shape"]
    lines = [
        f"- input {code('pixels')}: float32, shape (N, {channels}, {height}, {width}), any N of at least 1",
        f"- values from 0 to 1 (a byte divided by 255); channels: {escape(wanted['channels'])}",
        "- the normalisation is built in: do not normalise before",
        *_output(card),
    ]
    return ["## Input and output", "\n".join(lines), *_classes(card)]


def _named(wanted: Mapping[str, Any]) -> list[str]:
    """One line an input, of rows that are no pictures."""
    return [
        f"- input {code(name or 'rows')}: {escape(of['dtype'])}, shape (N, "
        f"{', '.join(map(str, of['shape']))}), any N of at least 1"
        for name, of in wanted["inputs"].items()
    ]


def _output(card: Mapping[str, Any]) -> list[str]:
    if not card.get("classes"):
        return [
            f"- output {code(name)}: shape ({', '.join(map(str, ('N', *shape)))})"
            for name, shape in (card.get("output") or {"answers": []}).items()
        ]
    shape = f"(N, {len(card['classes'])})"
    lines = [f"- output {code('logits')}: float32, shape {shape}; softmax gives probabilities"]
    if not card.get("tasks"):
        return lines
    listed = "; ".join(f"{number}: {_columns(own)}" for number, own in enumerate(card["tasks"], 1))
    shown = code(f"logits[:, {json.dumps(card['tasks'][0])}].softmax(1)")
    return [
        *lines,
        "- a head a task: a row is one of the classes of its own task, and which that is must be known: take "
        f"the softmax among the logits of these alone, as in {shown} for task 1. Tasks, and their columns of "
        f"the logits: {listed}. The results below are by task",
    ]


def _columns(own: Sequence[int]) -> str:
    return ", ".join(map(str, own[:20])) + (" ..." if len(own) > 20 else "")


def _classes(card: Mapping[str, Any]) -> list[str]:
    rows = [[str(i), escape(name)] for i, name in enumerate(card.get("classes") or [])]
    if not rows:
        return []
    return [folded("Classes", markdown_table(["index", "class"], rows))]
