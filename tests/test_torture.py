"""scripts/torture.py: its damages do damage, its folders can be made, and a little of all of it finds
nothing.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import damages  # noqa: E402
import hostile  # noqa: E402


def lay(place: Path) -> Path:
    """A small store with something outside."""
    shutil.rmtree(place, ignore_errors=True)
    for spot in ("outside", "store/train/a", "store/train/b", "store/gate/c"):
        (place / spot).mkdir(parents=True)
        (place / spot / "x.json").write_text(json.dumps({"spot": spot, "list": [1, 2]}))
    (place / "outside/x.json").rename(place / "outside/precious")
    return place / "store/train/a"


def state(path: Path) -> list:
    return sorted(
        (
            str(p.relative_to(path)),
            p.lstat().st_mode,
            p.read_bytes() if p.is_file() and p.stat().st_mode & 0o400 else b"",
        )
        for p in [path, *path.rglob("*")]
    )


@pytest.mark.parametrize(
    "how",
    sorted({*damages.OF_FILES, *damages.OF_FOLDERS}, key=lambda how: how.__name__),
    ids=lambda how: how.__name__,
)
def test_a_damage_does_damage_and_only_there(how, tmp_path):
    spots = [
        name for name, those in (("x.json", damages.OF_FILES), (".", damages.OF_FOLDERS)) if how in those
    ]
    for spot in spots:
        folder = lay(tmp_path / "place")
        before = state(tmp_path / "place")
        assert how(folder / spot if spot != "." else folder, random.Random(3))
        assert state(tmp_path / "place") != before and (tmp_path / "place/outside/precious").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("make", hostile.FOLDERS, ids=lambda make: make.__name__)
def test_a_hostile_folder_can_be_made(make, tmp_path):
    for seed in range(4):
        assert isinstance(make(tmp_path / f"{seed}", random.Random(seed)), hostile.Folder)


@pytest.mark.slow
def test_a_little_of_it_finds_nothing():
    words = ["--kills", "2", "--damages", "8", "--folders", "4", "--lines", "100", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/torture.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "kills            2       0           0       0" in done.stdout, (
        done.stdout + done.stderr
    )
