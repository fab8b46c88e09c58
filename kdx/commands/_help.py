"""kdx train --help: each group with its options, each key with its value and the comment that its file has,
as one types it. Without words nothing is composed: the files of conf/ are read, and Hydra is not imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.commands._option_keys import keys
from kdx.commands.list import defaults, load_option, row
from kdx.config.options import own
from kdx.core.paths import conf_dir

ALONE = ("--help", "-h", "--multirun", "-m", "--config-dir", "-cd")
"""Flags beside which it is the help alone that is asked for."""
_WIDEST = 46
"""Letters of `key=value` that comments stand beside; behind a longer one the comment follows."""
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_]\w*): *(?P<value>[^#]*?)(?: *# +(?P<comment>.*))?$")
_HEAD = """kdx train: teacher-pretrain -> pseudo-label -> student-train

  kdx train                                    the default experiment (digits, under a minute)
  kdx train teacher=resnet50 student=mobilenet change one word, change one thing
  kdx train loss.temperature=2 seed=1          change one value
  kdx train -m loss=kd,supervised seed=0,1,2   a sweep; max_runs=N allows more than 1,000 runs
  kdx train --config my.yaml seed=1            a run as a file (kdx config prints one); words beside it win

== Groups (kdx list GROUP tells what each option is; the default is marked with *) =="""


def main(argv: Sequence[str]) -> int:
    flags = {word.partition("=")[0] for word in argv if word.startswith("-")}
    if not flags <= {*ALONE}:
        from kdx.commands import train

        return train.main(argv)
    values: Mapping[str, Any]
    if [word for word in argv if word not in ALONE[:4]]:
        values, typed = _composed(argv)
    else:
        values, typed = keys(conf_dir(), []), []
    comments = keys(conf_dir(), typed, load_comments)
    comments["student_train"] = (
        comments["teacher_pretrain"] | comments["student_train"]
    )  # what each key is, once
    shown = {key: _followed(value, values) for key, value in values.items()}
    print("\n".join([_HEAD, *_groups(), "", *_values(shown, comments)]))
    return 0


def _composed(argv: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """(what the words compose, the words), all of them checked."""
    from kdx.commands._typed import check_shown, read_words
    from kdx.config.compose import composed

    words = read_words(argv)[2]
    check_shown(words)
    return {key: value for key, value in composed(words, resolve=False).items() if key != "choices"}, words


def load_comments(path: Path) -> dict:
    """What the lines of an option file say behind their `#`, nested as its keys are."""
    found: dict[str, Any] = {}
    above: list[tuple[int, dict]] = [(-1, found)]
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        match = _LINE.match(line)
        if not match:
            continue
        indent = len(match["indent"])
        while above[-1][0] >= indent:
            above.pop()
        if not match["value"]:
            above.append((indent, above[-1][1].setdefault(match["key"], {})))
        if match["comment"]:
            above[-1 if match["value"] else -2][1][match["key"]] = match["comment"]
    return found if load_option(path) else {}


def _groups() -> Iterator[str]:
    """Each folder of option files with its options, in order of name."""
    found: dict[str, set[str]] = {}
    for place in (conf_dir(), *own):
        for folder, _, files in os.walk(place):
            group = os.path.relpath(folder, place).replace(os.sep, "/")
            options = {name.removesuffix(".yaml") for name in files if name.endswith(".yaml")}
            if options and group != "." and group.partition("/")[0] not in ("hydra", "claim", "model"):
                found.setdefault(group, set()).update(options)
    chosen = defaults(conf_dir())
    for group in sorted(found):
        marked = [f"{name}*" if name in chosen.get(group, []) else name for name in sorted(found[group])]
        yield row(f"{group}: ", ", ".join(marked))


def _followed(value: Any, values: Mapping[str, Any]) -> Any:
    """A value that is taken from another key, `${dataset.kd_temperature}`, as what stands there; of a group
    of keys the reference stays."""
    if isinstance(value, Mapping):
        return {key: _followed(one, values) for key, one in value.items()}
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return value
    found: Any = values
    for name in match[1].split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return value if found is None or isinstance(found, Mapping) else found


def _values(values: Mapping[str, Any], comments: Mapping[str, Any]) -> Iterator[str]:
    """`key=value   comment` of every key: first those of the run, then those of each of its parts."""
    yield "== The run (override any with key=value) =="
    kept = {key: value for key, value in values.items() if key != "hydra"}
    plain = {key: value for key, value in kept.items() if not (isinstance(value, Mapping) and value)}
    said = {key: value for key, value in plain.items() if value != {} or comments.get(key)}
    yield from _lines([], said, comments)
    for name, node in kept.items():
        if name not in plain and (lines := [*_lines([name], node, comments.get(name) or {})]):
            yield from ("", f"== {name} ==", *lines)


def _lines(path: list[str], node: Mapping[str, Any], comments: Any) -> Iterator[str]:
    for name, value in node.items():
        here = [*path, str(name)]
        said = comments.get(name) if isinstance(comments, Mapping) else None
        if isinstance(value, Mapping) and value:
            yield from _lines(here, value, said)
            continue
        if str(name).startswith("_"):
            continue
        setting = f"{'.'.join(here)}={_written(value)}"
        comment = said if isinstance(said, str) else ""
        yield row(f"{setting:{_WIDEST}}  ", comment)


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
