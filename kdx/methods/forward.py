"""What the losses on labels and a pool share: one forward pass over the rows of both, and the terms and
monitors that are made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from kdx.core.math import cross_entropy, margin
from kdx.core.trees import divided, joined, rows_of
from kdx.core.types import Answers, Batch, Inputs, Outcome, Shown, Streams, Teacher, Weighting
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

    def monitors(self) -> dict[str, Tensor]:
        return {
            "agreement": (self.own.argmax(1) == self.answers.argmax(1)).float().mean(),
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
    labelled = streams["labelled"]
    batches = [labelled, *(streams[name] for name in pools if name in streams)]
    shown = joined([batch.views["main"] for batch in batches])
    said = student(shown)
    return OnePass(batches, shown, said, *divided(said, [len(labelled), rows_of(said) - len(labelled)]))


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


def forward_with_teacher(
    streams: Streams,
    student: nn.Module,
    features: HiddenTerms,
    teacher: Teacher,
    weights: Weighting,
    class_weights: Tensor | None,
    progress: float,
) -> Joint:
    """`forward`, with the teacher's answers and their weights."""
    joint = forward(streams, student, features, class_weights, progress)
    return weigh_answers(joint, teacher(streams["unlabelled"]), weights)


def weigh_answers(joint: Joint, answers: Tensor, weights: Weighting) -> Joint:
    return replace(joint, answers=answers, weight=weights(answers, joint.own.detach()))
