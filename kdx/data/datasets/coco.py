"""Your own pictures with boxes, in the form of COCO: folders of pictures, and a JSON file for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core import checks, snapshot
from kdx.core.errors import UserError
from kdx.data.files import Files, names_apart
from kdx.data.loading import check_path
from kdx.data.phrases import counted
from kdx.data.pictures.boxed import BoxedPictures, Located, describe_boxed, padded
from kdx.data.pictures.coco import CocoFile, CocoPicture, read_coco
from kdx.data.pictures.decode import Decoder
from kdx.data.pictures.header import Header, are_grey, turn_of
from kdx.data.pictures.walk import PICTURES, file_ending
from kdx.data.raw import Description, Note
from kdx.data.stored import InMemory, Writers

_FITS = ("pad", "squeeze")


@dataclass(frozen=True)
class _Part:
    """Pictures of a part that can be opened, their paths, and their headers; file: the annotations, None of
    pictures without boxes; unread: why others cannot."""

    pictures: tuple[CocoPicture, ...]
    paths: tuple[Path, ...]
    headers: tuple[Header, ...]
    file: CocoFile | None
    unread: Mapping[str, str]


class Coco:
    """Pictures as `image_size` squares, with their boxes as these lie in the square.

    root: the folder that all others, and the annotations, are named from. annotations, pictures: the JSON
    file and the folder of the part to train with; test_annotations, test_pictures: of the test part, null:
    none; unlabelled_pictures: null, or a folder of pictures without boxes, for the pool. Files in a folder
    that no annotation names are not read. fit: pad or squeeze, see kdx.data.pictures.square; crop would cut.
    on_error: "stop" makes a picture or a box that cannot be what it should be a UserError; "skip" leaves it
    out, cuts boxes off at the border of their picture, and counts both. Groups (iscrowd) are left out.
    stride, levels, sure: see kdx.data.pictures.boxed.Located.
    """

    paths = ("root",)
    streams = True

    def __init__(
        self,
        *,
        root: str,
        annotations: str,
        pictures: str,
        test_annotations: str | None,
        test_pictures: str | None,
        unlabelled_pictures: str | None,
        image_size: int,
        fit: str,
        background: Any,
        max_pixels: int,
        on_error: str,
        stride: int,
        levels: int,
        sure: float,
    ):
        self._root = check_path("root", root)
        self._parts: dict[str, tuple[str | None, str]] = {"train": (annotations, pictures)}
        if (test_annotations is None) != (test_pictures is None):
            raise UserError(
                "dataset.test_annotations and dataset.test_pictures go together: give both, or neither"
            )
        if test_pictures is not None:
            self._parts["test"] = test_annotations, test_pictures
        if unlabelled_pictures is not None:
            self._parts["unlabelled"] = None, unlabelled_pictures
        checks.choice("dataset.fit", fit, _FITS)
        self._decoder = Decoder(
            image_size=image_size,
            fit=fit,
            background=background,
            range=None,
            max_pixels=max_pixels,
            on_error=on_error,
        )
        self._skip = on_error == "skip"
        self._located = Located(stride, levels, sure)

    def files(self) -> Files:
        found: dict[str, list[tuple[str, Path]]] = {}
        for part, (listed, _) in self._parts.items():
            scan = self._scan(part)
            if listed is not None:
                found[f"{part} annotations"] = [("annotations.json", self._root / listed)]
            found[part] = list(zip([one.file for one in scan.pictures], scan.paths, strict=True))
        return Files(found)

    def fetch(self) -> None:
        for part, (listed, pictures) in self._parts.items():
            before = "" if part == "train" else f"{part}_"
            named = [("pictures", pictures, Path.is_dir, "a folder of pictures")]
            if listed is not None:
                named.append(("annotations", listed, Path.is_file, "a file of annotations"))
            for key, name, there, what in named:
                if not there(self._root / name):
                    raise UserError(
                        f"dataset=coco looked for {what} in '{self._root / name}', and there is none: set "
                        f"dataset.root=PATH and dataset.{before}{key}=NAME below it"
                    )

    def describe(self) -> Description:
        """Reads the annotations and the header of every picture, and decodes none."""
        scans = {part: self._scan(part) for part in self._parts}
        grey = are_grey([header for scan in scans.values() for header in scan.headers])
        rows = {part: len(scan.paths) for part, scan in scans.items()}
        return describe_boxed(self._task(scans), 1 if grey else 3, rows)

    def load(self, *, workers: int = 0, write: Writers = InMemory) -> BoxedPictures:
        """workers: threads that decode, 0 for none; the result is the same for any number."""
        scans = {part: self._scan(part) for part in self._parts}
        reading = self._decoder.reading(
            [header for scan in scans.values() for header in scan.headers], workers
        )
        most = max([1, *(len(one.boxes) for scan in scans.values() for one in scan.pictures)])
        parts, names, skipped, called = {}, {}, dict[str, str](), self._called(scans)
        for part, scan in scans.items():
            writer = write(part, len(scan.paths), self._decoder.shape(reading), np.uint8)
            made = self._decoder.decode(scan.paths, reading, workers, writer)
            skipped |= {called[part][name]: why for name, why in scan.unread.items()}
            kept = [one for one, fine in zip(scan.pictures, made.good, strict=True) if fine]
            files = {path: one.file for path, one in zip(scan.paths, scan.pictures, strict=True)}
            skipped |= {called[part][files[path]]: why for path, why in made.skipped.items()}
            truth = padded([self._in_square(one) for one in kept], most) if scan.file else None
            parts[part], names[part] = (made.images, truth), [called[part][one.file] for one in kept]
        found = {part: scan.file for part, scan in scans.items() if scan.file}
        return BoxedPictures(
            parts,
            self._task(scans),
            notes=tuple(_notes(found)),
            skipped=skipped,
            names=names,
            found={
                key: sum(count(file) for file in found.values())
                for key, count in (
                    ("crowds", lambda file: file.crowds),
                    ("clipped", lambda file: file.clipped),
                    ("lost", lambda file: len(file.lost)),
                )
            },
        )

    def _called(self, scans: Mapping[str, _Part]) -> dict[str, dict[str, str]]:
        """part -> file -> what the picture is called: with its folder, where others have that name too."""
        files = {part: [*(one.file for one in scan.pictures), *scan.unread] for part, scan in scans.items()}
        names = names_apart(files, {part: pictures for part, (_, pictures) in self._parts.items()})
        return {part: dict(zip(files[part], names[part], strict=True)) for part in files}

    def _task(self, scans: Mapping[str, _Part]) -> dict[str, Any]:
        files = {part: scan.file for part, scan in scans.items() if scan.file}
        names = {part: file.names for part, file in files.items()}
        if len(set(names.values())) > 1:
            raise UserError(
                "the annotations to train and to test with have other categories: "
                f"{', '.join(names['train'])}; and {', '.join(names['test'])}: give both the same"
            )
        size = self._decoder.square.size
        return self._located.task(names["train"], (size, size), files["train"].ids)

    def _scan(self, part: str) -> _Part:
        """A command finds it out once."""
        self.fetch()
        key = ("coco", str(self._root), part, self._parts[part], self._decoder.refuses)
        return snapshot.once(key, lambda: self._scanned(part))

    def _scanned(self, part: str) -> _Part:
        named, pictures = self._parts[part]
        folder = self._root / pictures
        file = None if named is None else read_coco(self._root / named, self._skip)
        listed = file.pictures if file else _without_boxes(folder)
        if not listed:
            raise UserError(f"'{self._root / (named or pictures)}' names no picture")
        there = [one for one in listed if (folder / one.file).is_file()]
        missing = {one.file for one in listed} - {one.file for one in there}
        unread = dict.fromkeys(sorted(missing), "there is no such file")
        if unread and not self._skip:
            first = next(iter(unread))
            raise UserError(
                f"the picture '{folder / first}', which the annotations name, is not there: set "
                "dataset.pictures=FOLDER, or dataset.on_error=skip, which leaves such out and counts them"
            )
        headers = self._decoder.headers([folder / one.file for one in there], 0)
        kept = []
        for one, header in zip(there, headers, strict=True):
            why = header if isinstance(header, str) else _differs(one, header) if file else ""
            if why and not self._skip:
                raise UserError(
                    f"the picture '{folder / one.file}' {why}; mend it, or set dataset.on_error=skip, which "
                    "leaves such out and counts them"
                )
            if why:
                unread[one.file] = why
            else:
                kept.append((one, folder / one.file, header))
        if not kept:
            raise UserError(f"not one picture in '{folder}' can be read: {next(iter(unread.values()))}")
        opened, paths, fine = zip(*kept, strict=True)
        return _Part(opened, paths, fine, file, unread)

    def _in_square(self, picture: CocoPicture) -> tuple[np.ndarray, np.ndarray]:
        """Its boxes as they lie in the square, and their classes. As kdx.data.pictures.square makes it."""
        size, sides = self._decoder.square.size, np.array([picture.width, picture.height])
        inner = np.array(self._decoder.square.inner((picture.width, picture.height)))
        boxes = np.array([box for box, _ in picture.boxes], np.float64).reshape(-1, 2, 2)
        placed = boxes * (inner / sides) + (size - inner) // 2
        kinds = np.array([kind for _, kind in picture.boxes], np.int64)
        return placed.reshape(-1, 4).astype(np.float32), kinds


def _without_boxes(folder: Path) -> list[CocoPicture]:
    names = sorted(path.name for path in folder.iterdir() if file_ending(path.name) in PICTURES)
    return [CocoPicture(name, 0, 0) for name in names]


def _differs(picture: CocoPicture, header: Header) -> str:
    """Why boxes would not lie where the annotations say; empty where they do."""
    wide, high = header.size
    if (wide, high) != (picture.width, picture.height):
        return f"has {wide}x{high} pixels, and its annotations say {picture.width}x{picture.height}"
    if turn_of(header.path) != 1:
        return "is turned by its EXIF data, and its boxes are not: save it as it is shown"
    return ""


def _notes(files: Mapping[str, CocoFile]) -> list[Note]:
    found: list[Note] = []
    for part, file in files.items():
        if file.crowds:
            found.append(
                (f"{part}: {counted(file.crowds, 'annotation')} of whole groups (iscrowd) left out", "info")
            )
        if file.clipped:
            found.append((f"{part}: {_boxes(file.clipped)} cut off at the border of the picture", "warning"))
        if file.lost:
            name, why = next(iter(file.lost.items()))
            found.append(
                (f"{part}: {_boxes(len(file.lost))} left out; the first is {name}: {why}", "warning")
            )
    return found


def _boxes(number: int) -> str:
    return f"{number:,} box{'' if number == 1 else 'es'}"
