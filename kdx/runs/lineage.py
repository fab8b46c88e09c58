"""What made a trained network: read from the store's manifests, from its key upwards. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kdx.core.metric import Metric
from kdx.core.roles import renamed_roles
from kdx.core.shapes import expect_shape
from kdx.pipeline import stages
from kdx.pipeline.scores import metric_of, score_of
from kdx.report.run.sessions import with_session_metrics
from kdx.runs.artifacts import upstream
from kdx.runs.reading import Run
from kdx.store.artifact import Artifact
from kdx.tasks.shown import CLASSIFICATION, shown_metrics

TRAINS = (stages.PRETRAIN.name, stages.THROUGH.name, stages.BEFORE.name, stages.TRAIN.name)
_ANSWERS = (stages.LABEL.name, stages.GIVEN.name)
"""Stages that lay down what a student learns from."""
_PROMISED = {"student", "baseline"}
"""Of a run with private rows, the roles that learned of released labels or of public ones."""
AGAINST_TEACHER = {"agreement", "kl", "acceptance"}
"""Metrics that hold a network against the teacher."""


def tell(artifact: Artifact) -> dict[str, Any]:
    """{"loss", "training", "precision", "checkpoint", "teachers", "labels", "data", "artifacts"} of a
    training artifact. labels None: it had no teacher.

    Nearest first in `teachers`: of a chain, the last teacher before the student. Raises UserError where
    something above it is gone or damaged.
    """
    chain = upstream(artifact)
    manifests = {name: made.manifest for name, made in chain.items()}
    own = f"{artifact.stage}/{artifact.key}"
    inputs = manifests[own]["inputs"]
    labels = [made for made in chain.values() if made.stage in _ANSWERS]
    data = next(made for made in chain.values() if made.stage == stages.PREPARE.name)
    return {
        "loss": _component(inputs.get("loss")),
        "training": _component(inputs.get("training")),
        "precision": inputs.get("precision"),
        "model": _component(inputs.get("model")),
        "checkpoint": _file(inputs),
        "code": manifests[own]["code"],
        "created": manifests[own]["created"],
        "stage_seed": inputs.get("seed"),
        "teachers": [
            _teacher(made) for name, made in reversed(chain.items()) if made.stage in TRAINS and name != own
        ],
        "labels": _labels(labels[-1], inputs, metric_of(data)) if labels else None,
        "asked": [each["artifact"] for each in inputs.get("teachers") or ()],
        "answered": _answered(chain),
        "privacy": artifact.json("model.json").get(stages.PRIVACY),
        "data": _data(data),
        "artifacts": {
            name: {key: manifest[key] for key in ("inputs", "version", "code", "created", "seconds")}
            for name, manifest in manifests.items()
        },
    }


def _answered(chain: Mapping[str, Artifact]) -> str | None:
    """Which labels of a run with private rows a network learned from, None: no such."""
    found = [
        made.manifest["inputs"]["labels"] for made in chain.values() if made.stage == stages.ANSWERED.name
    ]
    return found[-1] if found else None


def tell_each(run: Run, role: str) -> list[dict[str, Any]]:
    """Of a role of several networks, each of them as `tell` has the teachers of a student; else empty."""
    several = compared(run).get(role)
    return [_teacher(one) for one in several] if isinstance(several, list) else []


def _component(value: Any) -> Any:
    """A canonical component as its spec, with the digests of its files where it has some; None stays None."""
    if not isinstance(value, dict) or not isinstance(value.get("component"), dict):
        return None
    return {**value["component"], **({"sources": value["sources"]} if value.get("sources") else {})}


def _file(inputs: Mapping[str, Any]) -> str | None:
    """The digest of the file of weights that a network began with."""
    checkpoint = inputs.get("checkpoint")
    return checkpoint.get("source") if isinstance(checkpoint, dict) else None


def _teacher(made: Artifact) -> dict[str, Any]:
    """loss, training None: none of its steps was made; fitted: it was given them, and learned at once."""
    inputs, summary = made.manifest["inputs"], made.json("summary.json")
    steps = summary["steps"]
    older = made.stage == stages.PRETRAIN.name and not steps and inputs.get("training") is not None
    fitted = older or summary.get("fitted") is True
    return {
        "artifact": f"{made.stage}/{made.key}",
        "model": _component(inputs.get("model")),
        "loss": None if fitted else _component(inputs.get("loss")),
        "training": None if fitted else _component(inputs.get("training")),
        **({"fitted": True} if fitted else {}),
        "checkpoint": _file(inputs),
        "data": inputs["data"]["artifact"],
        "steps": steps,
        "code": made.manifest["code"],
        "created": made.manifest["created"],
    }


def _labels(made: Artifact, student: Mapping[str, Any], counts: Metric) -> dict[str, Any]:
    """mode: "stored", "live", or "given" in a file: then its digest and what it held stand beside."""
    inputs, found = made.manifest["inputs"], made.json("answers.json")
    if made.stage == stages.GIVEN.name:
        return {
            "artifact": f"{made.stage}/{made.key}",
            "mode": "given",
            "file": inputs["answers"]["sources"]["file"],
            "given": found["given"],
            "corrected": found["corrected"],
            **({"validation_part": found["validation_part"]} if found.get("validation_part") else {}),
            "teachers": [],
            **_score_of_teacher(counts, score_of(found)),
        }
    live = bool(student.get("teachers"))
    return {
        "artifact": f"{made.stage}/{made.key}",
        "mode": "live" if live else "stored",
        "view": student.get("view"),
        "views": None if live else inputs.get("views"),
        "augment": [name for name, _ in inputs.get("augment") or []],
        "precision": inputs.get("precision"),
        "teachers": [each["artifact"] for each in inputs["teachers"]],
        **_score_of_teacher(counts, score_of(found)),
    }


def _score_of_teacher(counts: Metric, score: float | None) -> dict[str, Any]:
    """Under the key of before there were other metrics, where it is one of kdx's own."""
    if CLASSIFICATION.get(counts.name) == counts:
        return {"teacher_accuracy_on_validation": score}
    return {"metric": counts.name, "teacher_score_on_validation": score}


def _data(made: Artifact) -> dict[str, Any]:
    inputs, about = made.manifest["inputs"], made.json("data.json")
    return {
        "artifact": f"{made.stage}/{made.key}",
        "dataset": about["dataset"],
        "component": _component(inputs["dataset"]),
        "source_digests": inputs["dataset"]["sources"],
        "sizes": {name: inputs.get(name) for name in ("labelled", "unlabelled", "validation", "test")},
        "counts": about["counts"],
        "skipped": len(about["skipped"]),
        "range": (about.get("files") or {}).get("range", {}),
        "split_seed": inputs.get("seed"),
    }


def figures(run: Run, artifacts: Mapping[str, Artifact | list[Artifact]]) -> dict[str, Any]:
    """role -> evaluate's results, of the roles whose key is that of `artifacts`, with what the results say of
    their metrics, roles and members; {} where the run was not evaluated.
    """
    names = [name for name, (stage, _) in run.stages.items() if stage == stages.EVALUATE.name]
    if not names:
        return {}
    made = run.stage(names[-1])
    tested = made.manifest["inputs"]["models"]
    results = _with_sessions(run, made.json("results.json"))
    kept = {*shown_metrics(results), "n"}
    found = {}
    for role, artifact in artifacts.items():
        if role in results and tested.get(role) == _named(artifact):
            found[role] = _figures_of(results[role], kept)
            if isinstance(artifact, list) and role == "teacher":
                members = zip(artifact, results["members"], strict=True)
                found["members"] = [
                    {"artifact": f"{one.stage}/{one.key}", **_figures_of(about, kept)}
                    for one, about in members
                ]
    about = {key: results[key] for key in ("metric", "metrics", "sessions") if results.get(key)}
    return {**found, **about, **_own_roles(run)} if found else {}


def _with_sessions(run: Run, results: dict[str, Any]) -> dict[str, Any]:
    """The results with what is known of each session, of a run that had some."""
    names = [name for name, (stage, _) in run.stages.items() if stage == stages.SESSIONS.name]
    if not names:
        return results
    return with_session_metrics({**results, "sessions": run.stage(names[-1]).json("sessions.json")})


def _own_roles(run: Run) -> dict[str, Any]:
    """What its roles are called that kdx does not have or calls otherwise, as its run.json says."""
    found = run.document.get("results")
    own = found.get("roles") if isinstance(found, Mapping) else None
    shape = {"*": {"words": str, "short": str, "colour": str}}
    if own:
        expect_shape(own, shape, run.path / "run.json", "results.roles")
    named = renamed_roles(found if isinstance(found, Mapping) else None)
    return {"roles": named} if named else {}


def released(run: Run, role: str) -> bool:
    """Whether a run has private rows of which this role learned no more than was released, if anything."""
    return role in _PROMISED and any(stage == stages.RELEASE.name for stage, _ in run.stages.values())


def promised(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of `figures` those that tell no more of private rows than was released: of these roles, on public rows,
    without what holds them against a teacher."""
    kept = {name: value for name, value in found.items() if name in ("metric", "metrics", "roles")}
    if "metrics" in kept:
        kept["metrics"] = [one for one in kept["metrics"] if one["name"] not in AGAINST_TEACHER]
    if "roles" in kept:
        kept["roles"] = {role: about for role, about in kept["roles"].items() if role in _PROMISED}
    for role in _PROMISED & found.keys():
        kept[role] = {
            key: _on_public_rows(value) if key in ("last", "best") else value
            for key, value in found[role].items()
        }
    return kept


_KEY = re.compile(r"[0-9a-f]{64}")
_NOT_OF_ROWS = ("formats", "code")
"""What of a card has digests that hang on no private row: of the exported files, of kdx itself."""


def withheld(found: Any) -> Any:
    """A card without keys and digests: each hangs on the content of private rows, so that whoever guesses
    these could tell by it that the guess is right."""
    if isinstance(found, Mapping):
        return {
            _KEY.sub("withheld", str(key)): value if key in _NOT_OF_ROWS else withheld(value)
            for key, value in found.items()
        }
    if isinstance(found, list | tuple):
        return [withheld(one) for one in found]
    return _KEY.sub("withheld", found) if isinstance(found, str) else found


def _on_public_rows(measured: Mapping[str, Any]) -> dict[str, Any]:
    """measured: split -> metrics."""
    return {
        split: {name: value for name, value in measured[split].items() if name not in AGAINST_TEACHER}
        for split in ("validation", "test")
        if split in measured
    }


def _named(artifact: Artifact | list[Artifact]) -> Any:
    """As canonical inputs name it."""
    if isinstance(artifact, list):
        return [_named(one) for one in artifact]
    return {"artifact": f"{artifact.stage}/{artifact.key}"}


def _figures_of(about: Mapping[str, Any], kept: set[str]) -> dict[str, Any]:
    """What a card keeps of one network's results. kept: metrics."""
    found = {
        key: about.get(key)
        for key in ("parameters", "bytes", "flops", "latency_ms", "steps", "best_step", "stopped")
    }
    for which in {"last", "best"} & about.keys():
        found[which] = {
            split: {k: v for k, v in numbers.items() if k in kept} for split, numbers in about[which].items()
        }
    return found


def compared(run: Run) -> dict[str, Artifact | list[Artifact]]:
    """role -> artifact, of every role that the run trained; of an ensemble those of its members."""
    members: dict[str, Artifact | list[Artifact]] = (
        {"teacher": [run.stage(stage) for stage in run.members()]} if run.members() else {}
    )
    joined: dict[str, Artifact | list[Artifact]] = {role: run.together(role) for role in run.joined}
    return members | {role: run.role(role) for role in run.roles()} | joined
