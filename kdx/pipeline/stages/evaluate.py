"""evaluate: every network of the run on the same pictures, side by side. The only stage that opens the test
split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.types import Split
from kdx.data.views.augment import Chain, Views
from kdx.models import size
from kdx.pipeline.stages.files import open_network, open_split
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.store import Work
from kdx.tasks.metrics import confusion, metrics, recalls, reliability
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

SPLITS = {"train": "labelled", "validation": "validation", "test": "test"}
EXAMPLES = 16


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    models: Mapping[str, Artifact],
    rounds: Sequence[Artifact],
    shifts: Sequence[tuple[str, Component]],
    seed: int,
    learned: Mapping[str, Sequence[str]],
) -> None:
    """models: role -> training artifact, the teacher first. rounds: the students of an iterated recipe, in
    order. shifts: by name, steps of a view that the test pictures are seen through as well; seed: of what is
    random in them. learned: role -> splits that it learned from beside the labelled rows, so that they tell
    nothing of it.

    Files: results.json (see docs/run-json.md), examples.npy, examples.json."""
    about = data.json("data.json")
    opened = {name: open_split(data, split, runtime) for name, split in SPLITS.items()}
    splits = {name: split for name, split in opened.items() if split is not None}
    counts = {
        name: split.truth.bincount(minlength=len(about["classes"])).tolist() for name, split in splits.items()
    }
    results: dict[str, Any] = {"classes": about["classes"], "class_counts": counts}
    last: dict[str, nn.Module] = {}
    answers: dict[str, dict[str, Tensor]] = {}
    for number, (role, artifact) in enumerate(models.items()):
        results[role] = _describe(artifact)
        for which in ("last", "best"):
            if not artifact.file(f"{which}.safetensors").exists():
                continue
            network = runtime.place(open_network(artifact, which))
            fair = {name: split for name, split in splits.items() if name not in learned.get(role, ())}
            logits = {name: predict(network, split, runtime) for name, split in fair.items()}
            if which == "last":
                last[role], answers[role] = network, logits
            teacher = answers.get("teacher") if role != "teacher" else None
            results[role][which] = {
                name: _measure(logits[name], splits[name], name, teacher) for name in logits
            }
        work.progress(number + 1, len(models), role)
    shape = tuple(about["shape"])
    pace = size.latency(last, shape, runtime.device)
    for role, network in last.items():
        results[role] |= {
            "parameters": size.parameters(network),
            "bytes": size.bytes(network),
            "flops": size.flops(network, shape),
            "latency_ms": pace[role],
        }
    results["shifts"] = {
        name: _shifted(last, splits["test"], name, step, seed, runtime) for name, step in shifts
    }
    results["rounds"] = [_of_round(artifact, splits, answers.get("teacher"), runtime) for artifact in rounds]
    work.write_json("results.json", results)
    write_examples(work, splits["test"], {role: logits["test"] for role, logits in answers.items()})


def _shifted(
    networks: Mapping[str, nn.Module], test: Split, name: str, step: Component, seed: int, runtime: Runtime
) -> dict[str, float]:
    """role -> accuracy of the last weights on the test pictures under one shift, the same pictures for every
    role.
    """
    views = Views(Chain([(name, step.build())]), seed)
    return {
        role: metrics(predict(network, test, runtime, views=views), test.truth)["accuracy"]
        for role, network in networks.items()
    }


def _of_round(
    artifact: Artifact,
    splits: Mapping[str, Split],
    teacher: Mapping[str, Tensor] | None,
    runtime: Runtime,
) -> dict[str, Any]:
    """What the table of rounds shows: the last weights on each split."""
    network = runtime.place(open_network(artifact, "last"))
    found = {name: predict(network, split, runtime) for name, split in splits.items()}
    return {
        "key": artifact.key,
        **{
            name: metrics(logits, splits[name].truth, teacher[name] if teacher else None)
            for name, logits in found.items()
        },
    }


def _describe(artifact: Artifact) -> dict[str, Any]:
    summary, model = artifact.json("summary.json"), artifact.json("model.json")
    return {
        "model": model["component"]["_target_"].rpartition(".")[2],
        "steps": summary["steps"],
        "best_step": summary["best_step"],
        "precision": summary["precision"],
        "stopped": summary["stopped"],
    }


def _measure(logits: Tensor, split: Split, name: str, teacher: Mapping[str, Tensor] | None) -> dict[str, Any]:
    found: dict[str, Any] = metrics(logits, split.truth, teacher[name] if teacher else None)
    if name != "train":
        found["recall"] = recalls(logits.argmax(1), split.truth, logits.shape[1])
        found["reliability"] = reliability(logits.double().softmax(1), split.truth)
    if name == "test":
        found["confusion"] = confusion(logits.argmax(1), split.truth, logits.shape[1]).tolist()
    return found


def write_examples(work: Work, test: Split, answers: Mapping[str, Tensor]) -> None:
    """Some test pictures with every network's prediction: first those that the networks disagree on or get
    wrong, then others.
    """
    guesses = {role: logits.argmax(1) for role, logits in answers.items()}
    wrong = torch.stack([g != test.truth for g in guesses.values()]).sum(0)
    rows = (
        torch.cat([wrong.nonzero().flatten()[: EXAMPLES // 2], (wrong == 0).nonzero().flatten()])[:EXAMPLES]
        .sort()
        .values
    )
    np.save(work.path / "examples.npy", test.images[rows.to(test.images.device)].cpu().numpy())
    work.write_json(
        "examples.json",
        {
            "rows": rows.tolist(),
            "truth": test.truth[rows].tolist(),
            "predictions": {role: g[rows].tolist() for role, g in guesses.items()},
            "confidence": {
                role: logits[rows].softmax(1).max(1).values.tolist() for role, logits in answers.items()
            },
        },
    )
