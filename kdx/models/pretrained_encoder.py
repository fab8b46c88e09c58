"""A pretrained encoder of texts as a teacher: frozen, with logistic regression on its sentence vectors, or
fine-tuned with a linear layer on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.answers import Answers
from kdx.core.checks import number, shown
from kdx.core.errors import UserError
from kdx.core.math import cross_entropy
from kdx.core.model_folder import model_folder
from kdx.core.task import Categorical, Task
from kdx.core.types import Inputs
from kdx.models import pretrained, reads
from kdx.models.encoder import ENDS, Sentences, check_positions
from kdx.models.encoder_files import (
    ENCODER_FILES,
    TOKENIZER,
    build_encoder,
    describe_encoder,
    load_encoder,
    positions_of,
    width_of,
)
from kdx.models.estimator import Estimator
from kdx.models.layers import check_rates
from kdx.models.text import PADDING, TEXTS_READ
from kdx.models.tokens import OwnTokens

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Of these the inverse strength of the penalty is chosen on validation."""
UNSEEN = -16.0
"""The logit of a class without a labelled text, the others' being about 0: a probability of 1e-7."""
_TOGETHER = 256
"""Texts that are read together."""
_ALIKE = 64
"""Of these so many of about one length are forwarded together: so much less padding is computed."""


class FolderEncoder(nn.Module, OwnTokens):
    """An encoder that lies in a folder. What it is built from is kept in its state beside its weights, so
    that the folder is needed to begin only: `_load_from_state_dict` builds what the state describes.
    """

    folders: ClassVar[tuple[str, ...]] = ("path",)
    """Read from the class's file where torch is not wanted (kdx.config.described): keys that name a folder,
    known by its content."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: Sentences | None = None
        self._tokenizer: str | None = None
        self.described: Tensor

    def open_folder(self, path: Any, shape: Sequence[int], vocabulary: int) -> None:
        """Builds the encoder and reads its weights; where weights are not wanted and the folder is not there,
        nothing: a state is loaded next. vocabulary: of the rows.
        """
        try:
            folder = model_folder("teacher.path", path, ENCODER_FILES)
        except UserError:
            if pretrained.wanted():
                raise
            return
        described = describe_encoder(folder)
        self._tokenizer = (folder / TOKENIZER).read_text(encoding="utf-8")
        if vocabulary != described["tokens"]:
            raise UserError(_other_vocabulary(described["tokens"], vocabulary))
        positions = positions_of(described)
        check_positions(
            f"the encoder in '{path}'", shape[0], positions, f"set dataset.length={positions - ENDS}"
        )
        self.build_described(described)
        assert self.sentences is not None
        if pretrained.wanted():
            load_encoder(self.sentences, folder, described)

    def build_described(self, described: Mapping[str, Any]) -> None:
        """Builds what `describe_encoder` describes."""
        text = json.dumps(described, sort_keys=True).encode()
        self.register_buffer("described", torch.frombuffer(bytearray(text), dtype=torch.uint8))
        self.sentences = build_encoder(described, self.dropout_rate(), trims=self.trims())

    def dropout_rate(self) -> float:
        """Inside the encoder."""
        return 0.0

    def trims(self) -> bool:
        """Whether it cuts off padding; see TextEncoder."""
        return True

    def check_tokens(self, tokenizer: str) -> None:
        if self._tokenizer is None:
            return
        own, given = json.loads(self._tokenizer), json.loads(tokenizer)
        parts = ("model", "normalizer", "pre_tokenizer")
        if any(own.get(part) != given.get(part) for part in parts):
            raise UserError(_other_vocabulary(_tokens_in(own), _tokens_in(given)))

    def vectors(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, D)"""
        if self.sentences is None:
            raise UserError("this encoder has no weights yet: its folder is not there")
        return self.sentences(tokens)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = state.get(f"{prefix}described")
        own = dict(self.named_buffers(recurse=False)).get("described")
        if isinstance(given, Tensor) and (own is None or not torch.equal(own.cpu(), given.cpu())):
            self.build_described(json.loads(bytes(given.cpu().tolist())))
        super()._load_from_state_dict(state, prefix, *rest)


def _tokens_in(tokenizer: Mapping[str, Any]) -> int:
    return len(tokenizer.get("model", {}).get("vocab", ()))


def _other_vocabulary(own: int, given: int) -> str:
    return (
        f"the teacher's encoder reads by its own tokenizer.json of {own:,} tokens, and these rows are made "
        f"by another of {given:,}, in which the numbers stand for other words: leave dataset.tokenizer "
        "out, or name the encoder's folder there (dataset.tokenizer=FOLDER)"
    )


@reads(TEXTS_READ)
class FrozenEncoder(FolderEncoder, Estimator):
    """Logistic regression on the vectors that a frozen encoder makes of the labelled texts, which are made
    once. Answers are logits, (B, K).

    path: the encoder's folder. c: inverse strength of the penalty, or "validation": of STRENGTHS the one with
    the highest accuracy there, of several the one with the least log loss.
    """

    chosen_on_validation: ClassVar[bool] = True
    layered: ClassVar[bool] = True

    def __init__(
        self, *, shape: Sequence[int], outputs: int, vocabulary: int, path: str | None, c: float | str
    ):
        super().__init__()
        self.outputs = int(outputs)
        if isinstance(c, str) and c != "validation":
            raise UserError(f"teacher.c must be a number above 0, or validation; given: {shown(c)}")
        self.strengths = (
            STRENGTHS
            if isinstance(c, str)
            else (number("teacher.c", c, low=0, open_low=True, words=["validation"]),)
        )
        self.open_folder(path, shape, vocabulary)
        self._heads: list[tuple[Tensor, Tensor]] = []
        if self.sentences is not None:
            width = width_of(json.loads(bytes(self.described.tolist())))
            self._take(torch.zeros(outputs, width), torch.zeros(outputs))

    def check(self, task: Task) -> None:
        if not isinstance(task, Categorical):
            raise UserError(
                f"a frozen encoder ends in classes, and an answer here is {task.words}: choose another "
                "teacher"
            )

    def fit(self, inputs: Inputs, truth: Answers, task: Task) -> None:
        from sklearn.linear_model import LogisticRegression

        self.check(task)
        x, y = self.all_vectors(inputs).double().numpy(), np.asarray(truth)
        if len(np.unique(y)) < 2:
            raise UserError("the labelled texts are of one class, and a classifier needs two")
        self._heads = []
        for strength in self.strengths:
            fitted = LogisticRegression(C=strength, max_iter=2000).fit(x, y)
            self._heads.append(_head_of(fitted, self.outputs))
        usual = self.strengths.index(1.0) if 1.0 in self.strengths else 0
        self._take(*self._heads[usual])

    def settle(self, inputs: Inputs, truth: Answers, task: Task) -> Sequence[str]:
        if len(self.strengths) < 2 or not len(truth):
            return []
        x, y = self.all_vectors(inputs), torch.as_tensor(np.asarray(truth))
        scores = []
        for weight, bias in self._heads:
            logits = x @ weight.T + bias
            right = (logits.argmax(1) == y).float().mean().item()
            scores.append((right, -cross_entropy(logits, y).mean().item()))
        best = max(range(len(scores)), key=scores.__getitem__)
        self._take(*self._heads[best])
        return [
            f"the head of the encoder: logistic regression, C={self.strengths[best]:g} of "
            f"{', '.join(f'{strength:g}' for strength in self.strengths)} by its accuracy on validation "
            f"({scores[best][0]:.1%} of {len(y):,} rows)"
        ]

    @torch.no_grad()
    def all_vectors(self, inputs: Inputs) -> Tensor:
        """(N, L) -> (N, D) float32, on the CPU, some rows at a time."""
        assert isinstance(inputs, Tensor)
        found = [self.vectors(inputs[at : at + _TOGETHER]) for at in range(0, len(inputs), _TOGETHER)]
        return torch.cat(found).float().cpu()

    def vectors(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, D); texts of about one length are forwarded together, as padding costs time, unless
        somebody looks at hidden layers, who finds the rows in their order.
        """
        if any(layer._forward_hooks for layer in self.modules()):
            return super().vectors(tokens)
        order = (tokens != PADDING).sum(1).argsort(stable=True)
        found = torch.cat([super(FrozenEncoder, self).vectors(tokens[rows]) for rows in order.split(_ALIKE)])
        return torch.empty_like(found).index_copy_(0, order, found)

    def forward(self, inputs: Inputs) -> Tensor:
        """(B, L) -> (B, K)"""
        assert isinstance(inputs, Tensor)
        vectors = self.vectors(inputs).float()
        return vectors @ self.weight.T + self.bias

    def _take(self, weight: Tensor, bias: Tensor) -> None:
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())


def _head_of(fitted: Any, outputs: int) -> tuple[Tensor, Tensor]:
    """(K, D) and (K,) of a fitted logistic regression; of two classes scikit-learn keeps one row."""
    weight, bias = torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)
    if len(weight) == 1:
        weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
    whole, ends = torch.zeros(outputs, weight.shape[1]), torch.full((outputs,), UNSEEN)
    classes = torch.from_numpy(fitted.classes_).long()
    whole[classes], ends[classes] = weight.float(), bias.float()
    return whole, ends


@reads(TEXTS_READ)
class TunedEncoder(FolderEncoder):
    """An encoder that begins with the weights of its folder and is trained on, with a linear layer on its
    vectors. dropout: inside the encoder and before that layer.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        outputs: int,
        vocabulary: int,
        path: str | None,
        dropout: float,
        stochastic_depth: float | str,
    ):
        super().__init__()
        check_rates("encoder_tuned", dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
        self.outputs, self.dropout = int(outputs), dropout
        self.head: nn.Module = nn.Identity()
        self.open_folder(path, shape, vocabulary)

    def dropout_rate(self) -> float:
        return self.dropout

    def trims(self) -> bool:
        return False

    def build_described(self, described: Mapping[str, Any]) -> None:
        super().build_described(described)
        linear = nn.Linear(width_of(described), self.outputs)
        self.head = nn.Sequential(nn.Dropout(self.dropout), linear)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens -> (B, outputs)"""
        return self.head(self.vectors(tokens))
