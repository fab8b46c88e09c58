"""Tokens drawn from what a language model says, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdx.models.decoder_layers import Cache


def continued(
    say: Callable[[Tensor, Cache], Tensor],
    prompts: Tensor,
    length: int,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """(B, P) tokens -> (B, length), which begin with them. say: (B, n) tokens behind those in the cache ->
    (B, V) logits of the next one. generator: on the CPU; the draws of a row are one
    number in [0, 1) a place, so they are the same on any device but for rounding. Each token is read once, as
    keys and values are kept.
    """
    draws = torch.rand((len(prompts), length - prompts.shape[1]), generator=generator, dtype=torch.float64)
    return drawn_on(say, prompts, draws.to(prompts.device), temperature)


def drawn_on(
    say: Callable[[Tensor, Cache], Tensor], prompts: Tensor, draws: Tensor, temperature: float
) -> Tensor:
    """The same with numbers (B, n) in [0, 1) that are drawn already: (B, P) -> (B, P + n)."""
    found = [prompts]
    cache = Cache(prompts.shape[1] + draws.shape[1])
    read = prompts
    for place in range(draws.shape[1]):
        logits = say(read, cache)
        read = drawn_tokens(logits, draws[:, place], temperature).to(prompts.dtype)[:, None]
        found.append(read)
    return torch.cat(found, 1)


def drawn_tokens(logits: Tensor, draws: Tensor, temperature: float) -> Tensor:
    """(B, V) logits, (B,) numbers in [0, 1) -> (B,) int64 tokens: the first whose probabilities, added up
    from token 0, are above the number. One of probability 0 is never drawn."""
    reached = (logits.double() / temperature).softmax(-1).cumsum(-1)
    # of the whole, as a sum in floating point is not quite 1
    return torch.searchsorted(reached, (draws * reached[:, -1])[:, None], right=True)[:, 0].clamp_max(
        logits.shape[-1] - 1
    )
