"""What the pictures of a report are drawn with: PIL alone, as a run whose stages all come from the store
would otherwise spend most of its time in a plotting library.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WRONG, RIGHT = "#c0271d", "#333333"
UNCHECKED = "#8793a1"
"""Of bars whose labels nobody can check."""


WIDE = 720
"""Pixels of a chart that stands alone."""
_BETWEEN = 20
"""Pixels between two entries of a key."""


class Axes:
    """The frame of a chart, drawn twice as large and halved at the end: PIL's lines have no smooth edges of
    their own.

    x_ticks, y_ticks: see `ticks`. below: what x is. wide: pixels; a chart that stands beside others is
    narrower, its letters are not.
    """

    def __init__(
        self, x_ticks: Sequence[float], y_ticks: Sequence[float], title: str, below: str, wide: int = WIDE
    ):
        from PIL import Image, ImageDraw

        self.x, self.y = x_ticks, y_ticks
        # pixels of the picture; left, top, right and bottom of the frame
        self.SIZE, self.BOX = (wide, 390), (70, 70, wide - 30, 330)
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
        across = (x - self.x[0]) / ((self.x[-1] - self.x[0]) or 1)  # one place alone stands at the left
        up = (y - self.y[0]) / ((self.y[-1] - self.y[0]) or 1)
        return 2 * (left + across * (right - left)), 2 * (bottom - up * (bottom - top))

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int = 5) -> None:
        self.draw.line([self.spot(*point) for point in points], fill=colour, width=width, joint="curve")

    def points(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        for point in points:
            self.draw.circle(self.spot(*point), 5, fill=colour)

    def key(self, place: float, words: str, colour: str, width: int = 6, dot: bool = False) -> None:
        """A short line, or a dot, and what it means, above the frame. place: in pixels of the picture, from
        the left.
        """
        left = 2 * (self.BOX[0] + place)
        if dot:
            self.draw.circle((left + 22, 2 * 50), 10, fill=colour)
        else:
            self.draw.line((left, 2 * 50, left + 44, 2 * 50), fill=colour, width=width)
        self.draw.text((left + 56, 2 * 50), words, fill=RIGHT, font=font(24), anchor="lm")

    def keys(self, entries: Sequence[tuple[str, str, int]], dots: Sequence[str] = ()) -> None:
        """(words, colour, width of the line) one after the other, each as wide as its words. dots: words of
        those that are dots."""
        place = 0.0
        for words, colour, width in entries:
            self.key(place, words, colour, width, words in dots)
            place += self.room([words])

    def room(self, entries: Sequence[str]) -> float:
        """Pixels that `keys` takes for these words."""
        return sum(28 + font(24).getlength(words) / 2 + _BETWEEN for words in entries)

    def fits(self, entries: Sequence[str]) -> bool:
        return self.room(entries) - _BETWEEN <= self.SIZE[0] - self.BOX[0]

    def png(self) -> bytes:
        from PIL import Image

        return png(self.large.resize(self.SIZE, Image.Resampling.BOX))


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


def shorten(words: str, longest: int, end: bool = False) -> str:
    """end: keep the end, which of the place of a file tells most."""
    words = " ".join(words.split())
    if end and len(words) > longest:
        return "\N{HORIZONTAL ELLIPSIS}" + words[1 - longest :]
    return words if len(words) <= longest else words[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()


def pasted_together(parts: Sequence[bytes], columns: int = 3) -> bytes:
    """PNGs as one, in rows of so many, each part in a place of one size."""
    from PIL import Image

    if len(parts) == 1:
        return parts[0]
    pictures = [Image.open(io.BytesIO(part)) for part in parts]
    wide, tall = max(p.width for p in pictures), max(p.height for p in pictures)
    columns = min(columns, len(pictures))
    whole = Image.new("RGB", (wide * columns, tall * -(-len(pictures) // columns)), "white")
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        whole.paste(picture, (column * wide + (wide - picture.width) // 2, row * tall))
    return png(whole)
