"""Where runs can be published, by the word that names it. Standard library only: no client is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from kdx.core import checks
from kdx.core.errors import UserError, nearest

CLIENTS: Mapping[str, str | None] = {
    "csv": None,
    "hf": "huggingface_hub",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""Destination -> the package that it is reached by, which the extra of its own name installs."""
_ALSO = {"huggingface": "hf", "hub": "hf", "w&b": "wandb", "weights_and_biases": "wandb", "table": "csv"}
_REPOSITORY = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class Destination:
    """name: of `CLIENTS`. repository: user/name, of Hugging Face's hub alone."""

    name: str
    repository: str | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.repository}" if self.repository else self.name


def read_destination(key: str, value: Any) -> Destination:
    """key: of the setting, for the message. Raises UserError where there is no such place."""
    name, given, repository = value.partition(":") if isinstance(value, str) else ("", "", "")
    if name not in CLIENTS:
        close = nearest(_ALSO.get(name.lower(), name), CLIENTS)
        raise UserError(f"{key} must be {_choices()}; given: {checks.shown(value)}{close}")
    if name != "hf" and given:
        raise UserError(f"{key}={name} takes nothing behind it; given: {checks.shown(value)}")
    if name == "hf" and not _REPOSITORY.fullmatch(repository):
        raise UserError(
            f"{key}=hf needs the name of a repository, {key}=hf:user/name, of letters, digits, '-', '_' and "
            f"'.'; given: {checks.shown(value)}"
        )
    return Destination(name, repository or None)


def _choices() -> str:
    return "csv, mlflow, trackio, wandb or hf:user/name"


def check_client(destination: Destination) -> None:
    """Raises UserError where the package is not installed."""
    package = CLIENTS[destination.name]
    spec = find_spec(package) if package else None
    if package and (spec is None or spec.origin is None):  # a mere folder of that name is none
        raise UserError(
            f"{destination} is reached by {package}, which is not installed: "
            f"pip install 'kdx[{destination.name}]'"
        )


def read_publish(config: Mapping[str, Any]) -> Destination | None:
    """What a run is published to when it ends; None: nothing. Raises UserError where that cannot be."""
    value = config.get("publish")
    if value is None:
        return None
    found = read_destination("publish", value)
    check_client(found)
    return found
