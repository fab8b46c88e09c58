"""A run folder in the hands of Python."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdx.api import html
from kdx.api.asking import RunFailed, as_words, ask_command, call_as
from kdx.api.predictions import Predictions
from kdx.core.errors import UserError
from kdx.runs import reading

if TYPE_CHECKING:
    from torch import nn

_PICTURES = ("predictions.png", "curves-validation-*.png")
"""Of figures/, what a notebook shows: of each pattern the first."""


class Run:
    """A run folder: of a run that is finished, failed, was interrupted or is at work. Everything is read from
    the folder when it is asked for.

    folder: where it is, absolute. store: where its artifacts are, None: found through the run. Raises
    UserError where the folder is no run, or is not as kdx writes it.
    """

    def __init__(self, folder: str | os.PathLike[str], store: str | os.PathLike[str] | None = None):
        self._store = None if store is None else os.fspath(store)
        self.folder = Path(os.path.abspath(Path(folder).expanduser()))
        self._read()

    def _read(self) -> reading.Run:
        return reading.read_run(self.folder, self._store, figures=True)

    @property
    def document(self) -> dict[str, Any]:
        """All of run.json: docs/run-json.md."""
        return dict(self._read().document)

    @property
    def status(self) -> str:
        """finished, failed, interrupted, running, died, or "running, or died" where nobody can say."""
        return self._read().state

    @property
    def results(self) -> dict[str, Any]:
        """What was measured (docs/run-json.md): `results["student"]["last"]["test"]["accuracy"]`, a fraction.
        Raises UserError where the run has none yet.
        """
        found = self._read()
        results = found.document.get("results")
        if not isinstance(results, dict) or not results:
            raise UserError(f"the run '{self.folder}' has no results: it is {found.state}")
        return results

    @property
    def report(self) -> str:
        """report.md, Markdown. Raises UserError where the run has none yet."""
        file = self.folder / "report.md"
        if not file.is_file():
            raise UserError(f"the run '{self.folder}' has no report.md: it is {self.status}")
        return file.read_text(encoding="utf-8")

    def network(
        self,
        role: str = "student",
        which: str | None = None,
        allow: Sequence[str] = (),
        member: int | str | None = None,
    ) -> nn.Module:
        """A stored network on the CPU, in eval mode: rows as `kdx.load` takes them -> answers; of pictures
        (N, C, H, W) float32 in [0, 1] -> (N, K) logits.

        role: student, teacher (of several their mean), baseline or any other that the run has. which: "last"
        or "best" (on validation); None: those that the run's table shows. allow: packages of your own that
        the model comes from. member: of several teachers one alone, by its number in the table, from 1, or by
        the name of its model. Raises UserError where the run has no such weights, or its store is gone.
        """
        if which not in (None, "last", "best"):
            raise UserError(f"which must be 'last' or 'best'; given: {which!r}")
        own = [allow] if isinstance(allow, str) else [*allow]
        one = None if member is None else str(member)
        chosen = None if one is not None and role == "student" else role

        def opened() -> nn.Module:
            from kdx.commands._stored import weights_of
            from kdx.store.resolve import allow as let_in

            let_in(own)
            with reading.as_written(self.folder):
                return weights_of(self._read(), chosen, which, own, one)[2].network()

        return call_as("evaluate", [f"allow=[{','.join(own)}]"], opened)[1]

    def student(self, which: str | None = None, allow: Sequence[str] = ()) -> nn.Module:
        """`network("student")`: the distilled one."""
        return self.network("student", which, allow)

    def teacher(
        self, which: str | None = None, allow: Sequence[str] = (), member: int | str | None = None
    ) -> nn.Module:
        """`network("teacher")`"""
        return self.network("teacher", which, allow, member)

    def predict(self, data: Any, *words: str) -> Predictions:
        """Answers to new rows, as `kdx predict RUN data=... WORDS` gives them, held in memory.

        data: a folder or a file, one of "pool", "labelled", "validation" and "test", or the rows themselves:
        one array or tensor in the form of `network`, pictures also as uint8, several by name in a mapping.
        words: of `kdx predict` (`role=teacher`, `top=3`, `soft=probabilities`), but data=, to= and json=.
        Raises UserError where the rows cannot be answered.
        """
        further = as_words(words)
        if set_here := [w for w in further if w.partition("=")[0] in ("data", "to", "json", "overwrite")]:
            raise UserError(
                f"{set_here[0]} has no place here: predict returns the answers; to write a file, "
                f"kdx.command('predict', run.folder, 'data=...', 'to=labels.csv')"
            )
        with tempfile.TemporaryDirectory(prefix="kdx-") as place:
            file = Path(place) / "answers.parquet"
            lines = [str(self.folder), *self._in_store(further), f"to={file}"]
            if isinstance(data, str | os.PathLike):
                document = ask_command("predict", [*lines, f"data={os.fspath(data)}"])
            else:
                document = ask_command("predict", lines, given=lambda weights: _given(data, weights))
            from pyarrow import parquet  # with torch, after which it is quick

            columns = parquet.read_table(file).to_pydict()
        for name in ("to", "unread_file"):
            document.pop(name, None)
        return Predictions(columns, document)

    def evaluate(self, *words: str) -> dict[str, Any]:
        """Stored weights measured again: what `kdx evaluate RUN WORDS --json` answers, its `results` by role.
        words: `dataset=...`, `split=validation`, `role=student`, `which=best` and so on.
        """
        return ask_command("evaluate", [str(self.folder), *self._in_store(as_words(words))])

    def export(self, *words: str) -> dict[str, Any]:
        """The student alone written to a folder: what `kdx export RUN WORDS --json` answers, `folder` and
        `card`. `kdx.load(folder)` opens it.
        """
        return ask_command("export", [str(self.folder), *self._in_store(as_words(words))])

    def rerun(self, *words: str) -> dict[str, Any]:
        """The run made again from itself: what `kdx rerun RUN WORDS --json` answers; `same` is whether it
        came to the same numbers, `folder` where the new one is. Raises RunFailed where the new run failed.
        """
        found = ask_command("rerun", [str(self.folder), *as_words(words)])
        if found.get("status") == "failed":
            raise RunFailed(
                f"the run failed; its traceback is in {found['folder']}/run.json",
                Path(found["folder"]).absolute(),
            )
        return found

    def _in_store(self, words: list[str]) -> list[str]:
        told = self._store is None or any(word.startswith("store=") for word in words)
        return words if told else [*words, f"store={self._store}"]

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"kdx.open({os.path.relpath(self.folder)!r})  # {self.status}"

    def __str__(self) -> str:
        """The table that `kdx train` prints."""
        from kdx.report.run.table import print_table

        found = self._read()
        if not found.document.get("results"):
            return f"{os.path.relpath(self.folder)}: {found.state}"
        text = io.StringIO()
        with reading.as_written(self.folder):
            results, headline, warnings, audit = _shown(found.document)
            print_table(results, headline, warnings, text, audit=audit)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        """The same table, with what it means and two of the run's pictures."""
        from kdx.report.run.audit import audit_sentences
        from kdx.report.run.sentences import result_sentences
        from kdx.report.run.table import results_title, role_cells

        place = os.path.relpath(self.folder)
        try:
            found = self._read()
            if not found.document.get("results"):
                error = found.document.get("error")
                return html.html_block(
                    f"{place}: {found.state}", html.html_list([str(error)] if error else [])
                )
            with reading.as_written(self.folder):
                results, headline, warnings, audit = _shown(found.document)
                said = [*result_sentences(results, headline), *audit_sentences(audit, results)]
                said += [f"WARNING: {text}" for text in warnings]
                table = html.html_table(*role_cells(results, headline))
                title = f"{results_title(results, headline)} ({place})"
        except UserError as error:
            return html.html_block(place, html.html_list(str(error).splitlines()))
        files = [next(iter(sorted((self.folder / "figures").glob(name))), None) for name in _PICTURES]
        drawn = [html.picture(file, file.stem) for file in files if file]
        return html.html_block(title, table, html.html_list(said), *drawn)


def _shown(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], str, list[str], Mapping[str, Any] | None]:
    """(results, headline, warnings, audit) of a run.json, for its table."""
    results = document["results"]
    return results, results.get("headline") or "last", document.get("warnings") or [], document.get("audit")


def _given(data: Any, weights: Any) -> Any:
    """The rows that were handed over, for a kdx.runs.stored.Weights; of several inputs by name those that
    it reads."""
    from kdx.data.new_rows.given import GivenRows
    from kdx.runs.own_inputs import own_rows
    from kdx.store.moved import kind_of_old

    named = isinstance(data, Mapping) and bool(weights.reads) and set(weights.reads) <= set(data)
    return GivenRows(own_rows(data, weights.reads) if named else data, kind_of_old(weights.about)["example"])
