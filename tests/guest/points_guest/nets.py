"""Networks that read sets: each point by itself, then the mean and the largest of what is there."""

import torch
from torch import nn

from kdx.models import reads


class Sets(nn.Module):
    def __init__(self, hidden, outputs):
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, inputs):
        there = inputs["mask"][..., None].to(inputs["points"].dtype)
        each = self.each(inputs["points"]) * there
        mean = each.sum(1) / there.sum(1).clamp_min(1)
        return self.head(torch.cat([mean, each.amax(1)], 1))


@reads("points")
def sets(*, shape, outputs, hidden):
    return Sets(hidden, outputs)
