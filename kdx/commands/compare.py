"""Compare runs: means over seeds, paired differences with intervals and corrected p, as a table, a file or one HTML page."""  # noqa: E501

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kdx.commands._comparison import show_classes, show_comparison
from kdx.commands._found import Found, collect
from kdx.commands._words import Option, Words, asks_for_help, help_text, parse_words, switch
from kdx.core import output, path_checks
from kdx.core.errors import UserError
from kdx.core.files import write_output
from kdx.report.compare import documents, rows
from kdx.report.compare.compare import SORTS, Comparison, arranged, compare_runs
from kdx.report.compare.entries import Entry, pick_entries

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
            path_checks.output(kind, name)
    return found


def write(targets: Mapping[str, str], made: Comparison, found: Found, classes: bool = False) -> None:
    """The files; and the table, unless one of them goes to the terminal in its place. classes: tables by
    class below it."""
    content = {
        "csv": lambda: documents.as_csv(made),
        "json": lambda: documents.as_json(made, found.lines),
        "md": lambda: documents.as_markdown(made, found.lines),
        "html": lambda: page_of(made, found),
    }
    if output.wants_document():
        output.answer(documents.as_document(made, found.lines))
    elif "-" not in targets.values():
        show_comparison(made)
        if classes:
            show_classes(made)
    for kind, name in targets.items():
        if name == "-":
            print(content[kind](), end="")
            continue
        write_output(kind, Path(name).expanduser(), content[kind]())


def page_of(made: Comparison, found: Found) -> str:
    from kdx.pipeline.stages import SESSIONS
    from kdx.report.compare.curves import read_curves
    from kdx.report.compare.page import page

    def drawn(e: Entry) -> Entry:
        if SESSIONS.name in e.keys:  # validation of a session says nothing of what is known at last
            return e
        return replace(e, curves=read_curves(found.paths[e.name], made.counts))

    groups = tuple(replace(g, entries=tuple(map(drawn, g.entries))) for g in made.groups)
    return page(replace(made, groups=groups), found.lines)
