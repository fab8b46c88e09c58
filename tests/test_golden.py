"""scripts/golden.py: two commits give the same numbers, or it says which differ."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fabricate import document

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import golden  # noqa: E402


def test_what_differs_is_named_and_times_and_keys_are_not_compared():
    before = document()
    after = copy.deepcopy(before)
    after["results"]["student"]["latency_ms"] = 1e9
    after["stages"][0]["key"] = "f" * 64
    after["results"]["student"]["last"]["test"]["further"] = [1, 2]
    compared, reported, new = golden.differences(before, after)
    assert compared > 20 and reported == [] and new == 2
    accuracy = before["results"]["student"]["last"]["test"]["accuracy"]
    after["results"]["student"]["last"]["test"]["accuracy"] = accuracy + 1e-15
    del after["results"]["teacher"]
    reported = golden.differences(before, after)[1]
    assert f"results.student.last.test.accuracy: {accuracy} and now {accuracy + 1e-15}" in reported
    assert any(line.endswith(" and now not there") for line in reported)
    after["stages"].pop()
    assert golden.differences(before, after)[1][0].startswith("stages: ")


@pytest.mark.slow
def test_a_commit_gives_the_numbers_of_itself(root, capsys):
    if not shutil.which("git") or not (root / ".git").exists():
        pytest.skip("not a checkout")
    clean = not subprocess.run(
        ["git", "-C", str(root), "status", "--porcelain", "--", "kdx", "conf"], capture_output=True
    ).stdout
    if not clean:
        pytest.skip("the code here is not that of a commit")
    assert golden.main(["HEAD", "supervised"]) == 0
    assert ", 0 differ" in capsys.readouterr().out
