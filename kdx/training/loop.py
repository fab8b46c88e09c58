"""The only training loop. It names no method: what is minimised is an Objective, what happens around a step
is the caller's `after`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdx.core.batch_norm import batch_norms
from kdx.core.errors import UserError
from kdx.core.trees import picked
from kdx.core.types import Batch, Objective, Outcome, ParameterGroup, Streams
from kdx.training.ranks import ONE_PROCESS, Ranks, parts_of_loss
from kdx.training.runtime import Runtime

NORMS_EVERY, NORMS_APART = 4, 16
"""Each term's gradient costs a backward pass of its own, so where there are several it is taken at every
fourth logged step, and no more often than at every 16th step, as a short training logs each.
"""


class NonFinite(UserError):
    """A term of the loss became nan or infinite."""


def _finite(outcome: Outcome, step: int, ranks: Ranks) -> None:
    """Raises NonFinite in every process, naming the terms, unless their sum is a finite number in each. One
    look at the sum: a term that is none spoils it too.
    """
    loss = outcome.loss.item()
    here = not math.isfinite(loss)
    if ranks.any(here):
        if not here:
            raise NonFinite(f"the loss is not finite at step {step}, in another process than the first")
        bad = [
            f"term '{name}' = {value.item()}"
            for name, value in outcome.terms.items()
            if not torch.isfinite(value)
        ]
        raise NonFinite(
            f"the loss is not finite at step {step}: {', '.join(bad) or f'the sum of its terms = {loss}'}"
        )


def norm(gradients: Iterable[Tensor | None]) -> float:
    """The L2 norm of all of them together, which is waited for once."""
    squares = [g.float().square().sum() for g in gradients if g is not None]
    return math.sqrt(sum(torch.stack(squares).tolist())) if squares else 0.0


def gradient_norms(terms: Mapping[str, Tensor], parameters: list[nn.Parameter]) -> dict[str, float]:
    """The L2 norm of each term's gradient with respect to the student's parameters; 0 for a term that does
    not reach them.
    """
    return {name: norm(found) for name, found in term_gradients(terms, parameters).items()}


def term_gradients(
    terms: Mapping[str, Tensor], parameters: list[nn.Parameter]
) -> dict[str, list[Tensor | None]]:
    """The gradient of each term with respect to these parameters, None where it does not reach one."""
    return {
        name: list(torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True))
        if term.requires_grad
        else [None] * len(parameters)
        for name, term in terms.items()
    }


@dataclass(frozen=True)
class Loop:
    """What is the same from a training's first step to its last. steps: of all. clip: the largest norm of the
    gradient of each group of parameters, None: any. refresh_every, log_every: steps from one refresh of the
    objective to the next, and from one logged step to the next. accumulate: in how many parts a batch is
    passed through the network, one after the other, before the one step that it makes. ranks: the processes
    that train together.
    """

    steps: int
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    clip: float | None
    precision: str
    runtime: Runtime
    refresh_every: int
    log_every: int
    accumulate: int = 1
    ranks: Ranks = ONE_PROCESS


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
    """Optimises `objective` from step `start` to `loop.steps`, or until the batches end or `after(step)` says
    stop; returns the number of steps done in all.

    batches yields the Streams of step `start` and on. `log` gets plain numbers, `keep` each step's outcome. A
    non-finite term raises NonFinite before the weights move (on an accelerator: at the next logged step, as
    looking at each would stall it).
    """
    student, ranks = list(objective.student.parameters()), loop.ranks
    trained = [p for p in objective.parameters() if p.requires_grad]
    steps, optimiser = loop.steps, loop.optimiser
    norms_every = loop.log_every * max(NORMS_EVERY, math.ceil(NORMS_APART / loop.log_every))
    look_always = loop.runtime.device == "cpu"
    objective.train()
    done = start
    for step, streams in zip(range(start, steps), batches, strict=False):
        if step % loop.refresh_every == 0:
            ranks.same(objective.student.buffers())
            refreshed = objective.refresh()
            if refreshed:
                log(step, {f"refresh/{k}": v for k, v in refreshed.items()})
        ranks.begin(step)
        logging = step % loop.log_every == 0 or step == steps - 1
        for parameter in trained:
            parameter.grad = None
        outcomes: list[Outcome] = []
        gradients = Gradients(student)
        for some in in_parts(streams, loop.accumulate):
            with loop.runtime.autocast(loop.precision):
                outcome = objective(some, step / steps)
                outcome = Outcome(outcome.terms, outcome.watched(logging))
            if logging or look_always:
                _finite(outcome, step, ranks)
            if len(outcome.terms) > 1 and step % norms_every == 0:
                gradients.add(outcome.terms)
            (outcome.loss if loop.accumulate == 1 else outcome.loss / loop.accumulate).backward()
            outcomes.append(outcome if loop.accumulate == 1 else _let_go(outcome))
        ranks.average_gradients(trained)
        outcome, norms = _together(outcomes), gradients.norms(loop.accumulate, ranks)
        if logging and len(outcome.terms) == 1:  # the step's own gradient is the term's
            norms = {name: norm(p.grad for p in student) for name in outcome.terms}
        wait_for_turns(optimiser, step)
        if loop.clip is not None:
            for group in optimiser.param_groups:
                nn.utils.clip_grad_norm_(group["params"], loop.clip)
        rates = learning_rates(optimiser) if logging else {}  # before the schedule's next step
        optimiser.step()
        loop.schedule.step()
        objective.after_step()
        if keep is not None:
            keep(streams, outcome)
        if logging:
            log(step, _numbers(outcome, norms, ranks) | rates)
        done = step + 1
        if after(step):
            break
    return done


def check_groups(objective: Objective) -> Sequence[ParameterGroup]:
    """The groups of what it trains. Raises ValueError where a parameter is in none or in two of them."""
    groups = objective.groups()
    found = [p for group in groups for p in group.parameters]
    wanted = {p for p in objective.parameters() if p.requires_grad}
    if len(found) != len(set(found)) or set(found) != wanted:
        raise ValueError(
            f"the groups of {type(objective).__name__} must hold each parameter that it trains, once: "
            f"{len(found)} are in them, and it trains {len(wanted)}"
        )
    if any(group.rate < 0 or not 0 <= group.at < group.every for group in groups):
        raise ValueError(f"a ParameterGroup has rate >= 0 and 0 <= at < every; given: {groups}")
    return groups


def learning_rates(optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """Of this step, by the names that metrics.jsonl has: of several groups each one's."""
    first, *others = optimiser.param_groups
    more = optimiser.param_groups if others else []
    return {"train/learning_rate": first["lr"]} | {
        f"train/learning_rate/{group['name']}": group["lr"] for group in more
    }


def wait_for_turns(optimiser: torch.optim.Optimizer, step: int) -> None:
    """Forgets the gradient of the groups that do not move at this step."""
    for group in optimiser.param_groups:
        if step < group.get("begins", 0) or step % group.get("every", 1) != group.get("at", 0):
            for parameter in group["params"]:
                parameter.grad = None


class Gradients:
    """The gradient of each term with respect to some parameters, added up over the parts of a batch."""

    def __init__(self, parameters: list[nn.Parameter]):
        self._parameters = parameters
        self._found: dict[str, list[Tensor | None]] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Before the pass backward of their sum, which gives the graph back."""
        for name, new in term_gradients(terms, self._parameters).items():
            old = self._found.get(name)
            self._found[name] = new if old is None else [_sum(a, b) for a, b in zip(old, new, strict=True)]

    def norms(self, parts: int, ranks: Ranks = ONE_PROCESS) -> dict[str, float]:
        """name -> the norm of the mean over so many parts; 0 for a term that does not reach the
        parameters."""
        return {
            name: norm(ranks.average(found, self._parameters)) / parts for name, found in self._found.items()
        }


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def check_accumulate(
    key: str, parts: int, objective: Objective, network: nn.Module, sizes: Mapping[str, int]
) -> None:
    """Whether a batch in `parts` makes the step that the whole of it would. key: the setting, for the
    sentence; network: that learns; sizes: rows of each stream in a batch. Raises UserError.
    """
    if parts == 1:
        return
    if any(part.whole_batch for part in parts_of_loss(objective)):
        raise UserError(
            f"{key}={parts} passes a batch through the network in parts, and the terms of its loss are no "
            f"means over its rows: set {key}=1"
        )
    if batch_norms(network):
        raise UserError(
            f"{key}={parts} passes a batch through the network in parts, and batch normalisation takes its "
            f"statistics over all of it: set {key}=1, or choose a network without"
        )
    for stream, size in sizes.items():
        if size % parts:
            raise UserError(
                f"{key}={parts} takes parts of one size, and a batch holds {size} rows of '{stream}': choose "
                "another batch_size"
                + (" or labelled_share, so that each stream has a multiple" if len(sizes) > 1 else "")
            )


def in_parts(streams: Streams, parts: int) -> Iterator[Streams]:
    """The rows of each stream in so many parts of one size, in order."""
    if parts == 1:
        yield streams
        return
    for part in range(parts):
        yield {name: _part_of(batch, part, parts) for name, batch in streams.items()}


def _part_of(batch: Batch, part: int, parts: int) -> Batch:
    size, left = divmod(len(batch), parts)
    if left:
        raise UserError(f"{len(batch)} rows of '{batch.split}' cannot be taken in {parts} parts of one size")
    rows = slice(part * size, (part + 1) * size)
    return Batch(
        batch.split,
        batch.index[rows],
        batch.view[rows],
        {name: picked(view, rows) for name, view in batch.views.items()},
        None if batch.y is None else picked(batch.y, rows),
    )


def _let_go(outcome: Outcome) -> Outcome:
    """Its numbers without the graph that led to them."""
    return Outcome(
        {name: term.detach() for name, term in outcome.terms.items()},
        {name: found.detach() for name, found in outcome.monitors.items()},
    )


def _together(outcomes: list[Outcome]) -> Outcome:
    """Of the parts of a batch: the means of terms and monitors, and of monitors by row those of all rows."""
    if len(outcomes) == 1:
        return outcomes[0]
    terms = {name: torch.stack([one.terms[name] for one in outcomes]).mean() for name in outcomes[0].terms}
    monitors = {}
    for name, found in outcomes[0].monitors.items():
        several = [one.monitors[name] for one in outcomes]
        monitors[name] = torch.cat(several) if found.dim() else torch.stack(several).float().mean()
    return Outcome(terms, monitors)


def _numbers(outcome: Outcome, norms: Mapping[str, float], ranks: Ranks) -> dict[str, float]:
    """A step's outcome as plain numbers, under the names that metrics.jsonl and TensorBoard show."""
    means = ranks.means({"": outcome.loss} | {f"term/{k}": v for k, v in outcome.terms.items()})
    found = {"train/loss": means.pop("").item()}
    found |= {f"train/{k}": v.item() for k, v in means.items()}
    watched = ranks.means(outcome.monitors)
    found |= {f"train/monitor/{k}": v.float().mean().item() for k, v in watched.items()}
    return found | {f"gradient/{k}": v for k, v in norms.items()}
