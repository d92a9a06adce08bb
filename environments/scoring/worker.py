"""What runs inside a scoring process: limits, environments built once, one job after the other."""

from __future__ import annotations

import multiprocessing.spawn
import os
import pickle
import resource
import signal
import socket
import warnings
from collections.abc import Mapping
from contextlib import suppress
from io import BufferedRWPair
from pathlib import Path
from typing import Any, NamedTuple

from environments.contracts import Environment, EnvironmentFault
from environments.scoring.jobs import READY, EndedEpisodes, ScoringJob, fault_bytes, play, turn_bytes, unscorable
from environments.scoring.kept_episodes import KeptEpisodes
from environments.scoring.process import LENGTH, LONGEST, limit_resources
from environments.user_code import own_place

MAX_OPEN_FILES = 256
LIMITED = (resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)  # put back
KEPT_SHARE = 1 / 4  # of a score's memory and files: what kept episodes may hold beside them

is_starting = False  # while the trainer's script is imported, which must not start processes in turn


class Setup(NamedTuple):
    """The first message to a worker."""

    main: Mapping[str, Any]  # of the trainer's main module, as `multiprocessing.spawn` writes it
    sources: bytes  # pickled, as they may be of the main module's types
    memory_gib: float


def serve(handle: int) -> None:
    """Be a worker until the trainer hangs up: build the environments that it names, and play its jobs.

    An environment that cannot be built is a fault of its first job.
    """
    global is_starting
    os.set_inheritable(handle, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    warnings.simplefilter("ignore")
    with socket.socket(fileno=handle) as connection, connection.makefile("rwb") as stream:
        setup: Setup = pickle.loads(_receive(stream))
        is_starting = True  # the trainer's script is imported as by `multiprocessing`: a factory may be in it
        multiprocessing.spawn.prepare(dict(setup.main))
        is_starting = False
        sources = {source.name: source for source in pickle.loads(setup.sources)}
        built, faults, kept = dict[str, Environment](), dict[str, str](), KeptEpisodes()
        before = {kind: resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)}
        held, settings = _held(), _Settings()
        _send(stream, READY)
        while message := _receive(stream):
            asked: ScoringJob | EndedEpisodes | str = pickle.loads(message)
            if isinstance(asked, ScoringJob):
                answer = _answer(asked, built, faults, kept)
                settings.put_back()
                if len(kept):
                    held = _forget_too_much(kept, held, setup.memory_gib)
                _send(stream, answer)
                continue
            if isinstance(asked, EndedEpisodes):
                for environment, name in asked.names:
                    kept.forget(environment, name)
                continue
            kept.clear()
            limit_resources(before)  # what an environment holds is not the score's
            try:
                built[asked] = sources[asked].build()
            except BaseException as error:  # foreign code; the message reaches the trainer with the first job
                faults[asked] = f"{type(error).__name__}: {error}{own_place(error)}"
            held = _held()
            _limit_scores(setup.memory_gib, held)
            settings = _Settings()
            settings.put_back()  # of what building left, too
            _send(stream, READY)
        limit_resources(before)
        kept.clear()  # what these hold beside memory they let go of, as at any end


class _Settings:
    """Settings of the process as they are now, to be put back after a score that may have changed them.

    Where SIGCHLD is ignored, or its handler waits for all children, `subprocess` takes every program for one that ended
    well. A timer would ring in another score.
    """

    def __init__(self) -> None:
        self._limits = {kind: resource.getrlimit(kind)[0] for kind in LIMITED}
        self._mask = os.umask(0)
        os.umask(self._mask)
        self._place = "/"
        with suppress(FileNotFoundError):
            self._place = os.getcwd()

    def put_back(self) -> None:
        """Set them as they were; no handler of SIGCHLD and no timer remain."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        limit_resources(self._limits)
        os.umask(self._mask)
        with suppress(OSError):  # it is gone, or not to be entered any more
            os.chdir(self._place)


class _Held(NamedTuple):
    """What this process holds by now; 0 where the system does not say."""

    memory: int  # bytes that are mapped
    files: int


def _held() -> _Held:
    statm, files = Path("/proc/self/statm"), Path("/dev/fd")
    mapped = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    return _Held(mapped, len(os.listdir(files)) if files.exists() else 0)


def _forget_too_much(kept: KeptEpisodes, without: _Held, memory_gib: float) -> _Held:
    """Forget all episodes where more is held than `without` them and their share; say what is held without any."""
    try:
        held = _held()
        if (
            held.memory - without.memory <= KEPT_SHARE * memory_gib * 2**30
            and held.files - without.files <= KEPT_SHARE * MAX_OPEN_FILES
        ):
            return without
        kept.clear()
        return _held()
    except OSError:  # no file is left to look with
        kept.clear()
        return without


def _limit_scores(memory_gib: float, held: _Held) -> None:
    """Limit what a score may take beyond what is held by now, and beyond what may be kept."""
    memory = held.memory + int((1 + KEPT_SHARE) * memory_gib * 2**30)
    files = int((1 + KEPT_SHARE) * MAX_OPEN_FILES)
    limit_resources({resource.RLIMIT_AS: memory, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: files})


def _answer(job: ScoringJob, built: Mapping[str, Environment], faults: Mapping[str, str], kept: KeptEpisodes) -> bytes:
    name = job.task.environment
    try:
        if name in faults:
            raise EnvironmentFault(f"environment {name} cannot be built in a scoring process: {faults[name]}")
        answer = turn_bytes(play(built[name], job, kept))
    except EnvironmentFault as fault:
        return fault_bytes(fault)
    except MemoryError:
        return turn_bytes(unscorable("out of memory"))
    if len(answer) > LONGEST:
        return turn_bytes(unscorable(f"its messages are longer than {LONGEST // 2**20} MiB"))
    return answer


def _receive(stream: BufferedRWPair[Any, Any]) -> bytes:
    head = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""


def _send(stream: BufferedRWPair[Any, Any], message: bytes) -> None:
    stream.write(LENGTH.pack(len(message)) + message)
    stream.flush()
