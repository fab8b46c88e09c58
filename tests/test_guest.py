"""A made-up kind of rows and a made-up task, by new files only (tests/guest): sets of points of any number
behind a mask, two named inputs, several numbers a row, a metric of which less is better, no confidence.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kdx.cli import main
from kdx.pipeline.stages.answers import stored_answers
from kdx.pipeline.stages.arrays import build_task, open_split
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

HERE = Path(__file__).parent / "guest"
GUEST = ["--config-dir", str(HERE / "conf"), "allow=[points_guest]"]
RUN = ["dataset=points", "teacher=sets", "student=sets_small", "augment=shuffle", "device=cpu"]
RUN += ["device.threads=1", "dataset.rows=400", "dataset.labelled=60", "dataset.validation=60"]
RUN += ["teacher_pretrain.steps=120", "student_train.steps=120"]
CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=300)


@pytest.fixture(scope="module", autouse=True)
def guest():
    sys.path.insert(0, str(HERE))
    yield
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guest")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def train(*words, to):
    return main(["train", *GUEST, *RUN, *words, f"hydra.run.dir={to}", "store=store"])


@pytest.fixture(scope="module")
def runs(place):
    """Two seeds."""
    for seed in (0, 1):
        assert train(f"seed={seed}", to=f"runs/{seed}") == 0
    return [json.loads((place / f"runs/{seed}/run.json").read_text()) for seed in (0, 1)]


def artifact(place, run, stage, folder=None):
    key = next(found["key"] for found in run["stages"] if found["name"] == stage)
    return Artifact(folder or stage, key, place / "store" / (folder or stage) / key)


def test_it_is_trained_distilled_and_measured_by_its_own_metric(place, runs):
    results = runs[0]["results"]
    assert results["metric"]["name"] == "mae" and results["metric"]["more"] is False
    assert "classes" not in results and "class_counts" not in results
    test = {role: results[role]["last"]["test"]["mae"] for role in ("teacher", "baseline", "student")}
    assert 0 < test["teacher"] < results["floor"]["test"]["value"]
    assert results["gain"] == pytest.approx(test["baseline"] - test["student"])
    assert (
        results["student"]["last"]["test"]["agreement"] >= 0
        and results["teacher"]["last"]["test"]["n"] == 100
    )
    bars, matrix = results["student"]["last"]["test"]["figures"]
    assert sum(bars["data"]["counts"]) == 100 and matrix["data"]["columns"] == ["x", "y", "reach"]
    assert runs[0]["gate"]["metric"] == "mae"
    table = (place / "runs/0/report.md").read_text()
    assert "mean absolute error" in table and "accuracy" not in table
    assert "pictures" not in table.partition("## Looking closer")[2].partition("##")[0]


def test_the_best_weights_are_those_with_the_least_error(place, runs):
    """By `>` from -1 no error would ever have been the best one."""
    trained = artifact(place, runs[0], "student-train", "train")
    records = list(map(json.loads, (trained.path / "metrics.jsonl").read_text().splitlines()))
    assert all(r["metric"]["title"] == "mean absolute error" for r in records if "validation/mae" in r)
    seen = {record["step"] + 1: record["validation/mae"] for record in records if "validation/mae" in record}
    summary = trained.json("summary.json")
    assert len(seen) == 20 and summary["best_step"] == min(seen, key=seen.__getitem__)
    assert summary["validation_score"] == seen[120]
    best = json.loads((place / "runs/0/run.json").read_text())["results"]["student"]["best"]["validation"][
        "mae"
    ]
    assert best == pytest.approx(min(seen.values()))


def test_the_teachers_answers_are_stored_by_name_and_read_as_it_gives_them(place, runs):
    data, labels = artifact(place, runs[0], "prepare"), artifact(place, runs[0], "pseudo-label")
    about = data.json("data.json")
    assert about["example"] == {"points": [[12, 2], "float32"], "mask": [[12], "bool"]}
    assert about["counts"] == {"labelled": 60, "validation": 60, "test": 100, "unlabelled": 280}
    assert sorted(p.name for p in data.path.glob("test.*.npy")) == [
        "test.rows.npy",
        "test.truth.npy",
    ]
    assert np.load(labels.file("clean.npy")).dtype == np.float32
    teacher = open_network(artifact(place, runs[0], "teacher-pretrain"))
    split = open_split(data, "unlabelled", CPU)
    said = predict(teacher, split, CPU)
    assert torch.allclose(torch.from_numpy(np.load(labels.file("clean.npy"))[:, 0]), said, atol=1e-6)
    digest = labels.json("answers.json")["views"]
    stored = stored_answers(labels, "cpu", digest, build_task(about))
    assert set(stored.answers) == {"labelled", "unlabelled", "validation"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["select=threshold"], "select=threshold reads the probabilities of classes"),
        (
            ["loss=slam"],
            "loss=slam reads the probabilities of classes, and an answer here is several numbers",
        ),
        (["augment=affine"], "affine changes pictures, and this data set holds points"),
        (["student=cnn_tiny"], "student=cnn_tiny reads pictures, and this data set holds points"),
        (
            ["dataset.class_weights=balanced"],
            "dataset.class_weights=balanced reads the probabilities of classes",
        ),
        (["pseudo_label.passes=2"], "pseudo_label.passes reads the probabilities of classes"),
        (["student_train.target=-1"], "student_train.target must be"),
    ],
)
def test_what_does_not_go_with_it_is_refused_before_work(place, capsys, words, says):
    assert train(*words, to="runs/refused") == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (place / "runs/refused").exists()


def test_its_networks_are_refused_for_other_rows(place, capsys):
    words = ["dataset=digits", "teacher=sets", "student=sets_small", "augment=none", "device=cpu"]
    assert main(["train", *GUEST, *words, "hydra.run.dir=runs/refused", "store=store"]) == 2
    says = "teacher=sets reads points, and this data set holds pictures"
    assert says in " ".join(capsys.readouterr().err.split())


def test_it_stops_at_a_target_that_is_an_error(place):
    assert (
        train("student_train.target=5", "stages=[teacher_pretrain,pseudo_label,student_train]", to="runs/t")
        == 0
    )
    run = json.loads((place / "runs/t/run.json").read_text())
    assert run["results"]["student"]["stopped"] == "target"


def test_two_seeds_are_compared_where_less_is_better(place, runs, capsys):
    assert main(["compare", "runs/0", "runs/1", "json=compared.json", "csv=compared.csv"]) == 0
    (row,) = json.loads((place / "compared.json").read_text())["rows"]
    gains = [run["results"]["gain"] for run in runs]
    assert row["seeds"] == "0 1" and row["gain_mean"] == pytest.approx(sum(gains) / 2)
    assert "accuracy" not in capsys.readouterr().out
    assert main(["compare", "runs/0", "runs/1", "html=page.html"]) == 0


def test_it_is_measured_again_exported_and_loaded(place, runs, capsys):
    import kdx

    assert main(["evaluate", "runs/0", "allow=[points_guest]", "json=again.json"]) == 0
    again = json.loads((place / "again.json").read_text())["results"]["student"]
    assert again["mae"] == runs[0]["results"]["student"]["last"]["test"]["mae"]
    assert main(["export", "runs/0", "allow=[points_guest]", "to=out", "format=state_dict,torch_export"]) == 0
    network = kdx.load("out", allow=["points_guest"])
    inputs = {"points": torch.rand(3, 12, 2), "mask": torch.ones(3, 12, dtype=torch.bool)}
    program = torch.export.load(place / "out/student.pt2").module()
    with torch.no_grad():
        assert network(inputs).shape == (3, 3) and torch.allclose(network(inputs), program(inputs), atol=1e-6)
    shown, text = capsys.readouterr().out, (place / "out/card.md").read_text()
    assert "60 validation rows" in shown and "class" not in shown and "picture" not in shown
    assert not any(word in text for word in ("pixels", "logit", "same class"))
    about = json.loads((place / "out/card.json").read_text())
    assert "classes" not in about and about["output"] == {"answers": [3]}
    assert about["lineage"]["labels"]["metric"] == "mae"
    assert "teacher_accuracy_on_validation" not in about["lineage"]["labels"]
    assert about["lineage"]["labels"]["teacher_score_on_validation"] > 0
    for pasted in (part.partition("```")[0] for part in text.split("```python")[1:]):
        made = {}
        exec(pasted.replace("FOLDER", "out"), made)  # what the card shows works as it is
        assert made["answers"].shape == (2, 3)
    assert main(["export", "runs/0", "to=other"]) == 2, "its code is nobody's but the user's"
    assert "allow=[points_guest]" in capsys.readouterr().err


def test_its_answers_are_written_to_a_file(place, runs, capsys):
    words = ["runs/0", "allow=[points_guest]", "device=cpu", "device.threads=1"]
    assert main(["predict", *words, "data=test", "to=answers.csv"]) == 0
    rows = list(csv.DictReader(Path("answers.csv").open()))
    columns = ["value:0", "value:1", "value:2"]
    assert list(rows[0]) == ["row", "truth:0", "truth:1", "truth:2", *columns]
    kept = list(csv.DictReader(Path("runs/0/predictions.csv").open()))
    assert list(kept[0])[:8] == ["row", "split", "truth:0", "truth:1", "truth:2", *columns]
    assert "teacher.value:2" in kept[0]
    assert [{key: row[key] for key in rows[0]} for row in kept if row["split"] == "test"] == rows
    report = Path("runs/0/report.md").read_text().partition("## Rows")[2]
    assert "The largest errors of the distilled student on the test split" in report
    assert "| true 2 |" in report and "| distilled student, 2 | off by, 2 |" in report
    truth = np.load(artifact(place, runs[0], "prepare").file("test.truth.npy"))
    said = np.array([[float(row[f"value:{k}"]) for k in range(3)] for row in rows])
    assert np.abs(said - truth).mean() == pytest.approx(runs[0]["results"]["student"]["last"]["test"]["mae"])
    capsys.readouterr()
    assert main(["predict", *words, "data=runs", "to=more.csv"]) == 2
    assert "only the data set that this network learned from can make its rows" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(place, runs):
    """SIGTERM in the student's training; then the same command."""
    words = ["train", *GUEST, *RUN, "seed=0", "store=other", "device.checkpoint_seconds=0"]
    command = [sys.executable, "-m", "kdx.cli", *words, "hydra.run.dir=runs/killed"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(place.glob("other/train/*.partial/checkpoint.pt")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0
    run = json.loads((place / "runs/killed/run.json").read_text())
    for role in ("teacher", "baseline", "student"):
        assert run["results"][role]["weights"] == runs[0]["results"][role]["weights"]


def test_a_plan_tells_what_it_will_take(place, capsys):
    assert main(["plan", *GUEST, *RUN, "seed=7", "store=store"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "student-train" in shown and "points: points 12x2 and mask 12, taken by" in shown
