"""The first steps of a training stage."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from kdx.core import shortage
from kdx.core.levels import as_float
from kdx.core.trees import SharedRows, device_of, moved, picked, tree
from kdx.core.uncompiled import uncompiled
from kdx.data.ragged import RaggedArray, RaggedReader
from kdx.data.reader import OfArray
from kdx.data.stored import StoredRows
from kdx.data.streams import BatchLoader
from kdx.methods.teachers import Stored
from kdx.models import size
from kdx.models.estimator import is_estimator
from kdx.pipeline.foretelling import PlannedStage, Rehearsed, networks_asked
from kdx.pipeline.foretelling.rehearsal.bench import SLOW, WARM, Bench, enough
from kdx.pipeline.pace import candidates, fewest, long_training, rows_of_a_part
from kdx.pipeline.stages import pretrain, probe
from kdx.pipeline.stages.beside import bytes_beside
from kdx.pipeline.stages.files import about_model
from kdx.pipeline.stages.learn import Lesson, begin_training
from kdx.pipeline.stages.parts import TrainInputs
from kdx.pipeline.stages.watch import plain_state
from kdx.store.artifact import lines
from kdx.store.work import Listener, Work
from kdx.training.loop import fit, gradient_norms

SAME = 0.01
"""Two ratios that differ by less are called the same."""


def train(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """Leaves the network with the weights that it begins with; one that is taken as it is, as the stage
    itself does.
    """
    if inputs["training"] is None or is_estimator(inputs["model"]):
        spent = bench.timed(
            lambda: pretrain.run(Work(folder, step.name, Listener()), bench.runtime, **inputs)
        )
        notes = [note["text"] for note in lines(folder / "notes.jsonl")]
        return Rehearsed(
            {"start": spent}, weights=folder.joinpath("last.safetensors").stat().st_size, notes=notes
        )
    if inputs.get("answers"):  # those of another run of the kind may stand in, which answer its views
        asked = bench.steps[inputs["answers"].key].inputs
        inputs = {**inputs, "views_seed": asked.get("seed", inputs["views_seed"])}
    made: list[Lesson] = []
    start = bench.timed(lambda: made.append(begin_training(step.name, bench.runtime, TrainInputs(**inputs))))
    lesson, about = made[0], inputs["data"].json("data.json")
    save_file(plain_state(lesson.objective.export()), folder / "last.safetensors")
    (folder / "model.json").write_text(json.dumps(about_model(inputs["model"], about)))
    _answer(bench, lesson, step)
    with threads_of(bench, step, inputs):
        pace, first, norms = first_steps(bench, lesson)
    found = {
        "start": start + first,
        "steps": pace,
        "refreshes": bench.timed(lesson.objective.refresh),
        "validation": 0.0,
    }
    if lesson.parts.validation is not None:
        found["validation"] = bench.forward(
            lesson.objective.export(), lesson.parts.validation, lesson.loop.precision
        )
    return Rehearsed(
        found,
        weights=size.bytes(lesson.objective.export()),
        beside=bytes_beside(lesson.objective),
        norms=norms,
        late=at_the_end(bench, lesson) if pace < SLOW else {},
        notes=[text for text, _ in lesson.notes],
    )


@contextlib.contextmanager
def threads_of(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any]) -> Iterator[None]:
    """Inside, as many threads as that training will get."""
    most = torch.get_num_threads()
    if not bench.pace.probes(bench.runtime) or not long_training(step.stage, inputs):
        yield
        return
    tried = {"tried": candidates(most), "precision": inputs["precision"]}
    rows = rows_of_a_part(inputs["training"])
    try:
        found = probe.timed(bench.runtime, inputs["data"], inputs["model"], rows, tried)["seconds"]
        torch.set_num_threads(fewest({int(count): took for count, took in found.items()}, most) or most)
    except Exception as error:  # of made-up rows it learns nothing: it gets all
        if shortage.kind_of_shortage(error):
            raise
    try:
        yield
    finally:
        torch.set_num_threads(most)


def load_optimiser(bench: Bench) -> None:
    """What the first optimiser of a process loads."""
    nothing = torch.nn.Parameter(torch.zeros(1, device=bench.runtime.device))
    uncompiled(torch.optim.AdamW)([nothing], 0.1, fused=True)


def first_steps(bench: Bench, lesson: Lesson) -> tuple[float, float, dict[str, float]]:
    """(median seconds of a step, what the first took longer,
    the norms of the terms' gradients at the first)
    """
    marks = [time.perf_counter()]
    norms: dict[str, float] = {}

    def log(step: int, values: Mapping[str, float]) -> None:
        if step == 0:
            norms.update(
                {
                    name.partition("/")[2]: value
                    for name, value in values.items()
                    if name.startswith("gradient/")
                }
            )

    def after(step: int) -> bool:
        bench.runtime.wait()
        marks.append(time.perf_counter())
        done, spent = len(marks) - 1, marks[-1] - marks[0]
        # of slow steps one is warm-up enough
        return enough(done - WARM, spent) or (done > 1 and spent > SLOW) or spent > 2 * SLOW

    loader = BatchLoader(lesson.streams, start=0, stop=lesson.loop.steps, workers=bench.runtime.workers)
    batches = iter(loader)
    with contextlib.closing(batches):
        fit(lesson.objective, batches, lesson.loop, start=0, log=log, after=after)
    spent = np.diff(marks).tolist()
    counted = spent[WARM:] or spent[1:] or spent
    if len(counted) >= loader.together:  # one step in so many makes the batches of the others
        counted = np.convolve(counted, np.ones(loader.together) / loader.together, "valid").tolist()
    pace = statistics.median(counted)
    return pace, max(0.0, spent[0] - pace), norms


def at_the_end(bench: Bench, lesson: Lesson) -> dict[str, float]:
    """The norms of the terms' gradients on the first batch with the progress of the last step; empty where it
    weighs them as at the first.
    """
    streams = {name: stream.batch(0) for name, stream in lesson.streams.items()}
    student = list(lesson.objective.student.parameters())
    found = []
    for progress in (0.0, (lesson.loop.steps - 1) / lesson.loop.steps):
        with torch.random.fork_rng(), bench.runtime.autocast(lesson.loop.precision):
            torch.manual_seed(0)  # the same dropout
            terms = lesson.objective(streams, progress).terms
        found.append(gradient_norms(terms, student) if len(terms) > 1 else {})
    first, last = (
        {name: norm / max(max(norms.values()), 1e-30) for name, norm in norms.items()} for norms in found
    )
    return found[1] if any(abs(first[name] - last[name]) > SAME for name in first) else {}


def _answer(bench: Bench, lesson: Lesson, step: PlannedStage) -> None:
    """Where the stored answers are not there yet, those that the first step reads are made by the teacher, or
    what stands in for it.
    """
    stored = lesson.parts.teacher
    if not isinstance(stored, Stored):
        return
    # a rehearsal may take more steps than the run whose answers they are
    for place in stored.places.values():
        lacking = (place < 0).nonzero().flatten()
        place[lacking] = torch.arange(len(lacking)) % max(1, int(place.max()) + 1)
    asked = bench.steps[step.inputs["answers"].key]
    if asked.stored or not networks_asked(asked):
        return
    teacher = bench.teacher(asked)
    for name, stream in lesson.streams.items():
        if name not in stored.answers:
            continue
        batch = stream.batch(0)
        index, slot = (
            batch.index,
            torch.zeros_like(batch.view) if stored.clean else batch.view - stored.first[name],
        )
        if stored.clean:
            inputs = stream.split.inputs
            here = index.to(device_of(inputs))
            rows = tree(as_float, moved(picked(inputs, here), bench.runtime.device))
            batch = replace(batch, views={"main": rows})
        place = stored.places[name][index] if name in stored.places else index
        packed = bench.packed(asked, teacher, batch, name)
        for leaf, file in stored.answers[name].items():
            if isinstance(file, SharedRows):
                continue
            to = file.device
            if isinstance(file, RaggedReader):
                stand_in = RaggedArray(file.rows.path, writable=True)
                for one in slot.unique().tolist():
                    stand_in[place[slot == one].numpy(), one] = packed[leaf][slot == one].cpu().numpy()
                continue
            if isinstance(file, OfArray) and isinstance(file.rows, StoredRows):
                mapped = np.load(file.rows.files[0], mmap_mode="r+")
                mapped[place.numpy(), slot.numpy()] = packed[leaf].cpu().numpy()
                continue
            made = packed[leaf].to(to)  # ids of 16 bits are read as int16, see kdx.pipeline.stages.answers
            file[place.to(to), slot.to(to)] = made.view(torch.int16) if made.dtype == torch.uint16 else made
