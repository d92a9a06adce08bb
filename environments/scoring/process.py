"""A scoring process, seen from the trainer: its variables, its jobs and answers, its output, its end.

Both sides send messages behind their length (8 bytes, the highest first): the trainer pickles, the process answers in
JSON, so nothing of an environment's is ever unpacked here.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import pickle
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from environments.display import brief
from environments.scoring import leader

WORKER = "environments.scoring.worker"
LENGTH = struct.Struct("!Q")
LONGEST = 2**26  # bytes of an answer; a longer one is no answer
PIECE = 2**18  # bytes read at once
MAX_JOBS = 10_000  # after so many a process is replaced, and with it whatever it leaked
AHEAD = 8  # jobs that a process has at most
QUICK_S = 0.005  # a job that took less is quick
SLOW_S = 0.25  # one that takes more is slow: nothing waits behind it that another process could do
FIRST_SLOW_S = 1.0  # the same of an environment's first in a process, which may import what it needs
END_S = leader.END_S + 1.0  # for a leader to end what it leads
PIPE_BYTES = 2**20  # that fit into the pipe of what is printed, where the system lets us say
TAIL_BYTES = 2000  # of the end of what is printed that are kept
LONGEST_LINE = 200  # characters of the last line that are shown

# Environment variables that scoring processes see: what programs need to run, and no secrets.
VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "TMP", "TEMP"}
    | {"VIRTUAL_ENV", "JAVA_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    | {"NVIDIA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM", "SOURCE_DATE_EPOCH"}
)
PREFIXES = (
    *("LC_", "LD_", "DYLD_", "XDG_", "CONDA_", "PYTHON", "COVERAGE_", "COV_CORE_"),
    *("OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_", "VECLIB_", "BLIS_", "CUDA_", "HIP_", "ROCR_"),
    *("HF_", "TRANSFORMERS_"),
)
SECRET = re.compile(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
MISSED = re.compile(r"KeyError: ['\"](\w+)['\"]")


def begin(module: str, handle: int, output: int, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a session in which `module` serves at a descriptor, and prints to another."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = json.dumps([os.path.abspath(place) for place in sys.path])
    own = [str(os.getpid()), str(handle), module, path]
    return subprocess.Popen(
        [sys.executable, *flags, "-P", "-u", leader.__file__, *own],
        stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        pass_fds=[handle], start_new_session=True, env=variables,
    )  # fmt: skip


def end(session: subprocess.Popen[bytes]) -> None:
    """Wait until the leader of a session, told to end, has ended all it leads; kill what we can if it does not."""
    try:
        session.wait(END_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(session.pid, signal.SIGKILL)
        session.kill()
        session.wait()


def limit_resources(limits: Mapping[int, int]) -> None:
    """Limit what this process may take, by kind of resource, as far as its hard limits allow."""
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        finite = [one for one in (limit, hard) if one != resource.RLIM_INFINITY]  # which is -1 on Linux
        resource.setrlimit(kind, (min(finite, default=resource.RLIM_INFINITY), hard))


def passed_variables(more: Sequence[str]) -> dict[str, str]:
    """Choose from our own environment variables; `more` names further ones."""
    usual = {name for name in os.environ if name in VARIABLES or name.startswith(PREFIXES)}
    names = {name for name in usual if not SECRET.search(name)} | set(more)
    return {name: value for name, value in os.environ.items() if name in names}


def with_hint(words: str, seen: Mapping[str, str]) -> str:
    """Add to the words of a `KeyError` how a variable that we have reaches a scoring process."""
    missed = MISSED.search(words)
    if missed is None or missed[1] in seen or missed[1] not in os.environ:
        return words
    return f"{words} (`scoring: {{env: [{missed[1]}]}}` passes this variable to scoring processes)"


class ProcessOutput:
    """A pipe that many processes print into: read so that none of them waits; all but its end is thrown away."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()  # processes inherit the writer
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # more than this user may have
                fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.num_bytes, self._tail = 0, b""  # so far
        threading.Thread(target=self._read, args=(reader,), name="scoring output", daemon=True).start()

    def last_line(self) -> str:
        """Give the last line that was printed, shortened; empty if nothing was."""
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return brief(lines[-1], LONGEST_LINE) if lines else ""

    def close(self) -> None:
        """Let go of our end; the other is read until the last process has let go of it."""
        os.close(self.writer)

    def _read(self, reader: int) -> None:
        while data := os.read(reader, 2**16):
            self.num_bytes += len(data)
            self._tail = (self._tail + data)[-TAIL_BYTES:]
        os.close(reader)


class BrokenProcess(Exception):
    """The process has ended, or says what no process of ours would."""


class _Given(NamedTuple):
    number: int
    limit_s: float
    slow_s: float  # after which it is slow


class ScoringProcess:
    """One process, made with its first message. It works at one job after the other; quick ones are sent ahead.

    It builds an environment when it is told to, before the first job of it.
    """

    leader: subprocess.Popen[bytes]  # of its session
    unsent: bytearray  # while there is some, it is to be waited for until more can be sent
    deadline: float  # of its answer, on the monotonic clock; infinite while nothing is asked of it
    is_slow: bool  # the job that it works at was found to be

    def __init__(self, first: bytes, variables: Mapping[str, str], output: int, limit_s: float) -> None:
        self.jobs: deque[_Given] = deque()  # it works at the first
        self.num_jobs, self.is_ready = 0, False  # given so far; it has said that it is ready
        self.built: list[str] = []  # environments that it has; the last one it may be building
        self._used = set[str]()  # of these, by a job
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        self.unsent, self._unread = bytearray(), bytearray()
        self._begun, self.is_slow = time.monotonic(), False
        self.took_s = math.inf  # the last job that it has done
        self.shared = set[int]()  # jobs that it has, and others may do as well
        with theirs:
            self.leader = begin(WORKER, theirs.fileno(), output, variables)
        self.deadline = self._begun + limit_s
        self._send(first)

    def fileno(self) -> int:
        """The descriptor to wait at."""
        return self._socket.fileno()

    @property
    def has_room(self) -> bool:
        """Whether it may be given a job."""
        most = AHEAD if self.took_s < QUICK_S and not self.is_slow else 1
        return self.is_ready and not self.is_worn and len(self.jobs) < most

    @property
    def slow_at(self) -> float:
        """When the job that it works at will be slow, on the monotonic clock; infinite where it is, or has none."""
        return self._begun + self.jobs[0].slow_s if self.jobs and not self.is_slow else math.inf

    @property
    def is_worn(self) -> bool:
        """Whether it is to be replaced, once it has done what it has."""
        return self.num_jobs >= MAX_JOBS

    def give(self, number: int, environment: str, job: bytes, limit_s: float) -> None:
        """Send a job, whose time begins when those before it are done; BrokenProcess where it ended idle, or spoke."""
        if not self.jobs:
            for _ in self.answers():
                raise BrokenProcess("an answer that nobody asked for")
            self._begin(limit_s)
        self.jobs.append(_Given(number, limit_s, SLOW_S if environment in self._used else FIRST_SLOW_S))
        self._used.add(environment)
        self.num_jobs += 1
        self._send(job)

    def build(self, environment: str, limit_s: float) -> None:
        """Have it build an environment while it is idle; it is ready once that is done. BrokenProcess as `give`."""
        for _ in self.answers():
            raise BrokenProcess("an answer that nobody asked for")
        self.built.append(environment)
        self.is_ready = False
        self._begin(limit_s)
        self._send(pickle.dumps(environment))

    def finish(self) -> int:
        """Say which job it has done; the next one's time begins; raises BrokenProcess if it had none."""
        if not self.jobs:
            raise BrokenProcess("an answer that nobody asked for")
        number = self.jobs.popleft().number
        self.shared.discard(number)
        self.took_s = time.monotonic() - self._begun
        if self.jobs:
            self._begin(self.jobs[0].limit_s)
        else:
            self.deadline, self.is_slow = math.inf, False
        return number

    def share(self) -> list[int]:
        """Name the jobs behind the first, once, for others to do as well: what it was sent it cannot give back."""
        numbers = [given.number for given in islice(self.jobs, 1, None) if given.number not in self.shared]
        self.shared.update(numbers)
        return numbers

    def push(self) -> None:
        """Send what can be sent now. That nobody hears it is noticed by who listens."""
        with suppress(OSError):
            while self.unsent:
                del self.unsent[: self._socket.send(self.unsent)]

    def answers(self) -> Iterator[bytes]:
        """Give what has been answered in full by now; BrokenProcess where it has ended, or this is no answer."""
        has_ended = False
        try:
            while part := self._socket.recv(PIECE):
                self._unread += part
                if len(part) < PIECE:
                    break
            has_ended = not part  # the other end is closed
        except BlockingIOError:
            pass
        except OSError:  # it was reset: closed while something was on its way
            has_ended = True
        while len(self._unread) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._unread)
            if length > LONGEST:
                raise BrokenProcess("an answer of no length that we take")
            whole = LENGTH.size + length
            if len(self._unread) < whole:
                break
            answer = bytes(self._unread[LENGTH.size : whole])
            del self._unread[:whole]
            yield answer
        if has_ended:
            raise BrokenProcess("it has ended")

    def tell(self, message: bytes) -> None:
        """Send what is not answered."""
        self._send(message)

    def hang_up(self) -> None:
        """Send no more: a process that is idle then ends by itself."""
        self._socket.close()

    def tell_to_end(self) -> None:
        """Hang up, and have the leader end all; do not wait."""
        self._socket.close()
        with suppress(ProcessLookupError):
            self.leader.terminate()

    def _begin(self, limit_s: float) -> None:
        self._begun, self.is_slow = time.monotonic(), False
        self.deadline = self._begun + limit_s

    def _send(self, message: bytes) -> None:
        self.unsent += LENGTH.pack(len(message)) + message
        self.push()
