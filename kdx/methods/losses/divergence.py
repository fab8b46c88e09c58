"""Distillation by a divergence of choice: forward or reverse KL, the generalised Jensen-Shannon divergence
between them (Agarwal et al. 2023, arXiv 2306.13649), or the total variation distance."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdx.core.checks import number
from kdx.core.divergence import Divergence
from kdx.core.errors import Caution
from kdx.core.sparse_divergence import check_rest
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import taught_pass
from kdx.methods.hidden_terms import HiddenTerms
from kdx.methods.logits import checked_setting, hottest, refinement, value_at


class DivergenceLoss(Objective):
    """loss = alpha * mean over all rows of the divergence of the student from the teacher + (1 - alpha) *
    mean over labelled rows of the task's own loss.

    kind, beta, scale, temperature: see `kdx.core.divergence.Divergence`; kind=forward is `kd`. temperature
    may be [from, to], a straight line over the training. standardise, of classes: see
    `kdx.methods.logits.standardised`. Where the
    teacher's k likeliest are stored (pseudo_label.format=topk), rest says what is done with all others, see
    `kdx.core.sparse_divergence.top_k_divergence`. alpha in [0, 1]; with 0 and no pool this is `supervised`.
    Where a pool exists its rows join the first term, in one forward pass. Its task is one of distributions:
    classes, or tokens.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    reads_kept = True
    kept_with = {"standardise": False}

    def __init__(
        self,
        parts: Parts,
        *,
        kind: str,
        beta: float,
        scale: str,
        temperature: float | Sequence[float],
        alpha: float,
        rest: str,
        # an option file of before has none of these
        standardise: bool = False,
        features: Any = None,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.features = HiddenTerms(features, parts)
        self.temperature = checked_setting("loss.temperature", temperature, low=0, open_low=True)
        self.how = Divergence(kind, beta, scale, hottest(self.temperature))
        self.refine = refinement(self.task, standardise)
        self.alpha = number("loss.alpha", alpha, low=0, high=1)
        if alpha != 0 and (words := self.task.too_soft(self.how.temperature)):
            warnings.warn(words, Caution, stacklevel=2)
        self.rest = _checked_rest(rest, self.how)

    def idle(self) -> Mapping[str, str]:
        if self.alpha == 0:
            why = "loss.alpha=0 gives the teacher's answers no weight: leave one of them out"
            return dict.fromkeys(("kind", "beta", "scale", "temperature", "standardise", "rest"), why)
        if self.how.kind != "jsd":
            why = f"it is of loss.kind=jsd, and this is loss.kind={self.how.kind}: leave one of them out"
            return {"beta": why, "scale": why}
        if self.how.limit != "jsd":
            return {"scale": f"loss.beta={self.how.beta:g} is one of the two KLs: leave it out"}
        return {}

    def cold_student(self) -> str | None:
        if self.how.limit != "reverse" or self.alpha == 0:
            return None
        return (
            "the reverse KL follows what the student already finds likely, and from fresh weights has been "
            "worse than the forward one even by its own measure: begin with a trained student "
            "(student.checkpoint=), or set loss.kind=forward"
        )

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        how = replace(self.how, temperature=value_at(self.temperature, progress))
        said, taught = made.said, made.answers
        if not self.refine.plain:
            guidance = self.refine.guidance(said, taught, streams["labelled"].y)
            said, taught = guidance.student, guidance.teacher
        apart = self.task.divergence(said, taught, how, self.rest).mean()
        known = self.task.loss(made.known, streams["labelled"].y, self.class_weights).mean()
        return made.outcome(
            self.features(made.seen(progress)),
            {"distillation": self.alpha * apart, "labels": (1 - self.alpha) * known},
        )


def _checked_rest(rest: str, how: Divergence) -> str:
    """Warns of those that are worse than the default."""
    check_rest(rest, how)
    if rest != "bucket":
        what = (
            "is no divergence: it can be negative, and is least where the student puts too much on the k"
            if rest == "truncated"
            else "asks for no mass outside the teacher's k, so that students come out over-confident"
        )
        warnings.warn(Caution(f"loss.rest={rest} {what}; loss.rest=bucket does neither"), stacklevel=2)
    return rest
