"""Examples of the test split with what each network makes of them: pictures in a grid, or rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdx.core.errors import UserError
from kdx.core.roles import ROLES, Role
from kdx.report.run.canvas import RIGHT, WRONG, font, png, shorten

if TYPE_CHECKING:
    import numpy as np

COLUMNS, SIDE, CELL, LINE, TITLE = 8, 126, 168, 18, 40  # of the picture grid: pictures a row, then pixels
TRUTH_COLOUR = "#ffd000"
"""The right boxes in a picture; others have the colours of their roles."""
_LONGEST, _NAME = 120, 60
"""Letters of a text and of a name in the table."""
_WIDEST = 21
"""Letters of a line under a picture."""


def draw_pictures(
    images: np.ndarray,
    truth: Sequence[Any],
    predictions: Mapping[str, Sequence[Any]],
    classes: Sequence[str],
    known: Mapping[str, Role] = ROLES,
    beside: Mapping[str, Any] | None = None,
) -> bytes:
    """Pictures with what they are called, the truth and what each role takes them for; mistakes in red, and a
    red frame where one role is wrong.

    images: (K, C, H, W) uint8, K >= 1, C 1 or 3 (of other counts the mean is shown). truth,
    predictions[role]: K classes; without classes K texts, of which none is right or wrong. beside: "names":
    K texts, "confidence": role -> K numbers, "outlines": "truth" or role -> K lists of {"box": x1, y1, x2,
    y2 in pixels}, drawn in the colour of the words below them; each may be absent.
    """
    from PIL import Image, ImageDraw

    _check(images, truth, predictions)
    roles = [role for role in known if role in predictions]
    names, sure = (beside or {}).get("names"), (beside or {}).get("confidence") or {}
    boxes = (beside or {}).get("outlines") or {}
    columns, lines = min(COLUMNS, len(images)), -(-len(images) // COLUMNS)
    height = SIDE + LINE * (1 + bool(names) + len(roles)) + 24
    canvas = Image.new("RGB", (max(columns * CELL, 2 * CELL), TITLE + lines * height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text(
        (canvas.width / 2, TITLE / 2),
        ("test pictures, the surest errors first" if names else "test pictures")
        + (": truth (yellow), then predictions" if boxes else ": truth, then predictions"),
        fill="black",
        font=font(15),
        anchor="mm",
    )
    for k, picture in enumerate(images):
        row, column = divmod(k, columns)
        left, top = column * CELL + (CELL - SIDE) // 2, TITLE + row * height
        canvas.paste(outlined(picture, k, boxes, known), (left, top))
        wrong = bool(classes) and any(predictions[role][k] != truth[k] for role in roles)
        frame = (left - 3, top - 3, left + SIDE + 2, top + SIDE + 2)
        draw.rectangle(frame, outline=WRONG if wrong else "#cccccc", width=3 if wrong else 1)
        said = [(shorten(str(names[k]), _WIDEST + 2, end=True), "#777777", False)] if names else []
        said.append((shorten(class_name(truth[k], classes), _WIDEST - 2), RIGHT, True))
        for role in roles:
            label = predictions[role][k]
            colour = known[role].colour if boxes else WRONG if classes and label != truth[k] else RIGHT
            share = answer_text("", sure[role][k]) if role in sure else ""
            words = f"{known[role].short}: {class_name(label, classes)}"
            said.append((shorten(words, _WIDEST - len(share)) + share, colour, False))
        for i, (words, colour, bold) in enumerate(said):
            spot = (left + SIDE / 2, top + SIDE + 14 + LINE * i)
            draw.text(spot, words, fill=colour, font=font(12, bold=bold), anchor="mm")
    return png(canvas)


def thumbnail(picture: np.ndarray) -> Any:
    """(C, H, W) uint8 -> a square RGB picture, its sides kept in proportion; small ones are enlarged with
    their pixels in sight.
    """
    from PIL import Image

    tall, wide = picture.shape[1:]
    scale = SIDE / max(tall, wide)
    size = (max(round(wide * scale), 1), max(round(tall * scale), 1))
    shown = (
        Image.fromarray(pixels(picture))
        .convert("RGB")
        .resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    )
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(shown, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return square


def outlined(
    picture: np.ndarray, place: int, boxes: Mapping[str, Sequence[Any]], known: Mapping[str, Role]
) -> Any:
    """The thumbnail with the boxes of that place of each list in it, those of the truth below the others, and
    each of the others two pixels further in, so that equal ones are seen."""
    from PIL import ImageDraw

    shown = thumbnail(picture)
    draw, scale = ImageDraw.Draw(shown), SIDE / max(picture.shape[1:])
    offset = [(SIDE - scale * side) / 2 for side in picture.shape[:0:-1]]
    whose = [name for name in ("truth", *known) if name in boxes]
    for deep, name in enumerate(whose):
        colour = TRUTH_COLOUR if name == "truth" else known[name].colour
        for one in boxes[name][place]:
            corners = [scale * side + offset[i % 2] for i, side in enumerate(one["box"])]
            left, top, right, bottom = (
                side + (2 * deep if i < 2 else -2 * deep - 1) for i, side in enumerate(corners)
            )
            if right > left and bottom > top:
                draw.rectangle((left, top, right, bottom), outline=colour, width=2)
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
