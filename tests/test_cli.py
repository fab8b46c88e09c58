"""The command line: choosing a command, errors, `kdx list`, completion,
and how fast the light ones answer.
"""

from __future__ import annotations

import ast
import errno
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdx import __version__, cli
from kdx import commands as package
from kdx.commands import _shells, completion
from kdx.commands import list as listing
from kdx.core import output, shortage, signals
from kdx.core.errors import UserErrors
from kdx.core.paths import conf_dir

FILES = {
    "conf/train.yaml": """# The map.
defaults:
  - dataset: digits
  - teacher: cnn
  - loss: kd
  - augment: [affine, noise]
  - experiment: null
  - _self_
seed: 0
student_train:
  epochs: 10
  nesterov: true
  optimiser: {name: sgd, rate: 0.1}
""",
    "conf/loss/kd.yaml": (
        "# @package loss\n\n# Distillation of logits (Hinton 2015).\n_target_: kdx.KD\n# The "
        "other.\ntemperature: 4\n"
    ),
    "conf/loss/supervised.yaml": "# Labels only.\n_target_: kdx.methods.losses.supervised.Supervised\n",
    "conf/loss/noisy.yaml": "# @package _global_\n# Noisy student.\nloss: {rounds: 3}\nstudent_train: {dropout: 0.5}\n",  # noqa: E501
    "conf/loss/_base.yaml": "# Not an option.\n",
    "conf/teacher/cnn.yaml": "# A small net.\ndefaults:\n  - /model@_here_: cnn\n",
    "conf/model/cnn.yaml": "# Two layers.\nchannels: [8, 16]\n",
    "conf/dataset/digits.yaml": "# Digits.\nroot: null\n",
    "conf/dataset/cifar10.yaml": "# Small pictures.\nroot: null\n",
    "conf/augment/affine.yaml": "# Turns.\n",
    "conf/augment/noise.yaml": "# Grain.\n",
    "conf/experiment/classic.yaml": "# @package _global_\n# The classic.\n",
    "conf/notes/readme.txt": "no YAML here",
    "kdx/commands/train.py": '"""Train.\n\nMore."""\n\ndef main(argv):\n    print(argv)\n    return 0\n',
    "kdx/commands/cache.py": '"""Look after the store."""\n',
    "kdx/commands/evaluate.py": '"""Evaluate."""\n',
}
"""A made-up kdx: its own conf/, and commands that other tests look after."""


@pytest.fixture(scope="module")
def made_up(root, tmp_path_factory) -> Path:
    """A folder with this command line in it and the files above;
    it runs as `folder/kdx ...` does for a user.
    """
    top = tmp_path_factory.mktemp("made up")
    (top / "kdx" / "commands").mkdir(parents=True)
    (top / "kdx" / "core").mkdir()
    for name in (
        "__init__",
        "core/__init__",
        "core/collecting",
        "core/errors",
        "core/launch",
        "core/cluster",
        "core/collecting",
        "core/signals",
        "core/documents",
        "core/folded",
        "core/output",
        "core/shortage",
        "core/several",
        "core/snapshot",
        "core/paths",
        "cli",
        "commands/__init__",
        "commands/list",
        "commands/_option_keys",
        "commands/_shells",
        "commands/completion",
    ):
        shutil.copy(root / "kdx" / f"{name}.py", top / "kdx" / f"{name}.py")
    for name, text in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    command = top / "bin" / "kdx"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{top}" exec "{sys.executable}" -P -m kdx.cli "$@"\n')
    command.chmod(0o755)
    return top


@pytest.fixture
def conf(made_up, monkeypatch) -> Path:
    for module in (listing, completion):
        monkeypatch.setattr(module, "conf_dir", lambda: made_up / "conf")
    monkeypatch.delenv("COLUMNS", raising=False)
    return made_up / "conf"


def kdx(made_up: Path, *argv: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [made_up / "bin" / "kdx", *argv], capture_output=True, text=True, check=False, cwd="/", **options
    )


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Plants a command `boom` whose main is the given function."""

    def plant(main):
        (tmp_path / "boom.py").write_text('"""Boom."""\n')
        monkeypatch.setattr(cli, "commands", lambda: ["train", "boom"])
        monkeypatch.setitem(sys.modules, "kdx.commands.boom", type("boom", (), {"main": staticmethod(main)}))

    return plant


def test_help_names_each_command_with_its_first_docstring_line(capsys):
    assert cli.main([]) == 0
    bare = capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == bare
    for name in package.commands():
        docstring = ast.get_docstring(ast.parse((package.FOLDER / f"{name}.py").read_text(encoding="utf-8")))
        assert docstring, f"{name} needs a docstring"
        line = next(line for line in bare.splitlines() if line.startswith(f"  kdx {name} "))
        assert line.endswith(docstring.splitlines()[0])


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(capsys, flag):
    assert cli.main([flag]) == 0
    assert capsys.readouterr().out == f"kdx {__version__}\n"


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["help"], ["--help"]),
        (["help", "list"], ["list", "--help"]),
        (["list", "help"], ["list", "--help"]),
        (["--help", "list"], ["list", "--help"]),
        (["help", "train"], ["train", "--help"]),
    ],
)
def test_help_is_help_wherever_it_stands(capsys, words, same):
    assert cli.main(words) == 0
    first = capsys.readouterr().out
    assert cli.main(same) == 0
    assert capsys.readouterr().out == first and first.startswith("kdx")


def test_a_hint_names_commands_that_there_are():
    assert {meant.split()[0] for meant in cli.HINTS.values()} <= {*package.commands(), "--version", "--help"}


def test_the_package_is_the_command(root):
    done = subprocess.run(
        [sys.executable, "-m", "kdx", "--version"], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout == f"kdx {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "word", "rest"),
    [
        (["train", "loss=kd", "--multirun"], "train", ["loss=kd", "--multirun"]),
        (["--multirun", "train", "loss=kd"], "train", ["--multirun", "loss=kd"]),
        (["--cfg", "job", "train", "loss=kd"], "train", ["--cfg", "job", "loss=kd"]),
        (["trian", "train"], "trian", ["train"]),
        (["--cfg", "job"], "job", ["--cfg"]),
        (["--help"], None, ["--help"]),
    ],
)
def test_the_command_is_found_among_flags(monkeypatch, argv, word, rest):
    monkeypatch.setattr(cli, "commands", lambda: ["train", "list"])
    assert cli.split_command(argv) == (word, rest)


def test_a_command_gets_the_other_words_and_gives_the_exit_code(command):
    got = []
    command(lambda argv: got.append(argv) or 7)
    assert cli.main(["boom", "a=b", "--flag"]) == 7
    assert got == [["a=b", "--flag"]]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["lisst"], "unknown command 'lisst'; did you mean 'list'?"),
        (["sweep", "a=1,2"], "unknown command 'sweep': write kdx train -m a=1,2"),
        (["sweep", "-m", "loss=kd,soft"], "unknown command 'sweep': write kdx train -m loss=kd,soft"),
        (["sweep"], "unknown command 'sweep': write kdx train -m loss=kd,slam"),
        (["test", "outputs/runs/r"], "unknown command 'test': write kdx evaluate outputs/runs/r"),
        (["run", "loss=kd"], "unknown command 'run': write kdx train loss=kd"),
        (["eval"], "unknown command 'eval': write kdx evaluate RUN"),
        (["ls"], "unknown command 'ls': write kdx list"),
        (["models"], "unknown command 'models': write kdx list model"),
        (["tensorboard", "outputs"], "unknown command 'tensorboard': write kdx board outputs"),
        (["version"], "unknown command 'version': write kdx --version"),
        (["help", "sweep"], "unknown command 'sweep': write kdx train -m loss=kd,slam"),
        (["loss=kd"], "kdx needs a command, and 'loss=kd' is a setting: kdx train loss=kd"),
        (["--nonsense"], "kdx needs a command before or after --nonsense"),
        (
            ["list", "--nonsense"],
            "kdx list takes a config group and one of its",
        ),
        (["list", "a", "b"], "no config group 'a'"),
        (["list", "loss", "slm"], "loss has no option 'slm'; did you mean 'slam'?"),
        (
            ["list", "a", "b", "c"],
            "kdx list takes a config group and one of its",
        ),
        (["completion", "bsh"], "kdx completion knows bash, zsh, fish, not 'bsh'; did you mean 'bash'?"),
        (["completion"], "kdx completion needs a shell"),
    ],
)
def test_bad_input_gets_one_line_and_2(capsys, argv, says):
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(says) and err.count("\n") == 1


def test_a_commands_errors_are_reported_without_a_traceback(capsys, command):
    def main(argv):
        raise UserErrors(["no such loss 'kb'", "epochs is 0: give 1 or more"])

    command(main)
    assert cli.main(["boom"]) == 2
    assert capsys.readouterr().err == "no such loss 'kb'\nepochs is 0: give 1 or more\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("how", ["plain", "swallowed", "another error", "an error of the words"])
def test_a_signal_anywhere_ends_a_command_in_one_line(capsys, command, number, code, how):
    """Also where a library catches what the signal raised, as imports written in C do."""

    def main(argv):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt as error:
            if how == "another error":
                raise ImportError("half a module") from error
            if how == "an error of the words":
                raise UserErrors(["loss=kd do not go together: ConfigCompositionException"]) from error
            if how == "plain":
                raise
        signals.raise_if_stopped()

    command(main)
    before = [signal.getsignal(each) for each in signals.NUMBERS]
    assert cli.main(["boom", "a=b c"]) == code
    assert capsys.readouterr().err == "interrupted. Go on with: kdx boom 'a=b c'\n"
    assert [signal.getsignal(each) for each in signals.NUMBERS] == before


SLOW_TO_END = """
import atexit, os, sys, time
from kdx import cli
def clean_up():
    print("cleaning up", flush=True)
    time.sleep(20)
atexit.register(clean_up)
sys.argv = ["kdx", "list", "loss"]
sys.exit(cli.main())
"""


def test_a_ctrl_c_while_libraries_clean_up_ends_it_without_their_tracebacks(root):
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_TO_END],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
    ) as program:
        while program.stdout.readline() != "cleaning up\n":
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert (program.wait(10), program.stderr.read()) == (-signal.SIGINT, "")


def test_a_second_signal_while_the_first_is_reported_is_held(capsys, command, monkeypatch):
    def main(argv):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    command(main)
    monkeypatch.setattr(cli, "printable", lambda text: os.kill(os.getpid(), signal.SIGTERM) or text)
    assert cli.main(["boom"]) == 143
    assert capsys.readouterr().err == "interrupted. Go on with: kdx boom\n"


def test_what_the_caller_ignores_stays_ignored(command):
    """As nohup does."""
    command(lambda argv: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.main(["boom"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_held_signal_waits_and_the_second_does_not():
    with signals.heeded(), pytest.raises(signals.Stopped), signals.held() as came:
        assert not came()
        os.kill(os.getpid(), signal.SIGTERM)
        assert came() and signals.came()
        with signals.held():  # where the run is being recorded
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert signals.code_of(pickle.loads(pickle.dumps(signals.Stopped(signal.SIGTERM)))) == 143, (
        "a worker's reaches the command"
    )


def test_what_cannot_be_printed_is_reported_once_and_ends_with_1(made_up):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [made_up / "bin" / "kdx", "list"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"not all could be printed: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_dev_null(made_up, closed):
    done = subprocess.run(
        f"'{made_up / 'bin' / 'kdx'}' list {closed}", shell=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


# the second is stdout's in the C locale
@pytest.mark.parametrize("errors", ["strict", "surrogateescape", "backslashreplace"])
def test_no_character_is_too_much_for_a_terminal(errors, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors=errors))
    with output.enduring():
        print("95.2 ± 0.3, … ─ é \udcff", end="")
    assert raw.getvalue() == rb"95.2 +- 0.3, ... - \xe9 \udcff"


def test_output_that_is_lost_is_no_failure_of_what_did_more_than_print(command, capsys, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    def main(argv):
        print("a table")
        output.instead("it is in report.md")

    command(main)
    monkeypatch.setattr(sys, "stdout", Full())
    assert cli.main(["boom"]) == 0
    assert (
        capsys.readouterr().err == "not all could be printed (No space left on device): it is in report.md\n"
    )


@pytest.mark.parametrize(
    ("error", "lower"),
    [
        (MemoryError("Unable to allocate 7 GiB"), "lower the batch size"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried."
            ),
            "lower the batch size",
        ),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."), "lower the batch size"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "lower the batch size"),
        (
            RuntimeError("can't start new thread"),
            "lower device.workers and device.threads, or raise `ulimit -u`",
        ),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "already for the libraries that it loads",
        ),
        (ImportError("libm.so: cannot map zero-fill pages: Cannot allocate memory"), "raise `ulimit -v`"),
    ],
)
def test_what_the_machine_lacks_is_reported_in_one_sentence(command, capsys, error, lower):
    def main(argv):
        raise ValueError("what a library made of it") from error

    command(main)
    assert cli.main(["boom"]) == 1
    err = capsys.readouterr().err
    assert (
        err.startswith("kdx boom ")
        and " needs more " in err
        and lower in err
        and str(error)[:40] in err
        and err.count("\n") == 1
    )


def test_a_library_that_may_not_be_run_is_no_want_of_memory():
    assert (
        shortage.kind_of_shortage(
            ImportError("libtorch_cpu.so: failed to map segment from shared object: Operation not permitted")
        )
        is None
    )


def test_other_errors_keep_their_traceback(command):
    def main(argv):
        raise ZeroDivisionError

    command(main)
    with pytest.raises(ZeroDivisionError):
        cli.main(["boom"])


@pytest.mark.parametrize("argv", [["list"], ["list", "loss"], ["--help"], ["list", "--help"]])
def test_a_closed_pipe_ends_quietly(made_up, argv):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [made_up / "bin" / "kdx", *argv], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_rich_makes_of_a_closed_pipe_is_one_too(command):
    def main(argv):
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            raise SystemExit(1)  # noqa: B904  as rich's Console.on_broken_pipe does

    command(main)
    assert cli.main(["boom"]) == 141


def test_rich_ends_so_where_nobody_reads():
    from rich.console import Console

    reader, writer = os.pipe()
    os.close(reader)
    place = sys.stdout.fileno()  # which rich points elsewhere: of pytest's own, where it captures
    before = os.dup(place)
    try:
        with open(writer, "w") as pipe, pytest.raises(SystemExit) as end:  # noqa: PT012
            # One word of so many letters takes rich a minute.
            Console(file=pipe).print("\n".join(["x" * 70] * 1000))
            pipe.flush()
    finally:
        os.dup2(before, place)
        os.close(before)
    assert isinstance(end.value.__context__, BrokenPipeError)


def test_list_shows_groups_with_counts_and_defaults(conf, capsys):
    assert cli.main(["list"]) == 0
    rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()[1:8]]
    assert rows[:6] == [
        ["augment", "2", "affine, noise"],
        ["dataset", "2", "digits"],
        ["experiment", "1", "-"],
        ["loss", "3", "kd"],
        ["model", "1", "-"],
        ["teacher", "1", "cnn"],
    ]
    assert not rows[6], "a folder without YAML is no group"


def test_list_shows_options_with_the_default_marked(conf, capsys):
    assert cli.main(["list", "loss"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "* kd          Distillation of logits (Hinton 2015).",
        "  noisy       Noisy student.",
        "  supervised  Labels only.",
    ]


def test_list_keeps_to_the_terminals_width(conf, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "44")
    assert cli.main(["list", "loss"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["* kd          Distillation of logits (Hinton", "              2015)."]
    assert cli.main(["list"]) == 0
    assert all(len(line) <= 44 for line in capsys.readouterr().out.splitlines())


def test_list_of_an_unknown_group_names_the_nearest(conf, capsys):
    assert cli.main(["list", "los"]) == 2
    assert capsys.readouterr().err == "no config group 'los'; did you mean 'loss'?\n"


@pytest.mark.parametrize("text", ["", "defaults: [", "- a\n- b\n", "defaults:\n"])
def test_list_survives_a_broken_map(tmp_path, text):
    (tmp_path / "train.yaml").write_text(text)
    assert listing.defaults(tmp_path) == {}


def test_defaults_read_every_way_of_writing_them(tmp_path):
    (tmp_path / "train.yaml").write_text(
        "defaults: [{optional a: x}, {/b/c: y}, {override /d: z}, {m@e: x}, _self_, {n: 1}]\n"
    )
    assert listing.defaults(tmp_path) == {"a": ["x"], "b/c": ["y"], "d": ["z"], "n": ["1"]}


def test_the_real_options_say_what_they_are():
    conf = conf_dir()
    silent = [
        f"{group}/{name}"
        for group in listing.option_groups(conf)
        for name in listing.options(conf, group)
        if not listing.describe_option(conf / group / f"{name}.yaml")
    ]
    assert silent == []


def test_the_real_defaults_exist():
    conf = conf_dir()
    missing = [
        f"{group}={name}"
        for group, names in listing.defaults(conf).items()
        for name in names
        if name not in listing.options(conf, group)
    ]
    assert missing == []


def test_conf_inside_the_package_wins(tmp_path, monkeypatch):
    from kdx.core import paths

    monkeypatch.setattr(paths, "__file__", str(tmp_path / "kdx" / "core" / "paths.py"))
    with pytest.raises(paths.UserError, match="needs its conf/ folder"):
        paths.conf_dir()
    (tmp_path / "conf").mkdir()
    assert paths.conf_dir() == tmp_path / "conf"
    (tmp_path / "kdx" / "conf").mkdir(parents=True)
    assert paths.conf_dir() == tmp_path / "kdx" / "conf"


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("kdx tr", ["train "]),
        ("kdx ", ["train ", "list ", "evaluate ", "cache ", "completion "]),
        ("kdx --v", ["--version "]),
        ("kdx list lo", ["loss "]),
        ("kdx cache v", ["verify "]),
        ("kdx completion ", ["bash ", "zsh ", "fish "]),
        ("kdx train --c", ["--config ", "--config-dir "]),
        ("kdx list --j", ["--json "]),
        ("kdx train lo", ["loss="]),
        ("kdx train s", ["seed=", "student_train."]),
        ("kdx train mo", []),
        ("kdx train +mo", ["+model="]),
        ("kdx train loss=k", ["kd "]),
        ("kdx train seed=1 loss=", ["kd ", "noisy ", "supervised "]),
        ("kdx train loss=kd,su", ["kd,supervised "]),
        ("kdx train augment=[affine,n", ["[affine,noise"]),
        ("kdx train student_train.ep", ["student_train.epochs="]),
        (
            "kdx train student_train.optimiser.",
            ["student_train.optimiser.name=", "student_train.optimiser.rate="],
        ),
        ("kdx train student_train.nesterov=", ["false ", "true "]),
        ("kdx train student_train.nothing.", []),
        ("kdx train loss.", ["loss.temperature="]),
        ("kdx train loss=noisy loss.", ["loss.rounds="]),
        ("kdx train loss=noisy student_train.d", ["student_train.dropout="]),
        ("kdx train teacher.", ["teacher.channels="]),
        ("kdx --multirun train lo", ["loss="]),
        ("kdx evaluate ", []),
        ("kdx evaluate run dataset=c", ["cifar10 "]),
        ("kdx predict run data=", []),
        ("kdx train dataset.root=x", []),
        ("kdx nonsense ", []),
    ],
)
def test_completion_in_bash(made_up, line, replies):
    """Real bash runs the printed script, with the variables that it sets when somebody presses TAB, at the
    line's end.
    """
    script = f"""
eval "$(kdx completion bash)"
complete -p kdx >/dev/null || exit 3
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
COMP_WORDS=($COMP_LINE); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_kdx kdx
for reply in "${{COMPREPLY[@]}}"; do printf '%s|' "$reply"; done
"""
    path = f"{made_up}/bin:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "PATH": path},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("|")[:-1] == replies


SHELLS = {
    "zsh": """
compdef() { [[ "$*" == "_kdx kdx" ]] || exit 3 }
compadd() { shift; [[ $1 == "" ]] && shift 2; printf '%s\\n' "$@" }
compset() { PREFIX=${PREFIX#*=} }
_files() { local -a found=(${PREFIX}*(N)); (( $#found )) && printf "%s\\n" $found; true }
eval "$(kdx completion zsh)"
words=("${(@s: :)LINE}"); CURRENT=$#words; PREFIX=$words[-1]
_kdx
""",
    "fish": """
kdx completion fish | source
complete -C "$LINE"
""",
}
"""What asks a shell for its replies to $LINE, with nobody at the keyboard."""


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("kdx tr", ["train"]),
        ("kdx train lo", ["loss="]),
        ("kdx train loss=k", ["loss=kd"]),
        ("kdx train student_train.ep", ["student_train.epochs="]),
        ("kdx list lo", ["loss"]),
        ("kdx completion ", ["bash", "fish", "zsh"]),
        ("kdx evaluate outputs/", ["outputs/runs/first", "outputs/sweeps/s/0_a"]),
        ("kdx evaluate outputs/s", ["outputs/sweeps/s/0_a"]),
        ("kdx train --", ["--config", "--config-dir", "--help", "--json", "--multirun"]),
        ("kdx predict ou", ["outputs/"]),
        ("kdx predict r1 data=ou", ["data=outputs/"]),
        ("kdx predict r1 to=", ["to=outputs/"]),
        ("kdx train dataset.root=outputs/r", ["dataset.root=outputs/runs/"]),
        ("kdx train teacher.checkpoint=nothing", []),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_completion_in_zsh_and_fish(made_up, shell, line, replies, tmp_path):
    """The shells themselves run the printed script; where one is not installed it is skipped."""
    if not (program := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    for place in ("runs/first/run.json", "sweeps/s/0_a/run.json", "sweeps/s/sweep.json"):
        (tmp_path / "outputs" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "outputs" / place).write_text("{}")
    env = {**os.environ, "PATH": f"{made_up}/bin:{os.environ['PATH']}", "LINE": line, "HOME": str(tmp_path)}
    plain = ["-f"] if shell == "zsh" else ["--no-config"]
    done = subprocess.run(
        [program, *plain, "-c", SHELLS[shell]],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=env,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = sorted(line.partition("\t")[0] for line in done.stdout.splitlines())
    if shell == "zsh" and any(reply.endswith("/") for reply in replies):
        replies = [reply.rpartition("=")[2].rstrip("/") for reply in replies]  # compset keeps the key
    assert found == replies


def test_every_shell_asks_the_kdx_that_is_typed(capsys):
    """What the scripts hold, also where the shells are not installed."""
    for shell, script in _shells.SCRIPTS.items():
        assert cli.main(["completion", shell]) == 0
        assert capsys.readouterr().out == f"{script}\n"
        assert "completion words" in script and "KDX_NO_SETUP=1" in script and "2>/dev/null" in script


def test_run_folders_are_completed_where_a_command_takes_them(made_up, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("runs/first/run.json", "sweeps/s/0_a/run.json", "sweeps/s/sweep.json", "runs/none/x"):
        (tmp_path / "outputs" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "outputs" / place).write_text("{}")

    def found(line: str) -> list[str]:
        return completion.complete(made_up / "conf", ["compare", "export", "train"], line, "")

    assert found("kdx compare ") == ["outputs/sweeps/s/0_a ", "outputs/sweeps/s ", "outputs/runs/first "]
    assert found("kdx export o") == ["outputs/sweeps/s/0_a ", "outputs/runs/first "]
    assert found("kdx compare so") == ["sort="] and found("kdx export elsewhere/") == []
    assert found("kdx train --config ") == [], "the shell offers files"


def test_completion_looks_at_the_words_before_the_cursor(made_up):
    assert completion.complete(made_up / "conf", ["train"], "kdx train lo", "=") == ["loss="]
    assert completion.complete(made_up / "conf", ["train"], "kdx train loss=k", "") == ["loss=kd "], (
        "bash keeps no part of the word"
    )


def test_light_commands_import_nothing_heavy(made_up):
    heavy = "{'torch', 'hydra', 'omegaconf', 'numpy', 'rich', 'sklearn', 'matplotlib'}"
    for argv, more in [
        ([], {"yaml"}),
        (["--version"], {"yaml"}),
        (["list"], set()),
        (["completion", "words", "kdx train loss.t"], set()),
    ]:
        code = (
            f"import sys; from kdx.cli import main; assert main({argv!r}) == 0; "
            f"unwanted = {heavy} | {more!r}; "
        )
        code += "print(unwanted & set(sys.modules), file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=made_up
        )
        assert (done.returncode, done.stderr) == (0, "set()\n")
