"""Teachers that move while the student learns from them (`teacher.update`), around any loss that reads a
teacher's answers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdx.core.checks import choice, number
from kdx.core.errors import UserError
from kdx.core.task import Categorical
from kdx.core.trees import joined, picked, rows_of, tree
from kdx.core.types import Answers, Batch, Frozen, Objective, Outcome, ParameterGroup, Parts, Streams, Teacher
from kdx.methods.teachers import Live
from kdx.methods.temperature import Tempered
from kdx.models.ema import Average, mean_teacher_decay
from kdx.models.modes import evaluating

_NOT_TAUGHT = ("labels", "critic")
"""Terms that come of no teacher's answer; all others of a loss are held back until a teacher is ready."""
_LOOKED_AT = 512
"""Validation rows at which readiness is looked at, at most."""


class Moving(Objective):
    """A loss whose teacher is a network that moves, a child of this one: saved, resumed, not exported.

    update: "ema", after each step teacher = decay * teacher + (1 - decay) * student (`begin`: teacher, from
    its own weights, so that both must be of one architecture, or student, from the student's, by Mean
    Teacher's rule min(1 - 1 / (step + 1), decay)); "slow", the teacher goes on learning the labels at `rate`
    times the stage's learning rate; "alternate", likewise, and takes turns: the student moves at even steps,
    the teacher at odd ones. beta, of slow and alternate, in [-1, 1]: the teacher's loss is that of the labels
    + beta * the total variation distance, in [0, 1], between its and the student's probabilities of the
    labelled rows: above 0 it stays where the student can follow (help), below 0 it moves away (challenge).
    The terms of the loss but its labels are 0 until the share `delay` of the training is done and the
    teacher's value on validation of the metric that counts was `ready` at the last refresh; 0: at once.

    Watched: `teacher/lag`, its accuracy less the student's on the labelled rows of the batch, where the loss
    asks about these or the teacher learns them; at each refresh, on validation (the first 512 rows), its
    metric, its lead, and its stability, the agreement with what it answered at the refresh before.
    Limits: decay 1 and rate 0 are a teacher that stands, bit for bit where the networks have no dropout.
    Cost: a live teacher's pass; of slow and alternate also one forward and backward over the labelled rows,
    with beta a forward of the student too, and the gradient and moments of the teacher.
    """

    uses = ()

    def __init__(
        self,
        parts: Parts,
        *,
        loss: Any,
        update: str,
        decay: float,
        begin: str,
        rate: float,
        beta: float,
        delay: float,
        ready: float,
    ):
        super().__init__(parts)
        self.update = choice("teacher.update", update, ("ema", "slow", "alternate"))
        decay = number("teacher.decay", decay, low=0, high=1)
        self.rate = number("teacher.rate", rate, low=0)
        self.beta = number("teacher.beta", beta, low=-1, high=1)
        self.delay = number("teacher.delay", delay, low=0, high=1, open_high=True)
        high = math.inf if self.task.metric.high is None else self.task.metric.high
        self.ready = number("teacher.ready", ready, high=high)
        begin = choice("teacher.begin", begin, ("teacher", "student"))
        if self.ready and parts.validation is None:
            raise UserError(
                "teacher.ready waits for the teacher's value on validation, and this run has none: set "
                "dataset.validation=0.1, say, or leave it out"
            )
        if self.beta and not isinstance(self.task, Categorical):
            raise UserError(
                f"teacher.beta compares probabilities of classes, and an answer here is {self.task.words}: "
                "leave it out"
            )
        if self.update != "ema" and not self.task.labels:
            raise UserError(
                f"teacher.update={update} lets the teacher go on with the labels, and an answer here is "
                f"{self.task.words}, without labels: set teacher.update=ema, or leave it out"
            )
        if len(parts.live_teachers) != 1:
            raise UserError(
                f"teacher.update={update} moves one network, and {len(parts.live_teachers)} teach here"
            )
        old = parts.live_teachers[0].network
        self.like_student = update == "ema" and begin == "student"
        self.average = _average(old, parts.student, begin, decay) if update == "ema" else None
        network = self.average.network if self.average else copy.deepcopy(old)
        frozen = Frozen(network)
        self.network = network.requires_grad_(self.learns)
        self._parts = (parts,)
        self.asked: dict[str, Answers] = {}
        self.inner: Objective = loss.build(
            replace(parts, teacher=self._answering(parts.teacher, frozen), live_teachers=[frozen])
        )
        for name in ("uses", "may_use", "extra_views", "whole_batch", "least_rows"):
            setattr(self, name, getattr(self.inner, name))
        self.register_buffer("is_ready", torch.tensor(not self.ready))
        self.register_buffer("has_taught", torch.tensor(False))
        self.register_buffer("best", torch.tensor(math.nan, dtype=torch.float64))
        self.register_buffer("before", self._no_answers(parts))

    is_ready: Tensor
    has_taught: Tensor
    best: Tensor
    """Of its values on validation."""
    before: Tensor | None

    @property
    def learns(self) -> bool:
        """Whether the teacher has a gradient of its own."""
        return self.update != "ema" and self.rate > 0

    def _answering(self, old: Teacher | None, network: Frozen) -> Teacher:
        """The teacher as it was asked before, with the network that moves."""
        temperature = old.temperature if isinstance(old, Tempered) else None
        inside = old.teacher if isinstance(old, Tempered) else old
        view = inside.view if isinstance(inside, Live) else "main"
        live = Live(network, view, self.task)

        def answer(batch: Batch) -> Answers:
            found = live(batch)
            self.asked[batch.split] = found
            return found

        return answer if temperature is None else Tempered(answer, temperature, self.task)

    def _no_answers(self, parts: Parts) -> Tensor | None:
        if parts.validation is None or not isinstance(self.task, Categorical):
            return None
        return torch.full((min(len(parts.validation), _LOOKED_AT), len(self.task.classes)), torch.nan)

    def train(self, mode: bool = True) -> Moving:
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, streams: Streams, progress: float) -> Outcome:
        self.asked.clear()
        with _recording(self.student) as said:
            outcome = self.inner(streams, progress)
        on = self.is_ready if progress >= self.delay else torch.zeros_like(self.is_ready)
        terms = {name: term if name in _NOT_TAUGHT else on * term for name, term in outcome.terms.items()}
        self.has_taught |= on
        monitors = {**outcome.monitors, "teacher/taught": on.float()}
        labelled = streams["labelled"]
        known: Answers | None = self.asked.get("labelled")
        if self.learns:
            more, known = self._lesson(labelled)
            terms |= more
        monitors |= self._lag(known, said, labelled)
        return Outcome(terms, monitors)

    def _lesson(self, labelled: Batch) -> tuple[dict[str, Tensor], Answers]:
        """(the teacher's own terms on labelled rows, its answers)"""
        shown = labelled.views["main"]
        self.network.train(self.training)
        known = self.network(shown)
        self.network.eval()
        terms = {"teacher/labels": self.task.loss(known, labelled.y, self.class_weights).mean()}
        if self.beta and isinstance(self.task, Categorical):
            with evaluating(self.student), torch.no_grad():
                own = self.task.probs(self.student(shown))
            distance = (self.task.probs(known) - own).abs().sum(1) / 2
            terms["teacher/student"] = self.beta * distance.mean()
        return terms, tree(Tensor.detach, known)

    def _lag(self, known: Answers | None, said: list[Answers], labelled: Batch) -> dict[str, Tensor]:
        """The student's answers to the labelled rows are the first of its pass, as in every loss of kdx."""
        y = labelled.y
        if known is None or not said or not isinstance(y, Tensor) or y.is_floating_point():
            return {}
        rows = len(labelled)
        if rows_of(said[0]) < rows or not isinstance(self.task, Categorical):
            return {}
        own = picked(said[0], slice(0, rows))
        right = [self.task.right(tree(Tensor.detach, answers), y) for answers in (known, own)]
        return {"teacher/lag": right[0].float().mean() - right[1].float().mean()}

    @torch.no_grad()
    def refresh(self) -> Mapping[str, float]:
        found = dict(self.inner.refresh())
        parts = self._parts[0]
        if parts.validation is None:
            return found
        teacher, truth = self._on_validation(self.network)
        student, _ = self._on_validation(self.student)
        metric = self.task.metric
        values = [self.task.quick(answers, truth)[metric.name] for answers in (teacher, student)]
        found |= {f"teacher/{metric.name}": values[0], "teacher/lead": metric.gain(values[0], values[1])}
        if self.best.isnan() or metric.gain(values[0], self.best.item()) > 0:
            self.best.fill_(values[0])
        if metric.gain(values[0], self.ready) >= 0:  # once it is, it stays so
            self.is_ready.fill_(True)
        found["teacher/ready"] = float(self.is_ready)
        if isinstance(teacher, Tensor) and self.before is not None:
            if not self.before.isnan().any():
                agreed = self.task.agreement(teacher, self.before.to(teacher)).float().mean()
                found["teacher/stability"] = agreed.item()
            self.before.copy_(teacher)
        return found

    def _on_validation(self, network: nn.Module) -> tuple[Answers, Answers]:
        """(its answers, the truth) of the first validation rows, clean"""
        answers, truth, rows = [], [], 0
        like = next(network.parameters())
        with evaluating(network):
            for batch in self._parts[0].validation.clean(_LOOKED_AT):
                answers.append(network(tree(lambda leaf: leaf.to(like.device), batch.views["main"])))
                truth.append(tree(lambda leaf: leaf.to(like.device), batch.y))
                rows += len(batch)
                if rows >= _LOOKED_AT:
                    break
        return joined(answers), joined(truth)

    def groups(self) -> Sequence[ParameterGroup]:
        groups = list(self.inner.groups())
        turns = self.update == "alternate" and self.learns
        if turns:
            groups = [replace(group, every=2 * group.every, at=2 * group.at) for group in groups]
        if self.learns:
            own = [p for p in self.network.parameters() if p.requires_grad]
            groups.append(ParameterGroup("teacher", own, self.rate, *((2, 1) if turns else ())))
        return groups

    def after_step(self) -> None:
        self.inner.after_step()
        if self.average is not None:
            self.average.update(self.student)

    def idle(self) -> Mapping[str, str]:
        return self.inner.idle()

    def cold_student(self) -> str | None:
        return self.inner.cold_student()

    def ended(self, progress: float) -> str | None:
        if self.has_taught:
            return self.inner.ended(progress)
        why, metric = f"before teacher.delay={self.delay:g} of it was done", self.task.metric
        remedy = "set teacher.delay lower, or train longer"
        if not self.is_ready:
            best = "never" if self.best.isnan() else f"{metric.text(self.best.item())} at best"
            why = (
                f"before the teacher was ready ({metric.title} on validation, looked at once an epoch: "
                f"{best}, and teacher.ready={self.ready:g})"
            )
            remedy = "set teacher.ready lower, or train longer"
        return f"the training ended {why}, so that it taught the student nothing: {remedy}"

    def curves(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        return self.inner.curves()

    def export(self) -> nn.Module:
        return self.inner.export()

    def moved(self) -> tuple[nn.Module, bool]:
        return self.network, self.like_student

    def describe_export(self, model: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.inner.describe_export(model)


def _average(teacher: nn.Module, student: nn.Module, begin: str, decay: float) -> Average:
    if begin == "student":
        return Average(student, rule=mean_teacher_decay, decay=decay)
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (teacher, student)]
    if shapes[0] != shapes[1]:
        raise UserError(
            "teacher.update=ema averages the student's weights into the teacher's, and these are networks of "
            "two architectures: choose one for both, or teacher.begin=student, an average of the student "
            "alone"
        )
    constant: Callable[[int, float], float] = lambda step, decay: decay  # noqa: E731
    return Average(teacher, rule=constant, decay=decay)


@contextmanager
def _recording(network: nn.Module) -> Iterator[list[Answers]]:
    """What the network answers inside, pass by pass."""
    found: list[Answers] = []
    handle = network.register_forward_hook(lambda module, given, made: found.append(made))
    try:
        yield found
    finally:
        handle.remove()
