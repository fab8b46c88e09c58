"""Terms on hidden features that torchdistill has too give its numbers, where it is installed (`pip install
torchdistill`): no dependency of kdx.
"""

import pytest
import torch

from kdx.methods.features.attention_transfer import attention_loss
from kdx.methods.features.crd import contrast_loss
from kdx.methods.features.rkd import angles, distances, relation
from kdx.methods.features.similarity_preserving import similarity_loss
from kdx.methods.features.vid import nll

theirs = pytest.importorskip("torchdistill.losses.mid_level")
NEAR = {"rtol": 1e-5, "atol": 1e-5}


def draw(*size, seed):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_relations(seed):
    student, teacher = draw(8, 5, seed=seed), draw(8, 7, seed=seed + 10)
    loss = theirs.RKDLoss("s", "t", 1.0, 1.0, "mean")
    torch.testing.assert_close(
        relation(distances(student), distances(teacher)),
        loss.compute_rkd_distance_loss(teacher, student),
        **NEAR,
    )
    torch.testing.assert_close(
        relation(angles(student), angles(teacher)), loss.compute_rkd_angle_loss(teacher, student), **NEAR
    )


@pytest.mark.parametrize("seed", range(3))
def test_attention_as_the_authors_code(seed):
    student, teacher = draw(4, 3, 5, 5, seed=seed), draw(4, 6, 5, 5, seed=seed + 10)
    loss = theirs.ATLoss({}, mode="code")
    torch.testing.assert_close(
        attention_loss(student, teacher), loss.compute_at_loss(student, teacher), **NEAR
    )


@pytest.mark.parametrize("seed", range(3))
def test_variational_information(seed):
    mean, feature, raw = draw(4, 3, 5, 5, seed=seed), draw(4, 3, 5, 5, seed=seed + 10), draw(3, seed=seed)
    variance = (torch.nn.functional.softplus(raw) + 1e-5)[:, None, None]
    pairs = {"a": {side: {"io": "output", "path": "x"} for side in ("student", "teacher")}}
    found = theirs.VIDLoss(pairs)({"x": {"output": (mean, variance)}}, {"x": {"output": feature}})
    torch.testing.assert_close(nll(mean, feature, raw), found, **NEAR)


@pytest.mark.parametrize("seed", range(3))
def test_the_contrast(seed):
    class Asked:
        num_samples, eps = 40, 1e-7

    scores = draw(4, 9, seed=seed).exp()
    found = theirs.CRDLoss.compute_contrast_loss(Asked, scores)
    torch.testing.assert_close(contrast_loss(scores, 40), found[0], **NEAR)


def test_similarities_differ_as_theirs_are_divided_by_a_sum():
    """The paper's equation 2 divides each row by its length, as kdx does; theirs by the sum of its absolute
    values (`normalize(x, 1)`), which is another number."""
    student, teacher = draw(6, 5, seed=0), draw(6, 7, seed=1)
    loss = theirs.SPKDLoss("s", "t", "batchmean")
    ours = similarity_loss(student, teacher)
    assert abs(ours - loss.compute_spkd_loss(teacher, student) / 36) > 1e-3
    rows = [torch.nn.functional.normalize(f @ f.T) for f in (student, teacher)]
    torch.testing.assert_close(ours, torch.norm(rows[0] - rows[1]) ** 2 / 36, **NEAR)
