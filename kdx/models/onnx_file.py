"""A finished network in an ONNX file as a teacher, answered by onnxruntime: taken as it is, whoever trained
it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kdx.core.checks import choice
from kdx.core.errors import UserError
from kdx.core.task import Answers, Categorical, Numeric, Task
from kdx.core.trees import leaves
from kdx.models import reads
from kdx.models.adapt import Adapted, InputFormat
from kdx.models.estimator import Estimator
from kdx.models.onnx_session import open_session

_LEAST = 1e-6
"""The least probability that an answer has."""
_TRIED = 2
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


@dataclass(frozen=True)
class _Opened:
    """rows: how many it takes at a time, None: any. around: what makes its pictures of those of the data.
    last: channels come last."""

    session: Any
    input: str
    output: str
    dtype: Any
    rows: int | None
    around: Adapted
    last: bool


@reads("pictures")
class OnnxFile(Estimator):
    """file: an .onnx file of one input, pictures (N, C, H, W) or (N, H, W, C), whose weights lie inside.
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
        looks = bool((found >= 0).all() and (found.sum(1) - 1).abs().max() < 1e-3)
        if isinstance(task, Categorical) and self.outputs > 1 and looks and self.answers == "logits":
            raise UserError(
                f"teacher.file={self.path} ends in probabilities, and teacher.answers=logits takes them for "
                "logits: set teacher.answers=probabilities"
            )

    def fit(self, inputs: Answers, truth: Answers, task: Task) -> None:
        self.check(task)

    def forward(self, inputs: Answers) -> Answers:
        rows = leaves(inputs)[""]
        found = self._run(rows)
        if self.answers == "probabilities":
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
        """(B, C, H, W) in [0, 1] -> (B, K) float32, on the CPU."""
        opened = self._session()
        x = opened.around.prepare(rows.detach().float().cpu())
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


def _open(asked: OnnxFile) -> _Opened:
    content, path, output = asked.kept.cpu().numpy().tobytes(), asked.path, asked.output
    session = open_session(content, f"teacher.file={path}", "teacher=onnx")
    inputs, outputs = session.get_inputs(), [found.name for found in session.get_outputs()]
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _FLOATS:
        form = ", ".join(f"{found.name} {found.type} {found.shape}" for found in inputs)
        raise UserError(
            f"teacher.file={path} must read pictures as one input of four sides (N, C, H, W), of floats; it "
            f"reads {form}: let it answer the rows itself, and give the answers by teacher=answers"
        )
    if output is not None and output not in outputs:
        raise UserError(f"teacher.output={output} is no output of teacher.file={path}: {', '.join(outputs)}")
    rows, *sides = inputs[0].shape
    last = sides[2] in (1, 3) and sides[0] not in (1, 3)
    channels, height, width = (sides[2], sides[0], sides[1]) if last else sides
    return _Opened(
        session,
        inputs[0].name,
        output or outputs[0],
        _FLOATS[inputs[0].type],
        rows if isinstance(rows, int) and rows > 0 else None,
        _around(asked, channels, (height, width)),
        last,
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
