"""Where run folders are."""

from __future__ import annotations

import os
from pathlib import Path


def run_folders(top: Path, depth: int) -> list[Path]:
    """Run folders at `top` or up to `depth` levels below it, in order, the jobs of a sweep by number. Links
    are not followed, and nothing is looked for inside a run folder or a store (which has `locks`)."""
    found = []
    for folder, below, files in os.walk(top):
        if "run.json" in files:
            found.append(Path(folder))
        if "run.json" in files or "locks" in below or len(Path(folder).relative_to(top).parts) >= depth:
            below.clear()
        below.sort(key=_order)
    return found


def _order(name: str) -> tuple[bool, int, str]:
    """Jobs of a sweep, 0_..., 1_..., 10_..., by their number."""
    number = name.partition("_")[0]
    return not number.isdecimal(), int(number) if number.isdecimal() and len(number) < 9 else 0, name
