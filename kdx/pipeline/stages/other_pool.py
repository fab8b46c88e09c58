"""Rows of another data set, of a maker of rows, or of this data set changed, in the place of its own pool
and, where that is asked for, of its test rows: proxy data, and another domain. They are laid down by
kdx.pipeline.stages.prepare in the form of the rows that they stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdx.core.task import Task
from kdx.core.trees import leaves, rows_of, tree
from kdx.core.types import Split
from kdx.data.making import RowMaker
from kdx.data.raw import PARTS, Raw
from kdx.data.reader import OfArray
from kdx.data.splits import stratified
from kdx.data.stored import LazyRows, after, in_blocks, taken
from kdx.data.streams import sequential
from kdx.data.views.chain import Chain, Views
from kdx.pipeline.stages.arrays import INPUTS, ORIGINS, build_task, pointer, stored_arrays
from kdx.pipeline.stages.decode import open_decoded
from kdx.pipeline.stages.matched_classes import MatchedClasses
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Work

THIRD = 1 / 3
"""The share of another data set's rows that is held out for the test, where it ships no test part and nothing
else is said."""


@dataclass(frozen=True)
class Own:
    """The data set that they are put beside. adapter: what stands between its rows and a network. labelled:
    its labelled rows."""

    raw: Raw
    task: Task
    adapter: Mapping[str, Any] | None
    labelled: Any


@dataclass(frozen=True)
class Taken:
    """Rows that stand in for those of a split: inputs, and their truth in the task of the data set. numbers:
    (N,) int64 of those of another data set, through its parts in order, None: they have none."""

    inputs: Any
    truth: Any
    numbers: np.ndarray | None = None


@dataclass(frozen=True)
class OtherRows:
    """What stands in for the pool, and for the test rows, None: these stay. notes, warnings: what there is to
    say.
    changed: whether they are the data set's own rows, changed."""

    pool: Taken
    test: Taken | None = None
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    changed: bool = False


@dataclass(frozen=True)
class PoolAsked:
    """What is to stand in for the pool. name: of its option. decoded: another data set; maker: what makes
    rows; steps: name -> what changes the data set's own rows; one of the three. limit, test, classes: see
    `of_another`; of steps test is whether the test rows are changed too."""

    name: str
    decoded: Artifact | None = None
    maker: Component | None = None
    steps: Sequence[tuple[str, Component]] = ()
    limit: int | None = None
    test: bool | int | float = False
    classes: Mapping[str, str] = field(default_factory=dict)

    def rows_for(
        self, own: Own, inputs: Mapping[str, Any], truth: Mapping[str, Any], hidden: Any, seed: int
    ) -> OtherRows:
        """inputs, truth: of the data set's own splits; hidden: the truth of its own pool."""
        if self.steps:
            test = Taken(inputs["test"], truth["test"]) if self.test else None
            return shifted(Taken(inputs["unlabelled"], hidden), test, self.steps, seed)
        if self.maker:
            maker: RowMaker = self.maker.build()
            made = maker.make(own.raw, own.labelled, seed)
            return OtherRows(
                Taken(made, own.task.unknown(hidden, maker.rows)),
                notes=[f"the pool is {maker.rows:,} made-up {own.raw.noun}s; nobody knows their truth"],
            )
        if self.decoded is None:
            raise ValueError("neither another data set, nor a maker of rows, nor steps")
        other = open_decoded(self.decoded)
        return of_another(own, other, self.name, self.limit, self.test, self.classes, seed)

    def document(self, folder: Path) -> dict[str, Any]:
        """What data.json tells of it. folder: of that."""
        kind = "shifted" if self.steps else "made up" if self.maker else "another data set"
        found: dict[str, Any] = {"pool": {"name": self.name, "kind": kind, "test": self.test is not False}}
        if self.decoded:
            splits = ["unlabelled", *(["test"] if self.test is not False else [])]
            found[ORIGINS] = dict.fromkeys(splits, pointer(folder, self.decoded.path))
        return found


def stood_in(
    work: Work,
    others: OtherRows,
    splits: tuple[dict[str, Any], dict[str, Any], Any],
    numbers: Mapping[str, np.ndarray],
    own: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], Any, dict[str, np.ndarray], dict[str, Any]]:
    """The same splits with other rows in the place of their own, which are written here. splits: inputs,
    truth, and that of the pool. numbers: of the rows in the decoded data set, of which those of another set
    have none. own: splits whose rows are written. Returns inputs, truth, that of the pool, numbers, own."""
    inputs, truth, _ = splits
    inputs, truth, numbers, own = dict(inputs), dict(truth), dict(numbers), dict(own)
    for name, taken_in in (("unlabelled", others.pool), ("test", others.test)):
        if taken_in is None:
            continue
        inputs[name] = own[name] = stored_arrays(work, f"{name}.{INPUTS}", taken_in.inputs)
        if not others.changed:
            numbers[name] = numbers[name][:0] if taken_in.numbers is None else taken_in.numbers
    if others.test is not None:
        truth["test"] = others.test.truth
    for text in others.notes:
        work.note(text)
    for text in (*others.warnings, *_seen_in_test(inputs)):
        work.note(text, "warning")
    return inputs, truth, others.pool.truth, numbers, own


def _seen_in_test(inputs: Mapping[str, Any]) -> list[str]:
    """Says how many test rows stand in the pool too, of rows that are one array each."""
    found = [leaves(inputs[name]) for name in ("unlabelled", "test")]
    if any(set(of) != {""} for of in found):
        return []
    pool, test = (
        [hash(np.ascontiguousarray(row).tobytes()) for block in in_blocks(of[""]) for row in block]
        for of in found
    )
    there = set(pool)
    equal = sum(row in there for row in test)
    return (
        [f"{equal:,} of the {len(test):,} test rows stand in the pool too: a student sees them"]
        if equal
        else []
    )


def shifted(pool: Taken, test: Taken | None, steps: Sequence[tuple[str, Component]], seed: int) -> OtherRows:
    """The rows of the pool, and of the test where given, each changed once. Levels stay uint8."""
    chain = Chain([(name, step.build()) for name, step in steps])
    return OtherRows(
        Taken(changed_once("unlabelled", pool.inputs, chain, seed), pool.truth),
        Taken(changed_once("test", test.inputs, chain, seed), test.truth) if test else None,
        [_changed_by("pool and test rows are" if test else "the pool is", steps)],
        changed=True,
    )


def _changed_by(what: str, steps: Sequence[tuple[str, Component]]) -> str:
    return f"{what} changed by {', '.join(name for name, _ in steps)}"


def changed_once(name: str, inputs: Any, chain: Chain, seed: int) -> Any:
    """The rows of a split, as arrays, each changed by the chain. Levels stay uint8."""
    read = tree(lambda leaf: OfArray(leaf) if isinstance(leaf, LazyRows) else torch.from_numpy(leaf), inputs)
    made = [
        tree(
            _as_stored,
            batch.views["main"],
        )
        for batch in sequential(
            Split(name, read), batch=512, views=Views(chain, seed), view=1, device=torch.device("cpu")
        )
    ]
    joined = {leaf: np.concatenate([leaves(one)[leaf] for one in made]) for leaf in leaves(made[0])}
    return joined[""] if set(joined) == {""} else joined


def _as_stored(leaf: torch.Tensor) -> np.ndarray:
    """Floats in [0, 1] as levels; all else as it is."""
    return (leaf * 255).round().to(torch.uint8).numpy() if leaf.is_floating_point() else leaf.numpy()


def of_another(
    own: Own,
    other: Raw,
    called: str,
    limit: int | None,
    test: bool | int | float,
    classes: Mapping[str, str],
    seed: int,
) -> OtherRows:
    """Rows of `other`: of its train part and its pool at most so many, drawn at random; to test on its test
    part, or a part of its train part that is held out. test: see `THIRD`, False: none. classes: name of a
    class there -> here; a class that is not there has the same name in both."""
    task = build_task({"task": other.task})
    other = other.fitted([], own.adapter)
    train, known = other.part("train")
    count = rows_of(train)
    if test is not False and other.part("test")[0] is None:
        held = rows_held_out(count, test)
        groups = other.strata("train")
        tested = stratified(np.zeros(count, np.int64) if groups is None else groups, held, seed)
    else:
        tested = np.zeros(0, np.int64)
    left = np.setdiff1d(np.arange(count), tested)
    numbers = _numbers(other)
    inputs, hidden, places = taken(train, left), taken(known, left), numbers["train"][left]
    further = other.part("unlabelled")[0]
    if further is not None:
        inputs, hidden = after(inputs, further), after(hidden, task.unknown(known, rows_of(further)))
        places = np.concatenate([places, numbers["unlabelled"]])
    if limit is not None and limit < rows_of(inputs):
        kept = np.sort(np.random.Generator(np.random.PCG64([seed, 7])).permutation(rows_of(inputs))[:limit])
        inputs, hidden, places = taken(inputs, kept), taken(hidden, kept), places[kept]
    mapping = MatchedClasses(task, own.task, called, classes)
    pool = Taken(other.in_form_of(own.labelled, inputs), mapping.of_pool(hidden), places)
    if test is False:
        return OtherRows(pool, None, mapping.notes(), mapping.warnings())
    shipped = other.part("test")
    asked = shipped if shipped[0] is not None else (taken(train, tested), taken(known, tested))
    chosen, truth = mapping.of_test(asked[1])
    places = numbers["test"] if shipped[0] is not None else numbers["train"][tested]
    inputs, places = (asked[0], places) if chosen is None else (taken(asked[0], chosen), places[chosen])
    return OtherRows(
        pool, Taken(other.in_form_of(own.labelled, inputs), truth, places), mapping.notes(tested=True)
    )


def _numbers(other: Raw) -> dict[str, np.ndarray]:
    """part -> the numbers of its rows, through all parts in order."""
    counts = [0 if (inputs := other.part(part)[0]) is None else rows_of(inputs) for part in PARTS]
    starts = np.cumsum([0, *counts])
    return {part: starts[i] + np.arange(counts[i], dtype=np.int64) for i, part in enumerate(PARTS)}


def rows_held_out(rows: int, test: bool | int | float) -> int:
    """How many of these rows are held out for the test."""
    return test if type(test) is int else max(1, round(rows * (THIRD if test is True else test)))
