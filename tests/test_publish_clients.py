"""`kdx publish` by the clients themselves, in their local and offline ways: what was published is read back
by their own means, and is what run.json and metrics.jsonl say.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.runs.publish.shared import identity, shared_runs

pytestmark = pytest.mark.slow
RUN, SWEEP = Path("outputs/runs/a=b"), Path("outputs/runs")
CURVE = "student-train/train/loss"


@pytest.fixture
def place(trained_here, monkeypatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    return trained_here


def told():
    (run,), _, _ = shared_runs(RUN, store=None, name=None)
    records = [(p.step, p.values) for p in run.points() if p.stage == "student-train"]
    curve = [(step, values["train/loss"]) for step, values in records if "train/loss" in values]
    assert len(curve) > 3 and run.scores["student/test/accuracy"] and run.params["loss.temperature"] == 4
    return run, curve


def published(capsys, *words: str) -> list[dict]:
    capsys.readouterr()
    assert main(["publish", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["runs"]


def asked(*words: str, **surroundings: str) -> None:
    """kdx in a process of its own: a client keeps its settings from when it is imported."""
    subprocess.run(
        [sys.executable, "-m", "kdx", *words], check=True, env={**os.environ, **surroundings}, timeout=300
    )


def test_mlflow_gives_back_what_was_published(place, capsys, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
    run, curve = told()
    published(capsys, str(RUN), "to=mlflow", "weights=true")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("kdx").experiment_id
    (found,) = client.search_runs([experiment])
    assert found.info.run_name == "a=b" and found.info.status == "FINISHED"
    assert found.info.start_time == int(1000 * run.moment("started"))
    assert found.data.tags["kdx.run"] == run.id and found.data.tags["kdx.status"] == "finished"
    assert found.data.params == {name: str(value) for name, value in run.params.items()}
    assert {name: found.data.metrics[name] for name in run.scores} == dict(run.scores)
    kept = client.get_metric_history(found.info.run_id, CURVE)
    assert [(one.step, one.value) for one in kept] == curve
    files = client.download_artifacts(found.info.run_id, "")
    names = {path.relative_to(files).as_posix() for path in Path(files).rglob("*") if path.is_file()}
    assert names > {"report.md", "run.json", "figures/confusion-student.png", "student/student.safetensors"}
    assert "figures/predictions.png" not in names
    assert not published(capsys, str(RUN), "to=mlflow")[0]["fresh"]
    assert len(client.search_runs([experiment])) == 1
    client.delete_tag(found.info.run_id, "kdx.whole")  # as of a command that was killed
    assert published(capsys, str(RUN), "to=mlflow")[0]["fresh"]
    assert [r.data.tags["kdx.run"] for r in client.search_runs([experiment])] == [run.id]
    published(capsys, str(RUN), "to=mlflow", "again=true")
    assert len(client.search_runs([experiment])) == 2
    published(capsys, str(SWEEP), "to=mlflow", "name=many")
    assert client.get_experiment_by_name("kdx/many")


def test_a_failed_run_is_one_in_mlflow_too(place, capsys, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
    file = RUN / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "status": "failed", "error": "no room"}))
    published(capsys, str(RUN), "to=mlflow", "project=mine")
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert found.info.status == "FAILED" and found.data.tags["kdx.status"] == "failed"


def test_trackio_gives_back_what_was_published(place, monkeypatch):
    pytest.importorskip("trackio")
    run, curve = told()
    for _ in range(2):
        asked("publish", str(RUN), "to=trackio", TRACKIO_DIR=str(place / "kept"))
    asked("publish", str(SWEEP), "to=trackio", "project=two", TRACKIO_DIR=str(place / "kept"))
    read = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
runs = [run for project in ("kdx", "two") for run in trackio.Api().runs(project)]
logs = SQLiteStorage.get_logs
print(json.dumps([[r.name, r.config, logs(r.project, r.name, run_id=r.id)] for r in runs]))
"""
    env = {**os.environ, "TRACKIO_DIR": str(place / "kept")}
    out = subprocess.run([sys.executable, "-c", read], env=env, check=True, capture_output=True, text=True)
    (name, config, logs), (_, other, _) = json.loads(out.stdout)
    assert name == "a=b" and config["kdx.run"] == run.id and other["_Group"] == "runs"
    assert {key: config[key] for key in run.params} == dict(run.params)
    assert [(row["step"], row[CURVE]) for row in logs if CURVE in row] == curve
    (scores,) = [row for row in logs if "student/test/accuracy" in row]
    assert {key: scores[key] for key in run.scores} == dict(run.scores)
    kept = list((place / "kept/artifacts/kdx/blobs").rglob("*"))
    assert (RUN / "figures/confusion-student.png").read_bytes() in [
        p.read_bytes() for p in kept if p.is_file()
    ]


def test_wandb_gives_back_what_was_published_offline(place):
    pytest.importorskip("wandb")
    run, curve = told()
    for _ in range(2):
        asked("publish", str(RUN), "to=wandb", "name=first", WANDB_MODE="offline")
    (folder,) = Path("wandb").glob("offline-run-*")
    assert folder.name.endswith(f"-{run.id}")
    line = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(next(folder.glob("*.wandb")))]
    out = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    records = [json.loads(text) for text in out.splitlines() if text.startswith("{")]
    (made,) = [record["run"] for record in records if "run" in record]
    assert made["display_name"] == "first" and made["project"] == "kdx" and made["run_id"] == run.id
    config = made["config"]["update"]
    assert {key: config[key] for key in run.params} == dict(run.params) and config["kdx.run"] == run.id
    history = [record["history"]["item"] for record in records if "history" in record]
    found = [(row["student-train/step"], row[CURVE]) for row in history if CURVE in row]
    assert [step for step, _ in found] == [step for step, _ in curve]
    assert all(math.isclose(a, b) for (_, a), (_, b) in zip(found, curve, strict=True))
    summary: dict = {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
    assert {key: summary[key] for key in run.scores} == dict(run.scores)
    assert identity(json.loads((RUN / "run.json").read_text())) == run.id
