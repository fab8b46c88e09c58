"""A fitted scikit-learn estimator as a tensor of bytes, and back: by skops, which builds nothing but the
types that are named here. Nothing unpickles.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.errors import UserError

_SCHEMA = "schema.json"
TRUSTED = (
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.AbsoluteError",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfGammaLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn._loss.loss.HuberLoss",
    "sklearn._loss.loss.PinballLoss",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.Exponentiation",
    "sklearn.gaussian_process.kernels.ExpSineSquared",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""What is built beyond the types that skops itself trusts (numbers, arrays, the public classes of
scikit-learn, numpy and scipy). tests/test_kept.py shows that it is enough for every classifier and regressor
of scikit-learn that can be fitted as it is.
"""


def packed(estimator: Any) -> Tensor:
    """A fitted estimator -> (N,) uint8. Raises UserError where `opened` would refuse it."""
    import skops.io

    found = _plain(skops.io.dumps(estimator))
    _check(found, f"{type(estimator).__name__} cannot be kept")
    return torch.from_numpy(np.frombuffer(found, np.uint8).copy())


def opened(kept: Tensor) -> Any:
    """What `packed` made. Raises UserError where it is damaged, or holds types that are not trusted."""
    import skops.io

    found = kept.cpu().numpy().tobytes()
    _check(found, "a fitted estimator cannot be opened")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skops.io.loads(found, trusted=list(TRUSTED))
    except Exception as error:  # the form in which a version of scikit-learn keeps its trees, say
        from sklearn import __version__

        raise UserError(
            f"a fitted estimator cannot be opened with scikit-learn {__version__} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:160]}): fit it again"
        ) from None


def _plain(found: bytes) -> bytes:
    """The same archive without the time at which it was written and the addresses in memory by which skops
    names objects, so that one fit twice has the same bytes: these are numbered in their order.
    """
    numbers: dict[str, int] = {}
    files: dict[str, str] = {}

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("__id__"), int):
                node["__id__"] = numbers.setdefault(str(node["__id__"]), len(numbers) + 1)
            if "__loader__" in node and isinstance(file := node.get("file"), str):
                stem, dot, ending = file.partition(".")
                node["file"] = files[file] = f"{numbers.setdefault(stem, len(numbers) + 1)}{dot}{ending}"
        for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(below)

    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(found)) as old, zipfile.ZipFile(made, "w") as new:
        schema = json.loads(old.read(_SCHEMA))
        walk(schema)
        parts = {files.get(name, name): old.read(name) for name in old.namelist()}
        for name, part in sorted((parts | {_SCHEMA: json.dumps(schema).encode()}).items()):
            new.writestr(zipfile.ZipInfo(name), part)  # of 1980
    return made.getvalue()


def _check(found: bytes, what: str) -> None:
    import skops.io

    try:
        with zipfile.ZipFile(io.BytesIO(found)) as archive:
            bad = archive.testzip()
        foreign = sorted(set(skops.io.get_untrusted_types(data=found)) - set(TRUSTED))
    except Exception as error:  # of a damaged archive or its schema, many kinds
        bad, foreign = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", []
    if bad:
        raise UserError(f"{what}: it is damaged ({bad})")
    if foreign:
        raise UserError(
            f"{what}: it holds {', '.join(foreign[:3])}, and kdx builds only types that it knows "
            "(kdx/models/kept.py)"
        )
