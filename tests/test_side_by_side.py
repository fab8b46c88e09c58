"""The student alone beside the teacher, in a process of its own: when that is chosen, that it gives the same
bits, and how it ends. And the threads that each training gets.
"""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from fabricate import Still
from safetensors.torch import load_file
from stages import Heard, on_cpu, own_package

from kdx.cli import main
from kdx.commands.rerun import threads_there
from kdx.config.compose import check_words
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.pipeline.pace import ThreadsOfStages, candidates, fewest, rows_of_a_part
from kdx.pipeline.recipes import side_by_side
from kdx.pipeline.recipes.side_by_side import START, Lanes
from kdx.pipeline.stages import LABEL, PROBE, TRAIN
from kdx.planning.dry_run import forecast
from kdx.runs.diff import other_environment
from kdx.store.artifact import Artifact
from kdx.store.beside import Ended, OtherProcess
from kdx.store.component import Component
from kdx.store.disk import locked
from kdx.store.resolve import allow
from kdx.store.stage import Stage
from kdx.store.store import Store

probe = import_module("kdx.pipeline.stages.probe")

OWN = """
import os, signal, time
def run(work, runtime, *, text, how="well"):
    work.record({"step": 0, "value": 1.5})
    work.note("something to know", "warning")
    other = os.environ.get("KDX_TEST_PARENT") != str(os.getpid())
    if how == "killed" and other:
        os.kill(os.getpid(), signal.SIGKILL)
    if how in ("slow", "stopped"):
        (work.path / "begun.txt").write_text(str(os.getpid()))
    if how == "slow" or how == "stopped" and other:
        time.sleep(60)
    (work.path / "out.txt").write_text(f"{text} {os.getpid()}")
"""
STEP = Stage("own", "kdxbeside.stage", writes=("out.txt",))
ALONE = (
    "teacher=cnn_small",
    "student=cnn_tiny",
    "teacher_pretrain.steps=6",
    "student_train.steps=6",
    "device=cpu",
    "device.threads=1",
)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A stage of the test's own, which another process can import too."""
    monkeypatch.setenv("KDX_TEST_PARENT", str(os.getpid()))
    with own_package(tmp_path, monkeypatch, "kdxbeside", OWN):
        allow(["kdxbeside"])
        yield tmp_path
        allow([])


def store_in(place):
    return Store(place / "store", Still(), Heard(), beside=OtherProcess())


def test_another_process_makes_a_stage_as_this_one_would(own):
    store = store_in(own)
    store.begin_beside(STEP, Still(), "first", text="a")
    assert store.beside.busy
    made = store.run(STEP, name="first", text="a")
    assert made.file("out.txt").read_text() != f"a {os.getpid()}" and not store.beside.busy
    assert store.listener.events == [
        ("started", "first", False),
        ("record", "first", {"step": 0, "value": 1.5}),
        ("note", "warning", "something to know"),
        ("finished", "first", False),
    ]
    here = Store(own / "other", Still(), Heard()).run(STEP, name="first", text="a")
    assert here.key == made.key and here.file("out.txt").read_text() == f"a {os.getpid()}"
    store.run(STEP, name="again", text="a")
    assert store.listener.events[4] == ("started", "again", True)


def test_a_stage_whose_process_was_killed_is_made_here(own):
    store = store_in(own)
    store.begin_beside(STEP, Still(), "first", text="a", how="killed")
    made = store.run(STEP, name="first", text="a", how="killed")
    assert made.file("out.txt").read_text() == f"a {os.getpid()}"
    assert store.listener.events == [
        ("started", "first", False),
        ("note", "info", "the process that made it was killed by signal 9; it is made here"),
        ("record", "first", {"step": 0, "value": 1.5}),
        ("note", "warning", "something to know"),
        ("finished", "first", False),
    ]


def begun(place):
    """The number of the process that is at work, as soon as it is."""
    for _ in range(200):
        if found := list((place / "store").glob("own/*.partial/begun.txt")):
            if text := found[0].read_text():
                return int(text)
        time.sleep(0.05)
    raise AssertionError("nothing has begun")


def gone(process):
    for _ in range(200):
        try:
            state = Path(f"/proc/{process}/stat").read_text().split()[2]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("stopped", [True, False])
def test_a_stage_whose_process_is_silent_is_made_here(own, stopped):
    """One that was stopped, or one that sleeps, as one that waits for what never comes."""
    store = store_in(own)
    store.beside.patience = 1.0
    store.begin_beside(STEP, Still(), "first", text="a", how="stopped")
    process = begun(own)
    if stopped:
        os.kill(process, signal.SIGSTOP)
    before = time.monotonic()
    made = store.run(STEP, name="first", text="a", how="stopped")
    assert 1.0 <= time.monotonic() - before < 8 and gone(process) and not store.beside.busy
    assert made.file("out.txt").read_text() == f"a {os.getpid()}"
    said = "the process that made it gave no sign of life for 1 s and was ended (device.wait_seconds)"
    assert store.listener.events[:2] == [
        ("started", "first", False),
        ("note", "warning", f"{said}; it is made here"),
    ]
    assert store.listener.events[-1] == ("finished", "first", False)


def test_what_it_writes_is_a_sign_of_life(own, monkeypatch):
    """Of either folder. The clock of this process counts seconds in which it was at work alone."""
    beside, sleeps = OtherProcess(), []
    beside._folder, beside._partial, beside.patience = own / "its", own / "partial", 5.0
    beside._folder.mkdir()
    beside._partial.mkdir()
    beside._child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    now = [0.0]

    def sleep(seconds):
        sleeps.append(seconds)
        now[0] += 0.9 if len(sleeps) != 4 else 1000.0  # held up once
        if len(sleeps) in (3, 6):
            (own / ("its" if len(sleeps) == 3 else "partial") / f"{len(sleeps)}").write_text("")

    monkeypatch.setattr("kdx.store.beside.time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    assert beside.wait(lambda *_: None).hung and len(sleeps) == 6 + 6


def test_one_that_was_stopped_ends_where_this_run_ends(own):
    store = store_in(own)
    store.begin_beside(STEP, Still(), "first", text="a", how="slow")
    process = begun(own)
    os.kill(process, signal.SIGSTOP)
    before = time.monotonic()
    store.beside.end()
    assert time.monotonic() - before < 5 and gone(process)


def test_one_that_does_not_end_is_killed(own, monkeypatch):
    monkeypatch.setattr("kdx.store.beside._LAST_STEP", 0.2)
    beside = OtherProcess()
    beside._folder = own / "its"
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    child = beside._child = subprocess.Popen([sys.executable, "-c", deaf], stdin=subprocess.PIPE)
    beside.end()
    assert child.returncode == -signal.SIGKILL


def test_what_another_run_made_meanwhile_comes_from_the_store(own):
    """Two runs at once: the process beside waits for the other run, and finds what that has made."""
    store, other = store_in(own), Store(own / "store", Still(), Heard())
    with locked(store.root, STEP.name, store.key(STEP, {"text": "a"})[0], None, print) as held:
        assert held
        store.begin_beside(STEP, Still(), "first", text="a")
    other.run(STEP, name="first", text="a")  # it, or the process, whoever was first
    cached = ("finished", "first", True) in other.listener.events
    store.run(STEP, name="first", text="a")
    assert store.listener.events[0] == ("started", "first", False)
    assert store.listener.events[-1] == ("finished", "first", not cached)


def test_it_ends_where_this_run_ends(own):
    store = store_in(own)
    store.begin_beside(STEP, Still(), "first", text="a", how="slow")
    process, folder = begun(own), store.beside._folder
    store.beside.end()
    assert gone(process) and not folder.exists() and not store.beside.busy
    store.beside.end()


def test_it_ends_where_this_process_is_killed(own):
    code = """
import sys, time
from pathlib import Path
from kdx.store.beside import Ended, OtherProcess
from kdx.store.resolve import allow
from kdx.store.stage import Stage
from kdx.store.store import Store
from kdx.store.work import Listener
from fabricate import Still
allow(["kdxbeside"])
store = Store(Path(sys.argv[1]) / "store", Still(), Listener(), beside=OtherProcess())
store.begin_beside(Stage("own", "kdxbeside.stage"), Still(), "first", text="a", how="slow")
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", code, str(own)], env=environment)
    process = begun(own)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(process)


@pytest.mark.parametrize(
    ("teacher", "alone", "after", "may_last", "lane"),
    [
        ((10, 12), (8, 9), (8, 9), False, "teacher"),  # 26, or 12 + 8
        ((10, 12), (8, 9), (8, 9), True, "teacher"),  # 26, 20 or 21
        ((0, 0), (20, 22), (20, 22), True, "student"),  # 40, or 25
        ((0, 0), (20, 22), (20, 22), False, ""),  # nothing to be beside
        ((6, 6), (3.5, 3.5), (5, 5), True, "teacher"),  # 14.5, 11.5, or 11 and a gate that comes late
        ((100, 190), (20, 25), (20, 38), True, ""),  # a large teacher would wait for its threads
        ((1, 1), (1, 1), (1, 1), True, ""),  # over before the other process has begun
        ((30, 30), (1, 1), (8, 8), True, ""),  # a second of 39 is not worth it
    ],
)
def test_what_goes_side_by_side_is_what_is_sooner_done(teacher, alone, after, may_last, lane):
    assert START == 3.0
    assert Lanes(teacher, alone, after).choose(may_last) == lane


@pytest.mark.parametrize(
    ("word", "paces", "says"),
    [
        ("true", None, "trains beside the teacher and student, in a process of its own with 1 thread"),
        ("false", None, None),
        ("auto", None, "in a process of its own, where that is sooner done, which the run finds out"),
        # in turn 18 s, all at once 12
        ("auto", {1: 0.01, 2: 0.009}, "trains beside the teacher and student, in a process of its own with"),
        ("auto", {1: 0.001, 2: 0.0009}, None),
    ],
)
def test_a_plan_says_what_goes_side_by_side(tmp_path, monkeypatch, word, paces, says):
    """Settled, or to be settled where nothing was timed yet; and nothing is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side_by_side, "share_of_cores", lambda: 2)
    monkeypatch.setattr("kdx.training.runtime.share_of_cores", lambda: 2)
    if paces:
        monkeypatch.setattr(side_by_side, "step_seconds", lambda *_: paces)
    words = [*ALONE[:2], "device=cpu", "teacher_pretrain.steps=600", "student_train.steps=600", "store=s"]
    order = wire(check_words([*words, f"device.side_by_side={word}"]))
    steps, _ = forecast(order, tmp_path / "plan", {}, noted := [])
    assert "baseline-train" in {step.name for step in steps} and not Path("s").exists()
    assert [says in text and text.startswith("baseline-train ") for text in noted] == ([True] if says else [])


def test_fewer_threads_are_taken_where_more_bring_little():
    assert candidates(1) == [1] and candidates(2) == [1, 2] and candidates(6) == [1, 2, 4, 6]
    assert fewest({1: 1.4, 2: 1.0}, 2) == 1
    assert fewest({1: 1.6, 2: 1.0}, 2) == 2
    assert fewest({1: 4.0, 2: 2.2, 4: 1.4, 6: 1.0}, 6) == 4
    assert fewest({1: 4.0, 2: 2.2, 4: 1.2, 6: 1.0}, 3) == 2
    assert fewest({6: 1.0}, 3) is None


def test_a_probe_of_threads_leaves_them_as_they_were(monkeypatch):
    took = {1: 0.010, 2: 0.008, 4: 0.02, 8: 0.03}
    import torch

    before, tried = torch.get_num_threads(), []
    now = [before]
    monkeypatch.setattr(torch, "set_num_threads", lambda n: now.__setitem__(0, n))
    trial = type("Trial", (), {"step": lambda *_: tried.append(now[0]) or took[now[0]]})()
    assert probe.by_threads(trial, (None, None), "fp32", [1, 2, 4, 8]) == took
    assert now == [before] and tried.count(1) == tried.count(8)
    took |= {4: 0.05}
    tried.clear()
    assert set(probe.by_threads(trial, (None, None), "fp32", [1, 2, 4, 8])) == {4, 8}, "fewer are slower yet"
    took |= {8: 0.6}
    assert set(probe.by_threads(trial, (None, None), "fp32", [1, 2, 4, 8])) == {1, 2, 4, 8}, "a busy machine"
    took |= {4: 0.7}
    assert set(probe.by_threads(trial, (None, None), "fp32", [1, 2, 4, 8])) == {4, 8}, "long steps need all"


class Asked:
    """A store whose probe says what is given."""

    peek = False

    def __init__(self, runtime, seconds, beside=None):
        self.runtime, self.seconds, self.beside, self.asked = runtime, seconds, beside, []
        self.done: dict[str, Artifact] = {}

    def run(self, stage, **inputs):
        self.asked.append(inputs)
        return type("Found", (), {"json": lambda *_: {"seconds": self.seconds}})()


def runtime(**more):
    return on_cpu(**{"threads": "auto", **more})


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps({"counts": {"labelled": 100, "unlabelled": 900}}))
    spec = {"_target_": "a.b", "batch_size": 10, "rows": None, "epochs": 3, "steps": None, "length": ""}
    model = Component({"_target_": "kdx.models.mlp.mlp"})
    return {
        "data": Artifact("prepare", "0" * 64, tmp_path),
        "model": model,
        "training": Component(spec),
        "precision": "fp32",
        "epoch": ["labelled", "unlabelled"],
    }


def test_a_training_gets_the_threads_that_the_probe_found(monkeypatch, inputs):
    import torch

    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr("kdx.training.runtime.share_of_cores", lambda: 4)

    def threads(stage=TRAIN, name="student-train", store=None, given=inputs, **more):
        asked = runtime(**more)
        nonlocal found
        found = store or Asked(asked, {"1": 4.0, "2": 2.0, "4": 1.9})
        made = ThreadsOfStages(asked)(found, stage, name, given)
        assert set_to[-1] == made.threads and found.runtime.threads == asked.threads
        return made.threads

    found = None
    assert (
        threads() == 2
        and found.asked[0]["threads"]["tried"] == [1, 2, 4]
        and found.asked[0]["batch_size"] == 10
    )
    assert threads(LABEL) == 4 and not found.asked, "no training"
    after = Asked(runtime(), {})
    after.done["teacher-pretrain"] = SimpleNamespace(stage=TRAIN.name, manifest={"made": {"threads": 1}})
    assert threads(LABEL, store=after) == 1, "as many as its network was trained with"
    assert threads(PROBE, store=after) == 4
    assert threads(threads=3) == 3 and not found.asked, "as the user says"
    short = {**inputs, "training": Component({**inputs["training"].spec, "epochs": 1})}
    assert threads(given=short) == 4 and not found.asked, "too short for a probe"
    assert threads(gpus=2) == 4 and not found.asked
    again = {"student-train": 3}
    assert threads(threads=2, by_stage=again) == 3 and threads(threads=2, by_stage=again, name="x") == 2
    beside = type("Busy", (), {"busy": True, "leaves": 1})()
    assert threads(store=Asked(runtime(), {"1": 4.0, "2": 2.0}, beside)) == 1
    assert threads(LABEL, store=Asked(runtime(), {}, beside)) == 1
    beside.leaves = 3
    assert threads(store=Asked(runtime(), {"1": 4.0, "2": 2.0, "4": 0.5}, beside)) == 2
    monkeypatch.setattr("kdx.training.runtime.share_of_cores", lambda: 1)
    assert threads() == 1 and not found.asked, "nothing to choose"


@pytest.mark.parametrize("given", ["yes", 1, None])
def test_side_by_side_is_yes_no_or_auto(given):
    with pytest.raises(UserError, match="device.side_by_side must be auto, true or false; given: "):
        runtime(side_by_side=given)


def test_a_batch_in_parts_is_probed_in_parts(inputs):
    spec = inputs["training"].spec
    assert rows_of_a_part(Component({**spec, "accumulate": 4})) == 3


def test_a_run_is_made_again_with_the_threads_of_each_stage():
    stages = [{"name": "teacher-pretrain", "threads": 2}, {"name": "student-train", "threads": 1}]
    odd = [{"name": "a"}, {"name": "b", "threads": True}, {"name": "c", "threads": 0}, {"threads": 3}, "d"]
    run = type("Run", (), {"document": {"stages": [*stages, *odd]}})
    assert threads_there(run) == {"teacher-pretrain": 2, "student-train": 1}
    assert threads_there(type("Run", (), {"document": {}})) == {}


def test_threads_of_a_stage_differ_only_where_both_runs_have_others():
    def run(**elsewhere):
        return {"environment": {"settled": {"threads": 1}, "elsewhere": elsewhere}}

    label, probed = {"pseudo-label": {"threads": 2}}, {"probe": {"threads": 2}}
    assert not list(other_environment(run(**label, **probed), run(**label)))
    assert list(other_environment(run(**label), run())) == [("threads of pseudo-label", 2, 1)]


def weights(folder, name):
    return load_file(Path(folder) / "artifacts" / name / "last.safetensors")


@pytest.mark.slow
def test_side_by_side_gives_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents = {}
    for side in ("true", "false"):
        words = [f"device.side_by_side={side}", f"store={side}-store", f"hydra.run.dir={side}"]
        assert main(["train", *ALONE, *words]) == 0
        documents[side] = json.loads(Path(side, "run.json").read_text())
    for name in ("teacher-pretrain", "baseline-train", "student-train"):
        one, other = weights("true", name), weights("false", name)
        assert all((one[k] == other[k]).all() for k in one)
    stages = {side: {s["name"]: s["key"] for s in run["stages"]} for side, run in documents.items()}
    assert stages["true"] == stages["false"]
    assert not any(stage["cached"] for stage in documents["true"]["stages"])
    assert "baseline" in documents["true"]["results"] and documents["true"]["gate"]
    log = Path("true", "train.log").read_text()
    assert "beside the teacher and student, in a process of its own with 1 thread" in log
    lines = [[json.loads(line) for line in Path(s, "metrics.jsonl").open()] for s in ("true", "false")]
    assert sorted(map(json.dumps, lines[0])) == sorted(map(json.dumps, lines[1]))


@pytest.mark.slow
def test_with_an_error_at_the_gate_the_student_waits_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["device.side_by_side=true", "pseudo_label.gate=error", "store=s", "hydra.run.dir=r"]
    code = main(["train", *ALONE, *words])
    names = [stage["name"] for stage in json.loads(Path("r/run.json").read_text())["stages"]]
    assert names.index("baseline-train") < names.index("gate")
    assert "student-train" not in names or names.index("gate") < names.index("student-train")
    assert code in (0, 1) and "teacher" in Path("r/train.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_with_both(tmp_path, number):
    words = ["device.side_by_side=true", "store=s", "hydra.run.dir=r", "device.checkpoint_seconds=0.2"]
    lengths = ["teacher_pretrain.steps=900", "student_train.steps=900"]
    command = [sys.executable, "-m", "kdx", "train", *ALONE, *words, *lengths]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(1200):
        if all(
            list((tmp_path / "s").glob(f"{s}/*.partial/checkpoint.pt")) for s in ("teacher-pretrain", "train")
        ):
            break
        time.sleep(0.05)
    run.send_signal(number)
    code = run.wait()
    assert code == (143 if number == signal.SIGTERM else -number)
    (partial,) = (tmp_path / "s").glob("train/*.partial")
    for _ in range(200 if number == signal.SIGKILL else 1):
        mark = (partial / "checkpoint.json").read_text()
        time.sleep(0.4)
        if mark == (partial / "checkpoint.json").read_text():
            break
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    document = json.loads((tmp_path / "r/run.json").read_text())
    assert not any(
        s["cached"] for s in document["stages"] if s["name"] in ("teacher-pretrain", "baseline-train")
    )
    assert "baseline-train goes on from step" in again.stderr and "waiting for it" not in again.stderr


def test_one_that_was_told_to_end_takes_its_folder_along(tmp_path):
    """As a scheduler does: what waits for it says how it ended, and makes the stage itself."""
    beside = OtherProcess()
    beside._folder = tmp_path / "gone"
    beside._child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(143)"], stdin=subprocess.PIPE)
    assert beside.wait(lambda *_: None) == Ended("ended with code 143")
