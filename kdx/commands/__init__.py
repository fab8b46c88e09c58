"""One thin file a command; each has `main(argv) -> int`, and its first docstring line is its line in `kdx
--help`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_FIRST = [
    "train",
    "config",
    "plan",
    "compare",
    "board",
    "list",
    "evaluate",
    "predict",
    "export",
    "publish",
    "new",
    "rerun",
    "reproduce",
    "halfspace",
    "cache",
    "completion",
]
"""The order in the help; a command that is not named here follows, by name."""
_ASKING = ("--help", "-h", "help", "--version", "-V", "version", "--cfg", "--info", "--hydra-help")


def commands() -> list[str]:
    """Names of the commands: the modules of this folder, of which none is imported."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    return sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


def first_sentence(name: str) -> str:
    """First line of a command's docstring, read as text: importing `train` would cost a second."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8").lstrip()
    return text.split('"""', 2)[1].strip().split("\n")[0].strip() if text.startswith('"""') else ""


def asks_for_text(words: Sequence[str]) -> bool:
    """Whether a text is asked for, whatever the command."""
    return any(word.partition("=")[0] in _ASKING for word in words)


def command_module(name: str, words: Sequence[str]) -> str:
    """The module whose `main` does a command. What trains is slow to import, and its help needs none."""
    helped = name == "train" and {"--help", "-h"} & set(words)
    return f"kdx.commands.{'_help' if helped else name}"
