"""Learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282): the network before a session teaches the
one after it, on the new rows alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdx.core.checks import number
from kdx.core.errors import UserError
from kdx.core.math import NARROWED, cross_entropy, soft_cross_entropy
from kdx.core.task import Categorical
from kdx.core.trees import joined
from kdx.core.types import Objective, Outcome, Parts, Streams


class LwF(Objective):
    """loss = mean over labelled and memory rows of the cross-entropy within the head of the row's class
    + weight * the sum over old heads of the mean, over the same rows, of the cross-entropy of the student's
    softened probabilities within that head to the old network's (equations 2, 3 and 5 of the paper; no T^2).

    A head is a list of classes, by their numbers, among which a softmax is taken: the network has one last
    layer for all classes from the start. temperature > 0, weight (lambda) >= 0. What the recipe `continual`
    sets: heads, all that have come so far (None: one, of all classes); old, those that the old network
    answers within; kept, the classes whose rows of the last layer are put back after each step, as where
    there is no memory of them. Without a memory and with weight 0 or no old head it is fine-tuning.

    In place of the paper's warm-up of the new head all of the network is trained from the first step on.
    The old network stands in eval mode.
    """

    uses = ("labelled",)
    may_use = ("memory",)
    needs_task = Categorical
    sessions = True
    """Whether the recipe `continual` may set heads."""

    def __init__(
        self,
        parts: Parts,
        *,
        temperature: float,
        weight: float,
        # the recipe's
        heads: Sequence[Sequence[int]] | None = None,
        old: Sequence[Sequence[int]] = (),
        kept: Sequence[int] = (),
    ):
        super().__init__(parts)
        self.temperature = number("loss.temperature", temperature, low=0, open_low=True)
        self.weight = number("loss.weight", weight, low=0)
        self.teacher = parts.teacher
        count = parts.task.width if isinstance(parts.task.width, int) else 0
        every = list(range(count))
        self.old = [list(head) for head in old]
        if heads is None:  # one session alone: the teacher's answers among all classes
            heads, self.old = [every], [every]
        for place, head in enumerate(self.old):  # on the device, as a list would go there in each step
            self.register_buffer(f"old_{place}", torch.tensor(head), persistent=False)
        self.register_buffer("among", _same_head(heads, count), persistent=False)
        self.layer = head_layer(parts.student, count) if kept else None
        where = torch.tensor(list(kept), dtype=torch.int64)
        self.register_buffer("kept", where, persistent=False)
        before = [tensor.detach()[where].clone() for tensor in self._of_layer()]
        for name, value in zip(("weight", "bias"), before, strict=False):
            self.register_buffer(f"kept_{name}", value, persistent=False)

    among: Tensor
    """(K, K) float: 1 where two classes are of one head."""
    kept: Tensor

    @property
    def asks(self) -> bool:
        """Whether the old network's answers count."""
        return bool(self.old) and self.weight > 0 and self.teacher is not None

    def forward(self, streams: Streams, progress: float) -> Outcome:
        batches = [streams[name] for name in ("labelled", "memory") if name in streams]
        logits = self.student(joined([batch.views["main"] for batch in batches]))
        said = logits.split([len(batch) for batch in batches])
        known = [
            cross_entropy(self.within_head(answers, batch.y), batch.y, self.class_weights)
            for answers, batch in zip(said, batches, strict=True)
        ]
        terms = {"labels": torch.cat(known).mean()}
        if self.asks:
            taught = torch.cat([self.teacher(batch) for batch in batches])
            heads = [getattr(self, f"old_{place}") for place in range(len(self.old))]
            apart = [
                soft_cross_entropy(logits[:, head], taught[:, head], self.temperature).mean()
                for head in heads
            ]
            terms["old"] = self.weight * torch.stack(apart).sum()
        return Outcome(terms)

    def within_head(self, logits: Tensor, y: Tensor) -> Tensor:
        """(B, K): the logits, those of other heads than the true class's ruled out. y: (B,) classes, or (B,
        K) where rows were mixed, of whose classes all heads count."""
        among = self.among[y] if y.dim() == 1 else y.to(self.among) @ self.among
        return logits.masked_fill(among == 0, NARROWED)

    @torch.no_grad()
    def after_step(self) -> None:
        for name, tensor in zip(("weight", "bias"), self._of_layer(), strict=False):
            tensor[self.kept] = getattr(self, f"kept_{name}")

    def _of_layer(self) -> list[Tensor]:
        """Weight and bias of the last layer; nothing where no class of it is kept."""
        if self.layer is None:
            return []
        return [self.layer.weight] + ([] if self.layer.bias is None else [self.layer.bias])


def _same_head(heads: Sequence[Sequence[int]], classes: int) -> Tensor:
    """(K, K). A class of no head stands alone."""
    among = torch.eye(classes)
    for head in heads:
        rows = torch.tensor(list(head))
        among[rows[:, None], rows] = 1
    return among


def head_layer(network: nn.Module, classes: int) -> nn.Linear:
    """The linear layer that gives the logits. Raises UserError where there is none."""
    linear = [part for part in network.modules() if isinstance(part, nn.Linear)]
    if linear and linear[-1].out_features == classes:
        return linear[-1]
    raise UserError(
        f"loss=lwf keeps the heads of old tasks as they were, rows of the last layer, and "
        f"{type(network).__name__} does not end in a linear layer of {classes} classes: choose a network "
        "that does, such as student=cnn_small, or recipe.heads=single"
    )
