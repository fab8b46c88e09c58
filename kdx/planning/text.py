"""A plan in words and tables. The document is what `kdx.planning.document.look_ahead` gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdx.report.run.progress import duration
from kdx.report.run.table import bytes_in_words
from kdx.store.stage import split_number

_MANY = 40
"""Jobs that are listed."""
SECTIONS = {"checks": "Checks", "teacher": "Teacher", "loss": "Terms of the loss", "protocol": "Protocol"}


def plan_title(plan: Mapping[str, Any]) -> str:
    counts = plan["counts"]
    stages = f"{counts['stages']} stages, {counts['hit']} in the store"
    if counts["jobs"] == 1:
        return f"Plan: {stages}"
    found: dict[str, set[str]] = {}
    for stage in (stage for job in plan["jobs"] for stage in job["stages"] if stage["state"] != "unknown"):
        found.setdefault(split_number(stage["name"])[0], set()).add(stage["key"])
    nouns = [plural(len(found[name]), noun) for name, noun in plan["nouns"].items() if name in found]
    return f"Plan: {plural(counts['jobs'], 'job')}: {', '.join(nouns)}; {stages}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def stage_rows(plan: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the stages of a single run in order, or of several runs those of a kind together."""
    if len(plan["jobs"]) > 1:
        return of_several(plan)
    rows = []
    for stage in plan["jobs"][0]["stages"]:
        entry = plan["stages"][stage["key"]]
        mine = entry if stage["state"] != "hit" and entry["name"] == stage["name"] else {}
        rows.append(
            [
                stage["name"],
                "-" if stage["until"] else stage["key"][:8],
                _state(stage),
                mine.get("work", "-"),
                *_figures([mine]),
            ]
        )
    return ["stage", "key", "stored", "to do", "time", "memory", "disk"], rows


def _state(stage: Mapping[str, Any]) -> str:
    if stage["until"]:
        return f"unknown until {stage['until']} ran"
    if stage["same"]:
        return f"will be {stage['same']}"
    return f"{stage['state']}, if the rounds go on" if stage["perhaps"] else stage["state"]


def _figures(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Time, memory and disk of some missing stages together."""
    seconds = [e["seconds"] for e in entries if e.get("seconds") is not None]
    memory, disk = [e["memory"] for e in entries if e.get("memory")], sum(e.get("disk") or 0 for e in entries)
    return [
        duration(sum(seconds)) if seconds else "-",
        bytes_in_words(max(memory)) if memory else "-",
        bytes_in_words(disk) if disk else "-",
    ]


def of_several(plan: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row for each kind of stage, in the order of a run."""
    groups: dict[tuple[str, int], dict[str, set[int]]] = {}
    for number, job in enumerate(plan["jobs"]):
        for stage in job["stages"]:
            entry = plan["stages"][stage["key"]]
            if stage["state"] != "unknown" or entry["name"] == stage["name"]:
                groups.setdefault((stage["name"], entry["kind"]), {}).setdefault(stage["key"], set()).add(
                    number
                )
    rows, names = [], list(dict.fromkeys(name for name, _ in groups))
    for (name, _), keys in sorted(groups.items(), key=lambda group: names.index(group[0][0])):
        entries = [plan["stages"][key] for key in keys]
        missing = [e for e in entries if e["state"] != "hit"]
        words = _which(plan, set.union(*keys.values()))
        works = list(dict.fromkeys(e["work"] for e in missing))
        rows.append(
            [
                f"{name} ({words})" if words else name,
                str(len(entries)),
                str(len(entries) - len(missing)),
                works[0] if len(works) == 1 else "-" if not works else "several lengths",
                *_figures(missing),
            ]
        )
    return ["stage", "how many", "stored", "to do, each", "time", "memory", "disk"], rows


def _which(plan: Mapping[str, Any], numbers: set[int]) -> str:
    """The words that these jobs share and not all jobs have."""
    everywhere = set.intersection(*(set(job["words"]) for job in plan["jobs"]))
    shared = set.intersection(*(set(plan["jobs"][n]["words"]) for n in numbers))
    return " ".join(word for word in plan["jobs"][min(numbers)]["words"] if word in shared - everywhere)


def job_rows(plan: Mapping[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Header, rows and what is reported below; a stage counts for the first job that needs it."""
    rows = [
        [
            str(number),
            _which(plan, {number}),
            f"{job['to_run']} of {len(job['stages'])}",
            duration(job["seconds"]) if job["to_run"] else "-",
        ]
        for number, job in enumerate(plan["jobs"][:_MANY])
    ]
    more = len(plan["jobs"]) - _MANY
    return (
        ["job", "words", "stages to run", "time"],
        rows,
        [f"and {more} more: json=FILE writes all"] if more > 0 else [],
    )


def totals(plan: Mapping[str, Any]) -> list[str]:
    """Time, memory and disk of all that is missing."""
    missing = plan["counts"]["stages"] - plan["counts"]["hit"]
    notes = [f"NOTE: {plan['searched']}."] if "searched" in plan else []
    alone = len(plan["jobs"]) == 1
    notes += [
        f"{'This run' if alone else _who(plan, e)} will stop: {e['text']}" for e in plan.get("stops", ())
    ]
    if not missing:
        done = "Everything is in the store: the run takes seconds, and nothing had to be timed."
        return notes if plan.get("stops", ()) else [*notes, done]
    least = "at least " if plan["not_timed"] else ""
    found = [
        *notes,
        f"Time: {least}about {duration(plan['seconds'])} for {plural(missing, 'stage')} one after another, "
        f"{duration(plan['loading'])} of it to load libraries; from a few timed steps of each on "
        f"{plan['device']}. A busy machine takes longer.",
    ]
    if plan["not_timed"]:
        found.append(f"Not timed: {', '.join(plan['not_timed'])}.")
    found += [
        f"{'' if alone else f'{_who(plan, e)}: '}{e['text']}; the time above is that of one after another."
        for e in plan["beside"]
    ]
    memory, disk = plan["memory"], plan["disk"]
    if memory["peak"]:
        free = f"; {bytes_in_words(memory['free'])} can be had" if memory["free"] else ""
        found.append(
            f"Memory: {bytes_in_words(memory['peak'])} at the most in the rehearsals, of "
            f"{memory['of']}{free}."
        )
    return [
        *found,
        (
            f"Disk: {bytes_in_words(disk['needed'])} in {plan['store']}; "
            f"{bytes_in_words(disk['free'])} are free."
        ),
    ]


def sections(plan: Mapping[str, Any]) -> dict[str, list[str]]:
    """Heading -> sentences; one that is not true of all jobs begins with those that it is true of."""
    return {
        heading: [_sentence(plan, entry) for entry in plan[name]]
        for name, heading in SECTIONS.items()
        if plan[name]
    }


def _sentence(plan: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    if len(entry["jobs"]) == len(plan["jobs"]):
        return f"- {entry['text']}"
    return f"- {_who(plan, entry)}: {entry['text']}"


def _who(plan: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The jobs that a sentence is true of."""
    if len(entry["jobs"]) == len(plan["jobs"]):
        return "every run"
    several = f"{len(entry['jobs'])} jobs" if len(entry["jobs"]) > 1 else f"job {entry['jobs'][0]}"
    return _which(plan, set(entry["jobs"])) or several
