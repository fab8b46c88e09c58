"""Fitted estimators kept without pickles: every one of scikit-learn comes back as it was, and nothing else is
built.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import all_estimators

from kdx.core.errors import UserError
from kdx.models.kept import opened, packed


def rows(kind: str) -> tuple[np.ndarray, np.ndarray]:
    inputs, truth = (load_iris if kind == "classifier" else load_diabetes)(return_X_y=True)
    return np.abs(inputs[::3]), truth[::3]


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(n_estimators=5, random_state=0),
        make_pipeline(TfidfTransformer(), LogisticRegression(max_iter=500)),
        GradientBoostingRegressor(n_estimators=5, random_state=0),
    ],
    ids=["forest", "pipeline", "boosting"],
)
def test_it_answers_as_before(estimator):
    inputs, truth = rows("regressor" if isinstance(estimator, GradientBoostingRegressor) else "classifier")
    kept = packed(estimator.fit(inputs, truth))
    assert kept.dtype == torch.uint8 and kept.dim() == 1
    assert np.array_equal(opened(kept).predict(inputs), estimator.predict(inputs))


@pytest.mark.parametrize("made", [RandomForestClassifier, GradientBoostingRegressor])
def test_one_that_is_fitted_twice_has_the_same_bytes(made, monkeypatch):
    inputs, truth = rows("classifier")
    first = packed(made(n_estimators=3, random_state=0).fit(inputs, truth))
    monkeypatch.setattr("time.time", lambda: 1e9)
    held = [object() for _ in range(1000)]  # elsewhere in memory
    again = packed(made(n_estimators=3, random_state=0).fit(inputs.copy(), truth.copy()))
    assert held and torch.equal(first, again)
    assert not torch.equal(first, packed(made(n_estimators=3, random_state=1).fit(inputs, truth)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_all_of_scikit_learn(kind):
    """Each that can be built and fitted as it is; the rest takes others as its arguments."""
    inputs, truth = rows(kind)
    tried = 0
    for name, made in all_estimators(type_filter=kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                estimator = made().fit(inputs, truth)
            except (TypeError, ValueError):
                continue
            assert np.array_equal(opened(packed(estimator)).predict(inputs), estimator.predict(inputs)), name
            tried += 1
    assert tried > 30


def a_function(values):
    return values


def test_a_function_of_somebody_is_not_kept():
    with pytest.raises(UserError, match="FunctionTransformer cannot be kept: it holds .*a_function"):
        packed(FunctionTransformer(a_function).fit([[1.0]]))


def test_a_function_of_somebody_is_not_opened():
    import skops.io

    found = skops.io.dumps(FunctionTransformer(a_function))
    with pytest.raises(UserError, match="cannot be opened: it holds .*a_function"):
        opened(torch.tensor(list(found), dtype=torch.uint8))


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damage_is_said(damage):
    inputs, truth = rows("classifier")
    kept = packed(LogisticRegression(max_iter=500).fit(inputs, truth))
    if damage == "truncated":
        kept = kept[: len(kept) // 2]
    else:
        kept[100] ^= 255  # of the first array: a bit of a header may say nothing
    with pytest.raises(UserError, match="cannot be opened: it is damaged"):
        opened(kept)
