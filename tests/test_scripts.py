"""The scripts of a clone: set-up once, from anywhere, twice at a time, interrupted; what .ci/run checks; the
dependencies' reasons.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

# Stands in for uv, which may not be here and would need a network: it makes an environment whose commands say
# what they were called with, writes one line in $CALLS for each install, and does what $UV_DOES says.
UV = """#!/usr/bin/env bash
case "$1" in
venv)
    target="${@: -1}"
    mkdir -p "$target/bin"
    echo "home = here" >"$target/pyvenv.cfg"
    ln -sf "${BEHIND:-$PYTHON}" "$target/bin/python"
    ;;
pip)
    target=$(dirname "$(dirname "$4")")
    echo "$PWD ${*:5}" >>"$CALLS"
    case "${UV_DOES:-}" in
    fail) exit 1 ;;
    slow) sleep 0.5 ;;
    hang) : >"$CALLS.hanging"; exec sleep 30 ;;
    esac
    printf '#!/bin/sh\\necho "kdx|$PWD|$*"\\n' >"$target/bin/kdx"
    chmod +x "$target/bin/kdx"
    ;;
esac
"""

# Stands in for a python3 that makes no environments: as if there were no uv and pip had no network, or no
# venv, or no room.
BROKEN = """#!/usr/bin/env bash
[ "$1" = -m ] || exec "$PYTHON" "$@"
echo "$SAYS"
exit 1
"""
OLD = """#!/usr/bin/env bash
case "$2" in *exit*) exit 1 ;; *) echo 3.9.2 ;; esac
"""


class Clone:
    """A copy of the scripts in a folder with a space, with stand-ins first on PATH."""

    def __init__(self, root: Path, top: Path):
        self.top, self.path, self.bin, self.calls = top, top / "my clone", top / "bin", top / "calls"
        (self.path / "scripts").mkdir(parents=True)
        for name in ("setup.sh", "kdx", "test"):
            shutil.copy(root / "scripts" / name, self.path / "scripts" / name)
        shutil.copy(root / "pyproject.toml", self.path)
        self.bin.mkdir()
        self.stand_in("uv", UV)

    def stand_in(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        keep = {
            key: value for key, value in os.environ.items() if not key.startswith(("KDX_", "VIRTUAL_ENV"))
        }
        # The real python3 of this environment comes next, then the system's: `command -v uv` finds the
        # stand-in alone.
        path = f"{self.bin}:{Path(sys.executable).parent}:/usr/bin:/bin"
        return (
            keep | {"PATH": path, "CALLS": str(self.calls), "PYTHON": os.path.realpath(sys.executable)} | more
        )

    def run(
        self, *argv: str, script: Path | str | None = None, cwd: Path | str = "/", **more: str
    ) -> subprocess.CompletedProcess:
        script = script or self.path / "scripts" / "kdx"
        return subprocess.run(
            [script, *argv],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env=self.environment(**more),
            timeout=60,
        )

    def installs(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def clone(root, tmp_path) -> Clone:
    return Clone(root, tmp_path)


def test_the_first_call_sets_up_and_the_second_starts_at_once(clone):
    done = clone.run("train", "a=b c")
    assert (done.returncode, done.stdout) == (0, "kdx|/|train a=b c\n"), done.stderr
    assert "setting up" in done.stderr
    assert clone.installs() == [f"{clone.path} --editable .[dev]"]
    done = clone.run("train")
    assert (done.returncode, done.stdout, done.stderr) == (0, "kdx|/|train\n", "")
    assert len(clone.installs()) == 1


def test_it_works_through_a_link_and_from_another_folder(clone, tmp_path):
    link = tmp_path / "elsewhere" / "mykdx"
    link.parent.mkdir()
    link.symlink_to("../my clone/scripts/kdx")
    done = clone.run("list", script=link, cwd=link.parent)
    assert (done.returncode, done.stdout) == (0, f"kdx|{link.parent}|list\n"), done.stderr
    assert (clone.path / ".venv" / "bin" / "kdx").exists()


@pytest.mark.parametrize("where", ["absolute", "relative"])
def test_kdx_venv_places_the_environment(clone, tmp_path, where):
    place = tmp_path / "an environment"
    done = clone.run("list", cwd=tmp_path, KDX_VENV=str(place) if where == "absolute" else place.name)
    assert done.returncode == 0, done.stderr
    assert (place / "bin" / "kdx").exists() and not (clone.path / ".venv").exists()


def test_a_changed_pyproject_is_installed_again(clone):
    clone.run()
    with (clone.path / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    (clone.path / ".venv" / "mine").touch()
    assert clone.run().returncode == 0
    assert len(clone.installs()) == 2
    assert (clone.path / ".venv" / "mine").exists(), "brought up to date, not made anew"


def test_an_environment_outlives_an_update_without_network(clone):
    clone.stand_in("behind", BROKEN)
    assert clone.run(BEHIND=str(clone.bin / "behind")).returncode == 0
    (clone.path / ".venv" / "mine").touch()
    with (clone.path / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    done = clone.run(UV_DOES="fail", SAYS="NewConnectionError")
    assert done.returncode == 1 and "needs a network" in done.stderr
    assert clone.run().returncode == 0
    assert (clone.path / ".venv" / "mine").exists()


def test_a_clone_that_was_moved_is_set_up_anew(clone):
    clone.run()
    (clone.path / ".venv" / "stale").touch()
    clone.path = clone.path.rename(clone.top / "moved")
    done = clone.run("list")
    assert (done.returncode, done.stdout) == (0, "kdx|/|list\n"), done.stderr
    assert len(clone.installs()) == 2 and not (clone.path / ".venv" / "stale").exists()


def test_an_environment_whose_python_is_gone_is_made_again(clone):
    clone.run()
    python = clone.path / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert clone.run().returncode == 0
    assert python.exists() and len(clone.installs()) == 2


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_set_up_is_done_again(clone, kill):
    process = subprocess.Popen(
        [clone.path / "scripts" / "kdx"],
        env=clone.environment(UV_DOES="hang"),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not Path(f"{clone.calls}.hanging").exists():
        assert process.poll() is None
        time.sleep(0.02)
    (clone.path / ".venv" / "half").touch()
    os.killpg(process.pid, kill)  # the whole group, as a terminal's Ctrl-C does
    said = process.communicate(timeout=10)[1].decode()
    if kill == signal.SIGINT:
        assert process.returncode == 130 and said.endswith(
            "kdx: the set-up was interrupted; the next call does it again\n"
        )
    done = clone.run("list")
    assert (done.returncode, done.stdout) == (0, "kdx|/|list\n"), done.stderr
    assert not (clone.path / ".venv" / "half").exists(), "what was half-made is thrown away"
    assert clone.run("list").stderr == ""


def test_two_that_start_together_set_up_once(clone):
    environment = clone.environment(UV_DOES="slow")
    both = [
        subprocess.Popen(
            [clone.path / "scripts" / "kdx", "x"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in "ab"
    ]
    reported = [process.communicate(timeout=30) for process in both]
    assert [process.returncode for process in both] == [0, 0], reported
    assert all(out.endswith("|x\n") for out, _ in reported)
    assert len(clone.installs()) == 1
    assert sum("waiting for it" in err for _, err in reported) == 1


def test_an_environment_made_by_hand_is_used_and_kept(clone):
    venv = clone.path / ".venv"
    subprocess.run([clone.bin / "uv", "venv", venv], env=clone.environment(), check=True)
    (venv / "mine").touch()
    assert clone.run().returncode == 0
    assert len(clone.installs()) == 1 and (venv / "mine").exists()


def test_a_folder_that_is_no_environment_is_left_alone(clone, tmp_path):
    place = tmp_path / "documents"
    place.mkdir()
    (place / "thesis.tex").touch()
    done = clone.run(KDX_VENV=str(place))
    assert done.returncode == 1 and "is no Python environment" in done.stderr
    assert os.listdir(place) == ["thesis.tex"]


def test_completion_never_sets_up(clone):
    done = clone.run("completion", "words", "kdx ", KDX_NO_SETUP="1")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not (clone.path / ".venv").exists()


def test_an_old_python_gets_one_sentence(clone):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        clone.stand_in(name, OLD)
    done = clone.run()
    assert (done.returncode, done.stderr) == (
        1,
        "kdx: Python 3.11 or later is needed; python3 here is 3.9.2\n",
    )
    assert not (clone.path / ".venv").exists()


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        (
            "NewConnectionError: Failed to establish a new connection",
            "the packages could not be downloaded: the first set-up needs a network",
        ),
        (
            "dns error: failed to lookup address information",
            "the packages could not be downloaded: the first set-up needs a network",
        ),
        ("OSError: [Errno 28] No space left on device", "no space is left for the environment"),
        (
            "The virtual environment was not created because ensurepip is not available.",
            "this Python has no venv module",
        ),
        ("Resolved 40 packages\nERROR: something else", "the set-up failed; its last lines:"),
    ],
)
def test_what_usually_goes_wrong_is_said_plainly(clone, says, sentence):
    (clone.bin / "uv").unlink()
    clone.stand_in("python3", BROKEN)
    done = clone.run(SAYS=says)
    assert done.returncode == 1 and done.stdout == ""
    assert f"kdx: {sentence}" in done.stderr
    assert "Traceback" not in done.stderr
    clone.stand_in("uv", UV)
    assert clone.run().returncode == 0, "the next call, with the trouble gone, works"


def test_the_test_script_runs_pytest_in_the_repository(clone):
    clone.run()
    python = clone.path / ".venv" / "bin" / "python"
    python.unlink()
    python.write_text('#!/bin/sh\nfor arg in "$@"; do printf "[%s]" "$arg"; done; echo "$PWD"\n')
    python.chmod(0o755)
    # The stamp names the Python behind the environment: this stand-in has to be the one that it was made
    # with.
    stamp = clone.path / ".venv" / ".kdx-stamp"
    stamp.write_text(stamp.read_text().replace(os.path.realpath(sys.executable), str(python)))
    script = clone.path / "scripts" / "test"
    assert clone.run(script=script).stdout == f"[-m][pytest]{clone.path}\n"
    stamp.write_text(stamp.read_text().replace("with dev\n", "with dev-all\n"))  # which has all that dev has
    assert (
        clone.run("--all", "-k", "a b", script=script).stdout == f"[-m][pytest][-m][][-k][a b]{clone.path}\n"
    )
    assert clone.run(script=script).stdout == f"[-m][pytest]{clone.path}\n" and len(clone.installs()) == 1


def test_all_asks_for_the_extras_and_lowest_for_the_oldest_versions(clone):
    script = clone.path / "scripts" / "test"
    for option in ("--all", "--lowest"):
        clone.run(option, "--version", script=script)
    assert clone.installs() == [
        f"{clone.path} --editable .[dev-all]",
        f"{clone.path} --editable .[dev] --resolution lowest-direct",
    ]
    assert (clone.path / "build" / "lowest" / ".kdx-stamp").exists() and (
        clone.path / ".venv" / ".kdx-stamp"
    ).exists()


@pytest.mark.slow
def test_without_uv_a_real_environment_is_made(clone):
    """venv and pip in earnest, for a package without dependencies; its build backend is downloaded."""
    (clone.bin / "uv").unlink()
    (clone.path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = '
        '"hatchling.build"\n[project]\nname = "kdx"\nversion = '
        '"1"\n[project.optional-dependencies]\ndev = []\n[project.scripts]\nkdx = "kdx:main"\n'
    )
    (clone.path / "kdx").mkdir()
    (clone.path / "kdx" / "__init__.py").write_text("def main():\n    print('here')\n")
    done = clone.run()
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
    assert clone.run().stderr == ""


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def check_run(root):
    return load(root / "scripts" / "check_run.py")


def example(cached: bool = False) -> dict:
    names = [
        "decode",
        "prepare",
        "teacher-pretrain",
        "pseudo-label",
        "baseline-train",
        "gate",
        "student-train",
        "audit",
        "teacher-predict",
        "baseline-predict",
        "evaluate",
    ]
    accuracies = {"teacher": 0.95, "baseline": 0.85, "student": 0.9}
    return {
        "status": "finished",
        "stages": [
            {"name": name, "key": f"key of {name}", "cached": cached, "seconds": 1.0} for name in names
        ],
        "results": {role: {"last": {"test": {"accuracy": value}}} for role, value in accuracies.items()}
        | {"headline": "last", "gain": 0.05, "gap_closed": 0.5},
    }


def test_check_run_passes_a_good_run_and_its_repetition(check_run, tmp_path, capsys):
    for name, run in {"1": example(), "2": example(cached=True)}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(run))
        os.utime(tmp_path / name / "run.json", (int(name), int(name)))
    assert check_run.main([str(tmp_path)]) == 0
    assert check_run.main([str(tmp_path), "--cached-like", str(tmp_path / "1" / "run.json")]) == 0
    assert capsys.readouterr().err == ""
    assert check_run.main([str(tmp_path), "--cached-like", str(tmp_path / "2" / "run.json")]) == 1, (
        "there was no second run"
    )


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["status"], "failed", "status is 'failed'"),
        (["stages", 3, "name"], "label", "stage pseudo-label is missing"),
        (["results", "teacher", "last", "test", "accuracy"], 0.2, "test accuracy of the teacher is 0.2"),
        (["results", "student", "last", "test", "accuracy"], None, "test accuracy of the student is nan"),
        (["results", "student", "last", "test", "accuracy"], 91.0, "test accuracy of the student is 91.0"),
        (["results", "gain"], 0.06, "results.gain is 0.06"),
        (["results", "gain"], None, "results.gain is nan"),
        (["results", "gap_closed"], 0.4, "results.gap_closed is 0.4"),
    ],
)
def test_check_run_names_what_is_wrong(check_run, tmp_path, capsys, path, value, says):
    run = example()
    node = run
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert check_run.main([str(tmp_path)]) == 1
    assert says in capsys.readouterr().err


def test_check_run_notices_work_done_twice(check_run):
    first, second = example(), example(cached=True)
    assert check_run.differences(first, second) == []
    second["stages"][6] |= {"cached": False, "key": "another"}
    second["results"]["teacher"]["last"]["test"]["accuracy"] = 0.96
    reported = check_run.differences(first, second)
    assert reported[:2] == ["stage student-train ran again", "stage student-train has another key"]
    assert reported[2].startswith("the results differ")


def test_each_dependency_has_its_reason(root):
    with (root / "pyproject.toml").open("rb") as file:
        data = tomllib.load(file)
    project = data["project"]
    wanted = [
        *data["build-system"]["requires"],
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    names = {re.match(r"[\w-]+", text)[0] for text in wanted} - {project["name"]}
    rows = re.findall(
        r"^\| ([\w-]+) \| (.+) \|$", (root / "docs" / "dependencies.md").read_text(), re.MULTILINE
    )
    assert {name for name, _ in rows} - {"package"} == names
    assert len(rows) == len(dict(rows)), "one line each"


def test_each_dependency_has_a_lower_bound_and_what_has_a_taste_is_pinned(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = {
        text
        for texts in (project["dependencies"], *project["optional-dependencies"].values())
        for text in texts
    }
    bounds = {re.match(r"[\w-]+", text)[0]: text for text in wanted if not text.startswith("kdx[")}
    assert not [text for name, text in bounds.items() if not re.search(r"(>=|==)\d", text)]
    assert all(re.fullmatch(rf"{name}==[\d.]+", bounds[name]) for name in ("ruff", "mypy"))
    for extra in ("timm", "onnx"):
        assert extra in re.search(r"kdx\[(.+)\]", project["optional-dependencies"]["dev-all"][0])[1].split(
            ","
        )


def test_what_an_absent_package_skips_is_counted(root):
    reasons = [
        "Skipped: could not import 'onnx': No module named 'onnx'",
        "Skipped: could not import 'onnx.checker': gone",
        "Skipped: no GPU",
    ]
    reports, said = [SimpleNamespace(longrepr=("a.py", 3, reason)) for reason in reasons], []
    reporter = SimpleNamespace(stats={"skipped": reports}, write_line=said.append)
    load(root / "tests" / "conftest.py").pytest_terminal_summary(reporter)
    assert said == ["skipped as a package is absent: 2 for onnx (scripts/test --all installs the extras)"]


@pytest.mark.parametrize(
    "name", ["scripts/kdx", "scripts/test", "scripts/setup.sh", "scripts/slurm.sh", ".ci/run"]
)
def test_the_scripts_parse_and_may_be_run(root, name):
    subprocess.run(["bash", "-n", root / name], check=True)
    assert name.endswith(".sh") or os.access(root / name, os.X_OK)


def test_what_begins_as_a_script_can_be_called(root):
    files = [file for file in (root / "scripts").iterdir() if file.is_file()]
    called = [file for file in files if file.read_bytes()[:2] == b"#!"]
    assert len(called) > 20 and [file.name for file in called if not os.access(file, os.X_OK)] == []
