"""Networks that learn together: mutual learning, codistillation and a critic, by hand numbers, limits and
what is refused; heads on one trunk are in test_branches.py.
"""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tasks import classification
from torch import nn

from kdx.cli import main
from kdx.config.compose import check_words
from kdx.config.options import options_of
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import Caution, UserError
from kdx.core.types import Batch, Parts, Split
from kdx.methods.losses.adversarial import Adversarial
from kdx.methods.losses.codistill import Codistill, kl_to
from kdx.methods.losses.kd import KD
from kdx.methods.losses.mutual import Mutual
from kdx.methods.losses.supervised import Supervised
from kdx.methods.peers import Standing
from kdx.methods.row_memory import RowMemory
from kdx.models.ensemble import NetworkEnsemble, ensemble_of
from kdx.pipeline.recipes.experiment import name_made
from kdx.store.component import Component
from kdx.training.loop import check_groups

STUDENT, PEER = [2.0, 1.0, 0.0], [4.0, 2.0, 0.0]
MUTUAL = dict(peers=2, architectures=None, weight=1.0, rate=1.0, export="first")
CODISTILL = dict(peers=2, delay=0.0, smoothing=0.0, weight=1.0, rate=1.0)
CRITIC = dict(temperature=2.0, alpha=0.25, weight=0.1, hidden=4, rate=1.0)


class Table(nn.Module):
    """Answers row i, the number in its input, with row i of a table."""

    def __init__(self, *rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, x):
        return self.rows[x[:, 0].long()]


def batch(name="labelled", rows=1, y=(0,)):
    index = torch.arange(rows)
    truth = None if name == "unlabelled" else torch.tensor(y)
    return Batch(name, index, torch.ones(rows), {"main": index[:, None].float()}, truth)


def parts(student, *others, teacher=None, classes=3):
    fresh = iter(others)
    return Parts(
        student,
        lambda: next(fresh),
        teacher,
        [],
        None,
        classification(classes),
        rows={"labelled": 2, "unlabelled": 2},
    )


def linear(seed):
    torch.manual_seed(seed)
    return nn.Linear(4, 3).double()


def of_numbers(rows=6, seed=0):
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {
        "labelled": Batch(
            "labelled", torch.arange(rows), torch.ones(rows), {"main": x}, torch.arange(rows) % 3
        )
    }


def trained(objective, streams, steps=5):
    """Its parameters after some steps of SGD, each group at its rate."""
    optimiser = torch.optim.SGD(
        [{"params": list(g.parameters), "lr": 0.1 * g.rate} for g in check_groups(objective)],
        0.1,
        momentum=0.9,
    )
    objective.train()
    for step in range(steps):
        optimiser.zero_grad()
        objective(streams, step / steps).loss.backward()
        optimiser.step()
    return [p.detach().clone() for p in objective.student.parameters()]


# Mutual learning


def test_two_peers_by_hand():
    """L1 = CE + KL(p2 || p1) and L2 = CE + KL(p1 || p2) at T = 1 (methods.md 6h)."""
    terms = Mutual(parts(Table(STUDENT), Table(PEER)), **MUTUAL)({"labelled": batch()}, 0.0).terms
    assert (terms["labels"] + terms["peers"]).item() == pytest.approx(0.523217, abs=2e-6)
    assert (terms["peer1/labels"] + terms["peer1/peers"]).item() == pytest.approx(0.303047, abs=2e-6)


def test_a_pool_row_teaches_without_a_label():
    """KL over both rows, labels over the one that has one: .115611 is KL of the first row (methods.md 6a)."""
    made = Mutual(parts(Table(STUDENT, STUDENT), Table(PEER, STUDENT)), **MUTUAL)
    pool = replace(batch("unlabelled"), views={"main": torch.ones(1, 1)})
    terms = made({"labelled": batch(), "unlabelled": pool}, 0.0).terms
    assert terms["peers"].item() == pytest.approx(0.115611 / 2, abs=1e-6)
    assert terms["labels"].item() == pytest.approx(0.407606, abs=1e-6)


def test_three_peers_take_the_mean_and_have_weights_of_their_own():
    made = Mutual(
        parts(Table(STUDENT), Table(PEER), Table(STUDENT)), **MUTUAL | {"peers": 3, "weight": [2.0, 1.0, 0.0]}
    )
    terms = made({"labelled": batch()}, 0.0).terms
    assert terms["peers"].item() == pytest.approx(2 * 0.115611 / 2, abs=2e-6)  # one of the two is its equal
    assert terms["peer1/peers"].item() == pytest.approx(0.303047 - _ce(PEER), abs=2e-6)
    assert terms["peer2/peers"].item() == 0 < terms["peer2/labels"].item()


def _ce(logits):
    return -torch.tensor(logits).log_softmax(0)[0].item()


def test_a_peer_is_no_target_that_moves():
    """The gradient of all terms that reach a network is that of its own two."""
    student, peer = linear(0), linear(1)
    made = Mutual(parts(student, peer), **MUTUAL)
    terms = made(of_numbers(), 0.0).terms
    both = torch.autograd.grad(sum(terms.values()), student.weight, retain_graph=True)[0]
    own = torch.autograd.grad(terms["labels"] + terms["peers"], student.weight, retain_graph=True)[0]
    assert torch.equal(both, own) and own.abs().sum() > 0
    reached = torch.autograd.grad(terms["peer1/peers"], student.weight, allow_unused=True)[0]
    assert reached is None


def test_the_gradient_to_a_target_is_the_numeric_one():
    x, y = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = y.softmax(1)
    assert torch.autograd.gradcheck(lambda logits: kl_to(logits, target), (x.requires_grad_(),))
    assert kl_to(y, target).abs().max() < 1e-12


@pytest.mark.parametrize(("method", "keys"), [(Mutual, MUTUAL), (Codistill, CODISTILL)])
def test_weight_0_is_supervised_bit_for_bit(method, keys):
    made = method(parts(linear(0), linear(1)), **keys | {"weight": 0.0, "rate": [1.0, 0.3]})
    made.memory = RowMemory({"labelled": 6}, 2, 3, 0.0) if method is Codistill else None
    alone = trained(Supervised(parts(linear(0))), of_numbers())
    assert all(torch.equal(a, b) for a, b in zip(trained(made, of_numbers()), alone, strict=True))


def test_equal_networks_have_nothing_to_tell_each_other():
    made = Mutual(parts(linear(0), linear(0)), **MUTUAL)
    terms = made(of_numbers(), 0.0).terms
    assert terms["peers"].item() == terms["peer1/peers"].item() == pytest.approx(0, abs=1e-7)


def test_a_peer_at_rate_0_stands_and_teaches():
    peer = linear(1)
    before = peer.weight.detach().clone()
    trained(Mutual(parts(linear(0), peer), **MUTUAL | {"rate": [1.0, 0.0]}), of_numbers())
    assert torch.equal(before, peer.weight)


def test_peers_are_children_and_no_part_of_what_is_exported():
    student = linear(0)
    made = Mutual(parts(student, linear(1)), **MUTUAL)
    assert made.export() is student and "peers.0.weight" in made.state_dict()
    assert [g.name for g in made.groups()] == ["student", "peer1"]
    assert made.describe_export({"_target_": "x"}) == {"_target_": "x"}


@pytest.mark.filterwarnings("ignore::kdx.core.errors.Caution")
def test_the_ensemble_averages_probabilities():
    made = Mutual(parts(Table(STUDENT), Table(PEER)), **MUTUAL | {"export": "ensemble"})
    found = made.export()
    expected = (torch.tensor(STUDENT).softmax(0) + torch.tensor(PEER).softmax(0)) / 2
    assert isinstance(found, NetworkEnsemble)
    assert torch.allclose(found(torch.zeros(1, 1)).softmax(1)[0], expected, atol=1e-6)
    assert made.describe_export({"_target_": "x"}) == ensemble_of([{"_target_": "x"}] * 2)


def test_the_best_is_the_one_with_the_least_loss_on_validation():
    """(the first row is of class 0, which both guess; the peer's loss there is .1429, the student's .4076)"""
    rows = Split("validation", torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))
    student, peer = Table(STUDENT), Table(PEER)
    made = Mutual(replace(parts(student, peer), validation=rows), **MUTUAL | {"export": "best"})
    assert made.export() is peer
    with torch.no_grad():
        student.rows[0, 0] = 9.0
    assert made.export() is student


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"peers": 1}, "loss.peers=1 is a network without a peer, which learns as loss=supervised"),
        ({"peers": 0}, "loss.peers must be at least 2; given: 0"),
        ({"weight": [1.0, 1.0, 1.0]}, "loss.weight must be a number, or a list of 2"),
        ({"rate": -1}, "loss.rate must be at least 0; given: -1"),
        ({"export": "last"}, "loss.export has no option 'last'"),
        ({"export": "best"}, "this run has none: set dataset.validation=0.1"),
        ({"architectures": [1, 2]}, "1 with loss.peers=2; given: 2"),
        ({"architectures": [1], "export": "best"}, "choose loss.export=first, or ensemble"),
    ],
)
def test_what_is_refused(keys, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.").replace("[", r"\[")):
        Mutual(parts(linear(0), linear(1)), **MUTUAL | keys)


def test_one_that_dominates_is_told_once():
    """(at the second look in a row: one alone may be chance)"""
    standing = Standing(2, classification(3))
    right, wrong = (torch.eye(3)[torch.full((120,), c)] for c in (0, 1))
    y = torch.zeros(120, dtype=torch.int64)

    def look(*known):
        standing.note(known, y)
        return standing.report()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for turn in ((wrong, right), (right, wrong), (right, right), (wrong, right)):
            look(*turn)
    with pytest.warns(Caution, match="peer 1 dominates: it was right on 100% .* the student on 0%"):
        assert look(wrong, right) == {"accuracy/student": 0.0, "accuracy/peer1": 1.0}
    assert standing.report() == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look(wrong, right)


@pytest.mark.parametrize(("rows", "ahead"), [(99, 99), (100, 10)])
def test_ten_points_and_few_rows_are_no_matter(rows, ahead):
    standing = Standing(2, classification(3))
    y = torch.zeros(rows, dtype=torch.int64)
    better = torch.eye(3)[torch.zeros(rows, dtype=torch.int64)]
    worse = better.clone()
    worse[:ahead] = torch.eye(3)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            standing.note([better, worse], y)
            standing.report()
        standing.note([better, worse], y)
        assert standing.report()["accuracy/peer1"] == pytest.approx(1 - ahead / rows)


def test_rows_that_were_mixed_are_not_counted():
    standing = Standing(2, classification(3))
    standing.note([torch.eye(3), torch.eye(3)], torch.eye(3))
    assert standing.report() == {}


# Codistillation


def test_codistill_without_delay_and_memory_is_mutual_learning():
    two = parts(Table(STUDENT, PEER), Table(PEER, [0.0, 1.0, 0.5]))
    three = parts(Table(STUDENT, PEER), Table(PEER, [0.0, 1.0, 0.5]))
    streams = {"labelled": batch(rows=2, y=(0, 1))}
    one, other = Mutual(two, **MUTUAL)(streams, 0.0), Codistill(three, **CODISTILL)(streams, 0.0)
    assert list(one.terms) == list(other.terms)
    for name, term in one.terms.items():
        assert other.terms[name].item() == pytest.approx(term.item(), abs=1e-6), name


def test_nothing_is_told_before_the_delay():
    made = Codistill(parts(Table(STUDENT), Table(PEER)), **CODISTILL | {"delay": 0.5})
    assert "ended before loss.delay=0.5 of it was done" in made.ended(0.49) and made.ended(0.5) is None
    assert made({"labelled": batch()}, 0.49).terms["peers"].item() == 0
    assert made({"labelled": batch()}, 0.5).terms["peers"].item() == pytest.approx(0.115611, abs=1e-6)


def test_the_average_over_epochs_by_hand():
    """a = .6: the first visit gives .5; the second (.6 * .4 * .5 + .4 * 1) / (1 - .36) = .8125; a third that
    is not kept leaves no trace.
    """
    memory = RowMemory({"labelled": 3}, 1, 1, 0.6)
    row, half, one = torch.tensor([1]), torch.full((1, 1, 1), 0.5), torch.ones(1, 1, 1)
    assert memory.visit("labelled", row, half, keep=True).item() == pytest.approx(0.5)
    for _ in range(2):
        assert memory.visit("labelled", row, one, keep=False).item() == pytest.approx(0.8125)
    assert memory.visit("labelled", torch.tensor([0]), one, keep=False).item() == pytest.approx(1.0)
    assert "sums_labelled" in memory.state_dict()


def test_a_moving_target_is_the_average_of_what_the_peer_said():
    student, peer = Table(STUDENT), Table(PEER)
    made = Codistill(parts(student, peer), **CODISTILL | {"smoothing": 0.6})
    made.train()
    made({"labelled": batch()}, 0.0)
    first = torch.tensor(PEER).softmax(0)
    with torch.no_grad():
        peer.rows.copy_(torch.tensor([[0.0, 3.0, 0.0]]))
    target = (0.6 * 0.4 * first + 0.4 * torch.tensor([0.0, 3.0, 0.0]).softmax(0)) / (1 - 0.36)
    expected = (target * (target.log() - torch.tensor(STUDENT).log_softmax(0))).sum()
    assert made({"labelled": batch()}, 0.0).terms["peers"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_rows_of_two_have_no_average():
    made = Codistill(parts(Table(STUDENT), Table(PEER)), **CODISTILL | {"smoothing": 0.6})
    mixed = replace(batch(), y=torch.tensor([[0.5, 0.5, 0.0]]))
    with pytest.raises(UserError, match="mixup makes rows of two: leave mixup out, or set loss.smoothing=0"):
        made({"labelled": mixed}, 0.0)


# A critic


def told(b):
    return torch.tensor(PEER).expand(len(b), 3)


def critic(keys=None, student=None):
    torch.manual_seed(0)
    return Adversarial(parts(student or Table(STUDENT), teacher=told), **CRITIC | (keys or {}))


def test_the_critics_two_terms_by_hand():
    """A critic that reads twice the first log-probability: -.407606 of the student's, -.142932 of the
    teacher's.
    """
    made = critic()
    made.critic.forward = lambda answers: 2 * answers[:, 0]
    with torch.no_grad():
        own, taught = (torch.tensor(x).log_softmax(0)[0].item() for x in (STUDENT, PEER))
    soft = lambda v: math.log1p(math.exp(v))  # noqa: E731
    terms = made({"labelled": batch()}, 0.0).terms
    assert terms["critic"].item() == pytest.approx(0.5 * (soft(-2 * taught) + soft(2 * own)), abs=1e-6)
    assert terms["fool"].item() == pytest.approx(0.1 * soft(-2 * own), abs=1e-6)
    assert (terms["distillation"] + terms["labels"]).item() == pytest.approx(0.365973, abs=2e-6)


def test_each_side_moves_its_own_network():
    made = critic()
    terms = made({"labelled": batch()}, 0.0).terms
    its, own = list(made.critic.parameters()), list(made.student.parameters())
    for name, reached, not_reached in (("fool", own, its), ("critic", its, own)):
        found = torch.autograd.grad(terms[name], reached, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in found), name
        found = torch.autograd.grad(terms[name], not_reached, retain_graph=True, allow_unused=True)
        assert all(g is None for g in found), name


def test_weight_0_is_kd_bit_for_bit():
    learned = []
    streams = of_numbers()
    streams["labelled"] = replace(
        streams["labelled"], views={"main": streams["labelled"].views["main"].float()}
    )
    for method in ("kd", "critic"):
        student = linear(0).float()
        made = (
            critic({"weight": 0.0}, student)
            if method == "critic"
            else KD(parts(student, teacher=told), temperature=2.0, alpha=0.25)
        )
        learned.append(trained(made, streams))
    assert all(torch.equal(a, b) for a, b in zip(*learned, strict=True))


def test_a_critic_that_sees_no_difference_pays_ln_2_at_least():
    made = critic(student=Table(PEER))
    streams = {"labelled": batch()}
    optimiser = torch.optim.Adam(made.critic.parameters(), 0.05)
    for _ in range(50):
        optimiser.zero_grad()
        made(streams, 0.0).terms["critic"].backward()
        optimiser.step()
    assert made(streams, 0.0).terms["critic"].item() == pytest.approx(math.log(2), abs=1e-3)


def test_the_critic_has_a_rate_of_its_own_and_is_not_exported():
    made = critic({"rate": 0.5})
    assert [(g.name, g.rate) for g in check_groups(made)] == [("student", 1.0), ("critic", 0.5)]
    assert made.export() is made.student and any("critic" in key for key in made.state_dict())


@pytest.mark.parametrize("loss", ["mutual", "codistill", "collaborative"])
def test_losses_without_a_teacher_say_so(loss):
    found = check_words([f"loss={loss}"])
    assert Component(found["loss"]).resolve().reads == ()
    assert found["choices"]["recipe"] == "supervised"


def test_peers_of_other_architectures_are_named_as_options():
    order, errors = examine_config(check_words(["loss=mutual", "loss.architectures=[mlp_small]"]))
    (peer,) = order.experiment.loss.spec["architectures"]
    assert not errors and peer["_target_"] == "kdx.models.mlp.mlp"
    _, errors = examine_config(check_words(["loss=mutual", "loss.architectures=[mlp_smal]"]))
    assert errors == ["loss.architectures has no model 'mlp_smal'; did you mean 'mlp_small'?"]
    _, errors = examine_config(check_words(["loss=mutual", "loss.architectures=[x]"]))
    shown = len(options_of("model"))
    assert errors == [f"loss.architectures has no model 'x'; kdx list student shows all {shown}"]
    order, _ = examine_config(check_words(["loss=mutual", "loss.architectures=[text_cnn]", "device=cpu"]))
    assert any("text_cnn reads texts, and this data set holds pictures" in error for error in inspect(order))


QUICK = "device=cpu device.threads=1 dataset.labelled=100 dataset.unlabelled=0 dataset.validation=50".split()
QUICK += "dataset.test=50 teacher=mlp_small student=mlp_small teacher_pretrain.steps=10".split()
QUICK += ["student_train.steps=20", "student_train.clip=0.5"]


def run_of(place, *words):
    """(run.json, the folder of the student's training)"""
    assert main(["train", *QUICK, *words, f"hydra.run.dir={place}"]) == 0
    run = json.loads((place / "run.json").read_text())
    key = next(stage["key"] for stage in run["stages"] if stage["name"] == "student-train")
    return run, Path("outputs/store/train") / key


@pytest.mark.slow
def test_whole_runs_at_the_limits_are_those_without(tmp_path, monkeypatch):
    """The same bytes of weights, with augmentation, a schedule and a clipped gradient."""
    monkeypatch.chdir(tmp_path)

    def weights(*words):
        _, folder = run_of(tmp_path / str(len([*tmp_path.iterdir()])), *words)
        return (folder / "last.safetensors").read_bytes()

    live = weights("pseudo_label.mode=live")
    assert weights("teacher.update=slow", "teacher.rate=0") == live
    assert weights("teacher.update=ema", "teacher.decay=1") == live != weights("teacher.update=ema")
    alone = weights("loss=supervised")
    assert weights("loss=mutual", "loss.weight=0") == alone != weights("loss=mutual")


def test_what_is_exported_together_is_called_an_ensemble():
    alike, other = {"_target_": "x", "width": 1}, {"_target_": "y"}
    assert name_made(alike, "cnn_tiny") == "cnn_tiny"
    assert name_made(ensemble_of([alike] * 3), "cnn_tiny") == "ensemble of 3 cnn_tiny"
    assert name_made(ensemble_of([alike, other]), "cnn_tiny") == "ensemble of 2 networks"


@pytest.mark.slow
def test_an_ensemble_of_unlike_peers_is_measured_opened_and_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["loss=mutual", "loss.architectures=[cnn_tiny]", "loss.export=ensemble"]
    run, folder = run_of(tmp_path / "run", *words)
    made = json.loads((folder / "model.json").read_text())["component"]
    assert [member["_target_"] for member in made["members"]] == ["kdx.models.mlp.mlp", "kdx.models.cnn.cnn"]
    sizes = run["results"]["student"]["parameters"], run["results"]["baseline"]["parameters"]
    assert sizes[0] == sizes[1] + 2570
    assert main(["predict", "run", "data=test", "to=answers.csv"]) == 0
    assert main(["export", "run", "to=exported", "format=state_dict"]) == 0
    assert any("is 2 networks that answer together" in str(note) for note in run["warnings"])
    assert run["results"]["student"]["model"] == "ensemble of 2 networks"
    assert main(["evaluate", "exported", "dataset=digits", "device=cpu", "json=found.json"]) == 0
    assert (
        json.loads(Path("found.json").read_text())["results"]["student"]["model"] == "ensemble of 2 networks"
    )
