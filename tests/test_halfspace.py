"""SLaM for halfspaces: its steps by hand, its data, its bound, and the comparisons of the two settings; statistics of several seeds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from kdx.cli import main
from kdx.commands.halfspace import SETTINGS, problem_of
from kdx.faults import Fault
from kdx.halfspace import (
    METHODS,
    Problem,
    averaging,
    ball_logistic,
    bound,
    compare,
    descend,
    draw,
    error,
    estimate_noise,
    flip,
    logistic,
    mix,
    passes,
    perceptron,
    ramp,
    sigmoid,
    slam,
)

X = np.array([[0.6, 0.8], [1.0, 0.0]])


def test_the_student_and_its_mixture_by_hand():
    assert [ramp(s, 0.1) for s in (-0.2, -0.1, 0.0, 0.05, 0.1, 0.2)] == pytest.approx([0, 0, 0.5, 0.75, 1, 1])
    assert mix(0.75, 0.2) == pytest.approx(0.65)  # .8 * .75 + .2 * .25
    assert mix(1.0, 0.2) == pytest.approx(0.8) and mix(0.75, 0.0) == 0.75
    assert sigmoid(0.0) == 0.5 and sigmoid(math.log(3)) == pytest.approx(0.75) and sigmoid(-1e6) == 0.0


def test_two_updates_by_hand():
    """T=1: w = (1 - .5) x. T=2, rate .70711: w = .35355 x1, then its score .21213 with x2 is beyond the margin, u = .8, label 0."""
    assert slam(X, np.array([1.0, 0.0]), [0], margin=0.1, noise=0.2) == pytest.approx([0.3, 0.4])
    first, second = [0.212132, 0.282843], [0.212132 - 0.565685, 0.282843]
    assert slam(X, np.array([1.0, 0.0]), [0, 1], margin=0.1, noise=0.2) == pytest.approx(np.mean([first, second], 0), abs=1e-6)


def test_the_weights_stay_in_the_ball():
    always = np.array([1.0, 1.0])
    assert descend(X, always, [0], lambda score: -3.0, 1.0) == pytest.approx(X[0])  # 4 x brought back to norm 1
    assert descend(X, always, [0], lambda score: -3.0, 2.0) == pytest.approx(2 * X[0])
    w = ball_logistic(X, np.array([1.0, 0.0]), [0], radius=0.5)
    assert w == pytest.approx(0.25 * X[0])  # .5 (1 - .5) x


def test_the_rivals_by_hand():
    """Perceptron on labels 1, 0: w = x1, then x1.x2 = .6 > 0 is wrong: w = x1 - x2."""
    last, mean = perceptron(X, np.array([1.0, 0.0]), [0, 1])
    assert last == pytest.approx([-0.4, 0.8]) and mean == pytest.approx([0.1, 0.8])
    assert averaging(X, np.array([1.0, 0.0])) == pytest.approx([-0.2, 0.4])
    assert error(np.array([1.0, 0.0]), np.array([[1, 0], [-1, 0], [0, 1], [2, 2]]), np.array([1.0, 0, 0, 0])) == 0.25
    assert (logistic(X, np.array([1.0, 1.0])) == 0).all()  # one class only: nothing to tell apart


def test_the_bound_by_hand():
    assert bound(problem_of("stream")) == pytest.approx(0.471405, abs=1e-6)  # 4 / (.6 * .1 * sqrt(20000))
    assert bound(problem_of("sample")) == pytest.approx(6.324555, abs=1e-6)  # T is the 1,000 examples, however often they are seen


def test_the_points_keep_their_margin_and_the_labels_their_noise():
    problem = Problem(dimension=10, margin=0.1, noise=0.2, stretch=6, rows=5000, steps=5000, test_rows=10)
    points, labels = draw(np.random.default_rng(0), 5000, problem)
    score = points.sum(1) / math.sqrt(10)
    assert points.shape == (5000, 10) and np.linalg.norm(points, axis=1) == pytest.approx(1)
    assert np.abs(score).min() >= 0.1 and ((score > 0) == (labels == 1)).all() and 0.45 < labels.mean() < 0.55
    assert np.abs(points[:, 0]).mean() > 3 * np.abs(points[:, 1]).mean()  # stretched
    assert (draw(np.random.default_rng(0), 5000, problem)[0] == points).all()
    assert np.mean(flip(np.random.default_rng(1), labels, 0.2) != labels) == pytest.approx(0.2, abs=0.02)
    assert (flip(np.random.default_rng(1), labels, 0.0) == labels).all()


def test_each_pass_sees_every_example_once():
    order = passes(np.random.default_rng(0), Problem(dimension=2, margin=0.1, noise=0, stretch=1, rows=10, steps=25, test_rows=10))
    assert order[:10] == list(range(10)) and sorted(order[10:20]) == list(range(10)) and len(order) == 25
    assert order[10:20] != order[:10]


def test_a_margin_that_leaves_no_points_is_told():
    with pytest.raises(Fault, match="hardly a point"):
        draw(np.random.default_rng(0), 100, Problem(dimension=500, margin=0.9, noise=0, stretch=1, rows=100, steps=100, test_rows=10))


def test_the_correction_is_what_makes_it_right():
    """The setting of methods.md: errors below the bound, by a wide margin, and the rivals where they were measured."""
    problem = problem_of("stream")
    for seed in (0, 1):
        random = np.random.default_rng(seed)
        points, truth = draw(random, problem.rows, problem)
        labels = flip(random, truth, problem.noise)
        test, answer = draw(random, 20_000, problem)
        order = range(problem.steps)
        corrected = error(slam(points, labels, order, margin=0.1, noise=0.2), test, answer)
        plain = error(slam(points, labels, order, margin=0.1, noise=0.0), test, answer)
        assert corrected < 0.006 < bound(problem)
        assert corrected < plain < 0.02
        assert 0.08 < error(averaging(points, labels), test, answer) < 0.11
    assert estimate_noise(points, labels, order, margin=0.1) == pytest.approx(0.2, abs=0.04)


def test_a_small_noisy_sample():
    """The setting of regimes.md: better than plain logistic regression and the perceptron, and no better than one in the unit ball."""
    found = [compare(problem_of("sample"), seed)[0] for seed in (1000, 1001)]
    assert all(set(errors) == set(METHODS) for errors in found)
    for errors in found:
        assert min(errors["logistic regression"], errors["perceptron"], errors["perceptron, averaged"]) > errors["SLaM"] + 0.03
        assert errors["logistic regression in the unit ball"] == pytest.approx(errors["SLaM"], abs=0.04)
    assert compare(problem_of("sample"), 1000)[0] == found[0]  # a seed is a result


SMALL = ["rows=200", "steps=200", "test_rows=500", "dimension=5", "seeds=3"]


def test_the_command_prints_a_table_and_writes_the_figures(tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert main(["halfspace", *SMALL, "first_seed=7", f"json={file}"]) == 0
    told = capsys.readouterr()
    assert all(f"| {name} " in told.out for name in METHODS) and "bound for one pass over 200 examples" in told.out
    assert told.err.count("SLaM's error") == 3 and "seed 9" in told.err
    figures = json.loads(file.read_text())
    wanted = [compare(problem_of("stream", rows=200, steps=200, test_rows=500, dimension=5), seed)[0]["SLaM"] for seed in (7, 8, 9)]
    assert figures["seeds"] == [7, 8, 9] and figures["errors"]["SLaM"] == wanted
    assert figures["bound"] == pytest.approx(4 / (0.6 * 0.1 * math.sqrt(200)))


def test_a_single_seed_has_no_deviation(capsys):
    assert main(["halfspace", *SMALL, "seeds=1"]) == 0
    assert "nan" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["noise=.5"], ["noise must be at least 0 and less than 0.5; given: 0.5"]),
        (["margin=2", "noise=-1", "seeds=0"], ["margin must be", "noise must be", "seeds must be at least 1"]),
        (["dimension=ten"], ["dimension must be a whole number; given: 'ten'"]),
        (["noise=a"], ["noise must be a number; given: 'a'"]),
        (["nois=.3"], ["did you mean 'noise'"]),
        (["setting=stram"], ["did you mean 'stream'"]),
        (["rows=1000000000"], ["too many to hold"]),
        (["json=nowhere/at/all.json"], ["its folder does not exist"]),
        (["more"], ["takes settings only"]),
    ],
)
def test_bad_input(words, says, capsys):
    assert main(["halfspace", *words]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told and all(part in told for part in says), told


def test_the_settings_are_complete_problems():
    assert all(isinstance(problem_of(name), Problem) for name in SETTINGS)
