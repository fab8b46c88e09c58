"""Who reads new rows, chosen by what rows are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError, rows_called
from kdx.core.several import BOXED, kinds_by_name
from kdx.data.column_files import ENDINGS, ending
from kdx.data.new_rows.rows import NewRows, check_there

_PICTURES, _TABLE, _TEXTS, _TOKENS = "pictures", "table", "texts", "tokens"
_QUESTIONS = "questions"


def open_new_rows(
    kind: Mapping[str, Any],
    how: Mapping[str, Any],
    place: Path,
    workers: int,
    column: str | None,
) -> NewRows:
    """kind: reads, example, adapter and task of a model.json. how: its `preprocessing`. column: of texts, the
    one that holds them, None: known by its name. Raises UserError where nothing there can be read.
    """
    if several := kinds_by_name(kind["reads"], kind["example"]):
        return _of_several(kind, how, place, workers, column, several)
    reads, example, adapter = kind["reads"], kind["example"], kind["adapter"] or {}
    if column is not None and reads != _TEXTS:
        raise UserError(f"text= names the column of texts, and this network reads {reads}: leave it out")
    if reads == _PICTURES and "sound" in how:
        from kdx.data.new_rows.sounds import NewSounds

        return NewSounds(place, how["sound"], workers)
    if reads == _PICTURES and set(example) == {""}:
        if place.is_file() and ending(place):
            from kdx.data.new_rows.named_pictures import NamedPictures

            return NamedPictures(place, tuple(example[""][0]), how, workers)
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


def _of_several(
    kind: Mapping[str, Any],
    how: Mapping[str, Any],
    place: Path,
    workers: int,
    column: str | None,
    several: Mapping[str, str],
) -> NewRows:
    """Rows with several inputs, in one file of columns. several: name of an input -> what it is."""
    from kdx.data.new_rows.several import NewPairs

    check_there(place)
    if place.is_dir() or not ending(place):
        raise UserError(
            f"this network reads {rows_called(kind['reads'])} of each row: name a file of rows with columns "
            f"for all of them, which ends with {', '.join(ENDINGS)} (docs/pairs.md), or a split of its run, "
            "data=test say"
        )
    each, adapters = how.get("inputs") or {}, kind["adapter"]["inputs"]
    if column is not None and _TEXTS not in several.values():
        raise UserError("text= names the column of texts, and this network reads none: leave it out")
    readers = {}
    for name, reads in several.items():
        one = {**kind, "reads": reads, "example": {"": kind["example"][name]}, "adapter": adapters[name]}
        text = column if reads == _TEXTS else None
        readers[name] = open_new_rows(one, each.get(name) or {}, place, workers, text)
    return NewPairs(readers)
