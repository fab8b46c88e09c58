"""Every command that a page prints can be pasted into bash, zsh and fish: each of these
hands over the same words. An interactive zsh knows no remarks, so those are words to it: kdx leaves out what
stands behind a lone `#`, and no other command has a remark beside it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from page_commands import PAGES, printed_commands

from kdx import cli

SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "PS1=; PS2=; kdx() { printf '%s\\037' \"$@\"; }; cd() { :; }; set +H\n",
    ),
    "zsh": (
        ["zsh", "-f", "-i", "+Z"],
        "PS1=; PS2=; unsetopt PROMPT_CR PROMPT_SP; kdx() { printf '%s\\037' \"$@\" }\n",
    ),
    "fish": (["fish", "--no-config"], "function kdx; printf '%s\\037' $argv; end\n"),
}
COMMAND = re.compile(r"    ((?:kdx|(?:\./)?scripts/\w+|python3?|pip|torchrun|ruff|mypy)\b.*)")


def lines() -> Iterator[tuple[str, str]]:
    """(page and line, command)"""
    for page, text in PAGES.items():
        fenced = False
        for number, line in enumerate(text.splitlines(), 1):
            fenced ^= line.startswith("```")
            if not fenced and (found := COMMAND.fullmatch(line)):
                yield f"{page}:{number}", found[1].strip()


LINES = list(lines())
TYPED = [*LINES, *((f"{one.page}:{one.line}", one.text) for one in printed_commands())]
"""With what stands in a sentence or a table as well."""


def wanted(command: str) -> list[str]:
    """The words behind the first, without what the shell does with the output."""
    return shlex.split(re.split(r" [>|#] ", command)[0])[1:]


def test_a_remark_is_none_but_plain_words_behind_kdx():
    wrong = {}
    for where, command in LINES:
        words, mark, remark = re.match(r"(.*?)(?:(\s#\s+)(.*)|$)", command).groups()
        plain = re.fullmatch(r"[\w ,.:/%+@=-]+", remark or "x") and not re.search(r"(^| )=", remark or "x")
        if "   " in words.strip() or not plain or (mark and not command.startswith("kdx ")):
            wrong[where] = command
    assert wrong == {} and len(LINES) > 350


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_hands_over_the_words_that_are_printed(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    start, prepare = SHELLS[shell]
    typed = []
    for number, (_, command) in enumerate(TYPED):
        rest = re.sub(r" [>|] [^#]*", " ", command.partition(" ")[2])
        typed.append(f"printf '\\n\\036{number}\\036'\nkdx 0 {rest}\n")
    done = subprocess.run(
        start,
        input=prepare + "".join(typed),
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    found = {
        int(number): words.rstrip("\n").split("\x1f")[1:-1]
        for number, words in re.findall(r"\x1e(\d+)\x1e([^\x1e]*)", done.stdout)
    }
    wrong = {}
    for number, (where, command) in enumerate(TYPED):
        words = found.get(number, ["nothing"])
        if "#" in words:
            words = words[: words.index("#")]
        if words != wanted(command):
            wrong[where] = (command, words)
    assert wrong == {}, done.stderr[-2000:]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_block_of_shell_is_one_to_each(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    blocks = [
        block
        for text in PAGES.values()
        for block in re.findall(r"^```(?:bash|sh|shell)\n(.*?)^```", text, flags=re.M | re.S)
    ]
    assert blocks
    done = subprocess.run([shell, "-n"], input="".join(blocks), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_kdx_leaves_out_a_remark_that_a_shell_hands_over(capsys):
    assert cli.main(["list", "device", "#", "where", "runs", "work"]) == 0
    assert "cuda" in capsys.readouterr().out
