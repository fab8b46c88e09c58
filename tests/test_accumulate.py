"""A batch in parts: the same step as the whole of it, or refused."""

import pytest
import torch
from torch import nn

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.types import Batch, Objective, Outcome, Parts
from kdx.tasks.classification import Classification
from kdx.training.loop import Loop, check_accumulate, fit
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=300)
TASK = Classification(classes=["a", "b", "c"])


class Two(Objective):
    """Two terms, both means over rows, and a monitor of each kind. called: how often one was asked for."""

    called = 0

    uses = ("labelled",)

    def forward(self, streams, progress):
        batch = streams["labelled"]
        said = self.student(batch.views["main"])
        return Outcome(
            {"labels": self.task.loss(said, batch.y).mean(), "small": said.square().mean()},
            {
                "mean": said.detach().mean(),
                "unlabelled/sum": said.detach().sum(1),
                "asked": lambda: self.ask(said),
            },
        )

    def ask(self, said):
        Two.called += 1
        return said.mean()


def learned(accumulate, steps=4, rows=12, log_every=1):
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    objective = Two(Parts(student, lambda: student, None, [], None, TASK))
    draw = torch.Generator().manual_seed(1)
    batches = [
        {
            "labelled": Batch(
                "labelled",
                torch.arange(rows),
                torch.ones(rows, dtype=torch.int64),
                {"main": torch.randn(rows, 5, generator=draw)},
                torch.randint(3, (rows,), generator=draw),
            )
        }
        for _ in range(steps)
    ]
    optimiser = torch.optim.SGD(student.parameters(), 0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0)
    loop = Loop(steps, optimiser, schedule, None, "fp32", CPU, 100, log_every, accumulate)
    logged, kept = [], []
    fit(
        objective,
        batches,
        loop,
        start=0,
        log=lambda step, values: logged.append(values),
        after=lambda step: False,
        keep=lambda streams, outcome: kept.append(outcome),
    )
    return student.state_dict(), logged, kept


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_parts_of_a_batch_make_the_step_of_the_whole(parts):
    whole, logged, kept = learned(1)
    found, also, held = learned(parts)
    for name, weights in whole.items():
        assert torch.allclose(found[name], weights, atol=1e-6), name
    for here, there in zip(logged, also, strict=True):
        assert there == pytest.approx(here, abs=1e-5)
    assert "gradient/labels" in logged[0]
    for here, there in zip(kept, held, strict=True):
        rows = there.monitors["unlabelled/sum"]
        assert rows.shape == (12,) and torch.allclose(rows, here.monitors["unlabelled/sum"], atol=1e-5)
        assert not there.terms["labels"].requires_grad


@pytest.mark.parametrize("parts", [1, 3])
def test_a_monitor_that_is_a_function_is_called_in_logged_steps_alone(monkeypatch, parts):
    monkeypatch.setattr(Two, "called", 0)
    _, logged, kept = learned(parts, steps=6, log_every=4)
    assert Two.called == 3 * parts  # steps 0, 4 and 5, the last
    for values in logged:
        assert values["train/monitor/asked"] == pytest.approx(values["train/monitor/mean"], abs=1e-6)
    assert ["asked" in outcome.monitors for outcome in kept] == [True, False, False, False, True, True]
    assert all("unlabelled/sum" in outcome.monitors for outcome in kept)


def test_what_cannot_be_taken_in_parts():
    student = nn.Linear(2, 3)
    objective = Two(Parts(student, lambda: student, None, [], None, TASK))
    with pytest.raises(UserError, match="4 takes parts of one size, and a batch holds 10 rows of 'labelled'"):
        check_accumulate("student_train.accumulate", 4, objective, student, {"labelled": 10})
    normed = nn.Sequential(student, nn.BatchNorm1d(3))
    with pytest.raises(UserError, match="batch normalisation takes its statistics over all of it"):
        check_accumulate("student_train.accumulate", 2, objective, normed, {"labelled": 10})
    check_accumulate("student_train.accumulate", 1, objective, normed, {"labelled": 7})
    objective.whole_batch = True
    with pytest.raises(UserError, match="the terms of its loss are no means over its rows"):
        check_accumulate("student_train.accumulate", 2, objective, student, {"labelled": 10})


def training(*words):
    config, errors, _ = compose.examine_words([*words])
    assert not errors
    return wire(config).experiment.student_train


def test_one_part_is_in_no_key():
    assert "accumulate" not in training().spec
    assert training("student_train.accumulate=1") == training()
    assert training("student_train.accumulate=2").spec["accumulate"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["student_train.accumulate=0"], "student_train.accumulate must be at least 1; given: 0"),
        (["student_train.accumulate=x"], "student_train.accumulate must be a whole number; given: 'x'"),
        (
            ["student=resnet8x4", "student_train.accumulate=2"],
            "student_train.accumulate=2 passes a batch through the network in",
        ),
        (["teacher_pretrain.accumulate=2"], "teacher_pretrain.accumulate=2 passes a batch through the"),
        (["student=mlp_small", "student_train.accumulate=5"], "5 takes parts of one size, and a batch holds"),
    ],
)
def test_it_is_refused_before_work(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
