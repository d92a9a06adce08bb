"""What `doctor` finds in homes that were broken on purpose, and that it leaves them as they are."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

import orchestrator
from orchestrator.errors import UserError
from orchestrator.package_names import version_of
from orchestrator.runs import diagnosis, provenance, tracker_process
from orchestrator.runs.catalog import opened
from store.identity import REMOVING
from store.tracker.sinks import missing
from tests.conftest import Evergreen
from tests.integration.runs import newest_checkpoint
from tests.orchestrator.specs import alone, small
from tests.store.tracker.beside import in_tensorboard

Disk = namedtuple("Disk", "total used free")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run that was stopped and one that is finished; tests copy it."""
    home = tmp_path_factory.mktemp("doctor")
    orchestrator.run(alone("done"), home=home)
    orchestrator.run(alone("cut"), home=home, until_step=5)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def found(evergreen: Evergreen, home: Path, *words: object) -> list[dict[str, Any]]:
    result = evergreen("doctor", *words, "--home", home, "--json")
    listed: list[dict[str, Any]] = json.loads(result.stdout)
    assert result.exit_code == (2 if any(one["severity"] == "error" for one in listed) else 0)
    return listed


def the_one(listed: list[dict[str, Any]], severity: str = "error") -> tuple[str, str, str]:
    (only,) = [one for one in listed if one["severity"] == severity]
    return only["about"], only["text"], only["remedy"]


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_home_in_order_has_nothing_wrong_and_a_stopped_run_is_a_note(evergreen: Evergreen, home: Path) -> None:
    before = content(home)
    assert the_one(found(evergreen, home), "note")[::2] == ("cut", "`evergreen resume cut` goes on with it")
    result = evergreen("doctor", "done", "--home", home)
    assert (result.exit_code, result.stdout) == (0, "nothing is wrong\n")
    assert "1 note" in evergreen("doctor", "--home", home).stdout
    assert {path: sha for path, sha in content(home).items() if not path.endswith(("-shm", "-wal"))} == {
        path: sha for path, sha in before.items() if not path.endswith(("-shm", "-wal"))
    }


def test_a_changed_checkpoint_is_an_error_and_the_remedy_names_the_one_before(evergreen: Evergreen, home: Path) -> None:
    file = newest_checkpoint(home, "cut") / "weights" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    assert the_one(found(evergreen, home))[2] == (
        "`evergreen resume cut` passes it over and looks for an older one (`evergreen doctor cut` says which are whole)"
    ), "the older ones were not read"
    about, text, remedy = the_one(found(evergreen, home, "cut"))
    assert about == "cut"
    assert f"{file} has changed since it was written" in text
    with opened(home, "cut") as (_, ledger):
        step = ledger.reading.checkpoints("cut")[1].step
    assert remedy == f"`evergreen resume cut` passes it over and takes that of step {step}"
    told: list[str] = []
    outcome = orchestrator.resume("cut", home=home, watcher=Hearing(told))
    assert outcome.status == "finished"
    assert any(f"checkpoint of step {step}" in text for text in told), "as the remedy said"


def test_where_no_checkpoint_is_whole_none_is_promised(evergreen: Evergreen, home: Path) -> None:
    shutil.rmtree(home / "cut" / "checkpoints")
    remedies = {one["remedy"] for one in found(evergreen, home, "cut") if one["severity"] == "error"}
    assert remedies == {"`evergreen resume cut` passes it over and begins at step 0"}


def test_a_fork_without_a_whole_checkpoint_is_not_promised_to_go_on(evergreen: Evergreen, home: Path) -> None:
    orchestrator.fork("cut", 1, home=home, overrides=["name=child"], until_step=4)
    for one in (home / "child" / "checkpoints").iterdir():
        (one / "manifest.json").unlink()
    remedies = {one["remedy"] for one in found(evergreen, home, "child") if one["severity"] == "error"}
    command = f"`evergreen fork cut --stage 1 --spec {home / 'child' / 'spec.yaml'}` begins it anew, under another name"
    assert remedies == {f"no other is whole: {command}"}
    with pytest.raises(UserError) as refused:
        orchestrator.resume("child", home=home)
    assert str(refused.value) == f"child has no whole checkpoint left: {command}", "as doctor says"
    words = re.findall(r"`evergreen ([^`]*)`", command)[0].split()
    assert evergreen(*words, "--home", home).exit_code == 0
    assert (home / "child-2").is_dir()


class Hearing(orchestrator.Callback):
    def __init__(self, told: list[str]) -> None:
        self.told = told

    def event(self, texts: Any) -> None:
        self.told += texts


def test_older_checkpoints_are_read_where_the_run_is_named(evergreen: Evergreen, home: Path) -> None:
    with opened(home, "done") as (_, ledger):
        oldest = ledger.reading.checkpoints("done")[-1]
    shutil.rmtree(home / "done" / oldest.folder)
    assert [one["about"] for one in found(evergreen, home) if one["severity"] == "error"] == []
    about, text, remedy = the_one(found(evergreen, home, "done"))
    assert (about, f"checkpoint of step {oldest.step}" in text) == ("done", True)
    assert "`evergreen fork done --stage N` goes on from one that holds" in remedy


def test_a_killed_run_a_stray_and_a_half_removed_one_come_with_their_commands(evergreen: Evergreen, home: Path) -> None:
    with opened(home) as (_, ledger):
        ledger.remove_run(ledger.reading.run("done").uid)
    (home / "cut" / REMOVING).write_text("")
    remedies = {one["about"]: one["remedy"] for one in found(evergreen, home)}
    assert remedies["done"] == "`evergreen resume done` enters it again"
    assert remedies["cut"] == "`evergreen rm cut` removes the rest"


def test_a_killed_run_is_a_warning(evergreen: Evergreen, tmp_path: Path) -> None:
    class Kill(orchestrator.Callback):
        def step(self, at: Any, record: Any) -> None:
            raise SystemExit(9)

    with pytest.raises(SystemExit):
        orchestrator.run(alone("gone"), home=tmp_path, watcher=Kill())
    assert the_one(found(evergreen, tmp_path), "warning")[1:] == (
        "was killed",
        "`evergreen resume gone` goes on with it",
    )


@pytest.mark.parametrize("name", ["evergreen.db", "mlflow.db"])
def test_a_damaged_database_is_told_apart_from_a_good_one(evergreen: Evergreen, home: Path, name: str) -> None:
    file = home / name
    if name == "mlflow.db":
        shutil.copy(home / "evergreen.db", file)
    assert diagnosis.damage(file) is None
    data = bytearray(file.read_bytes())
    for page in range(8, len(data) // 4096, 2):
        data[page * 4096 : page * 4096 + 400] = b"\xee" * 400
    file.write_bytes(data)
    (wrong, *_) = [one for one in found(evergreen, home) if one["about"] == name]
    assert wrong["severity"] == "error"
    assert f"the database {file} is damaged" in wrong["text"]
    assert "put it aside" in wrong["remedy"]


def test_a_ledger_that_is_no_database_is_an_error_in_words(evergreen: Evergreen, home: Path) -> None:
    (home / "evergreen.db").write_text("not a database, but long enough to be taken for one" * 20)
    assert {one["about"] for one in found(evergreen, home) if one["severity"] == "error"} == {"evergreen.db", "ledger"}


def test_an_edited_spec_is_told(evergreen: Evergreen, home: Path) -> None:
    spec = home / "done" / "spec.yaml"
    spec.write_text(spec.read_text().replace("group_size: 2", "group_size: 4"))
    about, text, _ = the_one(found(evergreen, home), "warning")
    assert about == "done"
    assert "step.group_size is 2, not 4" in text


def test_a_host_that_cannot_go_on_as_before_is_told(
    evergreen: Evergreen, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "version_of", lambda name: "9.9" if name == "torch" else version_of(name))
    about, text, _ = the_one(found(evergreen, home), "warning")
    assert about == "cut", "a finished run needs no host"
    assert "torch was" in text
    assert "is 9.9" in text
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Disk(10, 9, 1))
    about, text, remedy = the_one(found(evergreen, home))
    assert (about, "evergreen prune" in remedy, "1 B of disk are free" in text) == ("cut", True, True)


def test_what_engines_need_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "NVIDIA", tmp_path)
    monkeypatch.setattr(
        diagnosis, "silence", lambda url, directly=False: None if "good" in url else "connection refused"
    )
    monkeypatch.setattr(diagnosis, "find_spec", lambda name: None)
    servers = {"type": "vllm_server", "urls": ["http://good:1", "http://bad:1"]}
    told = list(diagnosis._host("run", {}, {"resources": {"device": "cuda"}, "sampler": servers}))
    assert [one.severity for one in told] == ["error", "error"]
    assert "shows none" in told[0].text
    assert "http://bad:1 does not answer: connection refused" in told[1].text
    (tmp_path / "nvidia0").touch()
    (only,) = diagnosis._host("run", {}, {"resources": {"device": "cuda"}, "sampler": {"type": "vllm"}})
    assert "vLLM, which is not installed" in only.text


@pytest.fixture(scope="module")
def sent(evergreen: Evergreen, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with the stopped run finished and in MLflow."""
    home = Path(shutil.copytree(made, tmp_path_factory.mktemp("sent") / "home"))
    assert orchestrator.resume("cut", ["tracker=mlflow"], home=home).status == "finished"
    assert evergreen("ui", "cut", "--catch-up-only", "--home", home).exit_code == 0
    return home


@pytest.fixture
def tracked(sent: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sent, tmp_path / "tracked"))


@pytest.mark.slow
def test_a_record_that_mlflow_lost_is_behind(evergreen: Evergreen, tracked: Path) -> None:
    home = tracked
    assert found(evergreen, home, "cut") == []
    (home / "mlflow.db").unlink()
    about, text, remedy = the_one(found(evergreen, home), "warning")
    assert (about, text) == ("cut", "MLflow's record lacks 6 steps, and of the boundaries 3")
    assert remedy == "`evergreen ui cut --catch-up-only` brings it up to date"


@pytest.mark.skipif(missing("tensorboard") is not None, reason="needs tensorboard")
@pytest.mark.slow
def test_a_run_has_event_files_when_it_returns_and_lost_ones_are_told_and_written_anew(
    evergreen: Evergreen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_process, "WAIT_S", 200.0)
    spec = {**alone(), "tracker": "tensorboard"}
    assert orchestrator.run(spec, home=tmp_path).status == "finished"
    sent = in_tensorboard(tmp_path, "alone")
    assert sent["train/loss"][-1][0] == 6
    assert not list(tmp_path.glob("mlflow*"))
    assert found(evergreen, tmp_path, "alone") == []
    (tmp_path / "alone" / "tensorboard.json").unlink()
    about, text, remedy = the_one(found(evergreen, tmp_path), "warning")
    assert (about, text) == ("alone", "TensorBoard's record lacks 6 steps, and of the boundaries 3")
    assert remedy == "`evergreen ui alone --catch-up-only` brings it up to date"
    result = evergreen("ui", "alone", "--catch-up-only", "--home", tmp_path)
    assert result.exit_code == 0
    assert "alone: TensorBoard: " in result.stdout
    assert "MLflow" not in result.stdout
    assert found(evergreen, tmp_path, "alone") == []
    assert in_tensorboard(tmp_path, "alone") == sent
    assert evergreen("rm", "alone", "--yes", "--home", tmp_path).exit_code == 0
    assert not (tmp_path / "tensorboard" / "alone").exists()


def test_a_damaged_warm_start_is_told(evergreen: Evergreen, tmp_path: Path) -> None:
    orchestrator.run(small("begun", curriculum={"stages": 1, "stage": {"steps": 1}}), home=tmp_path)
    (entry,) = (tmp_path / "warm_starts").glob("[!.]*")
    assert found(evergreen, tmp_path) == []
    file = entry / "weights" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    about, text, remedy = the_one(found(evergreen, tmp_path), "warning")
    assert (about, str(file) in text, remedy) == (
        "warm start",
        True,
        "the next run that begins with it makes it again",
    )


class Tracking(BaseHTTPRequestHandler):
    """MLflow's server as far as `doctor` asks it; `sent` is the run's cursor, None: there is no such run."""

    sent: str | None = None
    has_moved = False
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        self._say({"experiment": {"experiment_id": "7"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.has_moved:
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        assert body["experiment_ids"] == ["7"]
        assert body["filter"].startswith("tags.`evergreen.run_uid` = '")
        tags = [{"key": "evergreen.cursor", "value": self.sent}]
        self._say({"runs": [{"info": {}, "data": {"tags": tags}}]} if self.sent else {})

    def _say(self, what: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(what).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_s_record_is_compared_with_the_ledger(
    evergreen: Evergreen, tracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tracked
    with sqlite3.connect(home / "mlflow.db") as database:
        (whole,) = database.execute("SELECT value FROM tags WHERE key = 'evergreen.cursor'").fetchone()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    made = HTTPServer(("127.0.0.1", 0), Tracking)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{made.server_port}"
    monkeypatch.setattr(diagnosis, "job_of", partial(_elsewhere, url, diagnosis.job_of))
    try:
        monkeypatch.setattr(Tracking, "sent", whole)
        assert found(evergreen, home, "cut") == []
        monkeypatch.setattr(Tracking, "sent", None)
        about, text, remedy = the_one(found(evergreen, home), "warning")
        assert (about, text) == ("cut", "MLflow's record lacks 6 steps, and of the boundaries 3")
        assert remedy == "`evergreen ui cut --catch-up-only` brings it up to date"
        monkeypatch.setattr(Tracking, "sent", "nonsense")
        assert {one["severity"] for one in found(evergreen, home)} <= {"note", "warning"}
        monkeypatch.setattr(Tracking, "has_moved", True)
        about, text, _ = the_one(found(evergreen, home), "note")
        assert about == "cut"
        assert text.endswith("does not say how far its record goes: HTTP Error 302: Found")
    finally:
        made.shutdown()
        made.server_close()
    assert ("/api/2.0/mlflow/experiments/get-by-name?experiment_name=evergreen", "Basic bWU6c2VjcmV0") in Tracking.asked


def _elsewhere(url: str, job_of: Any, *of: Any) -> Any:
    """The job of a run whose record is on this server."""
    job = job_of(*of)
    return job and replace(job, target=replace(job.target, uri=url))


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.removeprefix("/")))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    made = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_a_server_that_answers_is_there_also_with_a_refusal(server: str) -> None:
    assert [diagnosis.silence(f"{server}/{code}") for code in (200, 401, 404)] == [None] * 3
    assert diagnosis.silence(f"{server}/503") == "HTTP 503"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    assert "refused" in str(diagnosis.silence(f"http://127.0.0.1:{closed}/health"))
    assert diagnosis.silence("no url") is not None


def test_servers_of_a_run_are_asked_as_it_asks_them_without_a_proxy(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert diagnosis.silence(f"{server}/200", directly=True) is None
    assert diagnosis.silence(f"{server}/200") is not None, "as MLflow's client does"


def test_a_run_that_is_not_there_is_the_users_mistake(evergreen: Evergreen, home: Path) -> None:
    result = evergreen("doctor", "dome", "--home", home)
    assert result.exit_code == 2
    assert "there is no run 'dome'" in result.stderr


def test_a_home_that_cannot_be_written_to_is_one_error_and_its_databases_are_read(
    evergreen: Evergreen, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode, **_: not mode & os.W_OK)
    about, text, _ = the_one(found(evergreen, home))
    assert (about, "cannot be written to" in text) == ("disk", True)
