"""Paths in the words of a command line, which may hold any character, quoted for Hydra."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Sequence

from kdx.config.options import own, read_option
from kdx.core.errors import UserError
from kdx.store.places import USUAL, path_keys
from kdx.store.resolve import allow

_PATHS = re.compile(
    rf"^(?P<key>\+{{0,2}}(?:\w+\.)*(?:{USUAL}|checkpoint|store|hydra\.run\.dir|hydra\.sweep\.dir))=(?P<value>.+)$",
    re.S,
)
OF_DATA = re.compile(r"^(?P<key>\+{0,2}dataset\.(?P<name>\w+))=(?P<value>.+)$", re.S)
PLAIN = re.compile(r"^[A-Za-z_./-][\w./+-]*$", re.A)
QUOTED = re.compile(r"^(?P<quote>['\"]).*(?P=quote)$", re.S)
PATH = re.compile(r"(?:^|,)\s*(?P<path>(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")\s*(?=,|$)|[^,]*)", re.S)
"""One of several paths between commas: in quotes, or up to the next comma."""
FUNCTION = re.compile(r"^(?P<name>choice|range|interval|glob|shuffle|sort|tag|str)\((?P<values>.*)\)$", re.S)
NOT_TEXT = ("null", "true", "false", "nan", "inf")


def quote_paths(words: Sequence[str], sweep: bool = False) -> list[str]:
    """Paths may hold `=`, commas, spaces and the like, which mean something to Hydra: their values are
    quoted.

    sweep: a comma stands between paths, as between other values, where it is not in quotes, and choice(...)
    and the like mean what they mean.
    """
    if typed := [w.partition("=")[2] for w in words if w.lstrip("+").startswith("allow=")]:
        allow(re.findall(r"[\w.]+", typed[-1]))
    paths = own_paths()
    return [_quoted(w, sweep, paths) for w in words]


def own_paths() -> frozenset[str]:
    """Keys of the user's own data sets that are paths, as their loaders say."""
    found: set[str] = set()
    for file in (file for folder in own for file in sorted((folder / "dataset").glob("*.yaml"))):
        # one that cannot be read is reported where it is chosen
        with contextlib.suppress(UserError):
            node = read_option(file)
            found.update(path_keys(node) if isinstance(node, dict) else ())
    return frozenset(found)


def quoted(path: str) -> str:
    """A path as a value for Hydra."""
    return _quoted(f"store={path}", False, ()).partition("=")[2]


def _quoted(word: str, sweep: bool, own_paths: Collection[str]) -> str:
    match = _PATHS.match(word) or ((found := OF_DATA.match(word)) and found["name"] in own_paths and found)
    if not match:
        return word
    key, value = match["key"], match["value"]
    if not sweep or key.lstrip("+").startswith("hydra."):  # a folder of Hydra's is one
        return f"{key}={_as_text(value)}"
    if function := FUNCTION.match(value):
        if function["name"] != "choice":
            return word
        value = function["values"]
    return f"{key}={','.join(map(_as_text, _apart(value)))}"


def _apart(values: str) -> list[str]:
    """The paths between the commas that stand in no quotes."""
    return [found["path"].strip() for found in PATH.finditer(values)] if values else [values]


def _as_text(value: str) -> str:
    if value == "null" or QUOTED.match(value) or (PLAIN.match(value) and value.lower() not in NOT_TEXT):
        return value
    # In Hydra's quoted strings a backslash stands for itself, but before a quote, where it is doubled.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"
