"""What Hydra reads from this process, and what it knows of the run that it called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


def quiet_hydra(words: Sequence[str]) -> None:
    """What @hydra.main reads from the process: the words, and that errors are raised instead of printed."""
    sys.argv = ["kdx train", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"


def in_sweep() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def working_directory() -> str:
    """Where the command was given. A process that a launcher has made may stand elsewhere."""
    return HydraConfig.get().runtime.cwd


def output_dir() -> Path:
    return Path(HydraConfig.get().runtime.output_dir)


def task_words() -> list[str]:
    return [
        word if word.startswith("hydra") else word.lstrip("+") for word in HydraConfig.get().overrides.task
    ]
