"""What Hydra reads from this process, and what it knows of the run that it called."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf.basecontainer import BaseContainer


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


@contextlib.contextmanager
def hydra_apart() -> Iterator[None]:
    """Inside, Hydra knows nothing of what the caller has it do; afterwards it knows that again, and nothing
    of kdx. OmegaConf likewise has the caller's resolvers again.
    """
    resolvers = BaseContainer._resolvers
    before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg, dict(resolvers)
    GlobalHydra.instance().hydra = HydraConfig.instance().cfg = None
    try:
        yield
    finally:  # by now the instances may be others
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg, kept = before
        resolvers.clear()
        resolvers.update(kept)
