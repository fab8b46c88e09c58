"""Files of JSON lines: read whole, and the line named that is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdx.core.errors import UserError
from kdx.data.opening import not_utf8, open_file, said

if TYPE_CHECKING:
    import pyarrow

_JSON_KINDS = {str: "a word", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


def read_jsonl(path: Path) -> pyarrow.Table:
    """All of a file: what its columns hold is seen by all rows. Raises UserError where it cannot be read."""
    from pyarrow import json

    size = min(max(path.stat().st_size, 1 << 20), 1 << 28)
    try:
        with said(path):
            table = json.read_json(path, read_options=json.ReadOptions(block_size=size))
    except UserError as error:
        raise broken_line(path) or error from None
    try:
        table.validate(full=True)  # the reader lets bytes pass that are not UTF-8
    except ValueError:
        raise not_utf8(path) from None
    return table


def broken_line(path: Path) -> UserError | None:
    """The first line that is no object, or in which a column holds another kind of thing than before: Arrow
    names no line. None: there is none.
    """
    import json

    kinds: dict[str, tuple[type, int]] = {}
    with said(path), open_file(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError:
                return not_utf8(path)
            except ValueError as error:
                return UserError(
                    f"line {number:,} of '{path}' is no JSON object: {error}; write an object a line"
                )
            if not isinstance(found, dict):
                return UserError(f"line {number:,} of '{path}' is no JSON object: write an object a line")
            for name, value in found.items():
                kind: type = float if type(value) is int else type(value)
                before, where = kinds.setdefault(name, (kind, number)) if value is not None else (kind, 0)
                if before is not kind:
                    return UserError(
                        f"line {number:,} of '{path}' has {_JSON_KINDS[kind]} in '{name}', and line "
                        f"{where:,} {_JSON_KINDS[before]}: a column holds one kind of value"
                    )
    return None
