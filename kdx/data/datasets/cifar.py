"""CIFAR-10 and CIFAR-100, in the python or the binary form that their authors publish."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdx.core import checks, shortage
from kdx.core.errors import UserError, type_name
from kdx.data.loading import (
    NOT_TRIED,
    check_flag,
    check_labels,
    check_path,
    damaged,
    download,
    need,
    per_class,
    read_file,
)
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.raw import Description

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Form:
    """One form of the set on disk: its folder, its files, and what reads a file as (rows (N, 3072) uint8,
    labels (N,)).
    """

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    read: Callable[[Path], tuple[np.ndarray, np.ndarray]]
    read_names: Callable[[Path], list[str]]


class Cifar:
    """Colour pictures of 32x32: 50,000 to train with and 10,000 to test.

    variant: 10 or 100 (its fine classes). root: the folder that holds `cifar-10-batches-py` (or `-bin`;
    `cifar-100-python` or `-binary`), as torchvision leaves it, or that folder itself.
    """

    def __init__(self, *, variant: int, root: str, download: bool):
        if isinstance(variant, bool) or variant not in (10, 100):
            raise UserError(f"dataset.variant must be 10 or 100; given {checks.shown(variant)}")
        self._variant = variant
        self._root = check_path("root", root)
        self._download = check_flag("download", download)

    def files(self) -> list[Path]:
        form, folder = self._where()
        return [folder / name for name in (*form.train, form.test, form.names)]

    def fetch(self) -> None:
        why = NOT_TRIED
        if self._download and not self._complete():
            import torchvision

            kind = {10: torchvision.datasets.CIFAR10, 100: torchvision.datasets.CIFAR100}[self._variant]
            why = download(self._root, lambda: kind(str(self._root), download=True), self._complete)
        need(self.files(), f"CIFAR-{self._variant}", self._root, why)

    def describe(self) -> Description:
        self.fetch()
        form, folder = self._where()
        labels = np.concatenate([self._read(form, folder / name)[1] for name in form.train])
        test = len(self._read(form, folder / form.test)[1])
        return describe(
            (3, 32, 32), self._names(), len(labels), per_class(labels, self._variant), test=test, pool=0
        )

    def load(self, *, workers: int = 0) -> Pictures:
        self.fetch()
        form, folder = self._where()
        parts = [self._read(form, folder / name) for name in form.train]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        test_images, test_labels = self._read(form, folder / form.test)
        return Pictures(
            images.reshape(-1, 3, 32, 32),
            labels,
            self._names(),
            test_images.reshape(-1, 3, 32, 32),
            test_labels,
        )

    def _where(self) -> tuple[_Form, Path]:
        """The form on disk and its folder; where there is none, the python form in its usual place."""
        forms = _FORMS[self._variant]
        for form in forms:
            for folder in (self._root / form.folder, self._root):
                if (folder / form.test).is_file() and (folder / form.names).is_file():
                    return form, folder
        for (
            form
        ) in forms:  # not complete, but it shows which form the user has, so that the right file is named
            if (self._root / form.folder).is_dir():
                return form, self._root / form.folder
        return forms[0], self._root / forms[0].folder

    def _complete(self) -> bool:
        return all(path.is_file() for path in self.files())

    def _read(self, form: _Form, path: Path) -> tuple[np.ndarray, np.ndarray]:
        rows, labels = form.read(path)
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != _PIXELS or len(rows) != len(labels):
            raise damaged(
                path,
                f"it holds {rows.dtype} of shape {rows.shape} and {len(labels)} labels "
                f"instead of (N, {_PIXELS}) bytes",
            )
        return rows, check_labels(path, labels, self._variant)

    def _names(self) -> tuple[str, ...]:
        form, folder = self._where()
        names = [str(name) for name in form.read_names(folder / form.names)]
        if len(names) != self._variant:
            raise damaged(folder / form.names, f"it names {len(names)} classes, not {self._variant}")
        return tuple(names)


class _Plain(pickle.Unpickler):
    """Reads numpy arrays, text, numbers, lists and dicts, and refuses to import anything else: a pickle is a
    program.
    """

    def find_class(self, module: str, name: str) -> object:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0, np.uint8).__reduce__()[0]
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return _from_buffer
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return _to_bytes
        raise pickle.UnpicklingError(f"it asks for '{module}.{name}', which no CIFAR file needs")


def _from_buffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _to_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding '{encoding}'")
    return text.encode("latin1")


def _unpickle(path: Path) -> dict[str, object]:
    try:
        content = _Plain(io.BytesIO(read_file(path)), encoding="latin1").load()
    except UserError:
        raise
    except Exception as error:  # bytes that are not a pickle fail in any way at all
        if shortage.kind_of_shortage(error):
            raise
        raise damaged(path, f"it is not a pickle of plain data ({error})") from None
    if not isinstance(content, dict):
        raise damaged(path, f"it holds {type_name(content)}, not a dictionary")
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _entry(path: Path, key: str, kind: type) -> object:
    value = _unpickle(path).get(key)
    if not isinstance(value, kind):
        raise damaged(path, f"it has no entry '{key}' of the type {kind.__name__}")
    return value


def _python_reader(key: str) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        content = _unpickle(path)
        rows, labels = content.get("data"), content.get(key)
        if (
            not isinstance(rows, np.ndarray)
            or not isinstance(labels, list)
            or not all(isinstance(label, int) for label in labels)
        ):
            raise damaged(path, f"it lacks the array 'data' or the list of integers '{key}'")
        return rows, np.array(labels, np.int64)

    return read


def _binary_reader(before: int) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    """before: label bytes in front of each picture; the last of them counts."""

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        content = np.frombuffer(read_file(path), np.uint8)
        if len(content) == 0 or len(content) % (before + _PIXELS):
            raise damaged(
                path, f"its {len(content)} bytes are not a whole number of {before + _PIXELS}-byte records"
            )
        records = content.reshape(-1, before + _PIXELS)
        return records[:, before:], records[:, before - 1]

    return read


def _lines(path: Path) -> list[str]:
    return read_file(path).decode("utf-8", "replace").split()


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_FORMS = {
    10: (
        _Form(
            "cifar-10-batches-py",
            _BATCHES,
            "test_batch",
            "batches.meta",
            _python_reader("labels"),
            lambda path: _entry(path, "label_names", list),
        ),
        _Form(
            "cifar-10-batches-bin",
            tuple(f"{name}.bin" for name in _BATCHES),
            "test_batch.bin",
            "batches.meta.txt",
            _binary_reader(1),
            _lines,
        ),
    ),
    100: (
        _Form(
            "cifar-100-python",
            ("train",),
            "test",
            "meta",
            _python_reader("fine_labels"),
            lambda path: _entry(path, "fine_label_names", list),
        ),
        _Form(
            "cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", _binary_reader(2), _lines
        ),
    ),
}
