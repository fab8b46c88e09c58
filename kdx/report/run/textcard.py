"""The text card of a run on TensorBoard: what it was, what came of it, on one screen. From run.json alone, as
Markdown.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from kdx.core.roles import ROLE_WORDS
from kdx.report.run import audit, shifts
from kdx.report.run.markdown import heading, moment
from kdx.report.run.markup import code, escape, fenced, markdown_table, table_of_cells
from kdx.report.run.names import TARGET, settings_in, typed, written
from kdx.report.run.progress import duration
from kdx.report.run.rounds import round_cells, round_sentence
from kdx.report.run.sentences import result_sentences
from kdx.report.run.table import role_cells

_TRAINED = ("optimiser", "lr", "schedule", "batch_size", "precision")
_SPLITS = {
    "labelled": "labels",
    "unlabelled": "in the pool, their labels hidden",
    "validation": "for validation",
    "test": "for the test",
}


def card(run: Mapping, folder: str) -> str:
    """run: the content of run.json. folder: the run folder's name. TensorBoard shows no HTML in it, and names
    cannot become markup.
    """
    results = run.get("results") or {}
    began = escape(moment(run["started"]))
    lines = [
        f"# {heading(run)}",
        f"**{escape(run['status'])}**, started {began}, in {code(folder)}",
        code(shlex.join(run["command"])),
    ]
    lines += [fenced(run["error"])] if run.get("error") else []
    lines += [f"> **Warning:** {escape(warning)}" for warning in run.get("warnings") or []]
    if results:
        brief, _ = role_cells(results, results["headline"], short=True)  # TensorBoard breaks longer words
        _, rows = role_cells(results, results["headline"])
        lines.append(table_of_cells(brief, rows))
        found = [
            *result_sentences(results, results["headline"]),
            *shifts.shift_sentences(results),
            *audit.audit_sentences(run.get("audit"), results),
        ]
        lines.append("\n".join(f"- {escape(line)}" for line in found))
        lines += _rounds(results)
    lines.append(
        markdown_table(["made of", ""], [[f"**{what}**", words] for what, words in facts(run).items()])
    )
    lines.append("Every number is in `run.json`, the whole story in `report.md`.")
    return "\n\n".join(line for line in lines if line) + "\n"


def _rounds(results: Mapping) -> list[str]:
    header, rows = round_cells(results)
    if not rows:
        return []
    return [markdown_table([escape(cell) for cell in header], rows), escape(round_sentence(results))]


def facts(run: Mapping) -> dict[str, str]:
    """What the run was made of, the settings of each part on a line."""
    config, results = run.get("config") or {}, run.get("results") or {}
    chosen = config.get("choices") or {}
    found = {}
    for group in ("teacher", "student", "loss", "select", "recipe", "dataset"):
        if chosen.get(group) not in (None, "all", "distil"):
            found[group] = described(chosen[group], config.get(group))
    counts = (run.get("protocol") or {}).get("counts") or {}
    if counts:
        found["rows"] = escape(
            ", ".join(f"{counts[split]:,} {words}" for split, words in _SPLITS.items() if counts.get(split))
        )
    for role, node in {"teacher": "teacher_pretrain", "student": "student_train"}.items():
        if isinstance(config.get(node), Mapping):
            steps = (results.get(role) or {}).get("steps")
            words = [f"{steps:,} steps"] if steps is not None else []
            words += [f"{key} {typed(config[node][key])}" for key in _TRAINED if key in config[node]]
            found[f"training of the {ROLE_WORDS[role]}"] = escape(
                ", ".join([*words, f"augment {typed(list(config[node].get('augment') or []))}"])
            )
    if "seed" in config:
        found["seed"] = escape(typed(config["seed"]))
    if run.get("stages"):
        found["stages"] = escape(
            ", ".join(
                f"{s['name']} {duration(s['seconds'])}{' (from the store)' if s['cached'] else ''}"
                for s in run["stages"]
            )
        )
    where = run.get("environment") or {}
    found["computed on"] = escape(
        ", ".join(
            f"{key} {where[key]}" for key in ("device", "threads", "kdx", "commit", "torch") if where.get(key)
        )
    )
    return found


def described(name: str, node: Any) -> str:
    """`kd: temperature 4, alpha 0.9`; the nodes in it are named by their options."""
    values = settings_in(node) if isinstance(node, Mapping) else ()
    inner = ", ".join(
        f"{key.removesuffix(TARGET)} {written(key, value)}"
        for key, value in values
        if value is not None and key != "_target_"
    )
    return f"{code(name)}{': ' if inner else ''}{escape(inner)}"
