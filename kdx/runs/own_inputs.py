"""Of rows with several inputs by name, those that a stored network reads: what is deployed takes these
alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from kdx.core.several import kinds_by_name, word_for
from kdx.models.adapt import Around, Plain
from kdx.models.ensemble import NetworkEnsemble
from kdx.models.fusion import Fusion
from kdx.models.named_inputs import NamedInputs
from kdx.pipeline.stages.files import build_adapter, new_network
from kdx.runs.stored import Weights
from kdx.store.component import Component
from kdx.store.moved import kind_of_old


@dataclass(frozen=True)
class _OwnInputs(Weights):
    """whole: the same weights, of the network that takes rows with all inputs."""

    whole: Weights | None = None

    def network(self) -> nn.Module:
        assert self.whole is not None
        return _unnamed(self.whole.network()) if len(self.reads) == 1 else self.whole.network()


def of_own_inputs(weights: Weights) -> Weights:
    """The same weights, of a network that takes the inputs that it reads, and not those that others read of
    the same rows. One input is then the row itself, without a name. Of rows with one input: as they are.
    """
    about = weights.about
    if not isinstance(build_adapter(about), NamedInputs):
        return weights
    network = new_network(Component(about["component"]), about, read_weights=False)
    read = _inputs_read(network)
    fused = any(isinstance(module, Fusion) for module in network.modules())
    if not read or (fused and len(read) < 2):
        return weights
    members = [replace(one, about=_narrowed(one.about, read)) for one in weights.members]
    known = {part.name: getattr(weights, part.name) for part in fields(weights)}
    found = {"about": _narrowed(about, read), "members": members, "reads": read}
    return _OwnInputs(**{**known, **found}, whole=weights)


def own_rows(rows: Any, names: Sequence[str]) -> Any:
    """Rows with several inputs, as a network takes them that reads those of these names (`Weights.reads`)."""
    if not names:
        return rows
    return rows[names[0]] if len(names) == 1 else {name: rows[name] for name in names}


def own_preprocessing(how: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """What is done to new files, of these inputs. how: see kdx.runs.preprocessing."""
    if not names or "inputs" not in how:
        return how
    each = how["inputs"]
    return each.get(names[0], {}) if len(names) == 1 else {"inputs": {n: each.get(n, {}) for n in names}}


def _unnamed(network: nn.Module) -> nn.Module:
    """The network, or each of an ensemble, as it is built for rows that are its one input."""
    if isinstance(network, NetworkEnsemble):
        network.members = nn.ModuleList(_unnamed(member) for member in network.members)
    elif isinstance(network, Plain) and network.units is None:
        return network.net
    elif isinstance(network, Around):
        network.input_name = None
    return network


def _inputs_read(network: nn.Module) -> tuple[str, ...]:
    around = (module for module in network.modules() if isinstance(module, Around))
    return tuple(sorted({module.input_name for module in around if module.input_name is not None}))


def _narrowed(about: Mapping[str, Any], read: Sequence[str]) -> dict[str, Any]:
    """A model.json of rows that have these inputs alone."""
    kind = kind_of_old(about)
    kinds, adapter = kinds_by_name(kind["reads"], kind["example"]), kind["adapter"]
    if len(read) > 1:
        kept = {key: {name: adapter[key][name] for name in read} for key in ("kinds", "inputs")}
        example = {name: kind["example"][name] for name in read}
        reads = word_for({name: kinds[name] for name in read})
        return {**about, "example": example, "reads": reads, "adapter": {**adapter, **kept}}
    only = read[0]
    found = {**about, "component": _without_names(about["component"]), "reads": kinds[only]}
    found |= {"example": {"": kind["example"][only]}, "adapter": adapter["inputs"][only]}
    return found | ({"shape": kind["example"][only][0]} if kinds[only] == "pictures" else {})


def _without_names(component: Mapping[str, Any]) -> dict[str, Any]:
    """A described network, or an ensemble of such, that names no input of a row."""
    found = {key: value for key, value in component.items() if key != "reads"}
    if isinstance(members := component.get("members"), list | tuple):
        found["members"] = [_without_names(one) if isinstance(one, Mapping) else one for one in members]
    return found
