"""Command lines that nobody should type, for tests/test_fuzz*.py and scripts/torture.py: every key of conf/
with values that break things elsewhere.

`lines(seed, n)` gives n of them, (command, words) each; `line(pick)` one, where `pick` takes one of a
sequence: a random generator's choice, or hypothesis. `complaint` looks at what a command answered.
"""

from __future__ import annotations

import contextlib
import functools
import io
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdx.core.errors import printable
from kdx.core.paths import conf_dir

FOREIGN = (
    "Traceback",
    "Error executing job",
    "HYDRA_FULL_ERROR",
    "ConfigComposition",
    "OmegaConf",
    "omegaconf",
    "Could not override",
    "ANTLR",
)
"""What no user should ever read: words of the machinery."""
Pick = Callable[[Sequence[Any]], Any]
WIDE, MOST_LINES = 200, 4
"""Letters of a line, and lines, that one bad value may take."""

VALUES = (
    "null",
    "true",
    "false",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "-0.0",
    "1",
    "2",
    "0.5",
    "1.5",
    "-0.5",
    "1e308",
    "-1e308",
    "1e-320",
    "1e400",
    "3.0",
    "1" + "0" * 400,
    "-1" + "0" * 400,
    "9" * 19,
    "9" * 25,
    "9" * 5000,
    "100000000000",
    "0x10",
    "1_000",
    "010",
    "1e5",
    "010.5",
    "1+1",
    "",
    "''",
    '""',
    "x",
    "' '",
    "'  x'",
    "a b",
    ".",
    "..",
    "/",
    "//",
    "=",
    "==",
    "a=b",
    ",",
    ":",
    ";",
    "'",
    '"',
    "\\",
    "\\'",
    "#",
    "@",
    "%",
    "&",
    "*",
    "?",
    "!",
    "~",
    "|",
    "[]",
    "[[]]",
    "[[[]]]",
    "{}",
    "{a:1}",
    "{a:{b:1}}",
    "[{a:1}]",
    "[null]",
    "[nan]",
    "[-1]",
    "[0]",
    "[1,2]",
    "[1,[2,[3]]]",
    "[x,y]",
    "[true,1,x]",
    "[1e400]",
    "[100000,100000]",
    "[0.5,2]",
    "[1,2,3,4,5,6,7,8,9]",
    "[" + ",".join(["1"] * 1500) + "]",
    "[" * 200 + "]" * 200,
    "[" * 12 + "]" * 12,
    "(" * 50,
    "[",
    "]",
    "{",
    "}",
    "{_target_:os.system}",
    "{_target_:kdx.core.files.write_atomically,path:x,text:y}",
    "[{_target_:os.system}]",
    "{0:1}",
    "{null:1}",
    "{'a b':1}",
    "${seed}",
    "${oc.env:HOME}",
    "'${oc.env:HOME}'",
    "${oc.env:NOTHING_OF_THAT_NAME}",
    "${nothing}",
    "${loss}",
    "${loss.alpha}",
    "${hydra:job.num}",
    "${",
    "$",
    "${}",
    "${${seed}}",
    "${oc.decode:x}",
    "${oc.create:x}",
    "a${seed}b",
    "'${store}'",
    "${student_train.lr}",
    "${kdx_run_name:1}",
    "${kdx_labelled_share:1,2}",
    "x" * 300,
    "y" * 5000,
    "word " * 100,
    "é" * 40,
    "日本",
    "\u202etxt",
    "\x1b[31mred",
    "\x07",
    "a\nb",
    "a\tb",
    "\r",
    "\x00",
    "\ud800",
    "🙂",
    "\u2028",
    "ﬀ",
    "ı",
    "NaN",
    "NULL",
    "True",
    "/no/such/path",
    "/dev/zero",
    "/dev/null",
    "/etc/passwd",
    "/proc/self/mem",
    "~",
    "~nobody_of_that_name/x",
    "../../..",
    "a/b",
    "a/../b",
    "x" * 256 + "/y",
    "file:///etc/passwd",
    "kdx.methods.losses.kd.KD",
    "os.system",
    "kdx",
    "kdx.core.types.torch.load",
    "kdx.core.files.write_atomically",
    "builtins.eval",
    "__import__",
    "!!python/object:os.system",
    "1,2",
    "a,b",
    "range(3)",
    "range(0)",
    "range(1000000000)",
    "range(0,1,1e-30)",
    "range(1,2,0)",
    "range(a)",
    "choice(1,2)",
    "choice()",
    "glob(*)",
    "glob(x*)",
    "interval(0,1)",
    "interval(1,0)",
    "sort(3,1,2)",
    "shuffle(range(4))",
    "tag(a,choice(1,2))",
    "int(x)",
    "int(3.5)",
    "float(1)",
    "str(1)",
    "bool(2)",
    "json_str(x)",
    "extend_list(1)",
    "cast(1)",
    "range(nan,1)",
    "cpu",
    "cuda:99",
    "cuda:-1",
    "cuda:x",
    "auto",
    "same",
    "clean",
    "rad",
    "null.null",
    "5 epochs",
    "0 steps",
    "-1 steps",
    "9999999999 steps",
    "99999999999999999999 epochs",
    "1 step",
)
KEYS_OF_ITS_OWN = (
    "hydra/launcher",
    "hydra/sweeper",
    "hydra/job_logging",
    "hydra/hydra_logging",
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
    "hydra.job.num",
    "hydra.mode",
    "hydra.verbose",
    "hydra.searchpath",
    "hydra.launcher._target_",
    "hydra.launcher.n_jobs",
    "hydra.sweeper.params",
    "hydra.sweeper.n_trials",
    "hydra.callbacks",
    "hydra",
    "hydra.output_subdir",
    "max_runs",
    "json",
    "model",
    "weights",
    "features",
    "loss.weights",
    "loss.features",
    "loss",
    "student",
    "+",
    "++seed",
    "~seed",
    "seed@x",
    "a.b.c",
    "_target_",
    "choices",
    "choices.loss",
    "",
    ".",
    "seed.",
    ".seed",
    "seed..x",
    "loss@student",
    "x" * 300,
    "é",
    "SEED",
    "defaults",
    "launcher@x",
    "augment@y",
)
FLAGS = (
    [],
    [],
    [],
    [],
    [],
    [],
    [],
    [],
    [],
    [],
    ["-m"],
    ["-m"],
    ["--cfg", "job"],
    ["--cfg", "hydra"],
    ["--cfg", "job", "-m"],
    ["--cfg", "job", "--resolve"],
    ["--resolve"],
    ["-sc"],
    ["--info", "defaults"],
    ["--info", "-m"],
    ["--cfg"],
    ["--config-dir", "/no/such/folder"],
    ["--config-dir"],
    ["--config-dir=/dev/null"],
    ["-p"],
    ["-p", "x"],
    ["--package", "nothing", "--cfg", "job"],
    ["--run"],
    ["-r", "-m"],
    ["--nothing"],
    ["-"],
    ["--"],
    ["-m", "-m"],
    ["--help"],
    ["--version"],
    ["--config-dir="],
)
"""Most lines have none. (`--config-dir` with files in it is tests/test_security.py's.)"""
CHOSEN = (
    "dataset",
    "loss",
    "student",
    "teacher",
    "select",
    "augment",
    "shift",
    "device",
    "recipe",
    "experiment",
    "launcher",
    "sweeper",
)
SLOTTED = ("weights", "features")


def lines(seed: int, count: int) -> Iterator[tuple[str, list[str]]]:
    """(command, words) of `count` lines, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        yield line(rng.choice)


def line(pick: Pick, contexts: Sequence[str] | None = None) -> tuple[str, list[str]]:
    """One of them: an option, or none, and one or two of its keys or of any, with a value each. contexts: the
    options to choose among.
    """
    option = pick([None, None, *(contexts if contexts is not None else options())])
    words = option.split() if option else []
    for _ in range(pick([1, 1, 2])):
        key = (
            pick(keys(option))
            if option and pick([True, True, False])
            else pick(pick([keys(None), keys(None), KEYS_OF_ITS_OWN, CHOSEN]))
        )
        words.append(f"{pick(['', '', '', '', '', '+', '++'])}{key}={pick(VALUES)}")
    if option and option.startswith("dataset=") and not any("download" in word for word in words):
        words += ["dataset.download=false"] if "dataset.download" in keys(option) else []
    flags = pick(FLAGS)
    return pick(["train", "train", "plan"]), ([*flags, *words] if pick([True, False]) else [*words, *flags])


@functools.cache
def options() -> tuple[str, ...]:
    """Every option of conf/ as a word."""
    found = [f"{group}={name}" for group in CHOSEN for name in _names(group)]
    return (*found, *(f"loss=soft loss.{slot}={name}" for slot in SLOTTED for name in _names(slot)))


def _names(group: str) -> list[str]:
    folder = conf_dir() / group
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))


@functools.cache
def keys(option: str | None) -> tuple[str, ...]:
    """Dotted keys that an option's file sets, those of a model too; None: those of train.yaml."""
    if option is None:
        return tuple(
            _leaves(
                {k: v for k, v in _read(conf_dir() / "train.yaml").items() if k not in ("defaults", "hydra")}
            )
        )
    group, _, name = option.rpartition(" ")[2].partition("=")
    if group.startswith("loss."):
        return tuple(f"{group}.{key}" for key in _leaves(_read(conf_dir() / group[5:] / f"{name}.yaml"))) or (
            group,
        )
    file = conf_dir() / group / f"{name}.yaml"
    content = {k: v for k, v in _read(file).items() if k not in ("defaults", "hydra")}
    whole = "@package _global_" in file.read_text(encoding="utf-8") or group in content
    found = list(_leaves(content if whole else {group: content}))
    if group in ("student", "teacher"):
        model = next(
            (
                entry[f"/model@{group}"]
                for entry in _read(file)["defaults"]
                if isinstance(entry, Mapping) and f"/model@{group}" in entry
            ),
            name,
        )
        found += [f"{group}.{key}" for key in _leaves(_read(conf_dir() / "model" / f"{model}.yaml"))]
    return tuple(found) or (group,)


def _read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}


def _leaves(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, Mapping) and node:
        for name, inner in node.items():
            yield from _leaves(inner, f"{path}.{name}".lstrip("."))
    elif path:
        yield path


def stop_before_work(patch: Any) -> None:
    """What comes after the checks is left out: no run begins, nothing is timed, no network is there. patch: a
    pytest.MonkeyPatch.
    """
    from kdx.commands import plan, train

    def nowhere(*_: Any, **__: Any) -> Any:
        raise OSError("no network here")

    shows = ("--cfg", "--info", "--help", "--version", "--hydra-help")
    show = train.launch
    patch.setattr(
        train, "launch", lambda words: show(words) if any(word.startswith(shows) for word in words) else None
    )
    patch.setattr(train._sweep, "run_sweep", lambda *_: 0)
    patch.setattr("kdx.planning.document.look_ahead", lambda *_: {})
    patch.setattr(plan, "show_plan", lambda found: None)
    patch.setattr("socket.socket.connect", nowhere)
    patch.setattr("socket.getaddrinfo", nowhere)


def answer(command: str, words: Sequence[str]) -> str | None:
    """What is wrong with how kdx answers this line in the working directory, which must be empty; None:
    nothing.
    """
    from kdx.cli import main

    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        code = main([command, *words])
    left = [path for path in Path().iterdir()]
    for path in left:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if code == 2 and left:
        return f"left behind: {left}"
    return complaint(words, code, err.getvalue())


def complaint(words: Sequence[str], code: int, err: str) -> str | None:
    """What is wrong with an answer; None: it is as it should be. words: as typed."""
    values = max(1, sum("=" in word for word in words))
    reported = sum(max(1, -(-len(text) // WIDE)) for text in err.splitlines())
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if any(word in err for word in FOREIGN):
        return "words of the machinery"
    if code == 2 and not err.strip():
        return "a refusal without a word"
    if reported > MOST_LINES * values:
        return f"{reported} lines of {WIDE} letters for {values} values"
    if printable(err) != err:
        return "letters that a terminal would obey"
    return None
