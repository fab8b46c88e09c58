"""`kdx plan` foresees what `kdx train` with the same words then does: every stage by name and key, hits,
counts, gradients; and leaves nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdx.cli import main
from kdx.commands import commands
from kdx.commands.completion import complete
from kdx.commands.plan import take_file
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.paths import conf_dir
from kdx.pipeline.foretelling import Beforehand, Rehearsed
from kdx.pipeline.foretelling.data import augmented
from kdx.pipeline.foretelling.rehearsal.bench import enough
from kdx.pipeline.foretelling.training import Train
from kdx.planning import text as words_of
from kdx.planning.document import look_ahead
from kdx.runs.run import perform
from kdx.store.artifact import Artifact
from kdx.store.work import Listener
from kdx.tasks import chance

SHORT = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp",
    "student=mlp_small",
    "teacher_pretrain.steps=40",
    "student_train.steps=10",
    "dataset.unlabelled=120",
    "dataset.test=60",
    "dataset.validation=60",
    "augment=[none]",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One working directory and store for the whole file: what a test makes, later ones find."""
    return tmp_path_factory.mktemp("plan")


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


def order(*words):
    return wire(compose.check_words([*SHORT, *words]))


def plan(*words):
    """The document of one run."""
    return look_ahead([(words, order(*words))], lambda name: None)


def sweep(*words):
    """The document of all combinations, as `kdx plan -m json=` writes it."""
    assert main(["plan", *SHORT, "-m", *words, "json=plan.json"]) == 0
    found = json.loads(Path("plan.json").read_text())
    Path("plan.json").unlink()
    return found


class Ran(Listener):
    """What a run of the same words does, without its report."""

    def __init__(self, *words):
        self.keys, self.cached = {}, {}
        self.found, self.done = perform(order(*words), self)

    def started(self, name, key, cached):
        self.keys[name], self.cached[name] = key, cached

    def accuracy(self):
        return self.found.json("results.json")["teacher"]["last"]["validation"]["accuracy"]


def stages(found):
    return {stage["name"]: stage for stage in found["jobs"][0]["stages"]}


def texts(found, section):
    return [entry["text"] for entry in found[section]]


CASES = {
    "default": [],
    "rounds": ["loss=self_training", "rounds=2", "select.threshold=0.12", "seed=1"],
    "patience": [
        "loss=self_training",
        "rounds=3",
        "round_patience=1",
        "select.threshold=0.12",
        "student_train.lr=1e-12",
        "seed=1",
    ],
    "bought": ["select=rad", "budget=20", "rounds=2"],
    "no teacher": ["loss=fixmatch"],
    "chain": ["recipe=chain", "assistants=[mlp]", "seed=13", "baseline=false"],
    "no baseline": ["baseline=false", "loss=slam"],
    "teacher only": ["stages=[teacher_pretrain]", "seed=2"],
    "controls": ["ceiling=true", "noiseless=true", "validation_labels=true", "student.dropout=0.1"],
    "live and hidden": ["loss=vid", "pseudo_label.mode=live"],
    "doubt": ["loss=ups", "seed=3"],
    "precision": ["student_train.precision=auto", "baseline=false", "seed=4"],
}


SLOW = ("patience", "chain", "live and hidden", "doubt", "precision")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=name, marks=[pytest.mark.slow] * (name in SLOW))
        for name, words in CASES.items()
    ],
)
def test_the_plan_names_the_stages_and_keys_of_the_run(words):
    found = plan(*words)
    foreseen = stages(found)
    known = {
        name: stage for name, stage in foreseen.items() if stage["state"] != "unknown" and not stage["same"]
    }
    assert all(stage["key"] == known[stage["same"]]["key"] for stage in foreseen.values() if stage["same"])
    run = Ran(*words)
    assert (
        {name for name, stage in foreseen.items() if not stage["perhaps"]} <= set(run.keys) <= set(foreseen)
    )
    ran = {name: stage for name, stage in known.items() if name in run.keys}
    assert {name: stage["key"] for name, stage in ran.items()} == {name: run.keys[name] for name in ran}
    assert {name: stage["state"] == "hit" for name, stage in ran.items()} == {
        name: run.cached[name] for name in ran
    }
    assert len(ran) >= 3 and found["counts"]["miss"] > 0
    for entry in (found["stages"][stage["key"]] for stage in ran.values() if stage["state"] == "miss"):
        assert entry["seconds"] > 0 and entry["memory"] > 1e7 and entry["work"]
    after = plan(*words)
    assert {name: stage["key"] for name, stage in stages(after).items()} == run.keys
    assert after["counts"]["hit"] == after["counts"]["stages"] and after["seconds"] == 0


def test_rounds_are_all_named_and_what_hangs_on_the_best_is_unknown():
    whole = stages(plan("loss=self_training", "rounds=3", "seed=5", "round_patience=null"))
    assert [n for n in whole if n.startswith("student")] == [
        "student-train-1",
        "student-train-2",
        "student-train-3",
        "student-train",
    ]
    assert whole["student-train"]["until"] == whole["evaluate"]["until"] == "student-train-3"
    assert all(
        s["state"] == "miss" and not s["perhaps"]
        for n, s in whole.items()
        if n not in ("decode", "student-train", "evaluate")  # another test may have decoded the digits
    )
    patient = stages(plan("loss=self_training", "rounds=3", "seed=5", "round_patience=1"))
    assert (
        patient["student-train-3"]["perhaps"]
        and patient["pseudo-label-3"]["perhaps"]
        and not patient["student-train-2"]["perhaps"]
    )
    without = stages(plan("loss=self_training", "rounds=2", "seed=5", "dataset.validation=null"))
    assert all(
        s["state"] == "miss" for n, s in without.items() if n != "decode"
    )  # then the last round counts, which is known
    assert {n: s["same"] for n, s in without.items() if s["same"]} == {"student-train": "student-train-2"}


def test_a_plan_writes_nothing_but_the_file_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *SHORT]) == 0 and list(tmp_path.iterdir()) == []
    reported = capsys.readouterr().out
    for part in (
        "| student-train ",
        "classes: 10",
        "1x16x16",
        "in the pool, without labels",
        "matched baseline: the distilled",
    ):
        assert part in reported
    assert "distillation : labels = 1 : " in reported and reported.count(" miss |") == 11
    assert main(["plan", *SHORT, "--json", "a.json"]) == 0 and [p.name for p in tmp_path.iterdir()] == [
        "a.json"
    ]


def test_everything_in_the_store_needs_no_torch(place, root):
    Ran()
    code = (
        "import sys; from kdx.cli import main; code = main(sys.argv[1:]); print('torch' in sys.modules, code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, "plan", *SHORT],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.splitlines()[-1] == "False 0", found.stderr
    assert (
        "Everything is in the store" in found.stdout
        and "as logged when it ran" in found.stdout
        and found.stdout.count(" hit |") == 11
    )


def test_a_sweep_counts_shared_stages_once(capsys):
    words = ["loss=kd,soft", "seed=6,7", "baseline=false"]
    found = sweep(*words)
    keys = {
        name: {s["key"] for job in found["jobs"] for s in job["stages"] if s["name"] == name}
        for name in ("prepare", "teacher-pretrain", "student-train")
    }
    assert {name: len(of) for name, of in keys.items()} == {
        "prepare": 2,
        "teacher-pretrain": 2,
        "student-train": 4,
    }
    stored = [stage["name"] for stage in found["stages"].values() if stage["state"] == "hit"]
    assert found["counts"]["jobs"] == 4 and stored in ([], ["decode"])
    assert (
        found["counts"]["stages"]
        == len({s["key"] for job in found["jobs"] for s in job["stages"]})
        == sum(job["to_run"] for job in found["jobs"]) + len(stored)
    )
    assert found["seconds"] == pytest.approx(sum(job["seconds"] for job in found["jobs"]) + found["loading"])
    reported = capsys.readouterr().out
    assert (
        f"4 jobs: 2 teachers, 2 label sets, 4 students; {found['counts']['stages']} stages, "
        f"{len(stored)} in the store" in reported
    )
    assert "student-train (loss=soft) " in reported and "loss=kd seed=6 |" in reported
    Ran("seed=6", "baseline=false", "stages=[teacher_pretrain]")
    # its data, decoded and split, its teacher and what that answers; the evaluation of it alone is another
    assert sweep(*words)["counts"]["hit"] == 4


def test_twice_the_steps_take_about_twice_as_long_by_construction():
    found = Rehearsed({"start": 0.5, "steps": 0.01, "validation": 0.001})
    assert found.seconds({"start": 1, "steps": 1000, "validation": 200}) == pytest.approx(10.7)
    assert found.seconds({"start": 1, "steps": 2000, "validation": 200}) == pytest.approx(20.7)
    assert found.seconds({"start": 1, "rows": 3}) is None  # was not timed
    words = [
        ["seed=8", f"student_train.steps={n}", "student_train.evaluate_every=100", "baseline=false"]
        for n in (2000, 4000)
    ]
    entries = look_ahead([(w, order(*w)) for w in words], lambda name: None)["stages"].values()
    short, long = (entry for entry in entries if entry["name"] == "student-train")
    assert (short["work"], long["work"]) == ("2,000 steps of 64", "4,000 steps of 64")
    # one rehearsal, whose start counts once
    assert short["kind"] == long["kind"] and 1.5 * short["seconds"] < long["seconds"] <= 2 * short["seconds"]


@pytest.mark.parametrize(
    "words, wrong",
    [
        (
            ["loss.temperature=0", "dataset.labelled=5"],
            ["loss.temperature must be", "dataset.labelled=5 makes 5 labelled rows"],
        ),
        (["loss=kdd", "teacher=cnnn"], ["loss has no option 'kdd'", "teacher has no option 'cnnn'"]),
        (["seed=0,1"], ["names several values; add -m"]),
        (["studnt_train.steps=3"], ["'studnt_train' is no key"]),
    ],
)
def test_bad_input_is_reported_as_kdx_train_tells_it(words, wrong, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reported = []
    for command in ("plan", "train"):
        assert main([command, *SHORT[:2], *words]) == 2
        reported.append(capsys.readouterr().err)
    assert (
        reported[0] == reported[1]
        and all(part in reported[0] for part in wrong)
        and list(tmp_path.iterdir()) == []
    )


def test_the_file_of_the_plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert take_file(["a=1", "--json", "p.json", "-m"]) == (["a=1", "-m"], Path("p.json"))
    assert (
        take_file(["json=p.json"]) == ([], Path("p.json"))
        and take_file(["--json=q"]) == ([], Path("q"))
        and take_file(["x"]) == (["x"], None)
    )
    for words in (["--json"], ["json="], [f"json={tmp_path}"], ["json=no/such/p.json"]):
        with pytest.raises(UserError):
            take_file(words)


def test_config_dir_and_the_flags_that_only_show(tmp_path, capsys):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text(
        "# Mine\n_target_: kdx.methods.losses.kd.KD\ntemperature: 2\nalpha: 0.5\n"
    )
    assert main(["plan", "--config-dir", str(tmp_path), *SHORT, "loss=mine"]) == 0
    assert "loss mine" in capsys.readouterr().out
    assert main(["plan", "--help"]) == 0 and "Trains nothing" not in capsys.readouterr().out
    assert main(["plan", "--cfg", "job", *SHORT]) == 0 and "teacher_pretrain:" in capsys.readouterr().out


def test_completion_offers_the_words_of_train():
    assert complete(conf_dir(), commands(), "kdx plan lo", "=:") == ["loss="] and "plan " in complete(
        conf_dir(), commands(), "kdx pl", "=:"
    )


@pytest.mark.parametrize(
    "words, beside",
    [
        (["loss=mutual"], "objective"),
        pytest.param(["teacher=mlp_small", "teacher.update=slow"], "teacher", marks=pytest.mark.slow),
    ],
)
def test_what_a_training_leaves_beside_the_student_takes_room(words, beside):
    """The bytes of its weights, that of the peer or of the teacher that moved among them."""
    words = [*words, "student_train.steps=2", "teacher_pretrain.steps=2", "seed=30", "baseline=false"]
    found = next(e for e in plan(*words)["stages"].values() if e["name"] == "student-train")
    files = list(Ran(*words).done["student-train"].path.glob("*.safetensors"))
    assert sorted(file.stem for file in files) == sorted(["best", "last", beside])
    assert found["disk"] == sum(tensor.nbytes for file in files for tensor in load_file(file).values())


# The terms of the loss


def foreseen(found):
    return next(e["gradient_norms"] for e in found["stages"].values() if e["name"] == "student-train")


def logged(run):
    first = next(
        line for line in run.done["student-train"].lines("metrics.jsonl") if "gradient/labels" in line
    )
    assert first["step"] == 0
    return {name.partition("/")[2]: value for name, value in first.items() if name.startswith("gradient/")}


@pytest.mark.parametrize("loss, seed", [("kd", 20), pytest.param("slam", 21, marks=pytest.mark.slow)])
def test_the_norms_are_those_that_the_run_logs_at_its_first_step(loss, seed):
    words = [f"loss={loss}", f"seed={seed}", "baseline=false", "augment=[affine]"]
    untrained = foreseen(plan(*words))
    Ran(*words, "stages=[teacher_pretrain]")
    with_teacher = plan(*words)
    Ran(*words, "stages=[teacher_pretrain,pseudo_label]")
    with_answers = foreseen(plan(*words))
    found = logged(Ran(*words))
    assert with_answers == pytest.approx(found, rel=1e-6)
    # but for the size of the batches in which it is asked
    assert foreseen(with_teacher) == pytest.approx(found, rel=2e-3)
    assert untrained != pytest.approx(found, rel=0.05)
    assert "with a teacher of the store" in texts(with_teacher, "loss")[0]
    after = texts(plan(*words), "loss")[0]
    assert "as logged when it ran" in after and all(
        f"{name} {norm:.3g}" in after for name, norm in found.items()
    )


def test_norms_that_stand_for_two_seeds_say_whose_teacher_they_were_measured_with():
    words = [[f"seed={seed}", "baseline=false", "augment=[affine]"] for seed in (23, 24)]
    before = look_ahead([(of, order(*of)) for of in words], lambda name: None)
    assert all("with an untrained teacher" in text for text in texts(before, "loss"))
    Ran(*words[0], "stages=[teacher_pretrain]")
    after = look_ahead([(of, order(*of)) for of in words], lambda name: None)
    (reported,) = set(texts(after, "loss"))
    assert "with a teacher of the store" in reported


def test_a_stage_is_rehearsed_on_the_answers_that_stand_for_another_seed():
    """What is rehearsed for one run stands for another of its kind, whose views it does not answer."""
    both = ["baseline=false", "augment=[affine]", "dataset.labelled=0.3"]
    words = [[*both, "loss=kd", "seed=25"], [*both, "loss=soft", "seed=26"]]
    found = look_ahead([(of, order(*of)) for of in words], lambda name: None)
    assert [e["name"] for e in found["stages"].values()].count("student-train") == 2


def test_the_norm_of_a_term_grows_with_its_weight():
    """In kd the terms are alpha D and (1 - alpha) L, so the norms follow alpha and 1 - alpha."""
    half, most = (foreseen(plan(f"loss.alpha={alpha}", "seed=9", "baseline=false")) for alpha in (0.5, 0.9))
    assert most["distillation"] == pytest.approx(1.8 * half["distillation"], rel=1e-4)
    assert most["labels"] == pytest.approx(0.2 * half["labels"], rel=1e-4)
    alone = plan("loss.alpha=1", "seed=9", "baseline=false")
    assert foreseen(alone)["labels"] == 0 and texts(alone, "loss")[0].endswith(
        "distillation : labels = 1 : 0"
    )


def test_a_term_that_grows_is_reported_as_at_the_end_too():
    found = plan("loss=mean_teacher", "seed=9", "baseline=false", "augment=[affine]")
    entry = next(e for e in found["stages"].values() if e["name"] == "student-train")
    early, late = (
        entry[name]["consistency"] / entry[name]["labels"]
        for name in ("gradient_norms", "gradient_norms_at_the_end")
    )
    assert late > 5 * early and "weighted as at the last step" in texts(found, "loss")[1]
    assert len(texts(plan("seed=9", "baseline=false"), "loss")) == 1  # kd's alpha is a constant


@pytest.mark.parametrize(
    "counted, seconds, done",
    [(0, 99, False), (1, 4, False), (1, 6, True), (3, 0.5, False), (3, 0.8, True), (50, 0, True)],
)
def test_when_enough_is_timed(counted, seconds, done):
    assert enough(counted, seconds) == done


@pytest.mark.parametrize("more", [True, False])
def test_a_round_is_foretold_as_better_or_worse_than_all_before(more, tmp_path):
    """In the direction of the metric that counts."""
    metric = Metric("mine", "mine", more=more)
    (tmp_path / "data.json").write_text(
        json.dumps({"metric": metric.document(), "counts": {"validation": 3}})
    )
    data, numbers = Artifact("prepare", "0" * 64, tmp_path), iter(range(1, 9))
    for improving in (True, False):
        look = Beforehand(None, None, lambda: next(numbers), improving)
        first, second = (
            Train().files(look, {"data": data})["summary.json"]["validation_score"] for _ in range(2)
        )
        assert (metric.gain(second, first) > 0) == (metric.gain(first, 100) > 0) == improving


# The teacher


def test_the_gate_of_a_teacher_that_has_learned_nothing():
    words = ["teacher_pretrain.steps=1", "teacher_pretrain.lr=1e-9", "baseline=false", "seed=10"]
    before = texts(plan(*words), "teacher")
    assert (
        "not in the store" in before[0]
        and 'it is no better than always "3", the class that about 10.' in before[1]
    )
    assert (
        'not better than always "3" by two standard errors' in before[2]
        and "the run goes on (gate=error stops it)" in before[2]
    )
    ran = Ran(*words, "stages=[teacher_pretrain]")
    counts = np.bincount(np.load(ran.done["prepare"].file("validation.truth.npy")))
    share, accuracy = counts.max() / 60, ran.accuracy()
    assert accuracy < chance.chance_level(share, 60)
    reported = texts(plan(*words), "teacher")
    assert (
        f'{accuracy:.1%} of 60 validation rows right, which is NO BETTER THAN always "{counts.argmax()}"'
        in reported[0]
    )
    assert f"the class that {share:.1%} of these rows have" in reported[1]
    Ran(*words)
    stopped = plan(*words, "pseudo_label.gate=error")
    reported = texts(stopped, "teacher")
    assert "the run stops there (gate=error)" in reported[2] and reported[3].startswith(
        "nothing is to be gained from this teacher: on 60 validation rows"
    )
    assert texts(stopped, "stops") == [f"{reported[3]}. To go on all the same: pseudo_label.gate=warn"]
    assert len(reported) == 4 and not texts(plan(*words), "stops")
    shown = "\n".join(words_of.totals(stopped))
    assert shown.startswith("This run will stop: nothing is to be gained") and "takes seconds" not in shown
    assert main(["plan", *SHORT, *words, "pseudo_label.gate=error"]) == 2
    assert main(["plan", *SHORT, *words]) == 0
    both = [{"words": ["pseudo_label.gate=error"]}, {"words": []}]
    told = words_of.totals(stopped | {"jobs": both, "counts": {"stages": 5, "hit": 5}})
    assert told[0].startswith("pseudo_label.gate=error will stop: nothing is to be gained")
    assert list(stages(stopped)) == ["decode", "prepare", "teacher-pretrain", "pseudo-label", "gate"]
    assert texts(plan(*words, "pseudo_label.near_chance=error"), "teacher") == reported, (
        "the old name is read as the new one"
    )


def test_a_checkpoint_is_measured_on_validation():
    run = Ran("seed=11", "stages=[teacher_pretrain]")
    weights = run.done["teacher-pretrain"].file("last.safetensors")
    torch.save({f"module.{name}": value for name, value in load_file(weights).items()}, "wrapped.pt")
    found = plan("seed=11", "teacher.checkpoint=wrapped.pt", "teacher_pretrain.steps=null")
    assert f"as it is: {run.accuracy():.1%} of 60 validation rows right" in texts(found, "teacher")[0]
    assert "with the teacher's weights as they are given" in texts(found, "loss")[0]
    assert "checkpoint: the weights of 'wrapped.pt' fit the teacher" in texts(found, "checks")
    assert (
        "checkpoint: the names of the checkpoint 'wrapped.pt' begin with 'module.', which was dropped"
        in texts(found, "checks")
    )
    trained_on = plan("seed=11", "teacher.checkpoint=wrapped.pt", "teacher_pretrain.steps=2")
    assert texts(trained_on, "teacher")[0].endswith(
        f"to be trained further: {run.accuracy():.1%} of 60 validation rows right before that"
    )
    assert (
        "checkpoint: the names of the checkpoint 'wrapped.pt' begin with 'module.', which was dropped"
        in texts(trained_on, "checks")
    )


def test_chance_by_hand():
    assert chance.chance_level(0.1, 10_000) == pytest.approx(0.15)  # 5 points
    assert chance.chance_level(0.1, 100) == pytest.approx(0.1 + 2 * 0.03)  # sqrt(.1 * .9 / 100) = .03
    assert chance.chance_level(0.5, 4) == pytest.approx(0.75)  # half way to 1


# Data too large to prepare for a plan


def test_large_data_are_stood_in_for_and_the_ratio_is_not_reported(monkeypatch):
    monkeypatch.setattr("kdx.pipeline.foretelling.rehearsal.others.PREPARED", 1000)
    found = plan("seed=12")
    assert (
        found["not_timed"] in (["prepare"], ["decode", "prepare"])
        and "not reported" in texts(found, "loss")[0]
    )
    student = next(e for e in found["stages"].values() if e["name"] == "student-train")
    assert student["seconds"] > 0 and "gradient_norms" not in student
    assert any(line.startswith("Time: at least about") for line in words_of.totals(found))


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        ([], "affine; they are not mirrored: augment=[flip_crop] asks for it"),
        (
            ["augment=[flip_crop,cutout]"],
            "flip_crop, cutout; some are mirrored, which is wrong where a mirrored one is another thing",
        ),
        (["augment=[flip_crop]", "augment.flip_crop.flip=0"], "flip_crop; they are not mirrored"),
    ],
)
def test_pictures_of_a_folder_are_mirrored_only_where_that_is_asked_for(words, reported):
    training = wire(
        compose.check_words(["dataset=folder", "dataset.root=x", *words])
    ).experiment.student_train
    data = {"reads": "pictures", "shape": [3, 8, 8]}
    assert augmented(training, data).startswith(f"augmentation of the student's pictures: {reported}")
