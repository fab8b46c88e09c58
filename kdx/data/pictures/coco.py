"""Annotations in the form of COCO: pictures, boxes and categories in one JSON file (Lin et al. 2014, arXiv
1405.0312). Standard library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.data.phrases import few

Box = tuple[float, float, float, float]
SLACK = 1.0
"""Pixels by which a box may reach out of its picture as if it did not: such are rounded numbers."""
_FORM = (
    'COCO\'s form is {"images": [{"id": 1, "file_name": TEXT, "width": 640, "height": 480}], "annotations": '
    '[{"image_id": 1, "category_id": 3, "bbox": [left, top, width, height]}], "categories": [{"id": 3, '
    '"name": TEXT}]}'
)


@dataclass(frozen=True)
class CocoPicture:
    """boxes: (x1, y1, x2, y2) in pixels of the file and the number of the category each, in order of ids."""

    file: str
    width: int
    height: int
    boxes: list[tuple[Box, int]] = field(default_factory=list)


@dataclass(frozen=True)
class CocoFile:
    """pictures: in order of the file. names, ids: of the categories, in order of their ids. crowds:
    annotations of whole groups, which are left out; clipped: boxes that reached out of their picture and were
    cut off there; lost: why others were left out, by the name of their picture.
    """

    pictures: Sequence[CocoPicture]
    names: tuple[str, ...]
    ids: tuple[int, ...]
    crowds: int
    clipped: int
    lost: Mapping[str, str]


def read_coco(path: Path, skip: bool) -> CocoFile:
    """skip: boxes that reach out of their picture are clipped, and those that cannot be boxes of it left out;
    else each is a UserError that names the first of them. So is whatever else is not in COCO's form."""
    document = _document(path)
    names = _categories(path, document)
    pictures = _pictures(path, document)
    places = {number: place for place, number in enumerate(names)}
    crowds, outside, wrong = 0, list[str](), dict[str, str]()
    annotations = _list(path, document, "annotations")
    for number, one in enumerate(annotations):
        key, kind = (_whole(path, "annotations", number, one, name) for name in ("image_id", "category_id"))
        for name, value, known in (("image_id", key, pictures), ("category_id", kind, places)):
            if value not in known:
                raise UserError(
                    f"'{path}': annotations[{number}].{name} is {value}, and no entry has that id"
                )
        if one.get("iscrowd"):
            crowds += 1
            continue
        picture, called = pictures[key], f"annotations[{number}] of {pictures[key].file}"
        box = _box(one.get("bbox"))
        inside = box and clipped(box, picture)
        if box is None:
            wrong[called] = "its bbox is no [left, top, width, height] with sides above 0"
        elif inside is None:
            wrong[called] = f"its bbox lies outside of the {picture.width}x{picture.height} pixels there are"
        else:
            picture.boxes.append((inside, places[kind]))
            if max(abs(side - cut) for side, cut in zip(box, inside, strict=True)) > SLACK:
                outside.append(called)
    if not skip:
        _refuse(path, outside, wrong, len(annotations))
    return CocoFile(list(pictures.values()), tuple(names.values()), tuple(names), crowds, len(outside), wrong)


def _refuse(path: Path, outside: list[str], wrong: Mapping[str, str], whole: int) -> None:
    """Raises UserError where a box is none, or reaches out of its picture."""
    if wrong:
        called, why = next(iter(wrong.items()))
        raise UserError(
            f"'{path}': {called}: {why}; mend it, or set dataset.on_error=skip, which leaves such boxes out "
            "and counts them"
        )
    if outside:
        raise UserError(
            f"'{path}': {len(outside):,} of {whole:,} boxes reach out of their pictures ({few(outside)}); "
            "mend them, or set dataset.on_error=skip, which cuts them off at the border and counts them"
        )


def _categories(path: Path, document: Mapping[str, Any]) -> dict[int, str]:
    """id -> name, in order of ids."""
    found = [
        (_whole(path, "categories", number, one, "id"), _text(path, "categories", number, one, "name"))
        for number, one in enumerate(_list(path, document, "categories"))
    ]
    ids, names = ({one[part] for one in found} for part in (0, 1))
    if not found or len(ids) < len(found) or len(names) < len(found):
        raise UserError(f"'{path}' must have categories, each with an id and a name of its own: {_FORM}")
    return dict(sorted(found))


def _pictures(path: Path, document: Mapping[str, Any]) -> dict[int, CocoPicture]:
    found: dict[int, CocoPicture] = {}
    for number, one in enumerate(_list(path, document, "images")):
        key = _whole(path, "images", number, one, "id")
        if key in found:
            raise UserError(f"'{path}' has two images of the id {key}: give each its own")
        width, height = (_whole(path, "images", number, one, side) for side in ("width", "height"))
        found[key] = CocoPicture(_text(path, "images", number, one, "file_name"), width, height)
    return found


def clipped(box: Box, picture: CocoPicture) -> Box | None:
    """What of a box lies inside of its picture; None: nothing."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[2], float(picture.width)), min(box[3], float(picture.height))
    return (left, top, right, bottom) if right > left and bottom > top else None


def _box(value: Any) -> Box | None:
    """[left, top, width, height] -> x1, y1, x2, y2; None where it is none."""
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        return None
    left, top, width, height = map(float, value)
    return (left, top, left + width, top + height) if width > 0 and height > 0 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes(), object_hook=_without_outline)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is no JSON ({error})"
        raise UserError(f"the annotations '{path}' cannot be read: {why}") from None
    if not isinstance(found, dict):
        raise UserError(f"'{path}' is no object at the top: {_FORM}")
    return found


def _without_outline(one: dict[str, Any]) -> dict[str, Any]:
    """Outlines are nine tenths of such a file, and nobody here reads them: each is forgotten at once."""
    one.pop("segmentation", None)
    return one


def _list(path: Path, document: Mapping[str, Any], name: str) -> list[Any]:
    found = document.get(name)
    if not isinstance(found, list):
        raise UserError(f"'{path}' has no list `{name}` at the top: {_FORM}")
    return found


def _whole(path: Path, what: str, number: int, one: Any, name: str) -> int:
    value = one.get(name) if isinstance(one, dict) else None
    least = 1 if name in ("width", "height") else 0
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(
            f"'{path}': {what}[{number}].{name} must be a whole number of at least {least}; given: {value!r}"
        )
    return value


def _text(path: Path, what: str, number: int, one: Any, name: str) -> str:
    value = one.get(name) if isinstance(one, dict) else None
    if not isinstance(value, str) or not value:
        raise UserError(f"'{path}': {what}[{number}].{name} must be a text; given: {value!r}")
    return value
