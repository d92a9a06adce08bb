"""The server of the examples, as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.orchestrator.specs import REPOSITORY


@contextmanager
def example_server() -> Iterator[str]:
    """Serve `examples/env_server.py` at a free port; its URL."""
    command = [sys.executable, str(REPOSITORY / "examples" / "env_server.py"), "0"]
    alive = {**os.environ, "PYTHONUNBUFFERED": "1"}  # its line comes at once, though to no terminal
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=alive) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()  # "======== Running on http://127.0.0.1:PORT ========"
            yield line.split()[3]
        finally:
            server.terminate()
