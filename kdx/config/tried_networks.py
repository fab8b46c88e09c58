"""Networks of the user's own, tried on made-up rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kdx.config.kinds import TRIED_ROWS
from kdx.config.trials import MadeUp
from kdx.core.errors import WrongPart, type_name
from kdx.core.examples import random_rows
from kdx.core.task import Categorical
from kdx.core.trees import leaves
from kdx.models.modes import evaluating


def check_answers_of(
    who: str, network: torch.nn.Module, made: MadeUp, wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """wanted: name -> shape of one answer. In evaluation answers must be finite and the same each time, as
    they are stored; in training the network must answer too. Raises WrongPart.
    """
    rows = random_rows(made.data.example, TRIED_ROWS)
    with torch.no_grad(), evaluating(network):
        answers, again = network(rows), network(rows)
    found = leaves(answers)
    if odd := [leaf for leaf in found.values() if not isinstance(leaf, torch.Tensor)]:
        raise WrongPart(f"{who} answers with {type_name(odd[0])}: it must give a tensor, rows first")
    given = {name: tuple(leaf.shape[1:]) for name, leaf in found.items()}
    if given != wanted:
        raise WrongPart(
            f"{who} gives answers of {_shapes(given)} a row, and the task reads {_shapes(wanted)}"
        )
    for name, leaf in found.items():
        if not leaf.is_floating_point():
            raise WrongPart(f"{who} answers with {leaf.dtype} numbers: they must be floating-point")
        if not leaf.isfinite().all():
            raise WrongPart(f"{who} answers made-up rows with NaN or infinite numbers")
        if not torch.equal(leaf, leaves(again)[name]):
            raise WrongPart(
                f"{who} gives the same rows other answers when it is asked again in evaluation: "
                "chance belongs to training (self.training)"
            )
    answer = found.get("")
    if isinstance(made.task, Categorical) and answer is not None and _are_probabilities(answer):
        raise WrongPart(
            f"{who} answers with probabilities, as each row adds up to 1, and logits are read: leave the "
            "softmax at its end out"
        )
    was = network.training
    network.train()
    network(rows)
    network.train(was)


def _are_probabilities(answers: torch.Tensor) -> bool:
    """(B, K). Their logarithms are logits, and no such."""
    return bool(answers.shape[1] > 1 and (answers >= 0).all() and (answers.sum(1) - 1).abs().max() < 1e-3)


def _shapes(of: Mapping[str, tuple[int, ...]]) -> str:
    return " and ".join(f"{name} {shape}".strip() for name, shape in of.items())
