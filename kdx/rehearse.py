"""Timed rehearsals: a few real steps of the stages that a plan misses, on the real device, in a scratch folder.

A rehearsal is the stage itself with most of its repetitions left out: the networks, batches, augmentation, loss and optimiser are those of
the run. Each leaves in scratch what the rehearsals after it read: a network with the weights it begins with, files of answers of the true size.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from kdx import audit
from kdx.amounts import answers, chosen_rows
from kdx.artifact import Artifact
from kdx.core import Batch, Frozen, Split, Teacher
from kdx.data.augment import Chain, Views
from kdx.data.streams import Loader, sequential
from kdx.evaluate import predict
from kdx.faults import Fault
from kdx.forecast import Kinds, Step
from kdx.labels import HALF_MAX, Stored, teach
from kdx.memory import Peak
from kdx.models import size
from kdx.runtime import Runtime
from kdx.select import Pool, Rule
from kdx.stages import AUDIT, prepare, pretrain, reveal
from kdx.stages.audit import thumbnails
from kdx.stages.choose import features
from kdx.stages.files import open_network, open_split
from kdx.stages.label import BATCH, spread
from kdx.stages.learn import LOGS, Lesson, begin, plain_state
from kdx.store import Listener, Work
from kdx.trainer import fit

WARM, FEWEST, MOST, SECONDS = 2, 3, 50, 0.7
"""Steps that are not counted, the fewest and the most that are, and the time after which the fewest are enough."""
PREPARED = 1 << 28
"""Bytes of pictures up to which a data set is prepared for a rehearsal; a larger one is stood in for by black pictures."""
QUICK = 5.0
"""Seconds that a teacher's accuracy may take."""
FEW = 1000
"""Rows that a rule of choice is tried on."""


@dataclass
class Rehearsed:
    """paces: part of the stage (see kdx.amounts) -> seconds of one. memory: the peak in bytes. weights: bytes of the network that it trains.
    norms: term of the loss -> L2 norm of its gradient at the first step. black: the pictures are not the real ones."""

    paces: dict[str, float]
    memory: int | None = None
    weights: int = 0
    norms: dict[str, float] = field(default_factory=dict)
    black: bool = False

    def seconds(self, amounts: Mapping[str, float]) -> float | None:
        """None where a part was not timed."""
        if not self.paces.keys() >= amounts.keys():
            return None
        return sum(self.paces[part] * often for part, often in amounts.items())


class Rehearsals:
    """One for each kind of stage, made when it is asked for. steps: of all runs, by key. tell: hears what is rehearsed."""

    def __init__(self, steps: Mapping[str, Step], kinds: Kinds, scratch: Path, runtime: Runtime, tell: Callable[[str], None]):
        self.steps, self.kinds, self.scratch, self.runtime, self.tell = steps, kinds, scratch, runtime, tell
        self.found: dict[str, Rehearsed] = {}
        self.standing: dict[str, Artifact] = {}
        self.peak = Peak(runtime.device)
        self.loading = self.timed(self.load)
        """Seconds for libraries that the first stages of a process load, and no later ones."""

    def load(self) -> None:
        weight = torch.nn.Parameter(torch.zeros(1, device=self.runtime.device))
        torch.optim.AdamW([weight], 0.1, fused=True)
        if any(step.stage == AUDIT for step in self.steps.values() if not step.stored):
            nothing = np.zeros((20, 1))
            audit.domain_gap(nothing, nothing, 0)

    def of(self, step: Step) -> Rehearsed:
        kind = self.kinds.of(step)
        if kind not in self.found:
            inputs = self.real(step.inputs)  # rehearses what it reads first
            self.tell(step.name)
            folder = self.scratch / "rehearsed" / str(len(self.standing))
            folder.mkdir(parents=True)
            self.standing[kind] = Artifact(step.stage.name, step.key, folder)
            self.peak.begin()
            try:
                self.found[kind] = REHEARSE[step.stage.name](self, step, inputs, folder)
            except torch.OutOfMemoryError as error:
                raise Fault(f"{step.name} does not fit into the memory of {self.runtime.device}: set a smaller batch_size for it, "
                            "a smaller network, or precision=bf16") from error  # fmt: skip
            self.found[kind].memory = self.peak.bytes()
            self.found[kind].black |= any(self.found[self.kinds.of(s)].black for s in self.missing(step.inputs))
        return self.found[kind]

    def real(self, value: Any) -> Any:
        """Inputs with every artifact that is missing replaced by what stands in for it."""
        if isinstance(value, Artifact):
            step = self.steps[value.key]
            if step.stored:
                return value
            self.of(step)
            return self.standing[self.kinds.of(step)]
        if isinstance(value, Mapping):
            return {k: self.real(v) for k, v in value.items()}
        return [self.real(v) for v in value] if isinstance(value, list | tuple) else value

    def missing(self, value: Any) -> Iterator[Step]:
        """The stages behind the artifacts of some inputs that are not in the store."""
        if isinstance(value, Artifact) and not self.steps[value.key].stored:
            yield self.steps[value.key]
        elif isinstance(value, Mapping | list | tuple):
            for inner in value.values() if isinstance(value, Mapping) else value:
                yield from self.missing(inner)

    def prepare(self, step: Step, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        about = step.artifact.json("data.json")
        if sum(about["counts"].values()) * math.prod(about["shape"]) > PREPARED:
            blacken(folder, about)
            return Rehearsed({}, black=True)
        return Rehearsed({"start": self.timed(lambda: prepare.run(Work(folder, step.name, Listener()), self.runtime, **inputs))})

    def reveal(self, step: Step, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        about = step.artifact.json("data.json")
        if sum(about["counts"].values()) * math.prod(about["shape"]) > PREPARED:
            blacken(folder, about)
            return Rehearsed({}, black=True)
        return Rehearsed({"start": self.timed(lambda: reveal.run(Work(folder, step.name, Listener()), self.runtime, **inputs))})

    def train(self, step: Step, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        if inputs["training"] is None:
            spent = self.timed(lambda: pretrain.run(Work(folder, step.name, Listener()), self.runtime, **inputs))
            return Rehearsed({"start": spent}, weights=folder.joinpath("last.safetensors").stat().st_size)
        inputs, precision = {k: v for k, v in inputs.items() if k != "precision"}, inputs["precision"]
        start = time.perf_counter()
        lesson = begin(step.name, self.runtime, **inputs)
        self.runtime.wait()
        start = time.perf_counter() - start
        about = inputs["data"].json("data.json")
        save_file(plain_state(lesson.objective.export()), folder / "last.safetensors")
        model = {"component": inputs["model"].spec, **{k: about[k] for k in ("shape", "classes", "mean", "std", "dataset")}}
        (folder / "model.json").write_text(json.dumps(model))
        self.answer(lesson, step)
        pace, first, norms = self.step_of(lesson, precision)
        found = {"start": start + first, "steps": pace, "refreshes": self.timed(lesson.objective.refresh), "validation": 0.0}
        if lesson.parts.validation is not None:
            few = part(lesson.parts.validation, 2 * BATCH)
            found["validation"] = self.timed(lambda: predict(lesson.objective.export(), few, self.runtime, precision=precision)) / len(few)
        return Rehearsed(found, weights=size.bytes(lesson.objective.export()), norms=norms)

    def step_of(self, lesson: Lesson, precision: str) -> tuple[float, float, dict[str, float]]:
        """(median seconds of a step, what the first took longer, the norms of the terms' gradients at the first)"""
        marks: list[float] = []
        norms: dict[str, float] = {}

        def log(step: int, values: Mapping[str, float]) -> None:
            if step == 0:
                norms.update({name.partition("/")[2]: value for name, value in values.items() if name.startswith("gradient/")})

        def after(step: int) -> bool:
            self.runtime.wait()
            marks.append(time.perf_counter())
            counted = len(marks) - 1 - WARM
            return counted >= MOST or (counted >= FEWEST and marks[-1] - marks[WARM] > SECONDS)

        begun = time.perf_counter()
        batches = iter(Loader(lesson.streams, start=0, stop=lesson.steps, workers=self.runtime.workers))
        with contextlib.closing(batches):
            fit(lesson.objective, batches, start=0, steps=lesson.steps, training=lesson.settings, precision=precision, runtime=self.runtime,
                optimiser=lesson.optimiser, schedule=lesson.schedule, refresh_every=lesson.per_epoch, log_every=max(1, lesson.steps // LOGS),
                log=log, after=after)  # fmt: skip
        spent = np.diff([begun, *marks])
        pace = statistics.median(spent[WARM + 1 :] if len(spent) > WARM + 1 else spent)
        return float(pace), float(max(0.0, spent[0] - pace)), norms

    def answer(self, lesson: Lesson, step: Step) -> None:
        """Where the stored answers are not there yet, those that the first step reads are made by the teacher, or what stands in for it."""
        stored = lesson.parts.teacher
        if not isinstance(stored, Stored) or self.steps[step.inputs["answers"].key].stored:
            return
        asked = self.steps[step.inputs["answers"].key]
        teacher = self.teacher(asked)
        for name, stream in lesson.streams.items():
            if name not in stored.answers:
                continue
            batch = stream.batch(0)
            index, slot = batch.index, torch.zeros_like(batch.view) if stored.clean else batch.view - stored.first[name]
            if stored.clean:
                pixels = stream.split.images[index.to(stream.split.images.device)].to(self.runtime.device).float() / 255
                batch = replace(batch, views={"main": pixels})
            place = index if stored.places is None or name != "unlabelled" else stored.places[index]
            to = stored.answers[name].device
            stored.answers[name][place.to(to), slot.to(to)] = self.logits(teacher, batch, asked.inputs["precision"]).to(to)

    def teacher(self, asked: Step) -> Teacher:
        """Who answers in a labelling stage."""
        networks = [self.runtime.place(open_network(t)) for t in self.real(asked.inputs["teachers"])]
        return teach([Frozen(network) for network in networks], "main")

    def logits(self, teacher: Teacher, batch: Batch, precision: str) -> torch.Tensor:
        with torch.no_grad(), self.runtime.autocast(precision):
            return teacher(batch).float().clamp(-HALF_MAX, HALF_MAX).half()

    def label(self, step: Step, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        start = time.perf_counter()
        data, about = inputs["data"], inputs["data"].json("data.json")
        teacher = self.teacher(step)
        maker = Views(Chain([(name, c.build()) for name, c in inputs["augment"]]), inputs["seed"])
        wanted = dict(sorted(answers(step, self.steps).items(), key=lambda item: item[1][0] * item[1][1]))  # the largest gives the pace
        splits = {name: open_split(data, "unlabelled" if name == "clean" else name, self.runtime) for name in wanted}
        start = time.perf_counter() - start
        paces = {"start": start, "views": 0.0, "clean": 0.0, "passes": 0.0}
        for name, (rows, views, first) in wanted.items():
            file = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float16, shape=(rows, views, len(about["classes"])))
            if not rows:
                continue
            kind, logits, marks = ("views" if first else "clean"), [], [time.perf_counter()]
            for batch in self.some(splits[name], maker, views, first, len(about["classes"])):
                logits.append(self.logits(teacher, batch, inputs["precision"]).cpu().numpy())
                marks.append(time.perf_counter())
            spent = np.diff(marks) / [len(found) for found in logits]
            paces[kind] = float(np.median(spent[1:] if len(spent) > 1 else spent))
            if name == "validation":
                known = np.concatenate(logits)[:rows]
                file[: len(known), 0] = known
        extras = inputs["passes"] and inputs["pool"] and about["counts"]["unlabelled"]
        paces["passes"] = self.spread(step, inputs, folder, paces["clean"]) if extras else 0.0
        lay_answers(inputs, folder, wanted, bool(extras))
        return Rehearsed(paces)

    def some(self, split: Split, maker: Views, views: int, first: int, classes: int) -> Iterator[Batch]:
        """Batches in order as the stage makes them, a few."""
        begun, number = time.perf_counter(), 0
        for view in range(first, first + views):
            for batch in sequential(split, batch=BATCH, views=maker, view=view, num_classes=classes, device=torch.device(self.runtime.device)):
                number += 1
                if number > MOST or (number > FEWEST + 1 and time.perf_counter() - begun > SECONDS):
                    return
                yield batch

    def spread(self, step: Step, inputs: Mapping[str, Any], folder: Path, pace: float) -> float:
        """Seconds of a row in one pass with dropout. As many rows as QUICK allows are answered; the others are given the answers of these."""
        about = inputs["data"].json("data.json")
        pool, passes = open_split(inputs["data"], "unlabelled", self.runtime), inputs["passes"]
        few = min(len(pool), max(BATCH, int(QUICK / max(pace * passes, 1e-9))))
        rows = torch.linspace(0, len(pool) - 1, few).long().unique()
        networks = [self.runtime.place(open_network(t)) for t in inputs["teachers"]]
        work = Work(folder, step.name, Listener())
        spent = self.timed(lambda: spread(work, self.runtime, pool, networks, passes, inputs["seed"], len(about["classes"]), rows))
        for path in folder.glob("extra.*.npy"):
            np.save(path, np.resize(np.load(path)[rows.numpy()], (len(pool), len(about["classes"]))))
        return spent / (len(rows) * passes)

    def choose(self, step: Step, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        """The rule is tried on some rows; its time is taken to grow with the square of their number, as that of the slowest rules does."""
        start = time.perf_counter()
        data, classes = inputs["data"], len(inputs["data"].json("data.json")["classes"])
        rule: Rule = inputs["rule"].build()
        pool, labelled = (part(open_split(data, name, self.runtime), FEW) for name in ("unlabelled", "labelled"))
        network = self.runtime.place(open_network(inputs["pupil"])) if inputs.get("pupil") else None
        paces = {"start": time.perf_counter() - start, "rows": 0.0, "labelled": 0.0}
        found: dict[str, Any] = {}
        if "teacher" in rule.needs:
            found["teacher"] = np.random.default_rng(0).normal(0, 5, (len(pool), classes)).astype(np.float32)
        if "student" in rule.needs:
            paces["rows"] += self.timed(lambda: found.update(student=predict(network, pool, self.runtime).numpy())) / len(pool)
        if "features" in rule.needs:
            paces["rows"] += self.timed(lambda: found.update(features=features(self.runtime, inputs["pupil"], pool))) / len(pool)
        if "labelled_features" in rule.needs:
            spent = self.timed(lambda: found.update(labelled_features=features(self.runtime, inputs["pupil"], labelled)))
            paces["labelled"] += spent / len(labelled)
        whole = inputs["data"].json("data.json")["counts"]["unlabelled"]
        count = inputs.get("count") and max(1, inputs["count"] * len(pool) // whole)
        seen = Pool(classes, np.zeros(len(pool), bool), wrong=0.1, **found)
        with contextlib.suppress(Fault):  # made-up answers may leave it nothing to choose
            paces["rule"] = self.timed(lambda: rule.choose(seen, count, inputs["seed"]))
        paces["rule"] = paces.get("rule", 0.0) * whole / len(pool) ** 2  # times all rows: the square of their number over that of those tried
        np.save(folder / "rows.npy", np.unique(np.linspace(0, whole - 1, chosen_rows(step, self.steps)).astype(np.int64)))
        return Rehearsed(paces)

    def audit(self, step: Step, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        pool, labelled = (open_split(inputs["data"], name, self.runtime) for name in ("unlabelled", "labelled"))
        start = self.timed(lambda: audit.domain_gap(thumbnails(labelled), thumbnails(pool), inputs["seed"]))
        return Rehearsed({"start": start, "rows": self.forward(inputs["rounds"][0]["student"], pool)})

    def evaluate(self, step: Step, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        test = open_split(inputs["data"], "test", self.runtime)
        paces = {"start": 0.0} | {f"rows of {role}": self.forward(artifact, test) for role, artifact in inputs["models"].items()}
        one = part(test, 1)
        for role, artifact in inputs["models"].items():
            network = self.runtime.place(open_network(artifact))
            predict(network, one, self.runtime)
            paces[f"single pictures of {role}"] = self.timed(lambda network=network: predict(network, one, self.runtime))
        return Rehearsed(paces)

    def forward(self, artifact: Artifact, split: Split) -> float:
        """Seconds a row of the network of an artifact on clean pictures."""
        network, few = self.runtime.place(open_network(artifact)), part(split, 2 * BATCH)
        predict(network, part(split, 8), self.runtime)
        return self.timed(lambda: predict(network, few, self.runtime)) / len(few)

    def accuracy(self, teacher: Step) -> float | None:
        """Of weights that are there, on validation; None where that takes long, or there is no such split."""
        data = self.real(teacher.inputs["data"])
        validation = open_split(data, "validation", self.runtime)
        artifact = self.real(teacher.artifact)
        if validation is None or self.is_black(teacher) or self.forward(artifact, validation) * len(validation) > QUICK:
            return None
        logits = predict(self.runtime.place(open_network(artifact)), validation, self.runtime)
        return float((logits.argmax(1) == validation.labels).double().mean())

    def is_black(self, step: Step) -> bool:
        """Whether the data that a stage reads are stood in for by black pictures."""
        return any(self.of(upstream).black for upstream in self.missing(step.inputs["data"]))

    def timed(self, work: Callable[[], Any]) -> float:
        begun = time.perf_counter()
        work()
        self.runtime.wait()
        return time.perf_counter() - begun


REHEARSE: dict[str, Callable[[Rehearsals, Step, Mapping[str, Any], Path], Rehearsed]] = {
    "prepare": Rehearsals.prepare, "reveal": Rehearsals.reveal, "teacher-pretrain": Rehearsals.train, "train": Rehearsals.train,
    "pseudo-label": Rehearsals.label, "choose": Rehearsals.choose, "audit": Rehearsals.audit, "evaluate": Rehearsals.evaluate,
}  # fmt: skip


def lay_answers(inputs: Mapping[str, Any], folder: Path, wanted: Mapping[str, tuple[int, int, int]], extras: bool) -> None:
    """What a labelling stage writes beside its answers."""
    about = inputs["data"].json("data.json")
    if inputs["rows"] is not None:
        places = np.full(about["counts"]["unlabelled"], -1, np.int64)
        rows = np.unique(np.load(inputs["rows"].file("rows.npy")))[: wanted["unlabelled"][0]]
        places[rows] = np.arange(len(rows))
        np.save(folder / "places.npy", places)
    (folder / "answers.json").write_text(json.dumps({
        "splits": {name: {"views": views, "first": first} for name, (_, views, first) in wanted.items()}, "clean": inputs["clean"],
        "classes": about["classes"], "extras": ["mean", "std", "cool_mean", "cool_std"] if extras else [],
        "bought": None if inputs["rows"] is None else wanted["unlabelled"][0],
        "teacher_size": max(size.parameters(open_network(t)) for t in inputs["teachers"]), "validation_accuracy": None, "near_chance": False,
    }))  # fmt: skip


def part(split: Split, rows: int) -> Split:
    """The first rows of a split."""
    return Split(split.name, split.images[:rows], None if split.labels is None else split.labels[:rows])


def blacken(folder: Path, about: Mapping[str, Any]) -> None:
    """A prepared data set of the true size whose pictures are black; the files take no room on most disks."""
    for name, rows in about["counts"].items():
        np.lib.format.open_memmap(folder / f"{name}.images.npy", mode="w+", dtype=np.uint8, shape=(rows, *about["shape"]))
        if name != "unlabelled":
            np.save(folder / f"{name}.labels.npy", np.arange(rows) % len(about["classes"]))
    (folder / "data.json").write_text(json.dumps(about))
