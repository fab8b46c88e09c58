"""kdx's own vision transformer: patches, tokens, its map for terms on hidden layers, and what init= makes of
a larger one.
"""

from __future__ import annotations

import pytest
import torch
from test_features import between, fitnet, row, vid
from test_initialisers import begin, initialiser, same
from test_models import make
from torch import nn

from kdx.config.compose import check_words
from kdx.core.errors import UserError
from kdx.core.types import Batch, Shown
from kdx.models.pairs import deepest_layers, survey
from kdx.models.parts import transformer_parts
from kdx.models.small import even_patch
from kdx.models.tap import penultimate
from kdx.store.component import Component

SMALL = {"width": 8, "heads": 2, "hidden": 12, "depth": 2}
LARGE = {"width": 16, "heads": 4, "hidden": 24, "depth": 3}


def vit(shape=(1, 16, 16), seed=0, **more):
    """With weights that are all different."""
    made = make("vit_tiny", shape, **{**SMALL, **more})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made.eval()


@pytest.mark.parametrize(
    ("height", "width", "patch"),
    [
        *((8, 8, 2), (9, 9, 3), (16, 16, 4), (28, 28, 4), (32, 32, 4), (96, 96, 12), (224, 224, 28)),
        *((40, 24, 4), (24, 40, 4), (22, 22, None), (29, 29, None), (7, 11, None)),
    ],
)
def test_the_patch_is_found_by_the_size(height, width, patch):
    assert even_patch(height, width) == patch


@pytest.mark.parametrize(
    ("shape", "more", "says"),
    [
        ((1, 28, 28), {"patch": 3}, r"must divide the picture's 28x28 pixels, as 1, 2, 4, 7, 14 and 28 do"),
        ((1, 28, 28), {"patch": 0}, "given: 0; null picks one"),
        ((1, 28, 28), {"patch": 2.0}, "given: 2.0"),
        ((1, 7, 11), {"patch": 7}, "as 1 does; given: 7"),
        ((1, 29, 29), {}, "of 29x29 pixels none leaves about 4 a side .* set patch=1, resize"),
        ((1, 22, 22), {}, "set patch=2, resize"),
        ((1, 28, 28), {"heads": 3}, "width=8 is shared out among heads=3"),
        ((1, 28, 28), {"depth": 0}, "depth must be a whole number"),
        ((1, 28, 28), {"distillation_token": 1}, "distillation_token must be true or false"),
        ((1, 28, 28), {"dropout": 1.0}, "dropout"),
    ],
)
def test_wrong_keys_are_refused(shape, more, says):
    with pytest.raises(UserError, match=says):
        make("vit_tiny", shape, **{**SMALL, **more})


def test_parameters_by_hand():
    """Of 1x16x16: 16 patches of 16 numbers, 16 d + d; 17 positions and the class token, 18 d; a block 4 d^2 +
    4 d, 2 d h + h + d, two norms 4 d; the last norm 2 d; the head 10 d + 10."""
    d, h, depth = 64, 128, 4
    block = 4 * d * d + 4 * d + 2 * d * h + h + d + 4 * d
    count = sum(p.numel() for p in make("vit_tiny").parameters())
    assert count == 17 * d + 18 * d + depth * block + 2 * d + 10 * d + 10 == 136_906
    more = sum(p.numel() for p in make("vit_tiny", distillation_token=True).parameters())
    assert more - count == d + 10 * d + 10  # the token and its last layer


@pytest.mark.parametrize("token", [False, True])
def test_the_network_is_what_the_paper_writes(token):
    """Its answer, put together by hand from its own parameters and torch's layers."""
    model, x = vit((3, 8, 12), patch=4, depth=1, distillation_token=token), torch.rand(2, 3, 8, 12)
    net, block = model.net, model.net.blocks[0]
    pixels = model.prepare(x)
    patches = torch.stack(
        [
            (pixels[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].flatten(1) @ net.patches.weight.flatten(1).T)
            + net.patches.bias
            for i in range(2)
            for j in range(3)
        ],
        1,
    )
    z = torch.cat([net.class_token.expand(2, -1, -1), patches], 1) + net.positions
    if token:
        z = torch.cat([net.distillation_token.expand(2, -1, -1), z], 1)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    attention.load_state_dict(
        {
            "in_proj_weight": block.attention.qkv.weight,
            "in_proj_bias": block.attention.qkv.bias,
            "out_proj.weight": block.attention.out.weight,
            "out_proj.bias": block.attention.out.bias,
        }
    )
    seen_by = block.norm1(z)
    z = z + attention(seen_by, seen_by, seen_by)[0]
    z = z + block.mlp.down(nn.GELU("tanh")(block.mlp.up(block.norm2(z))))
    z = net.norm(z)
    answer = net.head(z[:, int(token)])
    if token:
        probs = (answer.softmax(1) + net.distillation_head(z[:, 0]).softmax(1)) / 2
        torch.testing.assert_close(model(x).exp(), probs)
    else:
        torch.testing.assert_close(model(x), answer)


# Hidden layers


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize(("shape", "grid"), [((1, 16, 16), (4, 4)), ((3, 40, 24), (10, 6))])
def test_the_map_is_the_layer_that_is_read_by_default(shape, grid, token):
    net = vit(shape, distillation_token=token)
    (layer,) = deepest_layers(survey(net, row(shape)))
    assert (layer.name, layer.channels, layer.size) == ("map", 8, grid)
    with penultimate(net) as tap:
        answer = net(torch.rand(2, *shape))
        read = tap.take()
    assert read.shape == (2, 8)
    if not token:
        torch.testing.assert_close(answer, net.net.head(read))


def test_the_map_has_each_patch_in_its_place():
    """A picture with one white patch: with the blocks idle its token alone is another."""
    net = vit((1, 8, 12), patch=4, distillation_token=True)
    with torch.no_grad():
        net.net.positions.zero_()
        for block in net.net.blocks:
            for last in (block.attention.out, block.mlp.down):
                last.weight.zero_(), last.bias.zero_()
    x = torch.zeros(1, 1, 8, 12)
    x[:, :, 4:8, 8:12] = 1
    found = []
    handle = net.net.map.register_forward_hook(lambda module, given, made: found.append(made))
    net(x)
    handle.remove()
    apart = (found[0] - found[0][:, :, :1, :1]).abs().sum(1)[0]
    assert apart[1, 2] > 0.1 and torch.equal(apart.flatten()[:5], torch.zeros(5))


@pytest.mark.parametrize(
    ("student", "teacher"), [("vit", "cnn"), ("cnn", "vit"), ("vit", "vit"), ("vit", "mlp")]
)
@pytest.mark.parametrize("token", [False, True])
def test_a_vit_learns_from_a_cnn_and_the_other_way(student, teacher, token):
    made = {
        "vit": lambda: vit(distillation_token=token),
        "cnn": lambda: make("cnn_tiny"),
        "mlp": lambda: make("mlp"),
    }
    one, two = made[student]().train(), made[teacher]()
    x, y = torch.rand(4, 1, 16, 16), torch.arange(4)
    rows = Batch("labelled", torch.arange(4), torch.ones(4), {"main": x}, y)
    parts = between(one, two)
    ofa = Component(check_words(["loss=kd", "loss.features=[ofa]"])["loss"]["features"]["ofa"]).build(parts)
    for term in (vid(parts), fitnet(parts), ofa):
        one.zero_grad(set_to_none=True)
        answers = one(x)
        ((_, value),) = term(Shown(x, [rows], answers, 0.0)).items()
        value.backward()
        assert value.isfinite() and value.item() != 0
        assert any(p.grad is not None and p.grad.any() for p in one.parameters())
    assert all(p.grad is None for p in two.parameters())


# What a smaller one begins with


def test_select_keeps_the_heads():
    """Of 4 heads of 4 numbers two of 4: heads 0 and 2; of 16 numbers of the stream every second."""
    teacher, student = vit(**LARGE), vit(seed=1)
    made = begin(initialiser("select"), student, teacher)
    own, other = made.net.blocks[1].attention, teacher.net.blocks[1].attention
    rows = torch.tensor([part * 16 + head * 4 + i for part in range(3) for head in (0, 2) for i in range(4)])
    assert torch.equal(own.qkv.weight, other.qkv.weight[rows][:, ::2])
    assert torch.equal(own.qkv.bias, other.qkv.bias[rows])
    for name in ("positions", "class_token"):
        assert torch.equal(getattr(made.net, name), getattr(teacher.net, name)[..., ::2])
    assert torch.equal(made.net.patches.weight, teacher.net.patches.weight[::2])
    assert torch.equal(made.net.blocks[1].mlp.up.weight, teacher.net.blocks[1].mlp.up.weight[::2][:, ::2])
    assert torch.equal(made.net.head.weight, teacher.net.head.weight[:, ::2])
    assert same(begin(initialiser("select"), vit(seed=1, **LARGE), teacher), teacher)  # equal: a copy


def test_layers_keeps_every_nth_block():
    teacher = vit(**{**LARGE, "depth": 4})
    made = begin(initialiser("layers"), vit(seed=1, **{**LARGE, "depth": 2}), teacher)
    assert same(made.net.blocks[0], teacher.net.blocks[0]) and same(made.net.blocks[1], teacher.net.blocks[2])
    assert same(made.net.head, teacher.net.head) and torch.equal(made.net.positions, teacher.net.positions)


def test_a_distillation_token_comes_from_a_teacher_that_has_one():
    with_token, without = vit(**LARGE, distillation_token=True), vit(**LARGE)
    student = vit(seed=1, distillation_token=True)
    made = begin(initialiser("select"), student, with_token)
    assert torch.equal(made.net.distillation_token, with_token.net.distillation_token[..., ::2])
    assert torch.equal(made.net.distillation_head.weight, with_token.net.distillation_head.weight[:, ::2])
    fresh = begin(initialiser("select"), student, without)
    assert torch.equal(fresh.net.distillation_token, student.net.distillation_token)
    assert torch.equal(fresh.net.positions, without.net.positions[..., ::2])
    plain = begin(initialiser("select"), vit(seed=1), with_token)
    assert torch.equal(plain.net.positions, with_token.net.positions[..., ::2])
    parts = transformer_parts(with_token)
    described = [part.tensor for group in (parts.whole, *parts.blocks) for part in group.values()]
    assert sum(t.numel() for t in described) == sum(p.numel() for p in with_token.parameters())


def test_other_patches_are_refused():
    with pytest.raises(UserError, match="the same patch and size of pictures"):
        initialiser("select").check(vit(patch=2), vit(**LARGE))
    with pytest.raises(UserError, match="more of width"):
        initialiser("select").check(vit(**LARGE), vit())
    with pytest.raises(UserError, match="init=guide reads the table and the blocks of decoders"):
        initialiser("guide").check(vit(), vit(**LARGE))


@pytest.mark.slow
def test_both_tokens_answer_alike_in_training_and_in_use_and_an_export_follows_the_batch():
    net, x = vit(distillation_token=True), torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(net.train()(x), net.eval()(x))
    rows = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(net, (x,), dynamic_shapes=({0: rows},)).module()
    torch.testing.assert_close(exported(torch.cat([x, x])), net(torch.cat([x, x])))
