"""Pictures of more than eight bits: their values read whole, and which of them become black and white."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core import checks

EIGHT, SIGNED, SIXTEEN, THIRTY_TWO, FLOAT = "8-bit", "signed 8-bit", "16-bit", "32-bit", "float"
BITS, PHOTOMETRIC, CHANNELS, PLANAR, EXTRA, FORMAT = 258, 262, 277, 284, 338, 339
"""Tags of a TIFF."""
_NUMBERS = {1: "whole", 2: "signed whole", 3: "float", 5: "complex whole", 6: "complex float"}
"""Its FORMAT in words."""
_WIDE = re.compile(r"(LA|RGB|RGBX|RGBA|RGBa);16([BLN])")
"""How a file keeps several channels of sixteen bits, in Pillow's words. Pillow itself hands over the upper
eight bits of them.
"""
WHOLE_OR_FLOAT = re.compile(r"([IF];\d+)B(S?F?)")
"""How a big-endian TIFF keeps its numbers; libtiff, which undoes a compression, has turned them round
already, and Pillow does not know but of some.
"""
UNSIGNED = ("I;32", "I;32N", "I;32B")
LUMINANCE = np.array([19595, 38470, 7471], np.float32) / np.float32(65536)
"""Of red, green and blue, which is exact in float32; their sum is 1."""


@dataclass(frozen=True)
class Span:
    """low becomes black and high white. found: the least and the largest value seen; None where nothing was
    looked at.
    """

    low: float
    high: float
    found: tuple[float, float] | None = None


def check_range(value: Any) -> tuple[float, float] | None:
    """dataset.range as (black, white); None: found in the pictures."""
    if value is None:
        return None
    ends = list(value) if isinstance(value, list | tuple) else [0, value]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e30 for v in ends)
    if len(ends) != 2 or not numbers or not ends[0] < ends[1]:
        checks.refuse(
            "dataset.range must be [low,high] with low < high, a number above 0 (black is 0 then), or null; "
            f"given: {checks.shown(value)}"
        )
        return None
    return float(ends[0]), float(ends[1])


def raw_mode(picture: Any) -> str:
    """How the file keeps its pixels, of an opened picture; "" where Pillow does not say."""
    args = picture.tile[0][3] if picture.tile else ""
    args = args[0] if isinstance(args, tuple) and args else args
    return args if isinstance(args, str) else ""


def depth_of(picture: Any) -> str:
    """Of an opened picture, by its header."""
    if picture.mode == "F":
        return FLOAT
    if picture.mode == "I":
        return THIRTY_TWO
    if picture.format == "TIFF" and picture.mode == "L" and picture.tag_v2.get(FORMAT) == (2,):
        return SIGNED
    return (
        SIXTEEN
        if picture.mode.startswith("I;16") or _WIDE.fullmatch(raw_mode(picture)) or _apart(picture)
        else EIGHT
    )


def unread(picture: Any) -> tuple[str, str] | None:
    """(what an opened picture is that Pillow reads wrongly, without a word; as which it could be saved
    instead); None where it reads it well.
    """
    if picture.format != "TIFF" or picture.tag_v2.get(PLANAR) != 2:
        return None
    channels = picture.tag_v2.get(CHANNELS, 1)
    deep = max(picture.tag_v2.get(BITS, (1,))) > 8
    if channels == 2 or (channels > 1 and deep and (picture.mode == "CMYK" or not _apart(picture))):
        return (
            f"it holds its {channels} channels one after the other (planar)",
            "one with the channels of each pixel together",
        )
    return None


def white_first(picture: Any) -> bool:
    """Whether a file of more than eight bits says that its least value is white. Pillow turns round those of
    eight bits, and no others.
    """
    return picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == 0 and picture.mode[0] in "IF"


def read_deep(path: Path) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """(H, W, C) numbers as the file has them, C 1 or 3; (H, W) float32 opacity in [0, 1], None where all is
    opaque; and whether the least is white.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        mode, key, depth, apart, turned = (
            picture.mode,
            picture.info.get("transparency"),
            depth_of(picture),
            _apart(picture),
            white_first(picture),
        )
        associated = picture.format == "TIFF" and 1 in picture.tag_v2.get(EXTRA, ())
        if picture.format == "TIFF" and picture.tile and picture.tile[0][0] == "libtiff":
            picture.tile = [
                tile._replace(args=(WHOLE_OR_FLOAT.sub(r"\1N\2", tile.args[0]), *tile.args[1:]))
                for tile in picture.tile
            ]
        raw = raw_mode(picture)
        wide = _WIDE.fullmatch(raw)
        if not wide and not apart:
            values = np.asarray(ImageOps.exif_transpose(picture))
            if mode == "I" and raw in UNSIGNED and picture.format == "TIFF":
                values = values.view(np.uint32)  # Pillow has no such mode
            elif depth == SIGNED:
                values = values.view(np.int8)  # nor such
            values = values[..., None]
    if apart:
        values = np.stack([_read_plane(path, layer) for layer in range(len(mode))], -1)
    elif wide:
        values = _wide(path, mode, *wide.groups())
    opaque = None
    if key is not None:
        opaque = (values != np.asarray(key)).any(-1).astype(np.float32)
    elif values.shape[-1] in (2, 4):
        opaque, values = values[..., -1].astype(np.float32) / 65535, values[..., :-1]
        if associated:  # the file holds each colour times its opacity
            values = (
                np.where(
                    opaque[..., None] > 0,
                    np.minimum(values / np.maximum(opaque, 1 / 65535)[..., None], 65535),
                    0,
                )
                .round()
                .astype(np.uint16)
            )
    return values, opaque, turned


def foreign(path: Path) -> tuple[str, str] | None:
    """(the kind of numbers in a TIFF that Pillow does not open, as which they could be saved instead); None
    where they are not the reason.
    """
    from PIL import TiffImagePlugin as tiff

    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head[:4] not in tiff.PREFIXES:
                return None
            tags = tiff.ImageFileDirectory_v2(head if 42 in head[2:4] else head + file.read(8))
            file.seek(tags.next)
            tags.load(file)
            bits, kinds, channels = tags.get(BITS, (1,)), tags.get(FORMAT, (1,)), tags.get(CHANNELS, 1)
            bits = bits * channels if len(bits) == 1 else bits
            if any(
                known[0] == head[:2] and known[2] == kinds[:1] and known[4] == bits
                for known in tiff.OPEN_INFO
            ):
                return None
            order, parts = (
                "big-endian " if head[:2] == b"MM" else "",
                f" in {channels} channels" if channels > 1 else "",
            )
            what = f"{order}{max(bits)}-bit {_NUMBERS[kinds[0]]} numbers{parts}"
    except Exception:  # a damaged file: Pillow raises many kinds
        return None
    return what, "32-bit float" if channels == 1 else "whole numbers of 8 or 16 bits"


def _wide(path: Path, mode: str, channels: str, order: str) -> np.ndarray:
    """(H, W, channels) uint16, read twice, with the bytes once in the order that they have and once in the
    other: Pillow keeps one of each two.
    """
    if channels == "LA":  # there is no other order for these, but four bytes a pixel are what RGBA has
        return np.ascontiguousarray(_read_as(path, "RGBA", "RGBA")).view(">u2")
    channels = channels.upper()  # of colours times their opacity Pillow would divide one byte alone
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    upper, lower = (
        _read_as(path, mode, f"{channels};16{order}"),
        _read_as(path, mode, f"{channels};16{'B' if little else 'L'}"),
    )
    return upper.astype(np.uint16) << 8 | lower


def _read_as(path: Path, mode: str, raw: str) -> np.ndarray:
    """(H, W, C) uint8"""
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        picture._mode = mode
        picture.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
            for tile in picture.tile
        ]
        return np.asarray(ImageOps.exif_transpose(picture))


def _apart(picture: Any) -> bool:
    """Whether a file has its channels of sixteen bits one after the other, and not compressed, where Pillow
    would take each byte for a number.
    """
    return (
        picture.format == "TIFF"
        and picture.tag_v2.get(PLANAR) == 2
        and len(picture.tile) > 1
        and len(raw_mode(picture)) == 1
        and max(picture.tag_v2.get(BITS, (1,))) == 16
    )


def _read_plane(path: Path, layer: int) -> np.ndarray:
    """(H, W) uint16 of one channel of such a file"""
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        mode, each = (
            ("I;16B" if picture.tag_v2.prefix == b"MM" else "I;16"),
            len(picture.tile) // picture.tag_v2[CHANNELS],
        )
        picture._mode = mode
        picture.tile = [
            tile._replace(args=(mode, *tile.args[1:]))
            for tile in picture.tile[layer * each : (layer + 1) * each]
        ]
        return np.asarray(ImageOps.exif_transpose(picture)).astype(np.uint16)


def bounds(values: np.ndarray) -> tuple[float, float] | None:
    """The least and the largest of those that are numbers."""
    numbers = values if np.isfinite(values).all() else values[np.isfinite(values)]
    return (float(numbers.min()), float(numbers.max())) if numbers.size else None


def span_of(depth: str, seen: Iterable[tuple[float, float] | None]) -> Span:
    """From the bounds of some pictures of one depth.

    Whole numbers: from 0 to the largest that as many bits hold as the largest one found needs, so that one
    bright pixel more or less does not move it (4012 -> 4095). Numbers with a fraction: [0, 1] where all lie
    in it, else to the largest found. Below zero: from the least found.
    """
    known = [found for found in seen if found]
    if not known:
        return Span(0.0, 1.0)
    least, most = min(low for low, _ in known), max(high for _, high in known)
    low = min(least, 0.0)
    if low < 0:
        high = most if most > low else 0.0
    elif depth == FLOAT:
        high = max(most, 1.0)
    else:
        high = float(2 ** max(1, int(most).bit_length()) - 1)
    return Span(low, high, (least, most))


def scaled(values: np.ndarray, span: Span, turned: bool = False) -> tuple[np.ndarray, bool, bool]:
    """(float32 in [0, 255] with low at 0 and high at 255, or where `turned` the other way, whether some lay
    beyond, whether some are no numbers, which become black)"""
    found = bounds(values)
    beyond = found is not None and (found[0] < span.low or found[1] > span.high)
    numbers = np.isfinite(values)
    odd = not numbers.all()
    if odd:
        values = np.where(numbers, values, np.float32(span.high if turned else span.low))
    with np.errstate(over="ignore"):
        made = np.clip(
            (values.astype(np.float32) - np.float32(span.low)) * np.float32(255 / (span.high - span.low)),
            0,
            255,
        )
    return 255 - made if turned else made, beyond, odd


def luminance(values: np.ndarray) -> np.ndarray:
    """(H, W, C) float32, C 1 or 3 -> (H, W, 1), the grey of red, green and blue by the weights of ITU-R 601,
    as Pillow has them for eight bits: .299, .587 and .114 in 65,536ths. What has one channel stays as it is.
    """
    return values @ LUMINANCE[:, None] if values.shape[-1] == 3 else values
