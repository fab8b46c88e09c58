"""One command at a time, asked from Python: its `main` in this process, its document handed over."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from kdx.api.process import borrowed
from kdx.commands import asks_for_text, command_module, commands
from kdx.core import output, shortage, signals, snapshot
from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest, printable, type_name

_Found = TypeVar("_Found")
_Given = ParamSpec("_Given")
_LIGHT = ("board", "cache", "compare", "completion", "list", "new")
"""Commands that read files, and call neither Hydra nor torch."""
_COMPOSING = ("config",)
"""Those that call Hydra and not torch."""
_ALLOW = re.compile(r"\+*allow=\[?([\w.,\s]*)\]?")


class RunFailed(UserError):
    """A run ended with an error, or runs of a sweep did. folder: its run folder, or that of the sweep."""

    def __init__(self, message: str, folder: Path):
        super().__init__(message)
        self.folder = folder


def command(name: str, *words: str | os.PathLike[str]) -> dict[str, Any]:
    """Any command: `kdx.command("reproduce", "slam", "seeds=5")` is `kdx reproduce slam seeds=5`.

    Returns the document that the command prints under --json (docs/commands.md, "Answers for programs").
    Progress, notes and warnings go to stderr. Raises UserError where it has none but what was wrong,
    RunFailed where its run failed, and KeyboardInterrupt where Ctrl-C came; the same call then goes on from
    what is finished. One that has answered is asked no further: what failed of it its document says.
    """
    if name not in commands():
        raise UserError(f"unknown command '{name}'{nearest(str(name), commands())}")
    if name == "board":
        raise UserError("kdx board serves until Ctrl-C, and nothing else could be called: type it in a shell")
    return ask_command(name, as_words(words))


def as_words(words: Sequence[Any]) -> list[str]:
    """Raises UserError where one is no text: settings are written as on the command line."""
    for word in words:
        if not isinstance(word, str | os.PathLike):
            raise UserError(
                f"a word is text, as on the command line ('seed=1', 'loss=slam'); given: "
                f"{type_name(word)}, {str(word)[:80]}"
            )
    return [os.fspath(word) for word in words]


def words_alone(function: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """A command as a function, which takes settings as words: one that is given by keyword is a UserError
    that says how it is written."""

    @functools.wraps(function)
    def called(*words: _Given.args, **settings: _Given.kwargs) -> _Found:
        for key, value in settings.items():
            asked = f"kdx.{function.__name__}({_as_word(key, value)!r})"
            raise UserError(f"settings are words, as on the command line: {asked}")
        return function(*words, **settings)

    return called


def _as_word(key: str, value: Any) -> str:
    """lr, 0.1 -> student_train.lr=0.1"""
    from kdx.config.compose.base import composed
    from kdx.config.keys import words_meant

    known = composed([])
    found = [] if key in known else words_meant(known, key, value)
    return found[0] if found else f"{key}={shown(value, bare=True)}"


def ask_command(name: str, words: Sequence[str], **more: Any) -> dict[str, Any]:
    """The document of a command, whose `main` is given `more` as well. Raises what `command` does."""

    def work() -> int:
        main = import_module(command_module(name, words)).main
        if not asks_for_text(words):
            return main(words, **more) or 0
        with contextlib.redirect_stdout(io.StringIO()) as text:
            code = main(words)
        output.answer({"text": text.getvalue()})
        return code or 0

    document, code = call_as(name, words, work)
    found = document.value if isinstance(document.value, dict) else {}
    if code and not set(found) - {"errors"}:
        why = document.error or "\n".join(found.get("errors", ()))
        raise UserError(printable(why) or f"kdx {name} ended with exit code {code}")
    if code and document.error and "folder" in found:
        raise RunFailed(printable(document.error), Path(found["folder"]).absolute())
    return found


def call_as(name: str, words: Sequence[str], work: Callable[[], _Found]) -> tuple[output.Document, _Found]:
    """(what it answered, what `work` gave), done as one command. What its exit code says of a signal is
    raised once the process is the caller's again, as the signal itself.
    """
    stopped, found = 0, None
    computes = name not in (*_LIGHT, *_COMPOSING)
    with (
        borrowed(_allowed(words), composes=name not in _LIGHT, computes=computes),
        signals.heeded(),
        output.enduring(),
        output.one_document(kept=True) as document,
    ):
        try:
            with snapshot.one_command(), shortage.noticed(f"kdx {name}"):
                found = work()
        except KeyboardInterrupt as error:
            stopped = signals.code_of(error)
        except Exception:
            if not signals.came():  # else a library made another error of it
                raise
            stopped = signals.code_of(signals.last())
    if isinstance(found, int) and found in signals.CODES:
        stopped = found
    if stopped:
        _raise_signal(stopped - 128)
    return document, found  # type: ignore[return-value]


def _raise_signal(number: int) -> None:
    """What the caller has the signal do: of Ctrl-C a KeyboardInterrupt, of SIGTERM the end, say."""
    if threading.current_thread() is threading.main_thread():
        signal.raise_signal(number)
    raise signals.Stopped(number)


def _allowed(words: Sequence[str]) -> list[str]:
    """Packages of the user's own that the words let in."""
    found = [match[1] for word in words if (match := _ALLOW.fullmatch(word))]
    return [name for listed in found for part in listed.split(",") if (name := part.strip())]
