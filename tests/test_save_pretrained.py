"""Decoders in the form of transformers' save_pretrained: the same logits both ways, and what is refused. What
needs that package is slow and skipped where it is not installed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.models import pretrained
from kdx.models.causal_lm import CausalLM
from kdx.models.decoder import DecoderNetwork, gpt, llama
from kdx.models.save_pretrained import (
    from_transformers,
    read_shape,
    read_weights_of,
    to_transformers,
    write_pretrained,
)
from kdx.models.tokens import TokenAdapter, byte_tokenizer, open_tokenizer, token_bytes
from kdx.runs.export import formats
from kdx.runs.export.use import use_of

GIVEN = {
    "shape": (16,),
    "outputs": 256,
    "vocabulary": 256,
    "width": 16,
    "depth": 2,
    "heads": 4,
    "hidden": None,
}
GIVEN |= {"positions": 32, "dropout": 0.0, "stochastic_depth": 0.0, "checkpointing": False}
MADE = {
    "gpt": lambda tied: gpt(**GIVEN, tied=tied, bias=True),
    "gpt-bare": lambda tied: gpt(**GIVEN, tied=tied, bias=False),
    "llama": lambda tied: llama(**GIVEN, tied=tied, kv_heads=2),
}
FAMILIES = pytest.mark.parametrize("family", list(MADE))
TIED = pytest.mark.parametrize("tied", [False, True])
LAST = {"dropout": 0.0, "stochastic_depth": 0.0, "checkpointing": False}


def made(family, tied=False):
    torch.manual_seed(0)
    network = MADE[family](tied)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def tokens():
    return torch.randint(256, (3, 16), generator=torch.Generator().manual_seed(1))


def opened(path, *, vocabulary=256, length=16):
    given = {"shape": (length,), "outputs": vocabulary, "vocabulary": vocabulary}
    return CausalLM(**given, path=str(path), **LAST).eval()


@pytest.fixture
def folder(tmp_path):
    write_pretrained(made("llama"), tmp_path, byte_tokenizer())
    return tmp_path


def change(file, **keys):
    found = json.loads(file.read_text())
    file.write_text(json.dumps(found | keys))


@FAMILIES
@TIED
def test_there_and_back_it_is_the_same_network(family, tied, tmp_path):
    network = made(family, tied)
    write_pretrained(network, tmp_path, byte_tokenizer())
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    back = opened(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(back(tokens()), network(tokens()), rtol=0, atol=1e-6)
    assert (back.head is None) is tied
    shape = read_shape(json.loads((tmp_path / "config.json").read_text()), "it")
    plain = DecoderNetwork(shape, **LAST)
    plain.load_state_dict(read_weights_of(shape, tmp_path))
    assert torch.equal(plain(tokens()), back(tokens()))


def test_weights_of_gpt_lie_transposed_and_llamas_apart():
    network = made("gpt")
    config, state = to_transformers(network)
    attention = network.blocks[1].attention.qkv
    assert torch.equal(state["transformer.h.1.attn.c_attn.weight"], attention.weight.T)
    assert (config["n_embd"], config["n_layer"], config["n_head"], config["n_positions"]) == (16, 2, 4, 32)
    network = made("llama")
    config, state = to_transformers(network)
    assert torch.equal(
        state["model.layers.0.self_attn.k_proj.weight"], network.blocks[0].attention.qkv.weight[16:24]
    )
    assert (config["num_key_value_heads"], config["head_dim"], config["intermediate_size"]) == (2, 4, 48)


@pytest.mark.slow
@FAMILIES
@TIED
def test_transformers_reads_what_is_written_and_writes_what_is_read(family, tied, tmp_path):
    transformers = pytest.importorskip("transformers")
    network = made(family, tied)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    write_pretrained(network, one, byte_tokenizer())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(one).eval()
    assert type(theirs).__name__ == ("LlamaForCausalLM" if family == "llama" else "GPT2LMHeadModel")
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens()).logits, network(tokens()), rtol=0, atol=1e-5)
    read = transformers.AutoTokenizer.from_pretrained(one)
    assert read("Aé").input_ids == list("Aé".encode())
    theirs.save_pretrained(two)
    (two / "tokenizer.json").write_text(byte_tokenizer())
    with torch.no_grad():
        torch.testing.assert_close(opened(two)(tokens()), network(tokens()), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama", "llama-tied"])
def test_a_network_of_transformers_own_making(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=256, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=0, eos_token_id=0
        )
        theirs = transformers.GPT2LMHeadModel(config).eval()
    else:
        config = transformers.LlamaConfig(
            vocab_size=256,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=24,
            max_position_embeddings=32,
            rope_parameters={"rope_theta": 500.0, "rope_type": "default"},
            tie_word_embeddings=kind == "llama-tied",
        )
        theirs = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer())
    with torch.no_grad():
        torch.testing.assert_close(opened(tmp_path)(tokens()), theirs(tokens()).logits, rtol=0, atol=1e-5)


def test_an_export_is_read_back_from_what_was_written(tmp_path):
    network = TokenAdapter(vocabulary=256, tokenizer="bytes").wrap(made("llama"), (16,))
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer())
    asked = formats.Exported(network, tmp_path, "student", tokens(), ())
    file, answer = formats.FORMATS["save_pretrained"](asked)
    assert file == "model.safetensors" and (tmp_path / "tokenizer_config.json").is_file()
    with torch.no_grad():
        torch.testing.assert_close(answer(tokens()), network(tokens()), rtol=0, atol=1e-6)
    card = {"input": {"inputs": {"": {"shape": [16], "dtype": "int32"}}}, "output": {"answers": [16, 256]}}
    shown = use_of(card, "save_pretrained")
    assert "AutoModelForCausalLM.from_pretrained" in shown and len(shown.splitlines()) <= 10
    with pytest.raises(
        UserError, match="writes language models of GPT-2's and Llama's form, and this network"
    ):
        formats.FORMATS["save_pretrained"](formats.Exported(torch.nn.Linear(2, 2), tmp_path, "a", None, ()))


@pytest.mark.slow
def test_an_export_of_these_files_is_replaced(tmp_path, monkeypatch, capsys):
    """They are an export's as long as its card names them: a folder of transformers' own is nobody's."""
    monkeypatch.chdir(tmp_path)
    words = "dataset=corpus dataset.length=16 teacher=llama_tiny student=llama_tiny student.width=8"
    words += " student.depth=1 student.heads=2 teacher.width=8 teacher.depth=1 teacher.heads=2 baseline=false"
    words += " teacher_pretrain.steps=2 student_train.steps=2 device=cpu device.threads=1 hydra.run.dir=run"
    assert main(["train", *words.split()]) == 0
    for form in (["format=save_pretrained"], ["format=save_pretrained"], ["format=state_dict"]):
        assert main(["export", "run", "to=out", *form]) == 0
    assert not Path("out/config.json").exists()
    assert main(["export", "run", "to=out", "format=save_pretrained"]) == 0
    Path("out/card.json").unlink()
    assert main(["export", "run", "to=out"]) == 2 and "no earlier export" in capsys.readouterr().err


@pytest.mark.slow
def test_the_code_of_the_card_runs(tmp_path):
    pytest.importorskip("transformers")
    write_pretrained(made("gpt"), tmp_path, byte_tokenizer())
    card = {"input": {"inputs": {"": {"shape": [16], "dtype": "int32"}}}, "output": {"answers": [16, 256]}}
    names = {}
    exec(use_of(card, "save_pretrained").replace("FOLDER", str(tmp_path)), names)
    assert names["answers"].shape == (2, 16, 256)


# A teacher from a folder


def test_the_folder_is_needed_to_begin_only(folder):
    network = opened(folder)
    state, expected = network.state_dict(), network(tokens())
    with pretrained.reading(False):
        again = opened(folder / "gone")
    again.load_state_dict(state)
    assert torch.equal(again.eval()(tokens()), expected)


def test_answers_are_those_of_the_tokens_of_the_data(folder):
    whole, few = opened(folder), opened(folder, vocabulary=200)
    assert few(tokens() % 200).shape == (3, 16, 200)
    assert torch.equal(few(tokens() % 200), whole(tokens() % 200)[..., :200])


def test_one_vocabulary_is_taken_and_another_refused(folder):
    TokenAdapter(vocabulary=256, tokenizer="bytes").wrap(opened(folder), (16,))
    changed = json.loads(byte_tokenizer())
    vocabulary = changed["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (folder / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(
        UserError, match="2 of the data set's 256 tokens are others there: 65 is 'A' in the d"
    ):
        TokenAdapter(vocabulary=256, tokenizer="bytes").wrap(opened(folder), (16,))


def test_what_tokens_stand_for():
    assert token_bytes(open_tokenizer(byte_tokenizer())) == {number: bytes([number]) for number in range(256)}
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={"<s>": 0, "<0x0A>": 1, "▁the": 2, "é": 3}, merges=[], byte_fallback=True)
    )
    words.add_special_tokens(["<s>"])
    assert token_bytes(words) == {0: b"<s>", 1: b"\n", 2: b" the", 3: "é".encode()}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"vocab_size": 200}, "tokenizer.json has 256 tokens, and config.json says vocab_size=200"),
        ({"model_type": "bert"}, "a model of type 'bert', and kdx reads .* gpt2 and llama"),
        ({"hidden_act": "gelu"}, "has hidden_act='gelu', and kdx builds 'silu' only"),
        ({"attention_bias": True}, "has attention_bias=True"),
        ({"rope_parameters": {"rope_type": "llama3"}}, r"scales rotary positions \(llama3\)"),
        ({"num_hidden_layers": 3}, "lacks the weight model.layers.2"),
        ({"num_hidden_layers": 1}, "holds model.layers.1"),
        ({"hidden_size": -1}, "says width -1, and it must be a whole number above 0"),
        ({"num_attention_heads": 5}, "5 heads, . of keys and values"),
        ({"vocab_size": 300}, r"does not fit its config.json: embedding.weight is \(256, .*must be \(300, "),
        ({"rms_norm_eps": "x"}, "says 'x' for the epsilon of the norms"),
        ({"rms_norm_eps": float("nan")}, "says nan for the epsilon of the norms"),
        ({"rope_theta": -1.0}, "says -1.0 for the base of the rotary frequencies"),
        ({"max_position_embeddings": 8}, "has 8 positions, and a row has 16 tokens"),
    ],
)
def test_a_folder_that_does_not_fit(folder, keys, says):
    change(folder / "config.json", **keys)
    with pytest.raises(UserError, match=says):
        opened(folder)


def test_more_tokens_than_the_model_knows(folder):
    with pytest.raises(UserError, match="knows 256 tokens, and the data set has 300: set dataset.tokenizer="):
        opened(folder, vocabulary=300)


def test_files_that_are_not_there_or_no_safetensors(folder, tmp_path):
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text("[")
    with pytest.raises(UserError, match="is no JSON"):
        opened(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match="holds no settings of a model"):
        opened(folder)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(UserError, match="is damaged, or no file of safetensors"):
        opened(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UserError, match="pytorch_model.bin, a pickle, which could run code"):
        opened(folder)
    with pytest.raises(
        UserError, match="no folder here, nor a model in the hub's cache.*hf download an/model"
    ):
        opened("an/model")


def test_old_files_without_a_prefix_and_with_masks_are_read():
    network = made("gpt", True)
    config, state = to_transformers(network)
    old = {name.removeprefix("transformer."): value for name, value in state.items()}
    old |= {"h.0.attn.bias": torch.ones(1, 1, 32, 32), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    found = from_transformers(read_shape(config, "it"), old, "it")
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    assert all(torch.equal(value, found[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(folder, number):
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][1] = number
    save_file(weights, file)
    with pytest.raises(UserError) as said:
        opened(folder)
    assert str(said.value) == (
        f"'{file}' holds numbers that are not finite (NaN or infinite) in 1 of {len(weights)} tensors, the "
        "first of them model.norm.weight: take another copy of the model"
    )


def test_half_precision_is_read_as_floats(folder):
    file = folder / "model.safetensors"
    expected = opened(folder)(tokens())
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    found = opened(folder)
    assert all(parameter.dtype == torch.float32 for parameter in found.parameters())
    torch.testing.assert_close(found(tokens()), expected, rtol=1e-2, atol=1e-2)
