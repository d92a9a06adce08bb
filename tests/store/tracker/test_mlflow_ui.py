from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from store.tracker import mlflow_ui
from store.tracker.record import Target

# answers as MLflow's server does when it is healthy, on the port that it is told
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_the_server_is_not_asked_by_way_of_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(target: Target, host: str, port: int, log: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SERVER, str(port)], start_new_session=True)

    monkeypatch.setattr(mlflow_ui, "_start", start)
    monkeypatch.setattr(mlflow_ui, "READY_S", 20.0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mlflow_ui.served(Target("sqlite:///x.db", "e", None), "127.0.0.1", port, tmp_path / "log") as url:
        assert url.endswith(f":{port}")
