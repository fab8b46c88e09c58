"""A file of weights as people have them, read without unpickling: what kind of file it is, and where in it the weights lie."""

from __future__ import annotations

import contextlib
import io
import itertools
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from kdx import shortage
from kdx.faults import Fault, kind_of, nearest, shows

RAW = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "teacher", "student", "params", "weights", "backbone", "encoder")
"""Where other tools put the weights inside a checkpoint."""
EMA = ("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "model_ema_state_dict", "ema_model_state_dict", "ema", "params_ema", "shadow",
       "swa_model", "swa_state_dict", "averaged_model")  # fmt: skip
"""And their moving average."""
AVERAGED = re.compile(r"(^|[._])(ema|swa|shadow|averaged?|avg|polyak|mean_teacher|momentum_encoder|momentum)([._]|$)|EMA|Ema([._A-Z]|$)")
WRAPPERS = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What compiled and sharded modules put into names, anywhere."""
REFUSED = "kdx unpickles nothing, as a pickle can run code"
HEADS = {
    b"version https://git-lfs": "is a Git LFS pointer and not the file itself: fetch it with `git lfs pull`",
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file, as Keras writes: kdx reads the weights of PyTorch's networks only",
    b"\x93NUMPY": "is an array of numpy: kdx reads the weights of PyTorch's networks only",
    b"GGUF": "is a GGUF file, whose weights are packed for inference: kdx reads the weights of PyTorch's networks only",
    b"\x1f\x8b\x08": "is compressed (gzip): unpack it first",
    b"\xfd7zXZ\0": "is compressed (xz): unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd): unpack it first",
    b"7z\xbc\xaf\x27\x1c": "is compressed (7z): unpack it first",
    b"Rar!\x1a\x07": "is compressed (rar): unpack it first",
}
"""First bytes of files that are no checkpoint of torch's, and what is said of them."""
PICKLES = 4
"""torch.save before version 1.6 wrote so many in a row: a number, its version, the system, the object."""
MOST, MOST_WORDS = 64 << 20, 500_000
"""Bytes and words of a pickle that are looked through."""
ONNX = re.compile(rb"\x08[\x01-\x1f]\x12(?P<size>[\x01-\x40])(?P<name>[\w .+-]{1,64})", re.S)


@dataclass(frozen=True)
class Content:
    """Weights of a file: name -> tensor, the key under which they lie ("" at the top), and what to tell of the choice."""

    weights: dict[str, Tensor]
    place: str
    notes: list[str]

    def key(self, prefix: str) -> str:
        """The words for `teacher.key=` that take the names beginning with `prefix` and a dot; "" for all at the top."""
        return ".".join(filter(None, (self.place, prefix)))


def read(path: Path, *, key: str | None = None, role: str | None = None, like: Collection[str] = ()) -> Content:
    """From .safetensors, or from a file of torch.save with nothing in it but tensors and plain values.

    key: where inside the file the weights lie, with dots where it lies deeper. role: "teacher" or "student", preferred where the file holds both, and
    said in the name of the setting. like: the names of the network, by which its weights are told from other tensors.
    Raises Fault, naming the file, where it is missing, damaged, of another kind, or would have to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise Fault(f"the checkpoint '{path}' does not exist")
    notes: list[str] = []
    place, found = "", _open(path)
    if key is not None:
        place, found = key, _under(found, key, path, setting(role))
    weights, place = _weights(found, place, path, role, notes, like)
    if not weights:
        held = f"under {setting(role)}={key} lies {_kind(found)}" if key is not None else f"it holds {_kind(found)}"
        raise Fault(f"the checkpoint '{path}' holds no state dict: {held}")
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


def choose(names: Sequence[str], role: str | None) -> str | None:
    """Of names that all would do: the role's own, else what lies at the top (""), else the only one that is no moving average; None where that does
    not tell."""
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
    what = "raw weights and averaged ones" if averaged and not AVERAGED.search(taken) else "several sets of weights"
    shown = f"'{taken}'" if taken else "what lies at the top"
    return (f"the checkpoint '{path}' holds {what}: {shown} was taken; "
            f"{setting(role)}={shows((averaged or others)[0])} takes the other{'s' if len(others) > 1 else ''}")  # fmt: skip


# What kind of file it is


def _open(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise Fault(f"the checkpoint '{path}' cannot be read: {error.strerror}") from error
    if foreign := _foreign(path, head):
        raise Fault(f"the checkpoint '{path}' {foreign}")
    try:
        with warnings.catch_warnings():  # torch warns of a foreign pickle, and then refuses it: that is told below
            warnings.simplefilter("ignore")
            if _is_safetensors(path, head):
                return load_file(path)
            with path.open("rb") as file:  # of a name torch takes its ending to mean something
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Fault(_refusal(path, error)) from error
    except Exception as error:  # bytes that are no checkpoint make the readers fail in any way: IndexError, TypeError, struct.error
        if shortage.kind(error):
            raise
        why = (str(error).splitlines() or [""])[0]
        told = f": {shows(why)[:160]}" if " " in why else ", or no file of weights: its bytes are none that torch.save or safetensors writes"
        raise Fault(f"the checkpoint '{path}' is damaged{told}") from error


def _is_safetensors(path: Path, head: bytes) -> bool:
    """By its content, as files get renamed."""
    torchs = head.startswith((b"PK\x03\x04", b"\x80"))
    length = int.from_bytes(head[:8], "little")
    return (path.suffix == ".safetensors" and not torchs) or (head[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8)


def _foreign(path: Path, head: bytes) -> str | None:
    """What a file is that holds no weights of torch's, and what to do."""
    if not head:
        return "is damaged: it is empty"
    for first, said in HEADS.items():
        if head.startswith(first):
            return said
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, an error page say, and no file of weights: download it again"
    if text.startswith(b"{") and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "is a text file (JSON), and no file of weights: give the .safetensors or .pt file that belongs to it"
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it first"
    found = ONNX.match(head)
    if path.suffix == ".onnx" or (found and len(found["name"]) >= found["size"][0]):
        return "is an ONNX program, not a state dict: give the weights of the PyTorch network that it was exported from"
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite program: kdx reads the weights of PyTorch's networks only"
    return _in_zip(path) if head.startswith(b"PK\x03\x04") else None


def _in_zip(path: Path) -> str | None:
    """torch.save writes a zip archive, and so do others."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):  # the last: a feature that zipfile has not
        return "is damaged: its end is missing, as of a download or copy that broke off, or was changed"
    inner = [name.partition("/")[2] or name for name in names]
    if any(name == "constants.pkl" or name.startswith("code/") for name in inner):
        return ("is TorchScript (torch.jit.save), a program and no state dict: where you trust it, "
                "torch.save(torch.jit.load(PATH).state_dict(), 'weights.pt') takes its weights out")  # fmt: skip
    if any(name == "data.pkl" for name in inner):
        return None
    if any("exported_program" in name or name == "archive_format" for name in inner):
        return "is a program of torch.export, not a state dict: give the weights of the network that it was exported from"
    if any(name.endswith(".npy") for name in names):
        return "is an archive of numpy arrays (.npz): kdx reads the weights of PyTorch's networks only"
    if any(name.endswith(".weights.h5") for name in names):
        return "is a model of Keras: kdx reads the weights of PyTorch's networks only"
    if not names:
        return "is an empty zip archive"
    return f"is a zip archive ({shows(names[0])[:60]}{', ...' if len(names) > 1 else ''}) that torch.save did not write: unpack it first"


def _refusal(path: Path, error: pickle.UnpicklingError) -> str:
    """What the file wants to be run: the class that torch refused, else one that its pickles name."""
    names = [shows(name)[:60] for name in re.findall(r"GLOBAL (\S+) (?:was|whose)", str(error))] + _pickled(path)
    whole = next((name for name in names if name.startswith("torch.nn.modules")), None)
    if whole:
        first = next((name for name in names if not name.startswith("torch.")), whole)
        return (f"the checkpoint '{path}' is a whole pickled network ({first}), not its weights, and {REFUSED}: where it was made, "
                "torch.save(model.state_dict(), 'weights.pt')")  # fmt: skip
    if not names:
        return f"the checkpoint '{path}' is damaged, or no file of torch.save: {REFUSED}; save the state dict alone (torch.save(model.state_dict(), path))"
    return (f"the checkpoint '{path}' holds a pickled {names[0]}, and {REFUSED}: save the state dict alone (torch.save(model.state_dict(), 'weights.pt')), "
            "or, if you trust the file, c = torch.load(PATH, 'cpu', weights_only=False) and torch.save(c[KEY], 'weights.pt'), KEY naming its weights")


def _pickled(path: Path) -> list[str]:
    """Names of the classes and functions that the pickles of a file ask for; their words are read and nothing is run."""
    found: dict[str, None] = {}
    with contextlib.suppress(Exception), contextlib.ExitStack() as opened:  # damaged: what was found until there
        file: Any = opened.enter_context(path.open("rb"))
        if zipfile.is_zipfile(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            inner = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            file = io.BytesIO(archive.open(inner).read(MOST))
        for _ in range(PICKLES):
            words: list[Any] = []
            for op, value, _ in itertools.islice(pickletools.genops(file), MOST_WORDS):
                if op.name in ("GLOBAL", "STACK_GLOBAL"):
                    found[value.replace(" ", ".") if op.name == "GLOBAL" else ".".join(map(str, words[-2:]))] = None
                elif isinstance(value, str):
                    words.append(value)
    plain = ("collections.", "torch._utils.", "torch.storage.", "builtins.", "__builtin__.", "copyreg.")
    storage = re.compile(r"torch\.\w*Storage$")
    return [shows(name)[:60] for name in found if not name.startswith(plain) and not storage.match(name)]


# Where in it the weights lie


def _weights(found: Any, place: str, path: Path, role: str | None, notes: list[str], like: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """(the state dict in what was read, its key); empty where there is none. place: the key so far."""
    if not isinstance(found, Mapping):
        return {}, place
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    names, others = _sets(found, tensors, role, like)
    if names:
        taken = choose(names, role)
        dotted = {name: f"{place}.{name}" if place and name else name or place for name in (*names, *others)}
        if taken is None:
            listed = ", ".join(f"'{shows(name)}'" for name in list(dotted.values())[:6])
            raise Fault(f"the checkpoint '{path}' holds several sets of weights ({listed}): choose with {setting(role)}={shows(dotted[names[0]])}")
        if len(dotted) > 1:
            notes.append(also(dotted[taken], list(dotted.values()), path, role))
        if taken:
            return _weights(found[taken], dotted[taken], path, role, notes, like)
    packed = [name for name in found if isinstance(name, str) and name.endswith("_packed_params")]
    if packed or any(value.is_quantized for value in tensors.values()):
        raise Fault(f"the checkpoint '{path}' is quantised, and the network to be trained or asked has floating-point weights: give those it was made from")
    return (tensors if any(value.dim() for value in tensors.values()) else {}), place


def _sets(found: Mapping, tensors: Mapping[str, Tensor], role: str | None, like: Collection[str]) -> tuple[list[str], list[str]]:
    """(the names under which weights lie of which one is to be taken, "" for here; others that hold as many of the network's names)"""
    inside = [name for name, value in found.items() if isinstance(name, str) and isinstance(value, Mapping) and _holds_tensors(value)
              and (name in RAW or name in EMA or name == role or not re.search(r"optim|sched|scaler|^opt", name))]  # fmt: skip
    shares = {name: _share(found[name], like) for name in inside} | {"": _share(tensors, like)}
    most = max(shares.values())
    known = 2 * most > len(like) > 0
    if known:  # rather than usual names: what holds about as many of the network's names is a set of its weights, and nothing else is
        inside = [name for name in inside if 2 * shares[name] > most]
    usual = [name for name in inside if name in RAW or name in EMA or name == role]
    if known and 2 * shares[""] > most:
        return ["", *inside], []
    if usual or not any(value.dim() > 1 for value in tensors.values()):
        return usual or inside, [name for name in inside if known and usual and name not in usual]
    return inside if known else [], []


def _share(found: Any, like: Collection[str], depth: int = 4) -> int:
    """How many of a network's names are in a mapping, or in one that lies in it."""
    names = [WRAPPERS.sub("", name) for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)] if like else []
    deeper = [_share(value, like, depth - 1) for value in found.values() if isinstance(value, Mapping)] if like and depth else []
    return max([*prefixes(names, like).values(), *deeper], default=0)


def _holds_tensors(value: Any, depth: int = 4) -> bool:
    """Whether some text in a mapping names a tensor, at any of a few levels."""
    return isinstance(value, Mapping) and any(isinstance(name, str) and (isinstance(inner, Tensor) or (depth > 0 and _holds_tensors(inner, depth - 1)))
                                              for name, inner in value.items())  # fmt: skip


def _under(found: Any, key: str, path: Path, name: str) -> Any:
    """What lies under a key, which may have dots in it, or the tensors whose names begin with it."""
    if not isinstance(found, Mapping):
        raise Fault(f"{name}={key} looks into the checkpoint '{path}', which holds {_kind(found)}")
    if key in found:
        return found[key]
    for first in sorted((n for n in found if isinstance(n, str) and key.startswith(f"{n}.") and isinstance(found[n], Mapping)), key=len, reverse=True):
        return _under(found[first], key[len(first) + 1 :], path, name)
    begin = {n[len(key) + 1 :]: value for n, value in found.items() if isinstance(n, str) and n.startswith(f"{key}.")}
    if begin:
        return begin
    held = [n for n, value in found.items() if isinstance(n, str) and isinstance(value, Mapping)] or [n.partition(".")[0] for n in map(str, found)]
    deeper = [f"{n}.{key}" for n in held if isinstance(inner := found.get(n), Mapping) and any(f"{i}.".startswith(f"{key}.") for i in inner)]
    meant = f"; did you mean '{deeper[0]}'?" if deeper else nearest(key, dict.fromkeys(held))
    raise Fault(f"the checkpoint '{path}' has no '{shows(key)}' ({name}){shows(meant)[:200]}")


def _kind(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"a mapping of {', '.join(shows(repr(name)) for name in list(found)[:4])[:120]}" if found else "an empty mapping"
    return "one tensor" if isinstance(found, Tensor) else kind_of(found)
