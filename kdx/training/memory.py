"""How much memory work takes: the peak since a moment, and what is free."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from pathlib import Path

import torch


class Peak:
    """The most that was held since `begin`. On CUDA what torch allocated on the device; else what the whole
    process held, libraries included.

    Where the system cannot forget an earlier peak (Linux can), it is that since the process began. On MPS,
    whose memory is the process's own only in part, nothing is reported.
    """

    def __init__(self, device: str):
        self.device = device

    @property
    def of(self) -> str:
        return "the GPU" if self.device.startswith("cuda") else "the whole process"

    def begin(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # 5: forget the peak, see proc(5)

    def bytes(self) -> int | None:
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device)
        if self.device == "mps":
            return None
        kept = _kilobytes(Path("/proc/self/status"), "VmHWM")
        return kept or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )

    def free(self) -> int | None:
        """What work could take now: of the device, or of the machine beside what this process holds."""
        if self.device.startswith("cuda"):
            return torch.cuda.mem_get_info(self.device)[0]
        there, held = (
            _kilobytes(Path("/proc/meminfo"), "MemAvailable"),
            _kilobytes(Path("/proc/self/status"), "VmRSS"),
        )
        return None if there is None else there + (held or 0)


def held_at_most(device: torch.device | str, beside_processor: int) -> int:
    """The most bytes of rows, or of answers to them, that are held where they are computed with, in place of
    being read as they are asked for: on a CUDA device a quarter of what is free there now, else
    `beside_processor`.
    """
    free = Peak(str(device)).free() if torch.device(device).type == "cuda" else None
    return beside_processor if free is None else free // 4


def _kilobytes(file: Path, name: str) -> int | None:
    """Bytes of a line such as `VmHWM:   1234 kB`."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(), re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
