"""Every model of conf/model builds, answers, learns and fits what is published of it; its files compose."""

from __future__ import annotations

import contextlib
import copy
import importlib
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from kdx import models
from kdx.core.errors import UserError
from kdx.models import layers, size
from kdx.models import torchvision as zoo
from kdx.models.adapt import in_units
from kdx.models.estimator import fit_to
from kdx.models.sets import AVERAGED
from kdx.models.sklearn import Sklearn
from kdx.models.tables import TableAdapter
from kdx.models.weights import load_weights
from kdx.tasks.regression import Regression

CONF = Path(__file__).parent.parent / "conf"
OTHERS = ("timm", "torchvision", "sklearn", "onnx", "bag", "text_cnn", "tfidf")
OTHERS += ("encoder", "encoder_small", "encoder_tuned", "minilm", "static", "token_means")
OTHERS += ("span_cnn", "span_encoder", "span_encoder_tuned", "fcos_tiny", "fcos_small", "retina_tiny")
OTHERS += ("torchvision_detector",)
"""An extra, and those that test_adapters, _sklearn, _onnx_teacher, _text, _encoder, _spans and _detectors
have."""
TOKENS = (
    "gpt_tiny",
    "gpt_small",
    "llama_tiny",
    "llama_small",
    "guide_400m",
    "guide_1b",
    "causal_lm",
    "causal_lm_text",
    "fusion",
    "fusion_text",
)
"""Those of test_decoder, test_save_pretrained, test_text_across and test_pairs."""
NAMES = sorted(p.stem for p in (CONF / "model").glob("*.yaml") if p.stem not in (*OTHERS, *TOKENS))
RATES = {"dropout": 0.0, "stochastic_depth": 0.0}
BIG = {"resnet34", "resnet50", "resnet110", "efficientnet_b1", "efficientnet_b2", "vit_b_16"}
"""Built for one shape by default and for all by the slow tests."""
STAGE_KEYS = {
    "evaluate_every",
    "length",
    "optimiser",
    "lr",
    "weight_decay",
    "momentum",
    "schedule",
    "warmup",
    "clip",
    "batch_size",
    "precision",
}


class Described:
    """A model as its YAML describes it, with changes."""

    def __init__(self, name, /, **changes):
        self.spec = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text()) | changes

    def resolve(self):
        module, _, function = self.spec["_target_"].rpartition(".")
        found = getattr(importlib.import_module(module), function)
        assert found.__module__ == module
        return found

    def build(self, **more):
        return self.resolve()(**{k: v for k, v in self.spec.items() if k != "_target_"}, **more)


def make(name, /, shape=(1, 16, 16), classes=10, **changes):
    torch.manual_seed(0)
    return models.build(
        Described(name, **changes), shape=shape, classes=classes, mean=[0.4] * shape[0], std=[0.3] * shape[0]
    )


def works(name, shape, classes):
    """Finite logits, a gradient for every parameter, and in eval mode an answer that does not depend on the
    rest of the batch.
    """
    net = make(name, shape, classes)
    assert all(
        isinstance(k, str) and (k in ("mean", "std") or k.startswith("net.")) for k in net.state_dict()
    )
    for part in net.modules():  # vit's last layer starts at zero: nothing could be distinguished
        if isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.normal_(part.weight, std=0.02)
    x = torch.rand(4, *shape)
    net.eval()
    with torch.no_grad():
        together, alone = net(x), net(x[2:3])
    assert together.shape == (4, classes) and together.isfinite().all()
    torch.testing.assert_close(together[2:3], alone, rtol=1e-3, atol=1e-4)
    assert not torch.equal(together[0], together[1])
    net.train()
    for part in net.modules():
        if isinstance(part, layers.DropPath):
            part.rate = 0.0
    # Zero-initialised last norms hide what lies before them from the first gradient.
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.constant_(part.weight, 0.5)
    net(x).square().sum().backward()
    missing = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    assert all(
        p.grad.abs().sum() > 0 for k, p in net.named_parameters() if k.endswith("weight") and p.dim() > 1
    )


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BIG])
@pytest.mark.parametrize("shape, classes", [((1, 16, 16), 10), ((3, 32, 32), 7)])
def test_model_works(name, shape, classes):
    works(name, shape, classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "shape, classes",
    [
        ((1, 8, 8), 10),
        ((1, 16, 16), 10),
        ((1, 28, 28), 10),
        ((3, 32, 32), 7),
        ((3, 40, 24), 3),
        ((3, 96, 96), 5),
    ],
)
def test_every_model_works_at_every_size(name, shape, classes):
    works(name, shape, classes)


@pytest.mark.parametrize("name", sorted(BIG))
def test_big_model_has_the_right_shape(name):
    """On the meta device: no numbers, so no time."""
    with torch.device("meta"):
        net = make(name, (3, 32, 32), 7).eval()
        assert net(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    "name, millions",
    [
        ("resnet20", 0.278324),
        ("resnet32", 0.472756),
        ("resnet56", 0.861620),
        ("resnet110", 1.736564),
        ("resnet8x4", 1.233540),
        ("resnet32x4", 7.433860),
        ("wrn_16_2", 0.703284),
        ("wrn_40_2", 2.255156),
        ("vgg8", 3.965028),
        ("vgg13", 9.462180),
    ],
)
def test_parameters_are_those_of_the_tables(name, millions):
    """CIFAR-100, as RepDistiller's and mdistiller's networks count."""
    assert size.parameters(make(name, (3, 32, 32), 100)) == round(millions * 1e6)


@pytest.mark.parametrize("name, parameters", [("deep_nn", 1_186_986), ("light_nn", 267_738)])
def test_the_nets_of_the_tutorial_have_the_parameters_that_it_prints(name, parameters):
    assert size.parameters(make(name, (3, 32, 32), 10)) == parameters


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("mobilenet", 3_504_872),
        ("mobilenet_v3_small", 2_542_856),
        ("shufflenet_v2", 2_278_604),
        ("efficientnet_b0", 5_288_548),
        ("efficientnet_b1", 7_794_184),
        ("efficientnet_b2", 9_109_994),
        ("vit_b_16", 86_567_656),
    ],
)
def test_at_224_pixels_the_network_is_torchvisions_own(name, parameters):
    """torchvision's table of weights gives these counts; with no halving taken out every layer is the
    original.
    """
    with torch.device("meta"):
        net = make(name, (3, 224, 224), 1000)
    assert size.parameters(net) == parameters


@pytest.mark.parametrize(
    "name, gigaflops", [("resnet32x4", 2.17), ("resnet8x4", 0.354), ("resnet56", 0.252), ("resnet20", 0.082)]
)
def test_flops(name, gigaflops):
    found = size.flops(make(name, (3, 32, 32), 100), torch.zeros(1, 3, 32, 32))
    assert found / 1e9 == pytest.approx(gigaflops, rel=0.006)


ROW = torch.zeros(1, 1, 3, 8)


class Tokens(nn.Module):
    """A layer on 3 tokens of width 8."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.flatten(2)[:, 0].view(1, 3, 8))


class Attention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("kernel", [None, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
@pytest.mark.parametrize("fast_path", [True, False])
def test_flops_of_attention_are_counted_whatever_kernel_torch_takes(kernel, fast_path):
    """By hand: projections 3*8*24 + 3*8*8, scores and mixing 2 * 3*3*8, in the encoder layer two products
    3*8*16 more; multiply-adds doubled.
    """
    attention = 2 * (3 * 8 * 24 + 3 * 8 * 8 + 2 * 3 * 3 * 8)
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast_path)
    try:
        with sdpa_kernel(kernel) if kernel else contextlib.nullcontext():
            assert size.flops(Tokens(Attention(8, 2, batch_first=True)), ROW) == attention == 1824
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            assert size.flops(Tokens(layer), ROW) == attention + 2 * (2 * 3 * 8 * 16)
        assert torch.backends.mha.get_fastpath_enabled() is fast_path, "as it was"
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_flops_of_recurrent_layers_are_counted(kind, gates, fused):
    """By hand: at each of 3 steps, to each gate of 4 units, a product with 8 inputs and one with 4 units; a
    second layer with 4 inputs.
    """

    class First(kind):
        def forward(self, x):
            return super().forward(x)[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TF32, when the switch is set
        with torch.backends.mkldnn.flags(enabled=fused):
            assert size.flops(Tokens(First(8, 4, batch_first=True)), ROW) == 2 * 3 * gates * 4 * (8 + 4)
            two = Tokens(First(8, 4, num_layers=2, batch_first=True))
            assert size.flops(two, ROW) == 2 * 3 * gates * 4 * (8 + 4 + 4 + 4)


@pytest.mark.parametrize("side, last", [(8, 2), (16, 2), (32, 4), (96, 6), (224, 7)])
@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v3_small", "shufflenet_v2", "efficientnet_b0"])
def test_small_pictures_keep_a_map(name, side, last):
    with torch.device("meta"):
        net = make(name, (3, side, side))
        maps = []
        before_pool = net.net.conv5[0] if name == "shufflenet_v2" else net.net.features
        before_pool.register_forward_hook(lambda module, inputs, made: maps.append(made.shape[-1]))
        net.eval()(torch.rand(1, 3, side, side))
    assert maps == [last]


def test_normalises_by_the_datasets_numbers():
    net = models.adapt.Adapted(
        nn.Identity(), shape=(3, 2, 2), channels=3, size=(2, 2), mean=[0.1, 0.2, 0.3], std=[0.5, 1, 2]
    )
    x = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(net(x)[:, 2], (x[:, 2] - 0.3) / 2)
    torch.testing.assert_close(net(x)[:, 0], (x[:, 0] - 0.1) / 0.5)


def test_grey_is_repeated_and_resized():
    net = models.adapt.Adapted(
        nn.Identity(), shape=(1, 4, 4), channels=3, size=(8, 8), mean=[0.0] * 3, std=[1, 2, 4]
    )
    made = net(torch.full((2, 1, 4, 4), 0.5))
    assert made.shape == (2, 3, 8, 8)
    torch.testing.assert_close(made[0, :, 3, 3], torch.tensor([0.5, 0.25, 0.125]))


def test_shrinking_uses_every_pixel():
    net = models.adapt.Adapted(
        nn.Identity(), shape=(1, 64, 64), channels=1, size=(4, 4), mean=[0.0], std=[1.0]
    )
    x = torch.zeros(1, 1, 64, 64)
    x[..., ::4, ::4] = 1
    torch.testing.assert_close(net(x).mean(), x.mean(), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    "mean, std, wrong", [([0.1], [0.2], "one number a channel"), ([0.1] * 3, [0.2, 0, 0.1], "above 0")]
)
def test_adapted_refuses(mean, std, wrong):
    with pytest.raises(UserError, match=wrong):
        models.adapt.Adapted(nn.Identity(), shape=(3, 2, 2), channels=3, size=(2, 2), mean=mean, std=std)


@pytest.mark.parametrize(
    "name, changes, wrong",
    [
        ("cnn", {"dropout": 1.0}, "dropout"),
        ("cnn", {"stochastic_depth": 0.1}, "no residual branches"),
        ("cnn", {"hidden": 0}, "hidden"),
        ("cnn", {"widths": []}, "widths"),
        ("mlp", {"stochastic_depth": 0.1}, "no residual branches"),
        ("mlp", {"hidden": 2.5}, "hidden"),
        ("vgg8", {"stochastic_depth": 0.1}, "no residual branches"),
        ("vgg8", {"depth": 9}, "8, 11, 13, 16"),
        ("resnet20", {"depth": 21}, r"6n \+ 2"),
        ("resnet20", {"widths": [16, 32]}, "4 channel"),
        ("resnet20", {"stochastic_depth": -0.1}, "stochastic_depth"),
        ("wrn_16_2", {"depth": 20}, r"6n \+ 4"),
        ("resnet18", {"stochastic_depth": "often"}, "or auto; given: 'often'"),
        ("shufflenet_v2", {"stochastic_depth": 0.1}, "no residual branches"),
        ("resnet18", {"variant": "resnet19"}, "did you mean"),
        ("resnet18", {"weights": "IMAGENET1K_V7"}, "IMAGENET1K_V1"),
        ("vit_b_16", {"patch": 17}, "patch"),
        ("vit_b_16", {"patch": 4, "weights": "DEFAULT"}, "patch=null"),
    ],
)
def test_wrong_arguments_are_reported(name, changes, wrong):
    with pytest.raises(UserError, match=wrong), torch.device("meta"):
        make(name, **changes)


@pytest.mark.parametrize("name", ["cnn", "vgg8", "resnet20", "wrn_16_2", "resnet18", "mobilenet"])
def test_too_small_pictures_are_reported(name):
    with pytest.raises(UserError, match="at least"):
        make(name, (1, 3, 3))


@pytest.mark.parametrize(
    "name",
    [
        *("resnet8x4", "wrn_16_2", "resnet18", "mobilenet", "mobilenet_v3_small", "efficientnet_b0"),
        *("vit_b_16", "vit_tiny"),
    ],
)
def test_rates_change_training_and_no_key(name):
    with torch.device("meta"):
        plain, noisy = make(name, **RATES), make(name, dropout=0.5, stochastic_depth=0.5)
    assert list(plain.state_dict()) == list(noisy.state_dict())
    drops = [p.rate for p in noisy.modules() if isinstance(p, layers.DropPath)] or [
        p.p for p in noisy.modules() if type(p).__name__ == "StochasticDepth"
    ]
    assert drops == sorted(drops) and len(set(drops)) > 1 and drops[-1] > 0.4
    assert any(isinstance(p, nn.Dropout) and p.p == 0.5 for p in noisy.modules())


@pytest.mark.parametrize("name", NAMES)
def test_stochastic_depth_auto_is_a_fifth_where_there_are_branches(name):
    """The last branch is dropped at rate .2 (Noisy Student's), and a network without branches takes `auto` as
    0.
    """
    with torch.device("meta"):
        net = make(name, dropout=0.0, stochastic_depth="auto")
    drops = [
        p.rate if isinstance(p, layers.DropPath) else p.p
        for p in net.modules()
        if type(p).__name__ in ("DropPath", "StochasticDepth")
    ]
    if name.startswith(("cnn", "mlp", "vgg", "shufflenet", "deep_nn", "light_nn")):
        assert not any(drops)
    else:
        # EfficientNet counts its blocks from 0, and not all of them have a branch
        assert 0.15 < max(drops) < 0.2001


@pytest.mark.parametrize(
    "name, rate",
    [
        ("resnet8x4", "dropout"),
        ("resnet18", "stochastic_depth"),
        ("shufflenet_v2", "dropout"),
        ("mlp", "dropout"),
        ("cnn", "dropout"),
        ("vit_tiny", "dropout"),
        ("vit_tiny", "stochastic_depth"),
    ],
)
def test_rates_act_in_training_only(name, rate):
    net = make(name, **(RATES | {rate: 0.5}))
    for part in net.modules():
        if isinstance(part, zoo.DroppedNorm):
            nn.init.ones_(part.weight)
    x = torch.rand(16, 1, 16, 16)
    net.eval()
    assert torch.equal(net(x), net(x))
    for part in net.modules():
        part.training = not isinstance(part, nn.BatchNorm2d) or isinstance(part, zoo.DroppedNorm)
    state = torch.random.get_rng_state()
    first = net(x)
    assert not torch.allclose(first, net(x))
    torch.random.set_rng_state(state)
    torch.testing.assert_close(first, net(x))


def test_drop_path_keeps_the_mean_and_whole_rows():
    torch.manual_seed(0)
    drop = layers.DropPath(0.3).train()
    made = drop(torch.ones(20_000, 2, 1, 1))
    assert made.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.equal(made[:, 0], made[:, 1])
    assert made.mean().item() == pytest.approx(1, abs=0.02)
    assert list(layers.rising(0.4, 4)) == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    "name",
    [
        "cnn",
        "resnet8x4",
        *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n not in ("cnn", "resnet8x4")),
    ],
)
def test_exports_with_any_batch_size(name):
    net = make(name).eval()
    x = torch.rand(3, 1, 16, 16)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    other = torch.rand(5, 1, 16, 16)
    torch.testing.assert_close(program.module()(other), net(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "resnet8x4", "mobilenet"])
def test_channels_last_and_bf16(name):
    net = make(name).eval()
    x = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        expected = net(x)
        fast = copy.deepcopy(net).to(memory_format=torch.channels_last)
        torch.testing.assert_close(
            fast(x.contiguous(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-4
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert (fast(x) - expected).abs().max() < 0.05 * expected.abs().max() + 0.05


def test_state_dict_round_trip():
    one, other = (
        make("resnet8x4"),
        models.build(Described("resnet8x4"), shape=(1, 16, 16), classes=10, mean=[0.9], std=[0.1]),
    )
    other.load_state_dict(one.state_dict())
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(one.eval()(x), other.eval()(x))


def bare(net, before=""):
    """The state dict of the network inside, as others would save it."""
    return {
        before + name.removeprefix("net."): value
        for name, value in net.state_dict().items()
        if name.startswith("net.")
    }


def another(net, before="", **changes):
    """The same with other numbers, so that it is seen which were taken."""
    return {
        name: value + 1 if value.is_floating_point() else value for name, value in bare(net, before).items()
    }


TINY = {"widths": [2, 3], "hidden": 4}


@pytest.fixture
def load(tmp_path):
    """(content, more) -> what is said of loading it into a tiny network, which the content must have filled
    with `wanted` where that is given.
    """

    def load(content, *, net=None, wanted=None, **more):
        torch.save(content, tmp_path / "w.pt")
        net = net or make("cnn", **TINY)
        reported = load_weights(net, tmp_path / "w.pt", **more)
        if wanted is not None:
            assert all(torch.equal(value, wanted[name]) for name, value in bare(net).items())
        return [text.replace(str(tmp_path / "w.pt"), "w.pt") for text, _ in reported]

    return load


@pytest.mark.parametrize(
    "prefix", ["model.", "backbone.", "net.", "student.", "module.", "module._orig_mod.", "a.b.c."]
)
def test_a_prefix_that_all_names_share_is_dropped_and_said(load, prefix):
    source = make("cnn", **TINY)
    shown = prefix.replace("_orig_mod.", "")
    assert load(bare(source, prefix), wanted=bare(source)) == [
        f"the names of the checkpoint 'w.pt' begin with '{shown}', which was dropped"
    ]
    reported = load(
        {"state_dict": bare(source, prefix) | {"criterion.weight": torch.ones(3)}, "epoch": 3},
        wanted=bare(source),
    )
    assert reported == [
        (
            f"the names of the checkpoint 'w.pt' begin with '{shown}', which was dropped; what does not "
            "begin with it was left out: criterion.weight"
        )
    ]


def test_kdxs_own_file_and_a_bare_one_need_no_word(load):
    source = make("cnn", **TINY)
    source.mean.fill_(0.25)
    net = make("cnn", **TINY)
    assert load(source.state_dict(), net=net, wanted=bare(source)) == [] and net.mean.item() == 0.25
    wrapped = {f"module._orig_mod.{name}": value for name, value in source.state_dict().items()}
    net = make("cnn", **TINY)
    assert load(wrapped, net=net, wanted=bare(source)) == [
        "the names of the checkpoint 'w.pt' begin with 'module.', which was dropped"
    ]
    assert net.mean.item() == 0.25
    net = make("cnn", **TINY)
    assert load(bare(source), net=net, wanted=bare(source)) == [] and net.mean.item() == pytest.approx(0.4), (
        "the data set's"
    )


@pytest.mark.parametrize(
    "place",
    [
        "state_dict",
        "model",
        "module",
        "teacher",
        "model_state_dict",
        "net",
        "params",
        "ema_state_dict",
        "model_ema",
        "mine",
    ],
)
def test_weights_are_found_where_others_put_them(load, place):
    source = make("cnn", **TINY)
    others = {
        "epoch": 3,
        "best": 0.5,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
    }
    assert load({place: bare(source), **others}, wanted=bare(source)) == []
    assert load({"a": {"b.c": {place: bare(source)}}}, wanted=bare(source), key=f"a.b.c.{place}") == []


def test_of_several_sets_of_weights_one_is_taken_and_the_others_are_reported(load):
    source = make("cnn", **TINY)
    one, other = bare(source), another(source)
    both = {"model": one, "model_ema": other}
    taken = (
        "the checkpoint 'w.pt' holds raw weights and averaged ones: 'model' was taken; "
        "teacher.key=model_ema takes the other"
    )
    assert load(both, wanted=one, role="teacher") == [taken]
    assert load(both, wanted=other, role="teacher", key="model_ema") == []
    flat = bare(source, "model.") | another(source, "model_ema.")
    assert load(flat, wanted=one, role="teacher")[0] == taken
    assert load(flat, wanted=other, key="model_ema") == []
    pair = {"student": one, "teacher": other}
    taken = (
        "the checkpoint 'w.pt' holds several sets of weights: 'teacher' was taken; "
        "teacher.key=student takes the other"
    )
    assert load(pair, wanted=other, role="teacher") == [taken]
    assert "student.key=teacher" in load(pair, wanted=one, role="student")[0]
    for content in ({"a": one, "b": other}, bare(source, "a.") | another(source, "b.")):
        with pytest.raises(UserError, match=r"several sets of .*choose with teacher\.key=a"):
            load(content, role="teacher")
        assert load(content, wanted=other, key="b") == []
    with pytest.raises(UserError, match=r"has no 'modle' \(teacher\.key\); did you mean 'model'"):
        load(both, role="teacher", key="modle")
    with pytest.raises(UserError, match=r"holds no state dict: under key=epoch lies an int"):
        load({"model": one, "epoch": 3}, key="epoch")


def test_a_last_layer_of_another_size_is_left_out_where_the_network_is_trained_on(load):
    net, source = make("cnn", **TINY), make("cnn", classes=7, **TINY)
    first = {name: value.clone() for name, value in bare(net).items()}
    (_, reported) = load(another(source, "model."), net=net, new_head=True)
    assert reported.startswith(
        "the last layer of the checkpoint 'w.pt' was left out (model.head.4.weight[7, 4], "
        "model.head.4.bias[7]): "
    )
    now, there = bare(net), another(source)
    assert all(
        torch.equal(now[name], first[name] if name.startswith("head.4.") else there[name]) for name in now
    )
    body = {name: value for name, value in another(source, "encoder.").items() if "head.4." not in name}
    assert "encoder.head.4.weight is missing" in load(body, new_head=True)[1]
    assert "was left out" in load(body | {"encoder.fc.weight": torch.ones(99, 4)}, new_head=True)[1]
    with pytest.raises(
        UserError,
        match=(
            r"model\.head\.4\.weight is \[7, 4\] there and \[10, 4\] here: it was trained for 7 classes "
            r".*teacher_pretrain\.epochs=5"
        ),
    ):
        load(another(source, "model."), role="teacher")
    with pytest.raises(
        UserError,
        match=(
            r"lacks the last layer \(encoder\.head\.4\.weight, encoder\.head\.4\.bias\): set "
            r"teacher_pretrain\.epochs=5"
        ),
    ):
        load(body, role="teacher")


def test_what_does_not_fit_is_reported_in_the_files_own_names_with_its_cause(load):
    with torch.device("meta"):
        small, large = make("resnet18", (3, 32, 32)), make("resnet18", (3, 128, 128))
        vit, vit_large = (make("vit_b_16", (3, size, size), patch=8) for size in (32, 64))
        mlp, mlp_large = (make("mlp", (1, size, size)) for size in (8, 16))
    for content, net, says in (
        (
            bare(large, "model."),
            small,
            (
                r"model\.conv1\.weight is \[64, 3, 7, 7\] there and \[64, 3, 3, 3\] here: .* for larger "
                r"pictures.*DEFAULT"
            ),
        ),
        (
            bare(small),
            large,
            (
                r"conv1\.weight .*its first layer is for smaller pictures, as kdx fits that layer to the "
                r"picture: set dataset\.image_size"
            ),
        ),
        (
            bare(vit_large),
            vit,
            (
                r"encoder\.pos_embedding is \[1, 65, 768\] there and \[1, 17, 768\] here: its positions are "
                r"of pictures of another size"
            ),
        ),
        (bare(mlp_large), mlp, "it learned on pictures of another size"),
        (
            bare(make("cnn", (3, 16, 16), **TINY)),
            make("cnn", **TINY),
            "it takes pictures of 3 channels and the data set's have 1",
        ),
        (bare(make("cnn", widths=[2, 5], hidden=4)), make("cnn", **TINY), "other widths, or another model"),
        (
            bare(make("cnn", **TINY), "m.") | {"m.more.weight": torch.ones(2)},
            make("cnn", **TINY),
            r"has \['m\.more\.weight'\] besides",
        ),
    ):
        with pytest.raises(UserError, match=says):
            load(content, net=net, role="teacher", new_head=True)


def test_numbers_that_are_no_weights_are_reported_and_other_precisions_are_cast(load):
    source = make("cnn", **TINY)
    right = bare(source)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        cast = {name: value.to(kind) for name, value in right.items()}
        assert load(cast, wanted={name: value.to(right[name].dtype) for name, value in cast.items()}) == []
    assert (
        load({name: value for name, value in right.items() if "num_batches" not in name}, wanted=right) == []
    )
    name = "stage1.0.weight"
    for value in (float("nan"), float("-inf")):
        with pytest.raises(
            UserError,
            match=(
                r"not finite \(NaN or infinite\) in 1 of \d+ tensors, the first of them "
                r"m\.stage1\.0\.weight: its training went wrong"
            ),
        ):
            load({f"m.{k}": v for k, v in (right | {name: right[name] * value}).items()})
    for odd, says in (
        (right[name].to(torch.int8), "int8"),
        (right[name].to("meta"), "without numbers"),
        (right[name].to_sparse(), "sparse"),
    ):
        with pytest.raises(UserError, match=f"is quantised, packed or empty: stage1.0.weight is {says}"):
            load(right | {name: odd})
    variances = {name: -value for name, value in right.items() if name.endswith("running_var")}
    with pytest.raises(
        UserError,
        match=(
            r"is damaged: stage1\.1\.running_var holds variances below zero, and so do "
            r"1 more; give another copy"
        ),
    ):
        load(right | variances)
    with pytest.raises(UserError, match="is quantised"):
        load(right | {"head.4._packed_params": 3})


def test_any_other_mapping_that_holds_the_networks_weights_is_reported(load):
    source = make("cnn", **TINY)
    one, other = bare(source), another(source)
    assert all(
        AVERAGED.search(name)
        for name in (
            "ema_net",
            "model_avg",
            "mean_teacher",
            "momentum_encoder",
            "best_ema",
            "model_ema_state",
            "swa",
            "averaged",
        )
    )
    assert not any(AVERAGED.search(name) for name in ("schema", "model", "emanation", "net"))
    for name in ("ema_weights", "polyak", "modelEMA"):
        taken = (
            "the checkpoint 'w.pt' holds raw weights and averaged ones: 'model' was taken; "
            f"teacher.key={name} takes the other"
        )
        assert load(
            {"model": one, name: other, "rng": {"cpu": torch.ones(3)}}, wanted=one, role="teacher"
        ) == [taken]
    (reported,) = load({"model": one, "best_model": other}, wanted=one, role="teacher")
    assert reported.endswith(
        "holds several sets of weights: 'model' was taken; teacher.key=best_model takes the other"
    )
    for content in (one | {"ema": other}, one | bare(source, "ema.")):
        (reported,) = load(content, wanted=one, role="teacher")
        assert reported.endswith(
            "holds raw weights and averaged ones: what lies at the top was taken; "
            "teacher.key=ema takes the other"
        )
    assert load(one | {"ema": other}, wanted=other, key="ema") == []
    assert load(one | {"rng": {"cpu": torch.ones(3)}}, wanted=one) == []
    (reported,) = load(one | another(source, "student."), wanted=one, role="teacher")
    assert reported.endswith(
        "several sets of weights: what lies at the top was taken; teacher.key=student takes the other"
    )
    assert (
        "holds other weights at the top: 'student' was taken"
        in load(one | another(source, "student."), wanted=other, role="student")[0]
    )


def test_the_key_that_is_advised_works(load):
    source = make("cnn", **TINY)
    one, other = bare(source), another(source)
    for first, second in (("model", "model_ema"), ("teacher", "student"), ("a", "b")):
        content = {"state_dict": bare(source, f"{first}.") | another(source, f"{second}.")}
        if first == "a":
            with pytest.raises(UserError, match=r"choose with teacher\.key=state_dict\.a$"):
                load(content, role="teacher")
        else:
            assert load(content, wanted=one, role="teacher")[0].endswith(
                f"'state_dict.{first}' was taken; teacher.key=state_dict.{second} takes the other"
            )
        assert load(content, wanted=one, role="teacher", key=f"state_dict.{first}") == []
        assert load(content, wanted=other, role="teacher", key=f"state_dict.{second}") == []
        with pytest.raises(
            UserError, match=rf"has no '{second}' \(teacher\.key\); did you mean 'state_dict\.{second}'\?"
        ):
            load(content, role="teacher", key=second)


def test_a_deeper_network_is_another_model_though_its_last_layer_may_differ(load):
    with torch.device("meta"):
        net, deep = make("resnet8x4"), bare(make("resnet8x4", classes=7, depth=14))
    with pytest.raises(UserError, match=r"is of another model: it lacks nothing and has \['stage1\.1\."):
        load(deep, net=net, role="teacher", new_head=True)
    source = make("cnn", classes=7, **TINY)
    for more in (
        {"stage3.0.weight": torch.ones(3, 3, 3, 3)},
        {"head.7.weight": torch.ones(7, 7)},
        {"neck.running_mean": torch.ones(3)},
    ):
        with pytest.raises(UserError, match="is of another model: it lacks nothing and has"):
            load(bare(source) | more, new_head=True)
    body = {name: value for name, value in bare(source).items() if "head.4." not in name}
    for head in (
        {"head.4.1.weight": torch.ones(7, 4)},
        {"fc.0.weight": torch.ones(9, 4), "fc.2.weight": torch.ones(7, 9), "fc.2.bias": torch.ones(7)},
    ):
        assert "was left out" in load(body | head, new_head=True)[0]


def test_single_numbers_beside_the_weights_are_left_out_and_reported(load):
    source = make("cnn", **TINY)
    for more in (
        {"epoch": torch.tensor(4)},
        {"n_averaged": torch.tensor(5)},
        {"stage1.0.total_ops": torch.zeros(1)},
        {"best_acc": torch.tensor(0.9)},
    ):
        assert load(bare(source) | more, wanted=bare(source)) == [
            f"of the checkpoint 'w.pt' was left out what is no weight: {next(iter(more))}"
        ]
    with pytest.raises(
        UserError, match="is of another model: it lacks nothing and has .'stage1.0.scale'. besides"
    ):
        load(bare(source) | {"stage1.0.scale": torch.ones(())})


def test_numbers_are_checked_as_they_are_cast_and_so_is_the_normalisation(load):
    source = make("cnn", **TINY)
    right, whole = bare(source), source.state_dict()
    eighth = {name: value.to(torch.float8_e4m3fn) for name, value in right.items()}
    assert load(eighth, wanted={name: value.float() for name, value in eighth.items()}) == []
    with pytest.raises(
        UserError, match=r"too large for float32 in 1 of 16 tensors, the first of them stage1\.0\.weight"
    ):
        load(right | {"stage1.0.weight": right["stage1.0.weight"].double() * 0 + 1e300})
    for name, value, says in (
        ("mean", float("nan"), r"not finite .* in 1 of 2 tensors, the first of them mean"),
        ("std", 0.0, "must be above 0 throughout"),
        ("std", -1.0, r"must be above 0 throughout; it is \[-1\.0\]"),
        ("std", float("inf"), "not finite"),
    ):
        with pytest.raises(UserError, match=says):
            load(whole | {name: torch.full_like(whole[name], value)})


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("name", ["columns.std", "units.scale"])
@pytest.mark.parametrize("value", [0.0, -2.0])
def test_whatever_is_divided_by_is_above_0(tmp_path, name, value, fitted):
    """Of tables the columns, of numbers their units; of networks and of fitted teachers alike."""
    columns = [{"mean": 0.0, "std": 2.0}, {"mean": 1.0, "std": 3.0}]
    adapter, task = (
        TableAdapter(columns=columns, clip=10.0),
        Regression(names=["y"], centre=[1.0], scale=[2.0]),
    )
    inner = Sklearn(shape=(2,), outputs=1, estimator="Ridge", params={}) if fitted else torch.nn.Linear(2, 1)
    if fitted and name == "units.scale":
        return  # it answers in the task's units by itself
    network = in_units(adapter.wrap(inner, (2,)), task.units())
    rows = torch.tensor([[0.0, 1.0], [2.0, 4.0], [1.0, 3.0]])
    if fitted:
        fit_to(network, rows, rows[:, :1], task)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    answers = network(rows)
    again = in_units(adapter.wrap(copy.deepcopy(inner), (2,)), task.units())
    assert load_weights(again, tmp_path / "w.pt") == [] and torch.equal(again(rows), answers)
    torch.save(
        network.state_dict() | {name: torch.full_like(network.state_dict()[name], value)}, tmp_path / "w.pt"
    )
    with pytest.raises(
        UserError, match=f"damaged: its {name}, by which .* must be above 0 throughout; it is"
    ):
        load_weights(again, tmp_path / "w.pt")


def test_a_network_that_halves_less_for_small_pictures_tells_so_of_others_weights(load):
    net = make("cnn", **TINY)
    net.net.halves_less = True
    (reported,) = load(bare(net), net=net, role="teacher")
    assert (
        "kdx leaves out early strides or pooling of this network, which no shape shows" in reported
        and "teacher.weights=DEFAULT" in reported
    )
    assert load(net.state_dict(), net=net) == [], "kdx's own brings its normalisation"
    with torch.device("meta"):
        halves = [getattr(make("resnet18", (3, size, size)).net, "halves_less", False) for size in (32, 64)]
        assert halves == [False, True], "a 3x3 stem shows"
        assert not make("mobilenet", (3, 128, 128)).net.halves_less


def test_what_is_reported_of_names_is_no_warning(tmp_path):
    source = make("cnn", **TINY)
    torch.save({"n_averaged": torch.tensor(5)} | bare(source, "module."), tmp_path / "w.pt")
    ((reported, level),) = load_weights(make("cnn", **TINY), tmp_path / "w.pt")
    assert level == "info" and reported.endswith(
        "begin with 'module.', which was dropped; what does not begin with it was left out: n_averaged"
    )
    torch.save({"model": bare(source), "ema": bare(source)}, tmp_path / "w.pt")
    assert [level for _, level in load_weights(make("cnn", **TINY), tmp_path / "w.pt")] == ["warning"]


def test_a_files_content_says_what_it_is_and_not_its_name(tmp_path):
    source, net = make("cnn", **TINY), make("cnn", **TINY)
    torch.save(another(source), tmp_path / "w.safetensors")
    save_file({name: value.contiguous() for name, value in another(source).items()}, tmp_path / "w.pt")
    for file in tmp_path.iterdir():
        net.load_state_dict(source.state_dict())
        assert load_weights(net, file) == [] and torch.equal(
            net.net.stage1[0].weight, source.net.stage1[0].weight + 1
        )


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch.hub's folder, empty, with a network that answers nothing."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(url, *args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_pretrained_weights_come_from_torch_hubs_folder(hub):
    from torchvision.models import ResNet18_Weights, resnet18

    torch.manual_seed(3)
    original = resnet18().eval()
    torch.save(original.state_dict(), hub / ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[1])
    net = make("resnet18", (3, 32, 32), 1000, weights="DEFAULT").eval()
    x = torch.rand(1, 3, 32, 32)
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    )
    with torch.no_grad():
        expected = original((nn.functional.interpolate(x, size=(224, 224), mode="bilinear") - mean) / std)
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
        grey = make("resnet18", (1, 8, 8), 10, weights="ResNet18_Weights.IMAGENET1K_V1").eval()
        assert grey(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert torch.equal(grey.net.layer4[1].conv2.weight, original.layer4[1].conv2.weight)
    with pytest.raises(UserError, match="only grey can be repeated"):
        make("resnet18", (4, 8, 8), 10, weights="DEFAULT")


def test_missing_weights_are_named(hub):
    with pytest.raises(UserError) as reported:
        make("mobilenet", weights="IMAGENET1K_V2")
    assert (
        "mobilenet_v2-7ebf99e0.pth" in str(reported.value)
        and str(hub) in str(reported.value)
        and "\n" not in str(reported.value)
    )


def test_without_reading_no_file_is_wanted(hub):
    net = models.build(
        Described("mobilenet", weights="DEFAULT"),
        shape=(1, 16, 16),
        classes=10,
        mean=[0.5],
        std=[0.5],
        read_weights=False,
    )
    assert net.size == (224, 224) and net.net.classifier[1].out_features == 10
    torch.testing.assert_close(net.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


@pytest.mark.parametrize(
    "content, wrong",
    [
        (b"PK not really", "damaged"),
        ({"conv1.weight": torch.zeros(1)}, "do not fit"),
        (
            {"conv1.weight": torch.tensor([1.0, float("nan")])},
            r"holds numbers that are not finite \(NaN or infinite\) in 1 of 1 tensors, the first of them "
            "conv1.weight",
        ),
    ],
)
def test_damaged_weights_are_named(hub, content, wrong):
    path = hub / "resnet18-f37072fd.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=wrong) as reported:
        make("resnet18", weights="DEFAULT")
    assert str(path) in str(reported.value)


def test_timm_is_reported_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        make("timm")


def test_timm_by_name():
    pytest.importorskip("timm")
    works("timm", (1, 16, 16), 10)
    with pytest.raises(UserError, match="did you mean 'resnet18d'"):
        make("timm", name="resnet18dd")
    with pytest.raises(UserError, match="weights"):
        make("timm", weights="no_such_tag")


def test_weights_of_timm_that_are_no_numbers_are_named(monkeypatch):
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet18", num_classes=10)
    with torch.no_grad():
        net.layer1[0].conv1.weight[0, 0, 0, 0] = float("inf")
    monkeypatch.setattr("kdx.models.timm._create", lambda *given: net)
    said = r"timm 'resnet18' holds numbers that are not finite .* the first of them layer1\.0\.conv1\.weight"
    with pytest.raises(UserError, match=said):
        make("timm", name="resnet18", weights="DEFAULT")


def test_size_of_a_layer():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert size.parameters(net) == 8 + 4
    assert size.bytes(net) == 4 * (8 + 4 + 4) + 8


def test_latency_measures_and_leaves_the_mode():
    class Slow(nn.Linear):
        def forward(self, x):
            assert not self.training and torch.is_inference_mode_enabled()
            for _ in range(200):
                x = x + 1
            return super().forward(x.flatten(1))

    nets = {"fast": nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "slow": Slow(4, 2)}
    nets["fast"][1].eval()
    found = size.latency(nets, torch.zeros(1, 1, 2, 2), "cpu")
    assert set(found) == {"fast", "slow"} and 0 < found["fast"] < found["slow"]
    assert nets["slow"].training and nets["fast"].training and not nets["fast"][1].training


@pytest.mark.parametrize("role, stage", [("teacher", "teacher_pretrain"), ("student", "student_train")])
def test_each_model_composes_in_each_role(role, stage):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    networks = sorted(p for p in (CONF / role).glob("*.yaml") if p.stem != "answers")  # a file: no network
    assert {p.stem for p in networks} == {p.stem for p in (CONF / "model").glob("*.yaml")}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for path in networks:
            spec = yaml.safe_load((CONF / "model" / path.name).read_text())
            # of what is fitted at once, or finished
            fixed = [
                pair
                for pair in (("estimator", "Ridge"), ("file", "a.onnx"), ("c", 2.0), ("networks", ["cnn"]))
                if pair[0] in spec
            ]
            key, value = fixed[0] if fixed else ("dropout", 0.25) if "dropout" in spec else ("path", "a")
            made = OmegaConf.to_container(
                compose(overrides=[f"+{role}={path.stem}", f"{role}.{key}={value}"])
            )
            assert made.pop(role) == spec | {key: value}
            assert set(made.pop(stage, {})) <= STAGE_KEYS
            assert set(made.pop("pseudo_label", {})) <= ({"views"} if role == "teacher" else set())
            assert not made


def test_each_file_says_what_it_is():
    for group in ("model", "teacher", "student"):
        for path in (CONF / group).glob("*.yaml"):
            lines = [line for line in path.read_text().splitlines() if not line.startswith("# @")]
            assert lines[0].startswith("# ") and len(lines[0]) > 20, path
