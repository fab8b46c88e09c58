"""Write the skeleton of a part of your own: a loss, a model, a data set ..., ready to be run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdx.commands._words import Option, asks_for_help, help_text, make_folder, parse_words
from kdx.config import skeletons
from kdx.core import output
from kdx.core.errors import UserError

ACTIONS = tuple(skeletons.PART_KINDS)
OPTIONS = (
    Option("package", "my_parts", "the folder here that your code lies in: it is made where it is not there"),
)
HELP = help_text(
    "kdx new KIND NAME [key=value ...]",
    OPTIONS,
    "\n".join(
        [
            *(f"  kdx new {kind} NAME" for kind in ACTIONS),
            "",
            "Writes a Python file and its options, and the command that tries them; nothing is replaced.",
        ]
    ),
)


def main(argv: Sequence[str]) -> int:
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_words("new", argv, OPTIONS)
    if len(words.names) != 2:
        given = f"given: {' '.join(words.names)}" if words.names else "given: nothing"
        raise UserError(f"kdx new needs a kind ({', '.join(ACTIONS)}) and a name, kdx new loss mine; {given}")
    (kind, name), package = words.names, str(words["package"])
    skeletons.check_package(package)
    files = skeletons.part_files(kind, name, package)
    if there := [file for file in files if Path(file).exists() or Path(file).is_symlink()]:
        raise UserError(f"'{there[0]}' is there already, and is not replaced: choose another name")
    for file, text in files.items():
        make_folder(Path(file).parent, f"the folder of '{file}'", "package=NAME")
        try:
            with Path(file).open("x", encoding="utf-8") as opened:
                opened.write(text)
        except OSError as error:
            raise UserError(f"'{file}' cannot be written: {error.strerror or error}") from error
    command = skeletons.trying_command(kind, name, package)
    output.answer({"files": list(map(str, files)), "command": command})
    if not output.wants_document():
        print("\n".join([*(f"wrote {file}" for file in files), "", command]))
    return 0
