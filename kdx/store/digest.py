"""One hash of what some modules do, of their syntax and of all that they import: the part of a key that code
changes.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kdx.core.collecting import uncollected
from kdx.store import memory
from kdx.store.resolve import code_file, imported_from, module_of, own_packages, package_of

PLUMBING = (
    "kdx",
    "kdx.core.errors",
    "kdx.core.files",
    "kdx.core.snapshot",
    "kdx.core.checks",
    "kdx.core.path_checks",
    "kdx.core.capacity",
    "kdx.store.component",
    "kdx.store.source",
    "kdx.store.memory",
    "kdx.store.resolve",
    "kdx.store.digest",
    "kdx.store.moved",
    "kdx.store.artifact",
    "kdx.store.stage_key",
    "kdx.store.manifest",
    "kdx.store.verification",
    "kdx.store.work",
    "kdx.store.stage",
    "kdx.store.disk",
    "kdx.store.store",
    "kdx.training.runtime",
    "kdx.core.paths",
    "kdx.core.signals",
    "kdx.core.shortage",
)
"""Modules that decide where and how fast, never what is computed: they stay out of the code digest."""


_remembered: dict[str, list[str]] = {}
"""Digest of a text -> what `_syntax` finds in it."""
_MOST = 10_000
"""Texts that are remembered; of more the new ones alone, as most are of files that have changed since."""


@contextlib.contextmanager
def remembering(path: Path) -> Iterator[None]:
    """Inside, what is known of syntax trees is taken from this file, and kept there."""
    kept = memory.recall(path)
    for key in kept.keys() - _remembered.keys():
        if kept[key] and all(isinstance(word, str) for word in kept[key]):
            _remembered[key] = kept[key]
    try:
        yield
    finally:
        if new := _remembered.keys() - kept.keys():
            many = len(_remembered) > _MOST
            memory.keep(path, {key: _remembered[key] for key in new} if many else _remembered)


def code_digest(names: Iterable[str]) -> str:
    """One hash of what these modules do: their syntax trees without docstrings, and those of every module of
    kdx, or of a package that `allow` names, that they import in turn.

    names: dotted modules or `_target_`s. A target of another package counts with that package's name and
    version.
    """
    if own_packages:
        return _digest(names)
    return _digest_of_ours(tuple(names))


@functools.cache
def _digest_of_ours(names: tuple[str, ...]) -> str:
    """Without packages of the user's own, where a module of a name is always the same one."""
    return _digest(names)


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(sorted(modules_read(names).items())).encode()).hexdigest()


def modules_read(names: Iterable[str]) -> dict[str, str]:
    """module -> hash of its syntax, or version of its package, of all that `code_digest` goes over."""
    seen: dict[str, str] = {}
    todo = list(names)
    own = {"kdx", *(package.partition(".")[0] for package in own_packages)}
    while todo:
        module = module_of(todo.pop())
        package = module.partition(".")[0]
        if module in seen or module in PLUMBING:
            continue
        path = code_file(module) if package in own else None
        if path is None:
            seen[module] = _version(package)
            continue
        seen[module], imports = _syntax(path, module)
        todo += [name for name in imports if name.partition(".")[0] in own]
        # its package's __init__.py runs too
        todo += [module.rpartition(".")[0]] if package != "kdx" and "." in module else []
    return seen


def _version(package: str) -> str:
    import importlib.metadata  # as slow as all of this module, and few keys need it

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def _syntax(path: Path, module: str) -> tuple[str, tuple[str, ...]]:
    """(hash of the syntax tree, full names of all that it imports anywhere). They hang on the text, the
    package and the version of Python alone, so what `remembering` knows of them is no guess.
    """
    text, package = path.read_bytes(), package_of(module, path)
    key = hashlib.sha256(f"{sys.version} {package}\0".encode() + text).hexdigest()
    if key not in _remembered:
        digest, imports = _parsed(text.decode("utf-8"), package)
        _remembered[key] = [digest, *imports]
    return _remembered[key][0], tuple(_remembered[key][1:])


def forget_code() -> None:
    """What was read of files, which may have been changed since."""
    _syntax.cache_clear()


def _parsed(text: str, package: str) -> tuple[str, tuple[str, ...]]:
    with uncollected():
        return _of_tree(ast.parse(text), package)


def _of_tree(tree: ast.Module, package: str) -> tuple[str, tuple[str, ...]]:
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports += [full for _, full in imported_from(node, package)]
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            if isinstance(body[0].value.value, str):
                body[0].value.value = ""
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(imports)
