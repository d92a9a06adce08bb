"""The other ranks of a run: processes that make its updates together with this one.

This process is rank 0 and does all else; the others hold a share of the weights and of the optimiser's state, and do
what it tells them (`policies/follower.py`). They end with it: a connection that closes ends them. They are started
here, on this machine, or were started beside this process by a launcher (`leading_launched`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from orchestrator.os_signals import interrupted_by, noted
from orchestrator.spec import Spec
from policies.errors import PolicyError, RankLost
from policies.follower import BEGIN, END, LEAVE, MEETING, POLICY, READY, write_settings
from policies.hardware import free_cached_memory
from policies.launchers import SIGNALS, LaunchedProcess
from policies.policy import Policy
from policies.ranks import Alone, Ranks
from store.files import ASIDE

START = f"{ASIDE}0-ranks-"  # begins the name of a folder that the others read
INTERFACE = "GLOO_SOCKET_IFNAME"
POLL_S = 0.05
NOTICE_S = 0.5  # between two looks at whether all are there, while rank 0 does something else
ENDING_S = 20.0  # for the others to end, once they were told
Followers = Sequence["subprocess.Popen[bytes]"]


@contextmanager
def started_ranks(spec: Spec, policy: Policy, run_folder: Path) -> Iterator[Alone]:
    """Start as many ranks as the spec says, with the policy as it is; they end when the block does.

    Those that a launcher started are told what to begin with, by a folder in the run's.
    """
    size = spec.resources.ranks
    if _launched is not None:
        with _telling_the_start(spec, policy, run_folder, _launched):
            yield _launched
        policy.free_memory = free_cached_memory
        return
    if size == 1:
        yield Alone()
        return
    if policy.device.type == "cuda" and (num := torch.cuda.device_count()) < size:
        raise PolicyError(f"resources.ranks: {size} ranks take a GPU each, and this machine has {num}: say fewer")
    with _start_folder(spec, policy, run_folder) as folder, _on_loopback():
        followers = [_start(folder, rank) for rank in range(1, size)]
        work = None
        try:
            _await_ready(folder, followers)
            work = Ranks.join(folder / MEETING, 0, size, policy.device, lambda: _lost(folder, followers))
            shutil.rmtree(folder / POLICY)  # all have read it, and a run that is killed leaves no weights behind
            yield work
            with suppress(RuntimeError):  # one that was lost after the last update is none that is missed
                work.send(END)
                parting, work = work, None
                parting.leave()  # with the others: over NCCL they wait for one another
            with suppress(subprocess.TimeoutExpired):  # the run is done, whoever takes long to end
                for one in followers:
                    one.wait(ENDING_S)
        finally:
            policy.free_memory = free_cached_memory  # and no longer the others' too
            _keep_outputs(folder, followers)
            for one in followers:
                one.kill()
                one.wait()
            if work is not None:
                work.leave(at_once=True)


def noticing_lost(work: Alone) -> AbstractContextManager[None]:
    """Raise `RankLost` in the block soon after a rank that was started here has ended, whatever the block is at.

    What is done alone, playing or measuring, may take hours, and only what ranks do together fails by itself.
    """
    if isinstance(work, Ranks) and work.sees_others:
        return interrupted_by(work.find_lost, NOTICE_S)
    return nullcontext()


_launched: Ranks | None = None  # this process is rank 0 of those; a process has one group


@contextmanager
def leading_launched(process: LaunchedProcess, exit_code_of: Callable[[BaseException], int]) -> Iterator[None]:
    """Meet the ranks that a launcher started beside this one, rank 0; what is run inside the block is theirs, too.

    They are let go when the block ends, whether or not there was anything to update, and end with the same exit code;
    at once where it fails in the midst of what they do together.
    A signal that one of them is sent, on another machine, is heard here unless this process has heard one itself.
    """
    global _launched
    work, exit_code = Ranks.join_launched(process), 0
    work.heed = lambda number: None if noted() else signal.raise_signal(number)
    _launched = work
    try:
        with work.heartbeat():
            yield
    except BaseException as left:
        exit_code = exit_code_of(left)
        raise
    finally:
        _launched = None
        work.let_go(LEAVE, {"exit_code": exit_code})
        work.part(exit_code)


@contextmanager
def _telling_the_start(spec: Spec, policy: Policy, run_folder: Path, work: Ranks) -> Iterator[None]:
    """Have the ranks of a launcher read the policy as it is, and the settings."""
    if spec.resources.ranks != work.size:
        raise PolicyError(f"resources.ranks: {spec.resources.ranks}, but the launcher started {work.size} processes")
    if policy.device.type == "cpu":
        work.device = policy.device
    with _start_folder(spec, policy, run_folder) as folder, work.together():
        work.send(BEGIN, {"folder": str(folder.absolute()), "device": policy.device.type})
        work.total(torch.zeros(1))  # all have read it
    try:
        yield
    finally:
        work.let_go(END)


@contextmanager
def _start_folder(spec: Spec, policy: Policy, run_folder: Path) -> Iterator[Path]:
    """Lend a folder in the run's with what the others begin with: it has the room for weights, and is seen by all."""
    for left in run_folder.glob(f"{START}*"):  # by a run that was killed just then
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=START, dir=run_folder) as name:
        _write_start(Path(name), spec, policy)
        yield Path(name)


def _write_start(folder: Path, spec: Spec, policy: Policy) -> None:
    write_settings(
        folder,
        policy,
        spec.learner,
        spec.objective.model_dump(mode="json", by_alias=True),
        policy_config=spec.policy.model_dump(mode="json"),
        environments=list(spec.environments),
        temperature=spec.sampler.temperature,
        threads=spec.resources.threads,
        size=spec.resources.ranks,
        replicas=spec.resources.replicas,
        optimizes_on_host=spec.resources.offload == "optimizer",
        search_path=spec.resources.search_path,
    )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have gloo listen on this machine alone, here and in started processes, unless the user says otherwise."""
    if sys.platform != "linux" or INTERFACE in os.environ:
        yield
        return
    os.environ[INTERFACE] = "lo"
    try:
        yield
    finally:
        del os.environ[INTERFACE]


def _start(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    """Start one, which ends when this end of its input is gone.

    What it says goes to a file. Signals are rank 0's to hear, also those that all processes of a job are sent: it holds
    them from its first moment, until it ignores them.
    """
    command = [sys.executable, "-m", "policies.follower", str(folder), str(rank)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with _said(folder, rank).open("wb") as file:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True, env=_environment()
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _await_ready(folder: Path, followers: Followers) -> None:
    """Wait until all can be met.

    RankLost: a signal has ended one before that; PolicyError: one has ended by itself, and would again.
    """
    ready = [folder / f"{READY}{rank}" for rank in range(1, len(followers) + 1)]
    while not all(path.exists() for path in ready):
        if (rank := _ended(followers)) is not None:
            who = f"{_last_words(folder, rank, followers)}, before the first update"
            raise RankLost(who) if followers[rank - 1].returncode < 0 else PolicyError(who)
        time.sleep(POLL_S)


def _environment() -> dict[str, str]:
    """The same packages as here, also where they were found through the folder that the command runs in."""
    paths = [path or os.getcwd() for path in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _lost(folder: Path, followers: Followers) -> str | None:
    """Say which rank has ended, and what it said last; None: all are there."""
    rank = _ended(followers)
    return None if rank is None else _last_words(folder, rank, followers)


def _ended(followers: Followers) -> int | None:
    return next((rank for rank, one in enumerate(followers, start=1) if one.poll() is not None), None)


def _last_words(folder: Path, rank: int, followers: Followers) -> str:
    text = f"rank {rank} has ended with {followers[rank - 1].returncode}"
    said = _said(folder, rank).read_text(errors="replace").strip().splitlines()
    return f"{text}: {said[-1].removeprefix(f'[rank{rank}]: ')} (its output: {_kept(folder, rank)})" if said else text


def _keep_outputs(folder: Path, followers: Followers) -> None:
    """Copy what ranks said that have failed to the run's folder: this one goes."""
    for rank, one in enumerate(followers, start=1):
        said = _said(folder, rank)
        if one.poll() and said.stat().st_size:
            with suppress(OSError):  # a full disk, which may be why
                shutil.copyfile(said, _kept(folder, rank))


def _said(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.log"


def _kept(folder: Path, rank: int) -> Path:
    return folder.parent / _said(folder, rank).name
