"""Halfspaces under label noise: each rule by hand, the setting of the paper's claim, and the command."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.runs.studies import halfspace
from kdx.runs.studies.halfspace import METHODS, Problem

SMALL = {
    "dimension": 10,
    "margin": 0.1,
    "noise": 0.2,
    "stretch": 6.0,
    "rows": 2000,
    "steps": 2000,
    "test_rows": 2000,
}
EAST, NORTH = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])


def test_the_ramp_and_the_mix_by_hand():
    assert [halfspace.clipped_ramp(s, 0.1) for s in (-1, -0.1, 0, 0.05, 0.1, 1)] == pytest.approx(
        [0, 0, 0.5, 0.75, 1, 1]
    )
    assert [halfspace.flipped_mean(f, 0.2) for f in (0, 0.5, 1)] == pytest.approx([0.2, 0.5, 0.8])
    assert halfspace.sigmoid(0) == 0.5 and halfspace.sigmoid(-10_000) == 0


def test_two_updates_by_hand():
    """T = 2, so the rate is 1/sqrt(2). First x = (1, 0), y = 1: w = (.5, 0)/sqrt(2) = (.353553, 0). Again:
    the ramp at .353553 is 1, mixed .8, and 1 - .8 = .2: w = (.353553 + .141421, 0) = (.494975, 0). The mean
    is .424264."""
    w = halfspace.fit_slam(EAST, np.array([1.0]), [0, 0], margin=0.1, noise=0.2)
    assert w == pytest.approx([0.424264, 0], abs=1e-6)
    uncorrected = halfspace.fit_slam(EAST, np.array([1.0]), [0, 0], margin=0.1, noise=0.0)
    assert uncorrected == pytest.approx([0.353553, 0], abs=1e-6)  # the ramp says 1 already: no second step


def test_w_is_brought_back_into_the_ball_by_hand():
    """Points of norm 4 here, so that one step of (.5)(4)/sqrt(2) = 1.414 leaves the unit ball; y = 0 then
    takes .8 * 4 / sqrt(2) from 1: -1.26 -> -1.
    """
    far = np.array([[4.0, 0.0], [4.0, 0.0]])
    assert halfspace.fit_slam(far, np.array([1.0, 1.0]), [0, 0], margin=0.1, noise=0.2) == pytest.approx(
        [1, 0]
    )
    assert halfspace.fit_slam(far, np.array([1.0, 0.0]), [0, 1], margin=0.1, noise=0.2) == pytest.approx(
        [0, 0], abs=1e-12
    )


def test_the_ball_of_a_norm_scales_the_rate_by_hand():
    """radius 3, T = 1: w = 3 * .5 = 1.5, inside the ball."""
    assert halfspace.ball_logistic(EAST, np.array([1.0]), [0], radius=3.0) == pytest.approx([1.5, 0])


def test_perceptron_and_averaging_by_hand():
    points, labels = np.concatenate([EAST, NORTH]), np.array([1.0, 0.0])
    last, mean = halfspace.perceptron(points, labels, [0, 1, 0])
    assert last == pytest.approx([1, -1])  # the third example is right already
    assert mean == pytest.approx([1, -2 / 3])
    assert halfspace.averaging(points, labels) == pytest.approx([0.5, -0.5])
    assert halfspace.error(np.array([1.0, 1.0]), points, labels) == 0.5


def test_the_bound_by_hand():
    """4 / (.6 * .1 * sqrt(20000)) = .4714;
    with 5,000 examples passed over four times only 5,000 count: .9428
    """
    problem = Problem(**SMALL | {"rows": 20000, "steps": 20000})
    assert halfspace.bound(problem) == pytest.approx(0.471405, abs=1e-6)
    assert halfspace.bound(Problem(**SMALL | {"rows": 5000, "steps": 20000})) == pytest.approx(
        0.942809, abs=1e-6
    )


def test_points_lie_outside_the_margin_and_labels_are_those_of_the_plane():
    points, labels = halfspace.draw(np.random.default_rng(0), 500, Problem(**SMALL))
    scores = points.sum(1) / math.sqrt(10)
    assert points.shape == (500, 10) and np.linalg.norm(points, axis=1) == pytest.approx(1)
    assert np.abs(scores).min() >= 0.1 and ((scores > 0) == labels).all()
    noisy = halfspace.flip(np.random.default_rng(1), np.zeros(10_000), 0.2)
    assert noisy.mean() == pytest.approx(0.2, abs=0.02)


def test_every_example_comes_once_a_pass():
    order = halfspace.draw_passes(np.random.default_rng(0), Problem(**SMALL | {"rows": 10, "steps": 25}))
    assert order[:10] == list(range(10)) and sorted(order[10:20]) == list(range(10)) and len(order) == 25


def test_slam_learns_what_the_others_do_not():
    """methods.md: .0019 against .246 (perceptron), .095 (averaging), .0077 (without correction), at ten times
    as many examples.
    """
    errors, guessed = halfspace.compare_methods(Problem(**SMALL | {"rows": 6000, "steps": 6000}), 0)
    assert tuple(errors) == METHODS
    assert errors["SLaM"] < 0.03 < 0.06 < errors["averaging y x"]
    assert abs(guessed - 0.2) < 0.06
    assert halfspace.compare_methods(Problem(**SMALL), 1) == halfspace.compare_methods(Problem(**SMALL), 1)


def test_few_noisy_examples():
    """regimes.md: far better than plain logistic regression and the perceptron; in the unit ball logistic
    regression is as good.
    """
    problem = Problem(**SMALL | {"dimension": 50, "noise": 0.4, "rows": 1000, "steps": 1000})
    found = [halfspace.compare_methods(problem, seed)[0] for seed in range(3)]
    mean = {name: np.mean([errors[name] for errors in found]) for name in METHODS}
    assert mean["logistic regression"] - mean["SLaM"] > 0.03 and mean["perceptron"] - mean["SLaM"] > 0.05
    assert abs(mean["logistic regression in the unit ball"] - mean["SLaM"]) < 0.03


def test_a_margin_that_leaves_no_point_is_reported():
    with pytest.raises(UserError, match="leaves hardly a point"):
        halfspace.draw(np.random.default_rng(0), 100, Problem(**SMALL | {"margin": 0.99}))


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["halfspace", "rows=300", "test_rows=500", "seeds=2", "first_seed=7", "json=figures.json"]) == 0
    )
    text = capsys.readouterr().out
    assert all(name in text for name in METHODS) and "Bound" in text and "300 updates, 2 seeds" in text
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["seeds"] == [7, 8] and written["problem"]["steps"] == 300
    assert (
        written["errors"]["SLaM"][1]
        == halfspace.compare_methods(Problem(**SMALL | {"rows": 300, "steps": 300, "test_rows": 500}), 8)[0][
            "SLaM"
        ]
    )


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("noise=0.5", "noise must be at least 0 and less than 0.5; given: 0.5"),
        ("rows=many", "rows must be a whole number; given: 'many'"),
        ("margin=0", "margin must be greater than 0"),
        ("seeds=0", "seeds must be at least 1"),
        ("dimension=1", "dimension must be at least 2"),
        ("marign=0.1", "did you mean 'margin'?"),
        ("rows=100000000 dimension=50", "are too many to hold"),
        ("digits", "takes settings only"),
    ],
)
def test_bad_input_is_reported_plainly(word, wanted, capsys):
    assert main(["halfspace", *word.split()]) == 2
    text = capsys.readouterr().err
    assert wanted in text and "Traceback" not in text
