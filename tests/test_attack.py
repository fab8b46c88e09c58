"""Adversarial examples by hand, against what a linear model allows, and in a run; loss=adversarial_kd at its
limits.
"""

import json

import pytest
import torch
from test_losses import batch, network, parts
from torch import nn

from kdx.cli import main
from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.attack import ascend, box, usual_step
from kdx.core.errors import UserError
from kdx.core.types import Split
from kdx.data.views.attacks import FGSM, PGD
from kdx.methods.losses.adversarial_kd import AdversarialKD, picture_rows
from kdx.methods.losses.kd import KD
from kdx.pipeline.stages.measuring import Measure
from kdx.pipeline.stages.under_shift import measured_under_shifts, times_shown
from kdx.report.run import shifts
from kdx.store.component import Component
from kdx.tasks.classification import Classification
from kdx.training.runtime import Runtime

T = torch.tensor
CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=60)
KEYS = dict(temperature=2.0, alpha=0.5, epsilon=0.1, steps=3, step=None)


def linear(x):
    """The loss of rows whose slope is (1, -2, 0)."""
    return x @ T([1.0, -2.0, 0.0])


def test_one_step_by_hand():
    x = T([[0.5, 0.5, 0.5], [0.95, 0.02, 1.0]])
    found = ascend(x, linear, epsilon=0.1, step=0.1, steps=1)
    assert found.tolist() == [pytest.approx([0.6, 0.4, 0.5]), pytest.approx([1.0, 0.0, 1.0])]
    assert not found.requires_grad and torch.equal(ascend(x, linear, epsilon=0.0, step=0.1, steps=4), x)


def test_several_steps_stay_in_the_box_and_reach_its_corner():
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    low, high = box(x, 0.15)
    begin = low + (high - low) * torch.rand(20, 3)
    found = ascend(x, linear, epsilon=0.15, step=usual_step(0.15, 5), steps=5, begin=begin)
    assert (found - x).abs().max() <= 0.15 + 1e-6 and 0 <= found.min() and found.max() <= 1
    assert torch.equal(found[:, 0], high[:, 0]) and torch.equal(found[:, 1], low[:, 1])
    short = ascend(x, linear, epsilon=0.15, step=0.01, steps=2, begin=x + 9)
    assert (short <= high).all(), "a beginning outside is brought in"


class Sum(nn.Module):
    """Two classes by the sum of the pixels less a half of them."""

    def forward(self, x):
        return torch.stack([0 * x.sum((1, 2, 3)), x.sum((1, 2, 3)) - 8], 1)


def split(rows=40):
    pixels_of = torch.rand(rows, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    stored = (pixels_of * 255).round().to(torch.uint8)
    truth = (stored.float().sum((1, 2, 3)) / 255 > 8).long()
    return Split("test", stored, truth)


@pytest.mark.parametrize("attack", [FGSM(epsilons=[0.0, 0.05]), PGD(epsilons=[0.0, 0.05], steps=4)])
def test_robust_accuracy_of_a_linear_model_is_the_share_with_a_margin(attack):
    """Within epsilon its score moves by epsilon times the pixels that may move so far, and not by more."""
    rows, task = split(), Classification(classes=["a", "b"])
    measure = Measure(task, {}, CPU)
    spec = {"_target_": f"kdx.data.views.attacks.{type(attack).__name__}", "epsilons": [0.0, 0.05]}
    spec |= {"steps": 4} if isinstance(attack, PGD) else {}
    found = measured_under_shifts([("it", Component(spec))], 0, {"student": Sum()}, rows, measure)
    assert found["shifts"] == {} and list(found["attacks"]) == ["it 0", "it 0.05"]
    x = rows.inputs.float() / 255
    low, high = box(x, 0.05)
    worst = torch.where(rows.truth > 0, low.sum((1, 2, 3)), high.sum((1, 2, 3))) - 8
    expected = ((worst > 0) == (rows.truth > 0)).float().mean().item()
    assert found["attacks"]["it 0"]["student"] == 1 and 0 < expected < 1
    assert found["attacks"]["it 0.05"]["student"] == pytest.approx(expected)
    assert times_shown([("it", Component(spec))]) == 2 * (1 + 3 * attack.steps)


class NoSlope(nn.Module):
    def forward(self, x):
        return torch.zeros(len(x), 2)


def test_a_network_without_a_gradient_has_no_value_and_a_sentence():
    measure = Measure(Classification(classes=["a", "b"]), {}, CPU)
    spec = {"_target_": "kdx.data.views.attacks.FGSM", "epsilons": [0.1]}
    shown = measured_under_shifts(
        [("fgsm", Component(spec))], 0, {"teacher": NoSlope(), "student": Sum()}, split(), measure
    )
    assert list(shown["attacks"]["fgsm 0.1"]) == ["student"]
    of = {
        role: {"model": "m", "last": {"test": {"accuracy": 0.9, "n": 40}}} for role in ("teacher", "student")
    }
    results = {**of, "classes": ["a", "b"], "shifts": {}, "attacks": {"fgsm 0.1": {"student": 0.4}}}
    header, rows = shifts.shift_cells(results, kind="attacks")
    assert (
        header[1:] == ["clean", "fgsm 0.1"]
        and rows[0][1:] == ["90.0", "-"]
        and rows[1][1:] == ["90.0", "40.0"]
    )
    lost, lacking = shifts.shift_sentences(results)
    assert "Attacked test pictures, mean of 1" in lost and "student -50.0" in lost
    assert lacking == "The teacher has no gradient, and was not attacked."


def streams():
    return {"labelled": batch("labelled"), "unlabelled": batch("unlabelled", 16, 1, labels=False)}


@pytest.mark.parametrize("pool", [True, False])
def test_epsilon_0_is_kd_bit_for_bit(pool):
    given = streams() if pool else {"labelled": batch("labelled")}
    kept = []
    for made in (
        AdversarialKD(parts(network()), **{**KEYS, "epsilon": 0.0}),
        KD(parts(network()), temperature=2.0, alpha=0.5),
    ):
        made.train()
        optimiser = torch.optim.AdamW(made.student.parameters(), 5e-3)
        for step in range(4):
            optimiser.zero_grad()
            made(given, step / 4).loss.backward()
            optimiser.step()
        kept.append([p.detach() for p in made.student.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*kept, strict=True))


def test_the_teacher_answers_the_clean_row_and_the_student_the_attacked_one():
    asked = []
    student, given = network(), streams()
    made = AdversarialKD(parts(student), **KEYS)
    teacher = made.teacher
    made.teacher = lambda b: asked.append(b.views["main"].clone()) or teacher(b)
    seen = []
    student.register_forward_hook(lambda module, x, y: seen.append((module.training, x[0].detach().clone())))
    made.train()
    found = made(given, 0.0)
    assert all(torch.equal(x, given[name].views["main"]) for x, name in zip(asked, given, strict=True))
    clean, attacked = seen[0][1], seen[-1][1]
    assert [training for training, _ in seen] == [True, False, False, False, True], "attacked in eval mode"
    assert 0 < (attacked - clean).abs().max() <= 0.1 + 1e-6 and 0 <= attacked.min() and attacked.max() <= 1
    torch.manual_seed(0)
    student.eval()
    answers = torch.cat([teacher(b) for b in given.values()])
    plain = made.task.match(student(clean), answers, 2.0).mean()
    moved = made.task.match(student(attacked), answers, 2.0).mean()
    assert moved > plain and list(found.terms) == ["distillation", "labels"]


def apart_when_attacked(epsilon):
    """How far a student that learned so is from its teacher's clean answers on rows moved by 0.1."""
    torch.manual_seed(0)
    given = {"labelled": batch("labelled", 64)}
    made = AdversarialKD(parts(network()), **{**KEYS, "alpha": 1.0, "epsilon": epsilon})
    optimiser = torch.optim.AdamW(made.student.parameters(), 5e-3)
    for step in range(30):
        optimiser.zero_grad()
        made(given, step / 30).loss.backward()
        optimiser.step()
    student, said = made.student.eval(), made.teacher(given["labelled"])

    def apart(x):
        return made.task.match(student(x), said, 1.0)

    return (
        apart(ascend(given["labelled"].views["main"], apart, epsilon=0.1, step=0.05, steps=5)).mean().item()
    )


def test_it_makes_a_student_more_robust_than_kd():
    assert apart_when_attacked(0.1) < apart_when_attacked(0.0)


@pytest.mark.parametrize(
    "key, value",
    [("epsilon", -0.1), ("epsilon", 2), ("steps", 0), ("step", 0), ("alpha", 2), ("temperature", 0)],
)
def test_settings_out_of_range_are_named(key, value):
    with pytest.raises(UserError, match=rf"loss\.{key} must be"):
        AdversarialKD(parts(network()), **{**KEYS, key: value})


def test_bad_words_are_refused_before_any_work():
    with pytest.raises(UserError, match="moves the values of pictures"):
        picture_rows(torch.zeros(3, 4))
    for words, said in (
        (["shift=[pgd]", "shift.pgd.epsilons=[-0.1]"], "shift.pgd.epsilons must be"),
        (["shift=[fgsm]", "shift.fgsm.epsilons=0.1"], "must be a list of numbers"),
        (["shift=[pgd]", "shift.pgd.steps=0"], "shift.pgd.steps must be"),
        (
            ["shift=[pgd]", "dataset=wine"],
            "shift.pgd changes pictures, and this data set holds rows of tables",
        ),
        (["shift=[corruptions]", "dataset=wine"], "shift: 21 more of its values are wrong"),
        (["loss=adversarial_kd", "dataset=wine"], "moves the values of pictures"),
        (["pool=shifted", "pool.by=[fgsm]"], "pool.by: fgsm moves rows against a network"),
        (["loss=adversarial_kd", "loss.epsilon=-1"], "loss.epsilon must be"),
    ):
        order, errors = examine_config(check_words(["device=cpu", *words]))
        found = [*errors, *inspect(order)]
        assert any(said in one for one in found), (words, found)


@pytest.mark.slow
def test_a_run_shows_clean_and_robust_accuracy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["device=cpu", "device.threads=1", "teacher_pretrain.steps=30", "student_train.steps=5"]
    words += ["loss=adversarial_kd", "loss.steps=2", "shift=[pgd,blur]", "shift.pgd.epsilons=[0,0.1]"]
    words += ["shift.pgd.steps=2", "teacher=cnn_small"]
    assert main(["plan", *words]) == 0
    assert main(["train", *words, "hydra.run.dir=one"]) == 0
    found = json.loads((tmp_path / "one/run.json").read_text())["results"]
    assert list(found["attacks"]) == ["pgd 0", "pgd 0.1"] and list(found["shifts"]) == ["blur"]
    for role in ("teacher", "baseline", "student"):
        assert found["attacks"]["pgd 0"][role] == found[role]["last"]["test"]["accuracy"]
        assert found["attacks"]["pgd 0.1"][role] <= found["attacks"]["pgd 0"][role]
    assert "Attacked test pictures" in capsys.readouterr().out
    text = (tmp_path / "one/report.md").read_text()
    assert "pgd 0.1" in text and "figures/attacks.png" in text
