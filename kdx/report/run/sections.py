"""What report.md says of the results: the table and what it means, shifts, rounds, the audit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from kdx.core.roles import roles_of
from kdx.report.metric import cell, column
from kdx.report.run import audit, prequential, sessions, shifts
from kdx.report.run.classes import MANY_CLASSES
from kdx.report.run.detail import worst_table
from kdx.report.run.markup import escape, folded, markdown_table, table_of_cells
from kdx.report.run.rounds import round_cells, round_sentence
from kdx.report.run.sentences import result_sentences
from kdx.report.run.table import results_title, role_cells
from kdx.report.run.units import decimals, percent
from kdx.report.run.verdict import called, summary
from kdx.tasks.shown import counting_metric, shown_metrics


def results_section(run: Mapping) -> list[str]:
    numbers = run.get("results")
    lines = ["## Results"] if numbers or run.get("warnings") else []
    lines += [f"> **Warning:** {escape(warning)}" for warning in run.get("warnings") or []]
    if numbers:
        headline = numbers.get("headline", "last")
        weights = escape(results_title(numbers, headline))
        lines += [f"Models: {weights}.", table_of_cells(*role_cells(numbers, headline)), _words(numbers)]
        gate, proxy = ((run.get(name) or {}).get("text") for name in ("gate", "proxy"))
        warned = any(gate in warning for warning in run.get("warnings") or []) if gate else False
        told = [f"The gate: {gate}."] if gate and not warned else []
        told += [f"The pool: {proxy}."] if proxy else []
        lines.append("\n".join(f"- {escape(line)}" for line in [*result_sentences(numbers, headline), *told]))
        lines.append(best_and_last(numbers))
    return [line for line in lines if line]


def _words(numbers: Mapping) -> str:
    """What the words of the verdict and of the table mean, plainly."""
    said, summarised = [], summary(numbers, numbers.get("headline", "last"))
    if summarised["gain"] is not None and not numbers.get("privacy"):
        alone = escape(called(numbers, "baseline"))
        learned = "on one session after the other" if numbers.get("sessions") else "without a teacher"
        said.append(
            f"{alone[:1].upper()}{alone[1:]}: the distilled student's network, trained as long {learned}. "
            "Gain: by how much the distilled student is better than it."
        )
    if summarised["gap_closed"] is not None and not numbers.get("privacy"):
        ahead = f"what the {escape(called(numbers, 'teacher'))} is ahead of it"
        said.append(f"Gap closed: the gain, as a part of {ahead}.")
    said += [escape(m.note) for m in shown_metrics(numbers).values() if m.note and m.column == "table"]
    return " ".join([*said, "MFLOPs: one forward pass of one row.", "Latency: of one row, the median."])


def over_sessions(run: Mapping) -> list[str]:
    """What is still known of each session, in sum and after each of them; of a stream what was known of each
    chunk before it was learned."""
    numbers = run.get("results") or {}
    header, rows = prequential.chunk_cells(numbers)
    if rows:
        return ["## Stream", table_of_cells(header, rows)]
    header, rows = sessions.session_cells(numbers)
    if not rows:
        return []
    said = "\n".join(f"- {escape(line)}" for line in sessions.session_sentences(numbers))
    lines = ["## Sessions", table_of_cells(header, rows), said]
    for words, cells in sessions.session_matrices(numbers):
        lines += [f"{escape(words[:1].upper() + words[1:])}:", table_of_cells(*cells)]
    return lines


def under_shift(run: Mapping) -> list[str]:
    """What was measured on test pictures that are blurred, say, and with what strength."""
    numbers = run.get("results") or {}
    tables = [shifts.shift_cells(numbers, kind=kind) for kind in shifts.SHIFT_KINDS]
    if not any(rows for _, rows in tables):
        return []
    strengths = [
        f"{name}: "
        + ", ".join(f"{key} {json.dumps(value)}" for key, value in spec.items() if key != "_target_")
        for name, spec in ((run.get("config") or {}).get("shift") or {}).items()
    ]
    lines = [
        "## Shifted inputs",
        *(table_of_cells(header, rows) for header, rows in tables if rows),
    ]
    lines += ["\n".join(f"- {escape(line)}" for line in [*shifts.shift_sentences(numbers), *strengths])]
    return [
        *lines,
        (
            f"{_plural(numbers)} of the last weights on the test pictures as they are, and on the same "
            "pictures shifted, or moved against each network; nothing was trained on these."
        ),
    ]


def _plural(numbers: Mapping) -> str:
    """What values of the metric that counts are called at the beginning of a sentence."""
    title = escape(counting_metric(numbers).title)
    title = f"{title[:-1]}ies" if title.endswith("y") else title
    return f"{title[:1].upper()}{title[1:]}"


def audited(run: Mapping) -> list[str]:
    """The rounds, and the pseudo-label audit."""
    numbers, found = run.get("results") or {}, run.get("audit")
    header, rows = round_cells(numbers)
    lines = []
    if rows:
        head = [escape(cell) for cell in header]
        lines = ["## Rounds", markdown_table(head, rows), escape(round_sentence(numbers))]
    if not found:
        return lines
    header, rows = audit.per_round(found, numbers)
    lines += [
        "## Pseudo-label audit",
        _of_words(found),
        "\n".join(f"- {escape(line)}" for line in audit.audit_sentences(found, numbers)),
        markdown_table([escape(cell) for cell in header], rows),
    ]
    said = [*_of_teacher(numbers, found), *_of_domain(numbers, found)]
    lines.append("\n".join(f"- {line}" for line in said))
    header, rows = audit.classes(found, numbers)
    if rows and len(rows) <= MANY_CLASSES:
        lines.append(folded("Labels kept, by class", table_of_cells(header, rows)))
    header, rows = audit.monitors(found, numbers)
    lines += [table_of_cells(header, rows)] if rows else []
    if worst := audit.chosen_round(found, numbers)[0].get("worst"):
        lines += [
            "The answers that the student learned from and in which the teacher was most wrong (clean rows):",
            worst_table(numbers, {"role": "teacher", "rows": worst}),
        ]
    if not found.get("truth_known", True):
        lines.append(
            "The true classes of the pool are not known, so nothing is said of how right its labels are."
            if found.get("classes")
            else "The truth of the pool is not known, so nothing is said of how good its answers are."
        )
    return [line for line in lines if line]


def _of_words(found: Mapping) -> str:
    known = "; the audit holds these answers against the truth" if found.get("truth_known", True) else ""
    return (
        "A pseudo-label is the teacher's answer to a row of the pool, from which the student learns in "
        f"place of the truth{known}."
    )


def _of_teacher(numbers: Mapping, found: Mapping) -> list[str]:
    """The first teacher on validation, as the audit has it."""
    teacher, counts = found.get("teacher") or {}, counting_metric(numbers)
    if "confidence" in teacher:
        return [
            f"The teacher on validation, clean pictures: {percent(teacher['accuracy'])} right, "
            f"{percent(teacher['confidence'])} sure on average, expected calibration error "
            f"{decimals(teacher['ece'], 3)} (n = {teacher['n']})."
        ]
    value = (teacher.get("metrics") or teacher).get(counts.name)
    if value is None:
        return []
    return [f"The teacher on validation: {escape(counts.title)} {counts.text(value)} (n = {teacher['n']})."]


def _of_domain(numbers: Mapping, found: Mapping) -> list[str]:
    gap = found.get("domain_gap")
    if not gap:
        return []
    return [
        "Labelled rows against the pool's: a linear classifier tells them apart "
        f"{percent(gap['accuracy'], 0)} of the time (50% is guessing; standard error "
        f"{percent(gap['standard_error'], 0)}); proxy A-distance {decimals(gap['a_distance'], 2)}."
    ]


def best_and_last(numbers: Mapping) -> str:
    """What the other weights have on test too, where the run has both."""
    counts, rows = counting_metric(numbers), []
    finer = replace(counts, digits=counts.digits + 1)
    for role, about in roles_of(numbers).items():
        network = numbers[role]
        if network.get("best"):
            both = [(network[kind].get("test") or {}).get(counts.name) for kind in ("last", "best")]
            step = network.get("best_step")
            shown = [cell(finer, value) for value in both]
            steps = ["-" if step is None else str(step), str(network.get("steps", "-"))]
            rows.append([escape(about.words), *shown, *steps])
    head = escape(column(counts, "test"))
    header = ["", f"{head}, last weights", f"{head}, best on validation", "best step", "steps"]
    return markdown_table(header, rows) if rows else ""


def figure_lines(figures: Mapping[str, str]) -> list[str]:
    return (
        [
            "## Figures",
            *(f"{escape(caption)}:\n\n![{escape(caption)}]({path})" for caption, path in figures.items()),
        ]
        if figures
        else []
    )
