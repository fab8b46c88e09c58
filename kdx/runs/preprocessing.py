"""What a data set did to its files on the way to rows, as plain data: done to new ones too. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.core.several import BOXED, kinds_by_name
from kdx.runs.artifacts import only_input
from kdx.store.artifact import Artifact
from kdx.store.moved import kind_of_old

PREPROCESSING = "preprocessing"
"""The key of an exported model.json."""
_PICTURES = ("fit", "background", "max_pixels")
_SOUND = ("rate", "seconds", "mels", "hop", "window")
_KEYS = {"texts": ("text", "encoding"), "tokens": ("endings",), "questions": ("question_length", "stride")}


def preprocessing(data: Artifact) -> dict[str, Any]:
    """Of prepared data. Of pictures from files image_size, channels ("grey" or "red, green, blue"), fit,
    background, max_pixels and range ({depth: [black, white]}, of more than eight bits); of sounds what makes
    pictures of them (kdx.data.sound.mel.LogMel); of a table its
    columns; of texts their column where it was named, and the encoding of .txt files; of text to learn
    language from the endings of its files; of questions how long they may be, and the stride of windows.
    What else there is to know (mean and deviation, categories, vocabulary) is in the adapter. Empty where
    rows were no files. Of rows with several inputs {"inputs": {name: the same of it}}; of a picture with
    `column`, which of a file of rows names it.
    """
    about, asked = data.json("data.json"), _dataset(data)
    kind = kind_of_old(about)
    if several := kinds_by_name(kind["reads"], kind["example"]):
        each = {
            name: _of_input(reads, kind["example"][name][0], about, asked) for name, reads in several.items()
        }
        for name, reads in several.items():
            if reads == "pictures" and isinstance(asked.get(name), str):
                each[name]["column"] = asked[name]
        return {"inputs": each}
    found = _of_input(kind["reads"], about.get("shape"), about, asked)
    plain = kind["reads"] not in _KEYS and "columns" in about
    return found or ({"columns": about["columns"]} if plain else {})


def _of_input(reads: str, shape: Any, about: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """asked: the keys of the data set, as they were given."""
    if reads in ("pictures", BOXED) and "fit" in asked:
        return {
            "image_size": shape[1],
            "channels": "grey" if shape[0] == 1 else "red, green, blue",
            **{key: asked[key] for key in _PICTURES if key in asked},
            "range": (about.get("files") or {}).get("range", {}),
        }
    if reads == "pictures" and "mels" in asked:
        return {"sound": {key: asked[key] for key in _SOUND}}
    return {key: asked[key] for key in _KEYS.get(reads, ()) if asked.get(key) is not None}


def _dataset(data: Artifact) -> Mapping[str, Any]:
    """The keys of the data set as they were given; those of one that was made of another are the other's."""
    inputs = data.manifest["inputs"]
    if "dataset" in inputs:
        found = inputs["dataset"]["component"]
        return found if isinstance(found, Mapping) else {}
    return _dataset(only_input(data, "data")) if "data" in inputs else {}
