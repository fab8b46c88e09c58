"""Who sees which rows: test, validation, labelled, unlabelled. Numpy only; a pure function of the labels, the
sizes (see kdx.data.sizes) and the seed.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from kdx.core.errors import UserErrors
from kdx.data.loading import per_class
from kdx.data.sizes import Size, resolve_sizes


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
    sizes, errors = resolve_sizes(
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
