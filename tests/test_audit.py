"""The audit of pseudo-labels, by hand."""

import functools

import numpy as np
import pytest
import torch

from kdx.config.compose import check_words
from kdx.config.wire import wire
from kdx.core.types import Split
from kdx.data.streams import Makers, Stream
from kdx.data.views.chain import Chain, Views
from kdx.methods import estimators
from kdx.pipeline.stages.answers import sampled_rows
from kdx.pipeline.stages.asked import to_answer
from kdx.pipeline.stages.learn import begin_training
from kdx.pipeline.stages.parts import TrainInputs
from kdx.report.run.audit import audit_sentences
from kdx.runs.run import perform
from kdx.store.stage import subseed
from kdx.store.work import Listener
from kdx.tasks import pseudo_labels
from kdx.training.runtime import Runtime


def test_margins_of_the_teacher_by_hand():
    """Margins 0.12 (wrong), 0.55, 1 and 0 (a tie goes to the first class)."""
    probs = np.array([[0.38, 0.5, 0.12], [0.05, 0.2, 0.75], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    found = pseudo_labels.margin_histogram(probs, np.array([0, 2, 1, 0]))
    assert found["edges"] == pytest.approx(np.linspace(0, 1, 11))
    assert found["counts"] == [1, 1, 0, 0, 0, 1, 0, 0, 0, 1] and found["right"] == [
        1,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        1,
    ]


# What was learned from


def test_how_often_a_view_was_shown_by_hand():
    """Three stored views. Copies 1, 0 and 2: in 2 passes and a half the first row shows views 0 and 1, the
    last one 0, 1, 2 and 0 again.
    """
    assert pseudo_labels.draws(np.array([1, 0, 2]), 3, 2.5).tolist() == [[1, 1, 0], [0, 0, 0], [2, 1, 1]]
    assert pseudo_labels.draws(np.array([1, 2]), 3, 0.4).tolist() == [[1, 0, 0], [1, 1, 0]], (
        "of a first pass that was not ended all rows count"
    )
    assert pseudo_labels.draws(np.array([1]), 3, 7).tolist() == [[3, 2, 2]]


def test_the_stream_shows_each_view_as_often():
    rows, views, passes = torch.tensor([1, 2, 2]), 4, 3
    split = Split("unlabelled", torch.zeros(4, 1, 2, 2, dtype=torch.uint8))
    stream = Stream(split, Makers(Views(Chain([]), 0)), batch=3, seed=5, cycle=views, rows=rows)
    seen = np.zeros((4, views), int)
    for step in range(passes):
        batch = stream.batch(step)
        np.add.at(seen, (batch.index.numpy(), batch.view.numpy() - 1), 1)
    assert seen.tolist() == pseudo_labels.draws(np.bincount(rows, minlength=4), views, passes).tolist()


def test_the_share_of_right_answers_learned_from_by_hand(monkeypatch):
    """Two rows of two views, three classes; the second row is trained on twice. Of 4 draws the answers to 3
    are right.
    """
    answers = np.log(
        np.array([[[0.6, 0.3, 0.1], [0.3, 0.6, 0.1]], [[0.2, 0.8, 0], [0.25, 0.75, 0]]]) + 1e-9
    ).astype(np.float16)
    shown = np.array([[1, 1], [1, 1]])
    for piece in (1 << 22, 6):
        monkeypatch.setattr(pseudo_labels, "PIECE", piece)
        found = pseudo_labels.learned(answers, shown, np.array([0, 1]))
        assert (found["views"], found["answers"], found["accuracy"]) == (2, 4, 0.75)
        assert found["expected_accuracy"] == pytest.approx((0.6 + 0.6 + 0.8 + 0.75) / 4, abs=1e-3)
    assert pseudo_labels.learned(answers, np.array([[1, 0], [0, 0]]), np.array([0, 1]))["accuracy"] == 1
    assert (
        pseudo_labels.learned(answers, shown, None)["accuracy"]
        is pseudo_labels.learned(answers, 0 * shown, np.array([0, 1]))["accuracy"]
        is None
    )


def test_what_the_weights_make_of_the_labels_by_hand():
    right = np.array([True, True, False, False])
    assert pseudo_labels.weighted_accuracy(np.array([1, 0.5, 0.5, np.nan]), right) == 0.75
    assert (
        pseudo_labels.weighted_accuracy(np.array([1, 1, 1, 1]), right)
        is pseudo_labels.weighted_accuracy(np.zeros(4), right)
        is None
    )


WORDS = [
    "device=cpu",
    "device.threads=1",
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.classes=4",
    "dataset.train_rows=200",
    "dataset.labelled=40",
    "dataset.validation=20",
    "teacher=mlp_small",
    "student=mlp_small",
    "teacher_pretrain.steps=40",
    "student_train.steps=24",
    "student_train.batch_size=32",
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """words -> (artifacts by stage name, the audit's round) of a short run with augmentation; the teacher is
    trained once.
    """
    place = tmp_path_factory.mktemp("audit")

    @functools.cache
    def go(*words):
        done = perform(wire(check_words([*WORDS, f"store={place}/store", *words])), Listener())[1]
        return done, done["audit"].json("audit.json")["rounds"][0]

    return go


def test_the_audit_is_of_the_answers_that_were_learned_from(ran):
    done, reported = ran()
    answers, truth = (
        np.load(done["pseudo-label"].file("unlabelled.npy")),
        np.load(done["prepare"].file("truth.npy")),
    )
    clean = np.load(done["pseudo-label"].file("clean.npy"))[:, 0]
    passes = int(done["student-train"].json("summary.json")["passes"]["unlabelled"])
    assert passes == 24 * 25 // 140 == 4 and answers.shape[1] == 5, (
        "of the last pass only some rows were seen"
    )
    right = answers.argmax(2) == truth[:, None]
    assert reported["learned"] == {
        "of": "augmented",
        "passes": pytest.approx(24 * 25 / 140),
        "views": 5,
        "answers": 4 * 140,
        "accuracy": pytest.approx(right[:, :passes].mean()),
        "expected_accuracy": pytest.approx(reported["learned"]["expected_accuracy"]),
    }
    assert (
        reported["accuracy"]
        == pytest.approx((clean.argmax(1) == truth).mean())
        != reported["learned"]["accuracy"]
    )
    (line,) = audit_sentences({"rounds": [reported]})
    assert (
        f"learned from (5 augmented views a row) {100 * reported['learned']['accuracy']:.1f}% are right"
        in line
    )
    assert (
        f"of those to the clean pictures {100 * reported['accuracy']:.1f}% are right (expected "
        f"{100 * reported['expected_accuracy']:.1f}%)"
    ) in line


def test_the_same_is_reported_of_a_live_teacher_from_one_view(ran):
    done, reported = ran()
    live, other = ran("pseudo_label.mode=live")
    assert other["learned"]["of"] == "sample" and other["learned"]["answers"] == 140
    first = np.load(done["pseudo-label"].file("unlabelled.npy"))[:, 0].argmax(1) == np.load(
        done["prepare"].file("truth.npy")
    )
    assert (
        other["learned"]["accuracy"] == pytest.approx(first.mean())
        and other["accuracy"] == reported["accuracy"]
    )
    assert (
        sampled_rows(5).tolist() == [0, 1, 2, 3, 4]
        and len(sampled_rows(1_000_000)) == 20_000
        and sampled_rows(1_000_000)[-1] == 999_999
    )


def test_clean_answers_are_what_was_learned_from(ran):
    _, reported = ran("pseudo_label.view=clean")
    assert reported["learned"]["of"] == "clean" and reported["learned"]["accuracy"] == reported["accuracy"]
    assert "learned from" not in audit_sentences({"rounds": [reported]})[0]
    short = {**reported, "learned": {**reported["learned"], "passes": 0.23}}
    assert (
        "; training ended when it had seen 23% of the rows, and all are counted"
        in audit_sentences({"rounds": [short]})[0]
    )
    mixed = {
        **reported,
        "learned": {
            "of": "mixed",
            "passes": None,
            "views": None,
            "answers": None,
            "accuracy": None,
            "expected_accuracy": None,
        },
    }
    assert (
        "mixed pictures were learned from, to which no answer is right or wrong; of those to the clean"
        in audit_sentences({"rounds": [mixed]})[0]
    )


@pytest.mark.slow
def test_mixed_answers_are_neither_right_nor_wrong(ran):
    _, reported = ran("augment=[affine,mixup]")
    assert (
        reported["learned"]["of"] == "mixed"
        and reported["learned"]["accuracy"] is None
        and reported["accuracy"] is not None
    )


@pytest.mark.parametrize("mode", ["stored", "live"])
def test_what_is_estimated_on_validation_is_of_the_view_that_the_pool_has(ran, mode):
    """SLaM and the weights ask for the validation rows; the teacher then answers view 1, stored as live, and
    the student sees it too.
    """
    done, _ = ran() if mode == "stored" else ran("pseudo_label.mode=live")
    lesson = begin_training(
        "student-train",
        Runtime.settle(wire(check_words(WORDS)).runtime),
        TrainInputs(data=done["prepare"], precision="fp32", **inputs(done, mode)),
    )
    parts = lesson.parts
    truth, answers, pixels = estimators.validation_answers(
        parts, parts.teacher, lambda batch: batch.views["main"].flatten(1)
    )
    stored = np.load(done["pseudo-label"].file("validation.npy")).astype(np.float32)
    assert stored.shape[1] == 2 and np.abs(stored[:, 0] - stored[:, 1]).max() > 0.1
    np.testing.assert_allclose(answers, stored[:, 1], atol=2e-2)
    shown = Views(Chain(lesson.settings.augment), VIEWS)(
        parts.validation, torch.arange(20), torch.ones(20, dtype=torch.int64)
    )[0]
    assert (
        torch.equal(pixels, shown.flatten(1))
        and truth.tolist() == np.load(done["prepare"].file("validation.truth.npy")).tolist()
    )


VIEWS = subseed(0, "views")


def inputs(done, mode):
    experiment = wire(check_words(WORDS)).experiment
    live = {"teachers": [done["teacher-pretrain"]]} if mode == "live" else {}
    return {
        "model": experiment.student,
        "loss": experiment.loss,
        "training": experiment.student_train,
        "seed": 0,
        "views_seed": VIEWS,
        "epoch": ["labelled", "unlabelled"],
        "answers": done["pseudo-label"],
        **live,
    }


def test_nothing_is_answered_that_nobody_reads():
    counts = {"labelled": 4, "unlabelled": 9, "validation": 3}
    views = {"labelled": 2, "unlabelled": 5}
    assert to_answer(counts, views, False, True, ["affine"]) == {
        "labelled": (2, 1),
        "unlabelled": (5, 1),
        "validation": (2, 0),
        "clean": (1, 0),
    }
    assert to_answer(counts, {}, False, True, ["affine"]) == {
        "validation": (2, 0),
        "clean": (1, 0),
        "sample": (1, 1),
    }
    for augment, clean in ((["affine"], True), ([], False), (["affine", "mixup"], False)):
        assert to_answer(counts, {}, clean, True, augment) == {"validation": (1, 0), "clean": (1, 0)}, (
            augment,
            clean,
        )
