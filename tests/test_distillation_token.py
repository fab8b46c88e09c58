"""DeiT's distillation token: its loss by hand, its limits, the answer of both tokens, and a run by the
command line.
"""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from tasks import classification
from test_losses import batch, network, parts, streams, two_tokens
from test_models import make
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F

from kdx.cli import main
from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import UserError
from kdx.core.types import Parts
from kdx.methods.losses.distillation_token import DistillationToken, first_choice_cross_entropy
from kdx.methods.losses.supervised import Supervised
from kdx.models.distillation_token import MayHaveDistillationToken, mean_of_two, token_heads
from kdx.models.modes import evaluating

T = torch.tensor
CLASS, DISTILLED = T([[2.0, 1, 0]], dtype=torch.float64), T([[0.0, 1, 1]], dtype=torch.float64)
TEACHER, Y = T([[1.0, 3, 0]], dtype=torch.float64), T([0])


def built(student=None, teacher=None, **keys):
    made = parts(student or two_tokens())
    if teacher is not None:
        made = Parts(**{**vars(made), "teacher": teacher})
    asked = {"hard": True, "alpha": 0.5, "temperature": 3, "features": None, **keys}
    return DistillationToken(made, **asked)


class Says(MayHaveDistillationToken):
    """The class token says the one row of logits, the distillation token the other."""

    def __init__(self):
        super().__init__()
        self.rows = nn.ModuleList(
            nn.Embedding.from_pretrained(row, freeze=False) for row in (CLASS, DISTILLED)
        )

    def token_heads(self):
        return self.rows[0], self.rows[1]

    def forward(self, x):
        return mean_of_two(*(row(torch.zeros(len(x), dtype=torch.int64)) for row in self.rows))


def by_hand(**keys):
    def teacher(of):
        return TEACHER.expand(len(of), 3)

    made = Parts(Says(), Says, teacher, [], None, classification(3))
    asked = {"hard": True, "alpha": 0.5, "temperature": 2, "features": None, **keys}
    labelled = batch("labelled", 1)
    return DistillationToken(made, **asked)(
        {"labelled": type(labelled)(**{**vars(labelled), "y": Y})}, 0.0
    ).terms


def test_by_hand():
    """The label is the first class, p = e^2 / (e^2 + e + 1) = .665241 of the class token: CE .407606. The
    teacher's first choice is the second class, p = e / (1 + 2e) = .422319 of the distillation token: CE
    .861995. At T = 2 the teacher has (.231224, .628532, .140244), the token (.232697, .383652, .383652):
    KL = .231224 log(.231224 / .232697) + .628532 log(.628532 / .383652) + .140244 log(.140244 / .383652)
    = -.001468 + .310276 - .141135 = .167673, times 4.
    """
    assert first_choice_cross_entropy(DISTILLED, TEACHER).item() == pytest.approx(0.861995, abs=1e-6)
    terms = by_hand()
    assert terms["distillation"].item() == pytest.approx(0.861995 / 2, abs=1e-6)
    assert terms["labels"].item() == pytest.approx(0.407606 / 2, abs=1e-6)
    soft = by_hand(hard=False, alpha=0.1)
    assert soft["distillation"].item() == pytest.approx(0.1 * 4 * 0.167673, abs=1e-6)
    assert soft["labels"].item() == pytest.approx(0.9 * 0.407606, abs=1e-6)


def test_gradients():
    student, teacher = (
        torch.randn(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
        for seed in (0, 1)
    )
    assert gradcheck(lambda s: first_choice_cross_entropy(s, teacher.detach()), (student,))
    assert gradcheck(mean_of_two, (student, teacher))


# Limits


def heads_of(student, labelled):
    """The logits of both tokens for the labelled rows."""
    seen = []
    handles = [
        head.register_forward_hook(lambda module, given, made: seen.append(made))
        for head in token_heads(student)
    ]
    student(labelled.views["main"])
    for handle in handles:
        handle.remove()
    return seen


def test_a_teacher_that_says_the_labels_is_supervised_on_both():
    labelled, student = batch("labelled"), two_tokens()
    objective = built(student, lambda of: 9.0 * F.one_hot(labelled.y, 4).float())
    outcome = objective({"labelled": labelled}, 0.0)
    by_class, by_distillation = (F.cross_entropy(said, labelled.y) for said in heads_of(student, labelled))
    assert outcome.loss.item() == pytest.approx((by_class + by_distillation).item() / 2, rel=1e-6)
    assert outcome.terms["distillation"].item() == pytest.approx(by_distillation.item() / 2, rel=1e-6)
    alone = built(student, alpha=0)({"labelled": labelled}, 0.0)
    assert alone.loss.item() == pytest.approx(by_class.item(), rel=1e-6)
    assert built(student, alpha=1)({"labelled": labelled}, 0.0).terms["labels"].item() == 0


def test_each_term_reaches_its_own_head_alone():
    student = two_tokens()
    outcome = built(student)(streams(), 0.0)
    (head, other) = token_heads(student)
    assert head is student.head and other is student.distillation_head
    outcome.terms["labels"].backward(retain_graph=True)
    assert head.weight.grad.any() and other.weight.grad is None
    student.zero_grad()
    outcome.terms["distillation"].backward()
    assert other.weight.grad.any() and head.weight.grad is None and student.class_token.grad is not None


def test_both_tokens_learn_what_supervised_teaches():
    """The answer of a network with both is one, for any loss: what a baseline learns by."""
    student = two_tokens()
    Supervised(parts(student))(streams(), 0.0).loss.backward()
    assert all(head.weight.grad.any() for head in token_heads(student))


def test_the_answer_is_the_mean_of_both_probabilities():
    objective = built()
    objective(streams(), 0.0).loss.backward()
    exported, x = copy.deepcopy(objective.export()), batch("labelled").views["main"]
    fresh = two_tokens(1)
    fresh.load_state_dict(exported.state_dict())  # the student alone: no teacher, nothing of the objective
    with evaluating(fresh), torch.no_grad():
        by_class, by_distillation = (said.softmax(1) for said in heads_of(fresh, batch("labelled")))
        answer = fresh(x)
    torch.testing.assert_close(answer.softmax(1), (by_class + by_distillation) / 2)
    torch.testing.assert_close(answer.exp().sum(1), torch.ones(len(x)))
    far = mean_of_two(T([[300.0, -300.0]]), T([[-300.0, 300.0]]))
    assert far.isfinite().all() and far[0, 0].item() == pytest.approx(-math.log(2))


# Faults


def test_a_student_without_the_token_is_refused():
    for student in (network(), make("vit_tiny")):
        with pytest.raises(
            UserError, match="has none: choose student=vit_tiny with student.distillation_token=true"
        ):
            built(student)
    assert token_heads(network()) is None and token_heads(make("vit_tiny")) is None


@pytest.mark.parametrize("bad", [{"hard": 1}, {"alpha": 1.5}, {"alpha": "x"}, {"temperature": 0}])
def test_wrong_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"loss.{next(iter(bad))}"):
        built(**bad)


def test_settings_that_could_not_act_are_named():
    assert set(built().idle()) == {"temperature"} and built(hard=False).idle() == {}
    assert set(built(hard=False, alpha=0).idle()) == {"temperature", "hard"}


@pytest.mark.slow
def test_timms_distilled_deit_learns_by_it():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.models.deit.VisionTransformerDistilled(
        img_size=16, patch_size=8, in_chans=1, num_classes=4, embed_dim=8, depth=1, num_heads=2
    )
    assert token_heads(net) == (net.head, net.head_dist)
    first, second = (built(net)(streams(), 0.0) for _ in range(2))
    assert first.loss.item() == second.loss.item()
    first.loss.backward()
    assert net.head.weight.grad.any() and net.head_dist.weight.grad.any()
    with evaluating(net), torch.no_grad():
        said = heads_of(net, batch("labelled"))
        torch.testing.assert_close(net(batch("labelled").views["main"]), (said[0] + said[1]) / 2)


def test_a_network_of_timm_without_the_token_is_refused():
    timm = pytest.importorskip("timm")
    assert "test_vit" in timm.list_models()
    with pytest.raises(UserError, match="timm 'test_vit' has no distillation token: name one that has"):
        make("timm", name="test_vit", distillation_token=True)


# A run


def test_a_run_ends_with_a_student_that_stands_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["teacher=cnn_tiny", "student.depth=1", "student.width=16", "student.hidden=16"]
    words += ["teacher_pretrain.steps=3", "student_train.steps=3", "augment=[none]", "baseline=false"]
    words += ["dataset.labelled=40", "dataset.unlabelled=40", "dataset.validation=40"]
    code = main(["train", "loss=distillation_token", "device=cpu", "device.threads=1", *words, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == 0 and document["status"] == "finished"
    assert 0 <= document["results"]["student"]["last"]["test"]["accuracy"] <= 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["loss=distillation_token", "student=cnn_tiny"],
            "student=cnn_tiny takes no distillation_token, which loss=distillation_token sets",
        ),
        (
            ["loss=distillation_token", "student.distillation_token=false"],
            "this student has none: choose student=vit_tiny with student.distillation_token=true",
        ),
        (["loss=distillation_token", "student.patch=3"], "patch must divide the picture's"),
        (["loss=distillation_token", "dataset=wine"], "student=vit_tiny reads pictures"),
        (["student=vit_tiny", "student.patch=5"], "patch must divide the picture's 16x16 pixels, as 1, 2, 4"),
    ],
)
def test_it_is_refused_before_any_work(words, says):
    order, errors = examine_config(check_words(["baseline=false", *words]))
    assert any(says in error for error in [*errors, *inspect(order)])
