"""How the answers of several teachers become one: `aggregate=`."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks import classification
from test_task_contract import Number

import kdx
from kdx.cli import main
from kdx.config import compose
from kdx.config.options import option_file, options_of, read_option
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.aggregate import Combined, combine_of
from kdx.core.errors import UserError, UserErrors
from kdx.methods.aggregate.best_by_class import BestByClass
from kdx.methods.aggregate.confidence import Confidence
from kdx.methods.aggregate.vote import Vote
from kdx.methods.aggregate.weighted import Weighted
from kdx.models.ensemble import NetworkEnsemble
from kdx.pipeline.stages.aggregating import aggregate_in, build_aggregate
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import open_network
from kdx.planning.dry_run import forecast
from kdx.runs.reading import read_run
from kdx.store.component import Component
from kdx.training.runtime import Runtime

# three members, two rows, three classes
SAID = torch.tensor(
    [
        [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]],
        [[0.4, 0.5, 0.1], [0.2, 0.2, 0.6]],
        [[0.6, 0.3, 0.1], [1 / 3, 1 / 3, 1 / 3]],
    ]
)
OTHERS = [name for name in options_of("aggregate") if name != "mean"]
SHORT = [
    "device=cpu",
    "device.threads=1",
    "student=mlp_small",
    "teacher_pretrain.steps=30",
    "student_train.steps=4",
    "dataset.unlabelled=0",
    "dataset.validation=60",
    "dataset.test=50",
]
TWO = "teachers=[mlp_small,cnn_tiny]"


def shipped(name):
    return Component(read_option(option_file("aggregate", name))).build()


def order(*words):
    return wire(compose.check_words(compose.plus_less([*SHORT, *words])))


def sure(*classes):
    """(N, 3) of who is certain of one class of three for each row."""
    return torch.eye(3, dtype=torch.float64)[list(classes)]


# what each gives


def test_vote_is_the_share_of_first_choices():
    """They are 0, 1, 0 and 1, 2, 0 (of three equal ones the first)."""
    found = Vote(floor=0.03).probs(SAID, None)
    expected = [[0.97 * 2 / 3 + 0.01, 0.97 / 3 + 0.01, 0.01], [1 / 3, 1 / 3, 1 / 3]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_weighted_mixes_by_its_weights():
    found = Weighted(steps=1).probs(SAID, torch.tensor([0.5, 0.25, 0.25]))
    expected = [[0.6, 0.3, 0.1], [0.1 + 1 / 12, 0.35 + 1 / 12, 0.3 + 1 / 12]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_step_of_em_gives_each_member_its_share_of_the_rows():
    """The truth 0 and 1 has .7, .4, .6 and .6, .2, 1/3: shares 7, 4, 6 and 9, 3, 5 of 17."""
    found = Weighted(steps=1).weights(SAID.double(), torch.tensor([0, 1]))
    torch.testing.assert_close(found * 17, torch.tensor([8.0, 3.5, 5.5]).double(), atol=1e-6, rtol=0)


def test_em_ends_where_the_log_loss_is_least():
    """log(.4 + .4 w) + log(.6 - .4 w) is largest at w = 1/4."""
    probs = torch.tensor([[[0.8, 0.2], [0.8, 0.2]], [[0.4, 0.6], [0.4, 0.6]]]).double()
    found = Weighted(steps=200).weights(probs, torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor([0.25, 0.75]).double(), atol=1e-4, rtol=0)
    ruled_out = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]).double()
    assert Weighted(steps=5).weights(ruled_out, torch.tensor([1])).tolist() == [0.5, 0.5]


def test_each_class_is_answered_by_its_best_member():
    weights = torch.eye(3)
    found = BestByClass(by="f1").probs(SAID, weights)
    expected = torch.tensor([[0.7, 0.5, 0.1], [0.1, 0.2, 1 / 3]])
    torch.testing.assert_close(found, expected / expected.sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        # F1: .8, 2/3, 1 of class 0; 2/3, .8, .8 of class 1; 1, 1, 0 of class 2
        ("f1", [[0, 0, 1], [0, 0.5, 0.5], [0.5, 0.5, 0]]),
        # 1, 1/2, 1; 1/2, 1, 1; 1, 1, 0
        ("recall", [[0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0]]),
        # 2/3, 1, 1; 1, 2/3, 2/3; 1, 1, 0
        ("precision", [[0, 0.5, 0.5], [1, 0, 0], [0.5, 0.5, 0]]),
    ],
)
def test_the_best_of_a_class_is_told_by_validation(by, expected):
    truth = torch.tensor([0, 0, 1, 1, 2])
    probs = torch.stack([sure(0, 0, 0, 1, 2), sure(0, 1, 1, 1, 2), sure(0, 0, 1, 1, 1)])
    best = BestByClass(by=by)
    weights = best.weights(probs, truth)
    torch.testing.assert_close(weights.T, torch.tensor(expected).double())
    if by == "f1":
        assert (
            best.in_sentence(weights, ["a", "b", "c"])
            == "members 1 and 2 of c; members 2 and 3 of b; member 3 of a"
        )


def test_a_class_without_validation_rows_is_answered_by_the_mean():
    probs = torch.stack([sure(0, 1), sure(0, 0)])
    weights = BestByClass(by="f1").weights(probs, torch.tensor([0, 1]))
    assert weights[:, 2].tolist() == [0.5, 0.5] and weights[:, 1].tolist() == [1, 0]


def test_the_surer_count_more_row_by_row():
    """1 - H / log 3 are .270153, .141327, .182654 and .182654, .135026, 0."""
    found = Confidence().probs(SAID, None)
    expected = [[0.597896, 0.302104, 0.1], [0.142503, 0.429987, 0.427510]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=4e-6, rtol=0)
    lost = torch.full((2, 1, 3), 1 / 3)
    torch.testing.assert_close(Confidence().probs(lost, None), lost[0])
    known = torch.stack([sure(0), lost[0].double()])
    torch.testing.assert_close(Confidence().probs(known, None), sure(0))


# limits


@pytest.mark.parametrize("name", OTHERS)
def test_equal_members_answer_as_one(name):
    made, truth, task = shipped(name), torch.tensor([0, 1]), classification(3)
    one = SAID[0].log()
    probs = task.probs(one).double().expand(3, -1, -1)
    weights = made.weights(probs, truth) if made.reads_validation else None
    if weights is not None:
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3))
    found = task.probs(Combined(made, task, weights)([one, one, one]))
    if name == "vote":
        assert torch.equal(found.argmax(1), one.argmax(1)) and found.max() > 0.999
    else:
        torch.testing.assert_close(found, task.probs(task.mean([one, one, one])))


@pytest.mark.parametrize("name", ["weighted", "best_by_class"])
def test_a_member_that_has_all_the_weight_answers_alone(name):
    weights = torch.tensor([0.0, 1.0, 0.0])
    weights = weights[:, None].expand(3, 3) if name == "best_by_class" else weights
    torch.testing.assert_close(shipped(name).probs(SAID, weights), SAID[1])


@pytest.mark.parametrize("name", OTHERS)
def test_each_row_adds_up_to_one_and_has_finite_logarithms(name):
    made, task = shipped(name), classification(3)
    several = [torch.tensor([[60.0, 0, -60], [0, 0, 0]]), torch.tensor([[-60.0, 60, 0], [5, 0, 1]])]
    probs = torch.stack([task.probs(one) for one in several])
    weights = made.weights(probs.double(), torch.tensor([0, 1])) if made.reads_validation else None
    answers = Combined(made, task, weights)(several)
    assert answers.isfinite().all()
    torch.testing.assert_close(
        made.probs(probs, None if weights is None else weights.float()).sum(1), torch.ones(2)
    )


def test_without_one_the_task_takes_the_mean():
    task = classification(3)
    several = [one.log() for one in SAID]
    assert torch.equal(combine_of(None, task, None)(several), task.mean(several))
    assert torch.equal(aggregate_in({}, task)(several), task.mean(several))


# what is kept of it


def test_what_was_kept_is_at_work_again_and_checked():
    task, several = classification(3), [one.log() for one in SAID]
    spec = read_option(option_file("aggregate", "weighted"))
    kept = {"aggregate": {"component": spec, "weights": [0.5, 0.25, 0.25]}}
    found = task.probs(aggregate_in(kept, task)(several))
    torch.testing.assert_close(found[0], torch.tensor([0.6, 0.3, 0.1]))
    for wrong in ([0.5, 0.6], [1.5, -0.5], "ab", None, [[0.5, 0.5], [0.5, 0.5]], [float("nan"), 1.0]):
        with pytest.raises(UserError, match="no weights"):
            aggregate_in({"aggregate": {"component": spec, "weights": wrong}}, task)
    with pytest.raises(UserError, match="is no aggregate"):
        build_aggregate({"_target_": "kdx.methods.losses.kd.KD"}, task)


def test_a_task_without_classes_has_the_mean_alone():
    for name in OTHERS:
        with pytest.raises(UserError, match=f"aggregate={name} reads the probabilities of classes"):
            build_aggregate(read_option(option_file("aggregate", name)), Number())


# before work


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("aggregate=vote", "aggregate=vote makes one answer of those of several teachers, and there is one"),
        ("teacher.members=1 aggregate=confidence", "and there is one teacher: name several"),
        (f"{TWO} aggregate=weighted dataset.validation=0", "this run has none: set dataset.validation=0.1"),
        (f"{TWO} aggregate=vote aggregate.floor=1", "aggregate.floor must be"),
        (f"{TWO} aggregate=weighted aggregate.steps=0", "aggregate.steps must be at least 1"),
        (
            f"{TWO} aggregate=best_by_class aggregate.by=accuracy",
            "aggregate.by has no option 'accuracy'; one of: f1",
        ),
        (
            "dataset=diabetes teachers=[mlp,mlp_small] aggregate=vote",
            "aggregate=vote reads the probabilities",
        ),
    ],
)
def test_what_could_not_act_is_refused_before_work(words, why):
    asked = compose.check_words(
        [*SHORT[:5], "student_train.augment=[]", "teacher_pretrain.augment=[]", *words.split()]
    )
    try:
        errors = inspect(wire(asked))
    except UserErrors as found:  # what plain values tell, before the store is asked
        errors = str(found).splitlines()
    assert len(errors) == 1 and why in errors[0]


def test_validation_is_needed_by_those_that_weigh_by_it_alone():
    words = (TWO, "dataset.validation=0")
    for name in OTHERS:
        assert bool(inspect(order(*words, f"aggregate={name}"))) == (name in ("weighted", "best_by_class"))


def test_only_another_one_than_the_mean_enters_a_key(tmp_path):
    for word, expected in (("mean", None), ("vote", "kdx.methods.aggregate.vote.Vote")):
        steps, _ = forecast(order(TWO, f"aggregate={word}", "rounds=2", "store=none"), tmp_path / word, {})
        asked = {step.name: step.inputs.get("aggregate") for step in steps}
        assert (asked["pseudo-label-1"] and asked["pseudo-label-1"].target) == expected
        assert asked["pseudo-label-2"] is None, "the student answers alone"
    steps, _ = forecast(order("store=none"), tmp_path / "one", {})
    assert all("aggregate" not in step.inputs for step in steps)


# a run, end to end


def train(*words, to="run"):
    assert main(["train", *SHORT, TWO, f"hydra.run.dir={to}", *words]) == 0
    return json.loads(Path(to, "run.json").read_text())


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    place = tmp_path_factory.mktemp("aggregate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        train("aggregate=best_by_class")
    return place


def on_the_cpu():
    return Runtime.settle(order().runtime)


def by_hand(run, split):
    """(the members' answers by the weights that the label stage kept, the truth)"""
    networks = [open_network(run.stage(name)) for name in run.members()]
    data, kept = run.stage("prepare"), run.stage("pseudo-label").json("answers.json")["aggregate"]
    rows = open_split(data, split, on_the_cpu())
    with torch.no_grad():
        probs = torch.stack([network(rows.inputs.float() / 255).softmax(1) for network in networks])
    columns = (probs * torch.tensor(kept["weights"])[:, None].float()).sum(0)
    return columns / columns.sum(1, keepdim=True), rows.known, probs


def test_the_table_the_labels_and_commands_agree(ran, monkeypatch, capsys):
    monkeypatch.chdir(ran)
    run = read_run("run")
    document = run.document
    found, truth, each = by_hand(run, "test")
    table = document["results"]["teacher"]
    assert table["last"]["test"]["accuracy"] == (found.argmax(1) == truth).double().mean().item()
    nll = -found[range(len(truth)), truth].log().double().mean().item()
    assert table["last"]["test"]["nll"] == pytest.approx(nll, rel=1e-5)
    mean = -each.mean(0)[range(len(truth)), truth].log().double().mean().item()
    assert abs(nll - mean) > 1e-3, "these rows tell it from the mean"
    kept = run.stage("pseudo-label").json("answers.json")["aggregate"]
    assert table["aggregate"]["last"] == kept and table["aggregate"]["name"] == "best_by_class"
    assert set(np.ravel(kept["weights"])) <= {0, 0.5, 1}

    validation, _, _ = by_hand(run, "validation")
    stored = np.load(run.stage("pseudo-label").file("validation.npy"))[:, 0].astype(np.float32)
    torch.testing.assert_close(torch.from_numpy(stored).softmax(1), validation, atol=2e-3, rtol=0)

    capsys.readouterr()
    assert main(["evaluate", "run", "role=teacher", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    for metric in ("accuracy", "nll"):
        assert measured["results"]["teacher"][metric] == table["last"]["test"][metric]
    words = ["predict", "run", "role=teacher", "data=test", "soft=probabilities", "to=said.csv"]
    assert main(words) == 0
    rows = list(csv.DictReader(Path("said.csv").open()))
    names = [name for name in rows[0] if name.startswith("p:")]
    said = torch.tensor([[float(row[name]) for name in names] for row in rows])
    torch.testing.assert_close(said, found, atol=1e-4, rtol=0)


def test_an_export_answers_together_as_the_table_says(ran, monkeypatch, tmp_path):
    """By the weights that its own model.json keeps, which names no code of others."""
    monkeypatch.chdir(ran)
    found, _, _ = by_hand(read_run("run"), "test")
    to, rows = tmp_path / "both", open_split(read_run("run").stage("prepare"), "test", on_the_cpu())
    assert main(["export", "run", "role=teacher", f"to={to}"]) == 0
    pixels = rows.inputs.float() / 255
    program = torch.export.load(to / "teacher.pt2").module()
    for network in (kdx.load(to), program):
        torch.testing.assert_close(network(pixels).softmax(1), found, atol=1e-5, rtol=0)
    about = json.loads((to / "model.json").read_text())
    about["aggregate"]["component"]["_target_"] = "os.system"
    (to / "model.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="names 'os.system' as its aggregate, which is none of kdx"):
        kdx.load(to)


def test_a_vote_of_two_warns_once_that_it_ties(ran, monkeypatch):
    monkeypatch.chdir(ran)
    run = train("aggregate=vote", "stages=[teacher_pretrain,pseudo_label]", to="vote")
    cached = {stage["name"]: stage["cached"] for stage in run["stages"]}
    assert cached["teacher-pretrain-1"] and not cached["pseudo-label"]
    said = [str(note) for note in run["warnings"] if "the vote is a tie" in str(note)]
    assert len(said) == 1 and "name a third teacher, or choose aggregate=mean" in said[0]
    assert shipped("vote").caution(3) is None and shipped("weighted").caution(2) is None


def test_a_rerun_takes_it_from_the_store(ran, monkeypatch):
    monkeypatch.chdir(ran)
    first = json.loads(Path("run/run.json").read_text())
    again = train("aggregate=best_by_class", to="again")
    assert all(stage["cached"] for stage in again["stages"])
    assert again["results"]["teacher"]["aggregate"] == first["results"]["teacher"]["aggregate"]


def test_a_folder_of_somebody_else_names_no_other_code(ran, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ran)
    document = json.loads(Path("run/run.json").read_text())
    shutil.copytree("run", tmp_path / "theirs", symlinks=True)
    document["results"]["teacher"]["aggregate"]["last"]["component"]["_target_"] = "os.system"
    (tmp_path / "theirs/run.json").write_text(json.dumps(document))
    words = ["predict", str(tmp_path / "theirs"), "role=teacher", "data=test", f"to={tmp_path}/x.csv"]
    assert main(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "names 'os.system' as its aggregate, which is none of kdx" in said
    del document["results"]["teacher"]["aggregate"]
    (tmp_path / "theirs/run.json").write_text(json.dumps(document))
    assert main(words) == 2
    assert "has not measured yet how its teachers answer together" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.slow
def test_a_live_teacher_answers_as_the_stored_one(ran, monkeypatch):
    monkeypatch.chdir(ran)
    found = {
        (name, mode): train(
            f"aggregate={name}", "pseudo_label.view=clean", f"pseudo_label.mode={mode}", to=f"{name}-{mode}"
        )["results"]["student"]["last"]["test"]["nll"]
        for name, mode in (("vote", "stored"), ("vote", "live"), ("mean", "stored"))
    }
    assert found["vote", "live"] == pytest.approx(found["vote", "stored"], abs=1e-4)
    assert abs(found["mean", "stored"] - found["vote", "stored"]) > 1e-3


def test_an_ensemble_answers_by_what_it_is_given():
    class Says(torch.nn.Module):
        def __init__(self, row):
            super().__init__()
            self.row = row

        def forward(self, inputs):
            return self.row.log().expand(len(inputs), -1)

    task = classification(3)
    both = NetworkEnsemble([Says(SAID[k, 0]) for k in range(3)], Combined(Vote(floor=0.03), task))
    expected = Vote(floor=0.03).probs(SAID[:, :1], None)
    torch.testing.assert_close(task.probs(both(torch.zeros(1, 2))), expected)
