"""The folder loader, on real picture files made with Pillow."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdx.config.wire import known
from kdx.core.errors import UserError
from kdx.data.datasets.folder import Folder
from kdx.data.sizes import check_classes, check_sizes, count_rows
from kdx.data.splits import split
from kdx.pipeline.stages import DECODE, PREPARE
from kdx.store.component import Component
from kdx.store.store import Store
from kdx.store.work import Listener
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=60)
SETTINGS = dict(
    layout="auto",
    image_size=8,
    fit="crop",
    background="white",
    range=None,
    max_pixels=89478485,
    on_error="stop",
    encoded="auto",
    memory=10**9,
)


def folder(root, **more):
    return Folder(root=str(root), **({"unlabelled_root": None} | SETTINGS | more))


def save(path, mode="RGB", size=(10, 12), seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def classes(root, names=("cat", "dog"), rows=3, **more):
    for k, name in enumerate(names):
        for i in range(rows):
            save(root / name / f"{i}.png", seed=100 * k + i, **more)


def agree(loader):
    described, raw = loader.describe(), loader.load()
    assert raw.images.shape == (described.train, *described.shape) and raw.images.dtype == np.uint8
    assert raw.labels.dtype == np.int64 and raw.classes == described.classes
    assert tuple(np.bincount(raw.labels, minlength=len(raw.classes))) == described.strata
    assert (None if raw.test_images is None else len(raw.test_images)) == described.test
    assert (None if raw.validation_images is None else len(raw.validation_images)) == described.validation
    assert (0 if raw.pool_images is None else len(raw.pool_images)) == described.pool
    return raw


def key(root, unlabelled=None, **more):
    """What a data set is known by in the store."""
    spec = {
        "_target_": "kdx.data.datasets.folder.Folder",
        "root": str(root),
        "unlabelled_root": unlabelled and str(unlabelled),
        **SETTINGS,
        **more,
    }
    return Store(Path("store"), None, Listener()).key(PREPARE, {"dataset": known(Component(spec))})[0]


def test_one_folder_a_class(tmp_path):
    classes(tmp_path)
    save(tmp_path / "cat" / "deeper" / "x.jpg", size=(40, 30))
    raw = agree(folder(tmp_path))
    assert raw.classes == ("cat", "dog") and list(raw.labels) == [0] * 4 + [1] * 3
    assert raw.images.shape == (7, 3, 8, 8) and raw.test_images is None and raw.pool_images is None
    assert list(folder(tmp_path).files()) == ["train"]


def test_train_and_test_folders(tmp_path):
    classes(tmp_path / "train", rows=3)
    classes(tmp_path / "test", rows=2)
    raw = agree(folder(tmp_path))
    assert len(raw.images) == 6 and list(raw.test_labels) == [0, 0, 1, 1]
    assert folder(tmp_path).files()["test"][0] == ("cat/0.png", tmp_path / "test" / "cat" / "0.png")
    sizes = dict(labelled=None, unlabelled=None, validation=None, test=0.2)
    # the setting that holds rows out is unused here
    assert check_sizes(folder(tmp_path).describe(), **sizes) == []


def test_train_alone_has_a_share_held_out(tmp_path):
    classes(tmp_path / "train", rows=10)
    raw = agree(folder(tmp_path))
    sizes = dict(labelled=None, unlabelled=None, validation=0.25, test=0.2)
    assert raw.test_images is None and check_sizes(folder(tmp_path).describe(), **sizes) == []
    rows = split(raw.labels, pool=0, has_test=False, seed=3, **sizes)
    assert list(np.bincount(raw.labels[rows.test])) == [2, 2] and list(
        np.bincount(raw.labels[rows.validation])
    ) == [2, 2]


def test_a_class_may_be_called_train(tmp_path):
    classes(tmp_path, ("car", "train"))
    assert agree(folder(tmp_path)).classes == ("car", "train")


def test_pixels_are_the_short_side_resized_and_the_centre_cropped(tmp_path):
    pixels = save(tmp_path / "a" / "wide.png", size=(12, 8))
    tall = save(tmp_path / "b" / "tall.png", size=(8, 11), seed=1)
    raw = folder(tmp_path).load()
    assert (raw.images[0] == pixels[:, 2:10].transpose(2, 0, 1)).all() and (
        raw.images[1] == tall[1:9].transpose(2, 0, 1)
    ).all()
    large = np.zeros((64, 96, 3), np.uint8)
    large[:, 16:48] = 200  # the left half of the centre
    Image.fromarray(large).save(tmp_path / "b" / "tall.png")
    image = folder(tmp_path).load().images[1]
    assert image[:, :, 1:3].min() == 200 and image[:, :, 0].min() > 150 and image[:, :, 5:].max() == 0


def test_grey_stays_one_channel_if_every_picture_is_grey(tmp_path):
    classes(tmp_path, mode="L", size=(8, 8))
    Image.fromarray(np.full((8, 8), 513, np.uint16)).save(tmp_path / "cat" / "16 bit.png")
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "dog" / "bits.png")
    save(tmp_path / "dog" / "alpha.png", "LA")
    raw = agree(folder(tmp_path))
    assert raw.images.shape == (9, 1, 8, 8)
    assert (raw.images[1, 0] == np.array(Image.open(tmp_path / "cat" / "1.png"))).all()
    assert (raw.images[2] == 128).all()  # 513 of 1023, the largest number of ten bits
    assert (raw.images[raw.labels == 1][4, 0] == np.eye(8) * 255).all()
    save(tmp_path / "more" / "x.png", "RGB")
    raw = agree(folder(tmp_path, unlabelled_root=str(tmp_path / "more")))
    assert raw.images.shape == (9, 3, 8, 8) and raw.classes == ("cat", "dog")


def test_odd_modes_and_turned_pictures_are_read(tmp_path):
    classes(tmp_path)
    save(tmp_path / "cat" / "alpha.png", "RGBA")
    Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(tmp_path / "cat" / "print.jpg")
    Image.new("P", (9, 9)).save(tmp_path / "cat" / "palette.gif")
    turned = np.zeros((8, 8, 3), np.uint8)
    turned[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(turned).save(tmp_path / "dog" / "turned.png", exif=exif)
    raw = agree(folder(tmp_path))
    assert (raw.images[-1][:, :4] == 0).all() and (raw.images[-1][:, 4:] == 255).all()


def test_the_pool_is_an_extra_folder_nested_or_inside_root(tmp_path):
    classes(tmp_path / "root")
    for i in range(4):
        save(tmp_path / "root" / "unlabelled" / f"deep {i % 2}" / f"{i}.png", seed=i)
    raw = agree(folder(tmp_path / "root", unlabelled_root=str(tmp_path / "root" / "unlabelled")))
    assert raw.pool_images.shape == (4, 3, 8, 8) and raw.classes == ("cat", "dog")
    assert len(folder(tmp_path / "root", unlabelled_root=str(tmp_path / "root" / "unlabelled")).files()) == 2
    assert len(raw.sizes) == 10 and set(map(tuple, raw.sizes)) == {(10, 12)}


def test_a_shipped_validation_part_is_the_validation_split(tmp_path):
    for part, rows in (("train", 10), ("val", 3), ("test", 2)):
        classes(tmp_path / part, rows=rows)
    sizes = dict(labelled=0.5, unlabelled=None, validation=0.25, test=0.2)
    raw, described = agree(folder(tmp_path)), folder(tmp_path).describe()
    assert list(raw.validation_labels) == [0, 0, 0, 1, 1, 1] and (described.validation, described.test) == (
        6,
        4,
    )
    assert check_sizes(described, **sizes) == [] and count_rows(described, **sizes) == {
        "labelled": 10,
        "unlabelled": 10,
        "validation": 6,
        "test": 4,
    }
    # train and val alone, ImageFolder's habit: the test split is held out of train
    shutil.rmtree(tmp_path / "test")
    assert agree(folder(tmp_path)).test_images is None
    assert count_rows(folder(tmp_path).describe(), **sizes) == {
        "labelled": 8,
        "unlabelled": 8,
        "validation": 6,
        "test": 4,
    }


def test_a_key_knows_the_role_of_every_picture(tmp_path, monkeypatch):
    """The first two are the issue's own: one store, two data sets of the same files."""
    monkeypatch.chdir(tmp_path)
    sizes = dict(labelled=None, unlabelled=None, validation=0.1, test=0.2)
    for part, rows in (("train", 20), ("test", 10)):
        files = [
            tmp_path / "issue" / part / name / f"{i}.png"
            for name in ("circle", "square", "triangle")
            for i in range(rows)
        ]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), len(file.parent.name)).save(file)
    issue = tmp_path / "issue"
    found = [folder(issue / "train", unlabelled_root=str(issue / "test")), folder(issue)]
    counts = [count_rows(loader.describe(), **sizes) for loader in found]
    assert counts == [
        dict(labelled=43, unlabelled=30, validation=5, test=12),
        dict(labelled=54, unlabelled=0, validation=6, test=30),
    ]
    assert key(issue / "train", issue / "test") != key(issue)
    for part in ("train", "test"):
        classes(tmp_path / "col" / part, rows=2)
    col = tmp_path / "col"
    keys = [
        key(col),
        key(col / "train", unlabelled=col / "test"),
        key(col, unlabelled=col / "test"),
        key(col / "train"),
        key(col, layout="classes"),
    ]
    assert keys[1] == keys[2]  # the same parts, said in two ways
    (col / "test").rename(col / "val")
    keys[2] = key(col)
    (col / "train" / "cat" / "0.png").rename(col / "train" / "cat" / "9.png")
    keys += [key(col)]
    (col / "train" / "cat" / "9.png").rename(col / "val" / "cat" / "9.png")
    keys += [key(col)]
    (col / "train" / "dog").rename(col / "train" / "fox")
    (col / "val" / "dog").rename(col / "val" / "fox")
    keys += [key(col)]
    assert len(set(keys)) == len(keys)


def test_a_key_hangs_neither_on_the_place_nor_on_what_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes(tmp_path / "a" / "train", ("café", "tea"), rows=2)
    classes(tmp_path / "a" / "val", ("café", "tea"), rows=1)
    first = key(tmp_path / "a")
    for name in (
        "Thumbs.db",
        "train/tea/desktop.ini",
        "train/.ipynb_checkpoints/0.png",
        "train/tea/._0.png",
        "__MACOSX/x/0.png",
        "val/labels.csv",
        "x/0.png",
    ):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text("x")
    (tmp_path / "a" / "val").rename(tmp_path / "a" / "Valid")
    (tmp_path / "a" / "train" / "café").rename(tmp_path / "a" / "train" / "cafe\u0301")
    assert key((tmp_path / "a").rename(tmp_path / "b")) == first
    os.mkfifo(tmp_path / "b" / "train" / "tea" / "pipe.png")  # must not wait for somebody to write into it
    assert key(tmp_path / "b", on_error="skip") != first


def test_any_number_of_threads_gives_the_same_bytes(tmp_path):
    classes(tmp_path, rows=9)
    (tmp_path / "cat" / "bad.png").write_bytes(b"no picture")
    raws = [folder(tmp_path, on_error="skip").load(workers=n) for n in (0, 1, 4)]
    for raw in raws[1:]:
        assert (
            (raw.images == raws[0].images).all()
            and (raw.labels == raws[0].labels).all()
            and raw.skipped == raws[0].skipped
        )


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])  # the header is whole, the pixels are not


def test_a_picture_that_does_not_decode_is_named(tmp_path):
    classes(tmp_path)
    cut(tmp_path / "cat" / "1.png")
    assert folder(tmp_path).describe().train == 6  # only decoding tells
    with pytest.raises(UserError, match=r"'.*cat.1.png' does not decode: .*dataset.on_error=skip"):
        folder(tmp_path).load()
    (tmp_path / "dog" / "0.png").write_text("no picture at all")
    (tmp_path / "dog" / "1.png").write_bytes(b"")
    for method in (folder(tmp_path).describe, folder(tmp_path).load):
        with pytest.raises(UserError, match=r"'.*dog.0.png' \(and at least 1 more\) does not decode"):
            method()


def test_pictures_that_do_not_decode_can_be_skipped_and_are_counted(tmp_path):
    classes(tmp_path)
    want = folder(tmp_path).load()
    cut(tmp_path / "cat" / "1.png")
    (tmp_path / "dog" / "0.png").write_text("no picture at all")
    loader = folder(tmp_path, on_error="skip")
    raw = loader.load()
    assert sorted(raw.skipped) == ["cat/1.png", "dog/0.png"]
    assert raw.skipped["dog/0.png"] == "it is no picture of a kind that Pillow knows"
    assert "truncated" in raw.skipped["cat/1.png"]
    assert (raw.images == want.images[[0, 2, 4, 5]]).all() and list(raw.labels) == [0, 0, 1, 1]
    assert loader.describe().train == 5
    for i in (0, 2):
        cut(tmp_path / "cat" / f"{i}.png")
    with pytest.raises(UserError, match="no picture of the class 'cat'"):
        loader.load()
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="not one of 6 pictures decodes"):
        loader.describe()


def test_hidden_files_are_ignored_and_other_kinds_are_named(tmp_path):
    classes(tmp_path)
    for name in ("cat/.DS_Store", "cat/Thumbs.db", ".git/config", "cat/.cache/x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert len(agree(folder(tmp_path)).images) == 6
    os.symlink(tmp_path / "gone.png", tmp_path / "cat" / "link.png")
    with pytest.raises(
        UserError, match="link.png' does not decode: it is a link to a file that is not there"
    ):
        folder(tmp_path).describe()
    (tmp_path / "cat" / "link.png").unlink()
    os.mkfifo(tmp_path / "cat" / "pipe.png")  # must not wait for somebody to write into it
    with pytest.raises(UserError, match="pipe.png' does not decode"):
        folder(tmp_path).describe()


def test_links_are_followed_once(tmp_path):
    classes(tmp_path / "real")
    (tmp_path / "root").mkdir()
    os.symlink(tmp_path / "real" / "cat", tmp_path / "root" / "cat")
    os.symlink(tmp_path / "real" / "dog", tmp_path / "root" / "dog")
    os.symlink(tmp_path / "root", tmp_path / "real" / "dog" / "loop")
    raw = agree(folder(tmp_path / "root"))
    assert raw.classes == ("cat", "dog") and set(raw.labels) == {0, 1}


@pytest.mark.parametrize("name", ["a=b", "with, comma", "with space", "ümläut 猫", "quote's", "[list]"])
def test_paths_may_hold_anything(tmp_path, name):
    classes(tmp_path / name, (name, "dog"))
    raw = agree(folder(tmp_path / name))
    assert set(raw.classes) == {name, "dog"} and len(raw.images) == 6


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    classes(tmp_path / "pictures")
    assert folder("~/pictures").files()["train"][0][1] == tmp_path / "pictures" / "cat" / "0.png"


def test_folders_that_cannot_be_a_data_set(tmp_path):
    with pytest.raises(UserError, match="looked for a folder of pictures in '.*none'.*dataset.root=PATH"):
        folder(tmp_path / "none").describe()
    with pytest.raises(UserError, match="it holds no folders"):
        folder(tmp_path).describe()
    classes(tmp_path / "one", ("cat",))
    with pytest.raises(UserError, match="two or more of them; it holds only 'cat'"):
        folder(tmp_path / "one").describe()
    (tmp_path / "one" / "dog").mkdir()
    assert check_classes(folder(tmp_path / "one").describe()) == [
        "the class 'dog' holds nothing to train with: add some, or remove its folder"
    ]

    classes(tmp_path / "two" / "train", ("cat", "dog", "fox"))
    classes(tmp_path / "two" / "test", ("cat", "dog", "owl"))
    with pytest.raises(
        UserError, match="two/test/owl' holds pictures of a class that the part to train with does not have"
    ):
        folder(tmp_path / "two").describe()
    classes(tmp_path / "four")
    with pytest.raises(UserError, match="dataset.unlabelled_root=PATH"):
        folder(tmp_path / "four", unlabelled_root=str(tmp_path / "gone")).fetch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="unlabelled pictures '.*empty' holds no picture"):
        folder(tmp_path / "four", unlabelled_root=str(tmp_path / "empty")).describe()


@pytest.mark.parametrize(
    "bad", [dict(image_size=0), dict(image_size=8.0), dict(on_error="ignore"), dict(unlabelled_root=5)]
)
def test_arguments_are_checked(bad):
    with pytest.raises(UserError, match=f"dataset.{next(iter(bad))}"):
        folder("r", **bad)


# ---- what hangs on more than the pictures


def test_files_that_are_no_pictures_change_no_key(tmp_path):
    for part in ("train", "test"):
        classes(tmp_path / part)
    before = {how: key(tmp_path, on_error=how) for how in ("stop", "skip")}
    for name in ("README", "LICENSE", "x.heic", "x.dcm", "x.bin", "x.psd"):
        (tmp_path / "train" / "cat" / name).write_text("words")
    assert key(tmp_path, on_error="skip") == before["skip"]
    with pytest.raises(
        UserError,
        match="LICENSE' .and at least 5 more. does not decode: it is no picture of a kind that Pillow knows",
    ):
        folder(tmp_path).load()
    loader = folder(tmp_path, on_error="skip")
    assert not loader.load().skipped and loader.describe().train == 6
    assert loader.files().notes == (
        (
            f"left out: 6 files in '{tmp_path}/train/cat' that Pillow knows for no kind of picture: "
            "2 without an ending (LICENSE, README), 1 .bin (x.bin), 1 .dcm (x.dcm), 1 .heic (x.heic), "
            "1 .psd (x.psd)",
            "warning",
        ),
    )
    # a picture after all
    shutil.copy(tmp_path / "train" / "cat" / "0.png", tmp_path / "train" / "cat" / "README")
    assert (
        key(tmp_path, on_error="skip") != before["skip"]
        and folder(tmp_path, on_error="skip").describe().train == 7
    )
    for file in (tmp_path / "test").rglob("*.png"):
        file.with_suffix(".heic").write_text("words")
        file.unlink()
    with pytest.raises(
        UserError,
        match=(
            "not one of 6 files to test with is a picture of a kind that Pillow knows; the first is "
            "'.*test/cat/0.heic'"
        ),
    ):
        loader.describe()


def test_what_stands_where_a_folder_should_is_reported(tmp_path):
    classes(tmp_path / "one")
    (tmp_path / "two.zip").write_bytes(b"PK")
    for root, says in (
        (
            f"{tmp_path}/one,{tmp_path}/two",
            f"and there is none: '{tmp_path}/one' is one, and to run several takes a sweep: kdx train -m",
        ),
        (
            f"{tmp_path}/two.zip",
            "and there is none: it is a file: unpack it, if it is an archive, and set dataset.root=PATH",
        ),
        (f"{tmp_path}/three,", "and there is none: set dataset.root=PATH"),
    ):
        with pytest.raises(UserError) as error:
            folder(root).load()
        assert str(error.value) == f"dataset=folder looked for a folder of pictures in '{root}', {says}"


def test_names_that_say_so_are_no_pictures(tmp_path):
    classes(tmp_path)
    before = key(tmp_path)
    for name in ("0.png~", "Icon\r", "x.svg", "x.mp4", "x.mov", "x.crdownload", "x.swp", "cache.db-wal"):
        (tmp_path / "cat" / name).write_text("words")
    assert key(tmp_path) == before


class Reported(Listener):
    def __init__(self):
        self.notes = []

    def note(self, name, text, level):
        self.notes.append((name, level, text))


def test_what_is_reported_of_a_folder_is_reported_of_that_one(tmp_path):
    """The same pictures in two folders have one key; what lies beside them, and where, is said of each by
    every run.
    """
    reported = {}
    for name, beside in (("mine", "extra"), ("yours", None), ("again", "more")):
        for part in ("train", "test"):
            classes(tmp_path / name / part)
        save(tmp_path / name / "pool" / "9.png", seed=0)  # a copy of train/cat/0.png
        if beside:
            save(tmp_path / name / beside / "x.png")
        spec = {
            "_target_": "kdx.data.datasets.folder.Folder",
            "root": str(tmp_path / name),
            "unlabelled_root": str(tmp_path / name / "pool"),
            **SETTINGS,
        }
        heard = Reported()
        dataset = known(Component(spec), lambda text, level, heard=heard: heard.note("prepare", text, level))
        sizes = dict(labelled=None, unlabelled=None, validation=None, test=None)
        store = Store(tmp_path / "store", CPU, heard)
        decoded = store.run(DECODE, dataset=dataset)
        store.run(PREPARE, decoded=decoded, dataset=dataset, **sizes, duplicates="warn", seed=0)
        reported[name] = [text for _, _, text in heard.notes]
    assert [len([*(tmp_path / "store" / stage).iterdir()]) for stage in ("decode", "prepare")] == [1, 1]
    assert [text for text in reported["mine"] if "not read" in text] == [
        reported["mine"][0]
    ] and f"'{tmp_path}/mine/extra'" in reported["mine"][0]
    assert (
        reported["mine"][1:] == reported["yours"] == reported["again"][1:]
        and f"'{tmp_path}/again/more'" in reported["again"][0]
    )
    assert (
        "1 of 1 unlabelled pictures is labelled too (unlabelled/9.png = train/cat/0.png)" in reported["yours"]
    )
    assert not any(str(tmp_path) in text for text in reported["yours"])
