"""Scikit-learn's digits, each with a made-up caption that describes where its ink lies, with omissions and
mistakes: a pair of inputs, of which the teacher reads the picture, or both, and the student the text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdx.core import checks
from kdx.data.datasets.digits import Digits
from kdx.data.loading import check_int

if TYPE_CHECKING:
    import numpy as np

    from kdx.data.paired import PairedRows
    from kdx.data.raw import Description
    from kdx.data.text.tokens import Tokens

_PICTURE, _TEXT = "picture", "text"
_EDGES = ((0, 3), (3, 5), (5, 8))
_PLACES = [f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right")]
_LEVELS, _FROM = ("blank", "grey", "dark"), (0.15, 0.45)
"""Words for how much of a place is ink, in [0, 1], and from where on the second and the third holds."""
_LENGTH = 36
"""Tokens of a row: nine phrases of three words and a comma."""


class DigitsCaptions:
    """1,797 rows. picture: see kdx.data.datasets.digits. text: a phrase for each ninth of the 8x8 original,
    "dark top left", in a random order; each is left out with probability `omitted`, and says a level at
    random with probability `wrong`.

    image_size: side of the pictures, 8 to 256. data_seed: a number of the data set's own, so that the seed of
    a run does not change the texts.
    """

    def __init__(self, *, image_size: int, omitted: float, wrong: float, data_seed: int):
        self._digits = Digits(image_size=image_size)
        self._omitted = checks.number("dataset.omitted", omitted, low=0, high=1)
        self._wrong = checks.number("dataset.wrong", wrong, low=0, high=1)
        self._seed = check_int("data_seed", data_seed, 0, 2**63 - 1)

    def files(self) -> list[Path]:
        return self._digits.files()

    def fetch(self) -> None:
        self._digits.fetch()

    def describe(self) -> Description:
        from kdx.data.paired import describe_paired
        from kdx.data.text.rows import describe_texts

        found = self._digits.describe()
        texts = describe_texts(self._tokens(), found.classes, {"train": found.train}, found.strata or ())
        return describe_paired({_PICTURE: found, _TEXT: texts}, found)

    def load(self, *, workers: int = 0) -> PairedRows:
        from kdx.data.paired import PairedRows
        from kdx.data.text.rows import Part, Texts

        pictures = self._digits.load(workers=workers)
        said = captions(self._digits.levels(), self._omitted, self._wrong, self._seed)
        part = Part(said, pictures.labels, [f"row {i + 1}" for i in range(len(said))])
        texts = Texts.of([("train", part)], pictures.classes, self._tokens())
        return PairedRows.of({_PICTURE: pictures, _TEXT: texts}, like=pictures, noun="digit")

    def _tokens(self) -> Tokens:
        from kdx.data.text.tokens import Tokens

        return Tokens("words", 100, 1, True, _LENGTH)


def captions(levels: np.ndarray, omitted: float, wrong: float, seed: int) -> list[str]:
    """(N, 8, 8) ink in [0, 1] -> N texts"""
    import numpy as np

    random = np.random.Generator(np.random.PCG64(seed))
    cells = [levels[:, a:b, c:d].mean((1, 2)) for a, b in _EDGES for c, d in _EDGES]
    said = np.digitize(np.stack(cells, 1), _FROM)
    slips = random.random(said.shape) < wrong
    said = np.where(slips, random.integers(0, len(_LEVELS), said.shape), said)
    kept = random.random(said.shape) >= omitted
    found = []
    for row, keep in zip(said, kept, strict=True):
        order = [place for place in random.permutation(len(_PLACES)) if keep[place]]
        found.append(", ".join(f"{_LEVELS[row[place]]} {_PLACES[place]}" for place in order))
    return found
