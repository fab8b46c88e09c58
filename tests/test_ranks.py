"""Several processes that train one network make the steps that one process makes."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from kdx.cli import main
from kdx.config.options import options_of
from kdx.training import team

CHEAP = {"kd", "codistill"}
SMALL = [
    "device=cpu",
    "device.threads=2",
    "teacher=cnn_tiny",
    "student=cnn_tiny",
    "teacher.batch_norm=false",
    "student.batch_norm=false",
    "teacher_pretrain.steps=20",
    "student_train.steps=10",
    "student_train.optimiser=sgd",
    "baseline=false",
]
APART = 1e-5


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
        pytest.param([f"loss={loss}"], marks=() if loss in CHEAP else pytest.mark.slow, id=loss)
        for loss in options_of("loss")
        if loss != "pseudo_boxes"
    ]
    + [
        pytest.param(["loss=kd", f"loss.features={name}"], marks=pytest.mark.slow, id=f"features {name}")
        for name in options_of("features")
        if name != "none"
    ]
    + [
        pytest.param(["loss=soft", f"loss.weights={name}"], marks=pytest.mark.slow, id=f"weights {name}")
        for name in options_of("weights")
    ]
    + [pytest.param(["student_train.batch_size=63"], id="a batch that cannot be shared out evenly")],
)
def test_two_processes_make_the_step_of_one(words, capsys):
    assert apart(words) < APART
