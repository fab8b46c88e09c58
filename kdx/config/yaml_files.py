"""YAML that may come from anybody, as plain data: no tags, no aliases, no dates, no key twice, of a size and
depth that a person would write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kdx.core.errors import UserError, printable

LARGEST_YAML = 1 << 20
"""Bytes of the largest file that is read."""
_DEEPEST = 16
_FLOAT = re.compile(
    r"^[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\.\d[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
"""As Hydra reads numbers: 1e-3 is one."""


def _resolvers(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Without dates, and with `_FLOAT` in place of PyYAML's own."""
    left_out = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
    kept = {first: [pair for pair in pairs if pair[0] not in left_out] for first, pairs in plain.items()}
    for first in "-+0123456789.":
        kept.setdefault(first, []).append(("tag:yaml.org,2002:float", _FLOAT))
    return kept


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers(yaml.SafeLoader.yaml_implicit_resolvers)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name), and a file of settings needs none")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key.value, str)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(f"the key '{twice[0]}' stands there twice")
        return super().construct_mapping(node, deep=True)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _resolvers(yaml.SafeDumper.yaml_implicit_resolvers)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def read_yaml(
    path: Path, form: str = "kdx config prints a file as --config takes it"
) -> tuple[dict[str, Any], bytes]:
    """(the keys of a file, its bytes). Raises UserError, naming the file, where it is none that could be
    settings. form: what is said of one without keys.
    """
    try:
        if not path.is_file():
            raise UserError(f"'{path}' does not exist, or is no file: --config needs one, or a run folder")
        with path.open("rb") as file:
            content = file.read(LARGEST_YAML + 1)
        if len(content) > LARGEST_YAML:
            raise UserError(f"'{path}' is too large: settings take {LARGEST_YAML >> 20} MiB at most")
        found = yaml.load(content.decode("utf-8"), _Loader)
        if not isinstance(found, dict):
            raise UserError(f"'{path}' holds no keys: {form}")
        return {str(key): _plain(value, 1) for key, value in found.items()}, content
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: BaseException) -> UserError:
    """What says that a file of YAML cannot be read, in which line, and why."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    said = str(problem or error).splitlines()
    first = next((line for line in said if line.strip()), type(error).__name__)
    where = f", line {mark.line + 1}" if mark else ""
    return UserError(f"'{path}' cannot be read{where}: {printable(first.strip())[:200]}")


def _plain(value: Any, depth: int) -> Any:
    """With texts for keys: `members: {2: ...}`."""
    if depth > _DEEPEST:
        raise ValueError(f"it has more than {_DEEPEST} keys or lists inside each other")
    if isinstance(value, dict):
        return {str(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, depth + 1) for inner in value]
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"it holds {type(value).__name__}, which no setting is")
    return value


def as_yaml(value: Mapping[str, Any]) -> str:
    """What `read_yaml` reads back as the same."""
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
