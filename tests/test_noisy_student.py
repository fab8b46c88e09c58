"""Noisy Student and self-training: hand numbers, limits, what one word brings along, freezing, and the
average that is handed on.
"""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from tasks import classification
from torch import nn
from torch.autograd import gradcheck

from kdx.config import compose
from kdx.core.errors import Caution, UserError
from kdx.core.types import Batch, Frozen, Parts
from kdx.methods.losses.noisy_student import NoisyStudent, draw_frozen, layers, pseudo_label_loss
from kdx.methods.losses.soft import Soft
from kdx.models.cnn import cnn
from kdx.models.size import parameters
from kdx.store.component import Component

SHAPE, CLASSES = (1, 8, 8), 3
ONE = Component({"_target_": "kdx.methods.weights.one.One"})
NOTHING = compose.check_words(["loss=noisy_student"])["loss"]["features"]
PLAIN = {
    "hard": False,
    "temperature": 1.0,
    "smoothing": 0.0,
    "unlabel_ratio": 1.0,
    "batch": "ratio",
    "joint": True,
    "noise": "both",
    "freeze": 0.0,
    "ema": None,
    "weights": ONE,
    "features": NOTHING,
}


def network(width=4, seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return cnn(
        shape=SHAPE,
        classes=CLASSES,
        widths=[width],
        hidden=8,
        batch_norm=True,
        dropout=dropout,
        stochastic_depth=0.0,
    )


def batch(name, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    clean, noisy = torch.rand(2, rows, *SHAPE, generator=generator)
    y = torch.randint(CLASSES, (rows,), generator=generator) if name == "labelled" else None
    return Batch(
        name, torch.arange(rows), torch.ones(rows, dtype=torch.int64), {"main": noisy, "clean": clean}, y
    )


def streams():
    return {"labelled": batch("labelled", 4, 1), "unlabelled": batch("unlabelled", 12, 2)}


def parts(student, **more):
    teacher = Frozen(network(seed=7))
    return Parts(
        student, network, lambda b: teacher(b.views["clean"]), [], None, classification(CLASSES), **more
    )


def made(student=None, **changes):
    return NoisyStudent(parts(student or network()), **{**PLAIN, **changes})


# Hand numbers


def logits_of_loss(value):
    """Two logits whose cross-entropy for class 0 is `value`."""
    return torch.tensor([[-math.log(math.expm1(value)), 0.0]])


def test_the_loss_is_a_sum_weighted_by_the_ratio():
    """Labels 1.2, pool 0.9, ratio 3: 3.9 (and not .975, the mean over all rows): methods.md, section 5."""

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.known, self.own = nn.Parameter(logits_of_loss(1.2)), nn.Parameter(logits_of_loss(0.9))

        def forward(self, x):
            return torch.cat([self.known, self.own, self.own, self.own])

    sure = torch.tensor([[60.0, 0.0]])
    prepared = Parts(Table(), Table, lambda b: sure.expand(len(b), 2), [], None, classification(2))
    pictures = torch.zeros(3, 1, 1, 1)
    given = {
        "labelled": Batch(
            "labelled", torch.arange(1), torch.ones(1), {"main": pictures[:1]}, torch.tensor([0])
        ),
        "unlabelled": Batch("unlabelled", torch.arange(3), torch.ones(3), {"main": pictures}, None),
    }
    for hard in (False, True):
        outcome = NoisyStudent(prepared, **{**PLAIN, "unlabel_ratio": 3.0, "hard": hard})(given, 0.0)
        assert outcome.terms["labels"].item() == pytest.approx(1.2, abs=1e-6)
        assert outcome.terms["pool"].item() == pytest.approx(2.7, abs=1e-6)
        assert outcome.loss.item() == pytest.approx(3.9, abs=1e-6)


def test_pseudo_label_loss_by_hand():
    """Student (log 2, 0): p = (2/3, 1/3). Teacher (log 9, 0): q = (.9, .1), at T=2 (.75, .25); hard with
    smoothing .2 is (.9, .1) too.
    """
    student, teacher = torch.tensor([[math.log(2), 0.0]]), torch.tensor([[math.log(9), 0.0]])

    def found(**given):
        return pseudo_label_loss(
            student, teacher, **{"hard": False, "temperature": 1.0, "smoothing": 0.0, **given}
        ).item()

    own = (math.log(1.5), math.log(3))
    assert found() == pytest.approx(0.9 * own[0] + 0.1 * own[1], abs=1e-6)
    assert found(temperature=2.0) == pytest.approx(0.75 * own[0] + 0.25 * own[1], abs=1e-6)
    assert found(smoothing=0.2) == found()  # soft pseudo-labels are not smoothed
    assert found(hard=True) == pytest.approx(own[0], abs=1e-6)
    assert found(hard=True, smoothing=0.2) == pytest.approx(0.9 * own[0] + 0.1 * own[1], abs=1e-6)
    assert found(hard=True, temperature=50.0) == found(hard=True)


@pytest.mark.parametrize("hard", [False, True])
def test_gradients_in_double_precision(monkeypatch, hard):
    # the losses work in float32; here they keep float64
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    student, teacher = (
        torch.randn(4, 5, dtype=torch.float64, requires_grad=True),
        torch.randn(4, 5, dtype=torch.float64),
    )
    assert gradcheck(
        lambda s: pseudo_label_loss(s, teacher, hard=hard, temperature=2.0, smoothing=0.1), (student,)
    )


# Limits


@pytest.mark.parametrize("hard", [False, True])
def test_without_noise_it_is_self_training(hard):
    """No noise, no smoothing, no average: with the ratio that the batch has, the two losses differ by the
    factor B / labelled rows.
    """
    student = network()
    noisy = made(student, hard=hard, unlabel_ratio=3.0)(streams(), 0.0)  # 4 labelled rows, 12 of the pool
    plain = Soft(parts(student), hard=hard, weights=ONE, features=NOTHING)(streams(), 0.0)
    for term in ("labels", "pool"):
        assert noisy.terms[term].item() == pytest.approx(4 * plain.terms[term].item(), rel=1e-6)


def test_weights_multiply_each_row_of_the_pool():
    half = Component({"_target_": "kdx.methods.weights.constant.Constant", "value": 0.5})
    whole, halved = made()(streams(), 0.0), made(weights=half)(streams(), 0.0)
    assert halved.terms["pool"].item() == pytest.approx(whole.terms["pool"].item() / 2)
    assert halved.monitors["unlabelled/weight"].tolist() == [0.5] * 12
    assert halved.terms["labels"].item() == whole.terms["labels"].item()


@pytest.mark.parametrize(
    "noise, noised",
    [("both", "labelled unlabelled"), ("labelled", "labelled"), ("unlabelled", "unlabelled"), ("none", "")],
)
def test_noise_can_be_turned_off_for_labels_and_pool(noise, noised):
    """A student without batch normalisation answers each row by itself, so what it was shown shows in each
    term.
    """
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    given = streams()
    shown = {
        name: replace(b, views={"main": b.views["main" if name in noised.split() else "clean"]})
        for name, b in given.items()
    }
    expected = pseudo_label_loss(
        student(shown["unlabelled"].views["main"]),
        parts(student).teacher(given["unlabelled"]),
        hard=False,
        temperature=1.0,
        smoothing=0.0,
    ).mean()
    outcome = made(student, noise=noise)(given, 0.0)
    torch.testing.assert_close(outcome.terms["pool"], expected)
    labels = nn.functional.cross_entropy(student(shown["labelled"].views["main"]), given["labelled"].y)
    torch.testing.assert_close(outcome.terms["labels"], labels)


def test_a_joint_pass_normalises_labels_and_pool_together():
    """In train mode they differ by batch normalisation only: in eval mode not at all."""
    student = network()
    joint, apart = made(student), made(student, joint=False)
    assert joint(streams(), 0.0).loss.item() != pytest.approx(apart(streams(), 0.0).loss.item(), abs=1e-4)
    student.eval()
    assert joint(streams(), 0.0).loss.item() == pytest.approx(apart(streams(), 0.0).loss.item(), abs=1e-6)


def test_ratio_0_leaves_the_labels_alone():
    assert made(unlabel_ratio=0.0)(streams(), 0.0).terms["pool"].item() == 0


# Freezing


def test_layers_are_the_modules_with_parameters_of_their_own():
    assert layers(network()) == [
        ["stage1.0.weight"],
        ["stage1.1.weight", "stage1.1.bias"],
        ["head.1.weight", "head.1.bias"],
        ["head.4.weight", "head.4.bias"],
    ]


def test_each_layer_is_frozen_as_often_as_asked():
    torch.manual_seed(0)
    draws = [draw_frozen(5, 0.3) for _ in range(2000)]
    often = torch.tensor([[layer in d for layer in range(5)] for d in draws]).float().mean(0)
    assert (often - 0.3).abs().max() < 0.04  # four standard errors; all five at once are 0.2% of the draws
    assert max(map(len, (draw_frozen(3, 0.999) for _ in range(50)))) == 2  # never all of them


def test_a_frozen_layer_takes_no_step_and_the_others_do(monkeypatch):
    from kdx.methods.losses import noisy_student

    monkeypatch.setattr(noisy_student, "draw_frozen", lambda count, rate: [0, 3])
    objective = made(freeze=0.5, hard=True)
    before = {k: v.clone() for k, v in objective.student.state_dict().items()}
    # its weight decay moves whatever has a gradient, even a zero one
    optimiser = torch.optim.AdamW(objective.student.parameters(), 0.1)
    objective(streams(), 0.0).loss.backward()
    optimiser.step()
    moved = {name for name, p in objective.student.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"stage1.1.weight", "stage1.1.bias", "head.1.weight", "head.1.bias"}


def test_freezing_changes_no_value():
    student = network()
    torch.manual_seed(3)
    free, frozen = made(student)(streams(), 0.0), made(student, freeze=0.9)(streams(), 0.0)
    assert free.loss.item() == frozen.loss.item()


# The average


def test_the_average_is_what_is_exported_and_resumes_bit_for_bit():
    def begin():
        objective = made(ema=0.99, freeze=0.3, hard=True).train()
        return objective, torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 1e-2)

    def go_on(objective, optimiser, steps):
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            objective(streams(), 0.0).loss.backward()
            optimiser.step()
            objective.after_step()

    whole, optimiser = begin()
    torch.manual_seed(1)
    go_on(whole, optimiser, 6)
    half, optimiser = begin()
    torch.manual_seed(1)
    go_on(half, optimiser, 3)
    saved, moments, random = (
        {k: v.clone() for k, v in half.state_dict().items()},
        optimiser.state_dict(),
        torch.get_rng_state(),
    )
    resumed, optimiser = begin()
    resumed.load_state_dict(saved)
    optimiser.load_state_dict(moments)
    torch.set_rng_state(random)
    go_on(resumed, optimiser, 3)
    one, two = whole.export().state_dict(), resumed.export().state_dict()
    assert one.keys() == whole.student.state_dict().keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], v) for k, v in whole.student.state_dict().items())


def test_without_an_average_the_student_itself_is_exported():
    student = network()
    assert made(student).export() is student


# Size


def test_a_student_smaller_than_its_teacher_is_reported():
    with pytest.warns(Caution, match="the student has .* parameters and its teacher"):
        NoisyStudent(parts(network(), teacher_size=parameters(network(8))), **PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NoisyStudent(parts(network(8), teacher_size=parameters(network(8))), **PLAIN)
        NoisyStudent(parts(network()), **PLAIN)  # nobody knows


# What one word brings along


def test_noisy_student_is_one_word():
    config = compose.check_words(["loss=noisy_student"])
    assert config["choices"]["student"] == config["choices"]["teacher"] == "cnn"
    assert config["choices"]["select"] == "balanced" and list(config["augment"]) == ["randaugment"]
    assert (config["student"]["dropout"], config["student"]["stochastic_depth"], config["rounds"]) == (
        0.3,
        "auto",
        3,
    )
    assert (
        config["pseudo_label"]["view"] == "clean"
        and config["noiseless"] is True
        and config["loss"]["ema"] == 0.9999
    )


def test_self_training_is_one_word():
    config = compose.check_words(["loss=self_training"])
    assert config["choices"]["student"] == config["choices"]["teacher"] == "cnn"
    assert config["select"]["threshold"] == 0.9 and not config["augment"] and config["loss"]["hard"] is True
    assert (config["rounds"], config["round_patience"], config["init"]) == (3, 1, {})
    assert config["pseudo_label"]["view"] == "clean" and config["student_train"]["labelled_share"] == 0.2


@pytest.mark.parametrize("loss", ["noisy_student", "self_training"])
def test_the_student_follows_the_teacher_and_the_user_wins(loss):
    chosen = compose.check_words([f"loss={loss}", "teacher=resnet20"])
    assert chosen["choices"]["student"] == "resnet20" and chosen["student"]["depth"] == 20
    for words in (["student=mlp", f"loss={loss}"], [f"loss={loss}", "student=mlp"]):
        assert compose.check_words(words)["choices"]["student"] == "mlp"
    words = [f"loss={loss}", "student.dropout=0.1", "augment=[affine]", "select=all", "rounds=1"]
    config = compose.check_words(words)
    assert (config["student"]["dropout"], list(config["augment"]), config["select"], config["rounds"]) == (
        0.1,
        ["affine"],
        {},
        1,
    )


@pytest.mark.parametrize(
    "words, share",
    [
        ([], 1 / 2),
        (["loss.unlabel_ratio=3"], 1 / 4),
        (["loss.unlabel_ratio=3", "loss.batch=equal"], 1 / 2),
        (["loss.unlabel_ratio=0"], 1 / 2),
        (["student_train.labelled_share=0.1"], 0.1),
    ],
)
def test_the_batch_is_shared_as_the_loss_says(words, share):
    assert compose.check_words(["loss=noisy_student", *words])["student_train"][
        "labelled_share"
    ] == pytest.approx(share)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 0},
        {"smoothing": 1},
        {"unlabel_ratio": -1},
        {"unlabel_ratio": "much"},
        {"batch": "half"},
        {"joint": 1},
        {"noise": "some"},
        {"freeze": 1.0},
        {"ema": 1.0},
        {"ema": "slow"},
        {"hard": "yes"},
    ],
)
def test_refuses(bad):
    with pytest.raises(UserError, match=f"loss.{next(iter(bad))}"):
        made(**bad)
