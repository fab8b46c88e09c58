"""The loop: schedules, gradient norms, non-finite terms, clipping; and a golden run that a refactor must not
move.
"""

import itertools
import math

import pytest
import torch
from tasks import classification
from torch import nn

from kdx.config.kinds import check_target
from kdx.core.errors import UserError
from kdx.core.types import Batch, Objective, Outcome, Parts
from kdx.methods.losses.kd import KD
from kdx.methods.losses.supervised import Supervised
from kdx.models.cnn import cnn
from kdx.store.component import Component
from kdx.training.length import length, passes, shares, stored_bytes, total_steps
from kdx.training.loop import Loop, NonFinite, check_groups, fit, gradient_norms
from kdx.training.runtime import Runtime
from kdx.training.settings import Training

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=60)
BASE = {
    "epochs": None,
    "steps": None,
    "length": "100 steps",
    "batch_size": 8,
    "rows": None,
    "labelled_share": None,
    "optimiser": "adamw",
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0,
    "milestones": [0.5],
    "clip": None,
    "precision": "fp32",
    "patience": None,
    "target": None,
    "evaluate_every": None,
    "augment": [],
    "strong_augment": [],
}


def settings(**more):
    return Training(**{**BASE, **more})


def factors(steps=100, **more):
    training = settings(**more)
    return [training.factor(s, steps) for s in range(steps)]


def test_schedules_by_hand():
    assert factors() == [1.0] * 100
    assert factors(warmup=4)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors(warmup=0.04)[:5] == factors(warmup=4)[:5]
    cosine = factors(schedule="cosine")
    assert (
        cosine[0] == 1
        and cosine[50] == pytest.approx(0.5)
        and cosine[99] == pytest.approx((1 + math.cos(0.99 * math.pi)) / 2)
    )
    assert factors(schedule="step", milestones=[0.5, 0.75])[49:51] == [1, 0.1]
    assert factors(schedule="step", milestones=[0.5, 0.75])[75] == pytest.approx(0.01)
    cycle = factors(schedule="one_cycle")
    assert (
        cycle[0] == pytest.approx(1 / 25)
        and cycle[30] == pytest.approx(1)
        and cycle[99] < 0.01
        and max(cycle) <= 1
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 0),
        ("lr", "x"),
        ("batch_size", 0),
        ("optimiser", "adm"),
        ("schedule", "cos"),
        ("epochs", 0),
        ("warmup", 1.5),
        ("clip", 0),
        ("precision", "fp16"),
        ("patience", 0),
        ("labelled_share", 1),
        ("rows", 0),
        ("milestones", [2]),
        ("length", "forever"),
        ("weight_decay", -1),
    ],
)
def test_training_refuses(key, value):
    with pytest.raises(UserError, match=key):
        settings(**{key: value})


@pytest.mark.parametrize("value", [1.5, 0, -0.5, float("nan"), "high"])
def test_a_target_is_a_value_that_the_metric_can_have(value):
    spec = {"_target_": "kdx.training.settings.Training", "target": value}
    with pytest.raises(UserError, match="student_train.target must be"):
        check_target("student_train", Component(spec), classification(3))
    check_target("student_train", Component({**spec, "target": 1.0}), classification(3))


def test_lengths_shares_and_passes():
    spec = {"epochs": None, "steps": None, "length": "200 epochs", "batch_size": 64}
    assert length(spec, "n") == (200, "epochs") and total_steps(spec, 1000, "n") == math.ceil(200 * 1000 / 64)
    assert total_steps({**spec, "steps": 7}, 1000, "n") == 7
    assert total_steps({**spec, "epochs": 1}, 65, "n") == 2
    with pytest.raises(UserError, match="both given"):
        length({**spec, "epochs": 1, "steps": 1}, "n")
    with pytest.raises(UserError, match="epochs must be at least 1"):
        length({**spec, "epochs": 0}, "n")
    assert shares(64, {"labelled": 100, "unlabelled": 997}, None) == {"labelled": 6, "unlabelled": 58}
    assert shares(64, {"labelled": 100, "unlabelled": 997}, 0.25) == {"labelled": 16, "unlabelled": 48}
    assert shares(8, {"labelled": 1, "unlabelled": 10**6}, None) == {"labelled": 1, "unlabelled": 7}
    assert shares(64, {"labelled": 100, "unlabelled": 0}, None) == {"labelled": 64}
    assert passes(800, {"labelled": 6, "unlabelled": 58}, {"labelled": 100, "unlabelled": 997}) == {
        "labelled": 48,
        "unlabelled": 47,
    }
    assert stored_bytes(
        {"labelled": 100, "unlabelled": 997}, {"labelled": 48, "unlabelled": 47}, 2 * 10
    ) == 2 * 10 * (4800 + 997 * 47)


def batches(rows=8, classes=3, names=("labelled",)):
    generator = torch.Generator().manual_seed(5)
    while True:
        yield {
            n: Batch(
                n,
                torch.arange(rows),
                torch.ones(rows),
                {"main": torch.rand(rows, 1, 8, 8, generator=generator)},
                torch.randint(classes, (rows,), generator=generator) if n == "labelled" else None,
            )
            for n in names
        }


def small():
    torch.manual_seed(3)
    return cnn(
        shape=(1, 8, 8), classes=3, widths=[4], hidden=8, batch_norm=True, dropout=0.2, stochastic_depth=0.0
    )


def run(objective, training, steps=20, stream=None, start=0, after=lambda step: False, log_every=1):
    logged = []
    optimiser = training.build_optimiser(check_groups(objective))
    schedule = training.build_schedule(optimiser, steps)
    loop = Loop(
        steps=steps,
        optimiser=optimiser,
        schedule=schedule,
        clip=training.clip,
        precision="fp32",
        runtime=CPU,
        refresh_every=5,
        log_every=log_every,
    )
    done = fit(
        objective,
        stream or batches(),
        loop,
        start=start,
        log=lambda s, v: logged.append((s, dict(v))),
        after=after,
    )
    return done, logged


def objective(loss=Supervised, **more):
    return loss(Parts(small(), small, lambda b: torch.zeros(len(b), 3), [], None, classification(3)), **more)


def test_a_golden_run_of_20_steps():
    """Losses of 20 steps of KD on made-up data. A refactor must not move them; a change of the method must
    say so here.
    """
    torch.manual_seed(11)
    _, logged = run(
        objective(KD, temperature=4, alpha=0.9),
        settings(schedule="cosine", weight_decay=0.01),
        stream=batches(names=("labelled", "unlabelled")),
    )
    losses = [v["train/loss"] for _, v in logged]
    assert losses[::5] + losses[-1:] == pytest.approx(GOLDEN, rel=1e-4)


GOLDEN = [0.161571, 0.113137, 0.112317, 0.117515, 0.109879]


def test_the_norm_of_each_term_is_logged_and_right():
    one = objective()
    _, logged = run(one, settings(lr=1e-9), steps=1)
    one.zero_grad()
    assert logged[0][1]["gradient/labels"] > 0
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    norms = gradient_norms({"square": (weight**2).sum(), "nothing": torch.tensor(1.0)}, [weight])
    assert norms == {"square": pytest.approx(10.0), "nothing": 0.0}


def test_norms_do_not_change_what_is_learned():
    def weights(log_every):
        torch.manual_seed(0)
        one = objective()
        run(one, settings(), steps=10, log_every=log_every)
        return one.student.state_dict()

    often, seldom = weights(1), weights(100)
    assert all(torch.equal(often[k], seldom[k]) for k in often)


class Explodes(Objective):
    uses = ("labelled",)

    def forward(self, streams, progress):
        x = self.student(streams["labelled"].views["main"]).mean()
        return Outcome(terms={"good": x, "bad": x * (float("nan") if progress >= 0.5 else 1.0)})


def test_a_term_that_is_not_finite_stops_with_step_and_name_and_leaves_the_weights_alone():
    one = Explodes(Parts(small(), small, None, [], None, classification(3)))
    with pytest.raises(NonFinite, match="step 5: term 'bad' = nan"):
        run(one, settings(), steps=10)
    assert all(torch.isfinite(p).all() for p in one.parameters())


def test_clipping_bounds_the_step():
    def moved(clip):
        one = objective()
        before = torch.cat([p.detach().clone().flatten() for p in one.parameters()])
        run(one, settings(optimiser="sgd", lr=1.0, momentum=0.0, clip=clip), steps=1)
        return (torch.cat([p.detach().flatten() for p in one.parameters()]) - before).norm().item()

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3) and moved(None) > 0.05


def test_the_loop_stops_when_asked_and_keeps_the_student_training():
    one = objective()
    done, logged = run(one, settings(), after=lambda step: step == 6)
    assert done == 7 and [s for s, _ in logged] == list(range(7)) and one.student.training


def test_refresh_is_called_on_schedule_and_logged():
    class Refreshed(Supervised):
        calls = 0

        def refresh(self):
            Refreshed.calls += 1
            return {"calls": float(Refreshed.calls)}

    _, logged = run(objective(Refreshed), settings(), steps=12)
    assert [s for s, v in logged if "refresh/calls" in v] == [0, 5, 10] and Refreshed.calls == 3


def test_loader_order_does_not_matter_to_fit():
    stream = list(itertools.islice(batches(), 20))
    assert run(objective(), settings(), stream=iter(stream))[0] == 20
