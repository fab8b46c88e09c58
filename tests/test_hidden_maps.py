"""Terms on maps: loss.features=attention_transfer, regressor, ofa, and cosine of whole maps, by hand, at
their limits, and what they refuse; every term on every pair of models.
"""

import copy
import functools
import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tasks import classification
from test_features import Plain, between, composed, parts_of, seen, streams
from test_losses import network
from test_models import BIG, NAMES, make
from torch import nn
from torch.autograd import gradcheck

from kdx.cli import main
from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import UserError
from kdx.core.types import Batch, Frozen, Parts
from kdx.methods.features.attention_transfer import AttentionTransfer, attention_loss
from kdx.methods.features.cosine import Cosine, flat_cosine
from kdx.methods.features.ofa import OFA, enhanced
from kdx.methods.features.regressor import Regressor
from kdx.store.component import Component

# the small students of these tests
pytestmark = pytest.mark.filterwarnings("ignore::kdx.core.errors.Caution")

T = torch.tensor
AUTO = {"student": "auto", "teacher": "auto"}
TERMS = {
    "attention_transfer": {"attention"},
    "regressor": {"regressor"},
    "rkd": {"distances", "angles"},
    "similarity_preserving": {"similarity"},
    "crd": {"contrast"},
    "ofa": {"exits"},
    "fitnet": {"hint"},
    "vid": {"vid"},
    "cosine": {"cosine"},
}
"""Every option of the slot -> the names of its terms."""
FEW = ("cnn", "vit_tiny", "mlp", "resnet8x4", "mobilenet_v3_small")


def at(parts, **more):
    return AttentionTransfer(parts, **{"weight": 1.0, **AUTO, **more})


def ofa(parts, **more):
    keys = {"weight": 1.0, "gamma": 1.4, "temperature": 1.0, "width": 8, "student": "auto"}
    return OFA(parts, **{**keys, **more})


def labelled(y):
    rows = torch.arange(len(y))
    return Batch("labelled", rows, torch.zeros_like(rows), {}, y)


def double(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, dtype=torch.float64, generator=generator, requires_grad=True)


def test_attention_by_hand():
    student = T([[[[1.0, 2.0], [0.0, 1.0]]]])
    teacher = T([[[[2.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]]]])
    assert 4 * attention_loss(student, teacher).item() == pytest.approx(4 * 0.264298, abs=8e-6)
    assert attention_loss(student, -3 * student).item() == pytest.approx(0, abs=1e-12)


def test_whole_maps_by_hand():
    """(1, 0) beside (2, 0, 0, 2), averaged to (1, 1)."""
    assert flat_cosine(T([[1.0, 0.0]]), T([[2.0, 0.0, 0.0, 2.0]])).item() == pytest.approx(1 - 0.5**0.5)
    assert flat_cosine(T([[1.0, 3.0]]), T([[2.0, 6.0]])).item() == pytest.approx(0, abs=1e-6)


def test_the_exits_loss_by_hand():
    """q = (.866813, .117310, .015876), -log p = (.407606, 1.407606, 2.407606)."""
    student, teacher, right = T([[2.0, 1.0, 0.0]]), T([[4.0, 2.0, 0.0]]), T([0])
    plain = 0.353319 + 0.165127 + 0.038224
    assert enhanced(student, teacher, right, 1.0, 1.0).item() == pytest.approx(plain, abs=2e-6)
    assert enhanced(student, teacher, T([-1]), 2.0, 1.0).item() == pytest.approx(plain, abs=2e-6)
    more = (1.866813**2 - 1) * 0.407606 + 0.165127 + 0.038224
    assert enhanced(student, teacher, right, 2.0, 1.0).item() == pytest.approx(more, abs=5e-6)


def test_gradients():
    other, right = double(3, 4, seed=1).detach(), T([0, -1, 3])
    assert gradcheck(lambda own: enhanced(own, other, right, 1.4, 2.0), double(3, 4))
    maps = double(2, 5, 3, 3, seed=1).detach()
    assert gradcheck(lambda own: attention_loss(own, maps), double(2, 2, 3, 3))


def test_the_regressor_by_hand():
    """A 3x3 kernel with 0.5 in its middle, and a bias of 1; a dense feature has one of 1x1."""
    student, teacher = Plain(2, 4), Plain(3, 4)
    named = {"student": "inside", "teacher": "inside"}
    made = Regressor(between(student, teacher, (1, 4, 4)), weight=10.0, **named)
    assert made.convolution.kernel_size == (3, 3)
    nn.init.zeros_(made.convolution.weight)
    made.convolution.weight.data[0, 0, 1, 1] = 0.5
    nn.init.constant_(made.convolution.bias, 1.0)
    x = torch.arange(16.0).view(1, 1, 4, 4) / 16
    student(x)
    found = made(seen(x))["regressor"].item()
    assert found == pytest.approx(10 * (0.5 * 2 * x + 1 - 3 * x).square().mean().item())
    dense = Regressor(between(make("mlp", (1, 16, 16)), make("cnn", (1, 16, 16))), weight=1.0, **AUTO)
    assert dense.convolution.kernel_size == (1, 1)


def test_exits_know_labels_where_there_are_some():
    student, teacher, x = make("cnn", (1, 16, 16)), network(1), torch.rand(2, 1, 16, 16)
    made = ofa(between(student, teacher), gamma=3.0)
    assert len(made.exits) == 3

    def exits(y):
        student(x)
        return made(seen(x, batches=[labelled(y)]))["exits"].item()

    unknown = exits(torch.rand(2, 10))  # mixed
    assert exits(T([0, 1])) > unknown and exits(T([3, 1])) != exits(T([0, 1]))


@pytest.mark.parametrize("name", [*TERMS])
def test_each_is_a_term_that_is_learned_and_0_without_weight(name):
    shared = parts_of(network())
    made = Parts(**{**vars(shared), "rows": {"labelled": 100, "unlabelled": 1000}})
    plain = composed("loss=kd").build(shared)(streams(), 0.0).terms
    words = ["loss=kd", f"loss.features={name}"]
    flat = [f"loss.features.{name}.of=flat"] if name == "cosine" else []
    objective = composed(*words, *flat).build(made)
    terms = objective(streams(), 0.0).terms
    assert set(terms) - set(plain) == TERMS[name] and all(
        terms[k].item() > 0 or k == "vid" for k in TERMS[name]
    )
    sum(terms[key] for key in TERMS[name]).backward()
    assert any(p.grad is not None and p.grad.any() for p in objective.student.parameters())
    added = list(objective.features.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in added)
    objective.zero_grad()
    off = composed(*words, *flat, f"loss.features.{name}.weight=0").build(made)
    terms = off(streams(), 0.0).terms
    assert all(terms[key].item() == 0 for key in TERMS[name])
    assert objective.export().state_dict().keys() == network().state_dict().keys()
    with pytest.raises(UserError, match=rf"loss\.features\.{name}\.weight must be at least 0"):
        composed(*words, f"loss.features.{name}.weight=-1").build(made)


def test_what_they_refuse():
    dense, cnn = make("mlp", (1, 16, 16)), make("cnn", (1, 16, 16))
    with pytest.raises(UserError, match="compares where maps are large, and the layers .* have one place"):
        at(between(dense, cnn))
    flat = {"weight": 1.0, "of": "flat", "student": "stage1", "teacher": "stage2"}
    with pytest.raises(UserError, match=r"numbers cannot be averaged to .*: name other layers"):
        Cosine(between(cnn, cnn), **flat)
    with pytest.raises(
        UserError, match=r"loss\.features\.cosine\.of .*'states' or 'flat'|of must be|has no option"
    ):
        Cosine(between(cnn, cnn), **{**flat, "of": "flatt"})
    for key, value in (("gamma", 0.5), ("temperature", 0.0), ("width", 0)):
        with pytest.raises(UserError, match=rf"loss\.features\.ofa\.{key}"):
            ofa(between(cnn, dense), **{key: value})


# Every pair of models


def tried(student, teacher, shape, names):
    """Each term is built with default layers for this pair, or names the layers that do not fit."""
    rows, example = {"labelled": 4, "unlabelled": 8}, torch.zeros(1, *shape)
    parts = Parts(
        student, lambda: student, None, [Frozen(teacher)], None, classification(10), {}, example, rows=rows
    )
    made = {}
    for name in names:
        spec = composed("loss=kd", f"loss.features={name}").spec["features"][name]
        try:
            made[name] = Component(spec).build(parts)
        except UserError as error:
            assert "layer" in str(error) and name in ("attention_transfer", "cosine"), error
    x = torch.rand(2, *shape)
    answers = student.train()(x)
    batch = Batch("labelled", torch.arange(2), torch.zeros(2), {}, T([0, 1]))
    for name, term in made.items():
        terms = term(seen(x, batches=[batch], answers=answers))
        assert set(terms) == TERMS[name] and all(value.isfinite() for value in terms.values())
    assert made
    for module in (*student.modules(), *teacher.modules()):
        module._forward_hooks.clear()  # a network is tried with many others


@functools.cache
def model(name, shape):
    return make(name, shape)


@pytest.mark.parametrize(
    ("student", "teacher"), [*((one, one) for one in FEW), *itertools.pairwise([*FEW, FEW[0]])]
)
def test_any_pair_of_a_few_models(student, teacher):
    """Each as either, with itself and with another; all pairs are looked at by the slow test below."""
    shape = (1, 16, 16)
    tried(model(student, shape), make(teacher, shape), shape, [*TERMS])


@pytest.mark.slow
@pytest.mark.parametrize("student", NAMES)
def test_any_pair_of_models(student):
    """Terms that read what the others do: all maps, the last one, a vector, and the student's alone."""
    shape, net = (3, 32, 32), model(student, (3, 32, 32))
    for teacher in NAMES if student in FEW else [name for name in NAMES if name not in BIG]:
        other = copy.deepcopy(net) if teacher == student else model(teacher, shape)
        tried(net, other, shape, ["vid", "attention_transfer", "regressor", "rkd", "ofa"])


# Texts and tables


ANY = "[rkd,similarity_preserving,crd,regressor"
"""Terms that need no map, and no classes."""


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        (["dataset=breast_cancer", "teacher=mlp", "student=mlp_small"], f"{ANY},ofa]"),
        (["dataset=diabetes", "teacher=mlp", "student=mlp_small"], f"{ANY}]"),
        (["dataset=text", "dataset.root=own.csv", "teacher=text_cnn", "student=bag"], f"{ANY},ofa]"),
    ],
)
def test_what_compares_rows_works_on_texts_and_tables_too(words, terms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"{'red blue green'.split()[i % 3]} {i % 7},{'ab'[i % 2]}" for i in range(80)]
    Path("own.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    order, errors = examine_config(check_words([*words, f"loss.features={terms}", "device=cpu"]))
    assert errors == [] and inspect(order) == []
    order, errors = examine_config(check_words([*words, "loss.features=attention_transfer", "device=cpu"]))
    assert not errors and any("compares where maps are large" in error for error in inspect(order))


def test_numbers_have_no_exits(tmp_path):
    words = ["dataset=diabetes", "teacher=mlp", "student=mlp_small", "loss.features=ofa", "device=cpu"]
    order, errors = examine_config(check_words(words))
    assert not errors and any("loss.features=ofa reads the probabilities" in e for e in inspect(order))


@pytest.mark.slow
def test_a_run_on_a_table_with_three_terms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["dataset=breast_cancer", "teacher=mlp", "student=mlp_small", "loss.features=[rkd,crd,ofa]"]
    words += ["dataset.labelled=100", "device=cpu", "device.threads=1", "hydra.run.dir=run"]
    assert main(["train", *words, "teacher_pretrain.steps=5", "student_train.steps=6"]) == 0
    run = json.loads(Path("run/run.json").read_text())
    assert run["results"]["student"]["parameters"] == run["results"]["baseline"]["parameters"]
    saved = load_file("run/artifacts/student-train/last.safetensors")
    assert saved.keys() == load_file("run/artifacts/baseline-train/last.safetensors").keys()
    seen_terms = {
        key for line in Path("run/metrics.jsonl").read_text().splitlines() for key in json.loads(line)
    }
    assert {f"train/term/{name}" for name in ("distances", "angles", "contrast", "exits")} <= seen_terms
