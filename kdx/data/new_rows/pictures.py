"""New pictures, cut and scaled as those were that a network learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdx.core.errors import UserError
from kdx.data.new_rows.rows import FILE_COLUMN, NewRows, RowBlock, check_there, path_in
from kdx.data.phrases import are, few
from kdx.data.pictures import deep
from kdx.data.pictures.decode import in_words, limited
from kdx.data.pictures.header import Header, TooLarge, Unknown, decode_error, read_header, shown_size
from kdx.data.pictures.square import Square
from kdx.data.pictures.walk import Walk, readable

if TYPE_CHECKING:
    from kdx.core.warp import Warp

_FIT, _BACKGROUND, _MOST = "crop", "white", 89_478_485
"""How pictures are read where nobody says it: of a network that learned from no files, or an older export."""


class NewPictures(NewRows):
    """Every picture in a folder, nested as it may be, or one file.

    shape: (C, H, W) of what the network reads. how: fit, background, range ({depth: [black, white]}) and
    max_pixels of the data set, each as there. workers: threads that decode. boxed: whether answers lie at
    places of the pictures, so that blocks tell where these lie in the files.
    """

    noun = "picture"

    def __init__(
        self,
        place: Path,
        shape: tuple[int, ...],
        how: Mapping[str, Any],
        workers: int,
        *,
        boxed: bool = False,
    ):
        check_there(place)
        self._boxed = boxed
        self._reader = PictureReader(shape, how, workers, place, unsaid="pad" if boxed else _FIT)
        if not place.is_dir() and isinstance(why := read_header(place), Unknown):
            raise UserError(
                f"this network reads pictures, and '{readable(place)}' is none: {why}; {why.instead}name a "
                "picture or a folder of them"
            )
        self._folder, self._walk = place, Walk(None)
        self._paths = self._walk.pictures(place) if place.is_dir() else [place]
        if not self._paths:
            left = "".join(f"; {note}" for note in self._walk.reported())
            raise UserError(f"'{readable(place)}' holds no picture{left}")
        self.count, self.unread = len(self._paths), []

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for start in range(0, len(self._paths), size):
            names, images, headers = [], [], []
            paths = self._paths[start : start + size]
            for path, found in zip(paths, self._reader.decoded(paths), strict=True):
                name = path_in(path, self._folder)
                if isinstance(found, str):
                    self.unread.append((name, found))
                else:
                    names.append(name)
                    images.append(found[0])
                    headers.append(found[1])
            if images:
                warp = self._reader.warp(headers) if self._boxed else None
                yield RowBlock({FILE_COLUMN: names}, np.stack(images), warp=warp)

    def notes(self) -> list[str]:
        return [*self._walk.reported(), *self._reader.notes(self.count - len(self.unread))]


class PictureReader:
    """Makes of files what a network reads, and counts what there is to say of them. shape, how, workers: see
    NewPictures; folder: where the files are seen from in sentences; unsaid: the fit where `how` has none.
    Raises UserError of shapes that files do not give."""

    def __init__(
        self,
        shape: tuple[int, ...],
        how: Mapping[str, Any],
        workers: int,
        folder: Path,
        *,
        unsaid: str = _FIT,
    ):
        if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
            raise UserError(
                f"this network reads pictures of {'x'.join(map(str, shape))}, and files give squares of one "
                "channel or three: name a split of its own data, data=test say"
            )
        self._grey, self._workers, self._unsaid = shape[0] == 1, workers, unsaid
        self._square = Square(
            image_size=shape[1],
            fit=how.get("fit", self._unsaid),
            background=how.get("background", _BACKGROUND),
        )
        self._spans = {d: deep.Span(*map(float, ends)) for d, ends in (how.get("range") or {}).items()}
        self._most = int(how.get("max_pixels", _MOST))
        self._from_arrays = "fit" not in how
        self._folder = folder
        self._coloured = self._beyond = self._odd = 0
        self._long: list[str] = []

    def decoded(self, paths: Sequence[Path]) -> list[tuple[np.ndarray, Header] | str]:
        """Of each its (C, H, W) uint8 and its header, or why it cannot be read."""
        return [self._why(found) if isinstance(found, Exception) else found for found in self._decoded(paths)]

    def read(self, paths: Sequence[Path]) -> list[np.ndarray | str]:
        """The same without the headers."""
        return [found if isinstance(found, str) else found[0] for found in self.decoded(paths)]

    def warp(self, headers: Sequence[Header]) -> Warp:
        """Where what the squares show lies in the files."""
        from kdx.data.pictures.places import warp_to_files

        return warp_to_files([shown_size(header) for header in headers], self._square)

    def notes(self, read: int) -> list[str]:
        """read: how many were read."""
        found: list[str] = []
        if self._from_arrays:
            found.append(
                "nobody tells how the pictures were cut that the network learned from (they were no files, "
                f"or this is an older export): these were cut to {self._square.size}x{self._square.size} as "
                f"by dataset.fit={self._unsaid} dataset.background={_BACKGROUND}"
            )
        if self._coloured:
            found.append(
                f"{are(self._coloured, f'of {read:,} pictures')} coloured and read as grey, as the network "
                "learned from grey ones"
            )
        if self._beyond:
            found.append(
                f"{are(self._beyond, f'of {read:,} pictures')} darker or brighter in part than black and "
                "white of those that the network learned from, and cut off there"
            )
        if self._odd:
            found.append(f"{self._odd:,} of {read:,} pictures hold values that are no numbers, read as black")
        if self._long:
            found.append(
                f"cropping throws away more than half of each of {len(self._long):,} of {read:,} pictures, "
                f"more than twice as long as wide ({few(self._long)}): of a network that learned with "
                "dataset.fit=pad or dataset.fit=squeeze all of them is seen"
            )
        return found

    def _decoded(self, paths: Sequence[Path]) -> list[tuple[np.ndarray, Header] | Exception]:
        threads = ThreadPoolExecutor(self._workers) if self._workers > 0 else nullcontext()
        with limited(self._most), threads as pool:
            made = list(pool.map(self._one, paths) if pool else map(self._one, paths))
        return [
            (self._counted(path, *found), found[1]) if isinstance(found, tuple) else found
            for path, found in zip(paths, made, strict=True)
        ]

    def _counted(self, path: Path, image: np.ndarray, header: Header, beyond: bool, odd: bool) -> np.ndarray:
        if self._square.fit == "crop" and header.is_long:
            self._long.append(path_in(path, self._folder) if path.is_relative_to(self._folder) else str(path))
        coloured = not header.grey
        self._coloured += coloured and self._grey
        self._beyond += beyond
        self._odd += odd
        return image

    def _one(self, path: Path) -> tuple[np.ndarray, Header, bool, bool] | Exception:
        """(the square, its header, whether it has values beyond black and white, and such that are no
        numbers), or why it cannot be read. Called inside `limited`."""
        header = read_header(path)
        if isinstance(header, Exception):
            return header
        try:
            if header.depth == deep.EIGHT:
                return self._square.of_bytes(path, self._grey), header, False, False
            if header.depth not in self._spans:
                return Unknown(
                    f"it is a {header.depth} picture, and the network learned from none, so that nobody "
                    "knows what is black and white in it"
                )
            found = self._square.of_values(path, self._grey, self._spans[header.depth])
            return found[0], header, found[1], found[2]
        except Exception as error:  # Pillow raises many kinds for a damaged file
            return decode_error(error, path)

    def _why(self, error: Exception) -> str:
        if isinstance(error, TooLarge):
            return f"it has more pixels than the {self._most:,} that are read"
        return in_words(error)
