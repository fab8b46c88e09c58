"""A graph that `kdx export` wrote, an .onnx or .pt2 file beside its model.json, opened as stored weights are.
It answers on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdx.core.errors import UserError
from kdx.core.examples import random_rows
from kdx.core.trees import from_leaves, leaves, tree
from kdx.core.types import Answers, Inputs
from kdx.models.onnx_session import open_session
from kdx.pipeline.stages.arrays import build_task
from kdx.runs.model_files import read_model
from kdx.runs.reading import read_mapping
from kdx.runs.stored import Weights, function, in_file
from kdx.store.moved import kind_of_old
from kdx.store.source import sha256

_TRIED = 2
_Answer = Callable[[Inputs], Answers]


@dataclass(frozen=True)
class Graph(Weights):
    """`file` is the graph, and what it takes to build the network is not needed."""

    def network(self) -> nn.Module:
        """Raises UserError where the file does not open, or answers otherwise than its model.json says."""
        opened = _of_onnx(self.file) if self.file.suffix == ".onnx" else _of_program(self.file)
        self._try(opened)
        return _OnCpu(opened).eval()

    def _try(self, answer: _Answer) -> None:
        """On made-up rows."""
        rows = random_rows(kind_of_old(self.about)["example"], _TRIED)
        task = build_task(self.about)
        wanted = {name: leaf.shape[1:] for name, leaf in leaves(task.made_up(1)).items()}
        try:
            with torch.no_grad():
                answers = answer(rows)
            found = {name: leaf.shape[1:] for name, leaf in leaves(answers).items()}
        except Exception as error:  # many kinds, of onnxruntime and torch
            why = " ".join(str(error).split())[:160]
            raise UserError(
                f"'{self.file}' cannot answer rows as its model.json tells of them: {type(error).__name__}: "
                f"{why}; export it again"
            ) from None
        if task.several_forms:
            task.loss(answers, task.made_up_truth(_TRIED))  # refuses those that it cannot read
        elif found != wanted:
            raise UserError(
                f"'{self.file}' answers a row with {_shapes(found)}, and by its model.json that is "
                f"{_shapes(wanted)}: the two do not belong together; export it again"
            )


def of_graph(file: Path, allow: Sequence[str], trust: bool) -> Graph:
    """allow: packages of your own that its task comes from. trust: whether a file that could hold code is
    opened. Raises UserError where model.json is missing, or card.json tells of other content."""
    beside = file.with_name("model.json")
    if not beside.is_file():
        raise UserError(_alone(file))
    if file.suffix == ".pt2" and not trust:
        raise UserError(
            f"'{file}' is a program for PyTorch, and to open one can run whatever code it holds: set "
            f"trust=true where you know who made it, or name the folder '{file.parent}' or an .onnx file of "
            "it, which run none"
        )
    about = read_model(beside, allow, builds=False)
    _check_content(file)
    return Graph(file.stem, file, about, function(about), called=in_file(file))


def _alone(file: Path) -> str:
    wanted = (
        f"'{file}' has no model.json beside it, which tells how a row is made ready and what an answer "
        "means: kdx predict takes such a file in the folder that kdx export made."
    )
    if file.suffix != ".onnx":
        return wanted
    return (
        f"{wanted}\nA network of others answers as the teacher of a run on your data: kdx train teacher=onnx "
        f"'teacher.file={file}' 'stages=[teacher_pretrain]', then kdx predict RUN role=teacher "
        "(docs/answers.md)"
    )


def _check_content(file: Path) -> None:
    card = file.with_name("card.json")
    if not card.is_file():
        return
    formats = read_mapping(card).get("formats")
    for entry in formats.values() if isinstance(formats, Mapping) else ():
        if (
            isinstance(entry, Mapping)
            and entry.get("file") == file.name
            and entry.get("sha256") != sha256(file)
        ):
            raise UserError(f"'{file}' does not have the content that was exported: export it again")


def _of_onnx(file: Path) -> _Answer:
    session = open_session(file.read_bytes(), f"'{file}'", "an .onnx file")
    inputs, outputs = ([one.name for one in some] for some in (session.get_inputs(), session.get_outputs()))

    def answer(rows: Inputs) -> Answers:
        given = leaves(rows)
        names = dict(zip(given, inputs, strict=True)) if len(given) == 1 else {name: name for name in given}
        fed = {names[name]: np.ascontiguousarray(leaf.numpy()) for name, leaf in given.items()}
        made = dict(zip(outputs, map(torch.from_numpy, session.run(outputs, fed)), strict=True))
        return next(iter(made.values())) if len(made) == 1 else from_leaves(made)

    return answer


def _of_program(file: Path) -> _Answer:
    from kdx.core.aloud import quiet

    try:
        with quiet():
            found: Any = torch.export.load(file).module()
    except Exception as error:  # whatever a file of another kind or version makes of it
        why = " ".join(str(error).split())[:160]
        raise UserError(
            f"'{file}' cannot be opened by torch.export of PyTorch {torch.__version__}: "
            f"{type(error).__name__}: {why}; export it again with this PyTorch"
        ) from None
    answer: _Answer = found
    return answer


class _OnCpu(nn.Module):
    """A graph is made for the CPU, wherever its rows lie. It is no child, so nothing moves it."""

    def __init__(self, answer: _Answer):
        super().__init__()
        self._answer = (answer,)

    def forward(self, inputs: Inputs) -> Answers:
        return self._answer[0](tree(lambda leaf: leaf.detach().cpu(), inputs))


def _shapes(of: Mapping[str, Sequence[int]]) -> str:
    return " and ".join(f"{name} {tuple(shape)}".strip() for name, shape in of.items())
