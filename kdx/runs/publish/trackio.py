"""Runs in Trackio: on this machine, where TRACKIO_DIR says, or in the Space of TRACKIO_SPACE_ID."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from kdx.runs.publish.publisher import Publishing, Tracker
from kdx.runs.publish.shared import Shared

_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
_RUN = "kdx.run"


class Trackio(Tracker):
    """A project, with the name of a folder of runs as their group; a run of kdx is known by the key kdx.run
    of its configuration."""

    def __init__(self, asked: Publishing):
        super().__init__(asked)
        self.elsewhere = next((os.environ[name] for name in _ELSEWHERE if os.environ.get(name)), None)
        self.look = "" if self.elsewhere else f"trackio show --project {shlex.quote(asked.project)}"

    def find(self, run: Shared) -> str | None:
        """Of a Space nobody can ask."""
        import trackio

        try:
            known = [] if self.elsewhere else trackio.Api().runs(self.asked.project)
        except ValueError:  # no such project
            return None
        found = next((one for one in known if (one.config or {}).get(_RUN) == run.id), None)
        return found and self._place(found.name)

    def put(self, run: Shared, files: Path) -> str:
        import trackio

        made = trackio.init(
            project=self.asked.project,
            name=run.name,
            group=self.asked.group,
            config={**run.params, **run.tags},
            resume="never",
            private=self.asked.private,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        whole = False
        try:
            last = 0
            for point in run.points():
                last = max(last, point.step)
                values = {f"{point.stage}/{name}": value for name, value in point.values.items()}
                made.log(values, step=point.step)
            if run.scores:
                made.log(dict(run.scores), step=last)
            if any(files.iterdir()):
                made.log_artifact(str(files), name=f"run-{run.id}", type="run")
            whole = True
        finally:
            trackio.finish()
            if not whole and not self.elsewhere:
                for one in trackio.Api().runs(self.asked.project):
                    if one.id == made.id:
                        one.delete()
        return self._place(run.name)

    def _place(self, name: str) -> str:
        from trackio.utils import TRACKIO_DIR

        return f"{self.elsewhere or TRACKIO_DIR}, project {self.asked.project}, run {name}"
