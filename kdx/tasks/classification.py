"""One class of K for each row: logits (B, K), truth (B,) int64, or (B, K) probabilities where rows were
mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.core.answers import AnswerColumns, Answers, Audited, Evidence, Figure, Given, Nothing
from kdx.core.divergence import Divergence
from kdx.core.errors import UserError
from kdx.core.math import NARROWED, balanced_weights, cross_entropy, kl
from kdx.core.metric import Metric
from kdx.core.sparse_answers import dense_logits, divergence_from, is_sparse, likeliest, read_sparse
from kdx.core.task import Categorical
from kdx.core.trees import Tree
from kdx.tasks import given, pseudo_labels
from kdx.tasks.given import HALF_MAX
from kdx.tasks.metrics import confusion, metrics, mistaken, most_confused, recalls, reliability
from kdx.tasks.shown import ACCURACY, BALANCED_ACCURACY, CLASSIFICATION

WRITTEN_OUT = 32
"""Classes up to which documents hold the confusion matrix itself, which then can be looked at. It grows with
the square of the classes, so of more it lies beside them, as an array.
"""
MOST_CONFUSED = 20
"""Pairs of classes that documents name."""


class Classification(Categorical):
    """classes: their names, in the order of their numbers."""

    shown = CLASSIFICATION
    primary = ACCURACY.name
    paired = ACCURACY
    words: ClassVar = "one class of several"

    def __init__(self, *, classes: Sequence[str]):
        self.classes = tuple(classes)
        self.width = len(self.classes)

    def loss(self, answers: Answers, truth: Answers, weights: Tensor | None = None) -> Tensor:
        return cross_entropy(_one(answers), _one(truth), weights)

    def match(self, student: Answers, teacher: Answers, temperature: float) -> Tensor:
        if is_sparse(teacher):
            how = Divergence("forward", 0.5, "smooth", temperature)
            return self.divergence(student, teacher, how, "bucket")
        return kl(_one(student), _one(teacher), temperature)

    def divergence(self, student: Answers, teacher: Answers, how: Divergence, rest: str) -> Tensor:
        return divergence_from(_one(student), teacher, how, rest)

    def agreement(self, student: Answers, teacher: Answers) -> Tensor:
        taught = likeliest(teacher)[0] if is_sparse(teacher) else _one(teacher).argmax(1)
        return _one(student).argmax(1) == taught

    def probs(self, answers: Answers) -> Tensor:
        return self._logits(answers).softmax(1)

    def narrow(self, answers: Answers, classes: Sequence[int]) -> Tensor:
        logits = self._logits(answers)
        others = torch.ones(len(self.classes), dtype=torch.bool, device=logits.device)
        others[list(classes)] = False
        return logits.masked_fill(others, NARROWED)

    def balanced(self, truth: Answers) -> Tensor:
        return balanced_weights(_one(truth), len(self.classes))

    def mix(self, truth: Answers, other: Answers, share: Tensor) -> Tensor:
        own, partner = (F.one_hot(_one(y), len(self.classes)).to(torch.float32) for y in (truth, other))
        return own * share[:, None] + partner * (1 - share)[:, None]

    def tempered(self, answers: Answers, temperature: float) -> Tensor:
        """Logits over the temperature (Guo et al. 2017, arXiv 1706.04599)."""
        return _one(answers) / temperature

    def mean(self, several: Sequence[Answers]) -> Tensor:
        """The logarithm of the mean of the probabilities."""
        return (
            torch.stack([self._logits(answers).softmax(1) for answers in several])
            .mean(0)
            .clamp_min(1e-30)
            .log()
        )

    def metrics(self, answers: Answers, truth: Answers) -> dict[str, float]:
        return metrics(self._logits(answers), _one(truth))

    def by_row(self, answers: Answers, truth: Answers) -> Tensor:
        return self.right(answers, truth)

    def right(self, answers: Answers, truth: Answers) -> Tensor:
        return self._logits(answers).argmax(1) == _one(truth)

    def confidence(self, answers: Answers) -> Tensor:
        return self._logits(answers).softmax(1).max(1).values

    def knowing_nothing(self, truth: Answers) -> Nothing:
        y = _one(truth)
        most = int(y.bincount(minlength=len(self.classes)).argmax())
        return Nothing(f'always "{self.classes[most]}"', y == most)

    def quick(self, answers: Answers, truth: Answers) -> dict[str, float]:
        logits, y = self._logits(answers), _one(truth)
        return {
            self.primary: (logits.argmax(1) == y).float().mean().item(),
            "loss": F.cross_entropy(logits, y).item(),
        }

    def details(self, answers: Answers, truth: Answers, part: str) -> dict[str, Any]:
        logits, y = self._logits(answers), _one(truth)
        found: dict[str, Any] = {}
        if part != "train":
            found["recall"] = recalls(logits.argmax(1), y, logits.shape[1])
            found["reliability"] = reliability(logits.double().softmax(1), y)
        if part == "test":
            table = confusion(logits.argmax(1), y, logits.shape[1])
            found["arrays"] = {"confusion": table}
            found["predicted"] = table.sum(0).tolist()
            found["confused"] = most_confused(table, MOST_CONFUSED)
            found |= mistaken(table)
            if logits.shape[1] <= WRITTEN_OUT:
                found["confusion"] = table.tolist()
            elif found["confused"]:
                found["figures"] = [self._confused(found["confused"])]
        return found

    def _confused(self, pairs: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        names = [
            f"{self.classes[pair['truth']]} taken for {self.classes[pair['predicted']]}" for pair in pairs
        ]
        data = {"names": names, "values": [pair["rows"] for pair in pairs], "below": "test rows"}
        return Figure("Most confused classes of the test split", "confused", "ranked", data).document()

    def summary(self, truth: Mapping[str, Answers]) -> dict[str, Any]:
        counts = {name: _one(y).bincount(minlength=len(self.classes)).tolist() for name, y in truth.items()}
        return {"classes": list(self.classes), "class_counts": counts}

    def displayed(self, answers: Answers) -> list[int]:
        values = self._logits(answers)
        return (values.argmax(1) if values.dim() > 1 else values).tolist()

    def columns(self, answers: Answers, wanted: AnswerColumns) -> dict[str, Any]:
        """label, confidence (its probability), margin (how much less that of the next class is); label:2,
        confidence:2 and so on; of every class p:NAME or logit:NAME."""
        logits = self._logits(answers)
        if not 1 <= wanted.top <= len(self.classes):
            raise UserError(f"top={wanted.top}, and there are {len(self.classes)} classes: from 1 to these")
        probs = logits.double().softmax(1)
        # of equal logits the first class, as argmax takes it
        order = logits.sort(dim=1, descending=True, stable=True).indices
        sure = probs.gather(1, order).float().numpy()
        found: dict[str, Any] = {}
        for place in range(wanted.top):
            after = f":{place + 1}" if place else ""
            found[f"label{after}"] = [self.classes[number] for number in order[:, place].tolist()]
            found[f"confidence{after}"] = sure[:, place]
            if not place:
                found["margin"] = sure[:, 0] - sure[:, 1] if len(self.classes) > 1 else sure[:, 0]
        if wanted.soft != "none":
            head, values = ("p", probs.float()) if wanted.soft == "probabilities" else ("logit", logits)
            found |= {f"{head}:{name}": values[:, number].numpy() for number, name in enumerate(self.classes)}
        return found

    def heads(self) -> list[str]:
        return [f"logit:{name}" for name in self.classes]

    def of_array(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Logits, or probabilities where most rows are such."""
        columns = super().of_array(array)
        if not given.are_probabilities(array):
            return columns
        return {f"p:{name}": column for name, column in zip(self.classes, array.T, strict=True)}

    def given(self, columns: Mapping[str, Any], called: Callable[[int], str]) -> Given:
        """label, or p:NAME or logit:NAME of every class, or both: then a label that is not the likeliest
        class was corrected, and counts. A label alone is certain."""
        return given.classes_given(self.classes, columns, called)

    def answers_of(self, truth: Answers) -> Tensor:
        """Certain of it."""
        return given.certain(_one(truth), len(self.classes))

    def truth_columns(self, truth: Answers) -> dict[str, Any]:
        """truth: the name of the class; None where nobody knows it."""
        numbers = _one(truth).tolist()
        return {"truth": [self.classes[number] if number >= 0 else None for number in numbers]}

    def categories(self, answers: Answers, truth: Answers | None) -> tuple[Tensor, Tensor | None]:
        plain = truth is not None and _one(truth).dim() == 1  # of mixed rows no class is the true one
        return self._logits(answers), _one(truth) if truth is not None and plain else None

    def pack(self, answers: Answers) -> dict[str, Tensor]:
        """Half-precision logits."""
        return {"": self._logits(answers).clamp(-HALF_MAX, HALF_MAX).half()}

    def unpack(self, stored: Mapping[str, Tensor]) -> Answers:
        return read_sparse(stored) if is_sparse(stored) else super().unpack(stored)

    def row_bytes(self) -> int:
        return 2 * len(self.classes)

    def strata(self, truth: Answers) -> np.ndarray:
        return np.asarray(truth)

    def known(self, truth: Any) -> np.ndarray:
        return np.asarray(truth) >= 0

    def unknown(self, like: Any, rows: int) -> np.ndarray:
        return np.full(rows, -1, np.int64)

    def made_up(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(rows, len(self.classes), generator=generator)

    def made_up_truth(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.arange(rows) % len(self.classes)

    def audit(self, evidence: Evidence) -> Audited:
        return pseudo_labels.audit(evidence, self._stored)

    def audit_teacher(self, answers: Mapping[str, np.ndarray], truth: Answers) -> dict[str, Any]:
        return pseudo_labels.of_teacher(self._stored(answers), np.asarray(truth))

    def spread(self, several: Sequence[Answers]) -> dict[str, Tensor]:
        """Mean and unbiased deviation of softmax(z), and (cool_) of softmax(z / 2)."""
        logits, found = torch.stack([self._logits(answers) for answers in several]), {}
        for prefix, probs in (("", logits.softmax(2)), ("cool_", (logits / 2).softmax(2))):
            found[f"{prefix}mean"] = probs.mean(0)
            found[f"{prefix}std"] = probs.std(0)
        return found

    def balanced_rows(self, truth: Any) -> tuple[Metric, np.ndarray]:
        """n / (K n_c) of the K classes that are there."""
        y = np.asarray(truth)
        _, which, counts = np.unique(y, return_inverse=True, return_counts=True)
        return BALANCED_ACCURACY, (len(y) / (len(counts) * counts))[which]

    def _logits(self, answers: Answers) -> Tensor:
        """(B, K), also of those of which a part was kept."""
        if is_sparse(answers):
            return dense_logits(answers, len(self.classes))
        return _one(answers)

    def _stored(self, answers: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits (n, ..., K) of stored arrays."""
        if set(answers) == {""}:
            return answers[""]
        found = self.read(answers)
        if not is_sparse(found):
            raise ValueError(f"these are no stored answers of classes: {', '.join(answers)}")
        return dense_logits(found, len(self.classes)).numpy()


def _one(value: Tree) -> Tensor:
    """Classification has one array."""
    if isinstance(value, Tensor):
        return value
    raise UserError(
        "the answer of a network that classifies is one tensor (B, K) of logits; given several: "
        f"{', '.join(value)}"
    )
