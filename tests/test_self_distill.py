"""Self-distillation: snapshots of the student's own past, and heads on layers before its last one."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from test_peers import PEER, STUDENT, Table, batch, parts, run_of
from torch import nn
from torch.autograd import gradcheck

from kdx.commands._check import check_runs
from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import Caution, UserError, UserErrors
from kdx.methods.losses.self_distill import SelfDistill
from kdx.methods.losses.supervised import Supervised
from kdx.models.cnn import cnn
from kdx.models.exits import Exits, layers_before_the_last
from kdx.models.pairs import Side
from kdx.models.resnet import resnet
from kdx.training.loop import check_groups

KEYS = dict(teacher="snapshot", alpha=0.25, temperature=2.0, every=1, heads_at="auto", hint=0.5, weight=1.0)
SHAPE = (1, 16, 16)


class Deep(nn.Module):
    """Two layers, 2 wide, and the answer: of the input (1, 0) the features (1, 0) and (2, 0), and PEER."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(2, out, bias=False) for out in (2, 2, 3))
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(2))
            self.second.weight.copy_(2 * torch.eye(2))
            self.last.weight.copy_(torch.tensor([[2.0, 0], [1, 0], [0, 0]]))

    def forward(self, x):
        return self.last(self.second(self.first(x)))


class Encoder(nn.Module):
    """Words to classes by blocks of attention."""

    def __init__(self, blocks):
        super().__init__()
        block = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.words, self.blocks = nn.Embedding(9, 8), nn.TransformerEncoder(block, blocks)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.blocks(self.words(x)).mean(1))


def distilled(student, example=None, **keys):
    return SelfDistill(replace(parts(student), example=example), **{**KEYS, **keys})


def heads(student=None, **keys):
    """With bottlenecks that hand on what they are given, and heads that answer as the student's own last
    layer does."""
    keys = {"teacher": "deepest", "heads_at": ["first"], **keys}
    made = distilled(student or Deep(), torch.zeros(1, 2), **keys)
    with torch.no_grad():
        for place in (1, 3):
            made.exits.bottlenecks[0][place].weight.copy_(torch.eye(2)[:, :, None, None])
            made.exits.bottlenecks[0][place].bias.zero_()
        made.exits.heads[0].weight.copy_(torch.tensor([[2.0, 0], [1, 0], [0, 0]]))
        made.exits.heads[0].bias.zero_()
    return made


def of_deep(name="labelled", rows=1):
    found = batch(name, rows, (0,) * rows)
    return replace(found, views={"main": torch.tensor([[1.0, 0.0]] * rows)})


def values(outcome):
    return {name: term.item() for name, term in outcome.terms.items()}


def trained(made, steps, data, start=0, per_epoch=2):
    optimiser = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.5)
    made.train()
    for step in range(start, steps):
        if step % per_epoch == 0:
            made.refresh()
        optimiser.zero_grad()
        made(data, step / 8).loss.backward()
        optimiser.step()
    return made


def test_a_snapshot_by_hand():
    """T^2 KL(PEER || STUDENT) at T = 2 is .241076, the label's cross-entropy .407606."""
    made = distilled(Table(PEER))
    made.refresh()
    assert values(made({"labelled": batch()}, 0.0)) == pytest.approx({"labels": 0.142932}, abs=1e-6), (
        "in the first epoch the labels count in full"
    )
    assert made.refresh() == {"snapshots": 1}
    with torch.no_grad():
        made.student.rows.copy_(torch.tensor([STUDENT]))
    found = made({"labelled": batch()}, 0.5)
    expected = {"labels": 0.75 * 0.407606, "snapshot": 0.25 * 0.241076}
    assert values(found) == pytest.approx(expected, abs=1e-6)


def test_alpha_grows_in_a_straight_line_unless_another_is_given():
    made = distilled(Table(PEER), alpha=None, temperature=None)
    made.refresh(), made.refresh()
    with torch.no_grad():
        made.student.rows.copy_(torch.tensor([STUDENT]))
    assert values(made({"labelled": batch()}, 0.5)) == pytest.approx(
        {"labels": 0.6 * 0.407606, "snapshot": 0.4 * 0.115611}, abs=1e-6
    )


def test_the_gradient_is_that_of_a_mixed_target():
    """Cross-entropy to (1 - alpha) y + alpha p: softmax(z) less that."""
    made = distilled(Table(PEER), temperature=1.0)
    made.refresh(), made.refresh()
    with torch.no_grad():
        made.student.rows.copy_(torch.tensor([STUDENT]))
    made({"labelled": batch()}, 0.0).loss.backward()
    own, past = (torch.tensor(row).softmax(0) for row in (STUDENT, PEER))
    target = 0.75 * torch.tensor([1.0, 0, 0]) + 0.25 * past
    torch.testing.assert_close(made.student.rows.grad[0], own - target)


def test_a_snapshot_is_taken_after_so_many_epochs_and_stands_between():
    made = distilled(Table(PEER), every=2)
    seen = []
    for epoch in range(6):
        with torch.no_grad():
            made.student.rows.fill_(epoch)
        made.refresh()
        seen.append(made.past.network.rows[0, 0].item())
    assert seen == [4, 4, 2, 2, 4, 4], "as it was when epochs 2 and 4 began, and at first as it began"
    assert made.past.taken == 2


def test_a_snapshot_answers_without_dropout_and_has_no_gradient():
    student = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    made = distilled(student)
    made.train()
    made.refresh(), made.refresh()
    assert student.training and not any(part.training for part in made.past.network.modules())
    assert not any(p.requires_grad for p in made.past.parameters())
    assert check_groups(made)[0].parameters == list(student.parameters())


def test_a_note_says_once_that_there_was_no_snapshot():
    made = distilled(Table(PEER), every=3)
    made.refresh()
    with pytest.warns(Caution, match="takes one after each 3 epochs"):
        made({"labelled": batch()}, 0.95)
    again = distilled(Table(PEER), every=3)
    again.load_state_dict(made.state_dict())
    for one in (made, again):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one({"labelled": batch()}, 0.95)


@pytest.mark.parametrize("teacher, keys", [("snapshot", {"alpha": 0}), ("deepest", {"weight": 0})])
def test_without_weight_it_is_supervised_bit_for_bit(teacher, keys):
    data, student = {"labelled": of_deep(rows=3)}, Deep()
    torch.manual_seed(1)
    plain = Supervised(parts(copy.deepcopy(student)))
    made = distilled(student, torch.zeros(1, 2), teacher=teacher, **keys)
    trained(plain, 5, data), trained(made, 5, data)
    ours, theirs = made.export().state_dict(), plain.export().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_heads_by_hand():
    """The head says STUDENT, the student PEER; their features are (1, 0) and (2, 0)."""
    expected = {
        "labels": 0.142932,
        "heads/labels": 0.75 * 0.407606,
        "heads/deepest": 0.25 * 0.241076,
        "heads/hint": 0.5,
    }
    found = heads()({"labelled": of_deep()}, 0.0)
    assert values(found) == pytest.approx(expected, abs=1e-6)
    half = heads(weight=0.5)({"labelled": of_deep(rows=3)}, 0.0)
    assert values(half) == pytest.approx(
        {name: value / (1 if name == "labels" else 2) for name, value in expected.items()}, abs=1e-6
    )
    alone = heads(alpha=0, hint=0)({"labelled": of_deep()}, 0.0)
    assert values(alone) == pytest.approx(
        {"labels": 0.142932, "heads/labels": 0.407606, "heads/deepest": 0, "heads/hint": 0}, abs=1e-6
    ), "deep supervision"


def test_the_heads_gradient_by_hand_and_none_to_the_deepest():
    made = heads(hint=0.5, temperature=2.0)
    found = made({"labelled": of_deep()}, 0.0)
    sum(term for name, term in found.terms.items() if name != "labels").backward()
    own, deepest = torch.tensor(STUDENT), torch.tensor(PEER)
    label = torch.tensor([1.0, 0, 0])
    apart = 2 * ((own / 2).softmax(0) - (deepest / 2).softmax(0))
    expected = 0.75 * (own.softmax(0) - label) + 0.25 * apart
    torch.testing.assert_close(made.exits.heads[0].bias.grad, expected)
    assert made.student.first.weight.grad is not None, "heads teach the layers that they stand on"
    assert made.student.second.weight.grad is None and made.student.last.weight.grad is None


def test_the_gradient_through_a_head_is_the_numeric_one():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 4)).double()
    torch.manual_seed(0)
    exits = Exits(net, torch.zeros(1, 2), at=["0"], classes=3)

    def of(x):
        net(x)
        (head,), deepest = exits()
        return head.logits, (head.feature - deepest.detach()).square().sum(1)

    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: of(x)[0], (x,))
    logits, apart = of(x)
    assert logits.shape == (2, 3) and apart.shape == (2,)


def test_a_feature_is_never_a_stale_one():
    made = heads()
    with pytest.raises(RuntimeError, match="call the network"):
        made.exits()
    first = values(made({"labelled": of_deep()}, 0.0))
    made.student(torch.full((7, 2), 9.0))  # as a look at validation
    assert values(made({"labelled": of_deep()}, 0.0)) == first
    with pytest.raises(RuntimeError, match="call the network"):
        made.exits()


@pytest.mark.parametrize("keys", [{"every": 2}, {"teacher": "deepest", "heads_at": ["first"]}])
def test_a_resumed_training_goes_on_bit_for_bit(keys):
    data = {"labelled": of_deep(rows=3)}

    def fresh(seed=0):
        torch.manual_seed(seed)
        return distilled(Deep(), torch.zeros(1, 2), **keys)

    whole, begun, again = trained(fresh(), 8, data), trained(fresh(), 5, data), fresh(seed=1)
    again.load_state_dict(copy.deepcopy(begun.state_dict()))
    trained(again, 8, data, start=5)
    ours, theirs = again.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_is_exported_is_the_architecture_alone():
    for made, beside in ((heads(), "exits."), (distilled(Deep()), "past.")):
        assert made.export().state_dict().keys() == Deep().state_dict().keys()
        others = [name for name in made.state_dict() if not name.startswith("student.")]
        assert others and all(name.startswith(beside) for name in others)


OF = dict(shape=SHAPE, classes=3, dropout=0.0, stochastic_depth=0.0)
ROWS = {"pictures": (1, *SHAPE), "words": (1, 7), "numbers": (1, 4)}
NETWORKS = {
    "cnn": ("pictures", lambda: cnn(widths=[4, 4], hidden=8, batch_norm=True, **OF)),
    "resnet": ("pictures", lambda: resnet(depth=8, widths=[4, 4, 8, 8], **OF)),
    "encoder": ("words", lambda: Encoder(4)),
    "three layers": ("numbers", lambda: nn.Sequential(*map(nn.Linear, (4, 5, 6), (5, 6, 3)))),
}


@pytest.mark.parametrize(
    "name, layers",
    [
        ("cnn", ["stage1.2", "stage2.2"]),
        ("resnet", ["stage1", "stage2"]),
        ("encoder", ["blocks.layers.0", "blocks.layers.1", "blocks.layers.2"]),
        ("three layers", ["0"]),
    ],
)
def test_layers_are_found(name, layers):
    kind, make = NETWORKS[name]
    network, example = make(), torch.zeros(ROWS[kind], dtype=torch.long if kind == "words" else torch.float32)
    assert layers_before_the_last(Side(network, example, "student"), example) == layers
    made = distilled(network, example, teacher="deepest")
    rows = replace(batch(rows=2, y=(0, 1)), views={"main": example.expand(2, *example.shape[1:])})
    made({"labelled": rows}, 0.0).loss.backward()
    assert all(p.grad is not None for p in made.exits.parameters())


@pytest.mark.parametrize(
    "keys, said",
    [
        ({"teacher": "mine"}, "loss.teacher has no option 'mine'"),
        ({"alpha": 1.5}, "loss.alpha must be"),
        ({"alpha": [0, 0.5, 1]}, "loss.alpha must be a number, or two of them"),
        ({"temperature": 0}, "loss.temperature must be"),
        ({"every": 0}, "loss.every must be"),
        ({"hint": -1}, "loss.hint must be"),
        ({"weight": -1}, "loss.weight must be"),
        ({"teacher": "deepest"}, "this student has one hidden layer or none"),
        (
            {"teacher": "deepest", "heads_at": ["0.first"]},
            "loss.heads_at: the student has no layer",
        ),
        ({"teacher": "deepest", "heads_at": 3}, "loss.heads_at must be"),
    ],
)
def test_what_is_refused(keys, said):
    with pytest.raises(UserError, match=said):
        distilled(nn.Sequential(nn.Linear(4, 3)), torch.zeros(1, 4), **keys)


def messages(*words):
    order, errors = examine_config(check_words(["loss=self_distill", "device=cpu", *words]))
    return errors or inspect(order)


@pytest.mark.parametrize(
    "words, said",
    [
        (["dataset=friedman1", "teacher=mlp", "student=mlp_small"], "self_distill"),
        (["student=cnn_tiny", "loss.heads_at=[stage9]", "loss.teacher=deepest"], "has no layer 'stage9'"),
        (["student=mlp", "loss.teacher=deepest"], "one hidden layer or none"),
        (["loss.every=0"], "loss.every"),
    ],
)
def test_what_does_not_go_together_is_said_before_work(words, said):
    assert any(said in message for message in messages(*words))


@pytest.mark.parametrize(
    "keys, idle",
    [
        ({"teacher": "snapshot"}, {"heads_at", "hint", "weight"}),
        ({"teacher": "snapshot", "alpha": 0}, {"heads_at", "hint", "weight", "temperature", "every"}),
        ({"teacher": "deepest"}, {"every"}),
        ({"teacher": "deepest", "alpha": 0}, {"every", "temperature"}),
        ({"teacher": "deepest", "weight": 0}, {"every", "alpha", "temperature", "hint"}),
    ],
)
def test_keys_that_could_never_act(keys, idle):
    keys = {"heads_at": ["first"], **keys}
    assert distilled(Deep(), torch.zeros(1, 2), **keys).idle().keys() == idle


def test_a_student_that_cannot_be_built_is_named():
    (error, *_) = messages("student=mlp", "student.hidden=[16,16]", "loss.teacher=deepest")
    assert error == "mlp: hidden must be a whole number of at least 1, not [16, 16]"


def test_what_is_asked_of_a_teacher_can_never_act():
    with pytest.raises(UserErrors, match="temperature=2 can never act: loss=self_distill learns from no"):
        check_runs(["loss=self_distill", "pseudo_label.temperature=2", "device=cpu"], False)


def test_layers_are_not_read_of_a_compiled_student():
    (error,) = messages("student=cnn_tiny", "loss.teacher=deepest", "device.compile=true")
    assert error.startswith("loss.teacher=deepest reads hidden layers, which device.compile=true hides")
    assert not messages("student=cnn_tiny", "device.compile=true")


@pytest.mark.parametrize("words", [[], pytest.param(["loss.teacher=deepest"], marks=pytest.mark.slow)])
def test_a_run_makes_no_pseudo_labels(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    few = ["student=cnn_tiny", "student_train.steps=null", "student_train.epochs=2", "augment=[none]"]
    run, _ = run_of(tmp_path / "run", *few, "loss=self_distill", *words)
    assert "pseudo-label" not in [stage["name"] for stage in run["stages"]]
    sizes = {run["results"][role]["parameters"] for role in ("student", "baseline")}
    assert len(sizes) == 1
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert ("train/term/heads/hint" in lines) == bool(words)
    assert ("refresh/snapshots" in lines) != bool(words)
