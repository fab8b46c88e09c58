"""Made-up point sets: up to 12 points in the plane, and where their middle lies and how far they reach."""

import numpy as np

import points_guest.task  # noqa: F401 (a change of the task redoes the runs)
from kdx.data.raw import Arrays, Description

MOST = 12
TASK = {"_target_": "points_guest.task.Numbers", "names": ["x", "y", "reach"]}


def draw(rows, seed):
    """points (N, 12, 2) float32, mask (N, 12) bool of those that are there, and what is to be known of
    them."""
    random = np.random.default_rng(seed)
    mask = np.arange(MOST) < random.integers(3, MOST + 1, (rows, 1))
    middle, reach = random.normal(size=(rows, 1, 2)), random.uniform(0.2, 2, (rows, 1, 1))
    points = (middle + reach * random.normal(size=(rows, MOST, 2))) * mask[..., None]
    count = mask.sum(1)[:, None]
    mean = points.sum(1) / count
    spread = np.sqrt((((points - mean[:, None]) ** 2).sum(2) * mask).sum(1, keepdims=True) / count)
    return {"points": points.astype(np.float32), "mask": mask}, np.hstack([mean, spread]).astype(np.float32)


class Points:
    """rows: of the train part; a quarter as many are shipped to test with."""

    def __init__(self, *, rows):
        self.rows = rows

    def files(self):
        return []

    def fetch(self):
        pass

    def describe(self):
        example = {"points": ((MOST, 2), "float32"), "mask": ((MOST,), "bool")}
        return Description(TASK, example, "points", self.rows, test=self.rows // 4)

    def load(self, workers):
        parts = {"train": draw(self.rows, 1), "test": draw(self.rows // 4, 2)}
        return Arrays(parts, TASK, "points", noun="set")
