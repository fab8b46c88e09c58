"""Deep mutual learning (Zhang, Xiang, Hospedales and Lu 2018, arXiv 1706.00384): peers that teach each other
while they all learn, without a teacher.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from kdx.core.checks import choice
from kdx.core.errors import Caution, UserError
from kdx.core.types import Objective, Outcome, ParameterGroup, Parts, Streams
from kdx.methods.peers import (
    Standing,
    all_answer,
    best_on_validation,
    count_of_peers,
    each_of,
    groups_of,
    mean_agreement,
    mean_match,
    one_each,
    term_name,
)
from kdx.models.ensemble import NetworkEnsemble, ensemble_of

EXPORTS = ("first", "best", "ensemble")


class Mutual(Objective):
    """Of each network i of K: mean over labelled rows of the task's own loss + weight_i * mean over all rows
    and over the other networks j of match(i, j, T = 1), j without gradient; the sum over i is minimised.

    Of classification match is KL(p_j || p_i) (equations 5 and 7 of the paper), at temperature 1 and without a
    factor. Pool rows, where there are some, are in the second term, so that peers teach each other without
    labels. peers: K >= 2, the student among them; the others have its architecture and weights of their own,
    or `architectures`, names of conf/model, K - 1 of them. weight >= 0 and rate >= 0 (times the stage's
    learning rate): one for all, or a list of K, the student's first. export: what is evaluated and saved:
    "first" the student, "best" the network with the least loss on validation at that moment (of one
    architecture only, as it may be another one next time), "ensemble" all of them, whose probabilities are
    averaged, with K times the size and cost. A `Caution` where one network is right on 10 points more of the
    labelled rows than another, in two epochs in a row. Limits: weight 0 is `supervised`, where nothing draws
    random numbers in the network and no pool is there; networks with equal weights have the second term 0.
    Deviations: all networks move at once, from one forward pass each; the paper moves them one after another
    and asks those that moved again. Cost: K forward and backward passes a step, K times the weights,
    gradients and moments of the optimiser.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    reads = ()
    networks = ("architectures",)

    def __init__(
        self,
        parts: Parts,
        *,
        peers: int,
        architectures: Sequence[Any] | None,
        weight: float | Sequence[float],
        rate: float | Sequence[float],
        export: str,
    ):
        super().__init__(parts)
        count = count_of_peers("loss.peers", peers)
        self.weight = one_each("loss.weight", weight, count)
        self.rate = one_each("loss.rate", rate, count)
        self.exported = choice("loss.export", export, EXPORTS)
        self.architectures = list(architectures or [])
        self._check_architectures(parts, count)
        if self.exported == "ensemble":
            warnings.warn(
                f"loss.export=ensemble is {count} networks that answer together, with the size and cost of "
                "all of them: what it gains over the student alone is not the student's own",
                Caution,
                stacklevel=2,
            )
        self.peers = nn.ModuleList(self._new_peers(parts, count - 1))
        self.standing = Standing(count, self.task)
        # a tuple, so that what is no child of the method is no child of it
        self._parts = (parts,)

    def _check_architectures(self, parts: Parts, count: int) -> None:
        if self.architectures and len(self.architectures) != count - 1:
            raise UserError(
                f"loss.architectures names the networks of the peers beside the student, {count - 1} with "
                f"loss.peers={count}; given: {len(self.architectures)}"
            )
        if self.exported == "best" and self.architectures:
            raise UserError(
                "loss.export=best may be a network of another architecture than the student's: choose "
                "loss.export=first, or ensemble"
            )
        if self.exported == "best" and parts.validation is None:
            raise UserError(
                "loss.export=best is the peer with the least loss on validation, and this run has none: set "
                "dataset.validation=0.1, say, or loss.export=first"
            )

    def _new_peers(self, parts: Parts, count: int) -> list[nn.Module]:
        if not self.architectures:
            return [parts.new_student() for _ in range(count)]
        if parts.build is None:
            raise ValueError("these parts build no networks")
        return [parts.build(model) for model in self.architectures]

    @property
    def everyone(self) -> list[nn.Module]:
        """All networks, the student first."""
        return [self.student, *self.peers]

    def forward(self, streams: Streams, progress: float) -> Outcome:
        together = all_answer(streams, self.may_use, partial(each_of, self.everyone))
        y = streams["labelled"].y
        terms = {}
        for place, (said, known) in enumerate(zip(together.said, together.known, strict=True)):
            terms[term_name(place, "labels")] = self.task.loss(known, y, self.class_weights).mean()
            match = mean_match(self.task, said, together.others(place))
            terms[term_name(place, "peers")] = self.weight[place] * match.mean()
        if self.training:
            self.standing.note(together.known, y)
        agreement = partial(mean_agreement, self.task, together.said[0], together.others(0))
        return Outcome(terms, {"agreement": agreement})

    def refresh(self) -> Mapping[str, float]:
        return self.standing.report()

    def groups(self) -> Sequence[ParameterGroup]:
        return groups_of(self.student, list(self.peers), self.rate)

    def export(self) -> nn.Module:
        if self.exported == "ensemble":
            return NetworkEnsemble(self.everyone, self.task.mean)
        if self.exported == "best":
            return self.everyone[best_on_validation(self._parts[0], self.everyone)]
        return self.student

    def describe_export(self, model: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.exported != "ensemble":
            return model
        others = [peer.spec for peer in self.architectures] or [model] * len(self.peers)
        return ensemble_of([model, *others])
