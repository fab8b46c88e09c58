"""Your own pictures: a folder with one folder per class, or `train/` and `test/` of that kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.data.decode import GREY, Decoder
from kdx.data.layout import Listing, lay_out, parts_of
from kdx.data.raw import Description, Raw, check_path, per_class
from kdx.faults import Fault


class Folder:
    """Pictures of any size and format that Pillow reads, as `image_size` squares: the short side resized, then the centre cropped.

    root: holds one folder for each class (pictures may lie deeper inside it), or `train/` and `test/` that do. `train/` alone, or no
    such folders: no test part. unlabelled_root: None, or a folder of pictures without classes, nested as you like; it may lie inside
    root. Hidden files are ignored. The pictures have one channel if every one of them is grey, else three; transparency is dropped.
    on_error: "stop" makes a picture that does not decode a Fault that names it; "skip" leaves it out and lists it in `Raw.skipped`.
    """

    def __init__(self, *, root: str, unlabelled_root: str | None, image_size: int, on_error: str):
        self._root = check_path("root", root)
        self._unlabelled = None if unlabelled_root is None else check_path("unlabelled_root", unlabelled_root)
        self._decoder = Decoder(image_size=image_size, on_error=on_error)

    def files(self) -> list[Path]:
        self.fetch()
        return [folder for folder in (*parts_of(self._root), self._unlabelled) if folder is not None]

    def fetch(self) -> None:
        for key, folder in (("root", self._root), ("unlabelled_root", self._unlabelled)):
            if folder is not None and not folder.is_dir():
                raise Fault(f"dataset=folder looked for a folder of pictures in '{folder}', and there is none: set dataset.{key}=PATH")

    def describe(self) -> Description:
        """Reads the header of every picture, and decodes none."""
        classes, parts, grey, _ = self._scan(workers=0)
        train, test, pool = parts
        shape = (1 if grey else 3, self._decoder.size, self._decoder.size)
        counts = per_class(np.array(train.labels, np.int64), len(classes))
        return Description(
            shape,
            classes,
            len(train.paths),
            counts,
            len(test.paths) if test else None,
            len(pool.paths) if pool else 0,
            test_size_is_a_fallback=True,
        )

    def load(self, *, workers: int = 0) -> Raw:
        """workers: threads that decode, 0 for none; the result is the same for any number."""
        classes, (train, test, pool), grey, unread = self._scan(workers)
        skipped = list(unread)

        def decode(part: Listing) -> tuple[np.ndarray, np.ndarray]:
            images, good = self._decoder.decode(part.paths, grey, workers)
            skipped.extend(str(path) for path, fine in zip(part.paths, good, strict=True) if not fine)
            return images, np.array(part.labels, np.int64)[good]

        images, labels = decode(train)
        self._none_empty(classes, labels)
        test_images, test_labels = decode(test) if test else (None, None)
        pool_images = decode(pool)[0] if pool else None
        return Raw(images, labels, classes, test_images, test_labels, pool_images, tuple(skipped))

    def _scan(self, workers: int) -> tuple[tuple[str, ...], tuple[Listing, Listing | None, Listing | None], bool, tuple[str, ...]]:
        """Classes; the train, test and unlabelled parts less the pictures that cannot be opened; whether all are grey; those left out."""
        self.fetch()
        laid = lay_out(self._root, self._unlabelled)
        kept, modes, unread = [], set(), []
        for part in (laid.train, laid.test, laid.pool):
            if part is None:
                kept.append(None)
                continue
            headers = self._decoder.headers(part.paths, workers)
            unread += [str(path) for path, header in zip(part.paths, headers, strict=True) if header is None]
            modes |= {header.mode for header in headers if header}
            good = [i for i, header in enumerate(headers) if header]
            kept.append(Listing(tuple(part.paths[i] for i in good), tuple(part.labels[i] for i in good)))
        self._none_empty(laid.classes, np.array(kept[0].labels, np.int64))
        return laid.classes, tuple(kept), modes <= set(GREY), tuple(unread)

    def _none_empty(self, classes: tuple[str, ...], labels: np.ndarray) -> None:
        for name, rows in zip(classes, per_class(labels, len(classes)), strict=True):
            if rows == 0:
                raise Fault(f"no picture of the class '{name}' in '{self._root}' decodes")
