"""What a network computes on the way to its logits, taken by hooks: no model has to know of it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdx.core.errors import UserError, WrongStudent
from kdx.core.hidden_answers import TellsHidden
from kdx.core.together import of_all_rows


class Tap:
    """The tensor that goes into or comes out of one module, of the latest forward pass, handed over once.

        with Tap(network.net.stage2, at="output") as tap:
            logits = network(x)
            feature = tap.take()    # with its gradient, where the pass had one

    A module that runs several times in a pass (one ReLU in many places) gives what its last run saw. A copy
    of the network is not tapped.
    """

    def __init__(self, module: nn.Module, *, at: Literal["input", "output"]):
        """at: "input" is the module's first positional argument."""
        if at not in ("input", "output"):
            raise ValueError(f"a Tap is at 'input' or 'output'; given: {at!r}")
        self._kept: Tensor | None = None
        self._module = module
        self._name = f"the {at} of {type(module).__name__}"

        # A closure: copy.deepcopy hands it to a copied module as it is, which is then distinguished from the
        # one that was meant. A bound method would be copied together with what is kept, and a tensor inside a
        # graph cannot be.
        def keep(seen: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            if seen is module:
                self._kept = self._tensor(given[0] if at == "input" else made)

        self._handle = module.register_forward_hook(keep)

    def take(self) -> Tensor:
        """The feature, forgotten here at once. Without a forward pass since the last `take` it is a
        RuntimeError: it would be a stale one.
        """
        if self._kept is None:
            raise RuntimeError(
                f"{self._name} was taken already, or nothing has passed through yet: call the "
                "network before each take()"
            )
        kept, self._kept = self._kept, None
        return of_all_rows(self._module, kept)

    def close(self) -> None:
        """Takes the hook out again, and forgets what it kept."""
        self._handle.remove()
        self._kept = None

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tensor(self, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise RuntimeError(f"{self._name} is no tensor but {type(value).__name__}: tap another module")
        return value


def check_tappable(network: nn.Module, role: str) -> None:
    """UserError where no hook sees what its layers do: a network that was scripted or compiled."""
    for module in network.modules():
        scripted = isinstance(module, torch.jit.ScriptModule)
        if scripted or type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            how = "scripted (torch.jit)" if scripted else "compiled (torch.compile)"
            raise UserError(
                f"loss.features reads hidden layers, and those of the {role}, {how}, cannot be read: give "
                "the network as it was before, or set loss.features=none"
            )


def penultimate(network: nn.Module) -> Tap:
    """A Tap on what the last layer sees, (B, D), or (B, ..., D) of rows with several places: in train mode
    after dropout, so choose rows in eval mode. UserError without a linear layer.
    """
    for part in network.modules():
        if isinstance(part, TellsHidden):  # its last layer may be a table that no module applies
            return Tap(part.before_head, at="output")
    linear = [part for part in network.modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise WrongStudent(
            "the network has no linear layer at its end to take features before, as detectors have none: "
            "choose one that ends in such a layer, or terms that read other layers, such as "
            "loss.features=fitnet"
        )
    return Tap(linear[-1], at="input")


def one_vector(read: Tensor) -> Tensor:
    """What `penultimate` has seen, (B, D) or (B, ..., D) -> (B, D) float32 on the CPU: of a row with several
    places the mean over them."""
    found = read.float()
    return (found.flatten(1, -2).mean(1) if found.dim() > 2 else found).cpu()
