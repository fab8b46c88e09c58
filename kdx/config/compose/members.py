"""Several teachers that answer together: `teachers=[cnn,resnet20]` names options of the group `teacher`,
`teacher.members=5` is one of them five times. Either way `members` holds, by number, what each is made of:
its option, its keys, and its `teacher_pretrain`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from kdx.config.keys import wrong_key
from kdx.config.moving import MOVING_KEYS, without_moving
from kdx.config.options import wrong_option
from kdx.core.checks import shown

NODE, TEACHERS = "members", "teachers"
OPTION, TRAINING = "option", "teacher_pretrain"
"""Keys of a member beside those of its network."""
_MOST = 64
"""More of them are a slip of the pen."""
_EXAMPLE = "members.2.dropout=0.3"

_Plain = dict[str, Any]
_ComposeAs = Callable[[str], Mapping[str, Any] | list[str]]


def with_members(config: _Plain, compose_as: _ComposeAs) -> tuple[_Plain, list[str]]:
    """(the configuration with `members` filled, errors). Of one teacher it stays as it is.

    compose_as: what the same words compose with another option of the group `teacher`, or errors where they
    do not go together.
    """
    given = config[NODE]
    if not isinstance(given, Mapping) or not all(isinstance(keys, Mapping) for keys in given.values()):
        errors = [f"members holds keys by number, such as {_EXAMPLE}; given: {shown(given)}"]
        return {**config, NODE: {}}, errors
    found, errors = _filled(config, given, compose_as)
    return (found, []) if not errors else ({**config, NODE: {}}, errors)


def _filled(config: _Plain, given: Mapping[str, Any], compose_as: _ComposeAs) -> tuple[_Plain, list[str]]:
    names, errors = _asked(config)
    if errors or not names:
        return config, errors or _strange(given, 0)
    named = config[TEACHERS] is not None
    answers = {name: compose_as(name) if named else config for name in dict.fromkeys(names)}
    if unfit := [error for found in answers.values() if isinstance(found, list) for error in found]:
        return config, list(dict.fromkeys(unfit))
    composed = {name: found for name, found in answers.items() if isinstance(found, Mapping)}
    made = {str(number): _member(name, composed[name]) for number, name in enumerate(names, 1)}
    if errors := _strange(given, len(names)) or [*_wrong_keys(made, given, config["choices"])]:
        return config, errors
    made = {number: _merged(keys, given.get(number, {})) for number, keys in made.items()}
    if named:
        config = _renamed(config, names, list(composed.values()), made)
    return {**config, NODE: made if len(made) > 1 else {}}, []


def dropped(config: Mapping[str, Any] | None, typed: Sequence[Override]) -> list[str]:
    """Errors of words that name or set one teacher where `teachers` names several: one or the other would be
    dropped.
    """
    names = config and config[TEACHERS]
    if not names:
        return []
    several = f"teachers={typed_list(names)}"
    found = []
    for override in typed:
        key, _, inner = override.key_or_group.partition(".")
        if key != "teacher":
            continue
        if not inner:
            found.append(
                f"teacher={shown(override.value(), bare=True)} and {several} both name teachers, and one of "
                "them would be dropped: name all of them in teachers="
            )
        elif inner == "members":
            found.append(
                f"teacher.members is so many of one teacher, and {several} names them: name one as often as "
                "you want it, teachers=[cnn,cnn,mlp], or leave one of the two out"
            )
        elif inner in MOVING_KEYS:
            found.append(
                f"teacher.{inner} is of one teacher that moves, and {several} names {len(names)}, of which "
                f"none can: name one, teacher={shown(names[0], bare=True)}, or leave it out"
            )
        else:
            found.append(
                f"teacher.{inner} is of one teacher, and {several} names its own: set members.1.{inner}, "
                "say, the key of the first"
            )
    return found


def typed_list(names: Any) -> str:
    """As one types them: [cnn,resnet20]."""
    return shown(names, bare=True).replace(", ", ",")


def _asked(config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """(options of the members, in order; empty where there is one teacher, by `teacher=` alone, errors)"""
    names, count = config[TEACHERS], config["teacher"].get("members")
    if names is not None:
        if not isinstance(names, list) or not names or len(names) > _MOST:
            return [], [
                f"teachers must name 1 to {_MOST} options of teacher, such as teachers=[cnn,resnet20]; "
                f"given: {shown(names)}"
            ]
        wrong = [error for name in dict.fromkeys(map(str, names)) for error in wrong_option("teacher", name)]
        return [str(name) for name in names], wrong
    if count is None:
        return [], []
    if type(count) is not int or not 1 <= count <= _MOST:
        return [], [f"teacher.members must be a whole number from 1 to {_MOST}; given: {shown(count)}"]
    return [config["choices"]["teacher"]] * count if count > 1 else [], []


def _member(name: str, composed: Mapping[str, Any]) -> _Plain:
    keys = {key: value for key, value in without_moving(composed["teacher"]).items() if key != "members"}
    return copy.deepcopy({OPTION: name, **keys, TRAINING: composed[TRAINING]})


def _strange(given: Mapping[str, Any], count: int) -> list[str]:
    """Errors of numbers that no member has."""
    known = [str(number) for number in range(1, count + 1)]
    return [
        f"members.{shown(number, bare=True)} is no member: "
        + (
            f"they have the numbers 1 to {count}"
            if count
            else "there is one teacher, whose keys are teacher.KEY=; several are teachers=[cnn,resnet20] or "
            "teacher.members=5"
        )
        for number in given
        if number not in known
    ]


def _wrong_keys(
    made: Mapping[str, Any], given: Mapping[str, Any], choices: Mapping[str, Any]
) -> Iterator[str]:
    for number, keys in given.items():
        if OPTION in keys:
            yield f"members.{number}.{OPTION} is what teachers= names: teachers=[cnn,resnet20]"
            continue
        known = {NODE: made, "choices": choices}
        if moves := [key for key in keys if key in MOVING_KEYS]:
            yield (
                f"members.{number}.{moves[0]} is no key of one of several teachers, of which none can move: "
                f"name one, teacher={made[number][OPTION]} teacher.{moves[0]}=VALUE, or leave it out"
            )
            continue
        for key, value in keys.items():
            yield from wrong_key(known, [NODE, number, key], value)
            if key.startswith("_"):
                yield f"'members.{number}.{key}' is no key of a network"


def _merged(known: Any, given: Any) -> Any:
    if isinstance(known, Mapping) and isinstance(given, Mapping):
        return {**known, **{key: _merged(known.get(key), value) for key, value in given.items()}}
    return given


def _renamed(
    config: _Plain, names: Sequence[str], composed: Sequence[Mapping[str, Any]], made: Mapping[str, Any]
) -> _Plain:
    """What the run says of its one teacher, where `teachers` named them: of several nothing but their names.
    A list of one is that teacher.
    """
    alone = len(made) == 1
    first = dict(made["1"])
    option, training = first.pop(OPTION), first.pop(TRAINING)
    views = [found["pseudo_label"]["views"] for found in composed]
    fewest = min((count for count in views if isinstance(count, int)), default=None)
    stored = {**composed[0]["pseudo_label"], "views": views[0] if alone else fewest}
    return {
        **config,
        "teacher": {**first, "members": None} if alone else {},
        TRAINING: training,
        "pseudo_label": stored,
        "choices": {**config["choices"], "teacher": option if alone else typed_list(names)},
    }
