"""Studies whose runs are tasks of a Ray cluster: two nodes on this machine, one of them lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import RESUMABLE, UserError
from orchestrator.studies import ray_tasks
from orchestrator.studies.ray_tasks import ClusterLost, Head, RayTasks, do_run, resources_of
from orchestrator.studies.run_processes import RunRequest
from orchestrator.studies.runner import StudyCallback, study
from store.lock import run_lock
from tests.integration.runs import ending
from tests.integration.test_ranks import wait_until
from tests.orchestrator.specs import alone
from tests.orchestrator.studies.studies import written_study

SLOW = alone("base", character="slow", steps=6, stages=2)  # .2 s a step: there is time to disturb it
RUNS = ("trial.base.s0", "trial.base.s1")


@pytest.mark.parametrize(
    ("asked", "has_gpus", "cpus", "gpus"),
    [
        ({"threads": 1, "device": "auto", "ranks": 1}, False, 1, 0),
        ({"threads": 4, "device": "auto", "ranks": 2}, True, 8, 2),
        ({"threads": 2, "device": "cpu", "ranks": 1}, True, 2, 0),
        ({"threads": 1, "device": "cuda", "ranks": 4}, False, 4, 4),
    ],
)
def test_a_run_asks_for_what_its_spec_uses(asked: dict[str, Any], has_gpus: bool, cpus: int, gpus: int) -> None:
    assert resources_of({"resources": asked}, has_gpus=has_gpus) == {"CPU": cpus, "GPU": gpus}


def test_without_ray_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'evergreen-rl\[ray\]'"):
        study(written_study(tmp_path), home=tmp_path / "home", on="ray")


def test_an_address_is_of_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="say --on ray with it"):
        study(written_study(tmp_path), home=tmp_path / "home", address="10.0.0.1:6379")


def test_a_node_that_does_not_see_the_home_says_so(tmp_path: Path) -> None:
    request = RunRequest(str(tmp_path / "home"), RUNS[0], str(tmp_path / "home" / "logs" / "log"), {}, {})
    with pytest.raises(RuntimeError, match="does not see the home"):
        do_run(json.dumps(asdict(request)))


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UserError, match=r"--on ray: no cluster at 127\.0\.0\.1:9: "):
        study(written_study(tmp_path), home=tmp_path / "home", on="ray", address="127.0.0.1:9")


@pytest.mark.parametrize("is_of_ray", [False, True])
def test_a_cluster_that_may_want_a_token_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, is_of_ray: bool
) -> None:
    failure = pytest.importorskip("ray.exceptions").RayError if is_of_ray else ConnectionError

    def refuse(**options: Any) -> None:
        raise failure("Failed to connect")

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UserError, match=r"no cluster at head: Failed to connect.*set RAY_AUTH_MODE=token"):
        RayTasks("head")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(UserError, match=r"no cluster at head: Failed to connect") as told:
        RayTasks("head")
    assert "set RAY_AUTH_MODE" not in str(told.value)


def test_room_is_that_of_single_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    nodes = [{"Resources": {"CPU": num}, "Alive": alive} for num, alive in ((2, True), (5, True), (64, False))]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    tasks = object.__new__(RayTasks)
    tasks._has_gpus = False

    def room(threads: int) -> int:
        return tasks.capacity({"resources": {"threads": threads, "device": "cpu", "ranks": 1}})

    assert [room(1), room(2), room(4)] == [7, 3, 1]
    with pytest.raises(UserError, match="a run takes 6 CPU of one node, and the largest has 5 CPU"):
        room(6)


def test_a_run_that_is_asked_to_stop_before_it_begins_does_not_begin(tmp_path: Path) -> None:
    log = tmp_path / "home" / "logs" / "log"
    log.parent.mkdir(parents=True)
    Path(f"{log}.stop").touch()
    assert do_run(json.dumps(asdict(RunRequest(str(tmp_path / "home"), RUNS[0], str(log), {}, {})))) == RESUMABLE


def test_a_run_that_somebody_holds_for_too_long_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_tasks, "LOCK_S", 0.0)
    request, folder = RunRequest(str(tmp_path), RUNS[0], str(tmp_path / "log"), {}, {}), tmp_path / RUNS[0]
    folder.mkdir()
    with run_lock(folder):
        assert do_run(json.dumps(asdict(request))) == RESUMABLE
    assert f"in use by process {os.getpid()}" in (tmp_path / "log").read_text()


def test_a_run_that_waits_for_its_lock_hears_that_it_shall_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, folder = RunRequest(str(tmp_path), RUNS[0], str(tmp_path / "log"), {}, {}), tmp_path / RUNS[0]
    folder.mkdir()

    def look(_: Path) -> str:
        Path(f"{request.log}.stop").touch()
        return "process 1 on elsewhere"

    monkeypatch.setattr(ray_tasks, "holder", look)
    monkeypatch.setattr(ray_tasks, "LOCK_S", 30.0)
    assert do_run(json.dumps(asdict(request))) == RESUMABLE
    assert not (tmp_path / "log").exists()


def test_a_cancelled_task_ends_its_run_and_says_how_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "begun"
    monkeypatch.setattr(
        ray_tasks,
        "CHILD",
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        f"open({str(begun)!r}, 'w').close()\n"
        "time.sleep(60)",
    )

    def cancel(_: float) -> None:
        if begun.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(ray_tasks, "time", SimpleNamespace(sleep=cancel, monotonic=time.monotonic))
    assert do_run(json.dumps(asdict(RunRequest(str(tmp_path), RUNS[0], str(tmp_path / "log"), {}, {})))) == 7


def test_a_run_that_waits_for_room_is_cancelled_and_one_that_goes_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    tasks, cancelled = object.__new__(RayTasks), []
    requests = [RunRequest(str(tmp_path), name, str(tmp_path / f"{name}.txt"), {}, {}) for name in RUNS]
    tasks._requests = {request.name: request for request in requests}
    tasks._tasks, tasks._ended, tasks._asked = {name: f"task of {name}" for name in RUNS}, {}, set()
    tasks._head = Head("127.0.0.1:9")

    def get(task: str) -> int:
        raise exceptions.TaskCancelledError

    monkeypatch.setattr("ray.cancel", cancelled.append)
    monkeypatch.setattr("ray.wait", lambda asked, timeout: (list(set(asked) & set(cancelled)), []))
    monkeypatch.setattr("ray.get", get)
    waits, goes = RUNS
    (tmp_path / goes).mkdir()
    with run_lock(tmp_path / goes):
        for name in RUNS:
            tasks.ask_to_stop(name)
        assert (tmp_path / goes / "stop").exists()
        assert cancelled == [f"task of {waits}"]
        assert [tasks.exit_code(name) for name in RUNS] == [RESUMABLE, None]


def test_a_run_whose_parent_is_gone_ends_before_it_imports_anything_of_weight() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-X", "importtime", "-P", "-c", ray_tasks.CHILD, str(gone.pid)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "environments.scoring.leader" in ended.stderr
    assert "orchestrator" not in ended.stderr


def test_a_head_that_no_longer_answers_ends_the_study_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(ray_tasks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = Head(f"127.0.0.1:{server.getsockname()[1]}")
        now[0] = 100.0
        head.require()
    now[0] = 500.0  # it was not looked at for long, as where this process was held up
    head.require()
    now[0] += ray_tasks.HEAD_S - 1
    head.require()
    now[0] += ray_tasks.LOOK_S
    with pytest.raises(ClusterLost, match=r"head at 127\.0\.0\.1:\d+ does not answer any more") as lost:
        head.require()
    assert lost.value.exit_code == RESUMABLE


def test_machines_do_not_share_a_file_of_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    nodes = [{"NodeManagerAddress": f"10.0.0.{number}", "Alive": True} for number in (1, 2)]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    tasks = object.__new__(RayTasks)
    file, server = "sqlite:////shared/evergreen.db", "postgresql+psycopg://host/runs"
    with pytest.raises(UserError, match=r"2 machines cannot write one SQLite file.*a ledger on PostgreSQL"):
        tasks.require_shared_databases(file, {"type": "none", "uri": None})
    with pytest.raises(UserError, match=r"2 machines cannot write one SQLite file.*an MLflow server"):
        tasks.require_shared_databases(server, {"type": "mlflow", "uri": None})
    tasks.require_shared_databases(server, {"type": "mlflow", "uri": "http://host:5000"})
    nodes[1]["Alive"] = False
    tasks.require_shared_databases(file, {"type": "mlflow", "uri": None})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study on this machine, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert set(study(written_study(folder, spec=SLOW), home=folder / "home").values()) == {"finished"}
    return folder / "home"


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without cores, and two nodes with one each."""
    utils = pytest.importorskip("ray.cluster_utils")
    os.environ.update(ray_tasks.QUIET)
    store = {"object_store_memory": ray_tasks.STORE_BYTES}
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store})
    made.nodes = [made.add_node(num_cpus=1, **store) for _ in range(2)]
    yield made
    made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_node_is_lost_and_its_run_goes_on_elsewhere_to_the_same_end(
    tmp_path: Path, whole: Path, cluster: Any
) -> None:
    class Losing(StudyCallback):
        is_lost = False

        def begin(self, runner: Any) -> None:
            self.runner = runner

        def look(self) -> None:
            if not self.is_lost and all(self.runner.steps_done(name) for name in RUNS):
                cluster.remove_node(cluster.nodes[0], allow_graceful=False)
                self.is_lost = True

    losing = Losing()
    states = study(
        written_study(tmp_path, spec=SLOW), tmp_path / "home", watcher=losing, on="ray", address=cluster.address
    )
    assert losing.is_lost
    assert set(states.values()) == {"finished"}
    for name in RUNS:
        assert ending(tmp_path / "home", name) == ending(whole, name)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_signal_ends_in_checkpoints_and_the_same_command_goes_on(tmp_path: Path, whole: Path) -> None:
    pytest.importorskip("ray")
    file, home = written_study(tmp_path, spec=SLOW), tmp_path / "home"
    command = [str(Path(sys.executable).with_name("evergreen")), "study", str(file), "--home", str(home), "--on", "ray"]
    going = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: all(list(home.glob(f"{name}/checkpoints/*")) for name in RUNS), 90)
        going.send_signal(signal.SIGINT)
        said = going.communicate(timeout=120)[0]
    finally:
        going.kill()
    assert going.returncode == RESUMABLE, said
    assert "--on ray" in said
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in RUNS:
        assert ending(home, name) == ending(whole, name)


@pytest.mark.slow
def test_a_study_that_is_asked_to_stop_does_not_wait_for_room(tmp_path: Path, cluster: Any) -> None:
    ray, log = pytest.importorskip("ray"), tmp_path / "log"
    spec = {"resources": {"threads": 1, "ranks": 1, "device": "cpu"}}
    with RayTasks(cluster.address) as tasks:
        others = [ray.remote(lambda: time.sleep(600)).remote() for _ in cluster.nodes]
        wait_until(lambda: not ray.available_resources().get("CPU"), 60)
        tasks.start(RunRequest(str(tmp_path), RUNS[0], str(log), spec, {}))
        tasks.ask_to_stop(RUNS[0])
        wait_until(lambda: tasks.exit_code(RUNS[0]) == RESUMABLE, 20)
        assert others


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_lost_head_ends_the_study_and_its_runs(tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "HEAD_S", 6.0)

    class Losing(StudyCallback):
        is_lost = False

        def started(self, name: str, attempt: int) -> None:
            if not self.is_lost:
                cluster.head_node.kill_gcs_server()
                self.is_lost = True

    with pytest.raises(ClusterLost):
        study(
            written_study(tmp_path, spec=SLOW), tmp_path / "home", watcher=Losing(), on="ray", address=cluster.address
        )


@pytest.mark.slow
def test_what_no_node_has_room_for_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    start = time.monotonic()
    with RayTasks() as tasks, pytest.raises(UserError, match="a run takes 10000 CPU of one node, and the largest has"):
        tasks.capacity({"resources": {"threads": 10_000, "device": "cpu", "ranks": 1}})
    assert time.monotonic() - start < 60
