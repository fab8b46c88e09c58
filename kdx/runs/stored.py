"""Stored weights, opened from a run folder, an export or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from kdx.core.errors import UserError
from kdx.core.roles import ROLE_WORDS
from kdx.core.shapes import expect_shape
from kdx.models.ensemble import NetworkEnsemble, ensemble_of
from kdx.models.weights import load_weights
from kdx.pipeline.recipes.experiment import moves_as_student, name_made, name_of_several
from kdx.pipeline.stages import LABEL
from kdx.pipeline.stages.aggregating import aggregate_in
from kdx.pipeline.stages.arrays import build_task
from kdx.pipeline.stages.files import CLASS_PLACES, MOVED_MODEL, MOVED_WEIGHTS, about_model, new_network
from kdx.runs.artifacts import only_input, open_artifact, read_run_manifest
from kdx.runs.model_files import check_combination, read_model
from kdx.runs.reading import Run, read_mapping
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.manifest import MANIFEST
from kdx.store.source import sha256


@dataclass(frozen=True)
class Weights:
    """A file of weights and what it takes to build the network around it: `about` is a model.json. model: its
    name for people.

    key: where in the file the weights lie. notes: what was said of the file when it was opened. called: what
    a sentence calls them. members: of an ensemble; `file` is then that of the first. names: name of
    a class of a data set -> which of the network's it is, where it is another; None: the names are the same.
    temperature: of what it answered as a teacher, which makes it no more and no less often right.
    reads: of rows with several inputs those that it takes (kdx.runs.own_inputs); (): rows as they are.
    """

    name: str
    file: Path
    about: Mapping[str, Any]
    model: str
    key: str | None = None
    notes: list[str] = field(default_factory=list)
    called: str | None = None
    members: Sequence[Weights] = ()
    names: Mapping[str, str] | None = None
    temperature: float = 1.0
    reads: Sequence[str] = ()

    @property
    def who(self) -> str:
        return self.called or f"the {self.name}"

    def network(self) -> nn.Module:
        """On the CPU, in eval mode. Raises UserError where the file does not fit."""
        if self.members:
            members = [member.network() for member in self.members]
            return NetworkEnsemble(members, aggregate_in(self.about, build_task(self.about))).eval()
        network = new_network(Component(self.about["component"]), self.about, read_weights=False)
        if isinstance(network, NetworkEnsemble):
            network.combine = aggregate_in(self.about, build_task(self.about))
        self.notes[:] = [text for text, _ in load_weights(network, self.file, key=self.key)]
        return network.eval()


def of_role(run: Run, role: str, which: str, allow: Sequence[str]) -> tuple[Weights, Artifact]:
    """(the weights of a role of a run, the artifact that holds them; of several networks that of one of
    them)"""
    if role in run.moved:
        return _of_moved(run, role, allow)
    if role in run.joined:
        return of_together(run, role, which, allow)
    if role == "teacher" and run.members():
        return of_members(run, which, allow)["teacher"]
    artifact = run.role(role)
    return _trained(run, artifact, role, which, allow), artifact


def of_members(run: Run, which: str, allow: Sequence[str]) -> dict[str, tuple[Weights, Artifact]]:
    """The same of a teacher that is an ensemble, "teacher", and of its members, "member 1" and so on; the
    artifact of the ensemble is that of its first member. Empty where the teacher is one network.
    """
    made, named = run.members(), run.member_models()
    if made and len(made) < len(named):
        raise UserError(
            f"the teacher of '{run.path}' is an ensemble of {len(named)}, and {len(made)} of them "
            f"{'is' if len(made) == 1 else 'are'} trained so far: run it again"
        )
    opened = {f"member {n}": of_member(run, n, which, allow) for n in range(1, len(made) + 1)}
    if not opened:
        return {}
    members, (first, artifact) = [weights for weights, _ in opened.values()], opened["member 1"]
    combined = _combined(run, which, allow)
    whole = replace(first, name="teacher", model=name_of_several(named), members=members, notes=[])
    return {"teacher": (replace(whole, about={**_about_several(members), **combined}), artifact), **opened}


def answered_at(run: Run) -> float:
    """The temperature of the answers that the student of a run, or its first one, learned from; 1 of a run
    that was asked for none."""
    name = next((name for name in (LABEL.name, f"{LABEL.name}-1") if name in run.stages), None)
    return 1.0 if name is None else float(run.stage(name).json("answers.json").get("temperature", 1))


def _of_moved(run: Run, role: str, allow: Sequence[str]) -> tuple[Weights, Artifact]:
    """The same of the teacher that moved while the student was trained: it has its last weights alone."""
    artifact = run.role("student")
    file = artifact.file(MOVED_WEIGHTS)
    if not file.is_file():
        raise UserError(
            f"the run '{run.path}' did not keep its teacher as it moved: run the same `kdx train` again"
        )
    about = read_model(artifact.file(MOVED_MODEL), allow, _who(run, role))
    of_student = moves_as_student(run.document["config"]["teacher"])
    return Weights(
        role, file, about, run.model("student" if of_student else "teacher") or function(about)
    ), artifact


def of_together(run: Run, role: str, which: str, allow: Sequence[str]) -> tuple[Weights, Artifact]:
    """The same of a role whose networks are measured as one, such as "generations": their mean; the artifact
    is that of the last of them.
    """
    artifacts = run.together(role)
    members = [_trained(run, artifact, role, which, allow) for artifact in artifacts]
    model = name_of_several([one.model for one in members])
    whole = replace(members[0], about=_about_several(members), model=model, members=members, notes=[])
    return whole, artifacts[-1]


def _about_several(members: Sequence[Weights]) -> dict[str, Any]:
    """The model.json of their ensemble. What a member makes of classes of its own is no part of it."""
    alike = {key: value for key, value in members[0].about.items() if key != CLASS_PLACES}
    return {**alike, "component": ensemble_of([one.about["component"] for one in members])}


def _combined(run: Run, which: str, allow: Sequence[str]) -> dict[str, Any]:
    """What makes one answer of those of the members, as `evaluate` found it; empty: the mean."""
    asked = run.document["config"].get("aggregate")
    if not asked:
        return {}
    found = run.document.get("results")
    for key in ("teacher", "aggregate", which):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise UserError(
            f"the run '{run.path}' has not measured yet how its teachers answer together: run the same "
            "`kdx train` again"
        )
    check_combination(
        found, run.path / "run.json", "results.teacher.aggregate", allow, f"the run '{run.path}'"
    )
    return {"aggregate": found}


def of_member(run: Run, number: int, which: str, allow: Sequence[str]) -> tuple[Weights, Artifact]:
    """The same of one member of an ensemble. number: from 1."""
    artifact = run.stage(run.members()[number - 1])
    weights = _trained(run, artifact, f"member {number}", which, allow)
    return replace(weights, model=run.member_models()[number - 1]), artifact


def _trained(run: Run, artifact: Artifact, role: str, which: str, allow: Sequence[str]) -> Weights:
    file = artifact.file(f"{which}.safetensors")
    if not file.is_file() and not artifact.json("summary.json")["steps"]:
        file = artifact.file("last.safetensors")  # no step was made, of an estimator say: it has one set only
    if not file.is_file():
        raise UserError(
            f"{_who(run, role)} has no {which} weights: it was not trained with a "
            "validation split; use which=last"
        )
    about = read_model(artifact.file("model.json"), allow, _who(run, role))
    return Weights(role, file, about, name_made(about["component"], run.model(role) or function(about)))


def _who(run: Run, role: str) -> str:
    """role: as results and commands name it, or "member 2"."""
    who = f"{role} of the teacher" if role.startswith("member ") else f"the {ROLE_WORDS.get(role, role)}"
    return f"{who} of '{run.path}'"


def of_checkpoint(file: Path, key: str | None, allow: Sequence[str]) -> tuple[Weights, Artifact | None]:
    """(the weights of a file with a model.json beside it, the data that they learned from where the file lies
    in a store)
    """
    beside = file.with_name("model.json")
    if not beside.is_file():
        raise UserError(
            f"'{file}' has no model.json beside it: name its architecture and the data, such as "
            "model=cnn_tiny dataset=digits"
        )
    about = read_model(beside, allow)
    weights = Weights(file.stem, file, about, _called(about), key, called=in_file(file))
    if not file.with_name(MANIFEST).is_file():
        return weights, None
    stage = read_run_manifest(file.with_name(MANIFEST))["stage"]
    folder = file.resolve().parent
    return weights, only_input(open_artifact(folder.parent.parent, stage, folder.name), "data")


def check_content(weights: Weights) -> None:
    """Raises UserError where the model.json of an export names other content than the file has."""
    named = weights.about.get("sha256")
    if named is not None and named != sha256(weights.file):
        raise UserError(f"'{weights.file}' does not have the content that was exported: export it again")


def in_file(file: Path) -> str:
    return f"the network in '{file.name}'"


def in_export(folder: Path) -> Path:
    """The file of weights in a folder made by `kdx export`. Raises UserError of another folder; of one of the
    store, which may hold several, with the files to choose from."""
    if (folder / MANIFEST).is_file():
        known = [f"{which}.safetensors" for which in ("last", "best")]
        there = [f"'{folder / name}'" for name in known if (folder / name).is_file()]
        raise UserError(
            f"'{folder}' is a stage of a run, and no export: name the run, or "
            + (f"the weights, {' or '.join(there)}" if there else "a stage that has weights")
        )
    role = expect_shape(read_mapping(folder / "model.json").get("role"), str, folder / "model.json", "role")
    return folder / f"{Path(role).name}.safetensors"


def for_data(component: Component, model: str, file: Path, key: str | None, data: Artifact) -> Weights:
    """A checkpoint whose architecture the user named, built for this data."""
    about = about_model(component, data.json("data.json"))
    return Weights(file.stem, file, about, model, key, called=in_file(file))


def _called(about: Mapping[str, Any]) -> str:
    """For people: the function that builds it, of an ensemble that of its members."""
    component = about["component"]
    members = component.get("members")
    first = members[0] if isinstance(members, list) and members else component
    inner = first.get("_target_") if isinstance(first, Mapping) else None
    return name_made(component, inner.rpartition(".")[2] if isinstance(inner, str) else function(about))


def function(about: Mapping[str, Any]) -> str:
    """The name of the function that builds the model of a model.json."""
    return about["component"]["_target_"].rpartition(".")[2]
