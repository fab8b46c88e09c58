"""One thin file a command; each has `main(argv) -> int`, and its first docstring line is its line in `kdx
--help`.
"""

from __future__ import annotations

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
    "new",
    "rerun",
    "reproduce",
    "halfspace",
    "cache",
    "completion",
]
"""The order in the help; a command that is not named here follows, by name."""


def commands() -> list[str]:
    """Names of the commands: the modules of this folder, of which none is imported."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    return sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


def first_sentence(name: str) -> str:
    """First line of a command's docstring, read as text: importing `train` would cost a second."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8").lstrip()
    return text.split('"""', 2)[1].strip().split("\n")[0].strip() if text.startswith('"""') else ""
