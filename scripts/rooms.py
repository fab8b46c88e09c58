#!/usr/bin/env python
"""The import picture of kdx: rooms, floors, arrows, upward ones, circles.

    python scripts/rooms.py                 # of the working tree
    python scripts/rooms.py --arrows        # each room with the rooms that it imports
    python scripts/rooms.py --of COMMIT     # of another commit

A room is a package of kdx/, or a module that lies beside the packages; an arrow is that one room imports
another, anywhere in its files. A room's floor is the longest chain of rooms below it, itself included. Upward
is an arrow from a room of ROOMS to one that stands above it there; without ROOMS (a tree of before) it is not
reported. Circles: among rooms, and among modules. Exit code 1 where there is an upward arrow or a circle.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "kdx.cli",
    "kdx.api",
    "kdx.commands",
    "kdx.planning",
    "kdx.runs",
    "kdx.config",
    "kdx.pipeline",
    "kdx.report",
    "kdx.training",
    "kdx.methods",
    "kdx.store",
    "kdx.tasks",
    "kdx.data",
    "kdx.models",
    "kdx.core",
    "kdx",
)
"""From the top down; `kdx` itself, the lowest of all, holds the version."""


def files(commit: str | None = None) -> dict[str, str]:
    """file -> text of every Python file of kdx."""
    if commit is None:
        return {
            path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted((ROOT / "kdx").rglob("*.py"))
        }
    listed = git("ls-tree", "-r", "--name-only", commit, "kdx").split("\n")
    return {name: git("show", f"{commit}:{name}") for name in listed if name.endswith(".py")}


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout


def module_of(name: str) -> str:
    parts = PurePosixPath(name).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(module: str, package: bool, tree: ast.AST, known: Mapping[str, object]) -> Iterator[str]:
    """Modules of kdx that it imports, anywhere."""
    own = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                if inner in known or source in known:
                    yield inner if inner in known else source


def room_of(module: str) -> str:
    return (
        "kdx.cli" if module == "kdx.__main__" else ".".join(module.split(".")[:2])
    )  # another name of the same door


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan)."""
    found, number, low, stack = [], {}, {}, []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """room -> its floor; rooms of one circle share one."""
    whole = {node: node for node in graph}
    for part in circles(graph):
        whole |= dict.fromkeys(part, part[0])
    found: dict[str, int] = {}

    def floor(node: str) -> int:
        if node not in found:
            members = [n for n in graph if whole[n] == node]
            below = {whole[other] for n in members for other in graph[n]} - {node}
            found[node] = 1 + max((floor(other) for other in below), default=0)
        return found[node]

    return {node: floor(whole[node]) for node in graph}


@dataclass(frozen=True)
class Picture:
    """modules, rooms: each with those that it imports. upward: arrows against ROOMS; None: not all rooms are
    named there. circles: of rooms, then of modules.
    """

    modules: Mapping[str, set[str]]
    rooms: Mapping[str, set[str]]
    floors: Mapping[str, int]
    upward: list[tuple[str, str]] | None
    circles: list[list[str]]


def picture(texts: Mapping[str, str]) -> Picture:
    """texts: file -> text of every Python file of kdx."""
    known = {module_of(name): name for name in texts}
    modules = {
        module: set(imports(module, name.endswith("__init__.py"), ast.parse(texts[name]), known)) - {module}
        for module, name in known.items()
    }
    rooms: dict[str, set[str]] = {room_of(module): set() for module in modules}
    for module, targets in modules.items():
        rooms[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    arrows = [(one, other) for one, below in rooms.items() for other in sorted(below)]
    placed = set(rooms) <= set(ROOMS)
    upward = [(a, b) for a, b in arrows if ROOMS.index(b) < ROOMS.index(a)] if placed else None
    return Picture(modules, rooms, floors(rooms), upward, [*circles(rooms), *circles(modules)])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arrows", action="store_true", help="each room with the rooms that it imports")
    parser.add_argument("--of", metavar="COMMIT", help="of this commit; default: the working tree")
    asked = parser.parse_args()
    found = picture(files(asked.of))
    print(
        f"{len(found.rooms)} rooms on {max(found.floors.values())} floors, "
        f"{sum(map(len, found.rooms.values()))} arrows, "
        f"{'?' if found.upward is None else len(found.upward)} upward, {len(found.circles)} circles; "
        f"{len(found.modules)} modules"
    )
    if asked.arrows:
        for name in sorted(found.rooms, key=lambda name: (-found.floors[name], name)):
            count = sum(1 for module in found.modules if room_of(module) == name)
            below = ", ".join(sorted(other.removeprefix("kdx.") for other in found.rooms[name]))
            print(f"{found.floors[name]:3}  {name:14} {count:3} modules -> {below or '-'}")
    for one, other in found.upward or ():
        print(f"upward: {one} -> {other}")
    for part in found.circles:
        print(f"circle: {', '.join(part)}")
    return 1 if found.upward or found.circles else 0


if __name__ == "__main__":
    sys.exit(main())
