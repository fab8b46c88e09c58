"""Encoders as Hugging Face's libraries keep them: a folder with config.json, model.safetensors,
tokenizer.json and, of sentence encoders, how a text's vector is made. BERT and DistilBERT are read into kdx's
own encoder; any other needs the package transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.errors import UserError
from kdx.core.model_folder import check_above_0, no_safetensors, read_beside, read_settings
from kdx.models.encoder import ACTIVATIONS, ENDS, EncoderSizes, Sentences, TextEncoder
from kdx.models.misfits import check_weights_finite, check_weights_of_config
from kdx.models.text import PADDING
from kdx.models.tokens import open_tokenizer

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
ENCODER_FILES = (CONFIG, WEIGHTS, TOKENIZER)
BESIDE = ("modules.json", "1_Pooling/config.json")
"""What a sentence encoder has too, and tells how hidden states become one vector."""
_SPARE = 512
"""Rows of a table that may stand for no token: sizes are rounded up, and tokens are added later."""
_BERT = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm2",
}
_DISTILBERT = {
    "attention.q_lin": "query",
    "attention.k_lin": "key",
    "attention.v_lin": "value",
    "attention.out_lin": "out",
    "sa_layer_norm": "norm1",
    "ffn.lin1": "up",
    "ffn.lin2": "down",
    "output_layer_norm": "norm2",
}
_FAMILIES = {"bert": ("encoder.layer", _BERT), "distilbert": ("transformer.layer", _DISTILBERT)}
"""model_type -> (where its blocks lie, their layers by name)."""
_KEYS = {
    "bert": (
        "hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings "
        "hidden_act"
    ).split(),
    "distilbert": "dim n_layers n_heads hidden_dim max_position_embeddings activation".split(),
}


_OTHERWISE = ("position_embedding_type", "is_decoder")
"""Settings by which a BERT is none that is built here."""


def describe_encoder(folder: Path) -> dict[str, Any]:
    """All that it takes to build the encoder of a folder, as plain JSON. Raises UserError where it is none
    that kdx can read, or its tokeniser is of another model.
    """
    config = read_settings(folder / CONFIG)
    tokenizer = open_tokenizer((folder / TOKENIZER).read_text(encoding="utf-8"))
    tokens = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    rows = config.get("vocab_size")
    if not isinstance(rows, int) or not rows - _SPARE < tokens <= rows:
        raise UserError(
            f"the tokeniser of '{folder}' does not match its model: tokenizer.json has {tokens:,} tokens, "
            f"and {CONFIG} says vocab_size={rows}: take both from one model"
        )
    own = type(tokenizer).from_str(tokenizer.to_str())
    own.no_padding()
    ends = own.encode("", add_special_tokens=True).ids
    if len(ends) != ENDS:
        raise UserError(
            f"the tokeniser of '{folder}' puts {len(ends)} tokens of its own around a text, and kdx reads "
            "encoders with two, such as [CLS] and [SEP]"
        )
    pooling, normalise = _pooling(folder)
    return {"config": config, "tokens": tokens, "ends": ends, "pooling": pooling, "normalise": normalise}


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether kdx's own encoder is the one of a config.json."""
    return (
        config.get("model_type") in _FAMILIES
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


def encoder_sizes(config: Mapping[str, Any]) -> EncoderSizes:
    """Of a config.json of BERT's or DistilBERT's. Raises UserError where it lacks one."""
    kind = config["model_type"]
    if lacking := [key for key in _KEYS[kind] if key not in config]:
        raise UserError(f"{CONFIG} of a {kind} lacks {', '.join(lacking)}")
    width, layers, heads, inner, positions, activation = (config[key] for key in _KEYS[kind])
    for key in _KEYS[kind][:-1]:
        check_above_0(f"{CONFIG} says {key}={config[key]!r}", config[key], whole=True)
    epsilon = config.get("layer_norm_eps", 1e-12)
    check_above_0(f"{CONFIG} says layer_norm_eps={epsilon!r}", epsilon, below=1)
    if width % heads:
        raise UserError(
            f"{CONFIG} says {_KEYS[kind][0]}={width} and {_KEYS[kind][2]}={heads}, and heads must divide "
            "the width"
        )
    if activation not in ACTIVATIONS:
        raise UserError(
            f"{CONFIG} says {activation!r} between linear layers, and kdx knows {', '.join(ACTIVATIONS)}"
        )
    return EncoderSizes(
        config["vocab_size"],
        width,
        layers,
        heads,
        inner,
        positions,
        activation,
        epsilon,
    )


def build_encoder(described: Mapping[str, Any], dropout: float, *, trims: bool) -> Sentences:
    """The encoder that `describe_encoder` describes, with weights of its own drawing."""
    config = described["config"]
    encoder: nn.Module
    if is_plain(config):
        encoder = TextEncoder(encoder_sizes(config), dropout, trims=trims)
    else:
        encoder = OtherEncoder(config, described["ends"], dropout)
    return Sentences(encoder, described["pooling"], described["normalise"])


def width_of(described: Mapping[str, Any]) -> int:
    """Of a text's vector."""
    config = described["config"]
    return int(config["dim"] if config.get("model_type") == "distilbert" else config["hidden_size"])


def positions_of(described: Mapping[str, Any]) -> int:
    """Tokens of the longest row, the two ends among them; RoBERTa counts its positions from two on."""
    config = described["config"]
    spare = 2 if "roberta" in str(config.get("model_type")) else 0
    return int(config.get("max_position_embeddings", 512)) - spare


def load_encoder(sentences: Sentences, folder: Path, described: Mapping[str, Any]) -> None:
    """Fills an encoder with the weights of its folder. Raises UserError where they do not fit."""
    path = folder / WEIGHTS
    try:
        found = load_file(path)
    except Exception as error:  # the library raises many kinds
        raise UserError(f"'{path}' {no_safetensors(error)}") from None
    if not isinstance(sentences.encoder, TextEncoder):
        sentences.encoder.load_weights(found, path)
        return
    weights = plain_weights(found, described)
    own = sentences.encoder.state_dict()
    if lacking := sorted(own.keys() - weights.keys()):
        raise UserError(
            f"'{path}' holds no weights for {len(lacking)} parts of its encoder: {lacking[0]}, say"
        )
    taken = {name: weights[name] for name in own}
    check_weights_of_config(path, taken, own)
    if not all(bool(value.isfinite().all()) for value in taken.values()):
        check_weights_finite(f"'{path}'", found)
    sentences.encoder.load_state_dict({name: weights[name].float() for name in own})


def plain_weights(found: Mapping[str, Tensor], described: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of BERT's or DistilBERT's names, by those of kdx's own encoder. Types of a token, of which a
    text alone has the first, are added to its places.
    """
    blocks, layers = _FAMILIES[described["config"]["model_type"]]
    start = "embeddings.word_embeddings.weight"
    prefix = next((name.removesuffix(start) for name in found if name.endswith(start)), "")
    bare = {name.removeprefix(prefix): value for name, value in found.items()}
    weights: dict[str, Tensor] = {}
    if start in bare:
        table = bare[start].clone()
        weights["ends"] = table[described["ends"]]
        table[PADDING] = 0  # no row holds it but as padding
        weights["tokens.weight"] = table
    if (places := bare.get("embeddings.position_embeddings.weight")) is not None:
        kinds = bare.get("embeddings.token_type_embeddings.weight")
        weights["places"] = places if kinds is None else places + kinds[0]
    for part in ("weight", "bias"):
        if (norm := bare.get(f"embeddings.LayerNorm.{part}")) is not None:
            weights[f"norm.{part}"] = norm
    for name, value in bare.items():
        number, _, inner = name.removeprefix(f"{blocks}.").partition(".")
        layer, _, part = inner.rpartition(".")
        if name.startswith(f"{blocks}.") and number.isdigit() and layer in layers:
            weights[f"blocks.{number}.{layers[layer]}.{part}"] = value
    return weights


class OtherEncoder(nn.Module):
    """An encoder of another family, by the package transformers: hidden states as those of TextEncoder."""

    def __init__(self, config: Mapping[str, Any], ends: Sequence[int], dropout: float):
        super().__init__()
        kind = config.get("model_type")
        try:
            from transformers import AutoConfig, AutoModel
        except ImportError:
            odd = [f"{key}={config[key]!r}" for key in _OTHERWISE if kind in _FAMILIES and key in config]
            what = f"{kind} with {' and '.join(odd)}" if odd else f"the family {kind}"
            raise UserError(
                f"an encoder of {what} needs the package transformers, which is not installed: pip install "
                "'kdx[transformers]'; plain BERT and DistilBERT need none"
            ) from None
        try:
            known = AutoConfig.for_model(**config)
            for key in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
                if key in config:
                    setattr(known, key, dropout)
            self.net = AutoModel.from_config(known, trust_remote_code=False)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"transformers builds no encoder of the family {kind}: {str(error)[:160]}"
            ) from None
        self.begin, self.end = ends
        self.padding = int(config.get("pad_token_id") or 0)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens, 0 behind the last -> (B, L + 2, D), zeros where no token and no end is"""
        length = (tokens != PADDING).sum(1, keepdim=True)
        place = torch.arange(tokens.shape[1] + ENDS, device=tokens.device)
        whole = F.pad(tokens, (1, 1), value=PADDING).masked_fill(place > length, self.padding)
        whole = whole.masked_fill(place == 0, self.begin).masked_fill(place == length + 1, self.end)
        there = place <= length + 1
        found = self.net(input_ids=whole, attention_mask=there.long()).last_hidden_state
        return found * there[:, :, None]

    def load_weights(self, found: Mapping[str, Tensor], path: Path) -> None:
        """By the names of the library, with or without that of the family in front."""
        own = self.net.state_dict()
        prefix = f"{self.net.base_model_prefix}."
        bare = {name.removeprefix(prefix): value for name, value in found.items()}
        lacking = [name for name in own if name not in bare and "pooler" not in name]
        if lacking:
            raise UserError(
                f"'{path}' holds no weights for {len(lacking)} parts of its encoder: {lacking[0]}, say"
            )
        check_weights_finite(f"'{path}'", {name: bare[name] for name in own if name in bare})
        try:
            self.net.load_state_dict({name: bare[name] for name in own if name in bare}, strict=False)
        except RuntimeError as error:
            raise UserError(
                f"'{path}' does not fit its {CONFIG}: {str(error).splitlines()[-1][:160]}"
            ) from None


def _pooling(folder: Path) -> tuple[str, bool]:
    """How hidden states become one vector, and whether that gets length 1; the mean where nothing says."""
    modules = read_beside(folder / BESIDE[0]) if (folder / BESIDE[0]).is_file() else []
    kinds = [str(part.get("type", "")).rpartition(".")[2] for part in modules if isinstance(part, dict)]
    if strange := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise UserError(
            f"'{folder / BESIDE[0]}' names a part {strange[0]}, and kdx reads encoders of Transformer, "
            "Pooling and Normalize alone"
        )
    how = read_beside(folder / BESIDE[1]) if (folder / BESIDE[1]).is_file() else {}
    asked = [
        key.removeprefix("pooling_mode_") for key, on in how.items() if key.startswith("pooling_mode_") and on
    ]
    if not asked or asked == ["mean_tokens"]:
        return "mean", "Normalize" in kinds
    if asked == ["cls_token"]:
        return "first", "Normalize" in kinds
    raise UserError(
        f"'{folder / BESIDE[1]}' pools by {' and '.join(asked)}, and kdx knows mean_tokens and cls_token"
    )
