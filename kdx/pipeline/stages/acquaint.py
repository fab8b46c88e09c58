"""Steps of views that must know the rows before they change one."""

from __future__ import annotations

from collections.abc import Iterable

from kdx.data.views.chain import Mixer, Step
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import build_adapter
from kdx.store.artifact import Artifact
from kdx.training.runtime import Runtime

_SHOWN = ("labelled", "unlabelled")
"""Splits of which views are shown."""


def meet_rows(steps: Iterable[tuple[str, Step | Mixer]], data: Artifact, runtime: Runtime) -> list[str]:
    """Lets each step that asks for it know what rows there are; what there is to say."""
    asking = [step for _, step in steps if isinstance(step, Step) and step.reads_stored]
    if not asking:
        return []
    adapter = build_adapter(data.json("data.json"))
    files = adapter.files() if adapter else {}
    splits = {name: found for name in _SHOWN if (found := open_split(data, name, runtime)) is not None}
    rows = {name: split.inputs for name, split in splits.items()}
    return [text for step in asking for text in step.meet(files, rows)]
