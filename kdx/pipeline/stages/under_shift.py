"""What `evaluate` measures under the shifts that were asked for: test rows that are changed, the same ones
for all networks, or moved against each network by its own gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from kdx.core.answers import Answers
from kdx.core.scorer import Scorer
from kdx.core.task import Task
from kdx.core.trees import Tree
from kdx.core.types import Split
from kdx.data.views.attacks import Attack
from kdx.data.views.chain import Chain, Views
from kdx.pipeline.stages.measuring import Measure
from kdx.store.component import Component

_Shifts = Sequence[tuple[str, Component]]
_Values = dict[str, dict[str, float]]
"""name -> role -> the metric that counts."""


def measured_under_shifts(
    shifts: _Shifts,
    seed: int,
    networks: Mapping[str, nn.Module],
    test: Split,
    measure: Measure,
    known: Mapping[str, Mapping[str, Mapping[str, float]]] = MappingProxyType({}),
) -> dict[str, _Values]:
    """{"shifts": values by the name of a shift} and, where some attack was asked for, {"attacks": values
    by its name and epsilon, `pgd 0.1`}, in which a network without a gradient, as an estimator is, has none.

    seed: of what is random in a shift. networks: the last weights, by role. known: role -> what was found of
    it before: "shifts" or "attacks" -> name -> value."""
    shifted: _Values = {}
    attacked: _Values = {}
    for name, described in shifts:
        step = described.build()
        if isinstance(step, Attack):
            for epsilon in step.epsilons:
                title = f"{name} {epsilon:g}"
                each = {
                    role: known[role]["attacks"].get(title)
                    if role in known
                    else _attacked(network, step, epsilon, test, measure)
                    for role, network in networks.items()
                }
                attacked[title] = {role: value for role, value in each.items() if value is not None}
        else:
            views = Views(Chain([(name, step)]), seed)
            shifted[name] = {
                role: known[role]["shifts"][name]
                if role in known
                else _value(measure, measure.answers(network, test, views), test)
                for role, network in networks.items()
            }
    return {"shifts": shifted, **({"attacks": attacked} if attacked else {})}


def times_shown(shifts: _Shifts) -> int:
    """How often all test rows pass through a network; a pass that tells a gradient counts as three."""
    found = 0
    for _, described in shifts:
        step = described.build()
        found += (1 + 3 * step.steps) * len(step.epsilons) if isinstance(step, Attack) else 1
    return found


def _value(measure: Measure, answers: Answers, test: Split) -> float:
    value: float = measure.task.metrics(answers, test.known)[measure.task.primary]
    return value


def _attacked(
    network: nn.Module, attack: Attack, epsilon: float, test: Split, measure: Measure
) -> float | None:
    if isinstance(network, Scorer):
        return None
    try:
        return _value(measure, measure.answers(Moved(network, attack, epsilon, measure.task), test), test)
    except NoGradient:
        return None


class NoGradient(Exception):
    """A network through which no gradient comes back to what it reads."""


class Moved(nn.Module, Scorer):
    """A network that is shown rows moved against it: of rows whose truth is known it answers such."""

    def __init__(self, network: nn.Module, attack: Attack, epsilon: float, task: Task):
        super().__init__()
        self.network, self.attack, self.epsilon, self.task = network, attack, epsilon, task

    def forward(self, rows: Tree) -> Answers:
        answers: Answers = self.network(rows)
        return answers

    def score(self, rows: Tree, truth: Answers) -> Answers:
        if not isinstance(rows, Tensor) or not rows.is_floating_point():
            raise NoGradient

        # `predict` asks without gradients, and what it hands over can have none
        with torch.inference_mode(False), torch.no_grad():
            shown, known = rows.clone(), truth.clone() if isinstance(truth, Tensor) else truth

            def loss(moved: Tensor) -> Tensor:
                found = self.task.loss(self.network(moved), known)
                if not found.requires_grad:
                    raise NoGradient
                return found

            return self.forward(self.attack(shown, loss, self.epsilon))
