"""What a reader of a comparison must know of the runs behind it: those that are counted once, and those of
other code. Pure functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kdx.report.compare.entries import Entry
from kdx.report.run.bill import in_hours


def fold(name: str, part: Sequence[Entry], metric: str) -> tuple[list[Entry], list[str], list[str]]:
    """(one run a seed, notes, warnings). Runs of one student are folded into the one that has most networks
    beside it; of two students of one seed, which another code or another version made, the later counts."""
    students: dict[str, list[Entry]] = {}
    for e in part:
        students.setdefault(e.student, []).append(e)
    whole = [max(alike, key=lambda e: len(e.networks)) for alike in students.values()]
    notes, warnings = [], []
    if len(whole) < len(part):
        again = [e.name for e in part if not any(e is kept for kept in whole)]
        notes.append(
            f"{name}: {len(part)} runs are {len(whole)} {'student' if len(whole) == 1 else 'students'}; not "
            f"counted again: {some(again)}"
        )
    for alike in students.values():
        if len({e.score("student", metric) for e in alike}) > 1:
            warnings.append(
                f"{name}: one student was measured differently in {some([e.name for e in alike])}: "
                "other machines or numbers of threads?"
            )
    by_seed: dict[int, Entry] = {}
    for e in sorted(whole, key=lambda e: e.started):
        if e.seed in by_seed:
            warnings.append(
                f"{name}: seed {e.seed} has two students, of other code or versions; {by_seed[e.seed].name} "
                f"is left out, as {e.name} is later"
            )
        by_seed[e.seed] = e
    return [by_seed[seed] for seed in sorted(by_seed)], notes, warnings


def other_code(rows: Sequence[tuple[str, Sequence[Entry]]]) -> list[str]:
    """Rows, each a name and its runs, whose code or versions differ. Digests of code are compared inside a
    row: another method has other files.
    """
    found = []
    for name, entries in rows:
        codes = sorted({e.code for e in entries if e.code})
        if len(codes) > 1:
            versions = "; ".join(some([e.name for e in entries if e.code == code]) for code in codes)
            found.append(f"mixed code: the students of {name} were trained by different code: {versions}")
    for what in ("commit", "kdx", "torch"):
        where: dict[str, list[str]] = {}
        for name, entries in rows:
            for e in entries:
                where.setdefault(e.environment.get(what, "unknown"), []).append(name)
        if len(where) > 1:
            versions = "; ".join(
                f"{value} in {some(list(dict.fromkeys(of)))} (runs: {len(of)})" for value, of in where.items()
            )
            found.append(f"mixed code versions: {what} {versions}")
    return found


def twice(rows: Sequence[tuple[str, Sequence[Entry]]]) -> list[str]:
    """Students that stand in several rows: what differs between these changes nothing, and they are not
    independent.
    """
    where: dict[str, list[str]] = {}
    for name, entries in rows:
        for e in entries:
            where.setdefault(e.student, []).append(name)
    shared = Counter(tuple(of) for of in where.values() if len(of) > 1)
    return [
        (
            f"the same {'student stands' if n == 1 else f'{n} students stand'} in {some(of)}: what differs "
            "between them changes nothing"
        )
        for of, n in shared.items()
    ]


def unlike_students(rows: Sequence[tuple[str, Sequence[Entry]]]) -> list[str]:
    """Rows whose students are of several sizes or options, though nobody asked for that by `student` or a
    key of it: a loss has brought a student of its own, or is exported as several networks.
    """
    asked: dict[str, dict[tuple[str, str], list[str]]] = {}
    for name, entries in rows:
        first = entries[0]
        typed = {key: first.value(key) for key in first.given if key.partition(".")[0] == "student"}
        size = first.networks["student"].about.get("parameters")
        words = "a number of parameters that is not known" if size is None else f"{size:,.0f} parameters"
        alike = (first.choices.get("student", "student"), words)
        asked.setdefault(str(sorted(typed.items())), {}).setdefault(alike, []).append(name)
    return [
        "the students differ in architecture: "
        + "; ".join(f"{option}, {size}, in {some(names)}" for (option, size), names in found.items())
        + ": what lies between these rows is not the loss alone"
        for found in asked.values()
        if len(found) > 1
    ]


def answered_otherwise(rows: Sequence[tuple[str, Sequence[Entry]]]) -> list[str]:
    """Rows whose students answer among the classes of each row's task, beside such as answer among all."""
    by_task = [
        name
        for name, ((first, *_)) in rows
        if first.settings.get("recipe.heads") == "task" and first.settings.get("recipe.by") == "class"
    ]
    others = [name for name, _ in rows if name not in by_task]
    if not by_task or not others:
        return []
    return [
        f"the task of a row is known in {some(by_task)}, and in {some(others)} a row is answered among all "
        "classes: what lies between these rows is not the loss alone"
    ]


def best_of_rounds(rows: Sequence[tuple[str, Sequence[Entry]]]) -> list[str]:
    """Rows whose students were the best of several rounds on validation, where what they are compared with is
    one run.
    """
    found = []
    for name, entries in rows:
        first = entries[0]
        rounds, counts = first.settings.get("rounds", 1), first.protocol.get("counts")
        validated = isinstance(counts, Mapping) and counts.get("validation")
        if isinstance(rounds, int) and rounds > 1 and first.settings.get("budget") is None and validated:
            found.append(
                f"{name}: its students are the best of up to {rounds} rounds on validation, and a student "
                "alone is one run: some of its gain may be the choice"
            )
    return found


def moving_teachers(rows: Sequence[tuple[str, Sequence[Entry]]]) -> list[str]:
    """Rows whose teachers moved while the students learned: what is said of the teacher is of before."""
    where = [name for name, entries in rows if any("moved_teacher" in e.networks for e in entries)]
    if not where:
        return []
    return [
        f"the teacher moved while the student learned in {some(where)}: its score and the gap closed are of "
        "what it was before; kdx evaluate RUN role=moved_teacher measures it as it was at the end"
    ]


def bills(rows: Sequence[tuple[str, Sequence[Entry]]]) -> list[str]:
    """Rows that bought answers whose price is said: what one run paid for."""
    found = []
    for name, entries in rows:
        settings, counts = entries[0].settings, entries[0].protocol.get("counts")
        pool = counts.get("unlabelled") if isinstance(counts, Mapping) else None
        budget = settings.get("budget")
        if isinstance(budget, float) and isinstance(pool, int):
            budget = round(budget * pool)
        price, seconds = (settings.get(key) for key in ("answer_price", "answer_seconds"))
        if not isinstance(budget, int) or (price is None and seconds is None):
            continue
        parts = [] if price is None else [f"{budget * price:,.2f} at {price:g} each"]
        parts += [] if seconds is None else [f"{in_hours(budget * seconds)} of answering"]
        found.append(f"the bill of {name}: {budget:,} answers a run, {' and '.join(parts)}")
    return found


def releases(rows: Sequence[tuple[str, Sequence[Entry]]]) -> list[str]:
    """Several releases of private rows: what they cost together, each counted once however many runs read
    it."""
    runs = [e for _, entries in rows for e in entries if e.epsilon is not None]
    found = {e.keys.get("release", e.student): e.epsilon or 0.0 for e in runs}
    if len(found) < 2:
        return []
    return [
        f"{len(found)} releases of private rows stand here: for a row that was private in all of them the "
        f"epsilons add to {sum(found.values()):.2f}"
    ]


def some(names: Sequence[str], most: int = 3, between: str = ", ") -> str:
    return between.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
