"""audit: what the pseudo-labels of a run were worth, joined with the hidden truth where there is some.
Nothing learns from what it writes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import torch

from kdx.core.answers import Audited, Evidence
from kdx.core.errors import rows_called
from kdx.core.task import Task
from kdx.core.trees import picked, rows_of, tree
from kdx.core.types import Answers, Split
from kdx.methods.select._game import gain_so_far
from kdx.pipeline.stages.answers import SAMPLE, learned_answers, mapped, pool_answers
from kdx.pipeline.stages.arrays import TRUTH, build_task, need_split, read_truth
from kdx.pipeline.stages.files import build_adapter, open_network
from kdx.pipeline.stages.names import KnownBy, known_by
from kdx.pipeline.stages.row_answers import NAMED_ROWS, role_columns, rows_of_columns
from kdx.pipeline.stages.worst import worst_rows
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.tasks import pseudo_labels
from kdx.tasks.domain_gap import domain_gap
from kdx.tasks.without_labels import held_against
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime

_MOST = 2000
"""Rows of each side that the domain gap is estimated from."""


class Round(TypedDict):
    """What a student learned from the pool: the answers, the rows that were chosen (None: all), the student
    itself.
    """

    answers: Artifact
    rows: Artifact | None
    student: Artifact


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    rounds: Sequence[Round],
    seed: int,
    proxy: Artifact | None = None,
) -> None:
    """rounds: in order. proxy: what was estimated of the teacher on the pool before a student learned, None:
    nothing. Files: audit.json, see docs/run-json.md."""
    about = data.json("data.json")
    task, pool = build_task(about), need_split(data, "unlabelled", runtime)
    audit = PoolAudit(task, data, pool, _truth(data, task, len(pool)), runtime)
    found: list[dict[str, Any]] = []
    audited: Audited | None = None
    sure: float | None = None
    for number, entry in enumerate(rounds):
        told, audited = audit.of_round(entry, audited.kept if audited else None)
        sure = audited.confidence if not found else sure
        found.append(told)
        work.progress(number + 1, len(rounds), f"round {number + 1}")
    checked = on_validation(data, rounds[0]["answers"], 0)
    validation = None if checked is None else task.audit_teacher(*checked)
    gap = gap_to_pool(need_split(data, "labelled", runtime), pool, about, seed)
    if sure is not None:
        called = rows_called(about.get("reads") or "rows")
        for caution in pseudo_labels.domain_warnings(validation, sure, found[0]["asked"], gap, called):
            work.note(caution, "warning")
    work.write_json(
        "audit.json",
        {
            **({"classes": about["classes"]} if "classes" in about else {}),
            "truth_known": audit.truth is not None,
            "teacher": validation,
            "domain_gap": gap,
            **_estimates(task, data, rounds[0]["answers"], proxy),
            "rounds": found,
        },
    )


def _estimates(task: Task, data: Artifact, answers: Artifact, proxy: Artifact | None) -> dict[str, Any]:
    """{"estimates": what `proxy` estimated, against the clean answers to the rows whose truth is known}; {}
    where nothing was estimated or no truth is known."""
    estimated = proxy.json("proxy.json").get("estimates") if proxy else None
    truth, (some, whole) = read_truth(data, TRUTH), pool_answers(answers)
    if not estimated or truth is None or not whole:
        return {}
    rows = np.arange(rows_of(truth)) if some is None else some
    known = np.flatnonzero(task.known(picked(tree(np.asarray, truth), rows)))
    if not len(known):
        return {}
    there = picked(truth, torch.from_numpy(rows[known]))
    said = task.condensed({name: stored[known] for name, stored in whole.items()}, there)
    right = task.right(said, there)
    found = None if right is None else held_against(estimated, right)
    return {"estimates": found} if found else {}


def _truth(data: Artifact, task: Task, rows: int) -> Answers | None:
    """The pool's, where it is known of all of its rows."""
    found = read_truth(data, TRUTH)
    whole = found is not None and rows_of(found) == rows
    return found if whole and task.known(tree(np.asarray, found)).all() else None


@dataclass(frozen=True)
class PoolAudit:
    """truth: of the pool, None where nobody knows it."""

    task: Task
    data: Artifact
    pool: Split
    truth: Answers | None
    runtime: Runtime

    def of_round(self, entry: Round, before: Any) -> tuple[dict[str, Any], Audited]:
        """(what is reported of one round, what the task found). before: what was kept of the last one."""
        answers, student, pool = entry["answers"], entry["student"], self.pool
        copies = (
            np.ones(len(pool), int)
            if entry["rows"] is None
            else np.bincount(np.load(entry["rows"].file("rows.npy")), minlength=len(pool))
        )
        some, whole = pool_answers(answers)
        asked = np.arange(len(pool)) if some is None else some
        weights = student.file("rows.weight.npy")
        kept = Condensing(self.task)
        said = predict(
            self.runtime.place(open_network(student)),
            replace(pool, truth=self.truth),
            self.runtime,
            batch=kept.batch,
            kept=kept,
        )
        audited = self.task.audit(
            Evidence(
                asked=asked,
                answers=whole or {},
                copies=copies[asked],
                truth=self.truth_of(asked),
                learned=self.learned(answers, student, copies),
                student=said,
                whole=self.truth,
                weights=np.load(weights) if weights.exists() else None,
                validation=on_validation(self.data, answers, slot=-1),
                before=before,
            )
        )
        learned = copies[asked] > 0
        told = {
            "answers": answers.key,
            "asked": len(asked),
            "kept": int(learned.sum()),
            "copies": int(copies[asked].sum()),
            "kept_share": float(learned.mean()),
            **audited.found,
            "pool": len(pool),
            "worst": self.worst(asked, whole or {}, said, audited.right, learned),
        }
        about = answers.json("answers.json")
        if some is not None and not about["bought"]:
            told["given" if "given" in about else "looked_at"] = len(asked)
        if "temperature" in about:
            told["temperature"] = about["temperature"]
        told |= self.game(entry["rows"], asked, audited.right)
        told["learned"] = self.shown(answers, student) | audited.found.get("learned", {})
        return told | self.beside(answers, student, asked, audited), audited

    def game(self, rows: Artifact | None, asked: np.ndarray, right: np.ndarray | None) -> dict[str, Any]:
        """{"game": what RAD's game promised of the rows that this round bought, and "happened", what they
        gained on average by their true answers, None where the truth is not known}; {} where none was bought
        by the student. right: of the rows that were asked."""
        if rows is None or not (file := rows.file("gains.npy")).exists():
            return {}
        happened = None
        if right is not None:
            bought = np.load(rows.file("bought.npy"))
            true = pseudo_labels.spread_out(right, asked, len(self.pool))[bought]
            happened = gain_so_far(np.load(file), true)
        return {"game": {**rows.json("chosen.json")["game"], "happened": happened}}

    @functools.cached_property
    def known(self) -> KnownBy:
        """What the rows of the pool are known by, looked up once for all rounds."""
        return known_by(self.data, ["unlabelled"])["unlabelled"]

    def truth_of(self, rows: np.ndarray) -> Answers | None:
        return None if self.truth is None else picked(self.truth, torch.from_numpy(rows))

    def worst(
        self,
        asked: np.ndarray,
        answers: Mapping[str, np.ndarray],
        student: Answers,
        right: np.ndarray | None,
        kept: np.ndarray,
    ) -> list[dict[str, Any]]:
        """The rows that were learned from of which the teacher's answers are the surest errors (where none is
        right or wrong, the largest), with what the data set calls them and the student's answers; at most
        NAMED_ROWS. answers, right, kept: of the rows that were asked. Empty where the truth is not known.
        """
        some = np.flatnonzero(kept if right is None else kept & ~right)
        if self.truth is None or not len(some) or not answers:
            return []
        truth = picked(self.truth, torch.from_numpy(asked[some]))
        taught = self.task.condensed({name: stored[some] for name, stored in answers.items()}, truth)
        first = worst_rows(self.task, taught, truth)[:NAMED_ROWS]
        rows = torch.from_numpy(asked[some])[first]
        return rows_of_columns(
            {
                **self.known.column(rows.numpy()),
                **self.task.truth_columns(picked(truth, first)),
                **role_columns(self.task, "student", picked(student, rows)),
                **role_columns(self.task, "teacher", picked(taught, first)),
            }
        )

    def learned(
        self, answers: Artifact, student: Artifact, copies: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, Answers | None] | None:
        """What the student really learned from, and how often it was shown each answer; None where no answer
        belongs to a row.
        """
        found = learned_answers(answers)
        if found is None:
            return None
        rows, stored = found
        views = next(iter(stored.values())).shape[1]
        shown = pseudo_labels.draws(copies[rows], views, _passes(student))
        return stored, shown, self.truth_of(rows)

    def shown(self, answers: Artifact, student: Artifact) -> dict[str, Any]:
        """ "of": which answers were learned from: clean, augmented, a sample of these, or mixed."""
        about = answers.json("answers.json")
        if about["mixed"]:
            return {"of": "mixed", "passes": None}
        of = "sample" if SAMPLE in about["splits"] else "augmented" if about["moved"] else "clean"
        return {"of": of, "passes": _passes(student)}

    def beside(
        self, answers: Artifact, student: Artifact, asked: np.ndarray, audited: Audited
    ) -> dict[str, Any]:
        """What the method gave each row, what it has estimated, and the time that was saved."""
        right = audited.right
        whole = None if right is None else pseudo_labels.spread_out(right, asked, len(self.pool))
        curves = student.file("curves.json")
        found: dict[str, Any] = {
            "monitors": {
                p.name.split(".")[1]: pseudo_labels.joined_with_truth(np.load(p), whole)
                for p in sorted(student.path.glob("rows.*.npy"))
            },
            "curves": student.json("curves.json") if curves.exists() else {},
        }
        if answers.json("answers.json")["bought"] and len(asked) < len(self.pool):
            files = answers.json("answers.json")["splits"]
            pace = answers.manifest["seconds"] / sum(rows_of(mapped(answers.path, name)) for name in files)
            found["teacher_seconds_saved"] = pace * (len(self.pool) - len(asked))
        return found


def _passes(student: Artifact) -> Any:
    """Through the pool's rows."""
    return student.json("summary.json")["passes"].get("unlabelled", 1)


def on_validation(
    data: Artifact, answers: Artifact, slot: int
) -> tuple[dict[str, np.ndarray], Answers] | None:
    """(the teacher's answers (V, ...), as they are stored, the truth); None without a validation split.
    slot: 0 for the clean rows, -1 for those that the methods estimate from."""
    if "validation" not in answers.json("answers.json")["splits"]:
        return None
    stored = {leaf: found[:, slot] for leaf, found in mapped(answers.path, "validation").items()}
    return stored, read_truth(data, f"validation.{TRUTH}")


def gap_to_pool(labelled: Split, pool: Split, about: Any, seed: int) -> dict[str, float] | None:
    """How far the pool lies from the labelled rows; None where rows cannot be given in a few numbers."""
    adapter = build_adapter(about)
    sides = [
        found
        for split in (labelled, pool)
        if adapter and (found := adapter.small(_evenly(split))) is not None
    ]
    return domain_gap(sides[0], sides[1], seed) if len(sides) == 2 else None


def _evenly(split: Split) -> Any:
    """At most MOST rows, evenly spread over the split."""
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), _MOST)).astype(int))
    return picked(split.inputs, rows)
