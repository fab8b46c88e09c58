"""A few rows gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdx.core.rollouts import Rolling, RollsOut
from kdx.pipeline.foretelling import Rehearsed
from kdx.pipeline.foretelling.rehearsal.bench import Bench
from kdx.pipeline.stages.arrays import DECODED, decoded_folder, need_split, pointer

_ROWS = 16
"""That are gone on with to time it."""


def roll_out(bench: Bench, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """Leaves links to the data's own files: what later stages cost hangs on no row of it."""
    for file in inputs["data"].path.iterdir():
        if not (folder / file.name).exists():
            os.symlink(os.path.abspath(file), folder / file.name)
    described = folder / "data.json"
    about = json.loads(described.read_text(encoding="utf-8"))
    if DECODED in about:
        about[DECODED] = pointer(folder, decoded_folder(inputs["data"], inputs["data"].json("data.json")))
        described.unlink()  # which may be a link to the data's own
        described.write_text(json.dumps(about), encoding="utf-8")
    network = bench.network(inputs["network"])
    assert isinstance(network, RollsOut)
    split = need_split(inputs["data"], inputs["splits"][0], bench.runtime)
    few = next(split.clean(min(_ROWS, len(split))))
    network.eval()

    def work() -> None:
        with torch.inference_mode():
            network.roll_out(
                few.views["main"], Rolling(**inputs["rolling"]), torch.Generator().manual_seed(0)
            )

    return Rehearsed({"start": 0.0, "rows": bench.timed(work) / len(few)})
