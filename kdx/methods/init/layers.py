"""Every n-th block of the teacher (DistilBERT: Sanh et al. 2019, arXiv 1910.01108)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.checks import choice
from kdx.core.errors import UserError
from kdx.methods.init._carry import DIGEST, check_digests, network_kind
from kdx.methods.init._selection import uniform_indices


class Layers(Initialiser):
    """A student as wide as its teacher, with fewer blocks: each is one of the teacher's, and all else, such
    as tables, the last norm and the last layer, is the teacher's too. For any two networks with a row of
    equal blocks (decoders, encoders of texts, vision transformers).

    which: "uniform", evenly spaced ones from the first on; "first" or "last" so many; or a list of the
    teacher's blocks, counted from 0, one for each of the student's.
    """

    def __init__(self, *, which: str | Sequence[int]):
        self.which = which if isinstance(which, list | tuple) else choice("init.which", which, _WHICH)

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        check_digests("layers", student, teacher)
        self._pairs(student, teacher)

    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        pairs, taken, fresh = self._pairs(student, beginning.teacher)
        for own, other in pairs:
            own.detach().copy_(other.detach())
        notes = [f"the student's blocks are the teacher's {', '.join(str(i + 1) for i in taken)}"]
        return (
            [*notes, f"these began fresh, as no weight of the teacher fits: {', '.join(fresh)}"]
            if fresh
            else notes
        )

    def _pairs(
        self, student: nn.Module, teacher: nn.Module
    ) -> tuple[list[tuple[Tensor, Tensor]], list[int], list[str]]:
        """((student's, teacher's) tensors, which blocks of the teacher, names of the student that stay)"""
        (name, blocks), (other_name, other_blocks) = _row(student, "student"), _row(teacher, "teacher")
        taken = self._taken(len(blocks), len(other_blocks))
        pairs = []
        for block, i in zip(blocks, taken, strict=True):
            own, other = _tensors(block), _tensors(other_blocks[i])
            if unlike := [key for key in own | other if _size(own, key) != _size(other, key)]:
                key = max(unlike, key=lambda key: own[key].numel() if key in own else 0)
                raise UserError(
                    "init=layers copies whole blocks, and those of the student "
                    f"({key} {_size(own, key)}) are other than the teacher's ({key} {_size(other, key)}): "
                    "give the student the teacher's width and heads, or take init=select, where it is "
                    "narrower"
                )
            pairs += [(value, other[key]) for key, value in own.items()]
        rest, other_rest = _tensors(student, name), _tensors(teacher, other_name)
        fits = {k: v for k, v in rest.items() if k in other_rest and other_rest[k].shape == v.shape}
        pairs += [(value, other_rest[key]) for key, value in fits.items()]
        return pairs, taken, [key for key in rest if key not in fits]

    def _taken(self, wanted: int, of: int) -> list[int]:
        if not isinstance(self.which, str):
            good = all(type(i) is int and 0 <= i < of for i in self.which)
            if len(self.which) != wanted or not good:
                raise UserError(
                    f"init.which must name one of the teacher's {of} blocks, from 0 to {of - 1}, for each of "
                    f"the student's {wanted}; given: {list(self.which)}"
                )
            return list(self.which)
        if wanted > of:
            raise UserError(
                f"init=layers gives each of the student's {wanted} blocks one of the teacher's, which has "
                f"{of}: give the student {of} at most"
            )
        evenly = uniform_indices(of, wanted).tolist()
        return {"uniform": evenly, "first": list(range(wanted)), "last": list(range(of - wanted, of))}[
            self.which
        ]


_WHICH = ("uniform", "first", "last")


def _row(network: nn.Module, role: str) -> tuple[str, list[nn.Module]]:
    """The name and the blocks of the row of equal blocks that holds most of a network's weights."""
    found: dict[str, list[nn.Module]] = {}
    for name, module in network.named_modules():
        inner = list(module.children())
        if isinstance(module, nn.ModuleList | nn.Sequential) and inner:
            kind, many = Counter(map(type, inner)).most_common(1)[0]
            if many == len(inner) and list(inner[0].children()):
                found[name] = inner
    if not found:
        raise UserError(
            f"init=layers copies blocks, and the {role} ({network_kind(network)}) has no row of equal ones: "
            "choose a transformer, or init=fresh"
        )
    return max(found.items(), key=lambda pair: sum(p.numel() for b in pair[1] for p in b.parameters()))


def _tensors(module: nn.Module, without: str | None = None) -> dict[str, Tensor]:
    """Its state by name, but by which vocabulary it reads; without: a part that is left out."""
    return {
        name: value
        for name, value in module.state_dict(keep_vars=True).items()
        if name.rpartition(".")[2] != DIGEST and (without is None or not name.startswith(f"{without}."))
    }


def _size(tensors: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(tensors[name].shape)) if name in tensors else "has none"
