"""What bought answers cost, and RAD's game on the pool of a run beside what happened."""

import json
from pathlib import Path

import numpy as np
import pytest

from kdx.cli import main
from kdx.methods.select._game import gain_so_far, worst_gain
from kdx.methods.select.rad import play
from kdx.report.run.bill import bill_of, bill_sentences, in_hours
from kdx.tasks.shown import counting_metric

GAINS = np.array([0.9, 0.8, 0.5, 0.2])
BUYING = [
    "train",
    "device=cpu",
    "device.threads=1",
    "augment=[]",
    "teacher=mlp_small",
    "student=mlp_small",
    "teacher_pretrain.steps=60",
    "student_train.steps=20",
    "dataset.unlabelled=60",
    "dataset.validation=40",
    "dataset.test=50",
    "budget=20",
    "rounds=2",
    "loss=soft",
]


def test_the_adversary_by_hand():
    p, value = play(GAINS, 1)
    assert worst_gain(GAINS, p, 1) == pytest.approx(value) == pytest.approx(0.458599, abs=1e-6)
    # uniform: .225 + .2 + .125 + .05 less the largest
    assert worst_gain(GAINS, np.full(4, 0.25), 1) == pytest.approx(0.375)
    # the two smallest margins for certain, of which the better one is wrong
    assert worst_gain(GAINS, np.array([0.5, 0.5, 0, 0]), 1) == pytest.approx(0.4)
    assert worst_gain(GAINS, np.full(4, 0.25), 4) == 0
    assert gain_so_far(GAINS[:2], np.array([True, False])) == pytest.approx(0.45)
    assert gain_so_far(GAINS[:0], np.zeros(0, bool)) is None


def test_a_bill_by_hand():
    audit = {"rounds": [{"asked": 10}, {"asked": 20}]}
    bill = bill_of(audit, {}, 0.5, 30)
    assert bill == {"answers": 20, "price": 0.5, "cost": 10.0, "seconds": 30, "time": 600}
    counts = counting_metric({})
    told = bill_sentences({"bill": bill}, 0.02, counts)
    assert told == [
        "The bill: 20 answers bought, 10.00 at 0.5 each and 10.0 min of answering at 30 s each, for a gain "
        "of +2.0 points (5.00 for one point)."
    ]
    assert bill_of(audit, {}, None, None) == bill_of(None, {}, 1, 1) == {}
    assert bill_sentences({"bill": bill_of(audit, {}, 1, None)}, None, counts) == [
        "The bill: 20 answers bought, 20.00 at 1 each."
    ]
    assert [in_hours(s) for s in (45, 600, 9000)] == ["45 s", "10.0 min", "2.5 h"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bill")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize(
    "rule", ["rad", *(pytest.param(rule, marks=pytest.mark.slow) for rule in ("margin", "uniform"))]
)
def test_a_run_has_its_bill_and_its_game(place, capsys, rule):
    words = [*BUYING, f"select={rule}", "answer_price=0.1", "answer_seconds=2", f"hydra.run.dir={rule}"]
    assert main(words) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    made = json.loads(Path(rule, "run.json").read_text())
    assert made["results"]["bill"]["cost"] == 2 and "The bill: 20 answers bought, 2.00 at 0.1 each" in told
    games = [entry.get("game") for entry in made["audit"]["rounds"]]
    if rule == "uniform":
        assert games == [None, None]  # it does not look at the student
        return
    assert "RAD's game on this pool" in told and "RAD's game" in Path(rule, "report.md").read_text()
    for rows, game in zip((60, 50), games, strict=True):
        assert game["rows"] == rows and 0 < game["wrong"] < rows
        assert 0 <= game["worst"] <= game["best"] + 1e-9 and 0 <= game["happened"] <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["answer_price=1"], "answer_price is what an answer costs that is bought, and this run buys none"),
        (["select=rad", "answer_price=-1"], "answer_price must be"),
        (["select=rad", "answer_seconds=long"], "answer_seconds must be"),
    ],
)
def test_what_cannot_be_is_said_before_work(place, capsys, words, said):
    assert main(["train", "device=cpu", *words]) == 2
    told = "".join(capsys.readouterr())
    assert said in told and "Traceback" not in told


def test_a_comparison_names_the_bills(place, capsys):
    for rule in ("rad", "margin"):
        if not Path(rule, "run.json").exists():
            pytest.skip("the runs are those of the test above")
    assert main(["compare", "rad", "margin"]) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert told.count("20 answers a run, 2.00 at 0.1 each and 40 s of answering") == 2
