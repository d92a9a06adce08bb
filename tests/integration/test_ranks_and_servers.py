"""Two ranks that update, two vLLM servers that play; one of each is killed in mid-run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.integration.runs import told
from tests.integration.test_engines import curriculum
from tests.integration.test_ranks import followers_of, wait_until
from tests.linux_processes import any_running, everyone
from tests.orchestrator.specs import REPOSITORY

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]

STEPS = 40
EVERGREEN = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


@pytest.fixture
def urls() -> list[str]:
    """Two free ports."""
    with closing(socket.create_server(("127.0.0.1", 0))) as one, closing(socket.create_server(("127.0.0.1", 0))) as two:
        return [f"http://127.0.0.1:{each.getsockname()[1]}" for each in (one, two)]


@pytest.fixture
def file(tmp_path: Path, urls: list[str]) -> Path:
    given = curriculum("both", {"type": "vllm_server", "urls": urls, "probe_every": 1})
    given["curriculum"] = {**given["curriculum"], "stages": 1, "stage": {"steps": STEPS, "replay": 0.25}}
    given["resources"] = {**given.get("resources", {}), "ranks": 2}
    given["checkpoint"] = {"every_steps": 1}
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


@pytest.fixture
def serving(file: Path, urls: list[str], tmp_path: Path) -> Iterator[None]:
    """Have the servers up, and started again when they end."""
    words = ["serve", str(file), "--home", str(tmp_path / "home"), "--", "--max-model-len", "512"]
    with subprocess.Popen([*EVERGREEN, *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as serve:
        assert serve.stdout is not None
        said = [serve.stdout.readline() for _ in range(4)]
        assert sum("ready after" in line for line in said) == 2, said
        yield
        serve.terminate()
        assert serve.wait(60) == 0


def server_at(url: str) -> int:
    """Find the process that serves a URL."""
    port = url.rpartition(":")[2].encode()
    for one in everyone():
        is_server = one.words[1:3] == (b"-m", b"vllm.entrypoints.openai.api_server")
        if is_server and one.words[one.words.index(b"--port") + 1] == port:
            return one.pid
    raise AssertionError(f"nothing serves {url}")


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):
            return True
    except OSError:
        return False


def test_a_server_and_a_rank_are_killed_and_the_run_ends_all_the_same(
    tmp_path: Path, file: Path, urls: list[str], serving: None
) -> None:
    home = tmp_path / "home"
    words = [*EVERGREEN, "run", str(file), "--home", str(home)]
    run = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: newest(home) >= 2, 300)
        os.kill(server_at(urls[0]), signal.SIGKILL)
        step = newest(home)
        wait_until(lambda: newest(home) >= step + 2, 300)
        assert any(text.startswith(f"{urls[0]} is left out") for text in texts(home)), "the other plays alone"
        run.send_signal(signal.SIGSTOP)  # so that few steps are done while the server starts
        wait_until(lambda: is_ready(urls[0]), 600)
        run.send_signal(signal.SIGCONT)
        wait_until(lambda: f"{urls[0]} is back" in texts(home), 60)
        others = followers_of(run.pid)
        assert len(others) == 1
        os.kill(others[0], signal.SIGKILL)
        start = time.monotonic()
        said = run.communicate(timeout=120)[0]
        took = time.monotonic() - start
        wait_until(lambda: not any_running(others), 10)
        assert "rank 1 has ended with -9" in said
        assert took < 10, "it is noticed by the next update, behind what is being played"
        assert newest(home) < STEPS
    finally:
        run.kill()
    words = [*EVERGREEN, "resume", "both", "--home", str(home)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert newest(home) == STEPS


def texts(home: Path) -> list[str]:
    """Give what the run's events say."""
    return [event["text"] for event in told(home, "both")["events"]]


def newest(home: Path) -> int:
    """Give the step of the newest checkpoint."""
    found = home.glob("both/checkpoints/step-*/manifest.json")
    return max((int(path.parent.name.split("-")[1]) for path in found), default=0)
