"""Whether a loader keeps its word: what `load` may give, that `describe` says the same, and that the numbers
are finite. Numpy and the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from kdx.core.errors import UserError, UserErrors, nearest, type_name
from kdx.core.trees import leaves, rows_of
from kdx.data.phrases import NAMED, few
from kdx.data.raw import PARTS, Arrays, Description, Raw, example_of
from kdx.data.stored import LazyRows

STORABLE = ("uint8", "float32", "float16", "int16", "int32", "int64", "bool")
"""Types that inputs and truth may have."""
ARRAY_NAME = re.compile(r"[A-Za-z0-9_-]+")
BLOCK = 1 << 24
"""Bytes that are looked at together, so that a memory map is not read whole."""


def check(raw: Any, described: Any) -> None:
    """Raises UserErrors where what `load` gave is not what it must be, or not what `describe` said."""
    check_loaded(raw)
    check_described(raw, described)


def check_loaded(raw: Any) -> None:
    """Raises UserErrors where what `load` gave is not what it must be."""
    if not isinstance(raw, Raw):
        raise UserError(f"load() must give a Raw, such as kdx.data.raw.Arrays; it gives {type_name(raw)}")
    if wrong := list(_wrong(raw)):
        raise UserErrors(wrong)


def check_described(raw: Raw, described: Any) -> None:
    """Raises UserErrors where a sound Raw is not what `describe` said."""
    if not isinstance(described, Description):
        raise UserError(f"describe() must give a kdx.data.raw.Description; it gives {type_name(described)}")
    if differs := list(_differs(raw, described)):
        raise UserErrors(differs)


def check_finite(
    inputs: Mapping[str, Any],
    truth: Mapping[str, Any],
    name: Callable[[str, int], str],
    without: Mapping[str, np.ndarray],
) -> None:
    """Raises UserErrors where a number of a split is NaN or infinite. inputs, truth: split -> arrays; name:
    what row i of a split is called; without: split -> (N,) bool, rows whose truth nobody knows."""
    errors = []
    for what, splits in (("inputs", inputs), ("a truth", truth)):
        for split, value in splits.items():
            bad = not_finite(value)
            if what == "a truth" and split in without:
                bad &= ~without[split]
            if bad.any():
                errors.append(_not_finite(bad, split, what, name))
    if errors:
        raise UserErrors(errors)


def not_finite(value: Any) -> np.ndarray:
    """(N,) bool: the rows in which some number is NaN or infinite, of an array or of any of several."""
    found = np.zeros(min(map(len, leaves(value).values())), bool)
    for leaf in leaves(value).values():
        if leaf.dtype.kind != "f":
            continue
        rows = max(1, BLOCK // max(1, int(np.prod(leaf.shape[1:])) * leaf.itemsize))
        for start in range(0, len(leaf), rows):
            fine = np.isfinite(leaf[start : start + rows])
            found[start : start + rows] |= ~fine.all(axis=tuple(range(1, fine.ndim)))
    return found


def _not_finite(bad: np.ndarray, split: str, what: str, name: Callable[[str, int], str]) -> str:
    rows = np.flatnonzero(bad)
    names = few([name(split, row) for row in rows[:NAMED].tolist()], len(rows))
    have = "has" if len(rows) == 1 else "have"
    are = "is" if what == "a truth" else "are"
    return (
        f"{len(rows):,} of {len(bad):,} {split} rows {have} {what} that {are} not finite (NaN or infinite): "
        f"{names}; leave such rows out of the data set, or put numbers there"
    )


def _wrong(raw: Raw) -> Iterator[str]:
    """What `load` may not give, a sentence each."""
    if isinstance(raw, Arrays):
        if not isinstance(raw.parts, Mapping):
            yield f"load() gives parts that are {type_name(raw.parts)}: give {{'train': (inputs, truth)}}"
            return
        for part in raw.parts:
            if part not in PARTS:
                yield f"load() gives a part {part!r}, which kdx does not know{nearest(str(part), PARTS)}"
    for attribute, what in (("task", "what answers mean"), ("reads", "what rows are")):
        if getattr(raw, attribute, None) is None:
            yield f"load() gives a {type(raw).__name__} without the attribute {attribute} ({what})"
    sound = {}
    for part in PARTS:
        try:
            pair = raw.part(part)
        except KeyError:
            yield f"load() gives {type_name(raw)} that knows no part '{part}': give (None, None) for it"
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            yield f"load() gives for the part '{part}' {type_name(pair)}: give a pair (inputs, truth)"
            continue
        problems = list(_wrong_pair(part, *pair))
        yield from problems
        if not problems and pair[0] is not None:
            sound[part] = pair
    yield from _unlike(sound)
    if "train" in sound:
        yield from _wrong_groups(raw.strata("train"), rows_of(sound["train"][0]))
    yield from _wrong_names(raw, sound)


def _wrong_pair(part: str, inputs: Any, truth: Any) -> Iterator[str]:
    if inputs is None:
        if part == "train":
            yield "load() gives no part 'train': give the rows to train with under that name"
        elif truth is not None:
            yield f"load() gives a truth of the part '{part}' and no inputs"
        return
    problems = list(_wrong_arrays(f"the inputs of the part '{part}'", inputs))
    if part != "unlabelled":
        if truth is None:
            problems.append(
                f"load() gives no truth of the part '{part}': only the part 'unlabelled' may go without"
            )
        else:
            problems += _wrong_arrays(f"the truth of the part '{part}'", truth)
    yield from problems
    if not problems and part != "unlabelled" and (rows := rows_of(inputs)) != (answers := rows_of(truth)):
        yield f"load() gives {rows:,} rows of inputs in the part '{part}', and a truth of {answers:,} rows"


def _wrong_arrays(what: str, value: Any) -> Iterator[str]:
    """what: "the inputs of the part 'train'"."""
    if isinstance(value, Mapping) and not value:
        yield f"load() gives {what} as a mapping without an array: give one array at least"
    sound = {}
    for name, leaf in leaves(value).items():
        here = f"{what} ({name})" if isinstance(value, Mapping) else what
        if isinstance(value, Mapping) and not (isinstance(name, str) and ARRAY_NAME.fullmatch(name)):
            yield f"load() calls one of {what} {name!r}: a name may hold letters, digits, - and _ only"
        elif not isinstance(leaf, np.ndarray | LazyRows):
            yield f"load() gives {here} as {_kind_of(leaf)}: give a numpy array{_as_numpy(leaf)}"
        elif not leaf.ndim:
            yield f"load() gives {here} as a single number: the first axis must be the rows"
        elif str(leaf.dtype) not in STORABLE:
            yield f"load() gives {here} as {leaf.dtype}: {_cast(leaf)}"
        else:
            sound[name] = len(leaf)
    if len(set(sound.values())) > 1:
        counts = ", ".join(f"{name} {rows:,}" for name, rows in sound.items())
        yield f"load() gives {what} with different numbers of rows ({counts}): they must be the same"


def _kind_of(leaf: Any) -> str:
    return "a torch tensor" if _is_tensor(leaf) else type_name(leaf)


def _as_numpy(leaf: Any) -> str:
    return ", tensor.numpy()" if _is_tensor(leaf) else ", such as numpy.asarray(..., 'float32')"


def _is_tensor(leaf: Any) -> bool:
    return type(leaf).__module__.partition(".")[0] == "torch"


def _cast(leaf: np.ndarray) -> str:
    if leaf.dtype.kind == "f":
        return "give float32, array.astype('float32')"
    return f"give one of {', '.join(STORABLE)}"


def _unlike(sound: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    """Where a part has rows of another kind than the train part."""
    if "train" not in sound:
        return
    for part, pair in sound.items():
        for place, what in enumerate(("inputs", "truth")):
            if part == "unlabelled" and what == "truth":
                continue
            train, other = example_of(sound["train"][place]), example_of(pair[place])
            if train != other:
                yield (
                    f"load() gives {what} of {_kinds(train)} in the part 'train' and of {_kinds(other)} in "
                    f"the part '{part}': they must be alike"
                )


def _wrong_groups(groups: Any, rows: int) -> Iterator[str]:
    if groups is None:
        return
    if not isinstance(groups, np.ndarray) or groups.dtype.kind not in "iu":
        yield "load() gives groups that are no numpy array of whole numbers: give int64"
    elif groups.shape != (rows,):
        yield f"load() gives groups of shape {groups.shape}, and the part 'train' has {rows:,} rows"
    elif len(groups) and groups.min() < 0:
        yield f"load() gives a group {groups.min()}: groups are whole numbers from 0"


def _wrong_names(raw: Raw, sound: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    for part, names in getattr(raw, "names", {}).items():
        if part in sound and len(names) != (rows := rows_of(sound[part][0])):
            yield f"load() names {len(names):,} rows of the part '{part}', which has {rows:,}"


def _differs(raw: Raw, described: Description) -> Iterator[str]:
    """Where `describe` and `load` disagree, a sentence each."""
    yield from _task_differs(raw.task, described.task)
    if raw.reads != described.reads:
        yield f"describe() says that rows are {described.reads} (reads) and load() says {raw.reads}"
    yield from _example_differs(example_of(raw.part("train")[0]), described.example)
    pool = raw.part("unlabelled")[0]
    for part, said, given in (
        ("train", described.train, rows_of(raw.part("train")[0])),
        *(
            (part, getattr(described, part), _rows_or_none(raw.part(part)[0]))
            for part in ("validation", "test")
        ),
        ("unlabelled", described.pool, 0 if pool is None else rows_of(pool)),
    ):
        if said != given:
            yield f"describe() says {_counted(said)} of the part '{part}' and load() gives {_counted(given)}"
    yield from _groups_differ(raw.strata("train"), described.strata)


def _task_differs(given: Any, described: Any) -> Iterator[str]:
    if not isinstance(given, Mapping) or not isinstance(described, Mapping):
        if given != described:
            yield f"describe() says the task {described!r} and load() gives {given!r}"
        return
    for key in dict.fromkeys([*described, *given]):
        said, found = (_plain(task.get(key)) for task in (described, given))
        if said != found:
            yield f"describe() says {said!r} of the task's {key} and load() gives {found!r}"


def _plain(value: Any) -> Any:
    """The same with lists for tuples, as JSON has it."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _example_differs(given: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[str]:
    if set(given) != set(described):
        yield f"describe() says that a row is {_called(described)} and load() gives {_called(given)}"
        return
    for name, (shape, kind) in given.items():
        said, of = described[name], f" of {name}" if name else ""
        if tuple(said[0]) != tuple(shape):
            yield f"describe() says rows{of} {tuple(said[0])} and load() gives {tuple(shape)}"
        if str(np.dtype(said[1])) != kind:
            yield f"describe() says rows{of} are {np.dtype(said[1])} and load() gives {kind}"


def _groups_differ(groups: np.ndarray | None, described: tuple[int, ...] | None) -> Iterator[str]:
    if groups is None or described is None:
        if groups is not None:
            yield "describe() says no strata and load() gives groups: say how many rows each has (strata)"
        if described is not None:
            yield "describe() says strata and load() gives no groups: give the group of each row (groups)"
        return
    said, given = [int(rows) for rows in described], np.bincount(groups, minlength=len(described)).tolist()
    if said != given:
        yield f"describe() says groups of {said} rows (strata) and load() gives {given}"


def _rows_or_none(value: Any) -> int | None:
    return None if value is None else rows_of(value)


def _counted(rows: int | None) -> str:
    return f"{rows:,} rows" if rows else "none"


def _called(example: Mapping[str, Any]) -> str:
    return "one array" if set(example) == {""} else f"the arrays {', '.join(sorted(map(str, example)))}"


def _kinds(example: Mapping[str, Any]) -> str:
    """ "(4,) float32", "mask (4,) bool and points (4, 2) float32" """
    kinds = [f"{name} {tuple(shape)} {kind}".strip() for name, (shape, kind) in sorted(example.items())]
    return " and ".join(kinds)
