"""Files of JSON lines: read a few MB at a time, with what their columns hold as all rows have it, and the
line named that is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdx.core.errors import UserError
from kdx.data.opening import not_utf8, open_file, said

if TYPE_CHECKING:
    import pyarrow

_JSON_KINDS = {str: "a word", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


class SeenOtherwise(Exception):
    """A later row shows that a column holds something else than it seemed to: begin again."""


def tables_of_lines(path: Path, block: int, seen: dict[str, pyarrow.DataType]) -> Iterator[pyarrow.Table]:
    """The rows in order, about `block` bytes of the file at a time.

    seen: what the columns hold as far as is known, {}: nothing is; it is filled. Where a later row shows that
    a column holds more, or that there is another one, the rest of the file is looked at for such too, and
    then SeenOtherwise is raised: a second reading with the same `seen` goes through, unless the file was
    changed. Raises UserError where it cannot be read.
    """
    found = otherwise = False
    for lines in _blocks(path, block):
        table = _table(path, lines, seen)
        if table is None:
            table = _inferred(path, lines)
            wider = _joined(path, seen, dict(zip(table.schema.names, table.schema.types, strict=True)))
            if seen and wider == seen:
                raise broken_line(path) or UserError(f"'{path}' cannot be read: a value fits no column")
            otherwise |= wider != seen and (found or bool(seen))
            seen |= wider
        found = True
        if not otherwise:
            yield table
    if otherwise:
        raise SeenOtherwise
    if not found:
        raise UserError(f"'{path}' cannot be read: Empty JSON file")


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    """Whole lines, of about so many bytes together."""
    with said(path), open_file(path) as file:
        start = True
        while block := file.read(size):
            block += file.readline()
            block = block.removeprefix(b"\xef\xbb\xbf") if start else block
            start = False
            if block.strip():
                yield block


def _table(path: Path, lines: bytes, seen: Mapping[str, pyarrow.DataType]) -> pyarrow.Table | None:
    """None where the columns hold something else than `seen` says."""
    import pyarrow
    from pyarrow import json

    if not seen:
        return None
    asked = json.ParseOptions(
        explicit_schema=pyarrow.schema(list(seen.items())), unexpected_field_behavior="error"
    )
    try:
        table = _parsed(lines, asked)
    except pyarrow.ArrowInvalid:
        return None
    return _sound(path, table)


def _inferred(path: Path, lines: bytes) -> pyarrow.Table:
    """By these lines alone."""
    from pyarrow import json

    try:
        with said(path):
            table = _parsed(lines, json.ParseOptions())
    except UserError as error:
        raise broken_line(path) or error from None
    return _sound(path, table)


def _parsed(lines: bytes, asked: pyarrow.json.ParseOptions) -> pyarrow.Table:
    import pyarrow
    from pyarrow import json

    how = json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    return json.read_json(pyarrow.BufferReader(lines), read_options=how, parse_options=asked)


def _sound(path: Path, table: pyarrow.Table) -> pyarrow.Table:
    try:
        table.validate(full=True)  # the reader lets bytes pass that are not UTF-8
    except ValueError:
        raise not_utf8(path) from None
    return table


def _joined(
    path: Path, seen: Mapping[str, pyarrow.DataType], more: Mapping[str, pyarrow.DataType]
) -> dict[str, pyarrow.DataType]:
    """What columns hold by all of these rows, in the order in which they were seen first."""
    found = dict(seen)
    for name, kind in more.items():
        if (wider := _wider(found[name], kind) if name in found else kind) is None:
            raise broken_line(path) or UserError(
                f"'{path}' cannot be read: '{name}' holds {found[name]}, and further down {kind}: a column "
                "holds one kind of value"
            )
        found[name] = wider
    return found


def _wider(one: pyarrow.DataType, other: pyarrow.DataType) -> pyarrow.DataType | None:
    """What holds both, as Arrow has it of a file that it sees whole; None: nothing does."""
    import pyarrow
    from pyarrow import types

    if one == other or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    if {one, other} == {pyarrow.int64(), pyarrow.float64()}:
        return pyarrow.float64()
    if all(types.is_string(kind) or types.is_temporal(kind) for kind in (one, other)):
        return pyarrow.string()
    if types.is_list(one) and types.is_list(other):
        inner = _wider(one.value_type, other.value_type)
        return None if inner is None else pyarrow.list_(inner)
    if types.is_struct(one) and types.is_struct(other):
        fields = {field.name: field.type for field in one}
        for field in other:
            kind = _wider(fields[field.name], field.type) if field.name in fields else field.type
            if kind is None:
                return None
            fields[field.name] = kind
        return pyarrow.struct(list(fields.items()))
    return None


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
            for name, value in _all_values(found):
                kind: type = float if type(value) is int else type(value)
                before, where = kinds.setdefault(name, (kind, number)) if value is not None else (kind, 0)
                if before is not kind:
                    return UserError(
                        f"line {number:,} of '{path}' has {_JSON_KINDS[kind]} in '{name}', and line "
                        f"{where:,} {_JSON_KINDS[before]}: a column holds one kind of value"
                    )
    return None


def _all_values(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Of an object, and of what lies in it: those of a list "name[]", those of an object "name.key"."""
    for name, inner in value.items():
        todo = [(f"{before}{name}", inner)]
        for called, one in todo:
            yield called, one
            if isinstance(one, list):
                todo += [(f"{called}[]", further) for further in one]
            elif isinstance(one, dict):
                yield from _all_values(one, f"{called}.")
