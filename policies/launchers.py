"""What a launcher (torchrun, SLURM, Kubernetes' PyTorchJob) tells the processes that it started together.

They meet at MASTER_ADDR:MASTER_PORT. torchrun and PyTorchJob number them by RANK of WORLD_SIZE, SLURM's `srun` by
SLURM_PROCID of SLURM_NTASKS. Without a place to meet a process is alone, but not where `srun` starts several.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from policies.errors import PolicyError

MEETING = ("MASTER_ADDR", "MASTER_PORT")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # ask a run to end; SIGHUP: the terminal is gone
STEP_SIZE = "SLURM_STEP_NUM_TASKS"  # of one `srun`; that of a job stands in the shells of it, too
NUMBERS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))


@dataclass(frozen=True)
class LaunchedProcess:
    """One of the processes that a launcher started to do one run together."""

    rank: int
    size: int
    local_rank: int  # among those of its machine: the number of its GPU

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> LaunchedProcess | None:
        """Read which one this is; None: it is alone. Raises PolicyError: numbers that are none, or nowhere to meet."""
        if not all(environment.get(name) for name in MEETING):
            if (num := environment.get(STEP_SIZE, "")).isdecimal() and int(num) > 1:
                raise PolicyError(
                    f"`srun` started {num} processes of this ({STEP_SIZE}), which would be as many runs: to be ranks "
                    f"of one they need {' and '.join(MEETING)}, as `evergreen launch SPEC --on slurm --nodes 2 "
                    f"--dry-run` exports them; for runs of their own say {STEP_SIZE}=1"
                )
            return None
        for names in NUMBERS:
            if all(environment.get(name) for name in names[:2]):
                rank, size, local = (environment.get(name, "0") for name in names)
                if not (rank.isdecimal() and size.isdecimal() and local.isdecimal() and int(rank) < int(size)):
                    raise PolicyError(f"{names[0]}={rank} of {names[1]}={size} is no process of a launcher: unset them")
                if int(size) == 1:
                    return None
                if not ((port := environment["MASTER_PORT"]).isdecimal() and 0 < int(port) < 2**16):
                    raise PolicyError(f"MASTER_PORT={port} is no port, at which processes of a launcher could meet")
                return cls(int(rank), int(size), int(local))
        return None


def hold_signals() -> None:
    """Have signals wait until this process can tell the others that it leaves."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def hear_signals() -> None:
    """Have signals do again what they do, those too that were held."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
