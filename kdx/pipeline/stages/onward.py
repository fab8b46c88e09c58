"""A training in parts: what one part leaves for the next, which goes on with the same optimiser and schedule
as if there were one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from kdx.core import shortage
from kdx.core.errors import UserError
from kdx.pipeline.stages.watch import Watch, write_state
from kdx.store.artifact import Artifact
from kdx.training.loop import NonFinite
from kdx.training.runtime import Runtime

STATE = "onward.pt"
"""Weights, optimiser, schedule, step, random numbers, and what the part before has seen of validation."""


def hand_on(watch: Watch, done: int) -> None:
    """Leaves it after `done` steps in all. Raises NonFinite where a weight is no number, which nothing goes
    on with."""
    if not watch.finite():
        raise NonFinite(f"the weights are not finite after {done} steps, so no training can go on with them")
    further = {"stopped": watch.stopped, "last_rows": watch.rows}
    write_state(watch.work.path / STATE, watch.state(done) | further)


def read_onward(before: Artifact, runtime: Runtime) -> dict[str, Any]:
    """What the part before has left. Raises UserError where it cannot be read here."""
    file = before.file(STATE)
    try:
        found: dict[str, Any] = torch.load(file, map_location=runtime.device, weights_only=True)
        return found
    except Exception as error:  # of another version of torch, say
        if shortage.kind_of_shortage(error):
            raise
        raise UserError(
            f"'{file}', with which this training goes on, cannot be read: "
            f"{(str(error).splitlines() or [type(error).__name__])[0][:200]}; remove that folder, and run "
            "the same command again"
        ) from error


def go_on(watch: Watch, state: Mapping[str, Any]) -> int:
    """Goes on from what the part before has left; returns the number of steps done in all. The records of all
    parts so far are in those of this one; its time is its own."""
    reported = json.dumps({**json.loads(state["reported"]), "seconds": 0})
    done = watch.restore({**state, "reported": reported})
    watch.stopped, watch.rows = state["stopped"], state["last_rows"]
    return done
