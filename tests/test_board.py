"""TensorBoard: readable names, a folder of links that keeps up, and what its own HTTP interface tells of
finished, failed and resumed runs.
"""

from __future__ import annotations

import json
import os
import re
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

from kdx.cli import main
from kdx.commands import board
from kdx.commands import train as training
from kdx.commands._tell import Alone
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.report.compare.mirror import DEPTH, REST, Mirror
from kdx.report.compare.search import run_folders
from kdx.report.run.folder import RunFolder
from kdx.report.run.names import changed, name_runs, settings, typed

ROOT = Path(__file__).resolve().parent.parent
ACCURACIES = {"teacher": 0.95, "baseline": 0.85, "student": 0.91}


def described(*words, config=None):
    """What names are made of: of `kdx train` with these words, its config worked out by hand."""
    return settings(config or {}, ["kdx", "train", *words])


def kd(temperature=4, seed=0, **more):
    node = {"_target_": "kdx.methods.losses.kd.KD", "temperature": temperature, "alpha": 0.9}
    return {"seed": seed, "loss": node, "choices": {"loss": "kd", "student": "cnn"}, **more}


def slam(hard=True, seed=0, **more):
    node = {
        "_target_": "kdx.methods.losses.slam.SLaM",
        "hard": hard,
        "weights": {"_target_": "kdx.methods.weights.one.One"},
    }
    return {"seed": seed, "loss": node, "choices": {"loss": "slam", "student": "cnn"}, **more}


# Names


def test_a_sweep_is_named_by_what_was_swept():
    runs = [
        described(f"loss={loss}", f"seed={seed}", config=config(seed=seed))
        for loss, config in (("kd", kd), ("slam", slam))
        for seed in (0, 1)
    ]
    assert name_runs(runs, list("abcd")) == [
        "loss=kd seed=0",
        "loss=kd seed=1",
        "loss=slam seed=0",
        "loss=slam seed=1",
    ]
    assert changed(runs)[2] == {"loss": "slam", "seed": "0"}


def test_what_an_option_brings_is_not_repeated_but_what_was_typed_is():
    """loss=slam sets other steps than loss=kd: one word tells both. The same steps typed by hand are no
    matter of the option.
    """
    steps = {"student_train": {"steps": 50}}
    derived = [described("loss=kd", config=kd()), described("loss=slam", config=slam(**steps))]
    assert name_runs(derived, ["a", "b"]) == ["loss=kd", "loss=slam"]
    typed = [derived[0], described("loss=slam", "student_train.steps=50", config=slam(**steps))]
    assert name_runs(typed, ["a", "b"]) == ["loss=kd", "loss=slam student_train.steps=50"]


def test_a_value_is_reported_of_the_runs_that_differ_in_it():
    runs = [
        described(config=kd(4)),
        described("loss.temperature=2", config=kd(2)),
        described("loss=slam", config=slam()),
    ]
    assert name_runs(runs, list("abc")) == [
        "loss=kd",
        "loss=kd loss.temperature=2",
        "loss=slam",
    ]
    assert name_runs(runs[:2], list("ab")) == ["loss.temperature=4", "loss.temperature=2"]


def test_a_folder_of_many_kinds_is_named_by_what_was_typed():
    """Nothing of defaults, nothing that follows, and no null that is so without a word."""

    def run(*words, loss=kd, **more):
        steps = {"student_train": {"steps": 60 if "student_train.steps=60" in words else None}}
        made = loss(**{"seed": 0, **steps, **more})
        made["choices"] |= {"select": "all", "experiment": "none"}
        made["choices"] |= {k: v for k, v in (w.split("=") for w in words) if k in ("select", "experiment")}
        return described("device.threads=1", *words, config=made)

    runs = [
        run(),
        run("student_train.steps=60"),
        run("student_train.steps=null", "loss=slam", loss=slam),
        run("loss=kd", "student_train.steps=60", "seed=1", seed=1),
        run("select=rad", budget=9),
        run("select=rad", "budget=5", budget=5),
        run("experiment=small", student={"width": 3}, assistants=[]),
    ]
    assert name_runs(runs, list("abcdefg")) == [
        "default",
        "student_train.steps=60",
        "loss=slam",
        "loss=kd student_train.steps=60 seed=1",
        "select=rad",
        "select=rad budget=5",
        "experiment=small",
    ]
    assert name_runs([*runs, runs[0]], list("abcdefgh"))[::7] == ["default (a)", "default (h)"]


def test_a_null_that_was_typed_is_said_where_others_have_a_number_without_a_word():
    runs = [
        described(config=kd(pool=997)),
        described("pool=null", config=kd(pool=None)),
        described("loss=slam", config=slam(pool=997)),
    ]
    assert name_runs(runs, list("abc")) == ["loss=kd", "loss=kd pool=null", "loss=slam"]


def test_runs_that_differ_by_seed_alone_all_say_their_seed():
    runs = [described("loss=kd", *words, config=kd(seed=s)) for s, words in enumerate(((), ("seed=1",)))]
    runs.append(described("loss=slam", config=slam()))
    assert name_runs(runs, list("abc")) == ["loss=kd seed=0", "loss=kd seed=1", "loss=slam"]


def test_runs_that_typed_words_do_not_tell_apart_are_told_apart_by_others():
    runs = [described("select=rad", config=kd(budget=budget, x=x)) for budget, x in ((9, 1), (5, 1), (5, 2))]
    assert name_runs(runs, list("abc")) == ["budget=9", "budget=5 x=1", "budget=5 x=2"]


def test_without_a_command_differences_are_found_all_the_same():
    runs = [settings(kd(4), None), settings(kd(2), None), settings(kd(2, seed=1), None)]
    assert name_runs(runs, list("abc")) == [
        "loss.temperature=4",
        "loss.temperature=2 seed=0",
        "loss.temperature=2 seed=1",
    ]


def test_what_settings_do_not_tell_apart_is_called_by_its_folder():
    assert name_runs([described(config=kd())], ["2026_x"]) == ["2026_x"]
    runs = [
        described("seed=0", config=kd()),
        described("seed=0", config=kd()),
        described("seed=1", config=kd(seed=1)),
    ]
    assert name_runs(runs, ["first", "second", "third"]) == ["seed=0 (first)", "seed=0 (second)", "seed=1"]
    elsewhere = [described("store=/a", config=kd(store="/a")), described("store=/b", config=kd(store="/b"))]
    assert name_runs(elsewhere, ["first", "second"]) == ["first", "second"]


def test_a_key_that_an_older_kdx_did_not_have_is_no_difference():
    assert changed([described(config=kd(budget=None)), described(config=kd())]) == [{}, {}]


def test_a_typed_key_is_reported_of_the_run_that_typed_it():
    """And where it is the only one of all that have it."""
    runs = [
        described(config=kd(student_train={"steps": 100})),
        described("loss=slam", "student_train.steps=50", config=slam(student_train={"steps": 50})),
    ]
    assert name_runs(runs, ["a", "b"]) == [
        "loss=kd",
        "loss=slam student_train.steps=50",
    ]
    runs = [described(config=kd(budget=None)), described("budget=9", config=kd(budget=9))]
    assert name_runs(runs, ["a", "b"]) == ["default", "budget=9"]


def test_where_a_run_was_computed_is_said_where_nothing_else_tells_it_apart():
    auto, cpu = ({"device": {"name": name}} for name in ("auto", "cpu"))
    runs = [
        described("loss=kd", config=kd(**auto)),
        described("loss=slam", "device.name=cpu", config=slam(**cpu)),
    ]
    assert name_runs(runs, ["a", "b"]) == ["loss=kd", "loss=slam"]
    runs = [described(config=kd(**auto)), described("device.name=cpu", config=kd(**cpu))]
    assert name_runs(runs, ["a", "b"]) == ["device.name=auto", "device.name=cpu"]


def test_settings_are_read_as_they_are_typed():
    augment = {"affine": {"_target_": "kdx.data.views.augment.Affine", "degrees": 11.5}}
    found = settings(
        kd(augment=augment, rows=None, stages=["a", "b"], shift={}, store="s"),
        ["kdx", "+x=1", "weights@loss.weights=one"],
    )
    assert found.choices == {
        "loss": "kd",
        "student": "cnn",
        "augment": "[affine]",
        "shift": "none",
    } and found.given == {"x", "loss.weights"}
    assert found.values == {
        "seed": 0,
        "loss._target_": "kdx.methods.losses.kd.KD",
        "loss.temperature": 4,
        "loss.alpha": 0.9,
        "stages": ["a", "b"],
        "augment.affine._target_": "kdx.data.views.augment.Affine",
        "augment.affine.degrees": 11.5,
    }
    assert [typed(value) for value in (True, None, 0.5, ["a", 1, {"b": "c"}], "a\nb")] == [
        "true",
        "null",
        "0.5",
        "[a,1,{b:c}]",
        "a\\x0ab",
    ]
    slots = [described(config=slam()), described(config=slam())]
    slots[1].values["loss.weights._target_"] = "kdx.methods.weights.debiased.Debiased"
    assert name_runs(slots, ["a", "b"]) == ["loss.weights=one", "loss.weights=debiased"]


@pytest.mark.parametrize(
    "odd", [None, [], "x", {"choices": 3}, {"loss": {"_target_": 5}, "choices": {"loss": ["a"]}}]
)
def test_a_config_from_somebody_else_may_be_anything(odd):
    found = name_runs([settings(odd, odd), settings(kd(), [1, None])], ["a", "b"])
    assert len(set(found)) == 2 and all(found)
    assert name_runs([settings(odd, odd), *(settings(kd(seed=seed), None) for seed in (0, 1))], list("abc"))[
        1:
    ] != ["b", "c"]


def test_two_hundred_runs_are_named_at_once():
    runs = [
        described(f"loss.temperature={t}", f"seed={s}", config=kd(t, s)) for t in range(20) for s in range(10)
    ]
    begun = time.perf_counter()
    assert len(set(name_runs(runs, [str(i) for i in range(200)]))) == 200 and time.perf_counter() - begun < 1


# The folder of links


def bare(folder, config=None, words=(), events=("events.out.tfevents.1.h.1.0",)):
    """A run folder as far as the mirror reads it."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps({"config": config or {}, "command": ["kdx", "train", *words]})
    )
    for name in events:
        (folder / name).write_bytes(b"events of " + folder.name.encode())
    return folder


def links(place):
    return {
        str(link.relative_to(place)): os.readlink(link)
        for link in sorted(place.rglob("*"))
        if link.is_symlink()
    }


@pytest.fixture
def mirror(tmp_path):
    (tmp_path / "place").mkdir()
    return Mirror(tmp_path / "outputs", tmp_path / "place")


def test_the_mirror_keeps_up_with_runs_that_come_change_and_go(mirror, tmp_path):
    one = bare(tmp_path / "outputs/runs/one", kd(), ["seed=0"])
    assert mirror.update() == 1
    assert links(mirror.place) == {
        "distilled student/events.out.tfevents.1.h.1.0": str(one / "events.out.tfevents.1.h.1.0")
    }
    bare(tmp_path / "outputs/sweeps/s/0_seed-1", kd(seed=1), ["seed=1"])
    assert mirror.update() == 2 and [folder.name for folder in sorted(mirror.place.iterdir())] == [
        "seed=0",
        "seed=1",
    ]
    shutil.rmtree(one)
    assert mirror.update() == 1 and list(links(mirror.place)) == [
        "distilled student/events.out.tfevents.1.h.1.0"
    ]


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
    assert run_folders(tmp_path / "outputs", DEPTH) == [tmp_path / "outputs/a/b/c/d", one] and run_folders(
        one, DEPTH
    ) == [one]
    assert mirror.update() == 2 and [Path(target).parent.name for target in links(mirror.place).values()] == [
        "d",
        "one",
    ]


def test_names_that_are_no_names_of_folders(mirror, tmp_path):
    """What the mirror writes stays inside its folder, whatever a run calls itself; long values are cut; what
    cannot be read is called by its folder.
    """
    for i, value in enumerate(["../../x", "a/b", "a\nb\0", "..", "é" * 300, "a_b"]):
        bare(tmp_path / f"outputs/{i}", {**kd(), "choices": {"loss": value}}, [f"loss={value}"])
    (tmp_path / "outputs/5/run.json").write_text("[" * 100_000)
    assert mirror.update() == 6
    found = sorted(folder.name for folder in mirror.place.iterdir())
    cut = found.pop()
    assert found == ["5", "loss=", "loss=.._.._x", "loss=a_b", "loss=a_x0ab_x00"] and re.fullmatch(
        r"loss=é{50}_[0-9a-f]{6}", cut
    )
    assert len(links(mirror.place)) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "place"]


def test_names_of_many_keys_give_way_to_the_folders(mirror, tmp_path):
    for i in (1, 2):
        bare(
            tmp_path / f"outputs/{i}",
            {f"key{k}": i * 10**9 for k in range(9)},
            [f"key{k}={i}" for k in range(9)],
        )
    mirror.update()
    assert sorted(folder.name for folder in mirror.place.iterdir()) == ["1", "2"]


def test_names_are_no_longer_than_a_file_system_takes(mirror, tmp_path):
    """Counted in bytes: 80 letters of four bytes are more than the 255 of most."""
    for i in (1, 2):
        values = {"key": "\U0001d400" * 49 + str(i), "other": "\U0001d401" * 30 + str(i)}
        bare(tmp_path / "outputs" / ("d" * 120) / ("d" * 120) / f"{i}", values, ["key=", "other="])
    mirror.update()
    assert [len(folder.name.encode()) for folder in sorted(mirror.place.iterdir())] == [200, 201], (
        "the second with a sign that tells it apart"
    )


# What TensorBoard's own HTTP interface tells


def numbers(accuracy):
    bins = {
        "edges": [0.0, 0.5, 1.0],
        "counts": [0, 500],
        "confidence": [None, 0.9],
        "right": [0, round(500 * accuracy)],
    }
    test = {
        "accuracy": accuracy,
        "ece": 0.03,
        "nll": 0.3,
        "n": 500,
        "reliability": bins,
        "confusion": (np.eye(10, dtype=int) * 50).tolist(),
    }
    return {
        "model": "cnn",
        "best_step": None,
        "last": {"test": test, "validation": {"accuracy": accuracy, "n": 200}},
    }


def write(folder, words, end, accuracies=None, rounds=0, shared=None):
    """A run as RunFolder would leave it: its config composed as for `kdx train`, its curves and results made
    up. shared: what the keys of its teacher and its student alone are made of, if not of its folder.
    """
    config = compose.check_words(compose.quote_paths(list(words)))
    run = RunFolder(
        folder, config, {"counts": {"labelled": 100, "test": 500}}, {"kdx": "0"}, ["kdx", "train", *words]
    )
    stages = [
        "teacher-pretrain",
        *(f"student-train-{i}" for i in range(1, rounds + 1)),
        "student-train",
        "baseline-train",
    ]
    for name in stages:
        key = f"{folder if 'student' in name else shared or folder}-{name}"
        run.started(name, key, False)
        for step in range(0, 30, 10):
            run.record(
                name,
                {
                    "step": step,
                    "train/loss": 1 / (step + 1),
                    "validation/accuracy": step / 100,
                    "train/learning_rate": 0.1,
                },
            )
        run.finished(name, key, False, 1.0)
    if end == "failed":
        run.fail(UserError("the disk is full"))
    elif end == "interrupted":
        run.interrupt()
    elif end == "finished":
        results = {role: numbers(accuracy) for role, accuracy in (accuracies or ACCURACIES).items()}
        run.finish({**results, "classes": [str(i) for i in range(10)]}, None)
    else:
        for board in (run.board, *run.board.others.values()):
            board.writer.flush()
    return run


SWEEP = {
    "loss=kd seed=0": "finished",
    "loss=kd seed=1": "failed",
    "loss=slam seed=0": "interrupted",
    "loss=weighted seed=0": "finished",
    "loss=self_training seed=0": "finished",
    "loss=kd seed=2": "killed",
}


class Api:
    """TensorBoard over a mirror, asked as a browser asks it."""

    def __init__(self, top, place):
        self.mirror = Mirror(top, place)
        self.mirror.update()
        self.url = board.serve(str(place), None, "kdx tests", lambda: board.first_look(self.mirror.colours()))

    def get(self, path, **query):
        return json.load(
            urllib.request.urlopen(f"{self.url}data/{path}?{urllib.parse.urlencode(query)}", timeout=10)
        )

    def post(self, path, **body):
        asked = urllib.request.Request(
            f"{self.url}data/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        return json.load(urllib.request.urlopen(asked, timeout=10))

    def sessions(self):
        """run -> (its hyperparameters, its metrics, its status)"""
        metrics = self.post("plugin/hparams/experiment", experimentName="")["metricInfos"]
        states = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
        groups = self.post(
            "plugin/hparams/session_groups",
            experimentName="",
            allowedStatuses=states,
            startIndex=0,
            sliceSize=100,
            colParams=[{"metric": metric["name"]} for metric in metrics],
        )["sessionGroups"]
        found = {}
        for group in groups:
            (session,) = group["sessions"]  # of several in a group TensorBoard would show the mean
            found[session["name"]] = (
                group["hparams"],
                {m["name"]["tag"]: m["value"] for m in group["metricValues"]},
                session["status"],
            )
        return found

    def until(self, true, seconds=30):
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, "TensorBoard does not show it"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """Six runs of a mixed sweep in TensorBoard."""
    top, place = tmp_path_factory.mktemp("sweep"), tmp_path_factory.mktemp("place")
    for i, (words, end) in enumerate(SWEEP.items()):
        write(
            top / f"{i}_{words.replace('=', '-').replace(' ', '_')}",
            words.split(),
            end,
            rounds=2 * ("self_training" in words),
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board, "POLL_SECONDS", 1)
        found = Api(top, place)
    found.top = top
    found.until(lambda: len(found.get("plugin/scalars/tags")) == 3 * len(SWEEP))
    return found


def ask(url, host):
    """The status of an answer, asked for under a name of this machine."""
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_who_has_the_address_and_calls_this_machine_by_its_name_can_look(api):
    port = urllib.parse.urlparse(api.url).port
    assert [
        ask(f"{api.url}data/runs", host)
        for host in (f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", f"[::1]:{port}")
    ] == [200] * 4
    assert [
        ask(f"{api.url}data/runs", host)
        for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "evil", "")
    ] == [403] * 4
    assert [
        ask(f"http://127.0.0.1:{port}/{path}", f"127.0.0.1:{port}")
        for path in ("", "data/runs", "x/data/runs")
    ] == [404] * 3
    assert len(urllib.parse.urlparse(api.url).path) >= 20


def test_runs_have_readable_names_and_no_runs_inside_them(api):
    others = [f"{who} {run}" for who in ("teacher", "student alone") for run in SWEEP]
    assert sorted(api.get("runs")) == sorted([*SWEEP, *others])
    assert api.url.startswith("http://127.0.0.1:")
    with pytest.raises(OSError):  # that address only: a server that listens everywhere answers here, too
        urllib.request.urlopen(api.url.replace("127.0.0.1", "127.0.0.2"), timeout=2)


def test_hparams_of_a_mixed_sweep_are_complete(api):
    """The union of all columns; a cell is empty where a run has no such setting;
    the five metrics come first.
    """
    experiment = api.post("plugin/hparams/experiment", experimentName="")
    columns = {info["name"] for info in experiment["hparamInfos"]}
    assert {
        "loss",
        "seed",
        "student",
        "loss.temperature",
        "loss.alpha_floor",
        "loss.weights.estimator",
        "select.threshold",
        "rounds",
    } <= columns
    assert not columns & {"store", "choices.loss", "device.workers"}
    found = api.sessions()
    assert set(found) == set(SWEEP)
    for name, (hparams, _, _) in found.items():
        assert f"loss={hparams['loss']} seed={hparams['seed']:.0f}" == name and hparams["dataset"] == "digits"
    assert (
        found["loss=kd seed=0"][0]["loss.temperature"] == 4
        and "loss.temperature" not in found["loss=slam seed=0"][0]
    )
    first = [metric["name"]["tag"] for metric in experiment["metricInfos"]][:5]
    assert first == [
        f"(results)/{name}"
        for name in ("gain", "gap closed", "student accuracy", "student alone accuracy", "teacher accuracy")
    ]
    shown = found["loss=weighted seed=0"][1]
    assert [round(shown[tag], 6) for tag in first] == pytest.approx([0.06, 0.6, 0.91, 0.85, 0.95])
    assert "(results)/gain" not in found["loss=kd seed=1"][1]


def test_failed_interrupted_and_running_runs_show_their_status(api):
    states = {"finished": "STATUS_SUCCESS", "failed": "STATUS_FAILURE", "interrupted": "STATUS_FAILURE"}
    assert {name: status for name, (_, _, status) in api.sessions().items() if name != "loss=kd seed=2"} == {
        name: states[end] for name, end in SWEEP.items() if end != "killed"
    }
    assert api.sessions()["loss=kd seed=2"][2] in ("STATUS_RUNNING", "STATUS_UNKNOWN")


def test_networks_are_runs_whose_curves_share_a_chart(api):
    """Each network has the same tags; a training of finished runs that several share is shown once, by what
    these runs have in common, and one of a run that may yet get more by the run's own name.
    """
    tags = api.get("plugin/scalars/tags")
    curves = {"1 validation/accuracy", "2 train/learning_rate", "2 train/loss"}
    assert curves < set(tags["loss=kd seed=0"]) and "(results)/gain" in tags["loss=kd seed=0"]
    rounds = {f"{tag}-{number}" for tag in curves for number in (1, 2)}
    assert {tag for tag in tags["loss=self_training seed=0"] if tag[0] != "("} == curves | rounds
    others = {name: set(found) for name, found in tags.items() if name not in SWEEP}
    assert set(others) == {f"{who} {run}" for who in ("teacher", "student alone") for run in SWEEP}
    assert all(found == curves for found in others.values())
    points = api.get("plugin/scalars/scalars", run="loss=kd seed=2", tag="1 validation/accuracy")
    assert [(step, round(value, 3)) for _, step, value in points] == [(0, 0), (10, 0.1), (20, 0.2)]


def test_a_training_that_runs_share_is_shown_once(tmp_path):
    """By its key, once the runs have finished; the name is what is common to theirs."""
    for name, loss, seed, end, shares in (
        ("a", "kd", 0, "finished", True),
        ("b", "slam", 0, "finished", True),
        ("c", "kd", 1, "finished", True),
        ("d", "slam", 1, "killed", True),
        ("e", "weighted", 1, "finished", False),
    ):
        write(
            tmp_path / "runs" / name, [f"loss={loss}", f"seed={seed}"], end, shared=shares and f"seed {seed}"
        )
    (tmp_path / "board").mkdir()
    mirror = Mirror(tmp_path / "runs", tmp_path / "board")
    assert mirror.update() == 5
    students = {
        "loss=kd seed=0",
        "loss=slam seed=0",
        "loss=kd seed=1",
        "loss=slam seed=1",
        "loss=weighted seed=1",
    }
    apart = ("seed=0", "loss=kd seed=1", "loss=slam seed=1", "loss=weighted seed=1")
    assert {folder.name for folder in (tmp_path / "board").iterdir()} == students | {
        f"{who} {run}" for who in ("teacher", "student alone") for run in apart
    }
    colours = re.compile(mirror.colours())
    groups = {name: colours.search(name).groups() for name in students | {f"teacher {run}" for run in apart}}
    assert groups["loss=kd seed=0"] == groups["loss=kd seed=1"] != groups["loss=slam seed=1"]
    assert groups["teacher seed=0"] == groups["teacher loss=slam seed=1"] == ("teacher", None, None, None)


def test_names_and_links_of_networks_stay_in_the_mirror(tmp_path):
    """Folders of a run from somebody else: odd names are cut and made plain, and links are not followed."""
    write(tmp_path / "run", [], "finished")
    for name in ("x\n" * 60, "a=b;"):
        shutil.copytree(tmp_path / "run/curves/teacher", tmp_path / "run/curves" / name)
    (tmp_path / "run/curves/linked").symlink_to(tmp_path / "run/curves/teacher")
    (tmp_path / "board").mkdir()
    Mirror(tmp_path / "run", tmp_path / "board").update()
    assert {folder.name for folder in (tmp_path / "board").iterdir()} == {
        "distilled student",
        "teacher",
        "student alone",
        "x_" * 20,
        "a=b_",
    }


def test_the_networks_of_one_run_are_called_by_what_they_are(tmp_path):
    write(tmp_path / "run", [], "finished")
    (tmp_path / "board").mkdir()
    Mirror(tmp_path / "run", tmp_path / "board").update()
    assert {folder.name for folder in (tmp_path / "board").iterdir()} == {
        "distilled student",
        "teacher",
        "student alone",
    }


def test_the_first_page_has_a_colour_for_each_network(api):
    """The address leads to itself with colours and without smoothing; whoever asks for a look gets that."""
    front = urllib.request.urlopen(api.url, timeout=10)
    asked = urllib.parse.parse_qs(urllib.parse.urlparse(front.url).query)
    assert asked == {"runColorGroup": [f"regex:{api.mirror.colours()}"], "smoothing": ["0"]}
    own = urllib.request.urlopen(f"{api.url}?smoothing=0.5", timeout=10)
    assert own.url.endswith("?smoothing=0.5")


def test_the_custom_layout_has_all_rounds_in_one_chart(api):
    (category,) = api.get("plugin/custom_scalars/layout")["category"]
    assert [chart["title"] for chart in category["chart"]] == [
        "validation accuracy",
        "validation loss",
        "training loss",
        "learning rate",
    ]

    def matched(run, chart):
        return {
            tag
            for regex in category["chart"][chart]["multiline"]["tag"]
            for tag in api.get("plugin/custom_scalars/scalars", run=run, tag=regex)["tag_to_events"]
        }

    assert matched("teacher loss=kd seed=0", 0) == {"1 validation/accuracy"}
    assert matched("loss=self_training seed=0", 3) == {
        f"2 train/learning_rate{number}" for number in ("", "-1", "-2")
    }


def test_pictures_and_the_card(api):
    pictures = set(api.get("plugin/images/tags")["loss=kd seed=0"])
    assert {"confusion/teacher", "reliability/distilled student"} <= pictures
    assert not set(api.get("plugin/images/tags").get("loss=kd seed=1", ()))
    for run, words in {
        "loss=kd seed=0": "+6.0 points",
        "loss=kd seed=1": "the disk is full",
        "loss=slam seed=0": "interrupted",
    }.items():
        assert api.get("plugin/text/tags")[run] == ["card"]
        (card,) = api.get("plugin/text/text", run=run, tag="card")
        assert (
            words in card["text"]
            and "&lt;" not in card["text"]
            and "<td>100 labels, 500 for the test</td>" in card["text"]
        )


@pytest.mark.slow  # 7 s of waiting
def test_a_run_begun_anew_is_read_anew_by_a_tensorboard_that_is_open(api):
    """The failed run runs again in its folder and is shown as it is now: its curve from the start, its
    status, its new hyperparameters.
    """
    write(api.top / "1_loss-kd_seed-1", ["loss=kd", "seed=1"], "finished", {**ACCURACIES, "student": 0.87})

    def shown():
        time.sleep(1.2)
        api.mirror.update()
        return api.sessions().get("loss=kd seed=1", (0, 0, 0))[2] == "STATUS_SUCCESS"

    api.until(shown)
    assert api.sessions()["loss=kd seed=1"][1]["(results)/gain"] == pytest.approx(0.02)
    points = api.get("plugin/scalars/scalars", run="loss=kd seed=1", tag="2 train/loss")
    assert [step for _, step, _ in points] == [0, 10, 20]


def test_a_run_that_starts_later_appears(api):
    write(api.top / "9", ["loss=slam", "seed=1"], "finished")
    api.mirror.update()
    api.until(lambda: "loss=slam seed=1" in api.get("plugin/scalars/tags"))


# A run that was killed and goes on


SHORT = [
    "device=cpu",
    "device.threads=1",
    "device.checkpoint_seconds=0",
    "teacher_pretrain.steps=8",
    "student_train.steps=20",
    "dataset.validation=50",
    "dataset.test=100",
    "dataset.unlabelled=100",
    "teacher=cnn_small",
    "baseline=false",
]


def train(folder, store):
    """What `kdx train` does after its checks."""
    order = wire(compose.check_words([*SHORT, f"store={store}"]))
    return training.take_turn(order, Path(folder), SHORT, Alone())


def curves(folder):
    """network and tag -> steps, as TensorBoard reads the event files of a run folder, one a network."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for file in folder.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            name = f"{file.parent.name if file.parent != folder else 'student'}: {tag}"
            assert name not in found
            if not tag.startswith("(results)"):
                found[name] = [(e.step, e.value) for e in events.Scalars(tag)]
    return found


@pytest.mark.slow
def test_a_resumed_run_is_one_curve_in_its_own_folder_and_in_a_new_one(tmp_path, monkeypatch):
    """Stopped in the middle of student-train, it goes on from the checkpoint of the step before; each step is
    reported once, and as in a run that was never stopped. A further run takes all from the store and shows
    the same curves."""
    from kdx.store.work import Work

    monkeypatch.chdir(tmp_path)
    progress = Work.progress

    def stumble(work, done, total, text=""):
        progress(work, done, total, text)
        if work.name == "student-train" and done == 13:
            raise OSError("pulled out")

    with monkeypatch.context() as patch:
        patch.setattr(Work, "progress", stumble)
        assert train("a", "store") == 1
    before = curves(Path("a"))
    assert before["student: 2 train/loss"][-1][0] == 12 and "student: audit/accuracy" not in before
    shutil.copytree("store", "copied")
    assert [train("a", "store"), train("b", "copied"), train("c", "store"), train("whole", "fresh")] == [
        0
    ] * 4
    whole = curves(Path("whole"))
    assert [step for step, _ in whole["student: 2 train/loss"]] == list(range(20))
    for name in "abc":
        found = curves(Path(name))
        assert found == whole, name
        assert all(
            steps == sorted(set(steps)) for steps in ([step for step, _ in curve] for curve in found.values())
        )
    assert {stage["cached"] for stage in json.loads(Path("c/run.json").read_text())["stages"]} == {True}


# The command


def test_a_folder_without_runs_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, said in {
        (): "the folder 'outputs' does not exist",
        ("here",): "'here' holds no run",
        ("here", "there"): "shows one folder; given: here there",
        ("here", "port=0"): "port must be a whole number from 1 to 65535; given: '0'",
        ("here", "prot=1"): "'prot' is no key of kdx board; did you mean 'port'",
    }.items():
        (tmp_path / "here").mkdir(exist_ok=True)
        assert main(["board", *words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGINT, 0), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_the_command_serves_until_interrupted(tmp_path, stop, code):
    """One line with the address; a port that is taken is reported where it was asked for, and passed over
    where it was not; Ctrl-C ends it.
    """
    for seed in (0, 1):
        write(tmp_path / f"outputs/runs/{seed}", ["loss=kd", f"seed={seed}"], "finished")
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    program = [
        sys.executable,
        "-c",
        (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); from kdx.cli import main; "
            "sys.exit(main(sys.argv[1:]))"
        ),
        "board",
    ]
    server = subprocess.Popen(
        program, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = server.stdout.readline()
        url = line.split()[6]
        assert line.startswith("2 runs of outputs in TensorBoard: http://127.0.0.1:") and url.endswith("/")
        deadline = time.monotonic() + 20
        expected = [f"{who}seed={seed}" for who in ("", "student alone ", "teacher ") for seed in (0, 1)]
        while sorted(runs := json.load(urllib.request.urlopen(f"{url}data/runs", timeout=10))) != expected:
            assert time.monotonic() < deadline, runs
            time.sleep(0.2)
        children = subprocess.run(
            ["ps", "-o", "args=", "--ppid", str(server.pid)], capture_output=True, text=True, check=False
        ).stdout
        assert children == "", "a data server would listen at a second port"
        port = urllib.parse.urlparse(url).port
        again = subprocess.run(
            [*program, f"port={port}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (
            again.returncode == 2
            and again.stdout == ""
            and f"port {port}" in again.stderr
            and len(again.stderr.splitlines()) == 1
        )
        server.send_signal(stop)
        assert server.wait(20) == code and server.stdout.read() == "" and server.stderr.read() == ""
        assert list((tmp_path / "temporary").iterdir()) == []
    finally:
        server.kill()
