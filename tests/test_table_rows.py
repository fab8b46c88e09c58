"""Tables: what networks see of their rows, and files of the user's own with all that can be wrong there."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from torch import nn

from kdx.core import snapshot
from kdx.core.errors import UserError
from kdx.data import contract
from kdx.data.column_files import ColumnFile
from kdx.data.datasets.csv import Csv
from kdx.data.datasets.digits_table import DigitsTable
from kdx.data.new_rows.tables import NewTable
from kdx.data.sizes import check_sizes
from kdx.data.tables.kinds import MISSING_WORD
from kdx.data.tables.rows import MOST_CATEGORIES, Table, TableColumn, column_statistics
from kdx.models.tables import MISSING_CATEGORY, TableAdapter
from kdx.runs.export import formats

# What networks see


def seen(columns, train, rows=None, clip=5.0):
    """What a network sees of rows, by the statistics of those to train with."""
    train = np.array(train, np.float32)
    adapter = TableAdapter(columns=column_statistics(columns, train), clip=clip)
    rows = train if rows is None else np.array(rows, np.float32)
    network = adapter.wrap(nn.Identity(), (rows.shape[1],))
    found = network(torch.from_numpy(rows))
    assert found.shape[1:] == adapter.shape((rows.shape[1],))
    assert np.array_equal(adapter.small(torch.from_numpy(rows)), found.double().numpy())
    return found.tolist()


def test_numbers_have_mean_0_and_deviation_1_over_the_rows_to_train_with():
    assert seen([TableColumn("a")], [[1.0], [3.0]]) == [[-1.0], [1.0]]
    assert seen([TableColumn("a")], [[1.0], [3.0]], [[2.0], [5.0]]) == [[0.0], [3.0]]


def test_a_column_that_hardly_varies_does_not_explode():
    """One row in a hundred differs by a millionth, and a test row by one: a hundred thousand deviations."""
    train = [[0.0]] * 99 + [[1e-6]]
    assert seen([TableColumn("a")], train, [[1.0], [-1.0]]) == [[5.0], [-5.0]]
    assert seen([TableColumn("a"), TableColumn("still")], [[0.0, 7.0], [2.0, 7.0]], [[2.0, 1e9]]) == [[1.0]]


def test_a_missing_number_is_the_mean_and_has_a_flag():
    columns = [TableColumn("a", missing=1), TableColumn("a is missing", flag=True)]
    found = seen(columns, [[1.0, 0], [3.0, 0], [0.0, 1]])
    assert found == [[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], "the mean is of the rows that have one"


def test_nan_is_a_missing_value():
    """What `kdx predict` makes of an empty cell, without anything said: by hand."""
    nan = float("nan")
    flagged = [TableColumn("a", missing=1), TableColumn("a is missing", flag=True)]
    train = [[1.0, 0], [3.0, 0], [0.0, 1]]
    assert seen(flagged, train, [[nan, 0], [nan, 1], [nan, nan], [3.0, nan]]) == [[0, 1]] * 3 + [[1, 0]]
    assert seen([TableColumn("a")], [[1.0], [3.0]], [[nan], [3.0]]) == [[0.0], [1.0]]
    assert seen([TableColumn("a")], [[1.0], [3.0]], [[float("inf")], [-float("inf")]]) == [[5.0], [-5.0]]
    lacked = [TableColumn("a", ("x", MISSING_WORD, "y"))]
    assert seen(lacked, [[1.0], [1.0], [2.0]], [[nan], [2.0], [0.0]]) == [[1, 0], [0, 1], [0, 0]]
    assert seen([TableColumn("a", ("x", "y"))], [[0.0], [0.0], [1.0]], [[nan], [0.0]]) == [[0, 0], [1, 0]]
    assert MISSING_CATEGORY == MISSING_WORD


@pytest.mark.parametrize("kind", ["torch_export", pytest.param("onnx", marks=pytest.mark.slow)])
def test_an_exported_table_takes_nan_as_kdx_predict_takes_an_empty_cell(tmp_path, kind):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    (tmp_path / "train.csv").write_text(
        "age,city,size,y\n"
        + "".join(f"{'' if k % 4 == 1 else k},{'ab'[k % 2]},{k * 2},{k % 2}\n" for k in range(40))
    )
    raw = Csv(file=str(tmp_path / "train.csv"), **KEYS).load()
    spec, _ = raw.adapter([raw.part("train")[0]])
    adapter = TableAdapter(columns=spec["columns"], clip=spec["clip"])
    (width,) = adapter.shape((len(raw.columns),))
    network = adapter.wrap(nn.Linear(width, 2), (len(raw.columns),)).eval()
    (tmp_path / "new.csv").write_text("size,age,city\n,5,a\n4,,b\n,,\n4,5,a\n")
    (block,) = NewTable(tmp_path / "new.csv", spec["columns"]).blocks(9)
    with torch.no_grad():
        wanted = network(torch.as_tensor(block.inputs))
    nan, names = float("nan"), [column["name"] for column in spec["columns"]]
    given = torch.zeros(4, len(names))
    for name, cells in {"size": [nan, 4, nan, 4], "age": [5, nan, nan, 5], "city": [0, 1, nan, 0]}.items():
        given[:, names.index(name)] = torch.tensor(cells)
    asked = formats.Exported(network, tmp_path, "student", given, (), formats.Called("rows", "logits"))
    _, answer = formats.FORMATS[kind](asked)
    assert torch.allclose(answer(given), wanted, atol=1e-6) and wanted.isfinite().all()


def test_categories_have_a_place_each_and_an_unseen_one_none():
    sorts = [TableColumn("a", ("x", "y", "z"))]
    assert seen(sorts, [[2.0], [0.0], [2.0]], [[2.0], [0.0], [1.0]]) == [[1, 0], [0, 1], [0, 0]]


def test_rare_categories_share_a_place():
    many = [TableColumn("a", tuple(map(str, range(100))))]
    train = [[float(k)] for k in range(100)] + [[99.0]]
    found = np.array(seen(many, train))
    assert found.shape == (101, MOST_CATEGORIES + 1) and (found.sum(1) == 1).all()
    assert found[:, -1].sum() == 100 - MOST_CATEGORIES and found[-1, 0] == 1, "the most frequent comes first"


def test_a_table_that_is_not_standardised_is_seen_as_it_is():
    assert DigitsTable().load().adapter([np.zeros((3, 64), np.float32)]) == (None, [])


def test_what_does_not_vary_is_reported():
    table = Table({}, (TableColumn("a"), TableColumn("b")), {})
    spec, notes = table.adapter([np.array([[1, 2], [1, 3]], np.float32)])
    assert [column["std"] for column in spec["columns"]] == [0.0, 0.5]
    assert notes == [
        ("of the 2 rows to train with all have the same value in a: networks do not see it", "info")
    ]


# Files of the user's own

KEYS = {"test_file": None, "unlabelled_file": None, "target": "y", "kind": "auto", "ignore": []}
HEAD = "age,city,y\n"


def table(place, text, **keys):
    """The table of a file with this text, beside which others may lie."""
    path = place / "rows.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for key in ("test_file", "unlabelled_file"):
        if key in keys:
            other = place / f"{key}.csv"
            other.write_text(keys[key])
            keys[key] = str(other)
    loader = Csv(file=str(path), **KEYS | keys)
    raw = loader.load()
    contract.check(raw, loader.describe())
    return raw


def refused(place, text, **keys):
    with pytest.raises(UserError) as error:
        table(place, text, **keys)
    return str(error.value)


def numbers(rows, of=lambda k: k * 0.5):
    return HEAD + "".join(f"{20 + k},{'ab'[k % 2]},{of(k)}\n" for k in range(rows))


def test_columns_are_read_as_what_they_hold(tmp_path):
    rows = [
        "id,age,city,day,flag,empty,same,y",
        *(
            f"n{k},{'' if k == 3 else k},{['Rome', '', 'Oslo'][k % 3]},2020-01-{k + 1:02d},"
            f"{['true', 'false'][k % 2]},,1,{k / 2}"
            for k in range(24)
        ),
    ]
    raw = table(tmp_path, "\n".join(rows))
    assert [(column.name, column.categories, column.missing) for column in raw.columns] == [
        ("age", None, 3),
        ("city", ("(missing)", "Oslo", "Rome"), None),
        ("flag", None, None),
        ("age is missing", None, None),
    ]
    values, truth = raw.part("train")
    assert values[3].tolist() == [0.0, 2.0, 0.0, 1.0] and values[4].tolist() == [4.0, 0.0, 1.0, 0.0]
    assert truth[:3].tolist() == [[0.0], [0.5], [1.0]] and truth.dtype == np.float32
    assert raw.dropped == {
        "id": "it has 24 different words in 24 rows, as names or texts have",
        "day": "it holds days or times, of which kdx makes no numbers",
        "empty": "it has no value",
        "same": "it is 1 in every row",
    }
    assert raw.in_words() == "tables of 3 columns (2 numbers, 1 category)"
    notes, _ = raw.look({"labelled": values}, str)
    assert ("age: missing in 1 of 24 rows, the mean stands there", "info") in notes
    assert sum("is left out" in text for text, _ in notes) == 4
    assert raw.about()["dropped_columns"]["empty"] == "it has no value"


def test_rows_without_a_target_are_the_pool(tmp_path):
    raw = table(tmp_path, numbers(30, lambda k: "nan" if k in (2, 5) else "" if k == 7 else k / 2))
    assert [len(raw.part(part)[0]) for part in ("train", "unlabelled")] == [27, 3]
    assert raw.part("unlabelled")[0][:, 0].tolist() == [22, 25, 27]
    assert ("3 of 30 rows of rows.csv have no target, and join the pool", "info") in raw.notes
    assert raw.name("train", 2) == "row 4 of rows.csv" and raw.name("unlabelled", 2) == "row 8 of rows.csv"


def test_rows_of_files_of_one_name_are_told_apart(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/rows.csv").write_text(numbers(6))
    text = numbers(20)
    raw = table(tmp_path, text)
    assert raw.name("train", 4) == "row 5 of rows.csv"
    keys = KEYS | {"test_file": str(tmp_path / "new/rows.csv")}
    raw = Csv(file=str(tmp_path / "rows.csv"), **keys).load()
    assert raw.name("train", 4) == "row 5 of train/rows.csv"
    assert raw.name("test", 4) == "row 5 of test/rows.csv"


def test_further_files_are_parts(tmp_path):
    raw = table(
        tmp_path,
        numbers(20),
        test_file=numbers(6) + "30,a,\n",
        unlabelled_file="city,age\na,3\nc,4\n",
    )
    assert {part: len(raw.part(part)[0]) for part in raw.parts} == {"train": 20, "test": 6, "unlabelled": 2}
    assert raw.columns[1].categories == ("a", "b", "c"), "one code for all parts"
    assert ("1 of 7 rows of test_file.csv have no target, and are left out", "info") in raw.notes
    assert raw.part("unlabelled")[0].tolist() == [[3.0, 0.0], [4.0, 2.0]]


def test_what_a_target_is_taken_for_is_seen_and_can_be_said(tmp_path):
    assert table(tmp_path, numbers(30)).task["names"] == ["y"]
    few = numbers(30, lambda k: [10, 9, 2][k % 3])
    raw = table(tmp_path, few)
    assert raw.task["classes"] == ["2", "9", "10"], "by number"
    assert raw.notes[0][0].startswith("the target y has 3 different numbers and is taken for classes")
    assert raw.strata("train")[:3].tolist() == [2, 1, 0]
    assert table(tmp_path, few, kind="numbers").part("train")[1][:3].tolist() == [[10.0], [9.0], [2.0]]
    words = table(tmp_path, numbers(30, lambda k: ["no", "yes"][k % 2]))
    assert words.task["classes"] == ["no", "yes"] and words.strata("test") is None
    two = table(tmp_path, numbers(30), target=["y", "age"])
    assert two.task["names"] == ["y", "age"] and two.part("train")[1].shape == (30, 2)


def test_a_class_with_one_row_is_a_class(tmp_path):
    raw = table(tmp_path, numbers(30, lambda k: "rare" if k == 4 else "usual"))
    assert np.bincount(raw.strata("train")).tolist() == [1, 29]


def test_other_forms_of_file_hold_the_same(tmp_path):
    import pyarrow.csv
    import pyarrow.parquet

    text = numbers(12)
    wanted = table(tmp_path, text).part("train")
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(tmp_path / "rows.csv"), tmp_path / "rows.parquet")
    (tmp_path / "rows.tsv").write_text(text.replace(",", "\t"))
    with gzip.open(tmp_path / "rows.csv.gz", "wt") as file:
        file.write(text)
    for name in ("rows.parquet", "rows.tsv", "rows.csv.gz"):
        found = Csv(file=str(tmp_path / name), **KEYS).load().part("train")
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True)), name


@pytest.mark.parametrize(
    ("text", "keys", "says"),
    [
        (
            numbers(20),
            {"target": "z"},
            "dataset.target=z, and '{file}' has no such column; one of: age, city, y",
        ),
        (numbers(20), {"target": "ag"}, "did you mean 'age'?"),
        (numbers(20), {"target": None}, "dataset.target must name the column to be predicted"),
        (numbers(20), {"ignore": ["z"]}, "dataset.ignore=z, and '{file}' has no such column"),
        (numbers(20), {"kind": "number"}, "dataset.kind has no option 'number'; did you mean 'numbers'?"),
        (numbers(20), {"target": "city", "kind": "numbers"}, "holds words: set dataset.kind=classes"),
        (numbers(20), {"target": ["y", "age"], "kind": "classes"}, "classes are in one"),
        (numbers(20, lambda k: "one"), {}, "has 1 different value: there is nothing to tell apart"),
        (numbers(20, lambda k: ""), {}, "no row of '{file}' has a target (y)"),
        (numbers(20), {"target": ["y", "y"]}, "dataset.target names 'y' twice: name each column once"),
        (numbers(20), {"ignore": ["y"]}, "dataset.ignore leaves out 'y', which dataset.target names"),
        (
            "x,y\n" + "".join(f"{k},{k / 2}\n" for k in range(20)),
            {"target": ["x", "y"]},
            "no column of '{file}' is left to tell the target by: it has no other",
        ),
        (numbers(20, lambda k: ""), {"kind": "numbers"}, "no row of '{file}' has a target (y)"),
        (HEAD + "1,a,2\n1,a\n", {}, "'{file}' cannot be read"),
        (HEAD.encode() + b"1,caf\xe9,2\n", {}, "'{file}' is not UTF-8: line 2 has the byte 0xe9"),
        (HEAD, {}, "'{file}' has no rows"),
        ("a,a,y\n1,2,3\n", {}, "has two columns that are called 'a'"),
        (
            "day,y\n2020-01-01,1.5\n2020-01-02,2.5\n",
            {},
            "no column of '{file}' is left to tell the target by",
        ),
        (numbers(20), {"test_file": "city,y\na,1\n"}, "lacks the column age"),
        (
            numbers(20, lambda k: "ab"[k % 2]),
            {"test_file": HEAD + "1,a,c\n"},
            "has rows of the class c, of which '{file}' has none",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path, text, keys, says):
    assert says.format(file=tmp_path / "rows.csv") in refused(tmp_path, text, **keys)


def test_an_infinite_target_is_no_missing_one_and_is_found_before_work(tmp_path):
    text = numbers(20, lambda k: "inf" if k == 3 else k / 2)
    assert f"the target 'y' of '{tmp_path / 'rows.csv'}' is inf in row 4" in refused(tmp_path, text)
    with pytest.raises(UserError, match="is inf in row 4"):
        Csv(file=str(tmp_path / "rows.csv"), **KEYS).describe()


def test_a_number_that_rows_cannot_hold_is_refused_by_its_row(tmp_path):
    for value, says in (("inf", "is inf in row 4"), ("-1e39", "is -1e+39 in row 4")):
        text = "age,city,y\n" + "".join(f"{value if k == 3 else k},a{k % 2},{k / 2}\n" for k in range(20))
        said = refused(tmp_path, text)
        assert f"the column 'age' of '{tmp_path / 'rows.csv'}' {says}, and rows hold" in said
    beyond = refused(tmp_path, numbers(20, lambda k: "1e39" if k > 17 else k / 2))
    assert "the target 'y' of" in beyond and "is 1e+39 in row 19 (and 1 more)" in beyond


def test_numbers_that_lie_closer_together_than_32_bits_tell_apart_are_no_silent_constant(tmp_path):
    text = "age,city,y\n" + "".join(f"{1.7e9 + k},a{k % 2},{k / 2}\n" for k in range(20))
    raw = table(tmp_path, text)
    ((says, level),) = [note for note in raw.notes if "too close" in note[0]]
    assert level == "warning" and says.startswith("the numbers of age lie too close together around 1.7e+09")
    assert says.endswith("of that 100% is lost; subtract 1700000000 from them, say")
    assert "subtract 1700000000 from them" in refused(tmp_path, numbers(20, lambda k: repr(1.7e9 + k)))
    assert not any("too close" in note[0] for note in table(tmp_path, numbers(20)).notes)


def test_the_one_word_among_numbers_is_named(tmp_path):
    stray = numbers(20, lambda k: "dear" if k == 8 else k / 2)
    assert "holds numbers, but row 9 has 'dear': put a number or nothing" in refused(tmp_path, stray)
    assert "holds words (row 9 has 'dear'): set" in refused(tmp_path, stray, kind="numbers")
    twice = numbers(40, lambda k: "dear" if k == 8 else k // 2)
    assert table(tmp_path, twice, kind="classes").task["classes"][-1] == "dear"
    commas = numbers(20, lambda k: f'"{k},5"')
    assert "holds numbers, but row 1 has '0,5' (and 19 more)" in refused(tmp_path, commas)
    quoted = numbers(20, lambda k: f'"{k}.5"')  # of CSV they are numbers all the same
    assert table(tmp_path, quoted).task["names"] == ["y"]
    few = numbers(20, lambda k: "3+" if k % 4 == 3 else k % 4)
    assert table(tmp_path, few).task["classes"] == ["0", "1", "2", "3+"]
    column = "age,city,y\n" + "".join(f"{'?!' if k == 5 else k},a{k % 2},{k}\n" for k in range(20))
    assert table(tmp_path, column).dropped["age"].endswith("have; most are numbers, but row 6 has '?!'")


def test_numbers_in_the_quotes_of_json_are_said_to_be_words(tmp_path):
    rows = [f'{{"a": {k}, "q": "{k}.5", "y": {k}}}\n' for k in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    read = Csv(file=str(tmp_path / "rows.jsonl"), **KEYS).load()
    assert read.dropped["q"].endswith("; most are numbers, but they are in quotes")


def test_a_column_that_only_numbers_the_rows_is_named(tmp_path):
    def warned(head, of, **keys):
        rows = "".join(f"{of(k)},{k % 7},{k % 5},{k / 2}\n" for k in range(30))
        raw = table(tmp_path, f"{head},b,c,y\n{rows}", **keys)
        return [text for text, level in raw.notes if level == "warning"], [c.name for c in raw.columns]

    says, columns = warned("order_id", lambda k: (k * 7919) % 1000)
    assert columns[0] == "order_id" and says == [
        "the column order_id has another whole number in every row and the name of an identifier, and is "
        "kept as a number: where it only says which row it is, leave it out with dataset.ignore=[order_id]"
    ]
    assert warned("order_id", lambda k: (k * 7919) % 1000, ignore=["order_id"]) == ([], ["b", "c"])
    assert warned("row", lambda k: k)[0][0].startswith(
        "the column row numbers the rows (0, 1, ...), and is kept"
    )
    assert warned("id", lambda k: k + 500)[0][0].startswith("the column id numbers the rows (500, 501, ...)")
    assert warned("order_id", lambda k: k // 2)[0] == [], "several rows have one: it groups them"
    assert warned("year", lambda k: 1990 + k)[0] == [] and warned("id", lambda k: k + 0.5)[0] == []
    assert warned("size", lambda k: (k * 7919) % 1000)[0] == []


def test_a_target_that_tells_of_each_row_is_no_class(tmp_path):
    said = refused(tmp_path, numbers(40, lambda k: f"name {k}"))
    assert said.endswith(
        "has 40 different words in 40 rows, as a text or an identifier has, and no classes to be learned: "
        "name another column with dataset.target=COLUMN; there are age, city"
    )
    said = refused(tmp_path, numbers(40), kind="classes")
    assert "has 40 different numbers in 40 rows" in said and said.endswith("or set dataset.kind=numbers")
    assert len(table(tmp_path, numbers(40, lambda k: f"name {k // 2}")).task["classes"]) == 20


@pytest.fixture
def many(tmp_path):
    """3,000 rows of all kinds of column, some of them missing, as one file of each form."""
    import json

    import pyarrow
    import pyarrow.parquet

    random, rows = np.random.default_rng(0), 3000
    numbers = random.normal(size=rows)
    columns = {
        "number": [None if k % 7 == 0 else round(float(v), 6) for k, v in enumerate(numbers)],
        "late": [k % 11 if k < 2500 else k % 11 + 0.5 for k in range(rows)],
        "sort": [None if k % 13 == 0 else f"s{k % 90}" for k in range(rows)],
        "flag": [k % 3 == 0 for k in range(rows)],
        "name": [f"n{k}" for k in range(rows)],
        "y": [None if k % 5 == 0 else round(float(v) * 2, 6) for k, v in enumerate(numbers)],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=700)
    as_rows = list(zip(*columns.values(), strict=True))
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in as_rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    for ending, mark in (("csv", ","), ("tsv", "\t")):
        words = [["" if value is None else str(value).lower() for value in row] for row in as_rows]
        (tmp_path / f"a.{ending}").write_text(
            "\n".join(mark.join(row) for row in [list(columns), *words]) + "\n"
        )
    return tmp_path, columns


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_what_is_read_in_batches_is_what_the_file_holds(many, monkeypatch, form):
    """Each value as by hand, in blocks and batches that end anywhere, and described from one look."""
    folder, columns = many
    for read in (ColumnFile._batches, ColumnFile.batches):
        monkeypatch.setattr(read, "__defaults__", (333,))
    monkeypatch.setattr(
        ColumnFile.__init__, "__defaults__", (*ColumnFile.__init__.__defaults__[:-1], 1 << 12)
    )
    loader = Csv(file=str(folder / f"a.{form}"), **KEYS)
    described, raw = loader.describe(), loader.load()
    assert raw.dropped == {"name": "it has 3,000 different words in 3,000 rows, as names or texts have"}
    assert [c.name for c in raw.columns] == ["number", "late", "sort", "flag", "number is missing"]
    sorts = ["(missing)", *sorted({f"s{k}" for k in range(90)})]
    assert raw.columns[2].categories == tuple(sorts)
    by_hand = np.array(
        [
            [n or 0, late, sorts.index(s or "(missing)"), flag, n is None]
            for n, late, s, flag in zip(
                *(columns[k] for k in ("number", "late", "sort", "flag")), strict=True
            )
        ],
        np.float32,
    )
    known = np.array([value is not None for value in columns["y"]])
    assert np.array_equal(raw.part("train")[0], by_hand[known])
    assert np.array_equal(raw.part("unlabelled")[0], by_hand[~known])
    wanted = [[value] for value in columns["y"] if value is not None]
    assert np.array_equal(raw.part("train")[1], np.array(wanted, np.float32))
    assert raw.name("train", 0) == f"row 2 of a.{form}" and raw.name("unlabelled", 1) == f"row 6 of a.{form}"
    assert (described.train, described.pool, described.strata) == (2400, 600, None)
    kept = {column["name"]: column for column in described.adapter["columns"]}
    late = np.array(columns["late"])
    assert kept["late"]["mean"] == pytest.approx(late.mean(), rel=1e-12)
    assert kept["late"]["std"] == pytest.approx(late.std(), rel=1e-12)


def test_what_is_fitted_is_fitted_to_the_rows_to_train_with_alone(many):
    """The first 100 rows of the file are seen: mean, deviation and codes are theirs, whatever the others."""
    raw = Csv(file=str(many[0] / "a.parquet"), **KEYS).load()
    seen = raw.part("train")[0][:100]
    spec, _ = raw.adapter([seen[:60], seen[60:]])
    known = seen[seen[:, 4] == 0, 0].astype(np.float64)
    assert spec["columns"][0]["mean"] == known.mean() and spec["columns"][0]["std"] == known.std()
    assert set(spec["columns"][2]["codes"]) <= set(seen[:, 2].astype(int))


def test_a_file_is_looked_at_once_in_a_command(many, monkeypatch):
    passes, look = [], ColumnFile.passed

    def passed(self, begin):
        passes.append(self.path)
        return look(self, begin)

    monkeypatch.setattr(ColumnFile, "passed", passed)
    file = many[0] / "a.csv"
    with snapshot.one_command():
        Csv(file=str(file), **KEYS).describe()
        Csv(file=str(file), **KEYS).load()
        assert passes == [file]
        file.write_text(file.read_text() + "1,1,s1,true,other,2\n")
        assert Csv(file=str(file), **KEYS).describe().train == 2401 and passes == [file, file]


def test_the_share_that_is_held_out_is_unused_beside_a_test_file(tmp_path):
    (tmp_path / "rows.csv").write_text(numbers(20))
    for test_file in (None, str(tmp_path / "rows.csv")):
        loader = Csv(file=str(tmp_path / "rows.csv"), **KEYS | {"test_file": test_file})
        sizes = {"labelled": None, "unlabelled": None, "validation": 0.15, "test": 0.2}
        assert check_sizes(loader.describe(), **sizes) == []


def test_its_files_are_known_by_their_content_and_not_by_where_they_lie(tmp_path):
    table(tmp_path, numbers(20), test_file=numbers(5))
    loader = Csv(file=str(tmp_path / "rows.csv"), **KEYS | {"test_file": str(tmp_path / "test_file.csv")})
    assert {part: names for part, ((names, _),) in loader.files().items()} == {
        "train": "rows.csv",
        "test": "rows.csv",
    }
    with pytest.raises(UserError, match="dataset.file must name a file of rows"):
        Csv(file=None, **KEYS).fetch()
    with pytest.raises(UserError, match="is missing: see dataset.file"):
        Csv(file=str(tmp_path / "none.csv"), **KEYS).fetch()
