"""A finished network in an ONNX file as a teacher, answered by onnxruntime: taken as it is, whoever trained
it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kdx.core.answers import Answers
from kdx.core.checks import choice
from kdx.core.errors import UserError
from kdx.core.task import Categorical, Numeric, Task
from kdx.core.trees import leaves
from kdx.models import reads
from kdx.models.adapt import Adapted, InputFormat
from kdx.models.estimator import Estimator
from kdx.models.onnx_session import open_session

_LEAST = 1e-6
"""The least probability that an answer has."""
_OFF = 2e-3
"""How far the probabilities of a row may be from 1, as half precision gives them."""
_TRIED = 2
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


@dataclass(frozen=True)
class _Opened:
    """rows: how many it takes at a time, None: any. around: what makes its pictures of those of the data,
    None: it reads rows of tables, as they are. last: channels come last."""

    session: Any
    input: str
    output: str
    dtype: Any
    rows: int | None
    around: Adapted | None
    last: bool = False


@reads("pictures", "table")
class OnnxFile(Estimator):
    """file: an .onnx file of one input, pictures (N, C, H, W) or (N, H, W, C), or rows of a table (N, D) as
    the data set holds them, whose weights lie inside.
    output: the name of the output to take, None: the first. answers: what that holds for each class,
    "logits" or "probabilities"; of a task of numbers it holds these, in the user's units. mean, std: what it
    wants taken off each channel and divided by, of pictures in [0, 1]; None: it reads those as they are.

    Grey pictures are repeated to its channels, and all are resized to its size, where it needs that. What is
    kept is the file's content, so the file is not needed again.
    """

    finished: ClassVar[bool] = True
    """Read from the class's file where torch is not wanted (kdx.store.declared): nothing is fitted."""
    paths: ClassVar[tuple[str, ...]] = ("file",)

    def __init__(
        self,
        *,
        shape: Sequence[int],
        outputs: int,
        file: str,
        output: str | None,
        answers: str,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ):
        super().__init__()
        self.shape, self.outputs, self.path, self.output = tuple(shape), int(outputs), Path(file), output
        self.answers = choice("teacher.answers", answers, ("logits", "probabilities"))
        self.mean, self.std = mean, std
        self.kept: Tensor
        self._opened: _Opened | None = None

    @property
    def inputs(self) -> InputFormat:
        """Pictures as the data set gives them: what it wants else is done in `forward`."""
        channels = self.shape[0]
        return InputFormat(channels, (self.shape[1], self.shape[2]), (0.0,) * channels, (1.0,) * channels)

    def unprepared(self, shape: tuple[int, ...]) -> bool:
        """A finished network has its own way of making numbers alike, or learned from the columns."""
        self.shape = tuple(shape)
        return True

    def check(self, task: Task) -> None:
        """Tries it on made-up rows."""
        if not isinstance(task, Categorical | Numeric):
            raise UserError(f"teacher=onnx gives classes or numbers, and an answer here is {task.words}")
        self._take(self.path)
        found = self._run(torch.rand(_TRIED, *self.shape))
        if found.shape[1:] != (self.outputs,):
            raise UserError(
                f"teacher.file={self.path} gives {tuple(found.shape[1:])} numbers a row, and an answer here "
                f"has {self.outputs}: its classes must be those of the data, in the same order, in one "
                "output (teacher.output=NAME)"
            )
        if self.answers == "probabilities":
            if not isinstance(task, Categorical):
                raise UserError(
                    f"teacher.answers=probabilities is of classes, and an answer here is {task.words}: leave "
                    "it out"
                )
            self._check_probabilities(found)
        elif isinstance(task, Categorical) and self.outputs > 1 and not _no_probabilities(found).any():
            raise UserError(
                f"teacher.file={self.path} ends in probabilities, and teacher.answers=logits takes them for "
                "logits: set teacher.answers=probabilities"
            )

    def _check_probabilities(self, found: Tensor) -> None:
        """Raises UserError where a row of (B, K) is not what teacher.answers=probabilities says."""
        if (wrong := _no_probabilities(found)).any():
            row = found[wrong][0]
            more = ", ..." if len(row) > 3 else ""
            numbers = ", ".join(f"{value:.3g}" for value in row[:3].tolist()) + more
            raise UserError(
                f"teacher.file={self.path} gives no probabilities, as teacher.answers=probabilities says: a "
                f"row of it is {numbers}, adding up to {row.sum():.3g}, and probabilities are at least 0 and "
                "add up to 1: set teacher.answers=logits, or name another output by teacher.output="
            )

    def fit(self, inputs: Answers, truth: Answers, task: Task) -> None:
        self.check(task)

    def forward(self, inputs: Answers) -> Answers:
        rows = leaves(inputs)[""]
        found = self._run(rows)
        if self.answers == "probabilities":
            self._check_probabilities(found)
            found = found.clamp_min(_LEAST).log()
        return found.to(rows.device)

    def _take(self, path: Path) -> None:
        try:
            content = path.expanduser().read_bytes()
        except OSError as error:
            raise UserError(f"teacher.file={path} cannot be read: {error.strerror}") from None
        self.register_buffer("kept", torch.from_numpy(np.frombuffer(content, np.uint8).copy()))
        self._opened = None

    def _run(self, rows: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], or (B, D) -> (B, K) float32, on the CPU."""
        opened, x = self._session(), rows.detach().float().cpu()
        x = x if opened.around is None else opened.around.prepare(x)
        x = x.permute(0, 2, 3, 1) if opened.last else x
        given = np.ascontiguousarray(x.numpy(), opened.dtype)
        size, found = opened.rows or len(given), []
        for start in range(0, len(given), size):
            block = given[start : start + size]
            short = size - len(block)
            whole = np.concatenate([block, np.repeat(block[-1:], short, 0)]) if short else block
            found.append(opened.session.run([opened.output], {opened.input: whole})[0][: len(block)])
        return torch.from_numpy(np.concatenate(found).astype(np.float32))

    def _session(self) -> _Opened:
        """Opened once."""
        if self._opened is None:
            if "kept" not in dict(self.named_buffers()):
                raise UserError("teacher=onnx has not been opened yet")
            self._opened = _open(self)
        return self._opened

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        self._opened = None
        super()._load_from_state_dict(state, prefix, *rest)


def _no_probabilities(found: Tensor) -> Tensor:
    """(B, K) -> (B,) bool."""
    return ~((found >= -_LEAST).all(1) & ((found.sum(1) - 1).abs() <= _OFF))


def _open(asked: OnnxFile) -> _Opened:
    content, path, output = asked.kept.cpu().numpy().tobytes(), asked.path, asked.output
    session = open_session(content, f"teacher.file={path}", "teacher=onnx")
    inputs, outputs = session.get_inputs(), {found.name: found.type for found in session.get_outputs()}
    table = len(asked.shape) == 1
    if len(inputs) != 1 or len(inputs[0].shape) != (2 if table else 4) or inputs[0].type not in _FLOATS:
        form = ", ".join(f"{found.name} {found.type} {found.shape}" for found in inputs)
        wanted = "rows as one input (N, D)" if table else "pictures as one input of four sides (N, C, H, W)"
        raise UserError(
            f"teacher.file={path} must read {wanted}, of floats; it reads {form}: let it answer the rows "
            "itself, and give the answers by teacher=answers"
        )
    if output is not None and output not in outputs:
        raise UserError(f"teacher.output={output} is no output of teacher.file={path}: {', '.join(outputs)}")
    taken = output or next(iter(outputs))
    if outputs[taken] not in _FLOATS:
        raise UserError(
            f"the output '{taken}' of teacher.file={path} holds no floats ({outputs[taken]}), and an answer "
            f"is a number of each class: name another by teacher.output=, of {', '.join(outputs)}"
        )
    rows, *sides = inputs[0].shape
    some = rows if isinstance(rows, int) and rows > 0 else None
    made = _Opened(session, inputs[0].name, taken, _FLOATS[inputs[0].type], some, None)
    if table:
        _check_columns(asked, sides[0])
        return made
    last = sides[2] in (1, 3) and sides[0] not in (1, 3)
    channels, height, width = (sides[2], sides[0], sides[1]) if last else sides
    return replace(made, around=_around(asked, channels, (height, width)), last=last)


def _check_columns(asked: OnnxFile, wanted: Any) -> None:
    """wanted: numbers of a row, as the graph says; a name where any number goes."""
    if asked.mean is not None or asked.std is not None:
        raise UserError(
            "teacher.mean and teacher.std are of the channels of pictures, and rows of a table are given as "
            "they are: leave them out"
        )
    if isinstance(wanted, int) and wanted != asked.shape[0]:
        raise UserError(
            f"teacher.file={asked.path} reads rows of {wanted} numbers, and a row of this table has "
            f"{asked.shape[0]}, in the order of its columns (docs/tables.md)"
        )


def _around(asked: OnnxFile, channels: Any, size: tuple[Any, Any]) -> Adapted:
    """channels, size: what the graph says, a name where any number goes."""
    own = asked.shape
    many = channels if isinstance(channels, int) and channels > 0 else own[0]
    return Adapted(
        torch.nn.Identity(),
        shape=(own[0], own[1], own[2]),
        channels=many,
        size=size if all(isinstance(side, int) and side > 0 for side in size) else (own[1], own[2]),
        mean=(0.0,) * many if asked.mean is None else asked.mean,
        std=(1.0,) * many if asked.std is None else asked.std,
    )
