"""The first batches of a labelling stage, and files of answers of the true size."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdx.core.task import Task
from kdx.core.trees import joined, rows_of
from kdx.core.types import Batch, Split
from kdx.data.streams import sequential
from kdx.data.views.chain import Chain, Views
from kdx.models import size
from kdx.pipeline.foretelling import PlannedStage, Rehearsed
from kdx.pipeline.foretelling.rehearsal.bench import SECONDS, SLOW, Bench, enough
from kdx.pipeline.stages.acquaint import meet_rows
from kdx.pipeline.stages.answers import digest_of_views, places_file
from kdx.pipeline.stages.arrays import need_split
from kdx.pipeline.stages.asked import MIXUP, split_of
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.packing import FORMAT_JSON, open_files, save_head
from kdx.pipeline.stages.spread import BATCH, Passes, write_spread
from kdx.store.work import Listener, Work


def label(
    bench: Bench,
    step: PlannedStage,
    inputs: Mapping[str, Any],
    folder: Path,
    answers: Mapping[str, tuple[int, int, int]],
) -> Rehearsed:
    """Of the answers only those for validation are filled in, as far as it goes: methods read their
    statistics from them. answers: file -> (rows, views of each, the first of them).
    """
    start = time.perf_counter()
    about = inputs["data"].json("data.json")
    task, teacher = bench.task(step), bench.teacher(step)
    steps = [(name, c.build()) for name, c in inputs["augment"]]
    meet_rows(steps, inputs["data"], bench.runtime)
    maker = Views(Chain(steps), inputs["seed"])
    # the largest gives the pace
    wanted = dict(sorted(answers.items(), key=lambda item: item[1][0] * item[1][1]))
    splits = {name: need_split(inputs["data"], split_of(name), bench.runtime) for name in wanted}
    paces = {"start": time.perf_counter() - start, "views": 0.0, "clean": 0.0, "passes": 0.0}
    hidden = bench.hidden(step)
    work, packing = Work(folder, step.name, Listener()), bench.packing(step, hidden)
    work.write_json(FORMAT_JSON, packing.about())
    if task.several_forms:
        name, (_, views, first) = next(iter(wanted.items()))
        batch = next(_some(bench, splits[name], maker, views, first, task))
        with torch.inference_mode():
            packing = packing.in_form_of(teacher(batch))
    for name, (foretold, views, first) in wanted.items():
        # of a session nobody knows beforehand how many there are
        whole_split = name in ("labelled", "memory") and name not in inputs["looked_at"]
        rows = len(splits[name]) if whole_split else foretold
        files = open_files(work, name, packing, (rows, views), fresh=True)
        packed, marks = [], [time.perf_counter()]
        for batch in _some(bench, splits[name], maker, views, first, task):
            packed.append(bench.packed(step, teacher, batch, name))
            marks.append(time.perf_counter())
            if enough(len(packed) - 1, marks[-1] - marks[0]) or marks[-1] - marks[0] > SLOW:
                break
        spent = np.diff(marks) / [rows_of(found) for found in packed]
        paces["views" if first else "clean"] = float(np.median(spent[1:] if len(spent) > 1 else spent))
        if name == "validation":
            whole = joined(packed)
            for slot in range(views):
                for leaf, file in files.items():
                    known = whole[leaf][slot * rows : (slot + 1) * rows].cpu().numpy()
                    file[np.arange(len(known)), slot] = known
    extras = bool(inputs["passes"] and inputs["pool"] and about["counts"]["unlabelled"])
    paces["passes"] = dropout(bench, step, inputs, folder, paces["clean"]) if extras else 0.0
    lay_answers(inputs, folder, wanted, extras)
    if hidden:
        save_head(folder, hidden)
    return Rehearsed(paces)


def _some(bench: Bench, split: Split, maker: Views, views: int, first: int, task: Task) -> Iterator[Batch]:
    """The batches as the stage makes them, in order."""
    for view in range(first, first + views):
        yield from sequential(
            split,
            batch=task.rows_together(BATCH),
            views=maker,
            view=view,
            task=task,
            device=torch.device(bench.runtime.device),
        )


def dropout(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path, pace: float) -> float:
    """Seconds of a row in one pass with dropout. A few rows are answered, all if that is quick; the others
    are given the answers of these.
    """
    pool, passes = need_split(inputs["data"], "unlabelled", bench.runtime), inputs["passes"]
    few = min(len(pool), max(BATCH, int(SECONDS / max(pace * passes, 1e-9))))
    rows = torch.linspace(0, len(pool) - 1, few).long().unique()
    networks = [bench.network(teacher) for teacher in inputs["teachers"]]
    asked = Passes(bench.task(step), networks, passes, inputs["seed"], rows)
    work = Work(folder, step.name, Listener())
    spent = bench.timed(lambda: write_spread(work, bench.runtime, pool, asked))
    for path in folder.glob("extra.*.npy"):
        some = np.load(path)[rows.numpy()]
        np.save(path, np.resize(some, (len(pool), *some.shape[1:])))
    return spent / (len(rows) * passes)


def lay_answers(
    inputs: Mapping[str, Any], folder: Path, wanted: Mapping[str, tuple[int, int, int]], extras: bool
) -> None:
    """What a labelling stage writes beside its answers."""
    about = inputs["data"].json("data.json")
    if inputs["rows"] is not None:
        places = np.full(about["counts"]["unlabelled"], -1, np.int64)
        rows = np.unique(np.load(inputs["rows"].file("rows.npy")))[: wanted["unlabelled"][0]]
        places[rows] = np.arange(len(rows))
        np.save(folder / "places.npy", places)
    for split, count in inputs["looked_at"].items():  # a rehearsal may take more steps than the run
        np.save(folder / places_file(split), np.arange(about["counts"][split]) % count)
    (folder / "answers.json").write_text(
        json.dumps(
            {
                "splits": {
                    name: {"views": views, "first": first} for name, (_, views, first) in wanted.items()
                },
                "clean": inputs["clean"],
                "views": digest_of_views(inputs["augment"], inputs["seed"]),
                "pool": about["counts"]["unlabelled"],
                "moved": bool(inputs["augment"]) and not inputs["clean"],
                "mixed": not inputs["clean"] and MIXUP in dict(inputs["augment"]),
                "extras": ["mean", "std", "cool_mean", "cool_std"] if extras else [],
                "bought": None if inputs["rows"] is None else wanted["unlabelled"][0],
                "some": sorted(inputs["looked_at"]),
                "teacher_size": size.most_parameters([open_network(t) for t in inputs["teachers"]]),
                "validation_score": None,
                "format": json.loads((folder / FORMAT_JSON).read_text()),
            }
        )
    )
