"""What the commands share that open stored weights: evaluate and predict, and what Python opens of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdx.commands._words import Words
from kdx.core.errors import UserError, nearest
from kdx.core.roles import ROLES, known_roles
from kdx.report.run.verdict import of_table, which_of
from kdx.runs.reading import Run
from kdx.store.manifest import MANIFEST


def is_run(target: Path) -> bool:
    """A folder that is neither an export nor a stage in the store; whether it is one, `read_run` tells."""
    others = ("model.json", MANIFEST)
    return target.is_dir() and (
        (target / "run.json").exists() or not any((target / name).exists() for name in others)
    )


def is_graph(target: Path) -> bool:
    """Whether the name is that of a file which kdx export wrote of a network whole."""
    return target.suffix in (".onnx", ".pt2")


def chooses(words: Words, group: str) -> bool:
    return any(word.partition("=")[0].split(".")[0] == group for word in words.composed)


def order_of(command: str, words: Words, seed: int) -> Any:
    """The composed configuration of `kdx train` with these words: its dataset, its device, and as its student
    the model.
    """
    from kdx.config import compose, grid
    from kdx.config.wire import wire

    composed = [
        f"student{word.removeprefix('model')}" if word.startswith("model") else word
        for word in words.composed
    ]
    if not any(word.startswith("seed=") for word in composed):
        composed.append(f"seed={seed}")
    composed = compose.quote_paths(composed)
    if len(grid.jobs(composed, multirun=True)) > 1:
        raise UserError(f"kdx {command} takes one value of each key; quote a value that holds a comma")
    try:
        return wire(compose.check_words(composed))
    except UserError as error:
        raise UserError(str(error).replace("student", "model")) from error


def weights_file(command: str, target: Path) -> Path:
    """The file of weights of an export or a checkpoint. Raises UserError where there is none."""
    from kdx.runs import stored

    if is_graph(target) and command != "predict":
        raise UserError(
            f"'{target}' is a graph alone; kdx {command} opens the folder that kdx export made, by the state "
            f"dict in it: '{target.parent}'"
        )
    file = stored.in_export(target) if target.is_dir() else target
    if not file.is_file():
        raise UserError(
            f"'{file}' does not exist: kdx {command} needs a run folder, an export or a checkpoint"
        )
    return file


def member_of(run: Run, asked: str) -> int:
    """The number of a member of the run's teacher, from 1. asked: that number, or the name of its model where
    one member alone has it. Raises UserError, with the members that there are."""
    models, made = run.member_models(), len(run.members())
    listed = ", ".join(f"{number} {model}" for number, model in enumerate(models[:made], 1))
    if not made:
        raise UserError(f"member={asked}: the teacher of '{run.path}' is no ensemble: leave member= out")
    named = [number for number, model in enumerate(models[:made], 1) if model == asked]
    if len(named) > 1:
        raise UserError(f"member={asked}: several have that name, so choose by number: {listed}")
    if asked.isascii() and asked.isdecimal() and 1 <= int(asked) <= made:
        return int(asked)
    if not named:
        raise UserError(f"member={asked}: the teacher of '{run.path}' has no such member; it has {listed}")
    return named[0]


def weights_of(
    run: Run, role: str | None, which: str | None, allow: Sequence[str], member: str | None = None
) -> tuple[str, str, Any]:
    """(role, "last" or "best", the weights) of one role of a run, an ensemble whole. role: None: the student,
    or the last that was trained where there is none. which: None: those that the run's table shows. member:
    of an ensemble one alone, see `member_of`.
    """
    from kdx.runs import stored

    if member is not None:
        if role not in (None, "teacher"):
            raise UserError(f"member= chooses one of the networks of role=teacher: leave role={role} out")
        number, which = member_of(run, member), which_of("teacher", which or of_table(run.document))
        weights, _ = stored.of_member(run, number, which, allow)
        return "teacher", which, replace(weights, called=f"member {number} of the teacher")
    there = [*(["teacher"] if run.members() else []), *run.roles(), *run.moved, *run.joined]
    if role is None:
        role = "student" if "student" in there or not there else there[-1]
    if role not in there and role not in ROLES:
        raise UserError(f"the run '{run.path}' has no role '{role}'{nearest(role, there)}")
    which = which_of(role, which or of_table(run.document))
    if role == "teacher" and run.members():
        weights, _ = stored.of_members(run, which, allow)["teacher"]
    else:
        weights, _ = stored.of_role(run, role, which, allow)
    known = known_roles(run.document.get("results"))
    return role, which, replace(weights, called=f"the {known[role].words if role in known else role}")
