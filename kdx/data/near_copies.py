"""Pictures of one split that are nearly those of another: the same photograph saved again, or brighter.

Pairs are found by a perceptual hash, and confirmed by how alike the pictures are as a whole, as many
strangers have nearly the same hash where all pictures are as simple as digits. It is for a look at the pairs:
nothing is left out by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kdx.data.copies import identify
from kdx.data.phrases import NAMED, RARE, are, few
from kdx.data.pictures.fitted import in_shape
from kdx.data.raw import Note

MOST_BITS = 4
"""Hashes of 64 bits that differ in no more of them are of pictures that may be alike."""
ALIKE = 0.98
"""And the correlation of these, in grey of 32x32, from which on they are."""
_SIDE, _LOW = 32, 8
_BLOCK = 512


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """(N, 32, 32) -> (N,) uint64: of each of the 64 lowest frequencies whether it is above their median (the
    DCT hash, Zauner 2010, without the mean in the median)."""
    from scipy.fft import dctn

    low = dctn(grey.astype(np.float64), axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW].reshape(
        len(grey), _LOW**2
    )
    above = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(np.uint64)[:, 0]


def correlation(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(D,), (N, D) -> (N,) in [-1, 1]; 0 where nothing varies."""
    mine, theirs = (x - x.mean(-1, keepdims=True) for x in (one.astype(float), others.astype(float)))
    size = np.linalg.norm(mine) * np.linalg.norm(theirs, axis=1)
    found: np.ndarray = np.divide(theirs @ mine, size, out=np.zeros(len(others)), where=size > 0)
    return found


def find_near(parts: Mapping[str, Any], name: Callable[[str, int], str]) -> tuple[list[Note], dict[str, int]]:
    """(what there is to say, how many rows of a split are nearly those of others: {"test_in_training",
    "validation_in_training", "test_in_validation"}). parts: as in kdx.data.copies.find, pictures (N, C, H, W)
    uint8. Equal pictures are not counted: these are counted elsewhere. name: what row i of a part is called.
    """
    ids = identify(parts)
    grey = {part: _in_grey(pictures) for part, pictures in parts.items()}
    hashes = {part: perceptual_hash(found.reshape(-1, _SIDE, _SIDE)) for part, found in grey.items()}
    notes: list[Note] = []
    found = {}
    for here, there, key, what in (
        ("test", ("labelled", "unlabelled"), "test_in_training", "of others that are trained on"),
        ("validation", ("labelled", "unlabelled"), "validation_in_training", "of others that are trained on"),
        ("test", ("validation",), "test_in_validation", "of others in validation"),
    ):
        pairs = [
            (i, pair)
            for i in range(len(ids[here]))
            if (pair := _nearest(here, i, there, ids, grey, hashes)) is not None
        ]
        found[key] = len(pairs)
        if pairs:
            named = [f"{name(here, i)} ~ {name(*pair)}" for i, pair in pairs[:NAMED]]
            notes.append(
                (
                    f"{are(len(pairs), f'of {len(ids[here]):,} {here} pictures')} near copies {what}, by a "
                    f"perceptual hash ({few(named, len(pairs))}); look at them: a hash can err, and nothing "
                    "is left out by it",
                    "info" if len(pairs) < RARE * len(ids[here]) else "warning",
                )
            )
    return notes, found


def _nearest(
    here: str,
    row: int,
    there: tuple[str, ...],
    ids: Mapping[str, np.ndarray],
    grey: Mapping[str, np.ndarray],
    hashes: Mapping[str, np.ndarray],
) -> tuple[str, int] | None:
    """The part and the row that is most alike; None where none is alike enough."""
    best, most = None, ALIKE
    for part in there:
        near = np.flatnonzero(np.bitwise_count(hashes[part] ^ hashes[here][row]) <= MOST_BITS)
        near = near[ids[part][near] != ids[here][row]]
        if len(near):
            alike = correlation(grey[here][row], grey[part][near])
            if alike.max() >= most:
                best, most = (part, int(near[alike.argmax()])), float(alike.max())
    return best


def _in_grey(pictures: Any) -> np.ndarray:
    """(N, C, H, W) -> (N, 1024) uint8"""
    if not len(pictures):
        return np.zeros((0, _SIDE * _SIDE), np.uint8)
    fitted = in_shape(pictures, (1, _SIDE, _SIDE))
    blocks = [np.asarray(fitted[start : start + _BLOCK]) for start in range(0, len(pictures), _BLOCK)]
    return np.concatenate(blocks).reshape(len(pictures), _SIDE**2)
