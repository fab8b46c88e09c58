"""What is stored of a teacher's answers: packed, laid down, read again, and learned from; and that a run with
them is what it says.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdx.core.divergence import Divergence, divergence
from kdx.core.errors import UserError
from kdx.core.math import kl
from kdx.core.sparse_answers import TEMPERATURE, dense_logits, divergence_from, drawn_ids, likeliest
from kdx.core.types import Batch
from kdx.data.ragged import RaggedArray, RaggedReader
from kdx.tasks import answer_formats
from kdx.tasks.answer_formats import Sampled, TopK, top_mass
from kdx.tasks.classification import Classification
from kdx.tasks.kept import place_bytes
from kdx.tasks.language import NextToken
from kdx.tasks.regression import Regression

FORWARD = Divergence("forward", 0.5, "smooth", 1.0)


def task_of(classes: int) -> Classification:
    return Classification(classes=[str(number) for number in range(classes)])


def logits(rows, classes, seed=0, scale=2.0):
    return scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def batch(rows, y=None, split="labelled", first=0):
    index = torch.arange(first, first + rows)
    return Batch(split, index, index % 3, {}, y)


def unpacked(kept, answers, rows, temperature=1.0):
    found = kept.task.unpack(kept.pack(answers, rows))
    return {**found, TEMPERATURE: torch.full((len(rows),), temperature)}


@pytest.mark.parametrize(
    "classes, kind, each", [(10, torch.uint8, 30), (300, torch.uint16, 38), (70_000, torch.int32, 54)]
)
def test_topk_on_the_disk(classes, kind, each):
    teacher = logits(6, classes)
    found = TopK(task_of(classes), 1.0, 0, 8).pack(teacher, batch(6, torch.tensor([0, 1, 2, -1, 4, 5])))
    assert found["ids"].dtype == kind and found["ids"].shape == (6, 8)
    assert {found[name].dtype for name in ("logp", "log_tail", "true", "entropy")} == {torch.float16}
    assert sum(leaf[0].nbytes for leaf in found.values()) == each
    assert place_bytes(classes, {"name": "topk", "k": 8, "draws": 50}) == each
    log_p = teacher.log_softmax(1)
    assert found["true"].isnan().tolist() == [False, False, False, True, False, False]
    assert found["true"][1].item() == pytest.approx(log_p[1, 1].item(), rel=1e-3)
    assert found["entropy"][2].item() == pytest.approx(-(log_p[2].exp() * log_p[2]).sum().item(), rel=1e-3)


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd", "tvd"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_packing_costs_less_than_two_thousandths_of_a_nat(kind, temperature):
    """At k = V it is the dense value but for half precision; at less the bucket's, below it."""
    how = Divergence(kind, 0.3, "smooth", temperature)
    student, teacher = logits(40, 12, 1), logits(40, 12, 2)
    full = divergence(student, teacher, how)
    whole = unpacked(TopK(task_of(12), temperature, 0, 12), teacher, batch(40), temperature)
    assert (divergence_from(student, whole, how, "bucket") - full).abs().max() < 2e-3 * temperature**2
    part = unpacked(TopK(task_of(12), temperature, 0, 4), teacher, batch(40), temperature)
    assert (divergence_from(student, part, how, "bucket") <= full + 2e-3 * temperature**2).all()


def test_draws_hang_on_the_row_alone():
    kept, teacher = Sampled(task_of(30), 1.0, 5, 50), logits(9, 30)
    whole = kept.pack(teacher, batch(9))["draws"]
    alone = []
    for row in range(9):
        one = Batch("labelled", torch.tensor([row]), torch.tensor([row % 3]), {})
        alone.append(kept.pack(teacher[row : row + 1], one)["draws"])
    assert torch.equal(whole, torch.cat(alone)), "any size of batch gives the same"
    other = Sampled(task_of(30), 1.0, 6, 50).pack(teacher, batch(9))["draws"]
    pool = kept.pack(teacher, batch(9, split="unlabelled"))["draws"]
    assert not torch.equal(whole, other) and not torch.equal(whole, pool)


def test_drawn_answers_are_right_in_the_mean():
    """2,000 rows with one answer: the mean share of each id is its probability, within five deviations."""
    teacher = logits(1, 6, 3).expand(2000, -1)
    found = unpacked(Sampled(task_of(6), 1.0, 0, 50), teacher, batch(2000))
    ids, counts = drawn_ids(found)
    assert (counts.sum(1) == 50).all() and counts.max() <= 50
    shares = torch.zeros(6).index_add_(0, ids.flatten(), counts.flatten().float()) / (50 * 2000)
    p = teacher[0].softmax(0)
    assert ((shares - p).abs() <= 5 * (p * (1 - p) / (50 * 2000)).sqrt()).all()
    student = logits(1, 6, 4).expand(2000, -1)
    apart = divergence_from(student, found, FORWARD, "bucket").mean()
    assert apart.item() == pytest.approx(divergence(student[:1], teacher[:1], FORWARD).item(), abs=0.03)
    with pytest.raises(UserError, match=r"loss\.kind=reverse needs the teacher's probabilities"):
        divergence_from(student, found, Divergence("reverse", 0.5, "smooth", 1.0), "bucket")


def test_dense_again():
    """Nothing is certain but the k, and which is the likeliest; the rest of the mass lies evenly."""
    teacher = logits(20, 8)
    for temperature in (1.0, 4.0):
        part = unpacked(TopK(task_of(8), temperature, 0, 3), teacher, batch(20), temperature)
        again = dense_logits(part, 8)
        assert torch.equal(again.argmax(1), teacher.argmax(1))
        assert torch.equal(likeliest(part)[0], teacher.argmax(1))
        p, q = (teacher / temperature).softmax(1), (again / temperature).softmax(1)
        ids = part["ids"]
        torch.testing.assert_close(q.gather(1, ids), p.gather(1, ids), rtol=5e-3, atol=1e-3)
        torch.testing.assert_close(q.sum(1), torch.ones(20))
    drawn_again = dense_logits(unpacked(Sampled(task_of(8), 1.0, 0, 200), teacher, batch(20)), 8).softmax(1)
    assert (drawn_again - teacher.softmax(1)).abs().max() < 0.2


def test_classification_reads_them_as_it_reads_logits():
    task, teacher, student = task_of(8), logits(20, 8), logits(20, 8, 1)
    part = unpacked(TopK(task, 1.0, 0, 8), teacher, batch(20))
    torch.testing.assert_close(task.match(student, part, 1.0), kl(student, teacher, 1.0), atol=2e-3, rtol=0)
    assert torch.equal(task.agreement(student, part), student.argmax(1) == teacher.argmax(1))
    y = torch.arange(20) % 8
    assert task.metrics(part, y)["accuracy"] == task.metrics(teacher, y)["accuracy"]
    assert task.categories(student, torch.full((20, 8), 0.125))[1] is None, "mixed rows have no true class"


def partial_of(form, number):
    return lambda task: form(task, 1.0, 0, number)


@pytest.mark.parametrize("form", [partial_of(TopK, 11), partial_of(Sampled, 255)])
def test_next_tokens_are_measured_by_what_is_kept(form):
    """The log-probability of the true token is kept, so bits are those of the whole answers."""
    task, draw = NextToken(vocabulary=11, length=7), torch.Generator().manual_seed(0)
    token = torch.randint(-1, 11, (5, 7), generator=draw).int()
    truth = {"token": token, "bytes": torch.randint(1, 5, (5, 7), generator=draw).int()}
    answers, student = 2 * task.made_up(5, draw), task.made_up(5, draw)
    part = unpacked(form(task), answers, batch(5, truth))
    assert part["entropy"].shape == (5, 7) and part["true"].isnan().equal(token < 0)
    kept = task.condense(part, truth)
    whole = task.condense(answers, truth)
    assert task.metrics(kept, truth)["bits"] == pytest.approx(task.metrics(whole, truth)["bits"], rel=1e-3)
    assert (kept["top"] == whole["top"]).float().mean() > 0.9
    torch.testing.assert_close(kept["sure"], whole["sure"], atol=0.15, rtol=0)
    apart, plain = task.match(student, part, 1.0), task.match(student, answers, 1.0)
    assert apart.shape == (5,)
    torch.testing.assert_close(apart, plain, atol=0.1 if "draws" in part else 2e-3, rtol=0)
    how = Divergence("reverse", 0.5, "smooth", 1.0)
    assert task.divergence(student, answers, how, "bucket").shape == (5,)


def test_draws_of_places_hang_on_the_row_alone():
    """Also where a batch is worked out in pieces that end within a row."""
    task = NextToken(vocabulary=11, length=7)
    kept, answers = Sampled(task, 1.0, 3, 20), 2 * task.made_up(6, torch.Generator().manual_seed(1))
    whole = kept.pack(answers, batch(6))["draws"]
    last = Batch("labelled", torch.tensor([4, 5]), torch.tensor([4 % 3, 5 % 3]), {})
    assert torch.equal(whole[4:], kept.pack(answers[4:], last)["draws"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_formats, "rows_at_once", lambda logits: 5)
        assert torch.equal(whole, kept.pack(answers, batch(6))["draws"])


def test_the_mass_of_the_likeliest():
    found = top_mass(task_of(8), torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.1] + [1e-9] * 4])), 2, 1.0)
    assert found.tolist() == pytest.approx([0.8])


def test_other_answers_are_no_distributions():
    task = Regression(names=["a"])
    with pytest.raises(UserError, match="keeps a part of distributions"):
        task.categories(task.made_up(2), None)
    with pytest.raises(UserError, match="loss=divergence compares distributions"):
        task.divergence(task.made_up(2), task.made_up(2), FORWARD, "bucket")


@pytest.mark.parametrize("kept", [TopK(task_of(30), 1.0, 1, 4), Sampled(task_of(30), 1.0, 1, 50)])
def test_asked_again(kept):
    """Those of the same teacher are alike, of last bits too; those of another are not, and are named."""
    teacher, rows = logits(8, 30), batch(8, torch.arange(8))
    stored = kept.pack(teacher, rows)
    assert kept.alike(stored, kept.pack(teacher + 1e-4 * logits(8, 30, 5), rows)) is None
    assert "the entropy is" in kept.alike(stored, kept.pack(logits(8, 30, 9), rows))
    nobody = batch(8)
    stored = kept.pack(teacher, nobody)
    swapped = teacher[:, torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    said = kept.alike(stored, kept.pack(swapped, nobody))
    assert said is not None and "entropy" not in said, "that is the same, and other ids are likely"


def ragged_values(rows, most, generator):
    counts = generator.integers(0, 4, (rows, 2, most))
    counts[..., -1] = 0
    counts = -np.sort(-counts, -1)
    return np.where(counts > 0, generator.integers(0, 300, counts.shape) * 256 + counts, 0)


def test_ragged_rows_are_what_was_written(tmp_path):
    generator = np.random.default_rng(0)
    file = RaggedArray.lay(tmp_path / "pool.draws", (6, 2, 2, 5), 2)
    values = [ragged_values(6, 5, generator) for _ in range(2)]
    for slot in range(2):
        for rows in ([0, 1, 2], [3, 4, 5]):
            file[np.array(rows), slot] = values[slot][rows]
    file.flush()
    found = RaggedArray(tmp_path / "pool.draws")
    whole = np.stack(values, 1)
    assert found.shape == (6, 2, 2, 5) and len(found) == 6
    np.testing.assert_array_equal(found[:, 1], values[1])
    np.testing.assert_array_equal(np.array(found), whole)
    np.testing.assert_array_equal(found[:, 0][[4, 1]], values[0][[4, 1]])
    np.testing.assert_array_equal(found[2:5, 1], values[1][2:5])
    reader = RaggedReader(found).flatten(0, 1)
    places = torch.tensor([11, 0, 3, 3])
    np.testing.assert_array_equal(reader.index_select(0, places), whole.reshape(12, 2, 5)[[11, 0, 3, 3]])
    size = (tmp_path / "pool.draws.bin").stat().st_size
    assert size == 8 + 3 * int((whole > 0).sum()), "an id of two bytes and a count of one, and nothing else"


def test_ragged_rows_after_a_stop(tmp_path):
    generator = np.random.default_rng(1)
    values = [ragged_values(4, 5, generator) for _ in range(2)]
    path = tmp_path / "pool.draws"
    file = RaggedArray.lay(path, (4, 2, 2, 5), 1 + 1)
    file[np.arange(4), 0] = values[0]
    held = path.with_name("pool.draws.bin").read_bytes()
    file[np.arange(2), 1] = values[1][:2]
    again = RaggedArray(path, writable=True)
    again.cut([0])
    assert path.with_name("pool.draws.bin").read_bytes() == held
    again[np.arange(4), 1] = values[1]
    np.testing.assert_array_equal(again[:, 1][:], values[1])
    np.testing.assert_array_equal(again[:, 0][:], values[0])
    path.with_name("pool.draws.bin").write_bytes(held[:-1])
    with pytest.raises(OSError, match="ends before its rows do"):
        RaggedArray(path)[:, 0][:]
    path.with_name("pool.draws.bin").write_bytes(b"something else")
    with pytest.raises(ValueError, match="holds no rows of draws"):
        RaggedArray(path)
