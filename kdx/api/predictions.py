"""The answers of a network of a run, as `kdx predict` writes them, held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.api import html
from kdx.core.errors import UserError

_ROWS, _COLUMNS = 10, 8
"""How many a notebook shows."""


class Predictions(Mapping[str, list[Any]]):
    """column -> its values, one a row that could be read, in order: `row` or `file`, then of classes `label`,
    `confidence` (0 to 1) and `margin`, of numbers `value:NAME`; docs/predict.md has all of them.

    document: what the command answered. Its `unread` lists rows that could not be read, `notes` what there is
    to say.
    """

    def __init__(self, columns: Mapping[str, list[Any]], document: Mapping[str, Any]):
        self._columns, self.document = dict(columns), dict(document)

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """How many columns; `document["rows"]` is how many rows."""
        return len(self._columns)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One mapping a row, column -> value."""
        return [
            dict(zip(self._columns, values, strict=True))
            for values in zip(*self._columns.values(), strict=True)
        ]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame of the columns. Raises UserError where pandas is not installed."""
        return frame(self._columns)

    def __repr__(self) -> str:
        return f"<{self._title()}: {', '.join(self._columns)}>"

    def _repr_html_(self) -> str:
        names = list(self._columns)[:_COLUMNS]
        whole = self.document["rows"]
        below = [*self.document.get("notes", ())]
        if whole > _ROWS:
            below.insert(0, f"and {whole - _ROWS:,} more rows")
        if left := len(self._columns) - len(names):
            below.insert(0, f"and {left:,} more columns")
        if unread := self.document.get("unread"):
            below.append(f"not read: {len(unread):,}; the first, {unread[0]['name']}: {unread[0]['reason']}")
        shown = [[_shown(row[name]) for name in names] for row in self.rows[:_ROWS]]
        return html.html_block(self._title(), html.html_table(names, shown), html.html_list(below))

    def _title(self) -> str:
        of = self.document
        which = f", {of['which']} weights" if of.get("which") else ""
        noun = of["noun"] if of["rows"] == 1 else f"{of['noun']}s"
        return f"{of['rows']:,} {noun} answered by {of['who']} ({of['model']}){which}"


def frame(columns: Mapping[str, list[Any]] | list[dict[str, Any]]) -> Any:
    """A pandas.DataFrame. Raises UserError where pandas is not installed: kdx does not need it."""
    try:
        import pandas
    except ImportError:
        raise UserError(
            "to_pandas() needs pandas, which is not installed: pip install pandas; .rows holds the same"
        ) from None
    return pandas.DataFrame(columns)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
