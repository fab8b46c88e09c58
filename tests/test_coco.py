"""dataset=coco: a small folder in COCO's format, what is odd about it, and where boxes lie in the squares."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_peers import run_of

from kdx.core.errors import UserError
from kdx.data.contract import check
from kdx.data.datasets.coco import Coco
from kdx.data.pictures.coco import read_coco
from kdx.data.stored import InMemory

for _package in ("torchmetrics", "pycocotools"):
    pytest.importorskip(_package)


DOCUMENT = {
    "images": [
        {"id": 7, "file_name": "wide.png", "width": 40, "height": 20},
        {"id": 3, "file_name": "high.png", "width": 16, "height": 32},
        {"id": 9, "file_name": "empty.png", "width": 32, "height": 32},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 5, 20, 10], "segmentation": [[1, 2, 3, 4]]},
        {"image_id": 3, "category_id": 2, "bbox": [0, 0, 16, 32]},
        {"image_id": 7, "category_id": 2, "bbox": [0, 0, 4.5, 4]},
        {"image_id": 3, "category_id": 18, "bbox": [1, 1, 9, 9], "iscrowd": 1},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "bicycle"}],
}
KEYS = dict(annotations="annotations/train.json", pictures="train", test_annotations=None, test_pictures=None)
KEYS |= dict(unlabelled_pictures=None, image_size=32, fit="pad", background=0, max_pixels=10**6)
KEYS |= dict(on_error="stop", stride=4, levels=2, sure=0.3)


def folder(place: Path, document=DOCUMENT, part: str = "train") -> Path:
    (place / "annotations").mkdir(parents=True, exist_ok=True)
    (place / part).mkdir(exist_ok=True)
    (place / "annotations" / f"{part}.json").write_text(json.dumps(document))
    for number, one in enumerate(document["images"]):
        pixels = np.full((one["height"], one["width"], 3), 100 + number, np.uint8)
        pixels[0, 0] = 255, 0, 0
        Image.fromarray(pixels).save(place / part / one["file_name"])
    return place


def coco(place: Path, **keys) -> Coco:
    return Coco(root=str(place), **KEYS | keys)


def changed(*path, value):
    found = copy.deepcopy(DOCUMENT)
    inner = found
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return found


def test_boxes_lie_in_the_padded_square(tmp_path):
    made = coco(folder(tmp_path))
    raw = made.load()
    check(raw, made.describe())
    images, truth = raw.part("train")
    assert images.shape == (3, 3, 32, 32) and raw.task["names"] == ["bicycle", "dog"]  # in order of ids
    assert raw.task["ids"] == [2, 18]
    # wide: 40x20 becomes 32x16, 8 pixels further down
    assert np.allclose(truth["boxes"][0], [[8, 12, 24, 20], [0, 8, 3.6, 11.2]])
    assert truth["classes"].tolist() == [[1, 0], [0, -1], [-1, -1]]
    assert truth["boxes"][1, 0].tolist() == [8, 0, 24, 32]  # high: 16x32, 8 pixels further right
    assert raw.about()["boxes"] == {"crowds": 1, "clipped": 0, "lost": 0}
    assert raw.notes == (("train: 1 annotation of whole groups (iscrowd) left out", "info"),)
    assert raw.names["train"] == ["wide.png", "high.png", "empty.png"]


def test_boxes_lie_in_the_squeezed_square(tmp_path):
    truth = coco(folder(tmp_path), fit="squeeze").load().part("train")[1]
    assert np.allclose(truth["boxes"][0, 0], [8, 8, 24, 24])
    assert np.allclose(truth["boxes"][1, 0], [0, 0, 32, 32])


def test_a_test_part_and_pictures_without_boxes(tmp_path):
    folder(tmp_path)
    folder(tmp_path, part="val")
    made = coco(
        tmp_path, test_annotations="annotations/val.json", test_pictures="val", unlabelled_pictures="val"
    )
    raw = made.load()
    check(raw, made.describe())
    assert len(raw.part("test")[0]) == len(raw.part("unlabelled")[0]) == 3
    assert raw.part("unlabelled")[1] is None
    assert raw.names["train"] == ["train/wide.png", "train/high.png", "train/empty.png"]
    assert raw.names["test"][:2] == ["val/wide.png", "val/high.png"]
    other = changed("categories", 0, "name", value="cat")
    folder(tmp_path, other, part="val")
    with pytest.raises(UserError, match="other categories: bicycle, dog; and bicycle, cat"):
        made.describe()


def test_pictures_of_one_name_in_two_folders_are_told_apart(tmp_path):
    folder(folder(tmp_path), part="val")
    (tmp_path / "val" / "high.png").write_bytes(b"no picture")
    (tmp_path / "train" / "high.png").unlink()
    keys = dict(test_annotations="annotations/val.json", test_pictures="val", on_error="skip")
    raw = coco(tmp_path, **keys).load()
    assert raw.names["test"] == ["val/wide.png", "val/empty.png"]
    assert raw.skipped.keys() == {"train/high.png", "val/high.png"}


@pytest.mark.parametrize(
    "box, kept, said",
    [
        ([30, 5, 20, 10], [24, 12, 32, 20], "reach out of their pictures"),
        ([10, 5, 30.4, 10], [8, 12, 32, 20], None),  # less than a pixel
        ([50, 5, 20, 10], None, "lies outside of the 40x20 pixels"),
        ([10, 5, 0, 10], None, "is no \\[left, top, width, height\\]"),
        ([float("nan"), 5, 20, 10], None, "is no \\[left, top, width, height\\]"),
        ([10, 5, 20], None, "is no \\[left, top, width, height\\]"),
        ([10, 5, "a", 10], None, "is no \\[left, top, width, height\\]"),
        (None, None, "is no \\[left, top, width, height\\]"),
    ],
)
def test_boxes_outside_of_the_picture(box, kept, said, tmp_path):
    document = changed("annotations", 0, "bbox", value=box)
    made = coco(folder(tmp_path, document))
    if said:
        with pytest.raises(UserError, match=said) as error:
            made.load()
        assert "dataset.on_error=skip" in str(error.value)
    raw = coco(tmp_path, on_error="skip").load()
    truth, counts = raw.part("train")[1], raw.about()["boxes"]
    if kept:
        assert np.allclose(truth["boxes"][0, 0], kept)
        assert counts["clipped"] == int(said is not None) and counts["lost"] == 0
    else:
        assert truth["classes"][0].tolist() == [0] and counts["lost"] == 1
        assert any("1 box left out" in text for text, level in raw.notes if level == "warning")


@pytest.mark.parametrize(
    "document, said",
    [
        ([], "is no object"),
        ({"images": []}, "has no list `categories`"),
        (changed("annotations", 0, "image_id", value=1), "annotations\\[0\\].image_id is 1, and no entry"),
        (changed("annotations", 1, "category_id", value=5), "annotations\\[1\\].category_id is 5"),
        (changed("images", 1, "id", value=7), "two images of the id 7"),
        (changed("images", 1, "width", value="x"), "images\\[1\\].width must be a whole number"),
        (changed("images", 1, "file_name", value=""), "images\\[1\\].file_name must be a text"),
        (changed("categories", 1, "id", value=18), "an id and a name of its own"),
        (changed("categories", value=[]), "an id and a name of its own"),
    ],
)
def test_annotations_that_are_not_in_the_form_of_coco(document, said, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=said) as error:
        read_coco(path, skip=True)
    assert "\n" not in str(error.value)
    path.write_text("{")
    with pytest.raises(UserError, match="it is no JSON"):
        read_coco(path, skip=True)


def test_pictures_that_are_missing_or_another_size(tmp_path):
    folder(tmp_path)
    (tmp_path / "train/high.png").unlink()
    with pytest.raises(UserError, match="which the annotations name, is not there"):
        coco(tmp_path).describe()
    raw = coco(tmp_path, on_error="skip").load()
    assert raw.skipped == {"high.png": "there is no such file"} and len(raw.part("train")[0]) == 2
    folder(tmp_path)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "train/high.png")
    with pytest.raises(UserError, match="has 9x9 pixels, and its annotations say 16x32"):
        coco(tmp_path).describe()
    turned = Image.fromarray(np.zeros((32, 16, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "train/high.png", exif=exif)
    with pytest.raises(UserError, match="turned by its EXIF"):
        coco(tmp_path).describe()
    with pytest.raises(UserError, match="dataset.unlabelled_pictures=NAME"):
        coco(tmp_path, unlabelled_pictures="none").fetch()
    with pytest.raises(UserError, match="a file of annotations"):
        coco(tmp_path, annotations="x.json").fetch()


@pytest.mark.parametrize(
    "keys, said",
    [
        (dict(test_pictures="val"), "go together"),
        (dict(fit="crop"), "dataset.fit"),
        (dict(on_error="x"), "on_error"),
    ],
)
def test_keys_that_are_refused(keys, said, tmp_path):
    with pytest.raises(UserError, match=said):
        coco(tmp_path, **keys)


@pytest.mark.slow
def test_a_run_on_a_folder(tmp_path, monkeypatch, capsys):
    document = {"categories": DOCUMENT["categories"], "images": [], "annotations": []}
    for number in range(24):
        document["images"].append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 32})
        box = [number % 20, 4, 16, 12]
        document["annotations"].append(
            {"image_id": number, "category_id": 2 if number % 2 else 18, "bbox": box}
        )
    folder(tmp_path / "data", document)
    monkeypatch.chdir(tmp_path)
    words = [f"dataset.root={tmp_path}/data", "dataset.annotations=annotations/train.json", "dataset.test=6"]
    words += ["dataset.pictures=train", "dataset.test_annotations=null", "dataset.test_pictures=null"]
    words += [
        "dataset.labelled=8",
        "dataset.unlabelled=null",
        "dataset.validation=4",
        "dataset.image_size=32",
    ]
    words += ["dataset.levels=2", "teacher=fcos_tiny", "student=retina_tiny", "teacher_pretrain.steps=2"]
    run, _ = run_of(tmp_path / "run", "dataset=coco", *words, "student_train.steps=2")
    assert run["results"]["metric"]["name"] == "map"


def test_pictures_are_laid_down_in_pieces(tmp_path, monkeypatch):
    """Of many pictures no more than a block is held, whoever takes them."""
    monkeypatch.setattr("kdx.data.pictures.decode.BLOCK_BYTES", 25 * 3 * 16 * 16)
    document = {"categories": DOCUMENT["categories"], "images": [], "annotations": []}
    sizes = [(20, 12), (12, 20), (16, 16)]
    for number in range(60):
        wide, high = sizes[number % 3]
        document["images"].append(
            {"id": 10 * number, "file_name": f"{number}.png", "width": wide, "height": high}
        )
        if number % 4:
            box = {"image_id": 10 * number, "category_id": 2, "bbox": [1, 1, 8, 8], "iscrowd": 0}
            document["annotations"].append(box)
    taken: list[int] = []

    class Counting(InMemory):
        def append(self, rows: np.ndarray) -> None:
            taken.append(len(rows))
            super().append(rows)

    raw = coco(folder(tmp_path, document), image_size=16).load(write=Counting)
    images, truth = raw.part("train")
    assert sum(taken) == len(images) == 60 and max(taken) == 25
    assert (truth["classes"] >= 0).sum() == 45 and truth["boxes"].shape == (60, 1, 4)
    assert np.allclose(
        truth["boxes"][1, 0], [3 + 10 / 12, 0.8, 10.5, 7.2]
    )  # 12x20: 10x16, 3 pixels further right
