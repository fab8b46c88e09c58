"""What the losses on labels and a pool share: one forward pass over the rows of both, and the terms and
monitors that are made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from kdx.core.math import cross_entropy, margin
from kdx.core.trees import divided, joined, rows_of
from kdx.core.types import Answers, Batch, Features, Outcome, Streams, Teacher, Weighting


@dataclass(frozen=True)
class Joint:
    """y: classes of the L labelled rows. known (L, C), own (P, C): the student's logits of these and of the P
    pool rows. features: terms. class_weights: (C,) of the labels' cross-entropy, or None.

    answers (P, C), weight (P,) in [0, 1]: the teacher's logits of the pool rows and how far they are
    weighted; None until they are asked for.
    """

    y: Tensor
    known: Tensor
    own: Tensor
    features: Mapping[str, Tensor]
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
            terms={
                "labels": self.labels().sum() / total,
                "pool": (self.weight * losses).sum() / total,
                **self.features,
            },
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
    """batches: the labelled rows, and those of a pool where there is one. said: the student's answers to all
    of them; known, own: those to the labelled rows, and to the others.
    """

    batches: Sequence[Batch]
    said: Answers
    known: Answers
    own: Answers


def one_pass(streams: Streams, student: nn.Module, pools: Sequence[str]) -> OnePass:
    """One forward pass over the labelled rows and those of the `pools` that are there, of any task, so that
    batch normalisation sees all.
    """
    labelled = streams["labelled"]
    batches = [labelled, *(streams[name] for name in pools if name in streams)]
    said = student(joined([batch.views["main"] for batch in batches]))
    return OnePass(batches, said, *divided(said, [len(labelled), rows_of(said) - len(labelled)]))


def forward(streams: Streams, student: nn.Module, features: Features, class_weights: Tensor | None) -> Joint:
    """One forward pass over the labelled and the pool rows together,
    so that batch normalisation sees both.
    """
    labelled, pool = streams["labelled"], streams["unlabelled"]
    shown = joined([labelled.views["main"], pool.views["main"]])
    known, own = student(shown).split([len(labelled), len(pool)])
    return Joint(labelled.y, known, own, features(shown), class_weights)


def forward_with_teacher(
    streams: Streams,
    student: nn.Module,
    features: Features,
    teacher: Teacher,
    weights: Weighting,
    class_weights: Tensor | None,
) -> Joint:
    """`forward`, with the teacher's answers and their weights."""
    joint = forward(streams, student, features, class_weights)
    return weigh_answers(joint, teacher(streams["unlabelled"]), weights)


def weigh_answers(joint: Joint, answers: Tensor, weights: Weighting) -> Joint:
    return replace(joint, answers=answers, weight=weights(answers, joint.own.detach()))
