"""given-answers: answers that came in a file, laid down as `pseudo-label` lays down those of a network, so
that all that reads stored answers reads these."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kdx.core.answers import Given
from kdx.core.errors import UserError
from kdx.core.files import finite_or_null, read_json
from kdx.core.task import Task
from kdx.core.trees import moved, picked
from kdx.data.given import AnsweredRows, AnswersFile, said_of_columns, taken_by_order, whose_order
from kdx.data.laid import ROWS_JSON
from kdx.data.phrases import counted, few
from kdx.data.raw import PARTS
from kdx.pipeline.stages.answers import SOME, digest_of_views, places_file, score_of_validation
from kdx.pipeline.stages.arrays import TRUTH, array_file, build_task, decoded_folder, read_truth
from kdx.pipeline.stages.asked import places_of
from kdx.pipeline.stages.names import decoded_numbers, row_names
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Work
from kdx.training.runtime import Runtime

EVERY_SPLIT = ("labelled", "unlabelled", "validation", "test")
LEARNED_FROM = EVERY_SPLIT[:2]


def run(work: Work, runtime: Runtime, *, data: Artifact, answers: Component) -> None:
    """answers: a kdx.data.given.AnswersFile.

    Files, as those of kdx.pipeline.stages.label with one clean view: unlabelled.npy (n, 1, ...), the n rows
    of the pool that have an answer (places.npy where these are not all), and rows.npy, (n,) int64 ascending,
    which are learned from; labelled.npy, where a row without an answer has its label; validation.npy and
    test.npy where all of their rows have one; where some of validation have, these in answered.validation.npy
    and their places in places.validation.npy, to be measured and not to be estimated on; answers.json, with
    "given": split -> rows with an answer of the file. Of several arrays SPLIT.NAME.npy.
    """
    about = data.json("data.json")
    task = build_task(about)
    rows, found = read_answers(task, answers)
    where = {
        split: np.where(of >= 0, np.where(found.there[of], of, -1), -1)
        for split, of in match_rows(work, data, rows).items()
    }
    counts = {split: int((of >= 0).sum()) for split, of in where.items()}
    check_answered(rows, about["counts"], counts)
    laid = [split for split in EVERY_SPLIT if write_answers(work, data, task, found, split, where[split])]
    write_some(work, task, found, where["validation"])
    np.save(work.path / "rows.npy", np.flatnonzero(where["unlabelled"] >= 0))
    for text in noted_of(rows, found, about["counts"], counts):
        work.note(text)
    some = counts["unlabelled"] < about["counts"]["unlabelled"]
    work.write_json(
        "answers.json",
        {
            "splits": {split: {"views": 1, "first": 0} for split in laid if split != "test"},
            "clean": True,
            "views": digest_of_views([], 0),
            "extras": [],
            "pool": about["counts"]["unlabelled"],
            "moved": False,
            "mixed": False,
            "bought": None,
            "some": ["unlabelled"] if some else [],
            "given": counts,
            "corrected": found.corrected,
            "teachers": [],
            "teacher_size": None,
            "validation_score": score_of_validation(work.path, data, task),
            **score_of_some(data, task, found, where["validation"]),
        },
    )


def read_answers(task: Task, answers: Component) -> tuple[AnsweredRows, Given]:
    """(the rows of the file, their answers). Raises UserError where they are no answers of the task."""
    file: AnswersFile = answers.build()
    try:
        rows = file.rows(task.of_array, getattr(task, "classes", ()))
        return rows, task.given(rows.columns, rows.called)
    except UserError as error:
        named = str(file.path) in str(error) or str(error).startswith("teacher.file")
        raise UserError(f"teacher.file: {error}" if named else f"teacher.file={file.path}: {error}") from None


def match_rows(work: Work, data: Artifact, rows: AnsweredRows) -> dict[str, np.ndarray]:
    """split -> (N,) int64: the row of the file that answers each of its rows, -1: none does. Raises UserError
    where the file is of other data."""
    about = data.json("data.json")
    numbers = {split: decoded_numbers(data, split) for split in EVERY_SPLIT}
    if any(of is None for of in numbers.values()):
        raise UserError("an older kdx prepared these data: run the same command again with another store=")
    known = {split: of for split, of in numbers.items() if of is not None}
    parts = read_json(decoded_folder(data, about) / ROWS_JSON)["rows"]
    whole = sum(int(parts.get(part, 0)) for part in PARTS)
    if taken_by_order(rows):
        pool = known["unlabelled"]
        which = whose_order(rows.path, len(rows), len(pool), int((pool >= 0).sum()), whole)
        work.note(
            f"teacher.file: its {len(rows):,} rows are taken for those of the "
            f"{'data set' if which == 'all' else 'pool'}, in order"
        )
        if which != "all":
            made_up = np.where(pool >= 0, np.cumsum(pool >= 0) - 1, -1)
            own = np.arange(len(pool)) if which == "pool" else made_up
            return {
                split: own if split == "unlabelled" else np.full(len(of), -1) for split, of in known.items()
            }
        of_number = np.arange(whole)
    else:
        of_number = np.full(whole, -1, np.int64)
        of_number[_numbers_of(work, data, rows, whole)] = np.arange(len(rows))
    return {split: np.where(of >= 0, of_number[of], -1) for split, of in known.items()}


def _numbers_of(work: Work, data: Artifact, rows: AnsweredRows, whole: int) -> np.ndarray:
    """(n,) int64: which row of the decoded data set each row of the file is."""
    if rows.files is None:
        found = np.asarray(rows.numbers, np.int64)
        if (strange := np.flatnonzero(found >= whole).tolist()) and len(found):
            first = [rows.called(row) for row in strange[:3]]
            raise UserError(
                f"teacher.file={rows.path} answers {counted(len(strange), 'row')} that the data set does not "
                f"have: {few(first, len(strange))}; it has {whole:,}, and `row` counts them from 1"
            )
        return found
    name = row_names(decoded_folder(data, data.json("data.json")))
    if name is None:
        raise UserError(
            f"teacher.file={rows.path} knows its rows by `file`, and this data set has no names for its "
            "rows: give `row`, the number in the data set, as `kdx predict RUN data=pool` writes it"
        )
    names = {name(number): number for number in range(whole)}
    found = np.array([number_of(names, called) for called in rows.files], np.int64)
    strange = np.flatnonzero(found < 0).tolist()
    if strange and (without := _without_folder(names, rows.files)):
        folder, found = without
        strange = []
        work.note(
            f"teacher.file: '{folder}' before each name was left out: the data set calls its rows "
            f"'{next(iter(names))}', say"
        )
    if strange:
        first = [rows.called(row) for row in strange[:3]]
        raise UserError(
            f"teacher.file={rows.path} answers {counted(len(strange), 'row')} that the data set does not "
            f"have: {few(first, len(strange))}; it calls its own '{next(iter(names))}', say"
        )
    if len(set(found.tolist())) < len(found):
        _, first_rows = np.unique(found, return_index=True)
        twice = np.setdiff1d(np.arange(len(found)), first_rows).tolist()
        named = [rows.called(row) for row in twice[:3]]
        raise UserError(f"teacher.file={rows.path} answers rows more than once: {few(named, len(twice))}")
    return found


def _without_folder(names: Mapping[str, int], files: Sequence[str]) -> tuple[str, np.ndarray] | None:
    """(the folder that stands before every name of the file and before none of the data set, "icons/", the
    rows by the rest); None where no such folder makes all of them rows of the data set, each another. The
    name of a part is no such folder where the data set has parts: its rows are others."""
    apart = {name.partition("/")[0] for name in names} & set(PARTS)
    shared = os.path.commonprefix([name.split("/")[:-1] for name in files])
    for deep in range(1, len(shared) + 1):
        if apart and shared[deep - 1] in PARTS:
            return None
        inside = ["/".join(name.split("/")[deep:]) for name in files]
        found = np.array([number_of(names, name) for name in inside], np.int64)
        if (found >= 0).all() and len(np.unique(found)) == len(found):
            return f"{'/'.join(shared[:deep])}/", found
    return None


def number_of(names: Mapping[str, int], called: str) -> int:
    """By its name, or by that without the part of the data set, where one part alone has such a row; -1."""
    if called in names:
        return names[called]
    several = [names[inside] for part in PARTS if (inside := f"{part}/{called}") in names]
    return several[0] if len(several) == 1 else -1


def check_answered(rows: AnsweredRows, whole: Mapping[str, int], counts: Mapping[str, int]) -> None:
    """Raises UserError where nobody could learn from the answers."""
    if whole["unlabelled"] and not counts["unlabelled"]:
        raise UserError(
            f"teacher.file={rows.path} answers none of the {whole['unlabelled']:,} rows of the pool: write "
            "it by `kdx predict RUN data=pool`, say, or set dataset.unlabelled=0 to go on without a pool"
        )
    if not any(counts.values()):
        raise UserError(f"teacher.file={rows.path} answers no row of the data set")


def write_answers(
    work: Work, data: Artifact, task: Task, found: Given, split: str, where: np.ndarray
) -> bool:
    """Writes the answers to a split, as far as it is written; whether it is. where: (N,), see
    `match_rows`."""
    there = where >= 0
    if not len(where) or not (split in LEARNED_FROM or there.all()):
        return False
    some = picked(found.answers, torch.from_numpy(where[there]))
    packed = {leaf: array.numpy() for leaf, array in task.pack(moved(some, "cpu")).items()}
    if split == "labelled" and not there.all():
        truth = task.pack(task.answers_of(read_truth(data, f"labelled.{TRUTH}")))
        filled = {leaf: array.numpy().copy() for leaf, array in truth.items()}
        for leaf, array in packed.items():
            filled[leaf][there] = array
        packed = filled
    for leaf, array in packed.items():
        np.save(work.path / array_file(split, leaf), array[:, None])
    if split == "unlabelled" and not there.all():
        rows = torch.from_numpy(np.flatnonzero(there))
        np.save(work.path / places_file(split), places_of(rows, len(where)).numpy())
    return True


def write_some(work: Work, task: Task, found: Given, where: np.ndarray) -> None:
    """Writes the answers to some rows of validation, apart. where: (N,), see `match_rows`."""
    there = where >= 0
    if not there.any() or there.all():
        return
    some = picked(found.answers, torch.from_numpy(where[there]))
    for leaf, array in task.pack(moved(some, "cpu")).items():
        np.save(work.path / array_file(SOME, leaf), array.numpy()[:, None])
    rows = torch.from_numpy(np.flatnonzero(there))
    np.save(work.path / places_file("validation"), places_of(rows, len(where)).numpy())


def score_of_some(data: Artifact, task: Task, found: Given, where: np.ndarray) -> dict[str, Any]:
    """{"validation_part": {"score", "n", "of"}} where some rows of validation have an answer: the metric that
    counts on these, how many, and of how many. {} else."""
    there = where >= 0
    if not there.any() or there.all():
        return {}
    truth = picked(read_truth(data, f"validation.{TRUTH}"), torch.from_numpy(np.flatnonzero(there)))
    packed = task.pack(moved(picked(found.answers, torch.from_numpy(where[there])), "cpu"))
    answers = task.read({leaf: array.numpy() for leaf, array in packed.items()})
    score = finite_or_null(float(task.metrics(answers, truth)[task.primary]))
    return {"validation_part": {"score": score, "n": int(there.sum()), "of": len(where)}}


def noted_of(
    rows: AnsweredRows, found: Given, whole: Mapping[str, int], counts: Mapping[str, int]
) -> list[str]:
    """What there is to say, one sentence each."""
    said = []
    if found.corrected:
        said.append(
            f"{found.corrected:,} rows of the file name another class than their numbers do: they were "
            "corrected, and the label counts"
        )
    if left := whole["unlabelled"] - counts["unlabelled"]:
        said.append(
            f"{counts['unlabelled']:,} of {whole['unlabelled']:,} rows of the pool have an answer: the "
            f"student does not learn from the other {left:,}"
        )
    if left := whole["labelled"] - counts["labelled"]:
        said.append(
            f"{left:,} of {whole['labelled']:,} labelled rows have no answer, and their label in place of it"
        )
    for split in ("validation", "test"):
        if counts[split] < whole[split]:
            then = (
                "the teacher is measured on these alone"
                if split == "validation" and counts[split]
                else "the teacher is not measured there"
            )
            said.append(f"{counts[split]:,} of {whole[split]:,} {split} rows have an answer: {then}")
    said += said_of_columns(rows)
    return [f"teacher.file: {text}" for text in said]
