"""Random numbers that are a pure function of (seed, split, row, view, operation, position).

A generator with a state would tie a picture's randomness to what was drawn before it: to the batch, the
order, the worker. Here every number is a hash of its address (the finaliser of SplitMix64; Steele, Lea,
Flood, OOPSLA 2014), so label time and train time draw the same, in any order and batch size, after a resume,
and on any device: integer arithmetic wraps alike everywhere.
"""

from __future__ import annotations

import copy
import hashlib
from functools import lru_cache
from statistics import NormalDist

import torch
from torch import Tensor

from kdx.core.trees import moved

# torch knows signed 64-bit integers only; products wrap, so the sign does not matter
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLY_1 = 0xBF58476D1CE4E5B9 - 2**64
_MULTIPLY_2 = 0x94D049BB133111EB - 2**64


@lru_cache(maxsize=4096)
def word(*parts: int | str) -> int:
    """A signed 64-bit integer that stands for the parts: word(0, "labelled"). Differs with any part, and is
    the same in every process.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's `>>` copies the sign, so the copies are masked away."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _scramble(z: Tensor) -> Tensor:
    """int64 -> int64, a bijection in which every input bit moves about half of the output bits."""
    z = _shift_right(z, 30).bitwise_xor_(z).mul_(_MULTIPLY_1)
    z = _shift_right(z, 27).bitwise_xor_(z).mul_(_MULTIPLY_2)
    return _shift_right(z, 31).bitwise_xor_(z)


@lru_cache(maxsize=8)
def _normal_quantiles(device: torch.device) -> Tensor:
    """(65536,) float32: the quantiles of the standard normal at (k + 1/2) / 65536."""
    upper = [NormalDist().inv_cdf((k + 0.5) / 65536) for k in range(32768, 65536)]
    found: Tensor = moved(torch.tensor([-z for z in reversed(upper)] + upper, dtype=torch.float32), device)
    return found


class Draws:
    """The random numbers of some views: row i of every answer belongs to (seed, split, index[i], view[i]) and
    to nothing else.

    index, view: (B,) int64. device: where the numbers are wanted; None: where index and view lie.
    op: names what draws; two operations of one chain must use different names, or they draw the same numbers.
    """

    def __init__(
        self, seed: int, split: str, index: Tensor, view: Tensor, device: torch.device | None = None
    ):
        # Rows and views step along two odd constants; no two pairs of rows and views below 2^31 meet
        # (shortest vector of the lattice).
        self._given = _scramble((index * _GOLDEN).add_(view * _MULTIPLY_1).add_(word(seed, split)))
        self._row = self._given if device is None else moved(self._given, device)
        self._count: dict[int, Tensor] = {}

    @property
    def device(self) -> torch.device:
        return self._row.device

    @property
    def given(self) -> Draws:
        """The same numbers where index and view lie: what they decide on the processor waits for no other
        device."""
        found = copy.copy(self)
        found._row, found._count = self._given, {}
        return found

    def __len__(self) -> int:
        return len(self._row)

    def _words(self, op: int | str, n: int) -> Tensor:
        """(B, n) int64, all 64 bits random"""
        if n not in self._count:
            self._count[n] = torch.arange(1, n + 1, device=self._row.device) * _GOLDEN
        return _scramble((self._row ^ word(op))[:, None] + self._count[n])

    def uniform(self, op: int | str, n: int) -> Tensor:
        """(B, n) float32 in [0, 1), multiples of 2^-24: exact, so never rounded up to 1"""
        return _shift_right(self._words(op, n), 40).to(torch.float32) * 2.0**-24

    def normal(self, op: int | str, n: int) -> Tensor:
        """(B, n) float32, standard normal on 65,536 equally likely values, |z| < 4.4.

        A table, because logarithms and cosines may differ in the last bit between the body and the tail of a
        vectorised loop, that is, with a row's place in the batch. Each 64-bit word serves four numbers.
        """
        lanes = self._words(op, -(-n // 4)).view(torch.int16)[:, :n]
        level = lanes.to(torch.int32) + 32768
        return _normal_quantiles(self._row.device).index_select(0, level.reshape(-1)).view(level.shape)

    def integers(self, op: int | str, high: int, n: int) -> Tensor:
        """(B, n) int64 in [0, high). The modulo's bias is below high / 2^63."""
        return _shift_right(self._words(op, n), 1) % high
