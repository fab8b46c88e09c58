"""Networks by name. A function a family, each taking normalised pixels; the data set's adapter wraps what it
returns to take rows as the data set gives them: pixels in [0, 1].

Adding a model is one function here, `(*, shape, classes, dropout, stochastic_depth, ...) -> nn.Module`, and
one YAML in `conf/model/`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from torch import nn

from kdx.core.errors import UserError
from kdx.core.task import Categorical, Task
from kdx.models import pretrained, size
from kdx.models.adapt import Adapted, Adapter, Pictures

HELD = size.Held()
_PICTURES = "pictures"
Function = TypeVar("Function", bound=Callable[..., Any])
_reads: dict[Any, str] = {}


class Buildable(Protocol):
    """A model described but not built: a `kdx.store.component.Component`."""

    @property
    def target(self) -> str: ...

    def build(self, **more: Any) -> Any: ...

    def resolve(self) -> Any: ...


def reads(what: str) -> Callable[[Function], Function]:
    """Says what rows a model reads, where it is defined: the word that data sets of such rows have. A model
    that says nothing reads pictures.
    """

    def say(function: Function) -> Function:
        _reads[function] = what
        return function

    return say


def build_for(
    model: Buildable,
    *,
    task: Task,
    example: Mapping[str, tuple[Sequence[int], str]],
    reads: str,
    adapter: Adapter | None,
    read_weights: bool = True,
    held: size.Held = HELD,
) -> nn.Module:
    """The network that `model` describes, for rows of any kind. example, reads: as a data set describes them.

    Of `shape` (of one row, or {name: shape}), `classes` (how many), `outputs` (`Task.width`) and `task` its
    function is given what it has arguments for. held, read_weights: see `build`. Raises UserError where the
    network does not go with the rows or with the task.
    """
    function = model.resolve()
    named = model.target.rpartition(".")[2]
    if (wanted := _reads.get(function, _PICTURES)) != reads:
        raise UserError(
            f"{named} reads {wanted}, and the rows of this data set are {reads}: choose a network that reads "
            f"{reads}"
        )
    shapes = {name: tuple(map(int, shape)) for name, (shape, _) in example.items()}
    shape: Any = shapes[""] if set(shapes) == {""} else shapes
    with pretrained.reading(read_weights), size.within_memory(held):
        made = model.build(**_arguments(function, named, shape, task))
    return made if adapter is None else adapter.wrap(made, shape)


def _arguments(function: Any, named: str, shape: Any, task: Task) -> dict[str, Any]:
    """Those of them that the function has."""
    parameters = inspect.signature(function).parameters
    any_name = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    given: dict[str, Any] = {"shape": shape, "outputs": task.width, "task": task}
    if isinstance(task, Categorical):
        given["classes"] = len(task.classes)
        if any_name:  # says nothing of what it takes: then it is one of the usual ones
            return {"shape": shape, "classes": given["classes"]}
    elif "classes" in parameters:
        raise UserError(
            f"{named} ends in one number for each class, and an answer here is {task.words}: choose a "
            "network that takes `outputs`"
        )
    return {name: value for name, value in given.items() if any_name or name in parameters}


def build(
    model: Buildable,
    *,
    shape: Sequence[int],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    read_weights: bool = True,
    held: size.Held = HELD,
) -> Adapted:
    """The network that `model` describes, for pictures of `shape` (C, H, W) in [0, 1] and `classes` classes.

    mean, std: the dataset's, one a channel; a pretrained network brings its own.
    held: what it takes of the memory, which must be there (UserError).
    read_weights: False builds a pretrained network without its file, for weights of another file that are
    loaded next.
    """
    shape = tuple(int(n) for n in shape)
    with pretrained.reading(read_weights), size.within_memory(held):
        made = model.build(shape=shape, classes=int(classes))
    return Pictures(mean=mean, std=std).wrap(made, shape)
