"""`--json` behind every command: one document on standard output, of the keys that docs/commands.md names. A
new command must be added here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdx import cli
from kdx.commands import board, commands

SHORT = ["device=cpu", "device.threads=1", "student_train.steps=2", "teacher_pretrain.steps=2"]
RUN = "outputs/runs/x"
TRAIN = ["train", *SHORT, f"hydra.run.dir={RUN}"]
LINES = [
    TRAIN,
    ["config", "loss=slam"],
    ["plan", *SHORT],
    ["compare", "outputs"],
    ["board", "outputs"],
    ["list"],
    ["list", "loss"],
    ["list", "loss", "slam"],
    ["evaluate", RUN, "device.threads=1"],
    ["predict", RUN, "data=test", "to=answers.csv", "overwrite=true", "device.threads=1"],
    ["export", RUN, "format=state_dict"],
    ["publish", RUN, "to=csv"],
    ["rerun", RUN, "store=outputs/store"],
    ["reproduce"],
    ["halfspace", "rows=50", "test_rows=50", "seeds=2"],
    ["cache", "ls"],
    ["cache", "verify"],
    ["cache", "gc"],
    ["new", "loss", "mine"],
    ["completion", "bash"],
    ["completion", "words", "kdx train lo"],
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("json"))
        assert cli.main(TRAIN) == 0
        yield


@pytest.fixture
def keys(root) -> dict[str, set[str]]:
    """command -> the keys that its document may have, as the page says."""
    text = (root / "docs/commands.md").read_text().split("## Answers for programs")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| `")]
    return {head.strip("`"): set(re.findall(r"`(\w+)`", said)) for head, said in rows}


def document(capsys, words: list[str], code: int = 0) -> dict:
    assert cli.main(words) == code
    out = capsys.readouterr().out
    found = json.loads(out)
    assert isinstance(found, dict) and found
    return found


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_a_command_gives_one_document_of_the_keys_that_are_documented(
    place, capsys, monkeypatch, words, keys
):
    def stopped(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(board, "time", SimpleNamespace(sleep=stopped))
    monkeypatch.setattr(board, "serve", lambda *more: "http://127.0.0.1:1/")
    capsys.readouterr()
    found = document(capsys, [*words, "--json"])
    assert set(found) - {"text", "errors"} and set(found) <= keys[words[0]], set(found) - keys[words[0]]


def test_every_command_has_a_line_here_and_a_row_in_the_page(keys):
    assert {words[0] for words in LINES} == set(commands())
    assert {name.split()[0] for name in keys} == set(commands())


@pytest.mark.slow
def test_a_sweep_is_one_document_with_each_run(place, capsys, keys):
    found = document(capsys, ["train", "-m", *SHORT, "baseline=true,false", "--json"])
    assert set(found) == keys["train -m"] - {"words", "why", "compare"}
    assert [run["status"] for run in found["runs"]] == ["finished"] * 2
    assert found["runs"][0]["words"][-1] == "baseline=True" and found["comparison"]["rows"]
    assert found["runs"][0]["results"]["student"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["train", "lr=1"], 2, "did you mean student_train.lr=1"),
        (["lisst"], 2, "unknown command 'lisst'"),
        (["evaluate", "nowhere"], 2, "does not exist"),
        (["compare", "nowhere"], 2, "does not exist"),
        (["train", "loss=kb", "seed=x"], 2, "loss has no option 'kb'"),
    ],
)
def test_what_is_wrong_is_a_document_too(place, capsys, words, code, says):
    found = document(capsys, [*words, "--json"], code)
    assert set(found) == {"errors"} and says in " ".join(found["errors"])


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["list", "--help"], ["help", "train"]])
def test_a_text_that_is_asked_for_is_a_document(capsys, words):
    found = document(capsys, ["--json", *words])
    assert set(found) == {"text"} and "kdx" in found["text"]


@pytest.mark.parametrize("name", commands())
def test_the_help_of_each_command_is_one(capsys, name):
    assert set(document(capsys, [name, "--help", "--json"])) == {"text"}


def test_a_file_behind_json_is_written_as_before(place, capsys):
    assert cli.main(["compare", "outputs", "--json", "rows.json"]) == 0
    assert "rows" in json.loads(Path("rows.json").read_text())
    with pytest.raises(json.JSONDecodeError):
        json.loads(capsys.readouterr().out)
    assert document(capsys, ["compare", "--json", "outputs"])["rows"]
    assert document(capsys, ["--json", "compare", "outputs"])["rows"]


def test_a_run_that_fails_says_so_in_its_document(place, capsys):
    found = document(
        capsys, ["train", *SHORT, "teacher_pretrain.lr=1e-9", "pseudo_label.gate=error", "--json"], 1
    )
    assert found["status"] == "failed" and "nothing is to be gained" in found["error"]
