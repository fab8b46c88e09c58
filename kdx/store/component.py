"""Things described but not built yet, and files known by their content. Standard library only: describing
imports no torch.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from kdx import checks
from kdx.disk import read_json, write_atomically
from kdx.faults import Fault, shows

ALLOWED = ("kdx", "torch.optim", "torchvision.models")
_extra: list[str] = []
NO_FILE = "0" * 64
SETTLED = 2.0
"""Seconds since its last change after which a file's digest is remembered: a clock may be too coarse to tell
two changes apart.
"""
UNREADABLE = "unreadable"
"""What stands for the digest of a file that this user may not read."""
PLUMBING = (
    "kdx",
    "kdx.faults",
    "kdx.disk",
    "kdx.checks",
    "kdx.component",
    "kdx.artifact",
    "kdx.work",
    "kdx.store",
    "kdx.runtime",
    "kdx.locate",
    "kdx.signals",
    "kdx.shortage",
)
"""Modules that decide where and how fast, never what is computed: they stay out of the code digest."""


def allow(packages: Iterable[str]) -> None:
    """Lets configuration build objects of these packages as well, and no others. Only ever called with names
    from the user's command line.
    """
    _extra[:] = packages
    _module_of.cache_clear()
    _own_file.cache_clear()


def resolve(target: str) -> Any:
    """The object that a `_target_` names, or a Fault: only from allowed packages, only where it is defined
    itself.
    """
    module, _, name = target.rpartition(".")
    roots = (*ALLOWED, *_extra)
    if not any(target == r or target.startswith(r + ".") for r in roots):
        raise Fault(
            f"_target_ '{target}' is not allowed: only {', '.join(roots)}; name your own package on the "
            "command line with allow=[package]"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise Fault(f"'{target}' needs the package '{error.name}', which is not installed") from error
        raise Fault(f"_target_ '{target}' does not exist: {error}") from error
    except Exception as error:
        if own := own_fault(error):
            raise Fault(f"'{module}' cannot be imported: {own}") from error
        if isinstance(error, (ImportError, AttributeError, ValueError)):
            raise Fault(f"_target_ '{target}' does not exist: {error}") from error
        raise
    if getattr(found, "__module__", None) != module or not callable(found):
        raise Fault(f"_target_ '{target}' is refused: '{name}' is not defined in {module}")
    return found


def from_own_package(target: str) -> bool:
    """Whether it is the address of something in a package that the command line allows."""
    return any(target.startswith(f"{package}.") for package in _extra)


def own_fault(error: BaseException) -> str | None:
    """What an error says, and where in the user's own packages it came up; None where none of their code took
    part in it.
    """
    own = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0]
        in {package.partition(".")[0] for package in _extra}
    ]
    if not own and not isinstance(error, SyntaxError):
        return None
    return f"{type(error).__name__}: {error}" + (f" ({own[-1]})" if own else "")


class Component:
    """A class or function with its arguments, as plain JSON under `_target_`; `build` imports it late.

    spec: {"_target_": "package.module.name", argument: JSON}; a nested mapping with a `_target_` of its own
    is handed on as a Component. sources: what it reads from outside, each under the role that it has, `train`
    say. places: arguments that only tell where that lies, by default those called like the sources: `build`
    gets them as they stand in the spec, and a key holds role and content in place of them.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        sources: Mapping[str, Source] | None = None,
        places: Iterable[str] | None = None,
    ):
        if not isinstance(spec.get("_target_"), str):
            raise Fault(
                "a component needs a _target_, the address of its code such as kdx.losses.kd.KD; given: "
                f"{checks.shown(spec)}"
            )
        self.spec = json.loads(json.dumps(spec))
        self.sources = dict(sources or {})
        self.places = frozenset(self.sources if places is None else places)

    @property
    def target(self) -> str:
        return self.spec["_target_"]

    def build(self, *args: Any, **more: Any) -> Any:
        """The object, all of whose arguments its checks allow. Raises Faults with every one that they refuse,
        and hands nothing on.
        """
        with checks.whole():
            return self.call(*args, **more)

    def call(self, *args: Any, **more: Any) -> Any:
        """`build` for a function that does work, whose faults are not those of its arguments."""
        arguments = {k: _slots(v) for k, v in self.spec.items() if k != "_target_"}
        made = resolve(self.target)
        try:
            return made(*args, **arguments, **more)
        except TypeError as error:
            # the call itself: a key too many or too few
            if error.__traceback__ and error.__traceback__.tb_next is None:
                raise Fault(f"{self.target} does not take these keys: {error}") from error
            raise

    def resolve(self) -> Any:
        return resolve(self.target)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and (self.spec, self.sources, self.places) == (
            other.spec,
            other.sources,
            other.places,
        )

    def __repr__(self) -> str:
        return f"Component({self.spec})"


def _slots(value: Any) -> Any:
    if isinstance(value, dict):
        return Component(value) if "_target_" in value else {k: _slots(v) for k, v in value.items()}
    return [_slots(v) for v in value] if isinstance(value, list) else value


def targets(value: Any) -> Iterator[str]:
    """Every `_target_` inside a JSON value."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value["_target_"]
        for inner in value.values():
            yield from targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from targets(inner)


class Source:
    """Files or folders from outside, identified by their content and never by where they lie.

    paths: a file is known by its content; a folder by the names and contents of all files in it but hidden
    ones; several by those of each, in order. named: files by names of their own, in place of paths: the names
    count, and the order; one that cannot be read counts as that.
    """

    memo: Path | None = None
    """Where digests are remembered by size, inode and times; the store sets it. Only written where its folder
    is there already.
    """
    _remembered: ClassVar[dict[str, list]] = {}

    def __init__(self, *paths: str | Path, named: Iterable[tuple[str, Path]] = ()):
        self.paths = [Path(p).expanduser() for p in paths]
        self.named = list(named)

    def files(self) -> list[tuple[str, Path]]:
        found = list(self.named)
        for number, path in enumerate(self.paths):
            # a file that moves from one folder to the next is another input
            place = f"{number}/" if len(self.paths) > 1 else ""
            if path.is_dir():
                found += sorted((place + p.relative_to(path).as_posix(), p) for p in _below(path))
            elif path.is_file():
                found.append((place, path))
            else:
                raise Fault(f"'{path}' does not exist")
        return found

    def digest(self) -> str:
        kept = _read_memo(self.memo)
        known = {**kept, **self._remembered}
        whole = hashlib.sha256()
        for name, path in self.files():
            found = NO_FILE if self.named and not _readable(path) else _digest_once(path, known)
            whole.update(os.fsencode(name) + f"\0{found}\n".encode())
        self._remembered.update(known)
        if known != kept and self.memo and self.memo.parent.is_dir():
            with contextlib.suppress(OSError):  # a full disk costs the memory, not the run
                write_atomically(self.memo, json.dumps({"files": known, "sha256": _of(known)}))
        return whole.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and (self.paths, self.named) == (other.paths, other.named)

    def __repr__(self) -> str:
        return f"Source({', '.join(map(str, self.paths or [path for _, path in self.named]))})"


class Files(dict[str, list[tuple[str, Path]]]):
    """Part -> (name, path) of each picture that is read. notes: what there is to tell, with its level, of
    where they lie and what lies beside them.

    No key holds that, so every run tells it anew, and it is kept with no artifact, which serves other folders
    of the same pictures too.
    """

    def __init__(self, parts: Mapping[str, list[tuple[str, Path]]], notes: Iterable[tuple[str, str]] = ()):
        super().__init__(parts)
        self.notes = tuple(notes)


def _below(folder: Path) -> Iterator[Path]:
    """Every file below but what is hidden, through links as well (pictures are often linked); each folder
    once, so that a circle ends.
    """
    entered = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(here, name)
            for name in files
            if not name.startswith(".") and os.path.isfile(os.path.join(here, name))
        )


def _read_memo(path: Path | None) -> dict[str, list]:
    """What was remembered; nothing of a file that is not as it was written: a wrong digest would name another
    data set.
    """
    try:
        found = read_json(path) if path else {}
        files = found["files"] if found and found["sha256"] == _of(found["files"]) else {}
    except (Fault, LookupError, TypeError):
        return {}
    return {k: v for k, v in files.items() if isinstance(v, list)} if isinstance(files, dict) else {}


def _of(known: Any) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _readable(path: Path) -> bool:
    """Whether it is a file, which a pipe is not (it would be waited for), that we may read."""
    return os.path.isfile(path) and os.access(path, os.R_OK)


def _digest_once(path: Path, known: dict[str, list]) -> str:
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    # as it is read back, whatever its bytes
    name = shows(os.fsencode(path.resolve()).decode("utf-8", "backslashreplace"))
    if known.get(name, [None])[:-1] == stamp:
        return known[name][-1]
    try:
        found = sha256(path)
    except PermissionError:  # whoever needs it tells; a picture may be skipped
        return UNREADABLE
    if time.time() - stat.st_ctime > SETTLED:
        known[name] = [*stamp, found]
    return found


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_digest(names: Iterable[str]) -> str:
    """One hash of what these modules do: their syntax trees without docstrings, and those of every module of
    kdx, or of a package that `allow` names, that they import in turn.

    names: dotted modules or `_target_`s. A target of another package counts with that package's name and
    version.
    """
    seen: dict[str, str] = {}
    todo = list(names)
    own = {"kdx", *(package.partition(".")[0] for package in _extra)}
    while todo:
        module = _module_of(todo.pop())
        package = module.partition(".")[0]
        if module in seen or module in PLUMBING:
            continue
        path = _own_file(module) if package in own else None
        if path is None:
            seen[module] = _version(package)
            continue
        seen[module], imports = _syntax(path, module)
        todo += [name for name in imports if name.partition(".")[0] in own]
        # its package's __init__.py runs too
        todo += [module.rpartition(".")[0]] if package != "kdx" and "." in module else []
    return hashlib.sha256(json.dumps(sorted(seen.items())).encode()).hexdigest()


@functools.cache
def _module_of(name: str) -> str:
    """The longest prefix of a dotted name that is a module's file."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if _own_file(".".join(parts[:end])):
            return ".".join(parts[:end])
    return parts[0]


@functools.cache
def _own_file(module: str) -> Path | None:
    package = Path(__file__).parent
    if module.split(".")[0] == "kdx":
        base = package.joinpath(*module.split(".")[1:])
        return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
    if module.split(".")[0] in {p.split(".")[0] for p in _extra}:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
        return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
    return None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def _syntax(path: Path, module: str) -> tuple[str, tuple[str, ...]]:
    """(hash of the syntax tree, full names of all that it imports anywhere)"""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            imports += [".".join([*above, *filter(None, [node.module]), a.name]) for a in node.names]
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
