"""dkd, nkd, mse_logits, dist and virtual_teacher: by hand, their limits, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tasks import classification
from test_loss_table import ANSWERS, STREAMS, TASK, Student, batch
from torch.autograd import gradcheck
from torch.nn import functional as F

from kdx.config.compose import check_words
from kdx.core.errors import UserError
from kdx.core.math import kl
from kdx.core.types import Parts
from kdx.methods.losses.dist import pearson
from kdx.methods.losses.dkd import other_divergence, target_divergence
from kdx.methods.losses.label_smoothing import LabelSmoothing
from kdx.methods.losses.mse_logits import squared_difference
from kdx.methods.losses.nkd import other_cross_entropy, target_cross_entropy
from kdx.methods.losses.supervised import Supervised
from kdx.methods.losses.virtual_teacher import virtual_answers
from kdx.store.component import Component

TEACHER, STUDENT, Y = torch.tensor([[4.0, 2, 0]]), torch.tensor([[2.0, 1, 0]]), torch.tensor([0])
ALONE = {"labelled": STREAMS["labelled"]}
SILENT = {
    "dkd": {"alpha": 0, "beta": 0},
    "nkd": {"weight": 0},
    "mse_logits": {"alpha": 0},
    "dist": {"beta": 0, "gamma": 0},
    "virtual_teacher": {"alpha": 0},
}
"""loss -> what leaves its teacher without weight."""
WRONG = ANSWERS.clone()
WRONG[1] = WRONG[1].roll(1)
"""Of the labelled rows the second is answered wrong; in ANSWERS none is."""


def build(loss, table=ANSWERS, task=TASK, **keys):
    def teacher(of):
        return table[of.views["main"].flatten(1)[:, 0].long()]

    made = Parts(Student(), Student, teacher, [], None, task)
    return Component({**check_words([f"loss={loss}"])["loss"], **keys}).build(made)


def terms(objective, streams=STREAMS, progress=0.4):
    outcome = objective(streams, progress)
    outcome.loss.backward()
    return {name: term.item() for name, term in outcome.terms.items()}, objective.student.logits.grad


def same(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-5, abs=1e-7)
    torch.testing.assert_close(one[1], other[1])


def pairs(rows=6, classes=5):
    made = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(rows, classes, generator=made, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher, torch.arange(rows) % classes


# by hand: teacher (4, 2, 0), student (2, 1, 0), the label the first class


def test_dkd_by_hand():
    """q = .866813 and p = .665241 of the label: TCKD .106671. Of the others (.880797, .119203) and
    (.731059, .268941): NCKD .067131."""
    given = (STUDENT, TEACHER, Y)
    assert target_divergence(*given, 1.0).item() == pytest.approx(0.106671, abs=1e-6)
    assert other_divergence(*given, 1.0).item() == pytest.approx(0.067131, abs=1e-6)
    together = target_divergence(*given, 4.0) + 8 * other_divergence(*given, 4.0)
    assert together.item() == pytest.approx(1.203769, abs=5e-6)


def test_nkd_by_hand():
    """- .866813 log .665241 = .353318; - .880797 log .731059 - .119203 log .268941 = .432465; at T = 2
    4 (- .731059 log .622459 - .268941 log .377541) = 2.434191."""
    assert target_cross_entropy(STUDENT, TEACHER, Y).item() == pytest.approx(0.353318, abs=1e-6)
    assert other_cross_entropy(STUDENT, TEACHER, Y, 1.0).item() == pytest.approx(0.432465, abs=1e-6)
    assert other_cross_entropy(STUDENT, TEACHER, Y, 2.0).item() == pytest.approx(2.434191, abs=2e-6)


def test_mse_logits_by_hand():
    """(-2, -1, 0): (4 + 1) / 3; less its mean (-1, 0, 1): (1 + 1) / 3."""
    assert squared_difference(STUDENT, TEACHER, False).item() == pytest.approx(5 / 3)
    assert squared_difference(STUDENT, TEACHER, True).item() == pytest.approx(2 / 3)


def test_dist_by_hand():
    student, teacher = torch.tensor([[2.0, 1, 0], [0, 1, 2]]), torch.tensor([[3.0, 1, 0], [0, 3, 1]])
    p, q = student.softmax(1), teacher.softmax(1)
    assert (1 - pearson(p, q)).mean().item() == pytest.approx(0.597359, abs=2e-6)
    assert (1 - pearson(p.T, q.T)).mean().item() == pytest.approx(0.333334, abs=2e-6)
    assert pearson(torch.tensor([[1.0, 2, 3]]), torch.tensor([[5.0, 1, 0]])).item() == pytest.approx(
        -5 / 28**0.5, abs=1e-6
    )  # (-1, 0, 1) and (3, -1, -2): -5 / sqrt(2 * 14)


def test_virtual_teacher_by_hand():
    """(.9, .05, .05) at T = 2 is (.679623, .160189, .160189), the student (.506480, .307196, .186324)."""
    virtual = virtual_answers(Y, 3, 0.9)
    torch.testing.assert_close(virtual, torch.tensor([[0.9, 0.05, 0.05]]))
    assert kl(STUDENT, virtual.log(), 2.0).item() == pytest.approx(0.285322, abs=1e-6)
    mixed = virtual_answers(torch.tensor([[0.5, 0.5, 0.0]]), 3, 0.9)
    torch.testing.assert_close(mixed, torch.tensor([[0.475, 0.475, 0.05]]))


# limits


def test_kd_is_the_two_parts_of_dkd():
    student, teacher, y = pairs()
    rest = 1 - (teacher / 3).softmax(1).gather(1, y[:, None])[:, 0]
    given = (student, teacher, y, 3.0)
    whole = target_divergence(*given) + rest * other_divergence(*given)
    torch.testing.assert_close(whole.float(), kl(student, teacher, 3.0), rtol=1e-5, atol=1e-6)


def test_kd_is_made_of_the_two_parts_of_nkd():
    student, teacher, y = pairs()
    p, q = (logits.softmax(1).gather(1, y[:, None])[:, 0] for logits in (student, teacher))
    others = other_cross_entropy(student, teacher, y, 1.0) - (1 - p).log()
    whole = target_cross_entropy(student, teacher, y) + (1 - q) * others
    torch.testing.assert_close(whole, -(teacher.softmax(1) * student.log_softmax(1)).sum(1))


def test_kd_at_a_high_temperature_is_half_the_centred_difference():
    student, teacher, _ = pairs()
    apart = squared_difference(student, teacher, True) / 2
    far = teacher.new_tensor(300.0)
    log_q, log_p = (teacher / far).log_softmax(1), (student / far).log_softmax(1)
    torch.testing.assert_close(far**2 * (log_q.exp() * (log_q - log_p)).sum(1), apart, rtol=1e-2, atol=1e-3)


def test_dist_hears_relations_alone():
    p = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    torch.testing.assert_close(pearson(0.2 * p + 0.3, p), torch.ones(7))
    equal, _ = terms(build("dist", Student().logits.detach()))
    assert equal["inter_class"] == pytest.approx(0, abs=1e-6)
    assert equal["intra_class"] == pytest.approx(0, abs=1e-6)


def test_a_virtual_teacher_at_temperature_1_is_label_smoothing():
    """alpha (1 - correct) C / (C - 1) = .5 * .3 * 4 / 3 = .2"""
    virtual = build("virtual_teacher", correct=0.7, temperature=1, alpha=0.5)
    smooth = LabelSmoothing(Parts(Student(), Student, None, [], None, TASK), smoothing=0.2)
    torch.testing.assert_close(terms(virtual)[1], terms(smooth)[1])


@pytest.mark.parametrize("loss", SILENT)
def test_without_weight_and_pool_each_is_supervised(loss):
    silent = build(loss, **SILENT[loss])
    found, slope = terms(silent, ALONE)
    alone, expected = terms(Supervised(Parts(Student(), Student, None, [], None, TASK)), ALONE)
    assert found["labels"] == alone["labels"] and sum(found.values()) == alone["labels"]
    torch.testing.assert_close(slope, expected)
    assert silent.idle() and build(loss).idle() == {}


@pytest.mark.parametrize("loss", ["dkd", "mse_logits"])
def test_who_says_the_same_hears_the_labels_alone(loss):
    found, _ = terms(build(loss, Student().logits.detach()))
    assert [name for name, value in found.items() if abs(value) > 1e-6] == ["labels"]


@pytest.mark.parametrize("loss", ["dkd", "nkd", "mse_logits"])
@pytest.mark.parametrize("wrong", ["drop", "correct"])
def test_wrong_answers(loss, wrong):
    same(terms(build(loss, wrong=wrong)), terms(build(loss)))  # a teacher that is right
    found, plain = terms(build(loss, WRONG, wrong=wrong)), terms(build(loss, WRONG))
    assert found[0] != pytest.approx(plain[0], rel=1e-3) and found[0]["labels"] == plain[0]["labels"]
    if wrong == "drop":  # whatever else was said of that row
        other = WRONG.clone()
        other[1] = torch.tensor([5.0, 0, -3, 0])
        same(found, terms(build(loss, other, wrong=wrong)))


@pytest.mark.parametrize("loss", ["dkd", "nkd", "mse_logits", "dist"])
def test_standardised_answers_have_neither_shift_nor_scale(loss):
    found = terms(build(loss, standardise=True))
    same(found, terms(build(loss, 2.5 * ANSWERS + 4, standardise=True)))
    assert found[0] != pytest.approx(terms(build(loss))[0], rel=1e-2)


@pytest.mark.parametrize("loss", ["dkd", "nkd", "dist"])
def test_a_temperature_moves(loss):
    same(terms(build(loss, temperature=[8, 1]), progress=0.5), terms(build(loss, temperature=4.5)))


def test_dkd_warms_up():
    slow = build("dkd", warmup=0.5)
    assert [slow.ramp(p) for p in (0.0, 0.1, 0.5, 0.9)] == [0, 0.2, 1, 1]
    assert build("dkd", warmup=0).ramp(0.0) == 1
    early, late = terms(slow, progress=0.1)[0], terms(build("dkd", warmup=0.5), progress=0.6)[0]
    assert early["target"] == pytest.approx(0.2 * late["target"]) and early["labels"] == late["labels"]


def test_gradients_in_double_precision(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    student, teacher, y = pairs(3, 4)
    virtual = virtual_answers(y, 4, 0.9).double()
    for apart in (
        lambda s: target_divergence(s, teacher, y, 2.5),
        lambda s: other_divergence(s, teacher, y, 2.5),
        lambda s: target_cross_entropy(s, teacher, y),
        lambda s: other_cross_entropy(s, teacher, y, 2.5),
        lambda s: squared_difference(s, teacher, True),
        lambda s: pearson(s.softmax(1), teacher.softmax(1)),
        lambda s: pearson(s.softmax(1).T, teacher.softmax(1).T),
        lambda s: kl(s, virtual.log(), 20.0),
    ):
        assert gradcheck(apart, (student,))


def test_a_sure_teacher_gives_finite_numbers():
    sure, y = torch.tensor([[90.0, 0, 0], [0, 90.0, 0]]), torch.tensor([0, 2])
    student = torch.tensor([[0.0, 80, 0], [0, 0, 90]], requires_grad=True)
    apart = target_divergence(student, sure, y, 1.0) + other_divergence(student, sure, y, 1.0)
    whole = apart.sum() + (1 - pearson(student.softmax(1).T, sure.softmax(1).T)).sum()
    whole.backward()
    assert whole.isfinite() and student.grad.isfinite().all()
    # 80 of the label; of the others half of 80, less log 2 of even ones
    assert apart[0].item() == pytest.approx(80 + 40 - 0.693147, abs=1e-4)


# data


@pytest.mark.parametrize("loss", SILENT)
def test_mixed_labels_are_read(loss):
    """Of which the likelier class is the target: with almost all on one it is that class."""
    y = F.one_hot(STREAMS["labelled"].y, 4).float()
    mixed = STREAMS | {"labelled": replace(STREAMS["labelled"], y=0.9999 * y + 0.0001 * y.roll(1, 1))}
    assert terms(build(loss), mixed)[0] == pytest.approx(terms(build(loss))[0], rel=1e-2)


def test_two_classes_leave_nothing_to_say_of_the_others():
    table = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
    assert list(build("dkd", table, classification(2)).idle()) == ["beta"]
    assert list(build("nkd", table, classification(2)).idle()) == ["gamma", "temperature"]


def test_one_row_has_no_relations():
    one = {"labelled": batch("labelled", 1, 0, torch.tensor([1]))}
    with pytest.raises(UserError, match="loss=dist compares the rows of a batch with each other"):
        build("dist")(one, 0.0)
    assert build("dist", gamma=0)(one, 0.0).loss.isfinite() and build("dist").whole_batch


@pytest.mark.parametrize(
    ("loss", "bad"),
    [
        ("dkd", {"beta": -1}),
        ("dkd", {"warmup": 1.5}),
        ("dkd", {"temperature": [4]}),
        ("nkd", {"gamma": "x"}),
        ("mse_logits", {"centred": 1}),
        ("dist", {"temperature": 0}),
        ("virtual_teacher", {"correct": 1}),
        ("virtual_teacher", {"correct": 0.25}),
    ],
)
def test_refused(loss, bad):
    with pytest.raises(UserError, match=f"loss.{next(iter(bad))}"):
        build(loss, **bad)
