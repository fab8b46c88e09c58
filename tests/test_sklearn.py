"""What kdx takes of scikit-learn: the small tables that ship inside it, and its estimators as teachers."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from tasks import classification

from kdx.core.errors import Caution, UserError
from kdx.data import contract
from kdx.data.datasets.breast_cancer import BreastCancer
from kdx.data.datasets.diabetes import Diabetes
from kdx.data.datasets.digits_table import DigitsTable
from kdx.data.datasets.friedman1 import Friedman1, drawn
from kdx.data.datasets.wine import Wine
from kdx.models.estimator import check_kept
from kdx.models.sklearn import LEAST, Sklearn, known_estimators
from kdx.tasks.regression import Regression

FRIEDMAN = {"rows": 50, "test_rows": 20, "features": 6, "noise": 0.5, "data_seed": 3}


# The sets of scikit-learn


@pytest.mark.parametrize(
    ("loader", "shape", "name"),
    [
        (Diabetes(), (442, 10), "load_diabetes"),
        (BreastCancer(), (569, 30), "load_breast_cancer"),
        (Wine(), (178, 13), "load_wine"),
        (DigitsTable(), (1797, 64), "load_digits"),
    ],
)
def test_a_set_that_ships_inside_scikit_learn_is_as_it_reads_it(loader, shape, name):
    from sklearn import datasets

    raw = loader.load()
    contract.check(raw, loader.describe())
    inputs, truth = raw.part("train")
    wanted = getattr(datasets, name)(**({"scaled": False} if name == "load_diabetes" else {}))
    assert inputs.shape == shape and len(raw.columns) == shape[1]
    assert np.allclose(inputs, wanted.data / (4 if name == "load_digits" else 1))
    assert np.array_equal(truth.reshape(-1), wanted.target)
    assert all(file.is_file() for file in loader.files())
    if name != "load_digits":
        assert [column.name for column in raw.columns] == list(wanted.feature_names)
    if "classes" in raw.task:
        assert raw.task["classes"] == [str(word) for word in wanted.target_names]


def test_friedman1_is_as_scikit_learn_draws_it():
    from sklearn.datasets import make_friedman1

    ours, theirs = drawn(70, 6, 0.5, 3), make_friedman1(70, n_features=6, noise=0.5, random_state=3)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    raw = Friedman1(**FRIEDMAN).load()
    contract.check(raw, Friedman1(**FRIEDMAN).describe())
    assert [len(raw.part(part)[0]) for part in ("train", "test")] == [50, 20]
    assert "test" not in Friedman1(**FRIEDMAN | {"test_rows": 0}).load().parts
    with pytest.raises(UserError, match="dataset.features must be an integer from 5"):
        Friedman1(**FRIEDMAN | {"features": 4})


# Estimators

NUMBERS, CLASSES = Regression(names=["y"]), classification(3)
RANDOM = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=RANDOM)
Y = X[:, :1] + 0.1 * torch.randn(60, 1, generator=RANDOM)
SORT = torch.arange(60) % 2 * 2
"""Of the classes 0 and 2: of class 1 there is no row."""


def made(estimator="auto", task=NUMBERS, **params):
    return Sklearn(shape=(4,), outputs=task.width, estimator=estimator, params=params)


def fitted(estimator="auto", task=NUMBERS, seed=0, truth=None, **params):
    torch.manual_seed(seed)
    teacher = made(estimator, task, **params)
    teacher.fit(X, (Y if task is NUMBERS else SORT) if truth is None else truth, task)
    return teacher


@pytest.mark.parametrize("name", ["RandomForestRegressor", "sklearn.ensemble.RandomForestRegressor"])
def test_an_estimator_is_found_by_name_and_by_public_address(name):
    assert known_estimators()[name][0].__name__ == "RandomForestRegressor"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("os.system", "scikit-learn has no classifier or regressor 'os.system'"),
        ("sklearn.ensemble._forest.RandomForestRegressor", "did you mean 'RandomForestRegressor'?"),
        ("sklearn.pipeline.Pipeline", "scikit-learn has no classifier or regressor"),
        ("RandomForest", "did you mean 'RandomForest"),
        (3, "teacher.estimator must be a name"),
        ("StackingRegressor", "is made of other estimators, which have no name on a command line"),
    ],
)
def test_nothing_else_is_built(name, says):
    with pytest.raises(UserError) as error:
        made(name)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"n_trees": 3}, "RandomForestRegressor takes no argument 'n_trees'"),
        ({"max_features": "tree"}, "The 'max_features' parameter of RandomForestRegressor must be"),
        ({"criterion": {"_target_": "os.system"}}, "teacher.params.criterion must be a plain value"),
    ],
)
def test_its_arguments_are_plain_and_its_own(params, says):
    with pytest.raises(UserError) as error:
        made("RandomForestRegressor", **params)
    assert says in str(error.value)


def test_arguments_of_what_is_chosen_by_itself_are_refused():
    with pytest.raises(UserError, match="teacher.estimator=auto chooses one: name it"):
        made(n_estimators=3)


@pytest.mark.parametrize(
    ("name", "task", "says"),
    [
        ("Ridge", CLASSES, "is a regressor, and an answer here is one class of several: choose a classifier"),
        ("SVC", NUMBERS, "is a classifier, and an answer here is a number or several: choose a regressor"),
    ],
)
def test_one_of_the_other_kind_is_refused_before_any_work(name, task, says):
    with pytest.raises(UserError, match=says):
        made(name, task).check(task)


def test_by_default_it_is_chosen_by_the_task():
    assert fitted()._estimator(None).__class__.__name__ == "GradientBoostingRegressor"
    assert fitted(task=CLASSES)._estimator(None).__class__.__name__ == "ExtraTreesClassifier"
    two = Regression(names=["a", "b"])
    assert fitted(task=two, truth=torch.cat([Y, -Y], 1))(X[:5])["value"].shape == (5, 2)


def test_what_it_learned_is_kept_as_bytes_and_opened_again(tmp_path):
    from safetensors.torch import load_file, save_file

    teacher = fitted("RandomForestRegressor", n_estimators=5)
    save_file(teacher.state_dict(), tmp_path / "kept.safetensors")
    again = made("RandomForestRegressor", n_estimators=5)
    check_kept(teacher, again, X[:3])
    again.load_state_dict(load_file(tmp_path / "kept.safetensors"))
    assert list(teacher.state_dict()) == ["kept"] and teacher.state_dict()["kept"].dtype == torch.uint8
    assert torch.equal(again(X)["value"], teacher(X)["value"])


def test_it_is_the_same_with_the_same_seed():
    one, same, other = (
        fitted("RandomForestRegressor", seed=s, n_estimators=3)(X)["value"] for s in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
    fixed = [
        fitted("RandomForestRegressor", seed=s, n_estimators=3, random_state=5)(X)["value"] for s in (1, 2)
    ]
    assert torch.equal(*fixed), "unless its own seed is set"


def test_classes_are_logarithms_of_probabilities():
    answers = fitted("KNeighborsClassifier", CLASSES, n_neighbors=4)(X)
    probs = (
        fitted("KNeighborsClassifier", CLASSES, n_neighbors=4)
        ._estimator(None)
        .predict_proba(X.double().numpy())
    )
    assert answers.shape == (60, 3) and answers.dtype == torch.float32
    assert torch.allclose(answers[:, [0, 2]].exp(), torch.from_numpy(probs).float().clamp_min(LEAST))
    assert np.allclose(answers[:, 1], np.log(LEAST)), "the class without a row"


def test_without_probabilities_decision_values_are_logits_and_it_says_so():
    with pytest.warns(
        Caution, match="LinearSVC gives no probabilities: its decision values are taken as logits"
    ):
        teacher = fitted("LinearSVC", CLASSES)
    answers = teacher(X)
    decided = torch.from_numpy(teacher._estimator(None).decision_function(X.double().numpy())).float()
    assert torch.allclose(answers[:, 2] - answers[:, 0], decided)
    assert (answers[:, 1] < answers[:, [0, 2]].min(1).values - 10).all(), "the class without a row"
    with warnings.catch_warnings():
        warnings.simplefilter("error", Caution)
        fitted("LogisticRegression", CLASSES)


def test_one_that_names_a_class_only_is_refused():
    kind = known_estimators()
    made_of_others = ("OutputCodeClassifier", "VotingClassifier", "StackingClassifier")
    nameless = [
        name
        for name, (cls, what) in kind.items()
        if what == "classifier"
        and name not in made_of_others
        and "." not in name
        and not hasattr(cls, "predict_proba")
        if not hasattr(cls, "decision_function")
    ]
    for name in nameless:
        with pytest.raises(UserError, match="names a class only, and a student learns from probabilities"):
            made(name, CLASSES).check(CLASSES)
    assert len(nameless) < len(kind) / 20


def test_forests_and_processes_tell_their_variance():
    forest = fitted("RandomForestRegressor", n_estimators=4)
    trees = np.stack([tree.predict(X.double().numpy()) for tree in forest._estimator(None).estimators_])
    answers = forest(X)
    assert torch.allclose(answers["value"][:, 0], torch.from_numpy(trees.mean(0)).float(), atol=1e-6)
    assert torch.allclose(answers["variance"][:, 0], torch.from_numpy(trees.var(0)).float(), atol=1e-6)
    assert forest.tells == ("variance",) and made().tells == ()
    process = fitted("BayesianRidge")(X)
    assert set(process) == {"value", "variance"} and (process["variance"] > 0).all()
    assert isinstance(fitted("Ridge")(X), torch.Tensor)


def test_rows_that_it_cannot_take_are_a_sentence():
    with pytest.raises(
        UserError, match="GaussianProcessRegressor cannot be fitted to 60 labelled rows of 4 numbers"
    ):
        teacher = made("GaussianProcessRegressor")
        teacher.fit(X * torch.nan, Y, NUMBERS)


def test_it_answers_nothing_before_it_is_fitted():
    with pytest.raises(UserError, match="has not been fitted yet"):
        made()(X)


# A run


def test_a_table_of_ones_own_from_the_command_line(tmp_path, monkeypatch, capsys):
    """Numbers of which less is better: rows without a target and made-up ones are the pool; measured again,
    exported, loaded and asked.
    """
    import kdx
    from kdx.cli import main

    monkeypatch.chdir(tmp_path)
    x, y = drawn(240, 5, 1.0, 0)
    words = ["low" if row[0] < 0.5 else "high" for row in x]
    rows = [
        f"{w},{','.join(f'{v:.4f}' for v in row)},{'' if k % 8 == 0 else 1000 * t}"
        for k, (w, row, t) in enumerate(zip(words, x, y, strict=True))
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["sort,a,b,c,d,e,grams", *rows]))
    run = ["train", "dataset=csv", "dataset.file=rows.csv", "dataset.target=grams", "device=cpu"]
    run += ["device.threads=1", "made_up=munge", "made_up.rows=100", "student_train.steps=100"]
    run += ["teacher.estimator=RandomForestRegressor", "teacher.params.n_estimators=20", "store=store"]
    assert main([*run, "hydra.run.dir=runs/0", "loss=heteroscedastic"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "30 of 240 rows of rows.csv have no target, and join the pool" in said
    assert main([*run, "loss=heteroscedastic", "rounds=2"]) == 2
    assert "rounds=2 let the student teach, which tells no variance" in capsys.readouterr().err
    assert "100 rows are made up of the" in said and "tables of 6 columns (5 numbers, 1 category)" in said
    results = json.loads((tmp_path / "runs/0/run.json").read_text())["results"]
    assert results["metric"]["name"] == "rmse" and not results["metric"]["more"]
    test = {role: results[role]["best"]["test"]["rmse"] for role in ("teacher", "baseline", "student")}
    assert all(500 < value < results["floor"]["test"]["value"] for value in test.values()), "in grams"
    assert results["gain"] == pytest.approx(test["baseline"] - test["student"])
    assert {figure["kind"] for figure in results["student"]["last"]["test"]["figures"]} == {"line", "bars"}
    assert main(["evaluate", "runs/0", "json=again.json"]) == 0
    again = json.loads((tmp_path / "again.json").read_text())["results"]["teacher"]
    assert again["rmse"] == results["teacher"]["last"]["test"]["rmse"]
    assert main(["export", "runs/0", "to=out", "format=state_dict"]) == 0
    network = kdx.load("out")
    asked = torch.tensor([[1.0, 0.9, 0.9, 0.5, 0.9, 0.9]])  # of categories in order, "low" is 1
    with torch.no_grad():
        assert network(asked).shape == (1, 1) and 5000 < network(asked).item() < 40000
