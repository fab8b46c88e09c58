"""Boxes: places, which place is to find which box, losses, what is named, and how it is measured, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

from kdx.core.anchors import NINE, ONE
from kdx.core.answers import AnswerColumns
from kdx.core.errors import UserError
from kdx.core.math import bernoulli_kl
from kdx.core.trees import leaves
from kdx.models.detector import sides_of_deltas
from kdx.tasks import boxes as geometry
from kdx.tasks.box_scores import average_precision
from kdx.tasks.detection import Detection

for _package in ("torchmetrics", "pycocotools"):
    pytest.importorskip(_package)


def task(
    size: int = 16, stride: int = 8, levels: int = 1, names: tuple[str, ...] = ("cat", "dog")
) -> Detection:
    return Detection(names=names, height=size, width=size, stride=stride, levels=levels, sure=0.3)


def truth_of(*rows: list[tuple[list[float], int]], most: int = 3) -> dict[str, Tensor]:
    boxes, classes = torch.zeros(len(rows), most, 4), torch.full((len(rows), most), -1)
    for row, found in enumerate(rows):
        for place, (box, kind) in enumerate(found):
            boxes[row, place], classes[row, place] = torch.tensor(box), kind
    return {"boxes": boxes, "classes": classes}


def test_places_lie_in_the_middle_of_their_squares():
    places = geometry.grid_places((16, 24), 8, 2)
    assert places.centre.tolist() == [
        *([x, y] for y in (4, 12) for x in (4, 12, 20)),
        *([x, 8] for x in (8, 24)),  # squares of 16, the second of which reaches out
    ]
    assert places.stride.tolist() == [8] * 6 + [16] * 2
    assert places.low.tolist() == [0] * 6 + [64] * 2
    assert places.high.tolist() == [64] * 6 + [float("inf")] * 2
    assert places.anchors[0].tolist() == [-12, -12, 20, 20]  # 4 strides wide, around (4, 4)


def test_points_find_the_smallest_box_that_holds_them_near_its_middle():
    places = geometry.grid_places((32, 32), 8, 1)  # x and y of 4, 12, 20, 28
    truth = truth_of([([0, 0, 32, 32], 0), ([8, 8, 16, 16], 1)], [])
    found = geometry.assigned_to_points(places, truth["boxes"], truth["classes"])
    grid = found[0].view(4, 4).tolist()
    # the large box's middle is (16, 16): those nearer than 12 both ways; (12, 12) lies in the small one too
    assert grid == [[-1, -1, -1, -1], [-1, 1, 0, -1], [-1, 0, 0, -1], [-1, -1, -1, -1]]
    assert (found[1] == -1).all()


def test_a_level_finds_boxes_of_its_size():
    places = geometry.grid_places((256, 256), 8, 2)
    truth = truth_of([([100, 100, 130, 130], 0), ([0, 0, 250, 250], 1)])
    found = geometry.assigned_to_points(places, truth["boxes"], truth["classes"])[0]
    fine = places.stride == 8
    assert set(found[fine].tolist()) == {-1, 0}
    assert set(found[~fine].tolist()) == {-1, 1}


def test_anchors_are_assigned_as_torchvisions_matcher_does():
    places = geometry.grid_places((64, 64), 4, 3)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(3, 4, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 4 + 20 * torch.rand(3, 4, 2, generator=generator)], 2)
    classes = torch.tensor([[0, 1, -1, -1], [1, 1, 1, 0], [-1, -1, -1, -1]])
    found = geometry.assigned_to_anchors(places, boxes, classes)
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    for row in range(2):
        there = boxes[row, classes[row] >= 0]
        assert torch.equal(found[row], matcher(box_iou(there, places.anchors)))
    assert (found[2] == -1).all()


def test_deltas_of_an_anchor_are_torchvisions():
    places = geometry.grid_places((32, 32), 8, 1)
    deltas = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    said = geometry.boxes_of_distances(places, sides_of_deltas(deltas[None], torch.tensor(ONE)))[0]
    assert torch.allclose(
        said, BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(deltas, places.anchors), atol=1e-4
    )


def test_nine_anchors_are_torchvisions():
    """Torchvision rounds their corners, and lays them around those of squares."""
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64))
    right = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 2).cell_anchors
    places = geometry.grid_places((16, 16), 8, 2, NINE)
    assert places.centre[:9].tolist() == [[4, 4]] * 9 and places.stride.tolist() == [8] * 36 + [16] * 9
    for first, corners in zip((0, 36), right, strict=True):
        assert (places.anchors[first : first + 9] - places.centre[first].repeat(2) - corners).abs().max() < 1


def test_centreness_by_hand():
    apart = torch.tensor([[2.0, 3.0, 2.0, 3.0], [1.0, 2.0, 4.0, 2.0]])
    assert geometry.centreness(apart).tolist() == [1.0, 0.5]  # sqrt(1/4 * 2/2)


def test_the_surest_of_overlapping_boxes_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    probs = torch.tensor([[0.9, 0.01], [0.8, 0.7], [0.04, 0.06]])
    found, sure, kinds = geometry.surest_boxes(boxes, probs, 4)
    assert kinds.tolist() == [
        0,
        1,
        1,
        -1,
    ]  # the second box is another class's, the third too unsure of its first
    assert torch.allclose(sure, torch.tensor([0.9, 0.7, 0.06, 0.0]))
    assert found[0].tolist() == [0, 0, 10, 10] and found[3].tolist() == [0, 0, 0, 0]


def test_f1_by_hand():
    right = [(torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([0, 1]))]
    none = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    box = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    said = [(box, torch.tensor([0, 0, 0]))]  # a hit, the same again, and one of another class
    assert geometry.f1_of_boxes(said, right).tolist() == [2 * 1 / (3 + 2)]
    assert geometry.f1_of_boxes([none], [none]).tolist() == [1.0]
    assert geometry.f1_of_boxes([none], right).tolist() == [0.0]
    half = [(torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 4.9]]), torch.tensor([0, 0]))]
    assert geometry.f1_of_boxes(half[:1], right).tolist() == [0.5]  # IoU .5 is one, .49 none


def perfect(own: Detection, truth: dict[str, Tensor], sure: float = 12.0) -> dict[str, Tensor]:
    """Dense answers of who knows the truth."""
    found = geometry.assigned_to_points(own.grid.places, truth["boxes"], truth["classes"])
    there, at = found >= 0, found.clamp_min(0)
    kind = truth["classes"].gather(1, at)
    scores = torch.full((*found.shape, len(own.names)), -sure)
    scores.scatter_(2, kind.clamp_min(0)[..., None], torch.where(there, sure, -sure)[..., None])
    box = truth["boxes"].gather(1, at[..., None].expand(-1, -1, 4))
    point, stride = own.grid.places.centre, own.grid.places.stride[:, None]
    apart = torch.cat([point - box[..., :2], box[..., 2:] - point], 2) / stride
    apart = torch.where(there[..., None], apart, torch.ones_like(apart))
    middle = torch.where(there, geometry.centreness(apart).nan_to_num(0.5), 0.5)
    return {"scores": scores, "boxes": apart, "centre": middle.clamp(1e-6, 1 - 1e-6).logit()}


def test_who_knows_the_truth_has_no_loss_but_that_of_the_middle_and_map_1():
    own = task(size=32, stride=4, levels=2)
    truth = truth_of([([2, 2, 14, 14], 0), ([16, 14, 30, 28], 1)], [], [([4, 8, 20, 24], 1)])
    said = perfect(own, truth)
    middle = said["centre"].sigmoid()
    there = geometry.assigned_to_points(own.grid.places, truth["boxes"], truth["classes"]) >= 0
    entropy = -(middle * middle.log() + (1 - middle) * (1 - middle).log())
    least = torch.stack(
        [e[t].mean() if t.any() else torch.tensor(0.0) for e, t in zip(entropy, there, strict=True)]
    )
    assert torch.allclose(own.loss(said, truth), least, atol=1e-4)
    kept = own.condense(said, truth)
    found = own.metrics(kept, truth)
    assert found["map"] == pytest.approx(1.0) and found["f1"] == 1.0
    assert own.quick(kept, truth) == pytest.approx({"map": 1.0, "loss": least.mean().item()}, abs=1e-4)
    assert own.displayed(kept) == own.displayed(truth) == ["cat, dog", "no box", "dog"]
    assert own.knowing_nothing(truth).by_row.tolist() == [0, 1, 0]


def test_the_loss_of_fcos_by_hand():
    """One place, one class, a box of 8 by 8 around it: distances of half a stride, to the left a quarter."""
    own = task(size=8, names=("cat",))
    said = {"scores": torch.zeros(1, 1, 1), "boxes": torch.tensor([[[0.25, 0.5, 0.5, 0.5]]])}
    said["centre"] = torch.zeros(1, 1)
    truth = truth_of([([0, 0, 8, 8], 0)])
    log2 = float(np.log(2))
    focal = 0.25 * 0.5**2 * log2
    giou = 1 - 6 / 8  # the box said lies inside: GIoU is IoU, 6 * 8 / (8 * 8)
    assert own.loss(said, truth).item() == pytest.approx(focal + giou + log2, abs=1e-5)
    nothing = 0.75 * 0.5**2 * log2
    assert own.loss(said, truth_of([])).item() == pytest.approx(nothing, abs=1e-6)


def test_the_loss_of_retina_by_hand():
    """An anchor of 32 by 32 around (4, 4); the box is the anchor, said: a quarter of it is missing."""
    own = task(size=8, names=("cat",))
    said = {"scores": torch.zeros(1, 1, 1), "boxes": torch.tensor([[[1.0, 2.0, 2.0, 2.0]]])}
    truth = truth_of([([-12, -12, 20, 20], 0)])
    focal = 0.25 * 0.5**2 * float(np.log(2))
    assert own.loss(said, truth).item() == pytest.approx(focal + 0.25, abs=1e-5)
    between = truth_of([([-12, -12, 20, 2.4], 0), ([-12, -12, 20, 20], 0)])  # IoU .45, and one that is better
    assert own.loss(said, between).item() == pytest.approx(focal + 0.25, abs=1e-5)


@pytest.mark.parametrize("middle", [True, False])
def test_losses_have_the_gradient_of_their_numbers(middle):
    own, generator = task(), torch.Generator().manual_seed(0)
    truth = truth_of([([1, 2, 13, 14], 1)])
    names = ("scores", "boxes", "centre") if middle else ("scores", "boxes")
    made, other = (
        {name: leaf.double() for name, leaf in own.made_up(1, generator).items()} for _ in range(2)
    )
    given = [made[name].requires_grad_() for name in names]

    def loss(*parts: Tensor) -> Tensor:
        return own.loss(dict(zip(names, parts, strict=True)), truth).sum()

    def match(*parts: Tensor) -> Tensor:
        return own.match(dict(zip(names, parts, strict=True)), other, 2.0).sum()

    assert torch.autograd.gradcheck(loss, given) and torch.autograd.gradcheck(match, given)


def test_the_divergence_of_yes_and_no_by_hand():
    student, teacher = torch.tensor([0.0, 2.0]), torch.tensor([np.log(3.0), 2.0])
    first = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert bernoulli_kl(student, teacher, 1.0).tolist() == pytest.approx([first, 0.0], abs=1e-6)
    assert torch.allclose(
        bernoulli_kl(2 * student, 2 * teacher, 2.0), 4 * bernoulli_kl(student, teacher, 1.0)
    )
    assert bernoulli_kl(torch.tensor(-200.0), torch.tensor(200.0), 1.0).item() == pytest.approx(200.0)
    given = [torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda p, q: bernoulli_kl(p, q, 3.0), given)


def test_match_is_0_where_both_say_the_same_and_reads_what_is_stored():
    own = task(size=32, stride=4, levels=2)
    said, other = (own.made_up(4, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert own.match(said, said, 2.0).abs().max() < 1e-6
    assert (own.match(said, other, 2.0) > 0.1).all()
    stored = own.unpack(own.pack(said))
    assert all(leaf.dtype == torch.float32 for leaf in leaves(stored).values())
    assert own.match(said, stored, 1.0).max() < 1e-3
    assert own.agreement(said, said).tolist() == [1.0] * 4
    retina = {name: leaf for name, leaf in other.items() if name != "centre"}
    assert (own.match(said, retina, 1.0) > 0).all()  # of another kind, with the same places
    with pytest.raises(UserError, match="places"):
        own.match(said, task(size=32).made_up(4), 1.0)
    with pytest.raises(UserError, match="one kind"):
        own.mean([said, retina])


def test_a_place_where_the_teacher_sees_nothing_is_told_so():
    own = task(names=("cat",))
    teacher = {"scores": torch.full((1, 4, 1), -9.0), "boxes": torch.ones(1, 4, 4)}
    student = {"scores": torch.full((1, 4, 1), 2.0), "boxes": torch.full((1, 4, 4), 3.0)}
    apart = own.match(student, teacher, 1.0)
    assert apart.item() == pytest.approx(4 * np.log1p(np.exp(2)), rel=1e-2)  # scores alone: no box is sure


def test_sure_boxes_become_truth():
    own = task(size=32, stride=4, levels=2)
    truth = truth_of([([2, 2, 14, 14], 0)], [], most=1)
    sure = own.as_truth(perfect(own, truth), 0.5)
    assert torch.equal(sure["classes"][:, :1], truth["classes"])
    assert torch.allclose(sure["boxes"][0, 0], truth["boxes"][0, 0], atol=1e-4)
    assert (own.as_truth(own.made_up(2), 1.0)["classes"] == -1).all()


def test_average_precision_by_hand():
    """Two boxes of one class; the surest said is right, the second wrong, the third right: precision 1 up to
    a recall of a half, then 2/3: at COCO's 101 recalls (51 + 50 * 2 / 3) / 101. Of IoU .9 and 1 exactly."""
    truth = truth_of([([0, 0, 10, 10], 0), ([20, 20, 30, 30], 0)])
    named = {
        "boxes": torch.tensor([[[0.0, 0, 10, 10], [40, 40, 50, 50], [20, 20, 30, 29]]]),
        "scores": torch.tensor([[0.9, 0.8, 0.7]]),
        "classes": torch.tensor([[0, 0, 0]]),
    }
    found = average_precision(named, truth)
    both, one = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert found["map_50"] == pytest.approx(both, abs=1e-3)
    assert found["map"] == pytest.approx((9 * both + one) / 10, abs=1e-3)  # .50 to .90, and .95
    assert np.isnan(average_precision(named, truth_of([]))["map"])
    details = task().details(named, truth, "test")
    assert details["map_by_class"] == {"cat": pytest.approx(found["map"])}  # there is no dog
    assert details["figures"][0]["data"]["values"] == [pytest.approx(100 * found["map"])]
    assert task().details(named, truth, "train") == {}
    assert task().details(named, truth_of([]), "test") == {"map_by_class": {}}


def test_without_its_extra_it_is_refused_before_work(monkeypatch):
    monkeypatch.setattr(
        "kdx.tasks.box_scores.find_spec", lambda name: None if name == "pycocotools" else name
    )
    with pytest.raises(UserError, match="pycocotools is not installed: pip install 'kdx\\[detection\\]'"):
        task()


def test_rows_of_which_nobody_knows_the_boxes():
    own = task()
    truth = {name: leaf.numpy() for name, leaf in truth_of([([0, 0, 8, 8], 1)], []).items()}
    unknown = own.unknown(truth, 2)
    assert own.known(truth).tolist() == [True, True] and own.known(unknown).tolist() == [False, False]
    columns = own.truth_columns({name: torch.from_numpy(leaf) for name, leaf in truth.items()})
    assert columns == {"truth": ["dog 0.0 0.0 8.0 8.0", "no box"]}
    hidden = {name: torch.from_numpy(leaf) for name, leaf in unknown.items()}
    assert own.truth_columns(hidden) == {"truth": [None, None]}


def test_what_a_row_is_answered_is_written_and_drawn():
    own = task(size=32, stride=4, levels=2)
    truth = truth_of([([2, 2, 14, 14], 0)], [])
    kept = own.condense(perfect(own, truth), truth)
    assert own.columns(kept, AnswerColumns())["label"] == ["cat 0.707 2.0 2.0 14.0 14.0", "no box"]
    assert own.outlined(kept) == [[{"box": [2.0, 2.0, 14.0, 14.0], "words": "cat"}], []]
    with pytest.raises(UserError, match="leave them out"):
        own.columns(kept, AnswerColumns(top=2))
    with pytest.raises(UserError, match="fcos_tiny"):
        own.loss(torch.zeros(2, 3), truth)
