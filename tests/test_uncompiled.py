"""Optimisers and the count of operations without torch's compiler: the same numbers, no import of it."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdx.core.uncompiled import uncompiled, uncompiled_method


@pytest.mark.parametrize(
    "kind, more",
    [
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.SGD, {"fused": True, "momentum": 0.9}),
        (torch.optim.Adam, {}),
    ],
)
def test_the_steps_are_those_of_torch(kind, more):
    ended = []
    for made in (kind, uncompiled(kind)):
        torch.manual_seed(0)
        net = torch.nn.Linear(5, 3)
        optimiser = made(net.parameters(), lr=0.1, **more)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (1 + step))
        for _ in range(3):
            optimiser.zero_grad()
            net(torch.randn(7, 5)).square().mean().backward()
            optimiser.step()
            schedule.step()
        assert isinstance(optimiser, kind) and type(optimiser).__name__ == kind.__name__
        again = made(net.parameters(), lr=0.1, **more)
        again.load_state_dict(optimiser.state_dict())
        ended.append(
            [*net.parameters(), *(v for s in again.state_dict()["state"].values() for v in s.values())]
        )
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True) if isinstance(a, torch.Tensor))
    assert all(not p.requires_grad for p in ended[1][2:] if isinstance(p, torch.Tensor))


def test_what_torch_keeps_for_the_method_is_as_before():
    with FlopCounterMode(display=False) as counter:
        method = type(counter.mode).__torch_dispatch__
        before = dict(vars(method.__wrapped__))
        with uncompiled_method(method):
            torch.ones(2, 3) @ torch.ones(3, 4)
        assert vars(method.__wrapped__) == before and counter.get_total_flops() == 2 * 2 * 3 * 4


def test_the_compiler_is_not_imported():
    code = """
import sys, torch
from kdx.core.uncompiled import uncompiled
from kdx.models.size import flops
net = torch.nn.Linear(3, 2)
for kind in (torch.optim.AdamW, torch.optim.SGD):
    one = uncompiled(kind)(net.parameters(), lr=.1, fused=True)
    net(torch.ones(1, 3)).sum().backward()
    one.step(), one.zero_grad(), one.load_state_dict(one.state_dict())
assert flops(net, torch.ones(1, 3)) == 12
sys.exit("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
