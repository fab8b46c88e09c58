"""What runs must share to stand in one table: what selects, what is shown, and the rows of the test split.
Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from kdx.core.errors import UserErrors
from kdx.report.compare.caveats import some
from kdx.report.compare.entries import Entry
from kdx.report.run.names import visible, written

FREE = ("dataset.labelled", "dataset.unlabelled")
"""Sizes that do not move the test and the validation rows of a seed: how many labels are enough is a fair
question.
"""
Name = Callable[[Entry], str]


def check_protocols(entries: Sequence[Entry], name: Name) -> None:
    """Raises UserErrors, naming rows and runs, where the runs follow different protocols, or where a seed has
    different rows or data.

    Shared by all: the metric that counts, the data set and its classes, how many test and validation rows
    there are, which weights are shown, what selects, what the test split is used for, what the baseline is.
    Shared by the runs of one seed: the inputs and labels of test and validation, and with equal sizes those
    of all splits. name: entry -> what its row is called.
    """
    errors = [error for what, of in _POLICY.items() if (error := _apart(entries, of, what, name))][:2]
    if errors and errors[0].startswith(("metric: ", "dataset: ")):
        errors = errors[:1]  # all else follows from it
    for seed in sorted({e.seed for e in entries}) if not errors else ():
        same = [e for e in entries if e.seed == seed]
        for what, alike in (
            ("test split", _same_rows("test")),
            ("validation split", _same_rows("validation")),
            ("data", _same_data),
        ):
            if error := _disagree(same, alike, f"{what} (seed {seed})", name):
                errors.append(error)
                break
        if len(errors) == 3:
            break
    if errors:
        raise UserErrors(
            [*errors, f"Runs of different protocols or test splits are not compared. {_way_out(entries)}"]
        )


def shared(entries: Sequence[Entry]) -> dict[str, str]:
    """The protocol in words, of runs that share it."""
    first = entries[0]
    found = {
        what: _text(of(first))
        for what, of in _POLICY.items()
        if of(first) is not None and what not in ("metric", "classes")
    }
    return found | {
        **({"classes": str(len(first.classes))} if first.classes else {}),
        "seeds": ", ".join(str(s) for s in sorted({e.seed for e in entries})),
    }


def count(entry: Entry, split: str) -> Any:
    """How many rows a split has, as the protocol tells; None where it does not."""
    counts = entry.protocol.get("counts")
    return counts.get(split) if isinstance(counts, Mapping) else None


_POLICY: dict[str, Callable[[Entry], Any]] = {
    "metric": lambda e: e.counts.meaning,
    "dataset": lambda e: e.protocol.get("dataset"),
    "classes": lambda e: e.classes or None,
    "test rows": lambda e: count(e, "test"),
    "validation rows": lambda e: count(e, "validation"),
    "headline": lambda e: e.protocol.get("headline"),
    "weights shown": lambda e: e.weights,
    "selection": lambda e: e.protocol.get("selection"),
    "test": lambda e: e.protocol.get("test"),
    "baseline": lambda e: e.protocol.get("baseline"),
}


def _apart(entries: Sequence[Entry], of: Callable[[Entry], Any], what: str, name: Name) -> str | None:
    """The runs by what `of` says, where that is not one thing;
    a run that has no baseline says nothing of it.
    """
    parts: dict[Hashable, list[Entry]] = {}
    for e in entries:
        if what != "baseline" or of(e) is not None:
            parts.setdefault(_text(of(e)), []).append(e)
    return (
        f"{what}: {_in_parts([(f'{value} in ', part) for value, part in parts.items()], name)}"
        if len(parts) > 1
        else None
    )


def _disagree(
    same: Sequence[Entry], alike: Callable[[Entry, Entry], bool], what: str, name: Name
) -> str | None:
    """same: the runs of a seed. Reported where they fall into parts that are not alike."""
    parts: list[list[Entry]] = []
    for e in same:
        part = next((part for part in parts if alike(part[0], e)), None)
        parts.append([e]) if part is None else part.append(e)
    return f"different {what}: {_in_parts([('', part) for part in parts], name)}" if len(parts) > 1 else None


def _same_rows(split: str) -> Callable[[Entry, Entry], bool]:
    def alike(a: Entry, b: Entry) -> bool:
        """Known by digest, by the key of the data, or because nothing differs that could move the rows (see
        kdx/data/splits.py).
        """
        if split in a.digests and split in b.digests:
            return a.digests[split] == b.digests[split]
        return _same_key(a, b) or _data(a, FREE) == _data(b, FREE)

    return alike


def _same_data(a: Entry, b: Entry) -> bool:
    """Runs that ask for the same data must have had the same; those that ask for other sizes are free to."""
    if _data(a) != _data(b) or _same_key(a, b):
        return True
    return bool(a.digests) and a.digests == b.digests


def _same_key(a: Entry, b: Entry) -> bool:
    return a.protocol.get("data_key") is not None and a.protocol.get("data_key") == b.protocol.get("data_key")


def _data(entry: Entry, without: Sequence[str] = ()) -> dict[str, str]:
    return {
        key: written(key, value)
        for key, value in entry.everything.items()
        if key.startswith("dataset.") and key not in without
    }


def _text(value: Any) -> str:
    return visible(", ".join(value) if isinstance(value, tuple) else "none" if value is None else str(value))


def _in_parts(parts: Sequence[tuple[str, Sequence[Entry]]], name: Name) -> str:
    return "; ".join(f"{_cut(words)}{rows(part, name)}" for words, part in parts)


def rows(entries: Sequence[Entry], name: Name) -> str:
    """ "loss=kd, loss=slam (10 runs: a, b and 8 more)" """
    named = list(dict.fromkeys(name(e) for e in entries))
    runs = some([e.name for e in entries], 2)
    return f"{some(named)} ({'1 run' if len(entries) == 1 else f'{len(entries)} runs'}: {runs})"


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:76]}... in "


def _way_out(entries: Sequence[Entry]) -> str:
    """A filter that would do, where one key tells the first run's part from the rest."""
    first = entries[0]
    for key in (
        "dataset",
        "headline",
        "dataset.test",
        "dataset.validation",
        *(k for k in first.everything if k.startswith("dataset.")),
    ):
        values = {e.value(key) for e in entries}
        if len(values) > 1 and first.value(key) is not None:
            return f"Name fewer folders, or filter, such as where={key}={first.value(key)}"
    return "Name fewer folders, or filter with where=KEY=VALUE"
