"""Runs that store hidden states of the teacher and its last layer: their student is that of dense answers,
stops and damaged files are found out, and who cannot tell hidden states is refused before work.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stops import stopped_at
from test_stored_formats import refusals

from kdx.cli import main
from kdx.pipeline.stages import answering, learn, settled
from kdx.store.artifact import Artifact

RUN = "dataset=corpus dataset.root=text.txt dataset.length=8 dataset.validation_share=0.1 "
RUN += "dataset.test_share=0.1 device=cpu device.threads=1 store=store loss=divergence baseline=false "
RUN += "teacher=gpt_tiny teacher.width=16 teacher.depth=1 teacher.heads=2 teacher_pretrain.steps=30 "
RUN += "student=llama_tiny student.width=8 student.depth=1 student.heads=2 student.kv_heads=1 "
RUN += "student_train.steps=12 teacher_pretrain.evaluate_every=30 student_train.evaluate_every=12"
HIDDEN = "pseudo_label.format=hidden"


def train(to, *words, code=0):
    assert main(["train", *RUN.split(), f"hydra.run.dir={to}", *words]) == code


def document(to):
    return json.loads(Path(to, "run.json").read_text())


def stored(to, stage="pseudo-label"):
    key = next(one for one in document(to)["stages"] if one["name"] == stage)["key"]
    return Path("store/pseudo-label", key)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A folder with a run by hidden states."""
    place, before, draw = tmp_path_factory.mktemp("hidden"), Path.cwd(), random.Random(0)
    os.chdir(place)
    words = "the a cat dog sat ran on mat log and then it was red big".split()
    Path("text.txt").write_text(" ".join(draw.choice(words) for _ in range(400)))
    train("hidden", HIDDEN)
    os.chdir(before)
    return place


@pytest.fixture
def place(taught, tmp_path, monkeypatch):
    """A copy of it."""
    shutil.copytree(taught, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")


def test_the_student_is_that_of_dense_answers(place):
    train("dense")
    hidden, dense = (document(to)["results"] for to in ("hidden", "dense"))
    for name in ("bits", "kl"):
        ours, theirs = (found["student"]["last"]["test"][name] for found in (hidden, dense))
        assert ours == pytest.approx(theirs, abs=2e-3)
    files = {path.name for path in stored("hidden").iterdir()}
    assert {"head.npy", "labelled.states.npy", "validation.states.npy", "labelled.true.npy"} <= files
    assert "labelled.npy" not in files
    states = np.load(stored("hidden") / "labelled.states.npy")
    assert states.shape[1:] == (1, 8, 16) and states.dtype == np.float16
    head = np.load(stored("hidden") / "head.npy")
    whole = np.load(stored("dense") / "labelled.npy").astype(float)
    logits = states.astype(float) @ head.T
    np.testing.assert_allclose(logits - logits.max(-1, keepdims=True), whole, atol=5e-3)
    about, other = (json.loads((stored(to) / "answers.json").read_text()) for to in ("hidden", "dense"))
    assert about["format"] == {"name": "hidden", "width": 16} and about["data"] == other["data"]
    assert about["mass"]["mean"] == pytest.approx(other["mass"]["mean"], abs=1e-5)
    assert about["validation_score"] == pytest.approx(other["validation_score"], abs=1e-3)


@pytest.mark.parametrize("which", ["head.npy", pytest.param("labelled.states.npy", marks=pytest.mark.slow)])
def test_a_flipped_byte_is_found_out(place, capsys, which):
    path = stored("hidden") / which
    path.chmod(0o644)
    held = bytearray(path.read_bytes())
    held[-3] ^= 0x40
    path.write_bytes(held)
    train("again", HIDDEN, "stages=[teacher_pretrain,pseudo_label]")
    said = " ".join("".join(capsys.readouterr()).split())
    assert "the store is damaged" in said and which in said and "runs again" in said


@pytest.mark.parametrize("which", ["head.npy", pytest.param("labelled.states.npy", marks=pytest.mark.slow)])
def test_those_of_another_teacher_are_found_out(place, capsys, monkeypatch, which):
    """A training that is given those of another one, which the store itself would not let happen."""
    folder, usual = stored("hidden"), learn.ask_again
    shutil.copytree(folder, "other")
    array = np.load(folder / which)
    np.save(Path("other", which), array[::-1])
    wrong = Artifact("pseudo-label", folder.name, Path("other"))
    monkeypatch.setattr(
        learn, "ask_again", lambda inputs, *rest: usual(replace(inputs, answers=wrong), *rest)
    )
    train("mixed", HIDDEN, "student_train.lr=0.01", code=1)
    said = " ".join(capsys.readouterr().err.split())
    assert "'other' are not those of this teacher: asked again about the first 8 rows of 'labelled'" in said
    assert ("its last layer is another" if which == "head.npy" else "a hidden state is") in said


@pytest.mark.slow
def test_a_stop_changes_no_byte(place, monkeypatch):
    folder = stored("hidden")
    files = {path.name: path.read_bytes() for path in folder.glob("*.npy")}
    shutil.rmtree(folder)
    monkeypatch.setattr(settled, "BATCH", 64)
    with stopped_at(3, answering, "pack_answers"):
        assert main(["train", *RUN.split(), HIDDEN, "hydra.run.dir=stopped"]) != 0
    (left,) = folder.parent.glob("*.partial")
    assert (left / "labelled.states.npy").exists() and not (left / "head.npy").exists()
    train("again", HIDDEN)
    assert {path.name: path.read_bytes() for path in stored("again").glob("*.npy")} == files


@pytest.mark.slow
def test_a_later_teacher_may_be_of_another_width(place):
    train("chain", HIDDEN, "recipe=chain", "assistants=[gpt_tiny]", "loss.temperature=[2,1]")
    for name, width in (("pseudo-label-1", 16), ("pseudo-label-2", 32)):
        folder = stored("chain", name)
        assert json.loads((folder / "format.json").read_text())["width"] == width
        assert np.load(folder / "head.npy").shape == (256, width)
        assert np.load(folder / "labelled.states.npy").shape[2:] == (8, width)


@pytest.mark.slow
def test_a_plan_says_what_a_token_takes(place, capsys):
    assert main(["plan", *RUN.split(), HIDDEN, "teacher_pretrain.steps=31"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "16 numbers before the last layer: 36 bytes each, 288 a row, and 16,384 of the layer" in said
    row = next(one for one in said.split("| pseudo-label")[1:] if "numbers before" in one)
    assert "| 169 answers, " in row and "65.1 kB" in row.split("|")[6], "169 rows of 288 bytes, and the layer"


@pytest.mark.parametrize(
    "words, says",
    [
        ("dataset=digits", "reads at each place of a row, and an answer here is one class of several"),
        ("dataset=diabetes", "reads at each place of a row, and an answer here is a number or several"),
        ("dataset=corpus pseudo_label.mode=live", "can never act: no answer is stored"),
        ("dataset=corpus teachers=[gpt_tiny,llama_tiny]", "one teacher reads, and 2 answer together"),
        ("dataset=corpus loss=mse_logits", "keeps a part of each answer, and loss=mse_logits reads all"),
        (
            "dataset=corpus pseudo_label.k=3",
            "pseudo_label.k=3 can never act: it is of pseudo_label.format=topk",
        ),
        ("dataset=corpus loss=divergence loss.rest=truncated", "pseudo_label.format=hidden has no such"),
    ],
)
def test_refused_before_work(tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("a cat sat on the mat. " * 60)
    root = ["dataset.root=text.txt", "dataset.length=8"] if "corpus" in words else []
    assert says in refusals(["device=cpu", HIDDEN, *words.split(), *root])


def test_a_network_that_tells_no_hidden_states_is_refused(tmp_path, monkeypatch, capsys):
    """One that answers next tokens all the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdx.core.hidden_answers.TellsHidden", type("Other", (), {}))
    Path("text.txt").write_text("a cat sat on the mat. " * 60)
    words = ["dataset=corpus", "dataset.root=text.txt", "dataset.length=8", "teacher=gpt_tiny", "device=cpu"]
    assert main(["train", HIDDEN, *words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "teacher=gpt_tiny does not end in one linear layer that tells this: choose a decoder" in said
