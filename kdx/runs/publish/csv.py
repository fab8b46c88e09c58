"""Runs as two tidy tables, for whatever reads CSV: a row a run, and a row a value of a curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import own_file, write_atomically
from kdx.report.compare.documents import harmless_cell
from kdx.report.run.names import TARGET
from kdx.runs.publish.publisher import Publisher, Receipt
from kdx.runs.publish.shared import Shared

RUNS, CURVES = "runs.csv", "metrics.csv"
_OF_RUN = ("run", "id", "status", "seed")


class Tables(Publisher):
    """runs.csv: the settings that differ or were typed, the seed, and every score. metrics.csv: run, stage,
    step, name, value. Both are written anew each time."""

    def send(self, runs: Sequence[Shared]) -> Iterator[Receipt]:
        out, settings = self.asked.out, shown_settings(runs)
        scores = list(dict.fromkeys(name for run in runs for name in run.scores))
        rows = [
            [run.name, run.id, run.state, run.params.get("seed")]
            + [run.params.get(key) for key in settings]
            + [run.scores.get(name) for name in scores]
            for run in runs
        ]
        values = (
            [run.name, point.stage, point.step, name, value]
            for run in runs
            for point in run.points()
            for name, value in point.values.items()
        )
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name in (RUNS, CURVES):
                own_file(out / name, "the table")
            write_atomically(out / RUNS, _table([*_OF_RUN, *settings, *scores], rows))
            write_atomically(out / CURVES, _table(["run", "stage", "step", "name", "value"], values))
        except OSError as error:
            raise UserError(
                f"cannot write '{out}': {error.strerror or error}; choose another folder with out=FOLDER"
            ) from error
        yield from (Receipt(run.name, str(out)) for run in runs)


def shown_settings(runs: Sequence[Shared]) -> list[str]:
    """Those in which the runs differ, and those that were typed, but the seed; of what is chosen by an option
    not its class as well."""
    every = dict.fromkeys(key for run in runs for key in run.params)
    typed = {key for run in runs for key in run.asked.given}
    kept = [key for key in every if key in typed or len({run.params.get(key) for run in runs}) > 1]
    return [key for key in kept if key != "seed" and key.removesuffix(TARGET) not in {*kept} - {key}]


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    to = io.StringIO()
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow([harmless_cell(name) for name in header])
    writer.writerows([harmless_cell(cell) for cell in row] for row in rows)
    return to.getvalue()
