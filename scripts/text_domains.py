#!/usr/bin/env python3
"""Two domains of texts with the same classes, from WordNet: what nouns mean, and the sentences that use them.

    scripts/text_domains.py FOLDER [root=/usr/share/wordnet]

Writes FOLDER/glosses.csv and FOLDER/sentences.csv, with the columns text and label: kinds of noun of which at
least 100 sentences are there, at most 1,000 texts each. What was measured of them: docs/domains.md.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

from kdx.data.datasets.wordnet import FILE, NOUNS

FIRST, LEAST, MOST = 3, 100, 1000


def pairs(root: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """kind -> glosses, kind -> sentences."""
    glosses, sentences = defaultdict(list), defaultdict(list)
    for line in (root / FILE).read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):  # the licence
            continue
        head, _, said = line.partition("|")
        kind = NOUNS[int(head.split()[1]) - FIRST]
        meaning, *quoted = said.strip().split('"')
        glosses[kind].append(meaning.strip(" ;"))
        sentences[kind] += [text.strip() for text in quoted[::2] if text.strip(" ;")]
    return glosses, sentences


def main(words: list[str]) -> None:
    folder = Path(words[0])
    root = Path(next((w.removeprefix("root=") for w in words[1:]), "/usr/share/wordnet"))
    folder.mkdir(parents=True, exist_ok=True)
    glosses, sentences = pairs(root)
    kinds = [kind for kind in NOUNS if len(sentences[kind]) >= LEAST]
    for name, found in (("glosses", glosses), ("sentences", sentences)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("text", "label"))
            for kind in kinds:
                step = max(1, len(found[kind]) // MOST)
                rows.writerows((text, kind) for text in found[kind][::step][:MOST])


if __name__ == "__main__":
    main(sys.argv[1:])
