"""Batches are pure functions of their step: same bytes for any worker count, after any restart, and equal to
the labelling pass.
"""

import gc
import threading
import time

import numpy as np
import pytest
import torch
from tasks import classification

from kdx.core.errors import UserError
from kdx.core.types import Batch, Split
from kdx.data.order import RowOrder
from kdx.data.reader import OfArray
from kdx.data.stored import StoredRows
from kdx.data.streams import BatchLoader, Makers, Stream, sequential
from kdx.data.views import pixels
from kdx.data.views.augment import Affine, FlipCrop, Mixup, Noise
from kdx.data.views.chain import Chain, Views

CHAIN = [
    ("flip_crop", FlipCrop(pad=2, mode="zero", flip=0.5)),
    ("affine", Affine(degrees=11.5, shift=0.12, scale=0.1)),
]


def split(n=29, labels=True, name="labelled"):
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 1, 9, 9), dtype=torch.uint8, generator=generator)
    return Split(name, images, torch.randint(0, 4, (n,), generator=generator) if labels else None)


def views(*more, seed=0):
    return Views(Chain([*CHAIN, *more]), seed)


def stream(data=None, make=None, extra=None, clean=False, **options):
    makers = Makers(make or views(), extra or {}, clean)
    return Stream(data or split(), makers, **{"batch": 8, "seed": 1, "cycle": 3, **options})


def same(a, b):
    assert a.split == b.split and list(a.views) == list(b.views) and (a.y is None) == (b.y is None)
    pairs = [(a.index, b.index), (a.view, b.view), *zip(a.views.values(), b.views.values(), strict=True)]
    pairs += [] if a.y is None else [(a.y, b.y)]
    return all(torch.equal(x, y) for x, y in pairs)


def loader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("kdx-loader")]


@pytest.mark.parametrize("n, batch", [(29, 8), (29, 29), (5, 17), (1, 3), (8, 4)])
def test_each_pass_takes_every_row_once(n, batch):
    order = RowOrder(n, batch, seed=4)
    index, passes = (
        torch.cat(parts) for parts in zip(*(order.rows(step) for step in range(3 * n)), strict=True)
    )
    assert index.dtype == passes.dtype == torch.int64 and len(index) == 3 * n * batch
    assert torch.equal(passes, torch.arange(len(index)) // n)
    assert all(torch.equal(index[passes == p].sort().values, torch.arange(n)) for p in range(3 * batch))


def test_order_is_a_pure_function_of_seed_and_step():
    order = RowOrder(29, 8, seed=4)
    there = [order.rows(step) for step in range(40)]
    back = [order.rows(step) for step in reversed(range(40))]
    assert all(
        torch.equal(x, y)
        for one, other in zip(there, reversed(back), strict=True)
        for x, y in zip(one, other, strict=True)
    )
    long = RowOrder(29, 16, seed=4).rows(3)[0]  # position counts, not the batch size
    assert torch.equal(long, torch.cat((there[6][0], there[7][0])))
    flat = torch.cat([index for index, _ in there])
    assert not torch.equal(flat[:29], flat[29:58])
    assert not torch.equal(there[0][0], RowOrder(29, 8, seed=5).rows(0)[0])


def test_a_batch_is_what_was_asked_for():
    data, make = split(), views()
    one = stream(data, make, clean=True, extra={"second": views(seed=9)}).batch(11)
    assert isinstance(one, Batch) and len(one) == 8 and list(one.views) == ["main", "second", "clean"]
    assert torch.equal(one.views["clean"], pixels.as_float(data.inputs[one.index]))
    assert torch.equal(one.views["main"], make(data, one.index, one.view)[0])
    assert torch.equal(one.views["second"], views(seed=9)(data, one.index, one.view)[0])
    assert torch.equal(one.y, data.truth[one.index]) and one.y.dtype == torch.int64
    assert stream(split(labels=False)).batch(0).y is None


@pytest.mark.parametrize(
    "cycle, expected", [(None, [1, 2, 3, 4, 5]), (3, [1, 2, 3, 1, 2]), (1, [1] * 5), (0, [0] * 5)]
)
def test_views_cycle_with_the_passes(cycle, expected):
    whole = stream(split(8), cycle=cycle)
    assert [whole.batch(step).view.unique().tolist() for step in range(5)] == [[v] for v in expected]


@pytest.mark.parametrize("more", [(), (("noise", Noise(std=0.1)), ("mixup", Mixup(alpha=0.5)))])
def test_training_sees_the_pixels_that_were_labelled(more):
    data, make = split(), views(*more)
    labelled = {
        view: torch.cat(
            [
                b.views["main"]
                for b in sequential(data, batch=7, views=make, view=view, task=classification(4))
            ]
        )
        for view in (1, 2, 3)
    }
    batches = list(
        BatchLoader({"s": stream(data, make, task=classification(4))}, start=0, stop=15, workers=2)
    )
    assert {v for b in batches for v in b["s"].view.tolist()} == {1, 2, 3}
    for batch in batches:
        one = batch["s"]
        for i, (row, view) in enumerate(zip(one.index.tolist(), one.view.tolist(), strict=True)):
            assert torch.equal(one.views["main"][i], labelled[view][row])


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_restarts_change_no_byte(workers):
    streams = {
        "labelled": stream(
            split(7), views(("mixup", Mixup(alpha=1.0))), batch=5, task=classification(4), clean=True
        ),
        "unlabelled": stream(split(31, labels=False, name="unlabelled"), batch=9, cycle=None),
    }
    plain = list(BatchLoader(streams, start=0, stop=20, workers=0))
    assert len(plain) == len(BatchLoader(streams, start=0, stop=20, workers=0)) == 20
    for start, stop in ((0, 20), (13, 20)):
        again = list(BatchLoader(streams, start=start, stop=stop, workers=workers))
        assert len(again) == stop - start
        for one, other in zip(plain[start:stop], again, strict=True):
            assert list(one) == list(other) == ["labelled", "unlabelled"] and all(
                same(one[k], other[k]) for k in one
            )
    assert list(BatchLoader(streams, start=5, stop=5, workers=workers)) == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cycle": None, "clean": True, "extra": {"second": views(seed=9)}},
        {"cycle": 0, "batch": 40},
        {"rows": torch.tensor([3, 5, 5, 5, 11]), "batch": 2},
        {"make": views(("mixup", Mixup(alpha=1.0))), "task": classification(4)},
    ],
)
def test_batches_made_together_are_those_made_alone(options):
    source = stream(**options)
    assert source.together() > 5
    for part in (slice(None), slice(1, None, 2)):
        source.part = part
        for one, step in zip(source.batches(3, 5), range(3, 8), strict=True):
            assert same(one, source.batch(step)) and one.views["main"].storage_offset() == 0


def test_large_rows_and_those_that_are_read_are_made_step_by_step(tmp_path):
    assert stream(batch=1024).together() == 1, "a row is 324 bytes and its truth 8, and half a MB is enough"
    assert stream(batch=1).together() == 32, "however small"
    assert stream(seed=None).together() == 1, "batches in order of time differ in size"
    assert stream(batch=512).together() == stream(batch=256, clean=True).together() == 3
    np.save(tmp_path / "inputs.npy", split().inputs.numpy())
    read = Split("labelled", OfArray(StoredRows([tmp_path / "inputs.npy"])), split().truth)
    assert stream(read).together() == 1
    loader = BatchLoader({"a": stream(), "b": stream(batch=512)}, start=4, stop=11, workers=0)
    sizes = [{name: len(batch) for name, batch in batches.items()} for batches in loader]
    assert loader.together == 3 and sizes == 7 * [{"a": 8, "b": 512}]


class Slow:
    """A stream whose even steps take longer, and whose step `bad` fails."""

    def __init__(self, bad=None):
        self.bad, self.made = bad, []

    def together(self):
        return 1

    def batches(self, step, steps):
        assert steps == 1
        return [self.batch(step)]

    def batch(self, step):
        time.sleep(0.01 if step % 2 == 0 else 0)
        self.made.append(step)
        if step == self.bad:
            raise ValueError(f"step {step} is bad")
        return step


def test_slow_batches_keep_their_order_and_bounded_depth():
    source = Slow()
    batches = iter(BatchLoader({"s": source}, start=0, stop=30, workers=3))
    for step in range(30):
        assert next(batches) == {"s": step}
        assert len(source.made) <= step + 6
    assert next(batches, None) is None and not loader_threads()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_at_its_step(workers):
    batches = iter(BatchLoader({"s": Slow(bad=4)}, start=0, stop=30, workers=workers))
    assert [next(batches)["s"] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="step 4 is bad"):
        next(batches)
    assert not loader_threads()


def test_threads_end_when_closed_or_dropped():
    for end in ("close", "drop"):
        source = Slow()
        batches = iter(BatchLoader({"s": source}, start=0, stop=1000, workers=3))
        next(batches)
        assert loader_threads()
        if end == "close":
            batches.close()
        del batches
        gc.collect()
        assert not loader_threads() and len(source.made) < 20


def test_sequential_gives_every_row_in_order():
    data = split()
    parts = list(sequential(data, batch=8, views=None, view=0))
    assert [len(p) for p in parts] == [8, 8, 8, 5]
    assert torch.equal(torch.cat([p.index for p in parts]), torch.arange(29)) and not any(
        p.view.any() for p in parts
    )
    assert torch.equal(torch.cat([p.views["main"] for p in parts]), pixels.as_float(data.inputs))
    assert torch.equal(torch.cat([p.y for p in parts]), data.truth)


def test_mixed_labels_follow_the_pixels():
    data, make = split(), views(("mixup", Mixup(alpha=1.0)))
    one = stream(data, make, task=classification(4)).batch(2)
    _, (partner, lam) = make(data, one.index, one.view)
    assert one.y.dtype == torch.float32 and torch.allclose(one.y.sum(1), torch.ones(8))
    for i in range(8):
        expected = torch.zeros(4)
        expected[data.truth[one.index[i]]] += lam[i]
        expected[data.truth[partner[i]]] += 1 - lam[i]
        assert torch.allclose(one.y[i], expected)
    assert stream(data, make, cycle=0).batch(2).y.dtype == torch.int64  # clean pictures are not mixed
    assert stream(split(labels=False), make).batch(2).y is None


def test_memory_mapped_pictures_are_read_alike(tmp_path):
    data = split()
    np.save(tmp_path / "inputs.npy", data.inputs.numpy())
    mapped = Split(data.name, torch.from_numpy(np.load(tmp_path / "inputs.npy", mmap_mode="c")), data.truth)
    assert all(same(stream(data).batch(step), stream(mapped).batch(step)) for step in range(5))


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: RowOrder(0, 8, 0), "given 0 rows"),
        (lambda: RowOrder(8, 0, 0), "batch size 0"),
        (lambda: stream(cycle=-1), "given -1"),
        (lambda: stream(extra={"clean": views()}), "rename"),
        (lambda: stream(extra={"second": views(("mixup", Mixup(alpha=1)))}), "only the main view"),
        (lambda: stream(make=views(("mixup", Mixup(alpha=1)))).batch(0), "needs the task"),
        (lambda: BatchLoader({}, start=3, stop=2, workers=0), "start=3"),
        (lambda: BatchLoader({}, start=0, stop=2, workers=-1), "workers=-1"),
        (lambda: next(sequential(split(), batch=8, views=None, view=1)), "view=1"),
    ],
)
def test_errors_say_what_was_given(make, says):
    with pytest.raises(UserError, match=says):
        make()
