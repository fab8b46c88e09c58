"""In a job of a SLURM cluster: a run that is warned keeps what it has, goes back into the queue and on in the
same folder. The cluster is a fake `scontrol` here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdx.config.compose import naming
from kdx.core import cluster, signals

WORDS = [
    *("device=cpu", "device.threads=1", "teacher=mlp", "student=mlp_small", "dataset.unlabelled=100"),
    *("dataset.test=100", "teacher_pretrain.steps=10", "student_train.steps=2500", "pseudo_label.views=1"),
    *("baseline=false", "device.checkpoint_seconds=0.2"),
]
NAMES = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_PROCID", "SUBMITIT_EXECUTOR", "RANK")


@pytest.fixture
def no_job(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def job(no_job, monkeypatch, tmp_path):
    """Number 77; gives what `scontrol` was called with."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.chdir(tmp_path)
    fake = tmp_path / "bin" / "scontrol"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    return lambda: (tmp_path / "calls").read_text().split("\n")[:-1] if (tmp_path / "calls").exists() else []


def warn(number: int = signal.SIGUSR1) -> int:
    """The exit code of a command that is warned at its work."""
    try:
        with signals.heeded():
            signal.raise_signal(number)
    except KeyboardInterrupt as error:
        return signals.code_of(error)
    return 0


def test_a_warning_ends_a_command_in_a_job_and_the_job_goes_back_into_the_queue(job):
    for number, code in ((signal.SIGUSR1, 138), (signal.SIGUSR2, 140)):
        assert warn(number) == code and code in signals.CODES
        told = signals.requeued(code)
        assert told == "job 77 is in the queue again, and goes on in the same folder when it begins"
    assert job() == ["requeue 77", "requeue 77"]
    assert signals.requeued(143) is None and signals.requeued(0) is None and len(job()) == 2
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_elsewhere_these_signals_are_the_callers(no_job):
    came = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    try:
        assert warn() == 0 and came == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_of_several_processes_the_first_alone_sends_the_job_back(job, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert signals.requeued(138) is None
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("RANK", "1")
    assert signals.requeued(138) is None and job() == []


def test_what_the_cluster_has_against_it(job, monkeypatch, tmp_path):
    fake = tmp_path / "bin" / "scontrol"
    fake.write_text("#!/bin/sh\necho 'Requeue is disabled for the job' >&2; exit 1\n")
    told = signals.requeued(138)
    assert told == (
        "job 77 is not in the queue again (Requeue is disabled for the job): hand it in once more to go on"
    )
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert "(there is no scontrol here)" in signals.requeued(138)


def test_submitit_hears_of_it_once_all_is_kept(job, monkeypatch):
    """It takes the job back itself, in a handler of its own that ends the process."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    order = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: order.append("submitit"))
    try:
        with signals.heeded():
            try:
                signal.raise_signal(signal.SIGUSR2)
            except KeyboardInterrupt:
                order.append("kept")
        assert order == ["kept", "submitit"]
        assert cluster.job() is None and signals.requeued(140) is None and job() == []
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL, "which it does not heed"
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_job_that_begins_again_finds_its_folder(job, monkeypatch, tmp_path):
    monkeypatch.setenv(naming.STAMP, "2026-01-01_00-00-00 ab12")
    words = ["loss=kd", "seed=3"]
    first = naming.run_name(words)
    assert first.startswith("2026-01-01_00-00-00_loss-kd_seed-3_job77-")
    assert naming.run_name(["loss=kd", "seed=4"]).rpartition("-")[2] != first.rpartition("-")[2]
    (tmp_path / "outputs/runs" / first).mkdir(parents=True)
    monkeypatch.setenv(naming.STAMP, "2026-01-02_00-00-00 cd34")
    assert naming.run_name(words) != first, "the same command once more, and not begun again"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert naming.run_name(words) == first
    assert naming.run_name(["loss=kd", "seed=4"]).startswith("2026-01-02"), "it had not come to that"
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    assert naming.run_name(words).startswith("2026-01-02")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert naming.run_name(words) == "2026-01-02_00-00-00_loss-kd_seed-3_cd34"


def begin(*words: str, **more: str) -> subprocess.Popen:
    env = {key: value for key, value in os.environ.items() if key not in NAMES}
    with open("log", "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "kdx", "train", *WORDS, *words],
            env={**env, "OMP_NUM_THREADS": "1", **more},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def until(there, process: subprocess.Popen | None = None, seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < limit and (process is None or process.poll() is None), open("log").read()
        time.sleep(0.02)


def student_at_work() -> bool:
    """Some time into it: it has kept a checkpoint."""
    return any(Path("outputs/store/train").glob("*.partial/checkpoint.json"))


def learned() -> dict[str, str]:
    (run,) = Path("outputs").glob("*/**/run.json")
    document = json.loads(run.read_text())
    assert document["status"] == "finished"
    return document["results"]["student"]["weights"]


@pytest.mark.slow
def test_a_job_goes_on_in_its_folder_to_the_same_weights(job, tmp_path, monkeypatch):
    (tmp_path / "alone").mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    assert begin().wait() == 0
    wanted = learned()
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    process = begin(SLURM_JOB_ID="77")
    until(student_at_work, process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 138 and job() == ["requeue 77"]
    (folder,) = Path("outputs/runs").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert begin(SLURM_JOB_ID="77", SLURM_RESTART_COUNT="1").wait() == 0
    assert list(Path("outputs/runs").iterdir()) == [folder] and learned() == wanted
    log = open("log").read()
    assert "job 77 is in the queue again" in log and "Traceback" not in log and "goes on from step" in log


@pytest.mark.slow
def test_a_sweep_in_a_job_goes_on_in_its_folder(job, tmp_path, monkeypatch):
    sweep = ("-m", "seed=0,1", "student_train.steps=1200")
    process = begin(*sweep, SLURM_JOB_ID="77")
    until(student_at_work, process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 138 and job() == ["requeue 77"]
    assert begin(*sweep, SLURM_JOB_ID="77", SLURM_RESTART_COUNT="1").wait() == 0, open("log").read()
    (folder,) = Path("outputs/sweeps").iterdir()
    assert [json.loads(path.read_text())["status"] for path in sorted(folder.glob("*/run.json"))] == [
        "finished",
        "finished",
    ]


@pytest.mark.slow
def test_submitit_takes_a_run_back_into_its_folder(no_job, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    process = begin("-m", "seed=3", "launcher=submitit_local")
    until(student_at_work, process)
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
    ours, rows = {process.pid}, [line.split(None, 2) for line in listed.splitlines()[1:]]
    for _ in range(4):
        ours |= {int(pid) for pid, parent, _ in rows if int(parent) in ours}
    (worker,) = (int(pid) for pid, _, what in rows if int(pid) in ours and "submitit.core._submit" in what)
    os.kill(worker, signal.SIGUSR2)
    assert process.wait() == 0, open("log").read()
    assert learned()
    log = "".join(path.read_text() for path in Path("outputs/sweeps").glob("*/.submitit/**/*log*"))
    log += "".join(path.read_text() for path in Path("outputs/sweeps").glob("*/.submitit/**/*.err"))
    assert "Requeued job" in log
    (train,) = Path("outputs/sweeps").glob("*/*/train.log")
    assert "goes on from step" in train.read_text()
