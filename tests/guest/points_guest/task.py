"""Several numbers a row; the mean absolute error, of which less is better; no confidence."""

import torch

from kdx.core.metric import Metric
from kdx.core.task import Figure, Nothing, Task

MAE = Metric("mae", "mean absolute error", digits=4, more=False, low=0)
LARGEST = Metric("largest", "largest error", digits=3, more=False, low=0)
AGREEMENT = Metric("agreement", "distance from the teacher", digits=4, more=False, low=0)


class Numbers(Task):
    """names: of the numbers."""

    shown = {metric.name: metric for metric in (MAE, LARGEST, AGREEMENT)}
    primary = MAE.name
    paired = MAE
    words = "several numbers a row"

    def __init__(self, *, names):
        self.names, self.width = names, len(names)

    def loss(self, answers, truth, weights=None):
        return (answers - truth).square().mean(1)

    def match(self, student, teacher, temperature):
        return (student - teacher).square().mean(1)

    def agreement(self, student, teacher):
        return (student - teacher).abs().mean(1)

    def by_row(self, answers, truth):
        return (answers - truth).abs().double().mean(1)

    def metrics(self, answers, truth):
        errors = self.by_row(answers, truth)
        return {"mae": errors.mean().item(), "largest": errors.max().item()}

    def knowing_nothing(self, truth):
        return Nothing("the median of all rows", self.by_row(truth.median(0).values, truth))

    def details(self, answers, truth, part):
        counts, edges = torch.histogram(self.by_row(answers, truth), 8)
        data = {"edges": edges.tolist(), "counts": counts.long().tolist()}
        worst = (answers - truth).abs().max(0).values[None].tolist()
        matrix = {"rows": ["largest error"], "columns": list(self.names), "values": worst}
        figures = [Figure("Errors", "errors", "bars", data), Figure("Worst", "worst", "matrix", matrix)]
        return {"figures": [figure.document() for figure in figures]}

    def made_up(self, rows, generator=None):
        return torch.randn(rows, self.width, generator=generator)

    made_up_truth = made_up
