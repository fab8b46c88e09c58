"""Metrics by hand, and stored answers that answer exactly the student's pixels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks import classification

from kdx.core.errors import UserError
from kdx.core.types import Frozen, Split
from kdx.data.reader import OfArray
from kdx.data.stored import StoredRows
from kdx.data.streams import Makers, Stream, sequential
from kdx.data.views.augment import Affine
from kdx.data.views.chain import Chain, Views
from kdx.methods.teachers import Ensemble, Live
from kdx.models.cnn import cnn
from kdx.pipeline.scores import rows_measured
from kdx.pipeline.stages.answers import digest_of_views, stored_answers
from kdx.pipeline.stages.arrays import drawn_rows, need_split, part_drawn
from kdx.pipeline.stages.choose import student_so_far
from kdx.runs import measure
from kdx.runs.stored import Weights
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.tasks.metrics import calibration_error, confusion, metrics, recalls, reliability
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

VIEWS = "0" * 64
CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=60)


def test_calibration_error_by_hand():
    """Two bins are used: confidence .9 (2 rows, both right) and .6 (2 rows, one right): (2 * .1 + 2 * .1) / 4
    = .1
    """
    probs = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4]])
    assert calibration_error(reliability(probs, torch.tensor([0, 1, 0, 1]))) == pytest.approx(0.1)
    assert calibration_error(reliability(torch.eye(3), torch.tensor([0, 1, 2]))) == 0
    assert calibration_error(reliability(torch.eye(2), torch.tensor([1, 0]))) == 1


def test_reliability_by_hand():
    """Bins (0, .25], (.25, .5], (.5, .75], (.75, 1]: an edge belongs to the bin below it; an empty bin has no
    mean.
    """
    probs = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.3, 0.7], [1.0, 0.0]])
    found = reliability(probs, torch.tensor([0, 1, 1, 0]), bins=4)
    assert (
        found["edges"] == [0, 0.25, 0.5, 0.75, 1]
        and found["counts"] == [0, 1, 2, 1]
        and found["right"] == [0, 1, 1, 1]
    )
    assert found["confidence"] == [None, pytest.approx(0.5), pytest.approx(0.65), 1]
    assert calibration_error(found) == pytest.approx((0.5 + 0.3 + 0) / 4)


def test_what_must_be_there_and_is_not_is_reported_by_name(tmp_path):
    (tmp_path / "data.json").write_text('{"counts": {"unlabelled": 0}}')
    with pytest.raises(UserError, match="no row in its split 'unlabelled': see dataset.unlabelled"):
        need_split(Artifact("prepare", "0" * 64, tmp_path), "unlabelled", CPU)
    with pytest.raises(ValueError, match="nobody knows the truth of the split 'unlabelled'"):
        _ = Split("unlabelled", torch.zeros(2, 1, 2, 2)).known
    with pytest.raises(UserError, match="set recipe=active"):
        student_so_far(None)


def test_answers_that_are_not_finite_are_no_figures(monkeypatch, tmp_path):
    monkeypatch.setattr(
        measure, "open_split", lambda *given: Split("test", torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    )
    monkeypatch.setattr(
        measure, "predict", lambda *given, **how: torch.tensor([[0.0, 1.0], [float("nan"), 0.0]])
    )
    monkeypatch.setattr(Weights, "network", lambda self: torch.nn.Identity())
    monkeypatch.setattr(measure, "network_by_name", lambda *given: None)
    about = {"task": {"_target_": "kdx.tasks.classification.Classification", "classes": ["a", "b"]}}
    (tmp_path / "data.json").write_text('{"classes": ["a", "b"]}')
    with pytest.raises(
        UserError,
        match=r"the answers of the w are not finite \(NaN or infinite\): the weights in 'w.pt' are of no use",
    ):
        measure.measure(
            Weights("w", Path("w.pt"), about, "cnn"), Artifact("prepare", "k", tmp_path), "test", CPU
        )


def test_a_run_stores_the_bins_of_its_ece(trained):
    """For every network, both of its weights, on validation and test; the figures belong to the same rows as
    the others.
    """
    stored = json.loads((trained / "outputs/runs/a=b/run.json").read_text())["results"]
    for role in ("teacher", "baseline", "student"):
        for which in ("last", "best"):
            assert "reliability" not in stored[role][which]["train"]
            for split in ("validation", "test"):
                numbers = stored[role][which][split]
                bins = numbers["reliability"]
                assert [len(bins[key]) for key in ("edges", "counts", "confidence", "right")] == [
                    16,
                    15,
                    15,
                    15,
                ]
                assert sum(bins["counts"]) == numbers["n"] and sum(bins["right"]) == round(
                    numbers["accuracy"] * numbers["n"]
                )
                assert all(
                    (mean is None) == (count == 0)
                    for mean, count in zip(bins["confidence"], bins["counts"], strict=True)
                )
                filled = [
                    bin
                    for bin in zip(bins["right"], bins["counts"], bins["confidence"], strict=True)
                    if bin[1]
                ]
                assert numbers["ece"] == pytest.approx(
                    sum(abs(r - n * c) for r, n, c in filled) / numbers["n"], abs=1e-12
                )


@pytest.mark.parametrize(
    ("counts", "asked"),
    [
        ({"labelled": 900, "validation": 30, "test": 50}, 900),
        ({"labelled": 5000, "validation": 30, "test": 50}, 2000),
        ({"labelled": 5000, "test": 3000}, 3000),
        ({"labelled": 5000, "test": 9000}, 5000),
    ],
)
def test_of_how_many_rows_a_network_is_asked(counts, asked):
    found = rows_measured(counts)
    assert found == {"train": asked, "validation": counts.get("validation", 0), "test": counts["test"]}


def test_some_rows_are_the_same_however_they_are_stored(tmp_path):
    rows, truth = torch.arange(60).reshape(20, 3), torch.arange(20)
    np.save(tmp_path / "rows.npy", rows.numpy())
    held = part_drawn(Split("labelled", {"a": rows}, truth), 7)
    read = part_drawn(Split("labelled", {"a": OfArray(StoredRows([tmp_path / "rows.npy"]))}, truth), 7)
    assert torch.equal(held.inputs["a"], read.inputs["a"][:]) and isinstance(read.inputs["a"], OfArray)
    assert torch.equal(held.inputs["a"], rows[held.truth]) and torch.equal(held.truth, read.truth)
    assert held.truth.tolist() == sorted(set(held.truth.tolist())) and len(held) == len(read) == 7
    assert torch.equal(held.truth, drawn_rows(20, 7)) and held.truth.tolist() != list(range(7))
    whole = Split("labelled", rows, truth)
    assert part_drawn(whole, 20) is whole


def test_confusion_and_metrics_by_hand():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([0, 1, 1])
    assert confusion(logits.argmax(1), y, 2).tolist() == [[1, 0], [1, 1]]
    found = metrics(logits, y, teacher=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    assert (
        found["accuracy"] == pytest.approx(2 / 3)
        and found["agreement"] == pytest.approx(2 / 3)
        and found["n"] == 3
    )
    expected = np.mean([np.log1p(np.exp(-2)), 2 + np.log1p(np.exp(-2)), np.log1p(np.exp(-1))])
    assert found["nll"] == pytest.approx(expected)
    assert found["balanced_accuracy"] == pytest.approx(0.75) and recalls(logits.argmax(1), y, 2) == [1, 0.5]


def test_recall_and_balanced_accuracy_against_scikit_learn():
    """Classes of very different sizes, and one that has no row: it has no recall, and does not count."""
    from sklearn.metrics import balanced_accuracy_score, recall_score

    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([0] * 90 + [1] * 8 + [3] * 3)
    logits = torch.randn(101, 4, generator=generator) + torch.eye(4)[y] - torch.tensor([0, 0, 99, 0])
    guess = logits.argmax(1)
    found = recalls(guess, y, 4)
    assert found[2] is None and [found[c] for c in (0, 1, 3)] == pytest.approx(
        recall_score(y, guess, labels=[0, 1, 3], average=None).tolist()
    )
    assert metrics(logits, y)["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, guess))


def test_a_run_stores_recall_and_the_rows_of_each_class(trained):
    stored = json.loads((trained / "outputs/runs/a=b/run.json").read_text())["results"]
    for split in ("train", "validation", "test"):
        counts = stored["class_counts"][split]
        for role in ("teacher", "baseline", "student"):
            numbers = stored[role]["last"][split]
            assert (
                len(counts) == 10
                and sum(counts) == numbers["n"]
                and ("recall" in numbers) == (split != "train")
            )
            if split != "train":
                assert numbers["balanced_accuracy"] == pytest.approx(np.mean(numbers["recall"]))
                assert np.dot(numbers["recall"], counts) == pytest.approx(numbers["accuracy"] * numbers["n"])
    matrix = np.array(stored["student"]["last"]["test"]["confusion"])
    assert matrix.sum(1).tolist() == stored["class_counts"]["test"]
    assert "## Classes" in (trained / "outputs/runs/a=b/report.md").read_text()


def split(n=21):
    generator = torch.Generator().manual_seed(1)
    return Split("unlabelled", torch.randint(256, (n, 1, 16, 16), dtype=torch.uint8, generator=generator))


def network(seed=0):
    torch.manual_seed(seed)
    return cnn(
        shape=(1, 16, 16), classes=4, widths=[4], hidden=8, batch_norm=True, dropout=0.5, stochastic_depth=0.0
    )


def test_predict_uses_eval_mode_and_puts_the_mode_back():
    net = network().train()
    first, second = predict(net, split(), CPU), predict(net, split(), CPU, batch=5)
    assert torch.allclose(first, second, atol=1e-6) and net.training


def views():
    return Views(Chain([("affine", Affine(degrees=11.5, shift=0.12, scale=0.1))]), 9)


@pytest.fixture
def stored(tmp_path):
    """Answers for 3 views of each row, laid down in another order and batch size than they are asked for."""
    teacher = Frozen(network())
    array = np.zeros((21, 3, 4), np.float16)
    for slot in (2, 0, 1):
        for batch in sequential(split(), batch=8, views=views(), view=1 + slot):
            array[batch.index.numpy(), slot] = teacher(batch.views["main"]).numpy()
    np.save(tmp_path / "unlabelled.npy", array)
    (tmp_path / "answers.json").write_text(
        json.dumps(
            {
                "splits": {"unlabelled": {"views": 3, "first": 1}},
                "clean": False,
                "views": VIEWS,
                "bought": None,
                "extras": [],
            }
        )
    )
    return stored_answers(
        Artifact("pseudo-label", "0" * 64, tmp_path), "cpu", VIEWS, classification(4)
    ), teacher


def test_answers_of_other_pixels_are_refused(stored, tmp_path):
    """Chain and seed make the pixels of a view, the order of steps and their names too."""
    noise, mixup = ({"_target_": "a.b.Noise", "std": std} for std in (0.1, 0.2))
    chain = [["one", noise], ["two", mixup]]
    known = digest_of_views(chain, 3)
    assert known == digest_of_views([(name, Component(spec)) for name, spec in chain], 3)
    others = [(chain, 4), (chain[:1], 3), (chain[::-1], 3), ([["one", mixup], ["two", noise]], 3), ([], 3)]
    assert known not in [digest_of_views(*other) for other in others]
    with pytest.raises(
        UserError, match="are for other views than this training shows: .* augmentation or seed"
    ):
        stored_answers(Artifact("pseudo-label", "0" * 64, tmp_path), "cpu", known, classification(4))


def test_stored_answers_are_the_live_ones_for_every_view(stored):
    answers, teacher = stored
    stream = Stream(split(), Makers(views()), batch=6, seed=2, cycle=3)
    live = Live(teacher, "main")
    seen = set()
    for step in range(12):
        batch = stream.batch(step)
        seen |= set(batch.view.tolist())
        torch.testing.assert_close(answers(batch), live(batch), rtol=2e-3, atol=2e-3)
    assert seen == {1, 2, 3}


def test_large_answers_stay_on_disk_and_are_the_same(stored, tmp_path, monkeypatch):
    small, _ = stored
    monkeypatch.setattr("kdx.pipeline.stages.answers._SMALL", 0)
    large = stored_answers(Artifact("pseudo-label", "0" * 64, tmp_path), "cpu", VIEWS, classification(4))
    batch = Stream(split(), Makers(views()), batch=50, seed=2, cycle=3).batch(5)
    assert torch.equal(large(batch), small(batch))
    # Reported apart by a change of the file, which only the mapped one sees.
    np.load(tmp_path / "unlabelled.npy", mmap_mode="r+")[:] = 7
    assert (large(batch) == 7).all() and not (small(batch) == 7).any()


def test_a_view_without_an_answer_is_an_error(stored):
    answers, _ = stored
    batch = Stream(split(), Makers(views()), batch=21, seed=2, cycle=None).batch(3)
    assert batch.view.max() == 4
    with pytest.raises(IndexError, match="no stored answer for view 4"):
        answers(batch)
    with pytest.raises(IndexError, match="no stored answer for view 0"):
        answers(replace(batch, view=torch.zeros_like(batch.view)))


def test_an_ensemble_is_the_mean_of_probabilities():
    one = torch.log(torch.tensor([[0.9, 0.1]]))
    two = torch.log(torch.tensor([[0.5, 0.5]]))
    both = Ensemble([lambda b: one, lambda b: two], classification(2).mean)(None)
    torch.testing.assert_close(both.softmax(1), torch.tensor([[0.7, 0.3]]))


def test_a_frozen_teacher_stays_in_eval_mode_without_gradient():
    net = network().train()
    frozen = Frozen(net)
    x = torch.rand(2, 1, 16, 16, requires_grad=True)
    assert (
        not net.training
        and not frozen(x).requires_grad
        and not any(p.requires_grad for p in net.parameters())
    )
    assert not isinstance(frozen, torch.nn.Module)
