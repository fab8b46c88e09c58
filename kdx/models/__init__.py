"""Networks by name. A function a family; the data set's adapter wraps what it returns to take rows as the
data set gives them. Those here take normalised pixels, and wrapped pixels in [0, 1].

Adding one here is a function, `(*, shape, classes, dropout, stochastic_depth, ...) -> nn.Module`, and one
YAML in `conf/model/`; one that reads other rows says so by `reads`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from torch import nn

from kdx.core.errors import UserError, WrongPart, rows_called, type_name
from kdx.core.several import kinds_in
from kdx.core.task import Categorical, Task
from kdx.models import pretrained, size
from kdx.models.adapt import Adapted, Adapter, Fitted, PictureAdapter, in_units, reading_input
from kdx.models.ensemble import ensemble
from kdx.models.fusion import Fusion
from kdx.models.named_inputs import NamedInputs, asked_inputs, check_several, input_to_read
from kdx.models.renamed import OfOtherClasses, Renamed

HELD = size.Held()
_PICTURES = ("pictures",)
Function = TypeVar("Function", bound=Callable[..., Any])
_reads: dict[Any, tuple[str, ...]] = {Fusion: ()}


class Buildable(Protocol):
    """A model described but not built: a `kdx.store.component.Component`."""

    @property
    def target(self) -> str: ...

    @property
    def spec(self) -> dict[str, Any]: ...

    def without(self, key: str) -> Any: ...

    def build(self, **more: Any) -> Any: ...

    def resolve(self) -> Any: ...


def reads(*what: str) -> Callable[[Function], Function]:
    """Says what rows a model reads, where it is defined: the words that data sets of such rows have. Such a
    model takes `shape`, `outputs`, what its last layer needs to know (`Task.width`), and what the data set's
    adapter gives (`Adapter.arguments`). A model that says nothing reads pictures, and takes `shape` and
    `classes`, how many there are.
    """

    def say(function: Function) -> Function:
        _reads[function] = what
        return function

    return say


def rows_read(model: Buildable) -> tuple[str, ...]:
    """What rows a model says that it reads."""
    return _reads.get(model.resolve(), _PICTURES)


def misread(model: Buildable, called: str, reads: str) -> str | None:
    """Why a model goes with no input of the rows of a data set; None where it does."""
    wanted = rows_read(model)
    if model.resolve() is Fusion or any(kind in wanted for kind in kinds_in(reads)):
        return None
    read = " or ".join(map(rows_called, wanted))
    return f"{called} reads {read}, and this data set holds {rows_called(reads)}"


def check_reads(model: Buildable, called: str, reads: str, adapter: Adapter | None, key: str) -> None:
    """Whether the inputs that a model is to read are there, where rows have several. key: which names them,
    "teacher.reads" say. Raises UserError."""
    wanted, several = asked_inputs(key, model.spec.get("reads")), model.resolve() is Fusion
    if isinstance(adapter, NamedInputs):
        if several:
            check_several(adapter.kinds, wanted, len(model.spec["networks"]), called, key)
        else:
            input_to_read(adapter.kinds, wanted, rows_read(model), called, key)
    elif several:
        raise UserError(
            f"{called} reads several inputs of a row, and this data set holds {rows_called(reads)} alone: "
            "choose another network, or a data set of pairs"
        )
    elif wanted:
        raise UserError(
            f"{key}={','.join(wanted)} says which input of a row is read, and this data set holds "
            f"{rows_called(reads)} alone: leave it out"
        )


def build_for(
    model: Buildable,
    *,
    task: Task,
    example: Mapping[str, tuple[Sequence[int], str]],
    reads: str,
    adapter: Adapter | None,
    read_weights: bool = True,
    held: size.Held = HELD,
    called: str | None = None,
) -> nn.Module:
    """The network that `model` describes, for rows of any kind. example, reads: as a data set describes them.

    `shape` is that of one row, or {name: shape}. held, read_weights: see `build`. called: what a refusal
    calls it, None: the name of its function. model: one that learned other classes than those of the task
    is a `kdx.models.renamed.OfOtherClasses`. Raises UserError where the network does not go with
    the rows or with the task.
    """
    function, places = model.resolve(), model.places if isinstance(model, OfOtherClasses) else None
    if function is ensemble:
        alike = partial(
            build_for, task=task, example=example, reads=reads, adapter=adapter, read_weights=read_weights
        )
        several: nn.Module = model.build(build=alike, task=task)
        return several
    named = called or model.target.rpartition(".")[2]
    check_reads(model, named, reads, adapter, "reads")
    if isinstance(adapter, NamedInputs):

        def reading(one: Buildable, name: str, called: str | None = None) -> nn.Module:
            network = build_for(
                one.without("reads"),
                task=task,
                example={"": example[name]},
                reads=adapter.kinds[name],
                adapter=adapter.inputs[name],
                read_weights=read_weights,
                held=held,
                called=called,
            )
            return reading_input(network, name)

        if function is Fusion:
            return _fused(model, named, task, adapter, reading)
        wanted = asked_inputs("reads", model.spec.get("reads"))
        return reading(model, input_to_read(adapter.kinds, wanted, rows_read(model), named, "reads"), called)
    if wrong := misread(model, named, reads):
        raise UserError(f"{wrong}: choose a network that reads those")
    shapes = {name: tuple(map(int, shape)) for name, (shape, _) in example.items()}
    shape: Any = shapes[""] if set(shapes) == {""} else shapes
    inner = shape if adapter is None else adapter.shape(shape)
    more = adapter.arguments() if adapter is not None and function in _reads else {}
    with pretrained.reading(read_weights), size.within_memory(held):
        made = model.build(shape=inner, **more, **_ending(function, named, task, places))
    if not isinstance(made, nn.Module | Fitted):
        raise WrongPart(f"{named} gives {type_name(made)}, and must give a torch.nn.Module")
    units = task.units()
    if places is not None and isinstance(task, Categorical):
        units = Renamed(places, len(task.classes))
    return in_units(made if adapter is None else adapter.wrap(made, shape), units)


def _fused(
    model: Buildable, named: str, task: Task, adapter: NamedInputs, reading: Callable[..., nn.Module]
) -> nn.Module:
    """reading: makes the network of a description that reads the input of a name."""
    wanted, left = asked_inputs("reads", model.spec.get("reads")), dict(adapter.kinds)

    def build(one: Buildable, place: int) -> nn.Module:
        asked, short = wanted[place : place + 1], one.target.rpartition(".")[2]
        kinds = adapter.kinds if asked else left
        name = input_to_read(kinds, asked, rows_read(one), f"{short} of {named}", "reads")
        left.pop(name, None)
        return reading(one, name)

    fused: nn.Module = model.without("reads").build(build=build, outputs=task.width)
    return in_units(fused, task.units())


def _ending(function: Any, named: str, task: Task, places: Sequence[int] | None = None) -> dict[str, Any]:
    """What a network knows of its last layer."""
    if function in _reads:
        return {"outputs": task.width if places is None else len(places)}
    if not isinstance(task, Categorical):
        raise UserError(
            f"{named} ends in one number for each class, and an answer here is {task.words}: choose a "
            "network that takes `outputs`"
        )
    return {"classes": len(task.classes if places is None else places)}


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
        wide = "outputs" if model.resolve() in _reads else "classes"
        made = model.build(shape=shape, **{wide: int(classes)})
    return PictureAdapter(mean=mean, std=std).wrap(made, shape)
