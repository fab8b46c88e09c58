"""A trained network alone, in formats that others can load: each held against the original on real pictures,
with a card of its lineage.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import logging
import os
import platform
import shlex
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import kdx
from kdx.core.errors import UserError
from kdx.core.examples import random_rows
from kdx.core.files import write_atomically
from kdx.core.levels import as_float
from kdx.core.trees import from_leaves, joined, leaves, part_of, rows_of, tree
from kdx.core.types import Answers, Inputs
from kdx.models import size
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import MODEL_KEYS
from kdx.report.run.plain import dump
from kdx.report.run.verdict import ROLE_WORDS, summary
from kdx.runs import lineage
from kdx.runs.export import card
from kdx.runs.measure import Weights, of_role
from kdx.runs.reading import Run, only_input, read_mapping, read_model
from kdx.store.artifact import Artifact, expect_shape
from kdx.store.moved import kind_of_old
from kdx.store.resolve import allow as allow_packages
from kdx.store.source import sha256
from kdx.training.runtime import Runtime

_ROWS = 256
"""Rows that the formats are compared on, at most; in batches of several sizes, as a fixed batch size is
an exporter's favourite error.
"""
BATCHES = (1, 2, 7, 64)
TOLERANCE, _LEAST = 1e-4, 1e-6
"""Largest difference of a number of an answer, as a share of the largest, and never below LEAST. Sums in
another order differ by about 1e-6.
"""

_Answer = Callable[[Inputs], Answers]


class Unlike(Exception):
    """An exported network answers differently from the original."""


def export(
    run: Run, *, role: str, which: str, formats: Sequence[str], to: Path, allow: Sequence[str]
) -> dict[str, Any]:
    """Writes the folder `to`, whole or not at all, and returns its card. formats: names in FORMATS.

    Raises UserError where something is missing, Unlike where a format answers differently from the original.
    """
    allow_packages(allow)
    check_folder(to)
    if "onnx" in formats:
        check_onnx()
    weights, artifact = of_role(run, role, which, allow)
    about = draw_card(run, role, which, weights, artifact)
    split, rows = real_rows(only_input(artifact, "data"))
    network, example = weights.network(), random_rows(kind_of_old(weights.about)["example"], 4)
    temporary, alone = to.with_name(f"{to.name}.{os.getpid()}.tmp"), not to.parent.exists()
    try:
        temporary.mkdir(parents=True)
        write_model(temporary, weights, role)
        for name in formats:
            file, answer = FORMATS[name](network, temporary, role, example, allow)
            path = temporary / file
            about["formats"][name] = {
                "file": file,
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
                "parity": {"split": split, **check_parity(name, network, answer, rows)},
            }
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
        if alone:
            with suppress(OSError):  # not empty: the export is in it
                to.parent.rmdir()
    return about


def load(folder: Path | str, allow: Sequence[str] = ()) -> nn.Module:
    """The network of an exported folder, on the CPU, in eval mode: rows as its data set gives them ->
    answers; of pictures (N, C, H, W) float32 in [0, 1] -> (N, K) logits.

    allow: packages of your own that the model comes from. Nothing is unpickled. Raises UserError where the
    folder is damaged or no export.
    """
    folder = Path(folder).expanduser()
    file = folder / "model.json"
    if not file.is_file():
        raise UserError(f"'{folder}' is no export of kdx: it has no model.json")
    allow_packages(allow)
    about, role = read_model(file, allow), expect_shape(read_mapping(file).get("role"), str, file, "role")
    weights = folder / f"{Path(role).name}.safetensors"
    if not weights.is_file() or sha256(weights) != about.get("sha256"):
        raise UserError(
            f"'{weights}' is missing or does not have the content that was exported: export it again"
        )
    return Weights(role, weights, about, role).network()


def write_model(folder: Path, weights: Weights, role: str) -> None:
    """The state dict and what it takes to build the network around it; all formats keep them, as the small
    and readable one.
    """
    save_file(weights.network().state_dict(), folder / f"{role}.safetensors")
    kept = {key: weights.about[key] for key in ("component", *MODEL_KEYS) if key in weights.about}
    digest = sha256(folder / f"{role}.safetensors")
    write_atomically(
        folder / "model.json",
        dump({**kept, "role": role, "input": contract(weights.about), "sha256": digest}),
    )


def contract(about: Mapping[str, Any]) -> dict[str, Any]:
    """What the exported network takes. about: a model.json."""
    kind = kind_of_old(about)
    if kind["reads"] != "pictures":
        inputs = {name: {"shape": shape, "dtype": made} for name, (shape, made) in kind["example"].items()}
        return {"reads": kind["reads"], "inputs": inputs, "batch": "any"}
    shape = about["shape"]
    channels = {1: "grey", 3: "red, green, blue"}.get(shape[0], f"{shape[0]}, in the order of the dataset")
    return {
        "name": "pixels",
        "dtype": "float32",
        "range": [0, 1],
        "shape": list(shape),
        "layout": "NCHW",
        "channels": channels,
        "normalisation": "built in",
        "batch": "any",
    }


def state_dict(
    network: nn.Module, folder: Path, role: str, example: Inputs, allow: Sequence[str]
) -> tuple[str, _Answer]:
    return f"{role}.safetensors", load(folder, allow)


def torch_export(
    network: nn.Module, folder: Path, role: str, example: Inputs, allow: Sequence[str]
) -> tuple[str, _Answer]:
    file = folder / f"{role}.pt2"
    with quiet():
        torch.export.save(program(network, example), file)
        return file.name, torch.export.load(file).module()


def onnx(
    network: nn.Module, folder: Path, role: str, example: Inputs, allow: Sequence[str]
) -> tuple[str, _Answer]:
    import onnxruntime

    file = folder / f"{role}.onnx"
    with torch.no_grad():
        outputs = network(example)
    with quiet():
        torch.onnx.export(
            program(network, example),
            (),
            str(file),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=names_of(example, "pixels"),
            output_names=names_of(outputs, "logits"),
        )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def answer(rows: Inputs) -> Answers:
        given = dict(zip(names_of(rows, "pixels"), leaves(rows).values(), strict=True))
        made = session.run(names_of(outputs, "logits"), {name: leaf.numpy() for name, leaf in given.items()})
        return from_leaves(dict(zip(leaves(outputs), map(torch.from_numpy, made), strict=True)))

    return file.name, answer


def names_of(value: Inputs, single: str) -> list[str]:
    """What a graph calls its tensors. single: where there is one."""
    return [name or single for name in leaves(value)]


FORMATS = {"state_dict": state_dict, "torch_export": torch_export, "onnx": onnx}
"""name -> what writes it: (network, folder, role, example, allow) -> (its file, the network loaded back from
that file).
"""


def program(network: nn.Module, example: Inputs) -> torch.export.ExportedProgram:
    """The network's forward as a graph, for any number of rows. example: at least two rows, as one would be
    taken for a constant.
    """
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(network, (example,), dynamic_shapes=(tree(lambda leaf: {0: batch}, example),))


@torch.no_grad()
def check_parity(name: str, network: _Answer, answer: _Answer, rows: Inputs) -> dict[str, Any]:
    """Both networks on the same rows, in batches of several sizes. Raises Unlike beyond TOLERANCE, or
    where an answer is not finite.
    """
    original, other = [], []
    for some in batches(rows):
        original.append(network(some))
        other.append(answer(some))
    wanted, given = in_one(joined(original)), in_one(joined(other))
    if given.shape != wanted.shape or not torch.isfinite(given).all():
        raise Unlike(
            f"the {name} export gives answers of {tuple(given.shape)}, {int(torch.isfinite(given).sum())} of "
            f"them finite, where the original gives {tuple(wanted.shape)}; nothing was written"
        )
    difference, largest = (given - wanted).abs().max().item(), wanted.abs().max().item()
    tolerance = max(_LEAST, TOLERANCE * largest)
    if not difference <= tolerance:
        raise Unlike(
            f"the {name} export answers differently from the original: a number differs by {difference:.3g} "
            f"on {len(wanted)} real rows, and {tolerance:.3g} is allowed; nothing was written"
        )
    return {
        "rows": len(wanted),
        "max_abs_difference": difference,
        "tolerance": tolerance,
        "largest_logit": largest,
        "argmax_agreement": (given.argmax(1) == wanted.argmax(1)).double().mean().item(),
    }


def in_one(answers: Answers) -> Tensor:
    """(N, D) float64: all numbers of a row."""
    return torch.cat([leaf.double().flatten(1) for leaf in leaves(answers).values()], 1)


def batches(rows: Inputs) -> Iterator[Inputs]:
    sizes, start = list(BATCHES), 0
    while start < rows_of(rows):
        count = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        yield part_of(rows, start, count)
        start += count


def real_rows(data: Artifact) -> tuple[str, Inputs]:
    """(name of the split, rows as a network sees them): the first of validation, or test rows where nothing
    validates.
    """
    cpu = Runtime(
        device="cpu", threads="auto", workers=0, channels_last=False, compile=False, checkpoint_seconds=0
    )
    split = open_split(data, "validation", cpu) or open_split(data, "test", cpu)
    return split.name, tree(as_float, part_of(split.inputs, 0, _ROWS))


def draw_card(run: Run, role: str, which: str, weights: Weights, artifact: Artifact) -> dict[str, Any]:
    """card.json but for its formats: everything is read before anything is written."""
    try:
        metrics = lineage.figures(run, lineage.compared(run))
        made_from = lineage.tell(artifact)
        gain = summary(metrics, which) if "student" in metrics else {"gain": None, "gap_closed": None}
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise UserError(
            f"the lineage of '{run.path}' cannot be read: an artifact in its store is not as "
            f"kdx writes it ({error!r})"
        ) from error
    network = weights.network()
    config = run.document["config"]
    return {
        "kdx": kdx.__version__,
        "exported": datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": weights.model,
        "role": role,
        "which": which,
        "artifact": f"{artifact.stage}/{artifact.key}",
        "component": weights.about["component"],
        "parameters": size.parameters(network),
        "bytes": size.bytes(network),
        "input": contract(weights.about),
        "classes": weights.about.get("classes", []),
        "formats": {},
        "seed": config.get("seed"),
        "metrics": metrics,
        "gain": gain["gain"],
        "gap_closed": gain["gap_closed"],
        "teacher_artifact": "/".join(run.stages[run.roles()["teacher"]])
        if "teacher" in run.roles()
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


def _versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def check_onnx() -> None:
    missing = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UserError(
            f"format=onnx needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed: pip install 'kdx[onnx]'"
        )


def check_folder(to: Path) -> None:
    """The folder is free, or holds an earlier export and nothing else: that is replaced."""
    if not to.exists() and not to.is_symlink():
        return
    names = {f"{role}.{kind}" for role in ROLE_WORDS for kind in ("safetensors", "pt2", "onnx")} | {
        "model.json",
        "card.json",
        "card.md",
    }
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


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters think aloud; what matters is checked afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
