"""Holds the rooms of docs/architecture.md: a room imports only from the rooms below it, and no import goes in
a circle.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import rooms  # noqa: E402

ROOMS = rooms.ROOMS
"""From the top down; `kdx` itself, the lowest of all, holds the version."""

READ_OF_MODELS = {
    "kdx.models.tap",
    "kdx.models.pairs",
    "kdx.models.ema",
    "kdx.models.modes",
    "kdx.models.parts",
    "kdx.models.branches",
    "kdx.models.distillation_token",
    "kdx.models.ensemble",
    "kdx.models.exits",
    "kdx.models.row_features",
}
MATHEMATICS = {
    f"kdx.methods.{name}"
    for name in (
        "forward",
        "hidden_terms",
        "logits",
        "estimators",
        "neighbours",
        "peers",
        "row_memory",
        "two_domains",
    )
}
CONTRACTS = {"kdx.methods.select", "kdx.methods.select._rows"}
BEGINNINGS = {f"kdx.methods.init._{name}" for name in ("basis", "selection", "carry")}
METHODS = {"kdx.core", *READ_OF_MODELS, *MATHEMATICS}
ONLY = {
    "kdx.methods.losses": METHODS,
    "kdx.methods.weights": METHODS,
    "kdx.methods.features": METHODS,
    "kdx.methods.select": {"kdx.core", *CONTRACTS},
    "kdx.methods.init": {"kdx.core", "kdx.models.parts", "kdx.models.vectors", *BEGINNINGS},
    "kdx.methods": METHODS | {"kdx.methods.teachers", "kdx.methods.temperature", "kdx.methods.private_votes"},
    "kdx.report": {"kdx.core", "kdx.tasks", "kdx.store", "kdx.report"},
}
"""Packages with a list of their own, instead of all that lies below: no method imports another. The first
that fits counts. Of `kdx.methods.select` the package itself is meant, not what lies in it.
"""
EXACT = {"kdx.methods.select"}
"""Names in these lists that mean the module alone, and not what lies inside."""

NO_TORCH = [
    "kdx.core." + name
    for name in (
        "capacity",
        "cluster",
        "checks",
        "documents",
        "errors",
        "files",
        "output",
        "paths",
        "roles",
        "shapes",
        "shortage",
        "signals",
    )
]
NO_TORCH += [
    "kdx.store",
    "kdx.report",
    "kdx.tasks.chance",
    "kdx.training.length",
    "kdx.training.gpus",
    "kdx.data.files",
    "kdx.cli",
]
NO_TORCH += [
    "kdx.runs." + name
    for name in (
        "reading",
        "model_files",
        "lineage",
        "diff",
        "cleanup",
        "store_entries",
        "sweep",
        "claims",
        "forgetting",
    )
]
NO_TORCH += ["kdx.runs.studies"]
NO_TORCH += ["kdx.methods." + name for name in ("private_votes", "private_budget", "membership")]
NO_TORCH += ["kdx.runs.export.card", "kdx.runs.publish"]
ONLY_INSIDE_FUNCTIONS = ["kdx.pipeline.recipes", "kdx.runs.run", "kdx.training.runtime", "kdx.commands"]
ONLY_INSIDE_FUNCTIONS += [
    "kdx.config." + name
    for name in (
        *("wire", "nodes", "named_options", "controls_and_metrics", "described", "compose", "grid"),
        *("restore", "overlay", "unused", "words", "flags", "quoting", "options", "keys"),
    )
]
ONLY_INSIDE_FUNCTIONS += ["kdx.api", "kdx.pipeline.controls", "kdx.pipeline.scores", "kdx.core.trees"]
ONLY_INSIDE_FUNCTIONS += [
    "kdx.pipeline.foretelling." + name
    for name in ("data", "labelling", "others", "private", "teacher", "training")
]
ONLY_INSIDE_FUNCTIONS += ["kdx.planning." + name for name in ("dry_run", "document", "text")]
PACKAGES_THEMSELVES = [
    "kdx.pipeline",
    "kdx.pipeline.stages",
    "kdx.pipeline.foretelling",
    "kdx.training",
    "kdx.planning",
    "kdx.runs",
    "kdx.config",
    "kdx.core",
    "kdx.tasks",
]
"""Importing these costs no torch: of the last the package's __init__ alone, of the others all their files."""

MOST_ARGUMENTS = 8
"""Beside self: a function that takes more takes a frozen dataclass."""
MANY_ARGUMENTS = {
    "kdx.training.settings.Training.__init__",
    "kdx.methods.losses.noisy_student.NoisyStudent.__init__",
    "kdx.methods.losses.slam.SLaM.__init__",
    "kdx.methods.moving.Moving.__init__",
    "kdx.methods.losses.divergence.DivergenceLoss.__init__",
    "kdx.pipeline.recipes.private.Private.__init__",
    "kdx.models.encoder.encoder_small",
    "kdx.models.span_encoder.span_encoder",
    "kdx.data.datasets.folder.Folder.__init__",
    "kdx.data.datasets.wav.Wav.__init__",
    "kdx.data.datasets.tones.Tones.__init__",
    "kdx.data.datasets.pairs.PairFiles.__init__",
    "kdx.data.datasets.coco.Coco.__init__",
    "kdx.data.datasets.shapes_detect.ShapesDetect.__init__",
    "kdx.data.datasets.text.Text.__init__",
    "kdx.data.datasets.squad.Squad.__init__",
    "kdx.data.datasets.corpus.CorpusData.__init__",
    "kdx.data.datasets.huggingface.HuggingFaceTexts.__init__",
    "kdx.models.decoder.gpt",
    "kdx.models.vit.vision_transformer",
    "kdx.models.decoder.llama",
    "kdx.pipeline.stages.prepare.run",
    "kdx.pipeline.stages.rollout.run",
    "kdx.pipeline.stages.choose.run",
    "kdx.pipeline.stages.evaluate.run",
}
"""Not these: the arguments of the constructors are keys of the configuration, those of the stages the inputs
that their keys in the store are made of.
"""

COMPOSERS = ["kdx.config.compose", "kdx.cli", "kdx.commands"]
UNWANTED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def room(module: str) -> int | None:
    """Its room's index in ROOMS, 0 at the top; None for what has no room."""
    name = rooms.room_of(module)
    return ROOMS.index(name) if name in ROOMS else None


def modules(top: Path) -> dict[str, Path]:
    """Every module of the package in `top/kdx`, by its dotted name."""
    found = {}
    for path in sorted((top / "kdx").rglob("*.py")):
        found[rooms.module_of(path.relative_to(top).as_posix())] = path
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
                yield (
                    node.lineno,
                    f"{source}.{alias.name}" if f"{source}.{alias.name}" in known else source,
                )


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


def check_import(module: str, target: str, at_import: bool) -> str | None:
    """What is wrong with one import, or None."""
    top = target.split(".")[0]
    if top == "kdx":
        here, there = room(module), room(target)
        rule = next((allowed for package, allowed in ONLY.items() if inside(module, package)), None)
        if rule is not None:
            fits = target == "kdx" or any(
                target == name if name in EXACT else inside(target, name) for name in rule
            )
            return None if fits else f"may import only {', '.join(sorted(rule))}"
        if here is None or there is None:
            return None  # reported once, where that module itself is looked at
        return None if there >= here else "imports only from rooms below its own"
    if top in ("hydra", "omegaconf"):
        composes = any(inside(module, name) for name in COMPOSERS)
        return None if composes else "only config/compose.py, cli.py and commands/ import hydra and omegaconf"
    if top in ("torch", "torchvision"):
        if any(inside(module, name) for name in NO_TORCH):
            return "imports no torch"
        late = any(inside(module, name) for name in ONLY_INSIDE_FUNCTIONS) or module in PACKAGES_THEMSELVES
        if at_import and late:
            return "imports torch only inside functions"
    return None


def functions(tree: ast.AST, place: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(dotted name, node) of each function, those of classes and functions as well."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        name = f"{place}.{node.name}" if named else place
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield name, node
        yield from functions(node, name)


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Their names, without self and what `*` and `**` gather."""
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def violations(top: Path) -> list[str]:
    """Every breach of the architecture in `top/kdx`, as `file:line: module imports target: why`."""
    known, found = modules(top), []
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        name, text = path.relative_to(top).as_posix(), path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if room(module) is None:
            found.append(f"{name}: lies in no room of ROOMS")
        at_import = set(imports(module, path, known, eager(tree)))
        every = dict.fromkeys(imports(module, path, known, ast.walk(tree)))
        graph[module] = {target for _, target in every if target in known} - {module}
        for line, target in every:
            if wrong := check_import(module, target, (line, target) in at_import):
                found.append(f"{name}:{line}: {module} imports {target}: {wrong}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id == "hasattr":
                found.append(f"{name}:{node.lineno}: hasattr: say in a type what an object has")
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "inspect.signature":
                found.append(
                    f"{name}:{node.lineno}: inspect.signature: call with the arguments that are documented"
                )
        for address, function in functions(tree, module):
            many = len(arguments(function))
            if many > MOST_ARGUMENTS and address not in MANY_ARGUMENTS:
                found.append(
                    f"{name}:{function.lineno}: {address} takes {many} arguments: a frozen dataclass"
                )
        for line, content in enumerate(text.splitlines(), 1):
            if unwanted := UNWANTED.search(content):
                found.append(f"{name}:{line}: {unwanted[0]}: finish it or leave it out")
    return found + [f"imports in a circle: {', '.join(part)}" for part in rooms.circles(graph)]


def test_the_package_keeps_to_its_architecture(root):
    assert violations(root) == []


def test_the_lists_name_what_there_is(root):
    known = set(modules(root))
    named = {
        *ROOMS,
        *METHODS,
        *CONTRACTS,
        *BEGINNINGS,
        *ONLY,
        *NO_TORCH,
        *ONLY_INSIDE_FUNCTIONS,
        *PACKAGES_THEMSELVES,
        *COMPOSERS,
    }
    assert named <= known


def test_who_may_take_many_arguments_does(root):
    found = {
        address
        for module, path in modules(root).items()
        for address, node in functions(ast.parse(path.read_text(encoding="utf-8")), module)
        if len(arguments(node)) > MOST_ARGUMENTS
    }
    assert found == MANY_ARGUMENTS


def test_the_picture(root):
    """At most 16 rooms on 10 floors."""
    found = rooms.picture(rooms.files())
    assert (found.upward, found.circles) == ([], [])
    assert len(found.rooms) <= 16 and max(found.floors.values()) <= 10


def plant(top: Path, **files: str) -> list[str]:
    """Violations of a made-up package; `models__tap` is kdx/models/tap.py."""
    for name, text in {"__init__": "", **files}.items():
        stem = name.removesuffix("__init__").replace("__", "/") + "__init__" * name.endswith("__init__")
        path = top / "kdx" / f"{stem}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return violations(top)


SOUND = {
    "core__errors": "import difflib\n",
    "core__types": "import torch\nfrom kdx.core.errors import UserError\n",
    "core__math": (
        "import torch\nclass A:\n    def f(self, a, b, c, d, e, f, g, *rest, h, **more):\n        pass\n"
    ),
    "store__store": "import json\nfrom kdx.core.errors import UserError\n",
    "models__tap": "import torch\n",
    "models__cnn": "from . import tap\nfrom kdx.core.types import Batch\n",
    "methods__losses__kd": (
        "from kdx.core import math\nfrom ...models.tap import Tap\nfrom kdx.models import tap\n"
        "from kdx.core.types import Objective\n"
    ),
    "methods__losses__slam": "from kdx.core.math import kl\n",
    "training__loop": "from kdx import __version__\nimport kdx.core.errors\n",
    "pipeline__stages__prepare": "import torch\nfrom kdx.training.loop import fit\n",
    "config__compose": "import hydra\nfrom kdx.pipeline.stages import prepare\n",
    "report__run__table": "from kdx.core.errors import UserError\nfrom kdx.report.run import plots\n",
    "report__run__plots": "import matplotlib\n",
    "commands__train": "import hydra\nfrom kdx.config import compose\ndef main(argv):\n    import torch\n",
    "cli": "from kdx.commands import train\n",
}


def test_a_sound_package_passes(tmp_path):
    assert plant(tmp_path, **SOUND) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "core__types",
            "import kdx.training.loop\n",
            (
                "kdx/core/types.py:1: kdx.core.types imports kdx.training.loop: imports only "
                "from rooms below its own"
            ),
        ),
        ("core__types", "from kdx.training import loop\n", "kdx.core.types imports kdx.training.loop"),
        ("core__types", "from ..training.loop import fit\n", "kdx.core.types imports kdx.training.loop"),
        (
            "core__types",
            "def late():\n    from ..training import loop\n",
            "kdx/core/types.py:2: kdx.core.types imports kdx.training.loop",
        ),
        (
            "models__cnn",
            "from kdx.methods.losses.kd import kl\n",
            "kdx.models.cnn imports kdx.methods.losses.kd",
        ),
        (
            "methods__losses__slam",
            "from kdx.methods.losses.kd import kl\n",
            "kdx.methods.losses.slam imports kdx.methods.losses.kd: may import only",
        ),
        (
            "methods__losses__slam",
            "from . import kd\n",
            "kdx.methods.losses.slam imports kdx.methods.losses.kd",
        ),
        (
            "methods__losses__slam",
            "from kdx.store import store\n",
            "kdx.methods.losses.slam imports kdx.store",
        ),
        (
            "methods__losses__slam",
            "from kdx.models import cnn\n",
            "kdx.methods.losses.slam imports kdx.models.cnn",
        ),
        (
            "methods__select__rad",
            "from kdx.methods.losses.kd import kl\n",
            "rad imports kdx.methods.losses.kd",
        ),
        (
            "report__run__table",
            "from kdx.training.loop import fit\n",
            "kdx.report.run.table imports kdx.training",
        ),
        ("report__run__table", "def late():\n    import torch\n", "table imports torch: imports no torch"),
        ("store__store", "import torch.nn as nn\n", "kdx.store.store imports torch.nn: imports no torch"),
        ("core__errors", "from torch import Tensor\n", "kdx.core.errors imports torch: imports no torch"),
        (
            "pipeline__stages____init__",
            "import torch\n",
            "kdx.pipeline.stages imports torch: imports torch only inside functions",
        ),
        ("commands__train", "import torch\n", "kdx.commands.train imports torch"),
        (
            "training__loop",
            "from omegaconf import DictConfig\n",
            "kdx.training.loop imports omegaconf: only config/compose.py",
        ),
        ("core__types", "def f(x):\n    return hasattr(x, 'y')\n", "kdx/core/types.py:2: hasattr"),
        ("core__types", "import inspect\ninspect.signature(len)\n", "kdx/core/types.py:2: inspect.signature"),
        ("core__types", "x = 1  # TO" + "DO: finish\n", "kdx/core/types.py:1: TO" + "DO"),
        (
            "core__types",
            "class A:\n    def f(self, a, b, c, d, /, e, f, g, *, h, i=1, **more):\n        pass\n",
            "kdx/core/types.py:2: kdx.core.types.A.f takes 9 arguments: a frozen dataclass",
        ),
        ("helpers", "x = 1\n", "kdx/helpers.py: lies in no room of ROOMS"),
        (
            "models__tap",
            "from kdx.models import cnn\n",
            "imports in a circle: kdx.models.cnn, kdx.models.tap",
        ),
    ],
)
def test_a_planted_violation_is_found(tmp_path, name, text, expected):
    found = plant(tmp_path, **(SOUND | {name: text}))
    assert len(found) == 1 and expected in found[0], found


@pytest.mark.parametrize(
    "module",
    [
        "kdx.core.errors",
        "kdx.core.paths",
        "kdx.store.store",
        "kdx.store.component",
        "kdx.pipeline.stages",
        "kdx.pipeline.recipes.distil",
        "kdx.training.length",
        "kdx.config.compose",
        "kdx.config.wire",
        "kdx.report.run.folder",
        "kdx.report.compare.page",
        "kdx.runs.lineage",
        "kdx.runs.cleanup",
        "kdx.commands",
        "kdx.commands.cache",
        "kdx.commands.compare",
        "kdx.commands.evaluate",
        "kdx.commands.export",
        "kdx.commands.plan",
        "kdx.planning.document",
        "kdx.data.contract",
        "kdx.cli",
    ],
)
def test_importing_it_loads_no_torch(root, module):
    """What the AST cannot see: torch coming in through another module or package."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_levels_become_numbers_in_one_place(root):
    """CUDA rounds `x / 255` otherwise than a CPU: `kdx.core.levels.as_float` takes care of that."""
    found = [
        f"{file.relative_to(root)}:{node.lineno}"
        for file in sorted((root / "kdx").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and ast.unparse(node.right).startswith("255")
    ]
    assert not found


NEUTRAL = ("training", "pipeline", "store", "planning", "report/compare")
"""Rooms that carry any task and any kind of rows."""
GUESTS = re.compile(
    r"picture|pixel|image|accuracy|token|logit|\.argmax\(|\.softmax\(|num_classes|shape\[0\]|/ 255", re.I
)
"""Words of one task or of one kind of rows."""
EXAMPLES = {
    "store/moved.py": "what was written before there was anything else",
    "training/settings.py": "an example of a metric's range",
    "training/predict.py": "what answers are of classification",
    "pipeline/scores.py": "a key of older runs",
}
"""Where such a word stands as an example for a reader: at most two lines a file."""


def test_what_carries_any_task_names_none(root):
    found: dict[str, list[str]] = {}
    for folder in NEUTRAL:
        for file in sorted((root / "kdx" / folder).rglob("*.py")):
            lines = file.read_text(encoding="utf-8").splitlines()
            hits = [
                f"{number}: {line.strip()}" for number, line in enumerate(lines, 1) if GUESTS.search(line)
            ]
            if hits:
                found[file.relative_to(root / "kdx").as_posix()] = hits
    odd = {file: hits for file, hits in found.items() if file not in EXAMPLES}
    assert not odd
    assert all(len(found[file]) <= (6 if file == "store/moved.py" else 2) for file in found)
    assert set(EXAMPLES) <= set(found), "an exception that is none any more"


def test_a_method_that_reads_probabilities_of_classes_says_so(root):
    """The words stand in a loss, a weighting or a rule only where it needs a task with classes."""
    words = re.compile(r"\.argmax\(|\.softmax\(|cross_entropy\(|num_classes")
    for folder in ("losses", "weights"):
        for file in sorted((root / "kdx/methods" / folder).glob("*.py")):
            text = file.read_text(encoding="utf-8")
            if words.search(text):
                assert "needs_task = Categorical" in text, file.name
