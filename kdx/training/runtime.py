"""Where and how fast a run computes. It may change speed, never what is asked for, and it enters no key."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import kdx
from kdx.core.checks import choice, flag, integer, number, refuse, shown
from kdx.core.errors import UserError
from kdx.training.gpus import take

MOST_THREADS = 4096
MOST_PROCESSES = 1024


@dataclass(frozen=True)
class Runtime:
    """device: auto | cpu | cuda | cuda:N | mps. threads: "auto" (see `share_of_cores`) or a count. workers:
    threads that prepare batches ahead (0: none).

    checkpoint_seconds: time between checkpoints of a training stage. compile: torch.compile for what trains.
    gpus: processes that train one network together, each on a GPU of its own, or on a part of the processor.
    sync_batch_norm: whether batch normalisation then takes its statistics over the rows of all. wait_seconds:
    how long the first of them waits for another before it ends all. side_by_side: whether the student alone
    is trained by a process beside this one, "auto": where that is sooner done; one that is silent for
    wait_seconds is ended. by_stage: threads of stages, by the run's names of them, as they were in a run that
    is made again.
    """

    device: str
    threads: int | str
    workers: int
    channels_last: bool
    compile: bool
    checkpoint_seconds: float
    gpus: int = 1
    sync_batch_norm: bool = False
    wait_seconds: float = 1800.0
    side_by_side: bool | str = False
    by_stage: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        kind = self.device.split(":")[0] if isinstance(self.device, str) else self.device
        choice("device.device", kind, ("auto", "cpu", "cuda", "mps"))
        if self.threads != "auto":
            integer("device.threads", self.threads, low=1, high=MOST_THREADS, words=["auto"])
        integer("device.workers", self.workers, low=0, high=MOST_THREADS)
        number("device.checkpoint_seconds", self.checkpoint_seconds, low=0)
        integer("device.gpus", self.gpus, low=1, high=MOST_PROCESSES)
        number("device.wait_seconds", self.wait_seconds, low=1)
        for name in ("channels_last", "compile", "sync_batch_norm"):
            flag(f"device.{name}", getattr(self, name))
        if self.side_by_side not in ("auto", True, False) or type(self.side_by_side) is int:
            refuse(f"device.side_by_side must be auto, true or false; given: {shown(self.side_by_side)}")
        if self.side_by_side is True and self.gpus != 1:
            refuse("device.side_by_side=true is of one process a training: leave it out, or device.gpus")

    def settle(self) -> Runtime:
        """The same with `auto` resolved, checked against this machine, and set: threads, and an allocator
        that keeps big blocks.
        """
        import torch

        device = self.device
        if device == "auto":
            device = (
                "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
            )
        if device.startswith("cuda"):
            number_of = torch.cuda.device_count()
            index = device.partition(":")[2] or "0"
            if not index.isdigit() or int(index) >= number_of:
                raise UserError(
                    f"device={self.device} is not here: torch {torch.__version__} sees {number_of} CUDA "
                    "devices; use device=cpu or device=auto"
                )
            here = int(os.environ.get("LOCAL_WORLD_SIZE", self.gpus))
            if self.gpus > 1 and (":" in device or here > number_of):
                raise UserError(
                    f"device.gpus={self.gpus} takes so many GPUs, one for each process; "
                    + ("name none of them" if ":" in device else f"torch sees {number_of} here")
                )
            if device == "cuda" and self.gpus == 1 and number_of > 1:
                device = (
                    f"cuda:{take([str(torch.cuda.get_device_properties(i).uuid) for i in range(number_of)])}"
                )
        if device == "mps" and not torch.backends.mps.is_available():
            raise UserError(
                "device=mps is not here: this machine or this build of torch has none; use "
                "device=cpu or device=auto"
            )
        if device == "mps" and self.gpus > 1:
            raise UserError(
                "device.gpus needs CUDA devices or the processor: set device.gpus=1 or device=cpu"
            )
        threads = share_of_cores() if self.threads == "auto" else self.threads
        torch.set_num_threads(threads)
        _keep_big_blocks()
        return replace(self, device=device, threads=threads)

    def where(self) -> dict[str, Any]:
        """Where a settled runtime computes, and with what: all that may change the last bits of a result.
        Which of several GPUs is no part of it.
        """
        import torch

        kind = self.device.partition(":")[0]
        hardware = torch.cuda.get_device_name(self.device) if kind == "cuda" else _processor()
        several = {"processes": self.gpus} if self.gpus > 1 else {}
        threads = torch.get_num_threads()
        return {"device": kind, "threads": threads, **several, "hardware": hardware, **versions()}

    def describe(self) -> str:
        """The machine in words, for what depends on it (probe)."""
        import torch

        here = self.settle()
        if here.device.startswith("cuda"):
            return torch.cuda.get_device_name(here.device)
        return f"{here.device} {platform.machine()} {_processor()} {here.threads} threads"

    def autocast(self, precision: str) -> Any:
        """A context for forward passes in "fp32" or "bf16"."""
        import torch

        if precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16)

    def wait(self) -> None:
        """Until the device has done what it was given: accelerators answer before they have computed."""
        import torch

        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        elif self.device == "mps":
            torch.mps.synchronize()

    def place(self, module: Any) -> Any:
        """The module on the device, in the memory format asked for."""
        import torch

        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module


def share_of_cores() -> int:
    """Threads for `auto`: OMP_NUM_THREADS, which launchers set for runs side by side, but no more than the
    cores that this process may use.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), cores()) if asked.isdigit() and int(asked) > 0 else cores()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if _tells_affinity() else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Of what computes, reported without importing it."""
    import importlib.metadata

    return {
        "kdx": kdx.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")},
    }


def _tells_affinity() -> bool:
    """Whether the system tells which cores this process may use (Linux does, macOS and Windows do not)."""
    return "sched_getaffinity" in vars(os)


def _processor() -> str:
    """Its name, or what kind it is: not every system tells, and of ARM /proc/cpuinfo has no name."""
    found = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        found = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    return found or platform.processor() or platform.machine()


def _keep_big_blocks() -> None:
    """glibc: do not return big blocks to the kernel after each step (1.1x on the CPU, see
    docs/benchmarks.md).
    """
    import ctypes  # late: what comes from the store needs none of it

    m_trim_threshold, m_mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
