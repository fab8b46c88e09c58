"""Detectors: networks of kdx, made-up pictures of shapes, and whole runs of dataset=shapes_detect."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from test_peers import run_of
from torchvision.models import detection, list_models
from torchvision.models.detection.image_list import ImageList

from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import UserError
from kdx.data.contract import check
from kdx.data.datasets.shapes_detect import SHAPES, ShapesDetect
from kdx.data.views import augment, flip, shift
from kdx.data.views.chain import Step, changes
from kdx.models.detector import PRIOR, by_place, detector
from kdx.models.torchvision_detector import torchvision_detector
from kdx.report.run.gallery import TRUTH_COLOUR, outlined
from kdx.tasks.boxes import grid_places
from kdx.tasks.detection import Detection

for _package in ("torchmetrics", "pycocotools"):
    pytest.importorskip(_package)


KEYS = dict(image_size=32, train_rows=12, test_rows=4, most=3, noise=0.05, data_seed=0)
KEYS |= dict(stride=4, levels=2, sure=0.3)


def net(kind: str = "fcos", shape=(3, 32, 32), stride: int = 4, levels: int = 2, **keys) -> torch.nn.Module:
    torch.manual_seed(0)
    how = dict(widths=[8, 8, 16], pyramid=8, convolutions=1, dropout=0.0, stochastic_depth=0.0) | keys
    return detector(shape=shape, outputs={"classes": 3, "stride": stride, "levels": levels}, kind=kind, **how)


@pytest.mark.parametrize("kind", ["fcos", "retina", "retina9"])
@pytest.mark.parametrize(
    "size, stride, levels", [((32, 32), 4, 2), ((36, 44), 8, 3), ((17, 23), 2, 3), ((64, 40), 8, 5)]
)
def test_a_detector_answers_at_the_places_of_the_task(kind, size, stride, levels):
    task = Detection(names=SHAPES, height=size[0], width=size[1], stride=stride, levels=levels, sure=0.3)
    said = net(kind, (3, *size), stride, levels)(torch.rand(2, 3, *size))
    wanted = task.made_up(2)
    if kind != "fcos":
        del wanted["centre"]
    if kind == "retina9":
        wanted = {name: leaf.repeat_interleave(9, 1) for name, leaf in wanted.items()}
    assert {name: leaf.shape for name, leaf in said.items()} == {k: v.shape for k, v in wanted.items()}
    if kind == "fcos":
        assert (said["boxes"] > 0).all()
    assert said["scores"].sigmoid().mean().item() == pytest.approx(PRIOR, abs=0.01)
    task.loss(said, task.made_up_truth(2)).sum().backward()


def test_answers_lie_in_the_order_of_places():
    y, x = torch.meshgrid(torch.arange(2) * 8 + 4, torch.arange(3) * 8 + 4, indexing="ij")
    assert torch.equal(by_place(torch.stack([x, y])[None])[0], grid_places((16, 24), 8, 1).centre)


@pytest.mark.parametrize(
    "keys, said",
    [
        (dict(kind="mask_rcnn"), "kind"),
        (dict(stride=6), "dataset.stride"),
        (dict(shape=(3, 7, 7)), "two places a side"),
        (dict(widths=[]), "widths"),
        (dict(pyramid=0), "pyramid"),
    ],
)
def test_detectors_that_cannot_be(keys, said):
    with pytest.raises(UserError, match=said):
        net(**keys)


def stock(name="fcos_resnet50_fpn", stride=8, levels=5, **rates):
    outputs = {"classes": 3, "stride": stride, "levels": levels}
    how = {"dropout": 0.0, "stochastic_depth": 0.0} | rates
    return torchvision_detector(shape=(3, 128, 128), outputs=outputs, name=name, **how)


@pytest.mark.parametrize(
    "keys, said",
    [
        (dict(name="fasterrcnn_resnet50_fpn"), "two-stage detector"),
        (dict(name="maskrcnn_resnet50_fpn_v2"), "two-stage detector"),
        (dict(name="ssd300_vgg16"), "a softmax with the background among them"),
        (dict(name="ssdlite320_mobilenet_v3_large"), "a softmax with the background among them"),
        (dict(name="fcos_resnet50"), "no detector 'fcos_resnet50'"),
        (dict(levels=3), "set dataset.stride=8 dataset.levels=5"),
        (dict(dropout=0.1), "set dropout=0"),
    ],
)
def test_detectors_of_torchvision_that_are_refused(keys, said):
    with pytest.raises(UserError, match=said):
        stock(**keys)


DENSE = ("fcos_resnet50_fpn", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2")


def test_every_other_detector_of_torchvision_is_refused_with_its_reason():
    for name in set(list_models(module=detection)) - set(DENSE):
        with pytest.raises(UserError, match="choose name=fcos_resnet50_fpn or retinanet_resnet50_fpn"):
            stock(name=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSE)
def test_boxes_of_torchvisions_detectors_are_their_own(name):
    """Of a size that all strides divide; of others torchvision has places elsewhere on the last levels."""
    made = stock(name)
    whole = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=3)
    whole.backbone, whole.head = made.net.backbone, made.net.head
    whole.eval()
    pictures = torch.rand(1, 3, 128, 128)
    maps = list(whole.backbone(pictures).values())
    said = whole.head(maps)
    (anchors,) = whole.anchor_generator(ImageList(pictures, [(128, 128)]), maps)
    if name == "fcos_resnet50_fpn":
        right = whole.box_coder.decode(said["bbox_regression"], anchors[None])
    else:
        right = whole.box_coder.decode_single(said["bbox_regression"][0], anchors)[None]
    task = Detection(names=SHAPES, height=128, width=128, stride=8, levels=5, sure=0.3)
    assert torch.allclose(task.grid.decoded(made.net.eval()(pictures)), right, atol=1e-3)
    task.loss(made.net(pictures), task.made_up_truth(1)).sum().backward()


def test_shapes_are_those_of_their_seed_and_lie_in_their_boxes():
    made, again = (ShapesDetect(**KEYS).load() for _ in range(2))
    check(made, ShapesDetect(**KEYS).describe())
    images, truth = made.part("train")
    assert np.array_equal(images, again.part("train")[0])
    assert not np.array_equal(images, ShapesDetect(**KEYS | dict(data_seed=1)).load().part("train")[0])
    assert not np.array_equal(images[:4], made.part("test")[0])
    there = truth["classes"] >= 0
    assert 0 < there.sum() < there.size and set(truth["classes"][there]) <= {0, 1, 2}
    boxes = truth["boxes"][there]
    assert (boxes >= 0).all() and (boxes <= 32).all() and (boxes[:, 2:] - boxes[:, :2] >= 5).all()


def test_a_box_ends_with_the_pixels_of_its_shape():
    keys = KEYS | dict(noise=0.0, train_rows=40, most=1)
    images, truth = ShapesDetect(**keys).load().part("train")
    seen = 0
    for image, box, kind in zip(images.astype(int), truth["boxes"], truth["classes"], strict=True):
        if kind[0] < 0:
            continue
        left, top, right, bottom = box[0].astype(int)
        coloured = (image.max(0) - image.min(0)) > 12  # the ground is grey
        if coloured.sum() < 10:
            continue  # a grey shape
        rows, columns = np.nonzero(coloured)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.array(found) - (left, top, right, bottom)).max() <= 1
        seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    "key, value", [("image_size", 16), ("most", 0), ("noise", 2), ("train_rows", 1), ("data_seed", -1)]
)
def test_keys_of_shapes_that_are_refused(key, value):
    with pytest.raises(UserError, match=f"dataset.{key}"):
        ShapesDetect(**KEYS | {key: value})


def test_steps_that_move_nothing_are_those_that_say_so():
    steps = {
        step.__name__: step
        for room in (augment, flip, shift)
        for step in vars(room).values()
        if isinstance(step, type) and issubclass(step, Step) and step.__module__ == room.__name__
    }
    moving = {name for name, step in steps.items() if not step.in_place}
    tell = {"Flip", "FlipCrop", "RandomResizedCrop"}
    assert moving == {"Affine", "Rotate", "Rotation", *tell}
    assert {name for name, step in steps.items() if step.tells_warp} == tell
    assert not changes(steps["Rotate"](degrees=5), "pictures with boxes")
    assert changes(steps["Cutout"](size=0.2, fill=0.0), "pictures with boxes")
    assert changes(steps["Flip"](flip=0.5), "pictures with boxes")


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ["student=cnn_tiny"],
            "student=cnn_tiny reads pictures, and this data set holds pictures with boxes",
        ),
        (["student=mlp"], "choose one that reads pictures with boxes, such as student="),
        (["loss=slam"], "an answer here is boxes with a class each: choose another loss, such as kd"),
        (["select=threshold"], "boxes with a class each: leave it out"),
        (["student_train.augment=[rotate]"], "choose one that moves nothing, such as colour_jitter"),
        (
            ["select=k_center", "budget=30"],
            "as detectors have none: choose another rule, such as select=uniform",
        ),
        (
            ["loss.features=rkd"],
            "detectors have none: choose one that ends in such a layer, or terms that read",
        ),
        (["shift=[rotation]"], "shift.rotation changes pictures"),
        (["dataset.stride=6"], "dataset.stride must be one of 2, 4, 8, 16"),
        (["dataset.sure=2"], "dataset.sure"),
        (["loss=pseudo_boxes", "loss.score=2"], "loss.score"),
        (
            ["student=retina_tiny", "student.kind=retina9"],
            "the teacher answers at 189 places and the student at",
        ),
        (["loss=divergence"], "an answer here is boxes with a class each"),
        (
            ["pseudo_label.view=clean", "augment=[flip_crop]"],
            "flip_crop moves these to where it has not answered, place by place: set pseudo_label.view=same",
        ),
    ],
)
def test_what_does_not_go_together_is_said_before_work(words, said):
    order, errors = examine_config(check_words(["device=cpu", "dataset=shapes_detect", *words]))
    wrong = errors or inspect(order)
    assert len(wrong) == 1 and said in wrong[0], wrong


def test_losses_of_boxes_are_refused_elsewhere():
    order, errors = examine_config(check_words(["device=cpu", "loss=pseudo_boxes"]))
    (only,) = errors or inspect(order)
    assert (
        "loss=pseudo_boxes reads boxes with a class each, and an answer here is one class of several" in only
    )


def test_boxes_are_drawn_into_a_picture():
    from kdx.core.roles import ROLES

    drawn = {"truth": [[{"box": [0, 0, 16, 16], "words": "cat"}]], "student": [[]]}
    shown = np.asarray(outlined(np.zeros((3, 32, 32), np.uint8), 0, drawn, ROLES))
    colour = tuple(int(TRUTH_COLOUR[i : i + 2], 16) for i in (1, 3, 5))
    rows, columns = np.nonzero((shown == colour).all(2))
    assert rows.min() == columns.min() == 0 and rows.max() == columns.max() == 89  # 16 of 32 pixels, of 180


SMALL = ["dataset=shapes_detect", "dataset.image_size=32", "dataset.train_rows=40", "dataset.test_rows=8"]
SMALL += ["dataset.labelled=16", "dataset.validation=8", "dataset.test=null", "dataset.unlabelled=16"]
SMALL += ["dataset.levels=2", "teacher=fcos_tiny", "student=fcos_tiny", "teacher_pretrain.steps=3"]
SMALL += ["student_train.steps=3", "teacher_pretrain.batch_size=8", "student_train.batch_size=8"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["loss=kd"],
        ["loss=pseudo_boxes", "loss.score=0.05", "rounds=2", "augment=[colour_jitter,cutout]"],
        [
            "loss=kd",
            "teacher=retina_tiny",
            "student=retina_tiny",
            "student.kind=retina9",
            "teacher.kind=retina9",
        ],
        ["loss=kd", "student=retina_tiny", "loss.features=[fitnet]", "shift=[blur]"],
        ["loss=supervised", "recipe=supervised"],
    ],
)
def test_a_run_shows_average_precision_and_boxes(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run, _ = run_of(tmp_path / "run", *SMALL, *words)
    results = run["results"]
    assert results["metric"]["name"] == "map" and "test mAP %" in capsys.readouterr().out
    assert 0 <= results["student"]["last"]["test"]["map"] <= 1
    assert (tmp_path / "run/figures/predictions.png").is_file()
    (examples,) = (tmp_path / "outputs/store/evaluate").glob("*/examples.json")
    drawn = json.loads(examples.read_text())["outlines"]
    assert {"truth", "student"} <= set(drawn) and any(drawn["truth"])
