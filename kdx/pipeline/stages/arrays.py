"""Tasks and arrays of prepared data sets read into objects; no network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.several import kinds_by_name
from kdx.core.task import Task
from kdx.core.trees import from_leaves, leaves, picked, tree
from kdx.core.types import Split
from kdx.data.laid import ROWS_JSON, lazy_rows
from kdx.data.npy import header_of
from kdx.data.order import RowOrder
from kdx.data.raw import PARTS
from kdx.data.reader import OfArray, tensor_of
from kdx.data.stored import LazyRows, StoredRows, in_blocks, write_array
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.moved import ARRAYS, kind_of_old
from kdx.store.work import Work
from kdx.tasks.classification import Classification as Classification  # its code is part of every key
from kdx.training.memory import held_at_most
from kdx.training.runtime import Runtime

IN_MEMORY = 1 << 26
"""A split of more bytes than this stays on the disk, and its rows are read as they are asked for; on a GPU,
which has a memory of its own, see `held_at_most`."""
INPUTS, TRUTH, ROW_NUMBERS, ORIGIN = "inputs", "truth", "rows", "origin"
"""What a file of arrays is called after its split: <split>.inputs.npy, <split>.inputs.NAME.npy."""
DECODED = "decoded"
"""In data.json: where the decoded rows lie that the numbers of a split are of, seen from its folder."""
IN_TIME = "in_time"
"""In data.json: whether the rows of its splits are passed over as they stand, in the order of time."""
ORIGINS = "origins"
"""In data.json: split -> the same, of rows of another data set that stand in for its own."""


def build_task(about: Mapping[str, Any]) -> Task:
    """The task of a prepared data set or of a trained network (its data.json or model.json)."""
    found: Task = build_kind(kind_of_old(about)["task"], Task, "task")
    return found


def build_kind(spec: Mapping[str, Any], kind: Any, what: str) -> Any:
    """Nothing of another class is called: these names may come from somebody else's folder."""
    described = Component(spec)
    return described.build_as(
        kind,
        f"'{described.target}' is no {what}: it must be a class derived from "
        f"{kind.__module__}.{kind.__name__}",
    )


def class_of(target: str, kind: type) -> Any:
    """Nothing of another class is called: this name may come from somebody else's folder."""
    found = Component({"_target_": target}).resolve()
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise UserError(f"'{target}' must be a class derived from {kind.__module__}.{kind.__name__}")
    return found


def save_arrays(work: Work, name: str, value: Any) -> None:
    """NAME.npy, or NAME.LEAF.npy for each of several arrays."""
    for leaf, array in leaves(value).items():
        path = work.path / array_file(name, leaf)
        write_array(path, array) if isinstance(array, LazyRows) else np.save(
            path, np.ascontiguousarray(array)
        )


def stored_arrays(work: Work, name: str, value: Any) -> Any:
    """The same as `save_arrays`, and the rows as they lie there."""
    save_arrays(work, name, value)
    lying = {leaf: StoredRows([work.path / array_file(name, leaf)]) for leaf in leaves(value)}
    return from_leaves(lying)


def array_file(name: str, leaf: str = "") -> str:
    return f"{name}.{leaf}.npy" if leaf else f"{name}.npy"


def array_files(folder: Path, name: str) -> dict[str, Path]:
    """leaf -> the file that holds it; {} where there is none. Older stores call their arrays otherwise."""
    single = folder / array_file(name)
    if single.exists():
        return {"": single}
    several = {path.name[len(name) + 1 : -4]: path for path in sorted(folder.glob(f"{name}.*.npy"))}
    if several:
        return several
    split, _, what = name.rpartition(".")
    old = folder / array_file(f"{split}.{ARRAYS[what]}") if split and what in ARRAYS else None
    return {"": old} if old and old.exists() else {}


def read_arrays(artifact: Artifact, name: str, *, mapped: bool = False) -> Any:
    """One array or several by name; None where there is none. mapped: left on the disk."""
    files = array_files(artifact.path, name)
    if not files:
        return None
    return from_leaves(
        {leaf: np.load(path, mmap_mode="r") if mapped else np.load(path) for leaf, path in files.items()}
    )


def pointer(folder: Path, decoded: Path) -> str:
    """The way from a prepared folder to the decoded rows; it holds wherever their store is moved to."""
    return Path(os.path.relpath(os.path.realpath(decoded), os.path.realpath(folder))).as_posix()


def decoded_folder(data: Artifact, about: Mapping[str, Any]) -> Path:
    """about: the data.json."""
    return Path(os.path.realpath(data.path)) / about[DECODED]


def read_inputs(data: Artifact, name: str) -> Any:
    """The rows of a split, one LazyRows or several by name, which are read as they are asked for; None
    where there is no such split. Raises UserError where the decoded rows are gone."""
    if own := array_files(data.path, f"{name}.{INPUTS}"):
        return from_leaves({leaf: StoredRows([path]) for leaf, path in own.items()})
    numbers = data.file(f"{name}.{ROW_NUMBERS}.npy")
    if not numbers.exists():
        return None
    folder, rows = decoded_folder(data, data.json("data.json")), np.load(numbers)
    if not (folder / ROWS_JSON).is_file():
        raise UserError(
            f"the rows of '{data.path}' lie in '{folder}', which is gone: run the same `kdx train` again, "
            "which decodes the data set once more"
        )
    if (lazy := lazy_rows(folder, PARTS, class_of)) is not None:
        return lazy.take(rows)
    parts = [files for part in PARTS if (files := array_files(folder, f"{part}.{INPUTS}"))]
    return from_leaves({leaf: StoredRows([files[leaf] for files in parts], rows) for leaf in parts[0]})


def digest_of(array: Any) -> str:
    """SHA-256 of the .npy file that would hold it."""
    if isinstance(array, LazyRows) and (known := array.digest()) is not None:
        return known
    whole = hashlib.sha256(header_of(array.shape, array.dtype))
    for block in in_blocks(array):
        whole.update(np.ascontiguousarray(block).data)
    return whole.hexdigest()


def read_truth(artifact: Artifact, name: str) -> Any:
    """The truth of a split as tensors; None where there is none."""
    found = read_arrays(artifact, name)
    return None if found is None else tree(torch.from_numpy, found)


def open_split(data: Artifact, name: str, runtime: Runtime) -> Split | None:
    """A split of a prepared data set, on the device where it is small, else read as it is asked for; None
    where it has no rows."""
    about = data.json("data.json")
    if not about["counts"].get(name):
        return None
    rows = leaves(read_inputs(data, name))
    most = held_at_most(runtime.device, IN_MEMORY)
    small = all(found.cheap for found in rows.values()) and (
        sum(found.nbytes for found in rows.values()) <= most
    )
    inputs = {
        leaf: tensor_of(found, runtime.device) if small else OfArray(found) for leaf, found in rows.items()
    }
    kinds = kinds_by_name(kind_of_old(about)["reads"], rows)
    return Split(name, from_leaves(inputs), read_truth(data, f"{name}.{TRUTH}"), kinds)


def drawn_rows(count: int, most: int) -> Tensor:
    """(n,) int64 ascending: at most so many of `count` rows, drawn at random and always the same."""
    return RowOrder(count, batch=1, seed=0).first(most)


def part_drawn(split: Split, most: int) -> Split:
    """Its `drawn_rows`; where they are read as they are asked for, none of them yet."""
    return split if len(split) <= most else part_of_split(split, drawn_rows(len(split), most))


def part_of_split(split: Split, rows: Tensor) -> Split:
    """These of its rows, (n,) numbers; where they are read as they are asked for, none of them yet."""

    def some(leaf: Any) -> Any:
        lazy = isinstance(leaf, OfArray)
        return OfArray(leaf.rows.take(rows.numpy())) if lazy else leaf[rows.to(leaf.device)]

    truth = None if split.truth is None else picked(split.truth, rows)
    return replace(split, inputs=tree(some, split.inputs), truth=truth)


def dear_to_read(split: Split, runtime: Runtime) -> bool:
    """Whether its rows are worth reading ahead: such as are made of files, and for an accelerator, which
    computes meanwhile, all that do not lie there."""
    beside = torch.device(runtime.device).type != "cpu"
    found = (leaf for leaf in leaves(split.inputs).values() if isinstance(leaf, OfArray))
    return any(beside or not leaf.rows.cheap for leaf in found)


def need_split(data: Artifact, name: str, runtime: Runtime) -> Split:
    """A split that must have rows."""
    found = open_split(data, name, runtime)
    if found is None:
        raise UserError(f"the data set has no row in its split '{name}': see dataset.{name}")
    return found
