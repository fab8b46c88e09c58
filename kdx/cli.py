"""Entry point: the first word names a module of kdx/commands. Imports nothing heavy, so that `kdx --help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import kdx
from kdx.commands import commands, summary
from kdx.faults import Fault, nearest, shows


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

    In `--cfg job train` the word `job` belongs to a flag, so behind a leading flag the first known command is taken.
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
    """Runs one command line and returns its exit code: 0 done, 2 a fault of the user's, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        try:
            return run(argv)
        finally:
            # Flushed here, where a closed pipe (`kdx list | head -1`) is still ours to catch.
            sys.stdout.flush()
    except Fault as fault:
        print(shows(str(fault)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kdx: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends; it must find somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE, what a shell shows for `yes | head`


if __name__ == "__main__":
    sys.exit(main())
