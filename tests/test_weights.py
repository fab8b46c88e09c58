"""Weightings: hand numbers, what they read, and what they say of bad input."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from tasks import classification
from torch import nn

from kdx.config.compose import check_words
from kdx.config.wire import examine_config
from kdx.core.errors import Caution, UserError
from kdx.core.types import Parts, Split
from kdx.methods import neighbours
from kdx.methods.weights.constant import Constant
from kdx.methods.weights.debiased import Debiased
from kdx.methods.weights.fidelity import Fidelity
from kdx.methods.weights.one import One
from kdx.pipeline.stages.parts import reads_networks

T = torch.tensor
ROWS, C = 120, 4


def table(seed, scale=1.5):
    return scale * torch.randn(ROWS, C, generator=torch.Generator().manual_seed(seed))


TEACHER, POOL, OWN = table(1), table(4), table(5)


class Student(nn.Module):
    """Logits of a picture whose number is its first pixel; half of what it says is lost in training."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.dropout = nn.Parameter(logits), nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.logits[(x.flatten(1)[:, 0] * 255).round().long()])


def parts(truth=None, rows=ROWS, student=None):
    if truth is None:
        truth = torch.multinomial(TEACHER.softmax(1), 1, generator=torch.Generator().manual_seed(2))[:, 0]
    pictures = torch.arange(ROWS, dtype=torch.uint8)[:, None, None, None]
    net = Student(table(3) if student is None else student)
    return Parts(
        net,
        lambda: net,
        lambda b: TEACHER[b.index],
        [],
        Split("validation", pictures[:rows], truth[:rows]),
        classification(C),
    )


def debiased(made=None, **more):
    return Debiased(
        made or parts(),
        **{"hard": True, "estimator": "mean_of_ratios", "neighbours": None, "grid": None, **more},
    )


def refreshed(weighting):
    """(the weighting after a refresh, what it warned of, what it logs)"""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        logged = weighting.refresh()
    assert all(w.category is Caution for w in found)
    return weighting, " | ".join(str(w.message) for w in found), logged


def test_one_constant_and_none():
    made = parts()
    assert One(made)(POOL, OWN).tolist() == [1] * ROWS and One(made).refresh() == {}
    assert Constant(made, value=0.25)(POOL, OWN).tolist() == [0.25] * ROWS
    for bad in (-0.1, 1.1, "half"):
        with pytest.raises(UserError, match=r"loss\.weights\.value"):
            Constant(made, value=bad)


def test_fidelity_by_hand():
    answers = T([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [1 / 3] * 3]).clamp_min(1e-30).log()
    entropy = Fidelity(parts(), beta=2, by="entropy")(answers, answers)
    assert entropy.tolist() == pytest.approx([math.exp(-2 * 1.5 * math.log(2)), 1, 1 / 9])
    margin = Fidelity(parts(), beta=2, by="margin")(answers, answers)
    assert margin.tolist() == pytest.approx([math.exp(-1.5), 1, math.exp(-2)])
    assert Fidelity(parts(), beta=0, by="entropy")(answers, answers).tolist() == [1, 1, 1]
    for bad in ({"beta": -1}, {"by": "max"}):
        with pytest.raises(UserError, match=rf"loss\.weights\.{next(iter(bad))}"):
            Fidelity(parts(), **{"beta": 1, "by": "entropy", **bad})


# Debiased


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("estimator", neighbours.ESTIMATORS)
def test_debiased_weights_are_the_formula_over_the_nearest_rows(hard, estimator):
    made = parts()
    weighting, reported, _ = refreshed(debiased(made, hard=hard, estimator=estimator, neighbours=7))
    truth, student = made.validation.truth, made.student.logits.detach()
    z, q = neighbours.margins(TEACHER, student), neighbours.margins(POOL, OWN)
    log_p, right = student.log_softmax(1), TEACHER.argmax(1) == truth
    true = -log_p[range(ROWS), truth]
    noisy = -log_p[range(ROWS), TEACHER.argmax(1)] if hard else -(TEACHER.softmax(1) * log_p).sum(1)
    expected = []
    for row in q:
        near = (z - row).square().sum(1).argsort()[:7]
        wrong = near[~right[near]]
        if estimator == "ratio_of_means":
            expected.append(min(1, (true[near].sum() / noisy[near].sum()).item()))
        else:
            d = (noisy[wrong] / true[wrong]).mean().item() if len(wrong) else 1
            expected.append(min(1, 1 / (1 + len(wrong) / 7 * (d - 1))))
    assert weighting(POOL, OWN).tolist() == pytest.approx(expected, rel=1e-4) and reported == ""
    assert min(expected) < 0.5 and len({round(w, 4) for w in expected}) > 10


def test_a_student_that_knows_better_doubts_the_wrong_answers():
    """Mechanism: where the student has learned the truth, the weights of wrong answers are below those of
    right ones.
    """
    truth = torch.multinomial(TEACHER.softmax(1), 1, generator=torch.Generator().manual_seed(2))[:, 0]
    clever = 4 * nn.functional.one_hot(truth, C).float() + 0.5 * table(6)
    _, _, logged = refreshed(debiased(parts(student=clever)))
    assert logged["weight_wrong"] < logged["weight_right"] <= 1 and logged["distortion"] > 5
    assert logged["teacher_wrong"] == pytest.approx((TEACHER.argmax(1) != truth).float().mean().item())


def test_the_default_number_of_neighbours():
    assert [debiased(parts(rows=n)).neighbours for n in (1, 2, 120)] == [1, 1, 5]
    with pytest.warns(Caution, match="neighbours=50 is more than the 2 validation rows"):
        assert debiased(parts(rows=2), neighbours=50).neighbours == 2


def test_a_refresh_follows_the_student_in_eval_mode_and_leaves_its_modes():
    made = parts()
    made.student.train()
    weighting, _, _ = refreshed(debiased(made))
    first = weighting(POOL, OWN)
    assert torch.equal(refreshed(weighting)[0](POOL, OWN), first)  # no dropout: the same again
    assert made.student.training and made.student.dropout.training
    with torch.no_grad():
        made.student.logits.mul_(-3)
    assert not torch.equal(refreshed(weighting)[0](POOL, OWN), first)


def test_the_student_is_not_the_weightings_to_train_or_save():
    weighting = debiased()
    assert not list(weighting.parameters()) and not any("logits" in name for name in weighting.state_dict())


@pytest.mark.parametrize("grid", [None, 32])
def test_statistics_are_saved_bit_for_bit(grid):
    one, _, _ = refreshed(debiased(grid=grid))
    two = debiased(grid=grid)
    assert (two(POOL, OWN) == 1).all()  # before the first refresh
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(POOL, OWN), two(POOL, OWN)) and one(POOL, OWN).min() < 1


def test_the_grid_is_close_to_the_exact_weights():
    exact, grid = (refreshed(debiased(grid=g))[0](POOL, OWN) for g in (None, 256))
    assert (exact - grid).abs().mean() < 0.01 < exact.std()


def test_the_poor_student_is_warned_once():
    weighting, reported, _ = refreshed(debiased(parts(rows=2)))
    assert "2 rows" in reported and "standard error" in reported and refreshed(weighting)[1] == ""


@pytest.mark.parametrize("right, says", [(True, "never wrong"), (False, "always wrong")])
@pytest.mark.parametrize("estimator", neighbours.ESTIMATORS)
def test_a_teacher_that_is_always_right_or_always_wrong(right, says, estimator):
    truth = TEACHER.argmax(1) if right else TEACHER.argmin(1)
    weighting, reported, logged = refreshed(debiased(parts(truth), estimator=estimator))
    weights = weighting(POOL, OWN)
    assert says in reported and ((weights == 1).all() if right else weights.min() < 0.9)
    assert all(math.isfinite(v) for v in [*weights.tolist(), *logged.values()])


@pytest.mark.parametrize("grid", [None, 16])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_smallest_split_and_huge_logits_give_weights(rows, grid):
    huge = torch.full((ROWS, C), -6e4)
    huge[:, 0] = 6e4
    weighting, reported, _ = refreshed(
        debiased(parts(torch.ones(ROWS, dtype=torch.int64), rows, huge), grid=grid)
    )
    weights = weighting(huge, -huge)
    assert ((weights >= 0) & (weights <= 1)).all() and f"{rows} rows" in reported


@pytest.mark.parametrize(
    "bad", [{"hard": None}, {"estimator": "median"}, {"neighbours": 0}, {"grid": 1}, {"grid": "fine"}]
)
def test_debiased_refuses(bad):
    with pytest.raises(UserError, match=rf"loss\.weights\.{next(iter(bad))}"):
        debiased(**bad)


@pytest.mark.parametrize("grid", [None, 16])
def test_a_student_that_has_diverged_is_the_losss_to_tell(grid):
    weighting, *_ = refreshed(debiased(grid=grid))
    before = {name: value.clone() for name, value in weighting.state_dict().items()}
    with torch.no_grad():
        weighting.parts.student.logits.fill_(math.nan)
    assert refreshed(weighting)[2] == {}
    assert all(torch.equal(value, before[name]) for name, value in weighting.state_dict().items())


@pytest.mark.parametrize("loss", ["soft", "weighted", "slam"])
def test_an_empty_feature_slot_asks_for_no_live_teacher(loss):
    order, _ = examine_config(check_words([f"loss={loss}"]))
    assert not reads_networks(order.experiment.loss)


def test_debiased_without_validation():
    with pytest.raises(UserError, match=r"loss\.weights=debiased .* dataset\.validation"):
        debiased(replace(parts(), validation=None))
