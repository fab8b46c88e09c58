"""What all tests share. Threads are few, and set before anything imports torch: the tensors here are too
small for more.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
# tests interrupt what they start, and xdist and a shell's `&` have it ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored

ROOT = Path(__file__).resolve().parent.parent


def pytest_terminal_summary(terminalreporter) -> None:
    """How many tests an absent package skipped: a run without the extras tells what it did not look at."""
    reasons = [
        str(report.longrepr[-1])
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple | list)
    ]
    absent = Counter(
        found[1] for reason in reasons if (found := re.search(r"could not import '(\w+)", reason))
    )
    if absent:
        reported = ", ".join(f"{count} for {name}" for name, count in sorted(absent.items()))
        terminalreporter.write_line(
            f"skipped as a package is absent: {reported} (scripts/test --all installs the extras)"
        )


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with a short run on the digits: outputs/store and outputs/runs/a=b. Not to be changed: see
    `trained_here`.
    """
    from kdx.cli import main

    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = [
            "device=cpu",
            "device.threads=1",
            "teacher_pretrain.steps=12",
            "student_train.steps=8",
            "hydra.run.dir=outputs/runs/a=b",
        ]
        assert main(["train", *words]) == 0
    return place


@pytest.fixture
def trained_here(trained, tmp_path, monkeypatch) -> Path:
    """A copy of it in the working directory, which the test may change;
    its run.json names the copied store.
    """
    shutil.copytree(trained / "outputs", tmp_path / "outputs", symlinks=True)
    file = tmp_path / "outputs/runs/a=b/run.json"
    file.write_text(file.read_text().replace(str(trained), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def stopped_before_work(tmp_path_factory):
    """In an empty folder, where a command line that is good ends before its work begins."""
    import nasty

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fuzz"))
        nasty.stop_before_work(patch)
        yield
