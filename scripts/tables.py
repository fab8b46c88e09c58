"""The tables of README.md and docs: each stands between two marks, with the command and the commit that it
was made by.

    python scripts/tables.py                     # which there are, where, and which were made by other code
                                                 than is here now
    python scripts/tables.py default seeds       # runs what the store has not yet, and writes these into
                                                 every page that shows them
    python scripts/tables.py --check             # exit code 1: a table of figures without marks, or one table
                                                 with two contents

    <!-- table NAME: COMMAND; commit ABC -->
    ...
    <!-- end NAME -->

A name that this script cannot make says by its command who can. Runs and store lie in outputs/tables.
`default` takes a minute of one core, `seeds` six, `shifted` one, a claim (`slam`, `weighted`, `rad`,
`noisy_student`, ...) 5 to 60; `claims` only reads theirs.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/start.md", "docs/benchmarks.md", "docs/choosing.md")
BLOCK = re.compile(
    r"<!-- table (?P<name>[\w-]+): (?P<command>.*?); commit (?P<commit>[\w-]+) "
    r"-->\n(?P<body>.*?)<!-- end (?P=name) -->\n",
    re.S,
)
FIGURE = re.compile(r"\d\.\d")
SEEDS = "200,201,202,203,204"
HERE = ("device=cpu", "device.threads=1")
COMPARED = {"teacher": "", "baseline": " (control)", "student": ""}
"""Roles of the table over seeds, and what stands behind their names."""
CLAIMS = (  # of docs/start.md: claim, the two figures, words
    ("slam", "SLaM, soft", "vanilla, soft", "`slam`: SLaM less vanilla distillation, soft"),
    ("slam", "SLaM, hard", "vanilla, hard", "the same with hard labels"),
    (
        "slam",
        "SLaM, hard",
        "student alone, validation labels too",
        "its control: less the student alone that learned from the validation labels too",
    ),
    ("noisy_student", "Noisy Student", "self-training", "`noisy_student`: less self-training"),
    (
        "noisy_student",
        "Noisy Student",
        "labels alone, same noise",
        "its control: less the labels alone under the same noise",
    ),
    (
        "rad",
        "right answers, RAD",
        "right answers, margin",
        "`rad`: share of right answers bought, less margin sampling's",
    ),
    ("rad", "RAD", "uniform", "its control: accuracy, less random rows"),
)


def kdx(*words: str) -> None:
    from kdx.cli import main

    if main([*words]):
        sys.exit(f"kdx {' '.join(words)} failed; the same command again goes on")


def default(place: Path) -> str:
    """What a run prints."""
    kdx("train", *HERE, f"store={place / 'store'}", f"hydra.run.dir={place / 'default'}")
    return printed(json.loads((place / "default/run.json").read_text()))


def printed(run: Mapping[str, Any]) -> str:
    """The stages of a run.json in a row, and its table as a wide terminal shows it, as a block of code."""
    from rich.console import Console

    from kdx.core.roles import predicts
    from kdx.report.run.table import Report

    console = Console(file=io.StringIO(), width=118, force_terminal=True, color_system=None)
    console.print(Report(run["results"], run["results"]["headline"], run["warnings"], run.get("audit")))
    shown = [stage["name"] for stage in run["stages"] if not predicts(stage["name"])]
    lines = [" -> ".join(shown), "", *console.file.getvalue().splitlines()]
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)


def seeds(place: Path) -> str:
    """The default experiment over five seeds, and the same with batch norm in the student."""
    parts = []
    for name, further in (("seeds", ()), ("seeds_norm", ("student.batch_norm=true",))):
        kdx(
            "train",
            "-m",
            f"seed={SEEDS}",
            *HERE,
            *further,
            f"store={place / 'store'}",
            f"hydra.sweep.dir={place / name}",
        )
        runs = [json.loads(file.read_text()) for file in (place / name).glob("*/run.json")]
        parts.append([run["results"] for run in sorted(runs, key=lambda run: run["config"]["seed"])])
    return over_seeds(*parts)


def over_seeds(plain: Sequence[Mapping[str, Any]], normed: Sequence[Mapping[str, Any]]) -> str:
    """results of run.json, by seed."""
    from kdx.core.roles import ROLE_WORDS

    lines = [f"| test accuracy, n = {len(plain)} | mean | deviation | each |", "|---|---|---|---|"]
    for results, more in ((plain, ""), (normed, " with batch norm")):
        values = {
            role: [100 * found[role]["last"]["test"]["accuracy"] for found in results] for role in COMPARED
        }
        lines += [
            row(f"{ROLE_WORDS[role]}{words}{more}", values[role])
            for role, words in COMPARED.items()
            if not (more and role == "teacher")
        ]
        lines.append(difference(f"**gain, paired**{more}", values["student"], values["baseline"]))
    closed = [found["gap_closed"] for found in plain if found["gap_closed"] is not None]
    return "\n".join([*lines, row("part of the gap closed, without it", closed, 2)]) + "\n"


def row(name: str, values: Sequence[float], digits: int = 1) -> str:
    from kdx.report.compare.statistics import spread

    found = spread(values)
    deviation = "-" if found.deviation is None else f"{found.deviation:.{digits}f}"
    return (
        f"| {name} | {found.mean:.{digits}f} | {deviation} | {', '.join(f'{v:.{digits}f}' for v in values)} |"
    )


def difference(name: str, more: Sequence[float], less: Sequence[float]) -> str:
    from kdx.report.compare.statistics import chance, paired

    found = paired(more, less)
    each = ", ".join(f"{a - b:+.1f}" for a, b in zip(more, less, strict=True))
    significance = " n.s." if found.p is None or found.p >= 0.05 else ""
    return (
        f"| {name} | {found.mean:+.1f} | {found.deviation or 0:.1f} | {each}; {found.wins}/{found.n}, p = "
        f"{chance(found.p)}{significance}, two-sided paired t |"
    )


def shifted(place: Path) -> str:
    kdx(
        "train",
        "experiment=shifted_inputs",
        "ceiling=true",
        *HERE,
        f"store={place / 'store'}",
        f"hydra.run.dir={place / 'shifted'}",
    )
    from kdx.report.run.shifts import shift_cells

    header, rows = shift_cells(json.loads((place / "shifted/run.json").read_text())["results"])
    return markdown(header, rows)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *rows))


def claim(name: str) -> Callable[[Path], str]:
    """Its figures and its differences, as `kdx reproduce` prints them."""

    def make(place: Path) -> str:
        kdx("reproduce", name, "seeds=5", *HERE, f"store={place / 'store'}")
        return of_claim(json.loads((place / f"runs/reproduce/{name}/reproduce.json").read_text()))

    return make


def of_claim(found: Mapping[str, Any]) -> str:
    """found: reproduce.json."""
    from kdx.report.compare.statistics import plus_minus, spread
    from kdx.runs.claims import UNITS, read_claim

    figures = read_claim(found["claim"]).figures.items()
    units = {name: UNITS[figure.unit or "points"] for name, figure in figures}
    own = {name: spread([units[name].scale * v for v in values]) for name, values in found["figures"].items()}
    rows = [[name, plus_minus(s.mean, s.deviation, units[name].digits)] for name, s in own.items()]
    header = [
        f"n = {len(found['seeds'])}, seeds {found['seeds'][0]} to {found['seeds'][-1]}",
        "mean ± deviation",
    ]
    pairs = [
        [f"{p['more']} - {p['less']}", *of_pair(p), p["verdict"] or "control"] for p in found["comparisons"]
    ]
    return (
        markdown(header, rows)
        + "\n"
        + markdown(["difference", "mean ± deviation", "wins", "p", "verdict"], pairs)
    )


def of_pair(pair: Mapping[str, Any]) -> list[str]:
    from kdx.report.compare.statistics import chance, plus_minus
    from kdx.runs.claims import UNITS

    return [
        plus_minus(pair["mean"], pair["deviation"], UNITS[pair["unit"]].digits, signed=True),
        f"{pair['wins']}/{pair['n']}",
        chance(pair["p"]),
    ]


def claims(place: Path) -> str:
    """Of claims that were run already."""
    rows = []
    for name, more, less, words in CLAIMS:
        file = place / f"runs/reproduce/{name}/reproduce.json"
        if not file.exists():
            sys.exit(f"claims: {name} has not been run: python scripts/tables.py {name}")
        (pair,) = [
            p for p in json.loads(file.read_text())["comparisons"] if (p["more"], p["less"]) == (more, less)
        ]
        rows.append(
            [
                words,
                *of_pair(pair),
                pair["verdict"] or ("n.s." if pair["p"] is None or pair["p"] >= 0.05 else "control"),
            ]
        )
    return markdown(["five fresh seeds", "difference", "wins", "p", "verdict"], rows)


TABLES: dict[str, tuple[str, Callable[[Path], str]]] = {
    "default": ("kdx train device=cpu device.threads=1", default),
    "seeds": (
        f"kdx train -m seed={SEEDS} device=cpu device.threads=1; again with student.batch_norm=true",
        seeds,
    ),
    "shifted": ("kdx train experiment=shifted_inputs ceiling=true device=cpu device.threads=1", shifted),
    **{
        name: (f"kdx reproduce {name} seeds=5 device=cpu device.threads=1", claim(name))
        for name in ("kd", "slam", "slam_fashion", "weighted", "self_training", "noisy_student", "rad")
    },
    "claims": ("kdx reproduce slam noisy_student rad seeds=5 device=cpu device.threads=1", claims),
}
"""name -> the command, and what makes the table out of the folder of all runs."""


def pages() -> dict[str, str]:
    return {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}


def blocks(found: Mapping[str, str]) -> dict[str, list[tuple[str, re.Match[str]]]]:
    """name -> (page, match) of each place."""
    made: dict[str, list[tuple[str, re.Match[str]]]] = {}
    for page, text in found.items():
        for match in BLOCK.finditer(text):
            made.setdefault(match["name"], []).append((page, match))
    return made


def replaced(text: str, name: str, command: str, commit: str, body: str) -> str:
    """A page with what stands between the marks of a name made anew."""
    made = f"<!-- table {name}: {command}; commit {commit} -->\n{body}<!-- end {name} -->\n"
    return BLOCK.sub(lambda match: made if match["name"] == name else match[0], text)


def errors(found: Mapping[str, str]) -> list[str]:
    """Tables of figures outside of marks, and names with two contents."""
    wrong = []
    for page, text in found.items():
        rest = BLOCK.sub("", text)
        for table in re.findall(r"(?:^\|.*\n)+", rest, re.M):
            if sum(bool(FIGURE.search(line)) for line in table.splitlines()) > 1:
                wrong.append(f"{page}: a table of figures stands in no marks: {table.splitlines()[0][:80]}")
    for name, places in blocks(found).items():
        if len({(match["command"], match["commit"], match["body"]) for _, match in places}) > 1:
            wrong.append(
                f"table {name} has two contents, in {' and '.join(page for page, _ in places)}: python "
                f"scripts/tables.py {name}"
            )
    return wrong


def git(*words: str) -> str | None:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def here() -> str:
    """The commit that is checked out, `-dirty` where the code is another."""
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (
        "-dirty" if git("status", "--porcelain", "--", "kdx", "conf") else ""
    )


def age(commit: str) -> str:
    """What became of the code since a commit, in words."""
    commit = commit.removesuffix("-dirty")
    if git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        return "made by a commit that this repository does not have"
    changed = (git("diff", "--name-only", commit, "HEAD", "--", "kdx", "conf") or "").split()
    return (
        f"{len(changed)} files of kdx and conf have changed since"
        if changed
        else "made by the code that is here"
    )


def run(argv: Sequence[str]) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    known = blocks(pages())
    if unknown := [name for name in argv if name != "--check" and name not in TABLES]:
        print(f"no such table: {', '.join(unknown)}; there are {', '.join(TABLES)}", file=sys.stderr)
        return 2
    place = Path("outputs/tables").resolve()
    for name in (name for name in argv if name != "--check"):
        command, make = TABLES[name]
        body, commit = make(place), here()
        for page, text in pages().items():
            (ROOT / page).write_text(replaced(text, name, command, commit, body), encoding="utf-8")
        print(
            body
            + (
                f"written into {', '.join(page for page, _ in known[name])}"
                if name in known
                else f"no page shows {name}"
            )
        )
    if argv and "--check" not in argv:
        return 0
    for name, places in known.items():
        print(
            f"{name:16} {', '.join(page for page, _ in places)}: {places[0][1]['commit']}, "
            f"{age(places[0][1]['commit'])}"
        )
    wrong = errors(pages())
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
