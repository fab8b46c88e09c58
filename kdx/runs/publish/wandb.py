"""Runs in Weights & Biases, by its own client; with WANDB_MODE=offline in a folder here, for `wandb sync`."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.runs.publish.publisher import Publishing, Tracker
from kdx.runs.publish.shared import Shared


class Wandb(Tracker):
    """A project, with the name of a folder of runs as their group; the id of a run there is that of kdx, so
    the service itself knows whether it has it."""

    hint = "; WANDB_MODE=offline keeps runs in a folder here, for `wandb sync`"

    def __init__(self, asked: Publishing):
        super().__init__(asked)
        import wandb

        self.client = wandb
        self.offline = wandb.setup().settings.mode == "offline"
        if wandb.setup().settings.mode == "disabled":
            raise UserError("WANDB_MODE=disabled keeps nothing: leave it out, or set it to offline")
        self.place = Path(os.environ.get("WANDB_DIR") or ".") / "wandb"
        self.look = f"wandb sync {self.place}/offline-run-*" if self.offline else ""

    def find(self, run: Shared) -> str | None:
        if self.offline:
            return next((str(found) for found in self.place.glob(f"offline-run-*-{run.id}")), None)
        try:
            found = self.client.Api().run(f"{self.asked.project}/{run.id}")
        except (ValueError, self.client.errors.CommError):  # none of that id
            return None
        return str(found.url)

    def put(self, run: Shared, files: Path) -> str:
        number = f"{run.id}-{int(time.time())}" if self.asked.again else run.id
        made = self.client.init(
            project=self.asked.project,
            name=run.name,
            group=self.asked.group,
            id=number,
            config={**run.params, **run.tags},
            tags=[run.state],
            resume="never",
            dir=str(self.place.parent.absolute()),  # the service may have begun elsewhere
            settings=self._settings(),
        )
        whole = False
        try:
            self._log(made, run)
            if any(files.iterdir()):
                artifact = self.client.Artifact(f"run-{run.id}", type="run")
                for path in filter(Path.is_file, sorted(files.rglob("*"))):
                    artifact.add_file(str(path), path.relative_to(files).as_posix())
                made.log_artifact(artifact)
            whole = True
        finally:
            made.finish(exit_code=0 if whole and run.state == "finished" else 1)
            if not whole and self.offline:
                shutil.rmtree(Path(made.dir).parent, ignore_errors=True)
        return os.path.relpath(Path(made.dir).parent) if self.offline else str(made.url)

    def _settings(self) -> Any:
        """Nothing of this process and this machine is recorded: the run was another time."""
        return self.client.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )

    def _log(self, made: Any, run: Shared) -> None:
        """Steps of different stages overlap: each stage has an axis of its own."""
        known = set()
        for point in run.points():
            axis = f"{point.stage}/step"
            if point.stage not in known:
                known.add(point.stage)
                made.define_metric(axis, hidden=True)
                made.define_metric(f"{point.stage}/*", step_metric=axis)
            values = {f"{point.stage}/{name}": value for name, value in point.values.items()}
            made.log({axis: point.step, **values})
        for name, value in run.scores.items():
            made.summary[name] = value
