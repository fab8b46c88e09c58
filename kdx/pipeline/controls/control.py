"""What a control is, and how it is trained. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kdx.core.checks import shown
from kdx.core.errors import UserError
from kdx.core.roles import ROLES
from kdx.pipeline.controls import CONTROLS
from kdx.store.component import Component
from kdx.training.length import total_steps, used

_ROLE = re.compile(r"[a-z]+(_[a-z]+)*")
TAKEN = frozenset(
    "attacks by_class classes class_counts floor gain gained_by gap_closed gap_closed_reason headline "
    "members metric metrics prequential privacy roles round_by round_chosen rounds sessions shifts "
    "worst".split()
)
"""Keys of a run's results that are no role."""
ALSO = ("unlabelled", "validation", None)
"""What `also` may say."""
_GREY = "#7b8794"


@dataclass(frozen=True)
class StudentAlone:
    """The student alone, as the matched baseline trains it: the labels' loss, and the model and the training
    of the distilled student.
    """

    loss: Component
    model: Component
    training: Component


class Control:
    """A student to compare the distilled one with. It learns from labels only, at the distilled student's
    number of steps and batch size, but for what a subclass says otherwise. A subclass is a file of its own;
    its keys in the configuration are the arguments of its constructor.
    """

    words: ClassVar[str] = ""
    """What tables call it; "": its role."""
    short: ClassVar[str] = ""
    """The same where there is little room."""
    colour: ClassVar[str] = _GREY
    """In plots."""
    noun: ClassVar[str] = ""
    """What `kdx plan` counts several of them as."""
    also: ClassVar[str | None] = None
    """The split whose labels it learns from beside the labelled rows: "unlabelled", the pool's hidden ones
    where they are known, or "validation", after which nothing validates it.
    """

    def loss(self, alone: StudentAlone) -> Component:
        return alone.loss

    def model(self, alone: StudentAlone) -> Component:
        return alone.model

    def training(self, alone: StudentAlone) -> Component:
        """Settings of kdx.training.settings.Training; its length is one key, `length="600 steps"`."""
        return alone.training

    def errors(self, sizes: Mapping[str, Any], rows: Mapping[str, int]) -> Iterator[str]:
        """Why it cannot be trained, one sentence each, before any work. sizes: of the splits, as they are
        asked for. rows: of each split, empty where they are not known.
        """
        yield from ()


@dataclass(frozen=True)
class ControlTraining:
    """A control with what it is trained with."""

    control: Control
    loss: Component
    model: Component
    training: Component

    @property
    def also(self) -> str | None:
        return self.control.also

    def on(self, counts: Mapping[str, int]) -> Component:
        """Its training. counts: rows of each split of the run."""
        return all_the_way(self.training, counts) if self.also == "validation" else self.training


def altered(component: Component, **keys: Any) -> Component:
    """The same thing with some keys otherwise."""
    return Component({**component.spec, **keys})


def all_the_way(training: Component, counts: Mapping[str, int]) -> Component:
    """The same training where validation's rows are learned from too: as many steps as without them, to the
    end, as nothing is left that tells when to stop. counts: rows of each split before. A limit on the
    labelled rows has these rows beside it."""
    spec = training.spec
    steps = total_steps(spec, used(counts, spec["rows"])["labelled"] + counts["unlabelled"], "student_train")
    return altered(
        training,
        length=f"{steps} steps",
        patience=None,
        target=None,
        rows=spec["rows"] and spec["rows"] + counts["validation"],
    )


def build_control(role: str, described: Component, alone: StudentAlone) -> ControlTraining:
    """Raises UserError where the role is none, what is described no control, or its `also` no such split."""
    if role not in CONTROLS and (not _ROLE.fullmatch(role) or role in TAKEN or role in ROLES):
        raise UserError(
            f"controls.{role} must have a name of its own, in lower-case words with _ between, such as "
            "controls.longer"
        )
    made: Control = described.build_as(
        Control,
        f"controls.{role}._target_ '{described.target}' is no control: a class that inherits from "
        "kdx.pipeline.controls.control.Control",
        complete=True,
    )
    if made.also not in ALSO:
        raise UserError(
            f'controls.{role}: `also` must be "unlabelled", "validation" or None; {type(made).__name__} says '
            f"{shown(made.also)}"
        )
    return ControlTraining(made, made.loss(alone), made.model(alone), made.training(alone))


def own_controls(controls: Mapping[str, ControlTraining]) -> dict[str, dict[str, str]]:
    """role -> {"words", "short", "colour"} of the controls that are not kdx's own, for whoever shows them."""
    return {
        role: {
            "words": trained.control.words or role.replace("_", " "),
            "short": trained.control.short or role.replace("_", " "),
            "colour": trained.control.colour,
        }
        for role, trained in controls.items()
        if role not in CONTROLS
    }
