"""A step of torchdistill's own training box, for scripts/bench_train.py, where it is importable: `pip install
--no-deps --target FOLDER torchdistill` and PYTHONPATH=FOLDER. It is no dependency of kdx.

Its DistillationBox is asked as its examples ask it: a DataLoader over a Dataset of PIL pictures, a live
teacher in fp32, KDLoss, torch's default SGD, and the loss read in each step for its logger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, RandomSampler


def step_of(
    teacher: nn.Module,
    student: nn.Module,
    pictures: Dataset,
    *,
    batch: int,
    sgd: dict[str, Any],
    temperature: float,
    alpha: float,
) -> Callable[[], None] | None:
    """Makes one step; None where torchdistill is absent. alpha: share of the teacher's term."""
    try:
        from torchdistill.core.distillation import get_distillation_box
    except ImportError:
        return None
    logging.getLogger("torchdistill").setLevel(logging.ERROR)
    term = {
        "key": "KDLoss",
        "kwargs": {
            "student_module_path": ".",
            "student_module_io": "output",
            "teacher_module_path": ".",
            "teacher_module_io": "output",
            "temperature": temperature,
            "alpha": 1 - alpha,
            "reduction": "batchmean",
        },
    }
    settings = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": batch, "drop_last": True},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": sgd},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": term, "weight": 1.0}}},
        },
    }
    box = get_distillation_box(
        teacher, student, {"train": pictures}, settings, torch.device("cpu"), None, False, 1
    )
    box.pre_epoch_process(epoch=0)
    batches = _forever(box.train_data_loader)

    def step() -> None:
        x, y, further = next(batches)
        loss = box.forward_process(x, y, further)
        box.post_forward_process(loss=loss)
        loss.item()

    return step


def _forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader
