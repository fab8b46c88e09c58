"""In which format the teacher's answers lie in the files of a labelling stage, and how these are laid and
opened."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.files import read_json
from kdx.core.hidden_answers import HEAD, STATES, TellsHidden
from kdx.core.sparse_answers import DRAWS, IDS, TEMPERATURE
from kdx.core.task import Task
from kdx.core.trees import SharedRows
from kdx.core.types import Answers, Batch
from kdx.data.ragged import RAGGED_DATA, RaggedArray
from kdx.pipeline.stages.arrays import array_file, array_files
from kdx.pipeline.stages.left import open_answers
from kdx.store.work import Work
from kdx.tasks.answer_formats import MASS, AnswerFormat, HiddenStates, Sampled, TopK, distributions, top_mass
from kdx.tasks.kept import HIDDEN_STATES, id_bytes

FORMAT_JSON = "format.json"
"""Which format it is, laid down before the first answer."""
DENSE: Mapping[str, Any] = {"name": "dense"}
HEAD_NPY = "head.npy"
"""The teacher's last layer, beside the hidden states that it reads."""
_K = 8
"""Of answers that are kept whole the mass of so many is printed, where a row has several."""


@dataclass(frozen=True)
class Packing:
    """kept: the format, None: all of an answer, as the task packs it. whole: files that are kept whole all
    the same. one: a packed answer, where its form hangs on who answers (`Task.several_forms`)."""

    task: Task
    kept: AnswerFormat | None
    whole: tuple[str, ...] = ()
    one: Mapping[str, Tensor] | None = None

    def in_form_of(self, answers: Answers) -> Packing:
        """For more answers such as these."""
        if self.kept is not None or not self.task.several_forms:
            return self
        return replace(self, one={leaf: value[:1].cpu() for leaf, value in self.task.pack(answers).items()})

    def of(self, file: str) -> AnswerFormat | None:
        """The format of one file."""
        return None if file in self.whole else self.kept

    def pack(self, answers: Answers, batch: Batch, file: str) -> dict[str, Tensor]:
        kept = self.of(file)
        return self.task.pack(answers) if kept is None else kept.pack(answers, batch)

    def like(self, file: str) -> dict[str, Tensor]:
        """What one row is packed as."""
        kept = self.of(file)
        if kept is None and self.one is not None:
            return dict(self.one)
        return self.task.pack(self.task.made_up(1)) if kept is None else kept.like()

    def about(self) -> dict[str, Any]:
        """Plain data, by which `packing_of` makes it again."""
        return dict(DENSE) if self.kept is None else self.kept.about()


def packing_of(about: Mapping[str, Any], task: Task, seed: int) -> Packing:
    """about: what `Packing.about` gave; seed: of draws. Where a row has one distribution those to validation
    are kept whole: they are measured, and methods estimate from them."""
    if about["name"] == "dense":
        return Packing(task, None)
    if about["name"] == HIDDEN_STATES:
        return Packing(task, HiddenStates(task, 1.0, seed, about["width"]))
    heat = float(about["temperature"])
    kept = (
        TopK(task, heat, seed, about["k"])
        if about["name"] == "topk"
        else Sampled(task, heat, seed, about["draws"])
    )
    found = distributions(task)
    return Packing(task, kept, () if found and found["places"] > 1 else ("validation",))


def settle_format(
    form: Mapping[str, Any] | None, task: Task, seed: int, ask: Callable[[], Answers], work: Work
) -> tuple[Packing, dict[str, Any] | None]:
    """(how answers are kept, what the mass of the k likeliest is, None: nobody asked). form: name, k, draws
    and temperature as they were asked for, None: all of each answer. ask: the teacher's answers to a few of
    the rows.
    """
    form = DENSE if form is None else form
    if form["name"] in (DENSE["name"], HIDDEN_STATES):
        several = distributions(task)
        if several is None or several["places"] == 1:  # nobody wonders whether to keep less
            return packing_of(form, task, seed), None
        form = {**form, "k": min(_K, several["width"]), "temperature": 1.0}
    mass = top_mass(task, ask(), form["k"], form["temperature"])
    found = {"k": form["k"], "mean": mass.mean().item(), "places": len(mass)}
    said = (
        f"the teacher's {form['k']} likeliest have {found['mean']:.2f} of the mass (mean of {len(mass):,} "
        "answers)"
    )
    name = form["name"]
    if name == "auto":
        name = "topk" if found["mean"] >= MASS else "sampled"
        work.note(f"{said}: stored as {name}")
    elif name == "topk" and found["mean"] < MASS:
        work.note(
            f"{said}, less than {MASS:g}: where so little is kept students have lost to students without a "
            "teacher: set pseudo_label.format=sampled, or a larger pseudo_label.k",
            "warning",
        )
    else:
        work.note(said)
    return packing_of({**form, "name": name}, task, seed), found


def open_files(
    work: Work, name: str, packing: Packing, shape: tuple[int, int], fresh: bool
) -> dict[str, Any]:
    """The files of one split's answers by the names of their arrays, to be written. shape: rows and views."""
    found: dict[str, Any] = {}
    for leaf, one in packing.like(name).items():
        if leaf == DRAWS:
            several = distributions(packing.task)
            width = id_bytes(several["width"] if several else 0)
            found[leaf] = _open_ragged(work.path / f"{name}.{leaf}", (*shape, *one.shape[1:]), width, fresh)
            continue
        path = work.path / array_file(name, leaf)
        found[leaf] = open_answers(path, (*shape, *one.shape[1:]), one.numpy().dtype, fresh=fresh)
        reserve(path)
    return found


def _open_ragged(path: Path, shape: tuple[int, ...], width: int, fresh: bool) -> RaggedArray:
    """That of a stopped run where it is still what it was made as."""
    if not fresh:
        try:
            found = RaggedArray(path, writable=True)
            if found.shape == shape and found.width == width:
                return found
        except (OSError, ValueError):
            pass
    return RaggedArray.lay(path, shape, width)


def reserve(path: Path) -> None:
    """Takes a file's space on the disk now: a disk that is full is an error here, and would kill the process
    in the middle of a memory map.
    """
    if "posix_fallocate" in vars(os):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def leaves_of(
    folder: Path, name: str, dense: Callable[[Path], Any], ragged: Callable[[RaggedArray], Any]
) -> dict[str, Any]:
    """The arrays of one file's name, (N, V, ...). dense, ragged: what opens each."""
    found = {leaf: dense(path) for leaf, path in array_files(folder, name).items()}
    for path in folder.glob(f"{name}.*{RAGGED_DATA}"):
        plain = path.with_name(path.name[: -len(RAGGED_DATA)])
        found[plain.name[len(name) + 1 :]] = ragged(RaggedArray(plain))
    return found


def shared_beside(found: Mapping[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """The arrays (N, V, ...), and beside them what all rows share: of answers of which a part was kept their
    temperature, of hidden states the last layer that reads them."""
    if STATES in found:
        one = {HEAD: torch.from_numpy(np.load(folder / HEAD_NPY)).to(device)}
    elif {IDS, DRAWS} & set(found):
        heat = float(read_json(folder / FORMAT_JSON)["temperature"])
        one = {TEMPERATURE: torch.tensor(heat, device=device)}
    else:
        return dict(found)
    lead = next(iter(found.values())).shape[:2]
    return {**found, **{name: SharedRows(leaf, lead) for name, leaf in one.items()}}


def save_head(folder: Path, network: TellsHidden) -> None:
    """Lays down the last layer of the teacher whose hidden states are stored, (V, d) float32."""
    np.save(folder / HEAD_NPY, network.head_weight.detach().float().cpu().numpy())


def digest_of_data(about: Mapping[str, Any]) -> str:
    """One hash of the rows that were answered, of what makes them inputs (a vocabulary, say) and of what
    answers mean. about: a data.json."""
    whole = [about.get("digests"), about.get("adapter"), about.get("task")]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
