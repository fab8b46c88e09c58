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

import yaml

from kdx.config import compose
from kdx.config.compose.members import NODE, TEACHERS, TRAINING
from kdx.config.compose.parsing import OWN_PARTS
from kdx.config.keys import wrong_key
from kdx.config.options import SEVERAL, SLOTS, groups, options_of, own, wrong_option
from kdx.config.yaml_files import unreadable
from kdx.core.errors import UserError
from kdx.core.paths import conf_dir
from kdx.store.component import targets
from kdx.store.moved import current, without_old_keys
from kdx.store.places import path_keys

NEVER = ("store", "allow", "choices", "device")
"""Where a run writes and what it may import are the user's to say; the options and the device are dealt with
by themselves.
"""
DEVICE = ("device", "threads", "channels_last", "compile")
"""What of the device may change the last bits of a result;
the rest decides how fast, and is this machine's.
"""
PIECES = {"augment": "augment", "strong_augment": "augment", "shift": "shift"}
"""Nodes that hold options by name, and the group that these are from."""
_GROUPS = {"teacher": "model", "student": "model", "teacher_loss": "loss", "baseline_loss": "loss", **SLOTS}
"""Nodes whose `_target_` may be any that another group's options have; all others hold those of their own
name.
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
    laid = Laid(config, given, errors, notes)
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
        # of several options Hydra keeps no note: see Laid.pieces
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
        errors += [
            f"{error}; if it is your own, name its folder with --config-dir PATH"
            if group in choosable
            else error
            for error in wrong
        ]
        words += [] if wrong else [word]
    for slot, group in SLOTS.items():
        if {slot, "loss"} & given:
            continue
        node, name = saved.get("loss"), slot.partition(".")[2]
        target = (
            node[name].get("_target_")
            if isinstance(node, Mapping) and isinstance(node.get(name), Mapping)
            else None
        )
        fitting = sorted(option for option, content in _files(group) if content.get("_target_") == target)
        if target is not None and not fitting:
            errors.append(
                f"'{slot}' names {str(target)[:80]!r}, which no option of the group '{group}' has; "
                "if it is your own, name its folder with --config-dir PATH"
            )
        words += [f"{slot}={fitting[0]}"] if fitting else []
    return words, errors


def _as_before(config: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that a run is older than and that say nothing: the same configuration."""
    newer = {node for node in (*OWN_PARTS, NODE, TEACHERS) if node not in saved and not config[node]}
    found = {key: value for key, value in config.items() if key not in newer}
    teacher = saved.get("teacher")
    if isinstance(teacher, Mapping) and NODE not in teacher and config["teacher"].get(NODE) is None:
        found["teacher"] = {key: value for key, value in config["teacher"].items() if key != NODE}
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


def _files(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, content) of every option of a group, of conf/ and of the user's own folder."""
    for folder in (conf_dir(), *own):
        for option in options_of(group):
            file = Path(folder, group, f"{option}.yaml")
            try:
                content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise unreadable(file, error) from error
            if isinstance(content, dict):
                yield option, content


class Laid:
    """Saved values laid over composed ones. Where they do not fit, the composed value stays, and an error is
    reported.
    """

    def __init__(
        self,
        composed: Mapping[str, Any],
        given: set[str],
        errors: list[str],
        notes: list[str],
        *,
        own_code: bool = False,
    ):
        """own_code: whether a part may be one of the user's own, of a package that the command line
        allows.
        """
        self.composed, self.given, self.errors, self.notes = composed, given, errors, notes
        self.own_code = own_code

    def mapping(self, known: Mapping[str, Any], saved: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
        """In the saved order, which is that of steps of augmentation and of shifts too; keys that are newer
        than the run come last.
        """
        laid = {}
        for name, value in saved.items():
            here = [*path, name]
            if path and path[0] in OWN_PARTS and len(path) == 1 and name not in known:
                laid |= self.own_part(path[0], name, value)
            elif name not in known:
                self.errors += wrong_key(self.composed, here, value) or [f"'{'.'.join(here)}' is no key"]
            elif ".".join(here) in self.given:
                laid[name] = known[name]
            elif self.own_code and self.is_own(value) and isinstance(known[name], Mapping):
                standard = {
                    key: known[name][key] for key in ("members", "checkpoint", "key") if key in known[name]
                }
                laid[name] = {**standard, **value}
            else:
                laid[name] = self.value(known[name], value, here)
        newer = [name for name in known if name not in saved]
        self.notes += [
            f"{'.'.join([*path, name])} is newer than the run and has its default"
            for name in newer
            if known[name] != {}
        ]
        return {**laid, **{name: known[name] for name in newer}}

    def own_part(self, node: str, name: str, value: Any) -> dict[str, Any]:
        """A control or a metric of the user's own, which no option has: taken where its code lies in a
        package that the command line allows.
        """
        target = value.get("_target_") if isinstance(value, Mapping) else None
        if self.is_own(value):
            return {name: dict(value)}
        self.errors.append(
            f"'{node}.{name}' names {str(target)[:80]!r}, which comes with no option: "
            "if it is your own, allow its package with allow=[PACKAGE]"
        )
        return {}

    def is_own(self, value: Any) -> bool:
        """Whether it is a part whose code lies in a package that the command line allows, with plain
        values.
        """
        target = value.get("_target_") if isinstance(value, Mapping) else None
        ours = any(str(target).startswith(f"{package}.") for package in self.composed["allow"])
        return ours and not any(map(_holds_keys, value.values()))

    def value(self, known: Any, value: Any, path: list[str]) -> Any:
        dotted = ".".join(path)
        if path[-1] == "_target_":
            return self.target(known, value, path)
        if path[-1] in PIECES and isinstance(value, Mapping):
            return self.pieces(known, value, path)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            return self.mapping(known, value, path)
        if path[-1] not in PIECES and isinstance(known, Mapping) != isinstance(value, Mapping):
            self.errors += wrong_key(self.composed, path, value)
            return known
        if isinstance(value, list) and any(_holds_keys(inner) for inner in value):
            self.errors.append(f"'{dotted}' holds keys inside a list, which no setting does")
            return known
        return value

    def target(self, known: Any, value: Any, path: list[str]) -> Any:
        node = ".".join(path[:-1])
        group = "model" if node.startswith(f"{NODE}.") else _GROUPS.get(node, node)
        if value != known and value not in {t for _, content in _files(group) for t in targets(content)}:
            self.errors.append(
                f"'{node}._target_' is {str(value)[:80]!r}, which neither the chosen options nor others of "
                f"'{group}' have; if it is your own, name its folder with --config-dir PATH"
            )
            return known
        return value

    def pieces(self, known: Any, value: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
        """Steps by name: each must be one that the options have, key by key."""
        laid, group = {}, PIECES[path[-1]]
        templates = [
            *([known] if isinstance(known, Mapping) else []),
            *(content for _, content in _files(group)),
        ]
        for name, spec in value.items():
            alike = (content[name] for content in templates if isinstance(content.get(name), Mapping))
            if isinstance(spec, Mapping) and any(_same_kind(template, spec) for template in alike):
                laid[name] = dict(spec)
            else:
                self.errors.append(
                    f"'{'.'.join([*path, name])}' is not as an option of '{group}' has it; "
                    "if it is your own, name its folder with --config-dir PATH"
                )
        return laid


def _same_kind(template: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """The same `_target_` and the same keys, each with one value or a list of values."""
    return (
        template.keys() == spec.keys()
        and template.get("_target_") == spec.get("_target_")
        and not any(map(_holds_keys, spec.values()))
    )


def _holds_keys(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(_holds_keys, value)))


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
