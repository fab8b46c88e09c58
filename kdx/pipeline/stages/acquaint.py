"""Steps of views that must know the rows before they change one."""

from __future__ import annotations

from collections.abc import Iterable

from kdx.core.trees import leaves
from kdx.core.types import Inputs, Split
from kdx.data.views.chain import Mixer, Step
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import build_adapter
from kdx.store.artifact import Artifact
from kdx.training.length import trained_on
from kdx.training.runtime import Runtime


def meet_rows(steps: Iterable[tuple[str, Step | Mixer]], data: Artifact, runtime: Runtime) -> list[str]:
    """Lets each step that asks for it know what rows there are; what there is to say."""
    asking = [step for _, step in steps if isinstance(step, Step) and step.reads_stored]
    if not asking:
        return []
    about = data.json("data.json")
    adapter = build_adapter(about)
    files = adapter.files() if adapter else {}
    opened = {name: open_split(data, name, runtime) for name in trained_on(about["counts"])}
    splits = {name: split for name, split in opened.items() if split is not None}
    return [
        text
        for step in asking
        for text in step.meet(files, {name: _own(step, split) for name, split in splits.items()})
    ]


def _own(step: Step, split: Split) -> Inputs:
    """The rows that a step changes: of rows with several inputs the first that it reads."""
    name = next((name for name, kind in split.kinds.items() if kind == step.reads), None)
    return split.inputs if name is None else leaves(split.inputs)[name]
