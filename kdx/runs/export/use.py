"""What card.md shows to be pasted: how each format is loaded and asked. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kdx.report.run.markup import fenced

USE = {
    "state_dict": ("With kdx", "import kdx", 'network = kdx.load("FOLDER"ALLOW)', "network(ROWS)"),
    "torch_export": (
        "Without kdx, with PyTorch",
        "import torch",
        'network = torch.export.load("FOLDER/FILE").module()',
        "network(ROWS)",
    ),
    "onnx": (
        "Without PyTorch, with ONNX Runtime",
        "import onnxruntime",
        'session = onnxruntime.InferenceSession("FOLDER/FILE")',
        "session.run(None, FED)",
    ),
    "save_pretrained": (
        "With transformers",
        "import transformers",
        'network = transformers.AutoModelForCausalLM.from_pretrained("FOLDER")\n'
        'tokenizer = transformers.AutoTokenizer.from_pretrained("FOLDER")',
        "network(ROWS.long()).logits",
    ),
}
"""format -> words, what is imported, how it is opened and asked."""


def use(card: Mapping[str, Any]) -> list[str]:
    lines = ["## Use"]
    for name, entry in card["formats"].items():
        text = use_of(card, name).replace("FILE", entry["file"])
        lines.append(f"{USE[name][0]}:\n\n{fenced(text, 'python')}")
    return lines


def use_of(card: Mapping[str, Any], name: str) -> str:
    """Code that loads a format; of rows that are no pictures, with rows of zeros to try it on."""
    _, imports, opened, asked = USE[name]
    allow = f", allow={json.dumps(card['allow'])}" if card.get("allow") else ""
    inputs = card["input"].get("inputs")
    given = "pixels" if inputs is None else "rows"
    fed = given if inputs and "" not in inputs else f'{{"{given}": {given}}}'
    answers = "logits" if card.get("classes") else "answers"
    if name == "onnx":
        answers = f"({answers},)" if len(card.get("output") or [""]) == 1 else answers
    made = ""
    if inputs is not None:
        library = "numpy" if name == "onnx" else "torch"
        imports += f"\nimport {library}" if library not in imports else ""
        imports = "\n".join(sorted(imports.splitlines()))
        made = f"rows = {_zeros(inputs, library)}\n"
    asked = asked.replace("ROWS", given).replace("FED", fed)
    return f"{imports}\n\n{opened.replace('ALLOW', allow)}\n{made}{answers} = {asked}"


def _zeros(inputs: Mapping[str, Any], library: str) -> str:
    """Two rows."""
    made = {
        name: f"{library}.zeros({(2, *of['shape'])}, dtype={library}.{of['dtype']})"
        for name, of in inputs.items()
    }
    if "" in made:
        return made[""]
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in made.items()) + "}"
