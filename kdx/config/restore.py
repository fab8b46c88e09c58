"""The configuration in a run.json put together again: as data, laid over what the options of conf/ compose,
and never as words for Hydra.

Options are chosen by name among those that exist here (or in the user's --config-dir), every other value is
put in place as it is and goes through the checks of a command line. What would name code (`_target_`), refer
to anything (`${...}`), or say where to write, is not taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.config import compose
from kdx.config.compose.members import NODE, TEACHERS, TRAINING
from kdx.config.compose.parsing import OWN_PARTS
from kdx.config.moving import without_moving
from kdx.config.options import SEVERAL, SLOTS, contents_of, groups, wrong_option
from kdx.config.overlay import Overlay
from kdx.core.errors import UserError
from kdx.store.moved import current, without_old_keys
from kdx.store.places import path_keys

NEVER = ("store", "allow", "publish", "choices", "device")
"""Where a run writes, what it may import and where it is published are the user's to say; the options and the
device are dealt with by themselves.
"""
DEVICE = ("device", "threads", "channels_last", "compile")
"""What of the device may change the last bits of a result;
the rest decides how fast, and is this machine's.
"""
_ROLES = {"teacher_pretrain": ("teacher",), "student_train": ("student", "baseline")}


def restore(
    saved: Mapping[str, Any], words: Sequence[str], settled: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, list[str], list[str]]:
    """(the configuration as kdx.config.compose.examine_words gives it, errors, notes on what is not as it
    was).

    saved: `config` of a run.json. words: what the user says otherwise (of the device, where data lie, allow).
    settled: device, threads and precision by role, as far as they were recorded; they stand in for `auto`.
    """
    errors = [
        (
            f"'{key}' of the saved configuration refers to something else ({value[:60]!r}): what is saved is "
            "plain, so this is refused"
        )
        for key, value in texts_of(saved)
        if "${" in value
    ]
    saved = without_old_keys(current(saved))
    given = {word.partition("=")[0] for word in words}
    chosen, unknown = options_of_saved(saved, given)
    errors += unknown
    if errors:
        return None, errors, []
    config, errors, _ = compose.examine_words([*chosen, *seeds_of(saved), *words])
    if config is None or errors:
        return None, errors, []
    notes: list[str] = []
    config = _as_before(config, saved)
    kept = {key: value for key, value in saved.items() if key not in NEVER}
    laid = Overlay(config, given, errors, notes)
    config = {**config, **laid.mapping({k: v for k, v in config.items() if k not in NEVER}, kept, [])}
    if "device" not in given:
        node = saved.get("device") if isinstance(saved.get("device"), Mapping) else {}
        wanted = {
            **{key: node[key] for key in DEVICE if key in node},
            **{key: settled[key] for key in DEVICE if key in settled},
        }
        config["device"] |= {key: value for key, value in wanted.items() if f"device.{key}" not in given}
    for stage, roles in _ROLES.items():
        found = next((p for role in roles if (p := (settled.get("precision") or {}).get(role))), None)
        if not errors and config[stage]["precision"] == "auto" and found:
            config[stage] = {**config[stage], "precision": found}
            for keys in config.get(NODE, {}).values() if stage == TRAINING else ():
                keys[stage] = {**keys[stage], "precision": found}
            notes.append(f"{stage}.precision=auto was settled as {found} there, and is here")
    labels = (settled.get("precision") or {}).get("pseudo_label")
    if not errors and labels and config["pseudo_label"]["precision"] == "auto":
        config["pseudo_label"] = {**config["pseudo_label"], "precision": labels}
        notes.append(f"pseudo_label.precision=auto was settled as {labels} there, and is here")
    return config, errors, notes


def texts_of(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(where it stands, text) of every text in a JSON value, its keys too."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield key, name
            yield from texts_of(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner, key)


def options_of_saved(saved: Mapping[str, Any], given: set[str]) -> tuple[list[str], list[str]]:
    """(words that choose the saved options, errors). A slot's option is the one whose `_target_` stands
    there.
    """
    choices, words, errors = saved.get("choices"), [], []
    choosable = [group for group in groups() if group not in compose.HOW]
    if not isinstance(choices, Mapping):
        return [], [
            (
                "the saved configuration does not say which options it was made of (`choices`): "
                "this is no run.json of kdx"
            )
        ]
    for group, option in choices.items():
        # of several options Hydra keeps no note: see Overlay.pieces
        if group in given or (group in SEVERAL and not isinstance(option, str)):
            continue
        wrong = (
            wrong_option(group, option)
            if group in choosable
            else [f"the saved configuration names a group that is not here: '{group}'"]
        )
        word = f"{group}={option}"
        if group == "teacher" and (several := _several(saved)):
            wrong = [error for name in several for error in wrong_option(group, name)]
            word = f"{TEACHERS}=[{','.join(map(str, several))}]"
        errors += [_if_own(error) if group in choosable else error for error in wrong]
        words += [] if wrong else [word]
    for slot, group in SLOTS.items():
        if {slot, "loss"} & given:
            continue
        node, name = saved.get("loss"), slot.partition(".")[2]
        held = node.get(name) if isinstance(node, Mapping) else None
        if not isinstance(held, Mapping):
            continue
        several = group in SEVERAL and "_target_" not in held
        found = []
        for target in [part.get("_target_") for part in _parts(held)] if several else [held.get("_target_")]:
            fitting = sorted(option for option, content in contents_of(group) if target in _named(content))
            if target is not None and not fitting:
                errors.append(
                    f"'{slot}' names {str(target)[:80]!r}, which no option of the group '{group}' has; "
                    "if it is your own, name its folder with --config-dir PATH"
                )
            found += fitting[:1]
        if several:
            found = [f"[{','.join(found)}]" if found else "none"]
        words += [f"{slot}={option}" for option in found]
    return words, errors


def _parts(held: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for part in held.values() if isinstance(part, Mapping)]


def _named(content: Mapping[str, Any]) -> list[Any]:
    """The `_target_` of an option, or those of the parts that it holds by name."""
    return [part.get("_target_") for part in (content, *_parts(content))]


def _as_before(config: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that a run is older than and that say nothing: the same configuration."""
    newer = {node for node in (*OWN_PARTS, NODE, TEACHERS) if node not in saved and not config[node]}
    found = {key: value for key, value in config.items() if key not in newer}
    teacher = saved.get("teacher")
    if isinstance(teacher, Mapping) and NODE not in teacher and config["teacher"].get(NODE) is None:
        found["teacher"] = {key: value for key, value in config["teacher"].items() if key != NODE}
    if (
        isinstance(teacher, Mapping)
        and "update" not in teacher
        and config["teacher"].get("update") == "frozen"
    ):
        found["teacher"] = without_moving(found["teacher"])
    return found


def _several(saved: Mapping[str, Any]) -> list[Any]:
    """The options that `teachers` names; empty where it names none."""
    found = saved.get(TEACHERS)
    return found if isinstance(found, list) else []


def seeds_of(saved: Mapping[str, Any]) -> list[str]:
    """The word that says how many of one teacher there are, where it is said."""
    node = saved.get("teacher")
    count = node.get("members") if isinstance(node, Mapping) else None
    return [f"teacher.members={count}"] if type(count) is int else []


def check_data(dataset: Mapping[str, Any], loader: Any, given: set[str]) -> None:
    """Nothing is downloaded to a place that a folder names: the files must be there, or the user must say
    where. Raises UserError.
    """
    paths = path_keys(dataset)
    if not dataset.get("download") or any(f"dataset.{key}" in given for key in paths):
        return
    files = loader.files()
    if not files or not all(Path(file).is_file() for file in files):
        where = next((str(dataset[k]) for k in paths if dataset.get(k)), "the place that it names")
        raise UserError(
            f"the data of this run are not in '{where}', and nothing is downloaded to where a folder says: "
            "say where they are, or where they may be put, with "
            f"dataset.{paths[0] if paths else 'root'}=PATH"
        )


def _if_own(error: str) -> str:
    own = "it is your own, name its folder with --config-dir PATH"
    return f"{error} If {own}" if error.endswith("?") else f"{error}; if {own}"
