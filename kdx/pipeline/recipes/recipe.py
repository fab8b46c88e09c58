"""What a recipe is: stages in order, with what it needs, and its own checks before work. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kdx.core.roles import Role
from kdx.core.rollouts import Rolling
from kdx.pipeline.recipes import checks
from kdx.pipeline.recipes.experiment import Experiment
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.stage import Stage
from kdx.store.store import Store


@dataclass(frozen=True)
class Request:
    """What is known of an experiment before any work.

    config: the plain values that it was wired from. rows: of each split, empty where they are not known.
    networks: options that read the rows of the data set, the one to suggest first; empty likewise. classes:
    of the data, None where they are not known.
    """

    experiment: Experiment
    config: Mapping[str, Any]
    rows: Mapping[str, int]
    networks: Sequence[str] = ()
    classes: Sequence[str] | None = None


class Recipe(ABC):
    """Which stages run in which order. A subclass is a file of its own; its keys in conf/recipe are the
    arguments of its constructor.
    """

    stages: ClassVar[tuple[Stage, ...]] = ()
    """Stages of its own, beside those of kdx: their names are checked before work."""
    teacher: ClassVar[bool] = True
    """Whether the student may learn from a teacher's answers, over rounds."""
    buys: ClassVar[bool] = False
    """Whether it buys answers, so that it needs a budget and a rule that buys."""
    assistants: ClassVar[bool] = False
    """Whether it teaches by way of networks between teacher and student, and takes the whole pool in one
    round for each.
    """
    takes_given: ClassVar[bool] = False
    """Whether answers that come in a file may stand in for its teacher: it asks once, about clean rows."""
    rolling: Rolling | None = None
    """How its student goes on with rows, so that the network must be a kdx.core.rollouts.RollsOut; None: it
    does not."""
    takes_text: ClassVar[bool] = False
    """Whether rows that the teacher goes on with may stand in for its answers."""
    untuned: ClassVar[bool] = False
    """Whether it can distil its student from the teacher before its fine-tuning too, to compare with."""
    reads_pool: ClassVar[bool | None] = None
    """Whether it has a use for the pool, whatever the loss; None: where the loss reads it."""
    audits: ClassVar[bool] = True
    """Whether its student learns from rows of the data set's pool, so that these can be looked at again."""
    predicts: ClassVar[bool] = True
    """Whether what its teacher and its controls answer to measured rows may be kept for other runs: not where
    these rows are private, nor where networks measure their answers by tasks of their own."""
    roles: ClassVar[Mapping[str, Role]] = {}
    """Networks of its own that are measured beside those of kdx, by role."""
    as_teacher: ClassVar[tuple[str, ...]] = ()
    """Those of them whose networks are built as the teacher is."""
    in_rounds: ClassVar[bool] = True
    """Whether its students by number are rounds of one task, which are compared with each other."""
    counts: ClassVar[str] = "validation"
    """The student that counts: "validation", of the best round on it; "last"; "chain", the one at its end."""

    @abstractmethod
    def run(self, store: Store, experiment: Experiment) -> None:
        """Asks the store for one stage after the other. It looks at nothing else: `kdx plan` runs it too,
        over a store in which nothing runs.
        """

    def together(self, done: Mapping[str, Artifact]) -> Mapping[str, Sequence[Artifact]]:
        """Role -> networks of its stages that are measured as one, the mean of their answers. done: by the
        name of the stage, as far as they were asked for.
        """
        return {}

    def results(self, done: Mapping[str, Artifact]) -> Mapping[str, Any]:
        """What it adds to the results in run.json, as plain data. done: see `together`."""
        return {}

    def errors(self, asked: Request) -> Iterator[str]:
        """Why this experiment cannot be run, one sentence each, before any work."""
        yield from checks.wrong_stages(self.stages)
        yield from checks.wrong_rule(self.buys, asked.experiment, asked.config, asked.rows)
        yield from checks.wrong_assistants(self.assistants, asked.experiment, asked.config, asked.networks)

    def check_teacher(self, network: Any) -> None:
        """Raises UserError where a teacher is no network that this recipe can learn from, before any work.
        network: a torch.nn.Module, built for the data."""
        return None

    def idle(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """(key, why it can never act) of settings that this recipe leaves without effect."""
        yield from checks.idle_rounds(self.teacher, config)

    def releases(self, experiment: Experiment) -> bool:
        """Whether a run made again is another release of the same rows, as its noise is drawn anew: what it
        promises of them is then less than either run says."""
        return False

    def alone(self, experiment: Experiment) -> str | None:
        """What its matched baseline learns, in words; None: the labels of the labelled rows, by its loss; "":
        there is none, as the labels that it would learn are not known."""
        return None

    def protocol(self, experiment: Experiment) -> list[str]:
        """What `kdx plan` tells of how it goes about it, one sentence each."""
        found = []
        if experiment.rounds > 1:
            which = "the last counts" if experiment.budget else "the best on validation counts"
            found.append(f"rounds: {experiment.rounds}, of which {which}")
        if experiment.aggregate:
            how = experiment.aggregate.target.split(".")[-2]
            found.append(f"teachers: the answers of {len(experiment.teachers)} become one by aggregate={how}")
        if experiment.assistants:
            found.append(
                f"assistants: {len(experiment.assistants)} between teacher and student, each taught by the "
                "one before and trained as the student is"
            )
        return found


def roles_in_words(roles: Mapping[str, Role]) -> dict[str, dict[str, str]]:
    """role -> {"words", "short", "colour"}, for whoever shows a recipe's own."""
    return {
        name: {"words": role.words, "short": role.short, "colour": role.colour}
        for name, role in roles.items()
    }


def build_recipe(recipe: Component) -> Recipe:
    """The recipe that a configuration describes. Raises UserError where its `_target_` is none."""
    made: Recipe = recipe.build_as(
        Recipe,
        f"recipe._target_ '{recipe.target}' is no recipe: a class that inherits from "
        "kdx.pipeline.recipes.recipe.Recipe and says what its method `run` does",
        complete=True,
    )
    return made
