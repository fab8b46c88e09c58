"""Holds the layers of docs/architecture.md: a file imports only from the lines above its own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS = [
    ["kdx.faults", "kdx.signals", "kdx.output"],
    ["kdx.shortage"],
    ["kdx.locate"],
    ["kdx.disk"],
    ["kdx.document"],
    ["kdx.checks", "kdx.chance"],
    ["kdx.budget"],
    ["kdx.core"],
    ["kdx.functional", "kdx.halfspace"],
    ["kdx.estimate", "kdx.average", "kdx.joint"],
    ["kdx.component"],
    ["kdx.artifact"],
    ["kdx.work"],
    ["kdx.store"],
    ["kdx.turns"],
    ["kdx.runtime"],
    ["kdx.models"],
    ["kdx.data", "kdx.hidden"],
    ["kdx.losses", "kdx.weights", "kdx.features"],
    ["kdx.labels", "kdx.select", "kdx.aggregate", "kdx.initialise"],
    ["kdx.trainer"],
    ["kdx.evaluate", "kdx.audit"],
    ["kdx.stages"],
    ["kdx.recipes"],
    ["kdx.wiring", "kdx.idle"],
    ["kdx.run"],
    ["kdx.folders", "kdx.claims", "kdx.sweep"],
    ["kdx.preflight"],
    ["kdx.assess", "kdx.forecast", "kdx.memory"],
    ["kdx.amounts"],
    ["kdx.rehearse"],
    ["kdx.outlook"],
    ["kdx.words"],
    ["kdx.compose"],
    ["kdx.combine"],
    ["kdx.report"],
    ["kdx.lineage", "kdx.alike", "kdx.saved"],
    ["kdx.card"],
    ["kdx.export", "kdx.cache"],
    ["kdx.commands"],
    ["kdx.cli"],
]
"""From the bottom up. A package may import its own files;
`kdx` itself, the lowest of all, holds the version.
"""

METHODS = {
    "kdx.core",
    "kdx.functional",
    "kdx.estimate",
    "kdx.average",
    "kdx.joint",
    "kdx.models.tap",
    "kdx.faults",
    "kdx.checks",
}
ONLY = {
    "kdx.losses": METHODS,
    "kdx.weights": METHODS,
    "kdx.features": METHODS | {"kdx.hidden"},
    "kdx.report": {
        "kdx.faults",
        "kdx.chance",
        "kdx.signals",
        "kdx.disk",
        "kdx.document",
        "kdx.store",
        "kdx.report",
    },
}
"""Packages with a list of their own, instead of all that lies below: no loss imports another."""

NO_TORCH = [
    "kdx.faults",
    "kdx.locate",
    "kdx.disk",
    "kdx.checks",
    "kdx.budget",
    "kdx.component",
    "kdx.artifact",
    "kdx.store",
    "kdx.folders",
    "kdx.report",
]
NO_TORCH += [
    "kdx.work",
    "kdx.chance",
    "kdx.lineage",
    "kdx.alike",
    "kdx.card",
    "kdx.cache",
    "kdx.cli",
    "kdx.turns",
    "kdx.sweep",
]
NO_TORCH += ["kdx.signals", "kdx.output", "kdx.shortage", "kdx.document"]
TORCH_ONLY_INSIDE_FUNCTIONS = [
    "kdx.stages",
    "kdx.runtime",
    "kdx.recipes",
    "kdx.wiring",
    "kdx.run",
    "kdx.words",
    "kdx.compose",
    "kdx.saved",
    "kdx.commands",
]
TORCH_ONLY_INSIDE_FUNCTIONS += ["kdx.forecast", "kdx.outlook"]
"""Importing these costs no torch:
`kdx.stages` is the package's __init__ alone, the others all their files.
"""

COMPOSERS = ["kdx.compose", "kdx.cli", "kdx.commands"]
UNWANTED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def layer(module: str) -> int | None:
    """Index in LAYERS; -1 for `kdx` itself, None for what has no place."""
    if module == "kdx":
        return -1
    return next((i for i, names in enumerate(LAYERS) if any(inside(module, name) for name in names)), None)


def modules(top: Path) -> dict[str, Path]:
    """Every module of the package in `top/kdx`, by its dotted name."""
    found = {}
    for path in sorted((top / "kdx").rglob("*.py")):
        parts = path.relative_to(top).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(
    module: str, path: Path, known: dict[str, Path], nodes: Iterator[ast.AST]
) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of each import among `nodes`; a name that is a module of ours is one, else the
    module it is taken from.
    """
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{source}.{alias.name}" if f"{source}.{alias.name}" in known else source


def eager(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported:
    all but the bodies of functions and `if TYPE_CHECKING`.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        yield node
        yield from eager(node)


def check_import(module: str, target: str, known: dict[str, Path], at_import: bool) -> str | None:
    """What is wrong with one import, or None."""
    top = target.split(".")[0]
    if top == "kdx":
        here, there = layer(module), layer(target)
        rule = next((allowed for package, allowed in ONLY.items() if inside(module, package)), None)
        if rule is not None:
            return (
                None
                if target == "kdx" or any(inside(target, name) for name in rule)
                else f"may import only {', '.join(sorted(rule))}"
            )
        if there is None:
            return None  # told once, where that module itself is looked at
        package = (
            next((name for name in LAYERS[here] if inside(module, name)), None)
            if here is not None and here >= 0
            else None
        )
        own = package is not None and inside(target, package)
        return None if here is None or own or there < here else "imports only from layers below its own"
    if top in ("hydra", "omegaconf"):
        return (
            None
            if any(inside(module, name) for name in COMPOSERS)
            else "only compose.py, cli.py and commands/ import hydra and omegaconf"
        )
    if top in ("torch", "torchvision"):
        if any(inside(module, name) for name in NO_TORCH):
            return "imports no torch"
        if at_import and any(
            module == name or (name != "kdx.stages" and inside(module, name))
            for name in TORCH_ONLY_INSIDE_FUNCTIONS
        ):
            return "imports torch only inside functions"
    return None


def violations(top: Path) -> list[str]:
    """Every breach of the architecture in `top/kdx`, as `file:line: module imports target: why`."""
    known, found = modules(top), []
    for module, path in known.items():
        name, text = path.relative_to(top).as_posix(), path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if layer(module) is None:
            found.append(f"{name}: has no place in LAYERS")
        at_import = set(imports(module, path, known, eager(tree)))
        for line, target in dict.fromkeys(imports(module, path, known, ast.walk(tree))):
            if wrong := check_import(module, target, known, (line, target) in at_import):
                found.append(f"{name}:{line}: {module} imports {target}: {wrong}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id == "hasattr":
                found.append(f"{name}:{node.lineno}: hasattr: say in a type what an object has")
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "inspect.signature":
                found.append(
                    f"{name}:{node.lineno}: inspect.signature: call with the arguments that are documented"
                )
        for line, content in enumerate(text.splitlines(), 1):
            if unwanted := UNWANTED.search(content):
                found.append(f"{name}:{line}: {unwanted[0]}: finish it or leave it out")
    return found


def test_the_package_keeps_to_its_architecture(root):
    assert violations(root) == []


def plant(top: Path, **files: str) -> list[str]:
    """Violations of a made-up package; `models__tap` is kdx/models/tap.py."""
    for name, text in {"__init__": "", **files}.items():
        path = top / "kdx" / f"{name.replace('__', '/') if name != '__init__' else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return violations(top)


SOUND = {
    "faults": "import difflib\n",
    "core": "import torch\nfrom kdx.faults import Fault\n",
    "functional": "import torch\n",
    "store": "import json\nfrom kdx.faults import Fault\n",
    "models__tap": "import torch\n",
    "models__cnn": "from . import tap\nfrom kdx.core import Batch\n",
    "losses__kd": (
        "from kdx import functional\nfrom ..models.tap import Tap\nfrom kdx.models import tap\nfrom kdx.core "
        "import Objective\n"
    ),
    "losses__slam": "from kdx.functional import kl\n",
    "trainer": "from kdx import __version__\nimport kdx.core\n",
    "stages__prepare": "import torch\nfrom kdx.trainer import fit\n",
    "compose": "import hydra\nfrom kdx.stages import prepare\n",
    "report__table": "from kdx.faults import Fault\nfrom kdx.report import plots\n",
    "report__plots": "import matplotlib\n",
    "commands__train": "import hydra\nfrom kdx import compose\ndef main(argv):\n    import torch\n",
    "cli": "from kdx import commands\n",
}


def test_a_sound_package_passes(tmp_path):
    assert plant(tmp_path, **SOUND) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "core",
            "import kdx.trainer\n",
            "kdx/core.py:1: kdx.core imports kdx.trainer: imports only from layers below its own",
        ),
        ("core", "from kdx import trainer\n", "kdx.core imports kdx.trainer"),
        ("core", "from .trainer import fit\n", "kdx.core imports kdx.trainer"),
        ("core", "def late():\n    from . import trainer\n", "kdx/core.py:2: kdx.core imports kdx.trainer"),
        ("models__cnn", "from kdx.losses.kd import kl\n", "kdx.models.cnn imports kdx.losses.kd"),
        (
            "losses__slam",
            "from kdx.losses.kd import kl\n",
            "kdx.losses.slam imports kdx.losses.kd: may import only",
        ),
        ("losses__slam", "from . import kd\n", "kdx.losses.slam imports kdx.losses.kd"),
        ("losses__slam", "from kdx import store\n", "kdx.losses.slam imports kdx.store"),
        ("losses__slam", "from kdx.models import cnn\n", "kdx.losses.slam imports kdx.models.cnn"),
        ("select", "from kdx.aggregate import vote\n", "kdx.select imports kdx.aggregate"),
        ("report__table", "from kdx.trainer import fit\n", "kdx.report.table imports kdx.trainer"),
        (
            "report__table",
            "def late():\n    import torch\n",
            "kdx.report.table imports torch: imports no torch",
        ),
        ("store", "import torch.nn as nn\n", "kdx.store imports torch.nn: imports no torch"),
        ("faults", "from torch import Tensor\n", "kdx.faults imports torch: imports no torch"),
        (
            "stages____init__",
            "import torch\n",
            "kdx.stages imports torch: imports torch only inside functions",
        ),
        ("commands__train", "import torch\n", "kdx.commands.train imports torch"),
        ("trainer", "from omegaconf import DictConfig\n", "kdx.trainer imports omegaconf: only compose.py"),
        ("core", "def f(x):\n    return hasattr(x, 'y')\n", "kdx/core.py:2: hasattr"),
        ("core", "import inspect\ninspect.signature(len)\n", "kdx/core.py:2: inspect.signature"),
        ("core", "x = 1  # TO" + "DO: finish\n", "kdx/core.py:1: TO" + "DO"),
        ("helpers", "x = 1\n", "kdx/helpers.py: has no place in LAYERS"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, name, text, expected):
    files = {"aggregate": ""} | SOUND
    if name == "stages____init__":
        path = tmp_path / "kdx" / "stages" / "__init__.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    else:
        files[name] = text
    found = plant(tmp_path, **files)
    assert len(found) == 1 and expected in found[0], found


@pytest.mark.parametrize(
    "module",
    [
        "kdx.faults",
        "kdx.locate",
        "kdx.store",
        "kdx.stages",
        "kdx.compose",
        "kdx.report",
        "kdx.lineage",
        "kdx.cache",
        "kdx.commands",
    ]
    + [
        "kdx.commands.cache",
        "kdx.commands.compare",
        "kdx.commands.evaluate",
        "kdx.commands.export",
        "kdx.commands.plan",
        "kdx.outlook",
        "kdx.cli",
    ],
)
def test_importing_it_loads_no_torch(root, module):
    """What the AST cannot see: torch coming in through another module or package."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
