"""Classes of very different sizes, as 90, 8 and 3 pictures: what is said of networks that name the largest
class only, and what class weights change.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tasks import classification

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.math import balanced_weights
from kdx.pipeline.stages.streams import truth_used
from kdx.planning.dry_run import dry
from kdx.store.artifact import Artifact

WORDS = [
    "dataset=folder",
    "dataset.root=pictures",
    "dataset.image_size=16",
    "dataset.validation=0.2",
    "teacher=mlp",
    "student=mlp_small",
    "augment=[none]",
    "device=cpu",
    "device.threads=1",
    "teacher_pretrain.steps=30",
    "student_train.steps=30",
]
CLASSES = {"circle": 90, "square": 8, "triangle": 3}


def draw(name, left, top, side):
    """40x40, grey on dark."""
    picture = Image.new("L", (40, 40), 20)
    pen, box = ImageDraw.Draw(picture), (left, top, left + side, top + side)
    if name == "triangle":
        pen.polygon([(left, top + side), (left + side, top + side), (left + side // 2, top)], fill=220)
    else:
        (pen.ellipse if name == "circle" else pen.rectangle)(box, fill=220)
    return picture


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Each shape at its own place and size."""
    place, rng = tmp_path_factory.mktemp("imbalance"), np.random.default_rng(0)
    for name, count in CLASSES.items():
        (place / "pictures" / name).mkdir(parents=True)
        for row in range(count):
            draw(name, *rng.integers(2, 12, 2).tolist(), int(rng.integers(16, 24))).save(
                place / "pictures" / name / f"{row}.png"
            )
    return place


@pytest.fixture
def pictures(drawn, monkeypatch):
    monkeypatch.chdir(drawn)
    return drawn


def test_networks_that_always_name_the_largest_class_are_reported_as_that(pictures, capsys):
    assert main(["train", *WORDS, "hydra.run.dir=run"]) == 0
    run = json.loads(Path("run/run.json").read_text())
    counts = run["results"]["class_counts"]
    assert {split: sum(rows) for split, rows in counts.items()} == {
        k: run["protocol"]["counts"][s]
        for k, s in (("train", "labelled"), ("validation", "validation"), ("test", "test"))
    } and counts["test"] == [17, 2, 1]
    first, *others = run["warnings"]
    assert first.startswith("nothing is to be gained from this teacher: on ") and first == run["gate"]["text"]
    verdicts = [w for w in others if 'no better than always "circle"' in w]
    assert [w[: w.index(" is no")] for w in verdicts] == [
        "The teacher",
        "The student alone",
        "The distilled student",
    ]
    assert all(
        (
            "(85.0% of the test rows right, and 85.0% are of that class; balanced accuracy 33.3%, where "
            "guessing has 33.3%)"
        )
        in w
        for w in verdicts
    )
    assert "Balanced test accuracy, the mean recall of the classes" in capsys.readouterr().out
    assert "| square | 2 | 0.0 | 0.0 | 0.0 |" in Path("run/report.md").read_text()
    assert main(["evaluate", "run", "device=cpu", "device.threads=1", "json=figures.json"]) == 0
    assert (
        'the teacher, the student alone and the distilled student are no better than always "circle"'
        in capsys.readouterr().out
    )
    figures = json.loads(Path("figures.json").read_text())["results"]["student"]
    assert (
        figures["guesses"] == "circle"
        and figures["recall"] == [1, 0, 0]
        and figures["balanced_accuracy"] == pytest.approx(1 / 3)
    )


@pytest.mark.slow
def test_balanced_weights_let_the_rare_classes_be_learned(pictures):
    found = {}
    for weights in ("none", "balanced"):
        words = [
            "teacher_pretrain.steps=60",
            "student_train.steps=40",
            f"dataset.class_weights={weights}",
            f"hydra.run.dir={weights}",
        ]
        assert main(["train", *WORDS, *words]) == 0
        found[weights] = json.loads(Path(weights, "run.json").read_text())
    results = {
        weights: run["results"]["teacher"]["last"]["train"]["balanced_accuracy"]
        for weights, run in found.items()
    }
    assert results["balanced"] > results["none"]


def keys(tmp_path, *words):
    """Of each stage that a run would ask for."""
    steps, _ = dry(
        wire(compose.check_words(["device=cpu", "device.threads=1", f"store={tmp_path}/store", *words])),
        tmp_path,
        {},
        True,
    )
    return {step.name: step.key for step in steps}


def test_class_weights_are_part_of_every_training_and_of_no_data(tmp_path):
    plain, balanced = (
        keys(tmp_path, f"dataset.class_weights={weights}", "noiseless=true", "ceiling=true")
        for weights in ("none", "balanced")
    )
    assert {name for name in plain if plain[name] == balanced[name]} == {"decode", "prepare", "reveal"}
    order = wire(compose.check_words(["device=cpu", "dataset.class_weights=balanced"]))
    assert (
        "class_weights" not in order.experiment.dataset.spec and order.experiment.class_weights == "balanced"
    ), "the loader does not know of it"
    with pytest.raises(
        UserError, match="dataset.class_weights has no option 'balancd'; did you mean 'balanced'"
    ):
        wire(compose.check_words(["device=cpu", "dataset.class_weights=balancd"]))


def test_weights_are_those_of_the_labelled_rows_that_are_used(tmp_path):
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    np.save(tmp_path / "labelled.truth.npy", labels)
    data = Artifact("prepare", "0" * 64, tmp_path)
    order = wire(compose.check_words(["device=cpu", "student_train.rows=20"]))
    used = truth_used(data, classification(3), order.experiment.student_train.build(), 7)
    assert len(used) == 20 and used.bincount(minlength=3).tolist() == [12, 6, 2]
    assert balanced_weights(used, 3).tolist() == pytest.approx([20 / 36, 20 / 18, 20 / 6])
    assert torch.equal(
        truth_used(data, classification(3), order.experiment.teachers[0].training.build(), 7),
        torch.from_numpy(labels),
    )
