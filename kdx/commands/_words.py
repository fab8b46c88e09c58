"""The words of the commands that are not Hydra applications: one or two names, then key=value, each with its
nearest match.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.core.checks import gather
from kdx.core.errors import UserError, UserErrors, nearest
from kdx.core.path_checks import path


@dataclass(frozen=True)
class Option:
    """key=value. default None: nothing given. choices: all that is allowed, empty: anything. many: may be
    given several times. called: what other tools call it, with spaces between.
    """

    name: str
    default: str | None
    text: str
    choices: tuple[str, ...] = ()
    many: bool = False
    called: str = ""


@dataclass(frozen=True)
class Words:
    """names: words that are no settings. values: option -> value, the default where none was given; of one
    with `many` a list. given: the options that were given. composed: the words for Hydra."""

    names: list[str]
    values: dict[str, str | None]
    lists: dict[str, list[str]]
    given: set[str]
    composed: list[str]

    def __getitem__(self, name: str) -> str | None:
        return self.values[name]


def help_text(usage: str, options: Sequence[Option], more: str = "") -> str:
    wide = max(len(option.name) for option in options) + 1
    lines = []
    for option in options:
        known = f" ({' | '.join(option.choices)})" if option.choices else ""
        default = f"; default: {option.default}" if option.default else ""
        head = f"  {option.name + '=':{wide}}  "
        lines.append(
            textwrap.fill(
                f"{option.text}{known}{default}", 100, initial_indent=head, subsequent_indent=" " * len(head)
            )
        )
    return "\n".join([usage, "", *lines, *(["", more] if more else [])])


_ROLES = ("teacher", "student")


def asks_for_help(argv: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(argv))


def parse_words(
    command: str,
    argv: Sequence[str],
    options: Sequence[Option],
    groups: Sequence[str] = (),
    without: Mapping[str, str] = {},  # noqa: B006 (never changed)
) -> Words:
    """groups: keys that are Hydra's to check, such as `dataset` in `dataset=mnist5k dataset.root=data`.
    without: keys that other commands have -> why this one has none, or what to type instead.
    Raises UserErrors, all reported together.

    A word with `=` is a setting, unless its key is none and a file or folder of that name exists.
    """
    known = {option.name: option for option in options}
    words = Words(
        [], {o.name: o.default for o in options}, {o.name: [] for o in options if o.many}, set(), []
    )
    errors: list[str] = []
    called = {other: option.name for option in options for other in option.called.split()}
    passed = -1  # the place of a word that was taken for the value of a flag
    for place, word in enumerate(argv):
        if place == passed:
            continue
        name, is_setting, value = word.partition("=")
        if (
            given := value if is_setting else word
        ).strip():  # whatever it is, a path is the longest that it can be
            with gather(unfit := []):
                path(name if is_setting and name in known else f"a word of kdx {command}", given)
            errors += unfit
            if unfit:
                continue
        if word.startswith("-"):
            key = name.lstrip("-").replace("-", "_")
            key, after = called.get(key, key), argv[place + 1 : place + 2]
            if not value and after and not after[0].startswith("-") and "=" not in after[0]:
                value, passed = after[0], place + 1
            meant = f"{key}={value or 'VALUE'}" if key in {*known, *groups} else f"kdx {command} --help"
            errors.append(f"kdx {command} has no flag {word}; settings are written key=value: {meant}")
        elif is_setting and name.lstrip("+").split(".")[0] in groups:
            words.composed.append(word.lstrip("+"))
        elif is_setting and name in known:
            option = known[name]
            if option.choices and value not in option.choices:
                errors.append(f"{name} has no option '{value}'{nearest(value, option.choices)}")
            elif not value:
                errors.append(f"{name}= needs a value")
            words.given.add(name)
            words.values[name] = value
            if option.many:
                listed = value.startswith("[") and value.endswith("]")  # as Hydra writes a list
                words.lists[name] += [part.strip() for part in value[1:-1].split(",")] if listed else [value]
        elif is_setting and not Path(word).expanduser().exists():
            meant, why = called.get(name.lower().replace("-", "_")), without.get(name.split(".")[0])
            instead = f": {why}" if why else nearest(name, {*known, *groups})
            instead = f"; did you mean {meant}={value}?" if meant else instead
            errors.append(f"'{name}' is no key of kdx {command}{instead}")
        else:
            words.names.append(word)
    if errors:
        raise UserErrors(errors)
    return words


def parse_stored(
    command: str,
    argv: Sequence[str],
    options: Sequence[Option],
    groups: Sequence[str],
    without: Mapping[str, str] = {},  # noqa: B006 (never changed)
) -> Words:
    """`parse_words` of a command that opens stored weights: `teacher.checkpoint=FILE teacher=cnn`, as kdx
    train takes it, is `FILE model=cnn`, and of a student likewise."""
    role = next((r for r in _ROLES if any(word.startswith(f"{r}.checkpoint=") for word in argv)), None)
    if role:
        keys = {f"{role}.checkpoint=": "", f"{role}.key=": "key=", f"{role}=": "model=", f"{role}.": "model."}
        argv = [
            next((new + word.removeprefix(old) for old, new in keys.items() if word.startswith(old)), word)
            for word in argv
        ]
    how = f"name the weights, as in kdx {command} FILE model=cnn dataset=NAME, or a run folder with role="
    return parse_words(command, argv, options, groups, {**without, **{r: how + r for r in _ROLES}})


def only_name(command: str, words: Words, what: str) -> str:
    """The one name that a command takes."""
    if len(words.names) != 1:
        given = f"given: {' '.join(words.names)}" if words.names else "given: nothing"
        raise UserError(f"kdx {command} needs one {what}; {given}. kdx {command} --help tells more")
    return words.names[0]


def switch(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise UserError(f"{name} must be true or false; given: {value!r}")
    return value == "true"


def make_folder(path: Path, what: str, option: str) -> None:
    """Before any work. Raises UserError that says which option names another."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{what} cannot be made: {error.strerror or error} ('{error.filename}'); "
            f"choose another with {option}"
        ) from error
