"""Noisy Student (Xie et al. 2020, arXiv 1911.04252): a noised student learns labels and the pseudo-labels of
an un-noised teacher.

The rest of the method lies elsewhere: rounds in the recipe, balance in `select`, the noise in augmentation,
dropout and stochastic depth.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdx.core.checks import choice, flag, number
from kdx.core.errors import Caution
from kdx.core.math import cross_entropy, smooth_cross_entropy
from kdx.core.task import Categorical
from kdx.core.trees import joined, rows_of
from kdx.core.types import Batch, Inputs, Objective, Outcome, Parts, Shown, Streams
from kdx.methods.forward import Joint, weigh_answers
from kdx.methods.hidden_terms import Added, HiddenTerms
from kdx.models.ema import optional_average


def pseudo_label_loss(
    logits: Tensor, answers: Tensor, *, hard: bool, temperature: float, smoothing: float
) -> Tensor:
    """(B, C) student, (B, C) teacher logits -> (B,) cross-entropy, nats: to softmax(answers / temperature),
    not smoothed; or with `hard` to the teacher's first choice, smoothed as labels are. temperature > 0,
    smoothing in [0, 1). As the authors' code.
    """
    if hard:
        return smooth_cross_entropy(logits, answers.argmax(dim=1), smoothing)
    return cross_entropy(logits, (answers / temperature).softmax(dim=1))


def layers(network: nn.Module) -> list[list[str]]:
    """The names of the parameters of each module that has some of its own, in order."""
    own = ((path, part.named_parameters(recurse=False)) for path, part in network.named_modules())
    found = [[f"{path}.{name}" if path else name for name, _ in parameters] for path, parameters in own]
    return [names for names in found if names]


def draw_frozen(count: int, rate: float) -> list[int]:
    """Which of `count` layers is frozen in this step, each with probability `rate`, from torch's CPU
    generator. Never all of them: should all be drawn, the last one learns.
    """
    drawn = (torch.rand(count) < rate).nonzero().flatten().tolist()
    return drawn if len(drawn) < count else drawn[:-1]


class NoisyStudent(Objective):
    """loss = mean over labelled rows of smoothed cross-entropy + unlabel_ratio * mean over pool rows of w *
    `pseudo_label_loss`.

    A sum weighted by the ratio, as in the authors' code, not a mean over all rows; the features' terms are
    added.

    batch: equal (as many labelled as pool rows) or ratio (unlabel_ratio pool rows to a labelled one, the
    authors' way): the share is set as student_train.labelled_share. joint: one forward pass over both, so
    that batch normalisation sees both; else one each. noise: which of the two are augmented (both, labelled,
    unlabelled, none), the others are shown clean. freeze in [0, 1): probability with which a layer takes no
    step (its running statistics go on). ema in [0, 1): decay of the average that is evaluated, saved and
    handed on; null: the student itself. weights, features: components, built with `parts`. Deviations: any
    optimiser and schedule, theirs decays no batch normalisation; no fine-tuning at a higher resolution; batch
    normalisation's running statistics are averaged with the weights.
    """

    uses = ("labelled", "unlabelled")
    needs_task = Categorical
    extra_views = ("clean",)

    def __init__(
        self,
        parts: Parts,
        *,
        hard: bool,
        temperature: float,
        smoothing: float,
        unlabel_ratio: float,
        batch: str,
        joint: bool,
        noise: str,
        freeze: float,
        ema: float | None,
        weights: Any,
        features: Any,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.kind = {
            "hard": flag("loss.hard", hard),
            "temperature": number("loss.temperature", temperature, low=0, open_low=True),
            "smoothing": number("loss.smoothing", smoothing, low=0, high=1, open_high=True),
        }
        self.unlabel_ratio = number("loss.unlabel_ratio", unlabel_ratio, low=0)
        choice("loss.batch", batch, ("equal", "ratio"))
        self.joint = flag("loss.joint", joint)
        self.noise = choice("loss.noise", noise, ("both", "labelled", "unlabelled", "none"))
        self.freeze = number("loss.freeze", freeze, low=0, high=1, open_high=True)
        self.whole_batch = self.freeze > 0  # layers are drawn once a step
        self.layers = layers(parts.student)
        self.average = optional_average(parts.student, ema)
        self.weights, self.features = weights.build(parts), HiddenTerms(features, parts)
        if parts.teacher_size is not None:
            warn_if_smaller(parts.student, parts.teacher_size)

    def idle(self) -> Mapping[str, str]:
        why = "it softens probabilities, and with loss.hard=true the teacher gives its first choice alone"
        return {"temperature": f"{why}: leave one of them out"} if self.kind["hard"] else {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        labelled, pool = streams["labelled"], streams["unlabelled"]
        shown = [
            batch.views["main" if self.noise in ("both", batch.split) else "clean"]
            for batch in (labelled, pool)
        ]
        batches = (labelled, pool)
        apart = [((batch,), rows) for batch, rows in zip(batches, shown, strict=True)]
        passes = [(batches, joined(shown))] if self.joint else apart
        logits, features = self.look(passes, progress)
        known, own = logits.split([len(labelled), len(pool)])
        joint = weigh_answers(
            Joint(labelled.y, known, own, features, self.class_weights), self.teacher(pool), self.weights
        )
        return Outcome(
            terms=features.beside(
                {
                    "labels": smooth_cross_entropy(
                        known, labelled.y, self.kind["smoothing"], self.class_weights
                    ).mean(),
                    "pool": self.unlabel_ratio
                    * (joint.weight * pseudo_label_loss(own, joint.answers, **self.kind)).mean(),
                }
            ),
            monitors=joint.monitors(),
        )

    def look(self, passes: Sequence[tuple[Sequence[Batch], Inputs]], progress: float) -> tuple[Tensor, Added]:
        """Logits of all rows, and the features' terms as their mean over all rows; the same layers is frozen
        in each pass.
        """
        still = draw_frozen(len(self.layers), self.freeze) if self.freeze else []
        fixed = {
            name: self.student.get_parameter(name).detach() for place in still for name in self.layers[place]
        }
        logits: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        alone: frozenset[str] = frozenset()
        rows = sum(rows_of(shown) for _, shown in passes)
        for batches, shown in passes:
            said = functional_call(self.student, fixed, (shown,)) if fixed else self.student(shown)
            logits.append(said)
            added = self.features(Shown(shown, batches, said, progress))
            alone = added.alone
            for name, term in added.terms.items():
                terms[name] = terms.get(name, 0.0) + term * (rows_of(shown) / rows)
        return torch.cat(logits), Added(terms, alone)

    def after_step(self) -> None:
        if self.average:
            self.average.update(self.student)

    def export(self) -> nn.Module:
        return self.average.network if self.average else self.student


def warn_if_smaller(student: nn.Module, teacher: int) -> None:
    """teacher: its number of parameters."""
    own = sum(p.numel() for p in student.parameters())
    if own < teacher:
        warnings.warn(
            f"the student has {own:,} parameters and its teacher {teacher:,}: Noisy Student wants it equal "
            "or larger, so that it can take the noise; leave student= out (equal), or name a larger one",
            Caution,
            stacklevel=2,
        )
