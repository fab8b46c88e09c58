"""soft, slam, taylor_ce and ups: hand numbers, gradients, limits, and what they say of bad input."""

import warnings
from dataclasses import replace

import pytest
import torch
from tasks import classification
from torch import nn

from kdx.core import math
from kdx.core.errors import Caution, UserError
from kdx.core.math import cross_entropy
from kdx.core.types import Batch, Parts, Split
from kdx.methods import estimators
from kdx.methods.losses.slam import SLaM, first_choices, mixed_answers, slam_loss
from kdx.methods.losses.soft import Soft
from kdx.methods.losses.taylor_ce import TaylorCE, taylor
from kdx.methods.losses.ups import UPS, negative_loss
from kdx.store.component import Component

T = torch.tensor
ONE, NONE = Component({"_target_": "kdx.methods.weights.one.One"}), None
HALF = Component({"_target_": "kdx.methods.weights.constant.Constant", "value": 0.5})
SLOTS = {"weights": ONE, "features": NONE}
ROWS, C = 40, 4
F, Q = T([[0.7, 0.2, 0.1]]), T([[0.5, 0.4, 0.1]])


def table(seed=0, rows=ROWS):
    """Logits of `rows` pictures, whose number is their first pixel."""
    return 1.5 * torch.randn(rows, C, generator=torch.Generator().manual_seed(seed))


def numbered(name, rows, y=None, start=0):
    index = torch.arange(start, start + rows)
    return Batch(name, index, torch.ones_like(index), {"main": index[:, None, None, None] / 255}, y)


class Student(nn.Module):
    def __init__(self, seed=3):
        super().__init__()
        self.logits = nn.Parameter(table(seed))

    def forward(self, x):
        return self.logits[(x.flatten(1)[:, 0] * 255).round().long()]


TEACHER = table(1)


def parts(truth=None, rows=ROWS, teacher=TEACHER, **more):
    """truth: of the validation rows; None: drawn from what the teacher says."""
    if truth is None:
        truth = torch.multinomial(teacher.softmax(1), 1, generator=torch.Generator().manual_seed(2))[:, 0]
    pictures = torch.arange(rows, dtype=torch.uint8)[:, None, None, None]
    validation = Split("validation", pictures, truth[:rows])
    return Parts(Student(), Student, lambda b: teacher[b.index], [], validation, classification(C), **more)


def streams(labelled=4, pool=12):
    return {
        "labelled": numbered("labelled", labelled, torch.arange(labelled) % C),
        "unlabelled": numbered("unlabelled", pool, start=10),
    }


def make(made=None, **more):
    defaults = {
        "hard": True,
        "normalised": False,
        "alpha_floor": 0.5,
        "k": None,
        "threshold": 0.9,
        "top_k_by": "mass",
        **SLOTS,
    }
    return SLaM(made or parts(), **{**defaults, **more})


def refreshed(objective):
    """(the objective after a refresh, what it warned of)"""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        objective.refresh()
    assert all(w.category is Caution for w in found)
    return objective, " | ".join(str(w.message) for w in found)


# What SLaM fitted, to be looked at


def test_slam_shows_its_fit_and_where_alpha_leaves_the_floor():
    objective = make(alpha_floor=0.6)
    assert objective.curves() == {}  # nothing is fitted yet
    objective.fitted.fill_(True)
    knots, values = objective.alpha_knots, objective.alpha_values
    knots.fill_(0.8), values.fill_(0.9)
    knots[:2], values[:2] = T([0.2, 0.4]), T([0.3, 0.5])
    curves = {name: [x.tolist(), y.tolist()] for name, (x, y) in objective.curves().items()}
    # From (0.4, 0.5) to (0.8, 0.9) the fit crosses the floor at 0.5.
    x = [0.0, 0.2, 0.4, 0.5, 0.8, 1.0]
    assert curves == {
        "margin/isotonic": [pytest.approx(x), pytest.approx([0.3, 0.3, 0.5, 0.6, 0.9, 0.9])],
        "margin/alpha": [pytest.approx(x), pytest.approx([0.6, 0.6, 0.6, 0.6, 0.9, 0.9])],
        "margin/floor": [pytest.approx(x), pytest.approx([0.6] * 6)],
    }


@pytest.mark.parametrize("floor", [0.5, 0.75, 1.0])
def test_the_curve_that_is_shown_is_the_alpha_that_is_used(floor):
    objective, _ = refreshed(make(alpha_floor=floor))
    x, y = objective.curves()["margin/alpha"]
    probs = TEACHER.softmax(1)
    assert torch.allclose(
        estimators.interpolate(math.margin(probs), x, y), objective.mixing(probs)[0], atol=1e-6
    )
    assert (x.diff() > 0).all() and x[0] == 0 and x[-1] == 1


# SLaM's formula


@pytest.mark.parametrize(
    "k, normalised, mixed, hard, soft",
    [(2, False, (0.54, 0.44, 0.06), 0.616186, 0.917826), (2, True, (0.54, 0.44, 0.06), 0.616186, 0.917826),
     (3, False, (0.54, 0.44, 0.42), 0.616186, 0.723235), (3, True, (0.48, 0.28, 0.24), 0.733969, 1.018882)],
)  # fmt: skip
def test_slam_by_hand(k, normalised, mixed, hard, soft):
    a, k = T([0.6]), T([k])
    assert mixed_answers(F, Q, a, k, normalised=normalised)[0].tolist() == pytest.approx(mixed)
    assert slam_loss(F, Q, a, k, hard=True, normalised=normalised).item() == pytest.approx(hard, abs=2e-6)
    assert slam_loss(F, Q, a, k, hard=False, normalised=normalised).item() == pytest.approx(soft, abs=2e-6)


def test_the_mix_sums_to_more_than_1_or_to_1():
    assert mixed_answers(F, Q, T([0.6]), T([3]), normalised=False).sum().item() == pytest.approx(1.4)
    assert mixed_answers(F, Q, T([0.6]), T([3]), normalised=True).sum().item() == pytest.approx(1)


def test_a_binary_mix_is_a_flip():
    f = T([[0.8, 0.2]])
    assert torch.allclose(
        mixed_answers(f, T([[0.4, 0.6]]), T([0.7]), T([2]), normalised=False), 0.7 * f + 0.3 * (1 - f)
    )


def test_first_choices_differ_by_row_and_prefer_the_first_of_equals():
    probs = T([[0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.25, 0.25, 0.5]])
    assert first_choices(probs, T([1, 2, 3])).tolist() == [[0, 1, 0], [1, 0, 1], [1, 1, 1]]
    equal = torch.full((1, 3), 1 / 3)
    assert first_choices(equal, T([2]))[0, equal.argmax(1)].item() == 1  # the hard label is always among them


@pytest.mark.parametrize("hard", [True, False])
def test_inside_the_first_k_the_loss_is_bounded(hard):
    f, q = T([[1 - 1e-9, 1e-9, 0.0]]), T([[0.01, 0.98, 0.01]])
    loss = slam_loss(f, q, T([0.8]), T([3]), hard=hard, normalised=False).item()
    assert 0 < loss <= -torch.tensor(0.2).log().item() + 1e-5


def test_outside_the_first_k_it_is_finite():
    f, q = T([[1.0, 0.0, 0.0]]), T([[0.5, 0.4, 0.1]])
    assert slam_loss(f, q, T([1.0]), T([2]), hard=False, normalised=False).item() == pytest.approx(
        0.5 * 16.118096, rel=1e-4
    )


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
def test_slams_gradient(hard, normalised):
    logits, q = table()[:6].double().requires_grad_(), TEACHER[:6].double().softmax(1)
    alpha, k = torch.linspace(0.5, 0.95, 6).double(), T([2, 3, 4, 2, 3, 4])
    torch.autograd.gradcheck(
        lambda z: slam_loss(z.softmax(1), q, alpha, k, hard=hard, normalised=normalised), logits
    )


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("k", [2, 3, C, None])
@pytest.mark.parametrize("weights", [ONE, HALF])
def test_slam_without_a_mix_is_vanilla_distillation(hard, k, weights):
    made = parts()
    mixed, _ = refreshed(make(made, alpha_floor=1.0, hard=hard, k=k, weights=weights))
    plain = Soft(made, hard=hard, weights=weights, features=NONE)
    one, two = mixed(streams(), 0.0), plain(streams(), 0.0)
    assert all(
        one.terms[n].item() == pytest.approx(two.terms[n].item(), rel=1e-5) for n in ("labels", "pool")
    )


def test_k_of_all_classes_is_the_mix_over_all():
    f, q, a = table()[:5].softmax(1), TEACHER[:5].softmax(1), torch.full((5,), 0.7)
    assert torch.allclose(
        mixed_answers(f, q, a, torch.full((5,), C), normalised=False), 0.7 * f + 0.3 * (1 - f)
    )


# SLaM's statistics


def test_alpha_and_k_follow_the_teachers_margin():
    objective, reported = refreshed(make(alpha_floor=0.5))
    probs = TEACHER.softmax(1)
    alpha, k = objective.mixing(probs)
    order = (probs.topk(2).values @ T([1.0, -1.0])).argsort()
    assert (alpha[order].diff() >= 0).all() and alpha.min() == 0.5 and alpha.unique().numel() > 2
    assert k.min() >= 2 and k.max() <= C and k.unique().numel() > 1 and not reported
    assert (make(k=3).mixing(probs)[1] == 3).all()


def test_slam_is_fitted_once():
    made = parts()
    objective, _ = refreshed(make(made))
    before = {n: b.clone() for n, b in objective.named_buffers()}
    assert before["fitted"] and (objective.alpha_values < 1).any()
    made.validation.truth.copy_((made.validation.truth + 1) % C)
    assert objective.refresh() == {} and all(torch.equal(before[n], b) for n, b in objective.named_buffers())


def test_statistics_are_saved_bit_for_bit():
    one, _ = refreshed(make())
    two = make()
    two.load_state_dict(one.state_dict())
    assert all(torch.equal(b, dict(two.named_buffers())[n]) for n, b in one.named_buffers())
    assert (
        two(streams(), 0.0).loss.item()
        == one(streams(), 0.0).loss.item()
        != make()(streams(), 0.0).loss.item()
    )


def test_before_a_refresh_slam_is_vanilla_distillation():
    made = parts()
    plain = Soft(made, hard=True, **SLOTS)(streams(), 0.0)
    assert make(made)(streams(), 0.0).loss.item() == pytest.approx(plain.loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    "right, says, alpha, k", [(True, "never wrong", 1.0, 2), (False, "always wrong", 0.6, C)]
)
def test_a_teacher_that_is_always_right_or_always_wrong(right, says, alpha, k):
    truth = TEACHER.argmax(1) if right else TEACHER.argmin(1)
    objective, reported = refreshed(make(parts(truth), alpha_floor=0.6))
    assert says in reported and torch.isfinite(objective(streams(), 0.0).loss)
    found = objective.mixing(TEACHER.softmax(1))
    assert (found[0] == T(alpha)).all() and (found[1] == k).all()


@pytest.mark.parametrize(
    "truth, rows, says",
    [(None, 2, "2 rows"), (None, 1, "1 rows"), (torch.zeros(ROWS, dtype=torch.int64), ROWS, "of class 0")],
)
def test_a_poor_validation_split_is_reported_and_gives_numbers(truth, rows, says):
    objective, reported = refreshed(make(parts(truth, rows)))
    assert says in reported and "standard error" in reported
    outcome = objective(streams(), 0.0)
    assert all(
        torch.isfinite(v).all() for v in [*outcome.terms.values(), *outcome.watched(logging=True).values()]
    )


def test_a_teacher_of_huge_logits_gives_numbers():
    teacher = torch.full((ROWS, C), -60000.0)
    teacher[:, 1] = 60000.0
    objective, _ = refreshed(make(parts(torch.arange(ROWS) % C, teacher=teacher), hard=False))
    outcome = objective(streams(), 0.0)
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss) and torch.isfinite(objective.student.logits.grad).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"alpha_floor": 0.4},
        {"alpha_floor": 1.1},
        {"k": 1},
        {"k": C + 1},
        {"k": 2.5},
        {"threshold": 1.5},
        {"top_k_by": "margin"},
        {"hard": 1},
        {"normalised": "no"},
    ],
)
def test_slam_refuses(bad):
    with pytest.raises(UserError, match=f"loss.{next(iter(bad))}"):
        make(**bad)


def test_slam_without_validation():
    with pytest.raises(UserError, match=r"loss=slam .* dataset\.validation"):
        make(replace(parts(), validation=None))


# Vanilla distillation


@pytest.mark.parametrize("hard", [True, False])
def test_soft_and_hard_by_hand(hard):
    made = parts()
    outcome = Soft(made, hard=hard, weights=HALF, features=NONE)(streams(4, 12), 0.0)
    own, answers = made.student.logits[10:22], TEACHER[10:22]
    pool = cross_entropy(own, answers.argmax(1)) if hard else cross_entropy(own, answers.softmax(1))
    assert outcome.terms["labels"].item() == pytest.approx(
        cross_entropy(made.student.logits[:4], torch.arange(4)).sum().item() / 16
    )
    assert outcome.terms["pool"].item() == pytest.approx(0.5 * pool.sum().item() / 16)
    assert outcome.monitors["unlabelled/weight"].tolist() == [0.5] * 12 and outcome.monitors[
        "unlabelled/student_margin"
    ].shape == (12,)


def test_weighted_with_weights_of_1_is_soft():
    made = parts(TEACHER.argmax(1))  # never wrong on validation: every weight is 1
    debiased = {
        "_target_": "kdx.methods.weights.debiased.Debiased",
        "hard": False,
        "estimator": "mean_of_ratios",
        "neighbours": None,
        "grid": None,
    }
    weighted, reported = refreshed(Soft(made, hard=False, weights=Component(debiased), features=NONE))
    assert (
        weighted(streams(), 0.0).loss.item() == Soft(made, hard=False, **SLOTS)(streams(), 0.0).loss.item()
        and "never wrong" in reported
    )


def test_no_gradient_passes_through_the_weights():
    made = parts()
    debiased = {
        "_target_": "kdx.methods.weights.debiased.Debiased",
        "hard": True,
        "estimator": "ratio_of_means",
        "neighbours": None,
        "grid": None,
    }
    weighted, _ = refreshed(Soft(made, hard=True, weights=Component(debiased), features=NONE))
    outcome = weighted(streams(), 0.0)
    weight = outcome.monitors["unlabelled/weight"]
    (found,) = torch.autograd.grad(outcome.terms["pool"], made.student.logits)
    (expected,) = torch.autograd.grad(
        (weight * cross_entropy(made.student.logits[10:22], TEACHER[10:22].argmax(1))).sum() / 16,
        made.student.logits,
    )
    assert not weight.requires_grad and weight.min() < 1 and torch.allclose(found, expected)


# Taylor cross-entropy


@pytest.mark.parametrize(
    "p, values, limit",
    [(0.6, (0.4, 0.48, 0.501333, 0.510464), 0.510826), (0.1, (0.9, 1.305, 1.548, 1.918697), 2.302585)],
)
def test_taylor_by_hand(p, values, limit):
    p = T([p], dtype=torch.float64)
    assert [taylor(p, t).item() for t in (1, 2, 3, 6)] == pytest.approx(values, abs=1e-6)
    assert taylor(p, 400).item() == pytest.approx(limit, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 6])
def test_taylors_gradient(order):
    torch.autograd.gradcheck(lambda z: taylor(z.softmax(1), order), table()[:4].double().requires_grad_())


@pytest.mark.parametrize("hard", [True, False])
def test_taylor_of_high_order_is_vanilla_distillation(hard):
    made = parts()
    limit = Soft(made, hard=hard, **SLOTS)(streams(), 0.0)
    near, far = (
        TaylorCE(made, order=order, hard=hard, **SLOTS)(streams(), 0.0).loss.item() for order in (2000, 2)
    )
    assert near == pytest.approx(limit.loss.item(), rel=1e-4) and far < 0.95 * near
    with pytest.raises(UserError, match=r"loss\.order"):
        TaylorCE(made, order=0, hard=hard, **SLOTS)


# UPS


def ups(made, **more):
    return UPS(
        made,
        **{
            "positive": 0.7,
            "positive_std": 0.05,
            "negative": 0.05,
            "negative_std": 0.005,
            "features": NONE,
            **more,
        },
    )


def answering(mean, std, cool_mean, cool_std):
    return {
        n: (lambda b, v=v: T(v))
        for n, v in zip(
            ("mean", "std", "cool_mean", "cool_std"), (mean, std, cool_mean, cool_std), strict=True
        )
    }


SURE = answering(
    [[0.72, 0.2, 0.04, 0.04], [0.70, 0.1, 0.1, 0.1], [0.5, 0.46, 0.02, 0.02], [0.04, 0.9, 0.03, 0.03]],
    [[0.04] * 4, [0.06, 0.01, 0.01, 0.01], [0.1] * 4, [0.0, 0.051, 0.0, 0.0]],
    [[0.6, 0.3, 0.04, 0.04], [0.6, 0.2, 0.04, 0.06], [0.45, 0.45, 0.04, 0.04], [0.03, 0.04, 0.04, 0.04]],
    [[0.001] * 4, [0.001] * 4, [0.001, 0.001, 0.001, 0.006], [0.001] * 4],
)


def test_negative_loss_by_hand():
    assert negative_loss(T([[0.7, 0.2, 0.1]]), T([[0.0, 1, 1]])).item() == pytest.approx(0.164252, abs=1e-6)
    assert negative_loss(
        T([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]]), T([[0.0, 0, 0], [0, 1, 0]])
    ).tolist() == pytest.approx([0, 16.118096], rel=1e-3)
    torch.autograd.gradcheck(
        lambda z: negative_loss(z.softmax(1), T([[0.0, 1, 1, 0]])), table()[:1].double().requires_grad_()
    )


def test_ups_selects_by_hand():
    label, positive, negative = ups(parts(extras=SURE)).select(*(f(None) for f in SURE.values()))
    assert label.tolist() == [0, 0, 0, 1] and positive.tolist() == [True, False, False, False]
    # never the label, nothing where there is a label
    assert negative.tolist() == [
        [0] * 4,
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [1, 0, 1, 1],
    ]


def test_ups_terms_by_hand():
    made = parts(extras=SURE)
    outcome = ups(made)(streams(4, 4), 0.0)
    logits = made.student.logits
    assert outcome.terms["labels"].item() == pytest.approx(
        cross_entropy(logits[:4], torch.arange(4)).sum().item() / 5
    )
    assert outcome.terms["positive"].item() == pytest.approx(cross_entropy(logits[10:11], T([0])).item() / 5)
    denied = -(1 - logits[11:14].softmax(1)).log() * T([[0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 1, 1]])
    assert outcome.terms["negative"].item() == pytest.approx(
        (denied.sum(1) / T([1, 1, 3])).mean().item(), rel=1e-5
    )
    assert outcome.monitors["unlabelled/weight"].tolist() == [1, 0, 0, 0]


def test_ups_with_nothing_selected_is_supervised():
    outcome = ups(parts(extras=SURE), positive=1.0, negative=0.0)(streams(4, 4), 0.0)
    outcome.loss.backward()
    assert (
        outcome.terms["positive"].item()
        == outcome.terms["negative"].item()
        == 0
        < outcome.terms["labels"].item()
    )


def test_ups_needs_passes_and_a_teacher_with_dropout():
    with pytest.raises(UserError, match=r"pseudo_label\.passes=10"):
        ups(parts())
    flat = [[0.25] * 4] * 4
    objective = ups(parts(extras=answering(flat, [[0.0] * 4] * 4, flat, [[0.0] * 4] * 4)))
    with pytest.raises(UserError, match=r"teacher\.dropout=0\.3"):
        objective.train()(streams(4, 4), 0.0)
    with pytest.raises(UserError, match=r"loss\.positive_std"):
        ups(parts(extras=SURE), positive_std=2)
