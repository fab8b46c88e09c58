"""What the pictures of a report are drawn with: PIL alone, as a run whose stages all come from the store
would otherwise spend most of its time in a plotting library.

A figure is measured in units. One of `WIDE` by `TALL` fills an image card of TensorBoard, where a unit is 0.7
pixels, and report.html shows a unit as a pixel: so no text is smaller than `TEXT_SIZE`.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

WRONG, RIGHT = "#c0271d", "#333333"
UNCHECKED = "#8793a1"
"""Of bars whose labels nobody can check."""
FAINT = "#e4e4e4"
WIDE, TALL = 480, 316
PIXELS = 2
"""Pixels of a picture to a unit: what a screen of high density shows of it."""
TEXT_SIZE, TITLE_SIZE = 14, 16
_SMOOTH = 2
"""Drawn so many times as large, as PIL's lines have no smooth edges of their own."""
_LINE = 20
"""Units from a line of text to the next."""
Spot = tuple[float, float]


class Legend(NamedTuple):
    """A short line, or a dot, and what it means."""

    words: str
    colour: str
    width: float = 3
    dot: bool = False


class Canvas:
    """A white picture that is drawn on in units.

    title: in one or two lines at its top; keys: below that, as many in a row as fit. `top` is where the room
    below them begins.
    """

    def __init__(self, width: float, height: float, title: str = "", keys: Sequence[Legend] = ()):
        from PIL import Image, ImageDraw

        self.width, self.height = width, height
        self._scale = PIXELS * _SMOOTH
        self.large = Image.new("RGB", (round(width * self._scale), round(height * self._scale)), "white")
        self._draw = ImageDraw.Draw(self.large)
        self.top = 6.0
        for line in title_lines(title, width - 12):
            self.text((width / 2, self.top + _LINE / 2), line, size=TITLE_SIZE, colour="black")
            self.top += _LINE
        self._keys(keys)

    def _keys(self, keys: Sequence[Legend]) -> None:
        for row in key_rows(keys, self.width):
            place, middle = (self.width - sum(map(key_width, row))) / 2, self.top + _LINE / 2
            for key in row:
                if key.dot:
                    self.circle((place + 12, middle), 5, key.colour)
                else:
                    self.line([(place + 2, middle), (place + 22, middle)], key.colour, key.width)
                self.text((place + 28, middle), key.words, anchor="lm")
                place += key_width(key)
            self.top += _LINE

    def _at(self, spot: Spot) -> Spot:
        return spot[0] * self._scale, spot[1] * self._scale

    def text(
        self,
        spot: Spot,
        words: str,
        *,
        anchor: str = "mm",
        colour: str = RIGHT,
        size: float = TEXT_SIZE,
        bold: bool = False,
    ) -> None:
        """anchor: as PIL's, by default the words' middle."""
        self._draw.text(
            self._at(spot), words, fill=colour, font=font(round(size * self._scale), bold), anchor=anchor
        )

    def upright(self, spot: Spot, words: str) -> None:
        """Words to be read from below, which end at `spot`."""
        from PIL import Image, ImageDraw

        letters = font(TEXT_SIZE * self._scale)
        box = (max(round(letters.getlength(words)), 1), round(1.3 * TEXT_SIZE * self._scale))
        label = Image.new("L", box, 0)
        ImageDraw.Draw(label).text((0, box[1] / 2), words, fill=255, font=letters, anchor="lm")
        label = label.rotate(90, expand=True)
        x, y = self._at(spot)
        self.large.paste(RIGHT, (round(x - label.width / 2), round(y)), label)

    def line(self, points: Sequence[Spot], colour: str, width: float = 3) -> None:
        if not points:
            return
        spots = [self._at(point) for point in points]
        self._draw.line(spots, fill=colour, width=round(width * self._scale), joint="curve")

    def circle(self, spot: Spot, radius: float, colour: str) -> None:
        self._draw.circle(self._at(spot), radius * self._scale, fill=colour)

    def bar(self, one: Spot, other: Spot, colour: Any, outline: str | None = None, width: float = 1) -> None:
        """A rectangle between two of its corners, whichever; its outline within it. colour: None: empty."""
        (left, top), (right, bottom) = self._at(one), self._at(other)
        box = (min(left, right), min(top, bottom), max(left, right) - 1, max(top, bottom) - 1)
        if box[2] >= box[0] and box[3] >= box[1]:
            self._draw.rectangle(box, fill=colour, outline=outline, width=round(width * self._scale))

    def paste(self, picture: Any, spot: Spot) -> None:
        """picture: of the size that `pixels_of` tells."""
        self.large.paste(picture, tuple(round(side) for side in self._at(spot)))

    def pixels_of(self, units: float) -> int:
        return round(units * self._scale)

    def png(self) -> bytes:
        return png(self.large.reduce(_SMOOTH))


class Axes(Canvas):
    """The frame of a chart.

    x_ticks, y_ticks: see `ticks`. below: what x is. x_words: what stands at its ticks, else their numbers;
    what would touch another is left out.
    """

    def __init__(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        title: str,
        below: str,
        keys: Sequence[Legend] = (),
        x_words: Sequence[str] | None = None,
    ):
        super().__init__(WIDE, TALL, title, keys)
        self.x, self.y = x_ticks, y_ticks
        high = [f"{y:,.6g}" for y in y_ticks]
        left = 14 + max(map(text_width, high))
        across = list(x_words or [f"{x:,.6g}" for x in x_ticks])
        self.box = (left, self.top + 10, WIDE - 8 - text_width(across[-1]) / 2, TALL - 50)
        """Left, top, right and bottom of the frame."""
        for x in x_ticks:
            self.line([self.spot(x, y_ticks[0]), self.spot(x, y_ticks[-1])], FAINT, 1)
        apart = (self.box[2] - left) / max(len(x_ticks) - 1, 1)
        for i, words in spaced_labels(across, apart):
            self.text((self.spot(x_ticks[i], 0)[0], TALL - 36), words)
        for y, words in zip(y_ticks, high, strict=True):
            self.line([self.spot(x_ticks[0], y), self.spot(x_ticks[-1], y)], FAINT, 1)
            self.text((left - 6, self.spot(0, y)[1]), words, anchor="rm")
        self.text(((left + self.box[2]) / 2, TALL - 14), cut_to(below, WIDE - 20), colour="black")

    def spot(self, x: float, y: float) -> Spot:
        """Where a point lies, in units."""
        left, top, right, bottom = self.box
        across = (x - self.x[0]) / ((self.x[-1] - self.x[0]) or 1)  # one place alone stands at the left
        up = (y - self.y[0]) / ((self.y[-1] - self.y[0]) or 1)
        return left + across * (right - left), bottom - up * (bottom - top)

    def curve(self, points: Sequence[Spot], colour: str, width: float = 3) -> None:
        self.line([self.spot(*point) for point in points], colour, width)

    def dots(self, points: Sequence[Spot], colour: str, radius: float = 3) -> None:
        for point in points:
            self.circle(self.spot(*point), radius, colour)

    def block(self, one: Spot, other: Spot, colour: str) -> None:
        """A rectangle between two points of the chart."""
        self.bar(self.spot(*one), self.spot(*other), colour)


def ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers, evenly apart, from at most `low` to at least `high`."""
    spread = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if spread / (unit * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(first, max(last, first + 1) + 1)]


def text_width(words: str, size: float = TEXT_SIZE, bold: bool = False) -> float:
    """In units."""
    return float(font(round(size * PIXELS * _SMOOTH), bold).getlength(words)) / (PIXELS * _SMOOTH)


def key_width(key: Legend) -> float:
    return 44 + text_width(key.words)


def key_rows(keys: Sequence[Legend], width: float) -> list[list[Legend]]:
    """As many in a row as fit."""
    rows: list[list[Legend]] = []
    for key in keys:
        if rows and sum(map(key_width, [*rows[-1], key])) <= width:
            rows[-1].append(key)
        else:
            rows.append([key])
    return rows


def title_lines(title: str, width: float) -> list[str]:
    """A title in one or two lines, the second cut where it must be."""
    if not title or text_width(title, TITLE_SIZE) <= width:
        return [title] if title else []
    words = title.split()
    count = max(
        (i for i in range(1, len(words)) if text_width(" ".join(words[:i]), TITLE_SIZE) <= width), default=0
    )
    lines = [" ".join(words[:count]), " ".join(words[count:])] if count else [title]
    return [cut_to(line, width, TITLE_SIZE) for line in lines]


def cut_to(words: str, width: float, size: float = TEXT_SIZE, end: bool = False, bold: bool = False) -> str:
    """Words, cut to what fits into so many units. end: see `shorten`."""
    words = shorten(words, max(len(words), 1), end)
    while len(words) > 1 and text_width(words, size, bold) > width:
        words = shorten(words, len(words) - 1, end)
    return words


def spaced_labels(labels: Sequence[str], width: float) -> list[tuple[int, str]]:
    """Every label, or every second or third one and so on, so that none touches the next: (its place, it);
    they are so far apart, in units.
    """
    most = max(map(text_width, labels), default=0.0) + 8
    step = max(1, math.ceil(most / width))
    return list(enumerate(labels))[::step]


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
        return "\N{HORIZONTAL ELLIPSIS}" + words[len(words) + 1 - longest :]
    return words if len(words) <= longest else words[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()


def pasted_together(parts: Sequence[bytes]) -> bytes:
    """PNGs as one, three in a row and four two by two, each part in a place of one size."""
    from PIL import Image

    if len(parts) == 1:
        return parts[0]
    pictures = [Image.open(io.BytesIO(part)) for part in parts]
    wide, tall = max(p.width for p in pictures), max(p.height for p in pictures)
    columns = 2 if len(pictures) in (2, 4) else 3
    whole = Image.new("RGB", (wide * columns, tall * -(-len(pictures) // columns)), "white")
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        whole.paste(picture, (column * wide + (wide - picture.width) // 2, row * tall))
    return png(whole)
