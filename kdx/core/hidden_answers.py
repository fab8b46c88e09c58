"""Answers that carry what a network's last layer reads in place of the logits that it makes of it: at each
place d numbers in place of V. Rows first, then places of a row, as of the logits (B, ..., V) that they stand
for.

By name: "states" (B, ..., d); "head" (B, V, d), the weights of the last layer, one array that all rows share
and that takes the room of one; "true" (B, ...), the log-probability of the true id, nan where nobody knows
it, and "entropy" (B, ...) in nats, both of the answer as it is, where they come from the disk.
docs/divergences.md says what lies there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from torch import Tensor, nn

from kdx.core.divergence import head_logits, pieces, rows_at_once
from kdx.core.errors import UserError
from kdx.core.trees import Tree

STATES, HEAD = "states", "head"


class TellsHidden(ABC):
    """A network whose logits are its hidden states times the weights of its last layer."""

    @abstractmethod
    def hidden(self, rows: Any) -> Tensor:
        """(B, ..., d): what its last layer reads."""

    @property
    @abstractmethod
    def head_weight(self) -> Tensor:
        """(V, d)"""

    @property
    @abstractmethod
    def before_head(self) -> nn.Module:
        """The module whose output `hidden` is."""


def tells_hidden(network: Any, who: str) -> TellsHidden:
    """The network, where it is one. who: what it is called. Raises UserError for others."""
    if isinstance(network, TellsHidden):
        return network
    raise UserError(
        f"pseudo_label.format=hidden keeps what the teacher's last layer reads, and {who} does not end in "
        "one linear layer that tells this: choose a decoder, such as teacher=gpt_small with dataset=corpus, "
        "or another format"
    )


def head_width(network: Any) -> int:
    """How many numbers its last layer reads. Raises UserError where it tells none."""
    return tells_hidden(network, "this one").head_weight.shape[1]


def several_hidden(teachers: int) -> str:
    """What there is to say of so many teachers."""
    return (
        f"pseudo_label.format=hidden keeps what the last layer of one teacher reads, and {teachers} answer "
        "together: choose one of them, or another format"
    )


def hidden_answer(network: TellsHidden, rows: Tree) -> dict[str, Tensor]:
    """What a network answers, without gradient: float32."""
    states, head = network.hidden(rows).detach().float(), network.head_weight.detach()
    return {STATES: states, HEAD: head.expand(len(states), *head.shape)}


def is_hidden(answers: Any) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether answers carry hidden states."""
    return isinstance(answers, Mapping) and STATES in answers


def read_hidden(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What lies on the disk as answers: the states in the half precision that they have."""
    return {name: leaf if name in (STATES, HEAD) else leaf.float() for name, leaf in stored.items()}


def head_of(answers: Mapping[str, Tensor]) -> Tensor:
    """(V, d)"""
    return answers[HEAD][0]


def logits_in_pieces(answers: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """(n, V) float32 logits of a few places after the other, row after row."""
    head, flat = head_of(answers), answers[STATES].flatten(0, -2)
    for part in pieces(len(flat), rows_at_once(head.T)):
        yield head_logits(flat[part], head)
