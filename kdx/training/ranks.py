"""Several processes that train one network: each takes a part of every batch, and all make the same step. The
engine is torch.distributed.

A loss that is a mean over the rows of each stream is shared out by rows: process r of W takes the rows
r::W, and gradients are averaged. One that is none (`whole_batch`, `remembers`), or a batch that cannot be
shared out evenly, is computed of all rows by each process: only the networks see a part, and their answers
are gathered with the gradient. Both give the step that one process makes, but for batch normalisation and for
what networks draw at random.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdx.core.together import gathering, is_shared
from kdx.core.trees import picked, rows_of, tree
from kdx.core.types import Features, Objective
from kdx.data.views.draws import word
from kdx.training.patience import exchanging


@dataclass(frozen=True)
class Ranks:
    """Process `number` of `count`. whole: each process computes the loss of all rows of a batch. seed: of
    what is drawn at random in one of them."""

    number: int = 0
    count: int = 1
    whole: bool = False
    seed: int = 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.number == 0

    @property
    def part(self) -> slice:
        """Which rows of a batch the stream gives to this process."""
        return slice(None) if self.whole or self.alone else slice(self.number, None, self.count)

    # what all agree on

    def any(self, here: bool) -> bool:
        """Whether it is so in one of them."""
        if self.alone:
            return here
        flag = torch.tensor([float(here)])
        with exchanging():
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def say(self, what: Any) -> Any:
        """Any object of the first one, given to all."""
        if self.alone:
            return what
        held = [what]
        with exchanging():
            dist.broadcast_object_list(held, src=0)
        return held[0]

    def same(self, tensors: Iterator[Tensor]) -> None:
        """Overwrites these with those of the first one."""
        if self.alone:
            return
        with torch.no_grad(), exchanging():
            for tensor in tensors:
                sent = tensor.detach().contiguous()
                dist.broadcast(sent, src=0)
                if sent.data_ptr() != tensor.data_ptr():
                    tensor.copy_(sent)

    # of a step

    def begin(self, step: int) -> None:
        """Before a step: what others than the first one draw follows from it, so that a training goes on with
        the same numbers after it was interrupted."""
        if self.number and not self.whole:
            torch.manual_seed(word("ranks", self.seed, self.number, step))

    def average(self, found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
        """The mean over all processes of tensors of the forms of `like`, all sent at once; None: zeros here,
        and None where it is None everywhere."""
        if self.alone:
            return list(found)
        there, sizes = torch.tensor([float(one is not None) for one in found]), [one.numel() for one in like]
        sent = [
            (torch.zeros_like(shape) if one is None else one.detach()).float().reshape(-1)
            for one, shape in zip(found, like, strict=True)
        ]
        if like[0].device.type == "cpu":
            flat = torch.cat([*sent, there])
            with exchanging():
                dist.all_reduce(flat)
            flat, there = flat.split([sum(sizes), len(like)])
        else:  # apart, as numbers that lie on an accelerator are waited for
            flat = torch.cat(sent)
            with exchanging():
                dist.all_reduce(flat)
                dist.all_reduce(there)
        parts = (flat / self.count).split(sizes)
        return [
            torch.empty_like(shape).copy_(part.view(shape.shape)) if known else None  # in its memory format
            for part, shape, known in zip(parts, like, (there > 0).tolist(), strict=True)
        ]

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        if self.alone or not parameters:
            return
        for parameter, mean in zip(
            parameters, self.average([p.grad for p in parameters], parameters), strict=True
        ):
            parameter.grad = mean

    def means(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of scalars by name."""
        if self.alone or not values:
            return dict(values)
        flat = torch.stack([value.detach().float().mean() for value in values.values()])
        with exchanging():
            dist.all_reduce(flat)
        return dict(zip(values, flat / self.count, strict=True))

    def rows(self, own: Tensor) -> Tensor:
        """(b, ...) what this process has of its rows -> (B, ...) of all rows, without gradient, where rows
        are shared out."""
        return own if self.alone or self.whole else _gathered(own, len(own) * self.count, self.count)

    @contextlib.contextmanager
    def sharing(self, networks: Sequence[nn.Module]) -> Iterator[None]:
        """Inside, each of these networks sees its part of the rows that it is given, and answers to all of
        them, where the loss is computed of all rows."""
        if self.alone or not self.whole:
            yield
            return
        torch.set_rng_state(self.say(torch.get_rng_state()))  # all draw alike, but inside of networks
        with contextlib.ExitStack() as stack:
            for network in networks:
                shared = _Shared(self)
                stack.enter_context(gathering(network, shared.gather))
                stack.callback(network.register_forward_pre_hook(shared.before).remove)
                stack.callback(network.register_forward_hook(shared.after).remove)
            yield


ONE_PROCESS = Ranks()


class _Shared:
    """What a network does where processes share the rows that it is given. What it draws at random is of the
    process's own, and all else that a loss draws is the same everywhere.
    """

    def __init__(self, ranks: Ranks):
        self._ranks, self._rows = ranks, 0
        self._random: Tensor | None = None

    def before(self, network: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *others = given
        self._rows = rows_of(x) if is_shared() else 0
        if self._rows < self._ranks.count:  # too few to share, or none of the others asks: it answers all
            return given
        drawn = int(torch.randint(1 << 62, ()))
        self._random = torch.get_rng_state()
        torch.manual_seed(word("ranks", drawn, self._ranks.number))
        return (picked(x, slice(self._ranks.number, None, self._ranks.count)), *others)

    def after(self, network: nn.Module, given: tuple[Any, ...], made: Any) -> Any:
        if self._rows < self._ranks.count:
            return made
        if self._random is not None:
            torch.set_rng_state(self._random)
        return tree(self.gather, made)

    def gather(self, own: Tensor) -> Tensor:
        if self._rows < self._ranks.count:
            return own
        whole: Tensor = _Gather.apply(own, self._rows, self._ranks.number, self._ranks.count)
        return whole


class _Gather(torch.autograd.Function):
    """The rows of all processes in their order. Each process computes the same loss of them, so that the
    gradient of its own rows is all that it has to give back; it is multiplied by the number of processes, as
    gradients are averaged over these.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int, number: int, count: int) -> Tensor:
        ctx.number, ctx.count = number, count
        return _gathered(own, rows, count)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient[ctx.number :: ctx.count] * ctx.count, None, None, None


def _gathered(own: Tensor, rows: int, count: int) -> Tensor:
    """(b, ...) the rows r::count of so many rows in all -> (rows, ...)"""
    most = -(-rows // count)
    sent = own.detach()
    if len(sent) < most:
        sent = torch.cat([sent, sent.new_zeros(most - len(sent), *sent.shape[1:])])
    parts = [torch.empty_like(sent) for _ in range(count)]
    with exchanging():
        dist.all_gather(parts, sent.contiguous())
    return torch.stack(parts, 1).flatten(0, 1)[:rows]


def parts_of_loss(objective: Objective) -> list[Objective | Features]:
    """Itself, what it wraps, and its terms on hidden features."""
    return [part for part in objective.modules() if isinstance(part, Objective | Features)]


def share_out(ranks: Ranks, objective: Objective, sizes: Mapping[str, int], even: bool, seed: int) -> Ranks:
    """The same with the road that this training takes. sizes: rows of each stream in a batch, of some streams
    fewer in the last one where not `even`."""
    uneven = not even or any(size % ranks.count for size in sizes.values())
    compared = any(part.whole_batch or part.remembers for part in parts_of_loss(objective))
    return Ranks(ranks.number, ranks.count, not ranks.alone and (uneven or compared), seed)
