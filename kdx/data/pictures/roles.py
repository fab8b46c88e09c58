"""What the names of folders say: which of them is called like a part of a data set, and which like a part and
a class in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ROLES = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "validate", "dev", "devel", "development"),
    "test": ("test", "testing", "tst"),
}
FILLERS = {
    "set",
    "data",
    "dataset",
    "images",
    "image",
    "img",
    "imgs",
    "pictures",
    "pics",
    "photos",
    "split",
    "folder",
    "files",
    "part",
    "samples",
    "examples",
    "seg",
}
"""Words that say nothing of a part: seg_train, training_set, train images."""


def role_of(names: Iterable[str]) -> dict[str, str]:
    """name -> role, of those folders among `names` that are called like a part: Training, seg_test, brain-val
    beside brain-train.
    """
    words = {name: words_of(name) for name in names}
    roles = {
        name: {role for role, known in _ROLES.items() if set(known) & set(said)}
        for name, said in words.items()
    }
    called = [name for name, found in roles.items() if len(found) == 1]
    shared = set.intersection(*(set(words[name]) for name in called)) if len(called) > 1 else set()
    return {
        name: role
        for name in called
        for role in roles[name]
        if set(words[name]) - shared - FILLERS <= set(_ROLES[role])
    }


def words_of(name: str) -> list[str]:
    """The words of a name, in small letters: TrainSet, train_set and trainset are train and set."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    found = []
    for word in re.findall(r"[^\W\d_]+", apart.lower()):
        known = re.fullmatch(
            rf"({'|'.join(word for role in _ROLES.values() for word in role)})({'|'.join(FILLERS)})", word
        )
        found += known.groups() if known else [word]
    return found


def crossed(names: Iterable[str]) -> list[str]:
    """Those that name a part and something else, where that something is in another part too: train_circle
    beside test_circle, trainA beside testA.

    bullet_train beside freight train are two kinds of one part, and are none.
    """
    found: dict[str, dict[str, str]] = {}
    for name in names:
        low = name.lower()
        for role, known in _ROLES.items():
            for word in known:
                rests = {
                    low.removeprefix(word),
                    low.removesuffix(word),
                    " ".join(w for w in words_of(name) if w != word),
                } - {low, " ".join(words_of(name))}
                for rest in rests:
                    if bare := re.sub(r"[\W_]+", " ", rest).strip():
                        found.setdefault(bare, {})[name] = role
    return sorted({name for called in found.values() if len(set(called.values())) > 1 for name in called})
