"""CONTRIBUTING.md is what one does: its loss is written, moved into a copy of kdx and trained there, as the
page says.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = "device=cpu device.threads=1 teacher=mlp_small teacher_pretrain.steps=3 student_train.steps=3".split()
SHORT += "baseline=false dataset.unlabelled=60 dataset.validation=40 dataset.test=40".split()


@pytest.mark.slow
def test_a_loss_is_added_as_the_page_says(root, tmp_path):
    for folder in ("kdx", "conf"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    chapter = (root / "CONTRIBUTING.md").read_text().split("\n## Add a loss\n")[1].split("\n## ")[0]
    steps = re.findall(r"^```bash\n(.*?)^```|^    (kdx [^\n]*)$", chapter, flags=re.M | re.S)
    assert [bool(script) for script, _ in steps] == [False, False, True, False]
    for script, command in steps:
        words = shlex.split(command)
        if words[1:2] == ["train"]:
            words += SHORT
        done = subprocess.run(
            ["bash", "-ec", script] if script else [sys.executable, "-m", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert not Path(tmp_path, "my_parts/mine.py").exists()
    runs = sorted(tmp_path.glob("outputs/runs/*/metrics.jsonl"), key=os.path.getmtime)
    assert len(runs) == 2
    assert all("train/term/teacher_unlabelled" in run.read_text() for run in runs)


def test_every_file_that_the_page_names_is_there(root):
    text = re.sub(r"```.*?```|^    [^\n]*$", "", (root / "CONTRIBUTING.md").read_text(), flags=re.M | re.S)
    named = set(re.findall(r"`(?:\./)?((?:scripts|docs|tests|conf|kdx|\.ci)/[\w./-]*)", text))
    made = {"docs/loss.md"}
    assert named >= made and [name for name in named if not (root / name).exists()] == []
