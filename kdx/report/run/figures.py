"""Pictures of a run as PNG bytes: examples with predictions, confusion matrices, curves.

Drawn with PIL alone: a run whose stages all come from the store would otherwise spend most of its time in a
plotting library.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdx.core.errors import UserError
from kdx.report.run.verdict import ROLE_WORDS

if TYPE_CHECKING:
    import numpy as np

ROLE_COLOURS = {
    "teacher": "#4c566a",
    "noiseless": "#b48ead",
    "baseline": "#d08770",
    "student": "#2a7f62",
    "ceiling": "#5e81ac",
    "validation_labels": "#c0a36e",
}
WRONG, RIGHT = "#c0271d", "#333333"
SHORT = {
    "teacher": "teacher",
    "noiseless": "no noise",
    "baseline": "alone",
    "student": "distilled",
    "ceiling": "all labels",
    "validation_labels": "alone, val too",
}
COLUMNS, SIDE, CELL, LINE, TITLE = 8, 126, 160, 18, 40  # of the picture grid: pictures a row, then pixels


def draw_pictures(
    images: np.ndarray, truth: Sequence[int], predictions: Mapping[str, Sequence[int]], classes: Sequence[str]
) -> bytes:
    """Pictures with the truth and what each role takes them for; mistakes in red, and a red frame where one
    role is wrong.

    images: (K, C, H, W) uint8, K >= 1, C 1 or 3 (of other counts the mean is shown). truth,
    predictions[role]: K classes.
    """
    from PIL import Image, ImageDraw

    _check(images, truth, predictions)
    roles = [role for role in ROLE_WORDS if role in predictions]
    columns, lines = min(COLUMNS, len(images)), -(-len(images) // COLUMNS)
    height = SIDE + LINE * (1 + len(roles)) + 24
    canvas = Image.new("RGB", (max(columns * CELL, 2 * CELL), TITLE + lines * height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text(
        (canvas.width / 2, TITLE / 2),
        "test pictures: truth, then predictions",
        fill="black",
        font=font(15),
        anchor="mm",
    )
    for k, picture in enumerate(images):
        row, column = divmod(k, columns)
        left, top = column * CELL + (CELL - SIDE) // 2, TITLE + row * height
        canvas.paste(thumbnail(picture), (left, top))
        wrong = any(predictions[role][k] != truth[k] for role in roles)
        frame = (left - 3, top - 3, left + SIDE + 2, top + SIDE + 2)
        draw.rectangle(frame, outline=WRONG if wrong else "#cccccc", width=3 if wrong else 1)
        labels = [("", truth[k]), *((f"{SHORT[role]}: ", predictions[role][k]) for role in roles)]
        for i, (who, label) in enumerate(labels):
            words = _shorten(who + class_name(label, classes), 19)
            spot = (left + SIDE / 2, top + SIDE + 14 + LINE * i)
            draw.text(
                spot,
                words,
                fill=WRONG if label != truth[k] else RIGHT,
                font=font(12, bold=i == 0),
                anchor="mm",
            )
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


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> bytes:
    """Rows are the truth, columns the prediction; colours are shares of a row. Counts are written where there
    is room for them.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    counts = np.asarray(matrix, dtype=float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape[0] != len(classes):
        raise UserError(
            f"A confusion matrix of {len(classes)} classes is {len(classes)} by {len(classes)}; "
            f"this one is {counts.shape}"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n = len(classes)
    square = min(max(560 // n, 6), 120)
    names = [_shorten(str(name), 14) for name in classes]
    margin = 50 + max(round(font(13).getlength(name)) for name in names)
    side = margin + square * n + 20
    canvas = Image.new("RGB", (max(side, 420), side + 30), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((canvas.width / 2, 24), title, fill="black", font=font(15), anchor="mm")
    low, high = np.array([247, 251, 255]), np.array([8, 48, 107])
    for i, j in np.ndindex(n, n):
        corner = (margin + j * square, 50 + i * square)
        shade = tuple(np.rint(low + (high - low) * shares[i, j]).astype(int).tolist())
        draw.rectangle((*corner, corner[0] + square - 1, corner[1] + square - 1), fill=shade)
        if counts[i, j] and square >= 24:
            colour = "white" if shares[i, j] > 0.5 else (RIGHT if i == j else WRONG)
            spot = (corner[0] + square / 2, corner[1] + square / 2)
            draw.text(
                spot, f"{counts[i, j]:.0f}", fill=colour, font=font(14 if square >= 40 else 10), anchor="mm"
            )
    end = 50 + n * square
    draw.rectangle((margin - 1, 49, margin + n * square, end), outline="#888888")
    for i in range(0, n, -(-16 // square)):  # of many classes only some have a name beside them
        middle = i * square + square / 2
        draw.text((margin - 8, 50 + middle), names[i], fill=RIGHT, font=font(13), anchor="rm")
        upright(canvas, (margin + middle, end + 8), names[i], turned=max(map(len, names)) > 2)
    upright(canvas, (18, 50 + n * square / 2), "truth", turned=True, centred=True)
    draw.text((margin + n * square / 2, side + 14), "prediction", fill="black", font=font(13), anchor="mm")
    return png(canvas)


class Axes:
    """The frame of a chart, drawn twice as large and halved at the end: PIL's lines have no smooth edges of
    their own.

    x_ticks, y_ticks: see `ticks`. below: what x is.
    """

    # pixels of the picture; left, top, right and bottom of the frame
    SIZE, BOX = (
        (720, 390),
        (70, 70, 690, 330),
    )

    def __init__(self, x_ticks: Sequence[float], y_ticks: Sequence[float], title: str, below: str):
        from PIL import Image, ImageDraw

        self.x, self.y = x_ticks, y_ticks
        self.large = Image.new("RGB", tuple(2 * side for side in self.SIZE), "white")
        self.draw = ImageDraw.Draw(self.large)
        left, _, right, bottom = self.BOX
        for x in x_ticks:
            self.draw.line((self.spot(x, y_ticks[0]), self.spot(x, y_ticks[-1])), fill="#e4e4e4", width=2)
            self.draw.text(
                (self.spot(x, 0)[0], 2 * (bottom + 14)), f"{x:,g}", fill=RIGHT, font=font(24), anchor="mm"
            )
        for y in y_ticks:
            self.draw.line((self.spot(x_ticks[0], y), self.spot(x_ticks[-1], y)), fill="#e4e4e4", width=2)
            self.draw.text(
                (2 * (left - 8), self.spot(0, y)[1]), f"{y:.6g}", fill=RIGHT, font=font(24), anchor="rm"
            )
        self.draw.text((self.SIZE[0], 2 * 22), title, fill="black", font=font(30), anchor="mm")
        self.draw.text((left + right, 2 * 370), below, fill="black", font=font(26), anchor="mm")

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the large picture."""
        left, top, right, bottom = self.BOX
        across = (x - self.x[0]) / (self.x[-1] - self.x[0])
        up = (y - self.y[0]) / (self.y[-1] - self.y[0])
        return 2 * (left + across * (right - left)), 2 * (bottom - up * (bottom - top))

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int = 5) -> None:
        self.draw.line([self.spot(*point) for point in points], fill=colour, width=width, joint="curve")

    def key(self, place: float, words: str, colour: str, width: int = 6) -> None:
        """A short line and what it means, above the frame. place: in pixels of the picture, from the left."""
        left = 2 * (self.BOX[0] + place)
        self.draw.line((left, 2 * 50, left + 44, 2 * 50), fill=colour, width=width)
        self.draw.text((left + 56, 2 * 50), words, fill=RIGHT, font=font(24), anchor="lm")

    def png(self) -> bytes:
        from PIL import Image

        return png(self.large.resize(self.SIZE, Image.Resampling.BOX))


def draw_curves(series: Mapping[str, Sequence[tuple[int, float]]], title: str, percent: bool) -> bytes:
    """One line a role over the steps of its own training. series[role]: (step, value) pairs. percent: values
    are fractions.
    """
    roles = [role for role in ROLE_WORDS if series.get(role)]
    lines = {
        role: [(step, 100 * value if percent else value) for step, value in series[role]] for role in roles
    }
    xs, ys = zip(*(point for line in lines.values() for point in line), strict=True)
    axes = Axes(ticks(min(xs), max(xs)), ticks(min(ys), max(ys)), title, "optimiser step")
    names, apart = (ROLE_WORDS, 160) if len(roles) <= 4 else (SHORT, 124)
    for i, role in enumerate(roles):
        axes.line(lines[role], ROLE_COLOURS[role])
        axes.draw.circle(axes.spot(*lines[role][-1]), 7, fill=ROLE_COLOURS[role])
        axes.key(apart * i, names[role], ROLE_COLOURS[role])
    return axes.png()


def draw_bars(values: Mapping[str, Mapping[str, float]], title: str) -> bytes:
    """A group of bars for each name, one bar a role, with its figure above it. values[name][role]: fractions
    in [0, 1].
    """
    from PIL import Image, ImageDraw

    roles = [role for role in ROLE_WORDS if any(role in of for of in values.values())]
    bar, left, top, bottom = 30, 60, 80, 330
    wide = bar * len(roles) + 26
    canvas = Image.new("RGB", (max(left + wide * len(values) + 20, left + 150 * len(roles)), 370), "white")
    draw = ImageDraw.Draw(canvas)
    for y in range(0, 101, 20):
        height = bottom - y / 100 * (bottom - top)
        draw.line((left, height, canvas.width - 20, height), fill="#e4e4e4")
        draw.text((left - 8, height), f"{y}", fill=RIGHT, font=font(12), anchor="rm")
    for i, (name, of) in enumerate(values.items()):
        start = left + 13 + wide * i
        for k, role in enumerate(roles):
            if role in of:
                height = bottom - of[role] * (bottom - top)
                draw.rectangle(
                    (start + bar * k, height, start + bar * (k + 1) - 3, bottom), fill=ROLE_COLOURS[role]
                )
                draw.text(
                    (start + bar * (k + 0.5) - 1, height - 8),
                    f"{100 * of[role]:.0f}",
                    fill=RIGHT,
                    font=font(11),
                    anchor="mm",
                )
        draw.text(
            (start + bar * len(roles) / 2, bottom + 16),
            _shorten(name, wide // 8),
            fill=RIGHT,
            font=font(13),
            anchor="mm",
        )
    for k, role in enumerate(roles):
        draw.rectangle((left + 150 * k, 44, left + 150 * k + 14, 58), fill=ROLE_COLOURS[role])
        draw.text((left + 150 * k + 20, 51), SHORT[role], fill=RIGHT, font=font(12), anchor="lm")
    draw.text((canvas.width / 2, 22), title, fill="black", font=font(15), anchor="mm")
    return png(canvas)


def bars(histogram: Mapping, title: str) -> bytes:
    """A histogram, {"edges", "counts", "right" or absent}: each bar's right labels below its wrong ones,
    where the truth is known.
    """
    from PIL import Image, ImageDraw

    edges, counts = histogram["edges"], histogram["counts"]
    right = histogram.get("right")
    y_ticks = ticks(0, max(*counts, 1))
    left, top, end, bottom = 70, 70, 690, 330
    canvas = Image.new("RGB", (720, 380), "white")
    draw = ImageDraw.Draw(canvas)
    height = (bottom - top) / y_ticks[-1]
    for y in y_ticks:
        draw.line((left, bottom - y * height, end, bottom - y * height), fill="#e4e4e4")
        draw.text((left - 8, bottom - y * height), f"{y:,g}", fill=RIGHT, font=font(12), anchor="rm")
    width = (end - left) / len(counts)
    for i, count in enumerate(counts):
        box = (left + i * width + 2, left + (i + 1) * width - 2)
        good = count if right is None else right[i]
        if count:
            draw.rectangle((box[0], bottom - count * height, box[1], bottom), fill=WRONG)
        if good:
            draw.rectangle((box[0], bottom - good * height, box[1], bottom), fill=ROLE_COLOURS["student"])
    for i, edge in enumerate(edges):
        draw.text((left + i * width, bottom + 14), f"{edge:.3g}", fill=RIGHT, font=font(12), anchor="mm")
    for i, (words, colour) in enumerate(
        [("right", ROLE_COLOURS["student"]), ("wrong", WRONG)] if right is not None else []
    ):
        draw.rectangle((left + 90 * i, 44, left + 90 * i + 14, 58), fill=colour)
        draw.text((left + 90 * i + 20, 51), words, fill=RIGHT, font=font(12), anchor="lm")
    draw.text((canvas.width / 2, 22), title, fill="black", font=font(15), anchor="mm")
    draw.text(
        ((left + end) / 2, 364), "labels in each range of the value", fill="black", font=font(13), anchor="mm"
    )
    return png(canvas)


def ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers, evenly apart, from at most `low` to at least `high`."""
    spread = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if spread / (unit * factor) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(first, max(last, first + 1) + 1)]


def upright(canvas: Any, spot: tuple[float, float], words: str, turned: bool, centred: bool = False) -> None:
    """Words below `spot` (or around it, where centred), turned to read from below where they would not fit
    side by side.
    """
    from PIL import Image, ImageDraw

    label = Image.new("RGB", (max(round(font(13).getlength(words)), 1), 18), "white")
    ImageDraw.Draw(label).text((0, 9), words, fill=RIGHT, font=font(13), anchor="lm")
    label = label.rotate(90, expand=True) if turned else label
    canvas.paste(
        label, (round(spot[0] - label.width / 2), round(spot[1] - (label.height / 2 if centred else 0)))
    )


@functools.cache
def font(height: int, bold: bool = False) -> Any:
    """The font that comes with matplotlib, which knows far more letters than PIL's own. Found without
    importing matplotlib.
    """
    from PIL import ImageFont

    folder = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), height)


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


def class_name(label: int, classes: Sequence[str]) -> str:
    return str(classes[label]) if 0 <= label < len(classes) else str(label)


def _shorten(words: str, longest: int) -> str:
    words = " ".join(words.split())
    return words if len(words) <= longest else words[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()
