"""`recipe=data_free`: rows that a teacher makes of noise, and a student that sees no other."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_words import SYNTHETIC
from torch import nn

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.core.inversion import Inversion
from kdx.methods.inversion import invert, norm_layers, statistics_seen, unevenness
from kdx.pipeline.stages.arrays import TRUTH, read_arrays, read_inputs
from kdx.store.artifact import Artifact

WORDS = [
    *SYNTHETIC,
    "dataset.test_rows=40",
    "dataset.labelled=100",
    "dataset.validation=20",
    "teacher=cnn",
    "teacher.widths=[4,8]",
    "student=cnn_tiny",
    "teacher_pretrain.steps=20",
    "student_train.steps=4",
    "student_train.batch_size=16",
    "recipe=data_free",
    "recipe.rows=22",
    "recipe.steps=3",
]


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    return net.eval().requires_grad_(False)


def test_rows_with_the_kept_statistics_have_no_distance():
    net = network()
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    read = net[0](x)
    net[1].running_mean = read.mean((0, 2, 3))
    net[1].running_var = read.var((0, 2, 3), correction=0)
    with statistics_seen(norm_layers(net)) as apart:
        net(x)
        assert apart[0] == pytest.approx(0, abs=1e-5)
        apart.clear()
        net[1].running_mean = net[1].running_mean + torch.tensor([3.0, 4.0, 0.0])
        net(x)
        assert apart[0] == pytest.approx(5, abs=1e-4)
    net(x)
    assert len(apart) == 1  # no hook is left behind


def test_unevenness_by_hand():
    x = torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]])
    # down: 0, 2 -> (0 + 4) / 2; across: 1, 3 -> (1 + 9) / 2
    assert unevenness(x) == pytest.approx(2 + 5)
    x = torch.rand(
        2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    assert torch.autograd.gradcheck(unevenness, x)


def test_rows_become_what_the_network_names_and_its_statistics_come_near():
    net, wanted = network(), torch.tensor([0, 1] * 4)

    def loss(said):
        return nn.functional.cross_entropy(said, wanted, reduction="none")

    def made(steps, batch_norm):
        how = Inversion(steps, 0.1, batch_norm, 0.0)
        return invert(net, loss, (8, 1, 8, 8), how, torch.Generator().manual_seed(0), torch.device("cpu"))

    def distance(x):
        with statistics_seen(norm_layers(net)) as apart:
            net(x)
        return float(apart[0])

    few, many, free = made(1, 1.0), made(60, 1.0), made(60, 0.0)
    assert many.shape == (8, 1, 8, 8) and 0 <= many.min() and many.max() <= 1
    assert (net(many).argmax(1) == wanted).all() and loss(net(many)).mean() < loss(net(few)).mean()
    assert distance(many) < distance(free)
    assert torch.equal(many, made(60, 1.0))


def test_a_network_without_batch_norm_is_refused():
    with pytest.raises(UserError, match="this teacher has none: choose one with such"):
        norm_layers(nn.Sequential(nn.Conv2d(1, 1, 1)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data_free")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.slow
def test_the_student_sees_made_rows_alone(place, capsys):
    assert main([*WORDS, "hydra.run.dir=run"]) == 0
    made = json.loads(Path("run/run.json").read_text())
    keys = {stage["name"]: stage["key"] for stage in made["stages"]}
    data = Artifact("invert", keys["invert"], Path("outputs/store/invert") / keys["invert"])
    about = data.json("data.json")
    assert about["counts"] == {"labelled": 22, "unlabelled": 0, "validation": 20, "test": 0}
    assert sorted(np.bincount(read_arrays(data, f"labelled.{TRUTH}"))) == [5, 5, 6, 6]
    assert read_inputs(data, "labelled").shape == (22, 3, 8, 8)
    manifest = json.loads((Path("outputs/store/train") / keys["student-train"] / "manifest.json").read_text())
    assert keys["invert"] in json.dumps(manifest) and keys["prepare"] not in json.dumps(manifest["inputs"])
    assert set(made["results"]) >= {"teacher", "baseline", "student"} and "audit" not in keys


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=soft"], "recipe=data_free has no pool"),
        (["teachers=[cnn,cnn_small]"], "name one teacher"),
        (["rounds=2"], "recipe=data_free teaches once"),
        (["recipe.steps=0"], "recipe.steps must be at least 1"),
    ],
)
def test_what_cannot_be_is_said_before_work(place, capsys, words, said):
    base = [word for word in WORDS if word.partition("=")[0] not in {w.partition("=")[0] for w in words}]
    base = [word for word in base if not (words[0].startswith("teachers=") and word.startswith("teacher"))]
    assert main([*base, *words]) == 2
    assert said in capsys.readouterr().err


def test_a_teacher_without_batch_norm_is_named(place, capsys):
    for command in ("train", "plan"):
        assert main([command, *WORDS[1:], "teacher.batch_norm=false"]) == 2
        assert "".join(capsys.readouterr()).count("this teacher has none") == 1


def test_a_plan_knows_how_many_rows_are_made(place, capsys):
    assert main(["plan", *WORDS[1:]]) == 0
    assert "22" in capsys.readouterr().out
