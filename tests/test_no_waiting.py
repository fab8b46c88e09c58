"""On an accelerator the loop waits for nothing between two logged steps. It is tested on torch's device
`meta`, whose tensors have no values: whatever reads one raises an error there, and is waited for on a GPU.
"""

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kdx.cli import main
from kdx.config.options import options_of
from kdx.core.trees import moved
from kdx.data.reader import OfArray
from kdx.data.streams import BatchLoader
from kdx.methods.features import crd
from kdx.methods.losses.ups import UPS
from kdx.pipeline.stages import answers, arrays, learn
from kdx.store.work import Listener, Work
from kdx.training import loop
from kdx.training.memory import held_at_most

HERE = ["device=cpu", "device.threads=1", "store=stored", "student_train.steps=4", "baseline=false"]
SMALL = [
    *("teacher=cnn_tiny", "teacher.batch_norm=false", "student=cnn_tiny", "student.batch_norm=false"),
    "teacher_pretrain.steps=4",
]
NUMBERS = ["dataset=diabetes", "teacher=mlp_small", "student=mlp_small"]
OWN = {
    "noisy_student": [*SMALL, "select=all"],
    "self_training": [*SMALL, "select=all"],
    "heteroscedastic": [
        *("dataset=diabetes", "teacher=sklearn", "teacher.estimator=RandomForestRegressor"),
        "student=mlp_small",
    ],
    "teacher_bounded": NUMBERS,
    "distillation_token": ["teacher=cnn_tiny", "teacher_pretrain.steps=4", "student=vit_tiny"],
    "lwf": ["student=cnn_tiny", "recipe=continual"],
}
WAITS = {"pseudo_boxes"}
"""Losses of detection: how many places find a box is known when they are counted."""


class Reached(BaseException):
    """The student's training would begin."""


class Copies(TorchDispatchMode):
    """Keeps the forms of the tensors that go to the accelerator by a copy that is waited for."""

    def __init__(self):
        super().__init__()
        self.waited: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket._qualified_op_name
        if name in ("aten::_to_copy", "aten::copy_") and made.device.type == "meta":
            given = args[1] if name == "aten::copy_" else args[0]
            at_once = (kwargs or {}).get("non_blocking") or (name == "aten::copy_" and len(args) > 2)
            if given.device.type == "cpu" and not at_once:
                self.waited.append(tuple(given.shape))
        elif name.startswith("aten::index"):  # numbers of rows that lie on the CPU are sent, and waited for
            given = [a for a in torch.utils._pytree.tree_leaves(args) if isinstance(a, torch.Tensor)]
            if args[0].device.type == "meta":
                self.waited += [tuple(a.shape) for a in given if a.device.type == "cpu"]
        return made


class OwnGenerator:
    """Torch as `crd` has it, whose generators are those of the CPU."""

    def __getattr__(self, name):
        return getattr(torch, name)

    def Generator(self, device):
        return torch.Generator()


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    path, before = tmp_path_factory.mktemp("waiting"), Path.cwd()
    os.chdir(path)
    yield path
    os.chdir(before)


@pytest.fixture
def meta(monkeypatch):
    """Torch, with what the device `meta` lacks of an accelerator."""
    autocast, tensor = torch.autocast, torch.tensor

    def laid_down(*values, device=None, **how):
        kind = None if device is None else torch.device(device).type
        assert kind != "meta", "a tensor of numbers in Python is waited for: make it on the CPU, and move it"
        return tensor(*values, device=device, **how)

    def context(kind, *more, **how):
        return nullcontext() if kind == "meta" else autocast(kind, *more, **how)

    def drawn(rows, total, negatives, generator):
        return moved(torch.zeros(len(rows), negatives, dtype=torch.int64), rows.device)

    def begin():
        monkeypatch.setattr(torch, "tensor", laid_down)
        monkeypatch.setattr(torch, "autocast", context)
        monkeypatch.setattr(crd, "torch", OwnGenerator())
        monkeypatch.setattr(crd, "others_of", drawn)

    return begin


def begun(words, monkeypatch):
    """The student's training of a run, as it stands before its first step, on the device `meta`."""
    found, learned = [], learn._learn

    def reached(work, runtime, inputs, ranks):
        if not work.name.startswith("student-train"):
            return learned(work, runtime, inputs, ranks)
        found.extend((work.name, replace(runtime), inputs))
        raise Reached

    with monkeypatch.context() as patch:
        patch.setattr(learn, "_learn", reached)
        with pytest.raises(Reached):
            main(["train", *HERE, *words])
        name, runtime, inputs = found
        object.__setattr__(runtime, "device", "meta")
        decided = torch.Tensor.__bool__
        patch.setattr(torch.Tensor, "__bool__", lambda t: t.device.type == "meta" or decided(t))
        lesson = learn.begin_training(name, runtime, inputs)
    for group in lesson.loop.optimiser.param_groups:
        group["fused"] = False  # which `meta` has not
    for part in lesson.objective.modules():
        if isinstance(part, UPS):
            part.doubts = True  # it looks once
    return lesson, inputs


def steps(words, meta, monkeypatch):
    """Three steps, none of them logged."""
    lesson, inputs = begun(words, monkeypatch)
    pool = inputs.data.json("data.json")["counts"].get("unlabelled", 0)
    Path("work").mkdir(exist_ok=True)
    watch = learn.Watch(
        Work(Path("work"), "student-train", Listener()),
        lesson.objective,
        lesson.loop,
        settings=lesson.settings,
        validation=None,
        task=lesson.parts.task,
        pool=pool,
    )
    meta()
    with Copies() as copies:
        done = loop.fit(
            lesson.objective,
            BatchLoader(lesson.streams, start=1, stop=4, workers=0),
            replace(lesson.loop, steps=1000, log_every=10**9, refresh_every=10**9, clip=1.0),
            start=1,
            log=lambda step, values: pytest.fail("this step is not logged"),
            after=lambda step: False,
            keep=watch.keep,
        )
    assert done == 4 and not copies.waited
    return lesson


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["loss=kd", "teacher_pretrain.steps=4"], id="the default run"),
    ]
    + [
        pytest.param([f"loss={name}", *OWN.get(name, SMALL)], id=name, marks=pytest.mark.slow)
        for name in options_of("loss")
        if name not in WAITS
    ]
    + [
        pytest.param(
            ["loss=kd", f"loss.features={name}", *SMALL], id=f"features {name}", marks=pytest.mark.slow
        )
        for name in options_of("features")
        if name != "none"
    ]
    + [
        pytest.param(
            ["loss=soft", f"loss.weights={name}", *SMALL], id=f"weights {name}", marks=pytest.mark.slow
        )
        for name in options_of("weights")
    ]
    + [
        pytest.param(["loss=kd", f"augment={name}", *SMALL], id=f"augment {name}", marks=pytest.mark.slow)
        for name in ("affine", "rotate", "flip", "flip_crop", "mixup", "noise", "cutout", "colour_jitter")
    ]
    + [
        pytest.param(
            ["loss=kd", "augment=[randaugment,random_resized_crop,mixup]", *SMALL],
            id="several",
            marks=pytest.mark.slow,
        ),
        pytest.param(["loss=kd", "teacher.update=ema", *SMALL], id="moving", marks=pytest.mark.slow),
        pytest.param(
            ["loss=kd", "pseudo_label.mode=live", "augment=flip_crop", *SMALL],
            id="live",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["dataset=corpus", "loss=token_kd", "teacher_pretrain.steps=2"],
            id="language",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_step_waits_for_the_accelerator(words, meta, monkeypatch):
    steps(words, meta, monkeypatch)


def test_rows_and_answers_that_are_read_as_they_are_asked_for_go_over_without_waiting(meta, monkeypatch):
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(answers, "_SMALL", 0)
    lesson = steps(["loss=kd", "teacher_pretrain.steps=4"], meta, monkeypatch)
    assert all(isinstance(stream.split.inputs, OfArray) for stream in lesson.streams.values())
    assert isinstance(lesson.parts.teacher.answers["unlabelled"][""], OfArray)


def test_a_gpu_holds_what_takes_a_quarter_of_its_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 << 30, 16 << 30))
    assert held_at_most("cuda:1", 5) == 2 << 30 and held_at_most("cpu", 5) == held_at_most("mps", 5) == 5


def test_from_pinned_memory_to_a_gpu_and_back_as_ever(monkeypatch):
    pinned, sent = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(t) or t)
    monkeypatch.setattr(torch.Tensor, "to", lambda t, device, **how: sent.append((device, how)) or t)
    moved({"a": torch.zeros(2)}, "cuda:1")
    moved(torch.zeros(2), torch.device("mps"))
    moved(torch.zeros(2, device="meta"), "cpu")
    assert len(pinned) == 1
    assert sent == [("cuda:1", {"non_blocking": True}), (torch.device("mps"), {}), ("cpu", {})]
