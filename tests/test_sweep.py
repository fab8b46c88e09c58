"""kdx train -m: checked together, shared stages made once, gone on with after a kill or a repair, reported at
the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.commands._check import by_combination
from kdx.commands._sweep import hand_over, validation_error
from kdx.commands._watch import SweepWatch
from kdx.config import compose, grid
from kdx.config.compose.base import without_layers
from kdx.core import files, signals
from kdx.core.errors import UserError
from kdx.report.run import document
from kdx.runs import sweep
from kdx.training import gpus
from kdx.training.runtime import cores, share_of_cores

SHORT = ["device=cpu", "device.threads=1", "teacher=mlp", "teacher_pretrain.steps=6", "student_train.steps=4"]
GRID = ["loss=kd,soft", "student=mlp_small", "seed=range(2)", "augment=[none]", "pseudo_label.view=clean"]
TEACHERS = 2


def documents(place: Path = Path("outputs/sweeps")) -> dict[str, dict]:
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(place.glob("*/*/run.json"))}


def made(runs: dict[str, dict], name: str) -> list[str]:
    return [s["key"] for run in runs.values() for s in run["stages"] if s["name"] == name and not s["cached"]]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a finished sweep of four runs."""
    place = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", *GRID, "-m", *SHORT]) == 0
    return place


def test_shared_stages_are_made_once(swept):
    runs = documents(swept / "outputs/sweeps")
    assert len(runs) == 4 and all(run["status"] == "finished" for run in runs.values())
    assert len(made(runs, "teacher-pretrain")) == len(set(made(runs, "teacher-pretrain"))) == TEACHERS
    assert len(made(runs, "pseudo-label")) == TEACHERS and len(made(runs, "student-train")) == 4
    assert len(made(runs, "baseline-train")) == 2, "one for each seed, whatever the loss"
    assert list(runs)[:2] == ["0_loss-kd_seed-0", "1_loss-kd_seed-1"]


def test_runs_that_stand_in_no_one_table_are_reported_as_finished(swept, monkeypatch, capsys):
    """Such as those of two data sets: each with its own figures, why, and exit code 0."""
    monkeypatch.chdir(swept)
    with monkeypatch.context() as patch:
        patch.setattr(
            "kdx.report.compare.protocols.count", lambda e, split: 7 if "_loss-kd_seed" in e.name else 9
        )
        assert main(["train", "-m", *GRID, *SHORT]) == 0
    said = capsys.readouterr()
    assert (
        said.err == ""
        and (
            "the 4 runs are finished; each has a test split or a protocol of its own, "
            "so they are not compared"
        )
        in said.out
    )
    alone = documents(swept / "outputs/sweeps")["0_loss-kd_seed-0"]["results"]["baseline"]["last"]["test"][
        "accuracy"
    ]
    (line,) = (line for line in said.out.splitlines() if line.startswith("| 0_loss-kd_seed-0 "))
    assert f"{alone:.1%}" in line.split("|")[3]
    assert "test rows: 7 in " in said.out and "where=KEY=VALUE --html" in said.out


@pytest.mark.slow
def test_the_same_command_again_runs_nothing_and_more_runs_what_is_missing(swept, monkeypatch, capsys):
    monkeypatch.chdir(swept)
    before = {p: p.stat().st_mtime_ns for p in swept.glob("outputs/sweeps/*/*/run.json")}
    assert main(["train", "-m", *GRID, *SHORT]) == 0
    assert "all are done" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in swept.glob("outputs/sweeps/*/*/run.json")} == before
    (lost,) = swept.glob("outputs/sweeps/*/3_*/run.json")
    lost.unlink()
    assert main(["train", "-m", *GRID, *SHORT]) == 0
    out = capsys.readouterr().out
    assert "3 of them are done, 1 to do" in out and "4/4 loss=soft seed=1: " in out
    assert not made({"it": json.loads(lost.read_text())}, "student-train"), "its stages are in the store"


def test_a_finished_figure_is_never_replaced(swept, tmp_path, monkeypatch):
    """A finished run that would come out otherwise today (another code, other data) is left alone: the sweep
    takes a new folder.
    """
    monkeypatch.chdir(tmp_path)
    (old,) = [p.parent for p in swept.glob("outputs/sweeps/*/sweep.json")]
    jobs = {job["folder"]: job["words"] for job in json.loads((old / "sweep.json").read_text())["jobs"]}
    orders = dict.fromkeys(jobs, None)
    monkeypatch.setattr(sweep, "key_today", lambda order: "f" * 64)
    found = sweep.begin_sweep(old.parent / "new", ["kdx"], jobs, orders, named=False)
    assert not found.resumed and found.path == old.parent / "new"
    found.lock.release()
    found.path.joinpath("sweep.json").unlink()
    keys = {folder: sweep.key_in(json.loads((old / folder / "run.json").read_text())) for folder in jobs}
    monkeypatch.setattr(sweep, "key_today", keys.get)
    found = sweep.begin_sweep(old.parent / "new", ["kdx"], jobs, {name: name for name in jobs}, named=False)
    assert found.resumed and found.path == old
    busy = sweep.begin_sweep(old.parent / "third", ["kdx"], jobs, {name: name for name in jobs}, named=False)
    assert busy.path == old.parent / "third", (
        "a folder in which another process is at work is not gone on with"
    )
    busy.lock.release()
    busy.path.joinpath("sweep.json").unlink()
    with pytest.raises(UserError, match="another process is at work"):
        sweep.begin_sweep(old, ["kdx"], jobs, {name: name for name in jobs}, named=True)
    found.lock.release()
    with pytest.raises(UserError, match="holds another sweep .*hydra.sweep.dir=PATH"):
        sweep.begin_sweep(old, ["kdx"], {"0_else": ["loss=kd"]}, {}, named=True)


def test_two_processes_never_work_on_one_run(tmp_path, monkeypatch):
    """Jobs of a cluster outlive the command that handed them in: the same command again makes others, which
    wait.
    """
    with (
        document.at_work(tmp_path / "run"),
        pytest.raises(UserError, match="another process is at work on the run in"),
        document.at_work(tmp_path / "run", 0),
    ):
        pass
    taken = []
    monkeypatch.setattr(
        document, "at_work", lambda folder, timeout: taken.append((folder.name, timeout)) or nullcontext()
    )
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "seed=0,1", "stages=[teacher_pretrain]", *SHORT]) == 0
    assert taken == [("0_seed-0", -1), ("1_seed-1", -1)]


def test_a_key_that_only_the_options_named_have_is_set(tmp_path, monkeypatch):
    """Hydra composes what does not vary without the options that do, and the default loss has neither the key
    nor the slot.
    """
    words = ["loss=slam,weighted", "loss.weights=debiased", "loss.no_key_of_kd=3", "seed=0,1"]
    words = grid.for_hydra(compose.plus_less(words))
    assert words == [
        "loss=slam,weighted",
        "weights@loss.weights=choice(debiased)",
        "++loss.no_key_of_kd=3",
        "seed=0,1",
    ]
    assert grid.for_hydra(["loss=slam", "seed=0,1"]) == ["loss=slam", "seed=0,1"]


FRAGILE = """
from kdx.core.types import Objective, Outcome
from kdx.core.math import cross_entropy
from pathlib import Path

class Fragile(Objective):
    uses = ("labelled",)
    def __init__(self, parts, *, file):
        super().__init__(parts)
        self.file = file
        self.step = 0
    def forward(self, streams, progress):
        self.step += 1
        if Path(self.file).exists() and self.step > 2:
            raise RuntimeError("broken on purpose\\nwith more lines")
        batch = streams["labelled"]
        return Outcome({"labels": cross_entropy(self.student(batch.views["main"]), batch.y).mean()}, {})
"""


def test_one_failure_stops_no_other_and_a_repair_runs_only_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fragile_losses.py").write_text(FRAGILE)
    (tmp_path / "my/loss").mkdir(parents=True)
    (tmp_path / "my/loss/fragile.yaml").write_text(
        "# Fails while a file is there\n_target_: fragile_losses.Fragile\nfile: broken\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken").touch()
    line = [
        "train",
        "-m",
        "allow=[fragile_losses]",
        "--config-dir",
        "my",
        "loss=fragile,kd",
        "seed=0,1",
        *SHORT,
    ]
    assert main(line) == 1
    out = capsys.readouterr()
    assert out.err.count("FAILED: RuntimeError: broken on purpose with more lines (") == 2
    assert out.err.count("fragile_losses.py, line 15)\n") == 2
    # one reason, two runs
    assert "2 of 4 runs are not finished" in out.out and out.out.count("RuntimeError: broken on purpose") == 1
    assert [run["status"] for run in documents().values()] == ["failed", "failed", "finished", "finished"]
    (tmp_path / "broken").unlink()
    assert main(line) == 0
    assert "2 of them are done, 2 to do" in capsys.readouterr().out
    assert [run["status"] for run in documents().values()] == ["finished"] * 4


def test_errors_of_all_combinations_are_reported_together_by_combination(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "train",
                "-m",
                "loss=kd,slam",
                "student=cnn_small,cnn_tin",
                "seed=range(3)",
                "loss.temperature=0",
                "device=cpu",
            ]
        )
        == 2
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "with loss=kd: loss.temperature must be greater than 0; given: 0",
        "with student=cnn_tin: student has no option 'cnn_tin'; did you mean 'cnn_tiny'?",
        "with loss=slam: 'loss.temperature' is no key of loss=slam; "
        "loss.temperature is a key of loss=adversarial, loss=adversarial_kd, "
        "loss=collaborative, loss=dist or loss=distillation_token",
    ]
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_of_a_key_given_twice_the_last_word_counts():
    assert grid.listed(["seed=range(2)", "loss=kd", "seed=3,4", "loss=soft,hard", "loss.hard=true"]) == [
        "seed=3,4",
        "loss=soft,hard",
        "loss.hard=true",
    ]


def test_which_combinations_have_an_error():
    combinations = [[f"a={a}", f"b={b}", "c=0"] for a in (1, 2) for b in (1, 2, 3)]
    assert by_combination(combinations, [["bad"]] * 6) == ["bad"]
    assert by_combination(combinations, [["bad"] if i < 3 else [] for i in range(6)]) == ["with a=1: bad"]
    assert by_combination(combinations, [["bad"] if i == 4 else [] for i in range(6)]) == [
        "with a=2 b=2: bad"
    ]
    some = [["bad"] if i in (0, 1, 4, 5) else [] for i in range(6)]
    assert by_combination(combinations, some) == ["with a=1 b=1; a=1 b=2; a=2 b=2 and 1 more: bad"]


def test_a_range_needs_a_sweeper_that_searches_and_a_plugin_is_named_when_it_is_missing(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "loss.temperature=interval(1,8)"]) == 2
    assert "names a range without steps" in capsys.readouterr().err
    monkeypatch.setitem(compose.PLUGINS, ("launcher", "ray"), "nowhere_launcher")
    assert main(["train", "-m", "launcher=ray", "seed=0,1"]) == 2
    assert (
        capsys.readouterr().err
        == "launcher=ray needs Hydra's plugin, which is not installed: pip install 'kdx[nowhere]'\n"
    )


def test_a_search_makes_the_students_error_on_validation_small():
    results = {
        "headline": "last",
        "student": {"last": {"validation": {"accuracy": 0.9, "n": 10}, "test": {"accuracy": 0.1, "n": 10}}},
    }
    assert validation_error({"results": results}) == pytest.approx(0.1)
    assert validation_error({"results": None}) is validation_error(None) is None


def test_a_seed_set_afterwards_is_the_seed_that_hydra_sets():
    words = ["loss=slam", "student_train.lr=0.1", "seed=7"]
    assert compose.check_words(words) == without_layers(compose.composed(words))
    assert compose.check_words(words)["seed"] == 7
    assert compose.check_words(["student_train.steps=${seed}", "seed=7"])["student_train"]["steps"] == 7


def test_threads_are_shared_by_runs_side_by_side(monkeypatch):
    most = cores()
    for given, threads in {"1": 1, "100000": most, "": most, "none": most, "0": most}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert share_of_cores() == threads


TAKE = (
    "import sys, time; from kdx.training import gpus as turns; print(turns.take(['gpu a', 'gpu b']), "
    "flush=True); sys.stdin.read()"
)


def test_each_process_takes_a_gpu_of_its_own(tmp_path, root):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(root)}

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return process, int(process.stdout.readline())

    (first, one), (second, two) = start(), start()
    assert (one, two) == (0, 1)
    third, shared = start()
    assert shared in (0, 1)
    first.kill()
    first.wait()
    fourth, again = start()
    assert again == 0, "what a dead process had is free"
    for process in (second, third, fourth):
        process.communicate()
    assert gpus.take(["only one"]) == gpus.take(["only one"]) == 0


@pytest.mark.slow
def test_runs_side_by_side_share_their_stages(tmp_path, root):
    """joblib, two processes, for real."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = [
        "-m",
        "launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "loss=kd,soft",
        "seed=0,1",
        "augment=[none]",
        "pseudo_label.view=clean",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-m", "kdx.cli", "train", *words, *[w for w in SHORT if "threads" not in w]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = documents(tmp_path / "outputs/sweeps")
    assert [run["status"] for run in runs.values()] == ["finished"] * 4
    assert (
        len(made(runs, "teacher-pretrain")) == len(set(made(runs, "teacher-pretrain"))) == 2
        and len(made(runs, "pseudo-label")) == 2
    )
    assert (
        sum(line.startswith(tuple(f"{i}/4 loss=" for i in range(1, 5))) for line in done.stdout.splitlines())
        == 4
    )
    threads = {
        json.loads(p.read_text())["threads"] for p in tmp_path.glob("outputs/store/train/*/summary.json")
    }
    assert threads == {max(cores() // 2, 1)}, "no oversubscription"


def test_runs_of_other_processes_are_reported_once_as_they_end(tmp_path, capsys):
    def write(name, **document):
        (tmp_path / name).mkdir(exist_ok=True)
        times = {"started": "2026-01-01T00:00:00.000+00:00", "ended": "2026-01-01T00:01:15.500+00:00"}
        files.write_atomically(
            tmp_path / name / "run.json",
            json.dumps({**times, "command": ["kdx", "train", f"seed={name}"], **document}),
        )

    accuracy = {
        role: {"last": {"test": {"accuracy": value}}}
        for role, value in (("teacher", 0.9), ("baseline", 0.7), ("student", 0.8))
    }
    write("before", status="failed", error="long ago")
    write("at work", status="running")
    with SweepWatch(tmp_path, lambda name, words: " ".join([name, *words])) as watch:
        watch.reported.add("here")
        for name in ("here", "at work", "of old"):
            write(
                name,
                status="finished",
                results={**accuracy, "headline": "last", "gain": 0.1},
                warnings=["look"],
            )
        watch.look()
        write("bad", status="failed", error="first line\nsecond line")
        write("at work", status="finished", results=None)
        (tmp_path / "no run").mkdir()
    out, err = capsys.readouterr()
    reported = "teacher 90.0%, alone 70.0%, distilled 80.0%, gain +10.0, 1 warning in report.md (1 min 16 s)"
    assert sorted(out.splitlines()) == [
        f"at work seed=at work: {reported}",
        f"of old seed=of old: {reported}",
    ]
    assert err.splitlines() == ["bad seed=bad: FAILED: first line"]


class Engine:
    """Stands in for a launcher: runs what is not passed over in order, and is ended by the first run that is
    killed. tried: every run begun.
    """

    def __init__(self, place, *, killed=(), failed=()):
        self.place, self.killed, self.failed, self.tried = place, killed, failed, []

    def __call__(self):
        for name in self.place.jobs:
            folder = self.place.path / name
            if sweep.passed_over(folder) or sweep.finished(sweep.read_sweep(folder / "run.json")):
                continue
            self.tried.append(name)
            folder.mkdir(exist_ok=True)
            status = "running" if name in self.killed else "failed" if name in self.failed else "finished"
            (folder / "run.json").write_text(json.dumps({"status": status, "started": str(len(self.tried))}))
            if name in self.killed:
                raise RuntimeError("a worker is gone")


@pytest.fixture
def place_of_five(tmp_path):
    return sweep.Sweep(tmp_path, {name: [f"seed={name}"] for name in "abcde"}, None, False, frozenset())


def test_a_run_that_is_killed_every_time_stops_no_other_and_none_is_tried_in_vain(place_of_five, capsys):
    engine = Engine(place_of_five, killed="bd", failed="c")
    hand_over(place_of_five, engine)
    assert engine.tried == ["a", "b", "c", "d", "e", "b", "d"]
    assert [document["status"] for document in place_of_five.runs().values()] == [
        "finished",
        "running",
        "failed",
        "running",
        "finished",
    ]
    assert len(capsys.readouterr().err.splitlines()) == 2 and not (place_of_five.path / sweep.LATER).exists()
    again = Engine(place_of_five)
    hand_over(place_of_five, again)
    assert again.tried == ["b", "c", "d"] and all(map(sweep.finished, place_of_five.runs().values()))


def test_a_worker_that_somebody_stops_is_as_one_that_is_killed_and_a_stopped_command_is_not(
    place_of_five, capsys
):
    """What watches over memory sends SIGTERM first."""

    class Stopping(Engine):
        def __call__(self):
            try:
                super().__call__()
            except RuntimeError:
                raise signals.Stopped(signal.SIGTERM) from None

    engine = Stopping(place_of_five, killed="b")
    hand_over(place_of_five, engine)
    assert (
        engine.tried == ["a", "b", "c", "d", "e", "b"]
        and "a worker was stopped; what was at work follows" in capsys.readouterr().err
    )
    with pytest.raises(signals.Stopped), signals.heeded():
        hand_over(place_of_five, lambda: os.kill(os.getpid(), signal.SIGTERM))


def test_an_engine_in_which_nothing_begins_is_reported_at_once(place_of_five):
    hand_over(place_of_five, Engine(place_of_five, killed="b"))

    def nothing():
        raise OSError("no queue")

    with pytest.raises(OSError, match="no queue"):
        hand_over(place_of_five, nothing)
    assert not (place_of_five.path / sweep.LATER).exists()


def test_what_a_killed_command_passed_over_is_free_again(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / sweep.LATER).write_text('{"runs": ["a"]}')
    assert sweep.passed_over(tmp_path / "s/a") and not sweep.passed_over(tmp_path / "s/b")
    sweep.begin_sweep(tmp_path / "s", ["kdx"], {"a": []}, {}, named=True).lock.release()
    assert not sweep.passed_over(tmp_path / "s/a")
