"""Hand numbers of shared/methods.md 6a and 6b, and gradients in double precision."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from kdx.core.math import balanced_weights, cross_entropy, kl, margin, smooth_cross_entropy

TEACHER = torch.tensor([[4.0, 2.0, 0.0]])
STUDENT = torch.tensor([[2.0, 1.0, 0.0]])
Y = torch.tensor([0])


@pytest.mark.parametrize("temperature, value", [(1, 0.115611), (2, 0.241076), (4, 0.305721)])
def test_kl_by_hand(temperature, value):
    assert kl(STUDENT, TEACHER, temperature).item() == pytest.approx(value, abs=2e-6)


def test_tutorial_mix_by_hand():
    soft, hard = kl(STUDENT, TEACHER, 2), cross_entropy(STUDENT, Y)
    assert hard.item() == pytest.approx(0.407606, abs=2e-6)
    assert (0.25 * soft + 0.75 * hard).item() == pytest.approx(0.365973, abs=2e-6)


def test_class_weights_by_hand():
    """The weighted rows are weight[y] times the plain ones; mixed targets weigh class by class; a smoothed
    label is such a target.
    """
    logits, y, weights = torch.randn(6, 3), torch.tensor([0, 0, 1, 2, 1, 0]), torch.tensor([0.5, 2.0, 3.0])
    assert torch.equal(cross_entropy(logits, y, None), cross_entropy(logits, y))
    torch.testing.assert_close(cross_entropy(logits, y, weights), weights[y] * cross_entropy(logits, y))
    mixed = torch.tensor([[0.25, 0.75, 0.0]]).expand(6, 3)
    by_hand = -(weights * mixed * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(cross_entropy(logits, mixed, weights), by_hand)
    smoothed = 0.7 * torch.eye(3)[y] + 0.1
    torch.testing.assert_close(
        smooth_cross_entropy(logits, y, 0.3, weights), cross_entropy(logits, smoothed, weights)
    )


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    y = torch.tensor([0] * 90 + [1] * 8 + [3] * 3)
    found = balanced_weights(y, 4)
    assert found[[0, 1, 3]].tolist() == pytest.approx(
        compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=y.numpy()).tolist()
    )
    assert (
        found[0].item() == pytest.approx(101 / (3 * 90))
        and found[2] == 1
        and found[y].mean().item() == pytest.approx(1)
    )
    assert balanced_weights(torch.arange(12) % 3, 3).tolist() == [1, 1, 1]


def test_kl_is_zero_where_student_equals_teacher_and_positive_elsewhere():
    logits = torch.randn(50, 7)
    assert torch.equal(kl(logits, logits, 3.0), torch.zeros(50))
    assert (kl(logits, torch.randn(50, 7), 3.0) > 0).all()


def test_kl_stays_finite_for_extreme_logits():
    assert torch.isfinite(kl(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]]), 1.0)).all()


def test_gradient_keeps_its_size_as_temperature_grows():
    """For high T the gradient of T^2 KL tends to (s - t) / C for centred logits (Hinton et al. 2015, equation
    4).
    """
    student = torch.tensor([[0.5, -0.2, -0.3]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[1.0, -0.4, -0.6]], dtype=torch.float64)

    def at(temperature):
        log_q, log_p = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
        return torch.autograd.grad(temperature**2 * (log_q.exp() * (log_q - log_p)).sum(), student)[0]

    ours = torch.autograd.grad(kl(student, teacher, 1000.0).sum(), student)[0]
    torch.testing.assert_close(at(1000.0), (student.detach() - teacher) / 3, rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(ours, at(1000.0), rtol=2e-2, atol=2e-3)


def test_gradients_in_double_precision(monkeypatch):
    # the losses work in float32; here they keep float64
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    student = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    teacher, y = torch.randn(4, 5, dtype=torch.float64), torch.tensor([0, 4, 2, 2])
    assert gradcheck(lambda s: kl(s, teacher, 2.5), (student,))
    assert gradcheck(lambda s: cross_entropy(s, y), (student,))
    assert gradcheck(lambda s: smooth_cross_entropy(s, y, 0.2), (student,))
    assert gradcheck(lambda s: cross_entropy(s, teacher.softmax(1)), (student,))


def test_label_smoothing_by_hand():
    log_p = STUDENT.log_softmax(1)[0]
    expected = -(0.9 * log_p[0] + 0.1 * log_p.mean()).item()
    assert smooth_cross_entropy(STUDENT, Y, 0.1).item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(smooth_cross_entropy(STUDENT, Y, 0.0), cross_entropy(STUDENT, Y))


def test_cross_entropy_to_one_hot_probabilities_is_that_to_classes():
    logits, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(cross_entropy(logits, torch.eye(4)[y]), cross_entropy(logits, y))
    assert cross_entropy(torch.zeros(1, 4), torch.tensor([2])).item() == pytest.approx(math.log(4))


def test_margin():
    probs = torch.tensor([[0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])
    torch.testing.assert_close(margin(probs), torch.tensor([0.1, 0.4]))
