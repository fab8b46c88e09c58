"""Numbers a row: metrics by hand, units, what a teacher tells beside its answer."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from kdx.config.contract import check_task
from kdx.core.errors import UserError
from kdx.models.adapt import Plain, in_units
from kdx.tasks.regression import Regression

TRUTH = torch.tensor([[1.0], [2.0], [6.0]])
SAID = torch.tensor([[2.0], [2.0], [4.0]])


def of_one(**more):
    return Regression(names=["y"], **more)


def test_its_metrics_by_hand():
    """Errors 1, 0, -2; around the mean 3 the truth has -2, -1, 3."""
    found = of_one().metrics(SAID, TRUTH)
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 3)) and found["mae"] == pytest.approx(1)
    assert found["r2"] == pytest.approx(1 - 5 / 14)
    assert of_one().by_row(SAID, TRUTH).tolist() == [1, 0, 4]
    assert math.isnan(of_one().metrics(SAID, torch.ones(3, 1))["r2"]), "of a truth that does not vary"


def test_who_knows_nothing_says_the_mean():
    nothing = of_one().knowing_nothing(TRUTH)
    assert nothing.by_row.tolist() == [4, 1, 9] and "mean" in nothing.words
    assert of_one().floor(TRUTH) == pytest.approx(math.sqrt(14 / 3)), "the root of the mean, as the metric is"


def test_the_loss_is_the_same_in_every_unit():
    """Of a target in metres and in millimetres, and of each of two targets whatever its own."""
    task = of_one(centre=[3.0], scale=[2.0])
    assert task.loss(SAID, TRUTH).tolist() == [0.25, 0, 1]
    small = of_one(centre=[3000.0], scale=[2000.0])
    assert torch.equal(small.loss(1000 * SAID, 1000 * TRUTH), task.loss(SAID, TRUTH))
    two = Regression(names=["a", "b"], centre=[0.0, 0.0], scale=[1.0, 10.0])
    assert two.loss(torch.tensor([[1.0, 10.0]]), torch.zeros(1, 2)).tolist() == [1.0]
    assert task.match(SAID, TRUTH, 4.0).tolist() == [0.25, 0, 1], "a temperature is of probabilities"


def test_units_come_from_the_labelled_rows_and_networks_answer_in_them():
    task = of_one(**of_one().fit(TRUTH.numpy()))
    assert task.centre == [3.0] and task.scale == [pytest.approx(math.sqrt(14 / 3))]
    network = in_units(nn.Identity(), task.units())
    assert isinstance(network, Plain)
    assert torch.allclose(
        network(torch.tensor([[0.0], [1.0]]))[:, 0], torch.tensor([3.0, 3 + math.sqrt(14 / 3)])
    )
    assert network(torch.zeros(1, 1, dtype=torch.bfloat16)).dtype == torch.float32
    assert set(network.state_dict()) == {"units.centre", "units.scale"}


@pytest.mark.parametrize("value", [0.0, 7.5, 1e12])
def test_a_constant_target_is_refused(value):
    truth = np.array([[1.0, value], [2.0, value]])
    with pytest.raises(
        UserError, match=r"the target 'b' is .* in all 2 labelled rows: there is nothing to learn"
    ):
        Regression(names=["a", "b"]).fit(truth)


def test_answers_are_stored_with_the_variance_where_there_is_one():
    task = of_one(scale=[2.0])
    plain, telling = task.pack(SAID), task.pack({"value": SAID, "variance": SAID})
    assert set(plain) == set(telling) == {"value", "variance"}
    assert plain["variance"].isnan().all() and torch.equal(telling["variance"], SAID)
    assert task.variance(SAID) is None and task.variance(task.unpack(plain)) is None
    assert torch.equal(task.variance(task.unpack(telling)), SAID / 4), "in units of the loss"
    assert torch.equal(task.numbers(task.unpack(plain)), SAID)
    assert task.metrics(task.unpack(plain), TRUTH) == task.metrics(SAID, TRUTH)
    assert task.row_bytes() == 8


def test_several_teachers_are_a_mixture():
    """Means 1 and 3 with variances 1 and 2: mean 2, variance 1.5 within and 1 between."""
    first = {"value": torch.tensor([[1.0]]), "variance": torch.tensor([[1.0]])}
    second = {"value": torch.tensor([[3.0]]), "variance": torch.tensor([[2.0]])}
    found = of_one().mean([first, second])
    assert (found["value"].item(), found["variance"].item()) == (2.0, 2.5)
    assert of_one().mean([torch.tensor([[1.0]]), first]).item() == 1.0, (
        "one that does not say has none to give"
    )


def test_what_is_mixed_is_in_between():
    share = torch.tensor([0.25, 1.0, 0.0])
    assert of_one().mix(TRUTH, SAID, share)[:, 0].tolist() == [1.75, 2.0, 4.0]


def test_figures_of_the_test_split_hold_every_row():
    bars = of_one().details(SAID, TRUTH, "test")["figures"]
    points, residuals = (figure["data"] for figure in bars)
    assert points["lines"]["predicted"] == {"x": [1.0, 2.0, 6.0], "y": [2.0, 2.0, 4.0]}
    assert points["points"] == ["predicted"] and sum(residuals["counts"]) == 3
    assert of_one().details(SAID, TRUTH, "train") == {}
    assert of_one().details(SAID * torch.nan, TRUTH, "test") == {}, "nothing can be drawn"


def test_it_gives_what_a_task_promises():
    check_task(of_one())
    check_task(Regression(names=["a", "b"], centre=[1.0, 2.0], scale=[3.0, 4.0]))


def test_rows_without_a_truth_are_known_by_nan():
    truth = np.array([[1.0, 2.0], [np.nan, 2.0], [np.nan, np.nan]], np.float32)
    task = Regression(names=["a", "b"])
    assert task.known(truth).tolist() == [True, False, False]
    assert np.isnan(task.unknown(truth, 3)).all() and task.unknown(truth, 3).shape == (3, 2)
