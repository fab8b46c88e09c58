"""Whoever uses kdx adds to it by files of their own, and changes none of kdx's: each test lays such files
down in a package, and runs them through the command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.config.restore import restore
from kdx.pipeline.recipes.checks import wrong_stages
from kdx.store.resolve import allow
from kdx.store.stage import Stage

SHORT = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp_small",
    "student=mlp_small",
    "teacher_pretrain.steps=4",
    "student_train.steps=4",
    "dataset.labelled=60",
    "dataset.unlabelled=60",
    "dataset.validation=40",
    "dataset.test=40",
    "augment=[none]",
]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Lays down files of a package `mine`, and options in `options`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def lay(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml")
            path = path if path.suffix else path.with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def forget() -> None:
        allow([])
        for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
            del sys.modules[name]

    (tmp_path / "mine").mkdir()
    (tmp_path / "options").mkdir()
    forget()
    yield lay
    forget()


def train(*words: str, short: Sequence[str] = SHORT) -> dict:
    """The run.json of a run that must succeed."""
    assert main(["train", *short, "allow=[mine]", "hydra.run.dir=run", *words]) == 0
    return json.loads(Path("run/run.json").read_text())


def refused(capsys, words: list[str], *says: str) -> None:
    """Before any work, in these sentences."""
    capsys.readouterr()
    assert main(["train", *SHORT, "allow=[mine]", "hydra.run.dir=none", *words]) == 2
    reported = " ".join(capsys.readouterr().err.split())
    assert all(text in reported for text in says), reported
    assert not Path("none").exists()


def stages(run: dict) -> list[str]:
    return [stage["name"] for stage in run["stages"]]


LONGER = """
from kdx.pipeline.controls.control import Control, altered

class Longer(Control):
    words, short, colour = "student alone, longer", "longer", "#123456"

    def __init__(self, times):
        self.times = times

    def training(self, alone):
        return altered(alone.training, length=f"{4 * self.times} steps")

    def errors(self, sizes, rows):
        if self.times > 9:
            yield "controls.longer.times is too large"
"""


@pytest.mark.slow
def test_a_control_is_one_file(mine, capsys):
    mine(mine__longer=LONGER)
    words = ["+controls.longer._target_=mine.longer.Longer", "+controls.longer.times=3", "loss=supervised"]
    run = train(*words)
    names = stages(run)
    assert names.index("longer-train") == names.index("student-train") + 1 and "baseline-train" in names
    results = run["results"]
    assert results["roles"] == {
        "longer": {"words": "student alone, longer", "short": "longer", "colour": "#123456"}
    }
    assert (results["longer"]["steps"], results["baseline"]["steps"]) == (12, 4)
    assert results["longer"]["model"] == "mlp_small" and results["longer"]["weights"].keys() >= {"last"}
    assert 0 <= results["longer"]["last"]["test"]["accuracy"] <= 1
    assert run["config"]["controls"] == {"longer": {"_target_": "mine.longer.Longer", "times": 3}}
    # again from its run folder: nothing of it is imported but what the command line allows
    assert any("allow=[PACKAGE]" in error for error in restore(run["config"], [], {})[1])
    config, errors, _ = restore(run["config"], ["allow=[mine]"], {})
    assert not errors and config["controls"] == run["config"]["controls"]
    # refused before work
    refused(capsys, [*words, "controls.longer.times=10"], "controls.longer.times is too large")
    more = ["+controls.student._target_=mine.longer.Longer", "+controls.third=mine.longer.Longer"]
    more += ["+controls.other._target_=kdx.pipeline.controls.ceiling.Ceiling"]
    refused(
        capsys,
        [*words, *more],
        "must have a name of its own",
        "a control has a name and keys",
        "'kdx.pipeline.controls.ceiling.Ceiling' is not allowed",
    )


@pytest.mark.parametrize("also", ["'nosuch'", "'test'", "['validation']"])
def test_a_control_learns_from_splits_that_can_be_told(mine, capsys, also):
    mine(mine__longer=LONGER.replace("def __init__", f"also = {also}\n\n    def __init__", 1))
    words = ["+controls.longer._target_=mine.longer.Longer", "+controls.longer.times=3"]
    refused(capsys, words, 'controls.longer: `also` must be "unlabelled", "validation" or None; Longer says')


COUNT = """
from kdx.store.stage import Stage

STAGE = Stage("count", "mine.count", writes=("count.json",))

def run(work, runtime, *, data, more):
    counts = data.json("data.json")["counts"]
    work.write_json("count.json", {"rows": counts["labelled"] + more})
"""
COUNTING = """
from kdx.pipeline.recipes.supervised import Supervised
from mine.count import STAGE

class Counting(Supervised):
    stages = (STAGE,)
    counts = "last"

    def __init__(self, more):
        self.more = more

    def run(self, store, experiment):
        super().run(store, experiment)
        found = store.run(STAGE, data=store.done["prepare"], more=self.more)
        assert found.json("count.json")["rows"] == 60 + self.more
"""
COUNTING_YAML = "# Counts the labelled rows\n_target_: mine.counting.Counting\nmore: 5\n"


@pytest.mark.slow
def test_a_stage_is_one_file_and_a_recipe_two(mine, capsys):
    mine(mine__count=COUNT, mine__counting=COUNTING, options__recipe__counting_yaml=COUNTING_YAML)
    words = ["--config-dir", "options", "recipe=counting", "loss=supervised"]
    # the plan knows the stage, and neither its time nor what follows from what it writes
    assert main(["plan", *SHORT, "allow=[mine]", *words, "json=plan.json"]) == 0
    plan = json.loads(Path("plan.json").read_text())
    foreseen = {stage["name"]: plan["stages"][stage["key"]] for stage in plan["jobs"][0]["stages"]}
    assert foreseen["count"] | {"kind": 0} == {
        "name": "count",
        "stage": "count",
        "state": "miss",
        "kind": 0,
        "seconds": None,
        "memory": None,
        "disk": 0,
        "work": "unknown",
    }
    assert plan["not_timed"] == ["count"] and list(foreseen)[-1] == "count"
    assert plan["checks"][-1]["text"].startswith("not known: count foretells no count.json")
    capsys.readouterr()
    run = train(*words, "recipe.more=7")
    assert stages(run)[-4:] == ["count", "teacher-predict", "baseline-predict", "evaluate"]
    assert run["results"]["student"]["steps"] == 4
    assert json.loads(Path("run/artifacts/count/count.json").read_text()) == {"rows": 67}
    assert main(["evaluate", "run", "device=cpu", "role=student"]) == 0
    again = train(*words, "recipe.more=8")
    assert [stage["name"] for stage in again["stages"] if not stage["cached"]] == ["count"]
    assert main(["rerun", "run", "to=rerun", "allow=[mine]", "--config-dir", "options"]) == 0
    assert json.loads(Path("rerun/rerun.json").read_text())["of"] == str(Path("run").resolve())
    capsys.readouterr()
    assert main(["cache", "verify"]) == 0 and main(["cache", "ls", "runs=run"]) == 0
    assert "count " in capsys.readouterr().out


def test_a_stage_of_ones_own_is_looked_after(mine, capsys):
    """What was made from it is read, and it is freed where no run needs it."""
    after = COUNTING.replace("from mine", "from kdx.store.stage import Stage\nfrom mine", 1)
    after = after.replace("class Counting", 'LATER = Stage("later", "mine.later")\n\nclass Counting')
    after = after.replace("(STAGE,)", "(STAGE, LATER)") + "        store.run(LATER, count=found)\n"
    later = "def run(work, runtime, *, count):\n    work.write_json('later.json', count.json('count.json'))\n"
    mine(
        mine__count=COUNT,
        mine__counting=after,
        mine__later=later,
        options__recipe__counting_yaml=COUNTING_YAML,
    )
    train("--config-dir", "options", "recipe=counting", "loss=supervised", "baseline=false")
    capsys.readouterr()
    assert main(["cache", "verify"]) == 0
    assert main(["cache", "gc", "runs=run"]) == 0
    text = capsys.readouterr().out
    assert "count" not in text and "later" not in text, text
    Path("empty").mkdir()
    assert main(["cache", "gc", "runs=empty", "yes=true"]) == 0
    assert not [*Path("outputs/store/count").iterdir(), *Path("outputs/store/later").iterdir()]


def test_a_stage_that_leaves_a_declared_file_out_fails_at_once(mine, capsys):
    mine(
        mine__count=COUNT.replace('("count.json",)', '("count.json", "more-*.json")'),
        mine__counting=COUNTING,
        options__recipe__counting_yaml=COUNTING_YAML,
    )
    words = ["--config-dir", "options", "recipe=counting", "loss=supervised", "baseline=false"]
    assert main(["train", *SHORT, "allow=[mine]", *words]) == 1
    assert "count wrote no more-*.json, and its Stage in mine.count declares it" in capsys.readouterr().err


HALVES = """
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import student_inputs, train_controls
from kdx.pipeline.recipes.teachers import train_teacher
from kdx.pipeline.stages import TRAIN

class Twice(Recipe):
    \"\"\"The student alone, and once more from where it ended.\"\"\"

    teacher = False
    counts = "last"

    def run(self, store, plan):
        data, _ = train_teacher(store, plan)
        inputs = {**student_inputs(store, data, plan), "loss": plan.loss}
        first = store.run(TRAIN, name="student-train-1", **inputs)
        store.run(TRAIN, name="student-train-2", **inputs, init=first)
        store.run(TRAIN, name="student-train", **inputs, init=first)
        train_controls(store, plan, inputs)

    def errors(self, asked):
        yield from super().errors(asked)
        if asked.experiment.class_weights == "balanced":
            yield "recipe=twice takes no class weights"

def plain(store, plan):
    pass

class Nothing(Recipe):
    pass
"""


def test_the_name_of_a_stage_is_its_own():
    good, taken, odd = (Stage(name, "mine.count") for name in ("trim-more", "train", "Trim_2"))
    assert not list(wrong_stages([good]))
    assert "has the name of a stage of kdx" in next(wrong_stages([taken]))
    assert "lower-case words" in next(wrong_stages([odd]))


@pytest.mark.slow
def test_a_recipe_is_two_files_and_brings_its_own_checks(mine, capsys):
    mine(
        mine__twice=HALVES,
        options__recipe__twice_yaml="# Twice\n_target_: mine.twice.Twice\n",
        options__recipe__plain_yaml="# No recipe\n_target_: mine.twice.plain\n",
        options__recipe__nothing_yaml="# No recipe either\n_target_: mine.twice.Nothing\n",
    )
    words = ["--config-dir", "options", "loss=supervised", "baseline=false"]
    run = train(*words, "recipe=twice")
    assert [name for name in stages(run) if name.startswith("student")] == [
        "student-train-1",
        "student-train-2",
        "student-train",
    ]
    assert run["results"]["round_by"] == "last" and len(run["results"]["rounds"]) == 2
    both = ["recipe=twice", "dataset.class_weights=balanced", "budget=20", "store=other"]
    refused(
        capsys,
        [*words, *both],
        "recipe=twice takes no class weights",
        "budget=20 is for the rules that buy answers",
    )
    refused(capsys, [*words, "recipe=plain"], "'mine.twice.plain' is no recipe")
    refused(capsys, [*words, "recipe=nothing"], "'mine.twice.Nothing' is no recipe")


METRIC = """
from kdx.core.metric import Metric
from kdx.core.own_metric import OwnMetric

class TopTwo(OwnMetric):
    metric = Metric("top2", "top-2 accuracy", 100, "%", 1, low=0, high=1)

    def __init__(self, places):
        self.places = places

    def measure(self, answers, truth):
        return (answers.topk(self.places, 1).indices == truth[:, None]).any(1).double().mean().item()
"""


def test_a_metric_is_one_file(mine, capsys):
    """Measured for every role on every split, shown in the table, and compared by."""
    mine(mine__top=METRIC)
    words = ["+metrics.top2._target_=mine.top.TopTwo", "metrics.top2.places=2"]
    run = train(*words)
    results = run["results"]
    assert results["metrics"][-1]["name"] == "top2"
    for role in ("teacher", "baseline", "student"):
        for numbers in results[role]["last"].values():
            assert numbers["accuracy"] <= numbers["top2"] <= 1
    assert "top-2 accuracy" in capsys.readouterr().out
    assert main(["compare", "run", "metric=top2", "json=found.json"]) == 0
    (row,) = json.loads(Path("found.json").read_text())["rows"]
    assert row["test_mean"] == pytest.approx(100 * results["student"]["last"]["test"]["top2"])
    assert main(["evaluate", "run", "allow=[mine]", "json=again.json"]) == 0
    again = json.loads(Path("again.json").read_text())["results"]["student"]
    assert again["top2"] == results["student"]["last"]["test"]["top2"]
    assert "top-2 accuracy" in capsys.readouterr().out
    assert main(["evaluate", "run", "json=again.json"]) == 0
    assert "top2" not in json.loads(Path("again.json").read_text())["results"]["student"]
    assert "not measured: top2" in capsys.readouterr().out
    refused(
        capsys, ["+metrics.top3._target_=mine.top.TopTwo", "metrics.top3.places=3"], "name it metrics.top2"
    )
    refused(capsys, [*words, "metrics.top2.places=11"], "metrics.top2: your own code fails")


LOSS = """
from kdx.core.types import Objective, Outcome

class Halved(Objective):
    uses = ("labelled",)
    reads = ()

    def __init__(self, parts, *, factor):
        super().__init__(parts)
        self.factor = factor

    def forward(self, streams, progress):
        batch = streams["labelled"]
        losses = self.task.loss(self.student(batch.views["main"]), batch.y, self.class_weights)
        return Outcome({"halved": self.factor * losses.mean()})
"""
NET = """
from torch import nn

def plain(*, shape, classes, units):
    layers = [nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], units), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(units, classes))
"""
NET_YAML = "# @package _global_\n# One hidden layer\nstudent:\n  _target_: mine.net.plain\n  units: 5\n"


def test_a_loss_and_a_model_are_two_files_each(mine):
    mine(mine__halved=LOSS, mine__net=NET)
    mine(
        options__loss__halved_yaml="# Half of it\n_target_: mine.halved.Halved\nfactor: 0.5\n",
        options__student__plain_yaml=NET_YAML,
    )
    run = train("--config-dir", "options", "loss=halved", "student=plain")
    student = run["results"]["student"]
    assert student["model"] == "plain" and student["parameters"] == (256 + 1) * 5 + (5 + 1) * 10
    lines = Path("run/metrics.jsonl").read_text().splitlines()
    assert any("train/term/halved" in line for line in lines)


@pytest.mark.slow
def test_an_assistant_is_one_file_or_two(mine, capsys):
    """A YAML file alone, or with its network in the package."""
    mine(mine__net=NET, options__model__own_yaml="# One\n_target_: mine.net.plain\nunits: 6\n")
    mine(options__model__bad_yaml="_target_: os.system\n", options__model__odd_yaml="a: [\n")
    words = ["--config-dir", "options", "recipe=chain", "baseline=false"]
    run = train(*words, "assistants=[own]")
    assert [entry["model"] for entry in run["results"]["rounds"]] == ["own", "mlp_small"]
    refused(capsys, [*words, "assistants=[bad]"], "assistants.bad._target_ 'os.system' is not allowed")
    refused(capsys, [*words, "assistants=[odd]"], "odd.yaml' cannot be read")
    refused(capsys, [*words, "assistants=[ownn]"], "assistants has no model 'ownn'", "own")


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["-m", "launcher=joblib"]])
def test_a_package_is_found_where_the_installed_command_is_given(more, mine, root):
    """Where the folder is not on sys.path: of it only what `allow=` names is imported, in a process that a
    launcher makes too.
    """
    if more:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
        more = [*more, "hydra.launcher.n_jobs=2", "loss.factor=0.5,0.7"]
    mine(mine__halved=LOSS, options__loss__halved_yaml="# Half\n_target_: mine.halved.Halved\nfactor: 0.5\n")
    code = "import sys; from kdx.cli import main; sys.exit(main())"
    words = ["train", *SHORT, "--config-dir", "options", "loss=halved", *more]
    words += ["hydra.sweep.dir=runs"] if more else ["hydra.run.dir=runs/one"]

    def given(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-c", code, *words],
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=False,
        )

    done = given(*words, "allow=[mine]")
    assert done.returncode == 0, done.stderr
    assert len(list(Path("runs").glob("*/run.json"))) == (2 if more else 1)
    refused = given(*words)
    assert refused.returncode == 2 and "'mine.halved.Halved' is not allowed" in refused.stderr
    mine(beside="", mine__halved="import beside\n" + LOSS)
    refused = given(*words, "allow=[mine]")
    assert refused.returncode == 2 and "needs the package 'beside'" in refused.stderr


ROWS = """
import numpy as np
from torch.nn import functional as F

from kdx.core.metric import Metric
from kdx.core.answers import Nothing
from kdx.core.task import Task
from kdx.data.raw import Arrays, Description

RMSE = Metric("rmse", "RMSE", more=False, low=0)
SPEC = {"_target_": "mine.rows.Number"}

class Number(Task):
    shown, primary, paired, width = {"rmse": RMSE}, "rmse", Metric("mse", "MSE", more=False, low=0), 1
    words = "one number"

    def loss(self, answers, truth, weights=None):
        return (answers - truth).square().mean(1)

    def match(self, student, teacher, temperature):
        return (student - teacher).square().mean(1)

    def by_row(self, answers, truth):
        return (answers - truth).double().square().mean(1)

    def metrics(self, answers, truth):
        return {"rmse": self.by_row(answers, truth).mean().sqrt().item()}

    def floor(self, truth):
        return super().floor(truth) ** 0.5

    def knowing_nothing(self, truth):
        return Nothing("the mean of all rows", self.by_row(truth.mean(0), truth))

    def made_up(self, rows, generator=None):
        import torch
        return torch.randn(rows, 1, generator=generator)

    made_up_truth = made_up

class Rows:
    def __init__(self, *, rows):
        self.rows = rows
    def files(self):
        return []
    def fetch(self):
        pass
    def describe(self):
        return Description(SPEC, {"": ((3,), "float32")}, "columns", self.rows)
    def load(self, workers):
        x = np.random.default_rng(0).normal(size=(self.rows, 3)).astype(np.float32)
        return Arrays({"train": (x, x.sum(1, keepdims=True))}, SPEC, "columns")
"""
COLUMNS = """
from torch import nn

from kdx.models import reads

@reads("columns")
def line(*, shape, outputs, units):
    return nn.Sequential(nn.Linear(shape[0], units), nn.ReLU(), nn.Linear(units, outputs))
"""
DATA_YAML = """# Rows of three numbers
_target_: mine.rows.Rows
rows: 200
labelled: 60
unlabelled: 60
validation: 40
test: 40
"""


def test_a_data_set_of_another_kind_is_two_files(mine, capsys):
    """Its loader with its task, and its YAML; the networks that read it are files of their own."""
    mine(mine__rows=ROWS, mine__columns=COLUMNS, options__dataset__rows_yaml=DATA_YAML)
    for role in ("teacher", "student"):
        text = f"# @package _global_\n# A line\n{role}:\n  _target_: mine.columns.line\n  units: 8\n"
        mine(**{f"options__{role}__line_yaml": text})
    words = ["--config-dir", "options", "dataset=rows", "teacher=line", "student=line", "augment=none"]
    run = train(*words)
    results = run["results"]
    assert results["metric"]["name"] == "rmse" and 0 < results["student"]["last"]["test"]["rmse"]
    assert results["floor"]["test"]["words"] == "the mean of all rows"
    assert "test RMSE" in capsys.readouterr().out
    flat = COLUMNS.replace("nn.Linear(units, outputs))", "nn.Linear(units, outputs), nn.Flatten(0))")
    mine(mine__flat=flat + "# one number a row, and no axis for it\n")
    own = ["student._target_=mine.flat.line", "dataset.rows=198"]
    refused(capsys, [*words, *own], "the student gives answers of () a row, and the task reads (1,)")
    stretched = "return (answers - truth).square()  # of (B, 1): beside (B,) it becomes (B, B)"
    mine(mine__rows=ROWS.replace("return (answers - truth).square().mean(1)", stretched))
    sys.modules.pop("mine.rows", None)
    says = "Number.loss must give one number a row, (3,); given: (3, 1)"
    refused(capsys, [*words, "dataset.rows=197"], says)
    moved = ROWS.replace("mine.rows.Number", "mine.task.Number") + "# elsewhere\n"
    mine(mine__rows=moved, mine__task=ROWS)
    for name in ("mine.rows", "mine.task"):
        sys.modules.pop(name, None)
    refused(
        capsys,
        [*words, "dataset.rows=199"],
        "names mine.task for its task, and its own file does not import that",
    )


CENTROIDS = """
import torch

from kdx.models import reads
from kdx.models.estimator import Estimator

@reads("pictures")
class Centroids(Estimator):
    def __init__(self, *, shape, outputs, sharpness):
        super().__init__()
        self.outputs, self.sharpness = outputs, sharpness

    def fit(self, inputs, truth, task):
        rows = inputs.flatten(1)
        means = [rows[truth == c].mean(0) for c in range(self.outputs)]
        self.register_buffer("means", torch.stack(means))

    def forward(self, inputs):
        return -self.sharpness * torch.cdist(inputs.flatten(1), self.means).square() / inputs[0].numel()
"""


FITTED = [word for word in SHORT if not word.startswith("teacher_pretrain.")]
"""Of a teacher that makes no step."""


def test_an_estimator_teaches_and_is_measured_again(mine, capsys):
    """A teacher that is fitted, not trained: the label and evaluate stages do not notice."""
    mine(mine__centroids=CENTROIDS)
    yaml = (
        "# @package _global_\n# Nearest mean\n{0}:\n  _target_: mine.centroids.Centroids\n  sharpness: 20.0\n"
    )
    mine(**{f"options__{role}__centroids_yaml": yaml.format(role) for role in ("teacher", "student")})
    words = ["--config-dir", "options", "teacher=centroids"]
    run = train(*words, short=FITTED)
    teacher = run["results"]["teacher"]
    assert (
        teacher["steps"] == 0
        and teacher["parameters"] is None
        and teacher["flops"] is None
        and teacher["bytes"] > 10 * 256 * 4
    )
    assert teacher["last"]["test"]["accuracy"] > 0.6
    rows = [line.split("|") for line in Path("run/report.md").read_text().splitlines()]
    row = next(cells for cells in rows if cells[1:2] == [" teacher "])
    assert row[2].strip() == row[4].strip() == "-", "parameters and MFLOPs"
    assert main(["evaluate", "run", "allow=[mine]", "json=again.json"]) == 0
    again = json.loads(Path("again.json").read_text())["results"]["teacher"]
    assert again["accuracy"] == teacher["last"]["test"]["accuracy"]
    assert main(["plan", *FITTED, "allow=[mine]", *words, "seed=3"]) == 0
    assert "fitted at once" in capsys.readouterr().out
    assert main(["export", "run", "allow=[mine]", "format=state_dict"]) == 0
    (taught,) = json.loads(Path("run/export/student/card.json").read_text())["lineage"]["teachers"]
    assert taught["training"] is None and taught["loss"] is None and taught["fitted"]
    assert "none: fitted at once" in Path("run/export/student/card.md").read_text()
    capsys.readouterr()
    refused(capsys, ["--config-dir", "options", "student=centroids"], "it can be a teacher, not a student")
    refused(capsys, words, "teacher_pretrain.steps=4 can never act: the teacher centroids is fitted at once")


def test_an_estimator_keeps_what_it_learned_in_buffers(mine, capsys):
    plain = CENTROIDS.replace(
        'self.register_buffer("means", torch.stack(means))', "self.means = torch.stack(means)"
    )
    part = CENTROIDS.replace("self.register_buffer", "self.sharpness = 99.0\n        self.register_buffer")
    mine(mine__plain=plain, mine__part=part)
    for name, why in (("plain", "AttributeError"), ("part", "answers otherwise")):
        yaml = (
            f"# @package _global_\n# Means\nteacher:\n  _target_: mine.{name}.Centroids\n  sharpness: 20.0\n"
        )
        mine(**{f"options__teacher__{name}_yaml": yaml})
        words = ["--config-dir", "options", f"teacher={name}", "allow=[mine]"]
        assert main(["train", *FITTED, *words]) == 1
        text = capsys.readouterr().err
        assert "Centroids keeps what it learned outside its buffers: register_buffer(...)" in text
        assert why in text and "Traceback" not in text


STEPS = """
import torch
from kdx.data.views.chain import Step

class Wide(Step):
    def __call__(self, x, draws, op):
        return torch.cat([x, x], 3)

class Fine(Step):
    def __call__(self, x, draws, op):
        return x.double()

class Names(Step):
    def __call__(self, x, draws, op):
        return {"picture": x}

class Fails(Step):
    def __call__(self, x, draws, op):
        raise ValueError("no rows today")

class Good(Step):
    moves_only = True

    def __call__(self, x, draws, op):
        return x.flip(2)
"""


@pytest.mark.slow
def test_a_step_gives_rows_like_those_that_it_is_given(mine, capsys):
    mine(mine__steps=STEPS)
    for name in ("wide", "fine", "names", "fails", "good"):
        text = f"# One\n{name}:\n  _target_: mine.steps.{name.title()}\n"
        mine(**{f"options__augment__{name}_yaml": text})
    given = "must give rows like those that it is given, float32 (2, 1, 16, 16); it gives "
    words = ["--config-dir", "options"]
    for name, says in (
        ("wide", f"augment.wide: {given}float32 (2, 1, 16, 32)"),
        ("fine", f"augment.fine: {given}float64 (2, 1, 16, 16)"),
        ("names", f"augment.names: {given}picture float32 (2, 1, 16, 16)"),
        (
            "fails",
            "augment.fails: your own code fails when it is tried on made-up data: ValueError: no rows today",
        ),
    ):
        refused(capsys, [*words, f"augment=[{name}]"], says)
    train(*words, "augment=[good]")


def test_a_network_that_does_not_take_what_a_loss_sets(mine, capsys):
    mine(mine__net=NET, options__student__plain_yaml=NET_YAML)
    words = ["--config-dir", "options", "loss=noisy_student", "student=plain"]
    refused(capsys, words, "student=plain takes no dropout: loss=noisy_student noises")


def test_nothing_is_said_about_rows_that_are_not_known(mine, capsys):
    """Where the data set is refused, its rows may be of any kind."""
    undescribed = ROWS.replace("return Description(SPEC", "return None and (SPEC")
    mine(
        mine__rows=ROWS,
        mine__undescribed=undescribed,
        mine__columns=COLUMNS,
        options__dataset__rows_yaml=DATA_YAML,
    )
    mine(options__dataset__none_yaml=DATA_YAML.replace("mine.rows", "mine.undescribed"))
    for role in ("teacher", "student"):
        text = f"# @package _global_\n# A line\n{role}:\n  _target_: mine.columns.line\n  units: 8\n"
        mine(**{f"options__{role}__line_yaml": text})
    words = ["--config-dir", "options", "teacher=line", "student=line", "augment=none"]
    for more, says in (
        (["dataset=none"], "Rows.describe must return a kdx.data.raw.Description; given: null"),
        (["dataset=rows", "nosuch=1"], "nosuch"),
    ):
        capsys.readouterr()
        assert main(["train", *SHORT, "allow=[mine]", *words, *more]) == 2
        text = capsys.readouterr().err
        assert says in text and len(text.splitlines()) == 1, text
