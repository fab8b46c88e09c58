"""The door that every value goes through: what is refused is reported in a sentence, and nothing made from it
is handed on.
"""

from __future__ import annotations

import math

import nasty
import pytest
import torch

from kdx import models
from kdx.cli import main
from kdx.config import compose, grid
from kdx.config.words import beyond
from kdx.core import capacity, checks
from kdx.core.errors import UserError, UserErrors
from kdx.models.size import Held
from kdx.store.component import Component

DEEP, LONG = "[" * 200 + "]" * 200, "9" * 5000
LINES = [
    (["loss.alpha=x"], "loss.alpha must be a number; given: 'x'"),
    (["pseudo_label.limit=null"], "pseudo_label.limit must be a whole number; given: null"),
    (
        ["teacher._target_=nan"],
        "teacher._target_ must be the address of its code, such as kdx.models.causal_lm.CausalLM; given: nan",
    ),
    (["student.dropout=nan"], "cnn: dropout must be finite, at least 0 and less than 1; given: nan"),
    (
        ["teacher.widths=[100000,100000]"],
        "the teacher (4 times each weight, to train it) is too large for this machine",
    ),
    (["student.widths=[100000,100000]"], "lower student.widths or student.hidden, or choose another"),
    (
        ["student_train.batch_size=100000000000"],
        "student_train.batch_size=100000000000, of pictures of 16x16, is too large for this machine",
    ),
    ([f"seed={DEEP}"], "has 200 brackets within brackets"),
    ([f"seed={LONG}"], "(5,005 letters)' holds a number of 5,000 digits, which is too long"),
    (["hydra/launcher=1"], "'hydra/launcher' is chosen by launcher=NAME"),
    (["hydra/job_logging=false"], "'hydra/job_logging' is Hydra's own"),
    (["-sc"], "the shell completes kdx by its own command"),
    (
        ["--cfg", "job", "-m"],
        "one of the flags --cfg, --run, --multirun, --info at a time; given: --cfg=job --multirun",
    ),
    (["--cfg", "job", "seed=[["], "'seed=[[' cannot be read"),
    (["rounds=1000000000"], "rounds must be at least 1 and at most 1000; given: 1000000000"),
    (["student_train.steps=10000000000"], "student_train.steps must be at least 1 and at most 1000000000"),
    (["pseudo_label.passes=1000000"], "pseudo_label.passes must be at least 0 and at most 10000"),
    (
        ["teacher_pretrain.length=99999999 epochs"],
        "the epochs of teacher_pretrain.length must be at least 1 and at most 1000000",
    ),
    (
        ["student_train.milestones=[" + ",".join(["0.5"] * 1001) + "]"],
        "student_train.milestones has 1,001 values",
    ),
    (
        ["-m", "seed=range(1000000)"],
        (
            "these words stand for 1,000,000 runs (seed (1,000,000)), and a sweep has at most 1,000 unless "
            "asked: add max_runs=N"
        ),
    ),
    (["-m", "seed=range(0,1,1e-300)"], "these words stand for about 1e+300 runs"),
    (
        ["-m", "seed=range(2)", "loss=kd,slam", "max_runs=3"],
        "these words stand for 4 runs (seed (2) x loss (2)), and a sweep has at most 3",
    ),
    (
        ["-m", "sweeper=optuna", "hydra.sweeper.n_trials=1000000000"],
        "these words stand for 1,000,000,000 runs",
    ),
    (["-m", "max_runs=x"], "max_runs must be a whole number from 1 to 999999; given: x"),
    (
        ["dataset.root=~nobody_of_that_name", "dataset=folder"],
        "dataset.root=~nobody_of_that_name begins with '~', and there is no such user",
    ),
    (["store=" + "x" * 300], "store is no path that a file system could have"),
]


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nasty.stop_before_work(monkeypatch)
    return tmp_path


@pytest.mark.parametrize("command", ["train", pytest.param("plan", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("words", "says"), LINES, ids=[" ".join(words)[:40] for words, _ in LINES])
def test_it_is_one_plain_sentence(words, says, command, quiet, capsys):
    assert main([command, *words]) == 2
    out, err = capsys.readouterr()
    assert not out and says in err and err.count("\n") == 1 and len(err) <= nasty.WIDE * 2
    assert nasty.complaint(words, 2, err) is None and not list(quiet.iterdir())


def test_max_runs_lifts_the_limit_and_reaches_no_run():
    assert grid.limit(["seed=1", "max_runs=5", "loss=kd"]) == (5, ["seed=1", "loss=kd"])
    grid.check_count(["seed=range(1000)"], grid.MOST_RUNS)
    with pytest.raises(UserError, match="stand for endlessly many runs"):
        grid.check_count(["seed=range(1,2,0)"], 10**6 - 1)


OVERLAID = [
    "loss.alpha=[0,1] student_train.lr=0.01 seed=3",
    "student_train.lr='${teacher_pretrain.lr}' seed=${rounds}",
    "student_train={lr:3,steps:5}",
    pytest.param("loss=slam loss.k=3 augment.affine.degrees=3", marks=pytest.mark.slow),
    pytest.param(
        "loss=noisy_student loss.unlabel_ratio=3 student_train.augment=[cutout,affine]",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "loss=weighted loss.hard=true student=resnet20 student.widths=[4,4,4,4] budget=null",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("line", OVERLAID)
def test_values_laid_over_options_are_what_hydra_composes(line):
    words = line.split()
    quick, errors, _ = compose.examine_words(words)
    assert not errors and repr(quick) == repr(compose.plain_config(compose.whole_config(words)))


class Picky:
    """Takes a share, and breaks on any other."""

    made = 0

    def __init__(self, *, share, count):
        self.share, self.count = (
            checks.number("share", share, low=0, high=1),
            checks.integer("count", count, low=1),
        )
        self.parts = ["x"] * int(1 / (1.5 - self.share)) * self.count
        Picky.made += 1


@pytest.fixture
def picky(monkeypatch):
    monkeypatch.setattr("kdx.store.component.resolve", lambda target: Picky)
    return lambda **values: Component({"_target_": "x.Picky", **values})


def test_what_is_refused_stands_for_nothing_and_all_of_it_is_reported(picky):
    assert picky(share=0.5, count=2).build().share == 0.5
    with pytest.raises(UserErrors) as reported:
        picky(share=1.5, count="many").build()  # 1 / 0, were it not for what stands in
    assert reported.value.messages == [
        "share must be at least 0 and at most 1; given: 1.5",
        "count must be a whole number; given: 'many'",
    ]


@pytest.mark.parametrize(
    ("value", "limits", "says"),
    [
        (math.inf, {"low": 0}, "finite and at least 0; given: inf"),
        (-math.inf, {"low": 0}, "at least 0; given: -inf"),
        (-math.inf, {"high": 1}, "finite and at most 1; given: -inf"),
        (math.inf, {"low": 0, "high": 1}, "at least 0 and at most 1; given: inf"),
        (math.nan, {"low": 0, "open_low": True}, "finite and greater than 0; given: nan"),
        (math.nan, {"low": 0, "high": 1}, "finite, at least 0 and at most 1; given: nan"),
        (math.inf, {}, "finite; given: inf"),
        (10**400, {"low": 0}, "finite and at least 0; given: a number of 400 digits"),
        (-1, {"low": 0}, "at least 0; given: -1"),
    ],
)
def test_a_number_that_is_not_finite_is_called_so_where_no_limit_says_it(value, limits, says):
    with pytest.raises(UserError) as error:
        checks.number("x", value, **limits)
    assert str(error.value) == f"x must be {says}"


def test_an_attempt_gives_nothing_where_something_was_refused(picky):
    errors: list[str] = []
    assert checks.attempt(errors, picky(share=0.5, count=2).build).share == 0.5 and not errors
    assert checks.attempt(errors, picky(share=math.nan, count=2).build) is None
    assert errors == ["share must be finite, at least 0 and at most 1; given: nan"]
    with pytest.raises(ZeroDivisionError):  # nothing was refused: a bug is no error
        checks.attempt(errors, lambda: 1 / 0)


def test_values_that_are_compared_agree_first():
    errors: list[str] = []

    def compare(low, high):
        low, high = checks.number("low", low, low=0), checks.number("high", high, low=0)
        checks.agreed()
        checks.refuse("high must not be below low") if high < low else None

    checks.attempt(errors, compare, 3, "x")
    assert errors == ["high must be a number; given: 'x'"]


def test_long_values_are_shown_short():
    assert checks.shown("x" * 1000).startswith("'xxx") and len(checks.shown("x" * 1000)) <= checks.LONGEST
    assert checks.shown(10**5000) == "a number of 5000 digits" and checks.shown([[[1]]]) == "[[[1]]]"
    deep: list = []
    for _ in range(2000):
        deep = [deep]
    assert len(checks.shown(deep)) <= checks.LONGEST


def test_the_first_door():
    assert beyond("a", {"b": [1, "x", None, 0.5]}) == []
    for value in (2**63, "x" * 5000, "a\0b", "\ud800", list(range(1001)), {1: 2}, [[2**70]]):
        assert len(beyond("a", value)) == 1


def test_a_network_is_weighed_before_it_is_made(monkeypatch):
    monkeypatch.setattr(capacity, "machine_memory", lambda: 50_000)
    conv = Component(
        {
            "_target_": "kdx.models.cnn.cnn",
            "widths": [16, 32],
            "hidden": 8,
            "batch_norm": True,
            "dropout": 0.0,
            "stochastic_depth": 0,
        }
    )
    size = {"shape": (1, 16, 16), "classes": 10, "mean": [0.5], "std": [0.5]}
    weights = sum(
        t.numel() * t.element_size()
        for t in models.build(conv, **size).net.state_dict().values()
        if t.dtype is torch.float32
    )
    assert 25_000 < weights < 50_000
    with pytest.raises(
        UserError, match=r"this network \(4 times each weight, to train it\) is too large for this machine"
    ):
        models.build(conv, **size, held=Held(copies=4))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compare", "outputs", "html=" + "x" * 300], "html is no path that a file system could have"),
        (["cache", "ls", "store=" + "[" * 300], "store is no path that a file system could have"),
        (["evaluate", "x" * 3000], "is no path that a file system could have"),
        (["export", "~nobody_of_that_name/x"], "begins with '~', and there is no such user"),
        (["plan", "json=" + "x" * 300], "json is no path that a file system could have"),
        (["compare", "a\0b"], "is no path that a file system could have"),
        (["reproduce", "kd", "seeds=1000000000"], "seeds must be at least 1 and at most 1000"),
        (["halfspace", "steps=10000000000000"], "steps must be at least 10 and at most"),
    ],
)
def test_other_commands_have_a_door_too(words, says, quiet, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert says in err and nasty.complaint(words, 2, err) is None and not list(quiet.iterdir())
