"""Show the config groups, or the options of one group: kdx list [GROUP]."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from kdx.core import output
from kdx.core.errors import UserError, nearest
from kdx.core.paths import conf_dir

HELP = """kdx list          the config groups: how many options each has, and which is the default
kdx list GROUP    the options of one group; the default is marked with *
kdx list GROUP OPTION   what its file says of it: when to take it, what it costs

An option is chosen with `kdx train GROUP=OPTION`."""


def option_groups(conf: Path) -> list[str]:
    """Folders under `conf` that hold options, by name: ["dataset", "loss", ...]; the claims of `kdx
    reproduce` are none.
    """
    return sorted(
        {path.relative_to(conf).parts[0] for path in conf.rglob("*.yaml") if path.parent != conf} - {"claim"}
    )


def options(conf: Path, group: str) -> list[str]:
    """Names of a group's options, those in folders as folder/name;
    a file whose name starts with `_` is none.
    """
    files = (
        path.relative_to(conf / group)
        for path in (conf / group).rglob("*.yaml")
        if not path.stem.startswith("_")
    )
    return sorted(path.with_suffix("").as_posix() for path in files)


def describe_option(path: Path) -> str:
    """The first comment line of an option's file that is not a `# @...` header, or nothing."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            text = line.strip()
            if text.startswith("#") and (text := text.lstrip("# ").strip()) and not text.startswith("@"):
                return text
    return ""


def first_comments(path: Path) -> list[str]:
    """All comments that an option's file begins with, a `# WORD: ...` on a line of its own."""
    found: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@"):
            found.append(text)
    return found


def load_option(path: Path) -> dict:
    """One YAML file as a mapping; one that is missing, empty or broken gives {}: reporting that is `kdx
    train`'s work.
    """
    import yaml

    try:
        data = yaml.load(
            path.read_text(encoding="utf-8"), yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}


def options_in_defaults(data: dict) -> dict[str, list[str]]:
    """A file's defaults list as {"group" or "group@package": options}, without `override`, `optional` and a
    leading `/`.
    """
    found = {}
    for entry in data.get("defaults") or []:
        if isinstance(entry, dict):
            for key, value in entry.items():
                chosen = value if isinstance(value, list) else [] if value is None else [value]
                found[str(key).split()[-1].lstrip("/")] = [str(option) for option in chosen]
    return found


def defaults(conf: Path) -> dict[str, list[str]]:
    """The default options of each group that can be chosen by its name: {"loss": ["kd"], "experiment": []}"""
    return {
        key: chosen
        for key, chosen in options_in_defaults(load_option(conf / "train.yaml")).items()
        if "@" not in key
    }


def width() -> int | None:
    """Columns to keep to, or None where there is no terminal: a pipe gets whole lines, for grep."""
    if os.environ.get("COLUMNS", "").isdigit():
        return max(40, int(os.environ["COLUMNS"]))
    return max(40, os.get_terminal_size(sys.stdout.fileno()).columns) if sys.stdout.isatty() else None


def row(head: str, text: str) -> str:
    """`head` and `text` side by side; lines too long for the terminal go on below `text`."""
    columns = width()
    if columns is None or len(head) + len(text) <= columns:
        return f"{head}{text}".rstrip()
    indent = min(len(head), columns // 2)
    return textwrap.fill(
        text, columns, initial_indent=head, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def list_groups(conf: Path) -> list[str]:
    names, default = option_groups(conf), defaults(conf)
    wide = max(map(len, ["group", *names]))
    lines = [f"{'group':{wide}}  options  default"]
    for name in names:
        lines.append(
            row(f"{name:{wide}}  {len(options(conf, name)):7}  ", ", ".join(default.get(name, [])) or "-")
        )
    return [
        *lines,
        "",
        row("", "kdx list GROUP shows a group's options; kdx train GROUP=OPTION chooses one."),
    ]


def list_options(conf: Path, group: str) -> list[str]:
    if group not in option_groups(conf):
        raise UserError(f"no config group '{group}'{nearest(group, option_groups(conf))}")
    names, default = options(conf, group), defaults(conf)
    wide = max(map(len, names), default=0)
    return [
        row(
            f"{'*' if name in default.get(group, []) else ' '} {name:{wide}}  ",
            describe_option(conf / group / f"{name}.yaml"),
        )
        for name in names
    ]


def show_option(conf: Path, group: str, name: str) -> list[str]:
    known = options(conf, group) if group in option_groups(conf) else []
    if name not in known:
        list_options(conf, group)  # an error where there is no such group
        raise UserError(f"{group} has no option '{name}'{nearest(name, known)}")
    page = Path("docs/methods", f"{group}.md")
    more = f", and {page}#{name}" if (conf.parent / page).is_file() else ""
    return [
        *(row("", text) for text in first_comments(conf / group / f"{name}.yaml")),
        "",
        row("", f"Its keys: kdx train {_word(group)}={name} --help{more}"),
    ]


def _word(group: str) -> str:
    """What chooses an option of a group on the command line."""
    return f"loss.{group}" if group in ("weights", "features") else group


def _document(conf: Path, group: str | None) -> dict:
    """What is shown, for programs."""
    default = defaults(conf)
    if group is None:
        groups = option_groups(conf)
        return {
            "groups": [
                {"name": g, "options": options(conf, g), "default": default.get(g, [])} for g in groups
            ]
        }
    if group not in option_groups(conf):
        raise UserError(f"no config group '{group}'{nearest(group, option_groups(conf))}")
    said = {name: describe_option(conf / group / f"{name}.yaml") for name in options(conf, group)}
    found = [
        {"name": name, "text": text, "default": name in default.get(group, [])} for name, text in said.items()
    ]
    return {"group": group, "options": found}


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    flags = [word for word in argv if word.startswith("-")]
    if flags or len(argv) > 2:
        raise UserError(
            f"kdx list takes a config group and one of its options at most, not '{' '.join(flags or argv)}'"
        )
    conf = conf_dir()
    if len(argv) == 2:
        group, name = argv[0].rstrip("=/"), argv[1]
        shown = show_option(conf, group, name)
        if output.wants_document():
            said = first_comments(conf / group / f"{name}.yaml")
            output.answer({"group": group, "name": name, "comments": said})
        else:
            print("\n".join(shown))
        return 0
    if output.wants_document():
        output.answer(_document(conf, argv[0].rstrip("=/") if argv else None))
        return 0
    print("\n".join(list_options(conf, argv[0].rstrip("=/")) if argv else list_groups(conf)))
    return 0
