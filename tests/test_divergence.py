"""Divergences over the last axis of logits: hand numbers, limits, gradients in double precision, and that the
pieces in which they are worked out change nothing.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F

from kdx.core.divergence import Divergence, divergence, forward_and_cross_entropy
from kdx.core.errors import UserError
from kdx.core.math import kl

T_HAND = torch.tensor([3, 2, 1, 0.5, 0, -0.5], dtype=torch.float64)
S_HAND = torch.tensor([1, 2.5, 0, 1, 0.5, 0], dtype=torch.float64)


def how(kind="forward", beta=0.5, scale="smooth", temperature=1.0) -> Divergence:
    return Divergence(kind, beta, scale, temperature)


ALL = [
    how(),
    how("reverse"),
    how("tvd"),
    how("jsd", 0.0),
    how("jsd", 0.1),
    how("jsd", 0.5, "paper"),
    how("jsd", 0.9),
    how("jsd", 1.0),
    how("jsd", 0.3, temperature=2.5),
    how("forward", temperature=4.0),
    how("reverse", temperature=0.5),
    how("tvd", temperature=2.0),
]


def naive(student, teacher, how):
    """Written down as in a textbook."""
    t = how.temperature
    q, p = (student / t).softmax(-1), (teacher / t).softmax(-1)
    if how.kind == "tvd":
        return t**2 * (p - q).abs().sum(-1) / 2
    forward, reverse = (p * (p / q).log()).sum(-1), (q * (q / p).log()).sum(-1)
    if how.kind != "jsd" or how.beta in (0, 1):
        return t**2 * (forward if how.kind == "forward" or (how.kind == "jsd" and how.beta == 0) else reverse)
    m = how.beta * p + (1 - how.beta) * q
    found = how.beta * (p * (p / m).log()).sum(-1) + (1 - how.beta) * (q * (q / m).log()).sum(-1)
    return t**2 * found / (how.beta * (1 - how.beta) if how.scale == "smooth" else 1)


def logits(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "which, value",
    [
        (how("forward"), "0.670346"),
        (how("reverse"), "0.562743"),
        (how("jsd", 0.5, "paper"), "0.143773"),
        (how("jsd", 0.1, "paper"), "0.057496"),
        (how("jsd", 0.9, "paper"), "0.050451"),
        (how("jsd", 0.0), "0.670346"),
        (how("jsd", 0.1), "0.639"),
        (how("jsd", 0.5), "0.575"),
        (how("jsd", 0.9), "0.561"),
        (how("jsd", 1.0), "0.562743"),
    ],
)
def test_by_hand(which, value):
    found = divergence(S_HAND, T_HAND, which)
    assert found.shape == ()
    assert f"{found.item():.{len(value) - 2}f}" == value
    assert found.item() == pytest.approx(naive(S_HAND, T_HAND, which).item(), abs=1e-14)


def test_the_other_mixture_swaps_the_two_ends():
    """m = (1 - beta) * teacher + beta * student would give .0575 at beta .9"""
    low, high = how("jsd", 0.1, "paper"), how("jsd", 0.9, "paper")
    assert divergence(S_HAND, T_HAND, low).item() == pytest.approx(0.057496, abs=5e-7)
    assert divergence(S_HAND, T_HAND, high).item() == pytest.approx(0.050451, abs=5e-7)


@pytest.mark.parametrize("which", ALL, ids=str)
def test_equals_the_naive_form_and_its_gradient(which):
    student, teacher = logits(3, 5, 7).requires_grad_(), logits(3, 5, 7, seed=1)
    found, plain = divergence(student, teacher, which), naive(student, teacher, which)
    assert found.shape == (3, 5)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    weights = logits(3, 5, seed=2)
    (ours,) = torch.autograd.grad((found * weights).sum(), student)
    (theirs,) = torch.autograd.grad((plain * weights).sum(), student)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("which", ALL, ids=str)
def test_gradient_in_double_precision(which):
    student, teacher = logits(4, 6, seed=3).requires_grad_(), logits(4, 6, seed=4)
    assert gradcheck(lambda s: divergence(s, teacher, which, rows=3), (student,))


@pytest.mark.parametrize("which", ALL, ids=str)
def test_the_size_of_the_pieces_changes_nothing(which):
    found = []
    for rows in (1, 3, 7, 100):
        student, teacher = logits(2, 7, 9).requires_grad_(), logits(2, 7, 9, seed=1)
        values = divergence(student, teacher, which, rows=rows)
        values.pow(2).sum().backward()
        found.append((values.detach(), student.grad))
    for values, slope in found[1:]:
        torch.testing.assert_close(values, found[0][0], rtol=0, atol=1e-12)
        torch.testing.assert_close(slope, found[0][1], rtol=0, atol=1e-12)


def test_smooth_scale_has_no_jump_at_its_ends():
    forward, reverse = (divergence(S_HAND, T_HAND, how(kind)).item() for kind in ("forward", "reverse"))
    for step in (1e-3, 1e-6, 1e-9):
        low, high = (divergence(S_HAND, T_HAND, how("jsd", b)).item() for b in (step, 1 - step))
        assert low == pytest.approx(forward, rel=2 * step + 1e-9)
        assert high == pytest.approx(reverse, rel=2 * step + 1e-7)
        student = S_HAND.clone().requires_grad_()
        (slope,) = torch.autograd.grad(divergence(student, T_HAND, how("jsd", step)), student)
        torch.testing.assert_close(
            slope, S_HAND.softmax(0) - T_HAND.softmax(0), rtol=0, atol=4 * step + 1e-12
        )
    single = divergence(S_HAND.float(), T_HAND.float(), how("jsd", 1e-6)).item()
    assert single == pytest.approx(forward, rel=1e-4), "in single precision as well"
    paper = [divergence(S_HAND, T_HAND, how("jsd", b, "paper")).item() for b in (0.0, 0.1)]
    assert paper[0] / paper[1] > 11, "as others have it, the ends are special and jump"


def test_forward_is_the_kl_of_kdx_with_its_temperature():
    student, teacher = logits(6, 5).float().requires_grad_(), logits(6, 5, seed=1).float()
    for temperature in (1.0, 4.0):
        ours = divergence(student, teacher, how(temperature=temperature))
        torch.testing.assert_close(ours, kl(student, teacher, temperature))
        pulls = [torch.autograd.grad(v.sum(), student)[0] for v in (ours, kl(student, teacher, temperature))]
        torch.testing.assert_close(*pulls, rtol=1e-5, atol=1e-6)


def test_forward_and_cross_entropy_of_one_softmax():
    student, teacher = logits(6, 5), logits(6, 5, seed=1)
    wanted = torch.tensor([0, 4, -1, 2, -1, 1])  # two that do not count
    apart, lost = forward_and_cross_entropy(student, teacher, wanted)
    assert torch.allclose(apart, naive(student, teacher, how()), rtol=1e-12)
    assert torch.allclose(lost, F.cross_entropy(student, wanted, ignore_index=-1, reduction="none"))
    assert lost[2] == lost[4] == 0
    both = partial(forward_and_cross_entropy, teacher=teacher, wanted=wanted)
    assert gradcheck(both, (student.requires_grad_(),))
    hand, _ = forward_and_cross_entropy(S_HAND[None], T_HAND[None], torch.tensor([0]))
    assert hand.item() == pytest.approx(divergence(S_HAND, T_HAND, how()).item(), rel=1e-12)


def test_the_gradient_keeps_its_size_as_the_temperature_grows():
    sizes = []
    for temperature in (50.0, 500.0):
        student, teacher = logits(5, 8).requires_grad_(), logits(5, 8, seed=1)
        divergence(student, teacher, how(temperature=temperature)).sum().backward()
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


@pytest.mark.parametrize("which", ALL, ids=str)
def test_equal_logits_are_nothing_apart_and_pull_nowhere(which):
    student = logits(3, 4).requires_grad_()
    found = divergence(student, student.detach() + 7, which)
    found.sum().backward()
    assert found.max() < 1e-12
    if which.kind != "tvd":  # it has a kink there, and rounding says on which side
        assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize("which", ALL, ids=str)
def test_extreme_logits_stay_finite(which):
    """Such as answers_of gives: certain, and far apart."""
    teacher = torch.tensor([[0.0, -60000.0, -60000.0], [0.0, -800.0, 3.0]])
    student = torch.tensor([[0.0, -300.0, 250.0], [-800.0, 0.0, 90.0]], requires_grad=True)
    found = divergence(student, teacher, which)
    found.sum().backward()
    assert found.isfinite().all() and (found >= 0).all() and student.grad.isfinite().all()


def test_what_is_masked_in_both_counts_nothing():
    """Rows of a vocabulary that are padding have logits of minus infinity."""
    student = torch.cat(
        [logits(4, 5), torch.full((4, 2), -math.inf, dtype=torch.float64)], 1
    ).requires_grad_()
    teacher = torch.cat([logits(4, 5, seed=1), torch.full((4, 2), -math.inf, dtype=torch.float64)], 1)
    for which in ALL:
        found = divergence(student, teacher, which)
        (slope,) = torch.autograd.grad(found.sum(), student)
        short = divergence(student[:, :5], teacher[:, :5], which)
        torch.testing.assert_close(found, short, rtol=1e-12, atol=1e-14)
        assert slope.isfinite().all() and slope[:, 5:].eq(0).all()


def test_types_of_logits():
    student = logits(4, 6).bfloat16().requires_grad_()
    found = divergence(student, logits(4, 6, seed=1).half(), how())
    assert found.dtype == torch.float32, "reckoned in single precision"
    found.sum().backward()
    assert student.grad.dtype == torch.bfloat16
    with torch.no_grad():
        assert divergence(student, student, how()).max() < 1e-6
    teacher = logits(4, 6).requires_grad_()
    assert not divergence(logits(4, 6), teacher, how()).requires_grad, "a teacher is never trained"
    assert divergence(logits(0, 6), logits(0, 6), how()).shape == (0,)


def test_a_second_gradient_of_the_same_term():
    """The log takes the norm of each term's gradient before the step takes the sum's."""
    student, teacher = logits(4, 6).requires_grad_(), logits(4, 6, seed=1)
    found = divergence(student, teacher, how("jsd", 0.3)).sum()
    (first,) = torch.autograd.grad(found, student, retain_graph=True)
    (second,) = torch.autograd.grad(2 * found, student)
    torch.testing.assert_close(2 * first, second)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"kind": "backward"}, "loss.kind has no option 'backward'"),
        ({"beta": 1.5}, "loss.beta must be at least 0 and at most 1; given: 1.5"),
        ({"scale": "own"}, "loss.scale has no option 'own'"),
        ({"temperature": 0}, "loss.temperature must be greater than 0; given: 0"),
    ],
)
def test_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        how(**wrong)


def test_logits_of_two_shapes():
    with pytest.raises(ValueError, match=r"\(2, 6\) and \(2, 5\)"):
        divergence(logits(2, 6), logits(2, 5), how())
