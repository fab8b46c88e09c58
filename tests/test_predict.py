"""`kdx predict`: the answers in the file are those that the run was evaluated by, of every kind of rows."""

import csv
import gc
import json
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdx.cli import main
from kdx.core.answers import AnswerColumns
from kdx.core.errors import UserError
from kdx.data.new_rows.opening import open_new_rows
from kdx.data.new_rows.pictures import NewPictures
from kdx.data.new_rows.rows import NewRows, RowBlock
from kdx.data.new_rows.tables import NewTable
from kdx.data.new_rows.texts import NewTexts
from kdx.data.writing import WRITERS, whole_file
from kdx.pipeline.stages.names import folder_of_rows, row_names
from kdx.runs import predictions
from kdx.runs.artifacts import only_input
from kdx.runs.own_rows import OwnRows
from kdx.runs.reading import read_run
from kdx.tasks.classification import Classification
from kdx.tasks.regression import Regression
from kdx.training.runtime import Runtime

CPU = ["device=cpu", "device.threads=1"]
QUICK = [*CPU, "student_train.steps=30", "baseline=false", "hydra.run.dir=run"]
HERE = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=0)


def train(place: Path, *words: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", *words, *QUICK]) == 0
    return place


def predict(*words: str) -> list[dict[str, str]]:
    """The rows of out.csv."""
    assert main(["predict", *words, "to=out.csv", "overwrite=true", *CPU]) == 0
    return list(csv.DictReader(Path("out.csv").open(newline="")))


def said(words: list[str], capsys) -> str:
    capsys.readouterr()
    assert main(["predict", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    found = [line for line in lines if line != "predict: started"]
    assert 1 <= len(found) <= 3
    return "\n".join(found)


def figures(role: str, metric: str) -> float:
    results = json.loads(Path("run/run.json").read_text())["results"]
    return results[role][results["headline"] if role == "student" else "last"]["test"][metric]


def accuracy(rows: list[dict[str, str]], truth: dict[str, str]) -> float:
    return sum(row["label"] == truth[row["file"]] for row in rows) / len(rows)


# Pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    place, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, count in (("train", 14), ("test", 9)):
        for level, name in ((60, "dark"), (120, "a, b"), (180, "light")):
            folder = place / "pics" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(level, 40, (10 + i % 3, 12, 3)).clip(0, 255).astype(np.uint8)
                whole = Image.fromarray(pixels)
                if i % 4 == 0:  # what background= shows through
                    whole.putalpha(int(rng.integers(80, 255)))
                whole.save(folder / f"{i}{chr(10) if i == 3 else ''}.{'jpg' if i % 4 == 1 else 'png'}")
    return train(
        place,
        "dataset=folder",
        "dataset.root=pics",
        "dataset.image_size=8",
        "dataset.fit=pad",
        "dataset.background=[200,30,90]",
        "teacher_pretrain.steps=8",
    )


@pytest.fixture
def at_pictures(pictures, tmp_path, monkeypatch):
    shutil.copytree(pictures, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")


def test_pictures_are_read_as_those_that_were_learned_from(at_pictures, capsys):
    """The test split, its files as a folder, and these by an export: the same answers, to the last digit."""
    own = predict("run", "data=test", "soft=probabilities", "top=3", "json=own.json")
    assert own[0].keys() >= {"file", "label", "confidence", "margin", "label:3", "p:a, b", "p:light"}
    truth = {row["file"]: row["file"].split("/")[1] for row in own}
    assert accuracy(own, truth) == figures("student", "accuracy") > 1 / 3
    taught = predict("run", "data=test", "role=teacher", "which=last")
    assert accuracy(taught, truth) == figures("teacher", "accuracy")
    new = predict("run", "data=pics/test", "soft=probabilities", "top=3", "batch_size=4")
    assert [f"test/{row['file']}".replace("\n", "\\n") for row in new] == [row["file"] for row in own]
    for one, other in zip(own, new, strict=True):
        assert [one[key] for key in one if "label" in key] == [other[key] for key in one if "label" in key]
        for key in one:
            if key.startswith("p:"):
                assert float(one[key]) == pytest.approx(float(other[key]), abs=1e-6)
    assert main(["export", "run", "to=alone", "format=state_dict"]) == 0
    shutil.rmtree("outputs")
    assert predict("alone", "data=pics/test", "soft=probabilities", "top=3", "batch_size=4") == new
    about = json.loads(Path("own.json").read_text())
    assert (about["rows"], about["role"], about["unread"]) == (27, "student", [])
    assert sum(about["labels"].values()) == 27 and about["columns"] == list(own[0])
    kept = json.loads(Path("alone/model.json").read_text())["preprocessing"]
    assert (kept["fit"], kept["background"], kept["image_size"]) == ("pad", [200, 30, 90], 8)
    prepared = json.loads(Path("alone/card.json").read_text())["prepare"]
    assert prepared == {"reads": "pictures", "fit": kept["fit"], "background": kept["background"]}
    assert "lay it on `[200, 30, 90]`" in Path("alone/card.md").read_text()


@pytest.mark.parametrize(
    "how",
    [
        {"fit": "wide"},
        {"fit": "pad", "background": [1, 2]},
        {"fit": "pad", "range": {"16-bit": "ab"}},
        {"fit": "pad", "range": 7},
        {"fit": "pad", "max_pixels": "many"},
        [],
        "pad",
    ],
)
def test_preprocessing_of_somebody_else_may_be_anything(at_pictures, capsys, how):
    assert main(["export", "run", "to=alone", "format=state_dict"]) == 0
    file = Path("alone/model.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"preprocessing": how}))
    assert len(said(["alone", "data=pics/test", "to=out.csv", *CPU], capsys)) < 400
    assert not list(Path().glob("out.*"))


def test_pictures_that_do_not_decode_are_listed(at_pictures, capsys):
    Path("new/deep/er").mkdir(parents=True)
    shutil.copy("pics/test/dark/0.png", "new/deep/er/fine, too.png")
    Path("new/broken.png").write_bytes(Path("pics/test/dark/0.png").read_bytes()[:60])
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save("new/sixteen.png")
    Path("new/readme.txt").write_text("no picture")
    rows = predict("run", "data=new", "json=said.json")
    assert [row["file"] for row in rows] == ["deep/er/fine, too.png"]
    unread = list(csv.DictReader(Path("out.csv.unread.csv").open(newline="")))
    assert [row["name"] for row in unread] == ["broken.png", "sixteen.png"]
    assert "16-bit picture, and the network learned from none" in unread[1]["reason"]
    found = json.loads(Path("said.json").read_text())
    assert [one["name"] for one in found["unread"]] == ["broken.png", "sixteen.png"]
    assert any("readme.txt" in note for note in found["notes"])
    assert "Not read: 2, all listed in out.csv.unread.csv; the first, broken.png" in capsys.readouterr().out
    assert [row["file"] for row in predict("run", "data=new/deep/er/fine, too.png")] == ["fine, too.png"]
    assert not Path("out.csv.unread.csv").exists()  # of the earlier one
    for name in ("other.csv", "other.parquet", "other.jsonl"):  # each has a list of its own
        assert main(["predict", "run", "data=new", f"to={name}", *CPU]) == 0
        assert Path(f"{name}.unread.csv").is_file()
    shutil.rmtree("new/deep")
    Path("out.csv").unlink()
    assert "not one of 2 pictures could be read; the first is 'broken.png'" in said(
        ["run", "data=new", "to=out.csv", *CPU], capsys
    )
    assert not list(Path().glob("out.*"))


@pytest.mark.parametrize("kind", ["pictures", "texts", "rows"])
def test_a_block_is_read_when_it_is_asked_for(tmp_path, kind):
    """What is not read yet may still be broken: it is listed then, and the blocks before were whole."""
    from kdx.data.text.tokens import Tokens

    for i in range(6):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text("one two")
    (tmp_path / "rows.csv").write_text("x\n" + "1\n" * 5000 + "one\n")
    if kind == "pictures":
        rows, last = NewPictures(tmp_path, (1, 4, 4), {"fit": "crop"}, 0), tmp_path / "5.png"
    elif kind == "texts":
        made = Tokens("words", 50, 1, True, 4).of(["one two three"])
        rows, last = NewTexts(tmp_path, made, 4, {}, None), tmp_path / "5.txt"
    else:
        rows, last = NewTable(tmp_path / "rows.csv", [{"name": "x"}]), None
    blocks = rows.blocks(2)
    assert len(next(blocks).inputs) == 2 and not rows.unread
    if last:
        last.write_bytes(b"\xff")
    assert sum(len(block.inputs) for block in blocks) == rows.count - 3
    assert len(rows.unread) == 1


def test_pictures_that_cropping_nearly_drops_are_named(tmp_path):
    for name, size in (("thin", (90, 9)), ("tall", (9, 19)), ("fine", (18, 9))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    (tmp_path / "drawing.svg").write_text("<svg/>")
    for fit, noted in (("crop", True), ("pad", False), ("squeeze", False)):
        rows = NewPictures(tmp_path, (3, 8, 8), {"fit": fit}, 0)
        (block,) = rows.blocks(9)
        notes = "\n".join(rows.notes())
        assert len(block.inputs) == 3 and "say that they are no pictures: 1 .svg (drawing.svg)" in notes
        assert (
            "of each of 2 of 3 pictures, more than twice as long as wide (tall.png, thin.png)" in notes
        ) is noted


def test_what_a_file_cannot_hold_is_said_before_the_work_begins(trained_here, capsys):
    assert main(["predict", RUN, "data=test", "to=out.csv", "top=11", *CPU]) == 2
    assert capsys.readouterr().err == "top=11, and there are 10 classes: from 1 to these\n"


def test_a_name_that_is_no_utf_8_is_shown_by_its_bytes(tmp_path):
    folder = os.fsencode(tmp_path)
    with open(folder + b"/caf\xe9.png", "wb") as file:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(file, "png")
    (block,) = NewPictures(tmp_path, (3, 4, 4), {}, 0).blocks(3)
    assert block.known_by == {"file": ["caf\\xe9.png"]}


def test_grey_and_deep_pictures_are_read_by_what_is_known(tmp_path):
    grey = np.full((4, 4), 51, np.uint8)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "coloured.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 4), 819, np.uint16)).save(tmp_path / "sixteen.png")
    rows = NewPictures(
        tmp_path, (1, 4, 4), {"fit": "crop", "background": "white", "range": {"16-bit": [0, 4095]}}, 2
    )
    (block,) = rows.blocks(9)
    assert block.known_by == {"file": ["coloured.png", "grey.png", "sixteen.png"]}
    assert block.inputs.shape == (3, 1, 4, 4) and (block.inputs == 51).all()
    assert rows.notes() == [
        "1 of 3 pictures is coloured and read as grey, as the network learned from grey ones"
    ]
    with pytest.raises(UserError, match="reads pictures of 4x8x8, and files give squares"):
        NewPictures(tmp_path, (4, 8, 8), {}, 0)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none' holds no picture"):
        NewPictures(tmp_path / "none", (1, 4, 4), {}, 0)


# Tables


def town_table(file: Path, rows: int = 120) -> list[dict[str, str]]:
    rng = np.random.default_rng(1)
    made = []
    for _ in range(rows):
        age, town, x = int(rng.integers(20, 80)), str(rng.choice(["Bern", "Basel", "Genf"])), rng.normal()
        made.append(
            {
                "age": "" if rng.random() < 0.1 else str(age),
                "town": "NA" if rng.random() < 0.1 else town,
                "x": f"{x:.4f}",
                "price": f"{2 * age + 10 * x:.3f}",
                "kind": "old, so" if age > 50 else "young",
            }
        )
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(made[0]))
        writer.writeheader()
        writer.writerows(made)
    return made


def shuffled(table: list[dict[str, str]], own: list[dict[str, str]], names: list[str]) -> list[int]:
    """Writes the rows that `own` answered to new.csv, with these columns only, and gives their numbers."""
    numbers = [int(row["file"].split()[1]) for row in own]
    with open("new.csv", "w", newline="") as out:
        writer = csv.writer(out, delimiter=";")
        writer.writerow(names)
        writer.writerows([table[number - 1].get(name, "?") for name in names] for number in numbers)
    return numbers


def test_rows_of_a_table(tmp_path, monkeypatch, capsys):
    """Of a network and of an estimator of scikit-learn, from a file without the target, in another order."""
    monkeypatch.chdir(tmp_path)
    table = town_table(tmp_path / "rows.csv")
    words = ["dataset=csv", "dataset.file=rows.csv", "dataset.target=kind", "dataset.ignore=price"]
    train(tmp_path, *words, "teacher.estimator=LogisticRegression")
    truth = {f"row {number} of rows.csv": row["kind"] for number, row in enumerate(table, 1)}
    for role in ("student", "teacher"):
        own = predict("run", "data=test", f"role={role}", "soft=logits")
        assert accuracy(own, truth) == figures(role, "accuracy")
        shuffled(table, own, ["x", "colour", "town", "age"])
        new = predict("run", "data=new.csv", f"role={role}", "soft=logits", "batch_size=7")
        assert [row["row"] for row in new] == [str(number) for number in range(1, len(own) + 1)]
        assert [row["label"] for row in new] == [row["label"] for row in own]
        logits = [[float(row[f"logit:{name}"]) for name in ("old, so", "young")] for row in (*own, *new)]
        assert np.allclose(logits[: len(own)], logits[len(own) :], atol=1e-5)
    assert "columns that the network does not read: colour" in capsys.readouterr().out


def test_numbers_of_an_ensemble(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = town_table(tmp_path / "rows.csv")
    words = ["dataset=csv", "dataset.file=rows.csv", "dataset.target=price", "dataset.ignore=kind"]
    train(tmp_path, *words, "teacher=mlp", "teacher.members=2", "teacher_pretrain.steps=8")
    for role in ("student", "teacher"):
        own = predict("run", "data=test", f"role={role}", "which=last")
        shuffled(table, own, ["age", "town", "x", "price"])
        new = predict("run", "data=new.csv", f"role={role}", "which=last")
        said, again = ([float(row["value:price"]) for row in rows] for rows in (own, new))
        assert np.allclose(said, again, rtol=1e-5)
        true = [float(table[int(row["file"].split()[1]) - 1]["price"]) for row in own]
        results = json.loads(Path("run/run.json").read_text())["results"]
        rmse = np.sqrt(np.mean(np.square(np.subtract(said, true))))
        assert rmse == pytest.approx(results[role]["last"]["test"]["rmse"], rel=1e-5)


COLUMNS = [
    {"name": "age", "missing": 3, "mean": 40.0},
    {"name": "town", "categories": ["(missing)", "Bern", "1.0"]},
    {"name": "x", "mean": 2.5},
    {"name": "age is missing", "flag": True},
]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "parquet"])
def test_what_stands_in_cells(tmp_path, kind):
    """Known words, unknown ones and none; numbers, flags, none and what is no number."""
    file = tmp_path / f"new.{kind}"
    rows = [
        ("20", "Bern", "1.5"),
        ("NA", "", "true"),
        ("3e40", "Bern", "0"),
        ("7", "Paris", ""),
        ("1", "1.0", "2"),
    ]
    if kind.startswith("csv"):
        import gzip

        text = "town,x,age\n" + "".join(f'"{town}",{x},{age}\n\n' for age, town, x in rows)
        text += "Bern,1\nBern,one,1\n"
        (gzip.open if kind.endswith("gz") else open)(file, "wt").write(text)
    elif kind == "jsonl":
        held = [dict(zip(("age", "town", "x"), row, strict=True)) for row in rows]
        held[0] |= {"age": 20, "x": 1.5}
        held[1] = {"age": None, "x": True}
        file.write_text("".join(json.dumps(row) + "\n" for row in held) + '{"age": 1\n[1]\n')
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        ages, towns = [20.0, None, 3e40, 7.0, 1.0], [row[1] or None for row in rows]
        parquet.write_table(
            pyarrow.table({"x": [1.5, 1, 0, None, 2], "town": towns, "age": ages}), file, row_group_size=2
        )
    table = NewTable(file, COLUMNS)
    blocks = list(table.blocks(2))
    assert [number for block in blocks for number in block.known_by["row"]] == [1, 2, 4, 5]
    assert np.concatenate([block.inputs for block in blocks]).tolist() == [
        [20, 1, 1.5, 0],
        [0, 0, 1, 1],
        [7, 3, 2.5, 0],
        [1, 2, 2, 0],
    ]
    assert table.unread[0] == ("row 3", "age is 3e+40, and rows hold up to 3.4e+38")
    if kind.startswith("csv"):
        assert table.unread[1:] == [
            ("row 6", "it has 2 values, and the header names 3"),
            ("row 7", "x is 'one', and no number"),
        ]
    if kind == "jsonl":
        assert [name for name, _ in table.unread] == ["row 3", "row 6", "row 7"]
    assert table.notes() == [
        f"town holds words that training has never seen: in 1 of {table.count} rows",
        "x lacks values, and lacked none in training, so that the mean stands there: in 1 of "
        f"{table.count} rows",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("age,x\n1,2\n", "lacks the column town, which the network reads: it has age, x"),
        ("town,age,x,x\n1,2,3,4\n", "two columns that are called 'x'"),
        ("town,age,x\n", "has no rows"),
        ("", "lacks columns age, town, x"),
        (b"town,age,x\ncaf\xe9,1,2\n", "is not UTF-8: line 2 has the byte 0xe9"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, text, says):
    file = tmp_path / "new.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=says):
        list(NewTable(file, COLUMNS).blocks(4))
    with pytest.raises(UserError, match="must be a file of rows that ends with .csv"):
        NewTable(tmp_path, COLUMNS)


# Texts


def test_texts(tmp_path, monkeypatch):
    """The test split of a file of columns, its rows in another file, and these as .txt files."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    words = {"sport": ["ball", "goal", "team", "run"], "food": ["soup", "bread", "salt", "cook"]}
    table = [(" ".join(rng.choice([*words[label], "the", "of"], 6)), label) for label in [*words] * 50]
    with open("rows.csv", "w", newline="") as out:
        csv.writer(out).writerows([("post", "y"), *((f" {text},\n", label) for text, label in table)])
    names = ["dataset.root=rows.csv", "dataset.text=post", "dataset.labelled=20"]
    train(tmp_path, "dataset=text", *names, "teacher=bag", "teacher_pretrain.steps=8")
    truth = {f"row {number} of rows.csv": label for number, (_, label) in enumerate(table, 1)}
    own = predict("run", "data=test", "soft=logits")
    assert accuracy(own, truth) == figures("student", "accuracy")
    pool = predict("run", "data=pool")
    assert len(pool) == 52 and not {row["file"] for row in pool} & {row["file"] for row in own}
    numbers = [int(row["file"].split()[1]) for row in own]
    assert main(["export", "run", "to=alone", "format=state_dict"]) == 0
    Path("new").mkdir()
    with open("new.jsonl", "w") as out:
        for place, number in enumerate(numbers):
            out.write(json.dumps({"id": place, "post": table[number - 1][0] + ","}) + "\n")
            Path(f"new/{place:03}.txt").write_bytes(b"\xef\xbb\xbf" + table[number - 1][0].encode() + b", \n")
    for rows in (
        predict("alone", "data=new.jsonl", "soft=logits"),
        predict("run", "data=new", "soft=logits"),
    ):
        for one, other in zip(rows, own, strict=True):
            assert one["label"] == other["label"]
            assert float(one["logit:food"]) == pytest.approx(float(other["logit:food"]), abs=1e-5)
    Path("new/bad.txt").write_bytes(b"caf\xe9")
    Path("new/empty.txt").write_bytes(b"")
    assert len(predict("run", "data=new", "json=said.json")) == len(own) + 1
    found = json.loads(Path("said.json").read_text())
    assert found["unread"] == [{"name": "bad.txt", "reason": "it is not UTF-8: its byte 3 is 0xe9"}]
    assert found["notes"] == ["1 of 21 texts is empty: such an answer tells nothing"]


def test_texts_that_cannot_be_found(tmp_path):
    from kdx.data.text.tokens import Tokens

    tokenizer = Tokens("words", 50, 1, True, 4).of(["one two three"])
    file = tmp_path / "new.csv"
    file.write_text("a,b\none two,three\n")
    with pytest.raises(UserError, match="holds the texts: set text=COLUMN; there are a, b"):
        NewTexts(file, tokenizer, 4, {}, None)
    with pytest.raises(UserError, match="text=c, and .* has no such column: it has a, b"):
        NewTexts(file, tokenizer, 4, {}, "c")
    (block,) = NewTexts(file, tokenizer, 4, {"text": "b"}, "a").blocks(3)
    assert block.known_by == {"row": [1]} and (block.inputs != 0).sum() == 2
    with pytest.raises(
        UserError, match="lacks the column 'c', which held the texts .* text=COLUMN; it has a, b"
    ):
        NewTexts(file, tokenizer, 4, {"text": "c"}, None)
    file.write_text("text,comment\none two,three\n")  # one of them has a plain name, and was not asked for
    with pytest.raises(UserError, match="lacks the column 'post'"):
        NewTexts(file, tokenizer, 4, {"text": "post"}, None)
    (block,) = NewTexts(file, tokenizer, 4, {}, None).blocks(3)
    assert (block.inputs != 0).sum() == 2
    with pytest.raises(UserError, match="holds no .txt file"):
        NewTexts(tmp_path, tokenizer, 4, {}, None)
    with pytest.raises(UserError, match="must be a folder of .txt files"):
        NewTexts(Path(__file__), tokenizer, 4, {}, None)


def test_rows_of_a_data_set_of_ones_own_are_its_splits(tmp_path):
    kind = {"reads": "graphs", "example": {"": [[3], "float32"]}, "adapter": None}
    with pytest.raises(UserError, match=r"can make its rows \(graphs\): name a split of its run, data=pool"):
        open_new_rows(kind, {}, tmp_path, 0, None)


# What is written


class Counting(NewRows):
    """Rows that know how many of them are alive."""

    noun = "row"

    def __init__(self, count: int):
        self.count, self.unread, self.most = count, [], 0
        self.alive: list[weakref.ref] = []

    def blocks(self, size):
        for start in range(0, self.count, size):
            made = np.full((min(size, self.count - start), 1, 2, 2), start, np.uint8)
            self.alive.append(weakref.ref(made))
            self.most = max(self.most, sum(one() is not None for one in self.alive))
            yield RowBlock({"row": list(range(start + 1, start + 1 + len(made)))}, made)
            del made


class Stub:
    who, file, model = "the network", Path("x.safetensors"), "stub"
    about = {"task": {"_target_": "kdx.tasks.classification.Classification", "classes": ["a", "b"]}}

    def __init__(self, value: float = 1.0):
        self.value = value

    def network(self):
        value = self.value

        class Net(torch.nn.Module):
            def forward(self, x):
                assert len(x) <= 4
                return torch.stack([x.mean((1, 2, 3)), torch.full((len(x),), value)], 1)

        return Net()


def test_no_more_than_a_block_is_held(tmp_path, monkeypatch):
    """Nine blocks of four rows; when one is made, all but the one before are gone, and that is written."""
    rows, seen = Counting(35), []
    asked = predictions.Wanted(tmp_path / "out.csv", AnswerColumns(), batch=4)
    gc.disable()  # what is gone is gone by counting references
    try:
        tally, beside, _ = predictions.answer_rows(
            asked, Stub(), rows, HERE, lambda done, of: seen.append((done, of))
        )
    finally:
        gc.enable()
    assert (tally.rows, beside, rows.most) == (35, None, 2) and len(rows.alive) == 9
    assert seen == [(min(4 * k, 35), 35) for k in range(1, 10)]
    with open(tmp_path / "out.csv") as file:
        assert [row["row"] for row in csv.DictReader(file)] == [str(k) for k in range(1, 36)]


def test_answers_that_are_no_numbers_are_not_written(tmp_path):
    asked = predictions.Wanted(tmp_path / "out.csv", AnswerColumns(), batch=4)
    with pytest.raises(UserError, match="answers of the network are not finite"):
        predictions.answer_rows(asked, Stub(float("nan")), Counting(9), HERE, lambda done, of: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", WRITERS)
def test_files_hold_what_was_written(tmp_path, ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    from kdx.data.column_files import read_columns

    file, numbers = tmp_path / f"out{ending}", np.array([0.1, 1 / 3, np.nan], np.float32)
    with whole_file("to", file) as writer:
        writer.write({"file": ["a, b", 'say "x"', "x\ny\té"], "p:a": numbers, "row": [1, 2, 3]})
        writer.write({"file": ["last"], "p:a": numbers[:1], "row": [4]})
    read = read_columns(file)
    assert list(read) == ["file", "p:a", "row"]
    assert read["file"].text() == ["a, b", 'say "x"', "x\ny\té", "last"]
    assert np.array_equal(read["p:a"].numbers().astype(np.float32), [*numbers, numbers[0]], equal_nan=True)
    assert read["row"].numbers().tolist() == [1, 2, 3, 4]
    with pytest.raises(KeyboardInterrupt), whole_file("to", file) as writer:
        writer.write({"file": ["new"], "p:a": numbers[:1], "row": [1]})
        raise KeyboardInterrupt
    assert read_columns(file).rows == 4 and len(list(tmp_path.iterdir())) == 1


def test_answers_as_columns_by_hand():
    """Of equal logits the first class counts, as it does where answers are measured."""
    task = Classification(classes=["a", "b", "row"])
    logits = torch.tensor([[0.0, 0.0, -50.0], [1.0, 3.0, 2.0]])
    found = task.columns(logits, AnswerColumns(top=2, soft="logits"))
    assert list(found) == [
        "label", "confidence", "margin", "label:2", "confidence:2", "logit:a", "logit:b", "logit:row",
    ]  # fmt: skip
    assert (found["label"], found["label:2"]) == (["a", "b"], ["b", "row"])
    assert found["confidence"].tolist() == pytest.approx([0.5, 0.66524], abs=1e-5)
    assert found["margin"].tolist() == pytest.approx([0, 0.66524 - 0.24473], abs=1e-5)
    soft = task.columns(logits, AnswerColumns(soft="probabilities"))
    assert sum(soft[f"p:{name}"] for name in task.classes) == pytest.approx(1)
    with pytest.raises(UserError, match="top=4, and there are 3 classes"):
        task.columns(logits, AnswerColumns(top=4))
    numbers = Regression(names=["price", "a:b"])
    answers = {"value": torch.tensor([[1.0, 2.0]]), "variance": torch.tensor([[4.0, 9.0]])}
    found = numbers.columns(answers, AnswerColumns())
    assert {name: values.tolist() for name, values in found.items()} == {
        "value:price": [1], "value:a:b": [2], "deviation:price": [2], "deviation:a:b": [3],
    }  # fmt: skip
    with pytest.raises(
        UserError, match="top= and soft= are of classes, and an answer here is a number or several"
    ):
        numbers.columns(answers, AnswerColumns(soft="logits"))


# The splits of a run, and what is refused


def test_rows_without_names_have_the_number_that_they_have_in_the_data_set(trained_here):
    data = read_run("outputs/runs/a=b").stage("prepare")
    assert row_names(folder_of_rows(data, "test")) is None
    whole = np.load(only_input(data, "decoded").file("train.inputs.npy"))
    blocks = list(OwnRows(data, "pool", HERE).blocks(300))
    assert [len(block.inputs) for block in blocks] == [300, 300, 300, 97]
    for block in blocks:
        assert np.array_equal(whole[np.array(block.known_by["row"]) - 1], np.asarray(block.inputs))
    rows = predict("outputs/runs/a=b", "data=pool", "role=teacher", "soft=probabilities")
    assert len(rows) == 997 and {row["row"] for row in rows} >= {str(n) for n in blocks[0].known_by["row"]}
    Path("digit.png").write_bytes(b"")
    Image.fromarray(whole[0, 0]).resize((20, 16)).save("digit.png")
    (row,) = predict("outputs/runs/a=b", "data=digit.png", "json=said.json")
    assert row["label"] in "0123456789" and row["file"] == "digit.png"
    assert "nobody tells how the pictures were cut" in json.loads(Path("said.json").read_text())["notes"][0]


def test_rows_made_up_for_the_pool_are_left_out(trained_here):
    """Of a split with rows of its own the numbers lie apart; an older store has none."""
    data = read_run("outputs/runs/a=b").stage("prepare")
    inputs = np.load(only_input(data, "decoded").file("train.inputs.npy"))[:5]
    np.save(data.path / "test.inputs.npy", inputs)
    np.save(data.path / "test.origin.npy", np.array([7, -1, 3, -1, 0]))
    rows = OwnRows(data, "test", HERE)
    (block,) = rows.blocks(9)
    assert block.known_by == {"row": [8, 4, 1]} and rows.count == 3
    assert np.array_equal(block.inputs, inputs[[0, 2, 4]])
    assert rows.notes() == ["2 rows that were made up for the pool are left out"]
    (data.path / "test.origin.npy").unlink()
    rows = OwnRows(data, "test", HERE)
    assert [block.known_by for block in rows.blocks(3)] == [{"row": [1, 2, 3]}, {"row": [4, 5]}]
    assert "an older kdx prepared these rows" in rows.notes()[0]


RUN = "outputs/runs/a=b"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([RUN], "kdx predict needs data=FOLDER|FILE|SPLIT"),
        ([RUN, "data=test"], "kdx predict needs to=labels.csv"),
        ([RUN, "data=test", "to=no/out.csv"], "its folder does not exist"),
        ([RUN, "data=test", "to=out.xlsx"], "to=out.xlsx must end with .csv, .tsv"),
        ([RUN, "data=test", "to=there.csv"], "is there already: name another file, or set overwrite=true"),
        ([RUN, "data=there.csv", "to=there.csv", "overwrite=true"], "is the file that data= names"),
        (
            [RUN, "data=test", "to=seen.csv"],
            "'seen.csv.unread.csv', where what cannot be read is listed, is there already: set "
            "overwrite=true, or name another to=",
        ),
        ([RUN, "data=tset", "to=out.csv"], "data='tset' does not exist"),
        ([RUN, "data=empty", "to=out.csv"], "'empty' holds no picture"),
        ([RUN, f"data={__file__}", "to=out.csv"], "this network reads pictures, and '"),
        ([RUN, "data=test", "to=out.csv", "role=pupil"], "has no role 'pupil'"),
        ([RUN, "data=test", "to=out.csv", "role=ceiling"], "has no ceiling: it made"),
        ([RUN, "data=test", "to=out.csv", "top=11"], "top=11, and there are 10 classes"),
        (
            [RUN, "data=https://a.org/x.zip", "to=out.csv"],
            "data=https://a.org/x.zip is an address, and kdx reads what lies here: download it first",
        ),
        (
            [f"{RUN}/artifacts/student-train", "data=there.csv", "to=out.csv"],
            f"is a stage of a run, and no export: name the run, or the weights, "
            f"'{RUN}/artifacts/student-train/last.safetensors' or "
            f"'{RUN}/artifacts/student-train/best.safetensors'",
        ),
        (
            [f"{RUN}/artifacts/pseudo-label", "data=there.csv", "to=out.csv"],
            "name the run, or a stage that has weights",
        ),
        ([RUN, "data=test", "to=out.csv", "top=no"], "top must be a whole number of at least 1"),
        ([RUN, "data=test", "to=out.csv", "soft=all"], "soft has no option 'all'"),
        ([RUN, "data=test", "to=out.csv", "text=a"], "text= names the column of texts in a file"),
        (
            [RUN, "data=empty", "to=out.csv", "text=a"],
            "text= names the column of texts, and this network reads",
        ),
        ([RUN, "data=test", "to=out.csv", "dataset=mnist5k"], "dataset= is for a checkpoint"),
        ([RUN, "data=test", "to=out.csv", "model=cnn"], "model= is for a checkpoint"),
        ([RUN, "data=test", "to=out.csv", "trust=true"], "trust= is for a .pt2 file, and"),
        ([RUN, "data=test", "to=out.csv", "member=1"], f"the teacher of '{RUN}' is no ensemble"),
        (["bare.pt", "data=there.csv", "to=out.csv", "trust=true"], "trust= is for a .pt2 file"),
        (
            ["bare.pt", "data=there.csv", "to=out.csv", "member=1"],
            "member= chooses among the weights of a run",
        ),
        (["no.pt", "data=there.csv", "to=out.csv"], "'no.pt' does not exist"),
        (["bare.pt", "data=there.csv", "to=out.csv"], "has no model.json beside it"),
        (["bare.pt", "data=there.csv", "to=out.csv", "model=cnn"], "model= and dataset= go together"),
        (["bare.pt", "data=test", "to=out.csv", "role=student"], "role= chooses among the weights of a run"),
    ],
)
def test_what_is_refused(trained, monkeypatch, tmp_path, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").symlink_to(trained / "outputs")
    for name in ("there.csv", "seen.csv.unread.csv", "student.onnx", "bare.pt"):
        (tmp_path / name).write_text("a\n")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    assert says in said([*words, *CPU], capsys)
    assert sorted(tmp_path.iterdir()) == before


def test_exports_and_checkpoints(trained_here, capsys):
    """By a model.json beside the file, or by the architecture and the data that are named."""
    own = predict(RUN, "data=test", "soft=logits", "which=last")
    assert main(["export", RUN, "to=alone", "format=state_dict", "which=last"]) == 0
    capsys.readouterr()
    assert "data=test is a split of a run" in said(["alone", "data=test", "to=x.csv", *CPU], capsys)
    shutil.copy("alone/student.safetensors", "bare.safetensors")
    assert predict("bare.safetensors", "data=test", "soft=logits", "model=cnn_tiny", "dataset=digits") == own
    stored = read_run(RUN).role("student").file("last.safetensors")
    assert predict(str(stored), "data=test", "soft=logits") == own
    with open("alone/student.safetensors", "r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    assert "does not have the content that was exported" in said(
        ["alone", "data=outputs", "to=x.csv", *CPU], capsys
    )


def test_a_category_that_is_missing_is_no_new_word(tmp_path):
    """Also one of which only the test file had a row, so that it has a code and no place in the network."""
    file = tmp_path / "new.csv"
    file.write_text("town,x\nBern,1\n,2\nRome,3\n?,4\nOslo,5\n4,6\n4.0,7\n")
    for categories, codes in (
        (["4", "Bern", "Oslo"], [0, 1]),
        (["(missing)", "4.0", "Bern", "Oslo"], [2, 1]),
    ):
        table = NewTable(file, [{"name": "town", "categories": categories, "codes": codes}])
        (block,) = table.blocks(9)
        here, none = [categories.index("Bern"), categories.index("Oslo")], len(categories)
        missing = 0 if "(missing)" in categories else none
        four = here[0] - 1
        assert block.inputs[:, 0].tolist() == [here[0], missing, none, missing, here[1], four, four]
        assert table.notes() == [
            "columns that the network does not read: x",
            "town holds words that training has never seen: in 2 of 7 rows",
            "town lacks values, and lacked none in training, so that no category stands there: in 2 of 7 "
            "rows",
        ]


def test_rows_behind_a_quote_that_is_not_closed_are_refused(tmp_path):
    file = tmp_path / "new.csv"
    file.write_text('town,age,x\nBern,1,2\n"Rome,1,2\nBern,1,2\n')
    with pytest.raises(UserError, match="begins in line 3 is not closed"):
        NewTable(file, COLUMNS)
