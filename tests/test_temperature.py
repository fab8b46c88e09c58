"""The temperature of a teacher's answers: fitted to known ones, by hand numbers, at its limits, in runs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from kdx.cli import main
from kdx.config import compose
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.types import Batch
from kdx.methods.temperature import COLDEST, Tempered, fit_temperature, mean_loss
from kdx.tasks.classification import Classification
from kdx.tasks.regression import Regression

TASK = Classification(classes=("a", "b", "c"))


@pytest.mark.parametrize("known", [0.3, 1.0, 2.5])
def test_a_known_temperature_is_found(known):
    """Truth is drawn from the answers at that temperature: 20,000 rows tell it to some percent."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 3, generator=generator)
    truth = torch.multinomial((logits / known).softmax(1), 1, generator=generator)[:, 0]
    found = fit_temperature(TASK, logits, truth)
    assert found == pytest.approx(known, rel=0.05)
    best = mean_loss(TASK, logits, truth, found)
    assert all(mean_loss(TASK, logits, truth, found * off) > best for off in (0.9, 1.1))


def test_by_hand():
    """One logit above the other by 1, right in 3 rows of 4: sigmoid(1 / T) = 3/4, so T = 1 / ln 3."""
    two = Classification(classes=("a", "b"))
    logits = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    truth = torch.tensor([0, 0, 0, 1])
    assert fit_temperature(two, logits, truth) == pytest.approx(1 / math.log(3), rel=1e-4)
    assert mean_loss(two, logits, truth, 1 / math.log(3)) == pytest.approx(
        0.562335, rel=1e-5
    )  # of 3/4 and 1/4


def test_where_all_is_right_it_is_the_coldest():
    logits = torch.eye(3)
    assert fit_temperature(TASK, logits, torch.arange(3)) == pytest.approx(COLDEST, rel=1e-3)


def test_a_tempered_teacher_divides_its_logits():
    batch = Batch("unlabelled", torch.arange(2), torch.zeros(2, dtype=torch.long), {})
    logits = torch.tensor([[1.0, 2.0, 4.0], [0.0, -1.0, 3.0]])
    assert torch.equal(Tempered(lambda _: logits, 0.5, TASK)(batch), 2 * logits)
    with pytest.raises(UserError, match="pseudo_label.temperature makes answers surer or less sure"):
        Regression(names=("y",), centre=[0.0], scale=[1.0]).tempered(torch.ones(2, 1), 2.0)


# runs

WORDS = [
    "dataset=digits",
    "dataset.labelled=60",
    "dataset.unlabelled=80",
    "augment=none",
    "student_train.steps=4",
    "device=cpu",
    "device.threads=1",
    "teacher=sklearn",
    "teacher.estimator=LogisticRegression",
    "teacher.params.C=0.001",
    "baseline=false",
]


def ran(*words: str) -> tuple[dict, Path]:
    """(run.json, the folder of the answers)"""
    assert main(["train", *WORDS, *words]) == 0
    run = json.loads(Path(next(w for w in words if "run.dir" in w).partition("=")[2], "run.json").read_text())
    (key,) = [stage["key"] for stage in run["stages"] if stage["name"] == "pseudo-label"]
    return run, Path("outputs/store/pseudo-label", key)


@pytest.mark.slow
def test_stored_and_live_answers_have_it_and_the_run_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, plain = ran("hydra.run.dir=plain", "stages=[teacher_pretrain,pseudo_label]")
    assert "temperature" not in json.loads((plain / "answers.json").read_text())
    assert "temperature" not in json.loads((plain / "manifest.json").read_text())["inputs"]
    fitted, folder = ran("pseudo_label.temperature=fitted", "hydra.run.dir=fitted")
    found = json.loads((folder / "answers.json").read_text())["temperature"]
    assert found < 0.9 and fitted["audit"]["rounds"][0]["temperature"] == found
    for split in ("labelled", "unlabelled", "validation"):
        before, after = (np.load(place / f"{split}.npy").astype(float) for place in (plain, folder))
        np.testing.assert_allclose(after, before / found, rtol=2e-3, atol=1e-3)
    (note,) = [line for line in capsys.readouterr().err.splitlines() if "fitted on" in line]
    assert f"validation rows: {found:.3f} (log loss there" in note
    live, _ = ran("pseudo_label.temperature=fitted", "pseudo_label.mode=live", "hydra.run.dir=live")
    losses = [run["results"]["student"]["last"]["validation"]["nll"] for run in (fitted, live)]
    assert losses == pytest.approx([losses[0]] * 2, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pseudo_label.temperature=0"], "pseudo_label.temperature must be"),
        (["pseudo_label.temperature=cold"], "pseudo_label.temperature must be"),
        (["pseudo_label.temperature=fitted", "pseudo_label.passes=4"], "leave one of the two out"),
        (
            ["pseudo_label.temperature=fitted", "dataset.validation=null"],
            "goes by the validation split, and this run has none",
        ),
        (
            ["dataset=diabetes", "pseudo_label.temperature=2"],
            "makes answers surer or less sure, and an answer here is",
        ),
    ],
)
def test_what_cannot_have_one_is_refused(words, says):
    found = []
    try:
        found = inspect(wire(compose.check_words(["dataset=digits", "device=cpu", *words])))
    except UserError as error:
        found = [str(error)]
    assert any(says in text for text in found)
