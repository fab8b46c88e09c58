"""report.md: a run reported in words, from its run.json alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from kdx.core.roles import AS_MANY_TRUE, ROLES, known_roles, learned_alone
from kdx.report.run.detail import class_section, row_section
from kdx.report.run.markup import code, escape, fenced, folded, markdown_table, table_of_cells
from kdx.report.run.privacy import privacy_section
from kdx.report.run.progress import duration
from kdx.report.run.sections import audited, figure_lines, over_sessions, results_section, under_shift
from kdx.tasks.shown import counting_metric

_DATA, _PROTOCOL = "## Data", "## Protocol"
Cells = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Header and rows of a table."""


def report(
    run: Mapping,
    folder: str,
    figures: Mapping[str, str],
    artifacts: Mapping[str, str],
    examples: Cells | None = None,
) -> str:
    """run: the content of run.json. folder: the run folder as the user would type it. figures: caption ->
    path and artifacts: stage -> path, both relative to the run folder. examples: those that are no pictures.
    Returns Markdown in which names cannot become markup."""
    parts = paragraphs(run, folder, artifacts, examples)
    place = next((i for i, part in enumerate(parts) if part in (_DATA, _PROTOCOL)), len(parts))
    return "\n\n".join([f"# {heading(run)}", *parts[:place], *figure_lines(figures), *parts[place:]]) + "\n"


def paragraphs(
    run: Mapping, folder: str, artifacts: Mapping[str, str], examples: Cells | None = None
) -> list[str]:
    """What `report` says but for its heading and figures, in its order: how the run ended, then chapters,
    each after its title "## ...". No other paragraph begins so."""
    parts = [
        *outcome(run),
        *results_section(run),
        *class_section(run),
        *row_section(run, folder, artifacts),
        *over_sessions(run),
        *under_shift(run),
        *audited(run),
        *privacy_section((run.get("results") or {}).get("privacy")),
        *(["## Examples", table_of_cells(*examples)] if examples else []),
    ]
    parts += [*data(run), *_protocol(run)]
    parts += [
        *stages(run, artifacts),
        *looking_closer(run, folder, artifacts, pictures=examples is None),
        *_environment(run),
        *_settings(run),
    ]
    return [part for part in parts if part]


def heading(run: Mapping) -> str:
    numbers = run.get("results") or {}
    names = [str(numbers[role].get("model", role)) for role in ("teacher", "student") if numbers.get(role)]
    return f"kdx run: {escape(' to '.join(names))}" if names else "kdx run"


def moment(stamp: str) -> str:
    """A time of run.json, to the second."""
    return str(stamp)[:19].replace("T", " ")


def outcome(run: Mapping) -> list[str]:
    """When, how it ended, what was typed."""
    ended = f", ended {escape(moment(run['ended']))}" if run.get("ended") else ""
    lines = [f"Status: **{escape(run['status'])}**. Started {escape(moment(run['started']))}{ended}."]
    command = list(run.get("command") or [])
    lines.append(f"Command:\n\n{fenced(shlex.join(command))}")
    changed = [word for word in command[1:] if "=" in word or word.startswith("~")]
    changes = ", ".join(code(word) for word in changed)
    lines.append(
        f"Changed from the defaults: {changes}." if changed else "Nothing was changed from the defaults."
    )
    if run.get("error"):
        lines.append(f"It stopped with:\n\n{fenced(run['error'])}")
    if run.get("traceback"):
        lines.append(folded("Traceback", fenced(run["traceback"])))
    return lines


def data(run: Mapping) -> list[str]:
    """The data set, as it was reported when it was prepared."""
    lines = [f"- {escape(line)}" for line in run.get("data") or []]
    return [_DATA, *(["\n".join(lines)] if lines else []), *_unread(run)] if lines or _unread(run) else []


def _unread(run: Mapping) -> list[str]:
    """The files that could not be read and were skipped, by name, with the reason where it is known; of
    many the first, and where the others are."""
    found = run.get("unread") or {}
    names, count = found.get("first") or [], found.get("count") or 0
    if not names:
        return []
    file, reasons = str(found.get("file")), found.get("reasons") or []  # older runs know no reasons
    which = f"all {count:,}" if len(names) >= count else f"the first {len(names):,} of {count:,}"
    return [
        f"Files that could not be read and were skipped, {which} (as a table: [{escape(file)}]({file})):",
        "\n".join(
            f"- {code(name)}{why and f': {escape(why)}'}"
            for name, why in zip_longest(names, reasons, fillvalue="")
        ),
    ]


def _protocol(run: Mapping) -> list[str]:
    numbers = run.get("results") or {}
    counts, lines = counting_metric(numbers), [_PROTOCOL]
    rows = ((run.get("protocol") or {}).get("counts") or {}).get("validation")
    said = [
        (
            "Selection (best weights, early stopping) looks at the validation split"
            + (", which has no rows here, so that nothing is selected" if rows == 0 else "")
            + ". The test split is read "
            + ("by the last two stages." if numbers.get("sessions") else "once, by the last stage.")
        ),
        (
            f"`last` is the weights at the end of training, `best` those with the "
            f"{'highest' if counts.more else 'lowest'} validation {escape(counts.title)}."
        ),
    ]
    if numbers.get("baseline"):
        loss = (run.get("config") or {}).get("baseline_loss") or {}
        alone = str(loss.get("_target_") or "losses.supervised.Supervised")
        learned = AS_MANY_TRUE if numbers.get("privacy") else None
        said.append(
            f"The {known_roles(numbers)['baseline'].words} is a matched baseline: the distilled "
            "student's model, initialisation, "
            f"optimiser steps, batch size and augmentation, with {learned or learned_alone(alone)}."
            + (
                f" Its weights are fresh ones: the distilled student's begin with {numbers['gained_by'][0]}."
                if "gained_by" in numbers
                else ""
            )
        )
        target = str(((run.get("config") or {}).get("loss") or {}).get("_target_") or "")
        if ".losses.align." in target:
            said[-1] += (
                " Its batches hold labelled rows alone, and so more of them a step than the student's, which "
                "the pool shares."
            )
    lines.append("\n".join(f"- {line}" for line in said))
    if run.get("protocol"):
        lines.append(markdown_table(["", "value"], pairs(run["protocol"])))
    return lines


def stages(run: Mapping, artifacts: Mapping[str, str]) -> list[str]:
    if not run.get("stages"):
        return []
    made = [name for name in ("threads", "precision") if any(name in stage for stage in run["stages"])]
    rows = [
        [
            f"[{escape(stage['name'])}]({artifacts[stage['name']]})"
            if stage["name"] in artifacts
            else escape(stage["name"]),
            code(stage["key"]),
            "yes" if stage["cached"] else "no",
            duration(stage["seconds"]),
            *(escape(str(stage.get(name, ""))) for name in made),
        ]
        for stage in run["stages"]
    ]
    return ["## Stages", markdown_table(["stage", "key", "from the store", "time", *made], rows)]


def looking_closer(
    run: Mapping, folder: str, artifacts: Mapping[str, str], *, pictures: bool = True
) -> list[str]:
    """pictures: whether the rows are some."""
    where = shlex.quote(folder)
    shown = "Curves, hyperparameters, pictures" if pictures else "Curves, hyperparameters, figures"
    lines = ["## Looking closer", f"{shown}:\n\n{fenced(f'kdx board {where}')}"]
    if run.get("status") == "finished" and "student-train" in artifacts:
        lines.append(
            f"The student alone, with a loader and a card of lineage:\n\n{fenced(f'kdx export {where}')}"
        )
    weights = [
        f"- {escape(role.words)}: {code(artifacts[role.stage])}"
        for role in known_roles(run.get("results")).values()
        if role.stage in artifacts
    ]
    members = (run.get("results") or {}).get("members") or []
    weights += [
        f"- member {number} of the teacher: {code(artifacts[stage])}"
        for number in range(1, len(members) + 1)
        if (stage := f"{ROLES['teacher'].stage}-{number}") in artifacts
    ]
    if weights:
        lines.append("Weights, in this folder:\n\n" + "\n".join(weights))
    lines.append("`run.json` and `metrics.jsonl` hold every number; TensorBoard is a view of them.")
    return lines


def _environment(run: Mapping) -> list[str]:
    return (
        ["## Environment", markdown_table(["", "value"], pairs(run["environment"]))]
        if run.get("environment")
        else []
    )


def _settings(run: Mapping) -> list[str]:
    if not run.get("config"):
        return []
    return [folded("Every setting", fenced(json.dumps(run["config"], indent=2), "json"))]


def pairs(value: Mapping, prefix: str = "") -> list[list[str]]:
    """A nested mapping as rows of (dotted name, value), escaped."""
    rows = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            rows += pairs(item, f"{prefix}{key}.")
        else:
            text = item if isinstance(item, str) else json.dumps(item)
            rows.append([escape(f"{prefix}{key}"), escape(text)])
    return rows
