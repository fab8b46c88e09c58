"""Born-again networks: generations of one student, each taught by the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdx.pipeline.recipes.distil import Distil
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Request
from kdx.pipeline.recipes.steps import students
from kdx.store.artifact import Artifact
from kdx.store.declared import declared
from kdx.store.stage import subseed


class BornAgain(Distil):
    """Born-again networks (Furlanello et al. 2018, arXiv 1805.04770): a generation is a student with first
    weights of its own, taught by the generation before, the first by the teacher. `rounds` are generations;
    that which is best on validation counts, and all of them together are the role "generations".

    The paper's students have the teacher's architecture (student=NAME of the teacher), and learn at
    temperature 1, from the answers alone (BAN: loss.alpha=1) or from labels too (BAN+L: loss.alpha=0.5, up to
    the factor 2).
    """

    takes_given = False
    takes_text = False
    untuned = False

    def of_round(self, experiment: Experiment, number: int) -> dict[str, Any]:
        return {"seed": subseed(experiment.seed, "student", number - 1)}

    def together(self, done: Mapping[str, Artifact]) -> dict[str, Sequence[Artifact]]:
        found = [made for number, made in students(done).items() if number]
        return {"generations": found} if len(found) > 1 else {}

    def errors(self, asked: Request) -> Iterator[str]:
        yield from super().errors(asked)
        if asked.experiment.rounds == 1:
            yield (
                "recipe=born_again has a generation for each round, and rounds=1 is recipe=distil: set "
                "rounds=3"
            )
        loss = asked.experiment.loss
        if loss and not declared(loss.target, "reads", ("answers",)):
            yield (
                "recipe=born_again lets the generation before teach the next, and "
                f"loss={asked.config['choices']['loss']} learns from no teacher: choose another loss, "
                "such as kd, or leave recipe= out"
            )
