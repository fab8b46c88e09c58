"""Rows with several inputs, as their loaders hand them over: a picture with a table, of which the teacher
reads the one and the student the other. Numpy and the standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from kdx.core.errors import UserError
from kdx.core.several import word_for
from kdx.core.trees import rows_of
from kdx.data.phrases import counted
from kdx.data.raw import PARTS, Description, Note, Raw, Skipped, fewer_names

_ADAPTER = "kdx.models.named_inputs.NamedInputs"


@dataclass(frozen=True, eq=False)
class PairedRows(Raw):
    """inputs: name -> rows of that input, which know all that is to be done to them, in the order of the
    names; row i of each part is the same in all. truths: part -> the truth of its rows, of "unlabelled" none.
    The others: see Raw.
    """

    inputs: Mapping[str, Raw]
    truths: Mapping[str, Any]
    task: Mapping[str, Any]
    names: Mapping[str, Sequence[str]]
    noun: str = "row"
    notes: tuple[Note, ...] = ()
    skipped: Skipped = ()

    @classmethod
    def of(
        cls, inputs: Mapping[str, Raw], *, like: Raw, noun: str = "row", skipped: Skipped = ()
    ) -> PairedRows:
        """like: rows whose truth, task and names these have, one of the inputs say. Raises UserError where
        the inputs have different numbers of rows.
        """
        for part in PARTS:
            rows = {name: _rows(raw, part) for name, raw in inputs.items()}
            if len(set(rows.values())) > 1:
                counts = ", ".join(f"{name} {count:,}" for name, count in rows.items())
                raise UserError(
                    f"the inputs of the {part} part have different numbers of rows ({counts}): row i of "
                    f"each must be the same {noun}"
                )
        truths = {part: truth for part in PARTS if (truth := like.part(part)[1]) is not None}
        notes = tuple(note for raw in inputs.values() for note in raw.notes)
        named = {name: inputs[name] for name in sorted(inputs)}
        return cls(named, truths, like.task, like.names, noun, notes, skipped)

    @property
    def reads(self) -> str:
        return word_for({name: raw.reads for name, raw in self.inputs.items()})

    def part(self, name: str) -> tuple[Any, Any]:
        found = {key: raw.part(name)[0] for key, raw in self.inputs.items()}
        if any(inputs is None for inputs in found.values()):
            return None, None
        return found, self.truths.get(name)

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        return replace(
            self,
            inputs={name: raw.only(rows) for name, raw in self.inputs.items()},
            truths={p: truth[rows[p]] if p in rows else truth for p, truth in self.truths.items()},
            names=fewer_names(self.names, rows),
        )

    def strata(self, part: str) -> np.ndarray | None:
        return self.truths.get(part) if "classes" in self.task else None

    def fitted(
        self, seen: Sequence[Any], like: Mapping[str, Any] | None = None, *, labelled: bool = True
    ) -> Self:
        adapters = (like or {}).get("inputs", {})
        made = {
            name: raw.fitted([inputs[name] for inputs in seen], adapters.get(name), labelled=labelled)
            for name, raw in self.inputs.items()
        }
        return (
            self
            if all(made[name] is raw for name, raw in self.inputs.items())
            else replace(self, inputs=made)
        )

    def adapter(self, seen: Sequence[Any]) -> tuple[Mapping[str, Any], list[Note]]:
        each = {name: raw.adapter([inputs[name] for inputs in seen]) for name, raw in self.inputs.items()}
        notes = [note for _, odd in each.values() for note in odd]
        return _adapter({n: (r.reads, each[n][0]) for n, r in self.inputs.items()}), notes

    def about(self) -> dict[str, Any]:
        return {key: value for raw in self.inputs.values() for key, value in raw.about().items()}

    def look(
        self, inputs: Mapping[str, Any], name: Callable[[str, int], str]
    ) -> tuple[list[Note], dict[str, Any]]:
        notes: list[Note] = []
        about: dict[str, Any] = {}
        for key, raw in self.inputs.items():
            odd, found = raw.look({split: rows[key] for split, rows in inputs.items()}, name)
            notes, about = notes + odd, about | found
        return notes, about

    def in_words(self) -> str:
        words = [
            f"{name}: {raw.in_words() or counted(_rows(raw, 'train'), raw.noun)}"
            for name, raw in self.inputs.items()
        ]
        return "; ".join(words)


def _rows(raw: Raw, part: str) -> int:
    inputs = raw.part(part)[0]
    return 0 if inputs is None else rows_of(inputs)


def _adapter(inputs: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """inputs: name -> (what it is, its adapter)."""
    return {
        "_target_": _ADAPTER,
        "kinds": {name: kind for name, (kind, _) in inputs.items()},
        "inputs": {name: between for name, (_, between) in inputs.items()},
    }


def describe_paired(inputs: Mapping[str, Description], like: Description) -> Description:
    """Of rows with these inputs, each described as a data set of its own. like: tells of the rest."""
    named = {name: inputs[name] for name in sorted(inputs)}
    return replace(
        like,
        example={name: found.example[""] for name, found in named.items()},
        reads=word_for({name: found.reads for name, found in named.items()}),
        adapter=_adapter({name: (found.reads, found.adapter) for name, found in named.items()}),
        cheap=all(found.cheap for found in named.values()),
    )
