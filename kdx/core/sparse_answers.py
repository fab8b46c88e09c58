"""Answers of which a part was kept: a teacher's k likeliest classes or tokens and the mass of the others, or
draws of it. Rows first, then maybe places of a row, as of the logits (B, ..., V) that they stand for.

By name: of the k likeliest "ids" (B, ..., k), "logp" (B, ..., k) and "log_tail" (B, ...), the logarithm of
the mass of all others; of draws "draws" (B, ..., N) int64, an id and how often it was drawn as id * 256 +
count, 0 where there are no more. Beside both "true" (B, ...), the log-probability of the true id, nan where
nobody knows it, "entropy" (B, ...) in nats, and "temperature" (B,): that of the probabilities, but for
"true", which is of the answer as it is. docs/divergences.md says what is on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from kdx.core.divergence import Divergence, divergence
from kdx.core.errors import UserError
from kdx.core.hidden_answers import STATES, head_of, is_hidden
from kdx.core.sparse_divergence import sampled_divergence, top_k_divergence
from kdx.core.trees import Tree

IDS, LOGP, TAIL, DRAWS = "ids", "logp", "log_tail", "draws"
TRUE, ENTROPY, TEMPERATURE = "true", "entropy", "temperature"
COUNT_RANGE = 256
"""A count is less: one byte of a draw."""
_NOTHING = 1e-30


def is_sparse(answers: Any) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether a part of each answer was kept."""
    return isinstance(answers, Mapping) and (IDS in answers or DRAWS in answers)


def read_sparse(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What lies on the disk, in types to reckon with."""
    return {name: _ids(leaf) if name in (IDS, DRAWS) else leaf.float() for name, leaf in stored.items()}


def _ids(leaf: Tensor) -> Tensor:
    """uint16 may come as int16, which devices know better."""
    return leaf.long() & 0xFFFF if leaf.dtype == torch.int16 else leaf.long()


def drawn_ids(answers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(ids, counts) of draws, both (B, ..., N); 0 and 0 where there are no more."""
    return answers[DRAWS] // COUNT_RANGE, answers[DRAWS] % COUNT_RANGE


def likeliest(answers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(ids (B, ...), their probabilities (B, ...)), at the temperature of what was kept; of draws shares."""
    if IDS in answers:
        return answers[IDS][..., 0], answers[LOGP][..., 0].exp()
    ids, counts = drawn_ids(answers)
    most = counts.max(-1, keepdim=True)
    share = most.values / counts.sum(-1, keepdim=True)
    return ids.gather(-1, most.indices)[..., 0], share[..., 0]


def dense_logits(answers: Mapping[str, Tensor], width: int) -> Tensor:
    """(B, ..., V) logits at temperature 1, the mass of what was not kept spread evenly: exact where it is
    certain which is likeliest. Of draws the logarithm of their shares."""
    if IDS in answers:
        ids, logp = answers[IDS], answers[LOGP]
        others = max(1, width - ids.shape[-1])
        rest = answers[TAIL] - torch.tensor(float(others)).log()
        found = rest[..., None].expand(*rest.shape, width).scatter(-1, ids, logp)
    else:
        ids, counts = drawn_ids(answers)
        shares = (counts / counts.sum(-1, keepdim=True)).float()
        found = (
            shares.new_zeros(*ids.shape[:-1], width).scatter_add(-1, ids, shares).clamp_min(_NOTHING).log()
        )
    heat = answers[TEMPERATURE]
    return found * heat.reshape(*heat.shape, *[1] * (found.dim() - heat.dim()))


def divergence_from(student: Tensor, teacher: Tree, how: Divergence, rest: str) -> Tensor:
    """Student's logits (B, ..., V), the teacher's, its hidden states, or what was kept of them at the
    temperature of `how` -> (B, ...). rest: see `top_k_divergence`. Of draws the cross-entropy less the
    entropy of the whole answer: right in the mean, and of forward KL alone (UserError)."""
    if isinstance(teacher, Tensor):
        return divergence(student, teacher, how)
    if is_hidden(teacher):
        return divergence(student, teacher[STATES], how, head=head_of(teacher))
    if IDS in teacher:
        return top_k_divergence(student, teacher[IDS], teacher[LOGP], teacher[TAIL], how, rest)
    if how.limit != "forward":
        raise UserError(
            f"loss.kind={how.kind} needs the teacher's probabilities, and draws of them are stored: set "
            "pseudo_label.format=topk, or loss.kind=forward"
        )
    found = sampled_divergence(student, *drawn_ids(teacher), how.temperature)
    return found - how.temperature**2 * teacher[ENTROPY].to(found.dtype)
