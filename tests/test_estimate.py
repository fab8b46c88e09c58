"""Estimates from validation: hand numbers of the methods' sections, against brute force and scikit-learn, and
the ends of every range.
"""

import math
import warnings

import numpy as np
import pytest
import torch
from tasks import classification

from kdx.core.errors import Caution, UserError
from kdx.core.types import Parts, Split
from kdx.methods import estimators, neighbours
from kdx.models import modes

T = torch.tensor
VALIDATION = T(
    [
        [0.9, 0.8, 0, 0.2, 0.2],
        [0.8, 0.7, 0, 0.4, 0.4],
        [0.2, 0.3, 1, 0.5, 2],
        [0.1, 0.2, 0, 1, 1],
        [0.15, 0.9, 1, 0.1, 3],
    ]
)
POINTS, WRONG, TRUE, NOISY = VALIDATION[:, :2], VALIDATION[:, 2].bool(), VALIDATION[:, 3], VALIDATION[:, 4]


def made_up(rows=400, classes=6, seed=0):
    """Probabilities of a teacher that is right more often where it is surer, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    probs = (2 * torch.randn(rows, classes, generator=generator)).softmax(1)
    return probs, torch.multinomial(probs, 1, generator=generator)[:, 0]


# Isotonic regression


@pytest.mark.parametrize(
    "y, fit",
    [
        ([0, 1, 0, 1, 1], [0, 0.5, 0.5, 1, 1]),
        ([0, 0, 1, 0, 1, 1, 0, 1], [0, 0, 0.5, 0.5, 2 / 3, 2 / 3, 2 / 3, 1]),
    ],
)
def test_isotonic_by_hand(y, fit):
    x = torch.arange(len(y)) / 10
    assert estimators.interpolate(x, *estimators.isotonic(x, T(y))).tolist() == pytest.approx(fit)


def test_isotonic_interpolates_and_clips_at_its_ends():
    knots, values = estimators.isotonic(T([0.2, 0.4, 0.6]), T([0.1, 0.5, 0.9]))
    assert len(knots) == len(values) == 3
    assert estimators.interpolate(
        T([-5.0, 0.2, 0.3, 0.55, 0.6, 0.99]), knots, values
    ).tolist() == pytest.approx([0.1, 0.1, 0.3, 0.8, 0.9, 0.9])


def test_isotonic_is_scikit_learns_everywhere():
    from sklearn.isotonic import IsotonicRegression

    probs, truth = made_up()
    x, y = probs.max(1).values, (probs.argmax(1) == truth).float()
    queries = torch.linspace(0, 1, 1001)
    theirs = (
        IsotonicRegression(out_of_bounds="clip")
        .fit(x.double().numpy(), y.numpy())
        .predict(queries.double().numpy())
    )
    ours = estimators.interpolate(queries, *estimators.isotonic(x, y))
    assert (
        np.abs(ours.numpy() - theirs).max() < 1e-5 and (ours.diff() >= 0).all() and ours.unique().numel() > 5
    )


@pytest.mark.parametrize(
    "x, y, fit",
    [
        ([0.3], [1.0], [1, 1, 1]),
        ([0.5, 0.5], [0.0, 1.0], [0.5, 0.5, 0.5]),
        ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5, 0.5]),
    ],
)
def test_isotonic_of_one_row_of_equal_rows_and_of_a_falling_curve(x, y, fit):
    knots, values = estimators.isotonic(T(x), T(y))
    assert len(knots) == 2
    assert estimators.interpolate(T([0.0, 0.5, 1.0]), knots, values).tolist() == pytest.approx(fit)


# Top-k


def test_top_k_scores_by_hand():
    ranked = T([[0.5, 0.3, 0.2]])
    assert estimators.top_k_score(ranked, "mass")[0].tolist() == pytest.approx([0.5, 0.8, 1.0])
    assert estimators.top_k_score(ranked, "gap")[0].tolist() == pytest.approx([0.2, 0.1, 0.2])
    _, hits = estimators.top_k_hits(T([[0.2, 0.5, 0.3]]), T([0]))
    assert hits.tolist() == [[False, False, True]]


@pytest.mark.parametrize("by", estimators.BY)
@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
def test_smallest_k_is_what_the_curves_say(by, threshold):
    probs, truth = made_up()
    queries, _ = made_up(300, seed=1)
    scores = estimators.top_k_score(queries.sort(1, descending=True).values, by)
    ranked, hits = estimators.top_k_hits(probs, truth)
    ranks = estimators.top_k_score(ranked, by)
    curves = [estimators.isotonic(ranks[:, k - 1], hits[:, k - 1].float()) for k in range(2, 6)]
    fitted = torch.stack(
        [estimators.interpolate(scores[:, k - 1], *curve) for k, curve in enumerate(curves, 2)], dim=1
    )
    expected = [next((k for k, accuracy in enumerate(row, 2) if accuracy >= threshold), 6) for row in fitted]
    found = estimators.smallest_k(queries, estimators.top_k_cuts(probs, truth, threshold, by), by)
    assert found.tolist() == expected and found.min() >= 2
    assert threshold == 0.5 or found.unique().numel() > 1


def test_smallest_k_at_the_edges():
    probs, truth = made_up()
    right, wrong = probs.argmax(1), probs.argmin(1)
    for by in estimators.BY:
        assert (
            estimators.smallest_k(probs, estimators.top_k_cuts(probs, right, 0.9, by), by) == 2
        ).all()  # always right: the floor
        assert (
            estimators.smallest_k(probs, estimators.top_k_cuts(probs, wrong, 0.9, by), by) == 6
        ).all()  # the truth always comes last: all
        assert (estimators.smallest_k(probs, estimators.top_k_cuts(probs, truth, 0.0, by), by) == 2).all()
        two = T([[0.9, 0.1], [0.4, 0.6]])
        assert estimators.smallest_k(two, estimators.top_k_cuts(two, T([1, 0]), 0.9, by), by).tolist() == [
            2,
            2,
        ]


@pytest.mark.parametrize(
    "threshold, x", [(0.1, -math.inf), (0.2, -math.inf), (0.4, 0.25), (0.6, 0.5), (0.61, math.inf)]
)
def test_reaches_inverts_the_curve(threshold, x):
    assert estimators.reaches(T([0.0, 0.5, 1.0]), T([0.2, 0.6, 0.6]), threshold) == pytest.approx(x)


# Weights


@pytest.mark.parametrize("p, d, w", [(0.3, 4, 0.526316), (0.3, 0.5, 1), (0, 9, 1), (1, 4, 0.25), (1, 0, 1)])
def test_debiasing_weight_by_hand(p, d, w):
    assert neighbours.debiasing_weight(T([float(p)]), T([float(d)])).item() == pytest.approx(w, abs=1e-6)


def test_the_weighted_noisy_risk_is_the_clean_risk():
    """7 points with loss .5 that the teacher gets right, 3 that it gets wrong with noisy loss 2 and true loss
    .5.
    """
    noisy, true, wrong = T([0.5] * 7 + [2.0] * 3), T([0.5] * 10), T([False] * 7 + [True] * 3)
    everybody = torch.arange(10)[None]
    assert noisy.mean().item() == pytest.approx(0.95)
    for estimator in neighbours.ESTIMATORS:
        weight = neighbours.neighbour_weights(everybody, wrong, true, noisy, estimator)
        assert weight.item() == pytest.approx(0.526316, abs=1e-6) and (
            weight * noisy.mean()
        ).item() == pytest.approx(0.5, abs=1e-6)


def test_neighbours_and_weights_by_hand():
    query = T([[0.15, 0.25]])
    found = neighbours.nearest_points(POINTS, query, 2)
    assert (
        sorted(found[0].tolist())
        == [2, 3]
        == sorted(neighbours.nearest_of_many(POINTS, query, 2)[0].tolist())
    )
    p, d = neighbours.distortion(found, WRONG, TRUE, NOISY)
    assert (p.item(), d.item()) == pytest.approx((0.5, 4))
    assert neighbours.neighbour_weights(found, WRONG, TRUE, NOISY, "mean_of_ratios").item() == pytest.approx(
        0.4
    )
    assert neighbours.neighbour_weights(found, WRONG, TRUE, NOISY, "ratio_of_means").item() == pytest.approx(
        0.5
    )


def test_no_wrong_neighbour_means_weight_1():
    found = neighbours.nearest_points(POINTS, T([[0.85, 0.75]]), 2)
    p, d = neighbours.distortion(found, WRONG, TRUE, NOISY)
    assert (p.item(), d.item()) == (0, 1)
    assert [
        neighbours.neighbour_weights(found, WRONG, TRUE, NOISY, e).item() for e in neighbours.ESTIMATORS
    ] == [1, 1]


@pytest.mark.parametrize("estimator", neighbours.ESTIMATORS)
@pytest.mark.parametrize("true, noisy", [(0.0, 0.0), (0.0, 50.0), (50.0, 0.0), (1e-12, 1e-12)])
def test_weights_are_numbers_whatever_the_losses(estimator, true, noisy):
    found, whole = T([[0, 1]]), T([True, True])
    weight = neighbours.neighbour_weights(found, whole, T([true] * 2), T([noisy] * 2), estimator).item()
    assert 0 <= weight <= 1 and weight == pytest.approx(1 if noisy <= true else 1e-3, abs=1.1e-3)


def test_the_distortion_is_clipped():
    _, d = neighbours.distortion(T([[0]]), T([True]), T([0.0]), T([30.0]))
    assert d.item() == 1e3


def sample(points=800, queries=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z, q = (
        torch.rand(points, 2, generator=generator).sqrt(),
        torch.rand(queries, 2, generator=generator).sqrt(),
    )
    wrong = torch.rand(points, generator=generator) > z[:, 0]
    true = 0.1 + torch.rand(points, generator=generator)
    return z, q, wrong, true, torch.where(wrong, true + 2 * z[:, 1], true)


def test_nearest_is_exact_also_where_margins_are_nearly_equal(monkeypatch):
    z, q, *_ = sample()
    z, q = 1 - z * 1e-4, 1 - q * 1e-4  # a confident pair of networks
    whole = ((q[:, None].double() - z.double()) ** 2).sum(2).sort(1).values[:, :14]
    monkeypatch.setattr(neighbours, "AT_ONCE", 800 * 999)  # in several parts, the last one short
    for search in (neighbours.nearest_points, neighbours.nearest_of_many):
        found = search(z, q, 14)
        distance = ((q[:, None].double() - z[found].double()) ** 2).sum(2).sort(1).values
        assert found.shape == (3000, 14) and torch.allclose(distance, whole, rtol=1e-6, atol=0)


@pytest.mark.parametrize("estimator", neighbours.ESTIMATORS)
def test_the_grids_error_against_the_exact_answer(estimator):
    z, q, wrong, true, noisy = sample()
    exact = neighbours.neighbour_weights(neighbours.nearest_points(z, q, 14), wrong, true, noisy, estimator)
    errors = {}
    for cells in (16, 256):
        grid = neighbours.weight_grid(z, wrong, true, noisy, k=14, estimator=estimator, cells=cells)
        errors[cells] = (neighbours.look_up(grid, q) - exact).abs().mean().item()
    assert exact.std() > 0.05  # there is something to miss
    assert errors[256] < 0.01 < 3 * errors[256] < errors[16]


def test_the_grid_is_exact_on_its_own_places():
    z, _, wrong, true, noisy = sample()
    grid = neighbours.weight_grid(z, wrong, true, noisy, k=14, estimator="mean_of_ratios", cells=8)
    ticks = torch.linspace(0, 1, 8)
    places = torch.stack([ticks, ticks.flip(0) ** 2], 1)
    places = (places * 7).round() / 7
    assert torch.allclose(
        neighbours.look_up(grid, places),
        neighbours.neighbour_weights(
            neighbours.nearest_points(z, places, 14), wrong, true, noisy, "mean_of_ratios"
        ),
    )
    assert neighbours.look_up(grid, T([[0.0, 1.0]])) == grid[0, 7] != grid[7, 0]


# The validation split


def test_a_missing_validation_split_is_reported():
    with pytest.raises(UserError, match=r"loss=slam .* set dataset\.validation=0\.1"):
        estimators.validation_split(None, "loss=slam")


def reported(truth, right):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        estimators.caution(T(truth), T(right), "loss=x", "ALL RIGHT", "ALL WRONG")
    assert all(w.category is Caution for w in found)
    return " | ".join(str(w.message) for w in found)


def test_cautions():
    assert reported([0, 1] * 10, [True, False] * 10) == ""
    assert (
        "19 rows" in (few := reported([0, 1] * 9 + [0], [True, False] * 9 + [True]))
        and "52.6%, has a standard error of 11 points" in few
    )
    assert "of class 3" in reported([3] * 20, [True, False] * 10)
    assert (
        "never wrong" in (right := reported([0, 1] * 10, [True] * 20))
        and "ALL RIGHT" in right
        and "ALL WRONG" not in right
    )
    assert "always wrong" in (wrong := reported([0, 1] * 10, [False] * 20)) and "ALL WRONG" in wrong
    assert "standard error of 35 points" in reported([0, 1], [True, False])


def test_ask_goes_through_all_clean_rows_without_gradient():
    layer = torch.nn.Linear(4, 3)
    split = Split(
        "validation", torch.randint(256, (1100, 1, 2, 2), dtype=torch.uint8), torch.arange(1100) % 3
    )
    parts = Parts(layer, None, None, [], split, classification(3))
    truth, one, two = estimators.validation_answers(
        parts,
        lambda b: layer(b.views["main"].flatten(1)),
        lambda b: torch.ones(len(b), 3, dtype=torch.float16),
    )
    assert (
        torch.equal(truth, split.truth)
        and one.shape == (1100, 3)
        and not one.requires_grad
        and two.dtype == torch.float32
    )
    assert torch.allclose(one[700], layer(split.inputs[700].flatten() / 255), atol=1e-6)


def test_evaluating_gives_each_layer_its_mode_back():
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(2)).train()
    net[1].eval()  # a frozen layer
    with modes.evaluating(net):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == [True, True, False]
