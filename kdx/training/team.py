"""Who trains together: processes that kdx starts for `device.gpus=W`, or those that torchrun has started. One
of them, the first, does all else alone, and gives each training stage to the others.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from kdx.core import cluster
from kdx.core.errors import UserError
from kdx.core.launch import launched
from kdx.store import resolve
from kdx.training import patience
from kdx.training.patience import exchanging
from kdx.training.ranks import ONE_PROCESS, Ranks
from kdx.training.runtime import Runtime

LONGEST_WAIT = timedelta(days=30)
"""How long one waits for another: between two trainings hours may pass, and one that ended is noticed at
once, as its connection is closed."""
GO_ON = "stopped with it: run the same command to go on"
_FOLDER, _NUMBER, _COUNT = "KDX_TEAM", "KDX_TEAM_NUMBER", "KDX_TEAM_COUNT"


@dataclass(frozen=True)
class Handed:
    """A training, for the others: `module.follow(ranks, name, runtime, inputs)`. allowed: the user's own
    packages that it may read."""

    module: str
    name: str
    runtime: Runtime
    inputs: Any
    allowed: tuple[str, ...] = ()


class Broken(UserError):
    """One of the processes ended."""


class Team:
    """The processes beside the first one."""

    def __init__(self, count: int, cuda: bool):
        self.count, self.cuda, self.folder, self.hung = count, cuda, Path(), ""
        self.children: list[subprocess.Popen[bytes]] = []
        if launched() is None:
            self.folder = Path(tempfile.mkdtemp(prefix="kdx-team-"))
            self._start()
        elif _dismissed:
            raise Broken("the processes that torchrun started have ended: start them again")
        patience.begin_exchanges()
        join_group(self.folder, 0, count, cuda)

    def _start(self) -> None:
        for number in range(1, self.count):
            told = {_FOLDER: str(self.folder), _NUMBER: str(number), _COUNT: str(self.count)}
            with (self.folder / f"{number}.txt").open("wb") as file:
                self.children.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "kdx.training.team", "cuda" if self.cuda else "cpu"],
                        env={**os.environ, **told, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # Ctrl-C is the first one's to heed
                    )
                )

        self._meet()

    def _meet(self) -> None:
        """Waits until all are there. One that ends before would be waited for without end."""
        while missing := [n for n in range(1, self.count) if not (self.folder / f"{n}.here").exists()]:
            if any(child.poll() is not None for child in self.children):
                why = self.why()
                self.end(well=False)
                raise Broken(f"{why}; not all of the processes that should train together began")
            time.sleep(0.02 * len(missing))

    def send(self, job: Handed | None) -> None:
        with exchanging():
            dist.broadcast_object_list([job], src=0)

    def late(self, seconds: float, name: str) -> None:
        """Ends the others, as one has not come to where the first waits for it, which so goes on."""
        numbers = patience.hanging(self.folder, self.count) if self.children else []
        who = " or ".join(f"process {n + 1}" for n in numbers) or "one of the processes"
        waited = f"device.wait_seconds={seconds:g}"
        self.hung = f"{who} of {self.count} does not answer: the others have waited for {waited}"
        if not self.children:  # torchrun's, which it ends when one does
            print(f"{self.hung}; {name} {GO_ON}", file=sys.stderr, flush=True)
            os._exit(1)
        for child in self.children:
            child.kill()

    def why(self) -> str:
        """Who ended, and what it said last; or who hung."""
        if self.hung:
            return self.hung
        for number, child in enumerate(self.children, 1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=2)
                said = (self.folder / f"{number}.txt").read_text(errors="replace").strip().splitlines()
                how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
                return f"process {number + 1} of {self.count} {how}" + (f": {said[-1][:300]}" if said else "")
        return "one of the processes that train together ended"

    def end(self, *, well: bool) -> None:
        """Lets the others go; those that do not, at once."""
        if well:
            with contextlib.suppress(Exception):
                self.send(None)
        for child in self.children:
            if not well:
                child.kill()
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        with contextlib.suppress(Exception):
            dist.destroy_process_group()
        if self.children:
            shutil.rmtree(self.folder, ignore_errors=True)


_team: list[Team] = []
_dismissed: list[bool] = []


def join_group(folder: Path, number: int, count: int, cuda: bool) -> None:
    """Makes the process group: over a file where kdx started the processes, else as torchrun says."""
    torch.set_num_threads(1)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if launched() is None:
        (folder / f"{number}.here").touch()
        dist.init_process_group(
            backend, init_method=f"file://{folder}/meet", rank=number, world_size=count, timeout=LONGEST_WAIT
        )
    else:
        dist.init_process_group(backend, timeout=LONGEST_WAIT)


def team_of(runtime: Runtime) -> Team:
    """The one of this process, which is kept for its next training."""
    cuda = torch.cuda.is_available() if launched() else runtime.device.startswith("cuda")
    if _team and (_team[0].count, _team[0].cuda) != (runtime.gpus, cuda):
        dismiss(well=True)
    if not _team:
        _team.append(Team(runtime.gpus, cuda))
    return _team[0]


def dismiss(*, well: bool) -> None:
    """Ends what `team_of` began, if it did."""
    while _team:
        _team.pop().end(well=well)
        _dismissed.append(well)


def begin_launched() -> None:
    """What torchrun's processes do first: the first one goes on with its command, the others follow it, and
    end this program when it ends."""
    here = launched()
    if here is None:
        return
    cuda = torch.cuda.is_available()
    if here[0]:
        sys.exit(follow_first(Path(), *here, cuda))
    _team.append(Team(here[1], cuda))


atexit.register(lambda: dismiss(well=True))


def runtime_of(runtime: Runtime, number: int) -> Runtime:
    """What one of the processes computes with: a device of its own, and its part of the threads."""
    here, threads = int(os.environ.get("LOCAL_WORLD_SIZE", runtime.gpus)), int(runtime.threads)
    local = int(os.environ.get("LOCAL_RANK", number))
    device = f"cuda:{local}" if runtime.device.startswith("cuda") else runtime.device
    return replace(runtime, device=device, threads=max(1, threads // here))


@contextlib.contextmanager
def trained_together(
    runtime: Runtime, module: str, name: str, inputs: Any
) -> Iterator[tuple[Ranks, Runtime]]:
    """Gives a training to all processes. Yields what the first one is among them, and computes with. Where
    one ends, all end: UserError."""
    if runtime.gpus == 1:
        yield ONE_PROCESS, runtime
        return
    team, threads = team_of(runtime), torch.get_num_threads()
    own = runtime_of(runtime, 0)
    try:
        with patience.watched(runtime.wait_seconds, lambda: team.late(runtime.wait_seconds, name)):
            team.send(Handed(module, name, runtime, inputs, tuple(resolve.own_packages)))
            _settle(own)
            yield Ranks(0, team.count), own
    except BaseException as error:
        broken = isinstance(error, RuntimeError) and not isinstance(error, UserError)
        why = team.why() if broken and any(c.poll() is not None for c in _given_time(team)) else ""
        dismiss(well=False)
        if why:
            raise Broken(f"{why}; {name} {GO_ON}") from error
        raise
    finally:
        torch.set_num_threads(threads)


def _settle(own: Runtime) -> None:
    torch.set_num_threads(int(own.threads))
    if own.device.startswith("cuda"):
        torch.cuda.set_device(own.device)


def _given_time(team: Team) -> list[subprocess.Popen[bytes]]:
    """Its children, a moment after one of them seems to have ended."""
    for child in team.children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=1)
    return team.children


def scratch() -> str | None:
    """Where a process beside the first keeps what nobody reads: in the folder of those that kdx started,
    which goes when they end, however they do; None: where temporary files are."""
    return os.environ.get(_FOLDER)


def _forget(folder: Path, first: int) -> None:
    """Removes the folder where the first process, which would do so, was killed. first: its number."""
    if launched() is None and os.getppid() != first:
        shutil.rmtree(folder, ignore_errors=True)


def follow_first(folder: Path, number: int, count: int, cuda: bool) -> int:
    """The life of a process beside the first: one training after the other, until it is let go."""
    warnings = ("SIGUSR1", "SIGUSR2") if cluster.job() else ()
    for name in (*(("SIGINT", "SIGHUP", "SIGTERM") if launched() is None else ("SIGINT",)), *warnings):
        if name in vars(signal):
            signal.signal(vars(signal)[name], signal.SIG_IGN)
    first = os.getppid()
    patience.begin_exchanges(folder if launched() is None else None, number)
    join_group(folder, number, count, cuda)
    while True:
        held: list[Any] = [None]
        try:
            with exchanging():
                dist.broadcast_object_list(held, src=0)
        except RuntimeError:  # the first one is gone
            _forget(folder, first)
            return 0
        job = held[0]
        if job is None:
            dist.destroy_process_group()
            return 0
        resolve.allow(job.allowed)
        own = runtime_of(job.runtime, number)
        _settle(own)
        work: Callable[..., None] = import_module(job.module).follow
        try:
            work(Ranks(number, count), job.name, own, job.inputs)
        except BaseException as error:
            traceback.print_exc()
            print(f"{type(error).__name__}: {error}", flush=True)
            _forget(folder, first)
            os._exit(1)  # its connection is closed, by which the others know


def main() -> int:
    """Of a process that kdx started."""
    cuda = sys.argv[1] == "cuda"
    return follow_first(Path(os.environ[_FOLDER]), int(os.environ[_NUMBER]), int(os.environ[_COUNT]), cuda)


if __name__ == "__main__":
    sys.exit(main())
