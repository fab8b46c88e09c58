"""Equal pictures in several splits, in several classes and several times in one, and pictures in which there
is nothing to see.
"""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.data import copies, near_copies
from kdx.data.pictures import findings
from kdx.data.pictures.rows import FLOOR, Pictures, channel_statistics
from kdx.data.remarks import check_parts, gaps, less
from kdx.pipeline.stages.arrays import read_inputs
from kdx.pipeline.stages.decode import decode_into
from kdx.pipeline.stages.prepare import run as prepare
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Listener, Work
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=60)


def draw(seed, **more):
    return np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)


def put(file, picture):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)


def lay(root, parts=("train", "test"), each=4):
    """Four pictures of each of two classes in each part, all of them different."""
    for p, part in enumerate(parts):
        for k, name in enumerate(("cat", "dog")):
            for i in range(each):
                put(root / part / name / f"{i}.png", draw(100 * p + 10 * k + i))
    return root


def prepared(
    place, root, *, duplicates="warn", labelled=None, validation=None, test=0.2, unlabelled_root=None
):
    """(data.json, its notes as "level: text")"""
    spec = {
        "_target_": "kdx.data.datasets.folder.Folder",
        "root": str(root),
        "unlabelled_root": unlabelled_root and str(unlabelled_root),
        "layout": "auto",
        "image_size": 8,
        "fit": "crop",
        "background": "white",
        "range": None,
        "max_pixels": 1000,
        "on_error": "stop",
        "encoded": "auto",
        "memory": 10**9,
    }
    place.mkdir()
    prepare(
        Work(place, "prepare", Listener()),
        CPU,
        decoded=decode_into(place.with_name(f"{place.name}-decoded"), Component(spec), CPU),
        dataset=Component(spec),
        labelled=labelled,
        unlabelled=None,
        validation=validation,
        test=test,
        duplicates=duplicates,
        seed=0,
    )
    notes = (place / "notes.jsonl").read_text().splitlines() if (place / "notes.jsonl").exists() else []
    return json.loads((place / "data.json").read_text()), [
        f"{note['level']}: {note['text']}" for note in map(json.loads, notes)
    ]


def holds(place, split):
    return read_inputs(Artifact("prepare", "", place), split)[:]


NOTHING = {
    "test_in_training": 0,
    "validation_in_training": 0,
    "test_in_validation": 0,
    "pool_in_labelled": 0,
    "in_several_classes": 0,
}


def test_of_pictures_that_differ_nothing_is_said(tmp_path):
    about, notes = prepared(tmp_path / "made", lay(tmp_path / "data"))
    none = dict.fromkeys(("labelled", "unlabelled", "validation", "test"), 0)
    assert about["duplicates"] == NOTHING | {"copies": none} and about["flat"] == {"constant": 0, "almost": 0}
    assert not [note for note in notes if note.startswith("warning") or "copies" in note]


def test_a_test_folder_that_is_a_copy_of_train(tmp_path):
    lay(tmp_path / "data")
    for file in (tmp_path / "data" / "train").rglob("*.png"):
        other = tmp_path / "data" / "test" / file.relative_to(tmp_path / "data" / "train")
        other.unlink()
        Image.open(file).save(other.with_suffix(".bmp"))  # other bytes, the same picture
    about, notes = prepared(tmp_path / "made", tmp_path / "data", validation=2)
    assert about["duplicates"]["test_in_training"] == 6 and about["duplicates"]["test_in_validation"] == 2
    assert any(
        note.startswith(
            "warning: 6 of 8 test pictures are also trained on, so that the test figures are none of new "
            "pictures (test/cat/"
        )
        and " = train/cat/" in note
        and note.endswith(" and 3 more)")
        for note in notes
    )
    about, notes = prepared(
        tmp_path / "less",
        lay(tmp_path / "more") and tmp_path / "data",
        duplicates="warn",
        labelled=4,
        validation=2,
    )
    assert about["duplicates"]["test_in_training"] == 6  # in the pool, too, they are trained on


def test_copies_on_both_sides_of_a_split_that_kdx_makes(tmp_path):
    root = lay(tmp_path / "data", parts=("",), each=15)
    for i in range(1, 15):
        put(root / "cat" / f"{i}.png", draw(0))  # one picture fifteen times
    about, notes = prepared(tmp_path / "made", root, validation=0.2)
    found = about["duplicates"]
    assert (
        found["test_in_training"] == 3
        and found["validation_in_training"] > 0
        and found["test_in_validation"] == 3
    )
    assert sum(found["copies"].values()) == 15 - 3  # once in each of three splits
    assert any(
        note.startswith("warning: ")
        and " labelled, " in note
        and " test pictures are copies of others there; one picture is there " in note
        for note in notes
    )
    about, notes = prepared(tmp_path / "dropped", root, validation=0.2, duplicates="drop")
    assert about["duplicates"]["dropped"] == {"train": 14} and sum(about["counts"].values()) == 16
    assert not any(about["duplicates"]["copies"].values()) and about["duplicates"]["test_in_training"] == 0
    assert any(
        note.startswith("info: copies of other pictures left out of the train part: 14 (cat/1.png, ")
        for note in notes
    )


def test_copies_are_dropped_on_the_side_of_training(tmp_path):
    root = lay(tmp_path / "data")
    put(root / "train" / "cat" / "0.png", draw(110))  # test/dog/0.png, under another class too
    put(root / "test" / "cat" / "0.png", draw(103 - 2))  # test/cat/1.png
    put(root / "train" / "dog" / "1.png", draw(2))  # train/cat/2.png: which class is right?
    for i, seed in enumerate((3, 103, 900, 900)):  # of train, of test, its own, twice
        put(tmp_path / "pool" / f"{i}.png", draw(seed))
    about, notes = prepared(tmp_path / "made", root, unlabelled_root=tmp_path / "pool")
    assert about["duplicates"] == {
        "test_in_training": 2,
        "validation_in_training": 0,
        "test_in_validation": 0,
        "pool_in_labelled": 1,
        "in_several_classes": 2,
        "copies": {"labelled": 1, "unlabelled": 1, "validation": 0, "test": 1},
    }
    assert any(
        "2 pictures in two classes or more (" in note
        and "train/cat/2.png (cat) = train/dog/1.png (dog)" in note
        and "train/cat/0.png (cat) = test/dog/0.png (dog)" in note
        for note in notes
    )
    about, notes = prepared(tmp_path / "dropped", root, unlabelled_root=tmp_path / "pool", duplicates="drop")
    assert about["duplicates"] == NOTHING | {
        "copies": dict.fromkeys(("labelled", "unlabelled", "validation", "test"), 0),
        "dropped": {"test": 1, "train": 3, "unlabelled": 3},
    }
    assert about["counts"] == {"labelled": 5, "validation": 0, "test": 7, "unlabelled": 1}
    assert (holds(tmp_path / "dropped", "unlabelled")[0, 0] == draw(900)).all()
    with pytest.raises(
        UserError,
        match=r"2 of 8 test pictures are also trained on.*: take the copies out, or set dataset.duplicates=drop",  # noqa: E501
    ):
        prepared(tmp_path / "refused", root, unlabelled_root=tmp_path / "pool", duplicates="error")


def copied(root, *parts):
    """Each of the parts becomes a copy of the first."""
    for file in [*(root / parts[0]).rglob("*.png")]:
        for part in parts[1:]:
            place = root / part / file.relative_to(root / parts[0])
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    return root


def test_a_part_that_drop_would_empty_is_reported_before_any_work(tmp_path):
    copied(lay(tmp_path / "a", parts=("train",)), "train", "test")
    says = (
        r"^nothing is left to train with: of 8 pictures in the train part every one is in the test part too "
        r"\(train/cat/0.png, .* and 5 more\), and "
        r"dataset.duplicates=drop leaves them out. Give that part other pictures, or set "
        r"dataset.duplicates=warn, which keeps them$"
    )
    with pytest.raises(UserError, match=says):
        prepared(tmp_path / "one", tmp_path / "a", duplicates="drop")
    root = lay(tmp_path / "b", parts=("train", "test"))
    put(root / "test" / "dog" / "0.png", draw(100))  # test/cat/0.png: in two classes
    copied(root, "test", "val", "pool")
    (root / "val" / "dog" / "3.png").unlink()
    with pytest.raises(UserError) as reported:
        prepared(tmp_path / "two", root, unlabelled_root=root / "pool", duplicates="drop")
    first, second = str(reported.value).splitlines()
    assert first.startswith(
        "nothing is left to validate with: of 7 pictures in the validation part every one is in the test "
        "part too and 2 are in two classes or more ("
    )
    assert "or take it away, or set dataset.duplicates=warn" in first
    assert second.startswith("nothing is left in the pool: of 8 pictures in the unlabelled part ")
    root = lay(tmp_path / "c")
    for name in ("cat", "dog"):
        for i in range(4):
            put(root / "test" / name / f"{i}.png", draw(50 + i))
    with pytest.raises(
        UserError,
        match="nothing is left to test with: of 8 pictures in the test part every one is in two classes or more",  # noqa: E501
    ):
        prepared(tmp_path / "three", root, duplicates="drop")


def test_all_pictures_equal_leave_nothing(tmp_path):
    root = lay(tmp_path / "data", parts=("",))
    for file in root.rglob("*.png"):
        put(file, draw(0))
    with pytest.raises(
        UserError,
        match=(
            "nothing is left to train with: of 8 pictures in the train part every one "
            "is in two classes or more"
        ),
    ):
        prepared(tmp_path / "made", root, duplicates="drop")


def test_a_class_that_drop_takes_from_training_is_reported(tmp_path):
    root = lay(tmp_path / "data")
    for i in range(4):
        put(root / "train" / "eel" / f"{i}.png", draw(100 + i))
    _, notes = prepared(tmp_path / "made", root, duplicates="drop")
    assert any(
        note.startswith(
            "warning: no labelled example shows 1 of the 3 classes (eel), as dataset.duplicates=drop left "
            "out every train picture of eel: the teacher has never seen it"
        )
        for note in notes
    )
    for i in range(4):
        put(root / "train" / "cat" / f"{i}.png", draw(110 + i))
    with pytest.raises(
        UserError,
        match="leaves no train picture of cat, eel, and with that fewer than two classes to train with",
    ):
        prepared(tmp_path / "refused", root, duplicates="drop")


def test_sizes_that_no_longer_fit_blame_the_copies(tmp_path):
    root = lay(tmp_path / "data")
    put(root / "train" / "cat" / "0.png", draw(100))
    with pytest.raises(
        UserError,
        match=(
            "^once dataset.duplicates=drop has left out 1 of the pictures: dataset.labelled=8 asks for 8 "
            "rows; of 7 7 are available"
        ),
    ):
        prepared(tmp_path / "made", root, labelled=8, duplicates="drop")


def test_an_empty_part_is_reported():
    images = np.zeros((2, 1, 4, 4), np.uint8)
    with pytest.raises(
        UserError,
        match=(
            "^the unlabelled part of the data set holds no picture in the pool: add "
            "some, or take the part away$"
        ),
    ):
        check_parts(Pictures(images, np.array([0, 1]), ("a", "b"), pool_images=images[:0]))


def test_classes_that_splits_lack_are_reported_once():
    labels = {"validation": np.array([0, 0, 2]), "test": np.array([0, 2]), "more": np.array([0, 1])}
    assert gaps(labels, "abc") == [
        "no validation or test picture shows 1 of the 3 classes (b): their figures say nothing of it",
        "no more picture shows 1 of the 3 classes (c): its figures say nothing of it",
    ]


def test_error_is_none_where_all_pictures_differ(tmp_path):
    about, _ = prepared(tmp_path / "made", lay(tmp_path / "data"), duplicates="error")
    assert about["counts"] == {"labelled": 8, "validation": 0, "test": 8, "unlabelled": 0}


def test_few_copies_are_reported_quietly():
    images = np.arange(300, dtype=np.uint16)[:, None].view(np.uint8).reshape(300, 1, 1, 2)
    parts = {"labelled": images, "unlabelled": images[:0], "validation": images[:0], "test": images[:1]}
    labels = {name: np.zeros(len(part), np.int64) for name, part in parts.items()}
    parts["labelled"] = np.concatenate([images, images[5:7]])
    labels["labelled"] = np.zeros(302, np.int64)
    notes, found = copies.find(parts, labels, ("a",), lambda part, row: f"{part} {row}")
    assert [level for _, level in notes] == ["warning", "info"] and found["copies"][
        "labelled"
    ] == 2  # 1 of 1 test pictures; 2 of 302
    assert (
        notes[1][0]
        == "2 of 302 labelled pictures are copies of others there; one picture is there 2 times (labelled 5)"
    )


def test_copies_within_several_splits_are_one_sentence():
    images = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1)
    parts = {
        "labelled": images[[0, 0, 0, 1]],
        "unlabelled": images[:0],
        "validation": images[[2, 2]],
        "test": images[3:5],
    }
    labels = {name: np.zeros(len(part), np.int64) for name, part in parts.items()}
    notes, found = copies.find(parts, labels, ("a",), lambda part, row: f"{part} {row}")
    assert notes == [
        (
            (
                "2 of 4 labelled and 1 of 2 validation pictures are copies of others there; one picture is "
                "there 3 times (labelled 0)"
            ),
            "warning",
        )
    ]
    assert found["copies"] == {"labelled": 2, "unlabelled": 0, "validation": 1, "test": 0}


def test_nothing_dropped_leaves_the_arrays_as_they_are():
    images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    raw = Pictures(images, np.array([0, 1, 0]), ("a", "b"))
    found = less(raw)
    assert found.raw.images is images and found.left_out == {"train": []}


def test_shipped_sets_have_no_copies():
    from kdx.data.datasets.digits import Digits

    raw = Digits(image_size=16).load()
    assert len(np.unique(copies.identify({"train": raw.images})["train"])) == len(raw.images)


# ---- pictures in which there is nothing to see


def test_constant_and_almost_constant_pictures_are_reported(tmp_path):
    root = lay(tmp_path / "data")
    put(root / "train" / "cat" / "0.png", np.full((8, 8), 9, np.uint8))
    put(root / "train" / "dog" / "1.png", np.full((8, 8), 3, np.uint8) + np.eye(8, dtype=np.uint8) * 7)
    put(root / "test" / "dog" / "1.png", np.full((8, 8), 3, np.uint8) + np.eye(8, dtype=np.uint8) * 8)
    about, notes = prepared(tmp_path / "made", root)
    assert about["flat"] == {"constant": 1, "almost": 1}
    assert (
        "warning: 1 of 16 pictures is constant, one colour all over (train/cat/0.png): there is nothing "
        "but that colour to learn from in it"
    ) in notes
    assert any(
        note.startswith("warning: 1 of 16 pictures is almost constant") and "(train/dog/1.png)" in note
        for note in notes
    )


def test_white_on_transparent_ground_names_the_background(tmp_path):
    root = lay(tmp_path / "data")
    icon = np.full((8, 8, 4), 255, np.uint8)
    icon[:, :4, 3] = 0
    put(root / "train" / "cat" / "0.png", icon)
    put(root / "train" / "cat" / "1.png", np.full((8, 8, 3), 255, np.uint8))
    says = (
        "1 of 2 is transparent in part, and dataset.background, which shows there, may have the colour of "
        "what is drawn: try another, dataset.background=black, say"
    )
    _, notes = prepared(tmp_path / "made", root)
    (reported,) = (note for note in notes if "constant" in note)
    assert reported.startswith("warning: 2 of 16 pictures are constant") and reported.endswith(
        f"in them; {says}"
    )


def test_a_red_square_is_constant():
    red = np.zeros((1, 3, 4, 4), np.uint8)
    red[:, 0] = 255
    assert findings.constant_pictures({"test": red}, lambda part, row: f"{part} {row}")[1] == {
        "constant": 1,
        "almost": 0,
    }


def test_a_deviation_that_was_raised_is_reported():
    black = np.zeros((2, 3, 4, 4), np.uint8)
    assert channel_statistics([black])[1] == [FLOOR] * 3


def test_channel_statistics_are_of_doubles_to_the_last_bit():
    """In whatever order a file has them, from memory that nobody may write."""
    pictures = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 6), dtype=np.uint8).transpose(0, 1, 3, 2)
    pictures.flags.writeable = False
    doubles = pictures.astype(np.float64) / 255
    mean, std = doubles.mean((0, 2, 3)), doubles.std((0, 2, 3))
    assert channel_statistics([pictures]) == (mean.round(6).tolist(), std.round(6).tolist())
    assert [text for text, _ in findings.floored([FLOOR] * 3, FLOOR)] == [
        (
            "the pictures, all taken together, are almost constant: a standard deviation below 0.001 of the "
            "way from black to white was taken as 0.001"
        )
    ]
    assert next(findings.floored([FLOOR, 0.3, FLOOR], FLOOR))[0].startswith(
        "channels 0 and 2 of the pictures, all taken together, are almost constant"
    )
    assert next(findings.floored([0.2, 0.3, FLOOR], FLOOR))[0].startswith(
        "channel 2 of the pictures, all taken together, is almost constant"
    )
    assert not list(findings.floored([0.2], FLOOR))


def saved_again(pictures, quality):
    """(N, 1, H, W) -> the same as JPEG"""
    found = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture[0]).save(file, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file))[None])
    return np.stack(found)


def test_near_copies_by_hand():
    drawn = np.random.default_rng(0).normal(size=(1, 32, 32))
    hashed = near_copies.perceptual_hash(np.concatenate([drawn, drawn * 3, -drawn]))
    assert hashed[0] == hashed[1] and np.bitwise_count(hashed[0] ^ hashed[2]) > near_copies.MOST_BITS
    one = np.array([0.0, 1, 2])
    others = np.array([[0.0, 2, 4], [2, 1, 0], [5, 5, 5]])
    assert near_copies.correlation(one, others) == pytest.approx([1, -1, 0])


def test_near_copies_of_digits_are_found_and_strangers_are_few():
    levels = (load_digits().images * 255 / 16).round().astype(np.uint8)[:, None]
    digits = np.kron(levels, np.ones((1, 1, 2, 2), np.uint8))
    order = np.random.default_rng(0).permutation(len(digits))
    test, train = digits[order[:300]], digits[order[300:]]
    none = {"unlabelled": train[:0], "validation": train[:0]}

    def counted(labelled):
        parts = {"labelled": labelled, "test": test, **none}
        return near_copies.find_near(parts, lambda part, row: f"{part} {row}")

    notes, found = counted(train)
    assert found["test_in_training"] == 4 and "near copies" in notes[0][0]
    notes, found = counted(saved_again(test, 75))
    assert found["test_in_training"] == 300 and notes[0][1] == "warning" and "~ labelled" in notes[0][0]
    assert counted(test)[1]["test_in_training"] <= 4  # equal ones are counted elsewhere


def test_near_copies_are_counted_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = lay(tmp_path / "data", each=6)
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    put(root / "train" / "cat" / "again.png", picture)
    put(root / "test" / "cat" / "first.png", picture + 20)
    words = ["train", "device=cpu", "dataset=folder", f"dataset.root={root}", "dataset.image_size=8"]
    words += ["dataset.labelled=null", "dataset.validation=null", "teacher=mlp_small", "student=mlp_small"]
    words += ["teacher_pretrain.steps=1", "stages=[teacher_pretrain]", "hydra.run.dir=run"]
    assert main([*words, "dataset.near_copies=true"]) == 0
    assert "near copies of others that are trained on, by a perceptual hash" in "".join(capsys.readouterr())
    assert main(["train", "dataset=wine", "dataset.near_copies=true"]) == 2
    told = "".join(capsys.readouterr())
    assert "dataset.near_copies compares pictures" in told and "Traceback" not in told
