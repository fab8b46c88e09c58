"""`kdx evaluate` and finding what a run folder names, on a short run of real digits; that docs/commands.md
tells every option.
"""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from kdx.cli import main
from kdx.commands import commands
from kdx.commands.list import option_groups
from kdx.core.errors import UserError
from kdx.core.files import plain_path
from kdx.data.pictures.rows import describe
from kdx.pipeline.stages.arrays import read_inputs
from kdx.runs import measure, other_data, stored
from kdx.runs.artifacts import open_artifact, upstream
from kdx.runs.measure import network_by_name
from kdx.runs.other_data import misfits
from kdx.runs.reading import read_run
from kdx.runs.stored import Weights, for_data
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.source import sha256

RUN = Path("outputs/runs/a=b")
CPU = ["device=cpu", "device.threads=1"]


@pytest.fixture
def place(trained_here) -> Path:
    return trained_here


def document(run: Path = RUN) -> dict:
    return json.loads((run / "run.json").read_text())


def artifact(role: str, run: Path = RUN) -> Path:
    return read_run(run).role(role).path.resolve()


def reported(words, capsys, code: int = 2) -> str:
    """What a command line that must fail says."""
    assert main(words) == code
    text = capsys.readouterr().err
    assert "Traceback" not in text and len(text.splitlines()) <= 4, text
    return text


def figures(*words) -> dict:
    assert main(["evaluate", *words, *CPU, "json=figures.json"]) == 0
    return json.loads(Path("figures.json").read_text())


def close(found: dict, wanted: dict) -> bool:
    return all(
        found[key] == pytest.approx(wanted[key], abs=1e-5)
        for key in ("accuracy", "balanced_accuracy", "recall", "ece", "nll", "n")
    )


def test_every_command_and_option_is_documented(root):
    text = (root / "docs" / "commands.md").read_text()
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    for name in commands():
        section = sections[f"kdx {name}"]
        module = importlib.import_module(f"kdx.commands.{name}")
        for option in vars(module).get("OPTIONS", ()):
            assert f"`{option.name}=`" in section, f"{name}: {option.name}="
            assert all(choice in section for choice in option.choices), f"{name}: choices of {option.name}="
            assert f"{option.name}=" in module.HELP
        for group in vars(module).get("_GROUPS", ()):
            assert f"`{group}=`" in section, f"{name}: {group}="
        for action in vars(module).get("ACTIONS", ()):
            assert f"kdx {name} {action}" in section and f"kdx {name} {action}" in module.HELP
    train = sections["kdx train"]
    keys = yaml.safe_load((root / "conf" / "train.yaml").read_text()).keys() - {
        "defaults",
        "hydra",
        *option_groups(root / "conf"),
    }
    assert all(f"`{key}=`" in train or f"`{key}.`" in train for key in keys), keys
    assert all(
        f"`{group}=`" in train or f"`loss.{group}=`" in train
        for group in option_groups(root / "conf")
        if group != "model"
    )


@pytest.mark.parametrize("name", ["evaluate", "export", "cache"])
def test_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"kdx {name} " in capsys.readouterr().out


def test_a_run_is_measured_as_the_run_measured_itself(place, capsys):
    results = document()["results"]
    found = figures(str(RUN))
    assert list(found["results"]) == ["teacher", "baseline", "student"] and found["split"] == "test"
    assert all(close(found["results"][role], results[role]["last"]["test"]) for role in found["results"])
    assert found["results"]["student"]["model"] == "cnn_tiny"
    shown = capsys.readouterr().out
    assert (
        "distilled student" in shown
        and f"{100 * results['student']['last']['test']['accuracy']:.1f}" in shown
    )
    best = figures(str(RUN), "role=student", "which=best", "split=validation")
    assert list(best["results"]) == ["student"] and close(
        best["results"]["student"], results["student"]["best"]["validation"]
    )


def test_the_weights_of_the_runs_table_are_measured(place):
    file = RUN / "run.json"
    before = file.read_text()
    run = json.loads(before)
    run["results"]["headline"] = "best"
    try:
        file.write_text(json.dumps(run))
        found, last = figures(str(RUN)), figures(str(RUN), "which=last")
    finally:
        file.write_text(before)
    assert (found["which"], last["which"], figures(str(RUN))["which"]) == ("best", "last", "last")
    for weights, measured in (("best", found), ("last", last)):
        assert all(
            close(numbers, run["results"][role][weights]["test"])
            for role, numbers in measured["results"].items()
        )
        agreed = {role: numbers.get("agreement") for role, numbers in measured["results"].items()}
        assert agreed == {role: run["results"][role][weights]["test"].get("agreement") for role in agreed}
        assert agreed["teacher"] is None and 0.1 < agreed["student"] <= 1
    assert "agreement" not in figures(str(RUN), "role=student")["results"]["student"]


def test_the_runs_own_dataset_by_name_is_its_own_split(place):
    """The run's seed is taken, so the same rows are held out; other sizes make another split."""
    assert figures(str(RUN), "dataset=digits")["data_key"] == document()["protocol"]["data_key"]
    other = figures(str(RUN), "dataset=digits", "seed=5")
    assert other["data_key"] != document()["protocol"]["data_key"]
    learned, made = (
        read_run(RUN).stage("prepare"),
        read_run(RUN).stage("prepare").path.parent / other["data_key"],
    )
    known = {row.tobytes() for part in ("labelled", "unlabelled") for row in read_inputs(learned, part)}
    seen = sum(row.tobytes() in known for row in read_inputs(Artifact("prepare", "", made), "test"))
    estimates = [note for note in other["notes"] if "ESTIMATED without their labels" in note]
    assert len(estimates) == 3 and [note for note in other["notes"] if note not in estimates] == [
        (
            f"{seen} of 500 test pictures are among those that were trained on, so that the figures "
            "are none of new pictures"
        )
    ]
    assert 200 < seen < 500
    assert figures(str(RUN), "role=student", "dataset.test=300")["results"]["student"]["n"] == 300


def test_a_checkpoint_wherever_it_lies(place):
    wanted = document()["results"]["student"]["last"]["test"]
    own = artifact("student") / "last.safetensors"
    assert close(figures(str(own))["results"]["last"], wanted)  # its data is known by the manifest beside it
    shutil.copy(own, "bare, a=b.safetensors")
    assert close(
        figures("bare, a=b.safetensors", "model=cnn_tiny", "dataset=digits")["results"]["bare, a=b"], wanted
    )
    net = {
        name.removeprefix("net."): value for name, value in load_file(own).items() if name.startswith("net.")
    }
    torch.save(net, "bare.pt")  # the bare network: the data's own normalisation is put before it
    assert close(figures("bare.pt", "model=cnn_tiny", "dataset=digits")["results"]["bare"], wanted)
    torch.save(
        {
            "model": {n: 0 * v for n, v in net.items()},
            "model_ema": {f"module.{n}": v for n, v in net.items()},
        },
        "two.pt",
    )
    found = figures("two.pt", "model=cnn_tiny", "dataset=digits", "key=model_ema")
    assert (
        close(found["results"]["two"], wanted)
        and "begin with 'module.', which was dropped" in found["notes"][0]
    )


def test_a_checkpoint_that_says_too_little(place, capsys):
    shutil.copy(artifact("student") / "last.safetensors", "bare.safetensors")
    assert "model=cnn_tiny dataset=digits" in reported(["evaluate", "bare.safetensors"], capsys)
    assert "add dataset=NAME" in reported(["evaluate", "bare.safetensors", "model=cnn_tiny"], capsys)
    assert "did you mean 'cnn_tiny'" in reported(
        ["evaluate", "bare.safetensors", "model=cnn_tny", "dataset=digits"], capsys
    )
    assert "'model.hiden' is no key" in reported(
        ["evaluate", "bare.safetensors", "model=cnn_tiny", "model.hiden=3", "dataset=digits"], capsys
    )
    assert "does not fit" in reported(
        ["evaluate", "bare.safetensors", "model=cnn_tiny", "model.hidden=3", "dataset=digits", *CPU], capsys
    )
    assert "choose among the weights of a run" in reported(
        ["evaluate", "bare.safetensors", "which=best"], capsys
    )
    assert "key= is for a checkpoint" in reported(["evaluate", str(RUN), "key=model_ema"], capsys)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def test_a_checkpoint_is_never_unpickled(place, capsys):
    Path("bomb.pt").write_bytes(pickle.dumps({"net.weight": Bomb()}))
    torch.save({"net.weight": Bomb()}, "zipped.pt")
    for name in ("bomb.pt", "zipped.pt"):
        assert "kdx unpickles nothing" in reported(
            ["evaluate", name, "model=cnn_tiny", "dataset=digits", *CPU], capsys
        )
    assert not Path("exploded").exists()


def test_a_dataset_that_does_not_fit_is_reported_before_any_work(place, capsys):
    before = sorted(Path("outputs/store/prepare").iterdir())
    text = reported(["evaluate", str(RUN), "role=student", "dataset.image_size=20", *CPU], capsys)
    assert "takes pictures of 1x16x16 and dataset=digits has 1x20x20" in text
    words = ["dataset=synthetic", "dataset.classes=7", "dataset.channels=1", "dataset.image_size=16"]
    assert "knows 10 classes and dataset=synthetic has 7" in reported(
        ["evaluate", str(RUN), "role=student", *words, *CPU], capsys
    )
    assert sorted(Path("outputs/store/prepare").iterdir()) == before


def test_another_dataset_with_other_names_is_measured_and_the_names_are_reported(place, capsys):
    words = ["dataset=synthetic", "dataset.channels=1", "dataset.image_size=16", "dataset.test_rows=50"]
    found = figures(str(RUN), "role=student", *words)
    assert found["results"]["student"]["n"] == 50 and "matched by position: " in found["notes"][0]
    names = (
        json.loads(artifact("student").joinpath("model.json").read_text())["classes"],
        found["notes"][0].partition("matched by position: ")[2].split(", "),
    )
    assert [pair.partition(" as ")[2] for pair in names[1]] == list(map(str, names[0]))
    assert "matched by position" in capsys.readouterr().out


def test_classes_are_matched_by_name_in_any_order_and_may_be_fewer(place, capsys):
    """Three classes of the run's own test split as picture files, one class folder empty: each has the recall
    that it had in the run.
    """
    data = read_run(RUN).stage("prepare")
    images, labels = read_inputs(data, "test")[:], np.load(data.file("test.truth.npy"))
    for digit in (9, 3, 1):
        rows = np.flatnonzero(labels == digit)
        for part, chosen in (("train", rows[:1]), ("test", rows)):
            Path(part, str(digit)).mkdir(parents=True)
            for row in chosen:
                Image.fromarray(images[row, 0]).save(Path(part, str(digit), f"{row}.png"))
    Path("test", "4").mkdir()
    Path("train", "4").mkdir()
    found = figures(
        str(RUN),
        "role=student",
        "dataset=folder",
        "dataset.root=.",
        "dataset.image_size=16",
        "dataset.validation=null",
    )
    recall = json.loads((RUN / "run.json").read_text())["results"]["student"]["last"]["test"]["recall"]
    assert found["results"]["student"]["recall"] == [
        share if digit in (1, 3, 9) else None for digit, share in enumerate(recall)
    ]
    said = "no test picture shows 0, 2, 4, 5, 6, 7, 8: the figures say nothing of them"
    assert [note for note in found["notes"] if "ESTIMATED" not in note] == [said]
    assert said in capsys.readouterr().out
    Path("train", "9").rename(Path("train", "nine"))
    Path("test", "9").rename(Path("test", "nine"))
    words = [
        "evaluate",
        str(RUN),
        "role=student",
        "dataset=folder",
        "dataset.root=.",
        "dataset.image_size=16",
        *CPU,
    ]
    assert (
        "dataset=folder has classes that the distilled student does not know: nine; known are 0, 1, 2"
        in reported(words, capsys)
    )


def test_of_a_folder_without_a_test_part_it_is_reported_how_many_pictures_were_measured(place):
    data = read_run(RUN).stage("prepare")
    images, labels = read_inputs(data, "test")[:], np.load(data.file("test.truth.npy"))
    for digit in (1, 3):
        Path("new", str(digit)).mkdir(parents=True)
        for row in np.flatnonzero(labels == digit)[:10]:
            Image.fromarray(images[row, 0]).save(Path("new", str(digit), f"{row}.png"))
    found = figures(str(RUN), "role=student", "dataset=folder", "dataset.root=new", "dataset.image_size=16")
    assert found["results"]["student"]["n"] == 4
    assert found["notes"][0] == (
        "4 of 20 pictures are the test split, drawn by dataset.test=0.2, as there is no test part: a larger "
        "one, such as 0.9, draws more"
    )
    assert (
        figures(
            str(RUN),
            "role=student",
            "dataset=folder",
            "dataset.root=new",
            "dataset.image_size=16",
            "dataset.test=0.9",
            "dataset.validation=null",
        )["results"]["student"]["n"]
        == 18
    )


def test_grey_and_coloured_pictures_are_distinguished():
    for learned, channels, says in (
        (1, 3, "these pictures are not all grey, and those that were learned from were; save them as grey"),
        (
            3,
            1,
            (
                "these pictures are all grey, and those that were learned from were not; "
                "save them as colours (RGB)"
            ),
        ),
    ):
        about = {"shape": [learned, 8, 8], "classes": ["cat", "dog"], "mean": [0.5], "std": [0.5]}
        weights = Weights("student", Path("x"), about, "cnn")
        found = describe((channels, 8, 8), ("cat", "dog"), 4, (2, 2), None, 0, test_size_is_a_fallback=True)
        assert misfits([weights], "folder", found) == [
            f"the student takes pictures of {learned}x8x8 and dataset=folder has {channels}x8x8: {says}, "
            "or give classes_map=FILE, a line a class, theirs: ours, with which they are made so"
        ]


def test_what_no_network_fits_is_reported_once():
    """Of networks of one shape and the same classes; a file is called by its name."""
    about = {"shape": [1, 16, 16], "classes": ["circle", "square"], "mean": [0], "std": [1]}
    run = [
        Weights(role, Path("x"), about, "cnn", called=called)
        for role, called in (("teacher", None), ("baseline", "the student alone"), ("student", None))
    ]
    found = describe((1, 32, 32), ("Circle", "square"), 4, (2, 2), 2, 0)
    assert misfits(run, "folder", found) == [
        "the teacher, the student alone and the student take pictures of 1x16x16 and dataset=folder has "
        "1x32x32: set dataset.image_size=16",
        (
            "dataset=folder has classes that the teacher, the student alone and the student do not know: "
            "Circle; known are circle, square"
        ),
    ]
    data = types.SimpleNamespace(json=lambda name: {**about, "dataset": "x"})
    small = for_data(Component({"_target_": "kdx.models.cnn"}), "cnn", Path("rk/two.pt"), None, data)
    assert misfits([small], "x", found)[0].startswith("the network in 'two.pt' takes pictures of 1x16x16")


def test_no_class_is_taken_for_another():
    weights = Weights("student", Path("x"), {"shape": [1, 8, 8], "classes": ["cat", "caf\u00e9"]}, "cnn")
    assert (
        network_by_name(weights, ("cafe\u0301", "cat")) == [1, 0]
        and network_by_name(weights, ("café",)) == [1]
        and network_by_name(weights, ("a", "b")) is None
    )


def test_unknown_words_are_reported_together_with_the_nearest_match(place, capsys):
    text = reported(
        ["evaluate", str(RUN), "rol=student", "+datset=mnist5k", "which=first", "--force"], capsys
    )
    for part in (
        "did you mean 'role'",
        "did you mean 'dataset'",
        "which has no option 'first'",
        "no flag --force",
    ):
        assert part in text
    assert "did you mean 'digits'" in reported(["evaluate", str(RUN), "dataset=digts"], capsys)
    assert "one value of each key" in reported(["evaluate", str(RUN), "dataset=digits,mnist5k"], capsys)
    assert "its folder does not exist" in reported(["evaluate", str(RUN), "json=nowhere/x.json"], capsys)
    assert "given: nothing" in reported(["evaluate"], capsys)
    assert "does not exist" in reported(["evaluate", "no-such-run", *CPU], capsys)
    assert "is no run folder" in reported(["evaluate", "outputs"], capsys)


def test_device_that_is_not_here(place, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "device=cuda is not here" in reported(["evaluate", str(RUN), "device=cuda"], capsys)


def moved(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    return target


def test_a_run_folder_is_found_its_artifacts(place, tmp_path, monkeypatch, capsys):
    """Moved alone: by the path in run.json.
    With its store: by its links, and without links from its parents.
    """
    alone = moved(tmp_path / RUN, tmp_path / "elsewhere/deep/run")
    assert read_run(alone).role("student").path.is_relative_to(tmp_path / "outputs/store")
    moved(alone, tmp_path / RUN)
    whole = moved(tmp_path / "outputs", tmp_path / "other/outputs")
    run = whole / "runs/a=b"
    assert read_run(run).role("student").path.is_relative_to(whole)
    shutil.rmtree(run / "artifacts")
    assert read_run(run).role("student").path.is_relative_to(whole)
    moved(whole / "store", tmp_path / "kept/store")
    text = reported(["evaluate", str(run), *CPU], capsys)
    assert (
        "teacher-pretrain of the run" in text
        and "store=PATH" in text
        and str(tmp_path / "outputs/store") in text
    )
    assert main(["evaluate", str(run), "store=kept/store", *CPU]) == 0


def test_text_files_stand_in_for_links(place, tmp_path):
    for link in list((RUN / "artifacts").iterdir()):
        target = str(link.readlink())
        link.unlink()
        link.write_text(target + "\n")
    file = RUN / "run.json"
    file.write_text(json.dumps(document() | {"store": "gone", "config": {}}))
    assert read_run(RUN).role("student").path.is_dir()


def test_a_run_that_stopped_early_says_how_far_it_came(place, capsys):
    main(
        [
            "train",
            *CPU,
            "teacher_pretrain.steps=12",
            "stages=[teacher_pretrain]",
            "hydra.run.dir=outputs/runs/short",
        ]
    )
    capsys.readouterr()
    text = reported(["evaluate", "outputs/runs/short", "role=student", *CPU], capsys)
    assert "has no student: it made decode, prepare, teacher-pretrain" in text
    assert main(["evaluate", "outputs/runs/short", *CPU]) == 0  # all it has: the teacher
    assert "student" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stages": [{"name": "student-train", "key": "../../../etc"}]}, "a key is 64 hexadecimal digits"),
        (
            {"stages": [{"name": "../../student-train", "key": "0" * 64}]},
            "names a stage that kdx does not know",
        ),
        ({"stages": [{"name": "shell", "key": "0" * 64}]}, "names a stage that kdx does not know"),
        ({"stages": [{"name": "student-train"}]}, "is missing"),
        (
            {"stages": [{"name": "prepare", "key": key * 64} for key in "01"]},
            "names the stage 'prepare' twice",
        ),
        ({"stages": "all of them"}, "stages must be a list"),
        ({"config": None}, "config is missing"),
    ],
)
def test_a_run_json_that_kdx_did_not_write_is_refused(place, capsys, change, says):
    (RUN / "run.json").write_text(json.dumps(document() | change))
    assert says in reported(["evaluate", str(RUN)], capsys)
    assert says in reported(["export", str(RUN)], capsys)


def test_a_run_json_that_is_no_json(place, capsys):
    for text in ("{", "[1]", "[" * 100_000):
        (RUN / "run.json").write_text(text)
        assert "run.json'" in reported(["evaluate", str(RUN)], capsys)


def rewrite(path: Path, name: str, text: str) -> None:
    """Changes a file of an artifact together with its hash, as somebody who knows the format would."""
    (path / name).write_text(text)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.pop("sha256", None)  # that of the manifest itself: older ones have none
    manifest["files"][name] = {"sha256": sha256(path / name), "size": (path / name).stat().st_size}
    (path / "manifest.json").write_text(json.dumps(manifest))


def refused(says: str) -> None:
    with pytest.raises(UserError, match=says):
        stored.of_role(read_run(RUN), "student", "last", ())


def test_a_model_from_outside_the_models_is_refused(place):
    """The path would be written by `build`;
    a package is allowed by who types the command, not by the folder.
    """
    path = artifact("student")
    about = json.loads((path / "model.json").read_text())
    harm = {"_target_": "kdx.core.files.write_atomically", "path": "harm", "content": "x"}
    for component in (harm, about["component"] | {"widths": harm}, {"_target_": "os.system"}):
        rewrite(path, "model.json", json.dumps(about | {"component": component}))
        refused("which is no model of kdx")
    (RUN / "run.json").write_text(
        json.dumps(document() | {"config": document()["config"] | {"allow": ["os"]}})
    )
    refused("'os.system', which is no model")
    for wrong in ({"shape": [1, 0, 16]}, {"classes": [1, 2]}, {"mean": ["x"]}):
        rewrite(path, "model.json", json.dumps(about | wrong))
        refused("not as kdx writes it")


def test_manifests_are_held_to_their_key_and_files_to_their_hash(place, capsys):
    path = artifact("student")
    manifest = json.loads((path / "manifest.json").read_text())
    changed = json.loads(json.dumps(manifest))
    changed["inputs"]["loss"]["component"]["temperature"] = 9
    (path / "manifest.json").write_text(json.dumps(changed))
    refused("does not belong to its folder")
    for name in ("../run.json", "/etc/passwd", "a/../../b"):
        (path / "manifest.json").write_text(
            json.dumps(manifest | {"files": {name: {"sha256": "", "size": 1}}})
        )
        refused("outside its folder")
    (path / "manifest.json").write_text(
        json.dumps(manifest | {"inputs": {"data": {"artifact": "../../x/" + "0" * 64}}})
    )
    refused("names a stage that kdx does not know")
    (path / "manifest.json").write_text(json.dumps(manifest))
    weights = bytearray((path / "last.safetensors").read_bytes())
    weights[-1] ^= 1
    (path / "last.safetensors").write_bytes(weights)
    assert "last.safetensors does not have the content" in reported(
        ["evaluate", str(RUN), "role=student", *CPU], capsys
    )


def test_plain_path():
    assert plain_path("a.json") and plain_path("a/b.json")
    assert not any(plain_path(p) for p in ("", "/a", "../a", "a/../../b", "a\\..\\b", "a\0b"))


def test_upstream_names_all_that_a_network_was_made_from(place):
    stages = [name.split("/")[0] for name in upstream(read_run(RUN).role("student"))]
    assert (
        sorted(stages) == ["decode", "prepare", "pseudo-label", "teacher-pretrain", "train"]
        and stages[-1] == "train"
    )
    data = read_run(RUN).stage("prepare")
    shutil.rmtree(data.path)
    with pytest.raises(UserError, match="is not in the store"):
        upstream(read_run(RUN).role("student"))
    with pytest.raises(UserError, match="is not in the store"):
        open_artifact(Path("outputs/store"), "prepare", "0" * 64)


def test_a_store_that_cannot_be_written_is_reported(place, capsys, monkeypatch):
    def refuse(*arguments, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(other_data.Store, "run", refuse)
    assert "name another with store=PATH" in reported(
        ["evaluate", str(RUN), "dataset.test=300", *CPU], capsys
    )


SHORT = [*CPU, "teacher_pretrain.steps=12", "student_train.steps=8"]


@pytest.mark.parametrize("words", [[], pytest.param(["-m"], marks=pytest.mark.slow)])
def test_a_finished_run_stays_finished_where_nothing_can_be_printed(place, words, capsys, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["train", *words, *SHORT, "hydra.run.dir=full" if not words else "seed=0"]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "could be printed" in line)
    wanted = (
        "the runs are in outputs/sweeps/"
        if words
        else "the run is finished, and its table is in full/report.md"
    )
    assert line.startswith(f"not all could be printed (No space left on device): {wanted}")
    (file,) = Path("outputs/sweeps" if words else "full").glob("**/run.json")
    assert document(file.parent)["status"] == "finished"


PRINTING = [
    ["list"],
    ["compare", str(RUN)],
    ["cache", "ls"],
    ["plan", *SHORT],
    ["evaluate", str(RUN), *CPU],
    ["halfspace", "rows=50", "seeds=1"],
]


@pytest.mark.parametrize("words", PRINTING, ids=lambda words: words[0])
def test_a_command_whose_work_is_what_it_prints_has_failed_where_it_cannot(place, words, capsys, monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(words) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "not all could be printed: No space left on device"


@pytest.mark.slow  # tests/test_store.py has a stage, tests/test_cli.py a command
def test_a_run_or_a_command_that_is_short_of_memory_fails_in_a_sentence(place, capsys, monkeypatch):
    """What was finished stays, and the words of a run were not wrong: exit code 1. A folder may be anybody's,
    with any size in it: 2.
    """
    from kdx.pipeline.stages import learn

    def fail(*anything, **more):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 9 bytes."
        )

    monkeypatch.setattr(learn, "fit", fail)
    assert main(["train", *SHORT, "student_train.lr=0.0123", "hydra.run.dir=short"]) == 1
    last = capsys.readouterr().err.splitlines()[-2:]
    assert "-train is too large for this machine: it needs more memory than there is (" in last[0]
    assert last[1].startswith("the run stopped; what is finished is in ")
    assert "lower student_train.batch_size" in last[0]
    assert document(Path("short"))["status"] == "failed" and last[0] == document(Path("short"))["error"]
    monkeypatch.setattr(measure, "measure", fail)
    assert (
        "too large for this machine" in (said := reported(["evaluate", str(RUN), *CPU], capsys))
        and "more memory" in said
    )


@pytest.mark.slow
def test_a_network_that_no_memory_holds_is_reported_before_any_work(tmp_path, root):
    """For real: the process may have 4.5 GB, of which libraries map most."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (4_500_000_000, 4_500_000_000))  # noqa: E731
    words = [sys.executable, "-m", "kdx.cli", "train", *SHORT, "teacher=mlp", "teacher.hidden=1000000"]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr.startswith(
        "kdx train is too large for this machine: it needs more memory than there is ("
    ), done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "outputs/runs").exists()


def test_a_key_that_is_not_there_is_answered_with_each_that_is_once(capsys):
    assert main(["evaluate", "nowhere", "nope=1"]) == 2
    keys = "allow, classes_map, dataset, device, json, key, model, role, seed, split, store, which"
    assert capsys.readouterr().err == f"'nope' is no key of kdx evaluate; one of: {keys}\n"
