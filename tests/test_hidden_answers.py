"""Answers that carry the teacher's hidden states: divergences with its last layer applied in pieces, by hand,
in double precision and in every size of the pieces; how they are packed, shared by rows and measured.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_divergence import ALL, S_HAND, T_HAND, how, logits
from torch import nn
from torch.autograd import gradcheck

from kdx.core import divergence as core
from kdx.core.divergence import divergence
from kdx.core.errors import UserError
from kdx.core.hidden_answers import HEAD, STATES, hidden_answer, tells_hidden
from kdx.core.trees import SharedRows, all_finite, joined
from kdx.core.types import Batch, Frozen
from kdx.methods.teachers import live_teacher
from kdx.models.decoder import gpt, llama
from kdx.pipeline.stages.settled import hidden_network
from kdx.tasks.answer_formats import HiddenStates
from kdx.tasks.kept import place_bytes
from kdx.tasks.language import NextToken

HAND_HEAD = torch.tensor([[2, 1], [1, 1], [0, 1], [-0.5, 1], [-1, 1], [-1.5, 1]], dtype=torch.float64)
HAND_STATE = torch.ones(2, dtype=torch.float64)
PLAIN = {"bias": True, "tied": True, "dropout": 0.0, "stochastic_depth": 0.0, "checkpointing": False}


def batch(rows, y=None):
    index = torch.arange(rows)
    return Batch("labelled", index, torch.zeros_like(index), {}, y)


def answers(rows, places, width, vocabulary, seed=0):
    """As those of a teacher: states of the size that a norm leaves, logits of a deviation of 3."""
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(rows, places, width, generator=draw)
    head = 3 * width**-0.5 * torch.randn(vocabulary, width, generator=draw)
    return {STATES: states, HEAD: head.expand(rows, vocabulary, width)}


def whole(found):
    """The logits that they stand for."""
    return found[STATES].float() @ found[HEAD][0].T


@pytest.mark.parametrize(
    "which, value",
    [
        (how("forward"), 0.670346),
        (how("reverse"), 0.562743),
        (how("jsd", 0.5, "paper"), 0.143773),
        (how("jsd", 0.1, "paper"), 0.057496),
        (how("tvd"), 0.5 * (T_HAND.softmax(0) - S_HAND.softmax(0)).abs().sum().item()),
    ],
)
def test_by_hand(which, value):
    assert torch.equal(HAND_HEAD @ HAND_STATE, T_HAND)
    found = divergence(S_HAND, HAND_STATE, which, head=HAND_HEAD)
    assert found.shape == () and found.item() == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("which", ALL, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_in_pieces_of_any_size_it_is_that_of_the_logits(which, rows):
    student, states, head = logits(2, 4, 7).requires_grad_(), logits(2, 4, 3, seed=1), logits(7, 3, seed=2)
    found = divergence(student, states, which, rows=rows, head=head)
    plain = divergence(student, states @ head.T, which)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    weights = logits(2, 4, seed=3)
    ours, theirs = (torch.autograd.grad((one * weights).sum(), student)[0] for one in (found, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("which", ALL, ids=str)
def test_gradient_in_double_precision(which):
    student, states, head = logits(4, 6, seed=3).requires_grad_(), logits(4, 2, seed=4), logits(6, 2, seed=5)
    assert gradcheck(lambda s: divergence(s, states, which, rows=3, head=head), (student,))


def test_no_more_than_a_piece_of_the_teachers_logits_is_made(monkeypatch):
    made, kept, usual = [], [], core.head_logits
    monkeypatch.setattr(core, "head_logits", lambda *given: made.append(usual(*given)) or made[-1])
    student, states, head = logits(5, 8, 50).requires_grad_(), logits(5, 8, 3), logits(50, 3)
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.shape) or one, lambda one: one):
        found = divergence(student, states, how(), rows=7, head=head)
    found.sum().backward()
    assert sorted({one.shape[0] for one in made}) == [5, 7], "40 positions, 7 at a time"
    assert len(made) == 2 * 6 and sorted(map(tuple, kept)) == [(40, 3), (40, 50), (50, 3)]


def test_autocast_does_not_make_the_teacher_rough():
    student, found = torch.randn(2, 3, 40), answers(2, 3, 16, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = divergence(student, found[STATES], how(), head=found[HEAD][0])
    torch.testing.assert_close(inside, divergence(student, whole(found), how()), rtol=1e-5, atol=1e-6)
    assert inside.dtype == torch.float32


@pytest.mark.parametrize(
    "shapes", [((4, 6), (4, 3), (5, 3)), ((4, 6), (4, 2), (6, 3)), ((4, 6), (5, 3), (6, 3))]
)
def test_shapes_that_do_not_go_together(shapes):
    student, states, head = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match="must have logits of one shape"):
        divergence(student, states, how(), head=head)


@pytest.mark.parametrize("which", ALL, ids=str)
def test_half_precision_costs_less_than_2e_3_nats(which):
    """As many numbers before the last layer as small decoders have, and flat as well as peaked places."""
    task, given = NextToken(vocabulary=256, length=64), answers(8, 64, 64, 256)
    given[STATES] = given[STATES] * torch.linspace(0.2, 3, 64)[None, :, None]
    stored = task.unpack(HiddenStates(task, 1.0, 0, 64).pack(given, batch(8)))
    student = whole(answers(8, 64, 64, 256, seed=1))
    found = task.divergence(student, {**stored, HEAD: given[HEAD]}, which, "bucket")
    assert stored[STATES].dtype == torch.float16
    exact = task.divergence(student, whole(given), which, "bucket")
    assert (found - exact).abs().max() < 2e-3


# as answers of a task


def test_a_task_measures_them_as_the_logits_that_they_stand_for():
    task, given = NextToken(vocabulary=30, length=5), answers(4, 5, 6, 30)
    token = torch.randint(-1, 30, (4, 5), generator=torch.Generator().manual_seed(0)).int()
    truth = {"token": token, "bytes": torch.ones_like(token)}
    student, full = torch.randn(4, 5, 30, generator=torch.Generator().manual_seed(1)), whole(given)
    kept, plain = task.condense(given, truth), task.condense(full, truth)
    assert kept.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(kept[name], plain[name])
    torch.testing.assert_close(task.match(student, given, 2.0), task.match(student, full, 2.0))
    for ours, theirs in zip(
        *(task.match_and_loss(student, one, truth, 1.0) for one in (given, full)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(task.agreement(full, given), torch.ones(4))
    assert torch.equal(task.agreement(student, given), task.agreement(student, full))


def test_on_the_disk():
    task, given = NextToken(vocabulary=300, length=5), answers(3, 5, 8, 300)
    token = torch.tensor([[1, 2, 3, 4, -1]] * 3).int()
    kept = HiddenStates(task, 1.0, 0, 8)
    found = kept.pack(given, batch(3, {"token": token, "bytes": token}))
    assert found[STATES].shape == (3, 5, 8) and {leaf.dtype for leaf in found.values()} == {torch.float16}
    each = sum(leaf[0, 0].nbytes for leaf in found.values())
    assert each == 2 * 8 + 4 == place_bytes(300, {"name": "hidden", "width": 8})
    log_p = whole(given).log_softmax(-1)
    assert found["true"].isnan().tolist() == [[False] * 4 + [True]] * 3
    assert found["true"][1, 2].item() == pytest.approx(log_p[1, 2, 3].item(), rel=1e-3)
    assert found["entropy"][2, 4].item() == pytest.approx(
        -(log_p.exp() * log_p).sum(-1)[2, 4].item(), rel=1e-3
    )
    like = kept.like()
    assert {name: (one.shape[1:], one.dtype) for name, one in like.items()} == {
        name: (one.shape[1:], one.dtype) for name, one in found.items()
    }
    assert kept.about() == {"name": "hidden", "width": 8}


def test_what_is_otherwise_is_found_out():
    task, given, other = (
        NextToken(vocabulary=50, length=5),
        answers(3, 5, 8, 50),
        answers(3, 5, 8, 50, seed=1),
    )
    kept = HiddenStates(task, 1.0, 0, 8)
    stored = fresh = {**kept.pack(given, batch(3)), HEAD: given[HEAD]}
    assert kept.alike(stored, fresh) is None
    assert kept.alike({**stored, STATES: other[STATES].half()}, fresh).startswith("a hidden state is ")
    assert kept.alike({**stored, HEAD: other[HEAD]}, fresh).startswith("its last layer is another")
    assert kept.alike({**stored, HEAD: given[HEAD][:, :, :4]}, fresh).startswith("its last layer is another")
    assert kept.alike({**stored, "entropy": fresh["entropy"] + 1}, fresh).startswith("the entropy is ")


# of networks


@pytest.mark.parametrize("tied", [True, False])
def test_of_both_families_of_decoders(tied):
    sizes = {
        "shape": (6,),
        "outputs": 20,
        "vocabulary": 20,
        "width": 8,
        "depth": 1,
        "heads": 2,
        "hidden": None,
    }
    shared = {**PLAIN, **sizes, "positions": None, "tied": tied}
    rows = torch.randint(0, 20, (3, 6), generator=torch.Generator().manual_seed(0))
    only = {**shared, "kv_heads": 1}
    del only["bias"]
    for network in (gpt(**shared), llama(**only)):
        asked = Batch("labelled", torch.arange(3), torch.zeros(3).long(), {"main": rows})
        found = live_teacher([Frozen(network)], "main", lambda several: several[0], hidden=True)(asked)
        torch.testing.assert_close(whole(found), network(rows).detach())
        assert found[HEAD].stride(0) == 0, "once, whatever the rows"
        assert not any(leaf.requires_grad for leaf in found.values())


def test_others_are_refused():
    with pytest.raises(UserError, match="teacher=cnn does not end in one linear layer that tells this"):
        tells_hidden(nn.Linear(2, 3), "teacher=cnn")
    with pytest.raises(UserError, match="the last layer of one teacher reads, and 2 answer together"):
        hidden_network([nn.Linear(2, 3), nn.Linear(2, 3)], {"name": "hidden"})
    assert hidden_network([nn.Linear(2, 3)], {"name": "topk"}) is None


# what rows share


def test_rows_share_one_array():
    one = torch.arange(6.0).view(2, 3)
    rows = SharedRows(one, (5, 4))
    assert rows.shape == (5, 4, 2, 3) and len(rows) == 5 and rows.dtype == one.dtype
    assert rows[1:3, 0].shape == (2, 2, 3) and rows[np.array([0, 0, 4])].shape == (3, 4, 2, 3)
    assert rows[:, 0][np.flatnonzero([1, 0, 0, 1, 0])].shape == (2, 2, 3)
    picked = rows.flatten(0, 1).index_select(0, torch.tensor([19, 0, 7]))
    assert picked.shape == (3, 2, 3) and picked.data_ptr() == one.data_ptr()
    assert torch.equal(picked, one.expand(3, 2, 3)) and torch.equal(rows[0, 0].tensor(), one)
    with pytest.raises(IndexError, match="along the axis 0"):
        rows.index_select(1, torch.tensor([0]))
    with pytest.raises(IndexError):
        rows[5]


def test_batches_that_share_one_array_share_it_together():
    one, other = torch.randn(2, 3), torch.randn(2, 3)
    found = joined([{"a": torch.zeros(n, 2), "b": one.expand(n, 2, 3)} for n in (3, 1, 2)])
    assert found["b"].shape == (6, 2, 3) and found["b"].data_ptr() == one.data_ptr()
    assert found["a"].shape == (6, 2)
    apart = joined([one.expand(2, 2, 3), other.expand(1, 2, 3)])
    assert torch.equal(apart, torch.stack([one, one, other]))
    assert all_finite({"b": one.expand(3, 2, 3)})
    assert not all_finite({"b": torch.full((2, 3), torch.nan).expand(3, 2, 3)})


def test_an_answer_is_made_without_gradient():
    network = gpt(
        shape=(4,), outputs=9, vocabulary=9, width=4, depth=1, heads=1, hidden=8, positions=None, **PLAIN
    )
    found = hidden_answer(network, torch.zeros(2, 4).long())
    assert found[STATES].dtype == torch.float32 and not found[STATES].requires_grad
