"""Moving averages of weights: hand numbers, limits, and a resume that continues bit for bit."""

import io

import pytest
import torch
from torch import nn

from kdx.models.ema import Average, mean_teacher_decay, noisy_student_decay


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def move(net, seed):
    """One step of something: new weights, and batch statistics from a batch."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator))
        net.train()(torch.randn(5, 3, generator=generator))


def same(one, two):
    assert one.state_dict().keys() == two.state_dict().keys()
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )


def test_mean_teacher_decay_by_hand():
    assert [mean_teacher_decay(step, 0.99) for step in (1, 2, 50, 1000)] == pytest.approx(
        [0.5, 0.666667, 0.980392, 0.99], abs=1e-6
    )


def test_noisy_student_decay_by_hand():
    """(1 + n) / (10 + n): 2/11, 3/12, 51/60, and from n = 89,990 on the paper's .9999."""
    assert [noisy_student_decay(step, 0.9999) for step in (1, 2, 50, 10**6)] == pytest.approx(
        [2 / 11, 0.25, 0.85, 0.9999], abs=1e-12
    )


def test_a_weight_by_hand():
    """From 0, the network at 6, 3 and 5: Mean Teacher's ramp first makes plain means: 3, 3, then with decay
    .5: 4.
    """
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = Average(net, rule=mean_teacher_decay, decay=0.5)
    seen = []
    for value in (6.0, 3.0, 5.0):
        nn.init.constant_(net.weight, value)
        average.update(net)
        seen.append(average.network.weight.item())
    assert seen == [3.0, 3.0, 4.0]


@pytest.mark.parametrize("rule", [mean_teacher_decay, noisy_student_decay])
def test_with_decay_0_it_is_the_network(rule):
    net = network()
    average = Average(net, rule=rule, decay=0.0)
    for seed in range(3):
        move(net, seed)
        assert not same(average.network, net)
        average.update(net)
        assert same(average.network, net)


def test_batch_statistics_are_averaged_and_counts_copied():
    net = network()
    average = Average(net, rule=lambda step, decay: decay, decay=0.75)
    before = net[1].running_mean.clone()
    move(net, 0)
    average.update(net)
    torch.testing.assert_close(average.network[1].running_mean, 0.75 * before + 0.25 * net[1].running_mean)
    assert average.network[1].num_batches_tracked == net[1].num_batches_tracked == 1


def test_it_takes_no_gradient_and_leaves_the_network_alone():
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    average = Average(net, rule=mean_teacher_decay, decay=0.9)
    move(net, 0)
    moved = {k: v.clone() for k, v in net.state_dict().items()}
    average.update(net)
    assert all(torch.equal(v, moved[k]) for k, v in net.state_dict().items()) and not torch.equal(
        before["0.weight"], moved["0.weight"]
    )
    assert all(p.requires_grad for p in net.parameters()) and not any(
        p.requires_grad for p in average.parameters()
    )


def test_a_resume_continues_bit_for_bit():
    def begin():
        net = network()
        return net, Average(net, rule=noisy_student_decay, decay=0.99)

    net, whole = begin()
    for seed in range(6):
        move(net, seed)
        whole.update(net)
    first, half = begin()
    for seed in range(3):
        move(first, seed)
        half.update(first)
    file = io.BytesIO()
    torch.save({"net": first.state_dict(), "average": half.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, resumed = begin()
    second.load_state_dict(saved["net"])
    resumed.load_state_dict(saved["average"])
    for seed in range(3, 6):
        move(second, seed)
        resumed.update(second)
    assert resumed.updates == 6 and same(resumed, whole)
