"""What a loader of the user's own gives is checked as it is read: each mistake is a sentence of its own, and
none of them a traceback in a later stage.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdx.core.errors import UserError, UserErrors
from kdx.core.task import Task
from kdx.data import contract
from kdx.data.raw import Arrays, Description, Raw
from kdx.pipeline.stages.decode import decode_into
from kdx.pipeline.stages.prepare import run as prepare
from kdx.store import resolve
from kdx.store.component import Component
from kdx.store.work import Listener, Work
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=60)
TASK = {"_target_": f"{__name__}.Number"}
ROWS, TESTED, POOL = 20, 6, 8


class Number(Task):
    words = "one number a row"
    width = 1

    @property
    def metric(self):
        from kdx.core.metric import Metric

        return Metric("mae", "mean error", digits=1, more=False, low=0)

    def loss(self, answers, truth, weights=None):
        return (answers - truth).square().mean(1)

    def match(self, student, teacher, temperature):
        return self.loss(student, teacher)

    def by_row(self, answers, truth):
        return self.loss(answers, truth)

    def metrics(self, answers, truth):
        return {"mae": self.by_row(answers, truth).mean().item()}

    def knowing_nothing(self, truth):
        raise NotImplementedError

    def made_up(self, rows, generator=None):
        return torch.randn(rows, 1, generator=generator)

    made_up_truth = made_up


def draw(rows, seed=0):
    """(inputs, truth)"""
    random = np.random.default_rng(seed)
    signal = random.normal(size=(rows, 16)).astype(np.float32)
    return {"signal": signal, "mask": signal[:, :3] > 0}, signal.sum(1, keepdims=True)


def parts():
    return {"train": draw(ROWS), "test": draw(TESTED, 1), "unlabelled": (draw(POOL, 2)[0], None)}


TOLD = Description(
    TASK, {"signal": ((16,), "float32"), "mask": ((3,), "bool")}, "signals", ROWS, test=TESTED, pool=POOL
)
GIVEN = Arrays(parts(), TASK, "signals")
OWN = {"_target_": f"{__name__}.Own"}
DIGITS = {"_target_": "kdx.data.datasets.digits.Digits", "image_size": 8}
held: dict = {}


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    monkeypatch.setattr(resolve, "own_packages", [__name__])


class Own:
    """Describes and loads what `held` holds."""

    def describe(self):
        return held["told"]

    def load(self, *, workers):
        return held["given"]


def prepared(place, given=GIVEN, told=TOLD, spec=OWN, labelled=10):
    held.update(told=told, given=given)
    place.mkdir(exist_ok=True)
    sizes = {"labelled": labelled, "unlabelled": None, "validation": 4, "test": 0.2}
    work, dataset = Work(place, "prepare", Listener()), Component(spec)
    decoded = decode_into(place.with_name(f"{place.name}-decoded"), dataset, CPU)
    prepare(work, CPU, decoded=decoded, dataset=dataset, duplicates="warn", seed=0, **sizes)
    return json.loads((place / "data.json").read_text())


def given(**changed):
    """GIVEN with other parts; None: without it."""
    found = {**parts(), **changed}
    return replace(GIVEN, parts={part: pair for part, pair in found.items() if pair is not None})


def said(raw, told=TOLD):
    with pytest.raises(UserError) as error:
        contract.check(raw, told)
    return str(error.value).splitlines()


def test_a_loader_that_keeps_its_word_is_read(tmp_path):
    about = prepared(tmp_path / "a")
    assert about["counts"] == {"labelled": 10, "validation": 4, "test": TESTED, "unlabelled": 14}
    assert about["hidden"] == 6, "of the pool that it ships nobody knows the truth, and that is no fault"
    found = {"train": draw(ROWS), "test": draw(TESTED)}
    about = prepared(tmp_path / "b", replace(GIVEN, parts=found), replace(TOLD, pool=0), labelled=None)
    assert about["counts"]["unlabelled"] == about["hidden"] == 0


@pytest.mark.parametrize(
    "changed, sentence",
    [
        (
            {"example": {"signal": ((15,), "float32"), "mask": ((3,), "bool")}},
            "describe() says rows of signal (15,) and load() gives (16,)",
        ),
        (
            {"example": {"signal": ((16,), "float16"), "mask": ((3,), "bool")}},
            "describe() says rows of signal are float16 and load() gives float32",
        ),
        (
            {"example": {"signal": ((16,), "float32")}},
            "describe() says that a row is the arrays signal and load() gives the arrays mask, signal",
        ),
        (
            {"example": {"": ((16,), "float32")}},
            "describe() says that a row is one array and load() gives the arrays mask, signal",
        ),
        ({"reads": "waves"}, "describe() says that rows are waves (reads) and load() says signals"),
        (
            {"task": {**TASK, "unit": "mm"}},
            "describe() says 'mm' of the task's unit and load() gives None",
        ),
        ({"train": 21}, "describe() says 21 rows of the part 'train' and load() gives 20 rows"),
        ({"test": None}, "describe() says none of the part 'test' and load() gives 6 rows"),
        ({"validation": 5}, "describe() says 5 rows of the part 'validation' and load() gives none"),
        ({"pool": 0}, "describe() says none of the part 'unlabelled' and load() gives 8 rows"),
        (
            {"strata": (10, 10)},
            "describe() says strata and load() gives no groups: give the group of each row (groups)",
        ),
    ],
)
def test_describe_and_load_must_agree(changed, sentence):
    assert said(GIVEN, replace(TOLD, **changed)) == [sentence]


def test_groups_are_held_against_strata():
    groups = np.arange(ROWS) % 2
    grouped = replace(GIVEN, groups=groups)
    contract.check(grouped, replace(TOLD, strata=(10, 10)))
    contract.check(grouped, replace(TOLD, strata=(10, 10, 0)))
    assert said(grouped, replace(TOLD, strata=(12, 8))) == [
        "describe() says groups of [12, 8] rows (strata) and load() gives [10, 10]"
    ]
    assert said(grouped) == [
        "describe() says no strata and load() gives groups: say how many rows each has (strata)"
    ]
    for wrong, words in (
        (groups.tolist(), "groups that are no numpy array of whole numbers"),
        (groups[:5], "groups of shape (5,), and the part 'train' has 20 rows"),
        (groups - 1, "a group -1: groups are whole numbers from 0"),
    ):
        assert words in said(replace(GIVEN, groups=wrong))[0]


def test_a_task_is_the_same_with_tuples_for_lists():
    names = replace(GIVEN, task={**TASK, "names": ("a", "b")})
    contract.check(names, replace(TOLD, task={**TASK, "names": ["a", "b"]}))


X, Y = draw(ROWS)
ONE = X["signal"]


@pytest.mark.parametrize(
    "train, sentence",
    [
        (None, "load() gives no part 'train': give the rows to train with under that name"),
        (ONE, "load() gives for the part 'train' a ndarray: give a pair (inputs, truth)"),
        (
            (ONE, None),
            "load() gives no truth of the part 'train': only the part 'unlabelled' may go without",
        ),
        ((ONE, Y[:7]), "load() gives 20 rows of inputs in the part 'train', and a truth of 7 rows"),
        (
            ({**X, "mask": X["mask"][:7]}, Y),
            "load() gives the inputs of the part 'train' with different numbers of rows "
            "(signal 20, mask 7): they must be the same",
        ),
        (
            (ONE.astype(np.float64), Y),
            "load() gives the inputs of the part 'train' as float64: give float32, array.astype('float32')",
        ),
        (
            ({**X, "signal": ONE.astype(">f4")}, Y),
            "load() gives the inputs of the part 'train' (signal) as >f4: give float32, "
            "array.astype('float32')",
        ),
        (
            (ONE, Y.astype(np.uint32)),
            "load() gives the truth of the part 'train' as uint32: give one of uint8, float32, float16, "
            "int16, int32, int64, bool",
        ),
        (
            (torch.from_numpy(ONE), Y),
            "load() gives the inputs of the part 'train' as a torch tensor: give a numpy array, "
            "tensor.numpy()",
        ),
        (
            (ONE, Y.tolist()),
            "load() gives the truth of the part 'train' as a list: give a numpy array, such as "
            "numpy.asarray(..., 'float32')",
        ),
        (
            ({"a/b": ONE}, Y),
            "load() calls one of the inputs of the part 'train' 'a/b': a name may hold letters, digits, "
            "- and _ only",
        ),
        (
            (ONE, {"../y": Y}),
            "load() calls one of the truth of the part 'train' '../y': a name may hold letters, digits, "
            "- and _ only",
        ),
        (
            ({}, Y),
            "load() gives the inputs of the part 'train' as a mapping without an array: give one array at "
            "least",
        ),
        (
            (np.ones((), np.float32), Y),
            "load() gives the inputs of the part 'train' as a single number: the first axis must be the rows",
        ),
    ],
)
def test_what_load_may_not_give(train, sentence):
    assert said(given(train=train, test=None, unlabelled=None)) == [sentence]


def test_parts_are_known_and_alike():
    assert said(given(tset=draw(3))) == [
        "load() gives a part 'tset', which kdx does not know; did you mean 'test'?"
    ]
    x, y = draw(TESTED)
    narrow = {**x, "mask": x["mask"][:, :2]}
    assert said(given(test=(narrow, y), unlabelled=(narrow, None))) == [
        "load() gives inputs of mask (3,) bool and signal (16,) float32 in the part 'train' and of "
        f"mask (2,) bool and signal (16,) float32 in the part '{part}': they must be alike"
        for part in ("test", "unlabelled")
    ]
    assert said(given(test=(x, y[:, 0]))) == [
        "load() gives truth of (1,) float32 in the part 'train' and of () float32 in the part 'test': they "
        "must be alike"
    ]
    assert said(given(test=(None, y))) == ["load() gives a truth of the part 'test' and no inputs"]
    assert said(replace(GIVEN, names={"test": ["a", "b"]})) == [
        "load() names 2 rows of the part 'test', which has 6"
    ]


def test_all_that_is_wrong_is_said_at_once():
    x, y = X["signal"], Y
    with pytest.raises(UserErrors) as error:
        contract.check(given(train=(x.astype(float), y.astype(float)), test=(x, None)), TOLD)
    assert [message.split(":")[0] for message in error.value.messages] == [
        "load() gives the inputs of the part 'train' as float64",
        "load() gives the truth of the part 'train' as float64",
        "load() gives no truth of the part 'test'",
    ]


class Halves(Raw):
    """A user's own Raw that forgot most."""

    def part(self, name):
        return {"train": (ONE, Y)}[name]

    def only(self, rows):
        return self


def test_what_is_no_raw_and_no_description():
    assert said((ONE, Y)) == ["load() must give a Raw, such as kdx.data.raw.Arrays; it gives a tuple"]
    assert said(GIVEN, {"train": 20}) == ["describe() must give a kdx.data.raw.Description; it gives a dict"]
    assert said(replace(GIVEN, parts=[ONE, Y])) == [
        "load() gives parts that are a list: give {'train': (inputs, truth)}"
    ]
    assert said(Halves()) == [
        "load() gives a Halves without the attribute task (what answers mean)",
        "load() gives a Halves without the attribute reads (what rows are)",
        *(
            f"load() gives a Halves that knows no part '{part}': give (None, None) for it"
            for part in ("validation", "test", "unlabelled")
        ),
    ]


def test_prepare_asks_for_it(tmp_path):
    with pytest.raises(UserErrors, match=r"describe\(\) says 19 rows of the part 'train'"):
        prepared(tmp_path / "a", told=replace(TOLD, train=19))
    with pytest.raises(UserErrors, match="letters, digits, - and _ only"):
        prepared(tmp_path / "b", given(train=({"a/b": ONE}, Y)))
    assert not list((tmp_path / "b").iterdir())


def test_numbers_that_are_not_finite_are_counted(tmp_path):
    """By split, in truth and inputs, of whichever part they come from."""
    x, y = draw(TESTED, 1)
    y[[1, 2], 0] = np.nan, np.inf
    signal = draw(POOL, 2)[0]["signal"]
    signal[5, 3] = -np.inf
    with pytest.raises(UserErrors) as error:
        pool = {**draw(POOL, 2)[0], "signal": signal}
        prepared(tmp_path / "a", given(test=(x, y), unlabelled=(pool, None)))
    assert error.value.messages == [
        "1 of 14 unlabelled rows has inputs that are not finite (NaN or infinite): row 5 of the unlabelled "
        "part; leave such rows out of the data set, or put numbers there",
        "2 of 6 test rows have a truth that is not finite (NaN or infinite): row 1 of the test part, row 2 "
        "of the test part; leave such rows out of the data set, or put numbers there",
    ]
    x, y = draw(ROWS)
    y[:] = np.nan
    with pytest.raises(UserErrors, match="10 of 10 labelled rows have a truth .* and 7 more; leave such"):
        prepared(tmp_path / "b", given(train=(x, y)))


def test_loaders_of_kdx_are_looked_at_too(tmp_path, monkeypatch):
    """Their numbers are; what they describe is held against what they load by tests."""
    from kdx.data.datasets import digits

    monkeypatch.setattr(digits.Digits, "load", Own.load)
    x, y = draw(ROWS)
    prepared(tmp_path / "a", told=None, spec=DIGITS)
    x["signal"][:] = np.nan
    with pytest.raises(UserErrors, match="10 of 10 labelled rows have inputs that are not finite"):
        prepared(tmp_path / "b", given(train=(x, y)), told=None, spec=DIGITS)


@pytest.mark.parametrize("block", [1, 100, 1 << 24])
def test_a_memory_map_is_looked_at_in_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(contract, "BLOCK", block)
    values = np.zeros((9, 2, 5), np.float16)
    values[[0, 8], 1, 4] = np.nan, np.inf
    np.save(tmp_path / "a.npy", values)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert np.flatnonzero(contract.not_finite(mapped)).tolist() == [0, 8]
    several = {"a": mapped, "b": np.zeros(9, np.int64), "c": np.where(np.arange(9) == 4, np.nan, 0)}
    assert np.flatnonzero(contract.not_finite(several)).tolist() == [0, 4, 8]
    assert not contract.not_finite(np.zeros((0, 3), np.float32)).size
    assert not contract.not_finite(np.zeros((4, 0), np.float32)).any()
