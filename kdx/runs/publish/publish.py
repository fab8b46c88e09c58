"""A run, or a folder of runs, published to one destination. No torch, and no client before it is asked
for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from kdx.config.destinations import Destination, check_client
from kdx.core.errors import UserError
from kdx.runs.publish.publisher import Publisher, Publishing, Receipt, reaching
from kdx.runs.publish.shared import Shared, shared_runs

_TARGETS = {
    "csv": "csv.Tables",
    "hf": "hub.Hub",
    "mlflow": "mlflow.Mlflow",
    "trackio": "trackio.Trackio",
    "wandb": "wandb.Wandb",
}


@dataclass(frozen=True)
class Published:
    """runs: what was published, or, of a dry run, would be. receipts: none of a dry run but of a folder that
    was written. lines: what was left out. look: the command that shows it there."""

    runs: Sequence[Shared]
    receipts: Sequence[Receipt]
    lines: Sequence[str]
    look: str


def publish_path(
    path: Path, asked: Publishing, *, store: str | None = None, name: str | None = None
) -> Published:
    """path: a run folder, or a folder that holds some. Raises UserError, NotPublished where the destination
    could not be reached."""
    check_client(asked.destination)
    runs, group, lines = shared_runs(path, store=store, name=name)
    asked = replace(asked, group=group)
    no_files = asked.destination.name in ("csv", "hf")
    remarks = (line for run in runs for line in run.remarks(examples=no_files or asked.examples))
    lines = [*lines, *dict.fromkeys(remarks)]
    if asked.dry and asked.destination.name != "hf":
        return Published(runs, (), lines, "")
    target = _target(asked)
    return Published(runs, list(target.send(runs)), lines, target.look)


def _target(asked: Publishing) -> Publisher:
    module, _, name = _TARGETS[asked.destination.name].partition(".")
    made: type[Publisher] = vars(import_module(f"kdx.runs.publish.{module}"))[name]
    with reaching(asked.destination, made.hint):
        return made(asked)


def default_out(path: Path, destination: Destination) -> Path:
    """Where files go that were not given a place: into the folder itself, which may have come from somebody
    else, with links in it."""
    folder = path / "published"
    if folder.is_symlink():
        raise UserError(
            f"'{folder}' is a link, and would be written to where it leads: choose a folder with out=FOLDER"
        )
    return folder / (destination.repository or destination.name).replace("/", "--")
