"""The slot loss.features: VID and FitNets' hints by hand, their gradients, their limits, every pair of
models, and one whole run.
"""

import copy
import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tasks import classification
from test_losses import network, streams
from test_losses import parts as parts_of
from test_models import make
from torch import nn

from kdx.cli import main
from kdx.config import options
from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import UserError, UserErrors
from kdx.core.types import Features, Frozen, Parts, Shown
from kdx.methods.features.fitnet import FitNet, convolution
from kdx.methods.features.vid import VID, nll, regressor
from kdx.methods.hidden_terms import HiddenTerms
from kdx.models.pairs import Pairs, as_map, deepest_layers, survey
from kdx.pipeline.stages.beside import learned_beside
from kdx.pipeline.stages.parts import reads_networks
from kdx.store.component import Component

# the small students of these tests
pytestmark = pytest.mark.filterwarnings("ignore::kdx.core.errors.Caution")

T = torch.tensor
SLOT = ("kd", "divergence", "soft", "slam", "taylor_ce", "ups", "noisy_student")
"""The losses that have it."""
SHAPE = (1, 16, 16)


def vid(parts, **more):
    return VID(parts, **{"weight": 1.0, "variance": 5.0, "student": "auto", "teacher": "auto", **more})


def fitnet(parts, **more):
    return FitNet(
        parts,
        **{"weight": 100.0, "student": "auto", "teacher": "auto", "stage": 0.0, "regressor": "conv", **more},
    )


def linear(parts, **more):
    return fitnet(parts, **{"regressor": "linear", **more})


def row(shape=SHAPE):
    return torch.zeros(1, *shape)


def between(student, teacher, shape=SHAPE):
    return Parts(student, lambda: student, None, [Frozen(teacher)], None, classification(10), {}, row(shape))


def seen(x, progress=0.0, **more):
    """What a term is given of these rows."""
    return Shown(x, more.get("batches", ()), more.get("answers"), progress)


@functools.cache
@functools.cache
def composed(*words):
    """The loss as these words of a command line compose it."""
    return Component(check_words(list(words))["loss"])


def built(loss, features, more=(), **values):
    """A loss with another option in its slot; more: values of the loss, values: of that option."""
    spec = composed(f"loss={loss}", f"loss.features={features}").spec
    several = {name: term | values for name, term in spec["features"].items()}
    return Component({**spec, **dict(more), "features": several}).build(parts_of(network()))


# By hand


def test_vid_by_hand():
    raw = T([4.993229])  # softplus(raw) + 1e-5 = 5
    assert nll(T([[[[1.0]]]]), T([[[[3.0]]]]), raw).item() == pytest.approx(1.204719, abs=2e-6)
    # Two channels of variances 5 and 1: half of (4/5 + log 5 + 9) / 2.
    mean, feature = torch.zeros(1, 2, 1, 1), T([2.0, 3.0]).view(1, 2, 1, 1)
    one = torch.log(torch.expm1(T([1 - 1e-5])))
    assert nll(mean, feature, torch.cat([raw, one])).item() == pytest.approx(2.852359, abs=2e-6)


def test_vid_is_below_0_where_the_guess_is_sure_and_right():
    feature = torch.rand(2, 3, 4, 4)
    assert nll(feature, feature, torch.full((3,), -5.0)).item() == pytest.approx(
        T(0.0067253).log().item() / 2, abs=1e-4
    )


@pytest.mark.parametrize("variance", [0.001, 1.0, 5.0, 500.0])
def test_the_variance_begins_where_it_is_asked_to(variance):
    made = vid(between(network(), network(1)), variance=variance)
    for raw in made.raw:
        assert (nn.functional.softplus(raw) + 1e-5).tolist() == pytest.approx([variance] * len(raw), rel=1e-3)


def test_vid_has_its_minimum_where_the_variance_is_the_mean_square():
    feature = 0.7 * torch.randn(64, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    raw = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([raw], 0.05)
    for _ in range(300):
        optimiser.zero_grad()
        nll(torch.zeros_like(feature), feature, raw).backward()
        optimiser.step()
    assert nn.functional.softplus(raw).item() == pytest.approx(feature.square().mean().item(), rel=1e-3)


def test_gradients():
    def double(*size):
        return torch.randn(*size, dtype=torch.float64, requires_grad=True)

    guess = regressor(2, 3).double()
    feature = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda own, raw: nll(guess(own), feature, raw), (double(2, 2, 2, 2), double(3))
    )


def test_the_regressor_is_three_1x1_convolutions_without_bias():
    assert [tuple(p.shape) for p in regressor(2, 3).parameters()] == [
        (3, 2, 1, 1),
        (3, 3, 1, 1),
        (3, 3, 1, 1),
    ]


class Plain(nn.Module):
    """Maps of `scale` times the picture's rows and columns, 2 wide each, then logits."""

    def __init__(self, scale, side):
        super().__init__()
        self.scale = nn.Parameter(T(float(scale)))
        self.pool, self.inside, self.head = (
            nn.AdaptiveAvgPool2d(side),
            nn.Identity(),
            nn.Linear(side * side, 10),
        )

    def forward(self, x):
        return self.head(self.inside(self.pool(x) * self.scale).flatten(1))


def test_the_hint_by_hand():
    """Student 4x4, teacher 2x2: the student's map is averaged down, then guessed as 0.5 f + 1."""
    student, teacher = Plain(2, 4), Plain(3, 2)
    made = linear(between(student, teacher, (1, 4, 4)), weight=10.0, student="inside", teacher="inside")
    nn.init.constant_(made.regressor.weight, 0.5)
    nn.init.constant_(made.regressor.bias, 1.0)
    x = torch.arange(16.0).view(1, 1, 4, 4) / 16
    student(x)
    quarters = nn.functional.avg_pool2d(x, 2)
    expected = 10 * (0.5 * 2 * quarters + 1 - 3 * quarters).square().mean()
    assert made(seen(x))["hint"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("own", "wanted", "kernel", "stride"),
    [
        ((3, 6, 5), (7, 6, 5), (1, 1), 1),
        ((3, 6, 5), (7, 4, 5), (3, 1), 1),
        ((3, 8, 6), (7, 4, 3), (3, 3), 2),
        ((3, 4, 3), (7, 8, 6), (4, 4), 2),
        ((3, 1, 1), (7, 1, 1), (1, 1), 1),
    ],
)
def test_the_kernel_of_the_hint_fits_the_sizes(own, wanted, kernel, stride):
    """The paper's 1 + H_s - H_t; halved and doubled maps as released comparisons have them."""
    made = convolution(own, wanted)
    assert (
        tuple(made(torch.rand(2, *own)).shape[1:]) == wanted
        and made.kernel_size == kernel
        and made.stride[0] == stride
    )


def test_the_hint_through_convolution_batch_norm_and_relu_by_hand():
    """Student 4x4, teacher 3x3: a kernel of 2x2, of which the sum is taken; what falls below the batch's mean
    is guessed as 0.
    """
    student, teacher = Plain(1, 4), Plain(3, 3)
    made = fitnet(between(student, teacher, (1, 4, 4)), weight=10.0, student="inside", teacher="inside")
    conv, norm, relu = made.regressor
    assert conv.kernel_size == (2, 2) and isinstance(norm, nn.BatchNorm2d) and isinstance(relu, nn.ReLU)
    nn.init.constant_(conv.weight, 1.0)
    nn.init.constant_(conv.bias, 0.0)
    x = torch.arange(32.0).view(2, 1, 4, 4) / 32
    student(x)
    sums = 4 * nn.functional.avg_pool2d(x, 2, stride=1)
    guess = ((sums - sums.mean()) / (sums.var(correction=0) + 1e-5).sqrt()).clamp_min(0)
    expected = 10 * (guess - 3 * nn.functional.adaptive_avg_pool2d(x, 3)).square().mean()
    assert made(seen(x))["hint"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_hint_has_the_non_linearity_of_the_teacher_and_pools_it_where_it_is_larger():
    negative = fitnet(between(Plain(1, 2), Plain(-3, 3), (1, 4, 4)), student="inside", teacher="inside")
    assert (
        len(negative.regressor) == 2
        and negative.target == (2, 2)
        and negative.regressor[0].kernel_size == (1, 1)
    )
    student = Plain(1, 2)
    doubled = fitnet(between(student, Plain(3, 4), (1, 4, 4)), student="inside", teacher="inside")
    assert isinstance(doubled.regressor[0], nn.ConvTranspose2d)
    student(x := torch.rand(3, 1, 4, 4))
    assert doubled(seen(x))["hint"].isfinite()


def test_vid_sums_over_its_pairs_and_is_weighted():
    student, teacher = network(), network(1, 8)
    both, x = vid(between(student, teacher)), torch.rand(4, *SHAPE)
    names = [layer.name for layer in deepest_layers(survey(student, row()))]
    assert len(names) == len(both.raw) == 2
    student(x)
    together = both(seen(x))["vid"].item()
    single = 0.0
    for i, name in enumerate(names):
        one = vid(between(student, teacher), weight=0.5, student=name, teacher=name)
        one.regressors[0].load_state_dict(both.regressors[i].state_dict())
        student(x)
        single += one(seen(x))["vid"].item()
    assert together == pytest.approx(2 * single)


# Which layers, and at which size


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("resnet20", (3, 32, 32), [("stage1", 16, 32), ("stage2", 32, 16), ("stage3", 64, 8)]),
        ("cnn", (1, 28, 28), [("stage1.2", 32, 28), ("stage2.2", 64, 14), ("stage2", 64, 7)]),
        (
            "mobilenet",
            (3, 32, 32),
            [("features.3", 24, 32), ("features.6", 32, 16), ("features.13", 96, 8), ("features", 1280, 4)],
        ),
        ("vit_b_16", (3, 32, 32), [("encoder", 768, 8)]),
        ("vit_tiny", (3, 32, 32), [("map", 64, 8)]),
        ("mlp", (1, 8, 8), []),
    ],
)
def test_auto_takes_the_last_layer_at_each_size_of_map(name, shape, expected):
    with torch.device("meta" if name == "vit_b_16" else "cpu"):
        net = make(name, shape)
    assert [
        (layer.name, layer.channels, layer.size[0]) for layer in deepest_layers(survey(net, row(shape)))
    ] == expected


def test_tokens_are_the_map_that_they_were_made_of():
    x = torch.arange(2 * 3 * 6.0).view(2, 3, 2, 3)[:, :, :, :2]
    tokens = x.flatten(2).transpose(1, 2)
    assert torch.equal(as_map(tokens), x)
    assert torch.equal(as_map(torch.cat([torch.ones(2, 1, 3), tokens], 1)), x)
    odd = torch.rand(2, 7, 3)
    assert torch.equal(as_map(odd), odd.mean(1)[:, :, None, None])


@pytest.mark.parametrize("features", [vid, fitnet, linear])
def test_building_it_changes_neither_the_student_nor_what_is_drawn_next(features):
    student, teacher = make("cnn", SHAPE), network()
    student.train()
    state = {k: v.clone() for k, v in student.state_dict().items()}
    random = torch.get_rng_state()
    made = features(between(student, teacher))
    assert torch.equal(random, torch.get_rng_state()) and student.training
    assert all(torch.equal(state[k], v) for k, v in student.state_dict().items())
    assert list(made.parameters()) and student.state_dict().keys() == state.keys()


def test_sizes_meet_at_the_smaller_of_each_side():
    class Tall(Plain):
        def __init__(self):
            super().__init__(1, 1)
            self.pool, self.head = nn.AdaptiveAvgPool2d((4, 2)), nn.Linear(8, 10)

    class Wide(Plain):
        def __init__(self):
            super().__init__(1, 1)
            self.pool, self.head = nn.AdaptiveAvgPool2d((3, 5)), nn.Linear(15, 10)

    student = Tall()
    pairs = Pairs(between(student, Wide()), student="inside", teacher="inside", middle=True)
    x = torch.rand(2, *SHAPE)
    student(x)
    ((own, wanted),) = pairs.read(x)
    assert own.shape == wanted.shape == (2, 1, 3, 2) and own.requires_grad and not wanted.requires_grad


# Every pair of models


MODELS = ("cnn", "mlp", "resnet20", "mobilenet")


@pytest.fixture(scope="module")
def models():
    return {name: make(name, SHAPE) for name in MODELS}


@pytest.mark.parametrize("teacher", MODELS)
@pytest.mark.parametrize("student", MODELS)
def test_any_pair_of_models(models, student, teacher):
    """A finite term whose gradient reaches the student and all that was added, and nothing of the teacher."""
    one, two, x = (
        copy.deepcopy(models[student]).requires_grad_(True).train(),
        models[teacher],
        torch.rand(2, *SHAPE),
    )
    before = {k: v.clone() for k, v in two.state_dict().items()}
    for features in (vid, fitnet):
        made = features(between(one, two))
        one.zero_grad(set_to_none=True)
        one(x)
        ((_, term),) = made(seen(x)).items()
        term.backward()
        assert term.shape == () and term.isfinite()
        assert any(p.grad is not None and p.grad.any() for p in one.parameters())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
        assert not {id(p) for p in made.parameters()} & {
            id(p) for net in (one, two) for p in net.parameters()
        }
    assert all(p.grad is None for p in two.parameters()) and all(
        torch.equal(before[k], v) for k, v in two.state_dict().items()
    )


TAKEN = [*((loss, "fitnet") for loss in SLOT), ("kd", "vid"), ("soft", "vid")]
"""Every loss with one term; the other, which costs more, with two of them."""


def step(objective, optimiser) -> float:
    """One step of training; the loss before it."""
    outcome = objective(streams(), 0.5)
    optimiser.zero_grad()
    outcome.loss.backward()
    optimiser.step()
    objective.after_step()
    return outcome.loss.item()


@pytest.mark.parametrize(("loss", "features"), TAKEN)
def test_every_loss_with_the_slot_takes_it(loss, features):
    objective, plain = built(loss, features), built(loss, "none")
    term = {"vid": "vid", "fitnet": "hint"}[features]
    made = objective(streams(), 0.5)
    assert set(made.terms) - set(plain(streams(), 0.5).terms) == {term}
    optimiser = torch.optim.AdamW((p for p in objective.parameters() if p.requires_grad), 1e-2)
    first = made.terms[term].item()
    added = [p.clone() for p in objective.features.parameters()]
    assert added
    for _ in range(4):
        step(objective, optimiser)
    assert objective(streams(), 0.5).terms[term].item() < first
    assert not any(torch.equal(a, p) for a, p in zip(added, objective.features.parameters(), strict=True))
    network().load_state_dict(objective.export().state_dict())  # the student alone


@pytest.mark.parametrize(("loss", "features"), TAKEN)
def test_without_weight_it_is_the_loss_without_it(loss, features):
    def losses(objective):
        optimiser = torch.optim.AdamW((p for p in objective.parameters() if p.requires_grad), 5e-3)
        torch.manual_seed(1)
        found = []
        for _ in range(4):
            found.append(step(objective, optimiser))
        return found, objective.export().state_dict()

    (with_it, one), (without, two) = losses(built(loss, features, weight=0)), losses(built(loss, "none"))
    assert with_it == without and all(torch.equal(one[k], two[k]) for k in two)


def test_two_forward_passes_have_the_mean_of_their_terms_over_all_rows():
    """noisy_student with joint: false calls it after each pass; the feature is then that pass's own."""
    apart, joint = (built("noisy_student", "vid", {"joint": value}) for value in (False, True))
    apart.load_state_dict(joint.state_dict())
    for objective in (apart, joint):
        objective.eval()  # batch normalisation would see other rows
    assert apart(streams(), 0.0).terms["vid"].item() == pytest.approx(
        joint(streams(), 0.0).terms["vid"].item(), rel=1e-5
    )


# What cannot work


@pytest.mark.parametrize("features", [vid, fitnet])
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"student": "stagg1"},
            (
                r"loss\.layers\.student: the student has no layer 'stagg1'.*did you mean 'stage1'\?.*auto "
                r"takes of: stage1\.2"
            ),
        ),
        ({"teacher": "layer9"}, r"loss\.layers\.teacher: the teacher has no layer 'layer9'"),
        ({"student": 3}, r"loss\.layers\.student must be auto, .*given: 3"),
        ({"weight": -1}, r"loss\.features\.(vid|fitnet)\.weight must be at least 0"),
    ],
)
def test_errors(features, more, says):
    with pytest.raises(UserError, match=says):
        features(between(network(), network(1)), **more)


def test_more_errors():
    pair = between(network(), network(1))
    with pytest.raises(
        UserError, match=r"loss\.layers\.student names 2 layers, and there is 1 to pair them with"
    ):
        vid(pair, student=["stage1", "head"], teacher=["stage1"])
    with pytest.raises(UserError, match=r"loss\.features\.vid\.variance must be greater than 1e-05"):
        vid(pair, variance=0.0)
    with pytest.raises(UserError, match=r"this run has no teacher: set loss\.features=none"):
        vid(replace(pair, live_teachers=[]))


def test_preflight_tells_of_a_layer_that_is_not_there():
    order, errors = examine_config(check_words(["loss=vid", "loss.layers.teacher=[stage7]"]))
    assert not errors and any("the teacher has no layer 'stage7'" in error for error in inspect(order))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["loss=kd"], False),
        (["loss=soft"], False),
        (["loss=vid"], True),
        (["loss=slam", "loss.features=fitnet"], True),
    ],
)
def test_who_needs_the_teachers_network(words, expected):
    order, _ = examine_config(check_words(words))
    assert reads_networks(order.experiment.loss) is expected


def test_vid_is_soft_with_the_slot_filled():
    assert composed("loss=vid") == composed("loss=soft", "loss.features=vid")
    with pytest.raises(UserErrors, match="features has no option 'vidd'"):
        check_words(["loss=soft", "loss.features=vidd"])


# What is saved beside the student


@pytest.mark.parametrize("name", ["fitnet", "vid", "regressor", "crd", "ofa"])
def test_what_a_term_learns_is_saved_apart_and_read_back(name, tmp_path):
    """With the statistics of its norms; without memories, and without a key of the student."""
    made, fresh = built("kd", name), built("kd", name)
    made.train()
    made(streams(), 0.0).loss.backward()
    with torch.no_grad():
        for value in made.parameters():
            value.add_(1.0)
    save_file(learned_beside(made), tmp_path / "objective.safetensors")
    found = load_file(tmp_path / "objective.safetensors")
    of_student = {f"student.{key}" for key in made.student.state_dict()}
    trained = {key for key, p in made.named_parameters() if p.requires_grad} - of_student
    norms = ("running_mean", "running_var", "num_batches_tracked")
    beside = {key for key in made.state_dict() if key.endswith(norms)} - of_student
    assert trained and set(found) == trained | beside
    assert fresh.load_state_dict(found, strict=False).unexpected_keys == []
    assert all(torch.equal(fresh.state_dict()[key], made.state_dict()[key]) for key in found)


def test_a_loss_that_learns_nothing_itself_saves_nothing():
    assert learned_beside(built("kd", "none")) == learned_beside(built("kd", "rkd")) == {}


# A whole run


def test_a_run_with_stored_answers(tmp_path, monkeypatch):
    """The teacher's network is opened beside its stored answers; the student that is saved has no more
    weights than any other. What slam fitted to the teacher is in the audit, and drawn."""
    monkeypatch.chdir(tmp_path)
    short = [
        "device=cpu",
        "device.threads=1",
        "teacher=cnn_tiny",
        "teacher_pretrain.steps=8",
        "student_train.steps=4",
        "dataset.labelled=100",
        "dataset.unlabelled=100",
        "dataset.test=50",
    ]
    assert main(["train", *short, "loss=slam", "loss.features=vid", "hydra.run.dir=outputs/runs/one"]) == 0
    run = json.loads(Path("outputs/runs/one/run.json").read_text())
    lines = [json.loads(line) for line in Path("outputs/runs/one/metrics.jsonl").read_text().splitlines()]
    assert run["status"] == "finished" and any(
        "train/term/vid" in line for line in lines if line["stage"] == "student-train"
    )
    assert run["results"]["student"]["parameters"] == run["results"]["baseline"]["parameters"]
    made = Path("outputs/runs/one/artifacts")
    learned = load_file(made / "student-train/objective.safetensors")
    assert learned and all(name.startswith("features.vid.") for name in learned)
    assert not learned.keys() & load_file(made / "student-train/last.safetensors").keys()
    assert not (made / "baseline-train/objective.safetensors").exists()
    reported = run["audit"]["rounds"][0]
    assert sum(reported["validation_margins"]["counts"]) == run["audit"]["teacher"]["n"]
    answers, truth = (
        np.load(f"outputs/runs/one/artifacts/{name}")
        for name in ("pseudo-label/validation.npy", "prepare/validation.truth.npy")
    )
    assert sum(reported["validation_margins"]["right"]) == (answers[:, 1].argmax(1) == truth).sum(), (
        "on the view that the method estimated from"
    )
    assert run["audit"]["teacher"]["accuracy"] == pytest.approx((answers[:, 0].argmax(1) == truth).mean())
    assert (
        set(reported["curves"]) == {"margin/isotonic", "margin/alpha", "margin/floor"}
        and min(reported["curves"]["margin/alpha"]["y"]) >= 0.5
    )
    assert Path("outputs/runs/one/figures/audit-margins.png").exists()


# Several at once, in any loss


def test_several_terms_stand_under_their_names():
    words = ["loss=kd", "loss.features=[fitnet,vid]", "loss.features.fitnet.weight=3"]
    loss = composed(*words, "loss.layers.student=[stage1]", "loss.features.vid.student=stage2")
    assert "layers" not in loss.spec and set(loss.spec["features"]) == {"fitnet", "vid"}  # they have them
    fitted, told = loss.spec["features"]["fitnet"], loss.spec["features"]["vid"]
    assert (fitted["weight"], fitted["student"], told["student"]) == (3, ["stage1"], "stage2")
    objective = composed(*words).build(parts_of(network()))
    assert set(objective(streams(), 0.0).terms) == {"distillation", "labels", "hint", "vid"}
    names = {name.split(".")[1] for name in objective.state_dict() if name.startswith("features.")}
    assert names == {"fitnet", "vid"}
    assert objective.export().state_dict().keys() == network().state_dict().keys()


def test_terms_of_one_name_are_told_apart_and_no_loss_loses_one():
    class Two(Features):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, shown):
            return {"same": T(self.value)}

    class Made:
        def __init__(self, value):
            self.build = lambda parts: Two(value)

    both = HiddenTerms({"a": Made(1.0), "b": Made(2.0)}, None)
    assert both(seen(None)).terms == {"a/same": 1.0, "b/same": 2.0}
    alone = HiddenTerms({"a": Made(1.0)}, None)(seen(None))
    assert alone.beside({"labels": T(3.0)}) == {"labels": 3.0, "same": 1.0}
    with pytest.raises(ValueError, match="both have a term 'same'"):
        alone.beside({"same": T(3.0)})
    assert not list(HiddenTerms(None, None).parameters()) and HiddenTerms({}, None)(seen(None)).terms == {}


@pytest.mark.parametrize("loss", ["kd", "divergence", "dkd", "nkd", "mse_logits", "dist"])
def test_no_terms_add_nothing_and_draw_nothing(loss):
    made = parts_of(network())
    state = torch.get_rng_state()
    objective = composed(f"loss={loss}").build(made)
    assert torch.equal(state, torch.get_rng_state()) and composed(f"loss={loss}").spec["features"] == {}
    assert list(objective.state_dict()) == [f"student.{name}" for name in network().state_dict()]


@pytest.mark.parametrize("loss", ["dkd", "nkd", "mse_logits", "dist"])
def test_a_term_stands_beside_those_of_a_loss_on_logits(loss):
    plain, more = (built(loss, name)(streams(), 0.5).terms for name in ("none", "fitnet"))
    assert set(more) - set(plain) == {"hint"} and all(more[name] == value for name, value in plain.items())


def test_a_training_that_ends_within_the_first_stage_of_fitnet_says_so():
    made = built("kd", "fitnet", stage=0.5)
    assert "ended while loss.features=fitnet counted alone, so that" in made.ended(0.4)
    assert made.ended(0.5) is None


def test_the_two_stages_of_fitnet():
    """First the hint alone, which leaves what lies above the layer as it is; then all but the hint."""
    objective = built("kd", "fitnet", stage=0.25, student="stage1", teacher="stage1", regressor="linear")
    plain = built("kd", "none")(streams(), 0.0).terms
    first, later = objective(streams(), 0.0), objective(streams(), 0.25)
    assert first.terms["hint"] > 0 and first.terms["labels"] == first.terms["distillation"] == 0
    first.loss.backward()
    moved = {name for name, p in objective.student.named_parameters() if p.grad is not None}
    assert moved and all(name.startswith("stage1") for name in moved)
    assert later.terms == {**plain, "hint": 0}


def test_a_term_of_ones_own_stands_under_a_name_or_alone(tmp_path):
    folder = tmp_path / "conf" / "features"
    folder.mkdir(parents=True)
    keys = (
        "_target_: kdx.methods.features.vid.VID\nweight: 2.0\nvariance: 1.0\nstudent: auto\nteacher: auto\n"
    )
    (folder / "alone.yaml").write_text(f"# Mine\n{keys}")
    (folder / "named.yaml").write_text("# Mine\nnamed:\n" + "".join(f"  {k}\n" for k in keys.splitlines()))
    options.use_own([f"--config-dir={tmp_path / 'conf'}"])
    try:
        for words, names in (
            (["alone"], {"vid"}),
            (["named"], {"vid"}),
            (["named", "fitnet"], {"vid", "hint"}),
        ):
            config = check_words(["loss=kd", f"loss.features=[{','.join(words)}]"])
            order, errors = examine_config(config)
            assert errors == [] and reads_networks(order.experiment.loss)
            terms = order.experiment.loss.build(parts_of(network()))(streams(), 0.0).terms
            assert set(terms) == {"distillation", "labels"} | names
    finally:
        options.use_own([])


def test_layers_without_terms_are_refused_as_is_a_term_of_rows_in_parts():
    with pytest.raises(UserErrors, match=r"loss\.layers\.student can never act: it is what loss\.features="):
        check_words(["loss.layers.student=stage1"])
    order, errors = examine_config(
        check_words(["loss.features=fitnet", "student_train.accumulate=2", "student=mlp", "teacher=mlp"])
    )
    assert not errors and any("no means over its rows" in error for error in inspect(order))
