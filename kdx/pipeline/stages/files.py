"""Artifacts read into objects: splits and networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from kdx import models
from kdx.core.errors import UserError
from kdx.core.types import Split
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.training.runtime import Runtime

IN_MEMORY = 2 << 30
"""Splits of more bytes than this stay memory-mapped."""


def open_split(data: Artifact, name: str, runtime: Runtime) -> Split | None:
    """A split of a prepared data set, on the device where it is small; None where it has no rows."""
    about = data.json("data.json")
    if not about["counts"].get(name):
        return None
    path = data.file(f"{name}.images.npy")
    small = path.stat().st_size <= IN_MEMORY
    images = torch.from_numpy(np.load(path) if small else np.load(path, mmap_mode="c"))
    labels = data.file(f"{name}.labels.npy")
    truth = torch.from_numpy(np.load(labels)) if labels.exists() else None
    if small:
        images = images.to(runtime.device)
    return Split(name, images, truth)


def need_split(data: Artifact, name: str, runtime: Runtime) -> Split:
    """A split that must have rows."""
    found = open_split(data, name, runtime)
    if found is None:
        raise UserError(f"the data set has no row in its split '{name}': see dataset.{name}")
    return found


def new_network(model: Component, about: Mapping[str, Any], *, read_weights: bool = True) -> nn.Module:
    """The network that a model component describes, fit for a prepared data set (its data.json). Weights from
    torch's global generator.

    read_weights: whether pretrained weights, where the component asks for them, are read; not so where others
    replace them.
    """
    return models.build(
        model,
        shape=tuple(about["shape"]),
        classes=len(about["classes"]),
        mean=about["mean"],
        std=about["std"],
        read_weights=read_weights,
    )


def open_network(artifact: Artifact, which: str = "last") -> nn.Module:
    """The network of a training artifact with its `last` or `best` weights, on the CPU, in eval mode."""
    about = artifact.json("model.json")
    network = new_network(Component(about["component"]), about, read_weights=False)
    network.load_state_dict(load_file(artifact.file(f"{which}.safetensors")))
    return network.eval()
