"""Examples of the test split with what each network makes of them: pictures in a grid, or rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdx.core.errors import UserError
from kdx.core.roles import ROLES, Role
from kdx.report.run.canvas import (
    PIXELS,
    RIGHT,
    TEXT_SIZE,
    TITLE_SIZE,
    WRONG,
    Canvas,
    cut_to,
    shorten,
    text_width,
)

if TYPE_CHECKING:
    import numpy as np

SIDE, CELL, SMALL_CELL, LINE, _HEAD = 90, 272, 240, 18, 34
"""Units of a picture's side, of it with what is said of it beside, of that in a small grid, of a line of what
is said, and of the title."""
_SHOWN, _OUTLINE = PIXELS * SIDE, 3
"""Pixels of a picture's side, and of the line of a box in it."""
COLUMNS, _FEW = 4, 6
"""Pictures in a row of the whole grid; and in all of one to be seen small, whose rows are half as wide."""
TRUTH_COLOUR = "#ffd000"
"""The right boxes in a picture; others have the colours of their roles."""
_LONGEST, _NAME = 120, 60
"""Letters of a text and of a name in the table."""


def draw_pictures(
    images: np.ndarray,
    truth: Sequence[Any],
    predictions: Mapping[str, Sequence[Any]],
    classes: Sequence[str],
    known: Mapping[str, Role] = ROLES,
    beside: Mapping[str, Any] | None = None,
    few: bool = False,
) -> bytes:
    """Pictures with what they are called, the truth and what each role takes them for; mistakes in red, and a
    red frame where one role is wrong.

    images: (K, C, H, W) uint8, K >= 1, C 1 or 3 (of other counts the mean is shown). truth,
    predictions[role]: K classes; without classes K texts, of which none is right or wrong. beside: "names":
    K texts, "confidence": role -> K numbers, "outlines": "truth" or role -> K lists of {"box": x1, y1, x2,
    y2 in pixels}, drawn in the colour of the words beside them; each may be absent. few: the first
    `_FEW` alone.
    """
    _check(images, truth, predictions)
    roles = [role for role in known if role in predictions]
    names, sure = (beside or {}).get("names"), (beside or {}).get("confidence") or {}
    boxes = (beside or {}).get("outlines") or {}
    images = images[: _FEW if few else len(images)]
    columns = COLUMNS // 2 if few else min(COLUMNS, max(len(images), 2))
    cell = SMALL_CELL if few else CELL
    height = max(SIDE, LINE * (1 + bool(names) + len(roles))) + 10
    title = "test pictures, the surest errors first" if names and columns > 2 else "test pictures"
    title += ": truth (yellow), predictions" if boxes else ": truth, predictions"
    canvas = Canvas(columns * cell, _HEAD + -(-len(images) // columns) * height)
    canvas.text((canvas.width / 2, _HEAD / 2), title, size=TITLE_SIZE, colour="black")
    for k, picture in enumerate(images):
        row, column = divmod(k, columns)
        left, top = column * cell + 6, _HEAD + row * height
        scale = canvas.pixels_of(1)
        shown = outlined(picture, k, boxes, known)
        canvas.paste(shown.resize((SIDE * scale, SIDE * scale), 0), (left, top))
        wrong = bool(classes) and any(predictions[role][k] != truth[k] for role in roles)
        frame = 2 if wrong else 0.5
        edges = ((left - frame, top - frame), (left + SIDE + frame, top + SIDE + frame))
        canvas.bar(*edges, None, WRONG if wrong else "#cccccc", frame)
        said = [(str(names[k]), "", "#777777")] if names else []
        said.append((class_name(truth[k], classes), "", RIGHT))
        for role in roles:
            label = predictions[role][k]
            colour = known[role].colour if boxes else WRONG if classes and label != truth[k] else RIGHT
            share = answer_text("", sure[role][k]) if role in sure else ""
            said.append((f"{known[role].short}: {class_name(label, classes)}", share, colour))
        for i, (words, share, colour) in enumerate(said):
            bold, name = i == bool(names), bool(names) and not i
            room = cell - SIDE - 16
            share = share if text_width(words + share) <= room else ""
            line = cut_to(words, room - text_width(share), TEXT_SIZE, end=name, bold=bold) + share
            canvas.text(
                (left + SIDE + 6, top + LINE * (i + 0.5)), line, anchor="lm", colour=colour, bold=bold
            )
    return canvas.png()


def thumbnail(picture: np.ndarray) -> Any:
    """(C, H, W) uint8 -> a square RGB picture, its sides kept in proportion; small ones are enlarged with
    their pixels in sight.
    """
    from PIL import Image

    tall, wide = picture.shape[1:]
    scale = _SHOWN / max(tall, wide)
    size = (max(round(wide * scale), 1), max(round(tall * scale), 1))
    shown = (
        Image.fromarray(pixels(picture))
        .convert("RGB")
        .resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    )
    square = Image.new("RGB", (_SHOWN, _SHOWN), "white")
    square.paste(shown, ((_SHOWN - size[0]) // 2, (_SHOWN - size[1]) // 2))
    return square


def outlined(
    picture: np.ndarray, place: int, boxes: Mapping[str, Sequence[Any]], known: Mapping[str, Role]
) -> Any:
    """The thumbnail with the boxes of that place of each list in it, those of the truth below the others, and
    each of the others one line further in, so that equal ones are seen."""
    from PIL import ImageDraw

    shown = thumbnail(picture)
    draw, scale = ImageDraw.Draw(shown), _SHOWN / max(picture.shape[1:])
    offset = [(_SHOWN - scale * side) / 2 for side in picture.shape[:0:-1]]
    whose = [name for name in ("truth", *known) if name in boxes]
    for deep, name in enumerate(whose):
        colour = TRUTH_COLOUR if name == "truth" else known[name].colour
        for one in boxes[name][place]:
            corners = [scale * side + offset[i % 2] for i, side in enumerate(one["box"])]
            left, top, right, bottom = (
                side + (_OUTLINE * deep if i < 2 else -_OUTLINE * deep - 1) for i, side in enumerate(corners)
            )
            if right > left and bottom > top:
                draw.rectangle((left, top, right, bottom), outline=colour, width=_OUTLINE)
    return shown


def _check(images: np.ndarray, truth: Sequence[int], predictions: Mapping[str, Sequence[int]]) -> None:
    if images.ndim != 4 or str(images.dtype) != "uint8" or not len(images):
        raise UserError(
            "The picture grid needs images (K, C, H, W) of uint8, K >= 1; given "
            f"{images.shape} of {images.dtype}"
        )
    for name, rows in {"truth": truth, **predictions}.items():
        if len(rows) != len(images):
            raise UserError(f"The picture grid has {len(images)} images but {len(rows)} classes for '{name}'")


def pixels(picture: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, 3) or (H, W), uint8"""
    return picture.transpose(1, 2, 0) if len(picture) == 3 else picture.mean(axis=0).astype("uint8")


def answer_text(label: str, confidence: float | None) -> str:
    """A class with the confidence in it: "cat (98%)"."""
    return label if confidence is None else f"{label} ({math.floor(100 * confidence + 0.5)}%)"


def class_name(label: int | str, classes: Sequence[str]) -> str:
    """The name of a class by its number; anything else as it is."""
    return str(classes[label]) if not isinstance(label, str) and 0 <= label < len(classes) else str(label)


def example_cells(
    examples: Mapping[str, Any], known: Mapping[str, Role], classes: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of examples that are no pictures: what the row is called (of an older run its number in
    the test split), the row itself where it is shown as text, the truth where it is there and what each role
    makes of it; long texts are cut. classes: their names, where answers are numbers of classes; those that
    are not right are marked.
    """
    predictions, texts = examples["predictions"], examples.get("texts")
    roles = [role for role in known if role in predictions]
    truth = examples.get("truth")
    sure, names = examples.get("confidence") or {}, examples.get("names")
    columns = [
        *([texts] if texts else []),
        *([[class_name(label, classes) for label in truth]] if truth is not None else []),
        *(_answered(predictions[role], truth, classes, sure.get(role)) for role in roles),
    ]
    numbers = names or examples.get("rows") or range(len(columns[0]))
    beside = [*(["text"] if texts else []), *(["truth"] if truth is not None else [])]
    header = ["test row", *beside, *(known[role].words for role in roles)]
    return header, [
        [shorten(str(number), _NAME, end=True), *(shorten(str(value), _LONGEST) for value in values)]
        for number, *values in zip(numbers, *columns, strict=True)
    ]


def _answered(
    predictions: Sequence[Any],
    truth: Sequence[Any] | None,
    classes: Sequence[str],
    sure: Sequence[float] | None,
) -> list[str]:
    """Names of classes with the confidence, of a wrong one with that; anything else as it is."""
    unknown = [None] * len(predictions)
    return [
        answer_text(class_name(label, classes), share) + (" (wrong)" if classes and label != right else "")
        for label, right, share in zip(predictions, truth or predictions, sure or unknown, strict=True)
    ]
