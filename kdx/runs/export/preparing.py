"""How a new row is made ready for an exported network, for card.json and card.md. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kdx.report.run.markup import code, escape, markdown_table

_FITS = {
    "crop": "the short side is resized to that (bilinear) and the other by the same factor, rounded as "
    "Python's `round()` does, and the centre is cut out, from half the rest on, rounded down",
    "pad": "the long side is resized to that (bilinear) and the other by the same factor, rounded as "
    "Python's `round()` does; it lies in the middle, from half the rest on, rounded down, and the rest is "
    "background",
    "squeeze": "both sides are resized to that (bilinear)",
}
_SHOWN = 40
"""Columns of a table, and categories of one, that card.md lists; model.json has all."""


def preparation(model: Mapping[str, Any], how: Mapping[str, Any]) -> dict[str, Any]:
    """What card.json says of it. model: as kind_of_old gives it; how: the `preprocessing` of its model.json,
    from which this is taken, so that the two cannot differ.
    """
    reads = model["reads"]
    if reads == "pictures":
        spans = {"black_to_white": how["range"]} if how.get("range") else {}
        told = {key: how[key] for key in ("fit", "background", "sound") if key in how}
        return {"reads": reads, **told, **spans}
    adapter = model.get("adapter") or {}
    if reads == "table":
        return {"reads": reads, "columns": adapter.get("columns"), "clip": adapter.get("clip")}
    if reads in ("texts", "tokens"):
        return {"reads": reads, "tokenizer": "tokenizer.json", "length": model["example"][""][0][0]}
    return {"reads": reads}


def preparing(card: Mapping[str, Any]) -> list[str]:
    """The section of card.md; of older cards, and of rows that only the user knows, none."""
    about = card.get("prepare") or {}
    lines = {"pictures": _picture, "table": _table, "texts": _text, "tokens": _tokens}.get(about.get("reads"))
    return ["## How a new row is prepared", *lines(card, about)] if lines else []


def _picture(card: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    channels, height, width = card["input"]["shape"]
    if isinstance(sound := about.get("sound"), Mapping):
        return [_numbered(_sound(sound, height, width))]
    lines = []
    if "fit" in about:
        lines.append(
            f"of a JPEG call PIL's `draft(None, ({2 * width}, {2 * height}))` before it is decoded: a large "
            "one is decoded at a half, a quarter or an eighth"
        )
        lines.append("turn it as its EXIF says")
    if "background" in about:
        lines.append(f"lay it on {code(json.dumps(about['background']))} where it is transparent")
    lines.append(f"make it {'grey, PIL mode L' if channels == 1 else 'red, green, blue, PIL mode RGB'}")
    fit = _FITS.get(str(about.get("fit")))
    size = f"{width}x{height} pixels"
    lines.append(f"make it {size}: {fit}" if fit else f"it must have {size}, made as the data set makes them")
    last = "divide bytes by 255; no mean, no deviation: the network has them built in"
    return [_numbered([*lines, last]), *_deep(about, channels, fit or "as the data set does", size, last)]


def _sound(how: Mapping[str, Any], height: int, width: int) -> list[str]:
    """As kdx.data.sound.mel.LogMel makes a picture of a sound."""
    return [
        "average the channels, and make samples floats in [-1, 1]",
        f"bring it to {how['rate']} samples a second (scipy.signal.resample_poly), {how['seconds']} seconds "
        "from its begin, silence behind a shorter one",
        f"frames of {how['window']} seconds under a Hann window, one every {how['hop']} seconds: the squared "
        "magnitude of the Fourier transform, divided by the squared sum of the window, times 4",
        f"{height} bands, triangles of height 1 evenly spaced in 2595 log10(1 + f / 700) from 0 to half the "
        f"rate, the highest first, by {width} frames",
        "10 log10, cut off at -80 and 0, which become 0 and 1",
    ]


def _deep(about: Mapping[str, Any], channels: int, fit: str, size: str, last: str) -> list[str]:
    """The same of pictures of more than eight bits, whose values become bytes last, not first (`of_values` in
    kdx/data/pictures/square.py)."""
    spans = {
        depth: ends
        for depth, ends in (about.get("black_to_white") or {}).items()
        if isinstance(ends, list | tuple) and len(ends) == 2
    }
    if not spans:
        return []
    ends = "; ".join(
        f"of {escape(depth)} pictures {code(low)} is black (0) and {code(high)} white (255)"
        for depth, (low, high) in spans.items()
    )
    lines = ["turn it as its EXIF says, and take its values as they are, all bits of them"]
    lines.append(
        f"make them float32 from 0 to 255: {ends}; what lies beyond is cut off, what is no number is black, "
        "and where the file says that its least value is white, black and white change places"
    )
    if channels == 1:
        lines.append(
            "a picture of red, green and blue becomes grey: (19595 red + 38470 green + 7471 blue) / 65536, "
            "in float32"
        )
    if "background" in about:
        lines.append(f"lay each channel on {code(json.dumps(about['background']))} where it is transparent")
    if channels == 3:
        lines.append("a picture of one channel has it three times: red, green, blue")
    lines.append(f"make each channel {size}, in float32 (PIL mode F): {fit}")
    lines += ["round to whole numbers (bytes)", last]
    return ["A picture of more than eight bits a channel is made ready in another order:", _numbered(lines)]


def _table(card: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    columns: Sequence[Mapping[str, Any]] = about.get("columns") or ()
    rows = []
    for place, column in enumerate(columns[:_SHOWN]):
        rows.append([str(place), escape(str(column.get("name"))), _holds(columns, column)])
    more = f" The first {_SHOWN} of {len(columns)}; card.json has all." if len(columns) > _SHOWN else ""
    clip = f", cut off at {about['clip']:g} deviations" if about.get("clip") else ""
    missing = (
        " A value that is missing is NaN: what stands in its place in training is built in too, of a number "
        "the mean, of a category that of missing ones, or none where training lacked none."
        if about.get("clip")
        else ""
    )
    words = (
        "A row is float32 numbers in this order, as the table holds them. Standardising (mean and deviation "
        f"of the rows to train with{clip}) and the places of categories are built in.{missing}{more}"
    )
    return [words, markdown_table(["place", "column", "what stands there"], rows)] if rows else [words]


def _holds(columns: Sequence[Mapping[str, Any]], column: Mapping[str, Any]) -> str:
    if column.get("categories") is not None:
        names = list(column["categories"])
        listed = ", ".join(f"{escape(str(name))} {i}" for i, name in enumerate(names[:_SHOWN]))
        return f"the number of its category: {listed}" + (" ..." if len(names) > _SHOWN else "")
    if column.get("flag"):
        return "1 where that number is missing, else 0; of NaN there the network sets it itself"
    if "missing" in column:
        return f"the number, NaN where it is missing (or 0, then place {column['missing']} is 1)"
    return "the number, NaN where it is missing"


def _text(card: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    return [
        _numbered(
            [
                f"{code(about['tokenizer'])} beside this card makes whole numbers of a text (the library "
                "tokenizers: `Tokenizer.from_file`)",
                f"{about['length']} of them: it cuts longer texts, and fills up shorter ones with 0",
                "the spaces around a text were left out in training",
            ]
        )
    ]


def _tokens(card: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    return [
        _numbered(
            [
                f"{code(about['tokenizer'])} beside this card makes whole numbers of a text (the library "
                "tokenizers: `Tokenizer.from_file`)",
                f"up to {about['length']} of them are a row, and the answer at each place is of the token "
                "that follows",
            ]
        )
    ]


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
