"""prepare: a decoded data set split: which of its rows each split holds, as numbers, and their truth. The
pool's truth, where there is one, lies in files of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from kdx.core.errors import UserError, within
from kdx.core.task import Task
from kdx.core.trees import leaves, rows_of, tree
from kdx.data import contract, copies
from kdx.data.making import RowMaker
from kdx.data.raw import Description, Raw, example_of, skip_reasons
from kdx.data.remarks import Less, in_one_line, less, remarks
from kdx.data.stored import after
from kdx.pipeline.scores import digests_of
from kdx.pipeline.stages.arrays import (
    DECODED,
    INPUTS,
    ORIGIN,
    ROW_NUMBERS,
    TRUTH,
    array_file,
    build_task,
    digest_of,
    pointer,
    save_arrays,
    stored_arrays,
)
from kdx.pipeline.stages.decode import open_decoded
from kdx.pipeline.stages.other_pool import Own, PoolAsked, stood_in
from kdx.pipeline.stages.row_findings import look
from kdx.pipeline.stages.split_rows import (
    classes_of,
    costly,
    counted_groups,
    numbered,
    parted,
    row_namer,
    split_raw,
)
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.stage import subseed
from kdx.store.work import Work
from kdx.tasks.answer_formats import distributions
from kdx.training.runtime import Runtime


def run(
    work: Work,
    runtime: Runtime,
    *,
    decoded: Artifact,
    dataset: Component,
    labelled: Any,
    unlabelled: Any,
    validation: Any,
    test: Any,
    duplicates: str,
    seed: int,
    made_up: Component | None = None,
    like: Mapping[str, Any] | None = None,
    pool: Mapping[str, Any] | None = None,
    fitted_on: Sequence[str] = ("labelled", "unlabelled"),
    near: bool = False,
    form: Sequence[int] | None = None,
) -> None:
    """Files: <split>.rows.npy (N,) int64, the numbers of its rows in the decoded data set, through its parts
    train, validation, test and unlabelled in this order; <split>.truth.npy for all but the pool, where there
    are several arrays by name <split>.truth.NAME.npy. truth.npy: of the pool, as the task marks what nobody
    knows. data.json: where the decoded rows lie, task, metric, example, adapter and what the rows are,
    counts, rows of the pool whose hidden truth is known, rows of validation by group, a digest of each split,
    and what was found odd.

    dataset: what was decoded. duplicates: of equal rows "warn", "drop" the copies (kdx.data.copies), or make
    them an "error". made_up: what makes further rows for the pool (kdx.data.making), whose truth nobody
    knows. like: the adapter of a network that is to be measured on these rows, and reads them as it read its
    own. pool: what stands in for the data set's own pool, and maybe for its test rows
    (kdx.pipeline.stages.other_pool.PoolAsked). fitted_on: the splits by whose rows the adapter and the
    vocabulary are made, all that training may see, or of private labelled rows the pool alone. near: whether
    rows of several splits are compared by a perceptual hash too. form: the shape that each row takes, as one
    of the data set that a teacher learns from after this one; None: its own.

    Rows that are no rows of the decoded data set, as they are made up, of another one, or hang on what
    training may see (`Raw.fitted`), lie in <split>.inputs.npy, where there are several arrays by name
    <split>.inputs.NAME.npy; the numbers are then of these, and <split>.origin.npy holds those of the decoded
    rows, -1 of others.
    """
    whole = open_decoded(decoded)
    if costly(whole) and duplicates != "warn":
        raise UserError(copies.not_compared(f"duplicates={duplicates}", whole.noun))
    if costly(whole) and near:
        raise UserError(copies.not_compared("near_copies=true", whole.noun, "near_copies=false"))
    fewer = less(whole) if duplicates == "drop" else Less(whole, {}, {}, [])
    raw, left_out = fewer.raw, fewer.left_out
    gone = sum(map(len, left_out.values()))
    with (
        within(f"once dataset.duplicates=drop has left out {gone:,} of the {raw.noun}s")
        if gone
        else nullcontext()
    ):
        rows = split_raw(raw, labelled, unlabelled, validation, test, seed)
    asked = PoolAsked(**pool) if pool else None
    if asked and not asked.steps:
        rows = replace(rows, unlabelled=rows.unlabelled[:0], pool=rows.pool[:0])
    task = build_task({"task": raw.task})
    inputs, truth, hidden = parted(raw, rows, task)
    numbers, told_apart = numbered(whole, fewer.kept, raw, rows), inputs
    own: dict[str, Any] = {}
    alone = "labelled" not in fitted_on  # then what stands in for the pool is all that may be looked at
    only: dict[str, Any] = {"labelled": False} if alone else {}
    worded = (fitted := raw.fitted([inputs[name] for name in fitted_on], like, **only)) is not raw
    if worded:
        raw = fitted
        inputs, truth, hidden = parted(raw, rows, task)
        # what is read as it is asked for is made once here, and not each time that it is looked at
        own = inputs = {name: stored_arrays(work, f"{name}.{INPUTS}", of) for name, of in inputs.items()}
    if form:
        inputs = own = {
            name: stored_arrays(work, f"{name}.{INPUTS}", raw.in_form_of(np.empty((0, *form), np.uint8), of))
            for name, of in inputs.items()
        }
    known = task.known(hidden) if rows_of(hidden) else np.zeros(0, bool)
    contract.check_finite(
        inputs, {**truth, "unlabelled": hidden}, row_namer(raw, rows), {"unlabelled": ~known}
    )
    # rows that are fitted, texts, have in that all that their adapter is made of
    early = not alone or (asked and worded)
    adapter, odd = raw.adapter([] if alone else [inputs[n] for n in fitted_on]) if early else (None, [])
    found, groups = inputs, classes_of(task, truth, hidden)
    looked = (
        look(work, raw, rows, (found, told_apart), groups, duplicates, left_out, near=near) if asked else None
    )
    if asked:  # from here on the files of these rows may hold others
        beside = Own(raw, task, adapter, inputs["labelled"])
        others = asked.rows_for(beside, inputs, truth, hidden, subseed(seed, "pool"))
        inputs, truth, hidden, numbers, own = stood_in(work, others, (inputs, truth, hidden), numbers, own)
        known = task.known(hidden)
    for maker in (made_up, asked and asked.maker):
        if maker and not alone and (caution := maker.build().caution()):
            work.note(caution, "warning")
    if made_up:
        inputs, hidden = _with_made_up(work, raw, (inputs, hidden), task, made_up, seed)
        known = np.concatenate([known, np.zeros(rows_of(hidden) - len(known), bool)])
        own = {**own, "unlabelled": inputs["unlabelled"]}
        save_arrays(work, f"unlabelled.{INPUTS}", inputs["unlabelled"])
    if alone:
        adapter, odd = raw.adapter([inputs["unlabelled"]])
    lay_down(work, numbers, own, truth, hidden)
    counts = {name: rows_of(inputs[name]) for name in ("labelled", "unlabelled", "validation", "test")}
    work.note(in_one_line(raw, counts))
    about = looked or look(work, raw, rows, (found, told_apart), groups, duplicates, left_out, near=near)
    for text, level in (*odd, *remarks(raw, classes_of(task, truth, None), fewer.lost)):
        work.note(text, level)
    work.write_json(
        "data.json",
        {
            "dataset": dataset.target.rpartition(".")[2],
            **kind_of_rows(
                Description(
                    {**raw.task, **task.fit(truth["labelled"])},
                    example_of(inputs["labelled"]),
                    raw.reads,
                    0,
                    adapter=adapter,
                )
            ),
            DECODED: pointer(work.path, decoded.path),
            "counts": {name: rows_of(found) for name, found in inputs.items()},
            "digests": digests(inputs, truth),
            "skipped": skip_reasons(raw.skipped),
            "hidden": int(known.sum()),
            **(asked.document(work.path) if asked else {}),
            "strata": counted_groups(task, truth["validation"]),
            **raw.about(),
            **about,
        },
    )


def _with_made_up(
    work: Work, raw: Raw, pool: tuple[dict[str, Any], Any], task: Task, described: Component, seed: int
) -> tuple[dict[str, Any], Any]:
    """(the inputs of the splits, the truth of the pool) with rows that are made up. pool: these two
    without.
    """
    inputs, hidden = pool
    maker: RowMaker = described.build()
    made = maker.make(raw, inputs["labelled"], subseed(seed, "made_up"))
    work.note(
        f"{maker.rows:,} {raw.noun}s are made up of the {rows_of(inputs['labelled']):,} labelled ones "
        f"({described.target.rpartition('.')[2]}), and join the {rows_of(inputs['unlabelled']):,} of the "
        "pool; nobody knows their truth"
    )
    more = {**inputs, "unlabelled": after(tree(np.asarray, inputs["unlabelled"]), made)}
    return more, after(hidden, task.unknown(hidden, maker.rows))


def kind_of_rows(found: Description) -> dict[str, Any]:
    """What data.json tells of what rows and answers are; what older readers look for stands beside it."""
    task = build_task({"task": found.task})
    about: dict[str, Any] = {
        "task": dict(found.task),
        "metric": task.metric.document(),
        "example": {name: [list(shape), kind] for name, (shape, kind) in found.example.items()},
        "reads": found.reads,
        "adapter": found.adapter and dict(found.adapter),
        "answer_bytes": task.row_bytes(),
    }
    if several := distributions(task):
        about["distributions"] = several
    if found.shape is not None:
        about["shape"] = list(found.shape)
    if found.classes:
        about["classes"] = list(found.classes)
    return about | {key: value for key, value in (found.adapter or {}).items() if key in ("mean", "std")}


def digests(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, str]:
    """split -> one digest of what its rows and truth hold."""
    files = {}
    for what, splits in ((INPUTS, inputs), (TRUTH, truth)):
        for name, value in splits.items():
            for leaf, array in leaves(value).items():
                files[array_file(f"{name}.{what}", leaf)] = digest_of(array)
    return digests_of(files)


def lay_down(
    work: Work,
    numbers: Mapping[str, np.ndarray],
    own: Mapping[str, Any],
    truth: Mapping[str, Any],
    hidden: Any,
) -> None:
    """The rows of each split and their truth as files; the pool's truth in files of its own. numbers: of the
    rows in the decoded data set; own: the rows themselves, of the splits that have such; they lie there.
    """
    for name, found in numbers.items():
        if name in own:
            made_up = np.full(rows_of(own[name]) - len(found), -1, np.int64)
            np.save(work.path / f"{name}.{ORIGIN}.npy", np.concatenate([found, made_up]))
            found = np.arange(rows_of(own[name]), dtype=np.int64)
        np.save(work.path / f"{name}.{ROW_NUMBERS}.npy", found)
        if name in truth:
            save_arrays(work, f"{name}.{TRUTH}", truth[name])
    save_arrays(work, TRUTH, hidden)
