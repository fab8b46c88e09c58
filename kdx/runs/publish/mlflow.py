"""Runs in MLflow, by its own client: where MLFLOW_TRACKING_URI says, else in mlflow.db and mlruns here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from kdx.runs.publish.publisher import Publishing, Tracker
from kdx.runs.publish.shared import Shared

_METRICS, _PARAMS, _TAGS = 1000, 100, 100
"""Of one request, at most."""
_LONGEST_NAME, _LONGEST_VALUE = 250, 6000
_UNNAMED = re.compile(r"[^\w .:/-]")
_RUN, _WHOLE = "kdx.run", "kdx.whole"
T = TypeVar("T")


class Mlflow(Tracker):
    """One experiment, PROJECT, or for a folder of runs PROJECT/NAME; a run there is a run of kdx, known by
    its tag kdx.run."""

    look = "mlflow ui"

    def __init__(self, asked: Publishing):
        super().__init__(asked)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # else it tries for minutes
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        self.experiment = f"{asked.project}/{asked.group}" if asked.group else asked.project

    def find(self, run: Shared) -> str | None:
        known = self.client.get_experiment_by_name(self.experiment)
        if known is None:
            return None
        for found in self.client.search_runs([known.experiment_id], f"tags.`{_RUN}` = '{run.id}'"):
            if found.data.tags.get(_WHOLE):
                return self._place(found)
            self.client.delete_run(found.info.run_id)  # of a command that was stopped
        return None

    def put(self, run: Shared, files: Path) -> str:
        known = self.client.get_experiment_by_name(self.experiment)
        number = known.experiment_id if known else self.client.create_experiment(self.experiment)
        began = _milliseconds(run.moment("started"))
        tags = {key: value[:_LONGEST_VALUE] for key, value in run.tags.items()}
        made = self.client.create_run(number, start_time=began, tags=tags, run_name=run.name)
        of = made.info.run_id
        self._log_params(of, run)
        self._log_metrics(of, run)
        if any(files.iterdir()):
            self.client.log_artifacts(of, str(files))
        status = {"finished": "FINISHED", "failed": "FAILED"}.get(run.state, "KILLED")
        self.client.set_tag(of, _WHOLE, "true")
        self.client.set_terminated(of, status, end_time=_milliseconds(run.moment("ended")))
        return self._place(made)

    def _log_params(self, of: str, run: Shared) -> None:
        from mlflow.entities import Param

        named = {_named(key): str(value)[:_LONGEST_VALUE] for key, value in run.params.items()}
        for some in _in_parts((Param(*pair) for pair in named.items()), _PARAMS):
            self.client.log_batch(of, params=some)

    def _log_metrics(self, of: str, run: Shared) -> None:
        """Records of kdx have no time of their own: each has that at which the run ended."""
        from mlflow.entities import Metric

        at = _milliseconds(run.moment("ended")) or 0
        curves = (
            Metric(_named(f"{point.stage}/{name}"), value, at, point.step)
            for point in run.points()
            for name, value in point.values.items()
        )
        scores = [Metric(_named(name), value, at, 0) for name, value in run.scores.items()]
        for some in (*_in_parts(curves, _METRICS), *_in_parts(iter(scores), _METRICS)):
            self.client.log_batch(of, metrics=some)

    def _place(self, made: Any) -> str:
        return f"{self.client.tracking_uri}, experiment {self.experiment}, run {made.info.run_id}"


def _named(name: str) -> str:
    """A name as MLflow takes it."""
    return _UNNAMED.sub("_", name)[:_LONGEST_NAME]


def _milliseconds(moment: float | None) -> int | None:
    return None if moment is None else int(1000 * moment)


def _in_parts(values: Iterator[T], most: int) -> Iterator[Sequence[T]]:
    while some := list(islice(values, most)):
        yield some
