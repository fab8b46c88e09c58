"""Pictures that stay in their files, decoded as they are shown; a random part of one at full resolution."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.data.pictures.encoded import EncodedRows
from kdx.data.reader import OfArray
from kdx.data.streams import BatchLoader, Makers, Stream
from kdx.data.views.augment import FlipCrop, RandomResizedCrop
from kdx.data.views.chain import Chain, Views
from kdx.pipeline.stages.arrays import dear_to_read, open_split
from kdx.pipeline.stages.decode import decode_into, open_decoded
from kdx.pipeline.stages.prepare import run as prepare
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Listener, Work
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=0)
SPEC = {
    "_target_": "kdx.data.datasets.folder.Folder",
    "layout": "auto",
    "image_size": 8,
    "fit": "crop",
    "background": "white",
    "range": None,
    "max_pixels": 10_000,
    "on_error": "stop",
    "memory": 10**9,
}
CROP = RandomResizedCrop(scale=[0.08, 1.0], ratio=[3 / 4, 4 / 3], flip=0.5)


def lay(root, classes=3, each=8):
    """Photographs, so to say: colours that run over 40x30 pixels, JPEG and PNG, one of sixteen bits."""
    rng = np.random.default_rng(0)
    for part, rows in (("data", each), ("pool", 5)):
        for name in [f"c{k}" for k in range(classes)] if part == "data" else ["deep/er"]:
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(rows):
                whole = np.linspace(rng.integers(0, 99, 3), rng.integers(100, 256, 3), 40 * 30)
                picture = Image.fromarray(whole.reshape(30, 40, 3).astype(np.uint8))
                picture.save(folder / f"{i}.{'jpg' if i % 2 else 'png'}")
    deep = np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50
    Image.fromarray(deep).save(root / "data" / "c0" / "0.png")
    return root


def laid_down(place, root, encoded, duplicates="warn"):
    spec = {**SPEC, "root": str(root / "data"), "unlabelled_root": str(root / "pool"), "encoded": encoded}
    dataset = Component(spec)
    decoded = decode_into(place / "decode", dataset, CPU)
    (place / "prepare").mkdir()
    sizes = {"labelled": 6, "unlabelled": None, "validation": 4, "test": 6}
    work = Work(place / "prepare", "prepare", Listener())
    prepare(work, CPU, decoded=decoded, dataset=dataset, duplicates=duplicates, seed=0, **sizes)
    return Artifact("prepare", "", place / "prepare")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return lay(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    places = {encoded: tmp_path_factory.mktemp("made") for encoded in (False, True)}
    return {encoded: laid_down(place, root, encoded) for encoded, place in places.items()}


def batches(data, steps, workers=0):
    split = open_split(data, "unlabelled", CPU)
    streams = {
        "unlabelled": Stream(split, Makers(Views(Chain(steps), 3), clean=True), batch=5, seed=1, cycle=None)
    }
    return [found["unlabelled"] for found in BatchLoader(streams, start=0, stop=6, workers=workers)]


def alike(one, other, names=("main", "clean")):
    return all(
        torch.equal(a.index, b.index) and all(torch.equal(a.views[n], b.views[n]) for n in names)
        for a, b in zip(one, other, strict=True)
    )


def test_the_clean_row_and_its_views_are_those_of_decoded_pictures(made):
    """Bit for bit, those of sixteen bits among them, and of a pool of two folders."""
    steps = [("flip_crop", FlipCrop(pad=1, mode="zero", flip=0.5))]
    assert alike(batches(made[False], steps), batches(made[True], steps))
    whole, encoded = (open_split(made[which], "labelled", CPU) for which in (False, True))
    assert isinstance(encoded.inputs, OfArray) and dear_to_read(encoded, CPU) and not dear_to_read(whole, CPU)
    assert torch.equal(whole.known, encoded.known) and torch.equal(whole.inputs, encoded.inputs[:])
    about = [made[which].json("data.json") for which in (False, True)]
    for key in ("counts", "example", "classes", "mean", "std", "hidden", "sizes"):
        assert about[0][key] == about[1][key], key


def test_no_pixel_is_kept(made):
    files = {path.name for path in (made[True].path.parent / "decode").iterdir()}
    assert "train.inputs.npy" not in files and "train.truth.npy" in files
    raw = open_decoded(Artifact("decode", "", made[True].path.parent / "decode"))
    assert isinstance(raw.images, EncodedRows) and len(raw.images) == 24
    assert raw.images.path(0).name == "0.png" and "stay in their files" in raw.notes[0][0]


def test_a_window_is_cut_at_full_resolution_whatever_the_workers(made, root):
    steps = [("random_resized_crop", CROP)]
    found = batches(made[True], steps)
    assert alike(found, batches(made[True], steps, workers=3))
    assert not alike(found, batches(made[False], steps), names=("main",)), "of 8x8 squares it would be"
    rows = open_split(made[True], "unlabelled", CPU).inputs.rows
    draws = np.full((1, 41), 0.5)
    draws[0, -1] = 0.9  # not mirrored
    left, top, wide, high, mirrored = CROP.window(draws[0].tolist(), 40, 30)
    # half of [.08, 1] of 1200 pixels, side ratio exp(0) = 1: sqrt(648) = 25.5
    assert (left, top, wide, high, mirrored) == (8, 3, 25, 25, False)
    with Image.open(rows.path(0)) as picture:
        wanted = picture.convert("RGB").resize(
            (8, 8), Image.Resampling.BILINEAR, box=(left, top, left + wide, top + high)
        )
    assert np.array_equal(
        rows.cropped(np.array([0]), draws, CROP.window)[0], np.asarray(wanted).transpose(2, 0, 1)
    )
    draws[0, -1] = 0.1
    mirrored = rows.cropped(np.array([0]), draws, CROP.window)[0]
    assert np.array_equal(mirrored, np.asarray(wanted).transpose(2, 0, 1)[..., ::-1])


def test_windows_are_torchvisions():
    """Ten tries, then the largest part around the centre; shares and ratios as asked for."""
    rng = np.random.default_rng(0)
    found = np.array([CROP.window(rng.random(41).tolist(), 60, 40)[:4] for _ in range(4000)])
    left, top, wide, high = found.T
    assert (left >= 0).all() and (top >= 0).all() and (left + wide <= 60).all() and (top + high <= 40).all()
    share, ratio = wide * high / 2400, wide / high
    assert 0.07 < share.min() < 0.1 and share.max() > 0.85 and 0.7 < ratio.min() and ratio.max() < 1.4
    narrow = RandomResizedCrop(scale=[1.0, 1.0], ratio=[3 / 4, 4 / 3], flip=0.0)
    assert narrow.window([0.5] * 41, 100, 20) == (36, 0, 27, 20, False)  # 20 * 4 / 3 = 26.7
    assert narrow.window([0.5] * 41, 20, 100) == (0, 36, 20, 27, False)


def test_a_whole_window_is_the_picture():
    whole = RandomResizedCrop(scale=[1.0, 1.0], ratio=[1.0, 1.0], flip=0.0)
    x = torch.rand(4, 3, 9, 9)
    views = Views(Chain([("w", whole)]), 0)
    from kdx.core.types import Split

    made, _ = views(Split("s", x), torch.arange(4), torch.ones(4, dtype=torch.int64))
    assert torch.allclose(made, x, atol=1e-6)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("gone", r"0\.png' is gone; the pictures of this data set stay in their files"),
        ("broken", r"0\.png' does not decode: "),
        ("huge", r"does not decode: it has 40,000 pixels, and dataset\.max_pixels allows 10,000"),
    ],
)
def test_what_happened_to_a_file_is_said(root, tmp_path, how, says):
    shutil.copytree(root, tmp_path / "here")
    data = laid_down(tmp_path, tmp_path / "here", True)
    split = open_split(data, "unlabelled", CPU)
    row = next(i for i in range(len(split)) if "pool" in str(split.inputs.rows.path(i)))
    file = split.inputs.rows.path(row)
    if how == "gone":
        file.unlink()
    elif how == "broken":
        file.write_bytes(file.read_bytes()[:200])
    else:
        Image.new("RGB", (200, 200)).save(file)
    with pytest.raises(UserError, match=says):
        split.inputs[row]


def test_pictures_that_do_not_decode_are_left_out_where_that_is_asked_for(root, tmp_path):
    shutil.copytree(root, tmp_path / "here")
    broken = [tmp_path / "here" / name for name in ("data/c1/2.png", "pool/deep/er/0.png")]
    for file in broken:
        file.write_bytes(file.read_bytes()[:200])  # the header is whole
    spec = {
        **SPEC,
        "root": str(tmp_path / "here" / "data"),
        "unlabelled_root": str(tmp_path / "here" / "pool"),
        "encoded": True,
    }
    made = Component({**spec, "on_error": "skip"}).build().load(workers=0)
    assert (len(made.images), len(made.labels), len(made.pool_images)) == (23, 23, 4)
    assert np.bincount(made.labels).tolist() == [8, 7, 8]
    assert all("truncated" in why for why in made.skipped.values())
    assert sorted(made.skipped) == ["c1/2.png", "unlabelled/deep/er/0.png"]
    assert "c1/2.png" not in made.names["train"]
    assert made.images.read(np.arange(23)).shape == (23, 3, 8, 8)
    stopped = Component({**spec, "on_error": "stop"}).build().load(workers=0)
    with pytest.raises(UserError, match=r"2\.png' does not decode: .*If it never decoded, remove it, or set"):
        stopped.images.read(np.arange(24))
    for file in (tmp_path / "here" / "data" / "c2").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="no picture of the class 'c2' in .* decodes"):
        Component({**spec, "on_error": "skip"}).build().load(workers=0)


def test_what_compares_all_pictures_is_refused(root, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.duplicates=drop compares all pictures"):
        laid_down(tmp_path, root, True, duplicates="drop")


def test_it_is_refused_before_work(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["dataset=folder", f"dataset.root={root}", "dataset.encoded=true", "dataset.duplicates=drop"]
    assert main(["plan", "device=cpu", *words]) == 2
    printed = " ".join("".join(capsys.readouterr()).split())
    assert (
        "dataset.duplicates=drop compares all rows, and these are decoded only as they are shown" in printed
    )


@pytest.mark.parametrize(("memory", "stays"), [(29 * 192, False), (29 * 192 - 1, True)])
def test_auto_goes_by_the_bytes_of_decoded_pictures(root, memory, stays):
    """24 pictures and 5 of the pool, 3x8x8."""
    spec = {**SPEC, "root": str(root / "data"), "unlabelled_root": str(root / "pool")}
    raw = Component({**spec, "encoded": "auto", "memory": memory}).build().load(workers=0)
    assert isinstance(raw.images, EncodedRows) == stays


@pytest.mark.slow
def test_a_run_over_encoded_pictures_whose_folder_moves(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(root, "here")
    words = [
        "train",
        "device=cpu",
        "device.threads=1",
        "dataset=folder",
        "dataset.image_size=8",
        "dataset.labelled=6",
        "dataset.validation=4",
        "dataset.test=6",
        "dataset.encoded=true",
        "augment=[random_resized_crop]",
        "teacher=cnn_small",
        "student=cnn_tiny",
        "teacher_pretrain.steps=5",
        "student_train.steps=6",
        "student_train.batch_size=8",
    ]

    def go(folder, run, *more):
        places = [f"dataset.root={folder}/data", f"dataset.unlabelled_root={folder}/pool"]
        assert main([*words, *places, f"hydra.run.dir={run}", *more]) == 0
        return json.loads((tmp_path / run / "run.json").read_text())

    first = go("here", "one")
    shutil.move("here", "there")
    again = go("there", "two", "student_train.steps=7")
    cached = {stage["name"]: stage["cached"] for stage in again["stages"]}
    assert first["status"] == again["status"] == "finished"
    assert (
        cached["decode"] and cached["prepare"] and cached["teacher-pretrain"] and not cached["student-train"]
    )
    (tmp_path / "there/data/c1/1.jpg").unlink()
    assert main(["evaluate", "two", "role=student", "device=cpu"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
