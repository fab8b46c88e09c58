"""invert: a prepared data set whose labelled rows a teacher has made of noise (kdx.methods.inversion): no row
that it learned from is among them. Those of validation stay, to measure by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.inversion import Inversion
from kdx.core.types import Frozen
from kdx.methods.inversion import invert
from kdx.pipeline.stages.arrays import INPUTS, ORIGIN, ROW_NUMBERS, TRUTH, build_task
from kdx.pipeline.stages.derived import lay_splits
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime

MADE_TOGETHER = 128
"""Rows that are made together: their statistics are those of one batch."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    teacher: Artifact,
    rows: int,
    how: Mapping[str, Any],
    seed: int,
) -> None:
    """how: of kdx.core.inversion.Inversion. Files: as those of kdx.pipeline.stages.prepare: labelled.*,
    `rows` rows of 8 bits whose truth is the class that each was made for, all classes alike often;
    validation.* as it was; no other split has a row."""
    about = lay_splits(work, data, {"validation": [("validation", None)]})
    task, asked = build_task(about), Inversion(**how)
    shape, kind = about["example"].get("", ((), ""))
    classes = about.get("classes")
    if kind != "uint8" or len(shape) != 3 or not classes:
        raise UserError(
            "recipe=data_free makes rows of levels in a grid, of classes, and those of this data set are no "
            "such: leave recipe= out"
        )
    network = Frozen(runtime.place(open_network(teacher))).network
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(rows) % len(classes)
    truth = truth[torch.randperm(rows, generator=generator)]
    laid = np.lib.format.open_memmap(work.path / f"labelled.{INPUTS}.npy", "w+", np.uint8, (rows, *shape))
    device = torch.device(runtime.device)
    for start in range(0, rows, MADE_TOGETHER):
        wanted = truth[start : start + MADE_TOGETHER].to(device)
        loss = partial(task.loss, truth=wanted)
        made = invert(network, loss, (len(wanted), *shape), asked, generator, device)
        laid[start : start + len(wanted)] = (255 * made).round().to(torch.uint8).cpu().numpy()
        work.progress(start + len(wanted), rows, "rows")
    laid.flush()
    np.save(work.path / f"labelled.{ROW_NUMBERS}.npy", np.arange(rows, dtype=np.int64))
    np.save(work.path / f"labelled.{ORIGIN}.npy", np.full(rows, -1, np.int64))
    np.save(work.path / f"labelled.{TRUTH}.npy", truth.numpy())
    work.write_json("data.json", {**about, "counts": {**about["counts"], "labelled": rows}})
    work.note(f"{rows:,} rows are made of noise by the teacher; the student sees no other", "info")
