"""Sequence-level distillation (`pseudo_label.format=text`): a student learns from rows that its teacher went
on with."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.pipeline.stages.arrays import read_inputs
from kdx.store.artifact import Artifact
from kdx.tasks.classification import Classification
from kdx.tasks.language import NextToken

RUN = ["dataset=corpus", "dataset.root=text.txt", "dataset.length=8", "device=cpu", "device.threads=1"]
RUN += ["dataset.validation_share=0.1", "dataset.test_share=0.1", "teacher=gpt_tiny", "student=gpt_tiny"]
RUN += ["teacher.width=16", "student.width=8", "teacher.depth=1", "student.depth=1", "baseline=false"]
RUN += ["teacher.heads=2", "student.heads=2", "loss=token_kd", "teacher_pretrain.steps=80"]
RUN += ["student_train.steps=30", "store=store", "dataset.tokens=bpe", "dataset.vocabulary=270"]
SEVERAL = [word for word in RUN if not word.startswith("teacher")] + ["teachers=[gpt_tiny,gpt_small]"]
TEXT = ["loss.alpha=0", "pseudo_label.format=text", "pseudo_label.prompt=3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, before, draw = tmp_path_factory.mktemp("sequence"), Path.cwd(), random.Random(0)
    os.chdir(folder)
    Path("text.txt").write_text(" ".join(draw.choice("the a cat dog sat".split()) for _ in range(900)))
    yield folder
    os.chdir(before)


def artifact(run, name, kind):
    key = next(stage["key"] for stage in run["stages"] if stage["name"] == name)
    return Artifact(kind, key, Path("store", kind, key))


@pytest.mark.slow
def test_the_student_learns_what_the_teacher_has_written(place):
    assert main(["train", *RUN, *TEXT, "hydra.run.dir=runs/a"]) == 0
    run = json.loads(Path("runs/a/run.json").read_text())
    data, written = artifact(run, "prepare", "prepare"), artifact(run, "rollout", "rollout")
    before, rows = (np.asarray(read_inputs(one, "labelled")[:]) for one in (data, written))
    assert (rows[:, :3] == before[:, :3]).all() and (rows != before).any(1).mean() > 0.5
    assert 0 <= rows.min() and rows.max() < data.json("data.json")["task"]["vocabulary"]
    token, sizes = (np.load(written.file(f"labelled.truth.{name}.npy")) for name in ("token", "bytes"))
    assert (token[:, :-1] == rows[:, 1:]).all() and (token[:, -1] == -1).all()
    known, old = (np.load(data.file(f"labelled.truth.{name}.npy")) for name in ("token", "bytes"))
    meant = dict(zip(known.ravel().tolist(), old.ravel().tolist(), strict=True))
    assert [meant.get(one, 0) for one in token[:, :-1].ravel().tolist()] == sizes[:, :-1].ravel().tolist()
    made = artifact(run, "student-train", "train").manifest["inputs"]
    assert made["data"] == {"artifact": f"rollout/{written.key}"} and "answers" not in made
    assert made["loss"]["component"]["_target_"].endswith(".Supervised")
    answers = artifact(run, "pseudo-label", "pseudo-label")
    assert set(answers.json("answers.json")["splits"]) == {"validation"}
    assert run["gate"]["gain"] is not None


@pytest.mark.slow
def test_a_pool_is_looked_at_without_answers(place):
    """None belongs to its rows, which the teacher has written anew: the audit tells the student's alone. It
    is foreseen too, on a store that has all but the text."""
    words = [*RUN, *TEXT, "dataset.labelled=50"]
    assert main(["train", *words, "hydra.run.dir=runs/pool"]) == 0
    (found,) = json.loads(Path("runs/pool/run.json").read_text())["audit"]["rounds"]
    assert found["student_metrics"]["bits"] > 0 and "metrics" not in found and found["worst"] == []
    assert main(["plan", *words, "pseudo_label.prompt=1"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("more", ["loss.features=[rkd]", "loss.features=[crd]", "select=k_center budget=10"])
def test_features_of_a_decoder_with_a_last_layer_of_its_own(place, more):
    words = [*RUN, "dataset.labelled=50", "student.tied=false", "teacher.tied=false", *more.split()]
    assert main(["train", *words]) == 0


def test_what_does_not_go_with_it_is_refused(place, capsys):
    for words, said in (
        ([*RUN, "pseudo_label.format=text"], "set loss.alpha=0, of a loss"),
        ([*RUN, *TEXT, "rounds=2"], "leave recipe=, rounds=, select="),
        ([*RUN, *TEXT, "recipe=on_policy"], "leave recipe=, rounds=, select="),
        ([*SEVERAL, *TEXT], "choose one of the 2 teachers"),
        ([*RUN, *TEXT[:2], "pseudo_label.prompt=8"], "pseudo_label.prompt=8 keeps all 8 tokens"),
        ([*RUN, *TEXT, "pseudo_label.drawn_at=0"], "pseudo_label.drawn_at must be greater than 0"),
        ([*RUN, "pseudo_label.prompt=3"], "pseudo_label.prompt=3 can never act"),
        (
            ["loss.alpha=0", "pseudo_label.format=text"],
            "and teacher=cnn does not: choose",
        ),
    ):
        assert main(["train", *words]) != 0, words
        assert said in capsys.readouterr().err.replace("\n", " "), words


def test_the_truth_within_rows():
    task = NextToken(vocabulary=6, length=3)
    like = {"token": np.array([[4, 2, -1]], np.int32), "bytes": np.array([[3, 1, 9]], np.int32)}
    found = task.truth_within(np.array([[0, 4, 2], [1, 1, 4]], np.int32), like)
    assert found["token"].tolist() == [[4, 2, -1], [1, 4, -1]]
    assert found["bytes"].tolist() == [[3, 1, 0], [0, 3, 0]]
    assert {name: leaf.dtype for name, leaf in found.items()} == {"token": np.int32, "bytes": np.int32}
    with pytest.raises(UserError, match="rows tell no truth of themselves"):
        Classification(classes=["a", "b"]).truth_within(np.zeros((1, 2)), np.zeros(1))
