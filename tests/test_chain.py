"""The recipe `chain`: teacher -> assistant -> student."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kdx.cli import main
from kdx.config import compose
from kdx.config.suggestions import networks_for, such_as
from kdx.config.wire import wire
from kdx.planning.dry_run import forecast

SHORT = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp",
    "student=mlp_small",
    "teacher_pretrain.steps=6",
    "student_train.steps=5",
]


def train(*words):
    before = set(Path("outputs/runs").glob("*"))
    assert main(["train", *SHORT, *words]) == 0
    (made,) = set(Path("outputs/runs").glob("*")) - before
    return json.loads((made / "run.json").read_text())


def manifest(run, name):
    entry = next(s for s in run["stages"] if s["name"] == name)
    stage = "pseudo-label" if name.startswith("pseudo") else "train"
    return json.loads(Path("outputs/store", stage, entry["key"], "manifest.json").read_text())


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_each_network_is_taught_by_the_one_above_it(place, capsys):
    run = train("recipe=chain", "assistants=[cnn_small,cnn_tiny]")
    keys = {s["name"]: s["key"] for s in run["stages"]}
    teachers = [manifest(run, f"pseudo-label-{n}")["inputs"]["teachers"] for n in (1, 2, 3)]
    assert teachers == [
        [{"artifact": f"teacher-pretrain/{keys['teacher-pretrain']}"}],
        [{"artifact": f"train/{keys['student-train-1']}"}],
        [{"artifact": f"train/{keys['student-train-2']}"}],
    ]
    models = [manifest(run, f"student-train-{n}")["inputs"]["model"]["component"] for n in (1, 2, 3)]
    assert [m["_target_"].rpartition(".")[2] for m in models] == ["cnn", "cnn", "mlp"] and models[0][
        "widths"
    ] != models[1]["widths"]
    assert keys["student-train"] == keys["student-train-3"] == run["results"]["round_chosen"]
    assert [r["model"] for r in run["results"]["rounds"]] == ["cnn_small", "cnn_tiny", "mlp_small"]
    assert "1 cnn_small" in capsys.readouterr().out


@pytest.mark.slow
def test_an_assistant_like_the_student_is_a_second_round(place):
    """The limit: one assistant that is the student itself gives what two rounds of `distil` give."""
    chain = train("recipe=chain", "assistants=[mlp_small]")
    rounds = train("rounds=2")
    assert [r["key"] for r in chain["results"]["rounds"]] == [r["key"] for r in rounds["results"]["rounds"]]
    assert all(s["cached"] for s in rounds["stages"] if s["name"] not in ("evaluate", "audit"))


def test_the_students_checkpoint_is_not_the_assistants(place, tmp_path):
    torch.save({"w": torch.ones(1)}, "w.pt")
    steps, _ = forecast(
        wire(
            compose.check_words([*SHORT, "recipe=chain", "assistants=[cnn_small]", "student.checkpoint=w.pt"])
        ),
        tmp_path,
        {},
    )
    given = {step.name: step.inputs["checkpoint"] for step in steps if "checkpoint" in step.inputs}
    assert {
        name: [str(path) for path in source.paths] for name, source in given.items() if source
    } == dict.fromkeys(("student-train-2", "student-train", "baseline-train"), ["w.pt"])


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ([], "mlp_small"),
        (["student=mlp_small", "teacher=mlp"], "mlp"),
        (["student=mlp_small", "teachers=[sklearn,mlp]"], "mlp"),
    ],
)
def test_an_assistant_is_suggested_that_reads_the_rows(place, capsys, chosen, named):
    words = ["device=cpu", "dataset=wine", "recipe=chain", *chosen]
    assert main(["train", *words]) == 2
    assert capsys.readouterr().err == (
        "recipe=chain teaches by way of assistants, and none is named: assistants=[" + named + "], say\n"
    )
    assert main(["train", *words, "assistants=[cnn_tiny]"]) == 2
    assert capsys.readouterr().err == (
        "the assistant cnn_tiny reads pictures, and this data set holds rows of tables: choose one that "
        "reads rows of tables, such as assistants=[mlp]\n"
    )


def test_suggested_networks_read_such_rows_and_are_trained():
    assert networks_for("texts") == ["bag", "encoder_small", "static", "text_cnn"]
    assert networks_for("texts", ["bag"])[0] == "encoder_small"
    assert networks_for("questions") == ["span_cnn", "span_encoder"]
    assert networks_for("pictures")[0] == "cnn_small" and "sklearn" not in networks_for("pictures")
    assert networks_for("points") == [] and such_as("student", "points") == "one that reads points"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["recipe=chain"], "none is named: assistants=[cnn_small], say"),
        (["assistants=[cnn_small]"], "recipe=chain: say that too"),
        (
            ["recipe=chain", "assistants=[cnn_smal]"],
            "assistants has no model 'cnn_smal'; did you mean 'cnn_small'?",
        ),
        (["recipe=chain", "assistants=cnn_small"], "assistants must name models"),
        (
            ["recipe=chain", "assistants=[cnn_small]", "rounds=3"],
            "leave select=, rounds= and init= out",
        ),
        (
            ["recipe=chain", "assistants=[cnn_small]", "select=threshold"],
            "leave select=, rounds= and init= out",
        ),
        (
            ["recipe=chain", "assistants=[cnn_small]", "loss=supervised", "recipe=chain"],
            "choose a loss such as kd",
        ),
    ],
)
def test_what_does_not_go_together_is_reported(place, capsys, words, says):
    assert main(["train", *SHORT, *words]) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said and len(said.splitlines()) == 1
