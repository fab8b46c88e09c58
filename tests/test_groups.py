"""Groups of parameters with rates and turns of their own, in the one loop."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from kdx.core.types import Batch, Objective, Outcome, ParameterGroup, Parts
from kdx.tasks.classification import Classification
from kdx.training.loop import Loop, check_groups, fit
from kdx.training.runtime import Runtime
from kdx.training.settings import Training

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=300)
SGD = dict(
    epochs=None,
    steps=None,
    length="6 steps",
    batch_size=2,
    rows=None,
    labelled_share=None,
    optimiser="sgd",
    lr=0.1,
    momentum=0.0,
    weight_decay=0.0,
    schedule="constant",
    warmup=0,
    milestones=[],
    clip=None,
    precision="fp32",
    patience=None,
    target=None,
    evaluate_every=None,
    augment=[],
    strong_augment=[],
)


class Two(Objective):
    """The sum of two numbers falls: each has the gradient 1 at every step."""

    uses = ("labelled",)
    reads = ()

    def __init__(self, parts: Parts, *, second: tuple | None, twice: bool = False, steep: float = 1.0):
        """steep: the slope of the other one."""
        super().__init__(parts)
        self.steep = steep
        self.other = nn.Parameter(torch.zeros(()))
        self.second, self.twice = second, twice

    def forward(self, streams, progress):
        return Outcome({"sum": self.student.weight.sum() + self.steep * self.other})

    def groups(self) -> Sequence[ParameterGroup]:
        if self.second is None:
            return super().groups()
        first = [self.student.weight, *([self.other] if self.twice else [])]
        return [ParameterGroup("first", first), ParameterGroup("second", [self.other], *self.second)]


def train(second, steep=1.0, clip=None):
    student = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(student.weight)
    task = Classification(classes=["a", "b"])
    objective = Two(Parts(student, lambda: student, None, [], None, task), second=second, steep=steep)
    training = Training(**SGD)
    optimiser = training.build_optimiser(check_groups(objective))
    schedule = training.build_schedule(optimiser, 6)
    loop = Loop(6, optimiser, schedule, clip, "fp32", CPU, refresh_every=9, log_every=1)
    logged = []
    zero = torch.zeros(2, dtype=torch.int64)
    streams = {"labelled": Batch("labelled", zero, zero, {"main": torch.zeros(2, 1)})}
    fit(
        objective,
        [streams] * 6,
        loop,
        start=0,
        log=lambda step, values: logged.append(values),
        after=lambda s: False,
    )
    return student.weight.item(), objective.other.item(), logged


def test_one_group_holds_all_that_is_trained():
    first, second, logged = train(None)
    assert first == pytest.approx(-0.6) and second == pytest.approx(-0.6)
    assert not any(key.startswith("train/learning_rate/") for values in logged for key in values)


@pytest.mark.parametrize(
    ("rate", "every", "at", "moved"),
    [(1.0, 1, 0, 6), (0.5, 1, 0, 3), (0.0, 1, 0, 0), (1.0, 2, 0, 3), (1.0, 2, 1, 3), (2.0, 4, 1, 4)],
)
def test_a_group_has_its_rate_and_its_turns(rate, every, at, moved):
    # of the six steps those with s % every == at, each of 0.1 * rate
    first, second, logged = train((rate, every, at))
    assert first == pytest.approx(-0.6) and second == pytest.approx(-0.1 * moved)
    assert logged[0]["train/learning_rate/second"] == pytest.approx(0.1 * rate)


def test_each_group_is_clipped_by_itself():
    """(together the norm would be about 100, and the first would hardly move)"""
    first, second, _ = train((1.0,), steep=100.0, clip=1.0)
    assert first == pytest.approx(-0.6, rel=1e-4) and second == pytest.approx(-0.6, rel=1e-4)


@pytest.mark.parametrize("second", [(-1.0,), (1.0, 2, 2), (1.0, 0, 0)])
def test_turns_and_rates_that_are_none_are_errors(second):
    with pytest.raises(ValueError, match="rate >= 0 and 0 <= at < every"):
        train(second)


def test_a_parameter_in_two_groups_or_in_none_is_an_error():
    student = nn.Linear(1, 1, bias=False)
    parts = Parts(student, lambda: student, None, [], None, Classification(classes=["a", "b"]))
    with pytest.raises(ValueError, match="once: 3 are in them, and it trains 2"):
        check_groups(Two(parts, second=(1.0,), twice=True))
    missing = Two(parts, second=(1.0,))
    missing.bias = nn.Parameter(torch.zeros(()))
    with pytest.raises(ValueError, match="once: 2 are in them, and it trains 3"):
        check_groups(missing)
