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
from kdx.data.raw import PARTS, Description, Note, Raw

_ADAPTER = "kdx.models.named_inputs.NamedInputs"


@dataclass(frozen=True, eq=False)
class Paired(Raw):
    """inputs: name -> rows of that input, which know all that is to be done to them, in the order of the
    names; row i of each part is the same in all. truth: name of the one whose truth, classes and row names
    count. noun: one row, in sentences.
    """

    inputs: Mapping[str, Raw]
    truth: str
    noun: str = "row"

    @classmethod
    def of(cls, inputs: Mapping[str, Raw], *, truth: str, noun: str = "row") -> Paired:
        """Raises UserError where the inputs have different numbers of rows."""
        first = inputs[truth]
        for part in PARTS:
            rows = {name: _rows(raw, part) for name, raw in inputs.items()}
            if len(set(rows.values())) > 1:
                counts = ", ".join(f"{name} {count:,}" for name, count in rows.items())
                raise UserError(
                    f"the inputs of the {part} part have different numbers of rows ({counts}): row i of "
                    f"each must be the same {first.noun}"
                )
        return cls({name: inputs[name] for name in sorted(inputs)}, truth, noun)

    @property
    def _main(self) -> Raw:
        return self.inputs[self.truth]

    @property
    def task(self) -> Mapping[str, Any]:
        return self._main.task

    @property
    def reads(self) -> str:
        return word_for({name: raw.reads for name, raw in self.inputs.items()})

    @property
    def notes(self) -> tuple[Note, ...]:
        return tuple(note for raw in self.inputs.values() for note in raw.notes)

    @property
    def skipped(self) -> Any:
        return self._main.skipped

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        return self._main.names

    def part(self, name: str) -> tuple[Any, Any]:
        found = {key: raw.part(name) for key, raw in self.inputs.items()}
        if found[self.truth][0] is None:
            return None, None
        return {key: inputs for key, (inputs, _) in found.items()}, found[self.truth][1]

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        return replace(self, inputs={name: raw.only(rows) for name, raw in self.inputs.items()})

    def strata(self, part: str) -> np.ndarray | None:
        return self._main.strata(part)

    def fitted(self, seen: Sequence[Any], like: Mapping[str, Any] | None = None) -> Self:
        adapters = (like or {}).get("inputs", {})
        made = {
            name: raw.fitted([inputs[name] for inputs in seen], adapters.get(name))
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


def describe_paired(inputs: Mapping[str, Description], truth: str) -> Description:
    """Of rows with these inputs, each described as a data set of its own. truth: see Paired."""
    named = {name: inputs[name] for name in sorted(inputs)}
    return replace(
        named[truth],
        example={name: found.example[""] for name, found in named.items()},
        reads=word_for({name: found.reads for name, found in named.items()}),
        adapter=_adapter({name: (found.reads, found.adapter) for name, found in named.items()}),
        cheap=all(found.cheap for found in named.values()),
    )
