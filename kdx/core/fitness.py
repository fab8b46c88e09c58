"""Whether something goes with a task."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdx.core.errors import UserError
from kdx.core.task import Categorical, Numeric, Task


@dataclass(frozen=True)
class Fitness:
    """A check of whether something goes with a task. Kept together so that all refuse in one sentence."""

    name: str
    needs: type[Task]
    remedies: str = field(default="choose another")

    def check(self, task: Task) -> None:
        """Raises UserError where the task is of another kind."""
        if not isinstance(task, self.needs):
            known = {Categorical: "the probabilities of classes", Numeric: "numbers"}
            reads = known[self.needs] if self.needs in known else self.needs.words
            raise UserError(f"{self.name} reads {reads}, and an answer here is {task.words}: {self.remedies}")
