"""The field's words: old ones stand nowhere that a reader looks,
and a public name is defined in one place.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

OLD = re.compile(
    r"(?<![a-z])(faults?|told|judges?|judged|pupils?|believes?|believed|stands? still)(?![a-z])", re.I
)
"""Words of earlier versions: docs/architecture.md says what stands for each now."""
KEPT = ("believed_accuracy",)
"""Keys of run.json, which stay as they are: files that were written with them stay readable."""

SHARED = {
    "run": "what a stage does",
    "main": "what a command does",
    "HELP": "of a command",
    "OPTIONS": "of a command",
    "ACTIONS": "of a command",
    "load": "kdx.load is that of kdx.runs.export.formats",
    "Run": "kdx.Run is what Python holds of a run folder",
    "Sweep": "kdx.Sweep is what Python holds of one",
    "Comparison": "kdx.Comparison is what Python holds of one",
    "train": "kdx.train is the command from Python",
    "settings": "kdx.settings is the command from Python",
    "resnet": "a family of networks each, by what conf/ calls them",
    "Chain": "of views, and of assistants",
    "Supervised": "a loss, and the recipe in which nobody teaches",
    "VALIDATIONS": "one number, which a module without torch says again: a test holds it",
}
"""Names that several modules define on purpose."""


def trees(top: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((top / "kdx").rglob("*.py")):
        yield path.relative_to(top).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def defined(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and constants at the top of a module,
    without those that begin with an underscore.
    """
    for node in tree.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        yield from (name for name in dict.fromkeys(names) if not name.startswith("_"))


def twice(top: Path) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name, tree in trees(top):
        for public in defined(tree):
            found[public].append(name)
    return {public: files for public, files in found.items() if len(files) > 1 and public not in SHARED}


def named(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names that a reader meets: of functions, methods, classes and arguments, and constants."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
    tops = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    yield from ((1, name) for name in defined(tree) if name not in tops)


def said(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Texts with a space in them: messages, and docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def old_words(text: str) -> list[str]:
    for key in KEPT:
        text = text.replace(key, "")
    return [found[0] for found in OLD.finditer(" ".join(text.replace("_", " ").split()))]


def in_code(top: Path) -> list[str]:
    return [
        f"{name}:{line}: {word} in {text[:60]!r}"
        for name, tree in trees(top)
        for line, text in (*named(tree), *said(tree))
        for word in old_words(text)
    ]


def test_a_public_name_is_defined_in_one_place(root):
    assert twice(root) == {}


def test_names_that_are_shared_on_purpose_are_still_there(root):
    names = [public for _, tree in trees(root) for public in defined(tree)]
    assert [name for name in SHARED if names.count(name) < 2] == []


def test_old_words_stand_in_no_name_and_no_message(root):
    assert in_code(root) == []


def test_old_words_stand_on_no_page(root):
    pages = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "conf").rglob("*.yaml")]
    found = {}
    for path in pages:
        text = path.read_text(encoding="utf-8")
        if path.name == "architecture.md":  # the table of old words itself
            before, _, after = text.partition("\n## Words\n")
            text = before + "\n## " + after.partition("\n## ")[2]
        if words := old_words(text):
            found[path.relative_to(root).as_posix()] = words
    assert found == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Faults(Exception): pass", ["Faults"]),
        ("def was_told(pupil): pass", ["told", "pupil"]),
        ("x = 'layers that stand still'", ["stand still"]),
        ("def f(default, believed_accuracy): 'by default, foretold'", []),
    ],
)
def test_an_old_word_that_is_planted_is_found(tmp_path, text, words):
    (tmp_path / "kdx").mkdir()
    (tmp_path / "kdx/made.py").write_text(text)
    assert [line.split(": ")[1].split(" in ")[0] for line in in_code(tmp_path)] == words


def test_a_name_in_two_places_that_is_planted_is_found(tmp_path):
    for room, text in (
        ("core", "LEAST = 1\n_MOST = 2\n"),
        ("report", "def LEAST(): pass\n_MOST = 3\nrun = 1\n"),
    ):
        (tmp_path / "kdx" / room).mkdir(parents=True)
        (tmp_path / "kdx" / room / "made.py").write_text(text)
    assert twice(tmp_path) == {"LEAST": ["kdx/core/made.py", "kdx/report/made.py"]}
