"""Weights from a file into a network: found by name, checked against its shapes, never unpickled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kdx.faults import Fault
from kdx.models import checkpoint

WRAPPERS = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What compiled and sharded modules put into names, anywhere."""
NET = "net."
"""Where kdx keeps the bare network inside the one that takes pixels."""
NORMALISE = ("mean", "std")
"""What that one normalises pictures by, in its state dict; another file has none, and the data set's is used."""
FINE_TUNE = {"teacher": "set teacher_pretrain.epochs=5, say, to train it on with a new last layer", None: "kdx train can fine-tune it to others"}


def read_weights(path: Path) -> dict[str, Tensor]:
    """name -> tensor, as kdx.models.checkpoint.read finds them, without what wrappers put before every name."""
    weights, _ = checkpoint.read(path)
    weights = {WRAPPERS.sub("", name): value for name, value in weights.items()}
    return {name.removeprefix("module."): value for name, value in weights.items()}


def load_weights(network: nn.Module, path: Path, *, key: str | None = None, role: str | None = None, new_head: bool = False) -> list[str]:
    """Loads a checkpoint of the network as kdx builds it, or of the bare net inside it; returns what to tell of it.

    A prefix that the names have in common is dropped where the rest then fits. new_head: a last layer of another size is left out, as the network is
    trained further. Every other name and shape must agree. key, role: see kdx.models.checkpoint.read. Raises Fault, in the file's own names.
    """
    weights, notes = checkpoint.read(path, key=key, role=role)
    own = network.state_dict()
    bare = {name.removeprefix(NET): value for name, value in own.items() if name.startswith(NET)}
    fit = _fit(weights, bare, path, role, notes)
    head = _head(bare)
    misfits = fit.misfits(bare)
    if new_head and misfits and misfits <= head and bare.keys() - head:
        notes.append(f"the last layer of the checkpoint '{path}' was left out ({_listed(fit, misfits)}): the network begins with a new one")
        fit = fit.without(head)
    _check_names(fit, head, bare, path, role)
    _check_shapes(fit, head, bare, path, role)
    _check_numbers(fit, bare, path)
    own |= {NET + name: value for name, value in fit.weights.items()}
    for name, value in fit.normalise.items():
        if value.shape != own[name].shape:
            raise Fault(f"the checkpoint '{path}' does not fit: {name} is {list(value.shape)} there and {list(own[name].shape)} here: it takes other channels")
    own |= fit.normalise
    network.load_state_dict(own)
    return notes


@dataclass(frozen=True)
class _Fit:
    """How a file's names meet those of a network. weights: by the network's names; original: what the file calls them; prefix: what was dropped.

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
        return self.missing | {name for name, value in self.weights.items() if value.shape != bare[name].shape}

    def without(self, names: frozenset[str]) -> _Fit:
        """The same where the network keeps its own tensors for these names, and what the file has in their place is not looked at."""
        kept = {name: value for name, value in self.weights.items() if name not in names}
        return _Fit(self.prefix, kept, self.original, self.missing - names, frozenset(), self.normalise)


def _fit(weights: Mapping[str, Tensor], bare: Mapping[str, Tensor], path: Path, role: str | None, notes: list[str]) -> _Fit:
    """The prefix under which most names of the network are found; the names of one prefix are one set of weights."""
    clean = {WRAPPERS.sub("", name): name for name in weights}
    found: Counter[str] = Counter()
    for name in clean:
        for at in (0, *(match.end() for match in re.finditer(r"\.", name))):
            if name[at:] in bare:
                found[name[:at]] += 1
    most = max(found.values(), default=0)
    alike = sorted((prefix for prefix, count in found.items() if count == most), key=lambda prefix: (prefix.count("."), prefix))
    prefix = alike[0] if alike else ""
    if len(alike) > 1 and prefix and 2 * most > len(bare):
        taken = checkpoint.choose([name[:-1] for name in alike], role)
        if taken is None:
            raise Fault(f"the checkpoint '{path}' holds several sets of names that fit ({', '.join(f'{name}*' for name in alike[:4])}): "
                        f"choose with {checkpoint.setting(role)}={alike[0][:-1]}")  # fmt: skip
        prefix = f"{taken}."
        notes.append(checkpoint.also(taken, [name[:-1] for name in alike], path, role))
    original = {name[len(prefix) :]: there for name, there in clean.items() if name.startswith(prefix)}
    outer = prefix.removesuffix(NET)
    own = {name: clean[outer + name] for name in NORMALISE if outer + name in clean} if prefix.endswith(NET) else {}
    dropped = outer if own else prefix  # else the file is of a network in kdx
    if dropped:
        others = set(weights).difference(original.values(), own.values()) if len(alike) == 1 else ()
        some = f"; what does not begin with it was left out: {', '.join(sorted(others)[:2])}{', ...' if len(others) > 2 else ''}" if others else ""
        notes.append(f"the names of the checkpoint '{path}' begin with '{dropped}', which was dropped{some}")
    kept = {name: weights[there] for name, there in original.items() if name in bare}
    missing = {name for name in bare.keys() - kept.keys() if not name.endswith("num_batches_tracked")}  # which old versions of torch did not count
    return _Fit(prefix, kept, original, frozenset(missing), frozenset(original.keys() - bare.keys()), {name: weights[there] for name, there in own.items()})


def _head(bare: Mapping[str, Tensor]) -> frozenset[str]:
    """Names of the last layer."""
    last = next((name for name in reversed(bare) if name.endswith("weight") and bare[name].dim() > 1), "")
    layer = last.removesuffix("weight")
    return frozenset({last, f"{layer}bias"} & bare.keys())


def _listed(fit: _Fit, names: frozenset[str]) -> str:
    return ", ".join(f"{fit.original.get(name, fit.prefix + name)}{list(fit.weights[name].shape) if name in fit.weights else ' is missing'}"
                     for name in sorted(names, reverse=True)[:2])  # fmt: skip


def _check_names(fit: _Fit, head: frozenset[str], bare: Mapping[str, Tensor], path: Path, role: str | None) -> None:
    if not fit.weights:
        there = ", ".join([name for name in fit.original.values() if name not in NORMALISE][:2])
        raise Fault(f"the checkpoint '{path}' is of another model: of its names ({there}, ...) none is one of this model ({', '.join(list(bare)[:2])}, ...)")
    if fit.missing and fit.missing <= head:
        raise Fault(f"the checkpoint '{path}' lacks the last layer ({', '.join(fit.prefix + name for name in sorted(fit.missing, reverse=True))}): "
                    f"{FINE_TUNE.get(role, FINE_TUNE[None])}")  # fmt: skip
    if fit.missing or fit.extra:
        lacks = [fit.prefix + name for name in sorted(fit.missing)[:3]]
        besides = [fit.original[name] for name in sorted(fit.extra)[:3]]
        raise Fault(f"the checkpoint '{path}' is of another model: it lacks {lacks or 'nothing'} and has {besides or 'nothing'} besides")


def _check_shapes(fit: _Fit, head: frozenset[str], bare: Mapping[str, Tensor], path: Path, role: str | None) -> None:
    wrong = [name for name in bare if name in fit.weights and fit.weights[name].shape != bare[name].shape]
    if not wrong:
        return
    first, name = next((n for n, value in bare.items() if n.endswith("weight") and value.dim() > 1), ""), wrong[0]
    there, here = (list(values[name].shape) for values in (fit.weights, bare))
    if head.issuperset(wrong) and there[1:] == here[1:] and first not in wrong:
        why = (f"it was trained for {there[0]} classes and the data set has {here[0]}: {FINE_TUNE.get(role, FINE_TUNE[None])}, "
               "or choose the data that it was made for")  # fmt: skip
    else:
        why = _cause(name == first, there, here, role)
    raise Fault(f"the checkpoint '{path}' does not fit: {fit.original[name]} is {there} there and {here} here: {why}")


def _cause(first: bool, there: list[int], here: list[int], role: str | None) -> str:
    """Why two shapes differ. first: of the layer that meets the picture."""
    if len(there) != len(here):
        return "another kind of layer, so another model"
    if len(here) == 4 and first and there[0] == here[0] and there[1] != here[1]:
        return f"it takes pictures of {there[1]} channels and the data set's have {here[1]}"
    if len(here) == 4 and first and there[2:] != here[2:]:
        sizes = "larger" if there[2] > here[2] else "smaller"
        keeps = f", or {role or 'model'}.weights=DEFAULT, which keeps torchvision's stem and enlarges the pictures" if sizes == "larger" else ""
        return (f"its first layer is for {sizes} pictures, as kdx fits that layer to the picture: "
                f"set dataset.image_size to the size that it learned on, where the data set has it{keeps}")  # fmt: skip
    if len(here) == 3 and there[::2] == here[::2]:
        return "its positions are of pictures of another size, or of other patches: set dataset.image_size to the size that it learned on, or the model's patch"
    if len(here) == 2 and there[0] == here[0]:
        return "it learned on pictures of another size (set dataset.image_size, where the data set has it), or has other widths"
    return "other widths, or another model"


def _check_numbers(fit: _Fit, bare: Mapping[str, Tensor], path: Path) -> None:
    """Weights in half or double precision are cast; integers and numbers that are not finite are no weights."""
    for name, value in fit.weights.items():
        if value.layout is not torch.strided or value.is_meta or (bare[name].is_floating_point() and not value.is_floating_point()):
            kind = "without numbers" if value.is_meta else str(value.dtype if value.layout is torch.strided else value.layout).removeprefix("torch.")
            raise Fault(f"the checkpoint '{path}' is quantised, packed or empty: {fit.original[name]} is {kind}; "
                        "give the floating-point weights that it was made from")  # fmt: skip
    bad = [name for name, value in fit.weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise Fault(f"the checkpoint '{path}' holds numbers that are not finite (NaN or infinite) in {len(bad)} of {len(fit.weights)} tensors, the first of "
                    f"them {fit.original[bad[0]]}: its training went wrong; give an earlier checkpoint")  # fmt: skip
