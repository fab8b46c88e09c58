"""Several runs side by side."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.api import html
from kdx.api.asking import as_words, call_as, words_alone
from kdx.api.predictions import frame
from kdx.api.run import Run
from kdx.core.errors import UserError
from kdx.report.compare import documents, rows


class Comparison:
    """What `kdx compare` shows. Runs that differ by seed only are one row.

    document: what it answers under --json: metric, unit, reference, protocol, notes, warnings, rows. rows:
    one mapping a row, with `name`, `n`, `test_mean` and so on, in the unit in which the metric is shown.
    notes: what was left out, and why.
    """

    def __init__(self, made: Any, left_out: Sequence[str]):
        self._made, self._left_out = made, list(left_out)
        self.document: dict[str, Any] = documents.as_document(made, left_out)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.document["rows"]

    @property
    def notes(self) -> list[str]:
        return self.document["notes"]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with the rows of `kdx compare --csv`. Raises UserError where pandas is not
        installed.
        """
        return frame(documents.records(self._made))

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<comparison of {len(self)} rows by {self.document['metric']}>"

    def __str__(self) -> str:
        """What `kdx compare` prints into a pipe: the table is Markdown."""
        from kdx.commands._comparison import show_comparison

        with contextlib.redirect_stdout(io.StringIO()) as text:
            show_comparison(self._made)
        return "\n".join([text.getvalue().rstrip("\n"), *self._left_out])

    def _repr_html_(self) -> str:
        form = rows.forms(self._made)[0]
        below = [*form.below, *rows.comparison_sentences(self._made), *self._left_out]
        tables = [html.html_table(header, body) for header, body in form.tables]
        return html.html_block(rows.comparison_title(self._made), *tables, html.html_list(below))


@words_alone
def compare(*words: str | os.PathLike[str]) -> Comparison:
    """`kdx compare WORDS`: runs, sweeps, or folders of them, and settings such as `where=loss=slam`,
    `reference=loss=kd`, `sort=gain` or `html=report.html`.

    Raises UserError where there is nothing to compare, or what must not be mixed. A run folder that cannot be
    read is left out and named in `notes`.
    """
    given = as_words(words)

    def made() -> Any:
        from kdx.commands import compare as the_command

        return the_command.compare_paths(given)

    _, (found, lay) = call_as("compare", given, made)
    return Comparison(found, lay.lines)


class Sweep(Sequence[Run]):
    """The runs of a sweep, in order. folder: that of the sweep, absolute. document: what
    `kdx train -m --json` answers.
    """

    def __init__(self, document: Mapping[str, Any]):
        self.document = dict(document)
        self.folder = Path(document["folder"]).absolute()
        self._runs = [Run(about["folder"]) for about in document["runs"]]

    def __getitem__(self, at: Any) -> Any:
        return self._runs[at]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def comparison(self) -> Comparison:
        """`kdx.compare(sweep.folder)`. Raises UserError where the runs must not be compared."""
        return compare(self.folder)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"<sweep of {len(self)} runs in {os.path.relpath(self.folder)}>"

    def _repr_html_(self) -> str:
        try:
            return self.comparison._repr_html_()
        except UserError as error:
            return html.html_block(repr(self), html.html_list(str(error).splitlines()))
