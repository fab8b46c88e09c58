"""How the names of a file of weights meet those of a network."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from kdx.core.errors import UserError
from kdx.models import sets
from kdx.models.checkpoint import Content

COUNTED = re.compile(
    r"(^|[._])(epochs?|steps?|iterations?|iter|acc|acc1|accuracy|loss|lr|decay|num_updates|n_averaged|total_ops|total_params)$"
)
"""Names of single numbers that training and counting tools put beside weights."""
WeightsNote = tuple[str, str]
"""What to tell, and how: info or warning."""
NET = "net."
"""Where kdx keeps the bare network inside the one that takes pixels."""
NORMALISE = ("mean", "std", "columns.mean", "columns.std", "units.centre", "units.scale")
"""What that one normalises rows by, and the units of its answers, in its state dict; another file has none,
and the data set's are used.
"""


@dataclass(frozen=True)
class Fit:
    """How a file's names meet those of a network. weights: by the network's names; original: what the file
    calls them; prefix: what was dropped.

    normalise: the mean and deviation that pictures are normalised by, of a file of kdx's own.
    """

    prefix: str
    weights: Mapping[str, Tensor]
    original: Mapping[str, str]
    missing: frozenset[str]
    extra: frozenset[str]
    normalise: Mapping[str, Tensor]

    def misfits(self, bare: Mapping[str, Tensor]) -> frozenset[str]:
        """Names that are missing, or whose shape is another."""
        return self.missing | {
            name for name, value in self.weights.items() if value.shape != bare[name].shape
        }

    def without(self, names: frozenset[str], instead: frozenset[str]) -> Fit:
        """The same where the network keeps its own tensors for these names. instead: what the file has in
        their place, which is not looked at.
        """
        kept = {name: value for name, value in self.weights.items() if name not in names}
        return replace(self, weights=kept, missing=self.missing - names, extra=self.extra - instead)


def fit_names(
    content: Content, bare: Mapping[str, Tensor], path: Path, role: str | None, notes: list[WeightsNote]
) -> Fit:
    """The prefix under which most names of the network are found; the names of one prefix are one set of
    weights.
    """
    weights = content.weights
    clean = {sets.WRAPPERS.sub("", name): name for name in weights}
    alike = _alike(clean, bare)
    prefix, others = alike[0] if alike else "", []
    if len(alike) > 1:
        prefix, others = _choose(alike, clean, content, path, role, notes)
    original = {name[len(prefix) :]: there for name, there in clean.items() if name.startswith(prefix)}
    original = {
        name: there
        for name, there in original.items()
        if name in bare or not (prefix + name).startswith(tuple(others))
    }
    outer = prefix.removesuffix(NET)
    own = (
        {name: clean[outer + name] for name in NORMALISE if outer + name in clean}
        if prefix.endswith(NET)
        else {}
    )
    dropped = outer if own else prefix  # else the file is of a network in kdx
    left = [name for name in original if name not in bare and _counts(name, weights[original[name]])]
    besides = (
        set(weights).difference(original.values(), own.values()) if dropped and len(alike) == 1 else set()
    )
    if besides or left:
        besides |= {original[name] for name in left}
    some = f"{', '.join(sorted(besides)[:2])}{', ...' if len(besides) > 2 else ''}"
    if dropped:
        more = (
            f"; what does not begin with it was left out: {some}"
            if besides and not left
            else f"; left out: {some}"
            if besides
            else ""
        )
        notes.append(
            (f"the names of the checkpoint '{path}' begin with '{dropped}', which was dropped{more}", "info")
        )
    elif besides:
        notes.append((f"of the checkpoint '{path}' was left out what is no weight: {some}", "info"))
    kept = {name: weights[there] for name, there in original.items() if name in bare}
    # which old versions of torch did not count
    missing = {name for name in bare.keys() - kept.keys() if not name.endswith("num_batches_tracked")}
    extra = original.keys() - bare.keys() - set(left)
    return Fit(
        prefix,
        kept,
        original,
        frozenset(missing),
        frozenset(extra),
        {name: weights[there] for name, there in own.items()},
    )


def _choose(
    alike: list[str],
    clean: Mapping[str, str],
    content: Content,
    path: Path,
    role: str | None,
    notes: list[WeightsNote],
) -> tuple[str, list[str]]:
    """(the prefix of several that is meant, those of the sets of names that are not). Raises UserError where
    nobody can tell.
    """
    # with what it normalises by
    outer = [name.removesuffix(NET) if name.removesuffix(NET) + "mean" in clean else name for name in alike]
    keys = [name.removesuffix(".") for name in outer]
    taken = sets.choose_weights(keys, role)
    if taken is None:
        raise UserError(
            f"the checkpoint '{path}' holds several sets of names that fit "
            f"({', '.join(f'{name}*' for name in alike[:4])}): choose with "
            f"{sets.setting(role)}={content.key(keys[0])}"
        )
    prefix = alike[keys.index(taken)]
    notes.append((sets.also(content.key(taken), [content.key(name) for name in keys], path, role), "warning"))
    return prefix, [name for name in outer if name and not prefix.startswith(name)]


def _alike(names: Collection[str], bare: Mapping[str, Tensor]) -> list[str]:
    """The prefixes under which about as many of the network's names are found as under any, those of the same
    names once; the fullest first.
    """
    found = sets.prefixes(names, bare)
    most = max(found.values(), default=0)
    if 2 * most <= len(bare):
        return sorted(found, key=lambda prefix: (-found[prefix], prefix.count("."), prefix))[:1]
    alike: list[str] = []
    taken: set[str] = set()
    for prefix in sorted(
        (prefix for prefix, count in found.items() if 2 * count > most),
        key=lambda p: (-found[p], p.count("."), p),
    ):
        these = {prefix + name for name in bare} & set(names)
        if 2 * len(these - taken) > most:
            alike.append(prefix)
            taken |= these
    return alike


def _counts(name: str, value: Tensor) -> bool:
    """Whether a tensor that the network has no name for is no weight, but a number about the training."""
    return (value.dim() == 0 and not value.is_floating_point() and not value.is_complex()) or (
        value.numel() == 1 and bool(COUNTED.search(name))
    )


def last_layer(bare: Mapping[str, Tensor]) -> frozenset[str]:
    """Names of the last layer."""
    last = next((name for name in reversed(bare) if name.endswith("weight") and bare[name].dim() > 1), "")
    layer = last.removesuffix("weight")
    return frozenset({last, f"{layer}bias"} & bare.keys())


def own_last_layers(
    fit: Fit, head: frozenset[str], bare: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> frozenset[str]:
    """Names besides the network's that are the file's own last layers: inside the network's, or of a module
    that the rest of the network has no like of (but for its number: stage5 beside stage4 is a deeper
    network), and made of matrices and vectors."""

    def module(name: str) -> str:
        return re.sub(r"\d+", "", name.partition(".")[0])

    inside = tuple(f"{name.rpartition('.')[0]}." for name in head if "." in name)
    body = {module(name) for name in bare.keys() - head}
    return frozenset(
        name
        for name in fit.extra
        if (bool(inside) and name.startswith(inside))
        or (module(name) not in body and weights[fit.original[name]].dim() <= 2 and "running_" not in name)
    )
