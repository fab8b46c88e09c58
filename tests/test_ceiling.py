"""The controls `ceiling` and `validation_labels`: a student on labels that no method trains on, with a data
set of its own.
"""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file
from small_words import SYNTHETIC

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.pipeline.controls.control import all_the_way
from kdx.pipeline.stages.arrays import read_inputs
from kdx.report.run.sentences import result_sentences
from kdx.runs import claims
from kdx.store.artifact import Artifact
from kdx.store.manifest import MANIFEST, seal

WORDS = [
    *SYNTHETIC,
    "dataset.test_rows=80",
    "dataset.labelled=20",
    "dataset.validation=20",
    "teacher=cnn_tiny",
    "student=cnn_tiny",
    "teacher_pretrain.steps=20",
    "student_train.steps=20",
    "student_train.batch_size=16",
    "loss=soft",
]


def run(name, *words):
    assert main([*WORDS, f"hydra.run.dir={name}", *words]) == 0
    return json.loads(open(f"{name}/run.json").read())


def keys(run):
    return {s["name"]: s["key"] for s in run["stages"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ceiling")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("with", "ceiling=true")
    return folder


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


def rows(place, name, part="inputs"):
    if part == "truth":
        return np.load(place / f"{name}.truth.npy")
    return read_inputs(Artifact("prepare", "", place), name)[:]


def first():
    return json.loads(open("with/run.json").read())


def test_it_trains_on_every_label_and_has_no_pool_and_no_test_split(place):
    found = first()
    data, revealed = (place / "with/artifacts" / name for name in ("prepare", "reveal"))
    truth = np.load(data / "truth.npy")
    labels = np.load(revealed / "labelled.truth.npy")
    assert json.loads((revealed / "data.json").read_text())["counts"] == {
        "labelled": 140,
        "validation": 20,
        "test": 0,
        "unlabelled": 0,
    }
    assert np.array_equal(labels, np.concatenate([np.load(data / "labelled.truth.npy"), truth]))
    both = [rows(data, name) for name in ("labelled", "unlabelled")]
    assert np.array_equal(rows(revealed, "labelled"), np.concatenate(both))
    assert not list(revealed.glob("test*")) and not list(revealed.glob("unlabelled*"))
    steps = {role: found["results"][role]["steps"] for role in ("baseline", "student", "ceiling")}
    assert set(steps.values()) == {20} and found["results"]["ceiling"]["last"]["test"]["n"] == 80


def test_nothing_else_of_the_run_knows_of_it(place):
    found = keys(first())
    for name in found:
        inputs = json.loads((place / "with/artifacts" / name / MANIFEST).read_text())["inputs"]
        reported = json.dumps({k: v for k, v in inputs.items() if not (name == "evaluate" and k == "models")})
        assert (found["reveal"] in reported) == (name == "ceiling-train"), name
    without = run("without")
    assert {
        n: k for n, k in found.items() if n not in ("reveal", "ceiling-train", "ceiling-predict", "evaluate")
    } == {n: k for n, k in keys(without).items() if n != "evaluate"}
    assert "ceiling" not in without["results"]


def test_no_method_sees_the_truth(place):
    """The pool's truth turned by one class: teacher, student and baseline are the same to the bit, and the
    ceiling is another.
    """
    found = keys(first())
    kept = place / "other/prepare" / found["prepare"]
    shutil.copytree(place / "outputs/store/prepare" / found["prepare"], kept)
    np.save(kept / "truth.npy", (np.load(kept / "truth.npy") + 1) % 4)
    manifest = json.loads((kept / MANIFEST).read_text())
    (kept / MANIFEST).unlink()
    seal(kept, {k: v for k, v in manifest.items() if k != "files"})
    again = run("turned", "store=other", "ceiling=true")
    assert (
        keys(again)["prepare"] == found["prepare"]
        and [s["cached"] for s in again["stages"]] == [False, True] + [False] * 12
    )
    for stage in ("teacher-pretrain", "student-train", "baseline-train", "ceiling-train"):
        one, other = (
            load_file(place / f / "artifacts" / stage / "last.safetensors") for f in ("with", "turned")
        )
        assert all((one[k] == other[k]).all() for k in one) == (stage != "ceiling-train"), stage


def test_a_limit_on_the_labelled_rows_does_not_hold_for_it():
    controls = wire(
        compose.check_words([*WORDS[1:], "ceiling=true", "student_train.rows=10"])
    ).experiment.controls
    assert {role: control.training.spec["rows"] for role, control in controls.items()} == {
        "baseline": 10,
        "ceiling": None,
    }


@pytest.mark.parametrize("words", [["dataset.labelled=null"], ["dataset.unlabelled=0"]])
def test_without_hidden_labels_it_is_refused_before_any_work(words, capsys):
    assert main([*WORDS, "loss=kd", "ceiling=true", "hydra.run.dir=none", *words]) == 2
    assert (
        "ceiling=true trains a student on the pool's hidden labels, and this run hides none"
        in capsys.readouterr().err
    )


def test_what_the_report_says_of_it(place):
    def results(alone, student, best):
        return {
            role: {"last": {"test": {"accuracy": value, "n": 100}}}
            for role, value in {
                "teacher": 0.9,
                "baseline": alone,
                "student": student,
                "ceiling": best,
            }.items()
        }

    reported = " ".join(result_sentences(results(0.7, 0.75, 0.8), "last"))
    assert (
        "The true labels of the pool bring +10.0 points over the student alone: the teacher's answers "
        "brought 50% of that."
    ) in reported
    assert "-5.0 points over the student alone: there was nothing to gain" in " ".join(
        result_sentences(results(0.7, 0.6, 0.65), "last")
    )
    assert "+5.0 points over the student alone: the teacher's answers brought more" in " ".join(
        result_sentences(results(0.7, 0.8, 0.75), "last")
    )
    assert "student, all labels" in (place / "with/report.md").read_text()


def test_it_is_measured_on_the_test_split_of_the_run(capsys):
    """Its own data set has none."""
    assert main(["evaluate", "with", "role=ceiling", "device=cpu", "json=figures.json"]) == 0
    found = json.loads(open("figures.json").read())["results"]
    assert (
        found["ceiling"]["accuracy"]
        == pytest.approx(first()["results"]["ceiling"]["last"]["test"]["accuracy"])
        and found["ceiling"]["n"] == 80
    )


# The control `validation_labels`


@pytest.fixture(scope="module")
def validated(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return run(
            "validated",
            "validation_labels=true",
            "student_train.rows=10",
            "student_train.patience=1",
            "headline=best",
        )


def test_it_trains_on_validation_too_to_its_last_step_and_nothing_validates_it(place, validated):
    data, joined = (place / "validated/artifacts" / name for name in ("prepare", "reveal-validation"))
    assert json.loads((joined / "data.json").read_text())["counts"] == {
        "labelled": 40,
        "validation": 0,
        "test": 0,
        "unlabelled": 0,
    }
    for part in ("inputs", "truth"):
        both = [rows(data, name, part) for name in ("labelled", "validation")]
        assert np.array_equal(rows(joined, "labelled", part), np.concatenate(both))
    assert (
        not list(joined.glob("test*"))
        and not list(joined.glob("unlabelled*"))
        and not list(joined.glob("truth*"))
    )
    found = validated["results"]["validation_labels"]
    assert (
        found["steps"] == 20
        and found["stopped"] is None
        and "best" not in found
        and set(found["last"]) == {"train", "test"}
    )
    inputs = json.loads((place / "validated/artifacts/validation-labels-train" / MANIFEST).read_text())[
        "inputs"
    ]
    assert inputs["training"]["component"]["rows"] == 30, (
        "ten labelled rows reach the student, and here those of validation beside them"
    )
    assert validated["results"]["headline"] == "best", "the others have their best weights, and it has none"


def test_it_takes_as_many_steps_as_the_baseline_in_epochs_too():
    more = [
        "validation_labels=true",
        "student_train.steps=null",
        "student_train.epochs=3",
        "student_train.target=.9",
    ]
    experiment = wire(compose.check_words([*WORDS[1:], *more])).experiment
    training = all_the_way(
        experiment.controls["validation_labels"].training,
        {"labelled": 20, "unlabelled": 120, "validation": 20},
    )
    # 3 x 140 rows in batches of 16
    assert training.spec["length"] == "27 steps" and training.spec["rows"] is training.spec["target"] is None


def test_nothing_else_of_the_run_knows_of_validation_that_is_learned_from(place, validated):
    found = keys(validated)
    for name in found:
        inputs = json.loads((place / "validated/artifacts" / name / MANIFEST).read_text())["inputs"]
        reported = json.dumps({k: v for k, v in inputs.items() if not (name == "evaluate" and k == "models")})
        assert (found["reveal-validation"] in reported) == (name == "validation-labels-train"), name


def test_without_validation_it_is_refused_before_any_work(capsys):
    assert (
        main([*WORDS, "loss=kd", "validation_labels=true", "dataset.validation=null", "hydra.run.dir=none"])
        == 2
    )
    assert (
        "validation_labels=true trains a student on the validation labels too, and this run has no "
        "validation split"
    ) in capsys.readouterr().err


def test_what_is_said_and_measured_of_it(place, validated, capsys):
    shown = {"student": "best", "validation_labels": "last"}
    test = {role: validated["results"][role][which]["test"]["accuracy"] for role, which in shown.items()}
    report = (place / "validated/report.md").read_text()
    assert (
        f"nothing validates it): {100 * (test['student'] - test['validation_labels']):+.1f} points" in report
    )
    assert "student alone, validation labels too" in report
    assert main(["evaluate", "validated", "which=best", "device=cpu", "json=figures.json"]) == 0
    figures = json.loads(open("figures.json").read())["results"]
    assert figures["validation_labels"]["accuracy"] == pytest.approx(test["validation_labels"])
    assert main(["evaluate", "validated", "split=validation", "device=cpu", "json=figures.json"]) == 0
    assert set(json.loads(open("figures.json").read())["results"]) == {"teacher", "baseline", "student"}
    assert main(["evaluate", "validated", "split=validation", "role=validation_labels", "device=cpu"]) == 2
    assert (
        "learned from the validation rows, so they tell nothing of it: use split=test"
        in capsys.readouterr().err
    )


def test_claims_of_methods_that_read_validation_labels_have_it_beside_them():
    """SLaM and the debiasing weights estimate from these labels,
    RAD counts the teacher's errors with them.
    """
    for name in claims.claim_names():
        claim = claims.read_claim(name)
        reads = [
            arm
            for arm, words in claim.arms.items()
            if {"loss=slam", "loss=weighted", "select=rad"} & set(words)
        ]
        figures = {key for key, figure in claim.figures.items() if figure.at.startswith("validation_labels.")}
        assert bool(reads) == bool(figures) == any(pair.less in figures for pair in claim.beside), name
        assert all(("validation_labels=true" in claim.arms[arm]) == bool(reads) for arm in claim.arms), name
