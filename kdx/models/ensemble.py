"""Several networks that answer as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdx.core.aggregate import Combine
from kdx.core.task import Task
from kdx.core.trees import from_leaves, leaves
from kdx.core.types import Answers, Inputs


class NetworkEnsemble(nn.Module):
    """The answers of its members made one. Its size and its cost are the sums of theirs.

    combine: what makes one answer of theirs; it may be replaced.
    """

    def __init__(self, members: Sequence[nn.Module], combine: Combine):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.combine = combine

    def forward(self, inputs: Inputs) -> Answers:
        return self.combine([member(inputs) for member in self.members])


def ensemble(*, members: Sequence[Any], build: Callable[[Any], nn.Module], task: Task) -> NetworkEnsemble:
    """The ensemble of models that are described, not built. build: makes one of them; `build_for` gives
    it."""
    return NetworkEnsemble([build(member) for member in members], task.mean)


def ensemble_of(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spec of the ensemble of networks, of the specs of each."""
    return {"_target_": f"{__name__}.{ensemble.__name__}", "members": [dict(model) for model in models]}


class Apart(nn.Module):
    """An ensemble that gives the answers of its members beside its own, all of one pass: by name, which
    `split_answers` reads.
    """

    def __init__(self, ensemble: NetworkEnsemble):
        super().__init__()
        self.ensemble = ensemble

    def forward(self, inputs: Inputs) -> Answers:
        each = [member(inputs) for member in self.ensemble.members]
        several = [self.ensemble.combine(each), *each]
        return join_answers(several)


def join_answers(several: Sequence[Answers]) -> dict[str, Tensor]:
    """The answers of the ensemble, then of each member, by names that `split_answers` reads."""
    return {
        f"{place}/{name}": leaf
        for place, answers in enumerate(several)
        for name, leaf in leaves(answers).items()
    }


def split_answers(answers: Answers) -> list[Answers]:
    """What `join_answers` put together: the answers of the ensemble, then of each member."""
    found: dict[int, dict[str, Answers]] = {}
    for key, leaf in leaves(answers).items():
        place, _, name = key.partition("/")
        found.setdefault(int(place), {})[name] = leaf
    return [from_leaves(named) for _, named in sorted(found.items())]
