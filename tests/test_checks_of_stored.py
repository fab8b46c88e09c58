"""A run that the store has whole is refused as it would be without: what enters no key is looked at all the
same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdx.cli import main

WORDS = ["device=cpu", "device.threads=1", "teacher_pretrain.steps=12", "student_train.steps=8"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("stages=[teacher_pretrain] loss.alpha=-5", "loss.alpha must be at least 0 and at most 1; given: -5"),
        (
            "stages=[teacher_pretrain] student_train.patience=soon",
            "student_train.patience must be a whole number; given: 'soon'",
        ),
        (
            "stages=[teacher_pretrain] loss.features=fitnet loss.layers.student=nosuch",
            "layer 'nosuch'",
        ),
        ("budget=10", "budget=10 is for the rules that buy answers"),
        ("recipe=supervised", "recipe=supervised asks no teacher, and loss=kd learns from its answers"),
    ],
)
def test_what_enters_no_key_is_refused_all_the_same(trained_here, capsys, more, says):
    assert main(["train", *WORDS, *more.split()]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_what_is_good_is_answered_from_the_store(trained_here, capsys):
    before = sorted(str(path) for path in (trained_here / "outputs/store").glob("*/*"))
    assert main(["train", *WORDS]) == 0
    assert "from the store" in capsys.readouterr().err
    assert sorted(str(path) for path in (trained_here / "outputs/store").glob("*/*")) == before


def test_whole_and_good_it_needs_no_torch(trained_here):
    asked = f"""
import sys
from kdx.commands._check import check_runs
(job,) = check_runs({WORDS!r}, False)
assert job.key and "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", asked], cwd=trained_here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
