"""Every command that README.md and docs/ print: none is of a kind that nobody tries, the words of every
training compose, and what needs no training is run as printed. tests/test_page_runs.py runs the trainings.
"""

from __future__ import annotations

import argparse
import re
import runpy
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from page_commands import (
    ELSEWHERE,
    OWN_PARTS,
    PAGES,
    ROOT,
    YOUR_OWN,
    Printed,
    elsewhere,
    of_page,
    pages_with_code,
    printed_commands,
)
from page_place import kind_of_run, shortened, typed
from page_words import slips, unknown_words

from kdx.cli import main
from kdx.commands import board, commands, reproduce
from kdx.core.errors import UserError

COMMANDS = printed_commands()
OTHERS = {"torchdistill"}
"""Packages that a page compares kdx with."""
BEFORE_RUNS = "stopped before the first run"
CODE = {
    **dict.fromkeys(
        ("README.md", "docs/text.md", "docs/private.md"), "test_page_runs.py::test_python_of_a_page_runs"
    ),
    "docs/python.md": "test_python.py::test_the_blocks_of_the_page_run_as_printed",
    **dict.fromkeys(("docs/own-parts.md", "docs/own-parts-more.md"), OWN_PARTS),
    "docs/your-own.md": YOUR_OWN,
}
"""Page with blocks of Python -> the test that runs them."""


def of_kind(kind: str) -> list[Printed]:
    """Each text once."""
    return list({command.text: command for command in reversed(COMMANDS) if command.kind == kind}.values())[
        ::-1
    ]


def each(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("command", of_kind(kind), ids=lambda command: command.where)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for all commands, as a user has; what never ends is stopped."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    def no_run(*_: object) -> None:
        raise UserError(BEFORE_RUNS)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("pages"))
        patch.setattr(board, "time", SimpleNamespace(sleep=stopped))
        patch.setattr(board, "serve", lambda *_: "http://127.0.0.1:1/")
        patch.setattr(reproduce, "_check", lambda *_: None)  # of every claim: tests/test_reproduce.py
        patch.setattr(reproduce, "_measure", no_run)
        yield Path()


def test_no_command_falls_through():
    assert [command.where for command in COMMANDS if command.kind is None] == []
    assert len(COMMANDS) > 300 and {command.page for command in COMMANDS} >= {"README.md", "docs/commands.md"}


def test_a_command_of_no_kind_is_found_wherever_it_stands():
    text = """`kdx trian x` and `kdx predict`
| `kdx fit
loss=kd` | or `not kdx` |

    kdx cache ls | verify | gc      # a file: kdx train --config my.yaml seed=1
    eval "$(kdx completion bash)"   # as kdx train does
<!-- table x: kdx train -m seed=1,2; again with more; commit 12 -->
| words behind `kdx train -m` |
|---|
| `loss=kd,soft` |
"""
    found = {(command.line, command.text): command.kind for command in of_page("x.md", text)}
    assert found == {
        (1, "kdx trian x"): None,
        (1, "kdx predict"): "name",
        (2, "kdx fit loss=kd"): None,
        (5, "kdx cache ls"): "quick",
        (5, "kdx cache verify"): "quick",
        (5, "kdx cache gc"): "quick",
        (5, "kdx train --config my.yaml seed=1"): "training",
        (6, "kdx completion bash"): "quick",
        (7, "kdx train -m seed=1,2"): "training",
        (8, "kdx train -m"): "training",
        (10, "kdx train -m loss=kd,soft"): "training",
    }


def test_what_is_run_elsewhere_is_run_there():
    named = {elsewhere(command) for command in of_kind("elsewhere")} | set(CODE.values())
    assert named >= set(ELSEWHERE.values()), "an entry that no command needs any more"
    for test in named:
        file, _, name = test.partition("::")
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test
    assert pages_with_code().keys() == CODE.keys()


def test_names_are_those_of_commands_packages_and_scripts():
    named = {words[1] for command in of_kind("name") if len(words := command.words) > 1 and words[0] == "kdx"}
    assert named <= set(commands())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in of_kind("package"):
        if command.words[-1] in OTHERS:
            continue
        (extra,) = re.fullmatch(r"(?:kdx|\.)(?:\[(\w+)\])?", command.words[-1]).groups()
        assert extra in {None, *extras}, command.where


@each("help")
def test_help_is_there(command, place, capsys):
    assert main(typed(command)) == 0
    assert "kdx" in capsys.readouterr().out


@each("script")
def test_a_script_takes_the_words(command, monkeypatch):
    """Its parser does; where it has none, its text has each flag and each name."""

    whole = []

    def parsed(parser: argparse.ArgumentParser, *more: object) -> None:
        whole.append(parser)
        parse(parser, *more)
        raise KeyboardInterrupt

    def known(parser: argparse.ArgumentParser, *more: object) -> object:
        """What `parse_args` asks too; of a script that takes the words of others it is all."""
        found = parse_known(parser, *more)
        if not whole:
            raise KeyboardInterrupt
        return found

    at = 1 if command.words[0] == "python" else 0
    file, words = ROOT / command.words[at], command.words[at + 1 :]
    text = file.read_text(encoding="utf-8")
    if "__main__" not in text:
        assert words == [], "a part of other scripts"
    elif "argparse" in text:
        parse = argparse.ArgumentParser.parse_args
        parse_known = argparse.ArgumentParser.parse_known_args
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
        monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", known)
        monkeypatch.setattr("sys.argv", [str(file), *words])
        monkeypatch.syspath_prepend(str(file.parent))
        with pytest.raises(KeyboardInterrupt):
            runpy.run_path(str(file), run_name="__main__")
    else:
        unknown = [
            word for word in words if not re.fullmatch(r"[A-Z]+|[0-9a-f]{7,}", word) and word not in text
        ]
        assert unknown == []


@pytest.mark.parametrize("page", PAGES)
def test_the_words_of_every_training_compose(page):
    """Before anything is stood in or shortened. Files of settings: test_page_runs.py."""
    wrong = {}
    for command in COMMANDS:
        name, *words = command.words[1:] or [""]
        if command.page != page or command.kind not in ("training", "quick"):
            continue
        if name not in ("train", "plan"):
            found = unknown_words(name, words)
        elif {"--config", "--config-dir", "WORDS"} & set(words):
            continue
        else:
            found = slips([re.sub(r"=[A-Z]{3,}$", "=x", word) for word in words])
        if found:
            wrong[command.where] = found
    assert wrong == {}


def test_a_command_line_that_is_wrong_is_found():
    assert (
        slips(["loss=kdd"])
        and slips(["-m", "loss.t=1,2"])
        and unknown_words("compare", ["X", "srt=gain"]) == ["srt"]
    )


@each("quick")
def test_a_command_runs_as_printed(command, place, capsys):
    words = typed(command)
    if words[0] == "halfspace":
        words = [word for word in words if not word.startswith(("rows=", "seeds="))]
        words += ["rows=200", "test_rows=200", "seeds=2"]
    runs = words[0] == "reproduce" and len(words) > 1
    capsys.readouterr()
    code = main(words)
    out, err = capsys.readouterr()
    if runs:
        assert code == 1 and set(re.sub(r"claim \w+: ", "", line) for line in err.splitlines()) == {
            BEFORE_RUNS
        }
    else:
        assert code == 0 and out, err


def test_of_each_kind_of_rows_is_a_run_that_commands_ask():
    asked = {
        kind_of_run(command) for command in of_kind("quick") if command.words[1] in ("predict", "evaluate")
    }
    assert asked == {"X", "table", "members", "text", "pictures", "questions"}
    assert shortened(["train", "-m", "loss=kd,soft", "seed=range(5)", "device=cuda"]) == [
        "train",
        "-m",
        "loss=kd,soft",
        "seed=0",
    ]


REFUSED = [
    (
        "docs/sweeps.md",
        "with loss=slam: 'loss.temperature' is no key of loss=slam; loss.temperature is a key of "
        "loss=adversarial, loss=adversarial_kd, loss=collaborative, loss=dist or loss=distillation_token",
        "-m loss=kd,slam loss.temperature=1,2",
    ),
    ("docs/task.md", "leave it out", "dataset=diabetes dataset.class_weights=balanced"),
    ("docs/python.md", "'lr' is no key; did you mean student_train.lr=0.1", "lr=0.1"),
    ("docs/commands.md", "student_train.lr=0.1 or teacher_pretrain.lr=0.1", "--lr 0.1"),
]
"""Page, the sentence that it shows, words of `kdx train` that are answered with it."""
SAID_TO_BE = [
    ("docs/controls.md", "`ceiling=true` where no label is hidden", "ceiling=true dataset.unlabelled=0"),
    (
        "docs/controls.md",
        "`validation_labels=true` without a validation",
        "validation_labels=true dataset.validation=null",
    ),
    (
        "docs/pool.md",
        "`pseudo_label.view=clean` with mixup",
        "loss=soft pseudo_label.view=clean augment=mixup",
    ),
    (
        "docs/pool.md",
        "`pseudo_label.limit=` with `mode=stored`",
        "pseudo_label.limit=9 pseudo_label.mode=stored",
    ),
    ("docs/recipe.md", "`recipe=chain` without assistants", "recipe=chain"),
    ("docs/recipe.md", "assistants in another recipe", "assistants=[cnn_small]"),
    ("docs/recipe.md", "`stages=` that leaves out an earlier one", "stages=[pseudo_label]"),
    ("docs/select.md", "`budget=` without a rule that buys", "loss=soft budget=9"),
    ("docs/select.md", "A budget larger than the pool", "loss=soft select=uniform budget=5000"),
    ("docs/select.md", "`select=rad` without validation", "loss=soft select=rad dataset.validation=null"),
    ("docs/student.md", "Both `student_train.epochs=`", "student_train.epochs=1 student_train.steps=1"),
    ("docs/student.md", "`student_train.patience=` or", "student_train.patience=3 dataset.validation=null"),
    ("docs/student.md", "`momentum=` with adamw", "student_train.momentum=0.9"),
    ("docs/commands.md", "`launcher=` without `-m`", "launcher=joblib"),
    (
        "docs/teacher.md",
        "`teacher.weights=DEFAULT` of a network without",
        "teacher=cnn teacher.weights=DEFAULT",
    ),
    ("docs/teacher.md", "`stages=[student_train]`", "stages=[student_train]"),
    ("docs/teacher.md", "`teachers=[]`", "teachers=[]"),
    ("docs/tables.md", "`loss.temperature` of numbers", "dataset=diabetes loss.temperature=2"),
    ("docs/tables.md", "an estimator as a student", "dataset=diabetes student=sklearn"),
    (
        "docs/answers.md",
        "`pseudo_label.view=same` with augmentation",
        "teacher=answers teacher.file=logits.npy pseudo_label.view=same",
    ),
    ("docs/loss.md", "of a loss without that slot (`kd`", "loss=kd loss.weights=one"),
    ("docs/task.md", "every loss but `kd` and `supervised`", "dataset=diabetes loss=slam"),
]
"""Page, how it says that something is refused, words of `kdx train` that do it."""


def answered_with_another() -> list[str]:
    """Words that "The right word" of docs/commands.md gives as those that are answered and not taken."""
    section = PAGES["docs/commands.md"].split("## The right word")[1].split("\n## ")[0]
    found = re.findall(r"`([^`]+)`", section)
    return [
        words
        for words in found
        if re.match(r"(--)?\w+(\.\w+)?[= ]", words) and not words.startswith(("kdx", "student_train"))
    ]


@pytest.mark.parametrize(
    ("page", "says", "words"), [*REFUSED, *SAID_TO_BE], ids=lambda value: str(value)[:60]
)
def test_what_a_page_shows_as_refused_is_refused(page, says, words, place, capsys):
    assert says in " ".join(PAGES[page].split())
    words = typed(Printed(page, 0, f"kdx train {words}"))
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err and (says in err or (page, says) in [entry[:2] for entry in SAID_TO_BE]), err


@pytest.mark.parametrize("words", answered_with_another())
def test_a_word_of_another_tool_on_the_page_is_answered_in_one_line(words, place, capsys):
    if words == "dataset=folder":
        return  # in brackets: what it is answered with
    line = ["predict", "RUN", *words.split()] if "source" in words else ["train", *words.split()]
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1, err
