"""A task and a metric of the user's own are tried before work: each that breaks what docs/task.md asks of it
is refused in one sentence.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdx.config.contract import check_metric, check_task
from kdx.config.described import component
from kdx.core.answers import Nothing
from kdx.core.errors import UserError
from kdx.core.files import finite_or_null
from kdx.core.metric import Metric
from kdx.core.own_metric import OwnMetric
from kdx.core.task import Task
from kdx.core.trees import all_finite
from kdx.report.run.result_warnings import result_warnings

RMSE = Metric("rmse", "RMSE", more=False, low=0)
MSE = Metric("mse", "MSE", more=False, low=0)


class Number(Task):
    shown, primary, paired, width = {"rmse": RMSE}, "rmse", MSE, 1
    words = "one number"

    def loss(self, answers, truth, weights=None):
        return (answers - truth).square().mean(1)

    def match(self, student, teacher, temperature):
        return (student - teacher).square().mean(1)

    def by_row(self, answers, truth):
        return (answers - truth).double().square().mean(1)

    def metrics(self, answers, truth):
        return {"rmse": self.by_row(answers, truth).mean().sqrt().item()}

    def knowing_nothing(self, truth):
        return Nothing("the mean of all rows", self.by_row(truth.mean(0), truth))

    def made_up(self, rows, generator=None):
        return torch.randn(rows, 1, generator=generator)

    made_up_truth = made_up


def refused(given, **changed) -> str:
    with pytest.raises(UserError) as caught:
        check_task(type("Number", (Number,), changed)())
    assert str(caught.value).count("\n") == 0 and given in str(caught.value), str(caught.value)
    return str(caught.value)


def squares(self, answers, truth, *more):
    return (answers - truth).square()


def gives(value):
    return lambda self, *given: value


def test_a_task_that_keeps_its_promises_is_taken():
    check_task(Number())
    check_task(type("Number", (Number,), {"metrics": gives({"rmse": math.nan})})())


@pytest.mark.parametrize("name", ["loss", "match", "by_row"])
def test_one_number_a_row(name):
    """(B, 1) would be stretched to (B, B) beside (B,), and another student would be trained."""
    if name == "by_row":
        nothing = Nothing("the mean", torch.zeros(3))
        refused("by_row must give one number a row", by_row=squares, knowing_nothing=gives(nothing))
    else:
        said = refused("", **{name: squares})
        assert said == f"Number.{name} must give one number a row, (3,); given: (3, 1)"
    whole = torch.ones(3, dtype=torch.int64)
    if name != "by_row":
        refused(f"Number.{name} must give floating-point numbers; given: torch.int64", **{name: gives(whole)})


@pytest.mark.parametrize(
    ("says", "changed"),
    [
        ("Number.loss must give one number a row, (3,); given: 0.5", {"loss": gives(0.5)}),
        (
            "Number.knowing_nothing(...).by_row must give one number a row, (3,); given: (1,)",
            {"knowing_nothing": gives(Nothing("nobody", torch.zeros(1)))},
        ),
        ("knowing_nothing must give a Nothing(words, by_row)", {"knowing_nothing": gives(0.5)}),
        ("Number.primary must be one of rmse (see shown); given: 'mae'", {"primary": "mae"}),
        (
            "Number.primary must be one of rmse",
            {"primary": "agreement", "shown": {"rmse": RMSE, "agreement": Metric("agreement", "near")}},
        ),
        (
            "metrics must give the metrics of shown but agreement, rmse; given: mse",
            {"metrics": gives({"mse": 1})},
        ),
        ("given: none", {"metrics": gives({})}),
        ("given: rmse, more", {"metrics": gives({"rmse": 1.0, "more": 1.0})}),
        ("must give a plain number for rmse", {"metrics": gives({"rmse": torch.tensor(1.0)})}),
        ("must give a plain number for rmse; given: inf", {"metrics": gives({"rmse": math.inf})}),
        ("must give a plain number for rmse", {"metrics": gives({"rmse": np.float32(1)})}),
        ("Number.columns must give a value a row by header; given: 0.5", {"columns": gives(0.5)}),
        (
            "columns must give a list or an array of 3 values as n; given: (3,)",
            {"columns": gives({"n": torch.ones(3)})},
        ),
        ("columns must give a list or an array of 3 values as n", {"columns": gives({"n": [1.0]})}),
        (
            "Number.truth_columns: each header must be truth, or begin with truth: ; given: label",
            {"truth_columns": gives({"label": [1.0] * 3})},
        ),
        ("truth_columns must give a list or an array of 3", {"truth_columns": gives({"truth": [1.0]})}),
        ("shown['rmse'] is a metric called 'mse'", {"shown": {"rmse": MSE}}),
        ("shown['rmse'] must be a Metric", {"shown": {"rmse": "RMSE"}}),
        ("shown must be its metrics by name", {"shown": ["rmse"]}),
        ("shown['rmse'].scale must be a number", {"shown": {"rmse": Metric("rmse", "RMSE", scale=0)}}),
        ("Number.paired must be a Metric", {"paired": "mse"}),
        (
            "Number.made_up must give as many rows as it is asked for, 3; given: (2, 1)",
            {"made_up": gives(torch.zeros(2, 1))},
        ),
        ("Number.made_up_truth must give as many rows", {"made_up_truth": gives(torch.tensor(1.0))}),
        ("see docs/task.md for its arguments", {"made_up": lambda self, rows: torch.zeros(rows, 1)}),
        ("see docs/task.md for its arguments", {"match": lambda self, student, teacher: torch.zeros(3)}),
    ],
)
def test_a_broken_promise_is_one_sentence(says, changed):
    refused(says, **changed)


def test_what_is_missing_is_named():
    members = {name: value for name, value in vars(Number).items() if name not in ("primary", "__dict__")}
    bare = type("Bare", (Task,), members)
    with pytest.raises(UserError, match=r"Bare\.primary is missing: see docs/task\.md"):
        check_task(bare())


# Nobody knows anything of no row


def test_a_pool_without_rows_is_known():
    task = Number()
    for none in (np.zeros((0, 1), np.float32), np.zeros((0, 2, 3), np.float32), np.zeros(0, np.float32)):
        assert task.known(none).shape == (0,) and task.known(none).dtype == bool
        assert task.unknown(none, 0).shape == none.shape and task.unknown(none, 2).shape == (
            2,
            *none.shape[1:],
        )
        assert task.known({"a": none, "b": none}).shape == (0,)
        assert task.displayed(torch.from_numpy(none)) == []
    some = np.array([[[1.0, 2.0]], [[np.nan, 1.0]]])
    assert task.known(some).tolist() == [True, False]
    assert task.known(np.array([1.0, np.nan])).tolist() == [True, False]


# A metric of the user's own


def own(name, value=0.5, **more):
    members = {"metric": Metric(name, "mine", **more), "measure": gives(value)}
    return type("Mine", (OwnMetric,), members)()


def test_a_metric_has_a_name_of_its_own():
    check_metric(own("mine"), "mine", Number())
    for name in ("n", "recall", "reliability", "confusion", "figures", "agreement"):
        with pytest.raises(UserError, match=f"results keep something else as '{name}'"):
            check_metric(own(name), name, Number())
    for name in ("train", "validation", "test"):
        with pytest.raises(UserError, match=f"results keep something else as '{name}'"):
            check_metric(own(name), name, Number())
    with pytest.raises(UserError, match="the task has a metric of that name"):
        check_metric(own("rmse"), "rmse", Number())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"scale": 0}, "metric.scale must be a number"),
        ({"scale": math.nan}, "metric.scale must be a number"),
        ({"scale": math.inf}, "metric.scale must be a number"),
        ({"digits": -1}, "metric.digits must be from 0 to 9"),
        ({"low": -math.inf}, "metric.low must be a number"),
    ],
)
def test_a_metric_can_be_shown(more, says):
    """As those read it who read the run."""
    with pytest.raises(UserError, match=says):
        check_metric(own("mine", **more), "mine", Number())


# What is no number


def test_a_value_that_is_not_finite_is_written_as_null():
    value = {"a": [1, math.nan, {"b": (math.inf, True, "NaN")}], "c": 0.5}
    assert finite_or_null(value) == {"a": [1, None, {"b": [None, True, "NaN"]}], "c": 0.5}
    assert all_finite({"a": torch.zeros(2), "b": torch.ones(2)})
    assert not all_finite(torch.tensor([0.0, math.nan])) and not all_finite({"a": torch.tensor(math.inf)})


def test_a_key_of_own_code_is_finite(monkeypatch):
    """A manifest with a NaN in it cannot be read again: its artifact would be damaged as soon as it is
    made."""
    monkeypatch.setattr("kdx.config.described.from_own_package", lambda target: target.startswith("mine."))
    spec = {"_target_": "mine.top.Top", "places": 2, "low": [0.1]}
    component("metrics.mine", spec)
    for value in (math.nan, math.inf, [0.5, -math.inf], {"a": math.nan}):
        with pytest.raises(UserError, match=r"^metrics\.mine\.places must be finite"):
            component("metrics.mine", spec | {"places": value})


def results(own, **more):
    test = {"rmse": 0.5, "n": 100, "mine": own}
    metrics = [RMSE.document(), Metric("mine", "own score", low=0, high=1).document()]
    teacher = {"last": {"test": test}, **more}
    return {"metric": RMSE.document(), "metrics": metrics, "teacher": teacher, "rounds": [], "shifts": {}}


def test_a_metric_that_is_no_number_is_named():
    """It does not say of the answers that they are none."""
    said = "The test own score of the teacher is not a number (NaN or infinite): see how it is measured"
    assert result_warnings(results(0.5), "last") == []
    for none in (None, math.nan):
        assert result_warnings(results(none), "last") == [said]
    broken = result_warnings(results(None, not_finite={"last": ["test"]}), "last")
    assert broken == [
        "The answers of the teacher are not all finite (NaN or infinite): its figures mean nothing"
    ]
