"""A file of weights as people have them, read without unpickling: what kind of file it is, and where in it
the weights lie.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from kdx.core import shortage
from kdx.core.errors import UserError, nearest, printable, type_name
from kdx.models import foreign
from kdx.models.sets import also, choose_weights, sets_of_weights, setting


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
    names, others = sets_of_weights(found, tensors, role, like)
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
