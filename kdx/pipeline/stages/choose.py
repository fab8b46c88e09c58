"""choose: the rows of the pool that the student learns from, by a rule that never sees the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.fitness import Fitness
from kdx.core.task import Categorical, Task
from kdx.core.types import Split
from kdx.data.streams import sequential
from kdx.methods.select import Chosen, Pool, Rule, check_chosen
from kdx.methods.select._game import worst_gain
from kdx.methods.select._rows import row_margins
from kdx.methods.select.rad import SMALLEST, play
from kdx.models.tap import one_vector, penultimate
from kdx.pipeline.stages.answers import clean_answers
from kdx.pipeline.stages.arrays import build_task, need_split
from kdx.pipeline.stages.cautions import cautions
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Work
from kdx.training.predict import predict
from kdx.training.runtime import Runtime


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    rule: Component,
    seed: int,
    answers: Artifact,
    student: Artifact | None = None,
    earlier: Artifact | None = None,
    count: int | None = None,
) -> None:
    """answers: the teacher's, for the rule's eyes where it needs them and for the share that it gets wrong on
    validation. student: the student by which the rules that buy choose. earlier: what was chosen before;
    count: how many more.

    Files: rows.npy, (m,) int64 ascending, those of `earlier` included; chosen.json: {"rows", "new", "about",
    "warnings"}; of a rule that buys by the student bought.npy and gains.npy, the (new,) rows and what each
    would gain, and in chosen.json "game": see `played`.
    """
    split = need_split(data, "unlabelled", runtime)
    chooser: Rule = rule.build()
    before = np.load(earlier.file("rows.npy")) if earlier else np.empty(0, np.int64)
    taken = np.zeros(len(split), bool)
    taken[before] = True
    found = {}
    if "teacher" in chooser.needs:
        found["teacher"] = np.asarray((clean_answers(answers) or {})[""], np.float32)
    if "student" in chooser.needs:
        found["student"] = np.asarray(
            predict(runtime.place(open_network(student_so_far(student))), split, runtime)
        )
    if "features" in chooser.needs:
        found["features"] = features(runtime, student_so_far(student), split)
    if "labelled_features" in chooser.needs:
        found["labelled_features"] = features(
            runtime, student_so_far(student), need_split(data, "labelled", runtime)
        )
    task = build_task(data.json("data.json"))
    Fitness(f"select={type(chooser).__name__}", chooser.needs_task).check(task)
    classes = len(task.classes) if isinstance(task, Categorical) else 0
    # a rule says at once what it is about to need, and all else with its choice
    with cautions(work) as given:
        chosen = chooser.choose(Pool(classes, taken, wrong=wrong_share(answers, task), **found), count, seed)
    check_chosen(chosen, len(split), type(chooser).__name__)
    rows = np.sort(np.concatenate([before, chosen.rows])).astype(np.int64)
    if not len(rows):
        raise UserError(
            f"the rule {type(chooser).__name__} chooses no row of the pool: there is nothing to learn"
        )
    np.save(work.path / "rows.npy", rows)
    game = {}
    if chooser.buys and "student" in found:
        share = wrong_share(answers, task)
        game = {"game": played(work, chosen, found["student"], taken, share)}
    for warning in chosen.warnings:
        if warning not in given:
            work.note(warning, "warning")
    work.write_json(
        "chosen.json",
        {
            "rows": len(rows),
            "new": len(chosen.rows),
            "about": dict(chosen.about),
            "warnings": list(chosen.warnings),
            **game,
        },
    )


def played(
    work: Work, chosen: Chosen, student: np.ndarray, taken: np.ndarray, share: float | None
) -> dict[str, Any]:
    """RAD's game on the rows left, whichever rule has chosen: {"rows" left, "wrong" answers that are expected
    among them, "best" what the best draw is sure to gain a row then (None where none is), "worst" what this
    choice gains where the adversary makes those wrong that hurt most}. A row gains 1 less the student's
    margin. share: of wrong answers on validation, None: not known, and then none is expected.
    """
    rows = np.flatnonzero(~taken)
    gains = np.maximum(1 - row_margins(student, rows), SMALLEST)
    place = np.full(len(taken), -1)
    place[rows] = np.arange(len(rows))
    bought = np.unique(chosen.rows)
    chances = np.zeros(len(rows))
    if chosen.chances is None:
        chances[place[bought]] = 1
    else:
        chances = chosen.chances[rows]
    np.save(work.path / "bought.npy", bought)
    np.save(work.path / "gains.npy", gains[place[bought]])
    wrong = int(chosen.about.get("m", round(len(rows) * (share or 0))))
    best = play(-np.sort(-gains), wrong)[1] if wrong < len(rows) else None
    return {
        "rows": len(rows),
        "wrong": wrong,
        "best": best,
        "worst": worst_gain(gains, chances / chances.sum(), wrong),
    }


@torch.inference_mode()
def features(runtime: Runtime, student: Artifact, split: Split) -> np.ndarray:
    """(N, D) float32: what the student's last layer reads, of the clean rows; of a row with several places
    the mean over them."""
    network = runtime.place(open_network(student))
    found = []
    with penultimate(network) as tap:
        for rows in sequential(split, batch=256, views=None, view=0, device=torch.device(runtime.device)):
            network(rows.views["main"])
            found.append(one_vector(tap.take()).numpy())
    return np.concatenate(found)


def student_so_far(student: Artifact | None) -> Artifact:
    """The student by whose eyes a rule chooses."""
    if student is None:
        raise UserError("a rule that reads the student chooses in rounds: set recipe=active")
    return student


def wrong_share(answers: Artifact, task: Task) -> float | None:
    """The part of the validation rows that the teacher gets wrong; None without a validation split, or where
    answers are not right or wrong.
    """
    right = answers.json("answers.json")["validation_score"]
    return None if right is None or not isinstance(task, Categorical) else 1 - right
