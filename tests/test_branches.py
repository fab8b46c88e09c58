"""Heads on one trunk, and collaborative learning with them."""

import copy
from dataclasses import replace

import pytest
import torch
from tasks import classification
from test_peers import PEER, STUDENT, batch, parts
from torch import nn
from torch.nn import functional as F

from kdx.core.errors import UserError
from kdx.methods.losses.collaborative import Collaborative
from kdx.models.branches import Branches
from kdx.models.cnn import cnn
from kdx.models.mlp import mlp
from kdx.models.resnet import resnet
from kdx.training.loop import check_groups

KEYS = dict(heads=2, branch_at="auto", temperature=1.0, beta=0.5, rate=1.0)
SHAPE = (1, 16, 16)


class Whole(nn.Module):
    """A row's number looked up, then a layer: logits of the first rows are those of the table."""

    def __init__(self, *rows):
        super().__init__()
        self.trunk = nn.Embedding.from_pretrained(torch.eye(2), freeze=False)
        self.head = nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([*rows, *[[0.0] * 3] * (2 - len(rows))]).T)

    def forward(self, x):
        return self.head(self.trunk(x[:, 0].long()))


def small(kind, seed=0):
    torch.manual_seed(seed)
    rates = dict(dropout=0.0, stochastic_depth=0.0)
    if kind == "mlp":
        return mlp(shape=SHAPE, outputs=4, hidden=8, **rates)
    if kind == "cnn":
        return cnn(shape=SHAPE, classes=4, widths=[4, 4], hidden=8, batch_norm=True, **rates)
    return resnet(shape=SHAPE, classes=4, depth=8, widths=[4, 4, 8, 8], **rates)


def branches(network, kind="cnn", further=2, at="auto"):
    seeds = iter(range(1, 9))
    new = lambda: small(kind, next(seeds))  # noqa: E731
    return Branches(network, new, further=further, at=at, example=torch.zeros(1, *SHAPE))


def collaborative(*others, **keys):
    made = replace(parts(*others, classes=3), example=torch.zeros(1, 1))
    return Collaborative(made, **KEYS | keys)


def test_two_heads_by_hand():
    """beta CE + (1 - beta) KL(other || own) at T = 1: .407606 and .115611 for one, half of each (methods.md
    6h: the two peers' L1 = .523217, L2 = .303047).
    """
    terms = collaborative(Whole(STUDENT), Whole(PEER))({"labelled": batch()}, 0.0).terms
    assert list(terms) == ["labels", "heads", "head1/labels", "head1/heads"]
    assert 2 * (terms["labels"] + terms["heads"]).item() == pytest.approx(0.523217, abs=2e-6)
    assert 2 * (terms["head1/labels"] + terms["head1/heads"]).item() == pytest.approx(0.303047, abs=2e-6)


def test_a_head_reads_the_mean_of_the_others_logits():
    others = [[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]
    made = collaborative(Whole(STUDENT), *(Whole(row) for row in others), heads=3, temperature=2.0, beta=0.25)
    q, p = (torch.tensor(x).div(2).softmax(0) for x in ([2.0, 0.0, 0.0], STUDENT))
    found = made({"labelled": batch()}, 0.0).terms["heads"].item()
    assert found == pytest.approx(0.75 * 4 * (q * (q / p).log()).sum().item(), abs=1e-6)


def test_equal_heads_have_nothing_to_tell_each_other():
    made = collaborative(Whole(STUDENT), Whole(STUDENT))
    assert made({"labelled": batch()}, 0.0).terms["heads"].item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("kind", "at"), [("mlp", "head"), ("cnn", "head"), ("resnet", "stage3")])
def test_auto_takes_the_layer_after_which_fewer_than_half_come(kind, at):
    assert branches(small(kind), kind).at == at


@pytest.mark.parametrize("kind", ["mlp", "cnn", "resnet"])
def test_heads_answer_as_whole_networks_on_the_same_trunk_would(kind):
    """The first answer is the network's own; a head's that of the network with this head's layers in it."""
    network, x = small(kind).eval(), torch.rand(3, *SHAPE)
    alone = network(x)
    made = branches(network, kind).eval()
    first, *others = made(x)
    assert torch.equal(first, alone) and len(others) == 2
    for seed, said in enumerate(others, 1):
        whole, own = copy.deepcopy(network), small(kind, seed)
        layers = dict(own.named_children())
        for name in list(layers)[list(layers).index(made.at) :]:
            setattr(whole, name, layers[name])
        assert torch.allclose(whole.eval()(x), said, atol=1e-6) and not torch.equal(said, first)


def test_the_trunk_is_computed_once_and_keeps_no_hook():
    network, calls = small("cnn"), []
    network.stage1.register_forward_hook(lambda *_: calls.append(1))
    made = branches(network, "cnn", further=3)
    calls.clear()
    made(torch.rand(2, *SHAPE))
    assert len(calls) == 1
    assert sum(len(part._forward_hooks) for part in network.modules()) == 1, "the test's own"
    keys = {key for key in made.state_dict() if "stage" in key}
    assert not keys, "what is shared is saved with the network alone"


def test_the_trunks_gradient_is_the_mean_over_heads():
    network = small("cnn").eval()
    made, weight = branches(network, "cnn", further=1).eval(), network.stage1[0].weight
    x, y = torch.rand(4, *SHAPE), torch.tensor([0, 1, 2, 3])
    sum(F.cross_entropy(said, y) for said in made(x)).backward()
    each = []
    for head in (network.head, made.heads[0].head):
        whole = copy.deepcopy(network)
        whole.head = head
        each.append(torch.autograd.grad(F.cross_entropy(whole(x), y), whole.stage1[0].weight)[0])
    assert torch.allclose(weight.grad, sum(each) / 2, atol=1e-6)


def test_parameters_around_the_branch_are_shared():
    """A class token or positions, which lie in the module that holds the layers."""

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.randn(3))
            self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.last(self.first(x + self.shift) + self.shift)

    network = Around()
    made = Branches(network, Around, further=1, at="last", example=torch.zeros(1, 3))
    assert made.heads[0].shift is network.shift
    assert {id(p) for p in made.own(0)} == {id(p) for p in made.heads[0].last.parameters()}
    _, said = made(torch.zeros(2, 3))
    expected = made.heads[0].last(network.first(network.shift[None]) + network.shift)
    assert torch.allclose(said[0], expected[0], atol=1e-6)


def test_each_parameter_is_in_one_group_and_the_student_is_exported():
    student = Whole(STUDENT)
    made = collaborative(student, Whole(PEER), rate=0.5)
    groups = check_groups(made)
    assert [(g.name, g.rate, len(g.parameters)) for g in groups] == [("student", 1.0, 2), ("heads", 0.5, 1)]
    assert made.export() is student and set(student.state_dict()) == {"trunk.weight", "head.weight"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"heads": 1}, "loss.heads=1 is a network without a peer"),
        ({"branch_at": "haed"}, r"loss.branch_at: the student has no layer 'haed'.*head"),
        ({"beta": 1.5}, "loss.beta must be at least 0 and at most 1"),
        ({"temperature": 0}, "loss.temperature must be greater than 0"),
    ],
)
def test_what_is_refused(keys, said):
    with pytest.raises(UserError, match=said):
        collaborative(Whole(STUDENT), Whole(PEER), **keys)


def test_a_student_without_layers_is_refused():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 3))

        def forward(self, x):
            return x @ self.weight

    made = replace(parts(Bare(), Bare()), example=torch.zeros(1, 4), task=classification(3))
    with pytest.raises(UserError, match="has no layers to share: choose another student, or loss=mutual"):
        Collaborative(made, **KEYS)
