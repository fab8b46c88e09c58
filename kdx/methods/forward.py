"""What the losses on labels and a pool share: one forward pass over the rows of both, and the terms and
monitors that are made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor, nn

from kdx.core.math import cross_entropy, margin
from kdx.core.task import Task
from kdx.core.trees import divided, joined, rows_of
from kdx.core.types import Answers, Batch, Inputs, Monitor, Outcome, Shown, Streams, Teacher, Weighting
from kdx.methods.hidden_terms import Added, HiddenTerms


@dataclass(frozen=True)
class Joint:
    """y: classes of the L labelled rows. known (L, C), own (P, C): the student's logits of these and of the P
    pool rows. features: their terms. class_weights: (C,) of the labels' cross-entropy, or None.

    answers (P, C), weight (P,) in [0, 1]: the teacher's logits of the pool rows and how far they are
    weighted; None until they are asked for.
    """

    y: Tensor
    known: Tensor
    own: Tensor
    features: Added
    class_weights: Tensor | None
    answers: Tensor | None = None
    weight: Tensor | None = None

    def outcome(self, losses: Tensor, **rows: Tensor) -> Outcome:
        """(sum over labelled rows of cross-entropy + sum over pool rows of weight * losses) / all rows, and
        the features' terms.

        losses: (P,). rows: further monitors with one value a pool row, by name.
        """
        total = len(self.known) + len(self.own)
        return Outcome(
            terms=self.features.beside(
                {
                    "labels": self.labels().sum() / total,
                    "pool": (self.weight * losses).sum() / total,
                }
            ),
            monitors=self.monitors() | {f"unlabelled/{name}": values for name, values in rows.items()},
        )

    def labels(self) -> Tensor:
        """(L,) cross-entropy of the labelled rows."""
        return cross_entropy(self.known, self.y, self.class_weights)

    def monitors(self) -> dict[str, Monitor]:
        return {
            "agreement": lambda: (self.own.argmax(1) == self.answers.argmax(1)).float().mean(),
            "unlabelled/weight": self.weight,
            "unlabelled/student_margin": student_margin(self.own),
        }


def student_margin(own: Tensor) -> Tensor:
    """(P, C) logits -> (P,) in [0, 1], without gradient"""
    return margin(own.detach().float().softmax(1))


@dataclass(frozen=True)
class OnePass:
    """batches: the labelled rows, and those of a pool where there is one. shown: the inputs of all of them.
    said: the student's answers; known, own: those to the labelled rows, and to the others.
    """

    batches: Sequence[Batch]
    shown: Inputs
    said: Answers
    known: Answers
    own: Answers

    def seen(self, progress: float) -> Shown:
        """For terms on hidden features."""
        return Shown(self.shown, self.batches, self.said, progress)


def one_pass(streams: Streams, student: nn.Module, pools: Sequence[str]) -> OnePass:
    """One forward pass over the labelled rows and those of the `pools` that are there, of any task, so that
    batch normalisation sees all.
    """
    batches, shown = rows_of_step(streams, pools)
    said = student(shown)
    return OnePass(batches, shown, said, *known_and_own(said, len(streams["labelled"])))


def rows_of_step(streams: Streams, pools: Sequence[str]) -> tuple[list[Batch], Inputs]:
    """(the labelled rows, and those of the `pools` that are there; the inputs of all of them)"""
    batches = [streams["labelled"], *(streams[name] for name in pools if name in streams)]
    return batches, joined([batch.views["main"] for batch in batches])


def known_and_own(said: Answers, labelled: int) -> list[Answers]:
    """Answers to the rows of a step, of which so many are labelled: those to them, and to the others."""
    return divided(said, [labelled, rows_of(said) - labelled])


class AnswerLoss(Protocol):
    """What a loss has that compares the student's answers with the teacher's, to the labelled rows and those
    of a pool where there is one."""

    student: nn.Module
    teacher: Teacher
    task: Task
    may_use: Sequence[str]


@dataclass(frozen=True)
class TaughtPass(OnePass):
    """answers: the teacher's to all of the rows."""

    answers: Answers
    task: Task

    def monitors(self) -> dict[str, Monitor]:
        return {"agreement": lambda: self.task.agreement(self.said, self.answers).float().mean()}

    def apart_and_known(
        self, y: Answers, temperature: float, class_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Two means: of all rows the distance from the teacher, of the labelled rows the task's own loss."""
        if len(self.batches) == 1:
            both = self.task.match_and_loss(self.said, self.answers, y, temperature, class_weights)
            return both[0].mean(), both[1].mean()
        known = self.task.loss(self.known, y, class_weights).mean()
        return self.task.match(self.said, self.answers, temperature).mean(), known

    def outcome(self, added: Added, terms: Mapping[str, Tensor]) -> Outcome:
        """added: the terms on hidden features; terms: those of the loss."""
        return Outcome(added.beside(terms), self.monitors())


def taught_pass(loss: AnswerLoss, streams: Streams) -> TaughtPass:
    """`one_pass`, and the teacher's answers to its rows."""
    made = one_pass(streams, loss.student, loss.may_use)
    answers = joined([loss.teacher(batch) for batch in made.batches])
    return TaughtPass(**vars(made), answers=answers, task=loss.task)


def forward(
    streams: Streams,
    student: nn.Module,
    features: HiddenTerms,
    class_weights: Tensor | None,
    progress: float,
) -> Joint:
    """One forward pass over the labelled and the pool rows together,
    so that batch normalisation sees both.
    """
    made = one_pass(streams, student, ("unlabelled",))
    added = features(made.seen(progress))
    return Joint(streams["labelled"].y, made.known, made.own, added, class_weights)


class PoolLoss(Protocol):
    """What a loss has that weighs a teacher's answers to a pool."""

    student: nn.Module
    teacher: Teacher
    features: HiddenTerms
    weights: Weighting
    class_weights: Tensor | None


def forward_with_teacher(loss: PoolLoss, streams: Streams, progress: float) -> Joint:
    """`forward`, with the teacher's answers and their weights."""
    joint = forward(streams, loss.student, loss.features, loss.class_weights, progress)
    return weigh_answers(joint, loss.teacher(streams["unlabelled"]), loss.weights)


def weigh_answers(joint: Joint, answers: Tensor, weights: Weighting) -> Joint:
    return replace(joint, answers=answers, weight=weights(answers, joint.own.detach()))
