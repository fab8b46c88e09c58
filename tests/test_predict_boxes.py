"""Boxes of new pictures: where they lie in the files, in columns and in COCO's form of results."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_coco import folder
from test_detection import perfect, task, truth_of
from test_peers import run_of

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.core.task import AnswerColumns
from kdx.data.new_rows.opening import open_new_rows
from kdx.data.writing import whole_file
from kdx.tasks.detection import Detection

for _package in ("torchmetrics", "pycocotools"):
    pytest.importorskip(_package)

KIND = {
    "reads": "pictures with boxes",
    "example": {"": ((3, 32, 32), "uint8")},
    "adapter": None,
    "task": None,
}


def picture(place: Path, wide: int, high: int, turned: int | None = None) -> None:
    made = Image.fromarray(np.full((high, wide, 3), 90, np.uint8))
    exif = made.getexif()
    if turned:
        exif[0x0112] = turned
    made.save(place, exif=exif)


@pytest.mark.parametrize(
    "fit, right",
    [
        ("pad", [[20, 0, 40, 20], [0, 32, 16, 48], [0, 0, 32, 32]]),
        ("squeeze", [[20, 10, 40, 20], [8, 32, 16, 64], [16, 16, 32, 32]]),
    ],
)
def test_boxes_lie_in_the_pixels_of_the_file(fit, right, tmp_path):
    """A box over the right lower quarter of the square, of pictures of 40x20, 16x64 and 32x32."""
    picture(tmp_path / "a.png", 40, 20)
    picture(tmp_path / "b.png", 16, 64)
    picture(tmp_path / "c.png", 32, 32)
    (tmp_path / "d.png").write_text("no picture")
    rows = open_new_rows(KIND, {"fit": fit, "background": 0}, tmp_path, 0, None)
    (block,) = rows.blocks(8)
    assert block.known_by == {"file": ["a.png", "b.png", "c.png"]} and rows.unread[0][0] == "d.png"
    own = task(size=32, stride=4, levels=2)
    if fit == "squeeze":
        boxes = truth_of(*[[([16, 16, 32, 32], 0)]] * 3, most=1)
    else:  # of the padded pictures 16 and 8 pixels high or wide, in the middle
        boxes = truth_of([([16, 8, 32, 24], 0)], [([12, 16, 20, 24], 0)], [([0, 0, 32, 32], 0)], most=1)
    assert np.allclose(own.move(boxes, block.warp)["boxes"][:, 0], right, atol=1e-4)
    assert not rows.notes()


def test_a_turned_picture_is_measured_as_it_is_shown(tmp_path):
    picture(tmp_path / "a.jpg", 40, 20, turned=6)
    (block,) = open_new_rows(KIND, {}, tmp_path / "a.jpg", 0, None).blocks(1)
    assert block.warp.size.tolist() == [[20, 40]]


def test_results_are_in_the_form_of_coco(tmp_path):
    how = dict(names=("cat", "dog"), height=32, width=32, stride=4, levels=2, sure=0.3)
    own = Detection(**how, ids=[17, 90])
    said = perfect(own, truth_of([([2, 2, 14, 16], 1)], []))
    names = ["val/000000000042.jpg", "b.png"]
    with whole_file("to", tmp_path / "a.json", listing=True) as writer:
        writer.write({"file": names, "entries": own.listed(said)})
        writer.write({"file": names, "entries": own.listed(said)})
    found = json.loads((tmp_path / "a.json").read_text())
    sure = found[0].pop("score")
    assert found[0] == {"image_id": 42, "category_id": 90, "bbox": [2.0, 2.0, 12.0, 14.0]}
    assert 0.5 < sure <= 1 and len(found) == 2  # a picture without boxes is not in the list
    assert own.columns(own.named(said), AnswerColumns())["label"][1] == "no box"
    assert Detection(**how).ids == (1, 2)
    with whole_file("to", tmp_path / "b.json", listing=True) as writer:
        writer.write({"file": names[1:], "entries": [[]]})
    assert json.loads((tmp_path / "b.json").read_text()) == []
    with pytest.raises(UserError, match="leave them out"):
        own.columns(own.named(said), AnswerColumns(top=2))


@pytest.mark.slow
def test_a_run_answers_a_folder_and_so_does_its_export(tmp_path, monkeypatch, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    document = {
        "categories": [{"id": 3, "name": "a"}, {"id": 90, "name": "b"}],
        "images": [],
        "annotations": [],
    }
    for number in range(24):
        name = f"{number:012d}.png"
        document["images"].append({"id": number, "file_name": name, "width": 40 + number, "height": 32})
        one = {"id": number + 1, "image_id": number, "category_id": (3, 90)[number % 2], "iscrowd": 0}
        document["annotations"].append({**one, "bbox": [number % 20, 4, 16, 12], "area": 192})
    folder(tmp_path / "data", document)
    folder(tmp_path / "data", document, part="val")
    monkeypatch.chdir(tmp_path)
    words = [f"dataset.root={tmp_path}/data", "dataset.annotations=annotations/train.json"]
    words += ["dataset.pictures=train", "dataset.test_annotations=annotations/val.json"]
    words += ["dataset.test_pictures=val", "dataset.labelled=8", "dataset.validation=4"]
    words += ["dataset.image_size=32", "dataset.levels=2", "teacher=fcos_tiny", "student=fcos_tiny"]
    words += ["teacher_pretrain.steps=2", "student_train.steps=12", "student_train.batch_size=8"]
    run, _ = run_of(tmp_path / "run", "dataset=coco", *words)
    files = {"run": "run", "onnx": "run/export/student/student.onnx"}
    if not main(["export", "run", "format=onnx"]) == 0:
        files.pop("onnx")
    results = {}
    for name, place in files.items():
        assert main(["predict", place, "data=data/val", f"to={name}.json"]) == 0
        results[name] = json.loads((tmp_path / f"{name}.json").read_text())
    if "onnx" in results:
        assert len(results["onnx"]) == len(results["run"])
    assert main(["predict", "run", "data=data/val", "to=a.csv"]) == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 25
    with contextlib.redirect_stdout(io.StringIO()):
        right = COCO(str(tmp_path / "data/annotations/val.json"))
        meter = COCOeval(right, right.loadRes(str(tmp_path / "run.json")), "bbox")
        meter.evaluate()
        meter.accumulate()
        meter.summarize()
    assert run["results"]["student"]["last"]["test"]["map"] == pytest.approx(meter.stats[0], abs=2e-3)
