"""Commands as functions. Each takes the words of the command line."""

from __future__ import annotations

import builtins
import os
from collections.abc import Sequence
from typing import Any

from kdx.api.asking import RunFailed, as_words, ask_command, words_alone
from kdx.api.comparison import Sweep
from kdx.api.comparison import compare as compare
from kdx.api.run import Run
from kdx.config.flags import apart
from kdx.config.grid import ADD_M
from kdx.core.errors import UserError

_RUNNING = ("--multirun", "--run", "--config-dir", "--config")
"""Flags of kdx train that show nothing in place of running."""


@words_alone
def train(*words: str) -> Run:
    """`kdx train WORDS`, one run: `kdx.train("student=mobilenet", "loss=slam", "seed=1")`.

    words: settings as on the command line, and the flags `--config=FILE` and `--config-dir=FOLDER`. Progress
    goes to stderr. Finished stages come from the store, so the same call again returns at once. Raises
    UserError where a word is wrong, and nothing was done; RunFailed, a UserError with `folder`, where the run
    failed; KeyboardInterrupt where Ctrl-C came: what is finished is kept, and the same call goes on.
    """
    given = as_words(words)
    if "--multirun" in _flags("train", given):
        raise UserError("-m is a sweep, which kdx.sweep runs, without the -m: kdx.sweep('seed=0,1,2')")
    try:
        return Run(ask_command("train", given)["folder"])
    except UserError as error:
        if ADD_M not in str(error):
            raise
        raise UserError(str(error).replace(ADD_M, "kdx.sweep(...) runs them all")) from None


@words_alone
def sweep(*words: str) -> Sweep:
    """`kdx train -m WORDS`, every combination: `kdx.sweep("loss=kd,slam", "seed=0,1,2")`.

    Raises what `train` does; RunFailed, with the sweep's folder, where some runs are not finished: the same
    call again runs these only.
    """
    given = as_words(words)
    flags = _flags("sweep", given)
    found = ask_command("train", given if "--multirun" in flags else ["--multirun", *given])
    made = Sweep(found)
    lacking = [run for run in found["runs"] if "why" in run]
    if lacking or not made:
        first = f", the first {os.path.relpath(lacking[0]['folder'])}: {lacking[0]['why']}" if lacking else ""
        raise RunFailed(
            f"{len(lacking)} of {len(made)} runs are not finished{first}\nThe same call runs these only; the "
            f"others: kdx.compare('{found['folder']}')",
            made.folder,
        )
    return made


def _flags(name: str, words: Sequence[str]) -> builtins.list[str]:
    """Raises UserError where one asks for a text."""
    flags, _ = apart(words)
    if asking := [flag for flag in flags if flag.partition("=")[0] not in _RUNNING]:
        raise UserError(
            f"{asking[0]} shows something and runs nothing: kdx.{name} runs; kdx.settings(...) has the "
            f"settings, kdx.command('train', '{asking[0]}') the text"
        )
    return flags


def open(folder: str | os.PathLike[str], store: str | os.PathLike[str] | None = None) -> Run:
    """The run in a run folder, yours or somebody else's, at work or done. store: where its artifacts are,
    None: found through the run. Raises UserError where the folder is none, or is not as kdx writes it.
    """
    return Run(folder, store)


@words_alone
def plan(*words: str) -> dict[str, Any]:
    """What `kdx plan WORDS --json` answers: stages, seconds, memory and disk of a run, or with "-m" of a
    sweep, before any work. docs/commands.md names the keys.
    """
    return ask_command("plan", as_words(words))


@words_alone
def settings(*words: str | os.PathLike[str]) -> dict[str, Any]:
    """Every setting of a run, as `kdx config WORDS` prints them, composed and checked. words: of `kdx train`;
    a run folder or a file of settings first, to have its own.
    """
    return ask_command("config", as_words(words))["config"]


def list(group: str | None = None) -> dict[str, Any]:
    """What `kdx list --json` answers: the `groups` of options; with a group, its `options`, each with name
    and text.
    """
    return ask_command("list", [] if group is None else as_words([group]))
