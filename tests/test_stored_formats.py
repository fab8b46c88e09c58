"""Runs whose stage pseudo-label keeps a part of each answer: what it writes, that a stop changes nothing,
that another teacher's answers are found out, and what is refused or said before work.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stops import stopped_at

from kdx.cli import main
from kdx.commands._check import check_runs
from kdx.core.errors import UserError
from kdx.pipeline.stages import answering, learn, settled
from kdx.store.artifact import Artifact

SHORT = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp",
    "student=mlp_small",
    "teacher_pretrain.steps=40",
    "student_train.steps=12",
    "dataset.unlabelled=60",
    "dataset.validation=40",
    "dataset.test=80",
    "baseline=false",
    "stages=[teacher_pretrain,pseudo_label]",
    "loss.temperature=1",
]
WHOLE = ["stages=[teacher_pretrain,pseudo_label,student_train]"]
DRAWS = ["pseudo_label.format=sampled"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A folder with a trained teacher, whose answers were never asked for."""
    place = tmp_path_factory.mktemp("formats")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", *SHORT, "stages=[teacher_pretrain]", "hydra.run.dir=first"]) == 0
    return place


@pytest.fixture
def place(taught, tmp_path, monkeypatch):
    shutil.copytree(taught / "outputs", tmp_path / "outputs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*words, to="run", code=0):
    assert main(["train", *SHORT, f"hydra.run.dir={to}", *words]) == code
    return json.loads(Path(to, "run.json").read_text())


def refusals(words):
    """All that is wrong with a command, found without work."""
    try:
        check_runs(words, multirun=False)
    except UserError as error:
        return " ".join(str(error).split())
    return ""


def stored():
    (found,) = Path("outputs/store/pseudo-label").glob("*/answers.json")
    return found.parent, json.loads(found.read_text())


def answers_in(folder):
    """The bytes of each file of answers."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix not in (".json", ".jsonl")}


def test_topk(place, capsys):
    run = train("pseudo_label.format=topk", "pseudo_label.k=3", *WHOLE)
    folder, about = stored()
    assert about["format"] == {"name": "topk", "k": 3, "temperature": 1.0}
    assert json.loads((folder / "format.json").read_text()) == about["format"]
    assert about["mass"]["k"] == 3 and 0.3 < about["mass"]["mean"] <= 1 and about["mass"]["places"] == 100
    ids = np.load(folder / "unlabelled.ids.npy")
    assert ids.dtype == np.uint8 and ids.shape[::2] == (60, 3)
    logp, rest = (np.load(folder / f"unlabelled.{name}.npy").astype(float) for name in ("logp", "log_tail"))
    np.testing.assert_allclose(np.exp(logp).sum(-1) + np.exp(rest), 1, atol=2e-3)
    assert (np.diff(logp, axis=-1) <= 0).all(), "the likeliest first"
    truth = np.load(folder / "labelled.true.npy")
    assert np.isfinite(truth).all() and (truth <= 0).all()
    assert np.isnan(np.load(folder / "unlabelled.true.npy")).all(), "nobody knows those of the pool"
    assert np.load(folder / "validation.npy").shape[2:] == (10,), "kept whole, as it is measured"
    assert "3 likeliest have" in capsys.readouterr().out
    assert run["status"] == "finished"


@pytest.mark.slow
def test_a_teacher_whose_answers_have_a_temperature_is_asked_again_with_it(place):
    train("pseudo_label.format=topk", "pseudo_label.k=3", "pseudo_label.temperature=3", *WHOLE)
    assert stored()[1]["temperature"] == 3


@pytest.mark.slow
def test_the_temperature_is_that_of_the_loss(place):
    train("pseudo_label.format=topk", "pseudo_label.k=3", "loss.temperature=4", *WHOLE)
    folder, about = stored()
    assert about["format"]["temperature"] == 4
    rest = np.exp(np.load(folder / "labelled.log_tail.npy").astype(float))
    assert rest.mean() > 0.05, "softened, more lies outside the likeliest"


@pytest.mark.slow
def test_a_stop_and_another_size_of_batch_change_no_byte(place, monkeypatch):
    train(*DRAWS, to="whole")
    folder, _ = stored()
    files = answers_in(folder)
    shutil.rmtree(folder.parent)
    monkeypatch.setattr(settled, "BATCH", 32)
    with stopped_at(9, answering, "pack_answers"):
        assert main(["train", *SHORT, *DRAWS, "hydra.run.dir=stopped"]) != 0
    left = next(folder.parent.glob("*.partial"))
    assert any(left.glob("*.draws.bin"))
    train(*DRAWS, to="again")
    again = answers_in(stored()[0])
    assert again.keys() == files.keys()
    assert [name for name in files if files[name] != again[name]] == []


@pytest.mark.parametrize(
    "form",
    [["pseudo_label.format=topk", "pseudo_label.k=3"], pytest.param(DRAWS, marks=pytest.mark.slow)],
)
def test_answers_of_another_teacher_are_found_out(place, capsys, monkeypatch, form):
    """A training that is given those of another one, which the store itself would not let happen."""
    train(*form, "teacher_pretrain.steps=41", to="other")
    folder, _ = stored()
    other, usual = Artifact("pseudo-label", folder.name, folder), learn.ask_again
    monkeypatch.setattr(
        learn, "ask_again", lambda inputs, *rest: usual(replace(inputs, answers=other), *rest)
    )
    assert main(["train", *SHORT, *form, *WHOLE, "hydra.run.dir=mixed"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"'{Path('outputs/store/pseudo-label') / folder.name}' are not those of this teacher" in said
    assert "asked again about the first 8 rows of" in said and "remove that folder" in said


@pytest.mark.parametrize(
    "words, says",
    [
        ("pseudo_label.format=topk loss=soft", "pseudo_label.format=topk keeps a part of each answer"),
        (
            "pseudo_label.format=topk loss.wrong=drop",
            "loss.wrong=drop reads all of it: leave one of them out",
        ),
        ("pseudo_label.format=topk loss.standardise=true", "loss.standardise=true reads all of it"),
        (
            "pseudo_label.format=topk loss=divergence loss.temperature=[8,1]",
            "pseudo_label.format=topk keeps answers at one temperature, and loss.temperature=[8, 1] moves",
        ),
        ("pseudo_label.format=topk pseudo_label.k=11", "pseudo_label.k=11 are more than the 10"),
        ("pseudo_label.format=half", "pseudo_label.format has no option 'half'"),
        (
            "pseudo_label.format=sampled pseudo_label.draws=256",
            "pseudo_label.draws must be at least 1",
        ),
        (
            "pseudo_label.format=sampled loss=divergence loss.kind=reverse",
            "loss.kind=reverse needs more: set pseudo_label.format=topk",
        ),
        ("dataset=diabetes pseudo_label.format=topk", "keeps a part of distributions over classes or tokens"),
        ("dataset=diabetes loss=divergence", "loss=divergence compares distributions over classes or tokens"),
        ("loss=divergence loss.rest=both", "then learns nothing"),
        ("pseudo_label.k=3", "pseudo_label.k=3 can never act: it is of pseudo_label.format=topk"),
        (
            "pseudo_label.format=topk pseudo_label.draws=9",
            "pseudo_label.draws=9 can never act: it is of pseudo_label.format=sampled",
        ),
        ("pseudo_label.format=topk pseudo_label.mode=live", "pseudo_label.format=topk can never act"),
        (
            "loss=divergence loss.rest=truncated",
            "loss.rest=truncated can never act: it says what is done with what is not among the k",
        ),
    ],
)
def test_refused_before_work(words, says):
    assert says in refusals(["device=cpu", *words.split()])


@pytest.mark.slow
def test_a_plan_says_what_an_answer_takes(place, capsys):
    words = ["stages=[teacher_pretrain,pseudo_label]"]
    assert main(["plan", *SHORT, "pseudo_label.format=topk", "pseudo_label.k=3", *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the 3 likeliest of 10: at most 15 bytes each" in said
    assert main(["plan", *SHORT, *DRAWS, *words]) == 0
    assert "50 draws of 10: at most 25 bytes each" in " ".join(capsys.readouterr().out.split())


def test_a_plan_of_more_tokens_than_a_byte_counts(tmp_path, monkeypatch, capsys):
    """Their ids take 16 bits."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the cat sat on the mat and the dog ran " * 60)
    words = ["dataset=corpus", "dataset.root=text.txt", "dataset.length=8", "device=cpu", "device.threads=1"]
    words += [f"{who}.{key}" for who in ("teacher", "student") for key in ("width=8", "depth=1", "heads=2")]
    words += ["teacher=gpt_tiny", "student=gpt_tiny", "dataset.tokens=bpe", "dataset.vocabulary=270"]
    words += ["dataset.validation_share=0.1", "dataset.test_share=0.1", "baseline=false"]
    words += ["student_train.steps=4", "teacher_pretrain.steps=4", "pseudo_label.format=topk"]
    assert main(["plan", *words]) == 0
    assert "the 8 likeliest of 2" in capsys.readouterr().out


@pytest.mark.slow
def test_a_cold_student_is_warned_of(place, capsys):
    more = ["loss=divergence", "loss.kind=reverse", "student_train.steps=2", *WHOLE]
    run = train(*more)
    assert any("begin with a trained student" in text for text in run["warnings"])
