"""The commands that README.md and docs/ print, each with its file and line, and of which kind it is: for
tests/test_page_commands.py and test_page_runs.py.

A command is what begins with `kdx`, a script, `python` or `pip` in a line of an indented block, in code of a
sentence or a table, beside a line (`# a file: kdx train --config my.yaml`), in a column of words "behind
`kdx train -m`", and as what a table of measurements was made by (`<!-- table NAME: kdx ...; commit ... -->`).
Of code between fences, `pages_with_code` has the pages.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
_COMMAND = re.compile(r"(?:kdx|(?:python3? |\./)?scripts/[\w.]+|python3?|pip)(?:\s.*)?", re.S)
_BESIDE = re.compile(r": (kdx [a-z].*)$|`(kdx [^`]+)`")
_MADE_BY = re.compile(r"<!-- table [\w-]+: (.*?); commit .*-->")
_EVALUATED = re.compile(r'eval "\$\((.*)\)"')
_REMARK = re.compile(r"\s#|\s{3,}|(?<=\S)\s{2,}")
_SWEPT = re.compile(r"behind `(kdx train -m)`")

PUBLISHED = "test_publish.py::test_a_printed_command_publishes"
NAMES = {"publish", "compare", "predict", "export", "evaluate", "rerun", "new", "completion", "cache"}
"""Commands that need more words: alone they are named, not shown."""
OWN_PARTS = "test_own_parts_page.py::test_every_package_of_the_page_is_run_above"
YOUR_OWN = "test_your_own_page.py::test_a_part_of_the_page_runs_as_printed"
ELSEWHERE = {
    r".*: kdx publish \S+ to=(mlflow|trackio|wandb|hf:\S+)(?!.* dry=true)": PUBLISHED,
    r"CONTRIBUTING\.md: kdx train .*loss=mine": "test_contributing.py::test_a_loss_is_added_as_the_page_says",
    r"docs/own-parts(-more)?\.md: kdx train allow=\[": OWN_PARTS,
    r"docs/your-own\.md: kdx train allow=\[my_parts\]": YOUR_OWN,
    r"docs/your-own\.md: kdx compare outputs metric=sure": YOUR_OWN,
    r".*: (\./)?scripts/(test|kdx)\b": "test_scripts.py::test_the_test_script_runs_pytest_in_the_repository",
}
"""Where a command is run by a test of its own: the start of `page: words` -> that test."""
QUICK = {
    "publish",
    "list",
    "config",
    "completion",
    "cache",
    "new",
    "compare",
    "evaluate",
    "predict",
    "board",
    "reproduce",
    "halfspace",
}
WITH_TRAINING = {"train", "plan", "rerun", "export"}


@dataclass(frozen=True)
class Printed:
    """One command as it is printed, without the remark beside it."""

    page: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        """As a shell makes them, without what it does with the output."""
        return shlex.split(re.split(r"\s[|>]\s", self.text)[0])

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def kind(self) -> str | None:
        """How it is tried: name, elsewhere, script, package, help, quick, training; None: nobody knows."""
        first, *rest = self.words
        if elsewhere(self):
            return "elsewhere"
        if first == "pip":
            return "package" if rest[:1] == ["install"] else None
        if first.startswith("python") and rest[:2] == ["-m", "kdx"]:
            first, rest = "kdx", rest[2:]
        if re.search(r"\b(scripts|tests)/", " ".join(self.words[:2])):
            return "script"
        if first in ("python", "python3"):
            return None if rest else "name"
        if not rest or (rest[0] in NAMES and not rest[1:]):
            return "name"
        if "--help" in rest:
            return "help"
        return {**dict.fromkeys(QUICK, "quick"), **dict.fromkeys(WITH_TRAINING, "training")}.get(rest[0])


def elsewhere(command: Printed) -> str | None:
    """The test of its own that a command has."""
    line = f"{command.page}: {' '.join(command.words)}"
    return next((test for start, test in ELSEWHERE.items() if re.match(start, line)), None)


def printed_commands() -> list[Printed]:
    """Of all pages; one that a page prints several times is there once, with its first line."""
    found: dict[tuple[str, str], Printed] = {}
    for page, text in PAGES.items():
        for command in sorted(of_page(page, text), key=lambda command: command.line):
            found.setdefault((page, command.text), command)
    return list(found.values())


def of_page(page: str, text: str) -> Iterator[Printed]:
    """Those of one page."""
    for line, found in _printed(text):
        for one in _alternatives(found):
            yield Printed(page, line, " ".join(one.split()))


def pages_with_code() -> dict[str, list[str]]:
    """page -> its blocks of Python between fences."""
    found = {
        page: re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S) for page, text in PAGES.items()
    }
    return {page: blocks for page, blocks in found.items() if blocks}


def _printed(text: str) -> Iterator[tuple[int, str]]:
    """(line, what stands there as a command)"""
    prose, fenced, swept = [], False, None
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.startswith("```")
        fenced ^= fence
        block = line.startswith("    ") and not fenced
        made = _MADE_BY.match(line)
        prose.append("" if fence or fenced or block or made else line)
        if made:
            yield from ((number, part) for part in re.split(r"[;,] ", made[1]) if _COMMAND.fullmatch(part))
        if block:
            yield from ((number, part) for part in _of_block(line.strip()))
        swept = (_SWEPT.search(line) or swept) if line.startswith("|") else None
        if swept and (words := re.search(r"\| `([^`]+)` \|$", line)):
            yield number, f"{swept[1]} {words[1]}"
    whole = "\n".join(prose)
    for found in re.finditer(r"`([^`]+)`", whole):
        if _COMMAND.fullmatch(found[1]):
            yield whole[: found.start()].count("\n") + 1, found[1]


def _of_block(line: str) -> Iterator[str]:
    """The command of a line of a block, and one that is named beside it."""
    command, *beside = _REMARK.split(line, maxsplit=1)
    if inner := _EVALUATED.fullmatch(command.strip()):
        command = inner[1]
    if _COMMAND.fullmatch(command.strip()):
        yield command.strip()
        for remark in beside:
            yield from (found[1] or found[2] for found in _BESIDE.finditer(remark.strip()))


def _alternatives(text: str) -> list[str]:
    """`kdx cache ls | verify | gc` says three."""
    head, *others = re.split(r"\s\|\s", text)
    if not re.fullmatch(r"kdx \w+ \w+", head) or not all(re.fullmatch(r"\w+", other) for other in others):
        return [text]
    stem = head.rpartition(" ")[0]
    return [head, *(f"{stem} {other}" for other in others if other != "source")]
