"""A data set laid down in a folder as its loader handed it over, and opened again: its parts as arrays, all
else that it says of itself as JSON. Numpy only.

A `Raw` is a frozen dataclass whose fields are arrays, plain data or dataclasses of such, so that no class
says how it is kept.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError, type_name
from kdx.core.trees import leaves
from kdx.data.files import PLACES
from kdx.data.raw import PARTS, Raw, example_of
from kdx.data.stored import LazyRows, StoredRows, write_array
from kdx.data.words import keep_words, open_words

RAW_JSON, ROWS_JSON = "raw.json", "decoded.json"
"""What the data set says of itself; how many rows of what kind its parts have."""
OPENED_WHOLE = 1 << 26
"""A data set whose inputs have at most so many bytes is opened as arrays in memory; of a larger one rows are
read as they are asked for."""
_MANY = 1000
"""A list of more words lies in a file of its own."""


def _file(part: str, what: str, leaf: str = "") -> str:
    """train.inputs.npy, or train.inputs.NAME.npy of several arrays."""
    return f"{part}.{what}.{leaf}.npy" if leaf else f"{part}.{what}.npy"


def keep_raw(raw: Raw, folder: Path, dataset: str) -> None:
    """Writes train.inputs.npy and its like, raw.json and decoded.json; arrays that lie in the folder already
    stay. Raises UserError where a field is neither an array nor plain data."""
    files: dict[int, str] = {}
    rows, held = {}, []
    lazy: type[LazyRows] | None = None
    for part in PARTS:
        pair = raw.part(part)
        for what, value in zip(("inputs", "truth"), pair, strict=True):
            for leaf, array in leaves(value).items() if value is not None else ():
                files[id(array)] = _file(part, what, leaf)
                held.append(array)  # or another array might be given its number
                if isinstance(array, LazyRows) and not isinstance(array, StoredRows):
                    lazy = type(array)
                    array.keep(folder, f"{part}.{what}")
                else:
                    _write(folder / files[id(array)], array)
        if pair[0] is not None:
            rows[part] = len(next(iter(leaves(pair[0]).values())))
    if not dataclasses.is_dataclass(raw) or isinstance(raw, type):
        raise UserError(
            f"load() gives {type_name(raw)}, which cannot be kept: make it a frozen dataclass whose fields "
            "are arrays and plain data, as kdx.data.raw.Arrays is"
        )
    keep = _Keeping(folder, files, type(raw).__name__)
    _json(folder / RAW_JSON, keep.record(raw, ""))
    example = {name: [list(shape), kind] for name, (shape, kind) in example_of(raw.part("train")[0]).items()}
    about = {"dataset": dataset, "reads": raw.reads, "example": example, "rows": rows}
    if lazy:
        about["lazy"] = f"{lazy.__module__}.{lazy.__qualname__}"
    _json(folder / ROWS_JSON, about)


def lazy_rows(folder: Path, parts: Sequence[str], find: Find) -> LazyRows | None:
    """The inputs of these parts, one after the other, of a data set whose rows were not laid down as arrays;
    None where they were. find: as `open_raw`."""
    about = json.loads((folder / ROWS_JSON).read_text(encoding="utf-8"))
    if "lazy" not in about:
        return None
    place = folder / PLACES
    places = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    names = [f"{part}.inputs" for part in parts if part in about["rows"]]
    found: LazyRows = find(about["lazy"], LazyRows).open(folder, names, places)
    return found


Find = Callable[[str, type], Any]
"""(address, what it must be derived from) -> the class"""


def open_raw(folder: Path, find: Find) -> Raw:
    """What `keep_raw` kept. find: the class of an address. Raises UserError where what was kept is no data
    set."""
    about = json.loads((folder / RAW_JSON).read_text(encoding="utf-8"))
    large = sum(path.stat().st_size for path in folder.glob("*.inputs*.npy")) > OPENED_WHOLE
    opened = _Opening(folder, large, find)
    found: Raw = opened.record(about, Raw)
    return found


class _Keeping:
    """files: id of an array -> the file that holds it already."""

    def __init__(self, folder: Path, files: dict[int, str], what: str):
        self.folder, self.files, self.what = folder, files, what

    def record(self, value: Any, name: str) -> dict[str, Any]:
        """A dataclass as its address and its fields."""
        kind, before = type(value), name and f"{name}."
        fields = dataclasses.fields(value)
        return {
            "_target_": f"{kind.__module__}.{kind.__qualname__}",
            "fields": {one.name: self.plain(getattr(value, one.name), before + one.name) for one in fields},
        }

    def plain(self, value: Any, name: str) -> Any:
        """The same as JSON: arrays by the name of their file, and what JSON does not know by its kind."""
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray | LazyRows):
            if id(value) not in self.files:
                if isinstance(value, StoredRows) and (lies := _lies_in(self.folder, value)):
                    return {"array": lies}
                write_array(self.folder / f"{name}.npy", value)
                return {"array": f"{name}.npy"}
            return {"array": self.files[id(value)]}
        if isinstance(value, Mapping):
            if odd := [key for key in value if not isinstance(key, str)]:
                raise UserError(self._refused(f"{name}, which names something {odd[0]!r}"))
            return {"map": {key: self.plain(inner, f"{name}.{key}") for key, inner in value.items()}}
        if dataclasses.is_dataclass(value):
            return {"record": self.record(value, name)}
        if isinstance(value, list | tuple) and _all_words(value):
            return self._words(value, name)
        for kind, called in ((tuple, "tuple"), (list, "list"), (frozenset, "set")):
            if isinstance(value, kind):
                items = sorted(value) if kind is frozenset else value
                return {called: [self.plain(inner, f"{name}.{i}") for i, inner in enumerate(items)]}
        raise UserError(self._refused(f"{name}, {type_name(value)}"))

    def _words(self, value: Sequence[str], name: str) -> dict[str, Any]:
        if len(value) <= _MANY:
            return {"tuple" if isinstance(value, tuple) else "list": list(value)}
        keep_words(value, self.folder, name)
        return {"words": name}

    def _refused(self, why: str) -> str:
        return (
            f"load() gives a {self.what} with the field {why}: only arrays and plain data can be kept; leave "
            "it out, or make it a method"
        )


def _all_words(value: Sequence[Any]) -> bool:
    return all(isinstance(word, str) for word in value)


@dataclasses.dataclass(frozen=True)
class _Opening:
    """large: whether inputs are read as they are asked for. find: see `open_raw`."""

    folder: Path
    large: bool
    find: Find

    def record(self, about: Mapping[str, Any], kind: type = object) -> Any:
        """A dataclass, and nothing else: this name may come from somebody else's folder."""
        found = self.find(about["_target_"], kind)
        if not dataclasses.is_dataclass(found):
            raise UserError(f"'{about['_target_']}' is no dataclass, and only such are kept with a data set")
        return found(**{name: self.value(inner) for name, inner in about["fields"].items()})

    def value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        (kind, inner), *_ = value.items()
        if kind == "array":
            return self.array(inner)
        if kind == "words":
            return open_words(self.folder, inner)
        if kind == "map":
            return {key: self.value(part) for key, part in inner.items()}
        if kind == "record":
            return self.record(inner)
        made: type = {"tuple": tuple, "list": list, "set": frozenset}[kind]
        return made(self.value(part) for part in inner)

    def array(self, name: str) -> Any:
        part, _, rest = name.partition(".")
        if rest == "inputs.npy" and (found := lazy_rows(self.folder, [part], self.find)) is not None:
            return found
        file = self.folder / name
        return StoredRows([file]) if self.large and rest.startswith("inputs.") else np.load(file)


def _lies_in(folder: Path, rows: StoredRows) -> str | None:
    """The name of the file that holds all of them already."""
    file = rows.files[0]
    return file.name if len(rows.files) == 1 and file.parent == folder and rows.numbers is None else None


def _write(path: Path, array: Any) -> None:
    if not (isinstance(array, StoredRows) and _lies_in(path.parent, array) == path.name):
        write_array(path, array)


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
