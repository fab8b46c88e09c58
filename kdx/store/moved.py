"""Addresses of code that has moved: what is written in configurations, models and manifests of before, and
where it is now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOVED = {
    "kdx.data.augment": "kdx.data.views.augment",
    "kdx.data.cifar": "kdx.data.datasets.cifar",
    "kdx.data.digits": "kdx.data.datasets.digits",
    "kdx.data.folder": "kdx.data.datasets.folder",
    "kdx.data.idx": "kdx.data.datasets.idx",
    "kdx.data.mnist5k": "kdx.data.datasets.mnist5k",
    "kdx.data.randaugment": "kdx.data.views.randaugment",
    "kdx.data.shift": "kdx.data.views.shift",
    "kdx.data.stl10": "kdx.data.datasets.stl10",
    "kdx.data.svhn": "kdx.data.datasets.svhn",
    "kdx.data.synthetic": "kdx.data.datasets.synthetic",
    "kdx.features": "kdx.methods.features",
    "kdx.losses": "kdx.methods.losses",
    "kdx.pipeline.recipes.active.active": "kdx.pipeline.recipes.active.Active",
    "kdx.pipeline.recipes.chain.chain": "kdx.pipeline.recipes.chain.Chain",
    "kdx.pipeline.recipes.distil.distil": "kdx.pipeline.recipes.distil.Distil",
    "kdx.pipeline.recipes.supervised.supervised": "kdx.pipeline.recipes.supervised.Supervised",
    "kdx.recipes.active": "kdx.pipeline.recipes.active.Active",
    "kdx.recipes.chain": "kdx.pipeline.recipes.chain.Chain",
    "kdx.recipes.distil": "kdx.pipeline.recipes.distil.Distil",
    "kdx.recipes.supervised": "kdx.pipeline.recipes.supervised.Supervised",
    "kdx.select": "kdx.methods.select",
    "kdx.trainer.Training": "kdx.training.settings.Training",
    "kdx.weights": "kdx.methods.weights",
}
"""Modules, packages and single functions, the old address -> the new one. Nothing is ever taken out of it: a
run folder is read for years.
"""


ARRAYS = {"inputs": "images", "truth": "labels"}
"""What a file of arrays of a split is called -> what it was called before there was anything but pictures."""


def written_before(pattern: str) -> tuple[str, ...]:
    """Patterns of what stood for the files of a pattern then: the rows of a split, `labelled.rows.npy`, were
    its inputs, labelled.inputs*.npy, and these were called labelled.images.npy."""
    split, _, what = pattern.removesuffix(".npy").removesuffix("*").rpartition(".")
    if split and what == "rows":
        return (f"{split}.inputs*.npy", f"{split}.{ARRAYS['inputs']}.npy")
    return (f"{split}.{ARRAYS[what]}.npy",) if split and what in ARRAYS else ()


def kind_of_old(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """A data.json or model.json with what its rows and answers are: those of before said nothing, as all were
    pictures of one class each.
    """
    if "task" in about:
        return about
    return {
        **about,
        "task": {"_target_": "kdx.tasks.classification.Classification", "classes": about["classes"]},
        "example": {"": [about["shape"], "uint8"]},
        "reads": "pictures",
        "adapter": {
            "_target_": "kdx.models.adapt.PictureAdapter",
            "mean": about["mean"],
            "std": about["std"],
        },
    }


def without_old_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run of before, with what its keys were renamed to: `student_init` said fresh or
    previous, which are options of `init`.
    """
    found = {key: value for key, value in config.items() if key != "student_init"}
    if "student_init" not in config or "init" in config:
        return found
    option = config["student_init"]
    found["init"] = {"_target_": "kdx.methods.init.previous.Previous"} if option == "previous" else {}
    if isinstance(choices := config.get("choices"), Mapping):
        found["choices"] = {**choices, "init": option}
    return found


def address(target: str) -> str:
    """Where the code is now that a `_target_` names."""
    parts = target.split(".")
    for end in range(len(parts), 0, -1):
        if found := MOVED.get(".".join(parts[:end])):
            return ".".join([found, *parts[end:]])
    return target


_FEATURES = "kdx.methods.features."


def _several(key: str, value: Any) -> Any:
    """The slot `features` of a loss, which held one term, or one that stood for none, before there could be
    several."""
    target = value.get("_target_") if key == "features" and isinstance(value, dict) else None
    if not isinstance(target, str) or not target.startswith(_FEATURES):
        return value
    name = target.removeprefix(_FEATURES).partition(".")[0]
    return {} if name == "none" else {name: value}


def current(value: Any) -> Any:
    """A JSON value with every `_target_` inside it brought up to date."""
    if isinstance(value, dict):
        return {
            k: address(v) if k == "_target_" and isinstance(v, str) else _several(k, current(v))
            for k, v in value.items()
        }
    return [current(v) for v in value] if isinstance(value, list) else value
