"""Noisy votes and what they cost, by hand and by the accountant; guessing who was a member."""

import importlib.util
import math
import random

import numpy as np
import pytest

from kdx.core.errors import UserError
from kdx.methods.membership import ShadowAttack, attacked, by_loss, row_losses
from kdx.methods.private_budget import (
    affordable,
    epsilon_closed,
    epsilon_spent,
    noise_within,
    scaled_noise,
)
from kdx.methods.private_votes import (
    UNANSWERED,
    VoteNoise,
    count_votes,
    epsilon_given_votes,
    exact_labels,
    log_moment,
    noisy_labels,
    source_of_noise,
    wrong_by_noise,
)

counted = pytest.mark.skipif(
    importlib.util.find_spec("dp_accounting") is None, reason="could not import 'dp_accounting'"
)
LAPLACE, GAUSSIAN = VoteNoise("laplace", 20), VoteNoise("gaussian", 40)
CONFIDENT = VoteNoise("confident", 40, 30, 60)


def test_the_hand_numbers_of_the_bound_that_reads_the_votes():
    assert wrong_by_noise((240, 10), 0.05) == pytest.approx(3.418907e-5, rel=1e-6)
    assert log_moment((240, 10), 0.05, 8) == pytest.approx(7.066e-5, rel=1e-4)
    assert log_moment((125, 125), 0.05, 8) == pytest.approx(0.36)  # no data would do better
    assert epsilon_given_votes([(240, 10)] * 100, 0.05, 1e-5) == pytest.approx(0.362651, abs=1e-6)
    assert epsilon_given_votes([(130, 120)] * 100, 0.05, 1e-5) == pytest.approx(5.302585, abs=1e-6)


def test_the_hand_numbers_of_the_closed_forms():
    assert epsilon_closed(LAPLACE, 100, 1e-5) == pytest.approx(5.7985, abs=1e-4)
    assert epsilon_closed(LAPLACE, 10, 1e-5) == pytest.approx(1.0)  # 2 g k, the smaller one of few
    assert epsilon_closed(GAUSSIAN, 100, 1e-5) == pytest.approx(1.7590, abs=1e-4)
    rho = 100 / 40**2 + 100 / (2 * 60**2)
    assert epsilon_closed(CONFIDENT, 100, 1e-5) == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e5)))
    assert epsilon_closed(GAUSSIAN, 0, 1e-5) == 0


@counted
def test_the_accountant_never_says_more_than_the_closed_form():
    for noise in (LAPLACE, GAUSSIAN, CONFIDENT):
        for queries in (1, 100):
            assert 0 < epsilon_spent(noise, queries, 1e-5) <= epsilon_closed(noise, queries, 1e-5)
    assert epsilon_spent(CONFIDENT, 100, 1e-5) > epsilon_spent(GAUSSIAN, 100, 1e-5)  # its threshold costs
    assert epsilon_spent(GAUSSIAN, 101, 1e-5) > epsilon_spent(GAUSSIAN, 100, 1e-5)


@counted
def test_one_gaussian_query_costs_what_the_exact_formula_says():
    """Balle and Wang 2018, theorem 8: delta(eps) of a Gaussian of sensitivity sqrt(2)."""
    epsilon, ratio = epsilon_spent(VoteNoise("gaussian", 5), 1, 1e-5), math.sqrt(2) / 5

    def normal(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    delta = normal(ratio / 2 - epsilon / ratio) - math.exp(epsilon) * normal(-ratio / 2 - epsilon / ratio)
    assert delta == pytest.approx(1e-5, rel=0.02)


@counted
def test_what_a_budget_affords():
    for noise in (LAPLACE, GAUSSIAN, CONFIDENT):
        few = affordable(noise, 2.0, 1e-5)
        assert epsilon_spent(noise, few, 1e-5) <= 2 < epsilon_spent(noise, few + 1, 1e-5)
        wide = noise_within(noise, 300, 2.0, 1e-5)
        assert epsilon_spent(wide, 300, 1e-5) <= 2 < epsilon_spent(scaled_noise(wide, 0.95), 300, 1e-5)
    assert affordable(VoteNoise("gaussian", 0.1), 0.5, 1e-5) == 0


def test_votes_are_counted_and_the_most_win():
    said = np.array([[0, 1, 2], [0, 1, 1], [2, 0, 1]])
    assert count_votes(said, 3).tolist() == [[2, 0, 1], [1, 2, 0], [0, 2, 1]]
    assert exact_labels(count_votes(said, 3)).tolist() == [0, 1, 1]


@pytest.mark.parametrize("kind", ["laplace", "gaussian", "confident"])
def test_with_hardly_any_noise_it_is_the_vote(kind):
    votes = np.random.Generator(np.random.PCG64(0)).multinomial(50, [0.5, 0.3, 0.2], 40) * 3 + [0, 1, 2]
    noise = VoteNoise(kind, 1e-3, *((0, 1e-3) if kind == "confident" else ()))
    assert noisy_labels(votes, noise, source_of_noise(1)).tolist() == exact_labels(votes).tolist()


def test_noise_has_the_width_that_is_asked_for():
    """The share of wrong answers to votes of (12, 8): of the difference of two noises beyond 4."""
    votes = np.tile([12, 8], (4000, 1))
    found = (noisy_labels(votes, VoteNoise("gaussian", 5), random.Random(0)) == 1).mean()
    assert found == pytest.approx(0.5 * math.erfc(4 / 5 / 2), abs=0.02)
    found = (noisy_labels(votes, VoteNoise("laplace", 5), random.Random(0)) == 1).mean()
    assert found == pytest.approx(wrong_by_noise((12, 8), 1 / 5), abs=0.02)  # exact for two classes


def test_unsure_votes_stay_unanswered():
    votes = np.array([[40, 10], [26, 24]])
    found = noisy_labels(votes, VoteNoise("confident", 0.1, 35, 0.1), source_of_noise(0))
    assert found.tolist() == [0, UNANSWERED]


def test_noise_of_the_system_differs_and_of_a_seed_does_not():
    votes = np.tile([5, 5], (64, 1))
    one, other = (noisy_labels(votes, GAUSSIAN, source_of_noise(None)) for _ in range(2))
    assert one.tolist() != other.tolist()
    one, other = (noisy_labels(votes, GAUSSIAN, source_of_noise(7)) for _ in range(2))
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("poisson", 1), "recipe.noise"),
        (("gaussian", 0), "recipe.sigma"),
        (("confident", 1, -1, 1), "recipe.threshold"),
        (("confident", 1, 1, 0), "recipe.threshold_sigma"),
    ],
)
def test_wrong_noise_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        VoteNoise(*given)


def test_the_area_under_the_curve_by_hand():
    assert attacked(np.array([3.0, 1.0]), np.array([2.0, 0.0])).auc == 0.75
    assert attacked(np.ones(4), np.ones(3)).auc == 0.5  # equal ones are half a win
    found = attacked(np.linspace(0, 1, 100), np.linspace(0, 1, 100))
    assert found.auc == pytest.approx(0.5) and found.standard_error == pytest.approx(0.041, abs=0.001)


def test_a_network_that_knows_its_rows_by_heart_is_told_apart():
    random = np.random.Generator(np.random.PCG64(0))

    def said(rows, sure):
        logits = random.normal(0, 1, (rows, 3))
        truth = random.integers(3, size=rows)
        logits[np.arange(rows), truth] += sure
        probs = np.exp(logits)
        return probs / probs.sum(1, keepdims=True), truth

    attack = ShadowAttack(said(200, 4), said(200, 0))
    members, others = said(100, 4), said(100, 0)
    assert attacked(by_loss(*members), by_loss(*others)).auc > 0.95
    assert attacked(attack(*members), attack(*others)).auc > 0.95
    assert abs(attacked(attack(*said(100, 0)), attack(*others)).auc - 0.5) < 0.12
    assert row_losses(np.array([[0.5, 0.5]]), np.array([1])).tolist() == [pytest.approx(math.log(2))]
