"""Divergences from what was kept of a teacher's distribution: its k likeliest classes or tokens, or draws of
it. docs/divergences.md has the mathematics, and why the other ways of doing this train worse students.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdx.core.checks import choice
from kdx.core.divergence import Divergence, divergence, expected, over_temperature, pieces, rows_at_once
from kdx.core.errors import UserError

RESTS = ("bucket", "truncated", "renormalised")


def top_k(teacher: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """(..., V) logits -> (ids (..., k) int64, the likeliest first; their log-probabilities (..., k); the log
    of the mass of all others (...), -inf where k = V)."""
    log_p = over_temperature(teacher, temperature).log_softmax(-1)
    kept = log_p.topk(k, -1)
    rest = log_p.scatter(-1, kept.indices, -torch.inf).logsumexp(-1)
    return kept.indices, kept.values, rest


def top_k_divergence(
    student: Tensor, ids: Tensor, logp: Tensor, rest: Tensor, how: Divergence, which: str = "bucket"
) -> Tensor:
    """Student's logits (..., V) and what `top_k` gives at the temperature of `how` -> (...).

    which: "bucket", the divergence of both after all classes but the k have become one: never negative, never
    above that of the whole distributions, equal to it at k = V and, of forward KL, where the two tails are
    proportional. "truncated" sums p (log p - log q) over the k alone: no divergence, it can be negative.
    "renormalised" makes the teacher's k add up to 1, and the student's not: it asks for no mass elsewhere.
    These two are of the forward kind alone. Raises UserError for others, and where both are renormalised.
    """
    check_rest(which, how)
    if which == "bucket":
        coarse = torch.cat([logp, rest[..., None]], -1).to(over_temperature(student[:0], 1).dtype)
        plain = replace(how, temperature=1.0)
        return how.temperature**2 * divergence(bucketed(student, ids, how.temperature), coarse, plain)
    kept = logp.to(over_temperature(student[:0], 1).dtype)
    if which == "renormalised":
        kept = kept.log_softmax(-1)
    found = weighted_cross_entropy(student, ids, kept.exp(), how.temperature)
    flat = kept.reshape(-1, kept.shape[-1])
    return found + how.temperature**2 * expected(flat.exp(), flat).reshape(found.shape)


def check_rest(which: str, how: Divergence) -> None:
    """Raises UserError where `top_k_divergence` knows none such."""
    if which == "both":
        raise UserError(
            "loss.rest=both would make the student's probabilities of the teacher's k add up to 1 as well: "
            "of what lies outside them it then learns nothing, and with k = 1 nothing at all: use "
            "loss.rest=bucket"
        )
    choice("loss.rest", which, RESTS)
    if which != "bucket" and how.limit != "forward":
        raise UserError(
            f"loss.rest={which} is of loss.kind=forward alone; given: loss.kind={how.kind}: use "
            "loss.rest=bucket"
        )


def sampled_divergence(student: Tensor, ids: Tensor, counts: Tensor, temperature: float) -> Tensor:
    """Student's logits (..., V), ids (..., m) that were drawn from the teacher with replacement, and how
    often each (..., m), 0 where there is none -> (...): T^2 times the cross-entropy with counts / N, whose
    mean over the draws is that with the teacher's probabilities, its gradient too (arXiv 2503.16870).

    Less the teacher's entropy its mean is the forward KL. Every id that was drawn must be there; without any
    it is 0.
    """
    shares = counts.to(over_temperature(student[:0], 1).dtype)
    shares = shares / shares.sum(-1, keepdim=True).clamp_min(1)
    return weighted_cross_entropy(student, ids, shares, temperature)


def draw_counts(probs: Tensor, uniform: Tensor) -> Tensor:
    """(n, V) probabilities, (n, N) numbers in [0, 1) -> (n, N) int64: ids drawn with replacement, ascending.
    Each row hangs on its own numbers alone."""
    edges = probs.double().cumsum(1)
    edges = edges / edges[:, -1:]
    return torch.searchsorted(edges, uniform.double(), right=True).sort(1).values


def count_draws(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """(n, N) ascending ids -> (ids (n, N), counts (n, N)): the distinct ones first, with how often each
    stands there, then zeros."""
    first = torch.ones_like(drawn, dtype=torch.bool)
    first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
    place = first.long().cumsum(1) - 1
    counts = torch.zeros_like(drawn).scatter_add_(1, place, torch.ones_like(drawn))
    return torch.zeros_like(drawn).scatter_(1, place, drawn), counts


def bucketed(student: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """(..., V) logits, (..., k) different ids -> (..., k + 1): logits over T of these and of all others
    together, -inf where there are no others. softmax gives the coarser distribution."""
    flat = student.reshape(-1, student.shape[-1])
    rows = rows_at_once(student)
    found: Tensor = _Bucketed.apply(flat, ids.reshape(-1, ids.shape[-1]), temperature, rows)
    return found.reshape(*student.shape[:-1], -1)


def weighted_cross_entropy(student: Tensor, ids: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """(..., V) logits, (..., m) ids and weights -> (...): T^2 times - sum of weight * log q^T(id)."""
    shape, width = student.shape[:-1], student.shape[-1]
    found: Tensor = _Weighted.apply(
        student.reshape(-1, width),
        ids.reshape(-1, ids.shape[-1]),
        weights.detach().reshape(-1, ids.shape[-1]),
        temperature,
        rows_at_once(student),
    )
    return temperature**2 * found.reshape(shape)


class _Bucketed(torch.autograd.Function):
    """(N, V), (N, k) -> (N, k + 1)"""

    @staticmethod
    def forward(ctx: Any, student: Tensor, ids: Tensor, temperature: float, rows: int) -> Tensor:
        found = over_temperature(student[:0], 1).new_empty(len(student), ids.shape[1] + 1)
        for part in pieces(len(student), rows):
            z = over_temperature(student[part], temperature)
            found[part, :-1] = z.gather(1, ids[part])
            found[part, -1] = z.scatter(1, ids[part], -torch.inf).logsumexp(1)
        ctx.save_for_backward(student, ids, found[:, -1])
        ctx.temperature, ctx.rows = temperature, rows
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None, None]:
        student, ids, rest = ctx.saved_tensors
        found = torch.empty_like(student)
        for part in pieces(len(student), ctx.rows):
            # of the k themselves this may overflow, and is written over
            share = (over_temperature(student[part], ctx.temperature) - rest[part, None]).exp_()
            pull = share.mul_(given[part, -1:]).scatter_(1, ids[part], given[part, :-1])
            found[part] = pull.div_(ctx.temperature)
        return found, None, None, None


class _Weighted(torch.autograd.Function):
    """(N, V), (N, m), (N, m) -> (N,)"""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, ids: Tensor, weights: Tensor, temperature: float, rows: int
    ) -> Tensor:
        found = over_temperature(student[:0], 1).new_empty(len(student))
        sums = torch.empty_like(found)
        for part in pieces(len(student), rows):
            z = over_temperature(student[part], temperature)
            sums[part] = z.logsumexp(1)
            found[part] = expected(weights[part], sums[part, None] - z.gather(1, ids[part]))
        ctx.save_for_backward(student, ids, weights, sums)
        ctx.temperature, ctx.rows = temperature, rows
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None, None, None]:
        student, ids, weights, sums = ctx.saved_tensors
        found = torch.empty_like(student)
        for part in pieces(len(student), ctx.rows):
            pull = (over_temperature(student[part], ctx.temperature) - sums[part, None]).exp_()
            each = weights[part]
            pull.mul_(each.sum(1, keepdim=True)).scatter_add_(1, ids[part], -each)
            found[part] = pull.mul_(given[part, None] / ctx.temperature)
        return found, None, None, None, None
