"""A tiny encoder in a folder as Hugging Face's libraries lay one down, with weights by BERT's names."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 20,
    "hidden_act": "gelu",
}


def tiny_encoder(folder: Path, words: str, *, normalise: bool = True, seed: int = 0, **config) -> Path:
    """An encoder of the vocabulary SPECIAL and these words. config: keys of its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys((*SPECIAL, *words.split())))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.add_special_tokens(list(SPECIAL))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    made.save(str(folder / "tokenizer.json"))
    about = {"model_type": "bert", "vocab_size": len(vocabulary), "type_vocab_size": 2, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps({**about, **SIZES, **config}))
    save_file(bert_weights(len(vocabulary), seed), folder / "model.safetensors")
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    (folder / "modules.json").write_text(json.dumps([{"type": f"models.{kind}"} for kind in kinds]))
    return folder


def bert_weights(vocabulary: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width, inner = SIZES["hidden_size"], SIZES["intermediate_size"]

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / 2

    found = {
        "embeddings.word_embeddings.weight": drawn(vocabulary, width),
        "embeddings.position_embeddings.weight": drawn(SIZES["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": drawn(2, width),
        "embeddings.LayerNorm.weight": 1 + drawn(width),
        "embeddings.LayerNorm.bias": drawn(width),
        "pooler.dense.weight": drawn(width, width),
        "pooler.dense.bias": drawn(width),
    }
    for number in range(SIZES["num_hidden_layers"]):
        layers = {
            "attention.self.query": (width, width),
            "attention.self.key": (width, width),
            "attention.self.value": (width, width),
            "attention.output.dense": (width, width),
            "intermediate.dense": (inner, width),
            "output.dense": (width, inner),
        }
        for name, shape in layers.items():
            found[f"encoder.layer.{number}.{name}.weight"] = drawn(*shape)
            found[f"encoder.layer.{number}.{name}.bias"] = drawn(shape[0])
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            found[f"encoder.layer.{number}.{name}.weight"] = 1 + drawn(width)
            found[f"encoder.layer.{number}.{name}.bias"] = drawn(width)
    return found
