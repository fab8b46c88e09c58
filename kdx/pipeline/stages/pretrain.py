"""teacher-pretrain: the teacher learns from the labelled part, by steps or, an estimator, at once; or it is
taken as it is from a checkpoint or from pretrained weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from kdx.core.class_names import ClassMap, listed_names
from kdx.core.errors import UserError
from kdx.core.levels import as_float
from kdx.core.scorer import Scorer
from kdx.core.trees import moved, part_of, tree
from kdx.models.adapt import Around
from kdx.models.estimator import check_kept, fit_to, is_estimator, settle_by
from kdx.models.fitting import WeightsNote
from kdx.models.renamed import Renamed
from kdx.models.weights import left_out_head, load_weights
from kdx.pipeline.stages.arrays import build_task, need_split, open_split
from kdx.pipeline.stages.cautions import cautions
from kdx.pipeline.stages.files import CLASS_PLACES, about_model, new_network
from kdx.pipeline.stages.gate import BY_ROW, hold_against
from kdx.pipeline.stages.learn import learn
from kdx.pipeline.stages.parts import TrainInputs, begin_through
from kdx.pipeline.stages.watch import plain_state
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.source import Source
from kdx.store.work import Work
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime

_COMPARED = 4
"""Rows on which an estimator that is opened again is compared with the fitted one."""
_FEWEST = 2
"""Rows of validation by which a network can be held against another."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    model: Component,
    training: Component | None,
    checkpoint: Source | None,
    checkpoint_key: str | None,
    seed: int,
    **inputs: Any,
) -> None:
    """training None: no step is made. inputs: those of TrainInputs, and "gate", of a network that is measured
    before it answers anything: "error", the run stops where it is no better than who knows nothing; "warn",
    that is warned of; "new_head", whether a last layer of another size is left out;
    "class_map", of one that learned other classes: a kdx.core.class_names.ClassMap.

    Files: those of kdx.pipeline.stages.learn.learn; of an estimator, which is fitted to the labelled rows at
    once, as where no step is made.
    """
    gate, renamed = inputs.pop("gate", "warn"), inputs.pop("class_map", None)
    new_head, through = inputs.pop("new_head", False), inputs.get("through")
    fitted = is_estimator(model)
    if training is not None and not fitted:
        learn(
            work,
            runtime,
            TrainInputs(
                data=data,
                model=model,
                training=training,
                checkpoint=checkpoint,
                checkpoint_key=checkpoint_key,
                seed=seed,
                **inputs,
            ),
        )
        return
    about = data.json("data.json")
    names = ClassMap(**renamed) if renamed else None
    if names:
        about = {**about, CLASS_PLACES: names.places(about["classes"])}
    torch.manual_seed(seed)
    network = new_network(model, about, read_weights=not (checkpoint or through))
    notes: list[WeightsNote] = []
    if through:
        notes = begin_through(network, through)
    elif checkpoint:
        file = checkpoint.paths[0]
        notes = load_weights(network, file, key=checkpoint_key, role="teacher", new_head=new_head)
    for text, level in notes:
        work.note(text, level)
    knows_nothing = new_head and (not (through or checkpoint) or left_out_head(notes))
    for text in getattr(network, "remarks", ()):
        work.note(text)
    if fitted:
        rows = need_split(data, "labelled", runtime)
        shown = moved(tree(lambda leaf: as_float(leaf[:]), rows.inputs), "cpu")
        with cautions(work):
            fit_to(network, shown, rows.known, build_task(about))
            settle_on_validation(work, network, data, runtime)
        again = new_network(model, about, read_weights=False)
        check_kept(network, again, part_of(shown, 0, _COMPARED))
    if names:
        note_lost(work, network, names, data, runtime)
    first = declared(model.target, "measured_first", False)
    score = measure_first(work, network, data, runtime, gate) if first else None
    save_file(plain_state(network), work.path / "last.safetensors")
    work.write_json(
        "summary.json",
        {
            **({} if score is None else {"validation_score": score}),
            "steps": 0,
            "planned_steps": 0,
            "stopped": None,
            "precision": "fp32",
            "best_step": None,
            **({"fitted": True} if fitted and not declared(model.target, "finished", False) else {}),
            **({"new_head": True} if knows_nothing else {}),
            "threads": torch.get_num_threads(),
            "device": runtime.device,
        },
    )
    work.write_json("model.json", about_model(model, about))


def measure_first(
    work: Work, network: nn.Module, data: Artifact, runtime: Runtime, gate: str
) -> float | None:
    """Its metric on validation, held against who knows nothing, which is noted; None: there are too few rows.
    Of a network that gives no answers what it attains on each row is laid down, for the gate. Raises
    UserError where it is no better and `gate` is "error"."""
    rows = open_split(data, "validation", runtime)
    if rows is None or len(rows) < _FEWEST:
        return None
    task = build_task(data.json("data.json"))
    kept = Condensing(task)
    answers = predict(runtime.place(network), rows, runtime, batch=kept.batch, kept=kept)
    truth = moved(rows.known, "cpu")
    nothing = task.knowing_nothing(truth)
    taught = task.by_row(answers, truth).numpy()
    learns = "writes" if isinstance(network, Scorer) else "taken"
    if learns == "writes":
        np.save(work.path / BY_ROW["last"], taught)
    found = hold_against(taught, nothing.by_row.numpy(), nothing.words, task.paired, learns=learns)
    if not found["gain"] and gate == "error":
        raise UserError(f"{found['text']}. To go on all the same: pseudo_label.gate=warn")
    work.note(f"before it answers anything: {found['text']}", "info" if found["gain"] else "warning")
    return float(task.quick(answers, truth)[task.primary])


def note_lost(work: Work, network: nn.Module, names: ClassMap, data: Artifact, runtime: Runtime) -> None:
    """What of its answers is left out as none of our classes is it, on validation or the labelled rows."""
    rows = open_split(data, "validation", runtime) or need_split(data, "labelled", runtime)
    assert isinstance(network, Around) and isinstance(network.units, Renamed)
    renamed, inner = network.units, runtime.place(network)
    inner.units = None
    said = predict(inner, rows, runtime)
    inner.units = renamed
    share = float(renamed.cpu().lost(moved(said, "cpu")).double().mean()) if len(rows) else 0.0
    runtime.place(network)
    left = f"; {listed_names(names.left)} have none here" if names.left else ""
    kept = set(names.to.values())
    never = [str(name) for name in data.json("data.json")["classes"] if str(name) not in kept]
    work.note(
        f"{len(names.theirs)} classes of the teacher are named as ours{left}: {share:.1%} of its answers to "
        f"{len(rows):,} rows of {rows.name} are left out"
    )
    if never:
        work.note(f"no class of the teacher is {listed_names(never)}: it never answers so", "warning")


def settle_on_validation(work: Work, network: nn.Module, data: Artifact, runtime: Runtime) -> None:
    """Lets a fitted estimator choose by the validation rows, where there are some, what it has left open."""
    rows = open_split(data, "validation", runtime)
    if rows is None or not len(rows):
        return
    shown = moved(tree(lambda leaf: as_float(leaf[:]), rows.inputs), "cpu")
    task = build_task(data.json("data.json"))
    for text in settle_by(network, shown, moved(rows.known, "cpu"), task):
        work.note(text)
