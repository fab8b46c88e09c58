"""A file of classes that have other names elsewhere: a line a class, theirs: ours."""

from __future__ import annotations

from typing import Any

from kdx.config.yaml_files import read_yaml
from kdx.core import path_checks
from kdx.core.class_names import nfc
from kdx.core.errors import UserError

CLASS_LINES = "it must hold a line a class, theirs: ours, such as zero: '0'"
"""What such a file is asked for."""


def read_class_names(key: str, path: Any) -> dict[str, str]:
    """theirs -> ours; empty of None. key: what names the file."""
    if path is None:
        return {}
    file = path_checks.path(key, path, "a file")
    if not file.is_file():
        raise UserError(f"{key} '{path}' is no file: name one of lines theirs: ours")
    found = read_yaml(file, CLASS_LINES)[0]
    if any(here is None or isinstance(here, list | dict) for here in found.values()):
        raise UserError(f"{key} '{path}': {CLASS_LINES}")
    return {nfc(there): nfc(here) for there, here in found.items()}
