"""FixMatch, Mean Teacher and Pseudo-Label: hand numbers, gradients, limits, and the errors that they tell."""

import math
from dataclasses import replace

import pytest
import torch
from tasks import classification
from torch import nn

from kdx.config.compose import check_words
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.types import Batch, Parts, Split
from kdx.methods.losses.fixmatch import FixMatch, consistency
from kdx.methods.losses.mean_teacher import MeanTeacher, disagreement, ramp_up
from kdx.methods.losses.pseudo_label import PseudoLabel, weight_at
from kdx.methods.losses.supervised import Supervised
from kdx.pipeline.stages import streams as stage_streams

CLASSES = 3
FIXMATCH = {"threshold": 0.95, "weight": 1.0, "ema": 0.9}
MEAN_TEACHER = {"decay": 0.9, "weight": 10.0, "consistency": "mse", "ramp": 0.5}
PSEUDO_LABEL = {"weight": 2.0, "start": 0.2, "full": 0.6}


def network(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, CLASSES))


def batch(name, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    views = {view: torch.rand(rows, 1, 2, 2, generator=generator) for view in ("main", "second", "strong")}
    y = torch.arange(rows) % CLASSES if name == "labelled" else None
    return Batch(name, torch.arange(rows), torch.ones(rows, dtype=torch.int64), views, y)


def streams():
    return {"labelled": batch("labelled", 4, 1), "unlabelled": batch("unlabelled", 6, 2)}


def parts(student):
    return Parts(student, network, None, [], None, classification(CLASSES))


def steps(objective, optimiser, numbers):
    losses = []
    for step in numbers:
        torch.manual_seed(step)  # dropout's draws
        loss = objective(streams(), step / 10).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.after_step()
        losses.append(loss.item())
    return losses


# FixMatch


def test_fixmatch_by_hand():
    weak = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45]]).log()
    strong = torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.1, 0.9]]).log()
    losses, kept = consistency(weak, strong, 0.8 - 1e-6)
    assert kept.tolist() == [1, 1, 0]
    assert losses.tolist() == pytest.approx([-math.log(0.5), -math.log(0.25), 0])
    assert consistency(weak, strong, 0.95)[1].tolist() == [0, 0, 0]


def test_fixmatch_moves_the_strong_view_only():
    weak = torch.randn(5, CLASSES, dtype=torch.float64, requires_grad=True)
    strong = torch.randn(5, CLASSES, dtype=torch.float64, requires_grad=True)
    consistency(weak, strong, 0.0)[0].sum().backward()
    assert weak.grad is None
    expected = strong.detach().softmax(1) - nn.functional.one_hot(weak.argmax(1), CLASSES)
    # the losses themselves are computed in single precision
    assert torch.allclose(strong.grad, expected, atol=1e-6)


def test_fixmatch_that_is_never_sure_is_supervised():
    student = network()
    found = FixMatch(parts(student), **{**FIXMATCH, "threshold": 1.0})(streams(), 0.5)
    assert found.monitors["kept"] == 0 and found.monitors["unlabelled/weight"].tolist() == [0] * 6
    assert found.loss.item() == pytest.approx(Supervised(parts(student))(streams(), 0.5).loss.item())


def test_fixmatch_averages_over_all_rows_kept_or_not():
    student, pool = network(), streams()["unlabelled"]
    threshold = student(pool.views["main"]).softmax(1).amax(1).median().item() + 1e-4
    outcome = FixMatch(parts(student), **{**FIXMATCH, "threshold": threshold, "weight": 3.0})(streams(), 0.0)
    losses, kept = consistency(student(pool.views["main"]), student(pool.views["strong"]), threshold)
    assert 0 < kept.sum() < 6
    assert outcome.terms["pool"].item() == pytest.approx(3 * losses.sum().item() / 6, rel=1e-5)


def test_fixmatch_without_an_average_exports_the_student():
    student = network()
    assert FixMatch(parts(student), **{**FIXMATCH, "ema": None}).export() is student
    assert FixMatch(parts(student), **FIXMATCH).export() is not student


# Mean Teacher


def test_mean_teacher_by_hand():
    assert [ramp_up(x) for x in (0.0, 0.5, 1.0, 3.0)] == pytest.approx([0.006738, 0.286505, 1, 1], abs=1e-6)
    student, teacher = torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([[0.5, 0.4, 0.1]]).log()
    assert disagreement(student, teacher, "mse").item() == pytest.approx((0.04 + 0.04) / 3)
    assert disagreement(student, teacher, "kl").item() == pytest.approx(
        0.5 * math.log(5 / 7) + 0.4 * math.log(2)
    )


@pytest.mark.parametrize("measure", ["mse", "kl"])
def test_mean_teacher_gradient_is_that_of_its_formula(measure):
    torch.manual_seed(3)
    logits, answers = (
        torch.randn(4, CLASSES, dtype=torch.float64, requires_grad=True),
        torch.randn(4, CLASSES, dtype=torch.float64),
    )
    disagreement(logits, answers, measure).sum().backward()
    p, q = logits.detach().softmax(1), answers.softmax(1)
    if measure == "kl":
        expected = p - q
    else:
        g = 2 * (p - q) / CLASSES
        expected = p * (g - (p * g).sum(1, keepdim=True))
    assert torch.allclose(logits.grad, expected, atol=1e-6)


def test_mean_teacher_compares_two_views_of_every_row():
    student = network()
    objective = MeanTeacher(parts(student), **MEAN_TEACHER)
    both = [streams()["labelled"], streams()["unlabelled"]]
    main, second = (torch.cat([b.views[view] for b in both]) for view in ("main", "second"))
    expected = (
        10 * ramp_up(0.5) * (student(main).softmax(1) - student(second).softmax(1)).square().mean().item()
    )
    assert objective(streams(), 0.25).terms["consistency"].item() == pytest.approx(expected, rel=1e-5)
    with_one = objective({"labelled": both[0]}, 0.25)
    assert set(with_one.terms) == {"labels", "consistency"}


def test_mean_teacher_divides_both_terms_by_all_rows_of_the_batch():
    """By hand, as the authors' code: one labelled row and three others, probabilities (.5, .5) there and (.9,
    .1) in the average. The sum of cross-entropies, log 2, and 100 times that of squares over two classes, 4 *
    .16, by four rows each: a ratio of 92.3, not of 23.1."""
    rows = {
        "labelled": Batch(
            "labelled",
            torch.arange(1),
            torch.ones(1),
            dict.fromkeys(("main", "second"), torch.zeros(1, 2)),
            torch.tensor([0]),
        ),
        "unlabelled": Batch(
            "unlabelled", torch.arange(3), torch.ones(3), dict.fromkeys(("main", "second"), torch.zeros(3, 2))
        ),
    }

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return x + self.logits

    student = Fixed()
    objective = MeanTeacher(
        Parts(student, Fixed, None, [], None, classification(2)),
        decay=0.9,
        weight=100.0,
        consistency="mse",
        ramp=0.0,
    )
    with torch.no_grad():
        objective.average.network.logits.copy_(torch.tensor([0.9, 0.1]).log())
    terms = objective(rows, 0.0).terms
    assert terms["labels"].item() == pytest.approx(math.log(2) / 4)
    assert terms["consistency"].item() == pytest.approx(100 * 4 * 0.16 / 4)
    assert (terms["consistency"] / terms["labels"]).item() == pytest.approx(100 * 4 * 0.16 / math.log(2))
    assert set(objective({"labelled": rows["labelled"]}, 0.0).terms) == {"labels", "consistency"}


def test_mean_teacher_with_decay_0_is_the_student():
    student = network()
    objective = MeanTeacher(parts(student), **{**MEAN_TEACHER, "decay": 0.0})
    steps(objective, torch.optim.AdamW(student.parameters(), 1e-2), range(3))
    assert all(
        torch.equal(a, b) for a, b in zip(objective.export().parameters(), student.parameters(), strict=True)
    )
    same = {name: replace(b, views={**b.views, "second": b.views["main"]}) for name, b in streams().items()}
    assert objective(same, 0.5).terms["consistency"].item() == 0


def test_mean_teacher_with_weight_0_trains_as_supervised_at_its_share_of_the_rate():
    """4 of 10 rows are labelled, so the labels have .4 of the weight: plain descent takes the same steps at
    2.5 times the rate.
    """
    one, two = network(), network()
    averaged = MeanTeacher(parts(one), **{**MEAN_TEACHER, "weight": 0.0})
    steps(averaged, torch.optim.SGD(one.parameters(), 2.5e-2), range(4))
    plain = Supervised(parts(two))
    steps(plain, torch.optim.SGD(two.parameters(), 1e-2), range(4))
    assert all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(one.parameters(), two.parameters(), strict=True)
    )
    assert not torch.allclose(averaged.export()[1].weight, one[1].weight)


# Pseudo-Label


def test_pseudo_label_weight_rises_along_a_straight_line():
    assert [weight_at(p, 2.0, 0.2, 0.6) for p in (0.0, 0.19, 0.2, 0.4, 0.6, 0.99)] == pytest.approx(
        [0, 0, 0, 1, 2, 2]
    )
    assert [weight_at(p, 2.0, 0.5, 0.5) for p in (0.4, 0.5)] == [0, 2]


def test_pseudo_label_pool_term_by_hand():
    student = network()
    outcome = PseudoLabel(parts(student), **PSEUDO_LABEL)(streams(), 0.4)
    sure = student(streams()["unlabelled"].views["main"]).softmax(1).amax(1)
    assert outcome.terms["pool"].item() == pytest.approx(-sure.log().mean().item(), rel=1e-5)
    assert outcome.monitors["confidence"].item() == pytest.approx(sure.mean().item(), rel=1e-5)


def test_pseudo_label_is_supervised_before_it_starts():
    student = network()
    early = PseudoLabel(parts(student), **PSEUDO_LABEL)(streams(), 0.1)
    assert "loss.start" in PseudoLabel(parts(student), **PSEUDO_LABEL).ended(0.1)
    assert early.loss.item() == pytest.approx(Supervised(parts(student))(streams(), 0.1).loss.item())


# All three


METHODS = [
    (FixMatch, {**FIXMATCH, "threshold": 0.0}),
    (MeanTeacher, MEAN_TEACHER),
    (PseudoLabel, PSEUDO_LABEL),
]


@pytest.mark.parametrize(("method", "settings"), METHODS, ids=lambda v: getattr(v, "__name__", ""))
def test_resumes_with_dropout_bit_for_bit(method, settings):
    def fresh(seed):
        objective = method(parts(network(seed, dropout=0.5)), **settings)
        return objective, torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 1e-2)

    whole, optimiser = fresh(0)
    expected = steps(whole, optimiser, range(6))
    begun, optimiser = fresh(0)
    found = steps(begun, optimiser, range(3))
    state, moments = begun.state_dict(), optimiser.state_dict()
    resumed, optimiser = fresh(9)
    resumed.load_state_dict(state)
    optimiser.load_state_dict(moments)
    assert found + steps(resumed, optimiser, range(3, 6)) == expected
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.export().parameters(), resumed.export().parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("method", "settings", "bad"),
    [
        (FixMatch, FIXMATCH, {"threshold": 1.1}),
        (FixMatch, FIXMATCH, {"weight": -1}),
        (FixMatch, FIXMATCH, {"ema": 1.0}),
        (MeanTeacher, MEAN_TEACHER, {"decay": 1.0}),
        (MeanTeacher, MEAN_TEACHER, {"consistency": "mae"}),
        (MeanTeacher, MEAN_TEACHER, {"ramp": 2}),
        (PseudoLabel, PSEUDO_LABEL, {"weight": float("nan")}),
        (PseudoLabel, PSEUDO_LABEL, {"start": -0.1}),
        (PseudoLabel, PSEUDO_LABEL, {"full": 0.1}),
    ],
)
def test_refuses(method, settings, bad):
    with pytest.raises(UserError, match=f"loss.{next(iter(bad))}"):
        method(parts(network()), **{**settings, **bad})


@pytest.mark.parametrize("name", ["fixmatch", "mean_teacher", "pseudo_label"])
def test_one_word_brings_the_recipe_and_the_batch(name):
    config = check_words([f"loss={name}"])
    assert config["recipe"]["_target_"] == "kdx.pipeline.recipes.supervised.Supervised"
    assert 0 < config["student_train"]["labelled_share"] < 0.5
    assert (
        check_words([f"loss={name}", "student_train.labelled_share=0.5"])["student_train"]["labelled_share"]
        == 0.5
    )
    assert bool(config["student_train"]["strong_augment"]) == (name == "fixmatch")


def test_the_strong_view_is_the_weak_augmentation_drawn_anew_and_then_the_strong_one(monkeypatch):
    """As FixMatch has it; never mixed, as a batch has one set of classes."""
    order = wire(check_words(["loss=fixmatch", "device=cpu", "student_train.augment=[noise,mixup]"]))
    seen = {}
    monkeypatch.setattr(stage_streams, "Views", lambda chain, seed: seen.setdefault(seed, chain))
    monkeypatch.setattr(stage_streams, "Makers", lambda main, extra, clean: extra)
    monkeypatch.setattr(stage_streams, "Stream", lambda split, makers, **more: makers)
    monkeypatch.setattr(
        stage_streams,
        "open_split",
        lambda data, name, runtime: Split(name, torch.zeros(4, 1, 2, 2), torch.zeros(4)),
    )
    objective = type("F", (), {"uses": ("labelled",), "may_use": (), "extra_views": ("strong",)})
    data = type("D", (), {"json": lambda self, name: {}})()
    chains = stage_streams.open_streams(
        objective,
        data,
        order.experiment.student_train.build(),
        order.runtime,
        seed=1,
        parts=parts(network()),
        clean=False,
        rows=None,
    )
    names = [name.partition(":")[2] for name, _ in chains["labelled"]["strong"]._steps]
    assert names == ["noise", "randaugment", "cutout"] and chains["labelled"]["strong"].mixup is None
