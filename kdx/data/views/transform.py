"""A transform of torchvision, of albumentations or of the user's own as an augmentation: shown one row at a
time, with random numbers that hang on (seed, split, row, view) alone.
"""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kdx.core.errors import WrongPart, nearest, type_name
from kdx.core.levels import as_float
from kdx.data.views.chain import Step
from kdx.data.views.draws import Draws

_FORMS = ("tensor", "bytes", "picture", "array")
_DRAWING = (
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli),
    *(torch.multinomial, torch._sample_dirichlet, torch.poisson),
    *(Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_, Tensor.exponential_),
    *(Tensor.log_normal_, Tensor.bernoulli, Tensor.multinomial),
)
_LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
OVERSHOOT = 0.45
"""How far beyond [0, 1] a transform may go: bicubic interpolation goes as far at an edge, and is cut off."""
_LIBRARIES = ("torchvision", "albumentations", "kornia")
_alone = threading.Lock()
"""Views are made by several threads, and these generators are one a process."""


class Transformed(Step):
    """Shows each picture of a batch to a transform that takes one. Derive from it, and hand the transform to
    `super().__init__`.

    transform: a callable. Of albumentations it is called as it likes to be. given: what it takes, "tensor":
    (C, H, W) float32 in [0, 1]; "bytes": the same as uint8; "picture": a PIL image; "array": (H, W, C)
    float32 in [0, 1], as albumentations does. It may give any of these back, of the same size. What leaves
    [0, 1] is cut off, and a `Normalize` is refused: the network normalises itself.

    Its draws are those of torch, numpy and `random`, seeded for each row; what draws from elsewhere is found
    out before any work, as the same row and view must give the same bits. Pictures go through it one by one
    on the CPU: the steps of kdx are ten to a hundred times as fast.
    """

    _transform: Callable[..., Any] | None = None
    """None until `__init__` is called, which who derives from it may forget."""

    def __init__(self, transform: Callable[..., Any], *, given: str | None = None):
        self._albumentations = type(transform).__module__.partition(".")[0] == "albumentations"
        usual = "array" if self._albumentations else "tensor"
        self._given = given or usual
        if self._given not in _FORMS:
            raise WrongPart(f"given has no option {given!r:.40}{nearest(str(given), _FORMS)}")
        if not callable(transform):
            raise WrongPart(
                f"{type(self).__name__} needs a transform that can be called; given {type_name(transform)}"
            )
        if found := _normalising(transform):
            raise WrongPart(
                f"{type(self).__name__} holds {found}, which leaves [0, 1]: the network normalises itself: "
                "leave it out"
            )
        self._transform = transform

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return self.uncut(x, draws, op).clamp_(0, 1)

    def uncut(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        """(B, C, H, W) float32 as the transform gives it, which may leave [0, 1]."""
        if self._transform is None:
            raise WrongPart(f"{type(self).__name__}.__init__ must call super().__init__(transform)")
        seeds = draws.integers(op, 2**31, 1)[:, 0].tolist()
        rows = [self._one(row, seed) for row, seed in zip(x.cpu(), seeds, strict=True)]
        return torch.stack(rows).to(x.device)

    def _one(self, row: Tensor, seed: int) -> Tensor:
        with _seeded(seed):
            if self._albumentations:
                transform = copy.deepcopy(self._transform)  # a generator in each, which remembers
                transform.set_random_seed(seed)
                made = transform(image=_as(row, self._given))["image"]
            else:
                made = self._transform(_as(row, self._given))
        return _back(made, type(self).__name__)


def _normalising(transform: Any) -> str | None:
    """ "torchvision's Normalize", where a transform of a library, or any inside it, takes a mean off."""
    todo, seen = [transform], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        library = type(one).__module__.partition(".")[0]
        stretches = str(getattr(one, "normalization", "")).startswith("min_max")  # stays in [0, 1]
        if library in _LIBRARIES and type(one).__name__ == "Normalize" and not stretches:
            return f"{library}'s Normalize"
        inner = getattr(one, "transforms", None)
        todo += inner if isinstance(inner, list | tuple) else []
        todo += one.children() if isinstance(one, torch.nn.Module) else []
    return None


def _as(row: Tensor, form: str) -> Any:
    """(C, H, W) float32 in [0, 1] -> what a transform takes."""
    if form == "tensor":
        return row.clone()
    if form == "array":
        return np.ascontiguousarray(row.permute(1, 2, 0).numpy())
    levels = (row * 255).round().clamp(0, 255).to(torch.uint8)
    if form == "bytes":
        return levels
    from PIL import Image

    if len(row) not in (1, 3):
        raise WrongPart(f"a picture of {len(row)} channels cannot be a PIL image: set given='tensor'")
    return Image.fromarray(levels[0].numpy() if len(row) == 1 else levels.permute(1, 2, 0).numpy())


def _back(made: Any, who: str) -> Tensor:
    """-> (C, H, W) float32"""
    if isinstance(made, Tensor):
        found = torch.as_tensor(made)
    elif isinstance(made, np.ndarray) or type(made).__module__.startswith("PIL."):
        array = np.array(made)
        found = torch.from_numpy(array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0).copy())
    else:
        raise WrongPart(
            f"the transform of {who} gives {type_name(made)}: it must give one picture, as a tensor, an "
            "array or a PIL image"
        )
    return as_float(found).float()


class _Drawn(TorchFunctionMode):
    """Inside, what torch draws without a generator is drawn from this one: in this thread alone, so that a
    training beside it draws its own.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _LIKE:
            like, *rest = args
            kwargs = {"dtype": like.dtype, "device": like.device, **kwargs}
            func, args = _LIKE[func], (tuple(like.shape), *rest)
        if func in _DRAWING and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside, torch, numpy and `random` draw what hangs on the seed alone; outside, what they would have."""
    with _alone:
        before = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed)
        try:
            with _Drawn(seed):
                yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
