"""Artifacts read into networks."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import load_file
from torch import nn

from kdx import models
from kdx.models.adapt import Adapter
from kdx.models.ensemble import NetworkEnsemble
from kdx.models.renamed import OfOtherClasses
from kdx.pipeline.stages import PRIVACY
from kdx.pipeline.stages.arrays import build_kind, build_task
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.moved import kind_of_old

MOVED_WEIGHTS, MOVED_MODEL = "teacher.safetensors", "teacher.json"
"""Of a teacher that moved while a student was trained: as weights and model.json are of the student."""
CLASS_PLACES = "class_places"
"""Key of a model.json of a network that learned other classes: `places` of kdx.models.build_for."""
_OF_DATA = ("task", "metric", "example", "reads", "adapter", "shape", "classes", "mean", "std", "dataset")
MODEL_KEYS = (*_OF_DATA, CLASS_PLACES, PRIVACY)
"""What of data.json a model.json repeats: all that it takes to build the network, and to use it alone."""


def about_model(model: Component, about: Mapping[str, Any]) -> dict[str, Any]:
    """A model.json. about: the data.json."""
    return {"component": model.spec, **{key: about[key] for key in MODEL_KEYS if key in about}}


def build_adapter(about: Mapping[str, Any]) -> Adapter | None:
    """What stands between its rows and a network; None: nothing."""
    spec = kind_of_old(about)["adapter"]
    found: Adapter | None = build_kind(spec, Adapter, "adapter") if spec else None
    return found


def new_network(model: Component, about: Mapping[str, Any], *, read_weights: bool = True) -> nn.Module:
    """The network that a model component describes, fit for a prepared data set (its data.json). Weights from
    torch's global generator.

    read_weights: whether pretrained weights, where the component asks for them, are read; not so where others
    replace them.
    """
    kind = kind_of_old(about)
    return models.build_for(
        OfOtherClasses(model, about[CLASS_PLACES]) if CLASS_PLACES in about else model,
        task=build_task(about),
        example=kind["example"],
        reads=kind["reads"],
        adapter=build_adapter(about),
        read_weights=read_weights,
    )


def open_network(artifact: Artifact, which: str = "last") -> nn.Module:
    """The network of a training artifact with its `last` or `best` weights, on the CPU, in eval mode."""
    return _opened(artifact, "model.json", f"{which}.safetensors")


def open_moved(artifact: Artifact) -> nn.Module:
    """The teacher that moved while this artifact's network was trained, as it was at the end; as
    `open_network`."""
    return _opened(artifact, MOVED_MODEL, MOVED_WEIGHTS)


def _opened(artifact: Artifact, model: str, weights: str) -> nn.Module:
    about = artifact.json(model)
    network = new_network(Component(about["component"]), about, read_weights=False)
    network.load_state_dict(load_file(artifact.file(weights)))
    return network.eval()


def has_weights(artifacts: Sequence[Artifact], which: str) -> bool:
    """Whether `open_together` can open them so: one that made no step, as an estimator, has one set only,
    which is its best as well where that of another is chosen.
    """
    there = [artifact.file(f"{which}.safetensors").exists() for artifact in artifacts]
    return any(there) and all(map(operator.or_, there, map(_took_no_step, artifacts)))


def best_is_last(artifacts: Sequence[Artifact]) -> bool:
    """Whether one network alone has the same bytes as best weights and as last ones."""
    if len(artifacts) != 1 or not artifacts[0].file("best.safetensors").exists():
        return False
    files = artifacts[0].manifest["files"]
    return bool(files["best.safetensors"]["sha256"] == files["last.safetensors"]["sha256"])


def open_together(artifacts: Sequence[Artifact], which: str = "last") -> nn.Module:
    """The network of one training artifact, or of several the ensemble, which answers with the mean; as
    `open_network`."""
    networks = [
        open_network(artifact, which if artifact.file(f"{which}.safetensors").exists() else "last")
        for artifact in artifacts
    ]
    if len(networks) == 1:
        return networks[0]
    return NetworkEnsemble(networks, build_task(artifacts[0].json("model.json")).mean).eval()


def _took_no_step(artifact: Artifact) -> bool:
    return not artifact.json("summary.json")["steps"]
