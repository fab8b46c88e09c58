"""Controls and metrics, which a configuration holds by name: those of kdx that it asks for, and those of the
user's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.config.described import component
from kdx.core import checks
from kdx.core.errors import UserError
from kdx.pipeline.controls import CONTROLS
from kdx.pipeline.controls.control import ControlTraining, StudentAlone, build_control
from kdx.store.component import Component
from kdx.store.resolve import own_error


def read_controls(
    config: Mapping[str, Any], student: Component | None, training: Component | None
) -> dict[str, ControlTraining]:
    """role -> control with its training: those of kdx that a key asks for, then the user's own. student,
    training: of the distilled student, None where they were refused.
    """
    wanted = {role: checks.flag(role, config[role]) for role in CONTROLS}
    mine = config.get("controls") or {}
    if not isinstance(mine, Mapping):
        raise UserError(f"controls must hold controls by name; given: {checks.shown(mine)}")
    described = {role: Component({"_target_": CONTROLS[role]}) for role in CONTROLS if wanted[role] is True}
    for role, spec in mine.items():
        with checks.gather(errors := []):
            described[role] = component(f"controls.{role}", spec)
        checks.refuse_all(errors)
    loss = component("baseline_loss", config["baseline_loss"])
    if student is None or training is None:
        return {}
    alone = StudentAlone(loss, student, training)
    return {role: _own_control(role, control, alone) for role, control in described.items()}


def read_own_metrics(config: Mapping[str, Any]) -> dict[str, Component]:
    """The user's own metrics, by name."""
    mine = config.get("metrics") or {}
    if not isinstance(mine, Mapping):
        raise UserError(f"metrics must hold metrics by name; given: {checks.shown(mine)}")
    return {name: found for name, spec in mine.items() if (found := component(f"metrics.{name}", spec))}


def _own_control(role: str, described: Component, alone: StudentAlone) -> ControlTraining:
    """`build_control`; what the user's own code raises is reported with where."""
    try:
        return build_control(role, described, alone)
    except UserError:
        raise
    except Exception as error:
        if why := own_error(error):
            raise UserError(f"controls.{role}: your own code fails: {why}") from error
        raise
