"""The engines that run a sweep elsewhere, for real: joblib, submitit, Ray and Optuna, each with the
configuration that stands here.

Ray and Optuna come in environments of their own under build/engines, made when they are missing (needs PyPI)
and kept.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from kdx.commands._sweep import validation_error
from kdx.config import compose
from kdx.training import runtime

pytestmark = pytest.mark.slow
WORDS = [
    "device=cpu",
    "teacher=mlp",
    "student=mlp_small",
    "teacher_pretrain.steps=6",
    "student_train.steps=4",
    "augment=[none]",
    "pseudo_label.view=clean",
]
OWN = ["--config-dir", "my", "allow=[fragile_losses]", "loss=steady,fragile", "seed=0,1"]
FRAGILE = """
import os, signal, time
from pathlib import Path
from kdx.core.types import Objective, Outcome
from kdx.core.math import cross_entropy

class Fragile(Objective):
    uses = ("labelled",)
    def __init__(self, parts, *, file, how):
        super().__init__(parts)
        self.file, self.how, self.step = Path(file), how, 0
    def forward(self, streams, progress):
        self.step += 1  # the check before the first run takes one
        if self.file.exists() and self.step > 2:
            self.file.with_name(f"at-work-{os.getpid()}").touch()
            if self.how == "raise":
                raise RuntimeError("broken on purpose")
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(300)
        batch = streams["labelled"]
        return Outcome({"labels": cross_entropy(self.student(batch.views["main"]), batch.y).mean()}, {})
"""


def engine(root: Path, extra: str) -> str:
    """The Python of an environment that has an extra of kdx beside all that this one has, without a copy of
    it: torch alone is gigabytes.
    """
    packages = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    place = root / "build/engines" / extra
    stamp, reported = place / "stamp", f"{packages} {sys.version} {sys.prefix}"
    python = place / "bin/python"
    if not stamp.exists() or stamp.read_text() != reported:
        venv.create(place, clear=True)
        site = place / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        (site / "outer.pth").write_text(
            next(p for p in map(str, sys.path) if p.endswith("site-packages")) + "\n"
        )
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"{packages} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        changed = {p.name.partition("-")[0].lower() for p in site.glob("*.dist-info")} & {
            "torch",
            "hydra_core",
            "omegaconf",
            "numpy",
        }
        assert not changed, f"{packages} replaces {changed}"
        stamp.write_text(reported)
    return str(python)


@pytest.fixture(scope="session")
def ray(root):
    return engine(root, "ray")


@pytest.fixture(scope="session")
def optuna(root):
    return engine(root, "optuna")


@pytest.fixture
def here(tmp_path, root):
    """A folder with losses of the user's own, and how to call kdx there."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/fragile_losses.py").write_text(FRAGILE)
    (tmp_path / "my/loss").mkdir(parents=True)
    for name, file in {"fragile": tmp_path / "broken", "steady": tmp_path / "never"}.items():
        (tmp_path / f"my/loss/{name}.yaml").write_text(
            f"# May fail\n_target_: fragile_losses.Fragile\nfile: {file}\nhow: raise\n"
        )
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")} | {
        "PYTHONPATH": f"{root}{os.pathsep}{tmp_path / 'own'}"
    }

    def start(*words, python=sys.executable, **more):
        return subprocess.Popen(
            [python, "-m", "kdx.cli", "train", "-m", *WORDS, *words],
            cwd=tmp_path,
            env=env | more,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(*words, **more):
        process = start(*words, **more)
        try:
            out, err = process.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return SimpleNamespace(code=process.returncode, out=out, err=err)

    return SimpleNamespace(path=tmp_path, start=start, call=call, broken=tmp_path / "broken", env=env)


def documents(place: Path) -> dict[str, dict]:
    return {
        p.parent.name: json.loads(p.read_text()) for p in sorted(place.glob("outputs/sweeps/*/*/run.json"))
    }


def statuses(place: Path) -> list[str]:
    return [run["status"] for run in documents(place).values()]


def made(place: Path, name: str) -> list[str]:
    return [
        s["key"]
        for run in documents(place).values()
        for s in run["stages"]
        if s["name"] == name and not s["cached"]
    ]


def group(leader: int) -> list[str]:
    """What still runs of a session."""
    reported = subprocess.run(
        ["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        line for line in reported if line.split()[0] == str(leader) and not line.split()[1].startswith("Z")
    ]


def alive(pid: int) -> bool:
    return subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()[:1] not in ("", "Z")


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_one_failure_stops_no_other_and_the_same_command_again_finishes(launcher, here, request):
    """Four runs, two of which fail. Own losses are found by the workers, teachers are made once, cores are
    not oversubscribed.
    """
    python = request.getfixturevalue("ray") if launcher == "ray" else sys.executable
    more = {"joblib": ["hydra.launcher.n_jobs=2"], "ray": ["hydra.launcher.ray.init.num_cpus=2"]}.get(
        launcher, []
    )
    line = [f"launcher={launcher}", *more, *OWN]
    here.broken.touch()
    first = here.call(*line, python=python)
    assert first.code == 1, first.err
    assert "2 of 4 runs are not finished" in first.out and "RuntimeError: broken on purpose" in first.out
    assert sorted(statuses(here.path)) == ["failed", "failed", "finished", "finished"]
    assert len(re.findall(r"^[1-4]/4 .*: teacher .* gain ", first.out, re.M)) == 2, (
        "a line a run, whichever process it ran in"
    )
    assert (
        len(first.err.splitlines())
        == len(re.findall(r"^[1-4]/4 .*: FAILED: RuntimeError: broken on purpose$", first.err, re.M))
        == 2
    )
    assert len(made(here.path, "teacher-pretrain")) == len(set(made(here.path, "teacher-pretrain"))) == 2
    assert {
        json.loads(p.read_text())["threads"] for p in here.path.glob("outputs/store/train/*/summary.json")
    } == {1}
    here.broken.unlink()
    again = here.call(*line, python=python)
    assert again.code == 0 and "2 of them are done, 2 to do" in again.out, again.err
    assert statuses(here.path) == ["finished"] * 4 and len(list(here.path.glob("outputs/sweeps/*"))) == 1
    assert not list(here.path.glob("outputs/sweeps/*/*/outputs")), "all of it went to the one store"
    last = here.call(*line, python=python)
    assert last.code == 0 and "all are done" in last.out
    assert "Traceback" not in first.err + again.err + last.err and not again.err, (
        "an engine has nothing to add"
    )


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_a_worker_that_is_killed_every_time_stops_no_other_run(launcher, here, request):
    python = request.getfixturevalue("ray") if launcher == "ray" else sys.executable
    line = [
        f"launcher={launcher}",
        *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []),
        *OWN,
        "loss=fragile,steady",
        "loss.how=kill",
    ]
    here.broken.touch()
    first = here.call(*line, python=python)
    assert (
        first.code == 1
        and "a worker was killed; what was at work follows at the end, one by one" in first.err
    ), first.err
    assert "was killed or stopped in the middle" in first.out
    assert statuses(here.path) == ["running", "running", "finished", "finished"]
    assert "2 of 4 runs are not finished" in first.out and "was killed or stopped in the middle" in first.out
    assert "Traceback" not in first.err and not list(here.path.glob("outputs/sweeps/*/later.json"))
    here.broken.unlink()
    again = here.call(*line, python=python)
    assert (
        again.code == 0
        and "2 of them are done, 2 to do" in again.out
        and statuses(here.path) == ["finished"] * 4
    ), again.err


@pytest.mark.parametrize(
    ("launcher", "stop"),
    [("joblib", signal.SIGTERM), *((name, signal.SIGINT) for name in ("joblib", "submitit_local", "ray"))],
)
def test_an_interrupt_leaves_one_sentence_and_no_process(launcher, stop, here, request):
    python = request.getfixturevalue("ray") if launcher == "ray" else sys.executable
    here.broken.touch()
    process = here.start(f"launcher={launcher}", *OWN, "loss.how=hang", python=python)
    for _ in range(600):
        if process.poll() is not None or list(here.path.glob("at-work-*")):
            break
        time.sleep(0.2)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("no run came to work")
    os.killpg(process.pid, stop)
    try:
        _, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 128 + stop, err
    said = [line for line in err.splitlines() if "interrupted; " in line]
    assert len(said) == 1 and "Go on with: kdx train" in said[0], err
    if launcher != "submitit_local":  # whose own watchers, a process each, end with a traceback
        assert err.splitlines() == said, err
    for _ in range(150):  # submitit's runs have sessions of their own, which its watchers end a moment later
        left = group(process.pid) + [
            file.name for file in here.path.glob("at-work-*") if alive(int(file.name.split("-")[-1]))
        ]
        if not left:
            break
        time.sleep(0.2)
    assert not left


def test_ray_on_a_cluster_that_runs_already(ray, here, tmp_path_factory):
    """Its workers stand in another folder and were started with another environment."""
    tool, elsewhere = str(Path(ray).with_name("ray")), tmp_path_factory.mktemp("elsewhere")
    env = {**here.env, "PYTHONPATH": here.env["PYTHONPATH"].split(os.pathsep)[0]}
    subprocess.run(
        [tool, "start", "--head", "--num-cpus=2", "--port=0", "--include-dashboard=false"],
        cwd=elsewhere,
        env=env,
        check=True,
        capture_output=True,
    )
    try:
        done = here.call("launcher=ray", "hydra.launcher.ray.init.address=auto", *OWN, python=ray)
    finally:
        subprocess.run([tool, "stop"], env=env, check=True, capture_output=True)
    assert done.code == 0 and statuses(here.path) == ["finished"] * 4, done.err
    assert not list(elsewhere.iterdir())


def test_a_search_by_optuna(optuna, here):
    line = [
        "sweeper=optuna",
        "loss.temperature=interval(1,8)",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.storage=sqlite:///search.db",
    ]
    done = here.call(*line, python=optuna)
    assert done.code == 0 and not done.err, done.err
    runs = documents(here.path)
    assert (
        len(runs) == 2
        and statuses(here.path) == ["finished"] * 2
        and len(made(here.path, "teacher-pretrain")) == 1
    )
    (best,) = here.path.glob("outputs/sweeps/*/optimization_results.yaml")
    reported = yaml.safe_load(best.read_text())
    errors = {run["config"]["loss"]["temperature"]: validation_error(run) for run in runs.values()}
    for run in runs.values():
        assert validation_error(run) == 1 - run["results"]["student"]["last"]["validation"]["accuracy"]
    assert (
        errors[reported["best_params"]["loss.temperature"]] == reported["best_value"] == min(errors.values())
    )
    again = here.call(*line, python=optuna)
    assert again.code == 0, again.err
    seen = subprocess.run(
        [
            optuna,
            "-c",
            (
                "import optuna; print(len(optuna.load_study(study_name='kdx', "
                "storage='sqlite:///search.db').trials))"
            ),
        ],
        cwd=here.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.strip() == "4", "the search was gone on with"


def test_a_trial_that_fails_does_not_end_the_search(optuna, here):
    here.broken.touch()
    done = here.call(
        "sweeper=optuna", *OWN[:-1], "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=0", python=optuna
    )
    assert done.code == 1, done.err
    states = statuses(here.path)
    assert sorted(states) == ["failed", "finished"], (states, done.err)
    assert "RuntimeError: broken on purpose" in done.out and "Traceback" not in done.err


def test_the_documented_line_for_slurm_gives_a_sensible_submission(root, tmp_path, monkeypatch):
    """No cluster is needed: submitit writes what it would hand to sbatch."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    import submitit
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from submitit.slurm.slurm import _make_sbatch_string

    line = "launcher=slurm hydra.launcher.partition=gpu hydra.launcher.gpus_per_node=1"
    assert f"`{line}`" in (root / "docs/sweeps.md").read_text()
    compose.register_names()
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        launcher = hydra_compose("train", line.split(), return_hydra_config=True).hydra.launcher
    assert launcher["_target_"].endswith("SlurmLauncher") and launcher["array_parallelism"] == 32
    taken = ("cpus_per_task", "gpus_per_node", "timeout_min", "partition", "array_parallelism", "nodes")
    params = {{"timeout_min": "time"}.get(k, k): launcher[k] for k in taken if k != "array_parallelism"}
    text = _make_sbatch_string(
        command="python",
        folder=tmp_path,
        map_count=100,
        array_parallelism=launcher["array_parallelism"],
        **params,
    )
    for wanted in (
        "partition=gpu",
        "gpus-per-node=1",
        "cpus-per-task=4",
        "time=240",
        "array=0-99%32",
        "nodes=1",
    ):
        assert f"#SBATCH --{wanted}" in text, text
    assert submitit.__version__


@pytest.mark.parametrize("seen, device", [(1, "cuda"), (2, "cuda:1")])
def test_the_one_gpu_that_an_engine_hands_out_is_taken_as_it_is(seen, device, monkeypatch):
    """SLURM and Ray leave one in CUDA_VISIBLE_DEVICES. Of several, the first that is free."""
    import torch

    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"uuid {i}"))
    monkeypatch.setattr(runtime, "take", lambda names: asked.append(names) or 1)
    settled = runtime.Runtime("auto", 1, 0, False, False, 60).settle()
    assert settled.device == device and asked == ([["uuid 0", "uuid 1"]] if seen == 2 else [])
