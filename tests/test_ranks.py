"""Several processes that train one network make the steps that one process makes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file

from kdx.cli import main
from kdx.config.options import options_of
from kdx.training import team

CHEAP = {"kd"}
SMALL = ["device=cpu", "device.threads=2", "student_train.steps=10", "student_train.optimiser=sgd"]
TEACHER = ["teacher=cnn_tiny", "teacher.batch_norm=false", "teacher_pretrain.steps=20", "baseline=false"]
STUDENT = ["student=cnn_tiny", "student.batch_norm=false"]
NUMBERS = ["dataset=diabetes", "teacher=mlp_small", "student=mlp_small", "baseline=false"]
OWN = {
    "noisy_student": [*TEACHER, *STUDENT, "select=all"],
    "self_training": [*TEACHER, *STUDENT, "select=all"],
    "heteroscedastic": [
        *("dataset=diabetes", "teacher=sklearn", "teacher.estimator=RandomForestRegressor"),
        *("student=mlp_small", "baseline=false"),
    ],
    "teacher_bounded": NUMBERS,
    "distillation_token": [*TEACHER, "student=vit_tiny"],
    "lwf": [*STUDENT, "recipe=continual"],
}
"""Words of losses that need other data or networks."""
APART = 1e-5
FLIPPED = 1e-4
"""Of pictures moved by the sign of a gradient, which rounding turns where it is nearly 0."""


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """All of this file shares a store and the processes that train together."""
    path = tmp_path_factory.mktemp("ranks")
    before = Path.cwd()
    os.chdir(path)
    yield path
    os.chdir(before)
    team.dismiss(well=True)


def weights(store):
    return {file.parts[-3]: load_file(file) for file in Path(store).glob("train/*/last.safetensors")}


def apart(words):
    """The largest difference between the student's weights of one process and of two."""
    assert main(["train", *SMALL, "store=stored", *words]) == 0
    one = weights("stored")
    shutil.rmtree("stored/train")
    assert main(["train", *SMALL, "store=stored", "device.gpus=2", *words]) == 0
    two = weights("stored")
    shutil.rmtree("stored/train")
    assert one and one.keys() == two.keys()
    return max(
        (one[name][key].double() - two[name][key].double()).abs().max().item()
        for name in one
        for key in one[name]
    )


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            [f"loss={loss}", *OWN.get(loss, [*TEACHER, *STUDENT])],
            marks=() if loss in CHEAP else pytest.mark.slow,
            id=loss,
        )
        for loss in options_of("loss")
        if loss != "pseudo_boxes"
    ]
    + [
        pytest.param(
            ["loss=kd", f"loss.features={name}", *TEACHER, *STUDENT],
            marks=pytest.mark.slow,
            id=f"features {name}",
        )
        for name in options_of("features")
        if name != "none"
    ]
    + [
        pytest.param(
            ["loss=soft", f"loss.weights={name}", *TEACHER, *STUDENT],
            marks=pytest.mark.slow,
            id=f"weights {name}",
        )
        for name in options_of("weights")
    ]
    + [
        pytest.param(
            ["student_train.batch_size=63", *TEACHER, *STUDENT],
            id="a batch that cannot be shared out evenly",
            marks=pytest.mark.slow,
        )
    ],
)
def test_two_processes_make_the_step_of_one(words, capsys):
    assert apart(words) < (FLIPPED if words[0] == "loss=adversarial_kd" else APART)


def run(words, **env):
    """kdx in a process of its own, which is still at work."""
    return subprocess.Popen(
        [sys.executable, "-m", "kdx", "train", *SMALL, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env},
    )


def beside(process):
    """The numbers of the processes that a process has started, once they are there."""
    for _ in range(600):
        found = subprocess.run(
            ["pgrep", "-P", str(process.pid), "-f", "kdx.training.team"], capture_output=True, text=True
        )
        if found.stdout.split():
            return [int(number) for number in found.stdout.split()]
        time.sleep(0.1)
    raise AssertionError("none was started")


def temporary(place):
    """A folder for temporary files, of these tests alone."""
    (place / "temporary").mkdir(exist_ok=True)
    return str(place / "temporary")


def left(place):
    """What processes that ended have left there."""
    return list((place / "temporary").glob("kdx-*"))


LONG = [*TEACHER[:3], *STUDENT, "student_train.steps=100000", "device.checkpoint_seconds=0.2"]


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_run_goes_on_with_another_number(place):
    words = [*LONG, "recipe=supervised", "loss=supervised", "store=killed"]
    begun = run([*words, "device.gpus=2"], TMPDIR=temporary(place))
    (other,) = beside(begun)
    while not list(Path("killed").glob("train/*.partial/checkpoint.pt")):
        assert begun.poll() is None, begun.communicate()[0]
        time.sleep(0.1)
    os.kill(other, signal.SIGKILL)
    said = begun.communicate(timeout=120)[0]
    assert begun.returncode == 1
    assert "process 2 of 2 was killed by signal 9; baseline-train stopped with it" in said
    assert left(place) == []
    again = run([*words, "device.gpus=3"], TMPDIR=temporary(place))
    for line in again.stdout:
        if "goes on from step" in line:
            break
    else:
        raise AssertionError("it began anew")
    others = beside(again)
    assert len(others) == 2
    again.kill()  # those beside it end too, as nobody is left whom they could follow
    again.wait()
    for _ in range(300):
        if not any(Path(f"/proc/{number}/cmdline").exists() for number in others):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("they go on")
    assert left(place) == []


@pytest.mark.slow
def test_a_process_that_hangs_ends_all_and_the_run_goes_on(place):
    words = [*LONG, "recipe=supervised", "loss=supervised", "store=hung", "device.gpus=3"]
    begun = run([*words, "device.wait_seconds=3"], TMPDIR=temporary(place))
    others = beside(begun)
    while not list(Path("hung").glob("train/*.partial/checkpoint.pt")):
        assert begun.poll() is None, begun.communicate()[0]
        time.sleep(0.1)
    numbers = {n: Path(f"/proc/{n}/environ").read_bytes().split(b"KDX_TEAM_NUMBER=")[1][:1] for n in others}
    (third,) = [n for n, number in numbers.items() if number == b"2"]
    os.kill(third, signal.SIGSTOP)
    said = begun.communicate(timeout=120)[0]
    assert begun.returncode == 1
    assert "process 3 of 3 does not answer: the others have waited for device.wait_seconds=3; " in said
    assert "baseline-train stopped with it: run the same command to go on" in said
    assert not any(Path(f"/proc/{n}/cmdline").exists() for n in others) and left(place) == []
    again = run([*words[:-1], "device.gpus=1"])
    found = any("goes on from step" in line for line in again.stdout)
    again.kill()
    again.wait()
    assert found


@pytest.mark.slow
def test_torchrun_starts_one_run(place):
    words = ["recipe=supervised", "loss=supervised", *TEACHER[:3], *STUDENT, "store=launched"]
    found = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "kdx", "train"),
            *SMALL,
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("run folder:") == 1
    (made,) = Path("launched").glob("train/*/manifest.json")
    assert json.loads(made.read_text())["made"]["processes"] == 2


@pytest.mark.slow
def test_a_network_with_batch_normalisation_is_told_what_it_takes(place, capfd):
    words = ["recipe=supervised", "loss=supervised", *TEACHER[:3], "student.batch_norm=true"]
    assert main(["train", *SMALL, *words, "store=normalised", "device.gpus=2"]) == 0
    assert "statistics over the rows of one process, 32 of 64" in capfd.readouterr().err
    words += ["store=synced", "device.gpus=2", "device.sync_batch_norm=true"]
    assert main(["train", *SMALL, *words]) == 1
    assert "SyncBatchNorm, which needs CUDA" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pycocotools") is None, reason="pip install 'kdx[detection]'")
def test_detectors_are_measured_by_one_process(place):
    """The meter's own way to gather from all would wait for processes that measure nothing."""
    sizes = [f"dataset.{part}={rows}" for part, rows in dict(labelled=40, unlabelled=60, test=40).items()]
    words = ["dataset=shapes_detect", *sizes, "dataset.validation=20", "teacher_pretrain.steps=4"]
    begun = run([*words, "student_train.steps=4", "baseline=false", "store=boxes", "device.gpus=2"])
    said = begun.communicate(timeout=300)[0]
    assert begun.returncode == 0, said


def test_a_process_that_does_not_begin_is_not_waited_for(place, capfd, monkeypatch):
    team.dismiss(well=True)
    monkeypatch.setattr(team.sys, "executable", "/bin/false")
    assert main(["train", *SMALL, *TEACHER, *STUDENT, "store=unbegun", "device.gpus=2"]) == 1
    assert "process 2 of 2 ended with code 1; not all of the processes" in capfd.readouterr().err


def test_networks_that_act_are_trained_by_one_process(place, capsys):
    assert main(["train", "dataset=control", "device=cpu", "device.gpus=2"]) == 2
    assert "several processes cannot share out: set device.gpus=1" in capsys.readouterr().err


def test_a_number_beside_that_of_torchrun_is_refused(place, capsys, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(team, "begin_launched", lambda: None)
    assert main(["train", "device.gpus=2"]) == 2
    assert "device.gpus=2, and torchrun started 4 processes" in capsys.readouterr().err
    assert main(["train", "-m", "seed=0,1", "launcher=joblib"]) == 2
    assert "leave one of them out" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:  # of what does not train, the others do nothing
        main(["list", "loss"])
    assert ended.value.code == 0
