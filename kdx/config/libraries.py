"""Networks of torchvision and timm by name, known without importing either: that would take seconds."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

from kdx.core.paths import conf_dir

_FOLDERS = {
    "torchvision": ("torchvision", "models"),
    "timm": ("timm", "models"),
    "torchvision_detector": ("torchvision", "models", "detection"),
}
"""The option that takes networks by name -> where in which library they are built."""
_TAGGED = re.compile(r"[a-z]\w*\.[a-z]\w*", re.I)
"""How timm names a network with its weights: resnet18.a1_in1k."""
_BUILDER = re.compile(r"^@register_model\b(?:(?!^def ).)*?^def (\w+)\(", re.M | re.S)
"""A function that builds a network, as both mark theirs."""


def words_for(role: str, name: str) -> str:
    """What chooses that network of a library for a role, `student=timm student.name=resnet18.a1_in1k`; empty
    where none is called so, and of one that is an option of kdx."""
    if (conf_dir() / "model" / f"{name}.yaml").is_file():
        return ""
    plain = name.partition(".")[0]
    for option in _FOLDERS:
        tagged = option == "timm" and _TAGGED.fullmatch(name)
        if (tagged or plain == name) and plain in _builders(option):
            return f"{role}={option} {role}.name={name}"
    return ""


@functools.cache
def _builders(option: str) -> frozenset[str]:
    """Of those that an option takes by name; none of a library that is not installed."""
    library, *folders = _FOLDERS[option]
    found = importlib.util.find_spec(library)
    if found is None or not found.origin:
        return frozenset()
    names: set[str] = set()
    for file in Path(found.origin).parent.joinpath(*folders).glob("*.py"):
        names |= set(_BUILDER.findall(file.read_text(encoding="utf-8")))
    return frozenset(names)
