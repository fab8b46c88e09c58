"""The slot `init`: what the student's weights begin with."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file

from kdx.cli import main
from kdx.store.moved import without_old_keys
from kdx.store.resolve import allow

OWN = '''
from kdx.core.errors import UserError
from kdx.core.beginning import Initialiser


class Halved(Initialiser):
    """Half of the teacher's first weight, everywhere."""

    def __init__(self, *, width):
        self.width = width

    def check(self, student, teacher):
        if self.width != 8:
            raise UserError("init.width must be 8")

    def __call__(self, student, beginning):
        for one in student.parameters():
            one.fill_(next(beginning.teacher.parameters()).flatten()[0] / 2)
        return [f"{sum(map(len, beginning.splits.values()))} rows were seen"]
'''
SMALL = ["dataset.validation=40", "dataset.test=40", "teacher_pretrain.steps=2", "student_train.steps=1"]
SMALL += ["student_train.lr=1e-30", "student_train.weight_decay=0", "student_train.warmup=0"]
SMALL += ["teacher=mlp_small", "student=mlp_small", "augment=[none]", "store=store", "hydra.run.dir=run"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_init.py").write_text(OWN)
    (tmp_path / "options/init").mkdir(parents=True)
    file = tmp_path / "options/init/halved.yaml"
    file.write_text("# Half of it\n_target_: my_init.Halved\nwidth: 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    allow([])
    sys.modules.pop("my_init", None)


def train(*words: str) -> int:
    return main(["train", "--config-dir", "options", "allow=[my_init]", *SMALL, *words])


def weights(here, stage: str) -> dict[str, torch.Tensor]:
    return load_file(here / "run/artifacts" / stage / "last.safetensors")


@pytest.mark.parametrize("loss", ["kd", "supervised"])
def test_an_initialiser_makes_the_students_weights_and_no_controls(here, loss, capsys):
    """With a teacher's answers and without; at a rate of nothing the weights stay as they were made."""
    assert train("init=halved", f"loss={loss}") == 0
    said = capsys.readouterr()
    assert "student-train: 1717 rows were seen" in said.err
    half = weights(here, "teacher-pretrain")["net.stage1.1.weight"].flatten()[0] / 2
    student, alone = weights(here, "student-train"), weights(here, "baseline-train")
    names = [name for name in student if name.startswith("net.")]
    assert len(names) == 4
    for name in names:
        assert torch.allclose(student[name], half.expand_as(student[name])), name
        assert not torch.allclose(alone[name], student[name]), name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["init=halved", "init.width=7"], "init.width must be 8"),
        (["init=halved", "teacher.members=2"], "and there are 2 of them: choose one teacher"),
        (["init=halved", "teacher=sklearn"], "is fitted at once"),
        (["init=previous"], "init=previous can never act: there is one round"),
        (["student_init=previous"], "init=previous"),
        (["init=halve"], "did you mean 'halved'"),
        (["init=halved", "recipe=chain", "assistants=[mlp_small]"], "init= out"),
    ],
)
def test_what_does_not_go_together_is_said_before_the_run(here, words, says, capsys):
    assert train(*words) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said and not (here / "run").exists(), said


def test_a_checkpoint_beside_it(here, capsys):
    (here / "weights.pt").write_bytes(b"")
    assert train("init=halved", "student.checkpoint=weights.pt") == 2
    assert "both say what the student's weights begin with" in capsys.readouterr().err


def test_configurations_of_before_say_it_by_the_old_key():
    old = {"seed": 0, "student_init": "previous", "choices": {"loss": "kd"}}
    assert without_old_keys(old) == {
        "seed": 0,
        "init": {"_target_": "kdx.methods.init.previous.Previous"},
        "choices": {"loss": "kd", "init": "previous"},
    }
    assert without_old_keys({"student_init": "fresh"}) == {"init": {}}
    assert without_old_keys({"seed": 1}) == {"seed": 1}
