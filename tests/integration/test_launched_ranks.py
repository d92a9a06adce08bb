"""Runs whose processes a launcher started: torchrun, on one machine or as if on two, and SLURM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.errors import KILLED, RESUMABLE, YOUR_MISTAKE
from orchestrator.runs.cluster_jobs import MEETING_PORT, WORKSPACE, ClusterJob
from orchestrator.runs.ranks import START
from policies import meeting, ranks
from policies.errors import PolicyError, RankLost
from policies.launchers import LaunchedProcess, hold_signals
from policies.ranks import Ranks
from tests.integration import stalled_rank
from tests.integration.forked_followers import forked_followers
from tests.integration.processes import Process, evergreen
from tests.integration.runs import Ending, ending, newest_checkpoint, told
from tests.integration.test_ranks import followers_of, kill_when_noted, spec, wait_until
from tests.linux_processes import any_running, children_of
from tests.orchestrator.runs.slurm_commands import install, program
from tests.orchestrator.specs import REPOSITORY, alone, written
from tests.shares import slow

EVERGREEN = str(Path(sys.executable).with_name("evergreen"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A spec that says nothing of ranks."""
    given = spec()
    del given["resources"]["ranks"]
    path = tmp_path / "ranks.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ending:
    """The same run on two ranks of one machine, which it starts itself."""
    home = tmp_path_factory.mktemp("whole")
    with forked_followers():
        assert orchestrator.run(spec(), home=home).status == "finished"
    return ending(home, "ranks")


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@contextmanager
def started(command: list[str], more: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **(more or {})}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def start_as_slurm_does(
    folder: Path, *words: object, note: Path | None = None, call: Callable[..., None] | None = None
) -> list[Process]:
    """Start two processes with the variables that SLURM gives them; with a note, the second stops in an update."""
    port, both = free_port(), []
    for rank in ("0", "1"):
        (folder / rank).mkdir(parents=True)
        variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "SLURM_PROCID": rank, "SLURM_NTASKS": "2"}
        own = note if rank == "1" else None
        both.append(Process(folder / rank, variables, own, *words, call=call or evergreen_with))
    return both


def evergreen_with(variables: dict[str, str], note: Path | None, *words: object) -> None:
    os.environ.update(variables, GLOO_SOCKET_IFNAME="lo")
    if note is not None:
        stalled_rank.stall("update", note)
    evergreen(*words)


def failing_in_update(error: BaseException, variables: dict[str, str], *given: Any) -> None:
    """Be a process of which rank 0 fails in mid-update; who hears nothing waits for less than in a run."""
    ranks.HEARD = timedelta(seconds=15)
    if variables["SLURM_PROCID"] == "0":
        stalled_rank.in_update(Path(), then=partial(stalled_rank.fail, error=error))
    evergreen_with(variables, *given)


def torchrun(*words: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--no-python", *words]


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"RANK": "1", "WORLD_SIZE": "2"}, None),  # nowhere to meet
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1", "RANK": "0", "WORLD_SIZE": "1"}, None),
        (
            {"MASTER_ADDR": "a", "MASTER_PORT": "1", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"},
            LaunchedProcess(5, 8, 1),
        ),
        (
            {"MASTER_ADDR": "a", "MASTER_PORT": "1", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"},
            LaunchedProcess(3, 4, 1),
        ),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1", "SLURM_NTASKS": "4"}, None),  # a batch script's shell
    ],
)
def test_a_process_knows_who_it_is(environment: dict[str, str], found: LaunchedProcess | None) -> None:
    assert LaunchedProcess.from_environment(environment) == found


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "many")])
def test_numbers_of_no_process_are_refused(rank: str, size: str) -> None:
    environment = {"MASTER_ADDR": "a", "MASTER_PORT": "1", "RANK": rank, "WORLD_SIZE": size}
    with pytest.raises(PolicyError, match="is no process of a launcher"):
        LaunchedProcess.from_environment(environment)


def test_processes_of_one_srun_that_have_nowhere_to_meet_are_refused() -> None:
    """They would be as many runs of one seed."""
    environment = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}
    with pytest.raises(
        PolicyError, match=r"`srun` started 2 processes of this .*: to be ranks of one they need MASTER_ADDR"
    ):
        LaunchedProcess.from_environment(environment)
    assert LaunchedProcess.from_environment(environment | {"SLURM_STEP_NUM_TASKS": "1"}) is None


@pytest.mark.parametrize("port", ["29500tcp", "0", "70000"])
def test_a_place_to_meet_that_is_none_is_refused(port: str) -> None:
    environment = {"MASTER_ADDR": "a", "MASTER_PORT": port, "RANK": "0", "WORLD_SIZE": "2"}
    with pytest.raises(PolicyError, match=f"MASTER_PORT={port} is no port"):
        LaunchedProcess.from_environment(environment)


@pytest.mark.slow
def test_processes_of_slurm_do_what_one_machine_does_and_all_end_with_it(
    tmp_path: Path, file: Path, whole: Ending
) -> None:
    home = tmp_path / "home"
    first, second = start_as_slurm_does(tmp_path, "run", file, "--home", home)
    (exit_code, said), (followed, _) = first.end(), second.end()
    assert (exit_code, followed) == (0, 0), said
    assert ending(home, "ranks") == whole
    assert not (home / "ranks-2").exists()
    assert [event for event in told(home, "ranks")["events"] if "rank" in event["text"]] == []
    assert not list(home.glob(f"ranks/{START}*"))


def test_a_run_and_its_baseline_are_done_by_the_same_processes(tmp_path: Path) -> None:
    """The second run was told processes that were still at the first: "rank 0 tells 'begin', which is not known"."""
    resources = {"search_path": str(REPOSITORY)}
    given = {**alone("twin"), "baseline": {"objective": "grpo"}, "resources": resources}
    first, second = start_as_slurm_does(tmp_path, "run", written(tmp_path, given), "--home", tmp_path / "home")
    (exit_code, said), (followed, said_too) = first.end(), second.end()
    assert (exit_code, followed) == (0, 0), said + said_too
    assert [told(tmp_path / "home", name)["status"] for name in ("twin", "twin-grpo")] == ["finished"] * 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes as Linux lists them")
def test_a_launched_rank_that_is_killed_in_mid_update_takes_all_along_and_the_same_command_ends_the_same(
    tmp_path: Path, file: Path, whole: Ending
) -> None:
    words = ("run", file, "--home", tmp_path / "home", "--resume-if-there")
    both = start_as_slurm_does(tmp_path / "killed", *words, note=tmp_path / "note")
    try:
        kill_when_noted(tmp_path / "note", *both)
    finally:
        for one in both:
            if one.is_going():
                one.signal(signal.SIGKILL)
    (exit_code, said), (followed, _) = (one.end() for one in both)
    assert exit_code == RESUMABLE, "so that whoever starts jobs again starts this one"
    assert followed == -signal.SIGKILL
    assert "a rank has ended, or cannot be reached" in said
    ended = [one.end() for one in start_as_slurm_does(tmp_path / "resumed", *words)]
    assert [exit_code for exit_code, _ in ended] == [0, 0], ended
    assert ending(tmp_path / "home", "ranks") == whole


@pytest.mark.parametrize(
    ("error", "ends_with", "says"),
    # raised in a file that is not ours, as a user's own part does
    [(RuntimeError("no room"), YOUR_MISTAKE, "RuntimeError: no room"), slow((KeyboardInterrupt(), KILLED, "killed"))],
)
def test_rank_0_that_fails_alone_in_mid_update_ends_at_once_and_the_others_alike(
    tmp_path: Path, error: BaseException, ends_with: int, says: str
) -> None:
    """It told them the end, which they do not hear while they wait for it in the update: ten minutes."""
    given = {**alone("fails", steps=3), "resources": {"search_path": str(REPOSITORY)}}
    words = ("run", written(tmp_path, given), "--home", tmp_path / "home")
    first, second = start_as_slurm_does(tmp_path, *words, call=partial(failing_in_update, error))
    (exit_code, said), (followed, said_too) = first.end(), second.end()
    assert exit_code == ends_with, said
    assert says in said
    assert followed == ends_with, said_too
    assert said_too.strip() == "", "what there is to say rank 0 says"


@pytest.mark.slow
def test_a_signal_that_another_machine_is_sent_is_heard_by_rank_0(tmp_path: Path, file: Path, whole: Ending) -> None:
    """Its node is needed: the run saves, and all of its processes say that they are to be started again."""
    home = tmp_path / "home"
    words = ("run", file, "--home", home, "--resume-if-there", "--set", "checkpoint.every_steps=0")
    first, second = start_as_slurm_does(tmp_path / "signalled", *words)
    wait_until(lambda: list(home.glob("ranks/checkpoints/*/manifest.json")) or not first.is_going(), 120)
    second.signal(signal.SIGTERM)
    (exit_code, said), (followed, _) = first.end(), second.end()
    assert (exit_code, followed) == (RESUMABLE, RESUMABLE), said
    assert "stopped" in said
    ended = [one.end() for one in start_as_slurm_does(tmp_path / "resumed", *words)]
    assert [exit_code for exit_code, _ in ended] == [0, 0], ended
    assert ending(home, "ranks").weights == whole.weights


def test_who_waits_for_processes_that_never_come_says_so_and_hears_a_signal(tmp_path: Path, file: Path) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "RANK": "0", "WORLD_SIZE": "2"}
    alone = Process(tmp_path, place, None, "run", file, "--home", tmp_path / "home", call=leaving_at_once)
    try:
        waits = "rank 0 of 2 waits for the launcher's other processes"
        wait_until(lambda: alone.output.exists() and waits in alone.output.read_text())
        alone.signal(signal.SIGTERM)
        exit_code, said = alone.end()
    finally:
        if alone.is_going():
            alone.signal(signal.SIGKILL)
    assert exit_code == 128 + signal.SIGTERM
    assert "Traceback" not in said


def leaving_at_once(*given: Any) -> None:
    meeting.SAID_S, meeting.STAY_S = 0.0, 0.0
    evergreen_with(*given)


def saying_so_at_once(*given: Any) -> None:
    meeting.SAID_S = 0.0
    evergreen_with(*given)


def signalled_at_its_start(*given: Any) -> None:
    """Be the command, sent a signal when it has only begun to import what it needs."""
    from orchestrator.cli import run

    def hold() -> None:
        hold_signals()
        signal.raise_signal(signal.SIGTERM)

    run.hold_signals = hold
    evergreen_with(*given)


@contextmanager
def meeting_of_three(folder: Path, file: Path) -> Iterator[Callable[..., Process]]:
    """Give what starts one of three processes; all end with the block."""
    place, begun = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "3"}, list[Process]()

    def start(rank: int, call: Callable[..., None] = saying_so_at_once) -> Process:
        own = folder / str(rank)
        own.mkdir()
        begun.append(
            Process(own, {**place, "RANK": str(rank)}, None, "run", file, "--home", folder / "home", call=call)
        )
        return begun[-1]

    try:
        yield start
    finally:
        for one in begun:
            if one.is_going():
                one.signal(signal.SIGKILL)


def wait_for_its_wait(*begun: Process) -> None:
    def waits(one: Process) -> bool:
        return one.output.exists() and "waits for" in one.output.read_text()

    wait_until(lambda: all(waits(one) or not one.is_going() for one in begun))


LEFT = "rank 1 has left 127.0.0.1:"


def test_who_leaves_while_others_are_to_come_takes_all_along_at_once(tmp_path: Path, file: Path) -> None:
    """It counted as there: the others went on without it, deaf to signals, to an error of torch after half an hour."""
    with meeting_of_three(tmp_path, file) as start:
        second = start(1)
        wait_for_its_wait(second)
        first = start(0)
        wait_for_its_wait(first)
        time.sleep(1)  # both have met
        second.signal(signal.SIGTERM)
        assert second.end()[0] == 128 + signal.SIGTERM
        third, begun_at = start(2), time.monotonic()
        ended = [first.end(), third.end()]
    assert time.monotonic() - begun_at < 20
    for exit_code, said in ended:
        assert exit_code == RESUMABLE, said
        assert LEFT in said
        assert "Traceback" not in said
    for one in (first, second, third):
        assert "c10d" not in one.output.read_text(), "what torch says of every look"


def test_a_process_that_is_signalled_before_it_comes_still_tells_the_others(tmp_path: Path, file: Path) -> None:
    with meeting_of_three(tmp_path, file) as start:
        first = start(0)
        wait_for_its_wait(first)
        second, third = start(1, signalled_at_its_start), start(2)
        assert second.end()[0] == 128 + signal.SIGTERM
        for exit_code, said in (first.end(), third.end()):
            assert exit_code == RESUMABLE, said
            assert LEFT in said


def test_a_meeting_whose_first_process_is_killed_is_over(tmp_path: Path, file: Path) -> None:
    """It has the store: the others went on asking it for half an hour."""
    with meeting_of_three(tmp_path, file) as start:
        first, second = start(0), start(1)
        wait_for_its_wait(first, second)
        time.sleep(1)  # both have met
        first.signal(signal.SIGKILL)
        exit_code, said = second.end()
    assert exit_code == RESUMABLE, said
    assert "rank 0 has left 127.0.0.1:" in said
    assert "Traceback" not in said


def test_signals_are_heard_where_one_was_killed_that_had_come(tmp_path: Path, file: Path) -> None:
    with meeting_of_three(tmp_path, file) as start:
        first, second = start(0, leaving_at_once), start(1)
        wait_for_its_wait(first, second)
        time.sleep(1)  # both have met
        second.signal(signal.SIGKILL)
        third = start(2)
        wait_for_its_wait(third)
        time.sleep(1)  # all have come, and one is not there any more
        third.signal(signal.SIGTERM)
        assert third.end()[0] == 128 + signal.SIGTERM
        assert first.end()[0] == RESUMABLE


def test_processes_that_never_come_are_lost_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(meeting, "MEET_S", 0.3)
    monkeypatch.setattr(meeting, "STAY_S", 0.0)
    with pytest.raises(RankLost, match="rank 0 of 2: not all processes of the launcher came to"):
        Ranks.join_launched(LaunchedProcess(0, 2, 0))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        slow((["--set", "step.groups=none"], "step.groups")),
        (["--ranks", "3"], "--ranks 3, but the launcher started 2 processes"),
        slow((["--set", "resources.replicas=3"], "2 ranks cannot be 3 replicas")),
    ],
)
def test_a_mistake_is_told_by_rank_0_and_nobody_waits(tmp_path: Path, file: Path, words: list[str], says: str) -> None:
    first, second = start_as_slurm_does(tmp_path, "run", file, "--home", tmp_path / "home", *words)
    (exit_code, said), (followed, said_too) = first.end(), second.end()
    assert exit_code == YOUR_MISTAKE, said
    assert says in said
    assert followed == YOUR_MISTAKE, said_too


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_agents_of_torchrun_do_what_one_machine_does(tmp_path: Path, file: Path, whole: Ending) -> None:
    """They do what the pods of a job of Kubernetes are told."""
    home, port = tmp_path / "home", free_port()
    job = ClusterJob("ranks", gpus=1, cpus=1, memory_gib=1, hours=1, restarts=0, nodes=2)
    *_, batch = yaml.safe_load_all(job.kubernetes("", "image", "claim"))
    (container,) = batch["spec"]["template"]["spec"]["containers"]
    here = {
        "ranks-0.ranks": "127.0.0.1",
        str(MEETING_PORT): port,
        "evergreen": EVERGREEN,
        "/spec/ranks.yaml": str(file),
        f"{WORKSPACE}/runs": str(home),
    }
    words = [here.get(word, word) for word in container["command"][1:-2]]  # the folder of the spec's files stays

    def agent(node: int) -> list[str]:
        own = [word.replace("$(JOB_COMPLETION_INDEX)", str(node)) for word in words]
        return [sys.executable, "-m", "torch.distributed.run", *own]

    for _ in range(2):  # the second finds it finished
        with started(agent(0)) as first, started(agent(1)) as second:
            said, followed = first.communicate(timeout=250)[0], second.communicate(timeout=60)[0]
        assert first.returncode == 0, said
        assert second.returncode == 0, followed
        assert ending(home, "ranks") == whole


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["SIGTERM to torchrun", "SIGKILL of a follower"])
def test_what_ends_a_launched_run_is_gone_on_with(tmp_path: Path, file: Path, whole: Ending, how: str) -> None:
    home = tmp_path / "home"
    command = torchrun(
        *("--nproc-per-node", "2", "--master-port", free_port()),
        *(EVERGREEN, "run", str(file), "--home", str(home), "--resume-if-there"),
    )
    with started(command) as agent:
        wait_until(lambda: list(home.glob("ranks/checkpoints/step-00000[2-6]*/manifest.json")), 120)
        workers = children_of(agent.pid)
        assert len(workers) == 2
        if how == "SIGTERM to torchrun":
            agent.terminate()
        else:
            os.kill(max(workers), signal.SIGKILL)
        start = time.monotonic()
        said = agent.communicate(timeout=60)[0]
        wait_until(lambda: not any_running(workers), 10)
        assert time.monotonic() - start < 15
    if how == "SIGTERM to torchrun":
        assert "stopped" in said
    assert followers_of(agent.pid) == []
    with started(command) as agent:
        said = agent.communicate(timeout=250)[0]
    assert agent.returncode == 0, said
    assert ending(home, "ranks") == whole


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["SIGTERM to the job", "SIGKILL of a rank"])
def test_a_job_of_slurm_on_several_machines_is_queued_again_and_ends_as_if_undisturbed(
    tmp_path: Path, file: Path, whole: Ending, how: str
) -> None:
    home, place = tmp_path / "home", install(tmp_path)
    job = ClusterJob("ranks", gpus=1, cpus=2, memory_gib=1, hours=1, restarts=1, nodes=2)
    script = [str(program(tmp_path, "job", job.slurm(Path(EVERGREEN), file, home)))]
    given = {"SLURM_JOB_ID": free_job(), "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "a[1-2]"}
    given["PATH"] = f"{place}:{os.environ['PATH']}"
    with started(script, given) as batch:
        wait_until(lambda: list(home.glob("ranks/checkpoints/step-00000[2-6]*/manifest.json")), 120)
        if how == "SIGTERM to the job":
            batch.terminate()
        else:
            os.kill(int((tmp_path / "tasks").read_text().split()[1]), signal.SIGKILL)
        said = batch.communicate(timeout=100)[0]
    assert batch.returncode == (RESUMABLE if how == "SIGTERM to the job" else 128 + signal.SIGKILL), said
    assert (tmp_path / "scontrol").read_text() == f"requeue {given['SLURM_JOB_ID']}\n"
    story = told(home, "ranks")
    assert story["status"] == "stopped"
    if how == "SIGTERM to the job":
        assert newest_checkpoint(home, "ranks").name.startswith(f"step-{story['num_steps']:06}"), "it has saved"
    with started(script, {**given, "SLURM_RESTART_COUNT": "1"}) as batch:
        said = batch.communicate(timeout=250)[0]
    assert batch.returncode == 0, said
    assert ending(home, "ranks") == whole


def free_job() -> str:
    """Number a job whose ranks find their port free."""
    for number in range(os.getpid(), os.getpid() + 100):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", 20_000 + number % 20_000))
            return str(number)
    raise AssertionError("no port is free")


@pytest.mark.parametrize("how", [slow("beats"), "is_silent", slow("works")])
@pytest.mark.slow
def test_a_rank_waits_for_rank_0_as_long_as_it_is_heard(how: str) -> None:
    port, given = free_port(), [sys.executable, "-m", "tests.policies.launched_worker", how]
    both = [
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank}
        for rank in ("0", "1")
    ]
    with started(given, both[0]), started(given, both[1]) as second:
        said = second.communicate(timeout=90)[0]
    if how != "is_silent":
        assert second.returncode == 0, said
    else:
        assert "cannot be reached" in said
        assert "after less than the silence" in said
