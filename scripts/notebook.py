#!/usr/bin/env python
"""Runs the cells of docs/examples/notebook.ipynb in order and writes what they show into it, without jupyter.

    python scripts/notebook.py                               # in a new folder; a minute or two
    python scripts/notebook.py --to FILE --words WORD ...    # into another file, with further words for each training

What a notebook shows of a cell: what it prints, and its last expression, as text and, where it has one, as HTML.
Progress, which goes to stderr, is left out.
"""  # noqa: E501

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import kdx
from kdx.api import calls

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs/examples/notebook.ipynb"
ADDRESS = "<cell>"


def shown(value: Any) -> dict[str, Any]:
    """The forms of a value that a notebook keeps."""
    found = {"text/plain": repr(value)}
    html = getattr(value, "_repr_html_", None)
    return found | ({"text/html": html()} if html else {})


def run_cell(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """The outputs of one cell of code. names: those of all cells, as they are by now."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, ADDRESS, "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), ADDRESS, "eval"), names)
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    if value is not None:
        data = {kind: form.splitlines(keepends=True) for kind, form in shown(value).items()}
        outputs.append(
            {"output_type": "execute_result", "execution_count": number, "data": data, "metadata": {}}
        )
    return outputs


def run_notebook(notebook: dict[str, Any]) -> dict[str, Any]:
    """The same notebook with the outputs of its cells."""
    names: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        cell["execution_count"] = number
        cell["outputs"] = run_cell("".join(cell["source"]), names, number)
    return notebook


def with_words(words: list[str]) -> None:
    """Has every training of this process take these words as well."""
    ask = calls.ask_command
    calls.ask_command = lambda name, given: ask(name, [*given, *words] if name == "train" else given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=NOTEBOOK)
    parser.add_argument("--words", nargs="*", default=[])
    asked = parser.parse_args()
    with_words(asked.words)
    to = asked.to.absolute()
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        done = run_notebook(notebook)
        os.chdir(to.parent)
    to.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{to}, with kdx {kdx.__version__}")


if __name__ == "__main__":
    main()
