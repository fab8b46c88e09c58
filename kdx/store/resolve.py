"""From an address in a configuration to the object that it names, late, and only from packages that are
allowed.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError, UserErrors, nearest
from kdx.store.moved import address

ALLOWED = ("kdx", "torch.optim", "torchvision.models")
own_packages: list[str] = []
_OURS = str(Path(__file__).parents[1])
_LONG = 400
"""Letters of what an error says."""


def allow(packages: Iterable[str]) -> None:
    """Lets configuration build objects of these packages as well, and no others. Only ever called with names
    from the user's command line.
    """
    packages = list(packages)
    if packages or own_packages:
        module_of.cache_clear()
        code_file.cache_clear()
    own_packages[:] = packages
    if Here not in sys.meta_path:
        sys.meta_path.append(Here)


class Here:
    """Finds allowed packages in the folder where the command is given, where nothing else finds them: the
    installed `kdx` does not look there. Of that folder no other name can be imported.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        allowed = path is None and name in {package.partition(".")[0] for package in own_packages}
        return _in_this_folder(name) if allowed else None


def _in_this_folder(name: str) -> ModuleSpec | None:
    return PathFinder.find_spec(name, [""]) if name.isidentifier() else None


def importable(package: str) -> bool:
    """Whether a package that may be allowed can be found, installed or in this folder."""
    top = package.partition(".")[0]
    return (importlib.util.find_spec(top) or _in_this_folder(top)) is not None


def resolve(target: str) -> Any:
    """The object that a `_target_` names, or a UserError: only from allowed packages, only where it is
    defined itself.
    """
    target = address(target)
    module, _, name = target.rpartition(".")
    roots = (*ALLOWED, *own_packages)
    if not any(target == r or target.startswith(r + ".") for r in roots):
        raise UserError(
            f"_target_ '{target}' is not allowed: only {', '.join(roots)}; name your own package on the "
            "command line with allow=[package]"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("kdx.") and not module.startswith(error.name):
            place = _own_line(error)
            raise UserError(
                f"'{module}' cannot be imported: kdx has no module {error.name}"
                f"{nearest(error.name, _modules_beside(error.name))}" + (f" ({place})" if place else "")
            ) from error
        if error.name and not module.startswith(error.name):
            raise UserError(
                f"'{target}' needs the package '{error.name}', which is not installed"
                + (f" ({place})" if (place := _own_line(error)) else "")
            ) from error
        raise UserError(f"_target_ '{target}' does not exist: {error}") from error
    except (Exception, SystemExit) as error:
        if own := own_error(error):
            raise UserError(f"'{module}' cannot be imported: {own}") from error
        if isinstance(error, (ImportError, AttributeError, ValueError)):
            raise UserError(f"_target_ '{target}' does not exist: {error}{_file_of(module)}") from error
        raise
    if getattr(found, "__module__", None) != module or not callable(found):
        raise UserError(
            f"_target_ '{target}' is refused: '{name}' is no class or function that is defined in {module}"
            + _file_of(module)
        )
    return found


def _modules_beside(name: str) -> list[str]:
    """The modules of kdx in the room of one that is not there."""
    room = name.rpartition(".")[0]
    found = importlib.util.find_spec(room) if room in sys.modules else None
    paths = (found and found.submodule_search_locations) or []
    return [f"{room}.{module.name}" for module in pkgutil.iter_modules(paths)]


def _file_of(module: str) -> str:
    """ " (FILE)", of a module of the user's own."""
    path = code_file(module) if from_own_package(f"{module}.") else None
    return f" ({path})" if path else ""


def place_of(target: str) -> str:
    """ " (FILE, line N)": where what an address names begins; "" where it is none of the user's own."""
    if not from_own_package(target):
        return ""
    with contextlib.suppress(UserError, OSError, TypeError):
        found = resolve(target)
        return f" ({inspect.getsourcefile(found)}, line {inspect.getsourcelines(found)[1]})"
    return _file_of(target.rpartition(".")[0])


@contextlib.contextmanager
def at_its_place(target: str) -> Iterator[None]:
    """What a part of the user's own gives that it must not, while it works, as a UserError with its file and
    line; so too what it raises of a call that it does not take, in which none of its lines took part. target:
    its address; of one that is none of the user's own nothing is changed.
    """
    try:
        yield
    except UserError as error:
        if place := place_of(target):
            raise UserErrors(f"{_few_lines(str(error))}{place}".splitlines()) from error
        raise
    except (TypeError, AttributeError, ValueError, LookupError) as error:
        if (place := place_of(target)) and own_error(error) is None:
            raise UserError(f"your own code fails: {error_in_one_line(error)}{place}") from error
        raise


def _few_lines(text: str) -> str:
    """At most three."""
    lines = text.splitlines()
    return text if len(lines) <= 3 else "\n".join([*lines[:2], f"and {len(lines) - 2} more"])


def from_own_package(target: str) -> bool:
    """Whether it is the address of something in a package that the command line allows."""
    return any(target.startswith(f"{package}.") for package in own_packages)


def own_error(error: BaseException) -> str | None:
    """What an error says, and where in the user's own packages it came up; None where none of their code took
    part in it.
    """
    place = _own_line(error)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    if place is None:
        return None
    return f"{error_in_one_line(error)} ({place})"


def error_in_one_line(error: BaseException) -> str:
    """Its kind and what it says, which libraries say in many lines."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= _LONG else text[:_LONG] + '...'}"


def _own_line(error: BaseException) -> str | None:
    """The last line of the user's own packages that took part in an error."""
    tops = {package.partition(".")[0] for package in own_packages}
    own = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] in tops
    ]
    return own[-1] if own else None


@functools.cache
def module_of(name: str) -> str:
    """The longest prefix of a dotted name that is a module's file."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if code_file(".".join(parts[:end])):
            return ".".join(parts[:end])
    return parts[0]


@functools.cache
def code_file(module: str) -> Path | None:
    if module.split(".")[0] == "kdx":  # asked some hundred times for a key, most of them of no module
        base = os.path.join(_OURS, *module.split(".")[1:])
        return next((Path(p) for p in (f"{base}.py", f"{base}/__init__.py") if os.path.isfile(p)), None)
    if module.split(".")[0] in {p.split(".")[0] for p in own_packages}:
        try:
            spec = importlib.util.find_spec(module)  # imports what the module lies in
        except (Exception, SystemExit):  # whatever their code raises: who needs it says so
            return None
        return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
    return None


def package_of(module: str, path: Path) -> str:
    """The package that a module's relative imports begin from. path: its file."""
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def imported_from(node: ast.ImportFrom, package: str) -> list[tuple[str, str]]:
    """(name in the module, full name) of all that is imported, relative to `package` where it has dots."""
    above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
    return [
        (a.asname or a.name, ".".join([*above, *filter(None, [node.module]), a.name])) for a in node.names
    ]
