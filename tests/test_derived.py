"""A prepared data set made of the rows of another."""

import json

import numpy as np
import pytest

from kdx.core.trees import rows_of
from kdx.pipeline.stages.arrays import INPUTS, TRUTH, open_split, read_arrays, read_inputs
from kdx.pipeline.stages.derived import lay_splits
from kdx.pipeline.stages.names import decoded_numbers
from kdx.store.artifact import Artifact
from kdx.training.runtime import Runtime

TASK = {"_target_": "kdx.tasks.classification.Classification", "classes": ["a", "b", "c"]}
RUNTIME = Runtime("cpu", 1, 0, channels_last=False, compile=False, checkpoint_seconds=60)


class Work:
    """Of the store's, what the function writes with."""

    def __init__(self, path):
        self.path = path

    def write_json(self, name, value):
        (self.path / name).write_text(json.dumps(value))


@pytest.fixture
def prepared(tmp_path):
    """Rows with inputs of their own: 4 labelled, 3 in the pool (one of unknown truth), 2 to validate with."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    for name, first, truth in (
        ("labelled", 0, [0, 1, 2, 0]),
        ("unlabelled", 10, [2, -1, 1]),
        ("validation", 20, [1, 1]),
    ):
        rows = np.arange(len(truth), dtype=np.int64)
        np.save(folder / f"{name}.rows.npy", rows)
        np.save(folder / f"{name}.origin.npy", rows + first)
        np.save(folder / f"{name}.inputs.npy", (rows[:, None] + first).astype(np.float32))
        np.save(folder / ("truth.npy" if name == "unlabelled" else f"{name}.truth.npy"), np.array(truth))
    about = {
        "task": TASK,
        "counts": {"labelled": 4, "unlabelled": 3, "validation": 2, "test": 0},
        "digests": {"labelled": "x"},
        "hidden": 2,
        "strata": [0, 2, 0],
        "example": {"": [[1], "float32"]},
        "reads": "table",
        "decoded": "../decoded",
    }
    (folder / "data.json").write_text(json.dumps(about))
    return Artifact("prepare", "key", folder)


def made(prepared, tmp_path, splits, **about):
    folder = tmp_path / "made"
    folder.mkdir()
    lay_splits(Work(folder), prepared, splits, **about)
    return Artifact("derived", "key", folder)


def test_pieces_of_several_splits_stand_one_after_the_other_under_any_name(prepared, tmp_path):
    data = made(
        prepared,
        tmp_path,
        {
            "labelled": [("labelled", np.array([3, 1]))],
            "session-2": [("unlabelled", None), ("labelled", None)],
        },
    )
    about = data.json("data.json")
    assert about["counts"] == {"labelled": 2, "unlabelled": 0, "validation": 0, "test": 0, "session-2": 7}
    assert np.asarray(read_inputs(data, "session-2"))[:, 0].tolist() == [10, 11, 12, 0, 1, 2, 3]
    assert read_arrays(data, f"session-2.{TRUTH}").tolist() == [2, -1, 1, 0, 1, 2, 0]
    assert decoded_numbers(data, "session-2").tolist() == [10, 11, 12, 0, 1, 2, 3]
    split = open_split(data, "session-2", RUNTIME)
    assert split.name == "session-2" and len(split) == 7
    assert open_split(data, "labelled", RUNTIME).known.tolist() == [0, 1]


def test_no_row_of_another_split_comes_along_and_no_digest(prepared, tmp_path):
    data = made(prepared, tmp_path, {"labelled": [("labelled", None)]})
    assert not list(data.path.glob("unlabelled*")) and not list(data.path.glob("validation*"))
    assert not (data.path / "truth.npy").exists() and "digests" not in data.json("data.json")
    assert data.json("data.json")["hidden"] == 0 and data.json("data.json")["strata"] is None


def test_the_truth_of_a_pool_stays_hidden_and_is_counted(prepared, tmp_path):
    data = made(
        prepared, tmp_path, {"unlabelled": [("labelled", np.array([0])), ("unlabelled", np.array([1, 2]))]}
    )
    assert read_arrays(data, TRUTH).tolist() == [0, -1, 1]
    assert open_split(data, "unlabelled", RUNTIME).truth is None
    assert data.json("data.json")["hidden"] == 2


def test_a_split_without_a_row_keeps_its_form_and_further_keys_are_told(prepared, tmp_path):
    none = np.zeros(0, np.int64)
    data = made(prepared, tmp_path, {"validation": [("validation", none)]}, adapter={"mean": [0.5]})
    assert rows_of(read_inputs(data, "validation")) == 0
    assert np.load(data.path / f"validation.{INPUTS}.npy").shape == (0, 1)
    assert data.json("data.json")["adapter"] == {"mean": [0.5]}
