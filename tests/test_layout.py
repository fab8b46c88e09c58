"""What lies where in a folder of pictures, by its names alone:
no file here is a picture, and none is opened.
"""

import os
import unicodedata

import pytest

from kdx.core.errors import UserError
from kdx.data.phrases import MOST_KINDS, by_kind
from kdx.data.pictures.layout import lay_out, role_of
from kdx.data.pictures.walk import files_left_out


def files(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def part(root, name, classes=("cat", "dog"), rows=1):
    files(root, *(f"{name}/{c}/{i}.png" for c in classes for i in range(rows)))


def look(root, unlabelled=None, layout="auto"):
    """(classes, part -> names, notes)"""
    found = lay_out(root, unlabelled, layout)
    assert all(
        len(p.paths) == len(p.labels) == len(p.names) and all(path.is_file() for path in p.paths)
        for p in found.parts.values()
    )
    for name, listing in found.parts.items():
        assert name == "unlabelled" or [n.split("/")[0] for n in listing.names] == [
            found.classes[k] for k in listing.labels
        ]
    return found.classes, {name: list(listing.names) for name, listing in found.parts.items()}, found.notes


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (["Training", "Testing"], ["train", "test"]),
        (["Train", "Test", "Valid"], ["train", "test", "validation"]),
        (["seg_train", "seg_test", "seg_pred"], ["train", "test", None]),
        (["train_images", "test_images"], ["train", "test"]),
        (["TrainSet", "testset", "dev"], ["train", "test", "validation"]),
        (["asl_alphabet_train", "asl_alphabet_test"], ["train", "test"]),
        (["train2017", "val2017"], ["train", "validation"]),
        (["bullet_train", "freight train"], [None, None]),
        (["training shoes", "test tube"], [None, None]),
        (["train", "bullet train", "train_test"], ["train", None, None]),
        (["cat", "contest", "valley"], [None, None, None]),
    ],
)
def test_parts_are_known_by_their_names(names, roles):
    found = role_of(names)
    assert [found.get(name) for name in names] == roles


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (["train", "valid", "test"], ["train", "validation", "test"]),
        (["train", "val"], ["train", "validation"]),
        (["Training", "Testing"], ["train", "test"]),
        (["seg_train/seg_train", "seg_test/seg_test"], ["train", "test"]),
        (["train"], ["train"]),
    ],
)
def test_each_layout_is_what_it_is_called(tmp_path, folders, parts):
    for name in folders:
        part(tmp_path, name)
    assert look(tmp_path) == (("cat", "dog"), dict.fromkeys(parts, ["cat/0.png", "dog/0.png"]), ())


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["a/train/cat", "a/test/cat"], "holds only 'a': is it dataset.root='.*a'"),
        (
            ["cats/train", "cats/test", "dogs/train"],
            (
                r"\(cats, dogs\) hold folders of the same names \(train\).*train/cats/, or .*; "
                r"dataset.layout=classes"
            ),
        ),
        (
            ["fold1/cat", "fold1/dog", "fold2/dog", "fold2/cat"],
            r"\(fold1, fold2\) hold folders of the same names \(cat, dog\)",
        ),
        (
            ["lernen/cat", "lernen/dog", "pruefen/dog", "pruefen/cat", "beispiele"],
            r"\(lernen, pruefen\) hold folders of the same names \(cat, dog\)",
        ),
        (
            ["set1/cat", "set1/dog", "set2/cat", "set2/dog", "set3/cat"],
            r"\(set1, set2, set3\) hold folders of the same names \(cat, dog\)",
        ),
        (
            ["s1/cat", "s1/dog", "s2/cat", "s2/cow", "x/y"],
            r"\(s1, s2\) hold folders of the same names \(cat\)",
        ),
        (
            ["train/fold1/cat", "train/fold1/dog", "train/fold2/cat", "train/fold2/dog"],
            r"in '.*train' \(fold1, fold2\) hold .*dataset.layout=parts takes all",
        ),
        (
            ["train/images/cat", "train/images/dog", "train/masks/cat", "val/images/cat", "val/masks/cat"],
            r"\(images, masks\) hold .*dataset.layout=parts",
        ),
        (
            ["train_circle", "train_square", "test_circle", "test_square"],
            r"\(test_circle, .*\) are called like parts and classes in one.*layout=classes",
        ),
        (
            ["cats_train", "dogs_train", "cats_test", "dogs_test"],
            r"\(cats_test, cats_train, dogs_test, dogs_train\) are called like parts and classes in one",
        ),
        (["train-cat", "val-cat", "train-dog", "other"], r"\(train-cat, val-cat\) are called"),
        (["trainA", "trainB", "testA", "testB"], r"\(testA, testB, trainA, trainB\) are called"),
        (["traincat", "testcat", "traindog"], r"\(testcat, traincat\) are called"),
        (
            ["train/freight", "train/passenger", "bus", "car/suv", "car/sedan"],
            "train/ and, with pictures too, bus/, car/: is train/ the part .*, or a class",
        ),
        (
            ["train/cat", "train/dog", "eval/cat", "eval/dog"],
            "holds train/ and eval/ with folders of the same names: rename eval/",
        ),
        (
            ["train/cat", "train/dog", "test", "training/cat"],
            "train/ and training/, and both look like the part to train with",
        ),
        (
            ["train", "test"],
            (
                r"holds test/ and train/, which look like parts .* and train/ holds no folders of "
                r"classes.*dataset.layout=classes"
            ),
        ),
        (
            ["val/cat", "val/dog", "test/cat", "test/dog"],
            "which look like parts of a data set, and there is no train/",
        ),
        (
            ["train/cat", "train/dog", "test"],
            (
                "'.*test' looks like the part to test with, and its pictures lie in no "
                "folder.*dataset.unlabelled_root='.*test'"
            ),
        ),
        (
            ["train/cat", "train/dog", "test/cat", "test/dgo"],
            "'.*dgo' holds pictures of a class that .* does not have; did you mean 'dog'",
        ),
        (
            ["train/cat", "train/dog", "val/x/cat"],
            "'.*val/x' holds pictures of a class that the part to train with does not have",
        ),
    ],
)
def test_what_cannot_be_known_is_asked_about(tmp_path, folders, says):
    files(tmp_path, *(f"{folder}/0.png" for folder in folders))
    with pytest.raises(UserError, match=says) as reported:
        lay_out(tmp_path, None, "auto")
    assert len(str(reported.value)) - 3 * len(str(tmp_path)) < 350


def test_every_folder_is_a_class_where_that_is_said(tmp_path):
    part(tmp_path, "train")
    part(tmp_path, "test")
    assert look(tmp_path, layout="classes")[:2] == (
        ("test", "train"),
        {"train": ["test/cat/0.png", "test/dog/0.png", "train/cat/0.png", "train/dog/0.png"]},
    )
    files(tmp_path / "one", "train/0.png", "car/0.png")
    assert look(tmp_path / "one")[0] == ("car", "train")


def test_what_is_asked_can_be_answered(tmp_path):
    part(tmp_path / "folds", "train", ("fold1/cat", "fold2/cat", "fold2/dog"))
    part(tmp_path / "folds", "test", ("fold1", "fold2"))
    assert look(tmp_path / "folds", layout="parts")[:2] == (
        ("fold1", "fold2"),
        {
            "train": ["fold1/cat/0.png", "fold2/cat/0.png", "fold2/dog/0.png"],
            "test": ["fold1/0.png", "fold2/0.png"],
        },
    )
    part(tmp_path / "lone", "train")
    files(tmp_path / "lone", "car/0.png")
    assert look(tmp_path / "lone", layout="parts")[0] == ("cat", "dog") and look(
        tmp_path / "lone", layout="classes"
    )[0] == ("car", "train")
    assert look(tmp_path / "lone", tmp_path / "lone" / "car")[0] == ("cat", "dog")
    part(tmp_path, "ab", ("trainA", "testA"))
    assert look(tmp_path / "ab", layout="classes")[0] == ("testA", "trainA")
    with pytest.raises(UserError, match="holds nothing that is called train/: each part needs"):
        lay_out(tmp_path / "lone" / "train", None, "parts")


@pytest.mark.parametrize(
    "folders",
    [
        ("circle/2021", "square/2021"),
        ("train/circle/images", "train/square/images"),
        ("bullet_train", "old_train", "test_tube"),
        ("circle/a", "square/b"),
        ("circle", "test/a", "test/b"),
    ],
)
def test_what_is_clear_is_not_asked_about(tmp_path, folders):
    files(tmp_path, *(f"{folder}/0.png" for folder in folders))
    assert len(look(tmp_path)[0]) == len({folder.removeprefix("train/").split("/")[0] for folder in folders})


def test_one_folder_between_part_and_classes_is_understood(tmp_path):
    part(tmp_path, "train/images")
    part(tmp_path, "test/images")
    part(tmp_path, "val")
    classes, parts, notes = look(tmp_path)
    assert (classes, parts) == (
        ("cat", "dog"),
        dict.fromkeys(("train", "validation", "test"), ["cat/0.png", "dog/0.png"]),
    )
    assert [note.replace(str(tmp_path), "") for note in notes] == [
        "the classes are the folders in '/train/images', the only one of its part"
    ]


def test_what_is_beside_the_parts_is_reported(tmp_path):
    part(tmp_path, "train")
    part(tmp_path, "test")
    files(
        tmp_path,
        "extra/0.png",
        "annotations/0.xml",
        "train/cat/labels.txt",
        "train/stray.jpg",
        "a.PNG",
        ".git/x",
        "readme.md",
    )
    (tmp_path / "val").mkdir()
    classes, parts, notes = look(tmp_path)
    assert parts == {"train": ["cat/0.png", "dog/0.png"], "test": ["cat/0.png", "dog/0.png"]}
    assert [note.replace(str(tmp_path), "") for note in notes] == [
        "'/val' is empty and is passed over",
        "pictures in '' itself are in no class and not read: 1, the first a.PNG",
        (
            "'/extra' is no part to train or test with, and is not read; dataset.unlabelled_root='/extra' "
            "makes it the pool"
        ),
        "pictures in '/train' itself are in no class and not read: 1, the first stray.jpg",
        "left out: 1 file in '/train/cat' whose names say that they are no pictures: 1 .txt (labels.txt)",
    ]


def test_what_is_left_out_is_counted_by_kind():
    names = [f"a/{i}.txt" for i in range(5)] + ["b/x.PSD", "c/x.psd", "README", "a.b/.rc", "a~"]
    assert by_kind(names) == (
        "5 .txt (a/0.txt, a/1.txt, a/2.txt and 2 more), 3 without an ending (README, a.b/.rc, a~), 2 .psd "
        "(b/x.PSD, c/x.psd)"
    )
    kinds = [f"{i}.k{i}" for i in range(MOST_KINDS + 2)]
    few = by_kind(kinds[:MOST_KINDS])
    assert few.count("(") == MOST_KINDS and "other" not in few
    assert by_kind(["a.k0", *kinds]).startswith("2 .k0 (a.k0, 0.k0), 1 .k1 (1.k1)")
    assert by_kind(kinds).endswith(", 1 .k5 (5.k5), 2 of 2 other kinds") and MOST_KINDS == 6
    assert files_left_out(["/d/a/x.txt", "/d/b/y.md"], "that are odd") == (
        "left out: 2 files in '/d' that are odd: 1 .md (b/y.md), 1 .txt (a/x.txt)"
    )
    assert files_left_out(["a/x.txt"], "so") == "left out: 1 file in 'a' so: 1 .txt (x.txt)"
    assert files_left_out(["a/x.c", "b/x.c"], "so") == "left out: 2 files in '.' so: 2 .c (a/x.c, b/x.c)"
    mixed = files_left_out(["a/x.c", f"{os.getcwd()}/a/y.c"], "so")
    assert mixed == f"left out: 2 files in '{os.getcwd()}/a' so: 2 .c (x.c, y.c)"


def test_a_class_may_be_missing_where_nothing_is_learned(tmp_path):
    part(tmp_path, "train", ("ant", "bee", "cat"))
    part(tmp_path, "test", ("cat", "bee"))
    (tmp_path / "test" / "ant").mkdir()
    (tmp_path / "test" / "new").mkdir()
    found = lay_out(tmp_path, None, "auto")
    assert found.parts["test"].names == ("bee/0.png", "cat/0.png") and found.parts["test"].labels == (1, 2)


def test_the_pool_is_in_no_other_part(tmp_path):
    part(tmp_path, "train")
    part(tmp_path, "test")
    files(tmp_path, "train/cat/more/1.png")
    assert look(tmp_path, tmp_path / "test")[1] == {
        "train": ["cat/0.png", "cat/more/1.png", "dog/0.png"],
        "unlabelled": ["cat/0.png", "dog/0.png"],
    }
    assert look(tmp_path, tmp_path / "train" / "cat" / "more")[1]["train"] == ["cat/0.png", "dog/0.png"]
    for pool in (tmp_path, tmp_path / "train"):
        with pytest.raises(UserError, match="would be in the pool"):
            lay_out(tmp_path / "train", pool, "auto")


def test_an_accent_in_two_forms_is_one_class(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    files(
        tmp_path, f"train/{composed}/0.png", f"train/{apart}/1.png", "train/thé/0.png", f"test/{apart}/é.png"
    )
    classes, parts, _ = look(tmp_path)
    assert (
        classes == (composed, "thé") and parts["test"] == [f"{composed}/é.png"] and len(parts["train"]) == 3
    )


def test_why_there_are_too_few_classes_is_reported(tmp_path):
    files(
        tmp_path,
        "table/images/0.png",
        "table/train.csv",
        "pool/train/cat/0.png",
        "pool/test/cat/0.png",
        "pool/test/dog/0.png",
    )
    with pytest.raises(
        UserError,
        match=(
            r"holds only 'images'\. No label is read from a table such as train\.csv: sort the "
            r"pictures into folders by it$"
        ),
    ):
        lay_out(tmp_path / "table", None, "auto")
    with pytest.raises(
        UserError, match=r"it holds only 'test', as the folder of dataset.unlabelled_root is not counted$"
    ):
        lay_out(tmp_path / "pool", tmp_path / "pool" / "train", "auto")


def test_classes_that_differ_in_capitals_or_spaces_only_are_reported(tmp_path):
    files(tmp_path, *(f"{name}/0.png" for name in ("Cat", "cat", "hot_dog", "hot dog", "cat2", "c++", "c")))
    classes, _, notes = look(tmp_path)
    assert classes == ("Cat", "c", "c++", "cat", "cat2", "hot dog", "hot_dog")
    said = "classes whose names differ in capitals or spaces only, and are 2 classes: "
    assert notes == (f"{said}'Cat', 'cat'", f"{said}'hot dog', 'hot_dog'")


def test_a_link_to_what_holds_a_class_brings_no_other_class_into_it(tmp_path):
    files(tmp_path, "cat/0.png", "dog/0.png", "elsewhere/1.png")
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "cat" / "self").symlink_to(".")
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    assert look(tmp_path)[1]["train"] == ["cat/0.png", "cat/more/1.png", "dog/0.png", "elsewhere/1.png"]


def test_names_that_are_no_utf8_are_escaped(tmp_path):
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    with open(os.fsencode(tmp_path) + b"/caf\xe9/\xff.png", "wb"):
        pass
    files(tmp_path, "tea/0.png")
    classes, parts, _ = look(tmp_path)
    assert classes == (r"caf\xe9", "tea") and parts["train"] == [r"caf\xe9/\xff.png", "tea/0.png"]


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    part(tmp_path, "train")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(UserError, match="'.*dog' cannot be read: Permission denied"):
        lay_out(tmp_path, None, "auto")


def test_a_name_is_one_line(tmp_path):
    files(tmp_path, "a\nb/0.png", "c\x1b[31m/0.png")
    assert look(tmp_path)[0] == (r"a\nb", r"c\x1b[31m")
