"""This process as a job of a SLURM cluster, which is warned before its time is up and can go back into the
queue. Standard library only.
"""

from __future__ import annotations

import os

_SECONDS = 60
"""How long the cluster is given to take a job back."""


def by_submitit() -> bool:
    """Whether submitit made this process: it then takes the job back into the queue itself."""
    return bool(os.environ.get("SUBMITIT_EXECUTOR"))


def job() -> str | None:
    """The number of the job; None where this is none, or submitit's."""
    return None if by_submitit() else os.environ.get("SLURM_JOB_ID") or None


def begun_again() -> bool:
    """Whether the cluster begins the job once more, under the same number."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def part_of_job() -> str:
    """Which of several processes that srun began side by side; "" of the first."""
    number = os.environ.get("SLURM_PROCID", "0")
    return "" if number == "0" else number


def requeue() -> str | None:
    """Sends the job back into the queue, and says so, or why not; None where this process is not the one to
    do it."""
    number = job()
    if number is None or part_of_job() or os.environ.get("RANK", "0") != "0":
        return None
    import subprocess

    try:
        answer = subprocess.run(
            ["scontrol", "requeue", number], capture_output=True, text=True, timeout=_SECONDS
        )
        why = "" if answer.returncode == 0 else (answer.stderr.strip().splitlines() or ["no reason given"])[0]
    except FileNotFoundError:
        why = "there is no scontrol here"
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        return f"job {number} is not in the queue again ({why}): hand it in once more to go on"
    return f"job {number} is in the queue again, and goes on in the same folder when it begins"
