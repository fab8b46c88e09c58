"""What the commands share that open stored weights: evaluate and predict, and what Python opens of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdx.commands._words import Words
from kdx.core.errors import UserError, UserErrors
from kdx.core.roles import known_roles
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


def class_names(words: Words) -> dict[str, str] | None:
    """Of `classes_map=`: theirs -> the network's; None without it."""
    from kdx.config.class_map_files import read_class_names
    from kdx.core.class_names import nfc

    if words["classes_map"] is None:
        return None
    if not chooses(words, "dataset"):
        raise UserError(
            "classes_map= says which classes of another data set those of a network are: name that set "
            "(dataset=NAME)"
        )
    found = read_class_names("classes_map", words["classes_map"])
    return {nfc(there): nfc(here) for there, here in found.items()}


def order_of(command: str, words: Words, seed: int, own: Mapping[str, Any] | None = None) -> Any:
    """The composed configuration of `kdx train` with these words: its dataset, its device, and as its student
    the model. own: the configuration of a run, whose data set is taken where words change keys of one and
    name none; None: of a checkpoint, which knows none.
    """
    from kdx.config import compose, grid, restore
    from kdx.config.wire import wire

    changed = [word for word in words.composed if word.startswith("dataset.")]
    unnamed = bool(changed) and not any(word.startswith("dataset=") for word in words.composed)
    known = _data_set(own) if unnamed else {}
    if unnamed and not known:
        raise UserError(
            f"{changed[0]} changes a data set, and none is named: add dataset=NAME, as in "
            f"dataset=folder {changed[0]}"
        )

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
        order = wire(_of_run(known, composed) if known else compose.check_words(composed))
    except UserError as error:
        raise UserError(str(error).replace("student", "model")) from error
    if known and order.config["dataset"].get("download"):
        given = {word.partition("=")[0] for word in composed}
        restore.check_data(order.config["dataset"], order.experiment.dataset.build(), given)
    return order


def _data_set(own: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of the configuration of a run what says its data set; empty where nothing does."""
    choices, node = ((own or {}).get(key) for key in ("choices", "dataset"))
    name = choices.get("dataset") if isinstance(choices, Mapping) else None
    if not isinstance(name, str) or not isinstance(node, Mapping):
        return {}
    return {"choices": {"dataset": name}, "dataset": node}


def _of_run(known: Mapping[str, Any], composed: Sequence[str]) -> dict[str, Any]:
    """The composed configuration with the data set of a run, but for the keys in these words. Raises
    UserErrors."""
    from kdx.config import restore

    config, errors, _ = restore.restore(known, composed, {})
    if config is None or errors:
        raise UserErrors(errors)
    return config


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
    of an ensemble one alone, see `member_of`. Of rows with several inputs it takes those that it reads.
    """
    from kdx.runs import stored
    from kdx.runs.own_inputs import of_own_inputs

    if member is not None:
        if role not in (None, "teacher"):
            raise UserError(f"member= chooses one of the networks of role=teacher: leave role={role} out")
        number, which = member_of(run, member), which_of("teacher", which or of_table(run.document))
        weights, _ = stored.of_member(run, number, which, allow)
        return "teacher", which, replace(of_own_inputs(weights), called=f"member {number} of the teacher")
    there = run.named()
    if role is None:
        role = "student" if "student" in there or not there else there[-1]
    run.check_role(role)
    which = which_of(role, which or of_table(run.document))
    if role == "teacher" and run.members():
        weights, _ = stored.of_members(run, which, allow)["teacher"]
    else:
        weights, _ = stored.of_role(run, role, which, allow)
    known = known_roles(run.document.get("results"))
    weights = of_own_inputs(weights)
    return role, which, replace(weights, called=f"the {known[role].words if role in known else role}")
