"""Entry point: the first word names a module of kdx/commands. Imports nothing heavy, so that `kdx --help`
answers at once.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

import kdx
from kdx.commands import asks_for_text, command_module, commands, first_sentence
from kdx.core import output, shortage, signals, snapshot
from kdx.core.collecting import imported
from kdx.core.errors import UserError, nearest, printable
from kdx.core.launch import launched

_HINTS = {
    "train": "run start fit distill distil main launch experiment",
    "train -m loss=kd,slam": "sweep multirun tune hpo grid",
    "evaluate RUN": "test eval measure validate val score benchmark",
    "predict RUN": "infer inference label annotate classify answer",
    "compare outputs": "results table summary leaderboard runs report",
    "config": "cfg show print-config settings",
    "list": "options groups ls",
    "list model": "models architectures networks teacher student model",
    "list dataset": "datasets data dataset",
    "list loss": "losses methods loss",
    "board": "tensorboard tb ui dashboard logs view",
    "export RUN": "save onnx convert deploy",
    "publish RUN": "share upload push log mlflow wandb trackio",
    "plan": "dry-run dryrun estimate check",
    "rerun RUN": "repeat replay again",
    "cache ls": "store",
    "cache gc": "gc clean prune rm",
    "cache verify": "verify fsck",
    "--version": "version",
    "--help": "info man",
}
HINTS = {word: meant for meant, words in _HINTS.items() for word in words.split()}
"""What other tools call a command -> the words of kdx, where there is no such command."""
_JSON, _FILES_TOO = "--json", ("compare", "plan")
TRAINING_COMMANDS = ("train", "rerun", "reproduce")
"""Commands that train."""
_UNREAD = 141
"""Exit code where nobody reads the output any more: 128 + SIGPIPE, what a shell shows for `yes | head`."""


def usage() -> str:
    wide = max(map(len, commands()))
    lines = [f"  kdx {name:{wide}}  {first_sentence(name)}".rstrip() for name in commands()]
    return "\n".join(
        [
            "kdx: experiments in knowledge distillation",
            "",
            *lines,
            "",
            "`kdx COMMAND --help` tells more of one command, `kdx --version` the version; `--json` behind",
            "any command gives one JSON document on standard output, and nothing else there.",
        ]
    )


def split_command(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Splits a command line into the command and the rest; flags may stand before the command or after it.

    In `--cfg job train` the word `job` belongs to a flag, so behind a leading flag the first known command is
    taken.
    """
    known = set(commands())
    words = [i for i, word in enumerate(argv) if not word.startswith("-")]
    if not words:
        return None, list(argv)
    at = words[0]
    if at > 0:
        at = next((i for i in words if argv[i] in known), at)
    return argv[at], [*argv[:at], *argv[at + 1 :]]


def _meant(meant: str, rest: Sequence[str]) -> list[str]:
    """The words of kdx, with those that were typed in place of the example's."""
    words = meant.split()
    if not rest or set(rest) <= {"--help", "-h"} or words[0] not in commands():
        return words
    if words[0] in ("list", "cache"):
        return words
    flags = [word for word in words[1:] if word.startswith("-") and word not in rest]
    return [words[0], *flags, *rest]


def take_json(argv: Sequence[str]) -> tuple[bool, list[str]]:
    """(whether a document is asked for, the other words). Of `kdx compare` and `kdx plan` a file may stand
    behind --json, and is written in place of it.
    """
    rest = list(argv)
    if _JSON not in rest:
        return False, rest
    at = rest.index(_JSON)
    following = rest[at + 1] if at + 1 < len(rest) else ""
    is_file = following == "-" or not (
        following.startswith("-") or "=" in following or os.path.isdir(following)
    )
    if split_command(rest)[0] in _FILES_TOO and following not in ("", *commands()) and is_file:
        return False, rest
    return True, [word for word in rest if word != _JSON]


def dispatch(argv: Sequence[str]) -> int:
    word, rest = split_command(argv)
    if word == "help" and word not in commands():  # `kdx help train`
        return dispatch([*rest[:1], "--help"])
    if word is None:
        if {"--version", "-V"} & set(rest):
            print(f"kdx {kdx.__version__}")
            return 0
        if not rest or set(rest) <= {"--help", "-h"}:
            print(usage())
            return 0
        raise UserError(f"kdx needs a command before or after {rest[0]}; one of: {', '.join(commands())}")
    if word not in commands():
        if "=" in word:
            raise UserError(f"kdx needs a command, and '{word}' is a setting: kdx train {word}")
        if meant := HINTS.get(word.lower()):
            raise UserError(f"unknown command '{word}': write {shlex.join(['kdx', *_meant(meant, rest)])}")
        raise UserError(f"unknown command '{word}'{nearest(word, commands())}")
    if rest == ["help"]:
        rest = ["--help"]
    return imported(command_module(word, rest)).main(rest) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code: see docs/commands.md."""
    if argv is None:
        try:
            return main(sys.argv[1:])
        finally:
            signals.end_at_once()
    argv = without_remark(argv)
    begin_side_by_side(argv)
    code = _main(argv)
    if told := signals.requeued(code):
        print(told, file=sys.stderr)
    return code


def _main(argv: Sequence[str]) -> int:
    with signals.heeded(), output.enduring():
        try:
            code = run_and_report(argv)
            if (why := output.lost()) and not code:
                print(f"not all could be printed: {why}", file=sys.stderr)
            return code or int(why is not None)
        except KeyboardInterrupt as error:
            return _interrupted(error, argv)
        except BrokenPipeError:
            return _UNREAD
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # rich made an end of its own of it
                return _UNREAD
            raise
        except Exception:
            if signals.came():  # a library made another error of it
                return _interrupted(signals.last(), argv)
            raise


def without_remark(argv: Sequence[str]) -> list[str]:
    """An interactive zsh hands over what stands behind `#` too, as where a line of a page is pasted."""
    return list(itertools.takewhile(lambda word: word != "#", argv))


def begin_side_by_side(argv: Sequence[str]) -> None:
    """Where torchrun started several processes, the first goes on: the others follow it where it trains, and
    end at once where it does not."""
    here = launched()
    if here is None:
        return
    if split_command(argv)[0] in TRAINING_COMMANDS and not asks_for_text(argv):
        import_module("kdx.training.team").begin_launched()
    elif here[0]:
        sys.exit(0)


def run_and_report(argv: Sequence[str]) -> int:
    """One command line; with --json what it comes to is one document on stdout, what is wrong too."""
    document, argv = take_json(argv)
    if not document:
        return _reported(argv)
    with output.one_document():
        if argv and not asks_for_text(argv):
            try:
                code = _reported(argv)
            except KeyboardInterrupt:
                output.answer({"errors": ["interrupted"]})
                raise
        else:
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                code = _reported(argv)
            output.answer({"text": text.getvalue()})
        if not output.has_answered():
            output.answer({"errors": [f"exit code {code}: what went wrong is on standard error"]})
    return code


def _reported(argv: Sequence[str]) -> int:
    try:
        with snapshot.one_command(), shortage.noticed(f"kdx {argv[0]}" if argv else "kdx"):
            return dispatch(argv)
    except UserError as error:
        if not isinstance(error, shortage.Shortage):
            # a library made an error of its own of what a signal raised, and that was reported as an error of
            # the words
            signals.raise_if_stopped()
        output.report_error(printable(str(error)))
        return 1 if isinstance(error, shortage.Shortage) else 2


def _interrupted(error: KeyboardInterrupt, argv: Sequence[str]) -> int:
    """What no command has reported itself."""
    with signals.held():  # a second one while the first is reported
        print(f"interrupted. Go on with: {printable(shlex.join(['kdx', *argv]))}", file=sys.stderr)
    return signals.code_of(error)


if __name__ == "__main__":
    sys.exit(main())
