"""Rows with several inputs by name, of which each network reads its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kdx import models
from kdx.cli import main
from kdx.core.errors import UserError
from kdx.core.several import kinds_by_name, kinds_in, word_for
from kdx.core.types import Split
from kdx.data.datasets.digits_sums import DigitsSums, sums_of
from kdx.data.paired import Paired
from kdx.data.pictures.rows import Pictures
from kdx.data.tables.rows import Table, TableColumn
from kdx.data.views.augment import Affine
from kdx.data.views.chain import Chain, Views
from kdx.models.adapt import Around
from kdx.pipeline.stages.files import build_adapter
from kdx.store.component import Component
from kdx.tasks.classification import Classification

CNN = {"_target_": "kdx.models.cnn.cnn", "widths": [4], "hidden": 8, "batch_norm": False}
CNN |= {"dropout": 0.0, "stochastic_depth": 0.0}
MLP = {"_target_": "kdx.models.mlp.mlp", "hidden": 8, "dropout": 0.0, "stochastic_depth": 0.0}
TASK = Classification(classes=list("0123456789"))


def built(spec, about):
    adapter = build_adapter({"task": about.task, "adapter": about.adapter})
    return models.build_for(
        Component(spec), task=TASK, example=about.example, reads=about.reads, adapter=adapter
    )


@pytest.fixture(scope="module")
def about():
    return DigitsSums(image_size=16).describe()


def rows(count):
    random = torch.Generator().manual_seed(0)
    return {
        "picture": torch.rand(count, 1, 16, 16, generator=random),
        "sums": 8 * torch.rand(count, 16, generator=random),
    }


def test_a_word_for_rows_with_several_inputs_comes_apart_again():
    kinds = {"sums": "table", "picture": "pictures"}
    assert word_for(kinds) == "pictures+table"
    assert kinds_in("pictures+table") == ("pictures", "table")
    assert kinds_by_name("pictures+table", ["sums", "picture"]) == kinds
    assert kinds_by_name("points", ["mask", "points"]) == {}  # one input, of two arrays


def test_the_sums_of_a_picture_are_those_of_its_rows_and_columns():
    levels = np.zeros((1, 8, 8))
    levels[0, 2, 5], levels[0, 2, 6] = 1, 0.5
    sums = sums_of(levels)[0]
    assert sums[2] == 1.5 and sums[8 + 5] == 1 and sums[8 + 6] == 0.5 and sums.sum() == 3


def test_each_network_reads_its_own_input_and_no_other(about):
    x = rows(3)
    other = {**x, "picture": torch.zeros_like(x["picture"])}
    teacher, student = built(CNN, about).eval(), built({**MLP, "reads": "sums"}, about).eval()
    assert isinstance(teacher, Around) and teacher.input_name == "picture"
    assert student.input_name == "sums"
    assert torch.equal(student(x), student(other))
    assert not torch.equal(teacher(x), teacher(other))


def test_a_network_that_could_read_two_inputs_must_say_which(about):
    with pytest.raises(UserError, match=r"reads=picture or reads=sums"):
        built(MLP, about)
    with pytest.raises(UserError, match="rows here have the inputs picture"):
        built({**MLP, "reads": "picutre"}, about)
    with pytest.raises(UserError, match=r"set .*=fusion"):
        built({**MLP, "reads": ["picture", "sums"]}, about)
    with pytest.raises(UserError, match="holds rows of tables: choose"):
        built({**CNN, "reads": "sums"}, about)


def test_a_fusion_reads_both_and_ends_in_one_linear_layer(about):
    network = built({"_target_": "kdx.models.fusion.Fusion", "networks": [CNN, MLP]}, about).eval()
    x = rows(3)
    assert network(x).shape == (3, 10) and network.head.in_features == 16
    for name in x:
        assert not torch.equal(network(x), network({**x, name: torch.zeros_like(x[name])}))
    features = [member(x) for member in network.members]
    assert [tuple(found.shape) for found in features] == [(3, 8), (3, 8)]
    assert torch.allclose(network.head(torch.cat(features, 1)), network(x))


def test_a_fusion_of_the_wrong_networks_is_refused(about):
    fusion = "kdx.models.fusion.Fusion"
    with pytest.raises(UserError, match="made of 3 networks"):
        built({"_target_": fusion, "networks": [CNN, MLP, MLP]}, about)
    with pytest.raises(UserError, match="made of 1 networks, and reads names 2 inputs"):
        built({"_target_": fusion, "networks": [CNN], "reads": ["picture", "sums"]}, about)
    turned = built({"_target_": fusion, "networks": [MLP, CNN], "reads": ["sums", "picture"]}, about)
    assert [member.input_name for member in turned.members] == ["sums", "picture"]


def test_steps_change_the_input_that_they_read_and_leave_the_others(about):
    stored = {"picture": (255 * rows(4)["picture"]).to(torch.uint8), "sums": rows(4)["sums"]}
    split = Split("labelled", stored, None, {"picture": "pictures", "sums": "table"})
    chain = Chain([("affine", Affine(degrees=20, shift=0.1, scale=0.1))])
    index = torch.arange(4)
    seen, _ = Views(chain, seed=0)(split, index, torch.ones_like(index))
    clean, _ = Views(chain, seed=0)(split, index, torch.zeros_like(index))
    assert torch.equal(seen["sums"], stored["sums"])
    assert not torch.equal(seen["picture"], clean["picture"])


def paired(pictures, sums):
    labels = np.arange(pictures) % 2
    images = np.zeros((pictures, 1, 8, 8), np.uint8)
    table = Table(
        {"train": (np.zeros((sums, 2), np.float32), np.arange(sums) % 2)},
        (TableColumn("a"), TableColumn("b")),
        {"_target_": "kdx.tasks.classification.Classification", "classes": ["x", "y"]},
    )
    pair = {"picture": Pictures(images, labels, ("x", "y")), "sums": table}
    return Paired.of(pair, truth="picture", noun="digit")


def test_inputs_of_different_length_are_refused():
    assert paired(4, 4).reads == "pictures+table"
    with pytest.raises(UserError, match=r"different numbers of rows \(picture 4, sums 5\)"):
        paired(4, 5)


def test_rows_are_left_out_of_all_inputs_together():
    few = paired(4, 4).only({"train": np.array([2, 0])})
    inputs, truth = few.part("train")
    assert len(inputs["picture"]) == len(inputs["sums"]) == 2 and truth.tolist() == [0, 0]
    assert few.part("test") == (None, None)


CPU = ["device=cpu", "device.threads=1", "hydra.run.dir=run"]
STEPS = ["teacher_pretrain.steps=10", "student_train.steps=12", "teacher=cnn_tiny", *CPU]


def ran(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "run/run.json").read_text())


@pytest.mark.parametrize(
    "words",
    [
        ["augment=[affine]", "loss.features=cosine"],
        ["teacher=fusion", "teacher.networks=[cnn_tiny,mlp]", "loss.features=rkd"],
        ["teacher=sklearn", "teacher.reads=sums"],
    ],
)
def test_a_picture_teaches_its_sums_through_the_command_line(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "dataset=digits_sums", *STEPS, *words]) == 0
    run = ran(tmp_path)
    assert run["status"] == "finished" and "student" in run["results"]
    assert (tmp_path / "run/figures/predictions.png").is_file(), "the picture of a pair is what is shown"


@pytest.mark.parametrize(
    "words, said",
    [
        (["student.reads=null"], "student.reads=picture or student.reads=sums"),
        (["student.reads=table"], "rows here have the inputs picture"),
        (["augment=[mixup]"], "mixup mixes pictures"),
        (["teacher=bag"], "reads texts, and this data set holds pictures with rows of tables"),
        (["dataset=digits", "student.reads=sums"], "leave it out"),
        (["dataset=digits", "teacher=fusion"], "reads several inputs of a row"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *([] if words[0].startswith("dataset=") else ["dataset=digits_sums"]), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
