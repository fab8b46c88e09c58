"""What the user should know of their pictures, in sentences: how they were read, and what can hardly be seen
in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.data.phrases import RARE, are, counted, few
from kdx.data.pictures.decode import Decoded, Decoder, Reading
from kdx.data.pictures.deep import Span
from kdx.data.pictures.square import Square
from kdx.data.raw import Note

FLAT = 8
"""A picture whose brightest and darkest value are fewer levels apart, of 256, is called almost constant."""
_BLOCK = 4096


def of_files(
    decoder: Decoder, reading: Reading, decoded: Sequence[Decoded], name: Callable[[Path], str]
) -> Iterator[Note]:
    """How picture files were read. name: what a picture is called."""
    yield from _depths(reading, decoder.range is not None)
    for key, what in (
        (
            "beyond",
            "values beyond that, which become black or white: dataset.range=[LOW,HIGH] sets other ends",
        ),
        ("odd", "values that are no numbers (NaN or infinite), which become black"),
    ):
        paths = [path for part in decoded for path in getattr(part, key)]
        if paths:
            yield (
                f"{counted(len(paths), 'picture')} with {what} ({few([name(path) for path in paths])})",
                "warning",
            )
    frames = [name(header.path) for header in reading.headers if header.frames]
    if frames:
        yield (
            (
                f"{counted(len(frames), 'picture')} of several frames, of which the "
                f"first is read ({few(frames)})"
            ),
            "info",
        )
    long = [name(header.path) for header in reading.headers if header.is_long]
    if long and decoder.square.fit == "crop":
        level = "warning" if len(long) >= RARE * len(reading.headers) else "info"
        yield (
            f"cropping throws away more than half of each of {len(long):,} of {len(reading.headers):,} "
            f"pictures, more than twice as long as wide ({few(long)}): dataset.fit=pad or "
            "dataset.fit=squeeze keeps all of them",
            level,
        )


def _depths(reading: Reading, given: bool) -> Iterator[Note]:
    """given: whether dataset.range is."""
    depths = Counter(header.depth for header in reading.headers)
    for depth, span in reading.spans.items():
        how = "as dataset.range has it" if given else "dataset.range=[LOW,HIGH] sets other ends"
        yield (
            (
                f"{counted(depths[depth], f'{depth} picture')}{_values(span)}: {span.low:.9g} to "
                f"{span.high:.9g} becomes black to white ({how})"
            ),
            "info",
        )
    if len(depths) > 1:
        parts = ", ".join(f"{number:,} {depth}" for depth, number in sorted(depths.items()))
        yield (
            f"pictures of several depths ({parts}), each with a black and a white of its own: a class or a "
            "split with a depth of its own can be known by that alone",
            "warning",
        )
    if given and not reading.spans:
        yield (
            "dataset.range is for pictures of more than eight bits, and there are none: it has no effect",
            "warning",
        )


def _values(span: Span) -> str:
    if span.found is None:
        return ""
    least, most = span.found
    return (
        f" with values up to {most:.9g}" if span.low == 0 else f" with values from {least:.9g} to {most:.9g}"
    )


def findings_report(reading: Reading, square: Square, notes: Sequence[Note]) -> dict[str, Any]:
    """How many pictures there are of each depth, of those beyond eight bits what becomes black and white,
    what was warned of; and, where they are seen, how pictures that are no squares become such, and the
    background, red, green and blue."""
    oblong = any(header.size[0] != header.size[1] for header in reading.headers)
    shown = any(header.transparent for header in reading.headers) or (oblong and square.fit == "pad")
    return {
        **({"fit": square.fit} if oblong else {}),
        **({"background": list(square.background)} if shown else {}),
        "depths": dict(sorted(Counter(header.depth for header in reading.headers).items())),
        "range": {depth: [span.low, span.high] for depth, span in reading.spans.items()},
        "warnings": [text for text, level in notes if level == "warning"],
    }


def constant_pictures(
    parts: Mapping[str, np.ndarray], name: Callable[[str, int], str], transparent: Collection[str] = ()
) -> tuple[list[Note], dict[str, int]]:
    """(notes, {"constant": pictures of one value, "almost": others of less than FLAT levels}). parts: (N, C,
    H, W) uint8 each, by name.

    transparent: names of pictures behind which the background may show.
    """
    constant, almost = [], []
    for part, images in parts.items():
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK].reshape(
                len(images[start : start + _BLOCK]), images.shape[1], -1
            )
            # of the channel that varies most: a red square is as constant as a grey one
            apart = (block.max(2).astype(np.int64) - block.min(2)).max(1)
            constant += [(part, start + int(i)) for i in np.flatnonzero(apart == 0)]
            almost += [(part, start + int(i)) for i in np.flatnonzero((apart > 0) & (apart < FLAT))]
    whole = sum(len(images) for images in parts.values())
    notes = [
        (
            f"{are(len(rows), f'of {whole:,} pictures')} {what} ({few([name(*row) for row in rows])}): "
            f"there is {nothing} to learn from in "
            f"{'it' if len(rows) == 1 else 'them'}{_behind(rows, name, transparent)}",
            "warning",
        )
        for rows, what, nothing in (
            (constant, "constant, one colour all over", "nothing but that colour"),
            (
                almost,
                f"almost constant, darkest and brightest less than {FLAT} of 256 levels apart",
                "hardly anything",
            ),
        )
        if rows
    ]
    return notes, {"constant": len(constant), "almost": len(almost)}


def _behind(
    rows: Sequence[tuple[str, int]], name: Callable[[str, int], str], transparent: Collection[str]
) -> str:
    """White drawings on transparent ground, say, which are gone on white."""
    number = sum(name(*row) in transparent for row in rows) if transparent else 0
    return (
        number
        and (
            f"; {are(number, f'of {len(rows):,}')} transparent in part, and dataset.background, which shows "
            "there, may have the colour of what is drawn: try another, dataset.background=black, say"
        )
        or ""
    )


def floored(std: Sequence[float], floor: float) -> Iterator[Note]:
    """Where the pictures of a data set differ so little that their deviation was raised to `floor`. std: of
    each channel, in units of [0, 1].
    """
    low = [str(channel) for channel, value in enumerate(std) if value <= floor]
    if low:
        some = (
            f"channel {low[0]} of the pictures, all taken together, is"
            if len(low) == 1
            else (f"channels {' and '.join(low)} of the pictures, all taken together, are")
        )
        which = "the pictures, all taken together, are" if len(low) == len(std) else some
        yield (
            (
                f"{which} almost constant: a standard deviation below {floor:g} of the way from black to "
                f"white was taken as {floor:g}"
            ),
            "warning",
        )
