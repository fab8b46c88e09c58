"""Compare runs: means over seeds, paired differences with intervals and corrected p, as a table, a file or one HTML page."""  # noqa: E501

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdx.commands._show import show_table
from kdx.commands._words import Option, Words, asks_for_help, help_text, parse_words, switch
from kdx.core import checks, output
from kdx.core.errors import UserError
from kdx.core.files import write_output
from kdx.pipeline.scores import digests_of
from kdx.report.compare import documents, rows
from kdx.report.compare.by_class import class_tables, without_table
from kdx.report.compare.caveats import some
from kdx.report.compare.compare import SORTS, Comparison, arranged, compare_runs
from kdx.report.compare.entries import STUDENT, Entry, entry, pick_entries
from kdx.report.compare.search import run_folders
from kdx.report.run.names import visible
from kdx.runs.reading import Run, read_run
from kdx.store.manifest import MANIFEST, read_manifest, stands_for

_DEPTH = 3
"""Levels below a named folder at which a run folder may lie: outputs/sweeps/<sweep>/<job> from outputs."""
FILES = ("csv", "json", "md", "html")
OPTIONS = (
    Option(
        "where",
        None,
        "only runs of which this holds: where=loss=slam; of several all; key=a,b is either; `where "
        "loss=slam` says the same",
        many=True,
    ),
    Option(
        "reference",
        "baseline",
        "what differences are taken to: each run's own matched baseline, or a row by its words: "
        "reference=loss=kd",
    ),
    Option("metric", None, "of the test split, one that the runs show; without it the one that counts"),
    Option("sort", "test", "order of the rows", tuple(SORTS)),
    Option("csv", None, "write the rows to this file; - is the terminal; --csv FILE says the same"),
    Option("json", None, "the same with every run, the protocol and the notes; --json FILE"),
    Option("md", None, "the table in Markdown; --md FILE"),
    Option(
        "classes",
        "false",
        "show a table by class of each row too: precision, recall, F1, most confused with",
        ("true", "false"),
    ),
    Option("html", None, "one page with table and plots that needs no network; --html FILE"),
)
HELP = help_text(
    """kdx compare PATH ... [key=value ...]

PATH is a run folder, a sweep's folder, or a folder that holds some, up to three levels down. Runs that differ by seed only are one row.""",  # noqa: E501
    OPTIONS,
)


@dataclass
class Found:
    """What lay in the folders. lines: what is not compared and why. damaged: how many could not be read."""

    entries: list[Entry] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    damaged: int = 0
    paths: dict[str, Path] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """Exit code 1: a run folder could not be read, and the rest was compared; 2: nothing to compare, or what
    must not be mixed.
    """
    if asks_for_help(argv):
        print(HELP)
        return 0
    _, found = compare_paths(argv)
    return 1 if found.damaged else 0


def compare_paths(argv: Sequence[str]) -> tuple[Comparison, Found]:
    """(the comparison, what lay in the folders), written and shown as the words say. Raises UserError: see
    `main`.
    """
    words = parse_words("compare", plain_words(argv), OPTIONS)
    if not words.names:
        raise UserError(
            "kdx compare needs run folders: kdx compare outputs/sweeps/NAME; kdx compare --help tells more"
        )
    targets = files(words)
    found = collect([Path(name).expanduser() for name in words.names])
    if not found.entries:
        raise UserError(
            "\n".join(["there is nothing to compare: no run is finished and has results", *found.lines])
        )
    chosen = pick_entries(found.entries, words.lists["where"])
    if not chosen:
        raise UserError(
            f"no run is left: {' '.join(f'where={w}' for w in words.lists['where'])} hold of none together"
        )
    made = arranged(compare_runs(chosen, words["reference"], words["metric"]), words["sort"])
    write(targets, made, found, switch("classes", words["classes"]))
    quiet = "-" in targets.values()
    for line in [
        *([line for line in rows.comparison_sentences(made) if line.startswith("WARNING")] if quiet else []),
        *found.lines,
    ]:
        print(line, file=sys.stderr if quiet else sys.stdout)
    for kind, name in targets.items():
        if not quiet:
            print(f"{kind}: {name}")
    return made, found


def plain_words(argv: Sequence[str]) -> list[str]:
    """`where loss=slam` as `where=loss=slam`; `--csv FILE` and `--csv=FILE` as `csv=FILE`, and `--csv` with
    no file behind it as `csv=-`.
    """
    found: list[str] = []
    rest, known = list(argv), {option.name for option in OPTIONS}
    while rest:
        word = rest.pop(0)
        name, given, value = word.removeprefix("--").partition("=")
        if word == "where":
            if not rest or not is_setting(rest[0]):
                raise UserError("where needs key=value behind it, such as: where loss=slam")
            found.append(f"where={rest.pop(0)}")
            while rest and is_setting(rest[0]) and rest[0].partition("=")[0] not in known:
                found.append(f"where={rest.pop(0)}")
        elif word.startswith("--") and name in FILES and not given:
            is_file = bool(rest) and (
                rest[0] == "-"
                or not (rest[0].startswith("-") or "=" in rest[0] or Path(rest[0]).expanduser().is_dir())
            )
            found.append(f"{name}={rest.pop(0) if is_file else '-'}")
        else:
            found.append(f"{name}={value}" if word.startswith("--") and name in known else word)
    return found


def is_setting(word: str) -> bool:
    return "=" in word and not word.startswith("-") and not Path(word).expanduser().exists()


def files(words: Words) -> dict[str, str]:
    """kind -> file, or - for the terminal; checked before anything is read."""
    found = {kind: words[kind] for kind in FILES if words[kind]}
    if found.get("html") == "-":
        raise UserError("html= needs a file to write to: --html report.html")
    if list(found.values()).count("-") > 1:
        raise UserError(f"only one of {', '.join(found)} can go to the terminal: give the others a file")
    for kind, name in found.items():
        if name != "-":
            checks.output(kind, name)
    return found


def collect(paths: Sequence[Path]) -> Found:
    """Every run at or below the paths, checked. Raises UserError for a path that is not there or holds no run
    folder.
    """
    found, seen = Found(), set()
    named: dict[str, list[str]] = {}
    manifests: dict[Path, Mapping[str, Any] | None] = {}
    for path in paths:
        folders = run_folders(path, _DEPTH)
        if not folders:
            raise UserError(
                f"'{path}' "
                f"{'holds no run folder, three levels down' if path.is_dir() else 'does not exist: kdx compare needs run folders'}"  # noqa: E501
            )
        for folder in folders:
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            name = visible(os.path.relpath(folder))
            try:
                run = read_run(folder, figures=True)
                state = _state(run)
                if state == "finished":
                    found.entries.append(entry(name, run.document, *_from_store(run, manifests)))
                    found.paths[name] = folder
            except UserError as error:
                found.damaged += 1
                found.lines.append(f"not read: {visible(' '.join(str(error).split()))}")
                continue
            named.setdefault(state, []).append(name)
    for state in (s for s in named if s != "finished"):
        found.lines.append(
            f"not compared: {len(named[state])} {'run' if len(named[state]) == 1 else 'runs'} {state}: "
            f"{some(named[state])}"
        )
    return found


def _state(run: Run) -> str:
    """finished: with a student that was measured; else what it is in words."""
    state = run.state
    if state != "finished":
        return visible(state)[:40]
    results = run.document.get("results")
    return (
        "finished"
        if isinstance(results, dict) and results.get("student")
        else "without a student that was measured"
    )


def _from_store(
    run: Run, manifests: dict[Path, Mapping[str, Any] | None]
) -> tuple[dict[str, str] | None, str | None]:
    """(digests of the splits, digest of the student's code) from the manifests, where the store is at hand. A
    manifest is read once.
    """
    protocol = run.document.get("protocol")
    data = (
        None
        if isinstance(protocol, dict) and protocol.get("digests")
        else _manifest(run, "prepare", manifests)
    )
    student = _manifest(run, STUDENT, manifests)
    # where splits are numbers of rows, run.json alone tells what the rows hold
    own = data is not None and not any(name.endswith(".rows.npy") for name in data["files"])
    return digests_of(data["files"]) if data and own else None, student["code"] if student else None


def _manifest(
    run: Run, name: str, manifests: dict[Path, Mapping[str, Any] | None]
) -> Mapping[str, Any] | None:
    if name not in run.stages:
        return None
    stage, key = run.stages[name]
    for store in run.stores:
        file = store / stage / key / MANIFEST
        if file not in manifests:
            try:
                read = read_manifest(file)
                manifests[file] = read if stands_for(read) == key else None
            except UserError:
                manifests[file] = None  # not here, or damaged: then this is not known
        if manifests[file]:
            return manifests[file]
    return None


def sweep_summary(folder: Path) -> tuple[Comparison | None, list[str], list[Entry]]:
    """(the comparison of a sweep's folder for `show_comparison`, lines of what is not in it, runs that are
    finished and stand in no one table).

    None where there is nothing to compare, or what must not be mixed, and the lines say why.
    """
    found = Found()
    try:
        found = collect([folder])
        return (compare_runs(found.entries) if found.entries else None), found.lines, []
    except UserError as error:
        return None, [*str(error).splitlines(), *found.lines], found.entries


def write(targets: Mapping[str, str], made: Comparison, found: Found, classes: bool = False) -> None:
    """The files; and the table, unless one of them goes to the terminal in its place. classes: tables by
    class below it."""
    content = {
        "csv": lambda: documents.as_csv(made),
        "json": lambda: documents.as_json(made, found.lines),
        "md": lambda: documents.as_markdown(made, found.lines),
        "html": lambda: page_of(made, found),
    }
    output.answer(json.loads(content["json"]()) if output.wants_document() else None)
    if "-" not in targets.values() and not output.wants_document():
        show_comparison(made)
        if classes:
            show_classes(made)
    for kind, name in targets.items():
        if name == "-":
            print(content[kind](), end="")
            continue
        write_output(kind, Path(name).expanduser(), content[kind]())


def show_classes(made: Comparison) -> None:
    tables = class_tables(made)
    for name, head, body in tables:
        show_table(name, head, body)
    if not tables:
        print("No table by class: the runs have no classes, or are older than kdx's tables of them.")
    elif more := without_table(made):
        print(more)


def page_of(made: Comparison, found: Found) -> str:
    from kdx.report.compare.curves import read_curves
    from kdx.report.compare.page import page

    def drawn(e: Entry) -> Entry:
        return replace(e, curves=read_curves(found.paths[e.name], made.counts))

    groups = tuple(replace(g, entries=tuple(map(drawn, g.entries))) for g in made.groups)
    return page(replace(made, groups=groups), found.lines)


def show_comparison(made: Comparison) -> None:
    """The table on the terminal, in the widest form that fits; a pipe gets Markdown."""
    from rich.console import Console
    from rich.measure import Measurement

    from kdx.report.run.table import grid

    console = Console(highlight=False, force_jupyter=False)
    wide = console.options.update(width=10_000)
    forms = rows.forms(made)
    fitting = (
        f
        for f in forms
        if all(Measurement.get(console, wide, grid(*t, True)).maximum <= console.width for t in f.tables)
    )
    chosen = next(fitting) if console.is_terminal else forms[0]
    for number, (head, body) in enumerate(chosen.tables):
        show_table(rows.comparison_title(made) if number == 0 else "", head, body)
    show_table(
        "" if chosen.tables else rows.comparison_title(made),
        [],
        [],
        [*chosen.below, *rows.comparison_sentences(made)],
    )
