"""The only training loop. It names no method: what is minimised is an Objective, what happens around a step
is the caller's `after`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.core.types import Objective, Outcome, Streams
from kdx.training.runtime import Runtime

NORMS_EVERY = 4
"""Each term's gradient costs a backward pass of its own, so where there are several it is taken at every
fourth logged step.
"""


class NonFinite(UserError):
    """A term of the loss became nan or infinite."""


def _finite(outcome: Outcome, step: int) -> None:
    """Raises NonFinite, naming the terms, unless their sum is a finite number. One look at the sum: a term
    that is none spoils it too.
    """
    loss = outcome.loss.item()
    if not math.isfinite(loss):
        bad = [
            f"term '{name}' = {value.item()}"
            for name, value in outcome.terms.items()
            if not torch.isfinite(value)
        ]
        raise NonFinite(
            f"the loss is not finite at step {step}: {', '.join(bad) or f'the sum of its terms = {loss}'}"
        )


def norm(gradients: Iterable[Tensor | None]) -> float:
    """The L2 norm of all of them together."""
    return math.sqrt(sum(g.float().square().sum().item() for g in gradients if g is not None))


def gradient_norms(terms: Mapping[str, Tensor], parameters: list[nn.Parameter]) -> dict[str, float]:
    """The L2 norm of each term's gradient with respect to the student's parameters; 0 for a term that does
    not reach them.
    """
    norms = {}
    for name, term in terms.items():
        gradients = (
            torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
            if term.requires_grad
            else []
        )
        norms[name] = norm(gradients)
    return norms


@dataclass(frozen=True)
class Loop:
    """What is the same from a training's first step to its last. steps: of all. clip: the largest norm of the
    gradient, None: any. refresh_every, log_every: steps from one refresh of the objective to the next, and
    from one logged step to the next.
    """

    steps: int
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    clip: float | None
    precision: str
    runtime: Runtime
    refresh_every: int
    log_every: int


def fit(
    objective: Objective,
    batches: Iterable[Streams],
    loop: Loop,
    *,
    start: int,
    log: Callable[[int, Mapping[str, float]], None],
    after: Callable[[int], bool],
    keep: Callable[[Streams, Outcome], None] | None = None,
) -> int:
    """Optimises `objective` from step `start` to `loop.steps` or until `after(step)` says stop; returns
    the number of steps done in all.

    batches yields the Streams of step `start` and on. `log` gets plain numbers, `keep` each step's outcome. A
    non-finite term raises NonFinite before the weights move (on an accelerator: at the next logged step, as
    looking at each would stall it).
    """
    student = list(objective.student.parameters())
    steps, optimiser = loop.steps, loop.optimiser
    norms_every = NORMS_EVERY * loop.log_every
    trained = [p for p in objective.parameters() if p.requires_grad]
    look_always = loop.runtime.device == "cpu"
    objective.train()
    for step, streams in zip(range(start, steps), batches, strict=False):
        if step % loop.refresh_every == 0:
            refreshed = objective.refresh()
            if refreshed:
                log(step, {f"refresh/{k}": v for k, v in refreshed.items()})
        with loop.runtime.autocast(loop.precision):
            outcome = objective(streams, step / steps)
        logging = step % loop.log_every == 0 or step == steps - 1
        if logging or look_always:
            _finite(outcome, step)
        several = len(outcome.terms) > 1  # else the step's own gradient is the term's
        norms = gradient_norms(outcome.terms, student) if several and step % norms_every == 0 else {}
        optimiser.zero_grad(set_to_none=True)
        outcome.loss.backward()
        if logging and not several:
            norms = {name: norm(p.grad for p in student) for name in outcome.terms}
        if loop.clip is not None:
            nn.utils.clip_grad_norm_(trained, loop.clip)
        rate = optimiser.param_groups[0]["lr"]
        optimiser.step()
        loop.schedule.step()
        objective.after_step()
        if keep is not None:
            keep(streams, outcome)
        if logging:
            log(step, _numbers(outcome, norms) | {"train/learning_rate": rate})
        if after(step):
            return step + 1
    return steps


def _numbers(outcome: Outcome, norms: Mapping[str, float]) -> dict[str, float]:
    """A step's outcome as plain numbers, under the names that metrics.jsonl and TensorBoard show."""
    found = {"train/loss": outcome.loss.item()}
    found |= {f"train/term/{k}": v.item() for k, v in outcome.terms.items()}
    found |= {f"train/monitor/{k}": v.float().mean().item() for k, v in outcome.monitors.items()}
    return found | {f"gradient/{k}": v for k, v in norms.items()}
