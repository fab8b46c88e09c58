"""Rows that lie on the disk, a data set that is decoded once, answers to what is looked at alone, and memory
that does not grow with the pool.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.data import laid
from kdx.data.column_files import ColumnFile
from kdx.data.order import RowOrder
from kdx.data.pictures.rows import Pictures
from kdx.data.raw import Arrays, Raw
from kdx.data.reader import OfArray
from kdx.data.stored import OnDisk, StoredRows, after, in_blocks, taken, write_array
from kdx.data.streams import Makers, Stream
from kdx.data.views.augment import FlipCrop
from kdx.data.views.chain import Chain, Views
from kdx.pipeline.stages import arrays
from kdx.pipeline.stages.arrays import open_split, read_inputs
from kdx.pipeline.stages.decode import decode_into, open_decoded
from kdx.pipeline.stages.prepare import run as prepare
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Listener, Work
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=0)
A = np.arange(60, dtype=np.float32).reshape(10, 2, 3)
B = A[:4] + 100
BOTH = np.concatenate([A, B])
MADE_UP = {
    "_target_": "kdx.data.datasets.synthetic.Synthetic",
    "classes": 3,
    "channels": 1,
    "image_size": 8,
    "train_rows": 60,
    "test_rows": 9,
    "pool_rows": 30,
    "noise": 0.3,
    "pattern_seed": 0,
}


@pytest.fixture
def rows(tmp_path):
    """14 rows in two files"""
    for name, array in (("a", A), ("b", B)):
        write_array(tmp_path / f"{name}.npy", array)
    return StoredRows([tmp_path / "a.npy", tmp_path / "b.npy"])


@pytest.mark.parametrize(
    "asked", [[3, 13, 9, 10, 11, 0], [-1], 2, -3, slice(2, 11, 3), slice(None), np.arange(14) % 3 == 0, []]
)
def test_stored_rows_are_taken_as_those_of_an_array(rows, asked):
    wanted = BOTH[np.array(asked, int) if isinstance(asked, list) else asked]
    assert np.array_equal(rows[asked], wanted) and rows[asked].dtype == wanted.dtype


def test_stored_rows_are_put_together_without_being_read(rows):
    some = taken(rows, np.array([13, 1, 2]))
    assert np.array_equal(some[:], BOTH[[13, 1, 2]]) and some.shape == (3, 2, 3)
    assert np.array_equal(after(some, rows)[:], np.concatenate([BOTH[[13, 1, 2]], BOTH]))
    assert np.array_equal(after({"x": some}, {"x": some})["x"][3:], BOTH[[13, 1, 2]])
    assert np.array_equal(np.asarray(some, np.int64), BOTH[[13, 1, 2]].astype(np.int64))
    assert np.array_equal(np.concatenate(list(rows.blocks(50))), BOTH) and len(list(rows.blocks(50))) == 7
    assert np.array_equal(
        OfArray(rows).flatten(0, 1).index_select(0, torch.tensor([27, 2])), BOTH.reshape(-1, 3)[[27, 2]]
    )
    for beyond in (14, -1):
        with pytest.raises(IndexError, match=f"from 3 to {beyond} of 14|from {beyond} to 3 of 14"):
            rows.take(np.array([3, beyond]))


def test_a_file_that_was_cut_is_named(rows, tmp_path):
    file = tmp_path / "b.npy"
    file.write_bytes(file.read_bytes()[:-24])
    with pytest.raises(UserError, match=r"b\.npy' is shorter than it says"):
        rows[12:14]


@pytest.mark.parametrize("array", [A, A[:0], np.arange(5), np.asfortranarray(A)[:, ::-1]])
def test_rows_are_written_as_numpy_writes_them(tmp_path, array):
    np.save(tmp_path / "whole.npy", np.ascontiguousarray(array))
    taker = OnDisk(tmp_path / "blocks.npy", array.shape[1:], array.dtype)
    for block in in_blocks(array, 50):
        taker.append(block)
    taker.close()
    assert (tmp_path / "blocks.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_data_set_comes_back_as_it_was_handed_over(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (1200, 1, 4, 4), np.uint8)
    labels = np.arange(1200) % 2
    names = {"train": [f"cat/é{i}.png" for i in range(1200)], "test": ["a", "b"]}
    raw = Pictures(
        images,
        labels,
        ("cat", "dog"),
        images[:2],
        labels[:2],
        notes=(("read so", "warning"),),
        sizes=np.full((1200, 2), 7),
        names=names,
        files={"depths": {"8-bit": 1200}, "range": {}},
        transparent=frozenset(["b", "a"]),
    )
    laid.keep_raw(raw, tmp_path, "Folder")
    for most in (laid.OPENED_WHOLE, 0):
        monkeypatch.setattr(laid, "OPENED_WHOLE", most)
        again = open_decoded(Artifact("decode", "", tmp_path))
        assert isinstance(again.images, np.ndarray if most else StoredRows)
        for name, value in vars(raw).items():
            found = getattr(again, name)
            if name == "names":
                assert {part: list(known) for part, known in found.items()} == names
                assert found["train"][-1] == "cat/é1199.png" and found["train"][3:5] == names["train"][3:5]
            elif isinstance(value, np.ndarray):
                assert np.array_equal(found[:], value)
            else:
                assert found == value and type(found) is type(value), name
    about = json.loads((tmp_path / "decoded.json").read_text())
    assert about["rows"] == {"train": 1200, "test": 2} and about["example"] == {"": [[1, 4, 4], "uint8"]}


@dataclass(frozen=True)
class Odd(Arrays):
    more: object = None


def test_what_cannot_be_kept_is_said(tmp_path):
    raw = Odd({"train": (A, A)}, {"_target_": "kdx.tasks.classification.Classification"}, "signals")
    with pytest.raises(UserError, match="a Odd with the field more, a function: only arrays and plain data"):
        laid.keep_raw(replace(raw, more=laid_down), tmp_path, "Mine")

    class Loose(Raw):
        task, reads = {}, "signals"

        def part(self, name):
            return (A, A) if name == "train" else (None, None)

        def only(self, rows):
            return self

    with pytest.raises(UserError, match="Loose, which cannot be kept: make it a frozen dataclass"):
        laid.keep_raw(Loose(), tmp_path, "Mine")


def laid_down(place, duplicates="warn", seed=0):
    """A prepared data set of made-up pictures with a pool of its own."""
    dataset = Component(MADE_UP)
    decoded = decode_into(place / "decode", dataset, CPU)
    (place / "prepare").mkdir()
    sizes = {"labelled": 12, "unlabelled": None, "validation": 6, "test": None}
    work = Work(place / "prepare", "prepare", Listener())
    prepare(work, CPU, decoded=decoded, dataset=dataset, duplicates=duplicates, seed=seed, **sizes)
    return Artifact("prepare", "", place / "prepare")


@pytest.mark.parametrize("duplicates", ["warn", "drop"])
def test_rows_on_the_disk_are_those_in_memory(tmp_path, monkeypatch, duplicates):
    """Data that are larger than memory, here by decree: the same numbers, notes and batches, bit for bit."""
    made = {}
    for name in ("memory", "disk"):
        if name == "disk":
            monkeypatch.setattr(laid, "OPENED_WHOLE", 0)
            monkeypatch.setattr(arrays, "IN_MEMORY", 0)
        (tmp_path / name).mkdir()
        data = made[name] = laid_down(tmp_path / name, duplicates)
        pool = open_split(data, "unlabelled", CPU)
        assert isinstance(pool.inputs, torch.Tensor if name == "memory" else OfArray) and len(pool) == 72
        views = Views(Chain([("flip_crop", FlipCrop(pad=1, mode="zero", flip=0.5))]), 3)
        stream = Stream(pool, Makers(views, clean=True), batch=16, seed=1, cycle=2)
        made[f"{name} batches"] = [stream.batch(step) for step in range(6)]
    files = {name: sorted(made[name].path.iterdir()) for name in ("memory", "disk")}
    for one, other in zip(*files.values(), strict=True):
        assert one.name == other.name and one.read_bytes() == other.read_bytes(), one.name
    for one, other in zip(made["memory batches"], made["disk batches"], strict=True):
        assert torch.equal(one.index, other.index)
        assert all(torch.equal(one.views[name], other.views[name]) for name in ("main", "clean"))


def test_a_second_seed_has_other_numbers_of_the_same_rows(tmp_path):
    (tmp_path / "a").mkdir()
    data = laid_down(tmp_path / "a")
    numbers = {
        s: np.load(data.file(f"{s}.rows.npy")) for s in ("labelled", "unlabelled", "validation", "test")
    }
    assert sorted(np.concatenate(list(numbers.values()))) == list(range(99)), (
        "train, test and the pool, once each"
    )
    assert numbers["test"].tolist() == list(range(60, 69)) and numbers["unlabelled"][-30:].tolist() == list(
        range(69, 99)
    )
    whole = np.concatenate(
        [np.load(tmp_path / f"a/decode/{p}.inputs.npy") for p in ("train", "test", "unlabelled")]
    )
    assert all(np.array_equal(read_inputs(data, s)[:], whole[rows]) for s, rows in numbers.items())
    truth = np.load(tmp_path / "a/decode/train.truth.npy")
    assert np.array_equal(np.load(data.file("labelled.truth.npy")), truth[numbers["labelled"]])
    assert not list(data.path.glob("*.inputs*.npy"))


def test_decoded_rows_that_are_gone_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    data = laid_down(tmp_path / "a")
    (tmp_path / "a/decode").rename(tmp_path / "away")
    with pytest.raises(UserError, match="decode', which is gone: run the same `kdx train` again"):
        open_split(data, "labelled", CPU)


# Parquet


@pytest.mark.parametrize("group", [10_000, 200_000])
def test_parquet_is_read_a_batch_at_a_time(tmp_path, group):
    """A file of 16 MB goes block by block into an array, and what Arrow holds stays below it; that of one row
    group too, whose packed bytes are held."""
    import pyarrow
    from pyarrow import parquet

    values = np.random.default_rng(0).normal(size=(200_000, 10))
    table = pyarrow.table({f"x{i}": values[:, i] for i in range(10)})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=group)
    del table
    before, most, sizes = pyarrow.total_allocated_bytes(), 0, []
    taker = OnDisk(tmp_path / "a.npy", (3,), np.float64)
    for part in ColumnFile(tmp_path / "a.parquet", {"x7", "x0", "x9"}.__contains__).batches(rows=4_000):
        taker.append(np.stack([part[name].numbers() for name in ("x0", "x7", "x9")], 1))
        sizes.append(part.rows)
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert np.array_equal(taker.close()[:], values[:, [0, 7, 9]]) and max(sizes) == 4_000
    assert most < values.nbytes / (8 if group == 10_000 else 1)


def test_text_files_come_in_batches_too(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i},{-i}\n" for i in range(5)))
    (tmp_path / "b.parquet").write_bytes(b"no such file")
    file = ColumnFile(tmp_path / "a.csv", "y".__eq__)
    assert [part["y"].numbers().tolist() for part in file.batches(2)] == [[0, -1], [-2, -3], [-4]]
    with pytest.raises(UserError, match=r"b\.parquet' cannot be read"):
        next(ColumnFile(tmp_path / "b.parquet").batches())


class _Rows:
    def __init__(self):
        self.rows = 0

    def add(self, columns):
        self.rows += columns.rows


def test_what_a_column_of_a_csv_holds_hangs_on_all_of_its_rows(tmp_path):
    """In blocks of 4 KB it is what Arrow says that has seen all rows at once, for each way in which a later
    row can differ."""
    from pyarrow import csv

    head = "day,int,none,bit,flag,word,time\n"
    rows = [f"2020-01-01,{i},,{i % 2},true,w,10:0{i % 10}\n" for i in range(2000)]
    (tmp_path / "a.csv").write_text(head + "".join(rows) + "x,1.5,7,true,0,3,2020-01-01 10:00:00\n")
    file = ColumnFile(tmp_path / "a.csv", block=1 << 12)
    assert file.passed(_Rows).rows == 2001
    whole = csv.read_csv(tmp_path / "a.csv")
    assert file.types == dict(zip(whole.column_names, whole.schema.types, strict=True))
    assert [str(kind) for kind in file.types.values()] == [
        "string", "double", "int64", "bool", "bool", "string", "string"
    ]  # fmt: skip
    for name in whole.column_names:
        given = [value for part in file.batches(300) for value in part[name].values.to_pylist()]
        assert given == whole[name].to_pylist(), name
    some = ColumnFile(tmp_path / "a.csv", lambda name: name != "day", block=1 << 12)
    assert some.passed(_Rows).rows == 2001
    assert some.types == {name: kind for name, kind in file.types.items() if name != "day"}


def test_a_row_longer_than_a_block_and_a_file_that_was_changed(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i},{'w' * 9000}\n" for i in range(9)))
    file = ColumnFile(tmp_path / "a.csv", block=1 << 12)
    assert file.passed(_Rows).rows == 9
    (tmp_path / "a.csv").write_text("x,y\nwords,1\n")
    with pytest.raises(UserError, match="was changed while it was read"):
        list(file.batches())


# Only rows that training looks at


def test_the_rows_that_come_first(rows):
    order = RowOrder(50, 7, seed=4)
    seen = torch.cat([order.rows(step)[0] for step in range(3)])
    assert torch.equal(order.first(21), seen.sort().values) and len(order.first(60)) == 50


SHORT = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp_small",
    "teacher_pretrain.steps=3",
    "student_train.steps=5",
    "baseline=false",
]


def test_only_rows_that_training_looks_at_are_answered(tmp_path, monkeypatch):
    """5 steps of 58 rows of the pool and 6 labelled ones: 290 of 997, 30 of 100."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SHORT, "hydra.run.dir=some"]) == 0
    labels = Path("some/artifacts/pseudo-label")
    about = json.loads((labels / "answers.json").read_text())
    assert about["some"] == ["labelled", "unlabelled"] and about["bought"] is None
    shapes = {name: np.load(labels / f"{name}.npy").shape for name in ("labelled", "unlabelled", "clean")}
    assert shapes == {"labelled": (30, 1, 10), "unlabelled": (290, 1, 10), "clean": (290, 1, 10)}
    (audited,) = json.loads(Path("some/run.json").read_text())["audit"]["rounds"]
    counted = {key: audited[key] for key in ("asked", "looked_at", "kept", "pool")}
    assert counted == {"asked": 290, "looked_at": 290, "kept": 290, "pool": 997}
    assert audited["learned"]["answers"] == 290 and "teacher_seconds_saved" not in audited


@pytest.mark.slow
def test_the_student_is_the_one_that_learns_with_all_rows_answered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SHORT, "hydra.run.dir=some"]) == 0
    monkeypatch.setattr("kdx.pipeline.recipes.asking.rows_looked_at", lambda data, experiment: {})
    assert main(["train", *SHORT, "hydra.run.dir=all"]) == 0
    assert np.load("all/artifacts/pseudo-label/unlabelled.npy").shape == (997, 1, 10)
    one, other = (load_file(f"{run}/artifacts/student-train/last.safetensors") for run in ("some", "all"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Memory


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pool(tmp_path):
    """The peak of a run over 200,000 rows of 3x32x32 (614 MB) within 300 MB of that over 2,000: of the
    process, as the system counts it, pages of mapped files too."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
    import bench_growth_data as bench

    peaks = {}
    for rows in (2_000, 200_000):
        (tmp_path / str(rows)).mkdir()
        words = [*bench.WORDS, f"dataset.train_rows={rows + bench.LABELLED + bench.VALIDATION}"]
        peaks[rows] = bench.measured(bench.ROOT, tmp_path / str(rows), words).megabytes
    assert peaks[200_000] - peaks[2_000] < 300, peaks


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl", "text", "texts.jsonl"])
def test_memory_does_not_grow_with_a_file_of_columns(tmp_path, form):
    """The same of a table of 20 numbers and a column of words, and of texts of 30 words. Parquet in one row
    group, as pandas writes it. JSON lines of 200,000 rows are 110 MB."""
    import pyarrow
    from pyarrow import csv, parquet

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
    import bench_growth_data as bench

    sizes = ["dataset.labelled=500", "dataset.validation=500", "dataset.test=500"]
    short = ["device=cpu", "device.threads=1", "student_train.steps=20"]
    keys = ["dataset=csv", "dataset.target=y", "dataset.file="]
    peaks = {}
    for rows in (2_000, 200_000):
        (folder := tmp_path / str(rows)).mkdir()
        random = np.random.default_rng(0)
        kind = {"text": "parquet"}.get(form, form.rpartition(".")[2])
        file = folder / f"rows.{kind}"
        if form.startswith("text"):
            labels = random.integers(0, 4, rows)
            texts = [" ".join(f"w{n}" for n in random.integers(0, 1000, 30) + 1000 * c) for c in labels]
            columns = {"text": texts, "label": [f"c{label}" for label in labels]}
            keys = ["dataset=text", "dataset.root="]
        else:
            values = random.normal(size=(rows, 21))
            columns = {f"x{i}": values[:, i] for i in range(20)}
            columns |= {
                "sort": random.choice(["red", "green", "blue"], rows),
                "y": values[:, 0] + values[:, 20],
            }
        table = pyarrow.table(columns)
        if kind == "jsonl":
            with open(file, "w") as out:
                out.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
        else:
            csv.write_csv(table, file) if kind == "csv" else parquet.write_table(table, file)
        words = [*short, *sizes, *keys[:-1], f"{keys[-1]}{file}"]
        peaks[rows] = bench.measured(bench.ROOT, folder, words).megabytes
    assert peaks[200_000] - peaks[2_000] < 300, peaks
