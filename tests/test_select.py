"""Rules of choice: what they pick, that they pick exactly what is asked,
and what they say when they cannot.
"""

import math
import re
import warnings

import numpy as np
import pytest
import yaml
from scipy.optimize import linprog

from kdx.commands.list import describe_option
from kdx.core.errors import Caution, UserError
from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import MOST_ROWS, confidence, entropy, row_margins
from kdx.methods.select.balanced import Balanced
from kdx.methods.select.cluster_margin import ClusterMargin
from kdx.methods.select.entropy import Entropy
from kdx.methods.select.k_center import KCenter
from kdx.methods.select.margin import Margin
from kdx.methods.select.rad import RAD, dep_round, inclusion, play
from kdx.methods.select.threshold import Threshold
from kdx.methods.select.uniform import Uniform
from kdx.store.component import Component

pytestmark = pytest.mark.filterwarnings("ignore::kdx.core.errors.Caution")


def pool(n=0, *, probs=None, taken=(), wrong=0.2, features=None, labelled=None, seed=0):
    """n rows of random answers of 3 classes, or these probabilities, as both student and teacher."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) if probs is None else np.log(np.asarray(probs, dtype=np.float64))
    held = np.zeros(len(logits), dtype=bool)
    held[list(taken)] = True
    logits = logits.astype(np.float32)
    features = rng.normal(size=(len(logits), 4)) if features is None else np.asarray(features)
    return Pool(
        classes=logits.shape[1],
        taken=held,
        teacher=logits,
        student=logits,
        features=features.astype(np.float32),
        labelled_features=np.float32(labelled or features[:1]),
        wrong=wrong,
    )


def two(*highest):
    """Probabilities of two classes; class 1 where the number is negative."""
    return [(h, 1 - h) if h > 0 else (1 + h, -h) for h in highest]


def margins(*given):
    """Probabilities of two classes with these margins."""
    return two(*[(1 + g) / 2 for g in given])


# --- what is read from logits
# ------------------------------------------------------------------------------------------------------------


def test_confidence_margin_and_entropy_by_hand():
    logits = np.log(np.float32([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1]])) + np.float32(
        [[5], [-3], [0]]
    )
    highest, best = confidence(logits)
    assert highest == pytest.approx([0.7, 0.4, 0.8], abs=1e-6) and best.tolist() == [0, 2, 1]
    assert row_margins(logits, np.array([2, 0])) == pytest.approx([0.7, 0.5], abs=1e-6)
    assert entropy(logits, np.array([0, 2])) == pytest.approx([0.801819, 0.639032], abs=1e-5)


def test_pieces_do_not_show(monkeypatch):
    p = pool(100)
    whole = [
        confidence(p.teacher)[0],
        row_margins(p.student, np.arange(50)),
        entropy(p.student, np.arange(50)),
    ]
    monkeypatch.setattr("kdx.methods.select._rows._PIECE", 21)  # seven rows
    pieces = [
        confidence(p.teacher)[0],
        row_margins(p.student, np.arange(50)),
        entropy(p.student, np.arange(50)),
    ]
    assert all(np.array_equal(a, b) for a, b in zip(whole, pieces, strict=True))


def test_sure_students_still_have_different_margins_and_even_ones_none():
    logits = np.float32([[20, 0, 0], [25, 0, 0], [80, 0, 0], [1, 1, 1], [200, 0, 0]])
    found = 1 - row_margins(logits, np.arange(5))
    assert (
        found[:3] == pytest.approx([3 * math.exp(-20), 3 * math.exp(-25), 0], rel=1e-4, abs=1e-16)
        and found[3] == 1
    )
    assert np.isfinite(entropy(logits, np.arange(5))).all()


# --- RAD
# ------------------------------------------------------------------------------------------------------------


def test_rad_by_hand():
    gains = np.array([0.9, 0.8, 0.5, 0.2])
    p, value = play(gains, 1)
    assert p == pytest.approx([0.254777, 0.286624, 0.458599, 0], abs=1e-6) and value == pytest.approx(
        0.458599, abs=1e-6
    )
    p, value = play(gains, 2)  # rad_loss with m = 1
    assert p == pytest.approx([0.254777, 0.286624, 0.458599, 0], abs=1e-6) and value == pytest.approx(
        0.229299, abs=1e-6
    )
    p, value = play(gains, 0)
    assert p.tolist() == [1, 0, 0, 0] and value == pytest.approx(0.9)
    p, value = play(gains, 3)
    assert np.count_nonzero(p) == 4 and value == pytest.approx(1 / 9.361111, abs=1e-6)
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"given {wrong} of 4"):
            play(gains, wrong)


def linear_program(gains, m, cost):
    """max over p of sum p g - cost * (sum of the m largest p g), the adversary's best answer; its dual: m t +
    sum max(0, p g - t).
    """
    n = len(gains)
    objective = np.concatenate([-gains, [cost * m], np.full(n, float(cost))])  # p, t, u
    above = np.hstack([np.diag(gains), -np.ones((n, 1)), -np.eye(n)])
    simplex = np.concatenate([np.ones(n), np.zeros(n + 1)])[None]
    found = linprog(
        objective,
        A_ub=above,
        b_ub=np.zeros(n),
        A_eq=simplex,
        b_eq=[1],
        bounds=[(0, None)] * n + [(None, None)] + [(0, None)] * n,
    )
    assert found.status == 0
    return -found.fun


@pytest.mark.parametrize("cost", [1, 2])
def test_the_closed_form_is_what_a_linear_program_finds(cost):
    """`rad` takes a gain away (cost 1), `rad_loss` takes it away and as much again (cost 2)."""
    rng = np.random.default_rng(cost)
    for _ in range(25):
        gains = np.sort(rng.uniform(0.01, 1, rng.integers(2, 11)))[::-1]
        for m in range(math.ceil(len(gains) / cost)):
            p, value = play(gains, cost * m)
            assert p.sum() == pytest.approx(1) and value == pytest.approx(
                linear_program(gains, m, cost), abs=1e-9
            )
            paid = p * gains
            # and p is what earns it
            assert paid.sum() - cost * np.sort(paid)[::-1][:m].sum() == pytest.approx(value, abs=1e-12)
            assert np.array_equal(p > 0, gains > value - 1e-12) or m == 0


def test_a_large_game():
    """The size of support that an independent computation found for 1,000 uniform gains and 100 wrong
    answers, on the quantiles of that.
    """
    gains = (np.arange(1000)[::-1] + 0.5) / 1000
    assert np.count_nonzero(play(gains, 100)[0]) == pytest.approx(411, abs=15)
    assert np.count_nonzero(play(gains, 200)[0]) == pytest.approx(554, abs=15)


def test_inclusion_by_hand_and_against_cutting_one_round_at_a_time():
    assert inclusion(np.array([0.9, 0.8, 0.5]), 2) == pytest.approx([0.509554, 0.573248, 0.917197], abs=1e-6)
    assert inclusion(np.array([0.9, 0.9, 0.1]), 2) == pytest.approx([0.5, 0.5, 1])
    assert inclusion(np.array([0.9, 0.5, 0.1]), 3).tolist() == [1, 1, 1] and inclusion(
        np.array([0.4]), 1
    ).tolist() == [1]
    rng = np.random.default_rng(0)
    for _ in range(200):
        gains = np.sort(rng.uniform(0, 1, rng.integers(1, 30)) ** 4 + 1e-6)[::-1]
        count = int(rng.integers(1, len(gains) + 1))
        q, cut = count / gains / (1 / gains).sum(), np.zeros(len(gains), dtype=bool)
        while (q > 1 + 1e-12).any():
            cut |= q > 1
            q = np.where(cut, 1, (count - cut.sum()) / gains / (1 / gains[~cut]).sum())
        assert inclusion(gains, count) == pytest.approx(q, abs=1e-9)


def test_dep_round_keeps_its_chances_and_its_count():
    rng = np.random.default_rng(0)
    for chances in (
        [0.509554, 0.573248, 0.917198, 0],
        [0.5, 0.5],
        [0.1] * 10,
        [1, 0.3, 0.7, 0, 1],
        [0.25, 0.5, 0.9, 0.35, 0.99, 0.01, 1],
    ):
        q = np.array(chances)
        picks = np.array([dep_round(q, rng) for _ in range(4000)])
        assert (picks.sum(1) == round(q.sum())).all()
        assert picks.mean(0) == pytest.approx(q, abs=4.5 * 0.5 / math.sqrt(4000))
        assert not picks[:, q == 0].any() and picks[:, q == 1].all()


def test_dep_round_is_exact_on_many_rows_and_refuses_what_has_no_whole_sum():
    rng = np.random.default_rng(0)
    for n, count in ((100_000, 1), (100_001, 50_000), (99_999, 99_998), (7, 7)):
        weights = rng.uniform(0.01, 1, n)
        q = inclusion(np.sort(1 / weights)[::-1], count)
        assert dep_round(q, rng).sum() == count
    with pytest.raises(ValueError, match="whole sum; theirs is 0.8"):
        dep_round(np.array([0.3, 0.5]), rng)
    with pytest.raises(ValueError, match="whole sum"):
        dep_round(np.array([1.5, 0.5]), rng)


def test_rad_draws_rows_with_the_chances_of_the_game():
    p = pool(probs=margins(0.5, 0.1, 0.8, 0.2))  # gains .5 .9 .2 .8
    counts = np.zeros(4)
    for seed in range(2000):
        chosen = RAD(form="rad", mislabelled=1).choose(p, 2, seed)
        counts[chosen.rows] += 1
    assert counts / 2000 == pytest.approx([0.917198, 0.509554, 0, 0.573248], abs=0.05)
    assert (
        chosen.about
        == {"remaining": 4, "m": 1, "k": 3, "value": pytest.approx(0.458599, abs=1e-6), "support": 3}
        and not chosen.warnings
    )


def test_rad_estimates_the_wrong_answers_among_the_rows_left():
    p = pool(10, taken=[0, 3], wrong=0.25)
    assert RAD(form="rad", mislabelled=None).choose(p, 3, 0).about["m"] == 2
    assert RAD(form="rad", mislabelled=0.5).choose(p, 3, 0).about["m"] == 4
    assert RAD(form="rad", mislabelled=3).choose(p, 3, 0).about["m"] == 3
    with pytest.raises(
        UserError, match="no validation split.*dataset.validation=0.1, or select.mislabelled=0.2"
    ):
        RAD(form="rad", mislabelled=None).choose(pool(10, wrong=None), 3, 0)
    assert RAD(form="rad", mislabelled=0.5).choose(pool(10, wrong=None), 3, 0).about["m"] == 5


def test_rad_loss_with_m_is_rad_with_twice_as_many():
    p = pool(200)
    for m in (3, 40, 99):
        one, other = (
            RAD(form="rad_loss", mislabelled=m).choose(p, 20, m),
            RAD(form="rad", mislabelled=2 * m).choose(p, 20, m),
        )
        assert np.array_equal(one.rows, other.rows) and one.about == other.about | {"m": m}


def test_rad_of_more_than_its_support_takes_the_support_and_the_next_best():
    p = pool(probs=margins(0.5, 0.1, 0.8, 0.2, 0.9))
    chosen = RAD(form="rad", mislabelled=1).choose(p, 4, 0)
    assert chosen.rows.tolist() == [0, 1, 2, 3] and chosen.about["k"] == 3 and chosen.about["support"] == 4
    (reported,) = chosen.warnings
    assert "over 3 of the 5 rows left, and 4 are to be bought" in reported
    assert not RAD(form="rad", mislabelled=1).choose(p, 5, 0).warnings  # all of them: no choice to speak of


@pytest.mark.parametrize("form", ["rad", "rad_loss"])
def test_rad_without_wrong_answers_is_margin_sampling_and_says_so(form):
    p = pool(50, wrong=0.0)
    chosen = RAD(form=form, mislabelled=None).choose(p, 7, 0)
    assert (
        np.array_equal(chosen.rows, Margin().choose(p, 7, 0).rows)
        and chosen.about["k"] == 1
        and chosen.about["m"] == 0
    )
    assert (
        len(chosen.warnings) == 1
        and "no wrong answer among the 50 rows left" in chosen.warnings[0]
        and "select=margin" in chosen.warnings[0]
    )


@pytest.mark.parametrize(
    ("form", "m", "reported"),
    [
        ("rad", 50, "50 of the 50 rows left.*all of them"),
        ("rad", 70, "70 of the 50"),
        ("rad_loss", 25, "half or more"),
    ],
)
def test_rad_where_no_choice_is_safe_is_uniform_and_says_so(form, m, reported):
    p = pool(50)
    found = [RAD(form=form, mislabelled=m).choose(p, 10, seed) for seed in range(400)]
    (warning,) = found[0].warnings
    assert re.search(reported, warning) and "uniformly" in warning and "value" not in found[0].about
    assert np.bincount(np.concatenate([c.rows for c in found]), minlength=50) / 400 == pytest.approx(
        np.full(50, 0.2), abs=0.09
    )


def test_rad_says_what_is_wrong_with_its_hyperparameters():
    for wrong in (-1, 0.0, 1.0, 1.5, True, "many"):
        with pytest.raises(
            UserError,
            match=r"select.mislabelled must be null, a whole number of rows, or a share in \(0, 1\)",
        ):
            RAD(form="rad", mislabelled=wrong)
    with pytest.raises(UserError, match="no option 'radloss'; did you mean 'rad_loss'"):
        RAD(form="radloss", mislabelled=None)


# --- the other rules that buy
# ------------------------------------------------------------------------------------------------------------


def test_uniform_takes_every_row_as_often():
    p = pool(10, taken=[4])
    counts = (
        np.bincount(np.concatenate([Uniform().choose(p, 3, seed).rows for seed in range(2000)]), minlength=10)
        / 2000
    )
    assert counts == pytest.approx([1 / 3 if row != 4 else 0 for row in range(10)], abs=0.05)


def test_margin_and_entropy_take_what_is_hardest():
    # Margins .02, .3, .29, .8; entropies .79, .95, 1.09, .33: they disagree about the first row.
    p = pool(probs=[(0.505, 0.485, 0.01), (0.6, 0.3, 0.1), (0.47, 0.18, 0.35), (0.9, 0.1, 1e-4)])
    chosen = Margin().choose(p, 2, 0)
    assert chosen.rows.tolist() == [0, 2] and chosen.about == {
        "remaining": 4,
        "highest_margin": pytest.approx(0.12, abs=1e-5),
    }
    chosen = Entropy().choose(p, 2, 0)
    assert chosen.rows.tolist() == [1, 2] and chosen.about["lowest_entropy"] == pytest.approx(
        0.897946, abs=1e-5
    )
    assert Margin().choose(pool(probs=margins(0.1, 0.2, 0.3), taken=[0]), 1, 0).rows.tolist() == [1]


def test_equals_are_drawn_at_random():
    p = pool(probs=[(0.5, 0.5)] * 40)
    for rule in (Margin(), Entropy(), RAD(form="rad", mislabelled=0)):
        counts = (
            np.bincount(np.concatenate([rule.choose(p, 10, seed).rows for seed in range(400)]), minlength=40)
            / 400
        )
        assert counts == pytest.approx(np.full(40, 0.25), abs=0.1)


def test_k_center_goes_where_nobody_is():
    line = np.array([0.0, 1, 2, 10, 11, 30])[:, None]
    chosen = KCenter(sample=None).choose(pool(6, features=line, taken=[0]), 2, 0)
    # 30 first, then 11, which is 11 away
    assert chosen.rows.tolist() == [4, 5] and chosen.about["radius"] == pytest.approx(2)
    chosen = KCenter(sample=None).choose(pool(6, features=line, taken=[0]), 3, 0)
    assert chosen.rows.tolist() == [2, 4, 5] and chosen.about["radius"] == pytest.approx(1)
    # labelled examples are centres too
    chosen = KCenter(sample=None).choose(pool(6, features=line, labelled=[[29.0], [1.5]]), 2, 0)
    # 11 is 9.5 away from 1.5, then 0
    assert chosen.rows.tolist() == [0, 4] and chosen.about["radius"] == pytest.approx(1)


def test_k_center_takes_no_row_twice_though_all_are_equal():
    chosen = KCenter(sample=None).choose(pool(6, features=np.ones((6, 3)), taken=[2]), 5, 0)
    assert chosen.rows.tolist() == [0, 1, 3, 4, 5] and chosen.about["radius"] == 0


def test_cluster_margin_goes_round_the_clusters_small_ones_first():
    """Clusters {0..4}, {5, 6}, {7}; margins rise with the row, and the candidates are the first seven rows: 7
    is none of them.
    """
    features = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 10, 10.1, 50])[:, None]
    p = pool(probs=margins(*np.linspace(0.1, 0.8, 8)), features=features)
    rule = ClusterMargin(candidates=7, clusters=3, sample=None)
    # the smallest cluster among the candidates
    assert {int(rule.choose(p, 1, seed).rows[0]) for seed in range(40)} == {
        5,
        6,
    }
    rule = ClusterMargin(candidates=1.75, clusters=3, sample=None)
    for seed in range(20):
        chosen = rule.choose(p, 4, seed)
        # one of each, then one more of each
        assert chosen.rows[2:].tolist() == [5, 6] and chosen.rows[1] <= 4
        assert chosen.about == {
            "remaining": 8,
            "sampled": 8,
            "candidates": 7,
            "clusters": 2,
            "clusters_picked": 2,
        }
    assert {int(rule.choose(p, 4, seed).rows[0]) for seed in range(40)} > {0, 1}  # at random within a cluster


def test_cluster_margin_looks_at_the_smallest_margins_only():
    p = pool(60)
    chosen = ClusterMargin(candidates=2, clusters=None, sample=None).choose(p, 10, 0)
    assert set(chosen.rows) <= set(Margin().choose(p, 20, 0).rows) and chosen.about["candidates"] == 20
    same = ClusterMargin(candidates=1, clusters=None, sample=None).choose(p, 10, 0)
    assert np.array_equal(same.rows, Margin().choose(p, 10, 0).rows)


COMPARING = [lambda s: KCenter(sample=s), lambda s: ClusterMargin(candidates=1.25, clusters=None, sample=s)]


@pytest.mark.parametrize("make", COMPARING)
def test_rules_that_compare_rows_say_their_memory_before_they_start(make, monkeypatch):
    p = pool(300)
    with pytest.warns(Caution, match="compares 300 rows .* MB of memory") as seen:
        chosen = make(None).choose(p, 5, 0)
    assert list(chosen.warnings) == [str(seen[0].message)]

    def stop(*_, **__):
        raise InterruptedError

    monkeypatch.setattr("sklearn.metrics.pairwise.euclidean_distances", stop)
    monkeypatch.setattr("sklearn.cluster.AgglomerativeClustering", stop)
    with pytest.warns(Caution, match="MB of memory"), pytest.raises(InterruptedError):
        make(None).choose(p, 5, 0)


@pytest.mark.parametrize("make", COMPARING)
def test_rules_that_compare_rows_refuse_what_the_machine_cannot_hold_and_broken_features(make, monkeypatch):
    p = pool(300)
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 4000}.get)
    with pytest.raises(
        UserError,
        match="compares 300 rows .* about 1 MB of memory, and this machine has 1 MB: set select.sample=10000",
    ):
        make(None).choose(p, 5, 0)
    monkeypatch.undo()
    p.features[17, 2] = np.inf
    with pytest.raises(UserError, match="features to choose by hold NaN or infinity"):
        make(None).choose(p, 5, 0)


@pytest.mark.parametrize("make", COMPARING)
def test_rules_that_compare_rows_refuse_too_many_and_sample_instead(make):
    big = pool(MOST_ROWS + 1, features=np.zeros((MOST_ROWS + 1, 1)))
    with pytest.raises(
        UserError, match="at most 50,000 of them, and 50,001 are left: set select.sample=25000"
    ):
        make(None).choose(big, 5, 0)
    chosen = make(200).choose(pool(MOST_ROWS + 1), 5, 0)
    assert (
        len(chosen.rows) == 5
        and chosen.about["sampled"] == 200
        and chosen.about["remaining"] == MOST_ROWS + 1
        and chosen.rows.max() > 5000
    )
    with pytest.raises(UserError, match="201 answers are to be bought among select.sample=200 rows"):
        make(200).choose(big, 201, 0)
    assert make(200).choose(pool(100), 5, 0).about["sampled"] == 100
    with pytest.raises(UserError, match="select.sample must be at least 1 and at most 50000; given: 50001"):
        make(MOST_ROWS + 1)


def test_hyperparameters_of_cluster_margin_are_checked():
    with pytest.raises(UserError, match="select.candidates must be at least 1; given: 0.5"):
        ClusterMargin(candidates=0.5, clusters=None, sample=None)
    with pytest.raises(UserError, match="select.clusters must be at least 1; given: 0"):
        ClusterMargin(candidates=1.25, clusters=0, sample=None)


# --- filters
# ------------------------------------------------------------------------------------------------------------


def test_threshold_keeps_what_is_sure():
    p = pool(probs=two(0.95, 0.6, -0.7, -0.99, 0.9 + 1e-6, 0.89), taken=[0])
    chosen = Threshold(threshold=0.9, per_class=None).choose(p, None, 0)
    assert chosen.rows.tolist() == [0, 3, 4] and not chosen.warnings
    assert chosen.about == {
        "kept": 3,
        "share": 0.5,
        "highest_confidence": pytest.approx(0.99),
        "per_class": [2, 1],
    }
    assert Threshold(threshold=0, per_class=None).choose(p, None, 0).rows.tolist() == list(range(6))


def test_the_best_of_each_class():
    p = pool(probs=two(0.95, 0.6, -0.7, -0.99, 0.97, 0.89, 0.96))
    chosen = Threshold(threshold=0.65, per_class=2).choose(p, None, 0)
    assert chosen.rows.tolist() == [2, 3, 4, 6] and chosen.about["per_class"] == [2, 2]
    assert Threshold(threshold=0.8, per_class=2).choose(p, None, 0).rows.tolist() == [3, 4, 6]  # few are few
    assert Threshold(threshold=0, per_class=1).choose(
        pool(probs=two(0.8, 0.8, -0.8)), None, 0
    ).rows.tolist() == [0, 2]


@pytest.mark.parametrize("make", [Threshold, Balanced])
def test_an_empty_selection_names_the_highest_confidence_and_what_to_set(make):
    p = pool(probs=two(0.6, 0.876, -0.7))
    with pytest.raises(
        UserError,
        match=(
            r"no pseudo-label reaches select.threshold=0.9: the highest confidence of 3 is 0.876\. Set "
            r"select.threshold=0.87 or lower"
        ),
    ):
        make(threshold=0.9, per_class=None).choose(p, None, 0)
    assert len(make(threshold=0.87, per_class=None).choose(p, None, 0).rows)
    with pytest.raises(UserError, match="the pool has no rows"):
        make(threshold=0.3, per_class=None).choose(pool(0), None, 0)
    with pytest.raises(UserError, match="select.threshold must be at least 0 and at most 1; given: 90"):
        make(threshold=90, per_class=None)
    with pytest.raises(UserError, match="select.per_class must be at least 1; given: 0"):
        make(threshold=0.9, per_class=0)


@pytest.mark.parametrize("make", [Threshold, Balanced])
def test_classes_without_a_pseudo_label_are_named(make):
    (reported,) = (
        make(threshold=0.5, per_class=None).choose(pool(probs=[(0.8, 0.1, 0.1)] * 3), None, 0).warnings
    )
    assert "2 of 3 classes have no pseudo-label (1, 2)" in reported


def test_balanced_takes_whole_bins_from_the_top_and_rounds_at_random():
    """Class 0: bins .95 (2 rows), .9 (2), .4 (1); K = 3 takes the first four, 3/4 of a copy each. Class 1:
    two rows, 3/2 copies each.
    """
    p = pool(probs=two(0.951, 0.958, 0.905, 0.901, 0.405 + 0.2, -0.8, -0.55, -0.52), taken=[])
    rule, counts = Balanced(threshold=0.54, per_class=3), []
    for seed in range(2000):
        chosen = rule.choose(p, None, seed)
        assert (np.diff(chosen.rows) >= 0).all() and chosen.rows.dtype == np.int64
        counts.append(np.bincount(chosen.rows, minlength=8))
    counts = np.array(counts)
    assert counts.mean(0) == pytest.approx([0.75] * 4 + [0, 1.5, 1.5, 0], abs=0.05)
    assert set(counts[:, 0]) == {0, 1} and set(counts[:, 5]) == {1, 2}  # up or down, nothing else
    assert (
        chosen.about["wanted"] == 3
        and chosen.about["kept"] == len(chosen.rows)
        and chosen.about["distinct"] == len(set(chosen.rows))
    )
    assert chosen.about["per_class"] == [counts[-1, :5].sum(), counts[-1, 5:].sum()]


def test_balanced_without_a_number_wants_the_pool_over_the_classes():
    p = pool(probs=two(*[0.9] * 6, *[-0.9] * 2, 0.2 + 0.35))
    chosen = Balanced(threshold=0.6, per_class=None).choose(p, None, 0)
    assert (
        chosen.about["wanted"] == 4
        and chosen.rows.tolist().count(6) == 2
        and chosen.rows.tolist().count(7) == 2
        and 8 not in chosen.rows
    )


@pytest.mark.parametrize(
    ("confidence", "bin_"), [(0.29, 0.29), (0.3, 0.3), (0.57, 0.57), (0.58, 0.58), (1.0, 1.0)]
)
def test_a_confidence_on_an_edge_belongs_to_the_bin_above(confidence, bin_):
    """29/100 * 100 is 28.999...: a bin by multiplying would be one too low."""
    from kdx.methods.select.balanced import EDGES

    assert EDGES[np.searchsorted(EDGES, confidence, side="right") - 1] == bin_


def test_balanced_warns_of_many_copies_and_stops_where_nothing_is_left():
    p = pool(probs=two(*[0.9] * 59, -0.9))
    (reported,) = Balanced(threshold=0.5, per_class=None).choose(p, None, 0).warnings
    assert "1 classes are repeated more than 10 times to be balanced, class 1 30 times" in reported
    with pytest.raises(UserError, match="select.per_class=1 is so few"):
        for seed in range(100):  # a chance of 1 in 3 each, that none of 50 rows is kept
            Balanced(threshold=0.5, per_class=1).choose(pool(probs=two(*[0.9] * 50)), None, seed)


# --- all rules
# ------------------------------------------------------------------------------------------------------------


def files(root):
    return [path for path in sorted((root / "conf" / "select").glob("*.yaml")) if path.stem != "all"]


def rules(root):
    """name -> (the rule as its file describes it, the file's text)"""
    found = {}
    for path in files(root):
        text = path.read_text()
        loaded = yaml.safe_load(text)
        found[path.stem] = Component(loaded.get("select", loaded)).build(), text
    return found


def test_every_option_is_a_rule_and_says_what_it_is(root):
    found = rules(root)
    assert set(found) == {
        "threshold",
        "balanced",
        "rad",
        "rad_loss",
        "uniform",
        "margin",
        "entropy",
        "k_center",
        "cluster_margin",
    }
    for name, (rule, text) in found.items():
        assert isinstance(rule, Rule) and set(rule.needs) <= {
            "teacher",
            "student",
            "features",
            "labelled_features",
        }, name
        assert 20 < len(describe_option(root / "conf" / "select" / f"{name}.yaml")) < 140
        brings_recipe = text.startswith("# @package _global_\n") and yaml.safe_load(text)["defaults"] == [
            {"override /recipe": "active"}
        ]
        assert rule.buys == brings_recipe, name
    assert yaml.safe_load((root / "conf/select/all.yaml").read_text()) == {} and describe_option(
        root / "conf/select/all.yaml"
    )


def test_a_rule_reads_only_what_it_needs_and_gives_what_it_promises(root):
    for name, (rule, _) in rules(root).items():
        whole = pool(300, taken=range(0, 300, 7), seed=3)
        whole = Pool(**{**vars(whole), "teacher": 5 * whole.teacher})  # so that some are sure
        p = Pool(
            **{
                **vars(whole),
                **{
                    part: None
                    for part in ("teacher", "student", "features", "labelled_features")
                    if part not in rule.needs
                },
            }
        )
        count = 40 if rule.buys else None
        chosen, again, other = (rule.choose(p, count, seed) for seed in (1, 1, 2))
        assert (
            isinstance(chosen, Chosen) and chosen.rows.dtype == np.int64 and (np.diff(chosen.rows) >= 0).all()
        ), name
        assert (
            np.array_equal(chosen.rows, again.rows)
            and chosen.about == again.about
            and list(chosen.warnings) == list(again.warnings)
        ), name
        assert all(
            type(v) in (int, float) or (type(v) is list and {type(x) for x in v} == {int})
            for v in chosen.about.values()
        ), (name, chosen.about)
        if rule.buys:
            assert len(chosen.rows) == 40 == len(set(chosen.rows)) and not p.taken[chosen.rows].any(), name
        if name in ("rad", "rad_loss", "uniform", "balanced", "cluster_margin"):
            assert not np.array_equal(chosen.rows, other.rows), f"{name} is to be random"


def test_a_pool_of_one_and_a_budget_of_all(root):
    for name, (rule, _) in rules(root).items():
        p = pool(probs=[(0.96, 0.02, 0.02)], wrong=0.0)
        assert rule.choose(p, 1 if rule.buys else None, 0).rows.tolist() == [0], name
        if rule.buys:
            p = pool(30, taken=[3])
            assert rule.choose(p, 29, 0).rows.tolist() == [row for row in range(30) if row != 3], name


def test_more_than_is_left_is_refused_with_both_numbers(root):
    for rule, _ in rules(root).values():
        if rule.buys:
            with pytest.raises(
                UserError,
                match="7 answers are to be bought, but only 6 of the pool's 10 rows are left: lower budget",
            ):
                rule.choose(pool(10, taken=[0, 1, 2, 5]), 7, 0)
            for count in (0, None):
                with pytest.raises(UserError, match=f"at least 1; given: {count}: set budget"):
                    rule.choose(pool(10), count, 0)


def test_broken_answers_are_refused(root):
    for name, (rule, _) in rules(root).items():
        p = pool(20)
        p.student[13, 1] = np.nan
        if {"student", "teacher"} & set(rule.needs):
            with pytest.raises(UserError, match="NaN or infinity, first in pool row 13"):
                rule.choose(p, 5 if rule.buys else None, 0)
        else:
            assert name in ("uniform", "k_center")


def test_only_the_rules_that_say_their_memory_warn_early(root):
    for name, (rule, _) in rules(root).items():
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            rule.choose(
                Pool(**{**vars(pool(60)), "teacher": 9 * pool(60).teacher}), 5 if rule.buys else None, 0
            )
        assert bool(seen) == (name in ("k_center", "cluster_margin")), name
