"""Every training, plan, rerun and export that README.md and docs/ print is run: `shortened` and FEWER make it
short, and leave out what is not on every machine (a GPU, pretrained weights). So are blocks of Python.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from page_commands import Printed, pages_with_code, printed_commands
from page_place import FEW, FEWER, FEWER_OF, run, shortened, typed

from kdx.api import calls
from kdx.cli import main

pytestmark = pytest.mark.slow
TRAININGS = {command.text: command for command in reversed(printed_commands()) if command.kind == "training"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        yield Path()


def run_short(words: list[str], capsys) -> tuple[int, str]:
    """(exit code, what was said) of a command with as much of FEWER as it takes: the errors name the rest."""
    keys = {word.partition("=")[0] for word in words}
    fewer = [word for word in FEWER if word.partition("=")[0] not in keys]
    more = [word for part, more in FEWER_OF.items() if part in " ".join(words) for word in more]
    keys = {word.partition("=")[0] for word in more}
    fewer = [*(word for word in fewer if word.partition("=")[0] not in keys), *dict.fromkeys(more)]
    while True:
        capsys.readouterr()
        code, said = main([*words, *fewer]), capsys.readouterr().err
        named = [word for word in fewer if word.partition("=")[0] in said]
        if code != 2 or not named:
            return code, said
        fewer = [word for word in fewer if word not in named]


@pytest.mark.parametrize("command", list(TRAININGS.values())[::-1], ids=lambda command: command.where)
def test_a_training_runs_shortened(command, place, capsys):
    words = typed(command)
    if words[0] in ("train", "plan"):
        code, said = run_short(shortened(words), capsys)
    else:
        code, said = main(words), capsys.readouterr().err
    may_differ = words[0] == "rerun" and "device.threads=4" in words  # in the last bits, as the page says
    assert code == 0 or (may_differ and code == 1), said
    assert "Traceback" not in said


BLOCKS = [
    (page, block)
    for page, blocks in pages_with_code().items()
    for block in blocks
    if page in ("README.md", "docs/text.md", "docs/private.md")
]


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[page for page, _ in BLOCKS])
def test_python_of_a_page_runs(page, block, place, monkeypatch):
    ask = calls.ask_command
    few = ["student=cnn_small", *FEWER[:4], *FEW]
    monkeypatch.setattr(
        calls, "ask_command", lambda name, words: ask(name, [*words, *few] if name == "train" else words)
    )
    texts = "kdx predict outputs/runs/X/export/student data=new/texts"
    for line in (texts, "kdx compare outputs/sweeps/NAME", "kdx predict RUN data=new/pictures"):
        typed(Printed(page, 0, line))  # lays down what the block names
    block = block.replace("outputs/sweeps/NAME", "outputs/sweeps/one").replace(
        "FOLDER", str(run("text") / "export/student")
    )
    names: dict[str, object] = {}
    with contextlib.redirect_stderr(io.StringIO()):
        exec(block, names)
    if page == "README.md":
        assert names["run"].results["student"]
    elif page == "docs/private.md":
        assert len(Path("noisy_digits.csv").read_text().splitlines()) == 1 + 1797
    else:
        assert names["logits"].shape == (1, 3)
