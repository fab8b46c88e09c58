"""What the losses on logits share: lines over the training, logits standardised, what becomes of wrong
answers, and how far each row counts; of `kd` and `divergence` with these.
"""

from __future__ import annotations

import math

import pytest
import torch
from tasks import classification
from test_loss_table import ANSWERS, STREAMS, TASK, Student
from torch.autograd import gradcheck

from kdx.core.errors import UserError
from kdx.core.math import kl
from kdx.core.types import Parts
from kdx.methods.logits import (
    Refinement,
    other_logits,
    refinement,
    standardised,
    sureness,
    swapped,
    target_classes,
    value_at,
)
from kdx.methods.losses.divergence import DivergenceLoss
from kdx.methods.losses.kd import KD
from kdx.tasks.language import NextToken
from kdx.tasks.regression import Regression

LABELS = STREAMS["labelled"].y
WRONG = ANSWERS.clone()
WRONG[1] = WRONG[1].roll(1)
"""Of the labelled rows the second is answered wrong; in ANSWERS none is."""


def answer(table):
    return lambda batch: table[batch.views["main"].flatten(1)[:, 0].long()]


def kd(table=ANSWERS, task=TASK, **keys):
    made = Parts(Student(), Student, answer(table), [], None, task)
    return KD(made, **{"temperature": 2.0, "alpha": 0.7, **keys})


def terms(objective, progress=0.4):
    outcome = objective(STREAMS, progress)
    outcome.loss.backward()
    return {name: term.item() for name, term in outcome.terms.items()}, objective.student.logits.grad


def same(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    torch.testing.assert_close(one[1], other[1])


# by hand


def test_standardised_by_hand():
    """(4, 2, 0): mean 2, variance (4 + 0 + 4) / 2 = 4. (3, 0, 0): mean 1, variance (4 + 1 + 1) / 2 = 3."""
    found = standardised(torch.tensor([[4.0, 2, 0], [2, 1, 0], [3, 0, 0]]))
    third = 1 / math.sqrt(3)
    expected = torch.tensor([[1.0, 0, -1], [1, 0, -1], [2 * third, -third, -third]])
    torch.testing.assert_close(found, expected)


def test_standardised_hears_neither_shift_nor_scale_and_has_a_gradient():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(standardised(3.7 * logits - 11), standardised(logits))
    torch.testing.assert_close(standardised(logits).std(1), torch.ones(6, dtype=torch.float64))
    assert gradcheck(standardised, (logits.requires_grad_(),))
    even = torch.full((2, 5), 0.3, requires_grad=True)
    standardised(even).square().sum().backward()
    assert even.grad.isfinite().all() and not standardised(even).any(), "equal logits are no nan"


def test_the_target_is_the_label_and_of_a_pool_the_first_choice():
    answers = torch.tensor([[5.0, 1, 0], [0, 2, 1], [0, 1, 3]])
    assert target_classes(torch.tensor([2]), answers).tolist() == [2, 1, 2]
    mixed = torch.tensor([[0.3, 0.1, 0.6]])
    assert target_classes(mixed, answers).tolist() == [2, 1, 2]
    assert other_logits(answers, torch.tensor([0, 1, 0])).tolist() == [[1, 0], [0, 1], [1, 3]]


def test_swapped_by_hand():
    answers = torch.tensor([[5.0, 1, 0], [0, 2, 1]])
    assert swapped(answers, torch.tensor([2, 1])).tolist() == [[0, 1, 5], [0, 2, 1]]


def test_sureness_by_hand():
    """Largest probabilities .8 and .4, mean .6; of two classes 1 - H / log 2 is 0 of even odds and 1 of
    certainty, mean 1/2."""
    answers = torch.tensor([[0.8, 0.1, 0.1], [0.4, 0.3, 0.3]]).log()
    torch.testing.assert_close(sureness(answers, "confidence"), torch.tensor([4 / 3, 2 / 3]))
    odds = torch.tensor([[0.0, 0.0], [200.0, 0.0]])
    torch.testing.assert_close(sureness(odds, "entropy"), torch.tensor([0.0, 2.0]))
    assert sureness(torch.zeros(3, 4), "entropy").tolist() == [1, 1, 1], "who knows nothing of any row"
    for how in ("confidence", "entropy"):
        assert sureness(ANSWERS, how).mean().item() == pytest.approx(1)


def test_a_line_over_the_training():
    assert [value_at((8, 1), p) for p in (0.0, 0.5, 1.0)] == [8, 4.5, 1]
    assert value_at(3, 0.9) == 3


# kd


def test_standardised_kd_of_the_same_relations_is_nothing():
    """(4, 2, 0) and (2, 1, 0) are both (1, 0, -1)."""
    given = Refinement(standardise=True).guidance(
        torch.tensor([[2.0, 1, 0]]), torch.tensor([[4.0, 2, 0]]), torch.tensor([0])
    )
    assert kl(given.student, given.teacher, 2.0).item() == pytest.approx(0, abs=1e-6)
    plain, found = terms(kd()), terms(kd(standardise=True))
    same(found, terms(kd(3.7 * ANSWERS - 11, standardise=True)))
    assert found[0]["distillation"] != pytest.approx(plain[0]["distillation"], rel=0.01)
    assert found[0]["labels"] == plain[0]["labels"], "labels are of the logits as they are"


def test_a_temperature_goes_along_a_straight_line():
    moving = kd(temperature=[8, 1])
    for progress, temperature in ((0.0, 8.0), (0.5, 4.5)):
        moving.student.logits.grad = None
        same(terms(moving, progress), terms(kd(temperature=temperature), progress))
    keys = {"kind": "reverse", "beta": 0.5, "scale": "smooth", "alpha": 0.7, "rest": "bucket"}
    made = Parts(Student(), Student, answer(ANSWERS), [], None, TASK)
    moved, still = (
        DivergenceLoss(made, temperature=heat, standardise=True, **keys)(STREAMS, 0.5).loss.item()
        for heat in ([8, 1], 4.5)
    )
    assert moved == pytest.approx(still)


def test_wrong_answers_by_hand():
    """Of two labelled rows the first answer is right; the second is dropped, or says the label as surely."""
    said = torch.tensor([[2.0, 1, 0], [2, 1, 0], [0, 0, 0]])
    answers = torch.tensor([[4.0, 2, 0], [4, 2, 0], [1, 0, 0]])
    y = torch.tensor([0, 2])
    dropped = Refinement(wrong="drop").guidance(said, answers, y)
    assert dropped.weight.tolist() == [1, 0, 1] and torch.equal(dropped.teacher, answers)
    assert dropped.mean(torch.tensor([3.0, 5.0, 6.0])).item() == 3, "divided by all three rows"
    corrected = Refinement(wrong="correct").guidance(said, answers, y)
    assert corrected.weight.tolist() == [1, 1, 1]
    assert corrected.teacher.tolist() == [[4, 2, 0], [0, 2, 4], [1, 0, 0]]


@pytest.mark.parametrize("wrong", ["drop", "correct"])
def test_a_teacher_that_is_always_right_is_never_corrected(wrong):
    assert (ANSWERS[:2].argmax(1) == LABELS).all() and WRONG[1].argmax() != LABELS[1]
    same(terms(kd(wrong=wrong)), terms(kd()))
    found, plain = terms(kd(WRONG, wrong=wrong))[0], terms(kd(WRONG))[0]
    assert found["distillation"] != pytest.approx(plain["distillation"], rel=0.01)
    assert found["labels"] == plain["labels"]


@pytest.mark.parametrize("adaptive", ["confidence", "entropy"])
def test_a_teacher_equally_sure_of_all_rows_is_plain_kd(adaptive):
    turned = torch.stack([ANSWERS[0].roll(place) for place in range(len(ANSWERS))])
    same(terms(kd(turned, adaptive=adaptive)), terms(kd(turned)))
    found, plain = terms(kd(adaptive=adaptive))[0], terms(kd())[0]
    assert found["distillation"] != pytest.approx(plain["distillation"], rel=0.001)
    assert found["labels"] == plain["labels"]
    assert kd(adaptive=adaptive).whole_batch and not kd(wrong="drop").whole_batch


def test_keys_of_the_teacher_lie_idle_without_it():
    assert sorted(kd(alpha=0).idle()) == ["adaptive", "standardise", "temperature", "wrong"]
    assert kd().idle() == {}


@pytest.mark.parametrize("task", [Regression(names=["a"]), NextToken(vocabulary=4, length=2)])
@pytest.mark.parametrize("key", [{"standardise": True}, {"wrong": "drop"}, {"adaptive": "entropy"}])
def test_what_is_of_classes_is_refused_elsewhere(task, key):
    (name,) = key
    with pytest.raises(
        UserError, match=rf"loss\.{name}=\w+ reads the probabilities of classes, and an answer"
    ):
        kd(task=task, temperature=1, **key)


def test_two_classes_are_not_standardised():
    with pytest.raises(UserError, match="of two classes standardised logits are 0.71 and -0.71"):
        refinement(classification(2), True)
