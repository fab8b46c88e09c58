"""The terms on hidden features of one loss: what stands in its slot `loss.features`, one or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdx.core.types import Parts, Shown


@dataclass(frozen=True)
class Added:
    """terms: by name. alone: those that count alone for now; empty: all count, and the loss too."""

    terms: Mapping[str, Tensor]
    alone: frozenset[str] = frozenset()

    def beside(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss's own terms and these; 0, without gradient, is what does not count for now."""
        if same := terms.keys() & self.terms.keys():
            raise ValueError(f"a loss and its hidden features both have a term '{min(same)}'")
        together = {**terms, **self.terms}
        if not self.alone:
            return together
        return {
            name: value if name in self.alone else torch.zeros_like(value.detach())
            for name, value in together.items()
        }


class HiddenTerms(nn.ModuleDict):
    """features: name -> component, each built with `parts`, or one component, or None: no terms.

    Where two have a term of one name, it is prefixed by the name of its own: `fitnet/hint`. Holding none it
    draws no random numbers and has no parameters.
    """

    def __init__(self, features: Mapping[str, Any] | Any, parts: Parts):
        super().__init__()
        several = features if isinstance(features, Mapping) else {"features": features} if features else {}
        for name, component in several.items():
            self[name] = component.build(parts)

    @property
    def silent(self) -> bool:
        """Whether nothing of them counts: there are none, or all have the weight 0."""
        return all(term.weight == 0 for term in self.values())

    def forward(self, shown: Shown) -> Added:
        found = {name: term(shown) for name, term in self.items()}
        often = Counter(key for terms in found.values() for key in terms)
        called = {
            (name, key): key if often[key] == 1 else f"{name}/{key}"
            for name, terms in found.items()
            for key in terms
        }
        alone = {name for name, term in self.items() if term.alone(shown.progress)}
        return Added(
            {said: found[name][key] for (name, key), said in called.items()},
            frozenset(said for (name, _), said in called.items() if name in alone),
        )
