"""Decoders in the form in which transformers' `save_pretrained` keeps GPT2LMHeadModel and LlamaForCausalLM: a
folder of config.json, model.safetensors and tokenizer.json. Read and written without that package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.files import write_atomically
from kdx.core.model_folder import check_above_0, no_safetensors, read_settings
from kdx.models.decoder import DecoderNetwork
from kdx.models.decoder_layers import DecoderShape
from kdx.models.misfits import check_weights_finite, check_weights_of_config

CAUSAL_CONFIG, CAUSAL_WEIGHTS, CAUSAL_TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_GPT_BLOCK = {
    "norm1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "norm2": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}
_GPT_LINEAR = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
"""Which transformers keeps transposed, (inputs, outputs)."""
_LLAMA_BLOCK = {
    "norm1": "input_layernorm",
    "attention.out": "self_attn.o_proj",
    "norm2": "post_attention_layernorm",
    "mlp.up": "mlp.up_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.down": "mlp.down_proj",
}
_UNUSED = re.compile(r"(\.attn\.(bias|masked_bias)|rotary_emb\.inv_freq)$")
"""Tables of masks and angles, which older versions kept beside the weights."""
_PLAIN = {
    "gpt2": {
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    "llama": {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
}
"""Settings that must be these, or absent, as no other is built here."""


def open_decoder(folder: Path) -> DecoderNetwork:
    """The network of a folder, with its weights. Raises UserError where it holds none that is built here."""
    file = folder / CAUSAL_CONFIG
    made = read_shape(read_settings(file), f"'{file}'")
    network = DecoderNetwork(made, dropout=0.0, stochastic_depth=0.0, checkpointing=False)
    fill_from(network, folder)
    return network


# To transformers


def to_transformers(network: DecoderNetwork) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(what config.json holds, the state dict of the class that it names), on the CPU. Raises UserError where
    that class has no such network."""
    shape, own = network.shape, {k: v.detach().cpu() for k, v in network.state_dict().items()}
    if shape.outputs != shape.vocabulary:
        raise UserError(
            f"transformers' classes answer as many numbers as they know tokens, and this network answers "
            f"{shape.outputs} of {shape.vocabulary}"
        )
    if shape.llama:
        return _llama_config(shape), _to_llama(shape, own)
    return _gpt_config(shape), _to_gpt(shape, own)


def write_pretrained(network: DecoderNetwork, folder: Path, tokenizer: str | None) -> None:
    """The folder, which is there, as save_pretrained lays it out. tokenizer: the text of a tokenizer.json."""
    config, state = to_transformers(network)
    contiguous = {name: value.contiguous() for name, value in state.items()}
    save_file(contiguous, folder / CAUSAL_WEIGHTS, metadata={"format": "pt"})
    write_atomically(folder / CAUSAL_CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    if tokenizer is not None:
        write_atomically(folder / CAUSAL_TOKENIZER, tokenizer)
        about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": network.shape.positions}
        write_atomically(folder / "tokenizer_config.json", json.dumps(about, indent=2) + "\n")


def _gpt_config(shape: DecoderShape) -> dict[str, Any]:
    return {
        **_PLAIN["gpt2"],
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": shape.vocabulary,
        "n_positions": shape.positions,
        "n_embd": shape.width,
        "n_layer": shape.depth,
        "n_head": shape.heads,
        "n_inner": shape.hidden,
        "layer_norm_epsilon": shape.epsilon,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _llama_config(shape: DecoderShape) -> dict[str, Any]:
    return {
        **_PLAIN["llama"],
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.hidden,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.base,  # as versions before 5 read it
        "rope_parameters": {"rope_theta": shape.base, "rope_type": "default"},
        "tie_word_embeddings": shape.tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _to_gpt(shape: DecoderShape, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {
        "transformer.wte.weight": own["embedding.weight"],
        "transformer.wpe.weight": own["positions.weight"],
        "transformer.ln_f.weight": own["norm.weight"],
        "transformer.ln_f.bias": own["norm.bias"],
    }
    for i in range(shape.depth):
        for mine, theirs in _GPT_BLOCK.items():
            weight, name = own[f"blocks.{i}.{mine}.weight"], f"transformer.h.{i}.{theirs}"
            found[f"{name}.weight"] = weight.T if mine in _GPT_LINEAR else weight
            bias = own.get(f"blocks.{i}.{mine}.bias")  # that class always has some
            found[f"{name}.bias"] = weight.new_zeros(len(weight)) if bias is None else bias
    return found if shape.tied else found | {"lm_head.weight": own["head.weight"]}


def _to_llama(shape: DecoderShape, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {"model.embed_tokens.weight": own["embedding.weight"], "model.norm.weight": own["norm.weight"]}
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    for i in range(shape.depth):
        place = f"model.layers.{i}"
        for mine, theirs in _LLAMA_BLOCK.items():
            found[f"{place}.{theirs}.weight"] = own[f"blocks.{i}.{mine}.weight"]
        parts = own[f"blocks.{i}.attention.qkv.weight"].split([queries, keys, keys])
        for letter, part in zip("qkv", parts, strict=True):
            found[f"{place}.self_attn.{letter}_proj.weight"] = part
    return found if shape.tied else found | {"lm_head.weight": own["head.weight"]}


# From transformers


def read_shape(config: Mapping[str, Any], where: str) -> DecoderShape:
    """Of what a config.json holds. where: the file, for errors. Raises UserError where it describes no
    network of the two families, or one with parts that are not built here."""
    kind = config.get("model_type")
    if kind not in _PLAIN:
        raise UserError(
            f"{where} describes a model of type {kind!r}, and kdx reads causal language models of the types "
            f"{' and '.join(_PLAIN)}"
        )
    for key, value in _PLAIN[kind].items():
        if config.get(key, value) != value:
            raise UserError(f"{where} has {key}={config[key]!r}, and kdx builds {value!r} only")
    try:
        found = _gpt_shape(config) if kind == "gpt2" else _llama_shape(config, where)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{where} lacks {error} or has it in another form than transformers writes") from None
    _check_shape(found, where)
    return found


def _check_shape(found: DecoderShape, where: str) -> None:
    """Whether a network can have these sizes. Raises UserError."""
    sizes = ("vocabulary", "width", "depth", "heads", "kv_heads", "head_width", "hidden", "positions")
    for name in sizes:
        value = getattr(found, name)
        check_above_0(f"{where} says {name.replace('_', ' ')} {value!r}", value, whole=True)
    check_above_0(f"{where} says {found.epsilon!r} for the epsilon of the norms", found.epsilon)
    check_above_0(f"{where} says {found.base!r} for the base of the rotary frequencies", found.base)
    if found.heads % found.kv_heads or (not found.llama and found.width % found.heads):
        raise UserError(
            f"{where} has {found.heads} heads, {found.kv_heads} of keys and values, and a width of "
            f"{found.width}: heads must be a multiple of those, and of GPT-2 divide the width"
        )
    if found.llama and found.head_width % 2:
        raise UserError(f"{where} has heads of {found.head_width} numbers, and rotary positions turn pairs")


def fill_from(network: DecoderNetwork, folder: Path) -> None:
    """Its weights become those of the folder. Raises UserError where they do not fit its config.json."""
    weights, own = read_weights_of(network.shape, folder), network.state_dict()
    check_weights_of_config(folder / CAUSAL_WEIGHTS, weights, own)
    network.load_state_dict(own | weights)


def _gpt_shape(config: Mapping[str, Any]) -> DecoderShape:
    width, heads = config["n_embd"], config["n_head"]
    return DecoderShape(
        family="gpt",
        vocabulary=config["vocab_size"],
        outputs=config["vocab_size"],
        width=width,
        depth=config["n_layer"],
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        hidden=config.get("n_inner") or 4 * width,
        positions=config["n_positions"],
        tied=config.get("tie_word_embeddings", True),
        bias=True,
        epsilon=config.get("layer_norm_epsilon", 1e-5),
    )


def _llama_shape(config: Mapping[str, Any], where: str) -> DecoderShape:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    turns = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = turns.get("rope_type", turns.get("type", "default"))
    if kind != "default":
        raise UserError(f"{where} scales rotary positions ({kind}), and kdx builds plain ones only")
    return DecoderShape(
        family="llama",
        vocabulary=config["vocab_size"],
        outputs=config["vocab_size"],
        width=width,
        depth=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or width // heads,
        hidden=config["intermediate_size"],
        positions=config["max_position_embeddings"],
        tied=config.get("tie_word_embeddings", False),
        bias=False,
        epsilon=config.get("rms_norm_eps", 1e-6),
        base=config.get("rope_theta") or turns.get("rope_theta", 10000.0),
    )


def from_transformers(shape: DecoderShape, given: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The state dict of a `DecoderNetwork` of that shape. given: one of transformers'. Raises UserError where
    a weight is missing."""
    first = "transformer." if shape.family == "gpt" else "model."
    whole = {
        name if name.startswith((first, "lm_head.")) else first + name: value
        for name, value in given.items()
        if not _UNUSED.search(name)
    }
    taken: set[str] = set()

    def take(name: str) -> Tensor:
        taken.add(name)
        if name not in whole:
            raise UserError(f"{where} lacks the weight {name}, which config.json asks for")
        return whole[name].float()

    found = _from_llama(shape, take) if shape.llama else _from_gpt(shape, take)
    if not shape.tied:
        found["head.weight"] = take("lm_head.weight")
    if left := sorted(whole.keys() - taken - {"lm_head.weight"}):
        raise UserError(
            f"{where} holds {left[0]}, which is no part of the network that config.json describes"
        )
    check_weights_finite(where, {name: whole[name] for name in sorted(taken)})
    return found


def _from_gpt(shape: DecoderShape, take: Any) -> dict[str, Tensor]:
    found = {
        "embedding.weight": take("transformer.wte.weight"),
        "positions.weight": take("transformer.wpe.weight"),
        "norm.weight": take("transformer.ln_f.weight"),
        "norm.bias": take("transformer.ln_f.bias"),
    }
    for i in range(shape.depth):
        for mine, theirs in _GPT_BLOCK.items():
            weight = take(f"transformer.h.{i}.{theirs}.weight")
            found[f"blocks.{i}.{mine}.weight"] = weight.T if mine in _GPT_LINEAR else weight
            found[f"blocks.{i}.{mine}.bias"] = take(f"transformer.h.{i}.{theirs}.bias")
    return found


def _from_llama(shape: DecoderShape, take: Any) -> dict[str, Tensor]:
    found = {"embedding.weight": take("model.embed_tokens.weight"), "norm.weight": take("model.norm.weight")}
    for i in range(shape.depth):
        place = f"model.layers.{i}"
        for mine, theirs in _LLAMA_BLOCK.items():
            found[f"blocks.{i}.{mine}.weight"] = take(f"{place}.{theirs}.weight")
        parts = [take(f"{place}.self_attn.{letter}_proj.weight") for letter in "qkv"]
        found[f"blocks.{i}.attention.qkv.weight"] = torch.cat(parts)
    return found


def read_weights_of(shape: DecoderShape, folder: Path) -> dict[str, Tensor]:
    """The state dict of a `DecoderNetwork` of that shape, of the folder's model.safetensors."""
    file = folder / CAUSAL_WEIGHTS
    try:
        given = load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"'{file}' {no_safetensors(error)}") from None
    return from_transformers(shape, given, f"'{file}'")
