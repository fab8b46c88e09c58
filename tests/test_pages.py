"""README.md and docs/*.md: a page for each noun, links that lead somewhere, and tables of options that are
those of conf/. What they print as commands: tests/test_page_commands.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_words import CONF, GROUPS, options

from kdx.commands.list import defaults, describe_option

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOUNS = (
    "teacher student init networks dataset task pool select loss augment recipe controls device run store "
    "preset claim own-parts"
).split()
"""Pages of one form. Pictures, run-json, sweeps, choosing and commands are of an older one."""
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(DOCS.glob("*.md")),
        *sorted(DOCS.glob("methods/*.md")),
        DOCS / "examples/README.md",
    )
}
LINK = re.compile(r"\]\(([^)\s]+)\)")
SLOTS = {"weights": "loss.weights", "features": "loss.features"}
LONGEST = {"pool": 92, "own-parts": 132, "dataset": 104, "loss": 187, "networks": 117, "task": 98, "init": 96}
"""Lines of a page of that form, where it may have more than 90."""


def prose(text: str) -> str:
    """Without blocks of code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def lost_links(name: str, text: str) -> list[str]:
    """Relative links and plain mentions of a page that lead nowhere."""
    here, lost = (ROOT / name).parent, []
    for link in LINK.findall(prose(text)):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (here / path).resolve() if path else ROOT / name
        if not target.exists():
            lost.append(link)
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            lost.append(link)
    named = re.findall(r"\bdocs/[\w./-]+\.md\b", LINK.sub("", text))
    return lost + [page for page in named if not (ROOT / page).exists()]


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Each table: the cells of its head, and those of its rows."""
    for block in re.findall(r"(?:^\|.*\n)+", text + "\n", flags=re.M):
        head, _, *rows = (
            [cell.strip() for cell in line.strip("|\n").split(" |")] for line in block.splitlines()
        )
        yield head, rows


def option_table(group: str, roles: tuple[str, ...] = ()) -> list[list[str]]:
    """The rows that the table of a group must have."""
    standard = defaults(CONF)
    rows = []
    for option in options(group):
        of = [role for role in roles or (group,) if option in standard.get(role, [])]
        mark = f" (the default{' ' + of[0] if roles else ''})" if of else ""
        rows.append([f"`{option}`{mark}", describe_option(CONF / group / f"{option}.yaml")])
    return rows


def preset_table() -> list[list[str]]:
    """One row a preset; of one with arms their names."""
    arms: dict[str, list[str]] = {}
    for option in options("experiment"):
        name, _, arm = option.partition("/")
        arms.setdefault(name, []).append(arm)
    return [
        [f"`{name}/`", ", ".join(f"`{arm}`" for arm in some)]
        if any(some)
        else [
            f"`{name}`{' (the default)' if name in defaults(CONF)['experiment'] else ''}",
            describe_option(CONF / "experiment" / f"{name}.yaml"),
        ]
        for name, some in arms.items()
    ]


@pytest.mark.parametrize("noun", NOUNS)
def test_a_noun_has_a_page_that_one_is_led_to_and_that_is_short(noun):
    name = f"docs/{noun}.md"
    text = PAGES[name]
    assert f"]({name}" in PAGES["README.md"] and f"]({noun}.md" in PAGES["docs/architecture.md"]
    assert "Refused" in text and "In the code: [" in text.replace("In the code: `", "In the code: [`")
    assert any(line.startswith("    kdx ") for line in text.splitlines()), "an example command"
    assert len(text.splitlines()) <= LONGEST.get(noun, 90)


def test_the_readme_has_1200_words():
    """Commands and tables too, without what a link points to and the marks of tables."""
    text = re.sub(r"<!--.*?-->", "", LINK.sub("]", PAGES["README.md"]), flags=re.S)
    assert len(re.findall(r"[^\s|]*\w[^\s|]*", text)) <= 1200


def test_every_page_is_linked_from_the_readme_or_the_architecture():
    linked = {link.partition("#")[0] for link in LINK.findall(PAGES["README.md"])}
    linked |= {f"docs/{link.partition('#')[0]}" for link in LINK.findall(PAGES["docs/architecture.md"])}
    linked |= {f"docs/{link}" for link in LINK.findall(PAGES["docs/start.md"])}
    assert PAGES.keys() - linked - {"README.md"} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    assert lost_links(page, PAGES[page]) == []


def test_every_link_of_the_changelog_leads_somewhere():
    assert lost_links("CHANGELOG.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) == []


def test_a_link_that_leads_nowhere_is_found():
    text = (
        "[a](docs/loss.md) [b](docs/loss.md#losses) [c](docs/los.md) [d](docs/loss.md#lost), see docs/none.md"
    )
    assert lost_links("README.md", text) == ["docs/los.md", "docs/loss.md#lost", "docs/none.md"]


def test_tables_of_options_are_those_of_conf():
    found = {head[0]: rows for text in PAGES.values() for head, rows in tables(text)}
    assert found["`teacher=`, `student=`"] == option_table("model", ("teacher", "student"))
    networks = [name for name in options("teacher") if name != "answers"]  # no network: a file
    assert options("model") == networks == options("student")
    assert found["`experiment=`"] == preset_table()
    claims = sorted((CONF / "claim").glob("*.yaml"))
    assert found["`kdx reproduce`"] == [[f"`{path.stem}`", describe_option(path)] for path in claims]
    others = {"model", "teacher", "student", "experiment", "launcher", "sweeper"}
    for group in set(GROUPS) - others:
        assert found[f"`{SLOTS.get(group, group)}=`"] == option_table(group), group
    words = {re.match(r"`(\w+=\w+)", row[0])[1] for row in found["word"]}
    assert words == {f"{group}={name}" for group in ("launcher", "sweeper") for name in options(group)}


def test_the_page_of_options_has_those_of_conf():
    """It writes `resnet20/32/56` for resnet20, resnet32 and resnet56."""
    found = tables(PAGES["docs/options.md"])
    ((_, rows),) = [(head, rows) for head, rows in found if head == ["group", "options"]]
    for groups, listed in rows:
        names = set()
        for word in re.findall(r"[\w/]+", listed):
            first, *more = word.split("/")
            names |= {first, *(first[:i] + rest for rest in more for i in range(len(first)))}
        for group in re.findall(r"`(?:loss\.)?(\w+)`", groups):
            assert set(options(group)) <= names, group
