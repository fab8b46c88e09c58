"""JSON lines read a block at a time: what their columns hold, what is said of a line that does not fit, and
how much of them is held.
"""

import csv
import gzip
import json

import numpy as np
import pytest

from kdx.core.errors import UserError
from kdx.data.column_files import ColumnFile


class _Rows:
    def __init__(self):
        self.rows = 0

    def add(self, columns):
        self.rows += columns.rows


LATER = {  # later values of a column that begins with others -> what it holds
    "int then float": ([1, 2], [1.5, None], "double"),
    "float then int": ([1.5], [7], "double"),
    "nothing then int": ([None, None], [3], "int64"),
    "int then nothing": ([1], [None], "int64"),
    "nothing": ([None], [None], "null"),
    "flags": ([True], [None, False], "bool"),
    "day then word": (["2020-01-01 10:00:00"], ["soon"], "string"),
    "word then day": (["soon"], ["2020-01-01 10:00:00"], "string"),
    "days": (["2020-01-01 10:00:00"], ["2021-01-01 10:00:00"], "timestamp[s]"),
    "lists": ([[1]], [[1.5, None], []], "list<item: double>"),
    "empty lists": ([[]], [["a"]], "list<item: string>"),
    "objects": ([{"a": 1}], [{"b": "x"}, {"a": 2.5}], "struct<a: double, b: string>"),
}


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_column_of_json_lines_holds_hangs_on_all_of_its_rows(tmp_path, packed):
    """In blocks of 1 KB it is what Arrow says that has seen all rows at once, and so are the values."""
    from pyarrow import json as arrow_json

    rows = 600
    columns = {name: [first[i % len(first)] for i in range(rows)] for name, (first, _, _) in LATER.items()}
    for name, (_, later, _) in LATER.items():
        columns[name] += later * (12 // len(later))
    lines = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]
    lines[-3]["late"] = 5  # a column that only one row has
    del lines[-1]["flags"]
    text = "\ufeff" + "\n\n".join(map(json.dumps, lines))
    file = tmp_path / f"a.jsonl{'.gz' if packed else ''}"
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    (tmp_path / "whole.jsonl").write_text(text.removeprefix("\ufeff"))
    whole = arrow_json.read_json(
        tmp_path / "whole.jsonl", read_options=arrow_json.ReadOptions(block_size=len(text))
    )
    read = ColumnFile(file, block=1 << 10)
    assert read.passed(_Rows).rows == len(lines)
    assert read.lines == dict(zip(whole.column_names, whole.schema.types, strict=True))
    held = {name: str(kind) for name, kind in read.lines.items()}
    assert held == {**{name: kind for name, (_, _, kind) in LATER.items()}, "late": "int64"}
    for name in whole.column_names:
        given = [value for part in read.batches(50) for value in part[name].values.to_pylist()]
        assert given == whole[name].to_pylist(), name
    some = ColumnFile(file, "late".__eq__, block=1 << 10)
    assert some.passed(_Rows).rows == len(lines)
    assert all(list(part) == ["late"] for part in some.batches(10**6))


def test_json_lines_hold_what_a_csv_of_the_same_rows_holds(tmp_path):
    """Numbers to the last bit, words and what is missing, however the file is cut into blocks."""
    random = np.random.default_rng(0)
    numbers, words = random.normal(size=2000), random.choice(["red", "blue", "grün"], 2000)
    numbers[:1000] = np.arange(1000)
    rows = [
        {"x": None if i % 7 == 0 else float(x), "n": i, "w": str(w), "t": f'a "{i}", b'}
        for i, (x, w) in enumerate(zip(numbers, words, strict=True))
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for block in (1 << 10, 1 << 14, 1 << 21):
        found = {}
        for name in ("a.csv", "a.jsonl"):
            file = ColumnFile(tmp_path / name, block=block)
            file.passed(_Rows)
            parts = list(file.batches(300))
            found[name] = {
                "x": np.concatenate([part["x"].numbers() for part in parts]),
                "n": np.concatenate([part["n"].numbers() for part in parts]),
                "w": np.array([word for part in parts for word in part["w"].words()]),
                "t": np.array([text for part in parts for text in part["t"].text()]),
            }
        for column, held in found["a.csv"].items():
            assert np.array_equal(held, found["a.jsonl"][column], equal_nan=column == "x"), (block, column)
        assert np.isnan(found["a.jsonl"]["x"]).sum() == 286
        assert np.array_equal(found["a.jsonl"]["n"], np.arange(2000))


def test_json_lines_are_held_a_block_at_a_time(tmp_path):
    """Of a file of 16 MB Arrow holds a few blocks."""
    import pyarrow

    row = json.dumps({f"x{i}": i / 7 for i in range(10)}) + "\n"
    (tmp_path / "a.jsonl").write_text(row * (16_000_000 // len(row)))
    before, most = pyarrow.total_allocated_bytes(), 0

    class Seen(_Rows):
        def add(self, columns):
            nonlocal most
            super().add(columns)
            most = max(most, pyarrow.total_allocated_bytes() - before)

    file = ColumnFile(tmp_path / "a.jsonl")
    assert file.passed(Seen).rows == 16_000_000 // len(row) == sum(part.rows for part in file.batches())
    assert 0 < most < 8_000_000


@pytest.mark.parametrize(
    ("later", "says"),
    [
        ('{"x": "a", "l": [1]}', "line 501 of '{}' has a word in 'x', and line 1 a number: a column"),
        ('{"x": true, "l": [1]}', "line 501 of '{}' has true or false in 'x', and line 1 a number"),
        ('{"x": 1, "l": ["a"]}', "line 501 of '{}' has a word in 'l[]', and line 1 a number: a column"),
        (
            '{"o": {"k": [{"z": 1}, {"z": [2]}]}}',
            "line 501 of '{}' has a list in 'o.k[].z', and line 501 a number",
        ),
        ('{"x": 1, "l": [1]', "line 501 of '{}' is no JSON object: Expecting"),
        ("[1]", "line 501 of '{}' is no JSON object: write an object a line"),
        (b'{"x": 1, "l": [1], "w": "caf\xe9"}', "'{}' is not UTF-8: line 501 has the byte 0xe9"),
    ],
)
def test_a_later_line_that_does_not_fit_is_named(tmp_path, later, says):
    first = b'{"x": 1, "l": [1], "w": "a"}\n' * 500
    last = later if isinstance(later, bytes) else later.encode()
    (tmp_path / "a.jsonl").write_bytes(first + last + b"\n")
    with pytest.raises(UserError) as caught:
        ColumnFile(tmp_path / "a.jsonl", block=1 << 10).passed(_Rows)
    assert str(caught.value).startswith(says.format(tmp_path / "a.jsonl"))
    assert len(str(caught.value).splitlines()) == 1


def test_json_lines_longer_than_a_block_that_were_changed_or_hold_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"x": i, "w": "w" * 9000}) + "\n" for i in range(9)))
    file = ColumnFile(path, block=1 << 10)
    assert file.passed(_Rows).rows == 9 and [part.rows for part in file.batches()] == [1] * 9
    path.write_text('{"x": 1.5, "w": "a"}\n')
    with pytest.raises(UserError, match="was changed while it was read"):
        list(file.batches())
    for text in ("", "\n \n"):
        path.write_text(text)
        with pytest.raises(UserError, match="cannot be read: Empty JSON file"):
            ColumnFile(path).passed(_Rows)
