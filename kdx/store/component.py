"""Things described, not built yet, as plain JSON. Describing imports no torch."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kdx.core import checks
from kdx.core.errors import UserError
from kdx.store.moved import current
from kdx.store.resolve import place_of, resolve
from kdx.store.source import Source


class Component:
    """A class or function with its arguments, as plain JSON under `_target_`; `build` imports it late.

    spec: {"_target_": "package.module.name", argument: JSON}; a nested mapping with a `_target_` of its own
    is handed on as a Component. sources: what it reads from outside, each under the role that it has, `train`
    say. places: arguments that only tell where that lies, by default those called like the sources: `build`
    gets them as they stand in the spec, and a key holds role and content in place of them.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        sources: Mapping[str, Source] | None = None,
        places: Iterable[str] | None = None,
    ):
        if not isinstance(spec.get("_target_"), str):
            raise UserError(
                "a component needs a _target_, the address of its code such as kdx.methods.losses.kd.KD; "
                f"given: {checks.shown(spec)}"
            )
        self.spec = current(json.loads(json.dumps(spec)))
        self.sources = dict(sources or {})
        self.places = frozenset(self.sources if places is None else places)

    @property
    def target(self) -> str:
        return self.spec["_target_"]

    def build(self, *args: Any, **more: Any) -> Any:
        """The object, all of whose arguments its checks allow. Raises UserErrors with every one that they
        refuse, and hands nothing on.
        """
        with checks.whole():
            return self.call(*args, **more)

    def call(self, *args: Any, **more: Any) -> Any:
        """`build` for a function that does work, whose errors are not those of its arguments."""
        arguments = {k: _slots(v) for k, v in self.spec.items() if k != "_target_"}
        made = resolve(self.target)
        try:
            return made(*args, **arguments, **more)
        except TypeError as error:
            # the call itself: a key too many or too few
            if error.__traceback__ and error.__traceback__.tb_next is None:
                if lacking := sorted(getattr(made, "__abstractmethods__", ())):
                    raise UserError(
                        f"{self.target} cannot be built: it lacks {', '.join(lacking)}, which its base class "
                        f"asks for{place_of(self.target)}"
                    ) from error
                raise UserError(
                    f"{self.target} does not take these keys: {error}{place_of(self.target)}"
                ) from error
            raise

    def build_as(self, kind: type, refusal: str, *, complete: bool = False) -> Any:
        """`build`, but of a class derived from `kind` only: nothing else is called. complete: one that lacks
        a method which `kind` asks for is refused as well. Raises UserError with the refusal.
        """
        made = self.resolve()
        fits = isinstance(made, type) and issubclass(made, kind)
        if not fits or (complete and inspect.isabstract(made)):
            raise UserError(refusal + place_of(self.target))
        return self.build()

    def resolve(self) -> Any:
        return resolve(self.target)

    def without(self, key: str) -> Component:
        """The same without one argument."""
        return Component({k: v for k, v in self.spec.items() if k != key}, self.sources, self.places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and (self.spec, self.sources, self.places) == (
            other.spec,
            other.sources,
            other.places,
        )

    def __repr__(self) -> str:
        return f"Component({self.spec})"


def _slots(value: Any) -> Any:
    if isinstance(value, dict):
        return Component(value) if "_target_" in value else {k: _slots(v) for k, v in value.items()}
    return [_slots(v) for v in value] if isinstance(value, list) else value


def terms_of(loss: Mapping[str, Any]) -> dict[str, Any]:
    """name -> spec of what stands in the slot `features` of a loss: several by name, or one alone, as the
    user's own option may have it."""
    slot = loss.get("features")
    if not isinstance(slot, Mapping):
        return {}
    if isinstance(target := slot.get("_target_"), str):
        return {target.rpartition(".")[0].rpartition(".")[2] or target: slot}
    return dict(slot)


def targets(value: Any) -> Iterator[str]:
    """Every `_target_` inside a JSON value."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value["_target_"]
        for inner in value.values():
            yield from targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from targets(inner)
