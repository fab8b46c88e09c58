"""The formats of an exported network: what writes each, and answers from what was written."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdx.core.aloud import quiet
from kdx.core.errors import UserError
from kdx.core.shapes import expect_shape
from kdx.core.trees import from_leaves, leaves, tree
from kdx.core.types import Answers, Inputs
from kdx.models.decoder import DecoderNetwork
from kdx.models.estimator import estimator_in
from kdx.models.save_pretrained import CAUSAL_TOKENIZER, CAUSAL_WEIGHTS, open_decoder, write_pretrained
from kdx.runs.model_files import read_model
from kdx.runs.reading import read_mapping
from kdx.runs.stored import Weights
from kdx.store.moved import kind_of_old
from kdx.store.resolve import allow as allow_packages
from kdx.store.source import sha256

Answerer = Callable[[Inputs], Answers]


def load(folder: Path | str, allow: Sequence[str] = ()) -> nn.Module:
    """The network of an exported folder, on the CPU, in eval mode: rows as its data set gives them ->
    answers; of pictures (N, C, H, W) float32 in [0, 1] -> (N, K) logits.

    allow: packages of your own that the model comes from. Nothing is unpickled. Raises UserError where the
    folder is damaged or no export.
    """
    folder = Path(folder).expanduser()
    file = folder / "model.json"
    if not file.is_file():
        raise UserError(f"'{folder}' is no export of kdx: it has no model.json")
    allow_packages(allow)
    about, role = read_model(file, allow), expect_shape(read_mapping(file).get("role"), str, file, "role")
    weights = folder / f"{Path(role).name}.safetensors"
    if not weights.is_file() or sha256(weights) != about.get("sha256"):
        raise UserError(
            f"'{weights}' is missing or does not have the content that was exported: export it again"
        )
    return Weights(role, weights, about, role).network()


def contract(about: Mapping[str, Any]) -> dict[str, Any]:
    """What the exported network takes. about: a model.json."""
    kind = kind_of_old(about)
    if kind["reads"] != "pictures":
        inputs = {
            name: {"shape": shape, "dtype": "float32" if made == "uint8" else made}
            for name, (shape, made) in kind["example"].items()
        }
        return {"reads": kind["reads"], "inputs": inputs, "batch": "any"}
    shape = about["shape"]
    channels = {1: "grey", 3: "red, green, blue"}.get(shape[0], f"{shape[0]}, in the order of the dataset")
    return {
        "name": "pixels",
        "dtype": "float32",
        "range": [0, 1],
        "shape": list(shape),
        "layout": "NCHW",
        "channels": channels,
        "normalisation": "built in",
        "batch": "any",
    }


@dataclass(frozen=True)
class Called:
    """What the one input of a graph is called, and its one output; of several each has its own name."""

    input: str = "pixels"
    output: str = "logits"


def names_inside(about: Mapping[str, Any]) -> Called:
    """about: a model.json."""
    return Called(
        "pixels" if kind_of_old(about)["reads"] == "pictures" else "rows",
        "logits" if about.get("classes") else "answers",
    )


@dataclass(frozen=True)
class Exported:
    """What a format is written from. folder: it holds the state dict and model.json already. example: rows
    that the network takes, two at least. allow: packages of your own that the model comes from.
    """

    network: nn.Module
    folder: Path
    role: str
    example: Inputs
    allow: Sequence[str]
    names: Called = Called()


def state_dict(asked: Exported) -> tuple[str, Answerer]:
    return f"{asked.role}.safetensors", load(asked.folder, asked.allow)


def torch_export(asked: Exported) -> tuple[str, Answerer]:
    file = asked.folder / f"{asked.role}.pt2"
    with quiet():
        torch.export.save(program(asked.network, asked.example), file)
        return file.name, torch.export.load(file).module()


def onnx(asked: Exported) -> tuple[str, Answerer]:
    import onnxruntime

    file, names = asked.folder / f"{asked.role}.onnx", asked.names
    with torch.no_grad():
        outputs = asked.network(asked.example)
    with quiet():
        torch.onnx.export(
            program(asked.network, asked.example),
            (),
            str(file),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=names_of(asked.example, names.input),
            output_names=names_of(outputs, names.output),
        )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def answer(rows: Inputs) -> Answers:
        given = dict(zip(names_of(rows, names.input), leaves(rows).values(), strict=True))
        made = session.run(
            names_of(outputs, names.output), {name: leaf.numpy() for name, leaf in given.items()}
        )
        return from_leaves(dict(zip(leaves(outputs), map(torch.from_numpy, made), strict=True)))

    return file.name, answer


def save_pretrained(asked: Exported) -> tuple[str, Answerer]:
    """Of a decoder: config.json and model.safetensors, as transformers reads them."""
    found = [module for module in asked.network.modules() if isinstance(module, DecoderNetwork)]
    if not found:
        raise UserError(
            "format=save_pretrained writes language models of GPT-2's and Llama's form, and this network is "
            "none: leave it out, format=state_dict writes any"
        )
    tokenizer = asked.folder / CAUSAL_TOKENIZER
    text = tokenizer.read_text(encoding="utf-8") if tokenizer.is_file() else None
    write_pretrained(found[0], asked.folder, text)
    return CAUSAL_WEIGHTS, open_decoder(asked.folder).eval()


def names_of(value: Inputs, single: str) -> list[str]:
    """What a graph calls its tensors. single: where there is one."""
    return [name or single for name in leaves(value)]


FORMATS = {
    "state_dict": state_dict,
    "torch_export": torch_export,
    "onnx": onnx,
    "save_pretrained": save_pretrained,
}
"""name -> what writes it: Exported -> (its file, the network loaded back from that file)."""


def program(network: nn.Module, example: Inputs) -> torch.export.ExportedProgram:
    """The network's forward as a graph, for any number of rows. example: at least two rows, as one would be
    taken for a constant. Raises UserError of an estimator that answers by other means than PyTorch's.
    """
    batch = torch.export.Dim("batch", min=1)
    shapes = (tree(lambda leaf: {0: batch}, example),)
    try:
        return torch.export.export(network, (example,), dynamic_shapes=shapes)
    except Exception:
        if estimator_in(network) is None:
            raise
        raise UserError(
            "this teacher was fitted at once and answers by other means than PyTorch's, so it has no graph "
            "to export: format=state_dict exports it, for kdx.load"
        ) from None


def check_onnx() -> None:
    missing = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UserError(
            f"format=onnx needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed: pip install 'kdx[onnx]'"
        )
