"""What docker-compose.yml starts, without Docker: PostgreSQL and MLflow's server on it, on this machine alone.

    make services                           until Ctrl-C; what they keep stays in .services
    python -m tests.services --folder DIR --postgres-port 5432 --mlflow-port 5000

PostgreSQL's programs come from the system (Debian: `apt install postgresql`); as root they run as its user `postgres`.
Tests start and restart the same servers in mid-run.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), default=None)
USER, START_S = "evergreen", 180.0


def free_port() -> int:
    """Find a port of this machine that nobody listens on.

    Below those that Linux gives to connections: a server that is away would find its own taken when it comes back.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port


class Postgres:
    """A PostgreSQL server that asks for its password; what it keeps survives `stop`."""

    def __init__(self, folder: Path, port: int, password: str | None = None) -> None:
        if PROGRAMS is None:
            raise SystemExit("no PostgreSQL server is installed: `apt install postgresql`, or use docker compose")
        self.folder, self.port = folder.absolute(), port
        # PostgreSQL refuses to run as root
        self._as: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._server: subprocess.Popen[bytes] | None = None
        if not (self.folder / "data").is_dir():
            self._make(password or secrets.token_urlsafe(16))

    @property
    def password(self) -> str:
        """As it was when the server was made."""
        return (self.folder / "password").read_text().rstrip("\n")

    @property
    def url(self) -> str:
        """Its address, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    def _make(self, password: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        secret = self.folder / "password"
        secret.touch(0o600)
        secret.write_text(password + "\n")
        if self._as:
            for path in (self.folder, secret):
                shutil.chown(path, "postgres", "postgres")
            self._let_pass()
        self._run(
            "initdb", "-D", "data", "-U", USER, "--auth=scram-sha-256", "--pwfile=password", "--no-sync", "-EUTF8"
        )

    def start(self) -> None:
        """Start it, and return when it answers; its database is made the first time."""
        assert PROGRAMS is not None
        if self._as:
            self._let_pass()
        words = ["-D", "data", "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        with (self.folder / "postgres.log").open("ab") as log:
            self._server = subprocess.Popen(
                [PROGRAMS / "postgres", *words],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        deadline = time.monotonic() + START_S
        ready = [PROGRAMS / "pg_isready", "--host=127.0.0.1", f"--port={self.port}", "--timeout=1"]
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            if self._server.poll() is not None or time.monotonic() > deadline:
                *_, why = (self.folder / "postgres.log").read_text().splitlines() or ["nothing was said"]
                raise SystemExit(f"PostgreSQL did not start: {why} ({self.folder / 'postgres.log'})")
            time.sleep(0.05)
        made = {**os.environ, "PGPASSWORD": self.password}
        where = ["--host=127.0.0.1", f"--port={self.port}", f"--username={USER}"]
        subprocess.run(
            [PROGRAMS / "createdb", *where, USER], env=made, capture_output=True, check=False
        )  # or it is there

    def _let_pass(self) -> None:
        """Let the other user pass to the folder; each time, since another pytest shuts its folder of folders again."""
        for parent in takewhile(lambda one: len(one.parts) > 2, self.folder.parents):
            parent.chmod(parent.stat().st_mode | 0o001)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT cuts all connections, SIGTERM waits for them, SIGKILL is a power cut."""
        if self._server is not None:
            if how is signal.SIGKILL:
                os.killpg(self._server.pid, how)
            else:
                self._server.send_signal(how)
            self._server.wait(60)
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
            self._server = None

    def _run(self, program: str, *words: str) -> None:
        assert PROGRAMS is not None
        try:
            subprocess.run([PROGRAMS / program, *words], cwd=self.folder, check=True, capture_output=True, **self._as)
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr.decode(errors="replace"))
            raise


class MLflow:
    """MLflow's server on a database; its artifacts in a folder."""

    def __init__(self, folder: Path, port: int, database: Postgres) -> None:
        self.folder, self.port, self.database = folder.absolute(), port, database
        self._server: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it is healthy."""
        told = {
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": self.database.url.replace("postgresql:", "postgresql+psycopg:"),
            "PGPASSWORD": self.database.password,
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.folder / "artifacts"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        program = Path(sys.executable).with_name("mlflow")
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self.folder / "mlflow.log").open("ab") as log:
            self._server = subprocess.Popen(
                [program, *words], env=told, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"MLflow did not start; {self.folder / 'mlflow.log'} says why")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it with all its workers."""
        if self._server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(60)
            self._server = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def both(folder: Path, postgres_port: int, mlflow_port: int) -> Iterator[tuple[Postgres, MLflow]]:
    """Have both answer inside the block."""
    postgres = Postgres(folder / "postgres", postgres_port)
    mlflow = MLflow(folder / "mlflow", mlflow_port, postgres)
    try:
        postgres.start()
        mlflow.start()
        yield postgres, mlflow
    finally:
        mlflow.stop()
        postgres.stop()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".services"), help="what they keep")
    parser.add_argument("--postgres-port", type=int, default=5432)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    options = parser.parse_args()
    for port in (options.postgres_port, options.mlflow_port):
        with socket.socket() as taken:
            if taken.connect_ex(("127.0.0.1", port)) == 0:
                parser.error(f"port {port} is in use: say another with --postgres-port or --mlflow-port")
    print("starting PostgreSQL and MLflow: half a minute the first time", flush=True)
    with both(options.folder, options.postgres_port, options.mlflow_port) as (postgres, mlflow):
        print(
            f"PostgreSQL and MLflow answer; what they keep is in {options.folder}. In another shell:\n\n"
            f'  export EVERGREEN_LEDGER_PASSWORD="$(cat {postgres.folder / "password"})"\n'
            f"  evergreen run SPEC --set ledger.url={postgres.url} --set tracker.uri={mlflow.url}\n\n"
            f"MLflow's pages are at {mlflow.url}. Ctrl-C stops both; what they keep stays.",
            flush=True,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping")


if __name__ == "__main__":
    main()
