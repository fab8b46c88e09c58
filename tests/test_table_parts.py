"""Tables of several files: what a column is, the file to train with says, and what others lack or have beside
it is said.
"""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

from kdx.core.errors import UserError
from kdx.data import contract
from kdx.data.datasets.csv import Csv

KEYS = {"target": "y", "kind": "auto", "ignore": []}


def table(place, **parts):
    """parts: text of the files, by part."""
    keys = {"train": "file", "test": "test_file", "pool": "unlabelled_file"}
    paths = dict.fromkeys(keys.values())
    for part, text in parts.items():
        file = place / f"{part}.{'jsonl' if text.startswith('{') else 'csv'}"
        file.write_text(text)
        paths[keys[part]] = str(file)
    return read(**paths)


def read(**keys):
    given = {"test_file": None, "unlabelled_file": None} | KEYS | keys
    loader = Csv(**given)
    raw = loader.load()
    contract.check(raw, loader.describe())
    return raw


def warned(raw):
    return [text for text, level in raw.notes if level == "warning"]


def xy(values):
    return "x,z,y\n" + "".join(f"{x},{k % 9},{k * 1.5}\n" for k, x in enumerate(values))


def test_one_word_in_another_file_is_refused_and_turns_no_numbers_into_categories(tmp_path):
    train, other = xy(range(40)), xy([*range(10), "oops", 11, "?"])
    assert table(tmp_path, train=train, test=other.replace("oops", "")).columns[0].categories is None
    for part in ("test", "pool"):
        with pytest.raises(UserError) as error:
            table(tmp_path, train=train, **{part: other})
        assert str(error.value) == (
            f"the column 'x' of '{tmp_path}/train.csv' holds numbers, but in '{tmp_path}/{part}.csv' row 11 "
            "has 'oops': put the like or nothing there, or leave the column out with dataset.ignore=[x]"
        )
    with pytest.raises(UserError, match=r"holds true and false, but in .* words too \(maybe\)"):
        table(tmp_path, train=xy(["true", "false"] * 9), test=xy(["true", "maybe"]))
    with pytest.raises(UserError, match="holds numbers, but in .* days or times"):
        table(tmp_path, train=xy(range(2000, 2030)), test=xy(["2020-01-01", "2020-01-02"]))
    quoted = "".join(f'{{"x": "{k}.5", "z": 1, "y": {k}}}\n' for k in range(9))
    with pytest.raises(UserError, match=r"holds numbers, but in .*test.jsonl' numbers in quotes"):
        table(tmp_path, train=train, test=quoted)


def test_a_word_among_the_numbers_of_a_target_of_another_file_is_named(tmp_path):
    test = "x,z,y\n1,2,3\n4,5,dear\n"
    with pytest.raises(UserError, match=r"test.csv' holds words \(row 2 has 'dear'\)"):
        table(tmp_path, train=xy(range(40)), test=test)


def test_numbers_as_categories_are_the_same_words_in_all_files(tmp_path):
    """Numbers, days and flags where a file has nothing else, words where one stands beside them."""
    for words, others in (
        (["3.0", "4", "a", "007"], ["3", "4.0", "7", "3"]),
        (["2020-01-01", "2020-02-01", "never", "2020-01-01"], ["2020-02-01", "2020-01-01"]),
        (["True", "FALSE", "unknown", "true"], ["true", "False"]),
    ):
        raw = table(tmp_path, train=xy(words * 10), test=xy(others * 3), pool=xy(others))
        assert len(raw.columns[0].categories) == len(set(raw.part("train")[0][:, 0]))
        assert not warned(raw), "no word is new"
        assert set(raw.part("test")[0][:, 0]) <= set(raw.part("train")[0][:, 0])
    raw = table(tmp_path, train=xy(["3.0", "a"] * 10), test=xy(["3", "3.00"]))
    assert raw.columns[0].categories == ("3", "a") and raw.part("test")[0][:, 0].tolist() == [0, 0]


def test_classes_that_look_like_numbers_are_the_same_in_all_files(tmp_path):
    train = "x,y\n" + "".join(f"{k},{['3.0', '4', 'rest'][k % 3]}\n" for k in range(30))
    raw = table(tmp_path, train=train, test="x,y\n1,3\n2,4.0\n")
    assert raw.task["classes"] == ["3", "4", "rest"] and raw.part("test")[1].tolist() == [0, 1]


def test_words_that_training_has_never_seen_are_counted(tmp_path):
    raw = table(
        tmp_path,
        train=xy(["a", "b"] * 10),
        test=xy(["a", "new", "c", "", "new"]),
        pool=xy(["c", "a", "c"]),
    )
    assert warned(raw) == [
        "x of test.csv holds words that training has never seen, in 2 of 5 rows: new",
        "x of test.csv is missing in 1 of 5 rows, and in none of train.csv",
        "x of pool.csv holds words that train.csv has never seen, in 2 of 3 rows: c",
    ]


def test_one_word_among_the_numbers_of_the_file_to_train_with_is_said(tmp_path):
    raw = table(tmp_path, train=xy("n.a." if k == 8 else k // 3 for k in range(100)))
    assert raw.columns[0].categories is not None and warned(raw) == [
        "the column x of train.csv holds numbers, but row 9 has 'n.a.' (1 of 100 values, 1%), and is a "
        "category: put a number or nothing there to have it as numbers"
    ]
    raw = table(tmp_path, train=xy("n.a." if k == 8 else k for k in range(100)))
    assert "x" in raw.dropped and warned(raw) == [
        "the column x of train.csv holds numbers, but row 9 has 'n.a.' (1 of 100 values, 1%), and is left "
        "out: put a number or nothing there to have it as numbers"
    ]
    assert warned(table(tmp_path, train=xy(["a", "1", "2"] * 9))) == [], "a category with few numbers"


def test_a_category_that_a_batch_lacks_is_read(tmp_path):
    """A row group of Parquet, and the first rows of JSON lines, without any word of the column."""
    import pyarrow
    import pyarrow.parquet

    words = [None] * 20 + ["a", "b"] * 10
    columns = {"x": words, "z": list(range(40)), "y": [k / 2 for k in range(40)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=20)
    rows = zip(*columns.values(), strict=True)
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for name in ("a.parquet", "a.jsonl"):
        raw = read(file=str(tmp_path / name))
        assert raw.columns[0].categories == ("(missing)", "a", "b")
        assert np.array_equal(raw.part("train")[0][:, 0], [0.0] * 20 + [1.0, 2.0] * 10)


def test_columns_and_targets_of_nan_alone_have_no_value(tmp_path):
    import pyarrow
    import pyarrow.parquet

    nan = pyarrow.array([float("nan")] * 20)
    z, y = pyarrow.array(range(20)), pyarrow.array([k / 2 for k in range(20)])
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"x": nan, "z": z, "y": y}), file)
    assert read(file=str(file)).dropped == {"x": "it has no value"}
    with pytest.raises(UserError, match=r"no row of '.*a.parquet' has a target \(x\)"):
        read(file=str(file), target="x")


def test_texts_in_views_of_words_are_texts_and_bytes_are_none(tmp_path):
    import pyarrow
    import pyarrow.parquet

    from kdx.data.text.table import read_text_table

    def file(values):
        pyarrow.parquet.write_table(
            pyarrow.table({"text": values, "label": ["a", "b"]}), tmp_path / "a.parquet"
        )
        return tmp_path / "a.parquet"

    views = None
    with contextlib.suppress(
        AttributeError, pyarrow.ArrowNotImplementedError
    ):  # an older pyarrow writes none
        views = file(pyarrow.array(["and is", "on"], pyarrow.string_view()))
    if views:
        found = read_text_table(views, None, None)
        assert [texts for texts, _ in found.batches()] == [["and is", "on"]]
    with pytest.raises(UserError, match=r"holds lists, bytes or the like \(b'and', say\), and no text: name"):
        read_text_table(file(pyarrow.array([b"and", b"on"])), None, None)
    with pytest.raises(UserError, match=r"holds true and false \(true, say\), and no text: name"):
        read_text_table(file(pyarrow.array([True, False])), None, None)


def test_a_test_file_alone_decides_nothing_of_training(tmp_path):
    """Its words leave no column out and keep none, and networks see the same of the rows to train with."""
    same = "x,z,y\n" + "".join(f"one,{k % 9},{k * 1.5}\n" for k in range(30))
    assert "x" in table(tmp_path, train=same, test=xy(["two", "one"])).dropped
    train = xy("abc"[k % 3] for k in range(30))
    many = xy(f"word {k}" for k in range(500))
    alone, beside = table(tmp_path, train=train), table(tmp_path, train=train, test=many)
    assert not beside.dropped
    codes = [
        [
            [found["categories"][code] for code in found["codes"]]
            for found in spec["columns"]
            if "codes" in found
        ]
        for spec in (raw.adapter([raw.part("train")[0]])[0] for raw in (alone, beside))
    ]
    assert codes[0] == codes[1] == [["a", "b", "c"]]
