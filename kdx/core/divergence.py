"""How far a student's distribution is from a teacher's, over the last axis of their logits: classes of a row,
or tokens of a position. Worked out a few positions at a time, with the gradient in closed form.

The one convention of temperature: both logits are divided by T, and the value is multiplied by T^2, whatever
the kind. docs/divergences.md has the mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kdx.core.checks import choice, number

DIVERGENCES = ("forward", "reverse", "jsd", "tvd")
JSD_SCALES = ("smooth", "paper")
_AT_ONCE = {"cpu": 1 << 19, "cuda": 1 << 23}
"""Numbers that are worked on together: such as fit into a processor's cache, and such as keep a GPU busy."""
_READ_HEAD = 64
"""Positions for which a last layer is read at least: for fewer, reading it takes longer than the product."""
_STEEP = 60.0
"""Beyond this exp(x) is worked out from its inverse, long before it overflows."""


@dataclass(frozen=True)
class Divergence:
    """Which divergence. Errors name its values as the keys of `loss`.

    kind: "forward", KL(teacher || student); "reverse", KL(student || teacher); "jsd", the generalised
    Jensen-Shannon divergence beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta * teacher +
    (1 - beta) * student; "tvd", the total variation distance, half the sum of |teacher - student|.
    beta: in [0, 1], of jsd alone: 0 is forward and 1 reverse. scale: "smooth" divides jsd by beta (1 - beta),
    so that it runs to both ends without a jump; "paper" does not, as others have it.
    temperature: > 0, of both.
    """

    kind: str
    beta: float
    scale: str
    temperature: float

    def __post_init__(self) -> None:
        choice("loss.kind", self.kind, DIVERGENCES)
        choice("loss.scale", self.scale, JSD_SCALES)
        number("loss.beta", self.beta, low=0, high=1)
        number("loss.temperature", self.temperature, low=0, open_low=True)

    @property
    def limit(self) -> str:
        """Its kind, where the ends of jsd are the two KLs."""
        if self.kind != "jsd" or 0 < self.beta < 1:
            return self.kind
        return "reverse" if self.beta else "forward"

    @property
    def factor(self) -> float:
        """What jsd is multiplied by."""
        return 1 / (self.beta * (1 - self.beta)) if self.scale == "smooth" else 1.0


def divergence(
    student: Tensor, teacher: Tensor, how: Divergence, rows: int | None = None, head: Tensor | None = None
) -> Tensor:
    """(..., V) logits of each -> (...), >= 0, in nats but for tvd. Float32, or float64 where the student's
    are.

    Its gradient reaches the student alone. Beside the logits, in the types that they have, and their gradient
    no tensor of their size is held. rows: how many of the ... positions are worked on together, which changes
    no value; None: what suits the device. head: (V, d), the weights of the teacher's last layer: teacher are
    then the hidden states (..., d) that it reads, and its logits are made for these positions at a time.
    """
    whole = (*teacher.shape[:-1], head.shape[0] if head is not None else teacher.shape[-1])
    if student.shape != whole or (head is not None and head.shape[1] != teacher.shape[-1]):
        layer = "" if head is None else f" and a last layer {tuple(head.shape)}"
        raise ValueError(
            f"student and teacher must have logits of one shape; given: {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}{layer}"
        )
    flat = (one.reshape(-1, one.shape[-1]) for one in (student, teacher.detach()))
    rows = rows or max(rows_at_once(student), 1 if head is None else _READ_HEAD)
    if head is not None:
        head = head.detach().to(over_temperature(student[:0], 1).dtype)
    found: Tensor = _InPieces.apply(*flat, head, how, rows)
    return found.reshape(student.shape[:-1])


def rows_at_once(logits: Tensor) -> int:
    """How many positions are worked on together."""
    return max(1, _AT_ONCE.get(logits.device.type, _AT_ONCE["cuda"]) // logits.shape[-1])


def pieces(count: int, rows: int) -> Iterator[slice]:
    """So many positions at a time, of `count`."""
    return (slice(start, start + rows) for start in range(0, count, rows))


def over_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Logits over the temperature, in the type that is reckoned in: float32, or float64 of such."""
    found = logits if logits.dtype == torch.float64 else logits.float()
    return found if temperature == 1 else found / temperature


class _InPieces(torch.autograd.Function):
    """(N, V), (N, V), None -> (N,); or (N, V), (N, d), (V, d) -> (N,)"""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, head: Tensor | None, how: Divergence, rows: int
    ) -> Tensor:
        ctx.how, ctx.rows, ctx.slope = how, rows, None
        if len(student) <= rows and ctx.needs_input_grad[0]:  # one piece: nothing is worked out twice
            both = Distributions(*_log_probs(student, teacher, head, how))
            ctx.slope, ctx.type = divergence_slope(both, how), student.dtype
            return divergence_value(both, how).clamp_min_(0).mul_(how.temperature**2)
        ctx.save_for_backward(student, teacher, head)
        found = over_temperature(student[:0], 1).new_empty(len(student))
        for part in pieces(len(student), rows):
            both = Distributions(*_log_probs(student[part], teacher[part], head, how))
            found[part] = divergence_value(both, how)
        return found.clamp_min_(0).mul_(how.temperature**2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None, None, None]:
        if ctx.slope is not None:
            return (ctx.slope * (given[:, None] * ctx.how.temperature)).to(ctx.type), None, None, None, None
        student, teacher, head = ctx.saved_tensors
        found = torch.empty_like(student)
        for part in pieces(len(student), ctx.rows):
            both = Distributions(*_log_probs(student[part], teacher[part], head, ctx.how))
            found[part] = divergence_slope(both, ctx.how).mul_(given[part, None] * ctx.how.temperature)
        return found, None, None, None, None


def forward_and_cross_entropy(student: Tensor, teacher: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """(n, V) logits of each, (n,) int64 -> ((n,) KL(teacher || student) >= 0, (n,) -log q of the class that
    is wanted, 0 where that is below 0), in nats at the temperature 1. In one piece: of so few positions that
    copies of their logits are nothing. Their gradient reaches the student alone."""
    found: tuple[Tensor, Tensor] = _ForwardAndCrossEntropy.apply(student, teacher.detach(), wanted)
    return found


class _ForwardAndCrossEntropy(torch.autograd.Function):
    """The slopes are q - p, and q less 1 at what is wanted."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        said = over_temperature(student, 1)
        taught = over_temperature(teacher, 1).to(said.dtype)
        log_q, q, p = said.log_softmax(1), said.softmax(1), taught.softmax(1)  # faster than exp of the logs
        apart = expected(p, taught.log_softmax(1).sub_(log_q)).clamp_min_(0)
        known, place = wanted >= 0, wanted.clamp_min(0)[:, None]
        lost = torch.where(known, -log_q.gather(1, place)[:, 0], 0)
        ctx.save_for_backward(q, p, known, place)
        ctx.type = student.dtype
        return apart, lost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_apart: Tensor, of_lost: Tensor) -> tuple[Tensor, None, None]:
        q, p, known, place = ctx.saved_tensors
        of_apart, of_lost = of_apart[:, None], (of_lost * known)[:, None]
        found = (q * (of_apart + of_lost)).addcmul_(p, of_apart, value=-1).scatter_add_(1, place, -of_lost)
        return found.to(ctx.type), None, None


def head_logits(states: Tensor, head: Tensor, kind: torch.dtype = torch.float32) -> Tensor:
    """(..., d) hidden states, (V, d) weights of a last layer -> (..., V) logits in that type, whatever
    autocast says."""
    with torch.autocast(states.device.type, enabled=False):
        return F.linear(states.to(kind), head.to(kind))


def _log_probs(
    student: Tensor, teacher: Tensor, head: Tensor | None, how: Divergence
) -> tuple[Tensor, Tensor]:
    """(n, V) log-probabilities of each, in one type."""
    log_q = over_temperature(student, how.temperature).log_softmax(1)
    if head is not None:
        teacher = head_logits(teacher, head, log_q.dtype)
    return log_q, over_temperature(teacher, how.temperature).to(log_q.dtype).log_softmax(1)


@dataclass(frozen=True)
class Distributions:
    """The log-probabilities of student and teacher, (n, V) each, and their probabilities q and p, each worked
    out once."""

    log_q: Tensor
    log_p: Tensor

    @cached_property
    def q(self) -> Tensor:
        return self.log_q.exp()

    @cached_property
    def p(self) -> Tensor:
        return self.log_p.exp()

    @cached_property
    def apart(self) -> Tensor:
        """log p - log q; the difference of two of -inf says nothing, and is 0."""
        apart = self.log_p - self.log_q
        return torch.where(apart.isnan(), 0, apart)


def divergence_value(both: Distributions, how: Divergence) -> Tensor:
    """(n,), without T^2."""
    match how.limit:
        case "forward":
            return expected(both.p, both.log_p - both.log_q)
        case "reverse":
            return expected(both.q, both.log_q - both.log_p)
        case "tvd":
            return (both.p - both.q).abs_().sum(1) / 2
    to_teacher = expected(both.p, -_mixed(1 - how.beta, -both.apart))
    to_student = expected(both.q, -_mixed(how.beta, both.apart))
    return (how.beta * to_teacher + (1 - how.beta) * to_student) * how.factor


def divergence_slope(both: Distributions, how: Divergence) -> Tensor:
    """(n, V): the derivative of `divergence_value` with respect to the student's logits. With r its
    derivative with respect to log q, over q, it is q (r - sum q r)."""
    match how.limit:
        case "forward":
            return both.q - both.p
        case "reverse":
            pull = both.log_q - both.log_p
        case "tvd":
            pull = (both.q - both.p).sign_().div_(2)
        case _:
            pull = _mixed(how.beta, both.apart).mul_(-(1 - how.beta) * how.factor)
    pull = torch.where(both.q > 0, pull, 0)
    return pull.sub_((both.q * pull).sum(1, keepdim=True)).mul_(both.q)


def expected(probs: Tensor, values: Tensor) -> Tensor:
    """(n, V), (n, V) -> (n,): the mean of the values. What is impossible counts nothing, whatever its
    value."""
    each = probs * values
    found = each.sum(1)
    if found.device.type == "cpu" and not math.isnan(found.sum().item()):  # the same, at a third of the time
        return found
    return torch.where(probs > 0, each, 0).sum(1)


def _mixed(share: float, apart: Tensor) -> Tensor:
    """log(1 - share + share exp(apart)): by how much log q grows where p = q exp(apart) is mixed into q.
    Exact also where the share is small or 1."""
    near = torch.log1p(share * torch.expm1(apart.clamp(max=_STEEP)))
    far = apart + math.log(share)
    return torch.where(apart > _STEEP, far, near)
