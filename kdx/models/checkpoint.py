"""A file of weights as people have them, read without unpickling: what kind of file it is, and where in it
the weights lie.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from kdx.core import shortage
from kdx.core.errors import UserError, nearest, printable, type_name
from kdx.models import foreign

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


@dataclass(frozen=True)
class Content:
    """Weights of a file: name -> tensor, the key under which they lie ("" at the top), and what to tell of
    the choice.
    """

    weights: dict[str, Tensor]
    place: str
    notes: list[str]

    def key(self, prefix: str) -> str:
        """The words for `teacher.key=` that take the names beginning with `prefix` and a dot; "" for all at
        the top.
        """
        return ".".join(filter(None, (self.place, prefix)))


def read_weights_file(
    path: Path, *, key: str | None = None, role: str | None = None, like: Collection[str] = ()
) -> Content:
    """From .safetensors, or from a file of torch.save with nothing in it but tensors and plain values.

    key: where inside the file the weights lie, with dots where it lies deeper. role: "teacher" or "student",
    preferred where the file holds both, and said in the name of the setting. like: the names of the network,
    by which its weights are distinguished from other tensors. Raises UserError, naming the file, where it is
    missing, damaged, of another kind, or would have to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the checkpoint '{path}' does not exist")
    notes: list[str] = []
    place, found = "", _open(path)
    if key is not None:
        place, found = key, _under(found, key, path, setting(role))
    weights, place = _weights(found, place, path, role, notes, like)
    if not weights:
        held = (
            f"under {setting(role)}={key} lies {_kind(found)}"
            if key is not None
            else f"it holds {_kind(found)}"
        )
        raise UserError(f"the checkpoint '{path}' holds no state dict: {held}")
    return Content(weights, place, notes)


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


# What kind of file it is


def _open(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"the checkpoint '{path}' cannot be read: {error.strerror}") from error
    if other := foreign.what(path, head):
        raise UserError(f"the checkpoint '{path}' {other}")
    try:
        # torch warns of a foreign pickle, and then refuses it: that is reported below
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if _is_safetensors(path, head):
                return load_file(path)
            with path.open("rb") as file:  # of a name torch takes its ending to mean something
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(foreign.refusal(path, error)) from error
    except Exception as error:
        # bytes that are no checkpoint make the readers fail in any way: IndexError, TypeError, struct.error
        if shortage.kind_of_shortage(error):
            raise
        why = (str(error).splitlines() or [""])[0]
        hint = (
            f": {printable(why)[:160]}"
            if " " in why
            else ", or no file of weights: its bytes are none that torch.save or safetensors writes"
        )
        raise UserError(f"the checkpoint '{path}' is damaged{hint}") from error


def _is_safetensors(path: Path, head: bytes) -> bool:
    """By its content, as files get renamed."""
    torchs = head.startswith((b"PK\x03\x04", b"\x80"))
    length = int.from_bytes(head[:8], "little")
    return (path.suffix == ".safetensors" and not torchs) or (
        head[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8
    )


# Where in it the weights lie


def _weights(
    found: Any, place: str, path: Path, role: str | None, notes: list[str], like: Collection[str]
) -> tuple[dict[str, Tensor], str]:
    """(the state dict in what was read, its key); empty where there is none. place: the key so far."""
    if not isinstance(found, Mapping):
        return {}, place
    tensors = {
        name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)
    }
    names, others = _sets(found, tensors, role, like)
    if names:
        taken = choose_weights(names, role)
        dotted = {name: f"{place}.{name}" if place and name else name or place for name in (*names, *others)}
        if taken is None:
            listed = ", ".join(f"'{printable(name)}'" for name in list(dotted.values())[:6])
            raise UserError(
                f"the checkpoint '{path}' holds several sets of weights ({listed}): choose with "
                f"{setting(role)}={printable(dotted[names[0]])}"
            )
        if len(dotted) > 1:
            notes.append(also(dotted[taken], list(dotted.values()), path, role))
        if taken:
            return _weights(found[taken], dotted[taken], path, role, notes, like)
    packed = [name for name in found if isinstance(name, str) and name.endswith("_packed_params")]
    if packed or any(value.is_quantized for value in tensors.values()):
        raise UserError(
            f"the checkpoint '{path}' is quantised, and the network to be trained or asked has "
            "floating-point weights: give those it was made from"
        )
    return (tensors if any(value.dim() for value in tensors.values()) else {}), place


def _sets(
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


def _under(found: Any, key: str, path: Path, name: str) -> Any:
    """What lies under a key, which may have dots in it, or the tensors whose names begin with it."""
    if not isinstance(found, Mapping):
        raise UserError(f"{name}={key} looks into the checkpoint '{path}', which holds {_kind(found)}")
    if key in found:
        return found[key]
    for first in sorted(
        (
            n
            for n in found
            if isinstance(n, str) and key.startswith(f"{n}.") and isinstance(found[n], Mapping)
        ),
        key=len,
        reverse=True,
    ):
        return _under(found[first], key[len(first) + 1 :], path, name)
    begin = {
        n[len(key) + 1 :]: value
        for n, value in found.items()
        if isinstance(n, str) and n.startswith(f"{key}.")
    }
    if begin:
        return begin
    held = [n for n, value in found.items() if isinstance(n, str) and isinstance(value, Mapping)] or [
        n.partition(".")[0] for n in map(str, found)
    ]
    deeper = [
        f"{n}.{key}"
        for n in held
        if isinstance(inner := found.get(n), Mapping) and any(f"{i}.".startswith(f"{key}.") for i in inner)
    ]
    meant = f"; did you mean '{deeper[0]}'?" if deeper else nearest(key, dict.fromkeys(held))
    raise UserError(f"the checkpoint '{path}' has no '{printable(key)}' ({name}){printable(meant)[:200]}")


def _kind(found: Any) -> str:
    if isinstance(found, Mapping):
        return (
            f"a mapping of {', '.join(printable(repr(name)) for name in list(found)[:4])[:120]}"
            if found
            else "an empty mapping"
        )
    return "one tensor" if isinstance(found, Tensor) else type_name(found)
