"""Which of several sets of weights in a file is meant, by what they are called and whose names they hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdx.core.errors import printable

RAW = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "teacher",
    "student",
    "params",
    "weights",
    "backbone",
    "encoder",
)
"""Where other tools put the weights inside a checkpoint."""
EMA = (
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema_model",
    "model_ema_state_dict",
    "ema_model_state_dict",
    "ema",
    "params_ema",
    "shadow",
    "swa_model",
    "swa_state_dict",
    "averaged_model",
)
"""And their moving average."""
AVERAGED = re.compile(
    r"(^|[._])(ema|swa|shadow|averaged?|avg|polyak|mean_teacher|momentum_encoder|momentum)([._]|$)|EMA|Ema([._A-Z]|$)"
)
WRAPPERS = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What compiled and sharded modules put into names, anywhere."""


def prefixes(names: Iterable[str], like: Collection[str]) -> Counter[str]:
    """What stands before the names of a network, and how often: `model.`, say, or nothing."""
    found: Counter[str] = Counter()
    for name in names:
        for at in (0, *(match.end() for match in re.finditer(r"\.", name))):
            if name[at:] in like:
                found[name[:at]] += 1
    return found


def setting(role: str | None) -> str:
    """The setting that says where in the file the weights are."""
    return f"{role}.key" if role else "key"


def choose_weights(names: Sequence[str], role: str | None) -> str | None:
    """Of names that all would do: the role's own, else what lies at the top (""), else the only one that is
    no moving average; None where that does not tell."""
    of_role = [name for name in names if role and role in name.split(".")]
    if not of_role and "" in names:
        return ""
    raw = [name for name in (of_role or names) if not AVERAGED.search(name)]
    rest = raw or of_role or list(names)
    return rest[0] if len(rest) == 1 else None


def also(taken: str, others: Iterable[str], path: Path, role: str | None) -> str:
    """What is said where the file holds more than what is taken."""
    others = [name for name in others if name and name != taken]
    if not others:
        return f"the checkpoint '{path}' holds other weights at the top: '{taken}' was taken"
    averaged = [name for name in others if AVERAGED.search(name)]
    what = (
        "raw weights and averaged ones"
        if averaged and not AVERAGED.search(taken)
        else "several sets of weights"
    )
    shown = f"'{taken}'" if taken else "what lies at the top"
    return (
        f"the checkpoint '{path}' holds {what}: {shown} was taken; "
        f"{setting(role)}={printable((averaged or others)[0])} takes the "
        f"other{'s' if len(others) > 1 else ''}"
    )


def sets_of_weights(
    found: Mapping, tensors: Mapping[str, Tensor], role: str | None, like: Collection[str]
) -> tuple[list[str], list[str]]:
    """(the names under which weights lie of which one is to be taken, "" for here; others that hold as many
    of the network's names)
    """
    inside = [
        name
        for name, value in found.items()
        if isinstance(name, str)
        and isinstance(value, Mapping)
        and _holds_tensors(value)
        and (name in RAW or name in EMA or name == role or not re.search(r"optim|sched|scaler|^opt", name))
    ]
    shares = {name: _share(found[name], like) for name in inside} | {"": _share(tensors, like)}
    most = max(shares.values())
    known = 2 * most > len(like) > 0
    # rather than usual names: what holds about as many of the network's names is a set of its weights, and
    # nothing else is
    if known:
        inside = [name for name in inside if 2 * shares[name] > most]
    usual = [name for name in inside if name in RAW or name in EMA or name == role]
    if known and 2 * shares[""] > most:
        return ["", *inside], []
    if usual or not any(value.dim() > 1 for value in tensors.values()):
        return usual or inside, [name for name in inside if known and usual and name not in usual]
    return inside if known else [], []


def _share(found: Any, like: Collection[str], depth: int = 4) -> int:
    """How many of a network's names are in a mapping, or in one that lies in it."""
    names = (
        [
            WRAPPERS.sub("", name)
            for name, value in found.items()
            if isinstance(name, str) and isinstance(value, Tensor)
        ]
        if like
        else []
    )
    deeper = (
        [_share(value, like, depth - 1) for value in found.values() if isinstance(value, Mapping)]
        if like and depth
        else []
    )
    return max([*prefixes(names, like).values(), *deeper], default=0)


def _holds_tensors(value: Any, depth: int = 4) -> bool:
    """Whether some text in a mapping names a tensor, at any of a few levels."""
    return isinstance(value, Mapping) and any(
        isinstance(name, str)
        and (isinstance(inner, Tensor) or (depth > 0 and _holds_tensors(inner, depth - 1)))
        for name, inner in value.items()
    )
