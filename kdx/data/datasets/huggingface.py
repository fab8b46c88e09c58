"""A folder that the library `datasets` of Hugging Face wrote with `save_to_disk`: pictures, or texts, with
one class each. An extra: `pip install kdx[datasets]`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError, nearest
from kdx.data.datasets.text import check_column
from kdx.data.loading import check_path, per_class
from kdx.data.pictures.given import GivenPart, GivenPictures, named_classes
from kdx.data.pictures.rows import Pictures
from kdx.data.pictures.square import Square
from kdx.data.raw import Description
from kdx.data.stored import InMemory, Writers
from kdx.data.text.rows import Part, Texts, describe_texts
from kdx.data.text.settings import token_settings

_PARTS = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation"}
_PARTS |= {"test": "test", **dict.fromkeys(("unlabelled", "unlabeled", "unsupervised"), "unlabelled")}
"""What such data sets call their splits -> the part."""
NO_CLASS = -1
"""The class of a row whose class nobody knows, as such folders have it."""


class _Saved:
    """What both kinds share: the folder, its splits, and the column of classes. A row to train with whose
    class is NO_CLASS joins the pool.
    """

    def __init__(self, root: str, column: tuple[str, str | None], label: str | None):
        """column: its key, and its name where it was given."""
        self._root = check_path("root", root)
        self._key, self._column = column[0], check_column(*column)
        self._label = check_column("label", label)

    def files(self) -> list[Path]:
        return [self._root]

    def fetch(self) -> None:
        if not any((self._root / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
            raise UserError(
                f"dataset.root='{self._root}' is no folder that save_to_disk of datasets wrote (it holds "
                "neither dataset_dict.json nor dataset_info.json): write one in Python by "
                "load_dataset(NAME).save_to_disk(FOLDER)"
            )
        try:
            import datasets  # noqa: F401
        except ImportError as error:
            raise UserError(
                "dataset=huggingface needs the package datasets, which is not installed: "
                "pip install 'kdx[datasets]'"
            ) from error

    def splits(self, kind: str, suits: Any) -> tuple[dict[str, Any], str, str, Sequence[str] | None]:
        """(part -> a Dataset, the column that is read, that of the classes, their names). suits: whether a
        column's type is that of the rows; kind: in words, "pictures". Raises UserError.
        """
        self.fetch()
        import datasets

        datasets.disable_progress_bars()
        found = datasets.load_from_disk(str(self._root))
        splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
        parts = {_PARTS[name.lower()]: rows for name, rows in splits.items() if name.lower() in _PARTS}
        if "train" not in parts:
            raise UserError(f"'{self._root}' has the splits {', '.join(splits)}, and none is called train")
        columns = parts["train"].features
        column = self._found(self._key, self._column, {n: t for n, t in columns.items() if suits(t)}, kind)
        classed = {n: t for n, t in columns.items() if isinstance(t, datasets.ClassLabel)}
        whole = {n: t for n, t in columns.items() if str(getattr(t, "dtype", "")).startswith("int")}
        label = self._found("label", self._label, classed or whole, "classes", among=columns)
        unknown = np.array([found == NO_CLASS for found in parts["train"][label][:]], bool)
        if unknown.any():
            pool = [parts["unlabelled"]] if "unlabelled" in parts else []
            pool.append(parts["train"].select(np.flatnonzero(unknown)))
            parts["unlabelled"] = datasets.concatenate_datasets([of.select_columns([column]) for of in pool])
            parts["train"] = parts["train"].select(np.flatnonzero(~unknown))
        return parts, column, label, getattr(columns[label], "names", None)

    def _found(
        self, key: str, given: str | None, fitting: Mapping[str, Any], kind: str, among: Any = None
    ) -> str:
        names = list(fitting)
        if given is not None:
            if given not in (among or fitting):
                raise UserError(
                    f"dataset.{key}={given} is no column of {kind} in '{self._root}'"
                    f"{nearest(given, among or fitting)}"
                )
            return given
        if len(names) != 1:
            which = ", ".join(names) if names else "none"
            raise UserError(
                f"'{self._root}' has {len(names)} columns of {kind} ({which}): name one with dataset.{key}="
            )
        return names[0]


def _is_picture(kind: Any) -> bool:
    return type(kind).__name__ == "Image"


def _is_text(kind: Any) -> bool:
    return getattr(kind, "dtype", "") in ("string", "large_string")


def _labels(rows: Any, column: str, what: str) -> np.ndarray:
    """(N,) int64. Raises UserError where a row has none, or its column is no whole number."""
    found = rows[column][:]
    for row, label in enumerate(found):
        if label == NO_CLASS:
            raise UserError(
                f"{what}, row {row}, has the class {NO_CLASS}, which means that nobody knows it: only rows "
                "to train with may have it (leave such a split out before save_to_disk)"
            )
        if isinstance(label, bool) or not isinstance(label, int) or label < 0:
            raise UserError(
                f"{what}, row {row}, has {label!r:.40} in the column '{column}': a class is a whole number "
                "from 0 (cast the column to ClassLabel before save_to_disk)"
            )
    return np.array(found, np.int64)


class HuggingFacePictures(_Saved):
    """root: the folder; image, label: columns, None: the one of pictures, and the one of classes. Splits are
    parts by their names: train, validation, test, unsupervised. image_size, fit, background: see
    kdx.data.pictures.square.
    """

    streams = True

    def __init__(
        self,
        *,
        root: str,
        image: str | None,
        label: str | None,
        image_size: int,
        fit: str,
        background: Any,
    ):
        super().__init__(root, ("image", image), label)
        self._square = Square(image_size=image_size, fit=fit, background=background)

    def describe(self) -> Description:
        return self._given().describe()

    def load(self, *, workers: int = 0, write: Writers = InMemory) -> Pictures:
        return self._given().load(write)

    def _given(self) -> GivenPictures:
        parts, column, label, names = self.splits("pictures", _is_picture)
        given = {
            part: GivenPart(
                _Column(rows, column, f"the {part} part of '{self._root}'"),
                None if part == "unlabelled" else _labels(rows, label, f"the {part} part of '{self._root}'"),
            )
            for part, rows in parts.items()
        }
        labels = {part: found.labels for part, found in given.items() if found.labels is not None}
        who = f"'{self._root}'"
        return GivenPictures(given, named_classes(names, labels, who), self._square, who)


class _Column:
    """The pictures of one column, by number. Only bytes that lie in the folder are read: a row that names a
    file or an address in their place is refused, as the folder may be somebody else's.
    """

    def __init__(self, rows: Any, column: str, where: str):
        from datasets import Image

        self._rows = rows.select_columns([column]).cast_column(column, Image(decode=False))
        self._column, self._where = column, where

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Any:
        from PIL import Image, ImageOps

        found = (self._rows[row][self._column] or {}).get("bytes")
        if not found:
            raise UserError(f"{self._where}, row {row}, holds no picture in the column '{self._column}'")
        try:
            picture = Image.open(io.BytesIO(found))
            picture.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"{self._where}, row {row}: the picture does not decode: {error}") from error
        return ImageOps.exif_transpose(picture)


class HuggingFaceTexts(_Saved):
    """root: the folder; text, label: columns, None: the one of texts, and the one of classes. tokens ...
    tokenizer: see kdx.data.text.tokens.Tokens.
    """

    paths = ("root", "tokenizer")

    def __init__(
        self,
        *,
        root: str,
        text: str | None,
        label: str | None,
        tokens: str,
        vocabulary: int,
        min_frequency: int,
        lower: bool,
        length: int,
        tokenizer: str | None,
    ):
        super().__init__(root, ("text", text), label)
        self._tokens = token_settings(tokens, vocabulary, min_frequency, lower, length, tokenizer)

    def files(self) -> list[Path]:
        return [self._root, *([self._tokens.file] if self._tokens.file else [])]

    def fetch(self) -> None:
        super().fetch()
        self._tokens.check_file()

    def describe(self) -> Description:
        parts, classes = self._parts()
        rows = {part: len(found.labels) for part, found in parts.items()}
        counts = per_class(parts["train"].labels, len(classes))
        return describe_texts(self._tokens, classes, rows, counts)

    def load(self, *, workers: int = 0) -> Texts:
        parts, classes = self._parts()
        return Texts.of(parts.items(), classes, self._tokens)

    def _parts(self) -> tuple[dict[str, Part], tuple[str, ...]]:
        found, column, label, names = self.splits("texts", _is_text)
        parts, labels = {}, {}
        for part, rows in found.items():
            texts = [(text or "").strip() for text in rows[column][:]]
            called = [f"row {row} of {part}" for row in range(len(texts))]
            if part == "unlabelled":
                numbers = np.full(len(texts), -1, np.int64)
            else:
                numbers = labels[part] = _labels(rows, label, f"the {part} part of '{self._root}'")
            parts[part] = Part(texts, numbers, called)
        return parts, named_classes(names, labels, f"'{self._root}'")
