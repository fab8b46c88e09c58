"""Any classifier or regressor of scikit-learn as a teacher: found by name among its public estimators,
fitted at once, kept as bytes (kdx.models.kept)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.answers import Answers
from kdx.core.checks import shown
from kdx.core.errors import Caution, UserError, nearest
from kdx.core.task import Categorical, Numeric, Task
from kdx.models import reads
from kdx.models.estimator import Estimator
from kdx.models.kept import opened, packed

AUTO = "auto"
LEAST = 1e-6
"""The least probability that an answer has: a forest says 0 of what none of its trees says."""
_MANY_ROWS = 10_000
"""Labelled rows from which on boosting is done by histograms."""
_PLAIN = (bool, int, float, str, type(None))
_TELLING = ("GaussianProcessRegressor", "BayesianRidge", "ARDRegression")
_FORESTS = ("RandomForestRegressor", "ExtraTreesRegressor")
"""Regressors that tell how far they doubt a number: by themselves, or by how far their trees differ."""


@functools.cache
def known_estimators() -> Mapping[str, tuple[type, str]]:
    """name and public address -> (class, "classifier" or "regressor") of `sklearn.utils.all_estimators`; of
    nothing else is an object made.
    """
    from sklearn.utils import all_estimators

    found: dict[str, tuple[type, str]] = {}
    for kind in ("classifier", "regressor"):
        for name, made in all_estimators(type_filter=kind):
            public = ".".join(part for part in made.__module__.split(".") if not part.startswith("_"))
            found[name] = found[f"{public}.{name}"] = (made, kind)
    return found


@reads("table", "pictures")
class Sklearn(Estimator):
    """estimator: "auto", the name of a classifier or regressor of scikit-learn, or its public address.
    params: arguments of its constructor, plain values; `random_state` is drawn from the run's seed where it
    takes one.

    "auto" is ExtraTrees for classes and for several numbers a row, GradientBoosting for one number, by
    histograms from 10,000 labelled rows on. Rows are seen as a network sees them, flat. The answers of
    classifiers are the logarithms of their probabilities, none less than 1e-6; of those without
    probabilities, decision values. Of regressors numbers, and of forests, Gaussian processes, BayesianRidge
    and ARDRegression their variance as well.
    """

    def __init__(
        self, *, shape: Sequence[int], outputs: int, estimator: str, params: Mapping[str, Any] | None
    ):
        super().__init__()
        self.outputs, self.asked = int(outputs), estimator
        self.params = _plain(params)
        self.kind: str | None = None
        if estimator != AUTO:
            made, self.kind = find_estimator(estimator)
            _check_params(made, self.params)
        elif self.params:
            raise UserError(
                "teacher.params are of the estimator that is named, and teacher.estimator=auto chooses one: "
                "name it, such as teacher.estimator=RandomForestRegressor"
            )
        self._opened: Any = None

    @property
    def tells(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of "auto" nothing: boosting does not."""
        return ("variance",) if self.asked.rpartition(".")[2] in (*_TELLING, *_FORESTS) else ()

    def check(self, task: Task) -> None:
        wanted = "classifier" if isinstance(task, Categorical) else "regressor"
        if not isinstance(task, Categorical | Numeric):
            raise UserError(
                f"teacher=sklearn gives classes or numbers, and an answer here is {task.words}: choose "
                "another teacher"
            )
        if self.kind not in (None, wanted):
            raise UserError(
                f"teacher.estimator={self.asked} is a {self.kind}, and an answer here is {task.words}: "
                f"choose a {wanted}, such as "
                f"{'RandomForestClassifier' if wanted == 'classifier' else 'RandomForestRegressor'}"
            )
        if self.kind == "classifier":
            made = find_estimator(self.asked)[0](**self.params)
            if not (_offers(made, "predict_proba") or _offers(made, "decision_function")):
                raise UserError(
                    f"teacher.estimator={self.asked} names a class only, and a student learns from "
                    "probabilities: choose one that has predict_proba, such as RandomForestClassifier"
                )

    def fit(self, inputs: Tensor, truth: Answers, task: Task) -> None:
        self.check(task)
        x = inputs.flatten(1).double().cpu().numpy()
        y = truth.cpu().numpy()
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        made = self._class(task, len(x))
        seed = int(torch.randint(2**31 - 1, ()))
        seeded = {"random_state": seed} if "random_state" in made().get_params() else {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                estimator = made(**(seeded | self.params)).fit(x, y)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"teacher.estimator={made.__name__} cannot be fitted to {len(x):,} labelled rows of "
                f"{x.shape[1]:,} numbers: {_first(error)}"
            ) from error
        if isinstance(task, Categorical) and not _offers(estimator, "predict_proba"):
            warnings.warn(
                Caution(
                    f"{made.__name__} gives no probabilities: its decision values are taken as logits, so "
                    "what a loss such as kd matches is their softmax, which says how far, not how likely; "
                    "an estimator that has predict_proba tells more"
                ),
                stacklevel=2,
            )
        self.register_buffer("kept", packed(estimator))
        self._opened = None

    def forward(self, inputs: Tensor) -> Answers:
        x = inputs.detach().flatten(1).double().cpu().numpy()
        estimator = self._estimator(x)
        answers = (
            _logits(estimator, x, self.outputs) if "classes_" in vars(estimator) else _numbers(estimator, x)
        )
        if isinstance(answers, dict):
            return {name: _tensor(leaf, inputs) for name, leaf in answers.items()}
        return _tensor(answers, inputs)

    def _class(self, task: Task, rows: int) -> type:
        if self.asked != AUTO:
            return find_estimator(self.asked)[0]
        if isinstance(task, Categorical):
            return find_estimator("ExtraTreesClassifier")[0]
        if self.outputs > 1:
            return find_estimator("ExtraTreesRegressor")[0]
        name = "HistGradientBoostingRegressor" if rows >= _MANY_ROWS else "GradientBoostingRegressor"
        return find_estimator(name)[0]

    def _estimator(self, x: np.ndarray) -> Any:
        """The fitted one, opened once."""
        if self._opened is None:
            if "kept" not in dict(self.named_buffers()):
                raise UserError("teacher=sklearn has not been fitted yet")
            self._opened = opened(self.kept)
        return self._opened

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        self._opened = None
        super()._load_from_state_dict(state, prefix, *rest)


def find_estimator(name: str) -> tuple[type, str]:
    """(the class, "classifier" or "regressor"). Raises UserError where scikit-learn has none of that name."""
    if not isinstance(name, str):
        raise UserError(
            f"teacher.estimator must be a name, such as RandomForestRegressor; given: {shown(name)}"
        )
    known = known_estimators()
    if name not in known:
        raise UserError(
            f"scikit-learn has no classifier or regressor '{shown(name, bare=True)}'"
            f"{nearest(name.rpartition('.')[2], [key for key in known if '.' not in key])}"
        )
    return known[name]


def _plain(params: Any) -> dict[str, Any]:
    """Arguments that are plain values; everything else could be code."""
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise UserError(
            f"teacher.params must hold arguments by name, such as teacher.params.n_estimators=500; given: "
            f"{shown(params)}"
        )
    for key, value in params.items():
        several = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(one, _PLAIN) for one in several):
            raise UserError(f"teacher.params.{key} must be a plain value; given: {shown(value)}")
    return {str(key): value for key, value in params.items()}


def _check_params(made: type, params: Mapping[str, Any]) -> None:
    """Raises UserError where the estimator takes no such argument, or needs others that are no plain
    values.
    """
    try:
        takes = made().get_params()
    except TypeError as error:
        raise UserError(
            f"teacher.estimator={made.__name__} is made of other estimators, which have no name on a "
            f"command line ({_first(error)}): choose another"
        ) from error
    for key in params:
        if key not in takes:
            raise UserError(f"{made.__name__} takes no argument '{key}'{nearest(key, takes)}")
    try:
        if check := getattr(made(**params), "_validate_params", None):
            check()
    except (ValueError, TypeError) as error:
        raise UserError(f"teacher.params: {_first(error)}") from error


def _logits(estimator: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """(B, K) logarithms of probabilities, or decision values. A class without a labelled row has the
    least.
    """
    if _offers(estimator, "predict_proba"):
        probs = np.zeros((len(x), classes))
        probs[:, estimator.classes_] = estimator.predict_proba(x)
        return np.log(np.maximum(probs, LEAST))
    values = estimator.decision_function(x)
    values = np.stack([np.zeros(len(x)), values], 1) if values.ndim == 1 else values
    found = np.full((len(x), classes), values.min(initial=0.0) + np.log(LEAST))
    found[:, estimator.classes_] = values
    return found


def _numbers(estimator: Any, x: np.ndarray) -> Any:
    """(B, K), or by name with their variance."""
    name = type(estimator).__name__
    if name in _FORESTS:
        each = np.stack([tree.predict(x).reshape(len(x), -1) for tree in estimator.estimators_])
        return {"value": each.mean(0), "variance": each.var(0)}
    if name in _TELLING:
        value, deviation = (found.reshape(len(x), -1) for found in estimator.predict(x, return_std=True))
        return {"value": value, "variance": deviation**2}
    return estimator.predict(x).reshape(len(x), -1)


def _offers(estimator: Any, method: str) -> bool:
    """Whether an estimator, or its class, has a method: of some it hangs on how they were made."""
    return getattr(estimator, method, None) is not None


def _tensor(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(like.device)


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
