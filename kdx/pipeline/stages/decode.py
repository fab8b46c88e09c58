"""decode: a data set read once, whatever the seed and the sizes of its splits, and laid down as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdx.data import contract
from kdx.data.laid import keep_raw, open_raw
from kdx.data.raw import Raw
from kdx.data.remarks import check_parts
from kdx.data.stored import OnDisk
from kdx.pipeline.stages.arrays import INPUTS, array_file, class_of
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.resolve import at_its_place
from kdx.store.work import Work
from kdx.training.runtime import Runtime


def run(work: Work, runtime: Runtime, *, dataset: Component) -> None:
    """Files: <part>.inputs.npy (N, ...) and <part>.truth.npy of each part that the data set ships (train,
    validation, test, unlabelled), where there are several arrays by name <part>.inputs.NAME.npy; raw.json and
    further arrays: all else that it says of itself; decoded.json: {"dataset", "reads", "example", "rows"}.

    A loader that declares `streams` is given who takes its rows, block by block. One of the user's own is
    held to its contract; those of kdx have tests.
    """

    def write(part: str, most: int, shape: Sequence[int], dtype: Any) -> OnDisk:
        return OnDisk(work.path / array_file(f"{part}.{INPUTS}"), shape, dtype)

    loader = dataset.build()
    streams = {"write": write} if declared(dataset.target, "streams", False) else {}
    with at_its_place(dataset.target):
        raw: Raw = loader.load(workers=runtime.workers, **streams)
        if not dataset.target.startswith("kdx."):
            contract.check(raw, loader.describe())
        check_parts(raw)
    keep_raw(raw, work.path, dataset.target.rpartition(".")[2])


def open_decoded(artifact: Artifact) -> Raw:
    """The data set that was laid down; of a large one rows are read as they are asked for."""
    return open_raw(artifact.path, class_of)


def decode_into(folder: Path, dataset: Component, runtime: Runtime) -> Artifact:
    """The stage without a store, for tests and tools: the artifact lies in `folder`."""
    from kdx.store.work import Listener

    folder.mkdir(parents=True, exist_ok=True)
    run(Work(folder, "decode", Listener()), runtime, dataset=dataset)
    return Artifact("decode", folder.name, folder)
