"""A data set of one's own that lies in one file, `csv=FILE`: a loader in a temporary package says which of
its keys are paths, and every place that asks for paths believes it.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from kdx.cli import main
from kdx.report.run.tensorboard import hyperparameters

LOADER = """
from pathlib import Path

import numpy as np

from kdx.data.pictures.rows import Pictures, describe

class Csv:
    paths = ("csv",)
    def __init__(self, *, csv, scale):
        self.file, self.scale = Path(csv), scale
    def files(self):
        return [self.file]
    def fetch(self):
        pass
    def describe(self):
        labels = self.read()[1]
        counts = tuple(np.bincount(labels, minlength=2).tolist())
        return describe((1, 4, 4), ("no", "yes"), len(labels), counts, None, 0)
    def read(self):
        rows = np.loadtxt(self.file, delimiter=",", dtype=np.int64)
        return (rows[:, 1:] * self.scale).astype(np.uint8).reshape(-1, 1, 4, 4), rows[:, 0]
    def load(self, workers):
        images, labels = self.read()
        return Pictures(images, labels, ("no", "yes"))
"""
SHORT = ["device=cpu", "device.threads=1", "teacher=mlp_small", "student=mlp_small", "dataset=mine"]
SHORT += ["teacher_pretrain.steps=2", "student_train.steps=2", "baseline=false", "augment=none"]


def write(file: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = np.hstack([np.arange(40)[:, None] % 2, random.integers(0, 100, (40, 16))])
    file.parent.mkdir(exist_ok=True)
    np.savetxt(file, rows, fmt="%d", delimiter=",")


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "my_rows.py").write_text(LOADER)
    (tmp_path / "my/dataset").mkdir(parents=True)
    (tmp_path / "my/dataset/mine.yaml").write_text(
        "# Rows of a file\n_target_: my_rows.Csv\ncsv: rows.csv\nscale: 2\nlabelled: null\nunlabelled: null\n"
        "validation: 0.2\ntest: 0.2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*words):
    before = set(Path("outputs/runs").glob("*"))
    assert main(["train", "--config-dir", "my", "allow=[my_rows]", *SHORT, *words]) == 0
    (made,) = set(Path("outputs/runs").glob("*")) - before
    run = json.loads((made / "run.json").read_text())
    return made, run, {stage["name"]: (stage["key"], stage["cached"]) for stage in run["stages"]}


@pytest.mark.slow
def test_a_file_of_another_name_than_root_is_known_by_its_content(place, capsys):
    """The moved file, under a name that means something to Hydra, is the same data; another content is not.
    A comparison, a name and TensorBoard leave out where it lies; a rerun is reported where it lies now."""
    write(place / "rows.csv", 1)
    first, run, stages = train()
    assert run["protocol"]["paths"] == ["dataset.csv"] and run["config"]["dataset"]["csv"] == "rows.csv"
    odd = Path("else where", "a=b, c.csv")
    write(odd, 1)
    moved, other, again = train(f"dataset.csv={odd}", "seed=0")
    assert other["config"]["dataset"]["csv"] == str(odd)
    assert {name: key for name, (key, _) in again.items()} == {name: key for name, (key, _) in stages.items()}
    assert all(cached for _, cached in again.values())
    seen = hyperparameters(other["config"], other["protocol"])
    assert "dataset.scale" in seen and "dataset.csv" not in seen
    seeded, _, _ = train(f"dataset.csv={odd}", "seed=1")
    write(odd, 2)
    _, _, changed = train(f"dataset.csv={odd}")
    assert changed["prepare"][0] != stages["prepare"][0] and not changed["prepare"][1]
    capsys.readouterr()
    assert main(["compare", str(first), str(seeded), "json=one.json"]) == 0
    (row,) = json.loads(Path("one.json").read_text())["rows"]
    assert row["seeds"] == "0 1", "one arm of two seeds: where the file lies is no setting"

    (place / "rows.csv").unlink()
    write(odd, 1)
    words = ["rerun", str(first), "--config-dir", "my", "allow=[my_rows]"]
    assert main([*words, "dataset.scale=1"]) == 2
    assert "'dataset.scale' is what the run says" in capsys.readouterr().err
    assert main([*words, f"dataset.csv={odd}", "to=again"]) == 0
    assert "the same, bit for bit" in capsys.readouterr().out


def test_a_preset_has_nothing_downloaded_to_a_path_of_any_name(place, capsys):
    """As with root: docs/security.md."""
    write(place / "rows.csv", 1)
    file = place / "my/dataset/mine.yaml"
    file.write_text(file.read_text() + "download: true\n")
    assert main(["train", "--config-dir", "my", "allow=[my_rows]", *SHORT]) == 2
    assert (
        "an option file in --config-dir has a data set downloaded to 'rows.csv': say so with "
        "dataset.csv=PATH, or dataset.download=false"
    ) in capsys.readouterr().err
