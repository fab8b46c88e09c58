"""Divergences from a part of a teacher's distribution: the k likeliest, or draws. Hand numbers, what holds of
every distribution, and what does not hold of the forms that are not the default.
"""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from kdx.core.divergence import Divergence, divergence
from kdx.core.errors import UserError
from kdx.core.sparse_divergence import (
    bucketed,
    count_draws,
    draw_counts,
    sampled_divergence,
    top_k,
    top_k_divergence,
    weighted_cross_entropy,
)

T_HAND = torch.tensor([3, 2, 1, 0.5, 0, -0.5], dtype=torch.float64)
S_HAND = torch.tensor([1, 2.5, 0, 1, 0.5, 0], dtype=torch.float64)
P_HAND = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
Q_HAND = torch.tensor([0.62, 0.36, 0.015, 0.005], dtype=torch.float64)


def how(kind="forward", beta=0.5, temperature=1.0) -> Divergence:
    return Divergence(kind, beta, "smooth", temperature)


KINDS = [how(), how("reverse"), how("jsd", 0.3), how("tvd"), how("forward", temperature=3.0)]


def kept(student, teacher, k, which=None, rest="bucket"):
    which = which or how()
    return top_k_divergence(student, *top_k(teacher, k, which.temperature), which, rest)


def both_renormalised(student, teacher, k):
    """What is refused, for its hand numbers."""
    ids = top_k(teacher, k, 1.0)[0]
    return divergence(student.gather(-1, ids), teacher.gather(-1, ids), how())


@pytest.mark.parametrize(
    "k, truncated, alone, both, bucket",
    [
        (1, 0.929089, 2.057193, 0.0, 0.617164),
        (2, 0.718605, 1.071578, 0.715798, 0.626346),
        (3, None, 0.947735, None, 0.670346),
    ],
)
def test_by_hand(k, truncated, alone, both, bucket):
    assert kept(S_HAND, T_HAND, k).item() == pytest.approx(bucket, abs=6e-7)
    assert kept(S_HAND, T_HAND, k, rest="renormalised").item() == pytest.approx(alone, abs=6e-7)
    if truncated is not None:
        assert kept(S_HAND, T_HAND, k, rest="truncated").item() == pytest.approx(truncated, abs=6e-7)
        assert both_renormalised(S_HAND, T_HAND, k).item() == pytest.approx(both, abs=6e-7)


def test_truncated_is_negative_where_the_bucket_is_not():
    student, teacher = Q_HAND.log(), P_HAND.log()
    assert kept(student, teacher, 2, rest="truncated").item() == pytest.approx(-0.162252, abs=6e-7)
    assert both_renormalised(student, teacher, 2).item() == pytest.approx(0.000126, abs=6e-7)
    full = divergence(student, teacher, how()).item()
    assert kept(student, teacher, 2).item() == pytest.approx(full, abs=1e-12), "the tails are proportional"
    assert full == pytest.approx(0.298265, abs=6e-7)
    swapped = student[[0, 1, 3, 2]]
    assert divergence(swapped, teacher, how()).item() == pytest.approx(0.408126, abs=6e-7)
    assert kept(swapped, teacher, 2).item() == pytest.approx(0.298265, abs=6e-7)


def test_both_renormalised_is_refused_and_others_are_of_forward_alone():
    with pytest.raises(UserError, match="rest=both would make the student's"):
        kept(S_HAND, T_HAND, 1, rest="both")
    with pytest.raises(UserError, match=r"loss\.rest has no option 'tail'"):
        kept(S_HAND, T_HAND, 1, rest="tail")
    with pytest.raises(
        UserError, match=r"rest=truncated is of loss\.kind=forward alone; given: loss.kind=reverse"
    ):
        kept(S_HAND, T_HAND, 1, how("reverse"), "truncated")


finite = st.floats(-12, 12, width=32)
some = hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def pairs(draw):
    """(student's logits, teacher's, k)"""
    width = draw(st.integers(2, 9))
    both = [torch.tensor(draw(st.lists(finite, min_size=width, max_size=width))).double() for _ in range(2)]
    return (*both, draw(st.integers(1, width)))


@hypothesis.given(pairs(), st.sampled_from(KINDS))
@some
def test_bucket_is_between_nothing_and_the_whole(found, which):
    student, teacher, k = found
    part, full = kept(student, teacher, k, which).item(), divergence(student, teacher, which).item()
    assert 0 <= part <= full + 1e-9 * (1 + full)
    if k == len(student):
        assert part == pytest.approx(full, rel=1e-9, abs=1e-11)


@hypothesis.given(pairs(), st.floats(-3, 3))
@some
def test_proportional_tails_lose_nothing(found, shift):
    """Of every kind: nothing of the two distributions differs inside the bucket."""
    student, teacher, k = found
    ids = top_k(teacher, k, 1.0)[0]
    student = (teacher + shift).scatter(0, ids, student.gather(0, ids))
    for which in KINDS[:4]:
        full = divergence(student, teacher, which).item()
        assert kept(student, teacher, k, which).item() == pytest.approx(full, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("which", KINDS, ids=str)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_gradients(which, k):
    generator = torch.Generator().manual_seed(k)
    student, teacher = torch.randn(2, 2, 3, 5, generator=generator, dtype=torch.float64).unbind()
    student.requires_grad_()
    assert gradcheck(lambda s: kept(s, teacher, k, which), (student,))
    if which.kind == "forward":
        for rest in ("truncated", "renormalised"):
            assert gradcheck(lambda s, rest=rest: kept(s, teacher, k, which, rest), (student,))


def test_gradient_of_the_bucket_is_that_of_plain_torch():
    generator = torch.Generator().manual_seed(5)
    student, teacher = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64).unbind()
    student.requires_grad_()
    ids, logp, rest = top_k(teacher, 3, 1.0)
    q = student.softmax(1)
    own = torch.cat([q.gather(1, ids), 1 - q.gather(1, ids).sum(1, keepdim=True)], 1)
    p = torch.cat([logp, rest[:, None]], 1).exp()
    plain = (p * (p / own).log()).sum(1)
    found = kept(student, teacher, 3)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    pulls = [torch.autograd.grad(value.sum(), student)[0] for value in (found, plain)]
    torch.testing.assert_close(*pulls, rtol=1e-10, atol=1e-12)


def test_renormalised_has_the_gradient_of_truncated_up_to_the_kept_mass():
    student = S_HAND.clone().requires_grad_()
    mass = top_k(T_HAND, 2, 1.0)[1].exp().sum()
    pulls = [
        torch.autograd.grad(kept(student, T_HAND, 2, rest=rest), student)[0]
        for rest in ("truncated", "renormalised")
    ]
    torch.testing.assert_close(pulls[0], mass * pulls[1])


def test_bucketed_logits_are_the_coarser_distribution():
    ids = torch.tensor([4, 0])
    for temperature in (1.0, 2.0):
        found = bucketed(S_HAND, ids, temperature).softmax(0)
        q = (S_HAND / temperature).softmax(0)
        torch.testing.assert_close(found, torch.stack([q[4], q[0], q[[1, 2, 3, 5]].sum()]))
    assert bucketed(S_HAND[:2], torch.tensor([1, 0]), 1.0)[2] == -torch.inf


def test_draws_are_counted():
    drawn = torch.tensor([[0, 0, 2, 5, 5, 5], [1, 2, 3, 4, 5, 6], [7, 7, 7, 7, 7, 7]])
    ids, counts = count_draws(drawn)
    assert ids.tolist() == [[0, 2, 5, 0, 0, 0], [1, 2, 3, 4, 5, 6], [7, 0, 0, 0, 0, 0]]
    assert counts.tolist() == [[2, 1, 3, 0, 0, 0], [1] * 6, [6, 0, 0, 0, 0, 0]]


def test_draws_follow_the_numbers_and_hit_nothing_impossible():
    probs = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]])
    uniform = torch.tensor([[0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2.0**-24]])
    assert draw_counts(probs, uniform).tolist() == [[1, 1, 3, 3, 4, 4]]
    generator = torch.Generator().manual_seed(0)
    many = torch.rand(5, 9, generator=generator), torch.rand(5, 40, generator=generator)
    alone = torch.cat([draw_counts(many[0][i : i + 1], many[1][i : i + 1]) for i in range(5)])
    assert torch.equal(draw_counts(*many), alone), "a row hangs on its own numbers"


def test_all_drawn_once_each_is_the_cross_entropy():
    ids, counts = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[5, 3, 2, 0]])
    student = Q_HAND.log()[None]
    found = sampled_divergence(student, ids, counts, 1.0)
    assert found.item() == pytest.approx(-(0.5 * student[0, 0] + 0.3 * student[0, 1] + 0.2 * student[0, 2]))
    whole = weighted_cross_entropy(student, ids, P_HAND[None], 1.0) + (P_HAND * P_HAND.log()).sum()
    assert whole.item() == pytest.approx(0.298265, abs=6e-7), "with the probabilities it is the forward KL"


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradient_of_sampled_is_unbiased(temperature):
    """Over 10,000 sets of draws with a fixed seed the mean gradient is that of the forward KL. An entry of
    one set's is T (q - counts/N), with the deviation T sqrt(p (1 - p) / N); the bound is five of the mean's,
    on six entries. The seed is fixed: it holds or it does not."""
    sets, n = 10_000, 12
    generator = torch.Generator().manual_seed(11)
    p = (T_HAND / temperature).softmax(0)
    drawn = draw_counts(p.expand(sets, -1), torch.rand(sets, n, generator=generator))
    student = S_HAND.expand(sets, -1).clone().requires_grad_()
    sampled_divergence(student, *count_draws(drawn), temperature).sum().backward()
    whole = S_HAND.clone().requires_grad_()
    divergence(whole, T_HAND, how(temperature=temperature)).backward()
    deviation = temperature * (p * (1 - p) / (n * sets)).sqrt()
    assert ((student.grad.mean(0) - whole.grad).abs() <= 5 * deviation).all()
    assert (student.grad[0] - whole.grad).abs().max() > 20 * deviation.max(), "one set alone is far off"


def test_draws_cut_again_are_biased():
    """The commonest two of the drawn ids alone: what this format must not do."""
    generator = torch.Generator().manual_seed(11)
    p = T_HAND.softmax(0)
    ids, counts = count_draws(draw_counts(p.expand(4000, -1), torch.rand(4000, 12, generator=generator)))
    most = counts.topk(2, 1)
    student = S_HAND.expand(4000, -1).clone().requires_grad_()
    sampled_divergence(student, ids.gather(1, most.indices), most.values, 1.0).sum().backward()
    gap = (student.grad.mean(0) - (S_HAND.softmax(0) - p)).abs().max()
    assert gap > 0.05


def test_many_positions_and_half_precision():
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(2, 3, 50, generator=generator).bfloat16().requires_grad_()
    teacher = 3 * torch.randn(2, 3, 50, generator=generator)
    found = kept(student, teacher, 8)
    assert found.shape == (2, 3) and found.dtype == torch.float32
    found.sum().backward()
    assert student.grad.dtype == torch.bfloat16 and np.isfinite(student.grad.float().numpy()).all()
