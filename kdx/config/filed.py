"""A composed run as a file: `--config my.yaml`, or a run folder. It is data, laid over what its options
compose as `kdx.config.restore` does: nothing of it reaches Hydra's grammar but names of options that exist.
Words typed beside it win.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.config import compose
from kdx.config.compose.members import TEACHERS
from kdx.config.compose.naming import unnamed
from kdx.config.options import SEVERAL, SLOTS, groups, wrong_option
from kdx.config.overlay import Overlay
from kdx.config.quoting import quoted
from kdx.config.restore import options_of_saved, seeds_of, texts_of
from kdx.config.words import beyond
from kdx.config.yaml_files import read_yaml
from kdx.core import checks
from kdx.core.errors import UserError, UserErrors, together
from kdx.core.files import read_json
from kdx.store.moved import current
from kdx.store.places import path_keys

CONFIG_FLAG = "--config"
NOT_IN_A_FILE = ("allow", "store", "publish", "hydra", "launcher", "sweeper", "max_runs")
"""What counts from the command line only, as it decides what code runs, where is written and how runs are
started."""
_HANDED = "KDX_CONFIG"
"""The environment variable by which Hydra tells a process that a launcher has made of the file: its digest,
the keys of the words that choose its options, its path."""
_RUN_FILE = "run.json"
_GONE = object()


@dataclass(frozen=True)
class Filed:
    """saved: its keys, those that count. named: words for the groups of which several options are combined.
    ignored: keys of NOT_IN_A_FILE that it sets. digest: of its bytes.
    """

    path: Path
    saved: dict[str, Any]
    named: list[str]
    ignored: list[str]
    digest: str


given: list[Filed] = []
"""The file of this command; at most one."""


def use_file(flags: Sequence[str]) -> None:
    """Takes note of --config. Raises UserError where that is no file of settings."""
    names = [flag.partition("=")[2] for flag in flags if flag.startswith(f"{CONFIG_FLAG}=")]
    given[:] = [read_filed(Path(name).expanduser()) for name in names[-1:]]
    unnamed.clear()


def as_flag() -> list[str]:
    """The flag of this command's file, as it is typed."""
    return [f"{CONFIG_FLAG}={file.path}" for file in given]


def folders_of_settings() -> list[Path]:
    """The run folder that this command takes its settings from, if it is one."""
    places = [file.path.parent if file.path.name == _RUN_FILE else file.path for file in given]
    return [place for place in places if (place / _RUN_FILE).is_file()]


def ignored() -> list[str]:
    """Sentences on what the file says and only the command line may."""
    return [
        f"note: '{file.path}' sets {together(file.ignored)}: ignored, as that counts on the command line only"
        for file in given
        if file.ignored
    ]


def read_filed(path: Path) -> Filed:
    if path.is_dir() or path.name == _RUN_FILE:
        file = path / _RUN_FILE if path.is_dir() else path
        if path.is_dir() and not file.exists():
            raise UserError(
                f"'{path}' is no run folder, and no file of settings: --config takes a YAML file, or a "
                "folder that has a run.json"
            )
        content = read_json(file)
        found = content.get("config") if isinstance(content, dict) else None
        if not isinstance(found, dict):
            raise UserError(f"'{file}' holds no configuration of a run")
        found, raw = current(found), repr(sorted(map(repr, found.items()))).encode()
    else:
        found, raw = read_yaml(path)
    dropped = [key for key in NOT_IN_A_FILE if found.pop(key, None) not in (None, [], {})]
    for key in [key for key in found if str(key).partition(".")[0] in NOT_IN_A_FILE]:
        dropped.append(key)
        del found[key]
    errors = [
        f"'{path}': '{key}' is nested in a file: write {_nested(key, value, found)}"
        for key, value in found.items()
        if isinstance(key, str) and "." in key
    ]
    errors += [
        f"'{key}' in '{path}' refers to something else ({value[:60]!r}): a file holds plain values only"
        for key, value in texts_of(found)
        if "${" in value
    ]
    errors += [f"'{path}': {error}" for error in beyond("", found)]
    if errors:
        raise UserErrors(errors)
    choices = found.get("choices")
    found["choices"] = dict(choices) if isinstance(choices, Mapping) else {}
    named = []
    for group in groups():
        value = found.get(group)
        if group in SEVERAL and isinstance(value, list):
            errors += wrong_option(group, value)
            named.append(f"{group}=[{','.join(map(str, value))}]")
            del found[group]
        elif isinstance(value, str):  # loss: slam
            found["choices"][group] = found.pop(group)
    if isinstance(found.get(TEACHERS), list):
        found["choices"]["teacher"] = ""  # these are named in its place
    if errors:
        raise UserErrors([f"'{path}': {error}" for error in errors])
    return Filed(path, found, named, dropped, hashlib.sha256(raw).hexdigest())


def _nested(key: str, value: Any, found: Mapping[str, Any]) -> str:
    """student_train.lr, 0.3 -> `student_train: {lr: 0.3}`. found: the other keys, which may choose an
    option."""
    first, *inner = key.split(".")
    text = checks.shown(value, bare=True)
    for name in reversed(inner):
        text = f"{{{name}: {text}}}"
    option = found.get(first)
    return f"`{first}: {text}`" + (
        f", and `choices: {{{first}: {option}}}` for `{first}: {option}`" if isinstance(option, str) else ""
    )


def examine(words: Sequence[str]) -> tuple[dict[str, Any] | None, list[str], int]:
    """`compose.examine_words`, with the file of this command where there is one."""
    if not given:
        return compose.examine_words(words)
    file = given[0]
    typed = _typed(words)
    alone, errors = _choosing(file, set())
    chosen, _ = _choosing(file, typed)
    if errors:
        return None, [f"'{file.path}': {error}" for error in errors], 0
    before, errors, _ = compose.examine_words(alone)
    if before is None or errors:
        return None, [f"'{file.path}': {error}" for error in errors], 0
    config, errors, good = compose.examine_words([*chosen, *words])
    if config is None or errors:
        return config, errors, good
    kept = _Kept(typed, _referring(chosen, file.saved, typed))
    saved = kept.narrowed(file.saved, before, config, "")
    plain = {key: value for key, value in config.items() if key != "choices"}
    del saved["choices"]
    overlay = Overlay(config, set(), errors, [], own_code=True, without=NOT_IN_A_FILE)
    laid = overlay.mapping(plain, saved, [])
    errors += _downloads(laid["dataset"], config["dataset"], typed)
    return {**config, **laid}, [f"'{file.path}': {error}" for error in errors], good


def _typed(words: Sequence[str]) -> set[str]:
    """Dotted keys, groups and slots that the words set."""
    return {
        override.package if SLOTS.get(override.package) == override.key_or_group else override.key_or_group
        for override in compose.parse_overrides(words, [])
    }


def _choosing(file: Filed, typed: set[str]) -> tuple[list[str], list[str]]:
    """(words for the options that the file was composed of, but for those that are typed, errors)"""
    if TEACHERS in typed:
        typed = typed | {"teacher"}
    chosen, errors = options_of_saved(file.saved, typed)
    if not typed & {"teacher", "teacher.members"}:
        chosen += seeds_of(file.saved)
    return [*chosen, *(word for word in file.named if word.partition("=")[0] not in typed)], errors


def _referring(chosen: Sequence[str], saved: Mapping[str, Any], typed: set[str]) -> set[str]:
    """Keys that are taken from one that was typed, and that the file does not set apart from it."""

    def at(key: str) -> Any:
        node: Any = saved
        for name in key.split("."):
            node = node.get(name, _GONE) if isinstance(node, Mapping) else _GONE
        return node

    found = set()
    for key, text in texts_of(compose.composed(compose.plus_less(chosen), resolve=False)):
        source = text[2:-1] if text.startswith("${") and text.endswith("}") else ""
        if source and any(source == t or t.startswith(f"{source}.") for t in typed) and at(key) == at(source):
            found.add(key)
    return found


@dataclass(frozen=True)
class _Kept:
    """What of a file still counts beside the words that were typed."""

    typed: set[str]
    referring: set[str]

    def narrowed(self, saved: Mapping[str, Any], before: Any, now: Any, path: str) -> dict[str, Any]:
        """Without what the words set, or bring along with an option. before: what the file's options compose,
        now: with those that were typed.
        """
        left = {}
        for name, value in saved.items():
            key = f"{path}.{name}".lstrip(".")
            one, other = (
                node.get(name, _GONE) if isinstance(node, Mapping) else _GONE for node in (before, now)
            )
            if key in self.typed or key in self.referring or (other is _GONE and one is not _GONE):
                continue
            if isinstance(one, Mapping) and isinstance(other, Mapping) and isinstance(value, Mapping):
                if one.get("_target_") == other.get("_target_"):
                    left[name] = self.narrowed(value, one, other, key)
            elif one is _GONE or one == other:
                left[name] = value
        return left


def _downloads(laid: Mapping[str, Any], composed: Mapping[str, Any], typed: set[str]) -> Iterator[str]:
    """Errors of a data set that is downloaded to where the file says."""
    if laid.get("download"):
        for key in path_keys(laid):
            if laid[key] != composed.get(key) and f"dataset.{key}" not in typed:
                yield (
                    f"the data set is downloaded to '{checks.shown(laid[key], bare=True)}': say so on the "
                    f"command line with dataset.{key}=PATH, or dataset.download=false"
                )


def handed_on(words: Sequence[str]) -> list[str]:
    """Further words with which Hydra composes what is laid over, and tells every process that works on it of
    the file.
    """
    if not given:
        return []
    chosen = compose.plus_less(
        _choosing(given[0], _typed([word for word in words if not word.startswith("-")]))[0]
    )
    unnamed.update(chosen)
    keys = ",".join(word.partition("=")[0] for word in chosen)  # none of which was typed
    where = f"{given[0].digest}:{keys}:{given[0].path.absolute()}"
    return [*chosen, f"+hydra.job.env_set.{_HANDED}={quoted(where)}"]


def config_of(config: Any) -> tuple[dict[str, Any], list[str]]:
    """(the plain values of the run that Hydra called for, its words as they were typed), in whatever
    process.
    """
    found, words = compose.plain_config(config), compose.task_words()
    if _HANDED not in os.environ:
        return found, words
    digest, keys, path = os.environ[_HANDED].split(":", 2)
    file = given[0] if given else read_filed(Path(path))
    if file.digest != digest:
        raise UserError(f"'{path}' was changed after the runs were checked: run the same command again")
    given[:] = [file]
    typed = [word for word in words if word.partition("=")[0] not in keys.split(",")]
    laid, errors, _ = examine(typed)
    if laid is None or errors:
        raise UserErrors(errors)
    return laid, [f"{CONFIG_FLAG}={os.path.relpath(file.path)}", *typed]
