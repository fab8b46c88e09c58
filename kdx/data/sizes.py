"""How many rows each split has.

One rule for sizes: an integer is a count; a number strictly between 0 and 1 is a share, rounded (halves
down). `test` is a share of all rows, and is held out only where the set ships no test part; what stays is the
train part. `labelled` and `validation` are shares of the train part, `unlabelled` of the train part and the
set's own unlabelled pictures together; where the set ships a validation part, that is it, and the size is
unused. null: validation none, labelled all that validation leaves, unlabelled everything that is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kdx.core import checks
from kdx.data.raw import Description

Size = int | float | None


def check_classes(description: Description) -> list[str]:
    """Of a single class, or of classes without a row to train with, as a plain sentence; [] where there are
    none. Who only tests may have such.
    """
    if not description.classes or description.strata is None:
        return []
    if len(description.classes) == 1:
        return [f"there is one class only, '{description.classes[0]}': telling classes apart takes two"]
    empty = [name for name, rows in zip(description.classes, description.strata, strict=True) if not rows]
    more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
    return (
        [f"the class '{empty[0]}'{more} holds nothing to train with: add some, or remove its folder"]
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
    _, errors = _of_description(description, labelled, unlabelled, validation, test)
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
    sizes, _ = _of_description(description, labelled, unlabelled, validation, test)
    return {
        "labelled": sizes.labelled,
        "unlabelled": sizes.unlabelled,
        "validation": sizes.validation if shipped is None else shipped,
        "test": description.test or sizes.test,
    }


def _of_description(
    description: Description, labelled: Size, unlabelled: Size, validation: Size, test: Size
) -> tuple[SplitSizes | None, list[str]]:
    """`resolve_sizes` of what a data set ships; the size of a validation part that it ships is unused."""
    return resolve_sizes(
        rows_by_group(description),
        description.pool,
        description.test is not None,
        labelled=labelled,
        unlabelled=unlabelled,
        validation=validation if description.validation is None else None,
        test=test,
    )


@dataclass(frozen=True)
class SplitSizes:
    """Counts of rows; unlabelled: hidden rows and the set's own pool together."""

    test: int
    validation: int
    labelled: int
    unlabelled: int


def resolve_sizes(
    counts: tuple[int, ...],
    pool: int,
    has_test: bool,
    *,
    labelled: Size,
    unlabelled: Size,
    validation: Size,
    test: Size,
) -> tuple[SplitSizes | None, list[str]]:
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
    validated = _count(validation, train) if validation is not None else 0
    if not has_test and not 1 <= tested < rows:
        errors.append(
            f"dataset.test={test} asks for {tested} of all {rows} rows: it must be at least 1 and leave "
            "rows to train with"
        )
    elif tested and train < classes:
        errors.append(_too_few(rows, classes, test, tested))
    elif validated and validated > train - classes:
        errors.append(
            f"dataset.validation={validation} asks for {validated} rows; {train} are there to train with, "
            f"and {_needed(classes)}: at most {max(0, train - classes)}"
        )
    if errors:
        return None, errors
    return _divided(
        rows, classes, pool, tested=tested, validated=validated, labelled=labelled, unlabelled=unlabelled
    )


def _divided(
    rows: int, classes: int, pool: int, *, tested: int, validated: int, labelled: Size, unlabelled: Size
) -> tuple[SplitSizes | None, list[str]]:
    """What is not held out, divided into labelled and unlabelled rows. rows: all; tested, validated: held out
    of them.
    """
    errors: list[str] = []
    train = rows - tested
    chosen = _count(labelled, train) if labelled is not None else train - validated
    if chosen < classes:
        errors.append(
            f"dataset.labelled={labelled} makes {chosen} labelled rows, "
            + (f"fewer than the {classes} classes" if classes > 1 else "and one is needed")
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
    return (None, errors) if errors else (SplitSizes(tested, validated, chosen, wanted), [])


def _needed(classes: int) -> str:
    """Where there are no classes all rows are one group."""
    return f"{classes} classes need one labelled row each" if classes > 1 else "one labelled row is needed"


def _too_few(rows: int, classes: int, test: Size, tested: int) -> str:
    """Why there is no row to train with for every class."""
    held = (
        f"dataset.test={test} holds out {tested} of all {rows} rows, and {rows - tested} stay; "
        f"{_needed(classes)}"
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
