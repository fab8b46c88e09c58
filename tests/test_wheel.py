"""The wheel holds the package and its configuration, and works from any folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    """The repository's wheel. With hatchling here it needs no network; without, `build` downloads it."""
    out = tmp_path_factory.mktemp("wheel")
    here = importlib.util.find_spec("hatchling") is not None
    command = (
        ["-c", f"import hatchling.build as b; b.build_wheel({str(out)!r})"]
        if here
        else ["-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(out), "."]
    )
    done = subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("kdx-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel unpacked, as `pip install --no-deps --target` does it, without the time that pip takes."""
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def tracked(root: Path, folder: str, suffix: str) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / folder).rglob(f"*{suffix}")}


def test_the_wheel_has_every_module_and_every_option(root, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.startswith("kdx/") and name.endswith(".py")} == tracked(
        root, "kdx", ".py"
    )
    assert {"kdx/py.typed", "kdx/__init__.pyi"} <= names
    options = tracked(root, "conf", ".yaml")
    assert "conf/train.yaml" in options
    assert {name for name in names if name.endswith(".yaml")} == {f"kdx/{name}" for name in options}
    assert not [name for name in names if name.startswith(("tests/", "outputs/", "scripts/"))]


def test_the_installed_kdx_lists_its_options_from_another_folder(root, installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def kdx(*argv: str) -> str:
        code = (
            "import sys, kdx; from kdx.cli import main; print(kdx.__file__, file=sys.stderr); "
            "sys.exit(main())"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *argv],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.strip()) == (0, str(installed / "kdx" / "__init__.py"))
        return done.stdout

    listed = kdx("list")
    groups = {path.relative_to(root / "conf").parts[0] for path in (root / "conf").rglob("*.yaml")} - {
        "train.yaml",
        "claim",
    }
    assert groups and all(f"\n{group} " in listed for group in groups)
    for path in (root / "conf" / "loss").glob("[!_]*.yaml"):
        assert f" {path.stem} " in kdx("list", "loss")


def test_the_wheel_declares_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "kdx = kdx.cli:main" in archive.read(name).decode()


def test_the_wheel_says_what_kdx_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        said, _, described = archive.read(name).decode().partition("\n\n")
    assert "Description-Content-Type: text/markdown" in said and "# kdx\n" in described
    assert "Keywords: " in said and said.count("Classifier: ") > 5
    assert "License-Expression: MIT" in said and any(name.endswith("/LICENSE") for name in names)
