"""TF-IDF with logistic regression: a teacher that is fitted to the labelled texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.answers import Answers
from kdx.core.checks import number
from kdx.core.errors import UserError
from kdx.core.task import Categorical, Task
from kdx.core.types import Inputs
from kdx.models import reads
from kdx.models.estimator import Estimator
from kdx.models.kept import opened, packed
from kdx.models.layers import check_whole
from kdx.models.text import PADDING, TEXTS_READ

LEAST_PROBABILITY = 1e-7
"""The least probability that is answered: of a class without a labelled text too."""


@reads(TEXTS_READ)
class TfIdf(Estimator):
    """Counts of a text's tokens, and of `ngrams` neighbouring ones, weighed by how few labelled texts hold
    them (scikit-learn's TfidfVectorizer, counts as 1 + ln), and a logistic regression on that.

    It reads the tokens that every network reads, no letters. ngrams: 1 for single tokens, 2 for pairs too.
    c: inverse strength of the penalty. Answers are logarithms of probabilities, (B, K) float32.
    """

    def __init__(self, *, shape: Sequence[int], outputs: int, vocabulary: int, ngrams: int, c: float):
        super().__init__()
        check_whole("tfidf", ngrams=ngrams)
        self.outputs, self.ngrams = outputs, ngrams
        self.c = number("tfidf: c", c, low=0, open_low=True)
        self._pipeline: tuple[Tensor, Any] | None = None

    def fit(self, inputs: Inputs, truth: Answers, task: Task) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        if not isinstance(task, Categorical):
            raise UserError(f"tfidf ends in classes, and an answer here is {task.words}: choose another")
        texts = _written(inputs)
        if not any(texts):
            raise UserError("no labelled text holds a token, and tfidf has nothing to learn from")
        words = TfidfVectorizer(
            lowercase=False, token_pattern=r"\S+", ngram_range=(1, self.ngrams), sublinear_tf=True
        )
        pipeline = make_pipeline(words, LogisticRegression(C=self.c, max_iter=1000))
        pipeline.fit(texts, np.asarray(truth))
        self.register_buffer("fitted", packed(pipeline))

    def forward(self, inputs: Inputs) -> Tensor:
        pipeline = self._opened()
        found = np.full((len(inputs), self.outputs), LEAST_PROBABILITY)
        found[:, pipeline.classes_] = np.maximum(pipeline.predict_proba(_written(inputs)), LEAST_PROBABILITY)
        return torch.from_numpy(np.log(found)).float().to(inputs.device)

    def _opened(self) -> Any:
        """The fitted pipeline, opened once."""
        kept = self.get_buffer("fitted")
        if self._pipeline is None or self._pipeline[0] is not kept:
            self._pipeline = (kept, opened(kept))
        return self._pipeline[1]


def _written(tokens: Tensor) -> list[str]:
    """(B, L) -> each row's tokens as text that scikit-learn splits again."""
    return [" ".join(str(token) for token in row if token != PADDING) for row in tokens.tolist()]
