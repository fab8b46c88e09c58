"""What a class says of itself by plain values in its body, such as `uses = ("labelled",)`, read from its
file: importing it might cost torch.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

from kdx.store.moved import address
from kdx.store.resolve import code_file, imported_from, package_of, resolve

UNKNOWN = object()
"""Where a file does not tell: the value is computed, or stands in a package whose files are not read."""


def declared(target: str, name: str, default: Any = None) -> Any:
    """The class attribute `name` of what a `_target_` names, its bases' where it has none of its own; the
    default where nobody has one. Only where its files do not tell is it imported, as `resolve` does.
    """
    target = address(target)
    found = _of(target, name)
    return (
        getattr(resolve(target), name, default) if found is UNKNOWN else default if found is None else found
    )


def _of(target: str, name: str) -> Any:
    """The value, None where there is none, or UNKNOWN."""
    module, _, called = target.rpartition(".")
    path = code_file(module) if module else None
    node, names = _parts(path, module).get(called, (None, {})) if path else (None, {})
    if node is None:
        return UNKNOWN
    if not isinstance(node, ast.ClassDef):
        return None  # a function says nothing
    for line in node.body:
        if not isinstance(line, ast.Assign | ast.AnnAssign):
            continue
        targets = line.targets if isinstance(line, ast.Assign) else [line.target]
        if any(isinstance(found, ast.Name) and found.id == name for found in targets) and line.value:
            try:
                return ast.literal_eval(line.value)
            except ValueError:
                return UNKNOWN
    for base in node.bases:
        first, _, rest = ast.unparse(base).partition(".")
        above = ".".join(filter(None, [names.get(first, f"{module}.{first}"), rest]))
        if above != "abc.ABC" and (found := _of(above, name)) is not None:
            return found
    return None


@functools.cache
def _parts(path: Path, module: str) -> dict[str, tuple[ast.AST, dict[str, str]]]:
    """name -> (a class or function of a module, the full name of each name that the module imports)"""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return {}  # importing it says what is wrong
    package = package_of(module, path)
    names: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            for a in node.names:
                first = a.name.partition(".")[0]
                names[a.asname or first] = a.name if a.asname else first
        elif isinstance(node, ast.ImportFrom):
            names.update(imported_from(node, package))
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {node.name: (node, names) for node in tree.body if isinstance(node, kinds)}


def forget_declared() -> None:
    """What was read of files, which may have been changed since."""
    _parts.cache_clear()
