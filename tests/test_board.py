"""TensorBoard: readable names, a folder of links that keeps up, and what its own HTTP interface tells of finished, failed and resumed runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from kdx import compose
from kdx.cli import main
from kdx.commands import board
from kdx.faults import Fault
from kdx.report.folder import RunFolder
from kdx.report.mirror import LONGEST, REST, Mirror, find
from kdx.report.names import changed, names, settings

ROOT = Path(__file__).resolve().parent.parent
ACCURACIES = {"teacher": 0.95, "baseline": 0.85, "student": 0.91}


def described(*words, config=None):
    """run.json as far as names go: of `kdx train` with these words, its config worked out by hand."""
    return {"config": config or {}, "command": ["kdx", "train", *words]}


def kd(temperature=4, seed=0, **more):
    node = {"_target_": "kdx.losses.kd.KD", "temperature": temperature, "alpha": 0.9}
    return {"seed": seed, "loss": node, "choices": {"loss": "kd", "student": "cnn"}, **more}


def slam(hard=True, seed=0, **more):
    node = {"_target_": "kdx.losses.slam.SLaM", "hard": hard, "weights": {"_target_": "kdx.weights.one.One"}}
    return {"seed": seed, "loss": node, "choices": {"loss": "slam", "student": "cnn"}, **more}


# Names


def test_a_sweep_is_named_by_what_was_swept():
    runs = [described(f"loss={loss}", f"seed={seed}", config=config(seed=seed)) for loss, config in (("kd", kd), ("slam", slam)) for seed in (0, 1)]
    assert names(runs, list("abcd")) == ["loss=kd seed=0", "loss=kd seed=1", "loss=slam seed=0", "loss=slam seed=1"]
    assert changed(runs)[2] == {"loss": "slam", "seed": "0"}


def test_what_an_option_brings_is_not_repeated_but_what_was_typed_is():
    """loss=slam sets other steps than loss=kd: one word tells both. The same steps typed by hand are no matter of the option."""
    steps = {"student_train": {"steps": 50}}
    derived = [described("loss=kd", config=kd()), described("loss=slam", config=slam(**steps))]
    assert names(derived, ["a", "b"]) == ["loss=kd", "loss=slam"]
    typed = [derived[0], described("loss=slam", "student_train.steps=50", config=slam(**steps))]
    assert names(typed, ["a", "b"]) == ["loss=kd", "loss=slam student_train.steps=50"]


def test_a_value_is_told_of_the_runs_that_differ_in_it():
    runs = [described(config=kd(4)), described("loss.temperature=2", config=kd(2)), described("loss=slam", config=slam())]
    assert names(runs, list("abc")) == ["loss=kd loss.temperature=4", "loss=kd loss.temperature=2", "loss=slam"]


def test_without_a_command_differences_are_found_all_the_same():
    runs = [{"config": kd(4)}, {"config": kd(2)}, {"config": kd(2, seed=1)}]
    assert names(runs, list("abc")) == ["loss.temperature=4 seed=0", "loss.temperature=2 seed=0", "loss.temperature=2 seed=1"]


def test_what_settings_do_not_tell_apart_is_called_by_its_folder():
    assert names([described(config=kd())], ["2026_x"]) == ["2026_x"]
    runs = [described("seed=0", config=kd()), described("seed=0", config=kd()), described("seed=1", config=kd(seed=1))]
    assert names(runs, ["first", "second", "third"]) == ["seed=0 (first)", "seed=0 (second)", "seed=1"]
    elsewhere = [described("store=/a", config=kd(store="/a")), described("store=/b", config=kd(store="/b"))]
    assert names(elsewhere, ["first", "second"]) == ["first", "second"]


def test_a_key_that_an_older_kdx_did_not_have_is_no_difference():
    assert changed([{"config": kd(budget=None)}, {"config": kd()}]) == [{}, {}]


def test_settings_are_written_as_they_are_typed():
    found = settings(kd(augment={"affine": {"_target_": "kdx.A", "degrees": 11.5}}, rows=None, flag=True, stages=["a", "b"], shift={}))
    assert found == {"seed": "0", "loss": "kd", "loss.temperature": "4", "loss.alpha": "0.9", "augment": "[affine]", "augment.affine": "a",
                     "augment.affine.degrees": "11.5", "rows": "null", "flag": "true", "stages": "[a,b]", "shift": "[]", "student": "cnn"}  # fmt: skip
    assert settings(slam())["loss.weights"] == "one"


@pytest.mark.parametrize("odd", [None, [], "x", {"choices": 3}, {"loss": {"_target_": 5}, "choices": {"loss": ["a"]}}])
def test_a_config_from_somebody_else_may_be_anything(odd):
    found = names([{"config": odd, "command": odd}, {"config": kd(), "command": [1, None]}], ["a", "b"])
    assert len(set(found)) == 2 and all(found)


def test_two_hundred_runs_are_named_at_once():
    runs = [described(f"loss.temperature={t}", f"seed={s}", config=kd(t, s)) for t in range(20) for s in range(10)]
    begun = time.perf_counter()
    assert len(set(names(runs, [str(i) for i in range(200)]))) == 200 and time.perf_counter() - begun < 1


# The folder of links


def bare(folder, config=None, words=(), events=("events.out.tfevents.1.h.1.0",)):
    """A run folder as far as the mirror reads it."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(described(*words, config=config)))
    for name in events:
        (folder / name).write_bytes(b"events of " + folder.name.encode())
    return folder


def links(place):
    return {str(link.relative_to(place)): os.readlink(link) for link in sorted(place.rglob("*")) if link.is_symlink()}


@pytest.fixture
def mirror(tmp_path):
    (tmp_path / "place").mkdir()
    return Mirror(tmp_path / "outputs", tmp_path / "place")


def test_the_mirror_keeps_up_with_runs_that_come_change_and_go(mirror, tmp_path):
    one = bare(tmp_path / "outputs/runs/one", kd(), ["seed=0"])
    assert mirror.update() == 1
    assert links(mirror.place) == {"runs_one/events.out.tfevents.1.h.1.0": str(one / "events.out.tfevents.1.h.1.0")}
    bare(tmp_path / "outputs/sweeps/s/0_seed-1", kd(seed=1), ["seed=1"])
    assert mirror.update() == 2 and [folder.name for folder in sorted(mirror.place.iterdir())] == ["seed=0", "seed=1"]
    shutil.rmtree(one)
    assert mirror.update() == 1 and list(links(mirror.place)) == ["sweeps_s_0_seed-1/events.out.tfevents.1.h.1.0"]


def test_a_run_begun_anew_is_away_long_enough_for_tensorboard_to_forget_it(mirror, tmp_path):
    one = bare(tmp_path / "outputs/one", kd())
    mirror.update()
    (one / "events.out.tfevents.1.h.1.0").unlink()
    (one / "events.out.tfevents.2.h.1.0").write_bytes(b"")
    seen = []
    for _ in range(REST + 2):
        mirror.update()
        seen.append([Path(link).name for link in links(mirror.place)])
    assert seen == [[]] * REST + [["events.out.tfevents.2.h.1.0"]] * 2


def test_only_event_files_in_a_run_folder_itself_are_shown(mirror, tmp_path):
    one = bare(tmp_path / "outputs/one", kd())
    (tmp_path / "secret").write_text("x")
    (one / "events.out.tfevents.9.link").symlink_to(tmp_path / "secret")
    bare(tmp_path / "outputs/store/train/k", kd())
    (tmp_path / "outputs/store/locks").mkdir()
    bare(one / "artifacts/inner", kd())
    (tmp_path / "outputs/loop").symlink_to(tmp_path / "outputs")
    bare(tmp_path / "outputs/a/b/c/d", kd(), ["seed=0"])
    bare(tmp_path / "outputs/a/b/c/e/f", kd())
    assert find(tmp_path / "outputs") == [tmp_path / "outputs/a/b/c/d", one] and find(one) == [one]
    assert mirror.update() == 2 and [Path(target).parent.name for target in links(mirror.place).values()] == ["d", "one"]


def test_names_that_are_no_names_of_folders(mirror, tmp_path):
    """What the mirror writes stays inside its folder, whatever a run calls itself; long names give way to the folder's."""
    for i, value in enumerate(["../../x", "a/b", "a\nb\0", "..", "é" * 300, "a_b"]):
        bare(tmp_path / f"outputs/{i}", {**kd(), "choices": {"loss": value}}, [f"loss={value}"])
    (tmp_path / "outputs/5/run.json").write_text("[" * 100_000)
    assert mirror.update() == 6
    found = sorted(folder.name for folder in mirror.place.iterdir())
    assert found == ["4", "5", "loss=.. seed=0", "loss=.._.._x seed=0", "loss=a b_ seed=0", "loss=a_b seed=0"]
    assert max(map(len, found)) <= LONGEST and len(links(mirror.place)) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "place"]
