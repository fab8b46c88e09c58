"""`kdx new`, and docs/your-own.md, whose blocks are the files that it writes: each part is made as the page
says, and its command trains a few steps.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.commands.completion import _WORDS
from kdx.config import skeletons
from kdx.store.resolve import allow

PAGE = (Path(__file__).parents[1] / "docs" / "your-own.md").read_text(encoding="utf-8")
MADE = re.findall(r"^    kdx new (\w+) (\w+)\n    (kdx train .*)$", PAGE, flags=re.M)
SHORT = "device=cpu device.threads=1 teacher=mlp_small teacher_pretrain.steps=3 student_train.steps=3".split()
SHORT += "baseline=false dataset.unlabelled=60 dataset.validation=40 dataset.test=40".split()
SHORT += ["store=store"]
PROOF = {
    "dataset": "my_parts.stripes.Stripes",
    "torch_dataset": "my_parts.dots.Dots",
    "model": "my_parts.flat_net.flat_net",
    "loss": "train/term/teacher_unlabelled",
    "augment": "my_parts.band.Band",
    "transform": "my_parts.erased.Erased",
    "select": '"kept": 30',
    "metric": '"sure"',
}
"""What a run leaves in run.json, metrics.jsonl or a manifest of the store that was made with the part."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder for all parts, so that one teacher teaches them."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture
def here(tmp_path, monkeypatch):
    yield from standing_in(tmp_path, monkeypatch)


@pytest.fixture
def among_others(shared, monkeypatch):
    yield from standing_in(shared, monkeypatch)


def standing_in(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    allow([])
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_parts"]:
        del sys.modules[name]


def blocks() -> dict[str, str]:
    """The files of the page: name -> text."""
    found: dict[str, str] = {}
    for block in re.findall(r"^```\w+\n(.*?)^```", PAGE, flags=re.M | re.S):
        first, *parts = re.split(r"^# (my_parts/[\w/]+\.(?:py|yaml))\n", block, flags=re.M)
        assert not first, f"a block begins with the name of its file: {first}"
        found |= dict(zip(parts[::2], parts[1::2], strict=True))
    return found


def test_the_page_shows_what_is_written_of_every_kind():
    assert {kind for kind, _, _ in MADE} == set(skeletons.PART_KINDS) == set(_WORDS["new"]) == set(PROOF)
    shown = blocks()
    for kind, name, command in MADE:
        files = skeletons.part_files(kind, name, "my_parts")
        assert {file: shown.pop(file, None) for file in files} == files
        assert command == skeletons.trying_command(kind, name, "my_parts")
    assert shown == {}


@pytest.mark.parametrize(("kind", "name", "command"), MADE, ids=[kind for kind, _, _ in MADE])
def test_a_part_of_the_page_runs_as_printed(kind, name, command, among_others, capsys):
    assert main(["new", kind, name]) == 0
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == command
    small = SHORT if kind == "model" else [*SHORT, "student=mlp_small"]
    assert main([*shlex.split(command)[1:], *small, f"hydra.run.dir={name}"]) == 0
    left = [*Path("store").glob("*/*/*.json"), Path(name, "run.json"), Path(name, "metrics.jsonl")]
    assert any(PROOF[kind] in path.read_text(encoding="utf-8") for path in left)
    run = json.loads(Path(name, "run.json").read_text(encoding="utf-8"))
    assert run["results"]["student"]["steps"] == 3
    if kind == "metric":  # `kdx compare outputs metric=sure` of the page
        assert main(["compare", name, f"metric={name}"]) == 0 and "sure answers" in capsys.readouterr().out


def test_nothing_is_replaced_and_names_are_checked(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", type(sys)("mine"))  # of this process, and nobody else's

    def refused(*words: str) -> str:
        before = sorted(here.rglob("*"))
        assert main(["new", *words]) == 2 and sorted(here.rglob("*")) == before
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert main(["new", "loss", "mine"]) == 0
    kept = Path("my_parts/mine.py")
    kept.write_text("x = 1\n")
    assert "'my_parts/mine.py' is there already" in refused("model", "mine")
    assert kept.read_text() == "x = 1\n"
    assert "kdx has a loss 'kd' of its own" in refused("loss", "kd")
    assert "kdx has a model 'mlp' of its own" in refused("model", "mlp")
    for kind, name in (("loss", "torch"), ("model", "json"), ("metric", "sum"), ("dataset", "numpy")):
        assert f"Python or an installed package has '{name}' already" in refused(kind, name)
    assert "results keep something else as 'accuracy'" in refused("metric", "accuracy")
    assert "imports something called Objective" in refused("loss", "objective")
    assert "did you mean 'loss'?" in refused("los", "x")
    for name in ("Mine", "class", "a-b", "1a", "../x", "a.b"):
        assert "small letters" in refused("loss", name), name
    assert "needs a kind" in refused() and "needs a kind" in refused("loss")
    assert "a package 'torch' already" in refused("loss", "x", "package=torch")
    assert "one name of small letters" in refused("loss", "x", "package=../there")
    assert main(["new", "loss", "mine", "package=theirs"]) == 0
    assert "theirs.mine.Mine" in Path("theirs/conf/loss/mine.yaml").read_text()
