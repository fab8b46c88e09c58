"""A teacher that learned other classes: `teacher.classes_map=FILE`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from kdx.cli import main
from kdx.config import compose
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.class_names import ClassMap
from kdx.core.errors import UserError, UserErrors
from kdx.models.cnn import cnn
from kdx.models.renamed import Renamed
from kdx.models.resnet import resnet
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import open_network
from kdx.runs.export.export import check_exportable
from kdx.runs.model_files import read_model
from kdx.runs.reading import read_run
from kdx.runs.stored import Weights
from kdx.tasks import without_labels
from kdx.training.runtime import Runtime

BASE = [
    "device=cpu",
    "device.threads=1",
    "student=mlp_small",
    "student_train.steps=4",
    "dataset.unlabelled=0",
    "dataset.validation=60",
    "dataset.test=50",
]
THEIRS = ["zero", "one", "uno", "three", "letter"]
MAP = "zero: 0\none: '1'\nuno: 1\nthree: 3\n"
GIVEN = ["teacher=mlp_small", "teacher.checkpoint=given/weights.safetensors", "teacher.classes_map=map.yaml"]


def order(*words):
    return wire(compose.check_words(compose.plus_less([*BASE, *words])))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run of a teacher of five classes, made of one of ten."""
    place = tmp_path_factory.mktemp("class_map")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ["teacher=mlp_small", "teacher_pretrain.steps=30", "stages=[teacher_pretrain]"]
        assert main(["train", *BASE, *words, "hydra.run.dir=first"]) == 0
        weights = load_file(read_run("first").stage("teacher-pretrain").file("last.safetensors"))
        few = {name: v[:5].clone() if v.dim() and v.shape[0] == 10 else v for name, v in weights.items()}
        Path("given").mkdir()
        save_file(few, "given/weights.safetensors")
        Path("given/model.json").write_text(json.dumps({"classes": THEIRS}))
        Path("map.yaml").write_text(MAP)
        assert main(["train", *BASE, *GIVEN, "hydra.run.dir=run"]) == 0
    return place


def test_the_mass_of_several_is_added_and_the_rest_is_left_out():
    """softmax .1, .2, .3, .4: of ours the first has .1 + .3 of .6, the other .2; .4 has none."""
    renamed = Renamed([0, 1, 0, -1], 3)
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    torch.testing.assert_close(renamed(logits).softmax(1), torch.tensor([[4 / 6, 2 / 6, 0.0]]))
    torch.testing.assert_close(renamed.lost(logits), torch.tensor([0.4]))
    assert not renamed.state_dict() and not list(renamed.parameters())


def test_the_same_names_change_nothing_and_no_mass_says_nothing():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Renamed([0, 1, 2], 3)(logits).softmax(1), logits.softmax(1))
    nothing = Renamed([-1, 0], 2)(torch.tensor([[200.0, -200.0]]))
    torch.testing.assert_close(nothing.softmax(1), torch.tensor([[0.5, 0.5]]))


def test_places_are_found_by_name():
    names = ClassMap("teacher", ["a", "b", "c"], {"a": "2", "c": "1"}, "drop")
    assert names.places([1, 2]) == [1, -1, 0] and names.left == ["b"]
    assert ClassMap(**names.document()) == names
    with pytest.raises(UserError, match="says that 'a' is '2', and the data have no such class"):
        names.places(["1", "3"])


def test_its_answers_are_those_by_hand(ran, monkeypatch, capsys):
    monkeypatch.chdir(ran)
    run = read_run("run")
    rows = open_split(run.stage("prepare"), "test", Runtime.settle(order().runtime))
    teacher = open_network(run.stage("teacher-pretrain"))
    with torch.no_grad():
        found = teacher(rows.inputs.float() / 255).softmax(1)
        teacher.units = None
        theirs = teacher(rows.inputs.float() / 255).softmax(1)
    assert theirs.shape == (50, 5)
    expected = torch.zeros(50, 10)
    expected[:, 0], expected[:, 1], expected[:, 3] = theirs[:, 0], theirs[:, 1] + theirs[:, 2], theirs[:, 3]
    expected /= expected.sum(1, keepdim=True)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    right = (expected.argmax(1) == rows.known).double().mean().item()
    assert run.document["results"]["teacher"]["last"]["test"]["accuracy"] == right

    assert main(["train", *BASE, *GIVEN, "hydra.run.dir=again"]) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    rows = open_split(run.stage("prepare"), "validation", Runtime.settle(order().runtime))
    with torch.no_grad():
        lost = teacher(rows.inputs.float() / 255).softmax(1)[:, 4].mean().item()
    assert f"'letter' have none here: {lost:.1%} of its answers to 60 rows of validation are left out" in said
    assert "no class of the teacher is '2', '4'" in said
    again = json.loads(Path("again/run.json").read_text())
    assert all(stage["cached"] for stage in again["stages"])
    assert main(["evaluate", "run", "role=teacher", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["teacher"]["accuracy"] == right


@pytest.mark.parametrize("places", [[0, 10], [-2, 1], ["a"], [], 3, [True, 1]])
def test_places_in_a_file_of_somebody_else_are_checked(ran, tmp_path, places, monkeypatch):
    monkeypatch.chdir(ran)
    about = read_run("run").stage("teacher-pretrain").json("model.json")
    assert about["class_places"] == [0, 1, 1, 3, -1]
    (tmp_path / "model.json").write_text(json.dumps({**about, "class_places": places}))
    with pytest.raises(UserError, match="class_places must be places of classes"):
        read_model(tmp_path / "model.json")


def test_a_member_may_have_other_classes(ran, monkeypatch):
    monkeypatch.chdir(ran)
    words = ["teachers=[mlp_small,mlp_small]", "members.2.checkpoint=given/weights.safetensors"]
    assert not inspect(order(*words, "members.2.classes_map=map.yaml"))
    (error,) = inspect(order(*words))
    assert "member 2: teacher.checkpoint='given/weights.safetensors' learned 5 classes, by" in error
    assert "the data have 10: say which of these each of its classes is (teacher.classes_map=FILE)" in error


def test_an_export_of_several_holds_none_that_learned_other_classes(ran, monkeypatch):
    monkeypatch.chdir(ran)
    run = read_run("run")
    one = Weights("x", Path("x"), run.stage("teacher-pretrain").json("model.json"), "mlp_small")
    whole, network = replace(one, members=[replace(one, about={}), one]), torch.nn.Identity()
    check_exportable("teacher", one, network)
    with pytest.raises(UserError, match="^member 2 of the teacher learned other classes .* predict role=tea"):
        check_exportable("teacher", whole, network)


@pytest.mark.parametrize(
    ("content", "more", "why"),
    [
        (MAP, ["teacher.classes_unmapped=error"], "has no class of the data for 'letter'"),
        (MAP + "four: 4\n", [], "names 'four', and the checkpoint learned no such class"),
        ("zero: ten\n", [], "says that 'zero' is 'ten', and the data have no such class"),
        ("- zero\n", [], "map.yaml"),
        (MAP, ["teacher_pretrain.epochs=1"], "for a teacher that is taken as it is"),
        (MAP, ["init=select"], "teacher.classes_map says that it has other classes: leave init= out"),
        (MAP, ["teacher.update=slow"], "moves a network of the data's classes, and teacher.classes_map"),
        (MAP, ["teacher.classes_unmapped=keep"], "teacher.classes_unmapped has no option 'keep'"),
    ],
)
def test_maps_that_do_not_fit_are_refused_before_work(ran, tmp_path, content, more, why, monkeypatch):
    monkeypatch.chdir(ran)
    (tmp_path / "map.yaml").write_text(content)
    words = [*GIVEN[:2], f"teacher.classes_map={tmp_path}/map.yaml", *more]
    try:
        errors = inspect(order(*words))
    except UserErrors as found:
        errors = found.messages
    assert len(errors) == 1 and why in errors[0]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["teacher.classes_map=map.yaml"], "for a teacher that is taken as it is"),
        (["teacher.classes_unmapped=error"], "teacher.classes_unmapped is of teacher.classes_map=FILE"),
        ([*GIVEN[:2], "teacher.classes_map=none.yaml"], "teacher.classes_map 'none.yaml' is no file"),
    ],
)
def test_a_map_that_could_not_act_is_refused(ran, words, why, monkeypatch):
    monkeypatch.chdir(ran)
    with pytest.raises(UserErrors) as found:
        order(*words)
    assert len(found.value.messages) == 1 and why in found.value.messages[0]


OTHER = ["dataset=synthetic", "dataset.image_size=12", "dataset.classes=3", "dataset.test_rows=30"]
OTHER += ["dataset.validation=20", "dataset.labelled=20"]


def test_another_set_is_measured_by_a_map_in_the_size_that_was_learned(ran, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ran)
    Path(tmp_path, "map.yaml").write_text("'class 0': '7'\n'class 2': '1'\n")
    words = ["evaluate", "first", "role=teacher", *OTHER, "dataset.train_rows=90", "device=cpu"]
    assert main([*words, f"classes_map={tmp_path}/map.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = told["results"]["teacher"]
    assert found["n"] == 20 and [k for k, share in enumerate(found["recall"]) if share is not None] == [1, 7]
    assert set(found["estimates"]) == set(without_labels.WORDS)
    assert any("left out: class 1" in note for note in told["notes"])
    assert any("ESTIMATED without their labels" in note for note in told["notes"])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("'class 7': '1'\n", "classes_map names 'class 7', and dataset=synthetic has no such class"),
        ("'class 1': 'x'\n", "classes_map says that 'class 1' is 'x', and the teacher learned no such class"),
        (None, "is no file: name one of lines theirs: ours"),
        ("{}", "has no class that the teacher learned"),
    ],
)
def test_maps_of_a_measurement_that_do_not_fit_are_said(ran, monkeypatch, capsys, tmp_path, content, why):
    monkeypatch.chdir(ran)
    if content:
        Path(tmp_path, "map.yaml").write_text(content)
    words = ["evaluate", "first", "role=teacher", *OTHER, "dataset.train_rows=90", "device=cpu"]
    assert main([*words, f"classes_map={tmp_path}/map.yaml"]) == 2
    told = "".join(capsys.readouterr())
    assert why in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["dataset=mnist5k"],
            "1x28x28: give classes_map=FILE, a line a class, theirs: ours, with which they are",
        ),
        (["dataset=digits", "dataset.image_size=8"], "dataset=digits has 1x8x8: set dataset.image_size=16"),
        (
            [*OTHER, "dataset.train_rows=90"],
            "has 3, none of the same name: give classes_map=FILE, a line a class, theirs: ours, or choose",
        ),
        (
            ["shift=[pgd]"],
            "is measured so by kdx train --config RUN 'shift=[pgd]', or [fgsm], or [corruptions]",
        ),
        (
            ["attack=pgd"],
            "'attack' is no key of kdx evaluate: a run that is done is measured so by kdx train",
        ),
    ],
)
def test_what_a_measurement_cannot_do_is_said_with_what_to_type(ran, monkeypatch, capsys, words, why):
    monkeypatch.chdir(ran)
    assert main(["evaluate", "first", "role=teacher", *words, "device=cpu"]) == 2
    told = "".join(capsys.readouterr())
    assert why in told and "Traceback" not in told


def test_a_map_without_another_set_is_refused(ran, monkeypatch, capsys):
    monkeypatch.chdir(ran)
    assert main(["evaluate", "first", "classes_map=map.yaml"]) == 2
    assert "name that set (dataset=NAME)" in "".join(capsys.readouterr())


@pytest.fixture(scope="module")
def bare(ran, tmp_path_factory):
    """A network of 10 classes that reads grey pictures of 16x16, in a file alone; and folders of pictures."""
    place = tmp_path_factory.mktemp("bare")
    torch.manual_seed(0)
    form = {"widths": [4, 8], "hidden": 8, "batch_norm": False, "dropout": 0.0, "stochastic_depth": 0.0}
    net = cnn(shape=(1, 16, 16), classes=10, **form)
    save_file(net.state_dict(), place / "t.safetensors")
    for name, mode, side in (("rgb", "RGB", 16), ("grey", "L", 16), ("large", "L", 40)):
        for place_of, kind in enumerate(("one", "two", "three")):
            Path(place, name, kind).mkdir(parents=True)
            for number in range(8):
                picture = Image.new(mode, (side, side), 30 * place_of)
                picture.putpixel((number, 3), 200 if mode == "L" else (200, 10, number))
                picture.save(place / name / kind / f"{number}.png")
    (place / "map.yaml").write_text("one: 1\ntwo: 2\nthree: 3\n")
    return place


FILE = ["model=cnn_small", "model.widths=[4,8]", "model.hidden=8", "device=cpu", "device.threads=1"]


@pytest.mark.parametrize("folder", ["rgb", "grey", "large"])
def test_a_file_of_weights_tells_its_classes_and_its_pictures(bare, monkeypatch, capsys, folder):
    monkeypatch.chdir(bare)
    words = ["evaluate", "t.safetensors", *FILE, "dataset=folder", f"dataset.root={folder}"]
    assert main([*words, "classes_map=map.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (numbers,) = found["results"].values()
    assert numbers["n"] == 5 and len(numbers["recall"]) == 10
    assert [k for k, share in enumerate(numbers["recall"]) if share is not None] == [1, 2, 3]
    said = " ".join(found["notes"])
    assert "in classes_map= they are 0 to 9" in said and "nothing is ESTIMATED without labels here" in said
    assert main(words) == 2
    told = "".join(capsys.readouterr())
    assert "knows 10 classes and dataset=folder has 3" in told and "Traceback" not in told


def test_of_weights_that_take_any_size_it_is_said(bare, monkeypatch, capsys):
    monkeypatch.chdir(bare)
    form = {"depth": 20, "widths": [2, 2, 2, 2], "dropout": 0.0, "stochastic_depth": 0.0}
    save_file(resnet(shape=(3, 32, 32), classes=4, **form).state_dict(), "any.safetensors")
    words = ["evaluate", "any.safetensors", "model=resnet20", "model.widths=[2,2,2,2]", "device=cpu"]
    words += ["dataset=folder", "dataset.root=grey", "classes_map=map.yaml"]
    assert main(words) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert "do not tell the size of the pictures that it learned on: these are 3x32x32" in told


def test_a_checkpoint_is_named_as_a_run_names_it(bare, monkeypatch, capsys):
    monkeypatch.chdir(bare)
    own = ["dataset=folder", "dataset.root=rgb", "classes_map=map.yaml"]
    asked = [word.replace("model", "teacher") for word in FILE]
    found = []
    for words in (["t.safetensors", *FILE], ["teacher.checkpoint=t.safetensors", *asked]):
        assert main(["evaluate", *words, *own, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    for command in ("evaluate", "predict"):
        assert main([command, "teacher=cnn", "dataset=digits"]) == 2
        assert f"name the weights, as in kdx {command} FILE model=cnn" in "".join(capsys.readouterr())


def test_a_name_in_a_map_that_is_no_place_is_refused(bare, monkeypatch, capsys):
    monkeypatch.chdir(bare)
    Path("wrong.yaml").write_text("one: '10'\nzwei: 2\n")
    words = ["evaluate", "t.safetensors", *FILE, "dataset=folder", "dataset.root=rgb"]
    assert main([*words, "classes_map=wrong.yaml"]) == 2
    told = "".join(capsys.readouterr())
    assert "classes_map says that 'one' is '10', and the network in 't.safetensors' learned no such" in told
    assert "classes_map names 'zwei', and dataset=folder has no such class" in told
    assert "in classes_map= they are 0 to 9, by their places" in told
