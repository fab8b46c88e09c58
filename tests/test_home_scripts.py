"""scripts/Dockerfile takes what a wheel is built of and names extras that there are; scripts/slurm.sh hands
kdx its words, its share of the job and the signals of the cluster. No daemon and no cluster is needed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
from page_words import slips

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "scripts/Dockerfile").read_text()
SLURM = ROOT / "scripts/slurm.sh"
STAND_IN = """#!{python}
import os, signal, sys, time
names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT OMP_NUM_THREADS".split()
print(sys.argv[1:], [os.environ.get(name) for name in names], flush=True)
if "wait" in sys.argv:
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(138))
    print("ready", flush=True)
    time.sleep(30)
"""
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
for ((i = 0; i < SLURM_NTASKS; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=$((i % (SLURM_NTASKS / SLURM_NNODES))) "$@" &
done
for job in $(jobs -p); do wait "$job" || exit; done
"""


def copied() -> list[str]:
    """What the Dockerfile takes of this folder."""
    found = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    return [name for names in found for name in names.split()]


def test_an_image_is_made_of_what_a_wheel_needs(tmp_path):
    hatchling = importlib.util.find_spec("hatchling")
    if hatchling is None:
        pytest.skip("hatchling is absent")
    ignored = (ROOT / "scripts/Dockerfile.dockerignore").read_text().splitlines()
    for name in copied():
        assert (ROOT / name).exists() and f"!{name}" in ignored
        to = tmp_path / "src" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to)
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied())
    code = f"import hatchling.build as b; b.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "src", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"kdx/cli.py", "kdx/conf/train.yaml"} <= set(names)


def test_the_image_has_the_bounds_and_extras_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r'"(torch[\w>=.]+)"', DOCKERFILE)
    assert len(named) == 2 and set(named) <= set(project["dependencies"])
    (extras,) = re.findall(r"^ARG EXTRAS=(\S*)", DOCKERFILE, re.M)
    (others,) = re.findall(r"--build-arg EXTRAS=(\S+)", DOCKERFILE)
    assert {*extras.split(","), *others.split(",")} <= project["optional-dependencies"].keys()
    (tag,) = re.findall(r"^ARG PYTHON=(\S+)", DOCKERFILE, re.M)
    assert fnmatch(tag, "3.1[1-9]-slim-*") and "latest" not in DOCKERFILE
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.M), "not as root"


def printed() -> list[tuple[str, str]]:
    """(where, words for kdx train) of each example of a container or a job."""
    files = [ROOT / "docs/start.md", ROOT / "scripts/Dockerfile", SLURM]
    return [
        (file.name, found[1])
        for file in files
        for line in file.read_text().splitlines()
        if (
            found := re.fullmatch(
                r"(?:#? {4,})(?:sbatch .*slurm\.sh|docker run .* kdx(?::cuda)? train) ?(.*)", line
            )
        )
    ]


def test_words_of_jobs_and_containers_compose():
    found = printed()
    assert len(found) == 9
    assert {where: slips(shlex.split(words)) for where, words in found if slips(shlex.split(words))} == {}
    page = (ROOT / "docs/start.md").read_text()
    for line in re.findall(r"^#     (sbatch .*)$", SLURM.read_text(), re.M):
        assert f"    {line}\n" in page


@pytest.fixture
def cluster(tmp_path):
    """The environment of a job; srun begins each task of two machines here."""
    for name, text in {
        "kdx": STAND_IN.format(python=sys.executable),
        "srun": SRUN,
        "scontrol": "#!/bin/sh\nprintf 'node7\\nnode8\\n'\n",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "20123",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_JOB_NODELIST": "node[7-8]",
    }


def test_a_job_of_one_process_is_kdx_and_hears_the_warning(cluster):
    job = subprocess.Popen(
        ["bash", SLURM, "wait", "augment=[flip_crop,cutout]"], env=cluster, stdout=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    said = job.stdout.readline()
    assert said.startswith("['train', 'wait', 'augment=[flip_crop,cutout]'] [None,") and "'8']" in said
    assert job.stdout.readline() == "ready\n"
    job.send_signal(signal.SIGUSR1)  # to the script's own process, as `B:` has it
    assert job.wait(timeout=10) == 138
    job.stdout.close()


def test_a_job_on_two_machines_has_a_process_a_task(cluster):
    env = {**cluster, "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}
    done = subprocess.run(["bash", SLURM, "loss=kd"], env=env, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == [
        f"['train', 'loss=kd'] ['{i}', '{i % 2}', '4', '2', 'node7', '20123', '8']" for i in range(4)
    ]


@pytest.mark.slow
def test_two_tasks_train_one_network(cluster, tmp_path):
    (tmp_path / "kdx").write_text(f'#!/bin/sh\nexec {sys.executable} -m kdx "$@"\n')
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho 127.0.0.1\n")
    port = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_CPUS_PER_TASK": "1", "PYTHONPATH": str(ROOT)}
    env = {**cluster, **port, "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "HOME": str(tmp_path)}
    short = "device=cpu student_train.steps=4 teacher_pretrain.steps=4 baseline=false teacher=mlp_small"
    done = subprocess.run(
        ["bash", SLURM, *short.split()], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("outputs/runs/*/run.json")
    settled = json.loads(run.read_text())
    assert settled["status"] == "finished" and '"processes": 2' in run.read_text()


def test_a_job_without_kdx_says_what_to_do(cluster, tmp_path):
    (tmp_path / "kdx").unlink()
    done = subprocess.run(["bash", SLURM], env=cluster, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("slurm.sh: no kdx here: ")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_the_job_is_clean_shell():
    subprocess.run(["shellcheck", SLURM], check=True)
