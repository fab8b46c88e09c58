"""Thirty runs on the digits: shared stages made once, killed five times at random moments, two sweeps at once
on one store.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdx.cli import main

pytestmark = pytest.mark.slow
SEEDS = 5
SWEEP = [
    "train",
    "-m",
    "loss=kd,slam,weighted",
    "student=mlp_small,cnn_tiny",
    f"seed=range({SEEDS})",
    "device=cpu",
    "device.threads=1",
    "device.checkpoint_seconds=0",
    "teacher=mlp",
    "teacher_pretrain.steps=20",
    "student_train.steps=20",
]
TIMES = {"latency_ms", "seconds", "teacher_seconds_saved"}
"""What is measured with a clock and so differs from run to run; everything else must not."""


def start(place: Path, root: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "kdx.cli", *SWEEP],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def results(place: Path) -> dict[str, str]:
    """folder -> everything that the run found out, as text; of the one sweep there is"""
    (folder,) = (p.parent for p in place.glob("outputs/sweeps/*/sweep.json"))
    found = {p.parent.name: json.loads(p.read_text()) for p in sorted(folder.glob("*/run.json"))}
    assert len(found) == 30 and all(run["status"] == "finished" for run in found.values())
    return {
        name: json.dumps([timeless(run[k]) for k in ("results", "audit", "config", "protocol", "warnings")])
        for name, run in found.items()
    }


def weights(place: Path) -> dict[str, str]:
    """stage/key -> the digests of the weights in the store"""
    found = {}
    for manifest in sorted(place.glob("outputs/store/*/*/manifest.json")):
        files = json.loads(manifest.read_text())["files"]
        found |= {
            f"{manifest.parent.parent.name}/{manifest.parent.name}/{n}": f["sha256"]
            for n, f in files.items()
            if n.endswith((".safetensors", ".npy"))
        }
    return found


def count(place: Path, stage: str) -> int:
    return len(list(place.glob(f"outputs/store/{stage}/*/manifest.json")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, root):
    place = tmp_path_factory.mktemp("undisturbed")
    process = start(place, root)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return place


def test_thirty_runs_train_one_teacher_a_seed(undisturbed):
    assert (
        count(undisturbed, "teacher-pretrain")
        == count(undisturbed, "pseudo-label")
        == count(undisturbed, "prepare")
        == SEEDS
    )
    assert count(undisturbed, "train") == 30 + 2 * SEEDS, "thirty students, and alone two for each seed"


def test_killed_five_times_it_ends_as_if_nothing_had_happened(undisturbed, tmp_path, root):
    wanted = results(undisturbed)
    dice = random.Random()
    kills = []
    while len(kills) < 5:
        process = start(tmp_path, root)
        at = 5 * len(kills) + dice.randrange(1, 6)  # never so late that nothing is left to kill
        for line in process.stdout:  # dies between two lines, or some time after one
            if f"{at}/30" in line or dice.random() < 0.1:
                break
        moment = dice.random() / 2
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            kills.append((len(list(tmp_path.glob("outputs/sweeps/*/*/run.json"))), round(moment, 2)))
        process.wait()
        if process.returncode == 0:
            break
    process = start(tmp_path, root)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert len(kills) == 5, f"the sweep ended before it was killed five times: {kills}"
    assert results(tmp_path) == wanted, kills
    assert weights(tmp_path) == weights(undisturbed), kills
    assert count(tmp_path, "teacher-pretrain") == SEEDS


def test_two_sweeps_at_once_train_no_teacher_twice(undisturbed, tmp_path, root, monkeypatch, capsys):
    both = [start(tmp_path, root) for _ in range(2)]
    for process in both:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    folders = sorted({p.parent for p in tmp_path.glob("outputs/sweeps/*/sweep.json")})
    assert len(folders) == 2
    runs = [json.loads(p.read_text()) for folder in folders for p in folder.glob("*/run.json")]
    assert len(runs) == 60 and all(run["status"] == "finished" for run in runs)
    made = [(s["name"], s["key"]) for run in runs for s in run["stages"] if not s["cached"]]
    assert len(made) == len(set(made)), "a stage was made twice"
    assert sum(name == "teacher-pretrain" for name, _ in made) == SEEDS
    assert weights(tmp_path) == weights(undisturbed)
    monkeypatch.chdir(tmp_path)
    assert main(["cache", "verify"]) == 0
    assert "damaged" not in capsys.readouterr().out.replace("0 damaged", "")
