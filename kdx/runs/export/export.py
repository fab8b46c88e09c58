"""A trained network alone, in formats that others can load: each held against the original on real pictures,
with a card of its lineage.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

import kdx
from kdx.core.documents import dump
from kdx.core.errors import UserError, together
from kdx.core.examples import random_rows
from kdx.core.files import write_atomically
from kdx.core.roles import ROLE_WORDS
from kdx.core.scorer import Scorer
from kdx.core.trees import leaves
from kdx.core.types import Inputs
from kdx.models import size
from kdx.pipeline.stages.arrays import build_task
from kdx.pipeline.stages.files import CLASS_PLACES, MODEL_KEYS, build_adapter
from kdx.report.run.verdict import of_table, summary, which_of
from kdx.runs import lineage
from kdx.runs.artifacts import only_input
from kdx.runs.export import card
from kdx.runs.export.formats import FORMATS, Answerer, Exported, check_onnx, contract, names_inside
from kdx.runs.export.parity import check_parity, real_rows
from kdx.runs.export.preparing import preparation
from kdx.runs.own_inputs import of_own_inputs, own_preprocessing, own_rows
from kdx.runs.preprocessing import PREPROCESSING, preprocessing
from kdx.runs.reading import Run, read_mapping
from kdx.runs.stored import Weights, of_role
from kdx.store.artifact import Artifact
from kdx.store.component import targets
from kdx.store.moved import kind_of_old
from kdx.store.resolve import allow as allow_packages
from kdx.store.source import sha256
from kdx.tasks.several_heads import SeveralHeads


def export(
    run: Run, *, role: str, which: str, formats: Sequence[str], to: Path, allow: Sequence[str]
) -> dict[str, Any]:
    """Writes the folder `to`, whole or not at all, and returns its card. formats: names in FORMATS.

    Raises UserError where something is missing, Unlike where a format answers differently from the original.
    """
    allow_packages(allow)
    check_folder(to, role)
    if "onnx" in formats:
        check_onnx()
    whole, artifact = of_role(run, role, which, allow)
    weights = of_own_inputs(whole)
    how = own_preprocessing(preprocessing(only_input(artifact, "data")), weights.reads)
    about = draw_card(run, role, which, weights, artifact, how)
    split, rows = real_rows(only_input(artifact, "data"))
    network = weights.network()
    original = network if weights is whole else whole.network()
    check_exportable(role, weights, network)
    example = random_rows(kind_of_old(weights.about)["example"], 4)
    if own := packages_of(weights.about, allow):
        about["allow"] = own
    if not about.get("classes"):
        about["output"] = shapes_of_row(network, example, names_inside(weights.about).output)
    temporary, lonely = to.with_name(f"{to.name}.{os.getpid()}.tmp"), not to.parent.exists()
    classes = bool(about.get("classes"))
    try:
        temporary.mkdir(parents=True)
        write_model(temporary, weights, role, how)
        asked = Exported(network, temporary, role, example, allow, names_inside(weights.about))
        for name in formats:
            file, answer = FORMATS[name](asked)
            path = temporary / file
            about["formats"][name] = {
                "file": file,
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
                "parity": {
                    "split": split,
                    **check_parity(name, original, alone(answer, weights), rows, classes=classes),
                },
            }
        if beside := sorted({path.name for path in temporary.iterdir()} - _usual(role)):
            about["beside"] = beside
        write_atomically(temporary / "card.json", dump(about))
        write_atomically(temporary / "card.md", card.markdown(json.loads(dump(about))))
        for path in temporary.iterdir():  # safetensors writes for its owner only
            shutil.copymode(temporary / "card.json", path)
        publish(temporary, to)
    except OSError as error:
        raise UserError(
            f"cannot write '{to}': {error.strerror or error}; choose another folder with to=FOLDER"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lonely:
            with suppress(OSError):  # not empty: the export is in it
                to.parent.rmdir()
    return about


def alone(answer: Answerer, weights: Weights) -> Answerer:
    """What answers rows of the data set by the inputs that the network reads, where there are several."""
    return lambda rows: answer(own_rows(rows, weights.reads))


def check_exportable(role: str, weights: Weights, network: nn.Module) -> None:
    """Raises UserError of a network whose answers no file could hold."""
    if any(isinstance(module, Scorer) for module in network.modules()):
        raise UserError(
            f"the {ROLE_WORDS.get(role, role)} reads a vocabulary of its own, and gives no answers that "
            "could be exported: take the folder that it came from"
        )
    if other := [n for n, one in enumerate(weights.members, 1) if CLASS_PLACES in one.about]:
        raise UserError(
            f"{together([f'member {n}' for n in other])} of the {ROLE_WORDS.get(role, role)} learned "
            "other classes (classes_map), which an export of several networks cannot hold: "
            "kdx predict role=teacher answers with them"
        )


def shapes_of_row(network: nn.Module, example: Inputs, single: str) -> dict[str, list[int]]:
    """name -> shape of what a network answers to a row. single: the name where there is one."""
    with torch.no_grad():
        return {name or single: list(leaf.shape[1:]) for name, leaf in leaves(network(example)).items()}


def write_model(folder: Path, weights: Weights, role: str, how: Mapping[str, Any]) -> None:
    """The state dict and what it takes to build the network around it, and to make rows of new files (`how`:
    kdx.runs.preprocessing); all formats keep them, as the small and readable one.
    """
    save_file(weights.network().state_dict(), folder / f"{role}.safetensors")
    kept = {
        key: weights.about[key] for key in ("component", "aggregate", *MODEL_KEYS) if key in weights.about
    }
    for name, text in accompanying(weights.about).items():
        write_atomically(folder / name, text)
    digest = sha256(folder / f"{role}.safetensors")
    write_atomically(
        folder / "model.json",
        dump({**kept, "role": role, "input": contract(weights.about), PREPROCESSING: how, "sha256": digest}),
    )


def accompanying(about: Mapping[str, Any]) -> dict[str, str]:
    """Name -> text of the files without which nobody could make rows for a network. about: a model.json."""
    adapter = build_adapter(about)
    return adapter.files() if adapter else {}


def draw_card(
    run: Run, role: str, which: str, weights: Weights, artifact: Artifact, how: Mapping[str, Any]
) -> dict[str, Any]:
    """card.json but for its formats: everything is read before anything is written. how: see write_model."""
    try:
        metrics, released = lineage.figures(run, lineage.compared(run)), lineage.released(run, role)
        metrics = lineage.promised(metrics) if released else metrics
        made_from = lineage.tell(artifact)
        members = lineage.tell_each(run, role)
        gain = summary(metrics, which) if "student" in metrics else {"gain": None, "gap_closed": None}
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise UserError(
            f"the lineage of '{run.path}' cannot be read: an artifact in its store is not as "
            f"kdx writes it ({error!r})"
        ) from error
    network = weights.network()
    config = run.document["config"]
    found = {
        "kdx": kdx.__version__,
        "exported": datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": weights.model,
        "role": role,
        "which": which,
        "of_table": which == which_of(role, of_table(run.document)),
        "artifact": f"{artifact.stage}/{artifact.key}",
        **({"members": members} if members else {}),
        "component": weights.about["component"],
        "parameters": size.parameters(network),
        "bytes": size.bytes(network),
        "input": contract(weights.about),
        "prepare": preparation(kind_of_old(weights.about), how),
        **({"classes": weights.about["classes"]} if weights.about.get("classes") else {}),
        **_heads(weights.about),
        "formats": {},
        "seed": config.get("seed"),
        "metrics": metrics,
        "gain": gain["gain"],
        "gap_closed": gain["gap_closed"],
        "teacher_artifact": "/".join(run.stages[run.roles()["teacher"]])
        if "teacher" in run.roles() and not released
        else None,
        "lineage": made_from,
        "run": {
            "command": shlex.join(str(word) for word in run.document.get("command") or []),
            "started": run.document.get("started"),
            "config": config,
            "environment": run.document.get("environment"),
            "protocol": run.document.get("protocol"),
        },
        "environment": {"python": platform.python_version(), "platform": platform.platform(), **_versions()},
    }
    return lineage.withheld(found) if released else found


def _heads(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of a head a task: the numbers of the classes of each."""
    task = build_task(about)
    return {"tasks": task.groups} if isinstance(task, SeveralHeads) else {}


def packages_of(about: Mapping[str, Any], allow: Sequence[str]) -> list[str]:
    """Those of `allow` that a model.json takes code from."""
    code = list(targets({key: about.get(key) for key in ("component", "task", "adapter", "aggregate")}))
    return [name for name in allow if any(target.startswith(f"{name}.") for target in code)]


def _versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _usual(own: str) -> set[str]:
    """Files that an export may have, whatever the network; others are named in card.json ("beside"). own: the
    role, which kdx may not have."""
    weights = {f"{role}.{kind}" for role in (*ROLE_WORDS, own) for kind in ("safetensors", "pt2", "onnx")}
    return weights | {"model.json", "card.json", "card.md"}


def check_folder(to: Path, role: str = "student") -> None:
    """The folder is free, or holds an earlier export and nothing else: that is replaced."""
    if not to.exists() and not to.is_symlink():
        return
    names = _usual(role)
    with suppress(UserError, OSError):
        names |= {str(name) for name in read_mapping(to / "card.json").get("beside") or ()}
    strange = (
        sorted(p.name for p in to.iterdir() if p.name not in names)
        if to.is_dir() and not to.is_symlink()
        else [to.name]
    )
    if strange:
        raise UserError(
            f"'{to}' is there already and is no earlier export (it has {strange[0]!r}): choose another "
            "folder with to=FOLDER"
        )


def publish(temporary: Path, to: Path) -> None:
    """One rename; an earlier export stays until the new one is whole."""
    aside = to.with_name(f"{to.name}.{os.getpid()}.old")
    if to.exists():
        to.rename(aside)
    temporary.rename(to)
    shutil.rmtree(aside, ignore_errors=True)
