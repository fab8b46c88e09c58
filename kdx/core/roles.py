"""The roles of a run's networks, in the order of the table. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Role:
    """stage: what trains it; of "generations", which are others' networks together, and of
    "moved_teacher", which the student's training has made, no stage is called so.
    words, short: what it is called in sentences and wide tables, where a verb for one follows, and in narrow
    tables and figures. colour: of its lines and bars, "#rrggbb".
    """

    stage: str
    words: str
    short: str
    colour: str


ROLES: Mapping[str, Role] = {
    "teacher": Role("teacher-pretrain", "teacher", "teacher", "#4c566a"),
    "teacher_before": Role("teacher-before", "teacher before fine-tuning", "untuned", "#9aa3b2"),
    "moved_teacher": Role("moved-teacher", "moved teacher", "moved", "#7f6f9e"),
    "noiseless": Role("noiseless-train", "student alone, no noise", "no noise", "#b48ead"),
    "baseline": Role("baseline-train", "student alone", "alone", "#d08770"),
    "validation_labels": Role(
        "validation-labels-train", "student alone, validation labels too", "alone, val too", "#c0a36e"
    ),
    "untuned_student": Role(
        "untuned-student-train", "student of the untuned teacher", "of untuned", "#93b5a6"
    ),
    "probed_student": Role("probed-student-train", "student of the probed teacher", "of probed", "#6f9c8b"),
    "student": Role("student-train", "distilled student", "distilled", "#2a7f62"),
    "generations": Role("generations", "ensemble of generations", "generations", "#6d9f9e"),
    "exact": Role("exact-train", "student of votes without noise", "exact votes", "#8fa876"),
    "plain": Role("plain-train", "plainly distilled student", "plain", "#a0785a"),
    "direct": Role("direct-train", "student on the private rows", "on private", "#bf616a"),
    "ceiling": Role("ceiling-train", "student, all labels", "all labels", "#5e81ac"),
}
"""Those of kdx itself."""
ROLE_WORDS = {name: role.words for name, role in ROLES.items()}
SHORT_ROLES = {name: role.short for name, role in ROLES.items()}
_TRAINED = {role.stage: name for name, role in ROLES.items()}
_PREDICTS = "-predict"
_OWN_COLOUR = "#88a096"


def control_stage(role: str) -> str:
    """What a run calls the stage that trains a control."""
    return f"{role.replace('_', '-')}-train"


def predict_stage(role: str) -> str:
    """What a run calls the stage that asks the network of a role for what `evaluate` measures."""
    return f"{role.replace('_', '-')}{_PREDICTS}"


def predicts(stage: str) -> bool:
    """Whether a run's stage of that name is one of those."""
    return stage.endswith(_PREDICTS)


def role_trained_by(stage: str) -> str | None:
    """The role that a stage of that name trains; None where it trains none."""
    if stage in _TRAINED:
        return _TRAINED[stage]
    return stage.removesuffix("-train").replace("-", "_") if stage.endswith("-train") else None


def known_roles(results: Mapping[str, Any] | None) -> dict[str, Role]:
    """kdx's own roles, then those that `results.roles` of a run.json adds: a user's own controls. What it has
    of kdx's own are the words that these have in such a run."""
    own, known = (results or {}).get("roles"), dict(ROLES)
    if (results or {}).get("moved_teacher"):
        known["teacher"] = replace(ROLES["teacher"], words="teacher (before it moved)", short="before")
    if (results or {}).get("sessions"):
        known["baseline"] = replace(ROLES["baseline"], words="student alone, fine-tuned", short="fine-tuned")
    if (results or {}).get("privacy"):
        known["teacher"] = replace(ROLES["teacher"], words="teacher of all private rows")
        alone = replace(ROLES["baseline"], words="student of true public labels", short="true labels")
        known["baseline"] = alone
    for name, about in (own or {}).items():
        about = about or {}
        known[name] = (
            replace(known[name], words=about.get("words") or name, short=about.get("short") or name)
            if name in ROLES
            else _own_role(name, about)
        )
    return known


def renamed_roles(results: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """role -> {"words", "short", "colour"} of those in a run that kdx does not have, or calls otherwise
    there: as `results.roles` they tell it to whoever has not all of the results."""
    return {
        name: {"words": role.words, "short": role.short, "colour": role.colour}
        for name, role in roles_of(results).items()
        if ROLES.get(name) != role
    }


def roles_of(results: Mapping[str, Any] | None) -> dict[str, Role]:
    """The roles that a run has results of, in the order of the table."""
    return {name: role for name, role in known_roles(results).items() if (results or {}).get(name)}


def _own_role(name: str, about: Mapping[str, str]) -> Role:
    words = about.get("words") or name
    return Role(control_stage(name), words, about.get("short") or words, about.get("colour") or _OWN_COLOUR)


def learned_alone(loss: str) -> str:
    """What the student alone learns from. loss: the address of its loss."""
    name = loss.rpartition(".")[0].rpartition(".")[2]
    return "the labels only" if name == "supervised" else f"the loss {name} and no teacher"


AS_MANY_TRUE = "as many true labels of the same public rows"
"""What it learns from instead, where released labels teach the student."""
