"""A model.json read as data, fit to build a network from: nothing in it is trusted before it has been
checked. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.shapes import expect_shape
from kdx.runs.reading import read_mapping
from kdx.store.component import targets

ARRAY_TYPES = ("uint8", "float16", "float32", "float64", "int16", "int32", "int64", "bool")
"""Types that the arrays of rows have."""


def read_model(
    file: Path, allow: Sequence[str] = (), called: str | None = None, *, builds: bool = True
) -> dict[str, Any]:
    """A model.json, fit to build a network from: component, dataset, and what its rows and answers are; of
    older ones "shape", "classes", "mean" and "std" tell that.

    allow: packages of the user's own that the component may come from. Others than these and kdx.models are
    refused. called: what the user knows it as, None: the file. builds: whether the component is going to be
    built, and not a graph opened in its place.
    """
    about, called = read_mapping(file), called or f"'{file}'"
    component = expect_shape(about.get("component"), dict, file, "component")
    expect_shape(component.get("_target_"), str, file, "component: _target_")
    for target in targets(component):
        if builds and not any(str(target).startswith(f"{root}.") for root in ("kdx.models", *allow)):
            raise UserError(
                f"{called} names {target!r}, which is no model of kdx; if it is your own package, name it "
                f"with {_letting(target)}"
            )
    if "task" in about:
        _check_kind(about, file, allow, called)
    if "shape" in about or "task" not in about:
        _check_shape(about, file)
    if "classes" in about or "task" not in about:
        classes = expect_shape(about.get("classes"), list, file, "classes")
        if not classes or not all(isinstance(name, str) for name in classes):
            raise UserError(f"'{file}' is not as kdx writes it: classes must be names")
    for key in ("mean", "std"):
        if key in about or "task" not in about:
            _check_numbers(about.get(key), file, key)
    if "aggregate" in about:
        check_combination(about["aggregate"], file, "aggregate", allow, called)
    if "class_places" in about:
        _check_places(about["class_places"], about.get("classes"), file)
    expect_shape(about.get("dataset"), str, file, "dataset")
    return about


def check_combination(about: Any, file: Path, key: str, allow: Sequence[str], called: str) -> None:
    """What makes one answer of those of several networks. about: {"component", "weights" where it has some};
    key: where in the file it stands. Raises UserError."""
    spec = expect_shape(
        expect_shape(about, dict, file, key).get("component"), dict, file, f"{key}: component"
    )
    check_targets(spec, ("kdx.methods.aggregate", *allow), "aggregate", called)


def _check_places(places: Any, classes: Any, file: Path) -> None:
    """See kdx.models.renamed.Renamed."""
    high = len(classes) if isinstance(classes, list) else 0
    whole = isinstance(places, list) and all(type(place) is int and -1 <= place < high for place in places)
    if not whole or not places:
        raise UserError(f"'{file}' is not as kdx writes it: class_places must be places of classes, or -1")


def _letting(target: Any) -> str:
    """What to type for code of one's own."""
    top = str(target).partition(".")[0]
    return f"allow=[{top if top.isidentifier() and top != 'kdx' else 'package'}]"


def check_targets(spec: Any, roots: Sequence[str], what: str, called: str) -> None:
    """Raises UserError where code is named that lies in none of these packages."""
    for target in targets(spec):
        if not any(str(target).startswith(f"{name}.") for name in roots):
            raise UserError(
                f"{called} names {target!r} as its {what}, which is none of kdx; if it is your own "
                f"package, name it with {_letting(target)}"
            )


def _check_kind(about: Mapping[str, Any], file: Path, allow: Sequence[str], called: str) -> None:
    """What rows and answers are: their code must be of kdx, or of a package that was allowed."""
    for key, root in (("task", "kdx.tasks"), ("adapter", "kdx.models")):
        spec = about.get(key)
        if key == "adapter" and spec is None:
            continue
        expect_shape(spec, dict, file, key)
        expect_shape(spec.get("_target_"), str, file, f"{key}: _target_")
        check_targets(spec, (root, *allow), key, called)
        for name in ("mean", "std"):
            if name in spec:
                _check_numbers(spec[name], file, f"{key}: {name}")
    expect_shape(about.get("reads"), str, file, "reads")
    example = expect_shape(about.get("example"), dict, file, "example")
    for name, one in example.items():
        shape, kind = one if isinstance(one, list) and len(one) == 2 else (None, None)
        if not _is_shape(shape) or kind not in ARRAY_TYPES:
            raise UserError(
                f"'{file}' is not as kdx writes it: example.{name or 'rows'} must be a shape and a type"
            )


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 65536 for n in value
    )


def _check_shape(about: Mapping[str, Any], file: Path) -> None:
    shape = expect_shape(about.get("shape"), list, file, "shape")
    if not _is_shape(shape) or (len(shape) != 3 and "task" not in about):
        raise UserError(
            f"'{file}' is not as kdx writes it: shape must be [channels, height, width]; given {shape!r}"
        )


def _check_numbers(value: Any, file: Path, key: str) -> None:
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in expect_shape(value, list, file, key)):
        raise UserError(f"'{file}' is not as kdx writes it: {key} must be numbers")
