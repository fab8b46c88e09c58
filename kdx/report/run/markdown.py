"""report.md: a run reported in words, from its run.json alone."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from kdx.core.errors import printable
from kdx.core.roles import ROLES
from kdx.report.run import audit, shifts
from kdx.report.run.progress import duration
from kdx.report.run.table import result_sentences, results_title, role_cells
from kdx.report.run.verdict import ROLE_WORDS, metric, percent, present, rounded, which_of

MANY_CLASSES, FEW_CLASSES = 100, 20
"""Of more classes than the first only so many as the second are listed."""
FIGURE = re.compile(r"[-+\\]*[\d.,]*\s?(%|[kMG]?B?|s|ms|min)( of \d+)?$")
"""A cell that is a number with its unit, or the dash in place of one."""


def report(run: Mapping, folder: str, figures: Mapping[str, str], artifacts: Mapping[str, str]) -> str:
    """run: the content of run.json. folder: the run folder as the user would type it. figures: caption ->
    path and artifacts: stage -> path, both relative to the run folder. Returns Markdown in which names cannot
    become markup."""
    parts = [
        f"# {heading(run)}",
        *outcome(run),
        *_results(run),
        *by_class(run),
        *_shifted(run),
        *audited(run),
        *figure_lines(figures),
    ]
    parts += [*data(run), *_protocol(run)]
    parts += [
        *stages(run, artifacts),
        *looking_closer(run, folder, artifacts),
        *_environment(run),
        *_settings(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


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
        lines.append(f"<details><summary>Traceback</summary>\n\n{fenced(run['traceback'])}\n\n</details>")
    return lines


def _results(run: Mapping) -> list[str]:
    numbers = run.get("results")
    lines = ["## Results"] if numbers or run.get("warnings") else []
    lines += [f"> **Warning:** {escape(warning)}" for warning in run.get("warnings") or []]
    if numbers:
        headline = numbers.get("headline", "last")
        header, rows = role_cells(numbers, headline)
        weights = escape(results_title(numbers, headline))
        lines += [
            f"Models: {weights}.",
            markdown_table(header, [[escape(cell) for cell in row] for row in rows]),
        ]
        gate = (run.get("gate") or {}).get("text")
        lines.append(
            "\n".join(
                f"- {escape(line)}"
                for line in [*result_sentences(numbers, headline), *([f"The gate: {gate}."] if gate else [])]
            )
        )
        lines.append(best_and_last(numbers))
        lines.append(
            "ECE: expected calibration error on the test split (0 is perfect). Agreement: share "
            "of test rows on which the model and the teacher name the same class. MFLOPs: one "
            "forward pass of one picture."
        )
    return lines


def by_class(run: Mapping) -> list[str]:
    """Balanced accuracy, and the recall of each class; of many classes those that the last network of the
    table knows least.
    """
    numbers = run.get("results") or {}
    counts, used = (numbers.get("class_counts") or {}).get("test"), numbers.get("headline", "last")
    recalls = {
        role: found
        for role in present(numbers)
        if (found := ((numbers[role].get(which_of(role, used)) or {}).get("test") or {}).get("recall"))
    }
    if not counts or not recalls:
        return []
    last = list(recalls.values())[-1]
    order = (
        range(len(counts))
        if len(counts) <= MANY_CLASSES
        else sorted((c for c in range(len(counts)) if counts[c]), key=lambda c: last[c])[:FEW_CLASSES]
    )
    mean = [
        "balanced accuracy",
        f"{sum(counts):,}",
        *(percent(metric(numbers, role, used, "test", "balanced_accuracy")).rstrip("%") for role in recalls),
    ]
    rows = [
        [
            escape(numbers["classes"][c]),
            f"{counts[c]:,}",
            *(percent(found[c]).rstrip("%") for found in recalls.values()),
        ]
        for c in order
    ]
    text = markdown_table(["recall %", "test rows", *(ROLE_WORDS[role] for role in recalls)], [mean, *rows])
    what = "Recall by class"
    if len(rows) < len(counts):
        what = (
            f"Recall of the {len(rows)} classes of {len(counts):,} that the "
            f"{ROLE_WORDS[list(recalls)[-1]]} knows least"
        )
    return [
        "## Classes",
        f"<details{' open' if len(rows) <= FEW_CLASSES else ''}><summary>{what}</summary>\n\n{text}\n\n</details>",  # noqa: E501
    ]


def _shifted(run: Mapping) -> list[str]:
    """Accuracies on test pictures that are blurred, say, and with what strength."""
    numbers = run.get("results") or {}
    header, rows = shifts.shift_cells(numbers, ROLE_WORDS)
    if not rows:
        return []
    strengths = [
        f"{name}: "
        + ", ".join(f"{key} {json.dumps(value)}" for key, value in spec.items() if key != "_target_")
        for name, spec in ((run.get("config") or {}).get("shift") or {}).items()
    ]
    lines = [
        "## Shifted inputs",
        markdown_table([escape(cell) for cell in header], [[escape(cell) for cell in row] for row in rows]),
    ]
    lines += ["\n".join(f"- {escape(line)}" for line in [*shifts.shift_sentences(numbers), *strengths])]
    return [
        *lines,
        (
            "Accuracies of the last weights on the test pictures as they are, and on the same pictures "
            "shifted; nothing was trained on these."
        ),
    ]


def audited(run: Mapping) -> list[str]:
    """The rounds, and the pseudo-label audit."""
    header, rows = audit.rounds(run.get("results") or {})
    lines = ["## Rounds", markdown_table(header, rows), audit.chosen(run["results"])] if rows else []
    found = run.get("audit")
    if not found:
        return lines
    lines += [
        "## Pseudo-label audit",
        "\n".join(f"- {escape(line)}" for line in audit.audit_sentences(found)),
        markdown_table(*audit.per_round(found)),
    ]
    teacher, gap = found.get("teacher"), found.get("domain_gap")
    said = []
    if teacher:
        said.append(
            f"The teacher on validation, clean pictures: {percent(teacher['accuracy'])} right, "
            f"{percent(teacher['confidence'])} sure on average, expected calibration error "
            f"{rounded(teacher['ece'], 3)} (n = {teacher['n']})."
        )
    if gap:
        said.append(
            "Labelled pictures against the pool's: a linear classifier tells them apart "
            f"{percent(gap['accuracy'], 0)} of the time (50% is guessing; standard error "
            f"{percent(gap['standard_error'], 0)}); proxy A-distance {rounded(gap['a_distance'], 2)}."
        )
    lines.append("\n".join(f"- {line}" for line in said))
    if len(found["classes"]) <= 100:
        header, rows = audit.classes(found)
        kept = markdown_table(header, [[escape(c) for c in row] for row in rows])
        lines.append(f"<details><summary>Labels kept, by class</summary>\n\n{kept}\n\n</details>")
    header, rows = audit.monitors(found)
    lines += [markdown_table(header, [[escape(c) for c in row] for row in rows])] if rows else []
    if not found["truth_known"]:
        lines.append(
            "The true classes of the pool are not known, so nothing is said of how right its labels are."
        )
    return [line for line in lines if line]


def best_and_last(numbers: Mapping) -> str:
    """The other weights' accuracies too, where the run has both."""
    rows = []
    for role, words in ROLE_WORDS.items():
        about = numbers.get(role) or {}
        if about.get("best"):
            both = [(about[kind].get("test") or {}).get("accuracy") for kind in ("last", "best")]
            step = about.get("best_step")
            shown = ["-" if value is None else f"{100 * value:.2f}" for value in both]
            rows.append([words, *shown, "-" if step is None else str(step), str(about.get("steps", "-"))])
    return (
        markdown_table(["", "test %, last weights", "test %, best on validation", "best step", "steps"], rows)
        if rows
        else ""
    )


def figure_lines(figures: Mapping[str, str]) -> list[str]:
    return (
        [
            "## Figures",
            *(f"{escape(caption)}:\n\n![{escape(caption)}]({path})" for caption, path in figures.items()),
        ]
        if figures
        else []
    )


def data(run: Mapping) -> list[str]:
    """The data set, as it was reported when it was prepared."""
    return ["## Data", "\n".join(f"- {escape(line)}" for line in run["data"])] if run.get("data") else []


def _protocol(run: Mapping) -> list[str]:
    numbers = run.get("results") or {}
    lines = ["## Protocol"]
    said = [
        (
            "Selection (best weights, early stopping) looks at the validation split. The test split is read "
            "once, by the last stage."
        ),
        "`last` is the weights at the end of training, `best` those with the highest validation accuracy.",
    ]
    if numbers.get("baseline"):
        said.append(
            "The student alone is a matched baseline: the distilled student's model, initialisation, "
            "optimiser steps, batch size and augmentation, with the labels only."
        )
    lines.append("\n".join(f"- {line}" for line in said))
    if run.get("protocol"):
        lines.append(markdown_table(["", "value"], pairs(run["protocol"])))
    return lines


def stages(run: Mapping, artifacts: Mapping[str, str]) -> list[str]:
    if not run.get("stages"):
        return []
    rows = [
        [
            f"[{escape(stage['name'])}]({artifacts[stage['name']]})"
            if stage["name"] in artifacts
            else escape(stage["name"]),
            code(stage["key"]),
            "yes" if stage["cached"] else "no",
            duration(stage["seconds"]),
        ]
        for stage in run["stages"]
    ]
    return ["## Stages", markdown_table(["stage", "key", "from the store", "time"], rows)]


def looking_closer(run: Mapping, folder: str, artifacts: Mapping[str, str]) -> list[str]:
    where = shlex.quote(folder)
    lines = ["## Looking closer", f"Curves, hyperparameters, pictures:\n\n{fenced(f'kdx board {where}')}"]
    if run.get("status") == "finished" and "student-train" in artifacts:
        lines.append(
            f"The student alone, with a loader and a card of lineage:\n\n{fenced(f'kdx export {where}')}"
        )
    weights = [
        f"- {ROLE_WORDS[role]}: {code(artifacts[stage])}"
        for role, stage in ROLES.items()
        if stage in artifacts
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
    return [
        (
            "<details><summary>Every "
            f"setting</summary>\n\n{fenced(json.dumps(run['config'], indent=2), 'json')}\n\n</details>"
        )
    ]


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


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; figures to the right, words to the left. The cells must be escaped already."""
    words = [any(not FIGURE.match(row[i]) for row in rows) for i in range(len(header))]
    lines = [header, ["---" if left or not i else "---:" for i, left in enumerate(words)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: Any) -> str:
    """Text that stays text: neither HTML nor Markdown, on one line."""
    flat = html.escape(" ".join(printable(str(text)).split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#~" else letter for letter in flat)


def code(text: Any) -> str:
    """Inline code that backticks and bars cannot break out of."""
    flat = " ".join(printable(str(text)).split()).replace("|", "\\|")
    ticks = "`" * (longest_run(flat) + 1)
    space = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{ticks}{space}{flat}{space}{ticks}"


def fenced(text: Any, language: str = "") -> str:
    """A code block that no line of the text can close."""
    plain = printable(str(text)).rstrip()
    fence = "`" * max(3, longest_run(plain) + 1)
    return f"{fence}{language}\n{plain}\n{fence}"


def longest_run(text: str) -> int:
    longest = current = 0
    for letter in text:
        current = current + 1 if letter == "`" else 0
        longest = max(longest, current)
    return longest
