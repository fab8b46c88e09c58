"""What the header of a picture tells, and what a file is that is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.core import shortage
from kdx.data.pictures import deep

GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")

HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
OTHERS = (
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer and not the picture itself",
        "fetch it with `git lfs pull`, ",
    ),
    (b"<svg", "it is a drawing (SVG) and holds no pixels", "save it as PNG, "),
    (b"<!doctype svg", "it is a drawing (SVG) and holds no pixels", "save it as PNG, "),
    (b"<!doctype", "it is a web page, an error page say", "download it again, "),
    (b"<html", "it is a web page, an error page say", "download it again, "),
    (b"%pdf", "it is a PDF", "save its pages as PNG, "),
    (b"\x93numpy", "it is an array of numpy", "save it as PNG or TIFF, "),
    (b"pk\x03\x04", "it is a zip archive", "unpack it, "),
    (b"\x1f\x8b\x08", "it is compressed (gzip)", "unpack it, "),
)
"""First bytes, in small letters, of what lies among pictures and is none that Pillow reads; what it is; what
its owner may do.
"""


_TURNED = 0x0112
"""The EXIF tag of how a picture is to be turned."""
_LYING = (5, 6, 7, 8)
"""Its values by which width and height change places."""


class TooLarge(Exception):
    """More pixels than `max_pixels`."""


class Unknown(Exception):
    """No kind of picture that Pillow knows. instead: what its owner may do, "" for nothing in particular."""

    def __init__(self, why: str, instead: str = ""):
        super().__init__(why)
        self.instead = instead


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a picture tells. grey: whether it has no colour; depth: as kdx.data.pictures.deep
    names it; size: width and height as stored; frames: whether there are several, of which the first is read;
    transparent: whether it tells what is, which may be nothing."""

    path: Path
    grey: bool
    depth: str
    size: tuple[int, int]
    frames: bool
    transparent: bool

    @property
    def is_long(self) -> bool:
        """Whether more than half of it lies beyond its middle square."""
        return min(self.size) * 2 < max(self.size)


def turn_of(path: Path) -> int:
    """How a picture is to be turned before it is shown, as EXIF numbers it; 1: not at all."""
    from PIL import Image

    with Image.open(path) as opened:
        return int(opened.getexif().get(_TURNED, 1))


def shown_size(header: Header) -> tuple[int, int]:
    """Width and height of a picture as it is shown."""
    wide, high = header.size
    return (high, wide) if turn_of(header.path) in _LYING else (wide, high)


def are_grey(headers: Sequence[Header]) -> bool:
    """Whether every picture is, so that one channel is enough."""
    return all(header.grey for header in headers)


def decode_error(error: Exception, path: Path) -> Exception:
    """What a picture's owner should know. Too little memory is raised: the picture is well, and must not be
    skipped.
    """
    from PIL import Image, UnidentifiedImageError

    if shortage.kind_of_shortage(error):
        raise error
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return TooLarge()
    if not isinstance(error, UnidentifiedImageError):
        return error
    if path.stat().st_size == 0:
        return Unknown("it is empty")
    if numbers := deep.foreign(path):
        return Unknown(f"it holds {numbers[0]}, which Pillow does not read", f"save it as {numbers[1]}, ")
    return Unknown(*_strange(path))


def _strange(path: Path) -> tuple[str, str]:
    """What a file is that Pillow does not open, by its first bytes, and what its owner may do."""
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<?xml") and b"<svg" in text:
        text = text[text.index(b"<svg") :]
    if head[4:8] == b"ftyp" and head[8:12] in HEIC:
        return (
            "it is a HEIC picture, as telephones take them, and Pillow does not read these",
            "save it as JPEG or PNG, ",
        )
    if head[128:132] == b"DICM":
        return "it is a DICOM file, which Pillow does not read", "save it as PNG or TIFF, "
    known = next((how for first, *how in OTHERS if text.startswith(first)), None)
    return (known[0], known[1]) if known else ("it is no picture of a kind that Pillow knows", "")


def read_header(path: Path) -> Header | Exception:
    """Or why the picture cannot be opened."""
    from PIL import Image

    try:
        if not path.is_file():
            gone = path.is_symlink() and not path.exists()
            raise OSError(
                "it is a link to a file that is not there (of git-annex or DVC, say, and not fetched)"
                if gone
                else "it is no file"
            )
        with Image.open(path) as picture:
            if other := deep.unread(picture):
                return Unknown(f"{other[0]}, which Pillow does not read", f"save it as {other[1]}, ")
            grey = picture.mode in GREY or deep.raw_mode(picture).startswith("LA;16")
            # MPO: a photograph and its preview
            frames = picture.format != "MPO" and bool(getattr(picture, "is_animated", False))
            return Header(
                path, grey, deep.depth_of(picture), picture.size, frames, picture.has_transparency_data
            )
    except Exception as error:  # Pillow raises many kinds for a damaged file
        return decode_error(error, path)
