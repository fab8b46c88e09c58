"""A teacher that comes with weights is fine-tuned: head first, rates by depth, through other data sets."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.types import ParameterGroup
from kdx.models.cnn import cnn
from kdx.models.depth import layers_by_depth
from kdx.models.resnet import resnet
from kdx.report.run.sentences import result_sentences
from kdx.runs.reading import read_run
from kdx.training.depth import groups_by_depth
from kdx.training.settings import Training

BASE = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp_small",
    "student=mlp_small",
    "student_train.steps=4",
    "dataset.unlabelled=20",
    "dataset.validation=40",
    "dataset.test=50",
    "augment=[]",
]


def settings(**keys):
    spec = wire(compose.check_words(BASE)).experiment.teachers[0].training.spec
    return Training(**{**{k: v for k, v in spec.items() if k != "_target_"}, **keys})


def small():
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 6), nn.Linear(6, 2))


def test_layers_stand_from_the_input_to_the_last_one_and_vectors_belong_to_the_one_before():
    net = small()
    layers = layers_by_depth(net)
    assert [[tuple(p.shape) for p in layer] for layer in layers] == [
        [(5, 4), (5,), (5,), (5,)],
        [(6, 5), (6,)],
        [(2, 6), (2,)],
    ]
    more = {"dropout": 0.0, "stochastic_depth": 0.0}
    for network in (
        cnn(shape=(1, 8, 8), classes=3, widths=[4, 8], hidden=16, batch_norm=True, **more),
        resnet(shape=(3, 8, 8), classes=3, depth=20, widths=[4, 8, 16, 32], **more),
    ):
        found = layers_by_depth(network)
        assert sum(len(layer) for layer in found) == len(list(network.parameters()))
        assert found[-1][0].shape[0] == 3 and len(found[-1]) == 2


def test_rates_fall_by_depth_and_all_but_the_head_wait():
    net, other = small(), nn.Parameter(torch.zeros(2))
    group = ParameterGroup("student", [*net.parameters(), other], rate=2.0)
    made = groups_by_depth([group], net, settings(head_first=0.25, layer_decay=0.5), 40)
    assert [one.rate for one in made] == [0.5, 1.0, 2.0, 2.0] and made[-1].parameters == [other]
    assert [one.begins for one in made] == [10, 10, 0, 0]
    assert groups_by_depth([group], net, settings(), 40) == [group]
    assert [one.begins for one in groups_by_depth([group], net, settings(head_first=1.0), 40)][:3] == [
        40,
        40,
        0,
    ]
    with pytest.raises(
        UserError, match="teacher_pretrain.head_first=50 steps are more than the 40 of the training"
    ):
        groups_by_depth([group], net, settings(head_first=50), 40)


def test_at_their_defaults_they_enter_no_key():
    spec = wire(compose.check_words(BASE)).experiment.teachers[0].training.spec
    assert not {"head_first", "layer_decay"} & set(spec)
    words = [*BASE, "teacher_pretrain.head_first=0.0", "teacher_pretrain.layer_decay=1.0"]
    assert wire(compose.check_words(words)).experiment.teachers[0].training.spec == spec


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["teacher_pretrain.steps=20", "stages=[teacher_pretrain]", "hydra.run.dir=first"]
        assert main(["train", *BASE, *words]) == 0
        yield folder


def weights(run):
    return load_file(read_run(run).stage("teacher-pretrain").file("last.safetensors"))


def checkpoint():
    return read_run("first").stage("teacher-pretrain").file("last.safetensors")


@pytest.mark.slow
def test_the_head_alone_learns_first(place):
    words = [*BASE, f"teacher.checkpoint={checkpoint()}", "stages=[teacher_pretrain]", "seed=1"]
    words += ["teacher_pretrain.steps=3"]
    assert main(["train", *words, "teacher_pretrain.head_first=1.0", "hydra.run.dir=head"]) == 0
    before, after = weights("first"), weights("head")
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and moved == {name for name in moved if before[name].shape[0] == 10}
    assert main(["train", *words, "teacher_pretrain.head_first=1", "hydra.run.dir=both"]) == 0
    both = weights("both")
    assert all(not torch.equal(before[name], both[name]) for name in before if name.endswith("weight"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["teacher_pretrain.head_first=0.2"], "this one's are fresh: set teacher.checkpoint=PATH"),
        (["teacher_pretrain.head_first=1.5"], "teacher_pretrain.head_first must be"),
        (["teacher_pretrain.layer_decay=0"], "teacher_pretrain.layer_decay must be"),
        (
            ["teacher.through=[digits]", "teacher_pretrain.head_first=500", "teacher_pretrain.steps=60"],
            "teacher_pretrain.head_first=500 steps are more than the 60 of the training",
        ),
    ],
)
def test_what_cannot_be_is_said_before_work(place, capsys, words, said):
    for command in ("train", "plan"):
        assert main([command, *BASE, *words]) == 2
        told = "".join(capsys.readouterr())
        assert told.count(said) == 1 and "Traceback" not in told


def test_the_teacher_stands_in_the_table_before_and_after(place, capsys):
    words = [*BASE, f"teacher.checkpoint={checkpoint()}", "teacher_pretrain.steps=5", "hydra.run.dir=tuned"]
    assert main(["train", *words]) == 0
    made = json.loads(Path("tuned/run.json").read_text())
    before, after = (
        made["results"][role]["last"]["test"]["accuracy"] for role in ("teacher_before", "teacher")
    )
    alone = json.loads(Path("first/run.json").read_text())["results"]["teacher"]["last"]["test"]["accuracy"]
    assert before == alone and made["results"]["teacher_before"]["model"] == "mlp_small"
    assert "new_head" not in made["results"]["teacher_before"]
    assert made["results"]["teacher_before"]["could_teach"] == ["untuned_student", "probed_student"]
    told = "".join(capsys.readouterr())
    assert "untuned" in told
    assert f"Fine-tuning took the teacher from {100 * before:.1f}% to {100 * after:.1f}%" in told
    assert main(["evaluate", "tuned", "role=teacher_before", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["teacher_before"]["accuracy"] == before
    assert main(["plan", *words]) == 0
    assert "teacher_before" not in json.loads(Path("first/run.json").read_text())["results"]


def keys(name):
    return {
        stage["name"]: stage["key"] for stage in json.loads(Path(f"{name}/run.json").read_text())["stages"]
    }


def accuracy_of(name, role):
    return json.loads(Path(f"{name}/run.json").read_text())["results"][role]["last"]["test"]["accuracy"]


@pytest.mark.slow
def test_the_student_of_the_teacher_before_is_that_of_a_run_which_takes_it_as_it_is(place, capsys):
    words = [*BASE, f"teacher.checkpoint={checkpoint()}"]
    tuned = [*words, "teacher_pretrain.steps=5"]
    both = ["untuned_student=true", "probed_student=true"]
    assert main(["train", *tuned, *both, "hydra.run.dir=compared"]) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert told.count("helped the student") == 2 and "from the teacher before its fine-tuning" in told
    assert "untuned_student=true distils it" not in told
    assert main(["train", *words, "hydra.run.dir=as_it_is"]) == 0
    assert accuracy_of("compared", "untuned_student") == accuracy_of("as_it_is", "student")
    assert main(["train", *tuned, "teacher_pretrain.head_first=1.0", "hydra.run.dir=probed"]) == 0
    assert keys("compared")["probed-student-train"] == keys("probed")["student-train"]
    assert keys("compared")["teacher-pretrain-probed"] == keys("probed")["teacher-pretrain"]
    capsys.readouterr()
    assert main(["evaluate", "compared", "role=untuned_student", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]["untuned_student"]["accuracy"]
    assert found == accuracy_of("compared", "untuned_student")


def test_of_an_ensemble_it_is_said_that_the_members_before_are_not_measured(place, capsys):
    words = [*BASE, f"teacher.checkpoint={checkpoint()}", "teacher_pretrain.steps=2", "teacher.members=2"]
    assert main(["train", *words, "stages=[teacher_pretrain]", "hydra.run.dir=both_tuned"]) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert "2 x mlp_small: what it was before its fine-tuning is not measured in an ensemble" in told
    assert read_run("both_tuned").members() == ["teacher-pretrain-1", "teacher-pretrain-2"]


@pytest.mark.parametrize(
    ("student", "other", "said"),
    [
        (
            0.80,
            0.70,
            "Fine-tuning the teacher helped the student: it has 80.0%, and 70.0% from the teacher before",
        ),
        (
            0.70,
            0.80,
            "Fine-tuning the teacher harmed the student: it has 70.0%, and 80.0% from the teacher before",
        ),
        (0.72, 0.70, "500 test rows of one run cannot tell: it has 72.0%, and 70.0% from the teacher before"),
    ],
)
def test_whether_fine_tuning_helped_is_said_in_one_sentence(student, other, said):
    values = {"teacher_before": 0.4, "teacher": 0.9, "student": student, "untuned_student": other}
    results = {role: {"last": {"test": {"accuracy": value, "n": 500}}} for role, value in values.items()}
    found = [text for text in result_sentences(results, "last") if "Fine-tuning" in text or "tell" in text]
    del results["untuned_student"]
    assert any("untuned_student=true distils it" in text for text in result_sentences(results, "last"))
    assert len(found) == 2 and said in found[1]
    assert f"{100 * (student - other):+.1f} points of test accuracy" in found[1]
    if "cannot" in said:  # by hand: 2 sqrt(.72 * .28 / 500 + .7 * .3 / 500) = .0573
        assert "within two standard errors (5.7 points)" in found[1]


def results_before(before, **roles):
    """Of 500 test rows of 2 classes."""
    values = {"teacher": 0.9, "student": 0.8, **roles}
    found = {
        role: {"last": {"test": {"accuracy": value, "balanced_accuracy": value, "n": 500}}}
        for role, value in {"teacher_before": before, **values}.items()
    }
    return {**found, "classes": ["a", "b"], "class_counts": {"test": [250, 250]}}


def of_tuning(results):
    return " ".join(text for text in result_sentences(results, "last") if "Fine-tuning" in text)


def test_after_a_new_last_layer_the_hint_is_one_that_can_be_followed():
    results = results_before(0.5)
    results["teacher_before"] |= {"new_head": True, "could_teach": ["probed_student"]}
    told = of_tuning(results)
    assert "from 50.0% (its last layer was a new one, which knew nothing) to 90.0%" in told
    assert "gains by it: probed_student=true distils" in told and "untuned_student" not in told
    results["teacher_before"]["could_teach"] = []
    assert "gains by it" not in of_tuning(results)
    del results["teacher_before"]["could_teach"]
    assert "untuned_student" not in of_tuning(results)


def test_a_run_knows_whether_the_last_layer_was_new(place, capsys):
    words = [*BASE, "dataset=synthetic", "dataset.classes=4", "dataset.image_size=16", "dataset.test=null"]
    words += ["dataset.test_rows=40", "dataset.train_rows=160", "dataset.labelled=80"]
    words += ["teacher_pretrain.steps=2"]
    assert main(["train", *words, "teacher.through=[digits]", "hydra.run.dir=other_classes"]) == 0
    found = json.loads(Path("other_classes/run.json").read_text())["results"]["teacher_before"]
    assert found["new_head"] is True and found["could_teach"] == ["probed_student"]
    told = " ".join("".join(capsys.readouterr()).split())
    assert "probed_student=true distils it" in told and "untuned_student=true" not in told
    assert "the data set before has other classes: the network begins with a new one" in told


def test_a_teacher_before_that_guesses_is_said_to_guess():
    told = of_tuning(results_before(0.5))
    assert "from the teacher before, which is no better than guessing here, too, and probed_student" in told
    assert "no better than guessing" not in of_tuning(results_before(0.7))
    told = of_tuning(results_before(0.5, untuned_student=0.6))
    assert "helped the student" in told and "the teacher before is no better than guessing here, so" in told
    assert "no better than guessing" not in of_tuning(results_before(0.7, untuned_student=0.6))


UNTUNED = ["untuned_student=true"]
TUNED = ["teacher.checkpoint=CHECKPOINT", "teacher_pretrain.steps=5", *UNTUNED]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (UNTUNED, "and this one is not fine-tuned: set teacher.checkpoint=PATH with"),
        (
            ["probed_student=true"],
            "probed_student=true compares with the teacher before its fine-tuning, and",
        ),
        ([*TUNED, "rounds=2"], "in one round, and there are rounds=2: set rounds=1"),
        ([*TUNED, "loss=supervised"], "which recipe=supervised does not"),
        ([*TUNED, "select=rad", "budget=5"], "which recipe=active does not"),
        ([*TUNED, "teacher.update=slow"], "this one moves on (teacher.update): set teacher.update=frozen"),
        ([*TUNED, "teacher.members=2"], "is of one teacher, and 2 answer together here"),
        (["teacher=answers", "teacher.file=answers.csv", *UNTUNED], "the teacher's answers lie in a file"),
        ([*TUNED, "untuned_student=perhaps"], "untuned_student must be true or false"),
        (
            [*TUNED[:2], "teacher_pretrain.head_first=1.0", "probed_student=true"],
            "which teacher_pretrain.head_first=1.0 does already",
        ),
        (
            ["teacher.checkpoint=four.safetensors", *TUNED[1:]],
            "with teacher.checkpoint of other classes its last layer is a new one that knows nothing: set "
            "probed_student=true",
        ),
        (
            [
                "teacher.through=[digits]",
                "dataset=synthetic",
                "dataset.classes=4",
                "dataset.test=null",
                *UNTUNED,
            ],
            "with teacher.through of other classes its last layer is a new one",
        ),
        (
            ["teacher=resnet18", "teacher.weights=DEFAULT", "teacher_pretrain.epochs=1", *UNTUNED],
            "with teacher.weights of other classes its last layer is a new one",
        ),
    ],
)
def test_there_is_no_student_of_the_teacher_before_where_it_says_nothing(place, capsys, words, said):
    words = [word.replace("CHECKPOINT", str(checkpoint())) for word in words]
    whole = weights("first")
    save_file({n: v[:4].clone() if len(v) == 10 else v for n, v in whole.items()}, "four.safetensors")
    Path("answers.csv").write_text("row,label\n0,1\n")
    assert main(["train", *BASE, *words]) == 2
    told = " ".join("".join(capsys.readouterr()).split())
    assert said in told and "Traceback" not in told


THROUGH = ["teacher.through=[{digits: {image_size: 8}}]", "dataset=synthetic", "dataset.image_size=12"]
THROUGH += ["dataset.classes=4", "dataset.train_rows=160", "dataset.test_rows=40", "dataset.labelled=40"]


@pytest.mark.slow
def test_a_teacher_learns_from_other_sets_before(place, capsys):
    words = [*BASE, *THROUGH, "teacher_pretrain.steps=5", "dataset.test=null"]
    assert main(["plan", *words]) == 0
    assert "before the labelled part the teacher learns from 1" in "".join(capsys.readouterr())
    assert main(["train", *words, "hydra.run.dir=through"]) == 0
    made = json.loads(Path("through/run.json").read_text())
    names = [stage["name"] for stage in made["stages"]]
    assert names.index("teacher-through-1") < names.index("teacher-pretrain")
    run = read_run("through")
    data = run.stage("prepare-through-1").json("data.json")
    assert data["shape"] == [3, 12, 12] and len(data["classes"]) == 10
    first, before = (
        load_file(run.stage(name).file("last.safetensors"))
        for name in ("teacher-through-1", "teacher-before")
    )
    kept = [name for name in before if first[name].shape == before[name].shape and "weight" in name]
    assert kept and all(torch.equal(first[name], before[name]) for name in kept)
    assert made["results"]["teacher_before"]["last"]["test"]["n"] == 40
    assert main(["train", *words, "hydra.run.dir=again"]) == 0
    assert all(stage["cached"] for stage in json.loads(Path("again/run.json").read_text())["stages"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["teacher.through=[digit]"], "teacher.through has no data set 'digit'; did you mean 'digits'"),
        (["teacher.through=[synthetic]"], "teacher.through has no data set 'synthetic'"),
        (["teacher.through=[wine]"], "teacher.through=wine holds rows of tables"),
        (["teacher.through=[{digits: {size: 8}}]"], "teacher.through.digits has no key 'size'"),
        (["teacher.through=3"], "teacher.through must name 1 to 8 data sets"),
    ],
)
def test_sets_that_cannot_come_before_are_said(place, capsys, words, said):
    assert main(["train", *BASE, *words]) == 2
    told = "".join(capsys.readouterr())
    assert said in told and "Traceback" not in told
