"""What runs and the folders of sweeps are called, and the resolvers that Hydra finds these names by."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kdx.core import cluster

STAMP = "KDX_RUN_STAMP"
unnamed: set[str] = set()
"""Words that name no run: those of a file, which nobody typed."""


def register_names() -> None:
    """A new name for the folder of this command's run, or sweep: two never share one."""
    os.environ[STAMP] = f"{time.strftime('%Y-%m-%d_%H-%M-%S')} {os.urandom(2).hex()}"
    OmegaConf.register_new_resolver("kdx_run_name", run_name, replace=True, use_cache=True)


def labelled_share(batch: Any, ratio: Any) -> float:
    """Of a batch, for losses that say how pool rows join the labelled ones: a half ("equal"), or one row to
    `ratio` of the pool ("ratio").

    A wrong value gives a half as well: the loss, which checks both, tells of it.
    """
    counts = isinstance(ratio, int | float) and not isinstance(ratio, bool) and 0 < ratio < float("inf")
    return 1 / (1 + ratio) if batch == "ratio" and counts else 0.5


def run_name(words: Sequence[str] = ()) -> str:
    """In a job of a cluster it ends with the job's number, and a job that is begun again goes on in the
    folder of its first beginning."""
    moment, tail = os.environ[STAMP].split()
    if number := cluster.job():
        tail = f"job{number}-{_digest([*words, cluster.part_of_job()])}"
        if cluster.begun_again() and (before := _begun(tail)):
            return before
    return "_".join(p for p in (moment, slug([word for word in words if word not in unnamed]), tail) if p)


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]


def _begun(tail: str) -> str | None:
    """The name of the newest run folder that ends so. A sweep is known by its runs, see kdx.runs.sweep."""
    places = (Path("outputs/runs"), Path("outputs/reruns"))
    found = sorted(path.name for place in places for path in place.glob(f"*_{glob.escape(tail)}"))
    return found[-1] if found else None


def job_name(number: int, words: Sequence[str], whole: int | None = None, swept: Sequence[str] = ()) -> str:
    """The folder of one run of a sweep: its number, padded to the width of the last of `whole_config`, and
    its words, of `swept` keys only where given.
    """
    varied = [w for w in words if w.partition("=")[0].lstrip("+") in swept] if swept else words
    return f"{number:0{len(str(whole - 1)) if whole else 1}}_{slug(varied)}".rstrip("_")


def subdir(whole: int | None, swept: Sequence[str]) -> str:
    """The value of hydra.sweep.subdir that gives these names."""
    return f"'${{kdx_job_name:${{hydra:job.num}},${{hydra:overrides.task}},{' '.join([str(whole or 0), *swept])}}}'"  # noqa: E501


def _job_name(number: int, words: Sequence[str], more: str = "0") -> str:
    whole, *swept = str(more).split()
    return job_name(number, words, int(whole) or None, swept)


def slug(words: Sequence[str]) -> str:
    kept = [
        w for w in words if not re.match(r"^\+*(store|stages|device|publish|hydra|launcher|sweeper)\b", w)
    ]
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", _shortened(w)).strip("-.") for w in kept)[:80].strip("-._")


def _shortened(word: str) -> str:
    """A word with its key, and of each path the last part only."""
    key, given, value = word.partition("=")
    return (
        key + given + re.sub(r"[^,'\"\[\](){}]*/(?=[^,/'\"\[\](){}])", "", value)
        if given
        else key.rpartition("/")[2]
    )


# Here and not in a function: a process that a launcher makes knows them by importing this.
OmegaConf.register_new_resolver("kdx_run_name", run_name, replace=True, use_cache=True)
OmegaConf.register_new_resolver("kdx_labelled_share", labelled_share, replace=True)
OmegaConf.register_new_resolver("kdx_job_name", _job_name, replace=True)
