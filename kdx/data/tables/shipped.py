"""The small tables that ship inside scikit-learn, read from their files: importing scikit-learn takes a
second."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from kdx.core.errors import UserError
from kdx.data.loading import damaged, read_file


def shipped_files(*names: str) -> list[Path]:
    """Where they lie; [] where scikit-learn is not installed."""
    spec = importlib.util.find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    return [Path(folders[0]) / "datasets/data" / name for name in names] if folders else []


def need_shipped(dataset: str, files: list[Path]) -> None:
    """UserError where scikit-learn is not there, or does not hold them."""
    if not files:
        raise UserError(
            f"dataset={dataset} ships inside scikit-learn, which is not installed: pip install scikit-learn"
        )
    for file in files:
        if not file.is_file():
            raise UserError(f"this scikit-learn has no file '{file}': dataset={dataset} is read from it")


def read_numbers(file: Path, delimiter: str | None = ",", skip: int = 0) -> np.ndarray:
    """(N, D) float64"""
    try:
        lines = read_file(file).decode("ascii").splitlines()[skip:]
        return np.loadtxt(lines, delimiter=delimiter, ndmin=2)
    except ValueError as error:
        raise damaged(file, error) from None


def numbers_of(values: np.ndarray) -> np.ndarray:
    """(N, D) as rows hold numbers"""
    return np.ascontiguousarray(values, np.float32)
