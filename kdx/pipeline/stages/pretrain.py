"""teacher-pretrain: the teacher learns from the labelled part, by steps or, an estimator, at once; or it is
taken as it is from a checkpoint or from pretrained weights.
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from kdx.core.levels import as_float
from kdx.core.trees import moved, part_of, tree
from kdx.models.estimator import check_kept, fit_to, is_estimator, settle_by
from kdx.models.weights import load_weights
from kdx.pipeline.stages.arrays import build_task, need_split, open_split
from kdx.pipeline.stages.cautions import cautions
from kdx.pipeline.stages.files import about_model, new_network
from kdx.pipeline.stages.learn import learn
from kdx.pipeline.stages.parts import TrainInputs
from kdx.pipeline.stages.watch import plain_state
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.source import Source
from kdx.store.work import Work
from kdx.training.runtime import Runtime

_COMPARED = 4
"""Rows on which an estimator that is opened again is compared with the fitted one."""


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
    """training None: no step is made. Files: those of kdx.pipeline.stages.learn.learn; of an estimator,
    which is fitted to the labelled rows at once, as where no step is made.
    """
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
    torch.manual_seed(seed)
    network = new_network(model, about, read_weights=checkpoint is None)
    for text, level in (
        load_weights(network, checkpoint.paths[0], key=checkpoint_key, role="teacher") if checkpoint else ()
    ):
        work.note(text, level)
    if fitted:
        rows = need_split(data, "labelled", runtime)
        shown = moved(tree(lambda leaf: as_float(leaf[:]), rows.inputs), "cpu")
        with cautions(work):
            fit_to(network, shown, rows.known, build_task(about))
            settle_on_validation(work, network, data, runtime)
        again = new_network(model, about, read_weights=False)
        check_kept(network, again, part_of(shown, 0, _COMPARED))
    save_file(plain_state(network), work.path / "last.safetensors")
    work.write_json(
        "summary.json",
        {
            "steps": 0,
            "planned_steps": 0,
            "stopped": None,
            "precision": "fp32",
            "best_step": None,
            **({"fitted": True} if fitted and not declared(model.target, "finished", False) else {}),
            "threads": torch.get_num_threads(),
            "device": runtime.device,
        },
    )
    work.write_json("model.json", about_model(model, about))


def settle_on_validation(work: Work, network: nn.Module, data: Artifact, runtime: Runtime) -> None:
    """Lets a fitted estimator choose by the validation rows, where there are some, what it has left open."""
    rows = open_split(data, "validation", runtime)
    if rows is None or not len(rows):
        return
    shown = moved(tree(lambda leaf: as_float(leaf[:]), rows.inputs), "cpu")
    task = build_task(data.json("data.json"))
    for text in settle_by(network, shown, moved(rows.known, "cpu"), task):
        work.note(text)
