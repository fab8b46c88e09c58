"""What may be done to a set of points: its points are in another order, which changes nothing of the
answer."""

import torch

from kdx.data.views.chain import Step


class Shuffle(Step):
    reads = "points"

    def __call__(self, x, draws, op):
        order = draws.uniform(op, x["mask"].shape[1]).argsort(1)
        points = torch.take_along_dim(x["points"], order[..., None], 1)
        return {"points": points, "mask": torch.take_along_dim(x["mask"], order, 1)}
