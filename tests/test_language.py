"""The task of next tokens: hand numbers, and what is kept of answers beside the answers themselves."""

import math
import warnings

import numpy as np
import pytest
import torch

from kdx.core.answers import AnswerColumns
from kdx.core.errors import Caution, UserError
from kdx.core.types import Parts
from kdx.methods.losses.kd import KD
from kdx.tasks import language
from kdx.tasks.language import NextToken

TASK = NextToken(vocabulary=4, length=2)
HALF = torch.tensor([0.5, 0.25, 0.125, 0.125])
FLAT = torch.full((4,), 0.25)
ANSWERS = torch.stack([torch.stack([HALF, FLAT]), torch.stack([HALF, HALF])]).log()
"""Two rows of two places."""
TRUTH = {
    "token": torch.tensor([[0, 3], [2, -1]], dtype=torch.int32),
    "bytes": torch.tensor([[1, 3], [2, 9]], dtype=torch.int32),
}
"""1, 2 and 3 bits for 1, 3 and 2 bytes; the last place does not count."""


def some(rows=5, length=7, vocabulary=11, seed=0):
    task = NextToken(vocabulary=vocabulary, length=length)
    draw = torch.Generator().manual_seed(seed)
    token = torch.randint(-1, vocabulary, (rows, length), generator=draw).int()
    truth = {"token": token, "bytes": torch.randint(1, 5, (rows, length), generator=draw).int()}
    return task, task.made_up(rows, draw), 2 * task.made_up(rows, draw), truth


def test_bits_per_byte_by_hand():
    found = TASK.metrics(ANSWERS, TRUTH)
    assert found["bits"] == pytest.approx((1 + 2 + 3) / (1 + 3 + 2))
    assert found["loss"] == pytest.approx(2 * math.log(2))
    assert found["perplexity"] == pytest.approx(4)
    assert found["accuracy"] == pytest.approx(1 / 3)  # of equal ones the first is named
    assert "kl" not in found and "acceptance" not in found


def test_a_flat_guess_of_bytes_takes_eight_bits():
    task = NextToken(vocabulary=256, length=3)
    truth = {"token": torch.tensor([[7, 0, 255]]), "bytes": torch.ones(1, 3, dtype=torch.int32)}
    assert task.metrics(torch.zeros(1, 3, 256), truth)["bits"] == pytest.approx(8)


def test_the_mean_of_by_row_is_the_metric():
    task, answers, _, truth = some()
    rows = task.by_row(answers, truth)
    assert rows.shape == (5,)
    assert rows.mean().item() == pytest.approx(task.metrics(answers, truth)["bits"], rel=1e-6)
    assert TASK.by_row(ANSWERS, TRUTH).tolist() == pytest.approx([3 / 3, 3 / 3])


def test_loss_is_a_mean_over_the_places_that_count():
    assert TASK.loss(ANSWERS, TRUTH).tolist() == pytest.approx([1.5 * math.log(2), 3 * math.log(2)])
    nothing = {name: torch.full_like(leaf, -1) for name, leaf in TRUTH.items()}
    assert TASK.loss(ANSWERS, nothing).tolist() == [0, 0]


def test_match_is_the_divergence_by_hand():
    teacher, student = ANSWERS[:1], ANSWERS[:1].flip(1)
    forward = (HALF * (HALF / FLAT).log()).sum().item()
    backward = (FLAT * (FLAT / HALF).log()).sum().item()
    assert TASK.match(student, teacher, 1.0).tolist() == pytest.approx([(forward + backward) / 2])
    assert TASK.match(teacher, teacher, 3.0).abs().max() < 1e-6
    task, one, other, _ = some()
    said, taught = ((x / 2).log_softmax(-1) for x in (one, other))
    by_hand = 4 * (taught.exp() * (taught - said)).sum(-1).mean(1)
    assert torch.allclose(task.match(one, other, 2.0), by_hand, atol=1e-5)


def told(task, answers, teacher, truth, temperature, both):
    """(match, loss, the gradient of 3 match + 2 loss), worked out together or one after the other."""
    student = answers.clone().requires_grad_()
    if both:
        match, loss = task.match_and_loss(student, teacher, truth, temperature)
    else:
        match, loss = task.match(student, teacher, temperature), task.loss(student, truth)
    (3 * match + 2 * loss).sum().backward()
    return match.detach(), loss.detach(), student.grad


@pytest.mark.parametrize("temperature", [1, 2.5])
@pytest.mark.parametrize("at_once", [1000, 3])
@pytest.mark.parametrize("type_", [torch.float32, torch.float16])
def test_match_and_loss_together_are_the_same(monkeypatch, temperature, at_once, type_):
    monkeypatch.setattr(language, "rows_at_once", lambda logits: at_once)
    task, answers, teacher, truth = some()
    truth["token"][0] = -1  # a row of which nothing counts
    together, apart = (
        told(task, answers, teacher.to(type_), truth, temperature, both) for both in (True, False)
    )
    for found, wanted in zip(together, apart, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert together[1][0] == 0 and (together[0] > 0).all()


def test_match_and_loss_by_hand():
    teacher = FLAT.log().expand(2, 2, 4)
    match, loss = TASK.match_and_loss(ANSWERS, teacher, TRUTH, 1)
    apart = math.log(2) * (-2 + (1 + 2 + 3 + 3) / 4)  # KL(flat || half)
    assert match.tolist() == pytest.approx([apart / 2, apart])
    assert loss.tolist() == pytest.approx([1.5 * math.log(2), 3 * math.log(2)])


def test_match_and_loss_where_both_rule_a_token_out():
    teacher, student = ANSWERS.clone(), torch.zeros(2, 2, 4)
    teacher[..., 3], student[..., 3] = -torch.inf, -torch.inf
    truth = TRUTH | {"token": TRUTH["token"].clamp_max(2)}
    match, loss, gradient = told(TASK, student, teacher, truth, 1, True)
    assert all(found.isfinite().all() for found in (match, loss, gradient))
    assert match.tolist() == pytest.approx(TASK.match(student, teacher, 1).tolist())


def test_what_is_kept_measures_as_the_answers_do():
    task, answers, teacher, truth = some()
    kept = task.condense(answers, truth)
    assert task.metrics(kept, truth) == task.metrics(answers, truth)
    assert torch.equal(task.by_row(kept, truth), task.by_row(answers, truth))
    assert torch.allclose(task.loss(kept, truth), task.loss(answers, truth), atol=1e-6)
    assert task.details(kept, truth, "test") == task.details(answers, truth, "test")
    both = task.condense(teacher, truth)
    assert torch.equal(task.agreement(kept, both), task.agreement(answers, teacher))
    assert all(len(leaf) == 5 and leaf.numel() <= answers.numel() / 11 for leaf in kept.values())


def test_beside_a_teacher_by_hand():
    kept = TASK.condense(ANSWERS, TRUTH, ANSWERS.flip(0))
    # places: half/half, flat/half, half/half, and one that does not count
    assert kept["shared"][0].tolist() == pytest.approx([1, 0.25 + 0.25 + 0.125 + 0.125])
    forward = (HALF * (HALF / FLAT).log()).sum().item()
    assert kept["kl"][0].tolist() == pytest.approx([0, forward], abs=1e-7)
    found = TASK.metrics(kept, TRUTH)
    assert found["kl"] == pytest.approx(forward / 3)
    assert found["acceptance"] == pytest.approx((1 + 0.75 + 1) / 3)


def test_a_token_that_the_teacher_rules_out_has_no_share():
    taught = torch.tensor([[[0.0, -torch.inf, -torch.inf, -torch.inf]] * 2])
    kept = TASK.condense(ANSWERS[:1], {n: leaf[:1] for n, leaf in TRUTH.items()}, taught)
    assert kept["kl"][0].tolist() == pytest.approx([math.log(2), math.log(4)])
    assert kept["shared"][0].tolist() == pytest.approx([0.5, 0.25])


def test_chunks_change_nothing(monkeypatch):
    task, answers, teacher, truth = some()
    whole = task.condense(answers, truth, teacher)
    monkeypatch.setattr(language, "rows_at_once", lambda logits: 3)
    again = task.condense(answers, truth, teacher)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_knowing_nothing_is_the_entropy_of_the_tokens():
    truth = {"token": torch.tensor([[0, 0], [1, 2], [0, -1]]), "bytes": torch.ones(3, 2, dtype=torch.int32)}
    entropy = -(3 / 5 * math.log2(3 / 5) + 2 * (1 / 5) * math.log2(1 / 5))
    assert TASK.floor(truth) == pytest.approx(entropy)
    best = torch.tensor([3 / 5, 1 / 5, 1 / 5, 1e-30]).log().expand(3, 2, 4)
    assert TASK.metrics(best, truth)["bits"] == pytest.approx(entropy)


def test_stored_answers_are_the_same_distribution():
    task, answers, _, truth = some()
    large = answers + 1e6 * torch.randn(5, 7, 1)  # half precision ends at 65,504
    packed = task.pack(large)
    assert packed[""].dtype == torch.float16 and packed[""].nbytes == 5 * task.row_bytes()
    assert task.match(answers, task.unpack(task.pack(answers)), 1.0).max() < 2e-5
    assert task.unpack(packed).isfinite().all()
    stored = {name: leaf.numpy() for name, leaf in task.pack(answers).items()}
    whole, kept = task.metrics(task.read(stored), truth), task.condensed(stored, truth)
    assert task.metrics(kept, truth) == pytest.approx(whole)


def test_stored_answers_are_measured_block_by_block(monkeypatch):
    task, answers, _, truth = some()
    stored = {name: leaf.numpy() for name, leaf in task.pack(answers).items()}
    whole = task.condensed(stored, truth)
    monkeypatch.setattr(NextToken, "rows_together", lambda self, most=0: 2)
    assert all(torch.equal(leaf, whole[name]) for name, leaf in task.condensed(stored, truth).items())


def test_several_teachers_answer_with_the_mean_of_their_probabilities():
    both = TASK.mean([ANSWERS[:1], ANSWERS[:1].flip(1)])
    assert torch.allclose(both.exp(), ((HALF + FLAT) / 2).expand(1, 2, 4))


def test_half_precision_is_compared_in_full():
    task, answers, teacher, truth = some()
    half = answers.bfloat16().requires_grad_()
    loss = task.loss(half, truth) + task.match(half, teacher.half(), 1.0)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert half.grad.dtype == torch.bfloat16
    exact = task.loss(half.detach().float(), truth) + task.match(half.detach().float(), teacher, 1.0)
    assert torch.allclose(loss.detach(), exact, atol=2e-3)


def test_a_temperature_that_flattens_next_tokens_is_cautioned_of():
    student = torch.nn.Identity()
    parts = Parts(student, lambda: student, lambda batch: None, [], None, TASK)
    with pytest.warns(Caution, match="loss.temperature=4 flattens the probabilities"):
        KD(parts, temperature=4, alpha=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KD(parts, temperature=1, alpha=1)
        KD(parts, temperature=4, alpha=0)


def test_the_worst_part_is_the_dearest_run_of_tokens():
    task = NextToken(vocabulary=4, length=20)
    answers = torch.zeros(1, 20, 4)
    answers[0, 5:17, 0] = 9.0  # sure, and wrong
    token = torch.arange(20)[None] % 3 + 1
    truth = {"token": token, "bytes": torch.ones_like(token)}
    (worst,) = task.hardest(task.condense(answers, truth), truth)
    assert worst.tolist() == [token[0, 5:17].tolist()]


def test_figures_show_the_loss_by_place():
    (figure,) = TASK.details(ANSWERS, TRUTH, "test")["figures"]
    line = figure["data"]["lines"]["loss"]
    assert line["x"] == [1, 2]
    assert line["y"] == pytest.approx([2 * math.log(2), 2 * math.log(2)])
    assert TASK.details(ANSWERS, TRUTH, "train") == {}


def test_columns_of_a_row():
    kept = TASK.condense(ANSWERS, TRUTH)
    found = TASK.columns(kept, AnswerColumns())
    assert found["value:bits"].tolist() == pytest.approx([3 / 4, 3 / 2])
    assert found["value:loss"].tolist() == pytest.approx([1.5 * math.log(2), 3 * math.log(2)])
    assert {name: found.tolist() for name, found in TASK.truth_columns(TRUTH).items()} == {
        "truth:tokens": [2, 1],
        "truth:bytes": [4, 2],
    }
    bare = TASK.columns(ANSWERS, AnswerColumns())
    assert bare["value:next"].tolist() == [0, 0] and bare["confidence"].tolist() == pytest.approx([0.25, 0.5])
    with pytest.raises(UserError, match="top= and soft= are of classes"):
        TASK.columns(kept, AnswerColumns(top=2))


def test_answers_in_a_file_are_refused():
    with pytest.raises(UserError, match="no file of columns holds such"):
        TASK.of_array(np.zeros((2, 8)))


def test_rows_whose_truth_is_hidden():
    hidden = TASK.unknown(TRUTH, 3)
    assert hidden["token"].shape == (3, 2) and not TASK.known(hidden).any()
    assert TASK.known({name: leaf.numpy() for name, leaf in TRUTH.items()}).tolist() == [True, True]
    task, _, _, truth = some()
    assert task.loss(task.answers_of(truth), truth).max() == 0


def test_several_arrays_are_no_logits():
    with pytest.raises(UserError, match="one tensor \\(B, L, V\\) of logits; given several: a, b"):
        TASK.match({"a": ANSWERS, "b": ANSWERS}, ANSWERS, 1.0)
