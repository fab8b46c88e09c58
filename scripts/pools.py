"""Writes conf/pool: for each data set of conf/dataset an option of the same name, whose rows may be the pool
of another one. `--check`: exit code 1 where one is not as it would be written.

    python scripts/pools.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

CONF = Path(__file__).resolve().parent.parent / "conf"
NOT_ROWS = (
    "control",
    "corpus",
    "squad",
    "synthetic",
    "pairs",
    "digits_captions",
    "digits_ink",
    "digits_sums",
    "drift_items",
    "coco",
    "shapes_detect",
)
"""Data sets whose rows are no pool of another: they hang on who acts, on the text that they lie in, on
several inputs of one row or on time, or their name is that of made-up pictures."""
SIZES = ("labelled", "unlabelled", "validation", "test", "class_weights", "duplicates", "kd_temperature")
KEYS = (
    "limit: null         # at most so many of its rows, drawn at random; null: all but its test part",
    "test: false         # true: its test rows are tested on, in place of the own; or how many, or a share",
    "classes_map: null   # a file, a line a class, theirs: ours; null: by name",
    "",
)


def option(text: str) -> str:
    """The option that a file of conf/dataset gives."""
    lines = text.splitlines()
    title = next(line for line in lines if line.startswith("#") and "@package" not in line)
    nested = any(line.startswith("dataset:") for line in lines)
    inside, kept = not nested, []
    for line in lines:
        if nested and re.match(r"\S", line):
            inside = line.startswith("dataset:")
            continue
        if not inside or not line.strip():
            continue
        bare = line[2:] if nested else line
        key = bare.split(":")[0].strip()
        if not bare.lstrip().startswith("#") and key not in SIZES:
            kept.append(bare)
    return "\n".join([title, *kept, *KEYS])


def written() -> dict[Path, str]:
    """file -> what it should hold."""
    return {
        CONF / "pool" / file.name: option(file.read_text())
        for file in sorted((CONF / "dataset").glob("*.yaml"))
        if file.stem not in NOT_ROWS
    }


def main() -> int:
    wrong = [path for path, text in written().items() if not path.is_file() or path.read_text() != text]
    for path in wrong:
        yaml.safe_load(written()[path])
        if "--check" in sys.argv:
            print(f"{path} is not as conf/dataset/{path.name} gives it: run python scripts/pools.py")
        else:
            path.write_text(written()[path])
    return int(bool(wrong) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
