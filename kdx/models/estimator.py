"""Estimator: a model that is fitted to rows at once, not trained by steps: a teacher only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from kdx.core.answers import Answers
from kdx.core.errors import UserError
from kdx.core.task import Task
from kdx.core.trees import leaves
from kdx.core.types import Inputs
from kdx.models.adapt import Around, Finished
from kdx.models.modes import evaluating

ONLY_TEACHERS = "it can be a teacher, not a student"


class Estimator(Finished, ABC):
    """What it has learned is in its buffers, so it is saved and opened as every network is, without pickles:
    `fit` registers them, of any shape, and loading registers those that were saved.
    """

    fitted_at_once: ClassVar[bool] = True
    """Read from the class's file where torch is not wanted (kdx.store.declared), and off a network for its
    size: what it has learned is no count of parameters."""
    tells: ClassVar[tuple[str, ...]] = ()
    """What its answers hold beside the answer itself, such as "variance" (see `Objective.needs_answers`)."""

    layered: ClassVar[bool] = False
    """Whether it is a network inside, with hidden layers for terms that read such."""
    chosen_on_validation: ClassVar[bool] = False
    """Whether `settle` chooses it by how often it is right, which leaves it unsure: then its answers get a
    temperature by default (`pseudo_label.temperature`). Read from the class's file where torch is
    not wanted."""

    def check(self, task: Task) -> None:
        """Whether it goes with a task, before any work. Raises UserError."""

    @abstractmethod
    def fit(self, inputs: Inputs, truth: Answers, task: Task) -> None:
        """Learns from all labelled rows, as `forward` sees rows, and their truth."""

    def settle(self, inputs: Inputs, truth: Answers, task: Task) -> Sequence[str]:
        """Chooses by the validation rows what is left open; asked after `fit`, where there are such. Returns
        what there is to say of it."""
        return ()

    @abstractmethod
    def forward(self, inputs: Inputs) -> Answers:
        """Inputs of B rows -> the answers to them, as the task reads them."""

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, value in state.items():
            inner = name.removeprefix(prefix)
            if name.startswith(prefix) and "." not in inner and isinstance(value, Tensor):
                self.register_buffer(inner, value.clone())
        super()._load_from_state_dict(state, prefix, *rest)


class _Described(Protocol):
    def resolve(self) -> Any: ...


def is_estimator(model: _Described) -> bool:
    """Whether a model that is described, not built, names the class of an estimator."""
    made = model.resolve()
    return isinstance(made, type) and issubclass(made, Estimator)


def estimator_in(network: nn.Module) -> Estimator | None:
    """The estimator that a network is, or that an adapter has wrapped; None where it is trained by steps."""
    inner = network.net if isinstance(network, Around) else network
    return inner if isinstance(inner, Estimator) else None


def fit_to(network: nn.Module, inputs: Inputs, truth: Answers, task: Task) -> None:
    """Fits the estimator of a network. inputs: rows as the data set gives them."""
    _estimator_of(network).fit(_seen(network, inputs), truth, task)


def settle_by(network: nn.Module, inputs: Inputs, truth: Answers, task: Task) -> Sequence[str]:
    """Lets the fitted estimator of a network choose by validation rows, as `fit_to` gives it rows."""
    return _estimator_of(network).settle(_seen(network, inputs), truth, task)


def _estimator_of(network: nn.Module) -> Estimator:
    estimator = estimator_in(network)
    if estimator is None:
        raise TypeError(f"{type(network).__name__} is no estimator")
    return estimator


def _seen(network: nn.Module, inputs: Inputs) -> Inputs:
    found: Inputs = network.seen(inputs) if isinstance(network, Around) else inputs
    return found


def check_kept(network: nn.Module, fresh: nn.Module, inputs: Inputs) -> None:
    """Whether what a fitted estimator has learned is all in its state: `fresh`, built anew and given it,
    must answer alike. inputs: a few rows as the data set gives them. Raises UserError where it does not.
    """
    with torch.no_grad(), evaluating(network):
        wanted = leaves(network(inputs))
    try:
        fresh.load_state_dict(network.state_dict())
        with torch.no_grad(), evaluating(fresh):
            given = leaves(fresh(inputs))
        same = given.keys() == wanted.keys() and all(
            torch.allclose(given[name], leaf, rtol=1e-4, equal_nan=True) for name, leaf in wanted.items()
        )
        why = "built again from them, it answers otherwise"
    except Exception as error:
        same, why = False, f"built again from them, it fails with {type(error).__name__}: {error}"
    if not same:
        raise UserError(
            f"{type(estimator_in(network)).__name__} keeps what it learned outside its buffers: "
            f"register_buffer(...) each such tensor in `fit` ({why})"
        )
