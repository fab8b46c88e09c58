"""REINFORCE (Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement
learning"): a network that acts learns from what its actions led to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdx.core.checks import number
from kdx.core.episodes import Acts
from kdx.core.errors import WrongStudent
from kdx.core.types import Objective, Outcome, Parts, Streams

_LEAST = 1e-8


def to_come(rewards: Tensor, discount: float) -> Tensor:
    """(T, B) rewards -> (T, B): at each step the sum of those from it on, the k-th after it times
    discount^k."""
    found = torch.zeros_like(rewards)
    after = torch.zeros_like(rewards[0])
    for step in reversed(range(len(rewards))):
        after = rewards[step] + discount * after
        found[step] = after
    return found


def advantages(rewards: Tensor, going: Tensor, discount: float) -> Tensor:
    """(T, B), (T, B) bool -> (n,) of the steps that were made: what was still to come less the mean over all
    episodes at that step, divided by the deviation of these differences."""
    coming = to_come(rewards, discount)
    better = (coming - coming.mean(1, keepdim=True))[going]
    return better / (better.std(correction=0) + _LEAST)


class Reinforce(Objective):
    """Experimental. Episodes begin in the states of the batch, with actions drawn by the network; policy = -
    mean over all their steps of advantage * log pi(action | state), entropy = - entropy * mean over the
    same steps of the entropy of pi, nats.

    advantage: `advantages`; the baseline is the mean over the batch at the same step, an episode that is over
    having nothing to come. discount in (0, 1]; entropy >= 0. No label is read. Deviations: the baseline holds
    the episode itself too, which scales its gradient by 1 - 1 / B, and advantages are divided by their
    deviation, as implementations do. Cost: as many passes of the network as an episode has steps.
    """

    uses = ("labelled",)
    reads = ()
    acts = True
    whole_batch = True

    def __init__(self, parts: Parts, *, discount: float, entropy: float):
        super().__init__(parts)
        self.discount = number("loss.discount", discount, low=0, high=1, open_low=True)
        self.entropy = number("loss.entropy", entropy, low=0)
        if not isinstance(parts.student, Acts):
            raise WrongStudent(
                "Reinforce lets a network act, and the rows of this data set are no states in which one "
                "acts: choose dataset=control, or another loss"
            )
        self._actor = (parts.student,)  # the student, as what acts

    def forward(self, streams: Streams, progress: float) -> Outcome:
        seen = self._actor[0].episodes(streams["labelled"].views["main"], drawn=True)
        logits = self.student(seen.states[seen.going])
        log_pi = logits.float().log_softmax(1)
        taken = log_pi.gather(1, seen.actions[seen.going][:, None])[:, 0]
        gained = advantages(seen.rewards, seen.going, self.discount)
        spread = -(log_pi.exp() * log_pi).sum(1).mean()
        return Outcome(
            terms={"policy": -(gained * taken).mean(), "entropy": -self.entropy * spread},
            monitors={"return": seen.returns.mean()},
        )
