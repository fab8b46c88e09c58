"""Features of two domains brought together: loss=mmd, coral and dann by hand, at their limits, beside a
teacher's answers, and what they refuse.
"""

import json
import math
from dataclasses import replace

import pytest
import torch
from test_losses import batch, network, parts
from torch.autograd import gradcheck

from kdx.cli import main
from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import UserError
from kdx.core.types import Batch, Shown
from kdx.methods.features.coral import CORAL, coral, covariance
from kdx.methods.features.dann import DANN, Reverse, strength
from kdx.methods.features.mmd import MMD, median_of_pairs, mmd
from kdx.methods.losses.supervised import Supervised
from kdx.store.component import Component

T = torch.tensor
TERMS = ("mmd", "coral", "dann")
WEIGHT = {"mmd": "weight", "coral": "weight", "dann": "lambda_max"}


def double(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, dtype=torch.float64, generator=generator, requires_grad=True)


def streams(source=8, target=16):
    return {
        "labelled": batch("labelled", source),
        "unlabelled": batch("unlabelled", target, 1, labels=False),
    }


def loss(name, student=None, **keys):
    config = check_words([f"loss={name}"])["loss"]
    config["features"][name] |= keys
    return Component(config).build(parts(student or network()))


def test_mmd_by_hand():
    """Source 0 and 1, target 2, width 1: (2 + 2/e)/4 + 1 - (e^-4 + e^-1). The median of 1, 1 and 4 is 1."""
    source, target = T([[0.0], [1.0]]), T([[2.0]])
    e = math.exp
    assert mmd(source, target, [1.0]).item() == pytest.approx((1 + e(-1)) / 2 + 1 - e(-4) - e(-1), abs=1e-6)
    assert median_of_pairs(torch.cat([source, target])).item() == 1
    wide = (1 + e(-0.25)) / 2 + 1 - e(-1) - e(-0.25)
    narrow = mmd(source, target, [1.0]).item()
    assert mmd(source, target, [1.0, 4.0]).item() == pytest.approx((narrow + wide) / 2, abs=1e-6)


def test_coral_by_hand():
    """Covariances [[2, 0], [0, 0]] and [[0, 0], [0, 8]]: (4 + 64) / (4 * 4)."""
    source, target = T([[0.0, 5.0], [2.0, 5.0]]), T([[1.0, 0.0], [1.0, 4.0]])
    assert covariance(source).tolist() == [[2, 0], [0, 0]]
    assert coral(source, target).item() == pytest.approx(68 / 16)
    torch.testing.assert_close(covariance(double(9, 3)), torch.cov(double(9, 3).T))


def test_equal_sets_are_not_apart():
    rows = double(6, 3)
    assert mmd(rows, rows[torch.randperm(6)], [1.0, 2.0]).item() == pytest.approx(0, abs=1e-12)
    assert coral(rows, rows + 7).item() == pytest.approx(0, abs=1e-12), "means are not compared"
    assert mmd(rows, rows + 7, [1.0]) > 0.1
    same = torch.zeros(4, 3, requires_grad=True)
    mmd(same[:2], same[2:], [median_of_pairs(same)]).backward()
    assert same.grad.isfinite().all(), "a layer that gives one row for all"


def test_mmd_of_one_distribution_is_its_bias():
    """(1/S + 1/T)(1 - E k), E k of standard normal numbers with width 2 being 1 / sqrt(1 + 4 / 2)."""
    generator = torch.Generator().manual_seed(0)
    found = [
        mmd(*torch.randn(2, 50, 1, generator=generator).unbind(0), widths=[2.0]).item() for _ in range(200)
    ]
    assert sum(found) / 200 == pytest.approx((2 / 50) * (1 - 3**-0.5), rel=0.1) and min(found) > -1e-6


@pytest.mark.parametrize("apart", [coral, lambda s, t: mmd(s, t, [1.0, 3.0])])
def test_gradients(apart):
    assert gradcheck(apart, (double(4, 3), double(3, 3, seed=1)))


def test_the_schedule_by_hand():
    assert [round(strength(p), 6) for p in (0.0, 0.1, 0.5, 1.0)] == [0, 0.462117, 0.986614, 0.999909]


def test_reversal_by_hand():
    x = T([2.0, -1.0], requires_grad=True)
    (3 * Reverse.apply(x, 0.5)).sum().backward()
    assert x.grad.tolist() == [-1.5, -1.5] and torch.equal(Reverse.apply(x, 0.5), x)


def shown(source, target, progress=0.5):
    ones = torch.ones
    batches = [
        Batch("labelled", torch.arange(source), ones(source), {}),
        Batch("unlabelled", torch.arange(target), ones(target), {}),
    ]
    return Shown(torch.rand(source + target, 1, 16, 16), batches, T([]), progress)


def test_the_head_learns_the_domain_and_the_student_the_opposite():
    student = network()
    made = DANN(parts(student), lambda_max=0.3, hidden=4, layer="auto")
    seen = shown(6, 3)
    student(seen.inputs)
    feature = made.rows.tap._kept.detach().clone().requires_grad_()
    term = made(seen)["domain"]
    term.backward()
    head = [p.grad.clone() for p in made.head.parameters()]
    own = next(student.parameters()).grad.clone()
    said = made.head(feature)[:, 0]
    by_hand = -(1 - said[:6].sigmoid()).log().mean() - said[6:].sigmoid().log().mean()
    assert term.item() == pytest.approx(by_hand.item(), rel=1e-5)
    made.zero_grad(), student.zero_grad()
    student(seen.inputs)
    plain = made.head(made.rows.take())[:, 0]
    (-(1 - plain[:6].sigmoid()).log().mean() - plain[6:].sigmoid().log().mean()).backward()
    for one, other in zip(head, made.head.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)
    turned = -0.3 * strength(0.5) * next(student.parameters()).grad
    torch.testing.assert_close(own, turned)


@pytest.mark.parametrize("name", TERMS)
def test_weight_0_is_supervised_bit_for_bit(name):
    ours, theirs = loss(name, network(), **{WEIGHT[name]: 0}), Supervised(parts(network()))
    given = streams()
    for objective in (ours, theirs):
        torch.manual_seed(5)
        optimiser = torch.optim.AdamW(objective.parameters(), 5e-3)
        objective.train()
        for step in range(5):
            outcome = objective({n: given[n] for n in (*objective.uses,)}, step / 5)
            optimiser.zero_grad()
            outcome.loss.backward()
            optimiser.step()
    for one, other in zip(ours.student.parameters(), theirs.student.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", TERMS)
def test_the_term_stands_beside_the_labels_and_no_teacher_is_asked(name):
    made = loss(name)
    found = made(streams(), 0.5)
    assert list(found.terms) == ["labels", {"dann": "domain"}.get(name, name)]
    assert made.reads == ()
    assert made.features[name].whole_batch


@pytest.mark.parametrize("name", TERMS)
def test_it_stands_beside_the_teachers_answers(name):
    config = check_words(["loss=kd", f"loss.features={name}"])["loss"]
    found = Component(config).build(parts(network()))(streams(), 0.5)
    assert list(found.terms) == ["distillation", "labels", {"dann": "domain"}.get(name, name)]


def test_domains_come_together():
    """Bright pictures beside dark ones: after some steps their features are nearer than without the term."""
    apart = {}
    for name, weight in (("mmd", 0.0), ("mmd", 1.0), ("coral", 0.0), ("coral", 10.0)):
        made, given = loss(name, network(), weight=weight), streams()
        pool = given["unlabelled"]
        given["unlabelled"] = replace(pool, views={"main": pool.views["main"] * 0.3 + 0.7})
        optimiser = torch.optim.AdamW(made.parameters(), 5e-3)
        for step in range(30):
            optimiser.zero_grad()
            made(given, step / 30).loss.backward()
            optimiser.step()
        with torch.no_grad():
            rows = made.features[name].rows
            source, target = ((made.student(one.views["main"]), rows.take())[1] for one in given.values())
            both = torch.cat([source, target])
            found = mmd(source, target, [median_of_pairs(both)]) if name == "mmd" else coral(source, target)
            apart[name, weight > 0] = found.item()
    assert apart["mmd", True] < 0.7 * apart["mmd", False]
    assert apart["coral", True] < 0.7 * apart["coral", False]


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda p: MMD(p, weight=-1, powers=[1], layer="auto"), "loss.features.mmd.weight must be"),
        (lambda p: MMD(p, weight=1, powers=[0], layer="auto"), "loss.features.mmd.powers must be"),
        (lambda p: MMD(p, weight=1, powers=3, layer="auto"), "must be a list of numbers"),
        (lambda p: CORAL(p, weight="x", layer="auto"), "loss.features.coral.weight must be"),
        (lambda p: CORAL(p, weight=1, layer="stage9"), "has no layer 'stage9'"),
        (lambda p: DANN(p, lambda_max=-1, hidden=4, layer="auto"), "dann.lambda_max must be"),
        (lambda p: DANN(p, lambda_max=1, hidden=0, layer="auto"), "dann.hidden must be"),
    ],
)
def test_settings_out_of_range_are_named(build, said):
    with pytest.raises(UserError, match=said):
        build(parts(network()))


def test_one_domain_alone_is_refused():
    made = CORAL(parts(network()), weight=1, layer="auto")
    made.rows.tap._kept = torch.zeros(3, 4)
    with pytest.raises(UserError, match="needs 2 rows of each domain in a batch, and one of them has 1"):
        made(shown(2, 1))
    kd = Component(check_words(["loss=kd", "loss.features=mmd"])["loss"]).build(parts(network()))
    with pytest.raises(UserError, match="a pass has labelled rows alone: set pool=NAME"):
        kd({"labelled": batch("labelled")}, 0.0)


def wrong(*words):
    order, errors = examine_config(check_words(["device=cpu", *words]))
    return [*errors, *inspect(order)]


def test_a_data_set_without_a_pool_is_refused_before_any_work():
    for name in TERMS:
        (one,) = wrong(f"loss={name}", "dataset.labelled=null", "dataset.validation=200")
        assert f"loss={name} needs the stream 'unlabelled'" in one and one.endswith(
            "or pool=NAME for rows of another"
        )
    found = wrong("loss=kd", "loss.features=mmd", "dataset.labelled=null", "dataset.validation=200")
    assert any("labelled rows alone" in one for one in found)
    (few,) = wrong("loss=coral", "student_train.batch_size=2")
    assert "loss.features=coral" in few and "4 at least" in few
    (parted,) = wrong("loss=mmd", "student_train.accumulate=2", "student.batch_norm=false")
    assert "accumulate" in parted


def test_a_run_end_to_end_and_its_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "device=cpu", "device.threads=1", "teacher_pretrain.steps=2", "student_train.steps=4"]
    assert main(["plan", *words[1:], "loss=coral"]) == 0
    told = capsys.readouterr().out
    assert "32 of the student's 64 are labelled, and all 64 of the student alone's" in told
    assert "loss=supervised student_train.batch_size=32" in told
    assert main([*words, "loss=kd", "loss.features=[mmd,dann]", "hydra.run.dir=both"]) == 0
    assert "distilled" in capsys.readouterr().out


def texts(folder, name, words, rows=40):
    """A table of texts of two classes, each with words of its own beside those of the domain."""
    lines = [f"{words[i % 3]} {('cat', 'ship')[i % 2]} {words[i % 5 % 3]} row{i}" for i in range(rows)]
    body = [f"{line},{('animal', 'artifact')[i % 2]}" for i, line in enumerate(lines)]
    (folder / name).write_text("\n".join(["text,label", *body]) + "\n")


WORDS = ["train", "device=cpu", "device.threads=1", "teacher_pretrain.steps=3", "student_train.steps=3"]


@pytest.mark.slow
def test_a_pair_of_texts_end_to_end(tmp_path, monkeypatch):
    """The test rows are the other domain's."""
    monkeypatch.chdir(tmp_path)
    texts(tmp_path, "one.csv", ("the", "of", "a"), 120)
    texts(tmp_path, "other.csv", ("said", "went", "was"))
    pair = ["dataset=text", "dataset.root=one.csv", "pool=text", "pool.root=other.csv", "pool.test=true"]
    pair += ["teacher=bag", "student=bag", "student_train.batch_size=16"]
    assert main([*WORDS, *pair, "loss=mmd", "hydra.run.dir=texts"]) == 0
    found = json.loads((tmp_path / "texts/run.json").read_text())["results"]
    assert found["student"]["last"]["test"]["n"] == 13, "a third of the other texts"
    assert main(["compare", "texts"]) == 0, "a run that decoded two data sets is read"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coral", "self_training", "noisy_student"])
def test_a_pair_of_pictures_end_to_end(name, tmp_path, monkeypatch):
    """Self-training and Noisy Student learn from the other domain's pool; all are measured there."""
    monkeypatch.chdir(tmp_path)
    turned = ["dataset.labelled=60", "pool=shifted", "teacher=cnn_small"]
    more = [] if name == "coral" else ["rounds=1", "select=all"]
    assert main([*WORDS, *turned, *more, f"loss={name}", "hydra.run.dir=run"]) == 0
    found = json.loads((tmp_path / "run/run.json").read_text())["results"]
    assert {"teacher", "baseline", "student"} <= set(found), "before and after, on the other domain"
