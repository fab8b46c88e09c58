#!/usr/bin/env python3
"""docs/methods: a page for each group of methods, made of their files in conf/ and kdx/methods, so that it
says what these say.

    scripts/methods.py            # writes the pages
    scripts/methods.py --check    # exit code 1 where they say something else

An option's YAML begins with comments: its line in `kdx list`, then `# When:`, `# Not:`, `# Cost:`,
`# Limit:` (what it must equal, and the test that holds it), `# Measured:` and `# Try:` (what to type); a line
that begins with none of these goes on with the one before. The formula is the docstring of the class.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kdx.commands.list import first_comments  # noqa: E402

CONF, PAGES = ROOT / "conf", ROOT / "docs/methods"
GROUPS = {
    "loss": ("Losses", "kdx train loss={}", "what the student minimises: [losses](../loss.md)"),
    "features": (
        "Terms on hidden features",
        "kdx train loss.features={}",
        "added to a loss on answers: [losses](../loss.md#hidden-features)",
    ),
    "weights": (
        "Weights of pseudo-labels",
        "kdx train loss=soft loss.weights={}",
        "how far a pool row's answer counts: [losses](../loss.md#weights-of-pseudo-labels)",
    ),
    "aggregate": (
        "How several teachers' answers become one",
        "kdx train 'teachers=[cnn,resnet20]' aggregate={}",
        "what makes one answer of several: [several teachers](../aggregate.md)",
    ),
    "recipe": ("Recipes", "kdx train recipe={}", "which stages run, in which order: [recipes](../recipe.md)"),
    "init": (
        "What the student's weights begin with",
        "kdx train init={}",
        "made of the teacher's weights, or not: [initialisation](../init.md)",
    ),
}
"""Folder in conf/ -> the page's title, what one types, and a line on what they are."""
SAYS = ("When", "Not", "Cost", "Limit", "Measured")
TRY = "Try"
"""What one types, where it is more than the group's words."""
TEST = re.compile(r"(tests/\w+\.py)::(\w+)")


@dataclass
class Method:
    """idea: its line in `kdx list`. says: the words of SAYS -> text. options: key -> (default, comment)."""

    name: str
    idea: str = ""
    says: dict[str, str] = field(default_factory=dict)
    options: dict[str, tuple[str, str]] = field(default_factory=dict)
    formula: str = ""
    source: str = ""


def read(path: Path) -> Method:
    method, last = Method(path.stem), ""
    lines = path.read_text(encoding="utf-8").splitlines()
    for text in first_comments(path):
        head, _, rest = text.partition(":")
        if not method.idea:
            method.idea = text
        elif head in (*SAYS, TRY):
            last, method.says[head] = head, rest.strip()
        elif last:
            method.says[last] += f" {text}"
    values = yaml.safe_load("\n".join(lines)) or {}
    target = _target(values)
    method.options = {key: found for key, found in _options(lines) if not key.startswith("_")}
    if target:
        method.formula, method.source = _docstring(target)
    return method


def _target(values: Mapping[str, Any]) -> str | None:
    """The class of an option: at the top, under `loss`, or under its own name."""
    found = [values, *(v for v in values.values() if isinstance(v, Mapping))]
    return next((str(one["_target_"]) for one in found if "_target_" in one), None)


def _options(lines: Sequence[str]) -> list[tuple[str, tuple[str, str]]]:
    """(key, (default, comment)) of each line of values, with the keys above it but `loss`."""
    found, above = [], []
    for line in lines:
        match = re.match(r"^( *)([\w.]+):(?: +(.*?))?(?: +# (.*))?$", line)
        if not match or line.startswith("defaults"):
            continue
        indent, key, value, comment = match.groups()
        above = [(deep, name) for deep, name in above if deep < len(indent)]
        if not value:
            above.append((len(indent), key))
            continue
        path = [name for _, name in above] + [key]
        path = path[1:] if path[0] in ("loss", "recipe") and len(path) > 1 else path
        found.append((".".join(path), (value, comment or "")))
    return found


def _docstring(target: str) -> tuple[str, str]:
    """(the docstring of a class, where it stands)"""
    module, _, name = target.rpartition(".")
    path = ROOT / (module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    return inspect.cleandoc(ast.get_docstring(found) or ""), path.relative_to(ROOT).as_posix()


def entry(group: str, method: Method) -> str:
    lines = [
        f"## {method.name}",
        "",
        f"{method.idea}.",
        "",
        f"    {method.says.get(TRY) or GROUPS[group][1].format(method.name)}",
        "",
    ]
    for word in SAYS:
        if word in method.says:
            lines.append(f"- **{word}**: {_linked(method.says[word])}")
    if method.says:
        lines.append("")
    if method.formula:
        lines += ["```text", method.formula, "```", ""]
    if method.options:
        lines += ["| key | default | |", "|---|---|---|"]
        lines += [
            f"| `{key}` | `{value}` | {comment.replace('|', chr(92) + '|')} |"
            for key, (value, comment) in method.options.items()
        ]
        lines.append("")
    if method.source:
        lines += [f"[`{method.source}`](../../{method.source})", ""]
    return "\n".join(lines)


def _linked(text: str) -> str:
    return TEST.sub(r"[`\2`](../../\1)", text)


def page(group: str) -> str:
    title, _, what = GROUPS[group]
    methods = [read(path) for path in sorted((CONF / group).glob("*.yaml"))]
    head = [
        f"# {title}",
        "",
        f"One entry for each option, {what}. This page is made by `scripts/methods.py` of conf/{group} "
        "and the code.",
        "",
        ", ".join(f"[{method.name}](#{method.name})" for method in methods),
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(entry(group, method) for method in methods)


def main(argv: Sequence[str] | None = None) -> int:
    check = "--check" in (sys.argv[1:] if argv is None else argv)
    different = []
    for group in GROUPS:
        path, text = PAGES / f"{group}.md", page(group)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            different.append(path)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for path in different:
        print(path.relative_to(ROOT), "differs" if check else "written")
    return int(check and bool(different))


if __name__ == "__main__":
    sys.exit(main())
