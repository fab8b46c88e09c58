"""Terms on how rows lie to each other: loss.features=rkd, similarity_preserving and crd, by hand, at their
limits, and what they refuse.
"""

import copy
from dataclasses import replace

import pytest
import torch
from test_features import between, composed, parts_of, seen, streams
from test_losses import network
from torch.autograd import gradcheck
from torch.nn import functional as F

from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import UserError
from kdx.core.types import Batch
from kdx.methods.features.crd import CRD, contrast_loss, others_of
from kdx.methods.features.rkd import RKD, angles, distances, relation
from kdx.methods.features.similarity_preserving import SimilarityPreserving, similarity_loss

T = torch.tensor
AUTO = {"student": "auto", "teacher": "auto"}
ROWS = {"labelled": 8, "unlabelled": 24, "validation": 100, "test": 100}


def rkd(parts, **more):
    return RKD(parts, **{"weight": 1.0, "distance": 25.0, "angle": 50.0, **AUTO, **more})


def similarity(parts, **more):
    return SimilarityPreserving(parts, **{"weight": 3000.0, **AUTO, **more})


def crd(parts, **more):
    keys = {"weight": 0.8, "negatives": 16384, "temperature": 0.07, "width": 16, "momentum": 0.5, **AUTO}
    return CRD(replace(parts, rows=more.pop("rows", ROWS)), **{**keys, **more})


def batch(*index, split="labelled"):
    rows = T(index)
    return Batch(split, rows, torch.zeros_like(rows), {})


def double(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, dtype=torch.float64, generator=generator, requires_grad=True)


def test_distances_and_angles_by_hand():
    """Distances of 1, 3 and 2 have the mean 2, of 2, 4 and 2 the mean 8/3. A right angle beside a line."""
    student, teacher = T([[0.0], [1.0], [3.0]]), T([[0.0], [2.0], [4.0]])
    assert distances(student)[0].tolist() == pytest.approx([0, 0.5, 1.5])
    assert relation(distances(student), distances(teacher)).item() == pytest.approx(0.125 / 9)
    corner, line = T([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), T([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert angles(corner)[1, 0].tolist() == pytest.approx([1, 0, 0.5**0.5])
    assert relation(angles(corner), angles(line)).item() == pytest.approx(3.5 / 27)


def test_similarities_by_hand():
    one, other = T([[1.0, 0.0], [0.0, 1.0]]), T([[1.0], [1.0]])
    assert similarity_loss(one, other).item() == pytest.approx((2 * (1 - 0.5**0.5) ** 2 + 1) / 4)


def test_the_contrast_by_hand():
    """Two negatives out of 10 rows: noise 0.2; -log 0.5 / 0.7 - 2 log 0.2 / 0.45."""
    assert contrast_loss(T([[0.5, 0.25, 0.25]]), 10).item() == pytest.approx(1.958333, abs=2e-6)


@pytest.mark.parametrize("form", [distances, angles])
def test_relations_know_neither_place_nor_size_nor_turn(form):
    feature = double(5, 3).detach()
    turn, _ = torch.linalg.qr(double(3, 3, seed=1).detach())
    other = 7 * feature @ turn + 2
    assert relation(form(feature), form(other)).item() == pytest.approx(0, abs=1e-12)
    assert similarity_loss(feature, 7 * feature @ turn).item() == pytest.approx(0, abs=1e-12)
    assert similarity_loss(feature, other).item() > 1e-4


def test_gradients():
    other = double(4, 5, seed=1).detach()
    for form in (distances, angles):
        assert gradcheck(lambda own, form=form: relation(form(own), form(other)), double(4, 3))
    assert gradcheck(lambda own: similarity_loss(own, other), double(4, 3))
    assert gradcheck(lambda raw: contrast_loss(raw.exp(), 10), double(2, 4))


def test_others_are_all_others_or_so_many_of_them():
    rows, draws = T([0, 2, 3]), torch.Generator().manual_seed(0)
    assert others_of(rows, 4, 3, draws).tolist() == [[1, 2, 3], [0, 1, 3], [0, 1, 2]]
    some = others_of(rows, 1000, 50, draws)
    assert (
        some.shape == (3, 50) and not (some == rows[:, None]).any() and 0 <= some.min() <= some.max() < 1000
    )
    again = others_of(rows, 1000, 50, torch.Generator().manual_seed(0))
    assert torch.equal(again, others_of(rows, 1000, 50, torch.Generator().manual_seed(0)))


def test_the_memory_remembers_each_row_of_each_stream():
    """The pool's rows lie after the labelled ones; what was seen moves half the way, and to length 1."""
    student, x = network(), torch.rand(3, 1, 16, 16)
    made = crd(between(student, network(1))).train()
    assert made.total == 32 and made.first == {"labelled": 0, "unlabelled": 8}
    before = made.student_memory.clone()
    student(x)
    shown = seen(x, batches=[batch(1), batch(0, 5, split="unlabelled")])
    own = F.normalize(made.embeddings[0](made.rows.taps[0].take().flatten(1)), dim=1)
    student(x)
    first = made(shown)["contrast"]
    moved = (made.student_memory != before).any(1).nonzero().flatten().tolist()
    assert moved == [1, 8, 13] and made.steps.done == 1
    expected = F.normalize(before[[1, 8, 13]] / 2 + own / 2, dim=1)
    torch.testing.assert_close(made.student_memory[[1, 8, 13]], expected)
    first.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.embeddings[0].parameters())
    scale = made.scale.clone()
    student(x)
    made(shown)
    assert scale.all() and torch.equal(scale, made.scale)  # of the first batch
    twin = crd(between(student, network(1)))
    twin.load_state_dict(made.state_dict())  # as a resume does
    student(x)
    twin.train()(shown)
    student(x)
    made.train()(shown)
    assert torch.equal(twin.student_memory, made.student_memory)


def test_evaluating_forgets_nothing():
    student, x = network(), torch.rand(2, 1, 16, 16)
    made = crd(between(student, network(1))).eval()
    before = copy.deepcopy(made.state_dict())
    student(x)
    assert made(seen(x, batches=[batch(0, 1)]))["contrast"].isfinite()
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


@pytest.mark.parametrize("make", [rkd, similarity, crd])
def test_half_precision_reaches_the_networks_alone(make):
    """Distances would be differences of rounded products."""
    student, x = network().eval(), torch.rand(3, 1, 16, 16)
    made = make(between(student, network(1))).eval()
    found = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            student(x)
            terms = made(seen(x, batches=[batch(0, 1, 2)]))
        assert all(value.dtype == torch.float32 for value in terms.values())
        found.append(sum(terms.values()).item())
    assert found[1] == pytest.approx(found[0], rel=0.1)


@pytest.mark.parametrize("make", [rkd, similarity])
def test_a_student_that_is_its_teacher_has_no_loss(make):
    student, x = network().eval(), torch.rand(4, 1, 16, 16)
    made = make(between(student, copy.deepcopy(student)))
    student(x)
    assert all(value.item() == pytest.approx(0, abs=1e-4) for value in made(seen(x)).values())


def test_each_of_the_two_relations_can_be_left_out():
    student, x = network(), torch.rand(4, 1, 16, 16)
    for key, name in (("distance", "angles"), ("angle", "distances")):
        made = rkd(between(student, network(1)), **{key: 0.0})
        student(x)
        assert list(made(seen(x))) == [name]
    assert not list(made.parameters())


@pytest.mark.parametrize("name", ["rkd", "similarity_preserving", "crd"])
def test_without_weight_the_student_learns_as_without_it(name):
    made = replace(parts_of(network()), rows={"labelled": 1000, "unlabelled": 1000})
    words = ["loss=kd", f"loss.features={name}", f"loss.features.{name}.weight=0"]
    objective, plain = composed(*words).build(made), composed("loss=kd").build(parts_of(network()))
    torch.manual_seed(1)
    one = objective(streams(), 0.0).loss
    torch.manual_seed(1)
    two = plain(streams(), 0.0).loss
    assert one.item() == two.item()
    one.backward(), two.backward()
    pairs = zip(objective.student.parameters(), plain.student.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)
    assert objective.export().state_dict().keys() == network().state_dict().keys()


def test_what_they_refuse():
    student, x = network(), torch.rand(1, 1, 16, 16)
    for make, name in ((rkd, "rkd"), (similarity, "similarity_preserving")):
        made = make(between(student, network(1)))
        student(x)
        with pytest.raises(UserError, match=rf"loss\.features={name} compares the rows .* has 1: set"):
            made(seen(x))
        with pytest.raises(RuntimeError, match="taken already"):
            made(seen(x))  # nothing stale was left behind
    pair = between(network(), network(1))
    for call, says in (
        (lambda: rkd(pair, distance=-1.0), r"loss\.features\.rkd\.distance must be at least 0"),
        (lambda: crd(pair, temperature=0.0), r"loss\.features\.crd\.temperature must be greater than 0"),
        (lambda: crd(pair, rows={"labelled": 1}), "tells rows apart, and there is 1"),
        (lambda: rkd(pair, student=["stage1", "stage2"]), "names 2 layers, and one is read"),
        (lambda: rkd(pair, teacher="stage9"), "the teacher has no layer 'stage9'"),
        (lambda: rkd(replace(pair, live_teachers=[])), "this run has no teacher"),
    ):
        with pytest.raises(UserError, match=says):
            call()


@pytest.mark.slow  # the compiler takes a second to import
def test_a_compiled_network_has_no_layers_to_look_at():
    with pytest.raises(UserError, match=r"of the teacher, compiled .*, cannot be read"):
        rkd(between(network(), compiled(network(1))))


def test_networks_without_layers_to_look_at():
    scripted = torch.jit.trace(network(1).eval(), torch.zeros(1, 1, 16, 16))
    with pytest.raises(UserError, match=r"of the teacher, scripted .*, cannot be read"):
        rkd(between(network(), scripted))
    _, errors = examine_config(check_words(["loss.features=rkd", "device.compile=true"]))
    assert errors == [
        "loss.features reads hidden layers, which device.compile=true hides: set device.compile=false"
    ]


def compiled(net):
    net.compile()
    return net


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["loss.features=[rkd,crd]"], ["loss.features=rkd,crd"]),
        (["loss=dist"], ["loss=dist"]),
        (
            ["loss=dist", "loss.features=[similarity_preserving,fitnet]"],
            ["loss=dist", "loss.features=similarity_preserving"],
        ),
        (["loss=dist", "loss.gamma=0"], []),
        (["loss.features=regressor"], []),
    ],
)
def test_one_row_a_batch_is_refused_before_work(words, what):
    alone = ["student_train.batch_size=1", "dataset.unlabelled=0", "student=mlp_small", "teacher=mlp_small"]
    order, errors = examine_config(check_words([*words, *alone, "device=cpu"]))
    assert [*errors, *inspect(order)] == [
        f"{one} compares the rows of a batch with each other, and student_train.batch_size=1 has one: "
        "set it to 2 at least"
        for one in what
    ]
