"""Entry point: the first word names a module of kdx/commands. Imports nothing heavy, so that `kdx --help`
answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

import kdx
from kdx.commands import commands, summary
from kdx.core import output, shortage, signals
from kdx.core.errors import Fault, nearest, shows

UNREAD = 141
"""Exit code where nobody reads the output any more: 128 + SIGPIPE, what a shell shows for `yes | head`."""


def usage() -> str:
    wide = max(map(len, commands()))
    lines = [f"  kdx {name:{wide}}  {summary(name)}".rstrip() for name in commands()]
    return "\n".join(
        [
            "kdx: experiments in knowledge distillation",
            "",
            *lines,
            "",
            "`kdx COMMAND --help` tells more of one command, `kdx --version` the version.",
        ]
    )


def pick(argv: Sequence[str]) -> tuple[str | None, list[str]]:
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


def run(argv: Sequence[str]) -> int:
    word, rest = pick(argv)
    if word is None:
        if "--version" in rest:
            print(f"kdx {kdx.__version__}")
            return 0
        if not rest or set(rest) <= {"--help", "-h"}:
            print(usage())
            return 0
        raise Fault(f"kdx needs a command before or after {rest[0]}; one of: {', '.join(commands())}")
    if word not in commands():
        if "=" in word:
            raise Fault(f"kdx needs a command, and '{word}' is a setting: kdx train {word}")
        raise Fault(f"unknown command '{word}'{nearest(word, commands())}")
    return import_module(f"kdx.commands.{word}").main(rest) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code: see docs/commands.md."""
    if argv is None:
        try:
            return main(sys.argv[1:])
        finally:
            signals.end_at_once()
    with signals.heeded(), output.enduring():
        try:
            code = told(argv)
            if (why := output.lost()) and not code:
                print(f"not all could be printed: {why}", file=sys.stderr)
            return code or int(why is not None)
        except KeyboardInterrupt as error:
            return interrupted(error, argv)
        except BrokenPipeError:
            return UNREAD
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # rich made an end of its own of it
                return UNREAD
            raise
        except Exception:
            if signals.came():  # a library made another error of it
                return interrupted(signals.last(), argv)
            raise


def told(argv: Sequence[str]) -> int:
    try:
        with shortage.noticed(f"kdx {argv[0]}" if argv else "kdx"):
            return run(argv)
    except Fault as fault:
        if not isinstance(fault, shortage.Shortage):
            # a library made an error of its own of what a signal raised, and that was told as a fault of the
            # words
            signals.check()
        print(shows(str(fault)), file=sys.stderr)
        return 1 if isinstance(fault, shortage.Shortage) else 2


def interrupted(error: KeyboardInterrupt, argv: Sequence[str]) -> int:
    """What no command has told itself."""
    with signals.held():  # a second one while the first is told
        print(f"interrupted. Go on with: {shows(shlex.join(['kdx', *argv]))}", file=sys.stderr)
    return signals.code_of(error)


if __name__ == "__main__":
    sys.exit(main())
