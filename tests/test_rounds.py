"""Rounds, bought answers and the audit: which stages run, on what, and that nothing of the pool's truth or of
answers not bought gets in.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tasks import classification
from torch import nn

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import rows_called
from kdx.core.metric import Metric
from kdx.core.types import Batch, Split
from kdx.data.streams import BatchLoader, Makers, Stream
from kdx.data.views.augment import Affine, FlipCrop
from kdx.data.views.chain import Chain, Views
from kdx.pipeline.recipes import steps
from kdx.pipeline.stages import TRAIN
from kdx.pipeline.stages.answers import clean_answers, extras, stored_answers
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.spread import Passes, write_spread
from kdx.report.run.audit import audit_sentences, per_round
from kdx.report.run.rounds import round_cells, round_sentence
from kdx.runs.run import perform
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.manifest import LEFTOVERS, MANIFEST, seal
from kdx.store.store import Store
from kdx.store.work import Listener, Work
from kdx.tasks import pseudo_labels as audit
from kdx.tasks.domain_gap import domain_gap
from kdx.tasks.shown import ACCURACY
from kdx.training.length import by_round, to_buy
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

SHORT = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp",
    "student=mlp_small",
    "teacher_pretrain.steps=60",
    "student_train.steps=12",
    "dataset.unlabelled=150",
    "dataset.test=60",
    "dataset.validation=60",
    "augment=[none]",
]


class Heard(Listener):
    """What a run said."""

    def __init__(self):
        self.cached: dict[str, bool] = {}
        self.notes: list[str] = []

    def started(self, name, key, cached):
        self.cached.setdefault(name, cached)

    def note(self, name, text, level):
        self.notes.append(text)


@dataclass(frozen=True)
class Ran:
    done: dict[str, Artifact]
    cached: dict[str, bool]
    notes: list[str]
    results: dict

    def audit(self) -> dict:
        return self.done["audit"].json("audit.json")

    def array(self, name: str, file: str) -> np.ndarray:
        return np.load(self.done[name].file(file))

    def manifest(self, name: str) -> dict:
        return self.done[name].manifest["inputs"]


def plan(store: Path, *words: str):
    return wire(compose.check_words([*SHORT, f"store={store}", *words]))


def go(store: Path, *words: str) -> Ran:
    """A run without its report."""
    heard = Heard()
    found, done = perform(plan(store, *words), heard)
    return Ran(done, heard.cached, heard.notes, found.json("results.json"))


def same_weights(a: Artifact, b: Artifact) -> bool:
    left, right = (load_file(x.file("last.safetensors")) for x in (a, b))
    return all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("rounds") / "store"


# Rounds of the recipe distil

ROUNDS = ["rounds=3", "select=threshold", "select.threshold=0.12", "pseudo_label.view=clean"]
PREDICTED = {"teacher-predict", "baseline-predict"}
THREE = [
    "decode",
    "prepare",
    "teacher-pretrain",
    "pseudo-label-1",
    "baseline-train",
    "gate",
    "choose-1",
    "student-train-1",
    *(f"{stage}-{n}" for n in (2, 3) for stage in ("pseudo-label", "choose", "student-train")),
    "student-train",
    "audit",
    "teacher-predict",
    "baseline-predict",
    "evaluate",
]


@pytest.fixture(scope="module")
def three(store):
    return go(store, *ROUNDS)


def test_the_student_of_a_round_teaches_the_next(three):
    assert list(three.cached) == THREE
    for number in (2, 3):
        before = f"train/{three.done[f'student-train-{number - 1}'].key}"
        assert three.manifest(f"pseudo-label-{number}")["teachers"] == [{"artifact": before}]
        network = open_network(three.done[f"student-train-{number - 1}"])
        pool = open_split(three.done["prepare"], "unlabelled", Runtime.settle(plan(Path("x")).runtime))
        expected = predict(network, pool, plan(Path("x")).runtime)
        np.testing.assert_allclose(
            np.asarray(clean_answers(three.done[f"pseudo-label-{number}"])[""], np.float32),
            expected,
            rtol=2e-3,
            atol=2e-3,
        )
    assert (
        "init" not in three.manifest("student-train-2") or three.manifest("student-train-2")["init"] is None
    )


def test_the_best_round_on_validation_counts(three):
    by_round = [three.done[f"student-train-{n}"] for n in (1, 2, 3)]
    accuracy = [made.json("summary.json")["validation_score"] for made in by_round]
    assert three.done["student-train"].key == by_round[int(np.argmax(accuracy))].key
    assert [entry["key"] for entry in three.results["rounds"]] == [made.key for made in by_round]
    assert [entry["validation"]["accuracy"] for entry in three.results["rounds"]] == pytest.approx(accuracy)
    assert three.results["student"]["last"]["validation"]["accuracy"] == pytest.approx(max(accuracy))


class Trained:
    """A student with this validation accuracy."""

    def __init__(self, accuracy):
        self.accuracy = accuracy

    def json(self, name):
        return {"summary.json": {"validation_score": self.accuracy}}[name]


@pytest.mark.parametrize(
    "accuracies, best, waited",
    [
        ([0.5], 0, 0),
        ([0.5, 0.7, 0.6], 1, 1),
        ([0.7, 0.6, 0.5], 0, 2),
        ([0.5, 0.5], 0, 1),
        ([0.1, 0.2, 0.2, 0.3], 3, 0),
        ([None, None, None], 2, 0),
    ],
)
def test_best_and_waited_by_hand(accuracies, best, waited):
    tried = [Trained(a) for a in accuracies]
    assert (steps.best_round(tried, ACCURACY), steps.waited(tried, ACCURACY)) == (best, waited)


def test_less_may_be_better():
    """Of a metric of errors; without a validation split later rounds count as better there too."""
    error = Metric("rmse", "RMSE", more=False)
    for scores, best, waited in (([0.5, 0.3, 0.4], 1, 1), ([None, None], 1, 0), ([0.2, 0.2, 0.3], 0, 2)):
        tried = [Trained(score) for score in scores]
        assert (steps.best_round(tried, error), steps.waited(tried, error)) == (best, waited)


def test_patience_ends_the_rounds_and_the_first_of_equals_counts(store):
    """A student that takes no step is as good in each round: the second brings nothing, and there is no
    third.
    """
    found = go(store, *ROUNDS, "round_patience=1", "student_train.lr=1e-12", "baseline=false")
    assert "student-train-2" in found.done and "student-train-3" not in found.done
    assert (
        found.done["student-train"].key
        == found.done["student-train-1"].key
        != found.done["student-train-2"].key
    )
    assert len(found.audit()["rounds"]) == len(found.results["rounds"]) == 2


def test_previous_goes_on_from_the_last_weights(store):
    order = plan(store, *ROUNDS, "init=previous", "rounds=2", "teacher=mlp_small", "baseline=false")
    found = go(store, *ROUNDS, "init=previous", "rounds=2", "teacher=mlp_small", "baseline=false")
    first, second = (found.done[f"student-train-{n}"] for n in (1, 2))
    assert found.manifest("student-train-1")["init"] is None
    assert found.manifest("student-train-2")["init"] == {"artifact": f"train/{first.key}"}
    # Where no step leads anywhere, the student is what it began with.
    still = Component({**order.experiment.student_train.spec, "lr": 1e-12})
    shelf = Store(store, order.runtime, Listener())
    inputs = steps.student_inputs(
        shelf, found.done["prepare"], replace(order.experiment, student_train=still)
    )
    inputs |= {"loss": order.experiment.teacher_loss}
    begun = shelf.run(TRAIN, **inputs, init=second, initialiser=order.experiment.init)
    fresh = shelf.run(TRAIN, **inputs, init=None)
    left, right, other = (load_file(made.file("last.safetensors")) for made in (begun, second, fresh))
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=1e-6)
    assert any((left[name] - other[name]).abs().max() > 1e-3 for name in left)


def test_a_second_run_of_three_rounds_computes_nothing(store, three):
    again = go(store, *ROUNDS)
    assert all(again.cached.values()) and again.results == three.results


def test_another_loss_redoes_the_students_and_what_follows_from_them(store, three):
    again = go(store, *ROUNDS, "loss.temperature=2")
    kept = {"decode", "prepare", "teacher-pretrain", "pseudo-label-1", "choose-1", "baseline-train", "gate"}
    assert {name for name, cached in again.cached.items() if cached} - {"student-train"} == kept | PREDICTED


@pytest.mark.slow
def test_another_threshold_redoes_from_the_choice_on(store, three):
    again = go(store, *ROUNDS, "select.threshold=0.2", "rounds=2")
    kept = {"decode", "prepare", "teacher-pretrain", "pseudo-label-1", "baseline-train", "gate"}
    assert {name for name, cached in again.cached.items() if cached} - {"student-train"} == kept | PREDICTED


def test_without_validation_the_last_round_counts(store):
    found = go(store, *ROUNDS, "rounds=2", "dataset.validation=null", "round_patience=1", "baseline=false")
    assert found.done["student-train"].key == found.done["student-train-2"].key
    assert "no validation split" in round_sentence(found.results)


class Killed(BaseException):
    """No `except Exception` catches it, as none catches a kill."""


class Kill(Listener):
    def progress(self, name, done, total, text):
        if (name, done) == ("student-train-2", 7):
            raise Killed


CUT = [
    "rounds=2",
    "select=threshold",
    "select.threshold=0.1",
    "augment=[affine]",
    "student.dropout=0.1",
    "student_train.evaluate_every=2",
    "device.checkpoint_seconds=0",
    "baseline=false",
]


@pytest.mark.slow
def test_killed_in_round_2_it_goes_on_bit_for_bit(tmp_path):
    """Killed for real: tests/test_crash.py. Here it is reported where."""
    whole = go(tmp_path / "whole", *CUT)
    with pytest.raises(Killed):
        perform(plan(tmp_path / "cut", *CUT), Kill())
    again = go(tmp_path / "cut", *CUT)
    assert "student-train-2 goes on from step 6 of 12" in again.notes
    assert {n for n, cached in again.cached.items() if not cached} - {"student-train"} == {
        "student-train-2",
        "audit",
        "evaluate",
        "teacher-predict",
    }
    assert {n: a.key for n, a in whole.done.items()} == {n: a.key for n, a in again.done.items()}
    left, right = (contents(run, ()) for run in (whole, again))
    assert left.keys() == right.keys() and [name for name in left if left[name] != right[name]] == []


# The recipe active

ACTIVE = ["select=margin", "budget=31", "rounds=3", "loss=soft", "student_train.length=12 steps"]


@pytest.fixture(scope="module")
def bought(store):
    return go(store, *ACTIVE)


@pytest.mark.parametrize(
    "budget, pool, total",
    [(31, 150, 31), (1, 1, 1), (0.1, 997, 100), (0.1, 3, 1), (0.5, 5, 2), (0.999, 1000, 999)],
)
def test_a_budget_is_a_number_or_a_share(budget, pool, total):
    assert to_buy(budget, pool) == total


@pytest.mark.parametrize(
    "total, number, counts", [(31, 3, [10, 10, 11]), (5, 5, [1] * 5), (7, 1, [7]), (500, 5, [100] * 5)]
)
def test_a_budget_is_shared_out(total, number, counts):
    assert by_round(total, number) == counts


def test_the_budget_is_bought_exactly_and_no_row_twice(bought):
    names = [name for name in bought.cached if name.startswith(("choose", "pseudo-label", "student-train"))]
    assert names == [
        "pseudo-label-0",
        "student-train-0",
        *(f"{s}-{n}" for n in (1, 2, 3) for s in ("choose", "pseudo-label", "student-train")),
        "student-train",
    ]
    rows = [bought.array(f"choose-{n}", "rows.npy") for n in (1, 2, 3)]
    assert [len(r) for r in rows] == [10, 20, 31]
    for earlier, later in zip(rows, rows[1:], strict=False):
        assert set(earlier) < set(later)
    assert max(Counter(rows[-1].tolist()).values()) == 1 and rows[-1].max() < 150
    assert [bought.done[f"choose-{n}"].json("chosen.json")["new"] for n in (1, 2, 3)] == [10, 10, 11]
    assert bought.manifest("choose-3")["student"] == {
        "artifact": f"train/{bought.done['student-train-2'].key}"
    }


def test_only_what_is_bought_is_answered(bought):
    """No artifact of the run but the bought answers knows anything of the teacher about the pool."""
    assert set(bought.done["pseudo-label-0"].json("answers.json")["splits"]) == {"validation"}
    assert (
        clean_answers(bought.done["pseudo-label-0"]) is None
        and extras(bought.done["pseudo-label-0"], "cpu") == {}
    )
    teacher = open_network(bought.done["teacher-pretrain"])
    pool = open_split(bought.done["prepare"], "unlabelled", plan(Path("x")).runtime)
    truly = predict(teacher, pool, plan(Path("x")).runtime)
    for number, count in ((1, 10), (2, 20), (3, 31)):
        labels = bought.done[f"pseudo-label-{number}"]
        rows, places = bought.array(f"choose-{number}", "rows.npy"), np.load(labels.file("places.npy"))
        assert np.array_equal(np.flatnonzero(places >= 0), rows) and np.array_equal(
            places[rows], np.arange(count)
        )
        assert (
            np.load(labels.file("unlabelled.npy")).shape == (count, 1, 10)
            and not labels.file("clean.npy").exists()
        )
        assert clean_answers(labels) is None
        stored = stored_answers(labels, "cpu", "clean answers hang on no views", classification(10))
        some = torch.from_numpy(rows).flip(0)[:5]
        # in any view: the answer is that for the clean picture
        asked = Batch("unlabelled", some, torch.full_like(some, 3), {})
        torch.testing.assert_close(stored(asked), truly[some], rtol=2e-3, atol=2e-3)
        missing = torch.from_numpy(np.setdiff1d(np.arange(150), rows)[:1])
        with pytest.raises(IndexError, match="the teacher was not asked"):
            stored(Batch("unlabelled", missing, missing * 0, {}))


def test_the_student_sees_no_row_that_was_not_bought(bought):
    weights = bought.array("student-train-3", "rows.weight.npy")
    assert set(np.flatnonzero(np.isfinite(weights))) <= set(bought.array("choose-3", "rows.npy"))
    assert np.isfinite(weights).any()


def test_the_last_round_counts_and_is_said_to(bought):
    assert bought.done["student-train"].key == bought.done["student-train-3"].key
    reported = bought.results | {"round_chosen": bought.done["student-train"].key, "round_by": "last"}
    header, rows = round_cells(reported)
    assert [row[0] for row in rows] == ["1", "2", "3 (chosen)"] and len(rows[0]) == len(header)
    assert round_sentence(reported).startswith(
        "The last round counts: it has learned from all the answers that were bought"
    )


def test_what_was_bought_is_reported(bought):
    found = bought.audit()["rounds"]
    truth, teacher = bought.array("prepare", "truth.npy"), open_network(bought.done["teacher-pretrain"])
    guess = (
        predict(
            teacher,
            open_split(bought.done["prepare"], "unlabelled", plan(Path("x")).runtime),
            plan(Path("x")).runtime,
        )
        .argmax(1)
        .numpy()
    )
    assert [(e["asked"], e["kept"], e["pool"]) for e in found] == [(n, n, 150) for n in (10, 20, 31)]
    for number, entry in enumerate(found, 1):
        rows = bought.array(f"choose-{number}", "rows.npy")
        assert entry["accuracy"] == pytest.approx((guess == truth)[rows].mean())
        seconds = bought.done[f"pseudo-label-{number}"].manifest["seconds"]
        assert entry["teacher_seconds_saved"] == pytest.approx(
            seconds / (60 + 100 + len(rows)) * (150 - len(rows))
        )
    lines = audit_sentences(bought.audit())
    assert lines[0].startswith("Pseudo-labels of round 3: 31 of 150 rows kept; of their answers ") and lines[
        1
    ].startswith("Answers bought: 31 of 150; about ")
    assert [row[:3] for row in per_round(bought.audit())[1]] == [
        ["1", "10", "10"],
        ["2", "20", "20"],
        ["3", "31", "31"],
    ]


def test_a_larger_budget_does_not_touch_what_came_before(store, bought):
    again = go(store, *ACTIVE, "budget=40")  # 13, 13, 14
    kept = {
        "decode",
        "prepare",
        "teacher-pretrain",
        "pseudo-label-0",
        "student-train-0",
        "baseline-train",
        "gate",
    }
    assert {name for name, cached in again.cached.items() if cached} - {"student-train"} == kept | PREDICTED


BUYING = ["rad", "rad_loss", "uniform", "margin", "entropy", "k_center", "cluster_margin"]


def test_a_rule_that_buys_needs_no_further_word(root):
    from kdx.config.validate import check_recipe, inspect

    names = [
        p.stem for p in (root / "conf/select").glob("*.yaml") if "override /recipe: active" in p.read_text()
    ]
    assert sorted(names) == sorted(BUYING)
    for name in names:
        order = wire(compose.check_words([f"select={name}"]))
        assert (order.experiment.budget, order.experiment.rounds, order.recipe.target) == (
            0.1,
            5,
            "kdx.pipeline.recipes.active.Active",
        )
        check_recipe(order, None, {"labelled": 100, "unlabelled": 997, "validation": 200})
    assert inspect(wire(compose.check_words(["select=rad"]))) == []


@pytest.mark.parametrize(
    "rule", ["rad", *(pytest.param(r, marks=pytest.mark.slow) for r in BUYING if r not in ("rad", "margin"))]
)
def test_every_rule_buys_a_tenth(store, rule):
    found = go(
        store,
        f"select={rule}",
        "student_train.steps=2",
        "baseline=false",
        "stages=[teacher_pretrain,pseudo_label,student_train]",
    )
    assert len(set(found.array("choose-5", "rows.npy").tolist())) == 15
    assert [found.done[f"choose-{n}"].json("chosen.json")["new"] for n in range(1, 6)] == [3] * 5


def test_k_center_begins_away_from_the_labelled_examples(store):
    """The first row bought is the one farthest from all labelled examples, in the features of the first
    student.
    """
    from kdx.pipeline.stages.choose import features

    found = go(store, "select=k_center", "student_train.steps=2", "baseline=false", "budget=2", "rounds=2")
    runtime, inputs = plan(store).runtime, found.done["student-train-0"]
    pool, known = (
        features(runtime, inputs, open_split(found.done["prepare"], name, runtime))
        for name in ("unlabelled", "labelled")
    )
    away = np.sqrt(((pool[:, None].astype(np.float64) - known[None]) ** 2).sum(2)).min(1)
    assert found.array("choose-1", "rows.npy").tolist() == [int(away.argmax())]


# Nobody sees the truth


def shuffled_truth(prepared: Artifact, store: Path) -> None:
    """A store that holds the same prepared data under the same key, but for the pool's truth."""
    there = store / "prepare" / prepared.key
    shutil.copytree(prepared.path, there)
    manifest = prepared.manifest
    truth = np.load(there / "truth.npy")
    np.save(there / "truth.npy", (truth + 1 + np.arange(len(truth)) % 8) % 10)  # each is wrong
    (there / MANIFEST).unlink()
    seal(there, {k: v for k, v in manifest.items() if k != "files"})


def contents(found: Ran, leave: tuple[str, ...]) -> dict[str, bytes]:
    """Every file of every stage but for what tells of the making."""
    return {
        f"{name}/{path.name}": path.read_bytes()
        for name, made in found.done.items()
        if name not in leave
        for path in sorted(made.path.iterdir())
        if path.name not in (MANIFEST, "notes.jsonl", "results.json", *LEFTOVERS)
    }


@pytest.mark.parametrize(
    "words",
    [
        ["select=rad", "budget=20", "rounds=2", "loss=weighted"],
        ["loss=self_training", "select.threshold=0.1", "rounds=2", "loss.weights=debiased"],
        pytest.param(["loss=slam"], marks=pytest.mark.slow),
    ],
    ids=["rad and weighted", "self_training and weighted", "slam"],
)
def test_no_method_looks_at_the_truth_of_the_pool(store, tmp_path, words):
    words = [*words, "student_train.epochs=null", "student_train.steps=12"]
    known = go(store, *words)
    shuffled_truth(known.done["prepare"], tmp_path / "store")
    other = go(tmp_path / "store", *words)
    twice = ("prepare", "student-train", "student-train-0")  # the last is the baseline under another name
    assert other.cached["prepare"] and not any(
        cached for name, cached in other.cached.items() if name not in twice
    )
    assert {n: a.key for n, a in known.done.items()} == {n: a.key for n, a in other.done.items()}
    left, right = (contents(run, ("audit", "prepare")) for run in (known, other))
    assert left.keys() == right.keys() and [name for name in left if left[name] != right[name]] == []
    assert any("rows.weight.npy" in name for name in left)
    accuracies = [run.audit()["rounds"][-1]["accuracy_all"] for run in (known, other)]
    assert accuracies[0] > 0.2 > accuracies[1], "the audit alone knows"
    assert known.audit()["teacher"] == other.audit()["teacher"]


# The audit by hand


def logits(*rows):
    return np.log(np.array(rows))


def test_labels_by_hand():
    """Three classes. Row 3 is left out, row 1 trained on twice."""
    answers = logits((0.72, 0.2, 0.08), (0.1, 0.85, 0.05), (0.24, 0.24, 0.52), (0.03, 0.94, 0.03))
    found = audit.labels(answers, np.array([1, 2, 1, 0]), np.array([0, 1, 0, 1]))
    assert (found["pool"], found["kept"], found["copies"], found["kept_share"]) == (4, 3, 4, 0.75)
    assert found["per_class"] == [1, 2, 1]
    assert found["expected_accuracy"] == pytest.approx((0.72 + 2 * 0.85 + 0.52) / 4)
    assert found["accuracy"] == pytest.approx(3 / 4) and found["accuracy_all"] == pytest.approx(3 / 4)
    assert found["mean_confidence"] == pytest.approx((0.72 + 0.85 + 0.52 + 0.94) / 4)
    assert found["confidence"]["counts"] == [0, 0, 0, 0, 0, 1, 0, 1, 2, 0] and found["confidence"][
        "right"
    ] == [0, 0, 0, 0, 0, 0, 0, 1, 2, 0]
    unknown = audit.labels(answers, np.array([1, 2, 1, 0]), None)
    assert unknown["accuracy"] is unknown["accuracy_all"] is None and "right" not in unknown["confidence"]
    nothing = audit.labels(answers, np.zeros(4, int), np.zeros(4, int))
    assert nothing["kept"] == 0 and nothing["accuracy"] is nothing["expected_accuracy"] is None


def test_histogram_puts_edges_above_and_one_into_the_last_bin():
    found = audit.histogram(
        np.array([0.0, 0.1, 0.35, 0.99, 1.0]),
        np.array([True, False, True, True, False]),
        np.array([1, 1, 3, 1, 1]),
    )
    assert found["counts"] == [1, 1, 0, 3, 0, 0, 0, 0, 0, 2] and found["right"] == [
        1,
        0,
        0,
        3,
        0,
        0,
        0,
        0,
        0,
        1,
    ]
    assert found["edges"] == pytest.approx(np.linspace(0, 1, 11))


def test_changed_and_inherited_by_hand():
    guess, before = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0])
    assert audit.against_last_round(guess, before) == 0.5 and audit.against_last_round(guess, None) is None
    truth, student, kept = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 0]), np.array([True, True, True, True])
    assert audit.inherited(guess, student, kept, truth) == {
        "wrong": 3,
        "repeated": 2,
        "share": pytest.approx(2 / 3),
    }
    assert audit.inherited(guess, student, np.array([True, True, False, True]), truth) == {
        "wrong": 2,
        "repeated": 1,
        "share": 0.5,
    }
    assert audit.inherited(guess, student, kept, guess) == {"wrong": 0, "repeated": 0, "share": None}
    assert audit.inherited(guess, student, kept, None) is None


def test_monitors_are_joined_with_the_truth():
    found = audit.joined_with_truth(
        np.array([0.5, np.nan, 1.0, 0.25, 3.0]), np.array([True, True, True, False, False])
    )
    assert (found["rows"], found["mean"]) == (4, pytest.approx(4.75 / 4))
    assert (found["mean_right"], found["mean_wrong"]) == (pytest.approx(0.75), pytest.approx(1.625))
    assert (
        found["histogram"]["edges"][-1] == 3
        and sum(found["histogram"]["counts"]) == 4
        and sum(found["histogram"]["right"]) == 2
    )
    assert audit.joined_with_truth(np.full(3, np.nan), None) == {"rows": 0, "mean": None}


def test_domain_gap_tells_shifted_features_and_not_equal_ones():
    rng = np.random.default_rng(0)
    labelled, alike = rng.normal(size=(200, 5)), rng.normal(size=(300, 5))
    near, far = domain_gap(labelled, alike, 0), domain_gap(labelled, alike + 4, 0)
    assert near["accuracy"] == pytest.approx(0.5, abs=0.1) and far["accuracy"] > 0.97
    assert far["a_distance"] == pytest.approx(2 * (2 * far["accuracy"] - 1)) and near[
        "standard_error"
    ] == pytest.approx((0.25 / 400) ** 0.5)
    assert domain_gap(labelled[:19], alike, 0) is None
    assert domain_gap(labelled, alike, 0) == near


@pytest.mark.parametrize("rows, pool, width, apart", [(100, 300, 16, 0.3), (23, 31, 70, 0.2), (57, 57, 3, 0)])
def test_domain_gap_is_that_of_a_ridge_classifier(rows, pool, width, apart):
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rng = np.random.default_rng(rows)
    sides = [rng.normal(size=(rows, width)), rng.normal(size=(pool, width)) + apart]
    chosen = np.random.default_rng(7)
    taken = [side[chosen.permutation(len(side))[:rows]] for side in sides]
    x, y = np.concatenate(taken), np.repeat([0, 1], rows)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    found = cross_val_predict(RidgeClassifier(alpha=10.0), x, y, cv=folds)
    assert domain_gap(*sides, 7)["accuracy"] == (found == y).mean()


def test_cautions_by_hand():
    good = {"accuracy": 0.9, "confidence": 0.9, "n": 400}
    assert (
        audit.domain_warnings(good, 0.88, 1000, {"accuracy": 0.6, "standard_error": 0.02})
        == []
        == audit.domain_warnings(None, 0.1, 10, None)
    )
    (reported,) = audit.domain_warnings(good, 0.7, 1000, None)
    assert "less sure of the pool (70% on average) than of validation (90%)" in reported
    assert audit.domain_warnings({**good, "n": 20}, 0.7, 1000, None) == [], "20 rows cannot tell"
    (reported,) = audit.domain_warnings({**good, "accuracy": 0.4}, 0.9, 1000, None)
    assert "right on 40% of validation only" in reported
    apart = {"accuracy": 0.9, "standard_error": 0.02}
    assert (
        "labelled rows of tables and the pool differ"
        in audit.domain_warnings(good, 0.9, 1000, apart, rows_called("table"))[0]
    )
    (reported,) = audit.domain_warnings(good, 0.9, 1000, apart)
    assert "tells them apart 90% of the time" in reported


# Copies of rows

CHAIN = [
    ("flip_crop", FlipCrop(pad=2, mode="zero", flip=0.5)),
    ("affine", Affine(degrees=11.5, shift=0.12, scale=0.1)),
]
COPIES = torch.tensor([3, 5, 5, 5, 11])


def pool_split(n=16):
    return Split(
        "unlabelled",
        torch.randint(0, 256, (n, 1, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    )


def copied(**options):
    return Stream(
        pool_split(),
        Makers(Views(Chain(CHAIN), 0)),
        **{"batch": 4, "seed": 1, "cycle": None, "rows": COPIES, **options},
    )


def test_each_copy_has_an_augmentation_of_its_own():
    """Two passes over [3, 5, 5, 5, 11]: row 5 is seen in views 1 to 6, the others in 1 and 2, and each view
    once.
    """
    stream = copied(batch=5)
    seen = [
        (row, view)
        for step in (0, 1)
        for row, view in zip(
            *(part.tolist() for part in (stream.batch(step).index, stream.batch(step).view)), strict=True
        )
    ]
    assert sorted(seen) == [(3, 1), (3, 2), *((5, view) for view in range(1, 7)), (11, 1), (11, 2)]
    batch, make = stream.batch(0), Views(Chain(CHAIN), 0)
    for i, (row, view) in enumerate(zip(batch.index, batch.view, strict=True)):
        assert torch.equal(batch.views["main"][i], make(pool_split(), row[None], view[None])[0][0])
    of_row_5 = batch.views["main"][batch.index == 5]
    assert len({picture.numpy().tobytes() for picture in of_row_5}) == 3


def test_copies_share_the_views_that_were_stored():
    views = [copied(batch=5, cycle=4).batch(step) for step in (0, 1)]
    assert sorted(v for b in views for v in b.view[b.index == 5].tolist()) == [1, 1, 2, 2, 3, 4]
    assert not copied(batch=5, cycle=0).batch(0).view.any()


@pytest.mark.parametrize("workers", [1, 3])
def test_copies_are_the_same_bytes_for_any_workers_and_order_of_asking(workers):
    streams = {"unlabelled": copied()}
    plain = [copied().batch(step) for step in reversed(range(12))][::-1]
    for start in (0, 7):
        for one, other in zip(
            plain[start:], BatchLoader(streams, start=start, stop=12, workers=workers), strict=True
        ):
            other = other["unlabelled"]
            assert (
                torch.equal(one.index, other.index)
                and torch.equal(one.view, other.view)
                and torch.equal(one.views["main"], other.views["main"])
            )


# Monte-Carlo extras


class Pixels(nn.Module):
    """Logits from pixels, with dropout between."""

    def __init__(self, rate):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(81, 6), nn.ReLU(), nn.Dropout(rate), nn.Linear(6, 3))

    def forward(self, x):
        return self.net(x)


def spread_of(path: Path, rate: float, rows=None, passes=40) -> dict[str, np.ndarray]:
    path.mkdir()
    runtime = plan(Path("x")).runtime
    names = write_spread(
        Work(path, "pseudo-label", Listener()),
        runtime,
        pool_split(),
        Passes(classification(3), [Pixels(rate).eval()], passes, 7, rows),
    )
    return {name: np.load(path / f"extra.{name}.npy") for name in names}


def test_without_dropout_there_is_no_spread(tmp_path):
    found = spread_of(tmp_path / "a", 0.0)
    logits = predict(Pixels(0.0), pool_split(), plan(Path("x")).runtime)
    np.testing.assert_allclose(found["mean"], logits.softmax(1), atol=1e-6)
    np.testing.assert_allclose(found["cool_mean"], (logits / 2).softmax(1), atol=1e-6)
    assert found["std"].max() < 1e-6 and found["cool_std"].max() < 1e-6


def test_with_dropout_there_is_and_the_same_each_time(tmp_path):
    found, again, some = (
        spread_of(tmp_path / "a", 0.5),
        spread_of(tmp_path / "b", 0.5),
        spread_of(tmp_path / "c", 0.5, torch.tensor([2, 9])),
    )
    assert all(np.array_equal(found[name], again[name]) for name in found)
    np.testing.assert_allclose(found["mean"].sum(1), 1, atol=1e-5)
    assert (found["std"] > 0.01).any(1).all() and found["std"].max() <= 0.51
    assert np.array_equal(np.flatnonzero(np.isfinite(some["mean"][:, 0])), [2, 9])
    np.testing.assert_allclose(some["mean"][[2, 9]], found["mean"][[2, 9]], atol=0.25)


def test_extras_reach_the_loss_by_row(store):
    found = go(
        store,
        "loss=ups",
        "student_train.epochs=null",
        "student_train.steps=6",
        "baseline=false",
        "pseudo_label.passes=4",
        "teacher.dropout=0.3",
    )
    labels = found.done["pseudo-label"]
    assert set(extras(labels, "cpu")) == {"mean", "std", "cool_mean", "cool_std"}
    values = np.load(labels.file("extra.std.npy"))
    index = torch.tensor([7, 3])
    assert np.array_equal(
        extras(labels, "cpu")["std"](Batch("unlabelled", index, index, {})).numpy(), values[[7, 3]]
    )
    with pytest.raises(IndexError, match="those of the pool"):
        extras(labels, "cpu")["std"](Batch("labelled", index, index, {}))


# As a user sees it


def test_the_command_tells_of_rounds_and_of_what_was_bought(store, bought, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SHORT, *ACTIVE, f"store={store}", "hydra.run.dir=run"]) == 0
    out = capsys.readouterr().out
    assert "3 (chosen)" in out and "The last round counts: it has learned from all the answers" in " ".join(
        out.split()
    )
    assert "Answers bought: 31 of 150; about " in out
    run, report = json.loads(Path("run/run.json").read_text()), Path("run/report.md").read_text()
    assert (
        run["results"]["round_by"] == "last"
        and run["results"]["round_chosen"] == bought.done["student-train-3"].key
    )
    assert (
        "The last round counts" in report and "best validation accuracy is the one that counts" not in report
    )
    assert all(stage["cached"] for stage in run["stages"])


OWN_RECIPE = """
from kdx.pipeline.recipes.active import Active
from kdx.pipeline.recipes.recipe import Recipe

class Buys(Recipe):
    buys = True
    counts = "last"

    def run(self, store, plan):
        Active().run(store, plan)
"""


@pytest.mark.slow
def test_a_recipe_of_ones_own_says_what_it_needs_and_which_round_counts(tmp_path, monkeypatch, capsys):
    """Nothing goes by the address of kdx's own: what it says of itself is checked and reported."""
    (tmp_path / "my_recipes.py").write_text(OWN_RECIPE)
    (tmp_path / "my/recipe").mkdir(parents=True)
    (tmp_path / "my/recipe/mine.yaml").write_text("# Mine\n_target_: my_recipes.Buys\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = [
        "train",
        "--config-dir",
        "my",
        "allow=[my_recipes]",
        "device=cpu",
        "device.threads=1",
        "recipe=mine",
    ]
    words += ["teacher=mlp_small", "student=mlp_small", "teacher_pretrain.steps=4", "student_train.steps=4"]
    words += ["dataset.labelled=0.3", "rounds=2", "baseline=false", "init=previous"]
    for more, says in (
        (["budget=20"], "select=all buys none"),
        (["select=uniform", "budget=null"], "say how many with budget=200"),
        (["select=uniform", "augment=[mixup]"], "an answer that is bought is for one clean picture"),
    ):
        assert main([*words, *more]) == 2 and says in capsys.readouterr().err
    assert main([*words, "select=uniform", "budget=20", "hydra.run.dir=run"]) == 0
    results = json.loads(Path("run/run.json").read_text())["results"]
    assert results["round_by"] == "last" and len(results["rounds"]) == 2
