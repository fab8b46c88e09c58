"""Language models of both families: they see the past alone, a cache and checkpointing change nothing, and
what does not go together is refused in a sentence.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from kdx import models
from kdx.core.errors import UserError
from kdx.models.decoder import gpt, llama
from kdx.models.decoder_layers import Cache, turned
from kdx.models.tap import penultimate
from kdx.models.tokens import TokenAdapter, byte_tokenizer, open_tokenizer
from kdx.store.component import Component

CONF = Path(__file__).parent.parent / "conf"
SHAPE = {"shape": (16,), "outputs": 50, "vocabulary": 50}
GIVEN = SHAPE | {
    "width": 16,
    "depth": 2,
    "heads": 4,
    "hidden": None,
    "positions": None,
    "tied": False,
    "dropout": 0.0,
    "stochastic_depth": 0.0,
    "checkpointing": False,
}
FAMILIES = {"gpt": (gpt, {"bias": True}), "llama": (llama, {"kv_heads": 2})}
families = pytest.mark.parametrize("family", list(FAMILIES))


def made(family, **changes):
    """With weights far from zero, so that everything counts."""
    torch.manual_seed(0)
    function, own = FAMILIES[family]
    network = function(**GIVEN | own | changes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def rows(count=3, length=16):
    return torch.randint(50, (count, length), generator=torch.Generator().manual_seed(1))


@families
def test_no_logit_hangs_on_a_later_token(family):
    network, tokens = made(family).eval(), rows()
    later = tokens.clone()
    later[:, 9] = (later[:, 9] + 1) % 50
    with torch.no_grad():
        first, second = network(tokens), network(later)
    assert first.shape == (3, 16, 50)
    assert torch.equal(first[:, :9], second[:, :9])
    assert (first[:, 9:] != second[:, 9:]).any(-1).all()


@families
@pytest.mark.parametrize("cuts", [(1,) * 16, (7, 1, 8), (16,)])
def test_a_cache_changes_no_logit(family, cuts):
    network, tokens = made(family).eval(), rows()
    cache = Cache(16)
    with torch.no_grad():
        found = [network(part, cache) for part in tokens.split(cuts, 1)]
        torch.testing.assert_close(torch.cat(found, 1), network(tokens), rtol=1e-4, atol=1e-5)
    assert cache.length == 16
    with pytest.raises(UserError, match="a row of 17 tokens is longer than the 16 positions"):
        network(tokens[:, :1], cache)


@families
def test_checkpointing_changes_no_gradient(family):
    gradients = []
    for checkpointing in (False, True):
        network = made(family, checkpointing=checkpointing, dropout=0.1).train()
        torch.manual_seed(2)
        F.cross_entropy(network(rows()).flatten(0, 1), rows().flatten()).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert plain.abs().sum() > 0
        torch.testing.assert_close(plain, again)


@families
def test_logits_are_the_hidden_states_times_the_last_layer(family):
    for tied in (False, True):
        network = made(family, tied=tied).eval()
        assert ("head.weight" in network.state_dict()) is not tied
        assert (network.head_weight is network.embedding.weight) is tied
        with penultimate(network) as tap:  # also where no module applies the table
            logits = network(rows())
            torch.testing.assert_close(logits, network.hidden(rows()) @ network.head_weight.T)
            torch.testing.assert_close(tap.take(), network.hidden(rows()))


def test_attention_by_hand():
    """One head, one block, and no feed-forward: of two tokens the second sees both."""
    network = made("gpt", width=4, heads=1, depth=1, hidden=1).eval()
    block, tokens = network.blocks[0], rows(1, 2)
    with torch.no_grad():
        block.mlp.down.weight.zero_(), block.mlp.down.bias.zero_()
        x = network.embedding(tokens) + network.positions(torch.arange(2))
        q, k, v = block.attention.qkv(F.layer_norm(x, (4,), block.norm1.weight, block.norm1.bias)).chunk(
            3, -1
        )
        scores = torch.einsum("bid,bjd->bij", q, k) / 4**0.5
        shares = torch.stack([torch.tensor([[1.0, 0.0]]), scores[:, 1].softmax(-1)], 1)
        x = x + block.attention.out(shares @ v)
        torch.testing.assert_close(network.hidden(tokens), network.norm(x))


def test_rotary_angles():
    """Two numbers: turned by one radian a position. Four: the second pair by a hundredth."""
    network = made("llama", heads=4)  # head_width 4
    cosine, sine = network._angles(torch.tensor([0, 1, 3]))
    expected = torch.tensor([[0.0, 0.0], [1.0, 0.01], [3.0, 0.03]]).repeat(1, 2)
    torch.testing.assert_close(cosine, expected.cos())
    torch.testing.assert_close(sine, expected.sin())
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(1, 1, 3, 4)
    found = turned(x, (cosine, sine))[0, 0, 1]
    one, hundredth = torch.tensor(1.0), torch.tensor(0.01)
    torch.testing.assert_close(found, torch.stack([one.cos(), -hundredth.sin(), one.sin(), hundredth.cos()]))


def test_shared_key_and_value_heads_are_repeated_ones():
    """kv_heads=2 is kv_heads=4 with each head of keys and values there twice."""
    few, many = made("llama").eval(), made("llama", kv_heads=4).eval()
    state = few.state_dict()
    for name in [name for name in state if "qkv" in name]:
        q, k, v = state[name].split([16, 8, 8])
        twice = [part.unflatten(0, (2, 4)).repeat_interleave(2, 0).flatten(0, 1) for part in (k, v)]
        state[name] = torch.cat([q, *twice])
    many.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(few(rows()), many(rows()), rtol=1e-4, atol=1e-5)


@families
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"heads": 3}, "width must be a multiple of heads; given: width=16 and heads=3"),
        ({"depth": 0}, "depth must be a whole number of at least 1, not 0"),
        ({"positions": 8}, "has 8 positions, and a row has 16 tokens"),
        ({"tied": True, "outputs": 51}, "cannot be the table of 50 tokens, as an answer has 51 numbers"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1; given: 1.0"),
    ],
)
def test_what_does_not_go_together(family, changes, says):
    with pytest.raises(UserError, match=says):
        made(family, **changes)


def test_what_llama_refuses():
    with pytest.raises(
        UserError, match="heads must be a multiple of kv_heads; given: heads=4 and kv_heads=3"
    ):
        made("llama", kv_heads=3)
    with pytest.raises(UserError, match="width / heads is 1, an odd number"):
        made("llama", heads=16, kv_heads=16)


@pytest.mark.parametrize(
    ("name", "bytes_", "fifty"),
    [
        ("gpt_tiny", 43_904, None),
        ("gpt_small", 279_168, None),
        ("llama_tiny", 39_584, None),
        ("llama_small", 252_384, None),
        ("guide_400m", None, 405_993_472),
        ("guide_1b", None, 1_013_047_296),
    ],
)
def test_the_files_build_networks_of_their_size(name, bytes_, fifty):
    """On bytes in rows of 64, and on 50,000 tokens in rows of 2,048; built without numbers."""
    spec = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text())
    vocabulary, length, expected = (256, 64, bytes_) if bytes_ else (50_000, 2048, fifty)
    with torch.device("meta"):
        adapter = TokenAdapter(vocabulary=vocabulary, tokenizer=None)
        model = Component(spec)
        assert models.rows_read(model) == ("tokens",)
        found = model.build(shape=(length,), outputs=vocabulary, **adapter.arguments())
    assert sum(parameter.numel() for parameter in found.parameters()) == expected


# The vocabulary


def test_a_byte_is_a_token_and_its_own_number():
    adapter = TokenAdapter(vocabulary=256, tokenizer="bytes")
    tokenizer = open_tokenizer(adapter.files()["tokenizer.json"])
    text = "Aé\n\0€ \x7f"
    assert tokenizer.encode(text).ids == list(text.encode())
    assert tokenizer.get_vocab_size() == 256
    vocabulary = json.loads(byte_tokenizer())["model"]["vocab"]
    assert vocabulary["A"] == 65 and sorted(vocabulary.values()) == list(range(256))
    assert adapter.displayed(torch.tensor([list(b"abc")])) == ["abc"]
    np_small = adapter.small(torch.tensor([[0, 64, 1, 1]]))
    assert np_small[0, :3].tolist() == [0.5, 0.5, 0.0]


def test_weights_of_another_vocabulary_are_refused():
    network, other, unknown = (
        TokenAdapter(vocabulary=50, tokenizer=tokenizer).wrap(made("gpt"), (16,))
        for tokenizer in ("bytes", byte_tokenizer().replace('"A": 65', '"A ": 65'), None)
    )
    with pytest.raises(UserError, match="another vocabulary"):
        other.load_state_dict(network.state_dict())
    network.load_state_dict(unknown.state_dict())


@families
def test_fresh_weights_have_their_deviation(family):
    """1 / sqrt(3 width), GPT-2's 0.02 at 768; what ends one of 2 depth branches less by the root of these."""
    torch.manual_seed(0)
    function, own = FAMILIES[family]
    network = function(**GIVEN | own | {"width": 48, "depth": 8})
    size = 1 / 12
    for weight, expected in (
        (network.embedding.weight, size),
        (network.head.weight, size),
        (network.blocks[3].attention.qkv.weight, size),
        (network.blocks[3].attention.out.weight, size / 4),
        (network.blocks[3].mlp.down.weight, size / 4),
    ):
        assert weight.std().item() == pytest.approx(expected, rel=0.06)
    assert all((bias == 0).all() for name, bias in network.named_parameters() if name.endswith("bias"))
    assert (768 * 3) ** -0.5 == pytest.approx(0.02, rel=0.05)
