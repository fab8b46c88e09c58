"""Files of columns: what is read of CSV, TSV, JSON lines and Parquet, and what is said of files that are not
as they should be.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from kdx.core.errors import UserError
from kdx.data.column_files import ending, names_in, read_columns

CSV = """age,town,smokes,seen,empty
31,Oslo,true,2020-01-01,
NA,"Køge, north",false,2020-01-02,
1.5,?,,2020-02-01,
"""


def written(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_what_a_csv_holds(tmp_path):
    found = read_columns(written(tmp_path, "a.csv", CSV))
    assert list(found) == ["age", "town", "smokes", "seen", "empty"] and found.rows == 3
    assert [found[name].kind for name in found] == ["number", "word", "flag", "time", "empty"]
    assert np.array_equal(found["age"].numbers(), [31, np.nan, 1.5], equal_nan=True)
    assert found["age"].words() == ["31", None, "1.5"]
    assert found["town"].words() == ["Oslo", "Køge, north", None]
    assert found["town"].text() == ["Oslo", "Køge, north", "?"]
    assert np.array_equal(found["smokes"].numbers(), [1, 0, np.nan], equal_nan=True)
    assert found["smokes"].words() == ["true", "false", None]
    assert found["empty"].words() == [None] * 3 and np.isnan(found["empty"].numbers()).all()
    with pytest.raises(TypeError, match="'town' holds no numbers"):
        found["town"].numbers()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", "x,y\n1,a\n2,b\n"),
        ("semicolon.csv", "x;y\n1;a\n2;b\n"),
        ("a.tsv", "x\ty\n1\ta\n2\tb\n"),
        ("bom.csv", b"\xef\xbb\xbfx,y\r\n1,a\r\n2,b\r\n"),
        ("A.CSV", "x,y\n1,a\n2,b\n"),
        ("a.csv.gz", gzip.compress(b"x,y\n1,a\n2,b\n", mtime=0)),
        ("a.jsonl", '{"x": 1, "y": "a"}\n{"x": 2, "y": "b"}\n'),
        ("a.jsonl.gz", gzip.compress(b'{"x": 1, "y": "a"}\n{"x": 2, "y": "b"}\n', mtime=0)),
    ],
    ids=["csv", "semicolon", "tsv", "bom", "capitals", "csv.gz", "jsonl", "jsonl.gz"],
)
def test_forms_of_one_table(tmp_path, name, data):
    path = written(tmp_path, name, data)
    assert names_in(path) == ("x", "y")
    found = read_columns(path)
    assert found["x"].numbers().tolist() == [1, 2] and found["y"].text() == ["a", "b"]
    assert list(read_columns(path, only=["y"])) == ["y"]


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    kinds = {
        "x": pyarrow.array([1, None], pyarrow.int16()),
        "y": pyarrow.array(["a", "b"]).dictionary_encode(),
        "v": pyarrow.array([[1.0, 2.0], [3.0, 4.0]]),
    }
    parquet.write_table(pyarrow.table(kinds), path)
    found = read_columns(path)
    assert names_in(path) == ("x", "y", "v")
    assert [found[name].kind for name in found] == ["number", "word", "other"]
    assert np.array_equal(found["x"].numbers(), [1, np.nan], equal_nan=True)
    assert found["y"].words() == ["a", "b"]
    assert list(read_columns(path, only=["y"])) == ["y"]


def test_json_lines_may_lack_keys(tmp_path):
    found = read_columns(written(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b", "label": 3}\n'))
    assert found["label"].words() == [None, "3"] and found["text"].text() == ["a", "b"]


def test_words_of_numbers_are_written_alike_whatever_stands_beside_them(tmp_path):
    mixed = "3\n3.0\n03\n+3.50\n-0\n1e5\n1e+05\nTrue\nfalse\n7 a\n9007199254740993\nN/A\n"
    found = read_columns(written(tmp_path, "a.csv", f"x\n{mixed}"))["x"]
    assert found.kind == "word" and found.words() == [
        *("3", "3", "3", "3.5", "0", "1e5", "100000", "true", "false", "7 a", "9007199254740993", None)
    ], "1e5 may be a code"
    whole = read_columns(written(tmp_path, "b.csv", "x\n3\n9007199254740993\n"))["x"]
    assert whole.kind == "number" and whole.words() == ["3", "9007199254740993"]


def test_views_of_words_are_words(tmp_path):
    if not hasattr(pyarrow, "string_view"):
        pytest.skip("this pyarrow has no views")
    words = pyarrow.array(["a", None, "b"], pyarrow.string_view())
    try:
        parquet.write_table(pyarrow.table({"x": words}), tmp_path / "a.parquet")
    except pyarrow.ArrowNotImplementedError:
        pytest.skip("this pyarrow writes no views")
    found = read_columns(tmp_path / "a.parquet")["x"]
    assert found.kind == "word" and found.words() == ["a", None, "b"]


def test_names_that_are_odd(tmp_path):
    """An end of a line in quotes, the nameless index of pandas, a quote inside of a name."""
    two = written(tmp_path, "a.csv", '"a\nb",y\n1,2\n3,4\n')
    assert names_in(two) == ("a\nb", "y") and read_columns(two)["a\nb"].numbers().tolist() == [1, 3]
    index = written(tmp_path, "b.csv", ",y,x\n0,1,2\n1,3,4\n")
    assert names_in(index) == ("column_1", "y", "x")
    assert read_columns(index, only=["column_1"])["column_1"].numbers().tolist() == [0, 1]
    inch = written(tmp_path, "c.csv", 'a 5",y\n1,2\n3,4\n')
    assert names_in(inch) == ('a 5"', "y") and read_columns(inch)['a 5"'].numbers().tolist() == [1, 3]


def test_a_quote_that_is_not_closed_is_named_by_its_line(tmp_path):
    rows = 'x,y\n1,a\n2,"two\nlines"\n7,"oops\n8,b\n9,c\n'
    for name, end in (("a.csv", ""), ("b.csv", "10,d")):
        with pytest.raises(UserError, match="quote of the row that begins in line 5 is not closed"):
            read_columns(written(tmp_path, name, rows + end))
    packed = written(tmp_path, "c.csv.gz", gzip.compress(rows.encode()))
    with pytest.raises(UserError, match="begins in line 5 is not closed"):
        read_columns(packed)
    fine = written(tmp_path, "d.csv", 'x,y\n1,5" pipe\n2,"a ""b"""\n')
    assert read_columns(fine)["y"].text() == ['5" pipe', 'a "b"'], "an odd number of quotes, all well"


def test_text_stays_as_it_is(tmp_path):
    path = written(tmp_path, "a.csv", 'text,label\n007,x\n"two\nlines ",y\nnull,z\n,x\n')
    assert read_columns(path, as_text=["text"])["text"].text() == ["007", "two\nlines ", "null", ""]
    numbers = written(tmp_path, "b.csv", "text,label\n007,x\n8,y\n")
    assert read_columns(numbers)["text"].kind == "number"
    assert read_columns(numbers, as_text=["text"])["text"].text() == ["007", "8"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", "x,y\n1,a\n2,b,c\n", r"cannot be read: .*Row #3: Expected 2 columns, got 3: 2,b,c"),
        ("a.csv", "x,y\n1,a\n2\n", r"cannot be read: .*Row #3: Expected 2 columns, got 1: 2"),
        ("a.csv", b"x,y\n1,a\n2,caf\xe9\n", "is not UTF-8: line 3 has the byte 0xe9 near '2,caf"),
        ("a.csv", b"x,caf\xe9\n1,a\n", "is not UTF-8: line 1 has the byte 0xe9"),
        (
            "a.csv",
            b"x,y\n" + b"1,a\n" * 200_000 + b"2,caf\xe9\n",
            "is not UTF-8: line 200002 has the byte 0xe9",
        ),
        ("a.jsonl", b'{"x": "a"}\n{"x": "caf\xe9"}\n', "is not UTF-8: line 2 has the byte 0xe9"),
        ("a.csv", "", "has no header: its first line is empty"),
        ("a.csv", "1,2\n3,4\n", r"has no header: its first line holds numbers \(1, 2\)"),
        ("a.csv", "x,x\n3,4\n", "has two columns that are called 'x'"),
        ("a.csv", "x,y\n", "has no rows"),
        ("a.jsonl", "", "cannot be read: Empty JSON file"),
        ("a.jsonl", "[1]\n", r"line 1 of '.*a\.jsonl' is no JSON object"),
        ("a.jsonl", '{"x": 1}\n\n{"x": 2\n', r"line 3 of '.*a\.jsonl' is no JSON object: Expecting"),
        ("a.jsonl", '{"x": 1}\n' * 5 + "oops\n", r"line 6 of '.*' is no JSON object: Expecting value"),
        (
            "a.jsonl",
            '{"x": 1}\n{"x": null}\n{"x": "a"}\n',
            "line 3 of '.*' has a word in 'x', and line 1 a n",
        ),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"x": 1}\n{x}\n', mtime=0),
            r"line 2 of '.*a\.jsonl\.gz' is no JSON object",
        ),
        ("a.parquet", "nothing of that kind", "cannot be read: .*Parquet"),
        ("a.csv.gz", "not packed", "cannot be read: "),
        ("a.txt", "x,y\n1,2\n", r"must end with \.csv, \.tsv, \.jsonl, \.ndjson or \.parquet"),
    ],
)
def test_bad_files(tmp_path, name, data, message):
    with pytest.raises(UserError, match=message) as error:
        read_columns(written(tmp_path, name, data))
    assert name in str(error.value)


def test_a_column_that_is_not_there(tmp_path):
    found = read_columns(written(tmp_path, "a.csv", CSV))
    with pytest.raises(UserError, match=r"dataset.target=aeg, and '.*a.csv' has no such column.*'age'"):
        found.column("aeg", "dataset.target")
    with pytest.raises(UserError, match="it has age, town, smokes, seen, empty"):
        found.column("price", "dataset.target")
    assert found.column("age", "dataset.target").kind == "number"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="the data file '.*a.csv' is missing"):
        read_columns(tmp_path / "a.csv")


def test_endings():
    assert ending(Path("a.b.CSV.gz")) == ".csv" and ending(Path("a.parquet")) == ".parquet"
    assert ending(Path("a.parquet.gz")) == "" and ending(Path("csv")) == ""
