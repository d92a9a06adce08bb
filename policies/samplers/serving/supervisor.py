"""vLLM servers of this host: started, watched, started again when they end, and ended together.

A server whose engine dies exits with status 0, so it is started again whatever it exits with, after a pause that grows.
Every server is in a process group of its own (`process_group`), so that none of its processes is left behind.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from urllib.parse import urlsplit

import policies
from policies.errors import PolicyError
from policies.samplers.serving import process_group
from policies.samplers.vllm import LOGPROBS_MODE, PREFILL_TOKENS

READY_S = 1800.0  # a large model reads its weights and compiles
END_S = 10.0
WATCH_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LONG_ENOUGH_S = 300.0  # a server that ran so long is not one that cannot start

DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would look for the server on itself
ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",  # the routes that hand weights over
    "VLLM_NO_USAGE_STATS": "1",  # sends nothing home
    "HF_HUB_OFFLINE": "1",  # the model is a local folder
    "PYTHONSAFEPATH": "1",  # the folder that the user is in lends it no modules
}
DEFAULTS = {"VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB; on a CPU its own choice is a large share of the memory
OPTIONS = {
    "--served-model-name": "policy",
    "--generation-config": "vllm",  # the model's own would change how it samples
    "--logprobs-mode": LOGPROBS_MODE,
    "--worker-extension-cls": "policies.samplers.serving.worker_extension.Reload",
    "--uvicorn-log-level": "warning",  # not a line a row
}
LOADS_ADAPTERS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
RECEIVES = ["--weight-transfer-config", json.dumps({"backend": "nccl"})]  # weights in a group with the learner
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM makes room
TELLS_WHY = re.compile(r"\b\w*Error: .*")


@dataclass(frozen=True)
class Launch:
    """A server to start."""

    url: str
    command: Sequence[str]
    log: Path  # appended to
    environment: Mapping[str, str] = field(default_factory=dict)  # beside the one this process has


def vllm_command(folder: Path, url: str, dtype: str, more: Sequence[str] = ()) -> list[str]:
    """Write the command that serves a policy's folder at a URL; `more` are further options of vLLM's."""
    address = urlsplit(url)
    here = {"--host": str(address.hostname), "--port": str(port_of(url))}
    fixed = {**OPTIONS, "--model": str(folder), "--dtype": dtype, **here}
    words = [word for pair in fixed.items() for word in pair]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *more]


def for_a_cpu(context: int | None) -> list[str]:
    """Options of a vLLM that plays on a CPU: nothing is compiled, and prompts are read whole.

    Compiling takes longer there than it ever saves. With a prompt read in parts vLLM rewinds the generator of a row
    with a seed, which torch's CPU generators refuse.
    """
    num_tokens = max(context or 0, PREFILL_TOKENS)
    return ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", str(num_tokens)]


def for_adapters(rank: int) -> list[str]:
    """Options of a vLLM that loads adapters while it plays: the newest, and the one before; none for too large ones."""
    room = next((one for one in RANKS if one >= rank), None)
    return [] if room is None else ["--enable-lora", "--max-lora-rank", str(room), "--max-loras", "2"]


def port_of(url: str) -> int:
    """Give the port a URL means."""
    address = urlsplit(url)
    return address.port or (443 if address.scheme == "https" else 80)


@contextmanager
def running(launches: Sequence[Launch]) -> Iterator[list[SupervisedServers]]:
    """Run servers while the block lasts. Raises `PolicyError` where an address is taken."""
    for launch in launches:
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((urlsplit(launch.url).hostname, port_of(launch.url)))
            except OSError as taken:
                raise PolicyError(
                    f"no server can listen at {launch.url}: {taken.strerror}. End what does, or name another port in "
                    "sampler.urls"
                ) from taken
    servers: list[SupervisedServers] = []
    try:
        for launch in launches:
            servers.append(SupervisedServers(launch))
        yield servers
    finally:
        for server in servers:
            server.send(signal.SIGTERM)
        for server in servers:
            server.end()


class SupervisedServers:
    """A server and what it takes to keep it running."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._pause_s = FIRST_PAUSE_S
        self._ended_at: float | None = None
        self._start()

    def wait_until_ready(self) -> float:
        """Wait until it answers; return the seconds since its start. Raises `PolicyError` with what it wrote last."""
        while self._process.poll() is None and time.monotonic() < self._began + READY_S:
            if self.is_ready() and self._plays():
                return time.monotonic() - self._began
            time.sleep(WATCH_S)
        url, log = self.launch.url, self.launch.log
        raise PolicyError(f"the server at {url} did not start: {self._reason()}. More in {log}")

    def is_ready(self) -> bool:
        """Whether it answers that it is healthy."""
        with suppress(OSError), DIRECTLY.open(f"{self.launch.url}/health", timeout=2):
            return True
        return False

    def _plays(self) -> bool:
        """Whether it can write a token: one that cannot play its policy says that it is healthy until it is asked."""
        body = json.dumps({"prompt": [0], "max_tokens": 1}).encode()
        header = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"{self.launch.url}/v1/completions", body, header)
        with suppress(OSError), DIRECTLY.open(asked, timeout=READY_S):
            return True
        return False

    def watch(self, tell: Callable[[str], None]) -> None:
        """Start it again if it has ended and its pause is over; call often."""
        now = time.monotonic()
        if self._ended_at is None and self._process.poll() is not None:
            self._ended_at = now
            self.send(signal.SIGKILL)
            if now - self._began > LONG_ENOUGH_S:
                self._pause_s = FIRST_PAUSE_S
            tell(f"{self.launch.url} ended ({self._reason()}); it is started again in {self._pause_s:.0f} s")
        if self._ended_at is not None and now >= self._ended_at + self._pause_s:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            try:
                self._start()
            except OSError as error:  # no folder for its log, no memory for a process: the others play on
                self._ended_at = now
                tell(f"{self.launch.url} cannot be started ({error}); it is tried again in {self._pause_s:.0f} s")

    def _reason(self) -> str:
        """Find why it ended: the first error that it wrote since it was started; those after it are of its end."""
        try:
            text = self.launch.log.read_bytes()[self._log_from :].decode(errors="replace")
        except OSError as error:  # somebody cleaned up
            return f"its log cannot be read: {error}"
        lines = [line.strip() for line in text.splitlines() if line.strip() and "WARNING" not in line]
        errors = [found[0] for found in map(TELLS_WHY.search, lines) if found]
        return (errors or lines[-1:] or ["it wrote nothing"])[0][:300]

    def send(self, number: signal.Signals) -> None:
        """Send all its processes a signal, and do not wait; the group's leader may have been killed itself."""
        with suppress(ProcessLookupError):
            os.killpg(self.group, number)

    def end(self) -> None:
        """Wait until all its processes have ended, and kill those that do not."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self.send(signal.SIGKILL)
        self._process.wait()

    def _start(self) -> None:
        leader = [sys.executable, "-P", process_group.__file__, str(os.getpid())]
        with self.launch.log.open("ab") as log:
            self._log_from = log.tell()
            self._process = subprocess.Popen(
                [*leader, *self.launch.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**DEFAULTS, **os.environ, **ENVIRONMENT, **_path(), **self.launch.environment},
                start_new_session=True,  # a group of its own, and no Ctrl-C but through us
            )
        self.group = self._process.pid  # the id of its process group
        self._began, self._ended_at = time.monotonic(), None


def _path() -> dict[str, str]:
    """Put the folder of our packages before PYTHONPATH, if another `policies` is found there first."""
    given = os.environ.get("PYTHONPATH", "")
    found = PathFinder.find_spec("policies", given.split(os.pathsep)) if given else None
    if found is None or found.origin == policies.__file__:
        return {}
    return {"PYTHONPATH": os.pathsep.join([str(Path(policies.__file__).parents[1]), given])}
