"""Who reads new rows, chosen by what rows are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError, rows_called
from kdx.core.several import BOXED
from kdx.data.new_rows.rows import NewInput, NewRows

_PICTURES, _TABLE, _TEXTS, _TOKENS = "pictures", "table", "texts", "tokens"
_QUESTIONS = "questions"


def open_new_rows(
    kind: Mapping[str, Any],
    how: Mapping[str, Any],
    place: Path,
    workers: int,
    column: str | None,
    name: str | None = None,
) -> NewRows:
    """kind: reads, example, adapter and task of a model.json. how: its `preprocessing`. column: of texts, the
    one that holds them, None: known by its name. name: of rows with several inputs the one that the network
    reads, None: it reads all. Raises UserError where nothing there can be read.
    """
    if name is not None:
        whole = kind["adapter"]
        kind = {
            **kind,
            "reads": whole["kinds"][name],
            "example": {"": kind["example"][name]},
            "adapter": whole["inputs"][name],
        }
        return NewInput(open_new_rows(kind, how, place, workers, column), name)
    reads, example, adapter = kind["reads"], kind["example"], kind["adapter"] or {}
    if column is not None and reads != _TEXTS:
        raise UserError(f"text= names the column of texts, and this network reads {reads}: leave it out")
    if reads == _PICTURES and "sound" in how:
        from kdx.data.new_rows.sounds import NewSounds

        return NewSounds(place, how["sound"], workers)
    if reads == _PICTURES and set(example) == {""}:
        from kdx.data.new_rows.pictures import NewPictures

        return NewPictures(place, tuple(example[""][0]), how, workers)
    if reads == BOXED:
        from kdx.data.new_rows.pictures import NewPictures

        return NewPictures(place, tuple(example[""][0]), how, workers, boxed=True)
    if reads == _TABLE and (columns := adapter.get("columns") or how.get("columns")):
        from kdx.data.new_rows.tables import NewTable

        return NewTable(place, columns)
    if reads == _TEXTS and isinstance(adapter.get("tokenizer"), str):
        from kdx.data.new_rows.texts import NewTexts

        return NewTexts(place, adapter["tokenizer"], example[""][0][0], how, column)
    if reads == _TOKENS and isinstance(adapter.get("tokenizer"), str):
        from kdx.data.new_rows.tokens import NewDocuments

        return NewDocuments(place, adapter["tokenizer"], example[""][0][0], how)
    if reads == _QUESTIONS and isinstance(adapter.get("tokenizer"), str):
        from kdx.data.new_rows.questions import NewQuestions

        return NewQuestions(place, adapter["tokenizer"], kind["task"], how)
    raise UserError(
        f"only the data set that this network learned from can make its rows "
        f"({rows_called(reads)}): name a split of its run, data=pool, labelled, validation or test"
    )
