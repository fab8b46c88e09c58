"""Of the stages that lay down data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdx.core.errors import rows_called
from kdx.core.several import BOXED
from kdx.pipeline.foretelling import Beforehand, Foretelling, PlannedRun, PlannedStage, Rehearsed, Steps
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.teachers import class_order_warnings
from kdx.pipeline.scores import row_bytes
from kdx.pipeline.stages import PRETRAIN
from kdx.store.component import Component

if TYPE_CHECKING:
    from kdx.data.raw import Description


class _Rows(Foretelling):
    """What lays rows down. Its `counts` are of those rows, by part or split."""

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        return {"start": 1}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{sum(self.counts(step).values()):,} rows"


class Decode(_Rows):
    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        found = look.describe(inputs["dataset"])
        parts = {
            "train": found.train,
            "validation": found.validation,
            "test": found.test,
            "unlabelled": found.pool,
        }
        return {
            "decoded.json": {
                "dataset": inputs["dataset"].target.rpartition(".")[2],
                "reads": found.reads,
                "example": {name: [list(shape), kind] for name, (shape, kind) in found.example.items()},
                "rows": {part: rows for part, rows in parts.items() if rows},
            }
        }

    def counts(self, step: PlannedStage) -> Mapping[str, int]:
        found: Mapping[str, int] = step.artifact.json("decoded.json")["rows"]
        return found

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        return sum(self.counts(step).values()) * (row_bytes(step.artifact.json("decoded.json")) + 8)

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import decode_data

        return decode_data(bench, step, inputs, folder)


class _Data(_Rows):
    def counts(self, step: PlannedStage) -> Mapping[str, int]:
        found: Mapping[str, int] = step.artifact.json("data.json")["counts"]
        return found

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        return sum(self.counts(step).values()) * 16

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import lay_data

        return lay_data(bench, step, inputs, folder)


class Prepare(_Data):
    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if form := inputs.get("form"):
            return {"data.json": about_before(look, inputs, form)}
        return {"data.json": about(look, inputs["dataset"])}

    def checks(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        if step.inputs.get("form"):
            return []
        data, choices = step.artifact.json("data.json"), job.choices
        student = f"the student {choices['student']}"
        taught = job.first(PRETRAIN) is not None  # else none is trained, as answers lie in a file, say
        takers = f"the teacher {job.experiment.teacher_name} and {student}" if taught else student
        found = []
        if classes := data.get("classes"):
            names = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
            whose = "the data, the teacher and the student" if taught else "the data and the student"
            found.append(f"classes: {len(classes)} ({names}), of {whose} alike")
        shapes = " and ".join(
            f"{name} {'x'.join(map(str, shape))}".strip() for name, (shape, _) in data["example"].items()
        )
        found.append(f"{rows_called(data['reads'])}: {shapes}, taken by {takers}")
        if job.experiment.student_train:
            found.append(augmented(job.experiment.student_train, data))
        if step.stored:
            found += [
                f"of the data: {note['text']}"
                for note in step.artifact.lines("notes.jsonl")
                if note["level"] == "warning"
            ]
        return found

    def tried(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        if step.inputs.get("form"):
            return []
        experiment, classes = job.experiment, step.artifact.json("data.json").get("classes", [])
        others = "teacher and controls" if job.first(PRETRAIN) else "controls"
        found = [
            f"loss {job.choices['loss']} and those of {others}: built, and tried forward and backward "
            f"on {rows_called(step.artifact.json('data.json')['reads'])} of this shape"
        ]
        begun = [
            ("teacher", each.checkpoint, each.training is not None)
            for each in experiment.teachers
            if each.class_map is None
        ]
        for role, given, trained in (*begun, ("student", experiment.student_checkpoint, True)):
            if given is None:
                continue
            found.append(f"checkpoint: the weights of '{given.file.paths[0]}' fit the {role}")
            if warnings := class_order_warnings(role, given, classes, trained):
                found.append(f"checkpoint: {warnings[0]}")
        return found

    def splits(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        counts = self.counts(step)
        if step.inputs.get("form"):
            return [
                f"before the labelled part the teacher learns from {counts['labelled']:,} rows of "
                f"{step.artifact.json('data.json')['dataset']} (teacher.through)"
            ]
        drawn = any(size is not None for size in job.experiment.sizes.values())
        how = "drawn by the seed" if drawn else "as they are, whatever the seed"
        return [
            f"splits of {job.choices['dataset']}, {how}: {counts['labelled']:,} "
            f"labelled, {counts['unlabelled']:,} in the pool, without labels, {counts['validation']:,} "
            f"validation, {counts['test']:,} test"
        ]

    def protocol(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        found = [] if step.stored or "fitted_on" in step.inputs else _cautions(job.experiment)
        if job.experiment.duplicates != "drop":
            return found
        reads = step.artifact.json("data.json")["reads"]
        return [
            *found,
            f"equal {rows_called(reads)}: copies are left out on the side of training, so there may be fewer "
            "rows than said here (dataset.duplicates=drop)",
        ]


def _cautions(experiment: Experiment) -> list[str]:
    """Of what makes rows."""
    pool = experiment.pool
    makers = [experiment.made_up, pool.source if pool and pool.makes else None]
    return [f"warning: {said}" for maker in makers if maker and (said := maker.build().caution())]


class DerivedData(_Data, ABC):
    """Data that is made of the rows of other data, its input `data`."""

    @abstractmethod
    def counted(self, data: Mapping[str, int], inputs: Mapping[str, Any]) -> dict[str, int]:
        """Rows of each split; of others there are none. data: those of `data`."""

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        about = inputs["data"].json("data.json")
        nothing = dict.fromkeys(about["counts"], 0)
        return {"data.json": {**about, "counts": nothing | self.counted(about["counts"], inputs)}}


class Reveal(_Data):
    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        data = inputs["data"].json("data.json")
        validation, others = data["counts"]["validation"], inputs["split"] == "validation"
        more = validation if others else known_labels(data)
        counts = {
            **data["counts"],
            "labelled": data["counts"]["labelled"] + more,
            "unlabelled": 0,
            "test": 0,
            "validation": 0 if others else validation,
        }
        return {"data.json": {**data, "counts": counts}}


class MadeOfNoise(_Data):
    """Its time hangs on forward and backward passes of the teacher, and is not rehearsed."""

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        data = inputs["data"].json("data.json")
        counts = {"labelled": inputs["rows"], "unlabelled": 0, "test": 0}
        return {"data.json": {**data, "counts": {**data["counts"], **counts}}}

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import blacken

        blacken(folder, step.artifact.json("data.json"))
        return Rehearsed({}, black=True)

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        about = step.artifact.json("data.json")
        return about["counts"]["labelled"] * (row_bytes(about) + 16)


def rows_of_splits(experiment: Experiment, found: Description) -> dict[str, int]:
    """Rows of each split, those that are made up for the pool among them; for sizes without an error."""
    from kdx.data.sizes import count_rows

    counts = count_rows(found, **experiment.sizes)
    counts |= _of_other_pool(experiment)
    return counts | {"unlabelled": counts["unlabelled"] + experiment.rows_made_up}


def _of_other_pool(experiment: Experiment) -> dict[str, int]:
    """Rows of the splits in whose place others stand; {} where none do."""
    from kdx.pipeline.stages.other_pool import rows_held_out

    other = experiment.pool
    if other is None or other.source is None:
        return {}
    if other.makes:
        return {"unlabelled": other.source.spec["rows"]}
    found: Description = other.source.build().describe()
    held = 0 if other.test is False or found.test is not None else rows_held_out(found.train, other.test)
    rows = found.train - held + found.pool
    counts = {"unlabelled": rows if other.limit is None else min(rows, other.limit)}
    return counts | ({} if other.test is False else {"test": found.test or held})


def about(look: Beforehand, dataset: Component) -> dict[str, Any]:
    """data.json of a data set that is not prepared yet, but for what its adapter learns of the rows. hidden:
    rows whose hidden truth is known. strata: rows of the train part by group, of which validation is drawn
    group by group.
    """
    from kdx.pipeline.stages.prepare import kind_of_rows

    found = look.describe(dataset)
    counts = rows_of_splits(look.experiment, found)
    shipped = {"test": found.test, "validation": found.validation}
    kept = sum(counts[name] for name, rows in shipped.items() if rows is None)
    return {
        "dataset": dataset.target.rpartition(".")[2],
        **kind_of_rows(found),
        "counts": counts,
        "skipped": {},
        "strata": found.strata and list(found.strata),
        "hidden": found.train - kept - counts["labelled"],
    }


def about_before(look: Beforehand, inputs: Mapping[str, Any], form: Sequence[int]) -> dict[str, Any]:
    """The same of a data set that a teacher learns from before, whose rows take the shape `form`."""
    from kdx.data.sizes import count_rows
    from kdx.pipeline.stages.prepare import kind_of_rows

    found = look.describe(inputs["dataset"])
    adapter = dict(found.adapter or {}) | {key: [0.5] * form[0] for key in ("mean", "std")}
    found = replace(found, example={"": (tuple(form), "uint8")}, adapter=adapter)
    sizes = {name: inputs[name] for name in ("labelled", "unlabelled", "validation", "test")}
    return {
        "dataset": inputs["dataset"].target.rpartition(".")[2],
        **kind_of_rows(found),
        "counts": count_rows(found, **sizes),
        "skipped": {},
        "strata": found.strata and list(found.strata),
        "hidden": 0,
    }


def known_labels(about: Mapping[str, Any]) -> int:
    """Rows of the pool whose hidden label is known."""
    return min(int(about["hidden"]), int(about["counts"]["unlabelled"]))


def augmented(training: Component, data: Mapping[str, Any]) -> str:
    """What is done to the student's rows, and whether they are mirrored, which no augmentation does that was
    not asked to, where rows can be mirrored. data: the data.json.
    """
    steps = [*training.spec["augment"], *training.spec["strong_augment"]]
    names = ", ".join(dict.fromkeys(name for name, _ in steps)) or "none"
    mirrored = any(step.get("flip") for _, step in steps)
    said = f"augmentation of the student's {rows_called(data['reads'])}: {names}"
    if data["reads"] == BOXED:
        return f"{said}; some are mirrored, and their boxes with them" if mirrored else said
    if len(data.get("shape", ())) != 3:
        return said
    return f"{said}; " + (
        (
            "some are mirrored, which is wrong where a mirrored one is another thing, as with writing: "
            "augment=[affine] does not"
        )
        if mirrored
        else "they are not mirrored: augment=[flip_crop] asks for it"
    )
