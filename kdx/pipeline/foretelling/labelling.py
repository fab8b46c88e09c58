"""Of the stage that writes down the teacher's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.pipeline.foretelling import (
    Beforehand,
    Foretelling,
    PlannedRun,
    PlannedStage,
    Rehearsed,
    Steps,
    foretelling_of,
)
from kdx.pipeline.foretelling.others import chosen_rows
from kdx.pipeline.scores import answer_bytes
from kdx.pipeline.stages import LABEL, LABEL_SHARD
from kdx.tasks.kept import HIDDEN_STATES, place_bytes


class Label(Foretelling):
    asks = "teachers"

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        classes = inputs["data"].json("data.json").get("classes")
        return {"answers.json": {"validation_score": None, "classes": classes}}

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        found = {
            "start": 1.0,
            "views": 0.0,
            "clean": 0.0,
            "passes": float(step.inputs["passes"] * asked_rows(step, steps)),
        }
        for rows, views, first in {} if shards_of(step, steps) else answers(step, steps).values():
            found["views" if first else "clean"] += rows * views
        return found

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        if shards := shards_of(step, steps):
            passes = (self.amounts(step, steps) or {})["passes"]
            more = f", and {round(passes):,} answers with dropout" if passes else ""
            return f"{shards} shards put together{more}"
        found = self.amounts(step, steps) or {}
        return f"{round(found['views'] + found['clean'] + found['passes']):,} answers{_each(step)}"

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        about = step.inputs["data"].json("data.json")
        asks = step.inputs["passes"] and step.inputs["pool"]
        extras = 4 * 4 * len(about.get("classes", [])) * self.counts(step)["unlabelled"] if asks else 0
        return extras + head_bytes(about, step.inputs.get("form")) + _bytes(step, answers(step, steps))

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """How many views there are follows from the length of the training."""
        return {
            **super().costs(inputs),
            "views": sorted(inputs["views"]),
            "looked_at": sorted(inputs["looked_at"]),
        }

    def face(self, step: PlannedStage, reduced: Callable[[Any], Any]) -> Any:
        return {
            "answers": sorted(step.inputs["views"]),
            "looked_at": sorted(step.inputs["looked_at"]),
            "clean": step.inputs["clean"],
            **({"form": form} if (form := step.inputs.get("form")) else {}),
            "teachers": reduced(step.inputs["teachers"]),
        }

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.labelling import label

        return label(bench, step, inputs, folder, answers(step, bench.steps))

    def noun(self, name: str) -> str | None:
        return "label set"

    def tried(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """How the teacher answers, all labelling stages of the run together."""
        asked = [other for other in job.steps if other.stage == LABEL]
        if any(other.inputs["rows"] for other in asked):
            return ["answers: of the rows that are bought, stored"]
        views = max((count for other in asked for count in other.inputs["views"].values()), default=0)
        if not views:
            return ["answers: of the live teacher, at every step"]
        how = f"stored, {views} {'view' if views == 1 else 'views'} of a row at most"
        return [f"answers: {how}{_each(step)}"]


class LabelShard(Label):
    """Of the rows of its files as many as lie in its range."""

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        found = {"start": 1.0, "views": 0.0, "clean": 0.0}
        for rows, views, first in self.part(step, steps).values():
            found["views" if first else "clean"] += rows * views
        return found

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        found = self.part(step, steps)
        whole = sum(rows * views for rows, views, _ in found.values())
        rows = ", ".join(f"{rows:,} {name}" for name, (rows, _, _) in found.items())
        return f"{whole:,} answers to rows of {rows}{_each(step)}" if found else "nothing is left for it"

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        return _bytes(step, self.part(step, steps))

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: value for name, value in super().costs(inputs).items() if name != "shard"}

    def noun(self, name: str) -> str | None:
        return None

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        return super().rehearse(bench, step, {**inputs, "passes": 0}, folder)

    def tried(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """Once of all shards of a labelling stage: the rows, the bytes and the time of each."""
        alike = {key: value for key, value in step.inputs.items() if key != "shard"}
        shards = [
            other
            for other in job.steps
            if other.stage == LABEL_SHARD
            and {key: value for key, value in other.inputs.items() if key != "shard"} == alike
        ]
        if step is not shards[0]:
            return []
        parts = [self.part(other, job.all_steps) for other in shards]
        rows = _span([sum(count for count, _, _ in part.values()) for part in parts])
        size = _span([_bytes(step, part) for part in parts])
        took = [job.rehearsed(s).seconds(self.amounts(s, job.all_steps)) for s in shards if not s.stored]
        seconds = [round(found, 1) for found in took if found is not None]
        time = f", about {_span(seconds)} s" if seconds else ""
        number, of = step.inputs["shard"]
        which = f"in {of} shards, each of" if len(shards) > 1 else f"of them shard {number} of {of}, with"
        left = f"{sum(not shard.stored for shard in shards)} of them to make" if len(shards) > 1 else ""
        return [f"answers: {which} {rows} rows, {size} bytes{time}{'; ' if left else ''}{left}"]

    def part(self, step: PlannedStage, steps: Steps) -> dict[str, tuple[int, int, int]]:
        """file -> (rows, views of each, the first of them) of this shard."""
        from kdx.pipeline.stages.answering import cut_ranges
        from kdx.pipeline.stages.arrays import build_task
        from kdx.pipeline.stages.spread import BATCH

        whole, (number, of) = answers(step, steps), step.inputs["shard"]
        batch = build_task(step.inputs["data"].json("data.json")).rows_together(BATCH)
        ranges = cut_ranges({name: found[:2] for name, found in whole.items()}, batch, of)[number]
        return {name: (stop - start, *whole[name][1:]) for name, (start, stop) in ranges.items()}


def answers(step: PlannedStage, steps: Steps) -> dict[str, tuple[int, int, int]]:
    """file -> (rows, views of each, the first of them) that a labelling stage will answer."""
    from kdx.pipeline.stages.asked import rows_answered, to_answer

    inputs, counts = step.inputs, foretelling_of(step.stage).counts(step)
    wanted = to_answer(
        counts,
        inputs["views"],
        inputs["clean"],
        inputs["pool"] and inputs["rows"] is None,
        [name for name, _ in inputs["augment"]],
    )
    asked = asked_rows(step, steps)
    return {
        name: (rows_answered(name, counts, asked, inputs["looked_at"]), views, first)
        for name, (views, first) in wanted.items()
    }


def shards_of(step: PlannedStage, steps: Steps) -> int:
    """How many shards a labelling stage is put together from; 0: it asks the teacher itself."""
    alike = [
        other.inputs["shard"][1]
        for other in steps.values()
        if other.stage == LABEL_SHARD
        and other.inputs.keys() - {"shard"} == step.inputs.keys() - {"passes"}
        and all(other.inputs[key] == step.inputs[key] for key in other.inputs if key != "shard")
    ]
    return alike[0] if alike else 0


def _bytes(step: PlannedStage, files: Mapping[str, tuple[int, int, int]]) -> int:
    """Of the answers in some files: name -> (rows, views of each, the first of them)."""
    about = step.inputs["data"].json("data.json")
    whole, part = answer_bytes(about), answer_bytes(about, step.inputs.get("form"))
    return sum(
        (whole if name == "validation" and kept_whole(about) else part) * rows * views
        for name, (rows, views, _) in files.items()
    )


def asked_rows(step: PlannedStage, steps: Steps) -> int:
    """Rows of the pool that a labelling stage answers."""
    if not step.inputs["pool"]:
        return 0
    chosen = step.inputs["rows"]
    if chosen is None:
        pool = foretelling_of(step.stage).counts(step)["unlabelled"]
        return int(step.inputs["looked_at"].get("unlabelled", pool))
    return chosen_rows(steps[chosen.key], steps)


def kept_whole(about: Mapping[str, Any]) -> bool:
    """Whether the answers to validation are kept whole: see kdx.pipeline.stages.packing.packing_of."""
    return about.get("distributions", {}).get("places", 1) == 1


def _span(values: Sequence[float]) -> str:
    """[3, 5, 4] -> "3 to 5" """
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _each(step: PlannedStage) -> str:
    """What is kept of an answer, and the bytes that it takes; "" of all of it."""
    form, about = step.inputs.get("form"), step.inputs["data"].json("data.json")
    if not form or "distributions" not in about:
        return ""
    found = about["distributions"]
    bytes_each = place_bytes(found["width"], form)
    several = f", {bytes_each * found['places']:,} a row" if found["places"] > 1 else ""
    if form["name"] == HIDDEN_STATES:
        once = head_bytes(about, form)
        return (
            f", {form['width']:,} numbers before the last layer: {bytes_each:,} bytes each{several}, and "
            f"{once:,} of the layer"
        )
    named = {
        "topk": f"the {form['k']} likeliest",
        "sampled": f"{form['draws']} draws",
        "auto": f"the {form['k']} likeliest or {form['draws']} draws",
    }[form["name"]]
    return f", {named} of {found['width']:,}: at most {bytes_each} bytes each{several}"


def head_bytes(about: Mapping[str, Any], form: Mapping[str, Any] | None) -> int:
    """Of the last layer that lies beside hidden states."""
    if not form or form["name"] != HIDDEN_STATES:
        return 0
    return 4 * int(about["distributions"]["width"]) * int(form["width"])
