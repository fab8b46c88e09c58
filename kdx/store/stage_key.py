"""The key of a stage: a hash of its inputs in a canonical form, and of the code behind them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.store.artifact import Artifact
from kdx.store.component import Component, targets
from kdx.store.digest import code_digest, remembering
from kdx.store.manifest import key_of
from kdx.store.source import Source
from kdx.store.stage import Stage


def key_with_inputs(stage: Stage, inputs: Mapping[str, Any], remembered: Path) -> tuple[str, dict[str, Any]]:
    """(64 hexadecimal digits, the canonical inputs behind them). A type that has no canonical form is a
    TypeError.

    remembered: the file that keeps between commands what is known of code.
    """
    specs: list[str] = []
    what = {name: _canonical(value, specs) for name, value in sorted(inputs.items())}
    with remembering(remembered):
        code = code_digest([stage.module, *specs])
    whole = {"stage": stage.name, "version": stage.version, "inputs": what, "code": code}
    return key_of(whole), whole


def _canonical(value: Any, specs: list[str]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_canonical(v, specs) for v in value]
    if isinstance(value, Mapping):
        if odd := [k for k in value if not isinstance(k, str)]:
            raise TypeError(
                f"{type(odd[0]).__name__} cannot name a part of a key, where 1 and '1' "
                f"would be one: {odd[0]!r}"
            )
        return {k: _canonical(v, specs) for k, v in value.items()}
    if isinstance(value, Component):
        specs += targets(value.spec)
        spec = {k: v for k, v in value.spec.items() if k not in value.places}
        return {"component": spec, "sources": {k: s.digest() for k, s in sorted(value.sources.items())}}
    if isinstance(value, Source):
        return {"source": value.digest()}
    if isinstance(value, Artifact):
        return {"artifact": f"{value.stage}/{value.key}"}
    raise TypeError(f"{type(value).__name__} cannot be part of a key: {value!r}")
