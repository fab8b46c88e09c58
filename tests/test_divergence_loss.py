"""loss=divergence: its limits, what it warns of, and what it refuses."""

from __future__ import annotations

import warnings

import pytest
import torch
from test_loss_table import ANSWERS, STREAMS, TASK, Student

from kdx.core.errors import Caution, UserError
from kdx.core.sparse_answers import TEMPERATURE
from kdx.core.types import Parts
from kdx.methods.losses.divergence import DivergenceLoss
from kdx.methods.losses.kd import KD
from kdx.methods.losses.supervised import Supervised
from kdx.tasks.answer_formats import Sampled, TopK

PLAIN = {
    "kind": "forward",
    "beta": 0.5,
    "scale": "smooth",
    "temperature": 2.0,
    "alpha": 0.7,
    "rest": "bucket",
}


def answer(batch):
    return ANSWERS[batch.views["main"].flatten(1)[:, 0].long()]


def kept_by(form, temperature=2.0):
    """A teacher of whose answers a part was stored."""

    def teacher(batch):
        found = TASK.unpack(form.pack(answer(batch), batch))
        return {**found, TEMPERATURE: torch.full((len(batch),), temperature)}

    return teacher


def parts(teacher=answer):
    return Parts(Student(), Student, teacher, [], None, TASK)


def terms(objective, streams=STREAMS):
    outcome = objective(streams, 0.4)
    outcome.loss.backward()
    found = {name: term.item() for name, term in outcome.terms.items()}
    return found, objective.student.logits.grad


def same(one, other, **near):
    assert one[0] == pytest.approx(other[0], **({"abs": near["atol"]} if near else {"rel": 1e-6}))
    torch.testing.assert_close(one[1], other[1], **(near or {"rtol": 1e-5, "atol": 1e-7}))


@pytest.mark.parametrize("kind", [{"kind": "forward"}, {"kind": "jsd", "beta": 0.0}])
def test_forward_is_kd(kind):
    kd = KD(parts(), temperature=2.0, alpha=0.7)
    same(terms(DivergenceLoss(parts(), **PLAIN | kind)), terms(kd))


def test_small_beta_is_nearly_forward():
    near = DivergenceLoss(parts(), **PLAIN | {"kind": "jsd", "beta": 1e-4})
    same(terms(near), terms(DivergenceLoss(parts(), **PLAIN)), rtol=0, atol=2e-3)


def test_beta_one_is_reverse():
    one = DivergenceLoss(parts(), **PLAIN | {"kind": "jsd", "beta": 1.0})
    same(terms(one), terms(DivergenceLoss(parts(), **PLAIN | {"kind": "reverse"})))


def test_without_weight_it_is_supervised():
    alone = {"labelled": STREAMS["labelled"]}
    found, slope = terms(DivergenceLoss(parts(), **PLAIN | {"alpha": 0.0}), alone)
    other, theirs = terms(Supervised(parts()), alone)
    assert found["labels"] == pytest.approx(sum(other.values())) and found["distillation"] == 0
    torch.testing.assert_close(slope, theirs)


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd", "tvd"])
def test_all_likeliest_are_the_whole(kind):
    whole = DivergenceLoss(parts(), **PLAIN | {"kind": kind})
    form = TopK(TASK, 2.0, 0, len(TASK.classes))
    same(
        terms(DivergenceLoss(parts(kept_by(form)), **PLAIN | {"kind": kind})), terms(whole), rtol=0, atol=5e-3
    )


def test_kd_reads_what_was_kept():
    form = kept_by(TopK(TASK, 2.0, 0, 2))
    same(
        terms(KD(parts(form), temperature=2.0, alpha=0.7)),
        terms(DivergenceLoss(parts(form), **PLAIN)),
    )


def test_draws_teach_in_the_mean():
    """The distillation term over 200 seeds of draws, with a bound of five deviations of its mean."""
    whole, _ = terms(DivergenceLoss(parts(), **PLAIN))
    found = torch.tensor(
        [
            terms(DivergenceLoss(parts(kept_by(Sampled(TASK, 2.0, seed, 20))), **PLAIN))[0]["distillation"]
            for seed in range(200)
        ]
    )
    assert found.std() > 0
    assert (found.mean() - whole["distillation"]).abs() < 5 * found.std() / 200**0.5


def test_worse_forms_are_warned_of_and_wrong_ones_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DivergenceLoss(parts(), **PLAIN)
    for rest, said in (("truncated", "it can be negative"), ("renormalised", "over-confident")):
        with pytest.warns(Caution, match=said):
            DivergenceLoss(parts(), **PLAIN | {"rest": rest})
        with pytest.raises(UserError, match=r"is of loss\.kind=forward alone; given: loss\.kind=tvd"):
            DivergenceLoss(parts(), **PLAIN | {"rest": rest, "kind": "tvd"})
    with pytest.raises(UserError, match="then learns nothing"):
        DivergenceLoss(parts(), **PLAIN | {"rest": "both"})
    with pytest.raises(UserError, match=r"loss\.beta must be at least 0 and at most 1; given: 2"):
        DivergenceLoss(parts(), **PLAIN | {"beta": 2})


def test_reverse_asks_for_a_warm_student():
    for kind in ({"kind": "reverse"}, {"kind": "jsd", "beta": 1.0}):
        assert "begin with a trained student" in DivergenceLoss(parts(), **PLAIN | kind).cold_student()
    for kind in ({"kind": "forward"}, {"kind": "jsd", "beta": 0.9}, {"kind": "reverse", "alpha": 0}):
        assert DivergenceLoss(parts(), **PLAIN | kind).cold_student() is None


def test_keys_that_lie_idle():
    def idle(**more):
        return sorted(DivergenceLoss(parts(), **PLAIN | more).idle())

    assert idle() == ["beta", "scale"]
    assert idle(kind="jsd") == [] and idle(kind="jsd", beta=0.0) == ["scale"]
    assert idle(alpha=0) == ["beta", "kind", "rest", "scale", "standardise", "temperature"]
