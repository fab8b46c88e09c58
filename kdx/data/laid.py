"""A data set laid down in a folder as its loader handed it over, and opened again: its parts as arrays, all
else that it says of itself as JSON. Numpy only.

A `Raw` is a frozen dataclass whose fields are arrays or plain data, so that no class says how it is kept.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from kdx.core.errors import UserError, type_name
from kdx.core.trees import leaves
from kdx.data.raw import PARTS, Raw, example_of
from kdx.data.stored import StoredRows, write_array

RAW_JSON, ROWS_JSON = "raw.json", "decoded.json"
"""What the data set says of itself; how many rows of what kind its parts have."""
OPENED_WHOLE = 1 << 26
"""A data set whose inputs have at most so many bytes is opened as arrays in memory; of a larger one rows are
read as they are asked for."""
_MANY = 1000
"""A list of more words lies in a file of its own."""


class KeptWords(Sequence[str]):
    """A list of words in two files, read as they are asked for."""

    def __init__(self, text: Path, ends: Path):
        self._text, self._ends = np.load(text, mmap_mode="r"), np.load(ends, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        start = int(self._ends[place - 1]) if place else 0
        return bytes(self._text[start : int(self._ends[place])]).decode("utf-8", "surrogateescape")


def _file(part: str, what: str, leaf: str = "") -> str:
    """train.inputs.npy, or train.inputs.NAME.npy of several arrays."""
    return f"{part}.{what}.{leaf}.npy" if leaf else f"{part}.{what}.npy"


def keep_raw(raw: Raw, folder: Path, dataset: str) -> None:
    """Writes train.inputs.npy and its like, raw.json and decoded.json; arrays that lie in the folder already
    stay. Raises UserError where a field is neither an array nor plain data."""
    files: dict[int, str] = {}
    rows, held = {}, []
    for part in PARTS:
        pair = raw.part(part)
        for what, value in zip(("inputs", "truth"), pair, strict=True):
            for leaf, array in leaves(value).items() if value is not None else ():
                files[id(array)] = _file(part, what, leaf)
                held.append(array)  # or another array might be given its number
                _write(folder / files[id(array)], array)
        if pair[0] is not None:
            rows[part] = len(next(iter(leaves(pair[0]).values())))
    if not dataclasses.is_dataclass(raw) or isinstance(raw, type):
        raise UserError(
            f"load() gives {type_name(raw)}, which cannot be kept: make it a frozen dataclass whose fields "
            "are arrays and plain data, as kdx.data.raw.Arrays is"
        )
    keep = _Keeping(folder, files, type(raw).__name__)
    fields = {one.name: keep.plain(getattr(raw, one.name), one.name) for one in dataclasses.fields(raw)}
    kind = type(raw)
    _json(folder / RAW_JSON, {"_target_": f"{kind.__module__}.{kind.__qualname__}", "fields": fields})
    example = {name: [list(shape), kind] for name, (shape, kind) in example_of(raw.part("train")[0]).items()}
    _json(folder / ROWS_JSON, {"dataset": dataset, "reads": raw.reads, "example": example, "rows": rows})


def open_raw(folder: Path, find: Callable[[str], type[Raw]]) -> Raw:
    """What `keep_raw` kept. find: the class of an address."""
    about = json.loads((folder / RAW_JSON).read_text(encoding="utf-8"))
    large = sum(path.stat().st_size for path in folder.glob("*.inputs*.npy")) > OPENED_WHOLE
    fields = {name: _opened(value, folder, large) for name, value in about["fields"].items()}
    return find(about["_target_"])(**fields)


class _Keeping:
    """files: id of an array -> the file that holds it already."""

    def __init__(self, folder: Path, files: dict[int, str], what: str):
        self.folder, self.files, self.what = folder, files, what

    def plain(self, value: Any, name: str) -> Any:
        """The same as JSON: arrays by the name of their file, and what JSON does not know by its kind."""
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray | StoredRows):
            if id(value) not in self.files:
                write_array(self.folder / f"{name}.npy", value)
                return {"array": f"{name}.npy"}
            return {"array": self.files[id(value)]}
        if isinstance(value, Mapping):
            if odd := [key for key in value if not isinstance(key, str)]:
                raise UserError(self._refused(f"{name}, which names something {odd[0]!r}"))
            return {"map": {key: self.plain(inner, f"{name}.{key}") for key, inner in value.items()}}
        if isinstance(value, KeptWords) or (isinstance(value, list | tuple) and _all_words(value)):
            return self._words(value, name)
        for kind, called in ((tuple, "tuple"), (list, "list"), (frozenset, "set")):
            if isinstance(value, kind):
                items = sorted(value) if kind is frozenset else value
                return {called: [self.plain(inner, f"{name}.{i}") for i, inner in enumerate(items)]}
        raise UserError(self._refused(f"{name}, {type_name(value)}"))

    def _words(self, value: Sequence[str], name: str) -> dict[str, Any]:
        if len(value) <= _MANY:
            return {"tuple" if isinstance(value, tuple) else "list": list(value)}
        coded = [word.encode("utf-8", "surrogateescape") for word in value]
        np.save(self.folder / f"{name}.ends.npy", np.cumsum([len(word) for word in coded], dtype=np.int64))
        np.save(self.folder / f"{name}.words.npy", np.frombuffer(b"".join(coded), np.uint8))
        return {"words": name}

    def _refused(self, why: str) -> str:
        return (
            f"load() gives a {self.what} with the field {why}: only arrays and plain data can be kept; leave "
            "it out, or make it a method"
        )


def _all_words(value: Sequence[Any]) -> bool:
    return all(isinstance(word, str) for word in value)


def _opened(value: Any, folder: Path, large: bool) -> Any:
    if not isinstance(value, dict):
        return value
    (kind, inner), *_ = value.items()
    if kind == "array":
        inputs = large and ".inputs." in inner
        return StoredRows([folder / inner]) if inputs else np.load(folder / inner)
    if kind == "words":
        return KeptWords(folder / f"{inner}.words.npy", folder / f"{inner}.ends.npy")
    if kind == "map":
        return {key: _opened(part, folder, large) for key, part in inner.items()}
    made: type = {"tuple": tuple, "list": list, "set": frozenset}[kind]
    return made(_opened(part, folder, large) for part in inner)


def _write(path: Path, array: Any) -> None:
    if not (isinstance(array, StoredRows) and array.files == (path,) and array.numbers is None):
        write_array(path, array)


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
