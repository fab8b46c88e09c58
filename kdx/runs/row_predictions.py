"""predictions.csv of a run folder: what each network answered to each row of validation and test, from what
`evaluate` kept of them. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdx.data.kept_columns import PREDICTIONS_JSON, KeptRows
from kdx.data.new_rows.rows import FILE_COLUMN, ROW_COLUMN
from kdx.data.writing import whole_file
from kdx.report.run.place import PREDICTIONS
from kdx.report.run.verdict import present, settle
from kdx.store.artifact import Artifact

FILE_ROWS = 100_000
"""Of more rows none are written: the arrays of the artifact have them in a tenth of the room."""
_SPLIT = "split"
_BLOCK = 8192


def write_predictions(
    found: Artifact, folder: Path, results: Mapping[str, Any], headline: str
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """found: the evaluate artifact; results: its results.json. Writes PREDICTIONS into the run folder, where
    there are at most FILE_ROWS rows.

    (for run.json what there is: file, None where there are too many rows, rows of each split, weights and
    columns; the rows that the student gets most wrong), both None where nothing was measured. Raises
    UserError where the file cannot be written.
    """
    if not present(results) or not found.file(PREDICTIONS_JSON).is_file():
        return None, None
    about, weights = found.json(PREDICTIONS_JSON), settle(results, headline)
    splits = {name: KeptRows(found.path, split, weights) for name, split in about["splits"].items()}
    heads = dict.fromkeys(name for rows in splits.values() for name in rows.headers)
    known = [name for name in (FILE_COLUMN, ROW_COLUMN) if name in heads]
    columns = [*known, _SPLIT, *(name for name in heads if name not in known)]
    counts = {name: rows.count for name, rows in splits.items()}
    small = sum(counts.values()) <= FILE_ROWS
    if small:
        with whole_file(PREDICTIONS, folder / PREDICTIONS) as writer:
            for block in _blocks(splits, columns):
                writer.write(block)
    file = PREDICTIONS if small else None
    said = {"file": file, "rows": counts, "weights": weights, "columns": columns}
    return said, about["worst"].get(weights)


def _blocks(splits: Mapping[str, KeptRows], columns: list[str]) -> Iterator[dict[str, Any]]:
    """Each with all columns: a network that is not measured on a split has empty cells there."""
    for name, rows in splits.items():
        for start in range(0, rows.count, _BLOCK):
            some = slice(start, min(start + _BLOCK, rows.count))
            count = some.stop - start
            found = {_SPLIT: [name] * count, **rows.take(some)}
            yield {column: found.get(column, [None] * count) for column in columns}
