"""docs/own-parts.md and own-parts-more.md: their blocks laid down as the files that they name, and their
commands run. Beside it the tables of docs/task.md and docs/dataset.md, which say what such parts are made of.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.core.metric import Metric
from kdx.core.task import Task
from kdx.store.resolve import allow

DOCS = Path(__file__).parents[1] / "docs"
PAGE = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in ("own-parts.md", "own-parts-more.md"))
FILE = re.compile(r"^# ((my_\w+)/[\w/]+\.(?:py|yaml))\n", re.M)
SHORT = ["device=cpu", "device.threads=1", "teacher_pretrain.steps=4", "student_train.steps=4"]
SHORT += ["store=store", "hydra.run.dir=run"]
SMALL = ["teacher=mlp_small", "student=mlp_small", "augment=none", "baseline=false", "dataset.unlabelled=0"]
SMALL += ["dataset.validation=40", "dataset.test=40"]


def files() -> dict[str, str]:
    """What the blocks of code hold: name -> text."""
    found: dict[str, str] = {}
    for block in re.findall(r"^```\w+\n(.*?)^```", PAGE, flags=re.M | re.S):
        first, *parts = FILE.split(block)
        assert not first, f"a block begins with the name of its file: {first}"
        found |= dict(zip(parts[::3], parts[2::3], strict=True))
    return found


def command(package: str) -> list[str]:
    """The page's own command line for a package."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"    kdx train 'allow=[{package}]'")]
    return shlex.split(line)[1:]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    yield
    allow([])
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def trained(words: list[str]) -> dict:
    fitted = "teacher=ridge" in words
    short = [word for word in SHORT if not (fitted and word.startswith("teacher_pretrain."))]
    assert main([*words, *short]) == 0
    return json.loads(Path("run/run.json").read_text(encoding="utf-8"))


def test_the_rows_of_another_kind_of_the_page(packages, capsys):
    results = trained(command("my_rows"))["results"]
    assert results["metric"]["name"] == "mae" and results["student"]["last"]["test"]["n"] == 100
    assert results["floor"]["test"]["words"] == "always the median"
    assert (results["teacher"]["parameters"], results["student"]["parameters"]) == (769, 49)
    assert "test mean error" in capsys.readouterr().out
    about = json.loads(Path("run/artifacts/prepare/data.json").read_text(encoding="utf-8"))
    assert about.keys() - {"dataset"} <= named_in("dataset.md")


def test_the_step_and_the_fitted_teacher_of_the_page(packages):
    words = command("my_rows,my_steps,my_fits")
    results = trained(words)["results"]
    assert (results["teacher"]["steps"], results["student"]["steps"]) == (0, 4)
    assert results["teacher"]["last"]["test"]["mae"] < results["floor"]["test"]["value"]
    stored = [path.read_text(encoding="utf-8") for path in Path("store/train").glob("*/manifest.json")]
    assert all("my_steps.jitter.Jitter" in text for text in stored)


def test_the_control_of_the_page(packages):
    results = trained(command("my_controls") + [word for word in SMALL if word != "baseline=false"])[
        "results"
    ]
    assert (results["longer"]["steps"], results["baseline"]["steps"]) == (8, 4)
    assert results["roles"]["longer"]["words"] == "student alone, longer"


def test_the_stage_and_the_recipe_of_the_page(packages, capsys):
    run = trained(command("my_stages") + SMALL)
    assert "count" in [stage["name"] for stage in run["stages"]]
    counted = json.loads(Path("run/artifacts/count/count.json").read_text(encoding="utf-8"))
    assert counted == {"rows": 105} and "105 rows, 4 steps" in capsys.readouterr().err


def named_in(page: str) -> set[str]:
    """The names that stand in the first column of a page's tables."""
    text = (DOCS / page).read_text(encoding="utf-8")
    first = [line.split(" |")[0] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in first for name in re.findall(r"`(\w+)", cell)}


def test_the_page_of_the_task_names_all_that_a_task_and_a_metric_have():
    chapters = [part for part in Task.__mro__ if part.__module__.startswith("kdx.")]
    names = {name for part in chapters for name in (*vars(part), *part.__annotations__)}
    has = {name for name in names if not name.startswith("_")}
    assert named_in("task.md") == has - {"metric", "read"}, "`metric` and `read` are short forms of others"
    text = (DOCS / "task.md").read_text(encoding="utf-8")
    assert [field.name for field in fields(Metric) if f"`{field.name}`" not in text] == ["name", "title"]
    head, _, rest = text.partition("With a default that may do:")
    assert all(f"`{name}(" in head for name in Task.__abstractmethods__) and "`agreement(" in rest


def test_every_package_of_the_page_is_run_above():
    asked = {
        package
        for line in PAGE.splitlines()
        for package in re.findall(r"my_\w+", line.partition("allow=[")[2])
    }
    laid = {name.partition("/")[0] for name in files()}
    assert laid <= asked and len(laid) == 6
