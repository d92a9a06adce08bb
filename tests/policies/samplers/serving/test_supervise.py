"""Servers as processes. Instead of vLLM a few lines of Python that answer /health, or do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from policies.errors import PolicyError
from policies.samplers.serving import supervisor
from policies.samplers.serving.supervisor import Launch, running, vllm_command
from tests.linux_processes import any_running
from tests.policies.samplers.serving.fakes import FakeServer

SERVER = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[2], "a").write(f"{worker.pid}\\n")
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            print("EngineDeadError: as it was told", flush=True)
            import os; os._exit(0)
        self.send_response(200); self.end_headers()
    do_POST = do_GET
    def log_message(self, *args): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Launch]:
    fake = FakeServer()  # finds a port that is free
    fake.die()

    def launch(code: str = SERVER) -> Launch:
        words = [sys.executable, "-c", code, str(fake.port), str(tmp_path / "workers")]
        return Launch(fake.url, words, tmp_path / "log")

    return launch


def workers(tmp_path: Path) -> list[int]:
    return [int(line) for line in (tmp_path / "workers").read_text().split()]


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


@pytest.mark.parametrize("code", [SERVER, STUBBORN])
def test_servers_and_their_workers_end_with_the_block(
    launch: Callable[..., Launch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(supervisor, "END_S", 1.0)
    with running([launch(code)]) as (server,):
        assert server.wait_until_ready() < 20
    assert not server.is_ready()
    (worker,) = workers(tmp_path)
    wait_for(lambda: not any_running([worker]))


def test_a_server_of_this_host_is_not_asked_by_way_of_a_proxy(
    launch: Callable[..., Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "READY_S", 20.0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with running([launch()]) as (server,):
        assert server.wait_until_ready() < 20


def test_a_server_that_ends_is_started_again_after_a_pause_that_grows(
    launch: Callable[..., Launch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.25)
    told: list[str] = []
    with running([launch()]) as (server,):
        for times in (1, 2):
            wait_for(server.is_ready)
            subprocess.run(
                [sys.executable, "-c", f"import urllib.request as u; u.urlopen('{server.launch.url}/die')"],
                capture_output=True,
                check=False,
            )
            wait_for(lambda times=times: server.watch(told.append) or len(told) == times)  # type: ignore[misc]
            wait_for(lambda times=times: server.watch(told.append) or len(workers(tmp_path)) == times + 1)  # type: ignore[misc]
            wait_for(lambda times=times: not any_running(workers(tmp_path)[times - 1 : times]))  # type: ignore[misc]
    url = server.launch.url
    assert told == [
        f"{url} ended (EngineDeadError: as it was told); it is started again in {pause} s" for pause in ("0", "0")
    ]


def test_a_server_whose_log_is_gone_is_started_again(
    launch: Callable[..., Launch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that cannot be started, as its log has no folder, is tried again: the others play on."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.25)
    (folder := tmp_path / "logs").mkdir()
    told: list[str] = []
    with running([replace(launch(), log=folder / "log")]) as (server,):
        wait_for(server.is_ready)
        (folder / "log").unlink()
        folder.rmdir()
        server.send(signal.SIGKILL)
        wait_for(lambda: server.watch(told.append) or len(told) == 2)  # type: ignore[misc]
        folder.mkdir()
        wait_for(lambda: server.watch(told.append) or len(workers(tmp_path)) == 2)  # type: ignore[misc]
    assert "its log cannot be read" in told[0]
    assert "cannot be started" in told[1]


def test_a_server_that_does_not_start_says_why(launch: Callable[..., Launch]) -> None:
    code = "print('(Worker) ValueError: head size 24 is not supported'); print('EngineDeadError: see above')"
    with (
        pytest.raises(PolicyError, match=r"did not start: ValueError: head size 24 is not supported\. More in"),
        running([launch(code)]) as (server,),
    ):
        server.wait_until_ready()


def test_a_server_that_dies_of_its_first_token_has_not_started(launch: Callable[..., Launch]) -> None:
    code = SERVER.replace("do_POST = do_GET", "def do_POST(self): self.path = '/die'; self.do_GET()")
    with (
        pytest.raises(PolicyError, match="did not start: EngineDeadError: as it was told"),
        running([launch(code)]) as (server,),
    ):
        server.wait_until_ready()


def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path) -> None:
    fake = FakeServer()
    try:
        with (
            pytest.raises(PolicyError, match=rf"no server can listen at {fake.url}.*sampler.urls"),
            running([Launch(fake.url, ["true"], tmp_path / "log")]),
        ):
            pass
    finally:
        fake.die()


def test_nothing_is_left_when_the_one_who_watches_is_killed(launch: Callable[..., Launch], tmp_path: Path) -> None:
    one = launch()
    code = f"""
import time
from pathlib import Path
from policies.samplers.serving.supervisor import Launch, running
with running([Launch({one.url!r}, {list(one.command)!r}, Path({str(one.log)!r}))]) as (server,):
    server.wait_until_ready()
    print("ready", flush=True)
    time.sleep(600)
"""
    watcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "ready\n"
    os.kill(watcher.pid, signal.SIGKILL)
    watcher.wait()
    (worker,) = workers(tmp_path)
    wait_for(lambda: not any_running([worker]))


def test_the_command_says_what_training_needs(tmp_path: Path) -> None:
    command = vllm_command(tmp_path, "http://localhost:9000", "bfloat16", ["--max-model-len", "64"])
    assert command[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    assert options == {
        "--served-model-name": "policy",
        "--generation-config": "vllm",
        "--logprobs-mode": "processed_logprobs",
        "--worker-extension-cls": "policies.samplers.serving.worker_extension.Reload",
        "--uvicorn-log-level": "warning",
        "--model": str(tmp_path),
        "--dtype": "bfloat16",
        "--host": "localhost",
        "--port": "9000",
        "--max-model-len": "64",
    }


def test_the_class_that_servers_import_is_where_the_command_says() -> None:
    from importlib import import_module

    module, _, name = supervisor.OPTIONS["--worker-extension-cls"].rpartition(".")
    assert callable(getattr(import_module(module), name).reload_from)


def test_our_package_is_put_before_another_of_its_name_on_the_path(tmp_path, monkeypatch):
    ours = str(Path(supervisor.__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert supervisor._path() == {}
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "__init__.py").touch()
    assert supervisor._path() == {"PYTHONPATH": os.pathsep.join([ours, str(tmp_path)])}
