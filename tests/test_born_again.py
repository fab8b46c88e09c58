"""Born-again networks: generations that begin anew, and all of them together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=300)
RUN = ["recipe=born_again", "rounds=2", "teacher=mlp_small", "student=mlp_small", "augment=[none]"]
RUN += ["teacher_pretrain.steps=40", "student_train.steps=30", "baseline=false"]
RUN += ["device=cpu", "device.threads=1", "store=store"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("born_again"))
        assert main(["train", *RUN, "hydra.run.dir=run"]) == 0
        made = json.load(open("run/run.json"))
        keys = {stage["name"]: stage["key"] for stage in made["stages"]}
        stages = {"prepare": "prepare", "student-train-1": "train", "student-train-2": "train"}
        artifacts = {
            name: Artifact(stage, keys[name], Path("store", stage, keys[name]).absolute())
            for name, stage in stages.items()
        }
        yield made, artifacts


def test_generations_begin_with_weights_of_their_own(run):
    made, artifacts = run
    seeds = [artifacts[f"student-train-{number}"].manifest["inputs"]["seed"] for number in (1, 2)]
    assert seeds[0] != seeds[1]


def test_together_they_answer_the_mean_of_their_probabilities(run):
    made, artifacts = run
    test = open_split(artifacts["prepare"], "test", CPU)
    rows = next(test.clean(len(test)))
    with torch.no_grad():
        each = [
            open_network(artifacts[f"student-train-{number}"], "last").eval()(rows.views["main"])
            for number in (1, 2)
        ]
    mean = sum(logits.softmax(1) for logits in each) / 2
    right = (mean.argmax(1) == rows.y).float().mean().item()
    found = made["results"]["generations"]
    assert found["last"]["test"]["accuracy"] == pytest.approx(right, abs=1e-6)
    assert found["parameters"] == 2 * made["results"]["student"]["parameters"]
    assert np.isclose(found["steps"], 60)


def test_its_temperature_is_1_and_one_round_is_refused(capsys):
    order = wire(compose.check_words(["recipe=born_again"]))
    assert order.experiment.loss.spec["temperature"] == 1 and order.experiment.rounds == 3
    assert main(["train", *RUN, "rounds=1"]) == 2
    assert "rounds=1 is recipe=distil" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["supervised", "self_distill", "mutual"])
def test_a_loss_without_a_teacher_is_refused(capsys, loss):
    assert main(["train", "recipe=born_again", f"loss={loss}", "device=cpu"]) == 2
    assert f"and loss={loss} learns from no teacher: choose another" in capsys.readouterr().err


def test_the_commands_that_open_weights_know_the_generations(run, capsys, monkeypatch, tmp_path):
    """All of the run measures them too; their export answers as they do together."""
    made, _ = run
    assert made["results"]["generations"]["model"] == "2 x mlp_small"
    assert main(["evaluate", "run", "device=cpu", "json=all.json"]) == 0
    found = json.load(open("all.json"))["results"]
    assert list(found) == ["teacher", "student", "generations"]
    known = made["results"]["generations"]["last"]["test"]["accuracy"]
    assert found["generations"]["accuracy"] == pytest.approx(known, abs=1e-6)
    assert found["generations"]["model"] == "2 x mlp_small"
    assert main(["export", "run", "role=generations", "to=out", "format=state_dict"]) == 0
    card = json.load(open("out/card.json"))
    assert (
        card["model"] == "2 x mlp_small"
        and card["metrics"]["generations"]["parameters"] == card["parameters"]
    )
    capsys.readouterr()
    assert main(["evaluate", "out", "dataset=digits", "device=cpu", "json=one.json", "store=store"]) == 0
    again = json.load(open("one.json"))["results"]["generations"]
    assert again["model"] == "ensemble of 2 mlp"
    assert again["accuracy"] == pytest.approx(known, abs=1e-6)
    assert main(["predict", "run", "role=generations", "data=test", "to=a.csv", "device=cpu"]) == 0
    rows = Path("a.csv").read_text().splitlines()[1:]
    assert len(rows) == found["generations"]["n"] == 500


def test_a_teacher_that_stands_has_not_moved(run, capsys):
    assert main(["evaluate", "run", "role=moved_teacher"]) == 2
    assert "has not moved: teacher.update=ema lets it, say" in capsys.readouterr().err
