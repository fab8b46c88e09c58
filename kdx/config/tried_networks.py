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
from kdx.core.types import Inputs
from kdx.models.modes import evaluating

_MOVING = tuple(
    f"{name}Backward"
    for name in (
        "Alias Cat Clone Expand Permute Reshape ReshapeAlias Select Slice Squeeze Stack T ToCopy Transpose "
        "UnsafeView Unsqueeze View"
    ).split()
)
"""Steps in the record of gradients that only lay numbers elsewhere, or in another type."""


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
    if isinstance(made.task, Categorical) and "" in found:
        _check_logits(who, network, rows, found[""])
    was = network.training
    network.train()
    network(rows)
    network.train(was)


def _check_logits(who: str, network: torch.nn.Module, rows: Inputs, answers: torch.Tensor) -> None:
    """Raises WrongPart where the answers (B, K), K > 1, to made-up rows are no logits:

    - probabilities: no number below 0, and each row adds up to 1 (to 1e-3);
    - log-probabilities: no number above 0, the exponentials of each row add up to 1 (to 1e-5), and the rows
      differ: last weights of 0 with the classes' log shares as bias give such a row too, always the same;
    - results of a sigmoid: all numbers from 0 to 1, and a sigmoid is what made them. That many numbers lie
      there is no proof by itself, so the last step is looked up in the record of gradients, and a network
      whose answers have none is not suspected.
    """
    if answers.shape[1] < 2:
        return
    if (answers >= 0).all() and (answers.sum(1) - 1).abs().max() < 1e-3:
        what, end = "probabilities, as each row adds up to 1", "softmax at its end out"
    elif _are_log_probabilities(answers):
        what = "log-probabilities, as the exponentials of each row add up to 1"
        end = "log_softmax at its end out (of the logarithm of a mixture take each row's mean off)"
    elif (answers >= 0).all() and (answers <= 1).all() and _ends_in_sigmoid(network, rows):
        what, end = "results of a sigmoid, each from 0 to 1", "sigmoid at its end out"
    else:
        return
    raise WrongPart(f"{who} answers with {what}, and logits are read: leave the {end}")


def _are_log_probabilities(answers: torch.Tensor) -> bool:
    """(B, K), see `_check_logits`."""
    alike = bool((answers == answers[:1]).all())
    sums = answers.double().logsumexp(1)
    return not alike and bool((answers <= 0).all() and sums.abs().max() < 1e-5)


def _ends_in_sigmoid(network: torch.nn.Module, rows: Inputs) -> bool:
    with torch.enable_grad(), evaluating(network):
        last = leaves(network(rows))[""].grad_fn
    open_steps, found = [last], False
    while open_steps:
        step = open_steps.pop()
        name = "" if step is None else step.name()
        if name.startswith(_MOVING):
            open_steps += [before for before, _ in step.next_functions]  # type: ignore[union-attr]
        elif not name.startswith(("SigmoidBackward", "HardsigmoidBackward")):
            return False
        else:
            found = True
    return found


def _shapes(of: Mapping[str, tuple[int, ...]]) -> str:
    return " and ".join(f"{name} {shape}".strip() for name, shape in of.items())
