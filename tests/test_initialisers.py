"""Initialisers: what of the teacher a student begins with, by hand numbers, at their limits, and what they
refuse.
"""

from __future__ import annotations

import copy
import importlib
from pathlib import Path

import pytest
import torch
import yaml
from encoders import tiny_encoder
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.errors import UserError
from kdx.methods.init._basis import table_basis
from kdx.methods.init._selection import head_indices, in_head_indices, uniform_indices
from kdx.models.cnn import cnn
from kdx.models.decoder import gpt, llama
from kdx.models.encoder import encoder_in, encoder_small
from kdx.models.parts import transformer_parts
from kdx.models.pretrained_encoder import FrozenEncoder
from kdx.models.tokens import TokenAdapter

CONF = Path(__file__).parent.parent / "conf"
OF_DECODERS = (
    "guide",
    "guide_all",
    "table",
    "block",
    "select",
    "select_parts",
    "layers",
    "matched_scale",
    "shuffled",
)
FAMILIES = pytest.mark.parametrize("family", ["gpt", "llama"])


def initialiser(name, **changes) -> Initialiser:
    spec = yaml.safe_load((CONF / "init" / f"{name}.yaml").read_text()) | changes
    module, _, kind = spec.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), kind)(**spec)


def decoder(family, seed=0, *, width=24, depth=2, heads=4, vocabulary=40, length=16, spread=0.0, **more):
    torch.manual_seed(seed)
    given = {
        "shape": (length,),
        "outputs": vocabulary,
        "vocabulary": vocabulary,
        "width": width,
        "depth": depth,
        "heads": heads,
        "hidden": None,
        "positions": None,
        "tied": False,
        "dropout": 0.0,
        "stochastic_depth": 0.0,
        "checkpointing": False,
    } | more
    made = gpt(**{"bias": True} | given) if family == "gpt" else llama(**{"kv_heads": 2} | given)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return made.eval()


def begin(init, student, teacher, seed=0):
    """The student, a copy, as the initialiser makes it."""
    made = copy.deepcopy(student)
    init.check(made, teacher)
    said = init(made, Beginning(teacher, {}, torch.Generator().manual_seed(seed)))
    assert said and all(isinstance(sentence, str) for sentence in said)
    return made


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# Uniform selection


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        (12, 4, [0, 3, 6, 9]),
        (10, 4, [0, 3, 6, 9]),
        (8, 3, [0, 4, 7]),
        (7, 4, [0, 2, 4, 6]),
        (6, 1, [0]),
        (5, 5, [0, 1, 2, 3, 4]),
        (12, 8, [0, 2, 3, 5, 6, 8, 9, 11]),
    ],
)
def test_uniform_selection(size, wanted, expected):
    assert uniform_indices(size, wanted).tolist() == expected


def test_more_than_there_is_cannot_be_selected():
    with pytest.raises(ValueError, match="5 of 4 places"):
        uniform_indices(4, 5)


def test_rotary_pairs_stay_together():
    """Of 24 numbers i and i + 12 are a pair: every third of the first half, and its other half."""
    assert in_head_indices(24, 8, rotary=True).tolist() == [0, 3, 6, 9, 12, 15, 18, 21]
    assert in_head_indices(10, 6, rotary=True).tolist() == [0, 2, 4, 5, 7, 9]
    assert in_head_indices(10, 6, rotary=False).tolist() == [0, 2, 4, 5, 7, 9]
    assert in_head_indices(10, 4, rotary=True).tolist() == [0, 4, 5, 9]
    assert in_head_indices(10, 4, rotary=False).tolist() == [0, 3, 6, 9]


@pytest.mark.parametrize(
    ("heads", "kv_heads", "queries", "keys"),
    [
        ((4, 4), (4, 4), [0, 1, 2, 3], [0, 1, 2, 3]),
        ((8, 4), (4, 2), [0, 1, 4, 5], [0, 2]),  # groups of two: those of keys 0 and 2
        ((8, 2), (4, 2), [0, 4], [0, 2]),  # one head of each
        ((16, 4), (4, 2), [0, 2, 8, 10], [0, 2]),  # groups of four, half of each
        ((8, 4), (8, 2), [0, 2, 4, 6], [0, 4]),  # larger groups than the teacher's: the first one's keys
        ((8, 4), (2, 4), [0, 2, 4, 6], [0, 0, 1, 1]),  # no groups: each head its own copy
    ],
)
def test_heads_keep_the_keys_that_they_had(heads, kv_heads, queries, keys):
    found = head_indices(heads, kv_heads)
    assert (found[0].tolist(), found[1].tolist()) == (queries, keys)
    group, kept = heads[0] // kv_heads[0], heads[1] // kv_heads[1]
    if kept <= group:
        for head, of in enumerate(queries):
            assert of // group == keys[head // kept]


# The directions of a table


def test_what_the_directions_leave_is_the_energy_of_the_others():
    """50 x 8 standard normal numbers, 3 directions: two ways to the same number (the squares of the singular
    values that were left out)."""
    table = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis, share = table_basis(table, 3, centre=False)
    torch.testing.assert_close(basis.T @ basis, torch.eye(3, dtype=torch.float64))
    left = (table - table @ basis @ basis.T).square().sum()
    tail = torch.linalg.svdvals(table)[3:].square().sum()
    torch.testing.assert_close(left, tail, rtol=1e-12, atol=0)
    assert share == pytest.approx(1 - (tail / table.square().sum()).item(), abs=1e-12)


def test_directions_by_hand():
    """Rows (3, 0), (-3, 0), (0, 2): uncentred the first axis holds 18 of 22; signs are positive."""
    table = torch.tensor([[-3.0, 0.0], [3.0, 0.0], [0.0, -2.0]])
    basis, share = table_basis(table, 1, centre=False)
    assert basis.flatten().tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert share == pytest.approx(18 / 22)
    mean, more = table_basis(table + torch.tensor([0.0, 100.0]), 1, centre=True)
    assert mean.flatten().tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert more == pytest.approx(18 / (18 + 4 * 2 / 3))
    raw, _ = table_basis(table + torch.tensor([0.0, 100.0]), 1, centre=False)
    assert raw.flatten().abs().tolist() == pytest.approx([0.0, 1.0], abs=0.01)


def test_at_equal_width_the_directions_are_the_axes():
    table = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    basis, share = table_basis(table, 4, centre=False)
    assert torch.equal(basis, torch.eye(4, dtype=torch.float64)) and share == 1.0


@FAMILIES
def test_a_table_of_few_directions_is_read_exactly(family):
    """rank(E) <= d: (E M)(M^T W) = E W for each head that was selected, in float64."""
    teacher = decoder(family, spread=0.2).double()
    mixed = torch.randn(8, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        teacher.embedding.weight.copy_(
            torch.randn(40, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64) @ mixed
        )
    student = begin(initialiser("guide"), decoder(family, 1, width=8).double(), teacher)
    own, other = transformer_parts(student), transformer_parts(teacher)
    inside = in_head_indices(6, 2, rotary=family == "llama")
    rows = (torch.arange(4)[:, None] * 6 + inside).flatten()
    keys = rows if family == "gpt" else (torch.arange(2)[:, None] * 6 + inside).flatten()
    for name, chosen in (("q", rows), ("k", keys), ("v", keys)):
        found = own.whole["table"].tensor @ own.blocks[0][f"{name}.weight"].tensor.T
        wanted = (other.whole["table"].tensor @ other.blocks[0][f"{name}.weight"].tensor.T)[:, chosen]
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


# What comes from the teacher


@FAMILIES
def test_at_equal_size_guide_and_select_are_copies(family):
    teacher, student = decoder(family, spread=0.2), decoder(family, 1)
    whole = initialiser("guide", blocks="all", head=True, norm="select")
    assert not same(student, teacher)
    assert same(begin(whole, student, teacher), teacher)
    assert same(begin(initialiser("select"), student, teacher), teacher)
    assert same(begin(initialiser("layers"), student, teacher), teacher)


@FAMILIES
def test_guide_takes_table_positions_and_first_block_only(family):
    teacher, student = decoder(family, spread=0.2), decoder(family, 1, width=8)
    made = begin(initialiser("guide"), student, teacher)
    basis, _ = table_basis(teacher.embedding.weight.detach(), 8, centre=False)
    names = {
        name.partition(".")[0] if "blocks" not in name else name[:8]
        for (name, before), after in zip(student.named_parameters(), made.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert names == {"embedding", "blocks.0"} | ({"positions"} if family == "gpt" else set())
    for own, other in ((made.embedding, teacher.embedding), (made.positions, teacher.positions)):
        if own is not None:
            torch.testing.assert_close(own.weight, (other.weight.double() @ basis).float())
    own, other = (transformer_parts(net).blocks[0] for net in (made, teacher))
    hidden = uniform_indices(len(other["up.weight"].tensor), len(own["up.weight"].tensor))
    torch.testing.assert_close(
        own["up.weight"].tensor, (other["up.weight"].tensor[hidden].double() @ basis).float()
    )
    torch.testing.assert_close(
        own["down.weight"].tensor, (basis.T @ other["down.weight"].tensor[:, hidden].double()).float()
    )
    assert (own["norm1.weight"].tensor == 1).all()


def test_the_switches_of_guide():
    teacher, student = decoder("gpt", spread=0.2), decoder("gpt", 1, width=8)
    plain = begin(initialiser("guide"), student, teacher)
    own = transformer_parts(plain)

    def parts(**changes):
        return transformer_parts(begin(initialiser("guide", **changes), student, teacher))

    scaled = parts(rescale=True)
    for name, factor in {"q.weight": 3**0.5, "up.weight": 3**0.5, "o.weight": 1.0, "q.bias": 1.0}.items():
        torch.testing.assert_close(
            scaled.blocks[0][name].tensor, factor * own.blocks[0][name].tensor, rtol=1e-6, atol=1e-7
        )
    written = parts(projection="select").blocks[0]
    other = transformer_parts(teacher).blocks[0]
    assert torch.equal(written["q.weight"].tensor, own.blocks[0]["q.weight"].tensor)
    assert torch.equal(written["down.bias"].tensor, other["down.bias"].tensor[::3])
    assert torch.equal(parts(norm="select").blocks[0]["norm2.bias"].tensor, other["norm2.bias"].tensor[::3])
    assert torch.equal(parts(positions=False).whole["positions"].tensor, student.positions.weight)
    centred = parts(centre=True).whole["table"].tensor
    torch.testing.assert_close(centred.mean(0), torch.zeros(8), rtol=0, atol=1e-6)
    assert own.whole["table"].tensor.mean(0).abs().max() > 1e-3
    basis, _ = table_basis(teacher.embedding.weight.detach(), 8, centre=False)
    head = parts(head=True)
    torch.testing.assert_close(
        head.whole["head.weight"].tensor, (teacher.head.weight.double() @ basis).float()
    )
    every = parts(blocks="all")
    assert torch.equal(every.blocks[0]["q.weight"].tensor, own.blocks[0]["q.weight"].tensor)
    assert not torch.equal(every.blocks[1]["q.weight"].tensor, own.blocks[1]["q.weight"].tensor)


def test_a_tied_last_layer_comes_with_the_table():
    teacher = decoder("llama", spread=0.2, tied=True)
    student = begin(initialiser("guide"), decoder("llama", 1, width=8, tied=True), teacher)
    basis, _ = table_basis(teacher.embedding.weight.detach(), 8, centre=False)
    torch.testing.assert_close(student.head_weight, (teacher.head_weight.double() @ basis).float())
    untied = begin(initialiser("guide", head=True), decoder("llama", 1, width=8), teacher)
    torch.testing.assert_close(untied.head_weight, student.head_weight)


def test_table_block_and_shuffled_are_the_parts_of_guide():
    teacher, student = decoder("gpt", spread=0.2), decoder("gpt", 1, width=8)
    guide, table, block, shuffled = (
        begin(initialiser(name), student, teacher) for name in ("guide", "table", "block", "shuffled")
    )
    assert torch.equal(table.embedding.weight, guide.embedding.weight)
    assert torch.equal(block.embedding.weight, student.embedding.weight)
    name = "blocks.0.attention.qkv.weight"
    for made, like in ((table, student), (block, guide), (shuffled, guide)):
        assert torch.equal(made.get_parameter(name), like.get_parameter(name))
    rows, mixed = guide.embedding.weight, shuffled.embedding.weight
    assert not torch.equal(rows, mixed)
    assert torch.equal(rows.sort(0).values, mixed.sort(0).values)
    assert torch.equal(shuffled.positions.weight, guide.positions.weight)


def test_matched_scale_has_the_size_of_the_teachers_table():
    teacher = decoder("gpt", vocabulary=2000, spread=0.3)
    made = begin(initialiser("matched_scale"), decoder("llama", 1, width=48, vocabulary=2000), teacher)
    size = teacher.embedding.weight.square().mean().sqrt().item()
    assert size > 0.2
    assert made.embedding.weight.square().mean().sqrt().item() == pytest.approx(size, rel=0.02)
    assert made.embedding.weight.mean().abs() < 0.01


def test_select_takes_evenly_spaced_numbers_of_everything():
    teacher = decoder("llama", spread=0.2, depth=3)
    made = begin(initialiser("select"), decoder("llama", 1, width=8, depth=2), teacher)
    own, other = transformer_parts(made), transformer_parts(teacher)
    assert torch.equal(own.whole["table"].tensor, other.whole["table"].tensor[:, ::3])
    assert torch.equal(own.whole["norm.weight"].tensor, other.whole["norm.weight"].tensor[::3])
    assert torch.equal(own.whole["head.weight"].tensor, other.whole["head.weight"].tensor[:, ::3])
    for mine, theirs in zip(own.blocks, other.blocks, strict=False):
        rows = [head * 6 + i for head in range(4) for i in (0, 3)]  # one pair of three
        assert torch.equal(mine["q.weight"].tensor, theirs["q.weight"].tensor[rows][:, ::3])
        assert torch.equal(mine["o.weight"].tensor, theirs["o.weight"].tensor[::3][:, rows])
        hidden = uniform_indices(64, 24)
        assert torch.equal(mine["gate.weight"].tensor, theirs["gate.weight"].tensor[hidden][:, ::3])
    same_parts = begin(initialiser("select", parts="guide"), decoder("llama", 1, width=8, depth=2), teacher)
    assert torch.equal(same_parts.embedding.weight, made.embedding.weight)
    assert not torch.equal(same_parts.head.weight, made.head.weight)
    assert not torch.equal(same_parts.blocks[1].mlp.up.weight, made.blocks[1].mlp.up.weight)


def test_layers_copies_every_other_block_and_all_else():
    teacher = decoder("gpt", spread=0.2, depth=4)
    for which, expected in (("uniform", (0, 2)), ("first", (0, 1)), ("last", (2, 3)), ([3, 1], (3, 1))):
        made = begin(initialiser("layers", which=which), decoder("gpt", 1, depth=2), teacher)
        for block, i in zip(made.blocks, expected, strict=True):
            assert same(block, teacher.blocks[i])
        for name in ("embedding", "positions", "norm", "head"):
            assert same(made.get_submodule(name), teacher.get_submodule(name))


@pytest.mark.parametrize("kind", ["small", "folder"])
def test_layers_between_encoders_of_texts(kind, tmp_path):
    """A student with half the layers of an encoder that kdx trains, or of one in a folder: BERT's names."""
    keys = {"shape": (6,), "outputs": 2, "vocabulary": 14}
    sizes = {"width": 8, "heads": 2, "inner": 12, "positions": 20, "pooling": "mean"}
    torch.manual_seed(0)
    if kind == "small":
        teacher = encoder_small(**keys, **sizes, layers=4, dropout=0.0, stochastic_depth=0.0)
    else:
        words = "red green blue dark light sea sky grass leaf sand"
        teacher = FrozenEncoder(**keys, path=str(tiny_encoder(tmp_path / "tiny", words)), c=1.0)
    student = encoder_small(
        **keys, **sizes, layers=2 if kind == "small" else 1, dropout=0.0, stochastic_depth=0.0
    )
    made = begin(initialiser("layers"), student, teacher)
    own, other = encoder_in(made), encoder_in(teacher)
    for block, i in zip(own.blocks, (0, 2), strict=False):
        assert same(block, other.blocks[i]) and not same(block, other.blocks[i + 1])
    for name in ("tokens", "norm"):
        assert same(own.get_submodule(name), other.get_submodule(name))
    assert torch.equal(own.ends, other.ends) and torch.equal(own.places, other.places)
    assert same(made.head, teacher.head if kind == "small" else student.head)
    said = initialiser("layers")(student, Beginning(teacher, {}, torch.Generator()))
    assert ("these began fresh" in said[-1] and "head.1.weight" in said[-1]) == (kind == "folder")
    for change, says in (
        ({"layers": 5}, "gives each of the student's 5 blocks one of the teacher's"),
        ({"width": 4}, "give the student the teacher's width and heads"),
    ):
        other = {"layers": 1, **sizes, **change}
        odd = encoder_small(**keys, **other, dropout=0.0, stochastic_depth=0.0)
        with pytest.raises(UserError, match=says):
            initialiser("layers").check(odd, teacher)


@pytest.mark.parametrize("name", OF_DECODERS)
@FAMILIES
def test_each_is_finite_repeats_itself_and_adds_nothing(family, name):
    teacher = decoder(family, spread=0.2)
    student = decoder(family, 1, width=24 if name == "layers" else 8, depth=1 if name == "layers" else 2)
    was = copy.deepcopy(teacher.state_dict())
    one, two = (begin(initialiser(name), student, teacher, seed=5) for _ in range(2))
    assert same(one, two) and not same(one, student)
    assert {k: v.shape for k, v in one.state_dict().items()} == {
        k: v.shape for k, v in student.state_dict().items()
    }
    assert all(parameter.isfinite().all() and parameter.requires_grad for parameter in one.parameters())
    assert all(torch.equal(value, was[key]) for key, value in teacher.state_dict().items())
    one.train()(torch.zeros(2, 16, dtype=torch.long)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in one.parameters())


# Pictures


def vit(seed, width, heads, hidden, patch=4, depth=2):
    torch.manual_seed(seed)
    made = VisionTransformer(
        image_size=8,
        patch_size=patch,
        num_layers=depth,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=hidden,
        num_classes=5,
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def test_select_keeps_the_heads_of_a_vision_transformer():
    teacher, student = vit(0, 12, 3, 20), vit(1, 6, 3, 10)
    made = begin(initialiser("select"), student, teacher)
    own, other = made.encoder.layers[1], teacher.encoder.layers[1]
    rows = torch.tensor([part * 12 + head * 4 + i for part in range(3) for head in range(3) for i in (0, 2)])
    weight = other.self_attention.in_proj_weight
    assert torch.equal(own.self_attention.in_proj_weight, weight[rows][:, ::2])
    assert torch.equal(own.mlp[3].weight, other.mlp[3].weight[::2][:, ::2])
    assert torch.equal(made.conv_proj.weight, teacher.conv_proj.weight[::2])
    assert torch.equal(made.class_token, teacher.class_token[..., ::2])
    assert torch.equal(made.heads.head.weight, teacher.heads.head.weight[:, ::2])
    assert same(begin(initialiser("select"), vit(1, 12, 3, 20), teacher), teacher)
    fewer = begin(initialiser("layers"), vit(1, 12, 3, 20, depth=1), teacher)
    assert same(fewer.encoder.layers[0], teacher.encoder.layers[0]) and same(fewer.heads, teacher.heads)
    with pytest.raises(UserError, match="the same patch and size of pictures"):
        initialiser("select").check(vit(1, 6, 3, 10, patch=2), teacher)
    with pytest.raises(UserError, match="init=guide reads the table and the blocks of decoders"):
        initialiser("guide").check(student, teacher)


def test_select_knows_a_vision_transformer_of_timm():
    timm = pytest.importorskip("timm")

    def made(width, depth):
        torch.manual_seed(width)
        return timm.models.VisionTransformer(
            img_size=8, patch_size=4, num_classes=5, embed_dim=width, depth=depth, num_heads=3
        )

    teacher, student = made(12, 3), made(6, 2)
    found = begin(initialiser("select"), student, teacher)
    rows = torch.tensor([part * 12 + head * 4 + i for part in range(3) for head in range(3) for i in (0, 2)])
    assert torch.equal(found.blocks[1].attn.qkv.weight, teacher.blocks[1].attn.qkv.weight[rows][:, ::2])
    assert torch.equal(found.pos_embed, teacher.pos_embed[..., ::2])


def convnext(seed, widths, depths):
    torch.manual_seed(seed)
    stages = [
        CNBlockConfig(width, after, depth)
        for width, after, depth in zip(widths, [*widths[1:], None], depths, strict=True)
    ]
    return ConvNeXt(stages, num_classes=5).eval()


def test_select_of_a_convnext_goes_by_name():
    teacher = convnext(0, (8, 16), (2, 3))
    made = begin(initialiser("select"), convnext(1, (4, 8), (1, 2)), teacher)
    assert torch.equal(made.features[1][0].block[0].weight, teacher.features[1][0].block[0].weight[::2])
    assert torch.equal(
        made.features[3][1].block[3].weight, teacher.features[3][1].block[3].weight[::2][:, ::2]
    )
    assert torch.equal(made.classifier[2].weight, teacher.classifier[2].weight[:, ::2])
    assert made(torch.rand(2, 3, 32, 32)).isfinite().all()
    with pytest.raises(UserError, match="features.1.2.layer_scale of the student is none of the teacher's"):
        initialiser("select").check(convnext(1, (4, 8), (3, 2)), teacher)
    with pytest.raises(UserError, match=r"has \(16, 3, 4, 4\) in the student and \(8, 3, 4, 4\)"):
        initialiser("select").check(convnext(1, (16, 32), (1, 1)), teacher)


# What is refused


def picture_net():
    size = {"shape": (1, 8, 8), "classes": 3, "widths": [4], "hidden": 4}
    return cnn(**size, batch_norm=False, dropout=0.0, stochastic_depth=0.0)


@pytest.mark.parametrize(
    ("name", "student", "says"),
    [
        ("guide", {"width": 48}, r"more of width 48 \(teacher: 24\).*init=fresh takes any"),
        ("guide", {"heads": 2}, r"numbers a head \(width / heads\) 12 \(teacher: 6\)"),
        ("select", {"width": 8, "hidden": 100}, r"more of hidden 100 \(teacher: 96\)"),
        ("select", {"depth": 3}, "which has 2: give student.depth=2 at most"),
        ("table", {"width": 48}, "more of width 48"),
        ("shuffled", {"heads": 8}, "more of heads 8"),
        (
            "guide",
            {"vocabulary": 41},
            "student's 41 tokens the teacher's embedding, and the teacher knows 40",
        ),
        ("guide", {"length": 32}, "32 positions the teacher's, which has 16: set init.positions=false"),
        ("layers", {"width": 16}, "give the student the teacher's width and heads, or take init=select"),
        ("layers", {"depth": 3}, "which has 2: give the student 2 at most"),
    ],
)
def test_a_student_with_more_than_its_teacher_is_refused(name, student, says):
    with pytest.raises(UserError, match=says):
        initialiser(name).check(decoder("gpt", **student), decoder("gpt"))


def test_of_different_positions_only_the_table_is_left_out():
    init = initialiser("guide", positions=False)
    init.check(decoder("gpt", length=32), decoder("gpt"))
    begin(initialiser("guide"), decoder("gpt", length=8), decoder("gpt"))


def test_two_families_share_a_table_and_no_block():
    teacher, student = decoder("gpt"), decoder("llama", 1, width=8)
    for name in ("guide", "block", "select", "shuffled"):
        with pytest.raises(UserError, match="a Llama style student and a GPT-2 style teacher"):
            initialiser(name).check(student, teacher)
    found = begin(initialiser("table"), student, teacher)
    assert torch.equal(
        found.embedding.weight, begin(initialiser("table"), decoder("gpt", width=8), teacher).embedding.weight
    )


def test_fewer_tokens_are_the_first_ones():
    teacher, student = decoder("gpt", spread=0.2), decoder("gpt", 1, width=24, vocabulary=30)
    found = begin(initialiser("guide"), student, teacher)
    torch.testing.assert_close(found.embedding.weight, teacher.embedding.weight[:30])


def test_another_vocabulary_is_refused():
    student, teacher = (
        TokenAdapter(vocabulary=40, tokenizer=tokenizer).wrap(decoder("gpt"), (16,))
        for tokenizer in ("bytes", "another")
    )
    for name in ("guide", "table", "select", "layers", "shuffled"):
        with pytest.raises(UserError, match="read texts by different ones"):
            initialiser(name).check(student, teacher)
    initialiser("block").check(student, teacher)


def test_what_is_no_decoder_is_refused():
    for name in ("guide", "table", "block", "matched_scale", "shuffled"):
        with pytest.raises(UserError, match=r"the student \(Sequential\) is none: choose student=gpt_tiny"):
            initialiser(name).check(nn.Sequential(nn.Linear(2, 2)), decoder("gpt"))
    with pytest.raises(UserError, match="the teacher .* is none: choose teacher=gpt_tiny"):
        initialiser("guide").check(decoder("gpt"), picture_net())
    with pytest.raises(UserError, match="has no row of equal ones"):
        initialiser("layers").check(nn.Sequential(nn.Linear(2, 2)), decoder("gpt"))
    with pytest.raises(UserError, match="set init.parts=all"):
        initialiser("select", parts="guide").check(picture_net(), picture_net())
    with pytest.raises(UserError, match="would mix the heads of attention"):
        initialiser("select").check(nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 2))


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("guide", {"blocks": "second"}, "init.blocks has no option .second"),
        ("guide", {"centre": "maybe"}, "init.centre must be"),
        ("select", {"parts": "some"}, "init.parts has no option .some"),
        ("layers", {"which": "every"}, "init.which has no option .every"),
    ],
)
def test_wrong_settings(name, changes, says):
    with pytest.raises(UserError, match=says):
        initialiser(name, **changes)


@pytest.mark.parametrize("which", [[0], [0, 4], [0, True]])
def test_layers_by_number_are_there(which):
    with pytest.raises(UserError, match="one of the teacher's 4 blocks, from 0 to 3, for each of"):
        initialiser("layers", which=which).check(decoder("gpt"), decoder("gpt", depth=4))
