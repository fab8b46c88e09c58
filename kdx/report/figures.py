"""Pictures of a run as PNG bytes: examples with predictions, confusion matrices, curves."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdx.faults import Fault
from kdx.report.judge import ROLES

if TYPE_CHECKING:
    import numpy as np

COLOURS = {"teacher": "#4c566a", "baseline": "#d08770", "student": "#2a7f62"}
WRONG, RIGHT = "#c0271d", "#333333"
SHORT = {"teacher": "teacher", "baseline": "alone", "student": "distilled"}
COLUMNS, SIDE, CELL, LINE, TITLE = 8, 126, 160, 18, 40  # of the picture grid: pictures a row, then pixels


def grid(images: np.ndarray, truth: Sequence[int], predictions: Mapping[str, Sequence[int]], classes: Sequence[str]) -> bytes:
    """Pictures with the truth and what each role takes them for; mistakes in red, and a red frame where one role is wrong.

    images: (K, C, H, W) uint8, K >= 1, C 1 or 3 (of other counts the mean is shown). truth, predictions[role]: K classes.
    Drawn with PIL: it takes a twentieth of the time that as many axes take.
    """
    from PIL import Image, ImageDraw

    check(images, truth, predictions)
    roles = [role for role in ROLES if role in predictions]
    columns, lines = min(COLUMNS, len(images)), -(-len(images) // COLUMNS)
    height = SIDE + LINE * (1 + len(roles)) + 24
    canvas = Image.new("RGB", (max(columns * CELL, 2 * CELL), TITLE + lines * height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((canvas.width / 2, TITLE / 2), "test pictures: truth, then predictions", fill="black", font=font(15), anchor="mm")
    for k, picture in enumerate(images):
        row, column = divmod(k, columns)
        left, top = column * CELL + (CELL - SIDE) // 2, TITLE + row * height
        canvas.paste(thumbnail(picture), (left, top))
        wrong = any(predictions[role][k] != truth[k] for role in roles)
        frame = (left - 3, top - 3, left + SIDE + 2, top + SIDE + 2)
        draw.rectangle(frame, outline=WRONG if wrong else "#cccccc", width=3 if wrong else 1)
        told = [("", truth[k]), *((f"{SHORT[role]}: ", predictions[role][k]) for role in roles)]
        for i, (who, label) in enumerate(told):
            words = shorten(who + class_name(label, classes), 22)
            spot = (left + SIDE / 2, top + SIDE + 14 + LINE * i)
            draw.text(spot, words, fill=WRONG if label != truth[k] else RIGHT, font=font(12, bold=i == 0), anchor="mm")
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return buffer.getvalue()


def thumbnail(picture: np.ndarray) -> Any:
    """(C, H, W) uint8 -> a square RGB picture, its sides kept in proportion; small ones are enlarged with their pixels in sight."""
    from PIL import Image

    tall, wide = picture.shape[1:]
    scale = SIDE / max(tall, wide)
    size = (max(round(wide * scale), 1), max(round(tall * scale), 1))
    shown = Image.fromarray(pixels(picture)).convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(shown, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return square


@functools.cache
def font(height: int, bold: bool = False) -> Any:
    """The font that comes with matplotlib: it knows far more letters than PIL's own."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), height)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> bytes:
    """Rows are the truth, columns the prediction; colours are shares of a row. Counts are written where there is room for them."""
    import numpy as np

    counts = np.asarray(matrix, dtype=float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape[0] != len(classes):
        raise Fault(f"A confusion matrix of {len(classes)} classes is {len(classes)} by {len(classes)}; this one is {counts.shape}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n = len(classes)
    side = min(max(3.4, 0.42 * n), 8.0)
    step = -(-n // 40)  # of many classes only some have a name beside them
    ticks = range(0, n, step)
    names = [shorten(str(classes[i]), 12) for i in ticks]
    margin = 0.6 + 0.075 * max(map(len, names))
    figure, axes = new_figure(left=margin, bottom=margin, width=side, height=side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(ticks, names, rotation=0 if max(map(len, names)) <= 2 else 90, fontsize=8, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=8, parse_math=False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title(title, fontsize=10, parse_math=False)
    if n <= 20:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[i, j] > 0.5 else (RIGHT if i == j else WRONG)
            axes.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", fontsize=8 if n <= 12 else 6, color=colour)
    return png(figure)


def curves(series: Mapping[str, Sequence[tuple[int, float]]], title: str, percent: bool) -> bytes:
    """One line a role over the steps of its own training. series[role]: (step, value) pairs."""
    figure, axes = new_figure(left=0.6, bottom=0.55, width=5.8, height=2.7)
    for role in (role for role in ROLES if series.get(role)):
        steps, values = zip(*series[role], strict=True)
        scaled = [100 * value for value in values] if percent else values
        axes.plot(steps, scaled, color=COLOURS[role], label=ROLES[role], lw=1.6, marker="o" if len(steps) == 1 else None)
    axes.set_xlabel("optimiser step")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return png(figure)


def check(images: np.ndarray, truth: Sequence[int], predictions: Mapping[str, Sequence[int]]) -> None:
    if images.ndim != 4 or str(images.dtype) != "uint8" or not len(images):
        raise Fault(f"The picture grid needs images (K, C, H, W) of uint8, K >= 1; given {images.shape} of {images.dtype}")
    for name, rows in {"truth": truth, **predictions}.items():
        if len(rows) != len(images):
            raise Fault(f"The picture grid has {len(images)} images but {len(rows)} classes for '{name}'")


def pixels(picture: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, 3) or (H, W), uint8"""
    return picture.transpose(1, 2, 0) if len(picture) == 3 else picture.mean(axis=0).astype("uint8")


def class_name(label: int, classes: Sequence[str]) -> str:
    return str(classes[label]) if 0 <= label < len(classes) else str(label)


def shorten(words: str, longest: int) -> str:
    words = " ".join(words.split())
    return words if len(words) <= longest else words[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def new_figure(left: float, bottom: float, width: float, height: float) -> tuple[Any, Any]:
    """A figure around axes of so many inches. Without pyplot: no global state, no window, no backend of the user's machine."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    whole = (left + width + 0.2, bottom + height + 0.35)
    figure = Figure(figsize=whole, dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.add_axes((left / whole[0], bottom / whole[1], width / whole[0], height / whole[1]))


def png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
