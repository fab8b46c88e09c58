"""What evaluate measured of the networks of a run, every value checked, and the metrics of the values.
A document is data, and nobody's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.roles import ROLE_WORDS, known_roles
from kdx.core.shapes import COUNT, LARGEST_NUMBER, SHARE, Maybe, Number, expect_shape
from kdx.report.run.names import visible
from kdx.report.run.verdict import which_of
from kdx.tasks.shown import shown_metrics

ABOUT = ("parameters", "flops", "latency_ms")
MEASURED_SPLITS = ("validation", "test")
_ROUNDING = 1e-6
"""A mean of ones may round to a little more."""


@dataclass(frozen=True)
class ByClass:
    """What run.json tells of each class on the test split, in their order: see docs/run-json.md. The last two
    are empty of an older run."""

    counts: Sequence[int]
    recall: Sequence[float | None]
    predicted: Sequence[int]
    mistaken_for: Sequence[int | None]
    mistaken: Sequence[int]

    def right(self) -> list[int]:
        return [round((share or 0) * n) for share, n in zip(self.recall, self.counts, strict=True)]


@dataclass(frozen=True)
class Network:
    """What was measured of one role, of the weights that the run's table shows. about: see ABOUT. scores:
    split -> metric, or n (rows) -> value as it was measured. confused: (class, what it is taken for, test
    rows), of the pairs with most. by_class: None where it is not known.
    """

    about: Mapping[str, float]
    scores: Mapping[str, Mapping[str, float]]
    confusion: tuple[tuple[int, ...], ...] | None
    confused: tuple[tuple[int, int, int], ...]
    reliability: Mapping[str, tuple[float | None, ...]] | None
    by_class: ByClass | None = None

    def score(self, split: str, metric: str) -> float | None:
        return self.scores.get(split, {}).get(metric)


@dataclass(frozen=True)
class OwnRole:
    """A role as a run has it. words: what its network is called. short: over a column."""

    words: str
    short: str


def read_metrics(results: Mapping[str, Any], name: str) -> dict[str, Metric]:
    """Those that a run shows, by name, the one that counts first."""
    try:
        return shown_metrics(results)
    except UserError as error:
        raise UserError(f"'{name}' is not as kdx writes it: {error}") from error


def own_roles(results: Mapping[str, Any], name: str) -> dict[str, OwnRole]:
    """Those of the run's networks whose roles kdx does not have."""
    found = {}
    for role, about in expect_shape(results.get("roles") or {}, dict, name, "results.roles").items():
        about = expect_shape(about, dict, name, "each of results.roles")
        if role not in ROLE_WORDS and results.get(role):
            words = visible(str(about.get("words") or role))
            found[visible(role)] = OwnRole(words, visible(str(about.get("short") or words)))
    return found


def promised_epsilon(results: Mapping[str, Any]) -> float | None:
    """Of a student of released labels; None of others, and where the noise hides nothing."""
    found = results.get("privacy")
    if not isinstance(found, Mapping) or found.get("known_seed"):
        return None
    epsilon = found.get("epsilon")
    return float(epsilon) if isinstance(epsilon, int | float) else None


def called_roles(results: Mapping[str, Any]) -> dict[str, OwnRole]:
    """What each role is called in such a run. results: of which `own_roles` has found nothing wrong."""
    return {
        visible(name): OwnRole(visible(role.words), visible(role.short))
        for name, role in known_roles(results).items()
    }


def common_words(runs: Sequence[Mapping[str, OwnRole]], role: str) -> OwnRole:
    """What these runs call a role; where they differ, its usual words. runs: those of each."""
    found = {called[role] for called in runs}
    return found.pop() if len(found) == 1 else called_roles({})[role]


def read_networks(
    results: Mapping[str, Any], weights: str, metrics: Mapping[str, Metric], further: Sequence[str], name: str
) -> dict[str, Network]:
    """role -> what was measured of it. further: roles that kdx does not have, as `own_roles` calls them; one
    without the weights that are shown is left out.
    """
    found = {visible(role): about for role, about in results.items() if about}
    there = [role for role in further if isinstance(found[role], dict) and found[role].get(weights)]
    rows = expect_shape(results.get("class_counts") or {}, dict, name, "results.class_counts").get("test")
    return {
        role: _network(found[role], which_of(role, weights), role, metrics, name, rows)
        for role in (*ROLE_WORDS, *there)
        if role in found
    }


def _network(
    found: Any, weights: str, role: str, metrics: Mapping[str, Metric], name: str, class_rows: Any
) -> Network:
    """Of others than the student no tables of pairs are taken. class_rows: test rows of each class."""
    where = f"results.{role}"
    found = expect_shape(found, dict, name, where)
    splits = expect_shape(found.get(weights), dict, name, f"{where}.{weights}")
    about = {key: _number(found[key], name, f"{where}.{key}") for key in ABOUT if found.get(key) is not None}
    scores = {
        split: _scores(splits[split], metrics, name, f"{where}.{weights}.{split}")
        for split in MEASURED_SPLITS
        if splits.get(split)
    }
    test = (splits.get("test") or {}) if role == "student" else {}
    return Network(
        about,
        scores,
        _confusion(test.get("confusion"), name),
        _confused(test.get("confused"), name),
        _reliability(test.get("reliability"), name),
        _by_class(splits.get("test") or {}, class_rows, name),
    )


def _scores(found: Any, metrics: Mapping[str, Metric], name: str, where: str) -> dict[str, float]:
    measured = expect_shape(found, dict, name, where)
    ends = {m.name: (m.low, m.high) for m in metrics.values()} | {"n": (0, None)}
    return {
        key: _number(
            measured[key],
            name,
            f"{where}.{key}",
            -LARGEST_NUMBER if low is None else low,
            LARGEST_NUMBER if high is None else high + _ROUNDING,
        )
        for key, (low, high) in ends.items()
        if measured.get(key) is not None
    }


def _by_class(test: Mapping[str, Any], class_rows: Any, name: str) -> ByClass | None:
    if not class_rows or not test.get("recall") or not test.get("predicted"):
        return None
    shapes = {
        "recall": [Maybe(SHARE)],
        "predicted": [COUNT],
        "mistaken_for": [Maybe(COUNT)],
        "mistaken": [COUNT],
    }
    lists = {key: expect_shape(test.get(key) or [], shape, name, key) for key, shape in shapes.items()}
    counts = expect_shape(class_rows, [COUNT], name, "results.class_counts.test")
    lengths = {len(found) for found in (counts, *lists.values()) if found}
    whole = all(n is None or type(n) is int for key in lists if key != "recall" for n in lists[key])
    most = max((other for other in lists["mistaken_for"] if other is not None), default=0)
    if (
        not whole
        or len(lengths) > 1
        or most >= len(counts)
        or bool(lists["mistaken"]) != bool(lists["mistaken_for"])
    ):
        raise UserError(
            f"'{name}' is not as kdx writes it: recall, predicted, mistaken_for and mistaken hold a number "
            "for each class of results.class_counts.test, all but recall a whole one"
        )
    return ByClass(counts, **lists)


def _confusion(found: Any, name: str) -> tuple[tuple[int, ...], ...] | None:
    if not found:
        return None
    rows = [
        expect_shape(row, list, name, "confusion") for row in expect_shape(found, list, name, "confusion")
    ]
    if any(
        len(row) != len(rows)
        or any(type(count) is not int or not 0 <= count <= LARGEST_NUMBER for count in row)
        for row in rows
    ):
        raise UserError(
            f"'{name}' is not as kdx writes it: a confusion matrix holds counts, and as many columns as rows"
        )
    return tuple(map(tuple, rows))


def _confused(found: Any, name: str) -> tuple[tuple[int, int, int], ...]:
    pairs = [
        expect_shape(pair, dict, name, "confused")
        for pair in expect_shape(found or [], list, name, "confused")
    ]
    rows = [tuple(pair.get(key) for key in ("truth", "predicted", "rows")) for pair in pairs]
    if any(type(number) is not int or not 0 <= number <= LARGEST_NUMBER for row in rows for number in row):
        raise UserError(
            f"'{name}' is not as kdx writes it: confused holds the numbers of two classes, truth and "
            "predicted, and how many rows"
        )
    return tuple((int(row[0]), int(row[1]), int(row[2])) for row in rows)


def _reliability(found: Any, name: str) -> dict[str, tuple[float | None, ...]] | None:
    """edges: one more than there are bins; counts, right: rows of each bin; confidence: their mean, None for
    an empty bin.
    """
    if not found:
        return None
    found = expect_shape(found, dict, name, "reliability")
    made = {}
    for key in ("edges", "counts", "confidence", "right"):
        what = f"reliability.{key}"
        made[key] = tuple(
            None if v is None else _number(v, name, what)
            for v in expect_shape(found.get(key), list, name, what)
        )
    bins = len(made["counts"])
    whole = all(v is not None for key in ("edges", "counts", "right") for v in made[key])
    if (
        not whole
        or len(made["edges"]) != bins + 1
        or any(len(made[key]) != bins for key in ("confidence", "right"))
    ):
        raise UserError(
            f"'{name}' is not as kdx writes it: reliability needs as many counts, "
            "confidences and right ones as bins"
        )
    if any(
        count and confidence is None
        for count, confidence in zip(made["counts"], made["confidence"], strict=True)
    ):
        raise UserError(f"'{name}' is not as kdx writes it: a bin with rows has a mean confidence")
    return made


def _number(
    value: Any, name: str, what: str, low: float = -LARGEST_NUMBER, high: float = LARGEST_NUMBER
) -> float:
    return expect_shape(value, Number(low, high), name, what)
