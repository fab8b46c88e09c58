"""A file of classes that have other names elsewhere: a line a class, theirs: ours."""

from __future__ import annotations

from typing import Any

from kdx.config.yaml_files import read_yaml
from kdx.core import checks
from kdx.core.errors import UserError


def read_class_names(key: str, path: Any) -> dict[str, str]:
    """theirs -> ours; empty of None. key: what names the file."""
    if path is None:
        return {}
    file = checks.path(key, path, "a file")
    if not file.is_file():
        raise UserError(f"{key} '{path}' is no file: name one of lines theirs: ours")
    return {str(there): str(here) for there, here in read_yaml(file)[0].items()}
