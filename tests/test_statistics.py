"""What is said of several seeds: against scipy's own test, against what chance does, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from kdx.report.compare.statistics import Paired, chance, paired, plus_minus, spread, verdict


def test_p_is_that_of_scipys_paired_test():
    random = np.random.default_rng(0)
    for n in (2, 3, 5, 10, 40):
        a, b = random.normal(0.3, 1, n), random.normal(0, 1, n)
        found, wanted = paired(a.tolist(), b.tolist()), ttest_rel(a, b)
        assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
        assert found.mean == pytest.approx((a - b).mean()) and found.deviation == pytest.approx(
            (a - b).std(ddof=1)
        )
        assert found.wins == (a > b).sum() and found.losses == (a < b).sum()


def test_two_pairs_by_hand():
    """Differences 1 and 3: mean 2, deviation sqrt(2), t = 2 with one degree of freedom, p = 1 - 2 atan(2) /
    pi = .295167.
    """
    found = paired([0.0, 5.0], [-1.0, 2.0])
    assert found.deviation == pytest.approx(math.sqrt(2)) and found.p == pytest.approx(
        1 - 2 * math.atan(2) / math.pi
    )
    assert found.p == pytest.approx(0.295167, abs=1e-6)


def test_a_claim_that_is_not_true_holds_in_one_of_forty():
    """With no difference the verdict is `holds` in 2.5% of trials and `contradicted` in 2.5%, whatever the
    number of seeds.
    """
    random = np.random.default_rng(1)
    for n in (3, 5):
        verdicts = [verdict(paired(*random.normal(0, 1, (2, n)).tolist())) for _ in range(1500)]
        for word in ("holds", "contradicted"):
            # three standard errors
            assert verdicts.count(word) / 1500 == pytest.approx(0.025, abs=0.0125), (
                n,
                word,
            )


def test_exchanging_the_sides_exchanges_the_verdict():
    ahead = paired([3.0, 4.1, 5.0, 6.2], [1.0, 2.0, 3.1, 4.0])
    behind = paired([1.0, 2.0, 3.1, 4.0], [3.0, 4.1, 5.0, 6.2])
    assert (ahead.wins, ahead.losses, behind.wins, behind.losses) == (4, 0, 0, 4)
    assert ahead.p == pytest.approx(behind.p) and (verdict(ahead), verdict(behind)) == (
        "holds",
        "contradicted",
    )


def test_ties_are_neither_won_nor_lost():
    found = paired([0.5, 0.5, 0.6], [0.5, 0.4, 0.7])
    assert (found.n, found.wins, found.losses) == (3, 1, 1)


def test_differences_that_are_all_the_same_have_no_p():
    """Accuracies on 1,000 rows are often equal to the last digit;
    rounding must not make certainty of that.
    """
    for base in ([0.842, 0.871, 0.9], [84.2, 87.1, 90.0]):
        for step in (0.013, 0.0):
            found = paired([b + step for b in base], base)
            assert found.p is None and verdict(found) == "n.s.", (base, step)
    assert paired([1e-6, 2e-6, 3e-6], [0.0, 0.0, 0.0]).p is not None  # small is not the same


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="2 and 1"):
        paired([1.0, 2.0], [1.0])
    for values in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(ValueError, match="finite numbers, at least one"):
            spread(values)


def test_the_border_of_significance():
    found = Paired(5, 1.0, 1.0, 5, 0, 0.05)
    assert verdict(found) == "n.s." and verdict(Paired(5, 1.0, 1.0, 5, 0, 0.0499)) == "holds"


def test_writing_numbers():
    # never "-0.0"
    assert plus_minus(-0.04, 0.3, 1, signed=True) == "+0.0 ± 0.3" and plus_minus(-0.04, None, 1) == "0.0"
    assert plus_minus(0.1234, 0.05, 3) == "0.123 ± 0.050"
    assert [chance(p) for p in (0.0, 1e-4, 0.00999, 0.01, 0.0999, 0.1, 1.0)] == [
        "<0.0001",
        "0.0001",
        "0.0100",
        "0.010",
        "0.100",
        "0.10",
        "1.00",
    ]
