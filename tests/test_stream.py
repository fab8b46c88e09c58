"""Rows in the order of time, each once: the recipe stream and the data set drift_items."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdx.cli import main
from kdx.data.datasets.drift_items import births, drawn_choices
from kdx.data.order import TimeOrder
from kdx.pipeline.stages.watch import Watch
from kdx.report.run.prequential import chunk_cells
from kdx.store.artifact import Artifact
from kdx.training.length import in_proportion, shares

RUN = ["recipe=stream", "dataset=drift_items", "dataset.rows=500", "dataset.test=100", "recipe.chunks=4"]
RUN += ["recipe.history=1", "teacher_pretrain.steps=10", "device=cpu", "device.threads=1", "store=store"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("stream"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def train(to, *words):
    assert main(["train", *RUN, *words, f"hydra.run.dir=runs/{to}"]) == 0
    return json.loads(Path("runs", to, "run.json").read_text())


def artifact(run, name):
    key = next(stage["key"] for stage in run["stages"] if stage["name"] == name)
    return Artifact("train", key, Path("store/train", key))


@pytest.fixture(scope="module")
def whole(place):
    return train("whole")


def test_later_items_are_new_and_every_item_is_chosen():
    users, chosen = drawn_choices(1000, 12, 4, 8, 0.3, seed=0)
    born = births(1000, 12, 4)
    assert users.shape == (1000, 8) and set(chosen) == set(range(12))
    assert all(np.flatnonzero(chosen == item)[0] >= at for item, at in enumerate(born))
    assert born.tolist()[3:6] == [0, 111, 222] and born.max() < 1000
    assert np.array_equal(chosen, drawn_choices(1000, 12, 4, 8, 0.3, seed=0)[1])


def test_each_is_tested_on_a_chunk_before_it_learns_it(whole):
    found = whole["results"]["prequential"]
    assert (found["chunks"], found["rows"]) == ([3, 4], [100, 100])
    assert found["arms"].keys() == {"teacher", "moving", "student", "baseline"}
    for arm in found["arms"].values():
        assert len(arm["by_chunk"]) == 2 and arm["mean"] == pytest.approx(np.mean(arm["by_chunk"]))
    for role in ("student", "baseline", "moving"):
        assert whole["results"][role]["last"]["test"]["test_then_train"] == found["arms"][role]["mean"]
    header, rows = chunk_cells(whole["results"])
    assert header[1:] == ["all", "3", "4"] and len(rows) == 4
    assert "## Stream" in Path("runs/whole/report.md").read_text()


def test_a_chunk_is_passed_over_once_at_one_rate(whole):
    made = artifact(whole, "student-train-2")
    summary, training = made.json("summary.json"), made.manifest["inputs"]["training"]["component"]
    assert summary["steps"] == 7 and (training["schedule"], training["length"]) == ("constant", "1 epochs")
    going = artifact(whole, "moving-train-2").manifest["inputs"]["training"]["component"]
    assert going["lr"] == pytest.approx(0.3 * training["lr"])


def test_the_teacher_learns_a_chunk_first_and_then_answers_it(whole):
    inputs = artifact(whole, "student-train-3").manifest["inputs"]
    assert [one["artifact"] for one in inputs["teachers"]] == [
        f"train/{artifact(whole, 'moving-train-3').key}"
    ]
    assert inputs["init"]["artifact"] == f"train/{artifact(whole, 'student-train-2').key}"


def test_rows_in_time_come_as_they_stand_each_once_and_never_one_alone():
    order = TimeOrder(10, 4)
    taken = [[part.tolist() for part in order.rows(step)] for step in range(4)]
    assert taken[:3] == [[[0, 1, 2, 3], [0] * 4], [[4, 5, 6, 7], [0] * 4], [[8, 9], [0] * 2]]
    assert taken[3] == [[0, 1, 2, 3], [1] * 4] and order.passed(3) == 1
    assert TimeOrder(9, 4).rows(2)[0].tolist() == [7, 8] and TimeOrder(3, 50).rows(0)[0].tolist() == [0, 1, 2]
    assert order.first(3).tolist() == [0, 1, 2]


def test_a_chunk_is_learned_in_the_order_of_time_and_the_history_is_not(whole):
    chunk = Artifact("session", *_session(whole, "session-2"))
    rows = np.load(chunk.file("labelled.rows.npy"))
    assert chunk.json("data.json")["in_time"] and (np.diff(rows) > 0).all()
    history = Artifact("session", *_session(whole, "session-1"))
    assert "in_time" not in history.json("data.json")
    assert np.load(history.file("labelled.rows.npy")).max() < rows.min()


def _session(run, name):
    key = next(stage["key"] for stage in run["stages"] if stage["name"] == name)
    return key, Path("store/session", key)


class Killed(BaseException):
    """As a kill: nothing is caught on the way."""


@pytest.mark.slow
def test_a_stream_that_is_killed_within_a_chunk_goes_on_to_the_same_weights(whole, monkeypatch, capsys):
    after = Watch.after

    def killed(self, step):
        stop = after(self, step)
        if self.work.name == "student-train-3" and step == 3:
            self.save(step + 1)
        if self.work.name == "student-train-3" and step == 4:
            raise Killed
        return stop

    monkeypatch.setattr(Watch, "after", killed)
    with pytest.raises(Killed):
        train("killed", "store=other")
    monkeypatch.undo()
    run = train("goes_on", "store=other")
    assert "goes on from step 4 of 7" in capsys.readouterr().err
    assert run["results"]["prequential"] == whole["results"]["prequential"]
    for name in ("student-train-3", "student-train"):
        made = [Path(store, "train", artifact(run, name).key) for store in ("store", "other")]
        first, second = (folder.joinpath("last.safetensors").read_bytes() for folder in made)
        assert first == second


@pytest.mark.slow
def test_without_weight_the_student_is_the_student_alone(whole):
    run = train("alone", "loss.alpha=0")
    weights = [
        load_file(artifact(run, f"{role}-train").file("last.safetensors")) for role in ("student", "baseline")
    ]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


@pytest.mark.slow
def test_an_old_teacher_and_one_that_goes_along_may_answer_together(place):
    inputs = artifact(train("both", "recipe.teacher=both"), "student-train-2").manifest["inputs"]
    assert [one["artifact"].split("/")[0] for one in inputs["teachers"]] == ["teacher-pretrain", "train"]
    kept = train("kept", "recipe.teacher=kept")
    assert kept["results"]["prequential"]["arms"].keys() == {"teacher", "student", "baseline"}


@pytest.mark.slow
def test_the_plan_knows_every_stage(whole, capsys):
    assert main(["plan", *RUN, "store=fresh", "json=plan.json"]) == 0
    reported = capsys.readouterr().out
    assert "stream: 4 chunks of rows in order" in reported
    assert "learns from the answers of the network that goes on from it as it trains" in reported
    assert "selection: none, as there are no validation rows; the table shows the last weights" in reported
    assert "the labels only, over the same chunks" in reported
    planned = Path("plan.json").read_text()
    assert all(stage["key"] in planned for stage in whole["stages"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipe.history=3"], "set recipe.history=1 at most"),
        (["recipe.chunks=500"], "a chunk of one teaches nothing"),
        (["loss=supervised", "recipe=stream"], "asks none about labelled rows"),
        (["rounds=2"], "set recipe.teacher"),
        (["teacher=sklearn"], "set recipe.teacher=kept"),
        (["student_train.epochs=3"], "passes over each chunk once"),
        (["recipe.teacher=kept", "recipe.rate=0.5"], "does not go along"),
        (["dataset.first=13"], "first"),
        (["recipe.rate=0"], "recipe.rate"),
        (["student_train.accumulate=2"], "leave student_train.accumulate out"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(place, capsys, words, said):
    assert main(["train", *RUN, *words, "hydra.run.dir=runs/refused"]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told


def test_a_loss_that_needs_a_pool_is_refused_in_one_sentence(place, capsys):
    assert main(["train", *RUN, "loss=hard", "hydra.run.dir=runs/refused"]) == 2
    (one,) = capsys.readouterr().err.splitlines()
    assert "recipe=stream has no pool, and loss=hard needs one: choose another loss, such as kd" in one


# shares of a batch, of streams under any names


def test_a_batch_is_shared_out_among_streams_of_any_names():
    assert shares(64, {"labelled": 100, "unlabelled": 300}, None) == {"labelled": 16, "unlabelled": 48}
    assert shares(64, {"labelled": 700, "memory": 100}, None) == {"labelled": 56, "memory": 8}
    assert shares(64, {"labelled": 700, "memory": 100}, 0.5) == {"labelled": 32, "memory": 32}
    found = shares(64, {"labelled": 600, "source": 300, "target": 100}, 0.5)
    assert found == {"labelled": 32, "source": 24, "target": 8}
    assert shares(10, {"source": 1000, "target": 1}, None) == {"source": 9, "target": 1}
    assert shares(64, {"target": 10}, 0.5) == {"target": 64} and shares(5, {}, None) == {"labelled": 5}
    assert in_proportion(3, {"a": 98, "b": 1, "c": 1}) == {"a": 1, "b": 1, "c": 1}
