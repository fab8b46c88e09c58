"""Run folders and the store read as data: nothing in them is trusted before it has been checked. No torch.

A folder may come from somebody else, may have been moved, or its store may be gone; each is reported plainly.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.core import files, shortage
from kdx.core.errors import UserError, nearest
from kdx.core.roles import ROLES, role_trained_by
from kdx.core.shapes import expect_shape
from kdx.pipeline import stages
from kdx.report.run import document
from kdx.runs.artifacts import NAME, STAGE_NAMES, check_key, open_artifact
from kdx.runs.places import possible_stores
from kdx.store.artifact import Artifact
from kdx.store.manifest import MANIFEST, there
from kdx.store.stage import split_number

_SEVERAL = (
    *(stages.REVEAL, stages.DIVIDE, stages.ANSWERED, stages.DECODE, stages.PREPARE),
    *(stages.THROUGH, stages.PRETRAIN, stages.LABEL_SHARD, stages.LABEL, stages.CHOOSE),
)
"""Stages that a run may have beside the one of that name, with words behind it."""


@dataclass(frozen=True)
class Run:
    """A run folder whose run.json has been checked. stages: the run's name of a stage -> (folder in the
    store, key).
    """

    path: Path
    document: Mapping[str, Any]
    stages: Mapping[str, tuple[str, str]]
    stores: tuple[Path, ...]

    @property
    def state(self) -> str:
        """Its status as it is now: see kdx.report.run.document.state."""
        return document.state(self.path, self.document)

    def roles(self) -> dict[str, str]:
        """role -> the run's name of the stage that trained it, for the roles that got so far; of several
        rounds the last. A teacher that is an ensemble is none of them.
        """
        found, members = {}, self.members()
        for name in self.stages:
            if name in members:
                continue
            if role := role_trained_by(split_number(name)[0]):
                found[role] = name
        return {role: found[role] for role in (*ROLES, *found) if role in found}

    @property
    def joined(self) -> list[str]:
        """The roles whose networks, each trained by a stage of its own, were measured as one: "generations".
        The teacher, where it is an ensemble, is none of them.
        """
        results = self.document.get("results")
        found = results if isinstance(results, Mapping) else {}
        apart = ("teacher", "moved_teacher", *self.roles())
        return [role for role in ROLES if found.get(role) and role not in apart]

    @property
    def moved(self) -> list[str]:
        """The role of a teacher that moved while the student was trained, whose stage has its weights too;
        empty where none did."""
        update = (self.document["config"].get("teacher") or {}).get("update", "frozen")
        return ["moved_teacher"] if update != "frozen" and "student" in self.roles() else []

    def named(self) -> list[str]:
        """All roles that have weights, also those of a recipe and of the user's own."""
        return list(
            dict.fromkeys(
                [*(["teacher"] if self.members() else []), *self.roles(), *self.moved, *self.joined]
            )
        )

    def check_role(self, role: str) -> None:
        """Raises UserError where the run has no such role, nor could have it."""
        if role not in self.named() and role not in ROLES:
            raise UserError(f"the run '{self.path}' has no role '{role}'{nearest(role, self.named())}")

    def together(self, role: str) -> list[Artifact]:
        """The artifacts of a role that is `joined`, as its evaluation names them, looked up and checked."""
        named = [name for name, (stage, _) in self.stages.items() if stage == stages.EVALUATE.name]
        found = self.stage(named[-1]).manifest["inputs"]["models"].get(role) if named else None
        keys = [one.get("artifact") for one in found] if isinstance(found, list) else []
        by_key = {f"{stage}/{key}": name for name, (stage, key) in self.stages.items()}
        if len(keys) < 2 or not all(key in by_key for key in keys):
            raise UserError(f"the run '{self.path}' does not say which networks its {role} are: run it again")
        return [self.stage(by_key[key]) for key in keys]

    @property
    def given(self) -> bool:
        """Whether answers in a file stand in for its teacher."""
        return stages.GIVEN.name in self.stages

    def members(self) -> list[str]:
        """The run's names of the stages that trained the members of its teacher; empty where that is one."""
        names = [name for name in self.stages if split_number(name)[0] == stages.PRETRAIN.name]
        return names if names and stages.PRETRAIN.name not in names else []

    def member_models(self) -> list[str]:
        """What the user called the models of the members."""
        found = self.document["config"].get("members")
        kept = found.values() if isinstance(found, Mapping) else ()
        return [str(keys.get("option") if isinstance(keys, Mapping) else None) for keys in kept]

    def model(self, role: str) -> str | None:
        """What the user called the model of a role: cnn_tiny."""
        results = self.document.get("results")
        measured = results.get(role) if isinstance(results, Mapping) and role not in ROLES else None
        if isinstance(measured, Mapping) and isinstance(measured.get("model"), str):
            return str(measured["model"])
        choices = self.document["config"].get("choices")
        name = (
            choices.get("teacher" if role in ("teacher", "teacher_before") else "student")
            if isinstance(choices, dict)
            else None
        )
        return name if isinstance(name, str) else None

    def role(self, role: str) -> Artifact:
        """The artifact that trained `role`, looked up in the store and checked."""
        if role == "teacher" and (members := self.members()):
            raise UserError(
                f"the teacher of '{self.path}' is an ensemble of {len(members)} networks, and not one: name "
                "another role"
            )
        if role == "teacher" and self.given:
            raise UserError(
                f"the teacher of '{self.path}' is answers in a file (teacher=answers), and no network: name "
                "another role"
            )
        if role not in self.roles():
            if role == "moved_teacher":
                raise UserError(
                    f"the teacher of '{self.path}' has not moved: teacher.update=ema lets it, say"
                )
            if role == "generations":
                raise UserError(
                    f"the run '{self.path}' has no generations: recipe=born_again makes them, with rounds=3, "
                    "say, of answers that have a mean"
                )
            reached = ", ".join(self.stages) or "nothing"
            raise UserError(
                f"the run '{self.path}' has no {role}: it made {reached}; run it again with all its stages"
            )
        return self.stage(self.roles()[role])

    def stage(self, name: str) -> Artifact:
        """The artifact of one stage of the run; the first of the possible stores that has it. Raises
        UserError where none has.
        """
        stage, key = self.stages[name]
        for store in self.stores:
            if there(store / stage / key / MANIFEST):
                return open_artifact(store, stage, key)
        looked = ", ".join(f"'{store}'" for store in self.stores) or "nowhere: run.json names none"
        raise UserError(
            f"{name} of the run '{self.path}' is not in a store (looked in {looked}): "
            "if the store was moved, name it with store=PATH; if it is gone, run the same `kdx train` again"
        )


def read_run(path: Path | str, store: str | None = None, *, figures: bool = False) -> Run:
    """The run folder at `path`. store: where its artifacts are, or None: found by the folder's links and what
    run.json says. figures: see kdx.report.run.document.read_document."""
    path = Path(path).expanduser()
    file = path / "run.json"
    if not os.path.isfile(file):
        if not path.is_dir():
            raise UserError(f"the run folder '{path}' does not exist")
        inner = next(iter(sorted(path.glob("*/run.json"))), None)
        several = (
            f", it holds several: name one of them, such as '{inner.parent}'"
            if inner
            else ": it has no run.json"
        )
        raise UserError(f"'{path}' is no run folder{several}")
    content = document.read_document(file, figures=figures)
    found: dict[str, tuple[str, str]] = {}
    for entry in expect_shape(content.get("stages"), list, file, "stages"):
        name, key = (
            expect_shape(expect_shape(entry, dict, file, "stages").get(k), str, file, f"stages: {k}")
            for k in ("name", "key")
        )
        if name in found:
            raise UserError(f"'{file}' names the stage {name!r} twice")
        found[name] = (_stage_of(name, file, _own_recipe(content)), check_key(key, file))
    expect_shape(content.get("config"), dict, file, "config")
    if store is not None:
        return Run(path, content, found, (Path(store).expanduser(),))
    return Run(path, content, found, tuple(dict.fromkeys(possible_stores(path, content, found))))


def _own_recipe(document: Mapping[str, Any]) -> bool:
    """Whether a run was made by a recipe of the user's own, which may have stages of its own."""
    config = document.get("config")
    recipe = config.get("recipe") if isinstance(config, Mapping) else None
    target = recipe.get("_target_") if isinstance(recipe, Mapping) else None
    return isinstance(target, str) and not target.startswith("kdx.")


def _stage_of(name: str, file: Path, own: bool) -> str:
    base = split_number(name)[0] if NAME.fullmatch(name) else ""
    if base in STAGE_NAMES:
        return base
    if base.endswith("-train"):
        return stages.TRAIN.name
    for ends in (stages.SESSION.name, stages.PREDICT.name):
        if base.endswith(f"-{ends}"):
            return ends
    for several in _SEVERAL:
        if base.startswith(f"{several.name}-"):
            return several.name
    if own and base:
        return base
    raise UserError(f"'{file}' names a stage that kdx does not know: {name!r}")


def same_file(one: Path, other: Path) -> bool:
    """Whether both are there, and one file by whatever names."""
    return one.exists() and other.exists() and os.path.samefile(one, other)


def read_mapping(file: Path) -> dict[str, Any]:
    return expect_shape(files.read_json(file), dict, file, "all of it")


@contextlib.contextmanager
def as_written(what: Path) -> Iterator[None]:
    """What somebody's artifacts say may be anything where a hash alone was checked: whatever breaks on it is
    a UserError that names the folder.
    """
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        short = shortage.kind_of_shortage(error)
        if short not in (None, "memory"):
            raise
        why = (str(error).splitlines() or [""])[0][:200]
        more = ": close other programs, or take a machine with more memory" if short else ""
        raise UserError(
            f"'{what}' is not as kdx writes it, or too large for this machine "
            f"({type(error).__name__}: {why}){more}"
        ) from error
