"""Tasks and arrays of prepared data sets read into objects; no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.task import Task
from kdx.core.trees import from_leaves, leaves, tree
from kdx.core.types import Split
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.moved import ARRAYS, kind_of_old
from kdx.store.work import Work
from kdx.tasks.classification import Classification as Classification  # its code is part of every key
from kdx.training.runtime import Runtime

IN_MEMORY = 2 << 30
"""Splits of more bytes than this stay memory-mapped."""
INPUTS, TRUTH = "inputs", "truth"
"""What a file of arrays is called after its split: <split>.inputs.npy, <split>.inputs.NAME.npy."""


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


def save_arrays(work: Work, name: str, value: Any) -> None:
    """NAME.npy, or NAME.LEAF.npy for each of several arrays."""
    for leaf, array in leaves(value).items():
        np.save(work.path / array_file(name, leaf), np.ascontiguousarray(array))


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


def read_truth(artifact: Artifact, name: str) -> Any:
    """The truth of a split as tensors; None where there is none."""
    found = read_arrays(artifact, name)
    return None if found is None else tree(torch.from_numpy, found)


def open_split(data: Artifact, name: str, runtime: Runtime) -> Split | None:
    """A split of a prepared data set, on the device where it is small; None where it has no rows."""
    about = data.json("data.json")
    if not about["counts"].get(name):
        return None
    files = array_files(data.path, f"{name}.{INPUTS}")
    small = bytes_of(files.values()) <= IN_MEMORY
    inputs = {
        leaf: torch.from_numpy(np.load(path) if small else np.load(path, mmap_mode="c"))
        for leaf, path in files.items()
    }
    if small:
        inputs = {leaf: found.to(runtime.device) for leaf, found in inputs.items()}
    return Split(name, from_leaves(inputs), read_truth(data, f"{name}.{TRUTH}"))


def bytes_of(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def need_split(data: Artifact, name: str, runtime: Runtime) -> Split:
    """A split that must have rows."""
    found = open_split(data, name, runtime)
    if found is None:
        raise UserError(f"the data set has no row in its split '{name}': see dataset.{name}")
    return found
