"""Mathematics that several methods share. Tensors in, one value per example out; the caller reduces. Logits
are never softmaxed twice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NARROWED = -1e4
"""The logit of a class that is not in question: of no probability, and finite, so that it times 0 is 0."""


def cross_entropy(logits: Tensor, y: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """(B, C) logits, (B,) int64 classes or (B, C) probabilities -> (B,), nats, >= 0.

    class_weights: (C,), None for 1: -sum over classes c of weight_c * target_c * log p_c. A mean over it
    divides by B, not by the weights' sum.
    """
    return F.cross_entropy(logits.float(), y, class_weights, reduction="none")


def smooth_cross_entropy(
    logits: Tensor, y: Tensor, smoothing: float, class_weights: Tensor | None = None
) -> Tensor:
    """(B, C) logits, (B,) or (B, C) targets -> (B,): cross-entropy to (1 - smoothing) * target + smoothing /
    C.

    Szegedy et al. 2016, arXiv 1512.00567, section 7. smoothing in [0, 1); 0 is plain cross-entropy.
    class_weights as there, of the smoothed target.
    """
    return F.cross_entropy(logits.float(), y, class_weights, reduction="none", label_smoothing=smoothing)


def balanced_weights(y: Tensor, classes: int) -> Tensor:
    """(N,) int64 classes -> (C,) float32: n / (K n_c) of the K classes with rows, so that all weigh alike and
    the mean over the rows is 1.

    scikit-learn's rule (`class_weight="balanced"`); a class without rows has weight 1, which no row is
    multiplied by.
    """
    counts = y.bincount(minlength=classes).double()
    there = counts > 0
    return torch.where(there, len(y) / (there.sum() * counts.clamp_min(1)), 1.0).float()


def kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(B, C) student logits, (B, C) teacher logits -> (B,): T^2 * KL(softmax(teacher / T) || softmax(student
    / T)), nats, >= 0.

    Hinton et al. 2015, arXiv 1503.02531, section 2: the factor T^2 keeps the gradient's size as T grows. The
    one convention of kdx: summed over classes, to be averaged over the batch (never over its elements),
    always with the T^2. temperature > 0.
    """
    log_q = F.log_softmax(teacher.float() / temperature, dim=1)
    log_p = F.log_softmax(student.float() / temperature, dim=1)
    return temperature**2 * (log_q.exp() * (log_q - log_p)).sum(dim=1)


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(B, C) student logits, (B, C) teacher logits -> (B,): the cross-entropy of the student's softened
    probabilities to the teacher's, nats, >= 0; without a factor T^2.

    Li and Hoiem 2016, arXiv 1606.09282, equations 2 and 3: p^(1/T), renormalised, which is softmax(z / T).
    temperature > 0.
    """
    q = F.softmax(teacher.float() / temperature, dim=1)
    return -(q * F.log_softmax(student.float() / temperature, dim=1)).sum(dim=1)


def full(numbers: Tensor) -> Tensor:
    """In single precision, where it is not double."""
    return numbers if numbers.dtype == torch.float64 else numbers.float()


def bernoulli_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Logits of any shape -> the same: T^2 KL(sigmoid(teacher / T) || sigmoid(student / T)), nats, >= 0, of
    answers of which each is yes or no by itself. temperature > 0.
    """
    q, p = full(teacher) / temperature, full(student) / temperature
    sure = q.sigmoid()
    yes = F.logsigmoid(q) - F.logsigmoid(p)
    no = F.logsigmoid(-q) - F.logsigmoid(-p)
    return temperature**2 * (sure * yes + (1 - sure) * no)


def margin(probs: Tensor) -> Tensor:
    """(B, C) probabilities -> (B,): the largest minus the second largest, in [0, 1]"""
    top = probs.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]
