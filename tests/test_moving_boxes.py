"""Augmentations that move boxes: the truth and a teacher's answers go where what a picture shows has gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_detection import perfect, task, truth_of
from test_peers import run_of

from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.anchors import NINE
from kdx.core.errors import UserError
from kdx.core.types import Batch, Frozen, Split
from kdx.core.warp import Warp, of_mirrors
from kdx.data.datasets.shapes_detect import ShapesDetect
from kdx.data.streams import Makers, Stream, as_trained, sequential
from kdx.data.views.augment import FlipCrop, Noise, RandomResizedCrop
from kdx.data.views.chain import Chain, Views
from kdx.data.views.flip import Flip
from kdx.methods.teachers import Live, Stored

for _package in ("torchmetrics", "pycocotools"):
    pytest.importorskip(_package)

FLIP = ("flip", Flip(flip=0.5))
CROP = ("flip_crop", FlipCrop(pad=6, mode="zero", flip=0.5))
PART = ("random_resized_crop", RandomResizedCrop(scale=[0.3, 1.0], ratio=[0.75, 1.33], flip=0.5))
KEYS = dict(image_size=48, train_rows=120, test_rows=0, most=1, noise=0.0, data_seed=0)
KEYS |= dict(stride=4, levels=2, sure=0.3)
TASK = task(size=48, stride=4, levels=2, names=("circle", "square", "triangle"))


def shapes() -> Split:
    images, truth = ShapesDetect(**KEYS).load().part("train")
    return Split("labelled", torch.from_numpy(images), {n: torch.from_numpy(v) for n, v in truth.items()})


@pytest.mark.parametrize(
    "steps, off", [([FLIP], 0), ([CROP], 0), ([FLIP, CROP, ("noise", Noise(std=0.0))], 0), ([PART, FLIP], 4)]
)
def test_a_box_is_where_its_object_has_moved_to(steps, off):
    """off: pixels by which a part that was made larger may be blurred."""
    split = shapes()
    (batch,) = sequential(split, batch=120, views=Views(Chain(steps), 0), view=1, task=TASK)
    boxes, kinds = batch.y["boxes"], batch.y["classes"]
    seen = 0
    for picture, box, kind, before in zip(
        batch.views["main"], boxes, kinds, split.truth["classes"], strict=True
    ):
        coloured = (picture.amax(0) - picture.amin(0)) > 0.12  # the ground is grey
        if kind[0] < 0:
            continue
        assert kind[0] == before[0] and (box[0] >= 0).all() and (box[0] <= 48).all()
        assert (box[0, 2:] > box[0, :2]).all()
        if coloured.sum() >= 20:
            rows, columns = np.nonzero(coloured.numpy())
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.array(found) - box[0].numpy()).max() <= off
            seen += 1
    assert seen > 30 and batch.warp.mirrored.any() and not batch.warp.mirrored.all()


def test_twice_mirrored_is_the_same():
    truth = truth_of([([2, 3, 14, 15], 0), ([16, 14, 30, 28], 1)], [], [([4, 8, 20, 24], 1)])
    own = task(size=32, stride=4, levels=3)
    warp = of_mirrors(torch.tensor([True, True, False]), (32, 32))
    once = own.move(truth, warp)
    assert once["boxes"][0, :2].tolist() == [[18, 3, 30, 15], [2, 14, 16, 28]]
    assert torch.equal(
        own.move(once, warp)["boxes"][truth["classes"] >= 0], truth["boxes"][truth["classes"] >= 0]
    )
    both = warp.then(warp)
    assert (both.scale == 1).all() and (both.shift == 0).all()
    for answers in (own.made_up(3), nine(own, 3)):
        again = own.move(own.move(answers, warp), warp)
        assert all(torch.equal(again[name], leaf) for name, leaf in answers.items())


def nine(own, rows: int) -> dict[str, torch.Tensor]:
    count = len(NINE) * len(own.grid.places.stride)
    return {"scores": torch.randn(rows, count, 2), "boxes": torch.rand(rows, count, 4) + 0.1}


def test_answers_of_who_knows_the_truth_move_as_the_truth_does():
    own = task(size=32, stride=4, levels=2)
    truth = truth_of([([2, 3, 14, 15], 0), ([16, 14, 30, 28], 1)], [], [([4, 8, 20, 24], 1)])
    warp = of_mirrors(torch.tensor([True, True, False]), (32, 32))
    moved = own.move(truth, warp)
    assert own.metrics(own.condense(own.move(perfect(own, truth), warp), moved), moved)["map"] == 1.0
    assert own.metrics(own.condense(perfect(own, truth), moved), moved)["map"] < 0.7
    several = nine(own, 1)
    mirrored = own.move(several, of_mirrors(torch.tensor([True]), (32, 32)))
    there = own.grid.decoded(several)
    across = own.grid.decoded(mirrored)
    left = torch.stack([32 - there[..., 2], there[..., 1], 32 - there[..., 0], there[..., 3]], 2)
    assert torch.allclose(across.sort(1).values, left.sort(1).values, atol=1e-4)


def test_a_box_whose_middle_is_gone_is_lost_and_others_are_cut_off():
    truth = truth_of([([0, 0, 10, 10], 0), ([4, 0, 14, 10], 1)])
    warp = Warp(torch.ones(1, 2), torch.tensor([[-6.0, 0.0]]), torch.full((1, 2), 32.0), False)
    moved = task(size=32).move(truth, warp)
    assert moved["classes"].tolist() == [[-1, 1, -1]] and moved["boxes"][0, 1].tolist() == [0, 0, 8, 10]
    unknown = task(size=32).move({name: leaf * torch.nan for name, leaf in truth.items()}, warp)
    assert unknown["boxes"].isnan().all()  # what nobody knows stays unknown


def test_dense_answers_that_cannot_move_place_by_place_become_the_boxes_they_name():
    own = task(size=32, stride=4, levels=2)
    truth = truth_of([([10, 10, 22, 22], 0)])
    warp = Warp(torch.ones(1, 2), torch.tensor([[3.0, 0.0]]), torch.full((1, 2), 32.0), False)
    taught = own.as_truth(own.move(perfect(own, truth), warp), 0.3)
    assert torch.allclose(taught["boxes"][0, 0], torch.tensor([13.0, 10, 25, 22]), atol=1e-3)
    odd = task(size=18, stride=4, levels=2)
    assert not odd.grid.symmetric and "classes" in odd.move(
        odd.made_up(1), of_mirrors(torch.tensor([True]), (18, 18))
    )
    with pytest.raises(UserError, match="at every place"):
        own.match(own.made_up(1), own.move(perfect(own, truth), warp), 1.0)


class Knows(torch.nn.Module):
    """Answers at each place with the mean level of its square: what lies elsewhere is answered elsewhere."""

    def forward(self, x):
        seen = torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), 4)
        wide = torch.nn.functional.avg_pool2d(seen, 2)
        scores = torch.cat([seen.flatten(2), wide.flatten(2)], 2).transpose(1, 2)
        return {"scores": scores.expand(-1, -1, 3), "boxes": torch.ones(*scores.shape[:2], 4)}


def test_a_teacher_of_clean_pictures_answers_as_one_that_sees_the_mirror_image():
    """Stored and live: the answers to the clean picture, moved, are those to the moved picture."""
    split, net = shapes(), Frozen(Knows())
    stream = Stream(
        split, Makers(Views(Chain([FLIP]), 0), clean=True), batch=16, seed=0, cycle=None, task=TASK
    )
    batch = stream.batch(0)
    assert batch.warp is not None
    same, clean = Live(net, "main", TASK)(batch), Live(net, "clean", TASK)(batch)
    answers = net(torch.from_numpy(split.inputs.numpy()).float() / 255)
    packed = {name: leaf[:, None] for name, leaf in answers.items()}
    stored = Stored({"labelled": packed}, {"labelled": 0}, True, "cpu", TASK)(batch)
    for moved in (clean, stored):
        assert torch.allclose(moved["scores"], same["scores"], atol=1e-5)
    assert not torch.allclose(net(batch.views["clean"])["scores"], same["scores"], atol=1e-3)
    # answers to the views themselves lie where they should, and are not moved again
    (shown,) = sequential(split, batch=120, views=Views(Chain([FLIP]), 0), view=1, task=TASK)
    packed = {name: leaf[:, None] for name, leaf in net(shown.views["main"]).items()}
    stored = Stored({"labelled": packed}, {"labelled": 1}, False, "cpu", TASK)(batch)
    assert torch.allclose(stored["scores"], same["scores"], atol=1e-5)


def test_a_clean_row_has_moved_nowhere():
    split, views = shapes(), Views(Chain([FLIP]), 0)
    (batch,) = sequential(split, batch=120, views=views, view=0, task=TASK)
    assert batch.warp is None and torch.equal(batch.y["boxes"], split.truth["boxes"])
    index = torch.arange(4)
    warp = views.warp(split, index, torch.tensor([0, 1, 0, 2]), torch.device("cpu"))
    assert (warp.scale[::2] == 1).all() and (warp.shift[::2] == 0).all()
    (trained,) = as_trained(split, views, batch=120, task=TASK)
    assert not torch.equal(trained.y["boxes"], split.truth["boxes"])
    plain = Batch("labelled", index, index, {})
    assert plain.warp is None


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "words",
    [
        ["augment=[flip]", "pseudo_label.view=clean"],
        ["augment=[random_resized_crop]", "loss=pseudo_boxes", "pseudo_label.mode=live"],
        ["teacher=retina_tiny", "student=retina_tiny", "teacher.kind=retina9", "student.kind=retina9"],
        pytest.param(["augment=[flip,colour_jitter]"], marks=SLOW),
        pytest.param(["augment=[flip_crop]"], marks=SLOW),
        pytest.param(["augment=[flip_crop,cutout]", "loss=pseudo_boxes"], marks=SLOW),
    ],
)
def test_what_goes_together(words):
    order, errors = examine_config(check_words(["device=cpu", "dataset=shapes_detect", *words]))
    assert not (errors or inspect(order))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stored", "live"])
def test_a_noisy_student_of_mirrored_pictures(mode, tmp_path, monkeypatch):
    from test_detectors import SMALL

    monkeypatch.chdir(tmp_path)
    words = ["loss=pseudo_boxes", "loss.score=0.05", "augment=[flip_crop,colour_jitter]"]
    run, _ = run_of(tmp_path / "run", *SMALL, *words, f"pseudo_label.mode={mode}", "student.dropout=0.2")
    assert 0 <= run["results"]["student"]["last"]["test"]["map"] <= 1
