"""`pool=OTHER`: rows of another data set, or of this one changed, in the place of pool and test rows."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_words import SYNTHETIC

from kdx.cli import main
from kdx.config import compose
from kdx.config.nodes import read_runtime
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.data.pictures.fitted import FittedPictures, in_shape
from kdx.data.pictures.made_up import MadeUpPictures
from kdx.data.pictures.rows import Pictures
from kdx.pipeline.recipes.steps import _that_may_help
from kdx.pipeline.stages import proxy
from kdx.pipeline.stages.answers import pool_answers
from kdx.pipeline.stages.arrays import need_split, read_inputs
from kdx.pipeline.stages.names import known_by
from kdx.pipeline.stages.other_pool import Own, _seen_in_test, of_another, rows_held_out
from kdx.runs.reading import read_run
from kdx.runs.stored import answered_at, of_members
from kdx.store.artifact import Artifact
from kdx.tasks import without_labels
from kdx.tasks.classification import Classification
from kdx.training.predict import predict

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    *SYNTHETIC,
    "dataset.test_rows=80",
    "dataset.labelled=20",
    "dataset.validation=20",
    "teacher=cnn_tiny",
    "student=cnn_tiny",
    "teacher_pretrain.steps=3",
    "student_train.steps=3",
    "student_train.batch_size=16",
]
DIGITS = ["pool=digits", "pool.image_size=8", "pool.limit=40"]


def run(name, *words):
    assert main([*WORDS, f"hydra.run.dir={name}", *words]) == 0
    return json.loads(Path(name, "run.json").read_text())


def prepared(made):
    found = next(stage for stage in made["stages"] if stage["name"] == "prepare")
    return Artifact("prepare", found["key"], Path("outputs/store/prepare") / found["key"])


def pictures(classes, size=4, channels=1, rows=12, test=0):
    rng = np.random.default_rng(rows)
    labels = np.arange(rows) % len(classes)
    shape = (channels, size, size)
    more = {}
    if test:
        more = {
            "test_images": rng.integers(0, 256, (test, *shape), np.uint8),
            "test_labels": np.arange(test) % len(classes),
        }
    return Pictures(rng.integers(0, 256, (rows, *shape), np.uint8), labels, tuple(classes), **more)


def beside(classes=("a", "b", "c"), size=4):
    raw = pictures(classes, size)
    return Own(raw, Classification(classes=list(classes)), raw.adapter([raw.images])[0], raw.images[:6])


def taken_from(other, *, limit=None, test=False, classes=None, own=None):
    return of_another(own or beside(), other, "other", limit, test, classes or {}, 0)


def test_classes_are_matched_by_name_and_what_has_none_is_unknown():
    found = taken_from(pictures(("b", "x", "a")))
    assert found.pool.truth.tolist() == [1, -1, 0] * 4 and found.test is None
    assert "1 of the 3 classes" in found.notes[0] and "(x)" in found.notes[0]
    mapped = taken_from(pictures(("b", "x", "a")), classes={"x": "c"})
    assert mapped.pool.truth.tolist() == [1, 2, 0] * 4 and not mapped.notes


def test_its_test_part_is_tested_on_or_a_third_is_held_out():
    shipped = taken_from(pictures(("a", "x"), test=6), test=True)
    assert shipped.test.truth.tolist() == [0, 0, 0] and len(shipped.pool.inputs) == 12
    held = taken_from(pictures(("a", "b")), test=True)
    assert len(held.test.inputs) == 4 and len(held.pool.inputs) == 8
    assert sorted([*held.test.numbers, *held.pool.numbers]) == list(range(12))
    assert [rows_held_out(12, asked) for asked in (5, 0.5, True)] == [5, 6, 4]


def test_a_limit_draws_by_the_seed_and_more_of_a_set_hold_fewer():
    few, more = (taken_from(pictures(("a", "b")), limit=n).pool.numbers.tolist() for n in (3, 7))
    assert len(few) == 3 and set(few) < set(more)


@pytest.mark.slow
def test_own_hidden_rows_that_another_pool_stands_in_for_are_said_to_be_idle(place, capsys):
    till = "stages=[teacher_pretrain]"
    for words, said in (
        (
            ["pool=digits", "pool.image_size=8", "dataset.unlabelled=30"],
            "pool.limit=30 takes so many of its rows",
        ),
        (["pool=synthetic", "dataset.unlabelled=0.5"], "the keys of pool=synthetic say how many it makes"),
    ):
        run("idle", *words, till)
        told = " ".join("".join(capsys.readouterr()).split())
        assert f"counts rows of the data set's own pool, and {words[0]} stands in for it: {said}" in told
    run("idle", "pool=shifted", "dataset.unlabelled=30", till)
    assert "stands in for it" not in "".join(capsys.readouterr())


def test_sets_without_a_class_in_common_are_named_both():
    with pytest.raises(UserError, match="it has x, y, and the data set a, b, c; set pool.classes_map=FILE"):
        taken_from(pictures(("x", "y")), test=True)
    assert taken_from(pictures(("x", "y"))).pool.truth.tolist() == [-1] * 12


def test_sizes_and_channels_become_those_of_the_data_set():
    grey = np.full((2, 1, 2, 2), 7, np.uint8)
    assert in_shape(grey, (1, 2, 2)) is grey
    coloured = np.asarray(FittedPictures(grey, (3, 4, 4)))
    assert coloured.shape == (2, 3, 4, 4) and (coloured == 7).all()
    red = np.zeros((1, 3, 2, 2), np.uint8)
    red[:, 0] = 255
    assert np.asarray(FittedPictures(red, (1, 2, 2))).tolist() == [[[[76, 76], [76, 76]]]]  # 0.2989 of 255
    with pytest.raises(UserError, match="pictures of 4 channels cannot become those of 1"):
        in_shape(np.zeros((1, 4, 2, 2), np.uint8), (1, 2, 2))


def test_classes_used_are_the_exponential_of_the_entropy_of_the_first_choices():
    one_of_each, one_class = torch.eye(4), torch.eye(4)[[2, 2, 2, 2]]
    assert proxy.classes_used(one_of_each) == 4 and proxy.classes_used(one_class) == 1
    uneven = proxy.classes_used(torch.eye(4)[[0, 0, 0, 1]])
    assert uneven == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), abs=1e-4)
    sure = without_labels.confidences(torch.tensor([[0.9, 0.1], [0.4, 0.6]]))
    assert without_labels.mean_confidence(sure) == pytest.approx(0.75)


def test_accuracy_without_labels_by_hand():
    sure = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    known, right = torch.tensor([0.95, 0.85, 0.65, 0.55]), torch.tensor([True, True, True, False])
    assert without_labels.mean_confidence(sure) == pytest.approx(0.7)
    # one of four wrong: the threshold is the second lowest, .65, and three of five lie at or above it
    assert without_labels.thresholded_confidence(sure, known, right) == pytest.approx(0.6)
    # .75 right, and .75 sure on average: .70 is .05 less sure
    assert without_labels.difference_of_confidences(sure, known, right) == pytest.approx(0.7)
    assert without_labels.thresholded_confidence(sure, known, ~right & right) == 0
    assert without_labels.thresholded_confidence(known, known, right) == pytest.approx(0.75)
    found = without_labels.estimated_shares(sure, known, right)
    assert list(found) == list(without_labels.WORDS)
    assert list(without_labels.estimated_shares(sure, None, None)) == ["mean_confidence"]
    against = without_labels.held_against(found, torch.tensor([True, False]))
    assert against["errors"]["thresholded_confidence"] == pytest.approx(0.1) and against["n"] == 2
    assert without_labels.held_against(found, torch.zeros(0, dtype=torch.bool)) is None


def test_rows_of_one_distribution_lie_near_and_others_far():
    drawn = torch.Generator().manual_seed(0)
    one, two = (torch.randn(200, 5, generator=drawn) for _ in range(2))
    assert proxy.features_apart(one, one) == pytest.approx(0, abs=1e-6)
    assert proxy.features_apart(one, two) < 0.02 < 0.2 < proxy.features_apart(one, two + 2)
    assert proxy.features_apart(one, None) is None


@pytest.mark.parametrize("kind", ["mixtures", "shapes", "fractals", "noise", "shuffled"])
@pytest.mark.parametrize("channels", [1, 3])
def test_made_up_pictures_have_the_form_of_the_labelled_ones_and_are_drawn_by_the_seed(kind, channels):
    raw = pictures(("a", "b"), size=8, channels=channels)
    maker = MadeUpPictures(rows=5, kind=kind)
    made, again, other = (maker.make(raw, raw.images, seed) for seed in (0, 0, 1))
    assert made.shape == (5, channels, 8, 8) and made.dtype == np.uint8
    assert np.array_equal(made, again) and not np.array_equal(made, other)
    if kind == "shuffled":
        values = np.sort(made.reshape(5, channels, -1), 2)
        known = np.sort(raw.images.reshape(12, channels, -1), 2)
        assert all(any(np.array_equal(row, one) for one in known) for row in values)


@pytest.mark.parametrize(
    ("told", "words", "named", "not_named"),
    [
        (
            {"few": True, "less_sure": False, "temperature": 0.5},
            [],
            ["pool=NAME", "loss.alpha="],
            ["threshold", "temperature", "classes_map"],
        ),
        (
            {"few": False, "less_sure": True, "temperature": 1.8},
            [],
            ["select=threshold", "about 1.8 (pseudo_label.temperature=fitted)"],
            ["pool=NAME"],
        ),
        ({"few": False, "less_sure": True, "temperature": 1.8}, ["select=threshold"], [], ["select="]),
        ({"few": True, "less_sure": True}, ["pseudo_label.temperature=2"], ["select="], ["temperature"]),
    ],
)
def test_the_advice_goes_against_what_is_wrong(told, words, named, not_named):
    experiment = wire(compose.check_words([*WORDS[1:], *DIGITS, *words])).experiment
    said = _that_may_help(experiment, told)
    assert all(word in said for word in named) and not any(word in said for word in not_named), said


def test_few_classes_and_low_confidence_are_told_apart():
    found = {
        "classes": 10,
        "n": 1000,
        "validation_n": 1000,
        "classes_used": {"pool": 1.0, "validation": 2.0},
        "confidence": {"pool": 1.0, "validation": 1.0},
    }
    assert proxy.reasons_of(found) == {"few": True, "less_sure": False}
    used = {"pool": 9.0, "validation": 10.0}
    sure = {"pool": 0.5, "validation": 0.9}
    assert proxy.reasons_of({**found, "classes_used": used, "confidence": sure}) == {
        "few": False,
        "less_sure": True,
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other_pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.slow
def test_a_run_learns_from_the_pool_of_another_set_and_knows_its_rows(place):
    made = run("proxy", *DIGITS)
    data = prepared(made)
    about = data.json("data.json")
    assert about["counts"] == {"labelled": 20, "validation": 20, "test": 80, "unlabelled": 40}
    assert about["pool"] == {"name": "digits", "kind": "another data set", "test": False}
    assert read_inputs(data, "unlabelled").shape[1:] == read_inputs(data, "labelled").shape[1:]
    own = run("own")
    assert prepared(own).key != data.key and "proxy" not in own
    told = made["proxy"]
    assert told["n"] == 40 and told["validation_n"] == 20 and told["classes"] == 4 and told["mmd"] > 0
    report = Path("proxy/report.md").read_text()
    assert "pool=digits has no class of the data set's: it has 0, 1," in report
    assert "class 3; whatever the teacher answers there is a class that the row is not" in report
    assert 1 <= told["classes_used"]["pool"] <= 4 and told["text"] in Path("proxy/report.md").read_text()
    assert len(set(known_by(data, ["unlabelled"])["unlabelled"].numbers)) == 40
    assert "decode-pool" in read_run("proxy").stages
    assert set(told["estimates"]) == set(without_labels.WORDS) and "ESTIMATED" in told["text"]
    assert "estimates" not in made["audit"]  # nobody knows the truth of digits here


@pytest.mark.slow
def test_estimates_are_of_the_teacher_that_answers(place, capsys):
    several = [
        "teacher.members=2",
        "aggregate=weighted",
        "pseudo_label.temperature=4",
        "pseudo_label.view=clean",
    ]
    several += ["student_train.steps=12"]
    made = run("several", *DIGITS, *several)
    answers = read_run("several").stage("pseudo-label")
    some, stored = pool_answers(answers)
    assert some is None and answers.json("answers.json")["temperature"] == 4
    (logits,) = stored.values()
    sure = torch.tensor(np.asarray(logits)).double().softmax(-1).max(-1).values
    assert made["proxy"]["confidence"]["pool"] == pytest.approx(float(sure.mean()), abs=1e-3)
    assert made["proxy"]["estimates"]["mean_confidence"] == pytest.approx(float(sure.mean()), abs=1e-3)
    another = [
        "evaluate",
        "several",
        "role=teacher",
        *SYNTHETIC[1:],
        "dataset.validation=null",
        "dataset.labelled=null",
        "dataset.test_rows=80",
        "seed=1",
        "--json",
    ]
    capsys.readouterr()
    assert main(another) == 0
    found = json.loads(capsys.readouterr().out)
    data = Artifact("prepare", found["data_key"], Path("outputs/store/prepare") / found["data_key"])
    runtime = read_runtime(compose.check_words(WORDS[1:])["device"]).settle()
    network = of_members(read_run("several"), "last", [])["teacher"][0].network()
    logits = predict(network, need_split(data, "test", runtime), runtime)
    sure = (logits.double() / 4).softmax(1).max(1).values
    estimates = found["results"]["teacher"]["estimates"]
    assert estimates["mean_confidence"] == pytest.approx(float(sure.mean()), abs=1e-5)
    assert answered_at(read_run("several")) == 4


def test_the_test_rows_of_another_domain_are_tested_on(place, capsys):
    digits = [*DIGITS, "pool.test=30", "pool.classes_map=map.yaml"]
    Path("map.yaml").write_text("".join(f"'{k}': class {k}\n" for k in range(4)))
    made = run("domain", *digits)
    about = prepared(made).json("data.json")
    assert 5 < about["counts"]["test"] < 25  # four of ten classes
    assert made["results"]["student"]["last"]["test"]["n"] == about["counts"]["test"]
    against = made["audit"]["estimates"]
    assert 0 < against["n"] < 40 and 0 <= against["accuracy"] <= 1
    for name, off in against["errors"].items():
        assert off == pytest.approx(made["proxy"]["estimates"][name] - against["accuracy"], abs=1e-5)
    assert "the estimates were off by" in Path("domain/report.md").read_text()
    told, shown = made["proxy"], "".join(capsys.readouterr())
    assert told["warn"] == (told["few"] or told["less_sure"]) and 0.05 < told["temperature"] < 20
    if told["warn"]:
        assert ("pseudo_label.temperature=fitted" in shown) == (told["temperature"] > 1)


@pytest.mark.slow
def test_the_own_rows_changed_are_pool_and_test(place):
    before, changed = prepared(run("own")), prepared(run("shifted", "pool=shifted", "pool.by=[contrast]"))
    for name in ("unlabelled", "test"):
        clean, grey = (np.asarray(read_inputs(data, name)).astype(float) for data in (before, changed))
        assert clean.shape == grey.shape
        mean = clean.mean((1, 2, 3), keepdims=True)
        assert np.abs(grey - (mean + 0.3 * (clean - mean))).max() < 8  # of 255; its mean is of brightness
        assert (known_by(before, [name])[name].numbers == known_by(changed, [name])[name].numbers).all()
    for name in ("labelled", "validation"):
        assert np.array_equal(read_inputs(before, name), read_inputs(changed, name))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pool=breast_cancer"], "pool=breast_cancer holds rows of tables, and this data set pictures"),
        (["pool=fashion_mnist", "pool.root=nowhere", "pool.test=true"], "pool.root"),
        (["pool=folder", "pool.root=nowhere"], "set pool.root="),
        (
            ["pool=synthetic", "pool.kind=clouds"],
            "pool.kind has no option 'clouds'; one of: fractals, mixtures",
        ),
        (["pool=digits", "pool.limit=0"], "pool.limit must be at least 1; given: 0"),
        (["pool=digits", "pool.test=1.5"], "pool.test must be"),
        (["pool=digits", "pool.image_size=8", "pool.test=9999"], "pool=digits has 1,797 in all"),
        (["pool=digits", "loss=supervised"], "pool=digits can never act: loss=supervised reads no pool"),
        (["pool=digits", "recipe=data_free", "teacher=cnn"], "recipe=data_free reads no pool: leave it out"),
        (["pool=digits", "loss=lwf", "recipe.sessions=2"], "recipe=continual reads no pool: leave it out"),
        (["pool=shifted", "pool.by=[]"], "pool.by must name steps of shift"),
        (["pool=shifted", "pool.by=[turn]"], "pool.by has no option 'turn'"),
        (
            ["pool=shifted", "pool.by=[nosuch]"],
            "pool.by has no option 'nosuch'; one of: blur, brightness, colour, contrast, invert, noise, "
            "occlusion, pixelate, rotation, shot_noise, texture\n",
        ),
        (
            ["pool=shifted", "pool.by=[corruptions]"],
            "would lay all of them over one row: name a kind, such as",
        ),
        (["pool=shifted", "pool.by=corruptions"], "would lay all of them over one row: name a kind, such as"),
        (["pool=shifted", "pool.by=[none]"], "pool.by must name steps of shift"),
        (
            ["pool=synthetic", "pool.test=true"],
            "'pool.test' is no key of pool=synthetic, which has kind and rows: pool.test is a key of a "
            "pool that is another data set, such as pool=digits",
        ),
        (
            ["pool=shifted", "pool.limit=5"],
            "which has by and test: pool.limit is a key of a pool that is another",
        ),
        (
            ["pool.limit=5"],
            "'pool.limit' is no key of pool=own, which has none: pool.limit is a key of a pool",
        ),
        (
            ["pool.by=[blur]"],
            "'pool.by' is no key of pool=own, which has none: pool.by is a key of pool=shifted",
        ),
        (["pool=digits", "pool.limt=5"], "did you mean 'pool.limit'?"),
        (["pool=digits", "pool.classes_map=nowhere.yaml"], "pool.classes_map 'nowhere.yaml' is no file"),
        (
            ["pool=digits", "pool.classes_map=wrong.yaml"],
            "pool.classes_map names 'a', and pool=digits has no such class",
        ),
        (
            ["pool=digits", "pool.classes_map=wrong.yaml"],
            "pool.classes_map says that '1' is 'klass 1', and the data set has no such class; did you mean "
            "'class 1'?",
        ),
        (
            ["pool=digits", "pool.classes_map=listed.yaml"],
            "holds no keys: it must hold a line a class, theirs: ours, such as zero: '0'",
        ),
        (
            ["pool=digits", "pool.classes_map=nested.yaml"],
            "it must hold a line a class, theirs: ours",
        ),
        (
            ["pool=cifar10", "pool.root=nowhere"],
            "pool.root",
        ),
    ],
)
def test_what_cannot_be_is_said_before_work(place, capsys, words, said):
    for name, content in {
        "wrong": "a: class 1\n'1': klass 1\n",
        "listed": "- a\n",
        "nested": "'1': [class 1]\n",
    }.items():
        Path(f"{name}.yaml").write_text(content)
    assert main([*WORDS, *words]) == 2
    told = "".join(capsys.readouterr())
    assert said in told and "Traceback" not in told


def test_a_plan_knows_its_rows(place, capsys):
    assert main(["plan", *WORDS[1:], *DIGITS]) == 0
    assert "20 labelled, 40 in the pool" in capsys.readouterr().out


def test_conf_pool_is_as_the_data_sets_give_it():
    subprocess.run([sys.executable, ROOT / "scripts" / "pools.py", "--check"], check=True)


def test_test_rows_that_stand_in_the_pool_are_counted():
    rows = np.arange(12, dtype=np.uint8).reshape(4, 1, 1, 3)
    assert _seen_in_test({"unlabelled": rows[:3], "test": rows[2:]}) == [
        "1 of the 2 test rows stand in the pool too: a student sees them"
    ]
    assert _seen_in_test({"unlabelled": rows[:2], "test": rows[2:]}) == []
