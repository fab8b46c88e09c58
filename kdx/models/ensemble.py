"""Several networks that answer as one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from kdx.core.task import Task
from kdx.core.types import Answers, Inputs


class NetworkEnsemble(nn.Module):
    """The mean of the answers of its members, as the task takes it. Its size and its cost are the sums of
    theirs.
    """

    def __init__(self, members: Sequence[nn.Module], task: Task):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.task = task

    def forward(self, inputs: Inputs) -> Answers:
        return self.task.mean([member(inputs) for member in self.members])
