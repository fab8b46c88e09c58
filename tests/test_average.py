"""The moving average of a network: its decay, its buffers, its limit and its resume."""

import copy

import pytest
import torch
from torch import nn

from kdx.average import Average, mean_teacher_decay, noisy_student_decay
from kdx.faults import Fault


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def move(student, step):
    """A training step: other weights, other statistics."""
    torch.manual_seed(100 + step)
    student.train()(torch.randn(6, 3))
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))


def average(student, **more):
    return Average(student, **{"decay": 0.9, "rule": "mean_teacher", "buffers": "average", **more})


def test_decay_rules_by_hand():
    assert [mean_teacher_decay(0.999, s) for s in (1, 2, 50)] == pytest.approx([0.5, 0.6667, 0.9804], abs=5e-5)
    assert mean_teacher_decay(0.9, 50) == 0.9
    assert [noisy_student_decay(0.9999, s) for s in (1, 8, 90)] == pytest.approx([2 / 11, 0.5, 0.91])
    assert noisy_student_decay(0.9, 1000) == 0.9


@pytest.mark.parametrize("rule", ["mean_teacher", "noisy_student"])
def test_follows_the_formula(rule):
    student = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(student.weight, 1.0)
    made = average(student, rule=rule)
    expected = 1.0
    for step, weight in enumerate((3.0, -1.0, 5.0), 1):
        nn.init.constant_(student.weight, weight)
        made.follow(student)
        d = {"mean_teacher": 1 - 1 / (step + 1), "noisy_student": (1 + step) / (10 + step)}[rule]
        expected = d * expected + (1 - d) * weight
        assert made.network.weight.item() == pytest.approx(expected, abs=1e-15)
    if rule == "mean_teacher":  # as long as the decay is below its end: the plain mean of the start and all steps
        assert expected == pytest.approx((1 + 3 - 1 + 5) / 4)


@pytest.mark.parametrize("rule", ["mean_teacher", "noisy_student"])
def test_decay_0_is_the_student_bit_for_bit(rule):
    student = network()
    made = average(student, decay=0.0, rule=rule)
    for step in range(3):
        move(student, step)
        made.follow(student)
        mine, theirs = made.network.state_dict(), student.state_dict()
        assert all(torch.equal(mine[k], theirs[k]) for k in theirs)


def test_buffers_are_averaged_or_left_alone():
    student = network()
    first = student[1].running_mean.clone()
    both = {rule: average(student, buffers=rule) for rule in ("average", "own")}
    move(student, 0)
    for made in both.values():
        made.follow(student)
    assert torch.allclose(both["average"].network[1].running_mean, (first + student[1].running_mean) / 2)
    assert both["average"].network[1].num_batches_tracked == 1
    assert torch.equal(both["own"].network[1].running_mean, first)
    both["own"].train()(torch.randn(6, 3))
    assert not torch.equal(both["own"].network[1].running_mean, first)  # gathered by itself


def test_resumes_bit_for_bit():
    student = network()
    made = average(student)
    for step in range(2):
        move(student, step)
        made.follow(student)
    weights, state = copy.deepcopy(student), copy.deepcopy(made.state_dict())
    resumed = average(network(5))
    resumed.load_state_dict(state)
    for step in range(2, 4):
        move(student, step)
        made.follow(student)
        move(weights, step)
        resumed.follow(weights)
    assert resumed.steps == made.steps == 4
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), resumed.state_dict().values(), strict=True))


def test_never_trains_and_never_moves_the_student():
    student = network()
    before = copy.deepcopy(student.state_dict())
    made = average(student)
    assert not any(p.requires_grad for p in made.parameters())
    assert not made(torch.randn(6, 3)).requires_grad
    made.follow(student)
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())
    assert all(p.requires_grad for p in student.parameters())


@pytest.mark.parametrize("bad", [{"decay": 1.0}, {"decay": -0.1}, {"decay": "high"}, {"rule": "ema"}, {"buffers": "copy"}])
def test_refuses(bad):
    with pytest.raises(Fault, match=r"loss\.ema" if "decay" in bad else "average"):
        average(network(), **bad)
