"""Features by hooks: of every model, once for each pass, never a stale one."""

import copy

import pytest
import torch
from test_models import BIG, NAMES, make
from torch import nn

from kdx.core.errors import UserError
from kdx.models.tap import Tap, penultimate


@pytest.mark.parametrize("name", NAMES)
def test_penultimate_is_what_the_logits_are_linear_in(name):
    """The logits must be the last linear layer's answer to the feature, and to nothing else."""
    with torch.device("meta" if name in BIG else "cpu"):
        net = make(name, (3, 32, 32), 7).eval()
        last = [part for part in net.modules() if isinstance(part, nn.Linear)][-1]
        with torch.no_grad(), penultimate(net) as tap:
            logits = net(torch.rand(2, 3, 32, 32))
            feature = tap.take()
    assert feature.shape == (2, last.in_features) and last.out_features == 7
    if name not in BIG:
        assert torch.equal(nn.functional.linear(feature, last.weight, last.bias), logits) and not torch.equal(
            feature[0], feature[1]
        )


def test_a_tap_hands_over_once_and_never_a_stale_feature():
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    tap = Tap(net[1], at="output")
    with pytest.raises(RuntimeError, match="the output of ReLU was taken already, or nothing has passed"):
        tap.take()
    first, second = torch.rand(4, 3), torch.rand(4, 3)
    made = net(first)
    assert tap.take() is made
    with pytest.raises(RuntimeError, match="call the network before each take"):
        tap.take()
    net(first)
    made = net(second)  # one that was never taken does not linger
    assert tap.take() is made


def test_a_tap_sees_inputs_or_outputs_with_their_gradient():
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    inside, outside = Tap(net[1], at="input"), Tap(net[0], at="output")
    net(torch.rand(4, 3))
    feature = inside.take()
    assert feature is outside.take()
    feature.sum().backward()
    assert net[0].weight.grad is not None and net[2].weight.grad is None
    with torch.no_grad():
        net(torch.rand(4, 3))
    assert not inside.take().requires_grad


def test_a_copy_is_not_tapped_and_can_be_made_with_a_feature_kept():
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    tap = Tap(net[1], at="output")
    made = net(torch.rand(4, 3))
    copied = copy.deepcopy(net)
    copied(torch.rand(4, 3))
    assert tap.take() is made


def test_a_closed_tap_leaves_no_hook():
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with Tap(net[1], at="output") as tap:
        net(torch.rand(4, 3))
    with pytest.raises(RuntimeError):
        tap.take()
    net(torch.rand(4, 3))
    with pytest.raises(RuntimeError):
        tap.take()
    assert not net[1]._forward_hooks


def test_what_cannot_be_tapped_is_said():
    with pytest.raises(UserError, match="no linear layer at its end .* such as loss.features=fitnet"):
        penultimate(nn.ReLU())
    with pytest.raises(ValueError, match="given: 'middle'"):
        Tap(nn.ReLU(), at="middle")

    class Two(nn.Module):
        def forward(self, x):
            return x, x

    two = Two()
    Tap(two, at="output")
    with pytest.raises(RuntimeError, match="the output of Two is no tensor but tuple"):
        two(torch.rand(1))
