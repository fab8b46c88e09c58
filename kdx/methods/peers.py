"""What the losses share in which several networks learn together: a number for each, the answers of all of
them to one batch, and how they stand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdx.core.checks import integer, number
from kdx.core.errors import Caution, UserError
from kdx.core.task import Categorical, Task
from kdx.core.trees import tree
from kdx.core.types import Answers, Batch, Inputs, ParameterGroup, Parts, Streams
from kdx.methods.forward import known_and_own, rows_of_step
from kdx.models.modes import evaluating

MOST_PEERS = 32
"""More of them are a slip of the pen."""
DOMINATES = 0.10
"""How much more often one of them is right than another before that is said."""
_ENOUGH = 100
"""Labelled rows without which nothing is said of it."""


def count_of_peers(name: str, value: Any) -> int:
    """A whole number of at least 2."""
    if isinstance(value, int) and not isinstance(value, bool) and value == 1:
        raise UserError(
            f"{name}=1 is a network without a peer, which learns as loss=supervised does: set {name}=2, or "
            "choose that"
        )
    return integer(name, value, low=2, high=MOST_PEERS)


def one_each(name: str, value: Any, count: int) -> list[float]:
    """Numbers >= 0: one that all have, or a list of one for each, the student's first."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [number(name, value, low=0)] * count
    if len(value) != count:
        raise UserError(
            f"{name} must be a number, or a list of {count}, the student's first and one for each peer; "
            f"given: {list(value)}"
        )
    return [number(name, one, low=0) for one in value]


def groups_of(student: nn.Module, peers: Sequence[nn.Module], rates: Sequence[float]) -> list[ParameterGroup]:
    """A group for each network, named as its terms are, of what is trained of it."""
    named = [("student", student), *((f"peer{i}", peer) for i, peer in enumerate(peers, 1))]
    return [
        ParameterGroup(name, [p for p in network.parameters() if p.requires_grad], rate)
        for (name, network), rate in zip(named, rates, strict=True)
    ]


def term_name(peer: int, term: str, kind: str = "peer") -> str:
    """What a term of a network is called: the student's by its own name."""
    return f"{kind}{peer}/{term}" if peer else term


@dataclass(frozen=True)
class Together:
    """What several networks answer to one batch, the student first. batches: the labelled rows, and those of
    a pool where there is one. said: to all rows; known: to the labelled ones.
    """

    batches: Sequence[Batch]
    said: Sequence[Answers]
    known: Sequence[Answers]

    def others(self, peer: int) -> list[Answers]:
        """The answers of all networks but one, without gradient."""
        return [tree(Tensor.detach, said) for place, said in enumerate(self.said) if place != peer]


def all_answer(
    streams: Streams, pools: Sequence[str], ask: Callable[[Inputs], Sequence[Answers]]
) -> Together:
    """ask: what all networks answer to the labelled rows and those of the `pools` that are there."""
    batches, shown = rows_of_step(streams, pools)
    said = ask(shown)
    known = [known_and_own(one, len(streams["labelled"]))[0] for one in said]
    return Together(batches, said, known)


def each_of(networks: Sequence[nn.Module], shown: Inputs) -> list[Answers]:
    """One forward pass of each."""
    return [network(shown) for network in networks]


def mean_match(task: Task, own: Answers, others: Sequence[Answers], temperature: float = 1.0) -> Tensor:
    """(B,) the mean over the others of how far one network's answers are from theirs."""
    return torch.stack([task.match(own, other, temperature) for other in others]).mean(0)


def mean_agreement(task: Task, own: Answers, others: Sequence[Answers]) -> Tensor:
    """() the mean over rows and others."""
    found = [task.agreement(own, other).float().mean() for other in others]
    return torch.stack(found).mean().detach()


class Standing(nn.Module):
    """How often each of several networks was right on labelled rows since it was last asked, where an answer
    is right or wrong. Its counts are in the state dict.
    """

    right: Tensor
    rows: Tensor
    ahead: Tensor
    warned: Tensor

    def __init__(self, count: int, task: Task):
        super().__init__()
        self.task = task
        self.register_buffer("right", torch.zeros(count))
        self.register_buffer("rows", torch.zeros(()))
        self.register_buffer("ahead", torch.tensor(-1))
        self.register_buffer("warned", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def note(self, known: Sequence[Answers], y: Answers) -> None:
        """known: each network's answers to labelled rows, y their truth; of mixed rows none is noted."""
        if not isinstance(self.task, Categorical) or not isinstance(y, Tensor) or y.is_floating_point():
            return
        found = [self.task.right(answers, y) for answers in known]
        right = [one.float().sum() for one in found if one is not None]
        if len(right) == len(known):
            self.right += torch.stack(right)
            self.rows += len(y)

    def report(self) -> Mapping[str, float]:
        """The accuracies since the last report, by name; warns once where the same network is more than
        DOMINATES ahead of another in two reports in a row: then it teaches, and learns little.
        """
        rows = self.rows.item()
        if not rows:
            return {}
        right: list[float] = self.right.tolist()
        best, worst = right.index(max(right)), right.index(min(right))
        shares = [count / rows for count in right]
        ahead = best if rows >= _ENOUGH and right[best] - right[worst] > DOMINATES * rows else -1
        if ahead >= 0 and ahead == self.ahead.item() and not self.warned:
            self.warned.fill_(True)
            warnings.warn(
                f"{_name(best)} dominates: it was right on {shares[best]:.0%} of the labelled rows since the "
                f"last look, {_name(worst)} on {shares[worst]:.0%}, and the better one learns little from "
                "such a peer: compare loss.rate and loss.weight of the two, or their architectures",
                Caution,
                stacklevel=2,
            )
        self.ahead.fill_(ahead)
        self.right.zero_()
        self.rows.zero_()
        return {f"accuracy/{'student' if i == 0 else f'peer{i}'}": share for i, share in enumerate(shares)}


def _name(peer: int) -> str:
    return f"peer {peer}" if peer else "the student"


def best_on_validation(parts: Parts, networks: Sequence[nn.Module]) -> int:
    """Which network has the least mean loss on the validation rows, clean, of equals the first."""
    losses = []
    for network in networks:
        with evaluating(network), torch.no_grad():
            losses.append(_loss_of(parts, network))
    return losses.index(min(losses))


def _loss_of(parts: Parts, network: nn.Module) -> float:
    if parts.validation is None:
        raise ValueError("there is no validation split")
    total = 0.0
    where = next(network.parameters()).device
    for batch in parts.validation.clean():
        shown = tree(lambda leaf: leaf.to(where), batch.views["main"])
        truth = tree(lambda leaf: leaf.to(where), batch.y)
        total += parts.task.loss(network(shown), truth).double().sum().item()
    return total / len(parts.validation)
