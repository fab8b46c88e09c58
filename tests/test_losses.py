"""Contracts that every file of conf/loss/ keeps, and the limits of each method."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tasks import classification
from torch import nn
from torch.nn import functional as F

from kdx.config.compose import check_words
from kdx.core.errors import UserError
from kdx.core.task import Numeric
from kdx.core.types import Batch, Frozen, Parts, Split
from kdx.methods.logits import value_at
from kdx.methods.losses.distillation_token import DistillationToken
from kdx.methods.losses.kd import KD
from kdx.methods.losses.label_smoothing import LabelSmoothing
from kdx.methods.losses.supervised import Supervised
from kdx.models.cnn import cnn
from kdx.models.vit import vision_transformer
from kdx.store.component import Component
from kdx.tasks.regression import Regression
from kdx.training.loop import gradient_norms

# what a method notices about twenty made-up rows
pytestmark = pytest.mark.filterwarnings("ignore::kdx.core.errors.Caution")

LOSSES = sorted(Path(__file__).parent.parent.joinpath("conf", "loss").glob("*.yaml"))
LOSSES = [path for path in LOSSES if path.stem != "pseudo_boxes"]
"""But what reads boxes, which test_pseudo_boxes has."""
SHAPE, CLASSES = (1, 16, 16), 4


def network(seed=0, width=4):
    torch.manual_seed(seed)
    return cnn(
        shape=SHAPE,
        classes=CLASSES,
        widths=[width],
        hidden=8,
        batch_norm=True,
        dropout=0.0,
        stochastic_depth=0.0,
    )


def two_tokens(seed=0):
    """A student with a distillation token."""
    torch.manual_seed(seed)
    return vision_transformer(
        shape=SHAPE,
        classes=CLASSES,
        patch=8,
        width=8,
        depth=1,
        heads=2,
        hidden=16,
        distillation_token=True,
        dropout=0.0,
        stochastic_depth=0.0,
    )


def batch(name, rows=8, seed=0, labels=True):
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(rows)
    pictures = torch.rand(rows, *SHAPE, generator=generator)
    y = torch.randint(CLASSES, (rows,), generator=generator) if labels else None
    second, strong = (torch.rand(rows, *SHAPE, generator=generator) * 0.1 + pictures * 0.9 for _ in range(2))
    views = {"main": pictures, "clean": pictures, "second": second, "strong": strong}
    return Batch(name, index, torch.ones(rows, dtype=torch.int64), views, y)


def streams(pool_truth=None):
    pool = batch("unlabelled", 16, 1, labels=False)
    return {"labelled": batch("labelled"), "unlabelled": replace(pool, y=pool_truth)}


def component(path):
    """The loss as `loss=NAME` composes it, its slots filled."""
    return Component(check_words([f"loss={path.stem}"])["loss"])


def validation(rows=24, classes=CLASSES):
    generator = torch.Generator().manual_seed(5)
    return Split(
        "validation",
        torch.randint(256, (rows, *SHAPE), dtype=torch.uint8, generator=generator),
        torch.arange(rows) % classes,
    )


def extras():
    """Dropout passes that are sure of every second row, and of the others only of what they are not."""

    def spread(sure, unsure):
        rows = torch.tensor([[unsure, unsure, 0.02, 0.02], sure])
        return lambda b: torch.stack([rows[i % 2].roll(int(i) // 2) for i in b.index])

    return {
        "mean": spread([0.97, 0.01, 0.01, 0.01], 0.48),
        "std": spread([0.01] * 4, 0.1),
        "cool_mean": spread([0.85, 0.05, 0.05, 0.05], 0.48),
        "cool_std": lambda b: torch.full((len(b), CLASSES), 0.001),
    }


def parts(student, teacher_net=None):
    teacher_net = teacher_net or network(7, 8)
    frozen = Frozen(teacher_net)
    return Parts(
        student,
        lambda: network(3),
        lambda b: frozen(b.views["main"]),
        [frozen],
        validation(),
        classification(CLASSES),
        extras(),
        torch.zeros(1, *SHAPE),
        rows={"labelled": 8, "unlabelled": 16, "validation": 24},
    )


class OfNumbers:
    """A loss that reads numbers: four of them a row, and a teacher that tells their variance too."""

    def __init__(self, made):
        self.made, self.resolve = made, made.resolve

    def build(self, parts):
        answer = parts.teacher

        def teacher(b):
            value = answer(b)
            return {"value": value, "variance": value.square() / 10}

        objective = self.made.build(
            replace(parts, task=Regression(names=list("abcd")), teacher=teacher, validation=None)
        )
        objective.register_forward_pre_hook(
            lambda _, given: ({n: numbers(b) for n, b in given[0].items()}, given[1])
        )
        return objective


def numbers(of):
    return replace(of, y=None if of.y is None else F.one_hot(of.y, CLASSES).float())


@pytest.fixture(params=LOSSES, ids=lambda p: p.stem)
def loss(request):
    made = component(request.param)
    return OfNumbers(made) if made.resolve().needs_task is Numeric else made


def student_for(loss):
    """A network that this loss can teach."""
    return two_tokens() if loss.resolve() is DistillationToken else network()


def train(objective, optimiser, steps, start=0):
    losses = []
    for step in range(start, start + steps):
        # as at the start of each epoch; one that is resumed in the middle goes on with the statistics it
        # saved
        if step == 0:
            objective.refresh()
        outcome = objective(streams(), step / 100)
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()
        objective.after_step()
        # a critic's term is one side of a game, and need not fall
        losses.append(sum(term.item() for name, term in outcome.terms.items() if name != "critic"))
    return losses


def test_improves_on_a_fixed_batch_in_20_steps(loss):
    objective = loss.build(parts(student_for(loss)))
    losses = train(objective, torch.optim.AdamW(objective.parameters(), 5e-3), 20)
    assert losses[-1] < 0.9 * losses[0]


def test_leaves_the_teacher_bit_identical_and_out_of_the_state(loss):
    teacher = network(7, 8)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    objective = loss.build(parts(student_for(loss), teacher))
    objective.train()
    train(objective, torch.optim.AdamW(objective.parameters(), 5e-3), 3)
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert not teacher.training and all(p.grad is None for p in teacher.parameters())
    shapes = {tuple(v.shape) for v in objective.state_dict().values()}
    assert (8, 1, 3, 3) not in shapes  # the teacher's first layer is wider than the student's


def test_class_weights_are_of_the_labels_and_of_nothing_else(loss):
    """With every weight 2 the labels' term doubles and no other moves; with one on class 1 alone the other
    classes' labels count for nothing.
    """
    terms = {}
    for name, weights in {
        "none": None,
        "two": torch.full((CLASSES,), 2.0),
        "first": torch.eye(CLASSES)[1],
    }.items():
        objective = loss.build(replace(parts(student_for(loss)), class_weights=weights))
        assert "class_weights" not in objective.state_dict(), "a resume does not depend on it"
        torch.manual_seed(0)
        terms[name] = objective(streams(), 0.9).terms
    if isinstance(loss, OfNumbers):  # numbers are of no class, and dataset.class_weights is refused
        assert all(torch.equal(terms["two"][name], term) for name, term in terms["none"].items())
        return
    for name, term in terms["none"].items():
        assert terms["two"][name].item() == pytest.approx(
            (2 if name.endswith("labels") else 1) * term.item(), rel=1e-5
        ), name
    assert "labels" in terms["none"] and 0 < terms["first"]["labels"] < terms["none"]["labels"]


def test_saves_and_resumes_bitwise(loss):
    def fresh():
        objective = loss.build(parts(student_for(loss)))
        return objective, torch.optim.AdamW(objective.parameters(), 5e-3)

    one, optimiser = fresh()
    whole = train(one, optimiser, 8)
    two, optimiser = fresh()
    begun = train(two, optimiser, 4)
    state, moments = {k: v.clone() for k, v in two.state_dict().items()}, optimiser.state_dict()
    three, optimiser = fresh()
    three.load_state_dict(state)
    optimiser.load_state_dict(moments)
    assert begun + train(three, optimiser, 4, start=4) == whole
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), three.state_dict().values(), strict=True)
    )


def test_exports_the_student_itself_or_an_average_of_it(loss):
    """An average is known by its state: a child of the objective, so that it is saved and resumed, and never
    optimised.
    """
    student = student_for(loss)
    objective = loss.build(parts(student))
    exported = objective.export()
    student_for(loss).load_state_dict(exported.state_dict())
    assert exported is student or (
        exported in objective.modules() and not any(p.requires_grad for p in exported.parameters())
    )
    assert all(
        torch.equal(a, b)
        for a, b in zip(exported.state_dict().values(), student.state_dict().values(), strict=True)
    )


def test_every_term_is_a_finite_scalar_with_a_gradient(loss):
    objective = loss.build(parts(student_for(loss)))
    outcome = objective(streams(), 0.9)  # late: some terms come in only then
    norms = gradient_norms(outcome.terms, [p for p in objective.parameters() if p.requires_grad])
    own = gradient_norms(outcome.terms, list(objective.student.parameters()))
    others = {name for name in norms if "/" in name or name == "critic"}  # of peers, heads and critics
    norms |= {name: n for name, n in own.items() if name not in others}
    assert outcome.terms and all(v.shape == () and torch.isfinite(v) for v in outcome.terms.values())
    # it kept no row, and says so
    gated = {"pool"} if outcome.monitors.get("kept", torch.ones(())).item() == 0 else set()
    assert all(n > 0 for name, n in norms.items() if name not in gated)
    assert outcome.loss.item() == pytest.approx(sum(v.item() for v in outcome.terms.values()))


def test_never_reads_the_truth_of_the_pool(loss):
    truth = torch.arange(16) % CLASSES
    found = []
    for y in (None, truth, truth.flip(0)):
        objective = loss.build(parts(student_for(loss)))
        train(objective, torch.optim.AdamW(objective.parameters(), 5e-3), 1)
        outcome = objective(streams(y), 0.5)
        found.append({**outcome.terms, **outcome.watched(logging=True)})
    first, *others = found
    assert all(torch.equal(value, other[name]) for other in others for name, value in first.items())


# Limits


def test_kd_with_alpha_0_and_no_pool_is_supervised():
    student = network()
    only = {"labelled": batch("labelled")}
    kd = KD(parts(student), temperature=4, alpha=0)(only, 0.0).loss
    assert kd.item() == Supervised(parts(student))(only, 0.0).loss.item()


def test_kd_soft_term_is_zero_where_student_equals_teacher():
    student = network()
    same = Parts(
        student, network, lambda b: student(b.views["main"]).detach(), [], None, classification(CLASSES)
    )
    student.eval()
    outcome = KD(same, temperature=4, alpha=0.9)(streams(), 0.0)
    assert outcome.terms["distillation"].item() == pytest.approx(0, abs=1e-6)
    assert outcome.watched(logging=True)["agreement"].item() == 1


def test_label_smoothing_0_is_supervised():
    student = network()
    assert (
        LabelSmoothing(parts(student), smoothing=0.0)(streams(), 0.0).loss.item()
        == Supervised(parts(student))(streams(), 0.0).loss.item()
    )


def test_kd_by_hand_on_labels_and_pool():
    """alpha * mean over 3 rows of T^2 KL + (1 - alpha) * CE of the one labelled row (methods.md 6a)."""
    table = nn.Embedding.from_pretrained(torch.tensor([[2.0, 1.0, 0.0]]))

    class Same(nn.Module):
        def forward(self, x):
            return table(torch.zeros(len(x), dtype=torch.int64))

    teacher = torch.tensor([[4.0, 2.0, 0.0]])
    made = Parts(Same(), Same, lambda b: teacher.expand(len(b), 3), [], None, classification(3))
    pool = batch("unlabelled", 2, labels=False)
    first = Batch(
        "labelled",
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1),
        {"main": torch.zeros(1, 1)},
        torch.tensor([0]),
    )
    second = Batch("unlabelled", pool.index, pool.view, {"main": torch.zeros(2, 1)}, None)
    outcome = KD(made, temperature=2, alpha=0.25)({"labelled": first, "unlabelled": second}, 0.0)
    assert outcome.loss.item() == pytest.approx(0.365973, abs=2e-6)


def test_kd_alpha_goes_along_a_straight_line():
    assert [value_at([0.9, 0.5], p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.9, 0.7, 0.5])
    assert value_at(0.3, 0.8) == 0.3
    student = network()
    scheduled = KD(parts(student), temperature=4, alpha=[1.0, 0.0])
    assert scheduled(streams(), 0.0).terms["labels"].item() == 0
    assert (
        scheduled(streams(), 0.999).terms["distillation"].item()
        < 0.01 * scheduled(streams(), 0.0).terms["distillation"].item()
    )


def test_supervised_never_reads_the_pool():
    made = parts(network())
    made.student.eval()
    with_pool, without = streams(), {"labelled": batch("labelled")}
    assert Supervised(made)(with_pool, 0.0).loss.item() == Supervised(made)(without, 0.0).loss.item()


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 0},
        {"temperature": float("nan")},
        {"temperature": -1},
        {"temperature": "hot"},
        {"temperature": True},
        {"temperature": [8]},
        {"temperature": [8, 0]},
        {"standardise": 1},
        {"wrong": "fix"},
        {"adaptive": "margin"},
        {"alpha": 1.5},
        {"alpha": -0.1},
        {"alpha": [0.1]},
        {"alpha": [0.5, 2]},
        {"alpha": "x"},
    ],
)
def test_kd_refuses(bad):
    with pytest.raises(UserError, match=f"loss.{next(iter(bad))}"):
        KD(parts(network()), **{"temperature": 4, "alpha": 0.9, **bad})
