"""WordNet's glosses: what nouns mean, in a line each, with the kind of thing that the noun is (Miller 1995).
Princeton's lexical database 3.0; the file data.noun of its release.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdx.core.errors import UserError
from kdx.data.loading import check_int, check_path, damaged, need, per_class, read_file
from kdx.data.raw import Description
from kdx.data.text.rows import Part, Texts, describe_texts
from kdx.data.text.settings import token_settings

FILE = "data.noun"
NOUNS = (
    "Tops act animal artifact attribute body cognition communication event feeling food group location "
    "motive object person phenomenon plant possession process quantity relation shape state substance time"
).split()
"""WordNet's lexicographer files 3 to 28, the kinds of noun (lexnames.5WN)."""
_FIRST = 3


class WordNet:
    """The definition of each noun, without the examples that follow in quotes; a class is a kind of noun.

    Glosses that stand under several kinds are left out, and copies. Of each kind that then has `least` of
    them as many are taken, evenly spread over the file. root: the folder of data.noun. tokens,
    vocabulary, min_frequency, length, tokenizer: see kdx.data.text.tokens.Tokens.
    """

    paths = ("root", "tokenizer")

    def __init__(
        self,
        *,
        root: str,
        least: int,
        tokens: str,
        vocabulary: int,
        min_frequency: int,
        length: int,
        tokenizer: str | None,
    ):
        self._root = check_path("root", root)
        self._least = check_int("least", least, 2, 100_000)
        self._tokens = token_settings(tokens, vocabulary, min_frequency, True, length, tokenizer)

    def files(self) -> dict[str, list[tuple[str, Path]]]:
        found = {"train": [(FILE, self._root / FILE)]}
        return found | ({"tokenizer": [("tokenizer.json", self._tokens.file)]} if self._tokens.file else {})

    def fetch(self) -> None:
        why = " (Debian and Ubuntu: apt install wordnet-base, and dataset.root=/usr/share/wordnet)"
        need([self._root / FILE], "WordNet", self._root, why)
        self._tokens.check_file()

    def describe(self) -> Description:
        classes, part = self._read()
        counts = per_class(part.labels, len(classes))
        return describe_texts(self._tokens, classes, {"train": len(part.labels)}, counts)

    def load(self, *, workers: int = 0) -> Texts:
        classes, part = self._read()
        return Texts.of([("train", part)], classes, self._tokens)

    def _read(self) -> tuple[list[str], Part]:
        self.fetch()
        kinds: dict[str, set[str]] = {}
        names: dict[str, str] = {}
        for noun, kind, gloss in glosses(self._root / FILE):
            kinds.setdefault(gloss, set()).add(kind)
            names.setdefault(gloss, noun)
        by_kind: dict[str, list[str]] = {}
        for gloss, found in kinds.items():
            if len(found) == 1:
                by_kind.setdefault(next(iter(found)), []).append(gloss)
        classes = sorted(kind for kind, found in by_kind.items() if len(found) >= self._least)
        if len(classes) < 2:
            raise UserError(
                f"dataset.least={self._least} glosses are in {len(classes)} kinds of noun, and two are "
                f"needed: set it to {sorted(map(len, by_kind.values()))[-2]} at most"
            )
        taken = {kind: evenly(by_kind[kind], self._least) for kind in classes}
        texts = [gloss for kind in classes for gloss in taken[kind]]
        labels = np.repeat(np.arange(len(classes)), self._least)
        return classes, Part(texts, labels, [names[gloss] for gloss in texts])


def glosses(path: Path) -> Iterator[tuple[str, str, str]]:
    """(the first noun of a synset, the kind of thing that it is, what it means)"""
    for number, line in enumerate(read_file(path).decode("utf-8", "replace").splitlines(), 1):
        if line.startswith("  "):
            continue  # the licence
        fields, bar, gloss = line.partition(" | ")
        words = fields.split()
        kind = int(words[1]) - _FIRST if len(words) > 4 and words[1].isdigit() else -1
        if not bar or not 0 <= kind < len(NOUNS):
            raise damaged(path, f"line {number} is none of WordNet's")
        meaning = gloss.partition('"')[0].strip(" ;\n")
        if meaning:
            yield words[4], NOUNS[kind], meaning


def evenly(texts: list[str], rows: int) -> list[str]:
    """So many of them, evenly spread."""
    return [texts[i] for i in np.linspace(0, len(texts) - 1, rows).round().astype(int)]
