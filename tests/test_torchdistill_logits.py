"""Losses on logits that torchdistill has too give its numbers on random tensors."""

from __future__ import annotations

import pytest
import torch
from tasks import classification
from torch.nn import functional as F

from kdx.core.math import kl
from kdx.core.types import Batch, Parts
from kdx.methods.logits import standardised
from kdx.methods.losses.dist import DIST
from kdx.methods.losses.kd import KD

theirs = pytest.importorskip("torchdistill.losses.mid_level")
ROWS, CLASSES = 12, 7
MODULE = {
    "student_module_path": "s",
    "student_module_io": "output",
    "teacher_module_path": "t",
    "teacher_module_io": "output",
}


@pytest.fixture(params=range(3), ids=str)
def logits(request):
    made = torch.Generator().manual_seed(request.param)
    student, teacher = (3 * torch.randn(ROWS, CLASSES, generator=made) for _ in range(2))
    return student, teacher, torch.randint(CLASSES, (ROWS,), generator=made)


def asked(loss, student, teacher, y):
    return loss({"s": {"output": student}}, {"t": {"output": teacher}}, y).item()


def ours(method, student, teacher, y, **keys):
    made = Parts(torch.nn.Identity(), torch.nn.Identity, lambda b: teacher, [], None, classification(CLASSES))
    rows = Batch("labelled", torch.arange(ROWS), torch.ones(ROWS), {"main": student}, y)
    return {name: term.item() for name, term in method(made, **keys)({"labelled": rows}, 0.0).terms.items()}


def test_kd(logits):
    loss = theirs.KDLoss(**MODULE, temperature=4.0, alpha=0.1, beta=0.9, reduction="batchmean")
    found = ours(KD, *logits, temperature=4.0, alpha=0.9)
    assert sum(found.values()) == pytest.approx(asked(loss, *logits), rel=1e-5)


def test_dist(logits):
    """Theirs has no labels' term."""
    loss = theirs.DISTLoss(**MODULE, beta=1.5, gamma=0.5, tau=2.0)
    found = ours(DIST, *logits, temperature=2.0, beta=1.5, gamma=0.5, standardise=False, features=None)
    assert found["inter_class"] + found["intra_class"] == pytest.approx(asked(loss, *logits), rel=1e-5)


def test_standardised_kd(logits):
    """Theirs has T^2 only where it adds the labels' loss."""
    student, teacher, y = logits
    loss = theirs.LogitStdKDLoss(**MODULE, temperature=2.0, alpha=0.1, beta=9.0)
    distilled = kl(standardised(student), standardised(teacher), 2.0).mean()
    expected = 0.1 * F.cross_entropy(student, y) + 9 * distilled
    assert expected.item() == pytest.approx(asked(loss, student, teacher, y), rel=1e-5)
