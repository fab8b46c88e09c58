"""What a file is that was given as weights and holds none that are read,
recognised by its content, and what to do.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

from kdx.core.errors import printable

REFUSED = "kdx unpickles nothing, as a pickle can run code"
HEADS = {
    b"version https://git-lfs": "is a Git LFS pointer and not the file itself: fetch it with `git lfs pull`",
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file, as Keras writes: kdx reads the weights of PyTorch's networks only",  # noqa: E501
    b"\x93NUMPY": "is an array of numpy: kdx reads the weights of PyTorch's networks only",
    b"GGUF": (
        "is a GGUF file, whose weights are packed for inference: kdx reads the weights "
        "of PyTorch's networks only"
    ),
    b"\x1f\x8b\x08": "is compressed (gzip): unpack it first",
    b"\xfd7zXZ\0": "is compressed (xz): unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd): unpack it first",
    b"7z\xbc\xaf\x27\x1c": "is compressed (7z): unpack it first",
    b"Rar!\x1a\x07": "is compressed (rar): unpack it first",
}
"""First bytes of files that are no checkpoint of torch's, and what is said of them."""
PICKLES = 4
"""torch.save before version 1.6 wrote so many in a row: a number, its version, the system, the object."""
_MOST, MOST_WORDS = 64 << 20, 500_000
"""Bytes and words of a pickle that are looked through."""
ONNX = re.compile(rb"\x08[\x01-\x1f]\x12(?P<size>[\x01-\x40])(?P<name>[\w .+-]{1,64})", re.S)


def what(path: Path, head: bytes) -> str | None:
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
        return (
            "is a text file (JSON), and no file of weights: give the .safetensors or "
            ".pt file that belongs to it"
        )
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it first"
    found = ONNX.match(head)
    if path.suffix == ".onnx" or (found and len(found["name"]) >= found["size"][0]):
        return (
            "is an ONNX program, not a state dict: give the weights of the PyTorch network "
            "that it was exported from"
        )
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite program: kdx reads the weights of PyTorch's networks only"
    return _in_zip(path) if head.startswith(b"PK\x03\x04") else None


def _in_zip(path: Path) -> str | None:
    """torch.save writes a zip archive, and so do others."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    # the last: a feature that zipfile has not
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        RuntimeError,
    ):
        return "is damaged: its end is missing, as of a download or copy that broke off, or was changed"
    inner = [name.partition("/")[2] or name for name in names]
    if any(name == "constants.pkl" or name.startswith("code/") for name in inner):
        return (
            "is TorchScript (torch.jit.save), a program and no state dict: where you trust it, "
            "torch.save(torch.jit.load(PATH).state_dict(), 'weights.pt') takes its weights out"
        )
    if any(name == "data.pkl" for name in inner):
        return None
    if any("exported_program" in name or name == "archive_format" for name in inner):
        return (
            "is a program of torch.export, not a state dict: give the weights of the network "
            "that it was exported from"
        )
    if any(name.endswith(".npy") for name in names):
        return "is an archive of numpy arrays (.npz): kdx reads the weights of PyTorch's networks only"
    if any(name.endswith(".weights.h5") for name in names):
        return "is a model of Keras: kdx reads the weights of PyTorch's networks only"
    if not names:
        return "is an empty zip archive"
    return (
        f"is a zip archive ({printable(names[0])[:60]}{', ...' if len(names) > 1 else ''}) that torch.save "
        "did not write: unpack it first"
    )


def refusal(path: Path, error: pickle.UnpicklingError) -> str:
    """What the file wants to be run: the class that torch refused, else one that its pickles name."""
    names = [
        printable(name)[:60] for name in re.findall(r"GLOBAL (\S+) (?:was|whose)", str(error))
    ] + _pickled(path)
    whole = next((name for name in names if name.startswith("torch.nn.modules")), None)
    if whole:
        first = next((name for name in names if not name.startswith("torch.")), whole)
        return (
            f"the checkpoint '{path}' is a whole pickled network ({first}), not its weights, and {REFUSED}: "
            "where it was made, torch.save(model.state_dict(), 'weights.pt')"
        )
    if not names:
        return (
            f"the checkpoint '{path}' is damaged, or no file of torch.save: {REFUSED}; save the state dict "
            "alone (torch.save(model.state_dict(), path))"
        )
    return (
        f"the checkpoint '{path}' holds a pickled {names[0]}, and {REFUSED}: save the state dict alone "
        "(torch.save(model.state_dict(), 'weights.pt')), or, if you trust the file, c = torch.load(PATH, "
        "'cpu', weights_only=False) and torch.save(c[KEY], 'weights.pt'), KEY naming its weights"
    )


def _pickled(path: Path) -> list[str]:
    """Names of the classes and functions that the pickles of a file ask for; their words are read and nothing
    is run.
    """
    found: dict[str, None] = {}
    # damaged: what was found until there
    with (
        contextlib.suppress(Exception),
        contextlib.ExitStack() as opened,
    ):
        file: Any = opened.enter_context(path.open("rb"))
        if zipfile.is_zipfile(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            inner = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            file = io.BytesIO(archive.open(inner).read(_MOST))
        for _ in range(PICKLES):
            words: list[Any] = []
            for op, value, _ in itertools.islice(pickletools.genops(file), MOST_WORDS):
                if op.name in ("GLOBAL", "STACK_GLOBAL"):
                    found[
                        value.replace(" ", ".") if op.name == "GLOBAL" else ".".join(map(str, words[-2:]))
                    ] = None
                elif isinstance(value, str):
                    words.append(value)
    plain = ("collections.", "torch._utils.", "torch.storage.", "builtins.", "__builtin__.", "copyreg.")
    storage = re.compile(r"torch\.\w*Storage$")
    return [printable(name)[:60] for name in found if not name.startswith(plain) and not storage.match(name)]
