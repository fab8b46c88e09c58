"""The steps of `augment` for texts, (B, L) tokens and 0 padding behind the last: fewer words, or words in
another order. What is left moves together, and a text that has a token keeps one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdx.data.views.augment import check_number
from kdx.data.views.chain import Step
from kdx.data.views.draws import Draws
from kdx.models.text import PADDING


class WordDropout(Step):
    """Leaves each token out with probability `rate` (Iyyer et al. 2015, deep averaging networks)."""

    reads = "texts"
    moves_only = True

    def __init__(self, *, rate: float):
        check_number("word_dropout.rate", rate, 0, 1)
        self.rate = rate

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        there = x != PADDING
        draw = draws.uniform(op, x.shape[1]).masked_fill(~there, -1.0)
        last = draw == draw.amax(1, keepdim=True)  # the one that would be dropped at the highest rate
        return only_kept(x, there & ((draw >= self.rate) | last))


class Swap(Step):
    """Changes the places of two tokens of a text, for `share` of its tokens, once at least (Wei and Zou 2019,
    EDA, arXiv 1901.11196).
    """

    reads = "texts"
    moves_only = True

    def __init__(self, *, share: float):
        check_number("swap.share", share, 0, 1)
        self.share = share

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        if not self.share:
            return x
        length = (x != PADDING).sum(1)
        swaps = (length * self.share).round().clamp(min=1).long()
        draw = draws.uniform(op, 2 * int(swaps.max()))
        places = (draw * length[:, None]).long().clamp(max=x.shape[1] - 1)
        places = torch.minimum(places, (length - 1).clamp(min=0)[:, None])
        x = x.clone()
        for number in range(int(swaps.max())):
            first, second = places[:, 2 * number, None], places[:, 2 * number + 1, None]
            second = torch.where((number < swaps)[:, None], second, first)
            a, b = x.gather(1, first), x.gather(1, second)
            x.scatter_(1, first, b).scatter_(1, second, a)
        return x


class SpanDeletion(Step):
    """Leaves out one run of neighbouring tokens, `share` of a text, at a uniform place (Shen et al. 2020,
    span cutoff, arXiv 2009.13818, where it is padded over).
    """

    reads = "texts"
    moves_only = True

    def __init__(self, *, share: float):
        check_number("span_deletion.share", share, 0, 1)
        self.share = share

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        length = (x != PADDING).sum(1)
        span = torch.minimum((length * self.share).round().long(), (length - 1).clamp(min=0))
        start = (draws.uniform(op, 1)[:, 0] * (length - span + 1)).long()
        start = torch.minimum(start, length - span)[:, None]
        place = torch.arange(x.shape[1], device=x.device)
        return only_kept(x, (x != PADDING) & ~((place >= start) & (place < start + span[:, None])))


def only_kept(x: Tensor, keep: Tensor) -> Tensor:
    """(B, L) tokens without those where `keep` (B, L) is False, moved together, padding behind them."""
    order = (~keep).to(torch.uint8).argsort(dim=1, stable=True)
    return x.gather(1, order).masked_fill(~keep.gather(1, order), PADDING)
