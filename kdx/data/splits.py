"""Who sees which rows: test, validation, labelled, unlabelled. Numpy only; a pure function of the labels, the
sizes and the seed.

One rule for sizes: an integer is a count; a number strictly between 0 and 1 is a share, rounded (halves
down). `test` is a share of all rows, and is held out only where the set ships no test part; what stays is the
train part. `labelled` and `validation` are shares of the train part, `unlabelled` of the train part and the
set's own unlabelled pictures together; where the set ships a validation part, that is it, and the size is
unused. null: validation none, labelled all that validation leaves, unlabelled everything that is left.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserErrors
from kdx.data.loading import per_class
from kdx.data.raw import Description

Size = int | float | None


@dataclass(frozen=True, eq=False)
class Rows:
    """Each an array of int64 rows, ascending.

    test: rows held out of the set's train part, None where the set ships its own test part. validation,
    labelled, unlabelled: rows of the train part, disjoint; unlabelled ones have their labels hidden. pool:
    rows of the set's own unlabelled pictures.
    """

    test: np.ndarray | None
    validation: np.ndarray
    labelled: np.ndarray
    unlabelled: np.ndarray
    pool: np.ndarray


def check_classes(description: Description) -> list[str]:
    """Of classes without a single row to train with, as a plain sentence; [] where there are none. Who only
    tests may have such.
    """
    if not description.classes or description.strata is None:
        return []
    empty = [name for name, rows in zip(description.classes, description.strata, strict=True) if not rows]
    more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
    return (
        [f"the class '{empty[0]}'{more} holds no picture to train with: add some, or remove its folder"]
        if empty
        else []
    )


def rows_by_group(description: Description) -> tuple[int, ...]:
    """Rows of the train part by group; where there are none all rows are one."""
    return (description.train,) if description.strata is None else description.strata


def check_sizes(
    description: Description, *, labelled: Size, unlabelled: Size, validation: Size, test: Size
) -> list[str]:
    """Every error in the sizes that can be known before the pictures are read, as plain sentences; [] if
    there is none.
    """
    sizes, errors = _resolve(
        rows_by_group(description),
        description.pool,
        description.test is not None,
        labelled=labelled,
        unlabelled=unlabelled,
        validation=None if description.validation is not None else validation,
        test=test,
    )
    if description.test is not None and test is not None and not description.test_size_is_a_fallback:
        errors.append(
            f"dataset.test={test} holds rows out of a set without a test part; this one ships "
            f"{description.test} test rows: leave it null"
        )
    return errors


def count_rows(
    description: Description, *, labelled: Size, unlabelled: Size, validation: Size, test: Size
) -> dict[str, int]:
    """Rows of each split, for sizes that `check_sizes` finds no error in."""
    shipped = description.validation
    sizes, _ = _resolve(
        rows_by_group(description),
        description.pool,
        description.test is not None,
        labelled=labelled,
        unlabelled=unlabelled,
        validation=validation if shipped is None else None,
        test=test,
    )
    return {
        "labelled": sizes.labelled,
        "unlabelled": sizes.unlabelled,
        "validation": sizes.validation if shipped is None else shipped,
        "test": description.test or sizes.test,
    }


def split(
    labels: np.ndarray,
    *,
    pool: int,
    has_test: bool,
    labelled: Size,
    unlabelled: Size,
    validation: Size,
    test: Size,
    seed: int,
) -> Rows:
    """(N,) int64 labels of the train part -> Rows. UserErrors where the sizes do not fit; `test` is unused
    where the set has_test.

    Stratified: each of test, validation and labelled holds every class within one row of its share of what it
    is drawn from (test: all rows; the others: the train part). One thing goes before that: every class has a
    row in the train part and a labelled row. It tells where there are hardly more labelled rows than classes
    and some classes are rare. So the labelled rows tell a method the pool's shares of classes to within a
    row, as in the field's protocols; labels that are asked for at random scatter more. The hidden rows that a
    limit keeps are drawn at random, whatever their classes: their labels are hidden from the draw as well.
    Nested: with the same seed, fewer labelled rows are a subset of more, whatever validation is, and the
    other way round; `unlabelled` takes hidden rows before the set's own pool, and fewer are a subset of more.
    """
    counts = per_class(labels, int(labels.max()) + 1 if len(labels) else 0)
    sizes, errors = _resolve(
        counts, pool, has_test, labelled=labelled, unlabelled=unlabelled, validation=validation, test=test
    )
    if errors:
        raise UserErrors(errors)

    everyone = np.arange(len(labels))
    order = everyone if has_test else _order(labels, everyone, _generator(seed, 0))
    train, held_out = np.sort(order[: len(order) - sizes.test]), order[len(order) - sizes.test :]
    order = _order(labels, train, _generator(seed, 1))
    chosen, rest = order[: sizes.labelled], order[sizes.labelled :]
    validated, hidden = rest[len(rest) - sizes.validation :], np.sort(rest[: len(rest) - sizes.validation])

    kept = min(sizes.unlabelled, len(hidden))
    if kept < len(hidden):
        hidden = _shuffled(hidden, _generator(seed, 2))[:kept]
    extra = _shuffled(np.arange(pool), _generator(seed, 3))[: sizes.unlabelled - kept]
    return Rows(
        None if has_test else np.sort(held_out),
        np.sort(validated),
        np.sort(chosen),
        np.sort(hidden),
        np.sort(extra),
    )


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of (N,) int64 labels, at most `count`, ascending: every class within one row of its share, fewer a
    subset of more.
    """
    return np.sort(_order(labels, np.arange(len(labels)), _generator(seed, 4))[:count])


@dataclass(frozen=True)
class _Sizes:
    """Counts of rows; unlabelled: hidden rows and the set's own pool together."""

    test: int
    validation: int
    labelled: int
    unlabelled: int


def _resolve(
    counts: tuple[int, ...],
    pool: int,
    has_test: bool,
    *,
    labelled: Size,
    unlabelled: Size,
    validation: Size,
    test: Size,
) -> tuple[_Sizes | None, list[str]]:
    """The sizes as counts and no errors, or None and the errors. counts: rows of the train part as shipped,
    by class.
    """
    given = {
        "labelled": labelled,
        "unlabelled": unlabelled,
        "validation": validation,
        "test": None if has_test else test,
    }
    zero_is_fine = ("unlabelled", "validation")
    errors = [error for key, size in given.items() if (error := _malformed(key, size, key in zero_is_fine))]
    rows, classes = sum(counts), sum(count > 0 for count in counts)
    if not has_test and test is None:
        errors.append(
            "this dataset ships no test part: set dataset.test to a number of rows or a "
            "share of them such as 0.2"
        )
    if errors:
        return None, errors

    tested = 0 if has_test else _count(test, rows)
    train = rows - tested
    if not has_test and not 1 <= tested < rows:
        return None, [
            (
                f"dataset.test={test} asks for {tested} of all {rows} rows: it must be at least 1 and leave "
                "rows to train with"
            )
        ]
    if tested and train < classes:
        return None, [_too_few(rows, classes, test, tested)]
    validated = _count(validation, train) if validation is not None else 0
    if validated and validated > train - classes:
        return None, [
            f"dataset.validation={validation} asks for {validated} rows; {train} are there to train with, "
            f"and {classes} classes need one labelled row each: at most {max(0, train - classes)}"
        ]
    chosen = _count(labelled, train) if labelled is not None else train - validated
    if chosen < classes:
        errors.append(
            f"dataset.labelled={labelled} makes {chosen} labelled rows, fewer than the {classes} classes"
        )
    if chosen + validated > train:
        taken = [f"{n} for {part}" for n, part in ((tested, "test"), (validated, "validation")) if n]
        less = f", less {' and '.join(taken)}," if taken else ""
        errors.append(
            f"dataset.labelled={labelled} asks for {chosen} rows; of {rows}{less} "
            f"{train - validated} are available"
        )
    left = max(0, train - validated - chosen) + pool
    wanted = _count(unlabelled, train + pool) if unlabelled is not None else left
    if isinstance(unlabelled, float) and wanted == left + 1:
        wanted = left  # three shares that make up the whole may round up by one row
    if wanted > left and not errors:
        errors.append(
            f"dataset.unlabelled={unlabelled} asks for {wanted} rows; {left} are left ({left - pool} of "
            f"hidden label, {pool} without): null takes them all"
        )
    return (None, errors) if errors else (_Sizes(tested, validated, chosen, wanted), [])


def _too_few(rows: int, classes: int, test: Size, tested: int) -> str:
    """Why there is no row to train with for every class."""
    held = (
        f"dataset.test={test} holds out {tested} of all {rows} rows, and {rows - tested} stay; {classes} "
        "classes need one labelled row each"
    )
    return f"{held}: " + (
        f"set dataset.test={rows - classes} at most, or add rows"
        if rows > classes
        else "add rows, or a test part of its own"
    )


def _malformed(key: str, size: object, zero_is_fine: bool) -> str | None:
    if size is None:
        return None
    low = 0 if zero_is_fine else 1
    if isinstance(size, int) and not isinstance(size, bool):
        return None if size >= low else f"dataset.{key} must be {low} or more; given {size}"
    if isinstance(size, float) and not isinstance(size, bool):
        if 0 < size < 1:
            return None
        return (
            f"dataset.{key} must be an integer (a count) or a number strictly between 0 and "
            f"1 (a share); given {size}"
        )
    return (
        f"dataset.{key} must be an integer (a count), a number strictly between 0 and 1 (a share) or null; "
        f"given {checks.shown(size)}"
    )


def _count(size: int | float, of: int) -> int:
    # halves down: 0.5 and 0.5 never ask for more than all
    return size if isinstance(size, int) else math.ceil(size * of - 0.5)


def _generator(seed: int, purpose: int) -> np.random.Generator:
    """Each purpose has its own stream, so that one size never moves the rows of another."""
    return np.random.Generator(np.random.PCG64([seed, purpose]))


def _shuffled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values[np.argsort(rng.random(len(values)), kind="stable")]


def _order(labels: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows shuffled, so that the first n and the last n, for any n, hold every class within one row of
    its share.

    Largest remainders, for all n at once (taken for each n alone they are not nested). Copy j of a class with
    share p may not come before place floor((j - 1) / p), or the class is more than one row ahead, and must
    come by place ceil(j / p), or it is more than one behind; serving the earliest deadline among those that
    may come meets them all. Before all that comes one row of each class, so the claim holds from as many rows
    on as make up for that: a few more than there are classes, unless some are rare.
    """
    members = [rows[labels[rows] == k] for k in np.unique(labels[rows])]
    members = [_shuffled(members[k], rng) for k in _shuffled(np.arange(len(members)), rng)]
    total = len(rows)
    future = [(0, k, 0) for k in range(len(members))]  # (earliest place, class, copy)
    ready: list[tuple[int, int, int]] = []  # (deadline, class, copy)
    order = np.empty(total, rows.dtype)
    for place in range(total):
        while future and future[0][0] <= place:
            _, k, j = heapq.heappop(future)
            due = -(-(j + 1) * total // len(members[k]))
            heapq.heappush(ready, (due if j else 0, k, j))
        _, k, j = heapq.heappop(ready)
        order[place] = members[k][j]
        if j + 1 < len(members[k]):
            heapq.heappush(future, ((j + 1) * total // len(members[k]), k, j + 1))
    return order
