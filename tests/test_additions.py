"""Whoever uses kdx adds to it by files of their own, and changes none of kdx's: each test lays such files
down in a package, and runs them through the command line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.config.restore import restore
from kdx.pipeline.recipes.checks import wrong_stages
from kdx.store.resolve import allow
from kdx.store.store import Stage

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

    (tmp_path / "mine").mkdir()
    (tmp_path / "options").mkdir()
    yield lay
    allow([])
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def train(*words: str) -> dict:
    """The run.json of a run that must succeed."""
    assert main(["train", *SHORT, "allow=[mine]", "hydra.run.dir=run", *words]) == 0
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


COUNT = """
from kdx.store.store import Stage

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

    def run(self, store, plan):
        super().run(store, plan)
        found = store.run(STAGE, data=store.done["prepare"], more=self.more)
        assert found.json("count.json")["rows"] == 60 + self.more
"""
COUNTING_YAML = "# Counts the labelled rows\n_target_: mine.counting.Counting\nmore: 5\n"


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
    assert stages(run)[-2:] == ["count", "evaluate"] and run["results"]["student"]["steps"] == 4
    assert json.loads(Path("run/artifacts/count/count.json").read_text()) == {"rows": 67}
    assert main(["evaluate", "run", "device=cpu", "role=student"]) == 0
    again = train(*words, "recipe.more=8")
    assert [stage["name"] for stage in again["stages"] if not stage["cached"]] == ["count"]


HALVES = """
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import student_inputs, train_controls, train_teacher
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
