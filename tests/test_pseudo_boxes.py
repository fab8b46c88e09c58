"""loss=pseudo_boxes: its limits, by hand."""

from __future__ import annotations

import pytest
import torch
from test_detection import perfect, task, truth_of
from torch import nn

from kdx.core.errors import UserError
from kdx.core.types import Batch, Parts
from kdx.methods.losses.pseudo_boxes import PseudoBoxes
from kdx.methods.losses.supervised import Supervised


class Fixed(nn.Module):
    """Answers that are learned as they are, of the rows 0 to B - 1."""

    def __init__(self, answers):
        super().__init__()
        self.answers = nn.ParameterDict({name: nn.Parameter(leaf) for name, leaf in answers.items()})

    def forward(self, rows):
        at = rows.long()[:, 0]
        return {name: leaf[at] for name, leaf in self.answers.items()}


TASK = task(size=32, stride=4, levels=2)
TRUTH = truth_of(
    [([2, 2, 14, 14], 0)], [([8, 8, 20, 20], 1), ([22, 2, 30, 10], 0)], [], [([4, 8, 20, 24], 1)]
)


def batch(name: str, rows: list[int]) -> Batch:
    shown = torch.tensor(rows, dtype=torch.float32)[:, None]
    y = {key: leaf[rows] for key, leaf in TRUTH.items()} if name == "labelled" else None
    index = torch.tensor(rows)
    return Batch(name, index, torch.zeros_like(index), {"main": shown}, y)


def made(teacher, **how):
    student = Fixed(TASK.made_up(4, torch.Generator().manual_seed(3)))
    parts = Parts(student, lambda: student, teacher, [], None, TASK, {}, None)
    return PseudoBoxes(parts, **{"score": 0.3, "unlabel_ratio": 1.0, "features": None, **how}), parts


def knowing(rows: Batch):
    known = perfect(TASK, TRUTH)
    return {name: leaf[rows.index] for name, leaf in known.items()}


def test_a_teacher_that_is_always_right_teaches_as_labels_do():
    loss, parts = made(knowing, unlabel_ratio=0.5)
    terms = loss(
        {"labelled": batch("labelled", [0, 2]), "unlabelled": batch("unlabelled", [1, 3])}, 0.0
    ).terms
    alone = Supervised(parts)
    assert torch.equal(terms["labels"], alone({"labelled": batch("labelled", [0, 2])}, 0.0).loss)
    right = alone({"labelled": batch("labelled", [1, 3])}, 0.0).loss
    assert terms["pool"].item() == pytest.approx(0.5 * right.item(), rel=1e-4)


def test_without_weight_it_is_supervised():
    loss, parts = made(knowing, unlabel_ratio=0.0)
    streams = {"labelled": batch("labelled", [0, 1]), "unlabelled": batch("unlabelled", [2, 3])}
    alone = Supervised(parts)({"labelled": batch("labelled", [0, 1])}, 0.0).loss
    assert torch.equal(loss(streams, 0.0).loss, alone)


def test_only_sure_boxes_are_learned():
    loss, _ = made(knowing, score=1.0)
    pool = batch("unlabelled", [1, 3])
    terms = loss({"labelled": batch("labelled", [0]), "unlabelled": pool}, 0.0).terms
    said = {name: leaf[pool.index] for name, leaf in loss.student.answers.items()}
    nothing = TASK.loss(said, truth_of([], [])).mean()
    assert torch.equal(terms["pool"], nothing)


def test_it_learns_a_fixed_batch_and_keeps_nothing_but_the_student():
    loss, _ = made(knowing)
    streams = {"labelled": batch("labelled", [0, 2]), "unlabelled": batch("unlabelled", [1, 3])}
    optimiser, losses = torch.optim.AdamW(loss.parameters(), 0.1), []
    for _ in range(20):
        losses.append(loss(streams, 0.0).loss)
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(name.startswith("student.") for name in loss.state_dict()) and loss.export() is loss.student


@pytest.mark.parametrize("key, value", [("score", 1.5), ("unlabel_ratio", -1)])
def test_settings_out_of_range(key, value):
    with pytest.raises(UserError, match=f"loss.{key}"):
        made(knowing, **{key: value})
