"""Run folders as `kdx train` leaves them, without a run: for the tests of what reads many of them, and
scripts/bench_compare.py.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.config.compose import check_words

CLASSES = [str(c) for c in range(10)]
TEST = 500


def key(*of: Any) -> str:
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()


@functools.cache
def _composed(words: tuple[str, ...]) -> str:
    return json.dumps(check_words(words))


def document(
    words: Sequence[str] = (),
    seed: int = 0,
    student: float = 0.9,
    baseline: float | None = 0.88,
    teacher: float = 0.95,
    changed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What run.json of a finished run would hold. student, baseline, teacher: test accuracies. changed:
    dotted key -> another value.
    """
    config = json.loads(_composed(tuple(words)))
    config["seed"] = seed
    mine = key(*words, seed)
    made = {
        "status": "finished",
        "config": config,
        "stages": [
            {"name": name, "key": key(name, mine), "cached": False, "seconds": 1.0}
            for name in (
                "prepare",
                "teacher-pretrain",
                "pseudo-label",
                "student-train",
                "baseline-train",
                "evaluate",
            )
        ],
        "results": {
            "classes": CLASSES,
            "headline": "last",
            "gain": None,
            "gap_closed": None,
            "teacher": network(teacher, 151402),
            "student": network(student, 2582 if "student=cnn_small" not in words else 7898),
        },
        "protocol": {
            "dataset": "Digits",
            "sizes": {k: config["dataset"].get(k) for k in ("labelled", "unlabelled", "validation", "test")},
            "counts": {
                "labelled": config["dataset"]["labelled"],
                "validation": 200,
                "test": TEST,
                "unlabelled": 997,
            },
            "data_key": key("prepare", mine),
            "digests": digests(config["dataset"], seed),
            "seed": seed,
            "selection": "validation only",
            "test": "opened once",
            "headline": "last",
            "baseline": "matched",
        },
        "environment": {"kdx": "0.1.0", "commit": "abc", "torch": "2.0"},
        "started": f"2026-01-01T00:00:{seed % 60:02d}+00:00",
        "warnings": [],
        "command": ["kdx", "train", *words, f"seed={seed}"],
    }
    if baseline is not None:
        made["results"]["baseline"] = network(baseline, 2582)
    return _changed(made, changed or {})


def _changed(made: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    for path, value in changed.items():
        node: Any = made
        *parents, last = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return made


RMSE = {"name": "rmse", "title": "RMSE", "scale": 1, "unit": "", "digits": 3, "more": False, "low": 0}
R2 = {"name": "r2", "title": "R2", "scale": 1, "unit": "", "digits": 3, "more": True, "high": 1}


def regression(
    words: Sequence[str] = (),
    seed: int = 0,
    student: float = 0.7,
    baseline: float | None = 1.0,
    teacher: float = 0.5,
    changed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The same of another task: numbers to be met, by their RMSE on the test split; r2 is 1 less that."""
    made = document(words, seed, student, baseline, teacher)
    results = made["results"]
    del results["classes"]
    results |= {"metric": dict(RMSE), "metrics": [dict(RMSE), dict(R2)]}
    made["protocol"]["dataset"] = "Curves"
    for role, value in (("teacher", teacher), ("student", student), ("baseline", baseline)):
        if value is not None:
            test = {"rmse": value, "r2": 1 - value, "n": TEST}
            results[role]["last"] = {"validation": {"rmse": value + 0.01, "n": 200}, "test": test}
    return _changed(made, changed or {})


def digests(dataset: Mapping[str, Any], seed: int) -> dict[str, str]:
    """Of digits: the test rows depend on the seed and their number only."""
    return {
        "test": key("test", seed, dataset["test"]),
        "validation": key("validation", seed, dataset["validation"]),
        "labelled": key("labelled", seed, dataset["labelled"]),
        "unlabelled": key("unlabelled", seed, dataset["labelled"]),
    }


def network(accuracy: float, parameters: int) -> dict[str, Any]:
    right = round(TEST / 10 * accuracy)
    matrix = [
        [right if i == j else (TEST // 10 - right if j == (i + 1) % 10 else 0) for j in range(10)]
        for i in range(10)
    ]
    edges = [b / 15 for b in range(16)]
    bins = {
        "edges": edges,
        "counts": [0] * 7 + [20] * 5 + [100, 100, 200],
        "confidence": [None] * 7 + [(b + 0.5) / 15 for b in range(7, 15)],
        "right": [0] * 7 + [10, 11, 12, 14, 15, 85, 92, 196],
    }
    measured = {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "ece": 0.02,
        "nll": 0.3,
        "n": TEST,
        "agreement": 0.9,
    }
    splits = {
        "validation": {**measured, "accuracy": accuracy - 0.01, "n": 200},
        "test": {**measured, "confusion": matrix, "reliability": bins},
    }
    return {
        "model": "cnn",
        "parameters": parameters,
        "bytes": 4 * parameters,
        "flops": 20 * parameters,
        "latency_ms": 0.2 + parameters / 1e6,
        "steps": 100,
        "last": splits,
    }


def folder(place: Path, name: str, made: Mapping[str, Any]) -> Path:
    """place/name with run.json and a learning curve."""
    path = place / name
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(made))
    results = made.get("results") or {}
    student, metric = results.get("student") or {}, (results.get("metric") or {}).get("name", "accuracy")
    top, less = student["last"]["validation"][metric] if student else 0.5, metric == "rmse"
    lines = [
        {
            "step": step,
            "stage": "student-train",
            f"validation/{metric}": top * (1 + (1 if less else -0.9) * math.exp(-step / 20)),
        }
        for step in range(0, 100, 5)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def many(place: Path, rows: int, seeds: int) -> None:
    """rows x seeds run folders of one sweep, over losses, students and labels."""
    losses, students, labels = (
        ("kd", "slam", "weighted", "soft", "supervised"),
        ("cnn_tiny", "cnn_small"),
        (50, 100, 200, 400),
    )
    words = [
        (f"loss={loss}", f"student={student}", f"dataset.labelled={n}")
        for n in labels
        for loss in losses
        for student in students
    ][:rows]
    for number, (of, seed) in enumerate((of, seed) for of in words for seed in range(seeds)):
        lift = (
            0.01 * losses.index(of[0][5:]) + 0.02 * labels.index(int(of[2][17:])) + 0.01 * ("small" in of[1])
        )
        noise = 0.01 * math.sin(7 * seed + number)
        made = document(
            of, seed, 0.8 + lift + noise, 0.79 + 0.02 * labels.index(int(of[2][17:])) + 0.7 * noise
        )
        folder(place, f"{number}_{'_'.join(of).replace('=', '-')}_seed-{seed}", made)


class Still:
    """A runtime that needs no torch."""

    def settle(self):
        return self

    def where(self):
        return {"device": "here"}
