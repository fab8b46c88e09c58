"""Where a run took place, and how its results came about, for its run.json. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.config.wire import Order
from kdx.core.roles import ROLES, roles_of
from kdx.pipeline.recipes.teachers import teacher_stages
from kdx.store.artifact import Artifact
from kdx.store.manifest import named_sources
from kdx.training.runtime import cores, versions


def environment(order: Order) -> dict[str, Any]:
    """Where the run took place, reported without importing torch."""
    import importlib.metadata
    import platform

    return {
        "commit": _commit(),
        **versions(),
        "hydra-core": importlib.metadata.version("hydra-core"),
        "platform": platform.platform(),
        "cores": cores(),
        "device": order.runtime.device,
        "threads": order.runtime.threads,
    }


def trace(document: dict[str, Any], results: dict[str, Any], artifacts: Mapping[str, Artifact]) -> None:
    """Adds to a run.json how its results came about, as the store's manifests have it: of each stage the
    digests of its code and of the files that it read, its threads and its precision; under
    environment.settled the device, the threads, the hardware and the versions that the student (without one,
    the last stage) was made with, and under environment.elsewhere what was otherwise at other stages; to each
    role's results the digests of its weights.
    """
    manifests = {name: artifact.manifest for name, artifact in artifacts.items()}
    for entry in document["stages"]:
        manifest = manifests.get(entry["name"], {})
        entry |= {"code": manifest["code"]} if manifest else {}
        entry |= {"sources": found} if (found := dict(named_sources(manifest.get("inputs")))) else {}
        entry |= _how(manifest)
    made = {name: _made(artifact, manifests[name]) for name, artifact in artifacts.items()}
    student, roles = ROLES["student"].stage, roles_of(results)
    counts = made[student if student in made else list(made)[-1]]
    precision = {role: results[role]["precision"] for role in roles}
    elsewhere = {name: {k: v for k, v in own.items() if counts.get(k) != v} for name, own in made.items()}
    document["environment"] |= {"settled": {**counts, "precision": precision}}
    document["environment"] |= (
        {"elsewhere": found} if (found := {name: own for name, own in elsewhere.items() if own}) else {}
    )
    members = results.get("members") or []
    trained = {about.stage: results[role] for role, about in roles.items() if about.stage in manifests}
    for stage, found in (*trained.items(), *zip(teacher_stages(len(members)), members, strict=False)):
        files = manifests[stage]["files"]
        found["weights"] = {
            which: files[name]["sha256"]
            for which in ("last", "best")
            if (name := f"{which}.safetensors") in files
        }


def _how(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The threads that a stage was made with, and the precision, of those that have one."""
    found = {
        "threads": manifest.get("made", {}).get("threads"),
        "precision": manifest.get("inputs", {}).get("precision"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _made(artifact: Artifact, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What an artifact was made with; of older ones the device and the threads of those that trained are
    known.
    """
    if "made" in manifest or not artifact.file("summary.json").is_file():
        return manifest.get("made", {})
    return {key: artifact.json("summary.json").get(key) for key in ("device", "threads")}


def _commit() -> str | None:
    import subprocess

    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
