"""Jobs of SLURM and Kubernetes: the script is run with stand-ins of the cluster's commands, the manifest is read."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.memory import architecture
from orchestrator.runs.cluster_jobs import ClusterJob
from tests.conftest import Evergreen
from tests.orchestrator.runs.slurm_commands import install, program
from tests.orchestrator.specs import alone, written

JOB = ClusterJob(
    "words", gpus=2, cpus=4, memory_gib=32, hours=12, restarts=3, overrides=["learner.lr=1e-4", "a.b='c d'"]
)


@contextmanager
def slurm(
    folder: Path, evergreen: str, restarts_so_far: int | None = None, nodes: int = 1, wait_s: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start the script as SLURM does, with an evergreen of our own; of several nodes each has one rank."""
    place = install(folder)
    job = replace(JOB, nodes=nodes, gpus=1)
    script = job.slurm(program(folder, "evergreen", evergreen), folder / "my spec.yaml", folder / "home")
    if wait_s is not None:
        script = script.replace("--wait=60", f"--wait={wait_s}")
    count = {} if restarts_so_far is None else {"SLURM_RESTART_COUNT": str(restarts_so_far)}
    given = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": str(nodes), "SLURM_JOB_NODELIST": "a[1-2]", **count}
    job = subprocess.Popen(
        [program(folder, "job", script)],
        env={"PATH": f"{place}:{os.environ['PATH']}", **given},
        text=True,
        start_new_session=True,
    )
    try:
        yield job
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()


def is_queued_again(folder: Path) -> bool:
    noted = folder / "scontrol"
    assert not noted.exists() or noted.read_text() == "requeue 17\n"
    return noted.exists()


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"),
    [
        *[(0, None, False), (75, None, True), (75, 2, True), (75, 3, False), (1, None, False), (2, None, False)],
        *[(127, None, False), (137, None, True), (143, None, True), (137, 3, False)],
    ],
)
def test_a_job_of_slurm_is_queued_again_while_its_run_can_go_on(
    tmp_path: Path, code: int, restarts: int | None, requeued: bool
) -> None:
    with slurm(tmp_path, f'echo "$@" > {tmp_path}/asked; exit {code}', restarts) as job:
        job.communicate(timeout=20)
    assert job.returncode == code
    assert is_queued_again(tmp_path) == requeued
    asked = (tmp_path / "asked").read_text().strip()
    assert asked == (
        f"run {tmp_path}/my spec.yaml --home {tmp_path}/home --resume-if-there --set learner.lr=1e-4 --set a.b='c d'"
    )


def wait_until_there(*paths: Path) -> None:
    until = time.monotonic() + 20
    while not all(path.exists() for path in paths):
        assert time.monotonic() < until
        time.sleep(0.02)


SAVES = """
trap 'echo saving >> {folder}/run; sleep 0.5; kill $!; exit 75' TERM
sleep 60 &
touch {folder}/up$SLURM_PROCID
wait
"""


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_signal_reaches_the_run_and_its_exit_code_is_waited_for(tmp_path: Path, is_cancelled: bool) -> None:
    with slurm(tmp_path, SAVES.replace("{folder}", str(tmp_path))) as job:
        wait_until_there(tmp_path / "up")
        time.sleep(0.1)
        if is_cancelled:
            (tmp_path / "state").write_text("COMPLETING\n")
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=20)
    assert job.returncode == 75
    assert (tmp_path / "run").read_text() == "saving\n"
    assert is_queued_again(tmp_path) != is_cancelled


def test_on_several_machines_a_signal_reaches_the_ranks_past_srun_which_would_kill_them(tmp_path: Path) -> None:
    with slurm(tmp_path, SAVES.replace("{folder}", str(tmp_path)), nodes=2) as job:
        wait_until_there(tmp_path / "up0", tmp_path / "up1", tmp_path / "tasks")
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=20)
    assert (tmp_path / "run").read_text() == "saving\n" * 2
    assert job.returncode == 75
    assert is_queued_again(tmp_path)


@pytest.mark.parametrize(
    ("ranks", "code", "requeued"),
    [
        ("[ $SLURM_PROCID = 0 ] && sleep 0.3 && exit 75; kill -KILL $$", 137, True),  # a rank is lost
        ("sleep 0.$SLURM_PROCID; exit 2", 2, False),  # a mistake, which rank 0 tells the other
        ("[ $SLURM_PROCID = 0 ] && exec sleep 60; exit 75", 137, True),  # ended before they met
    ],
)
def test_on_several_machines_the_ranks_exit_codes_say_whether_the_job_is_queued_again(
    tmp_path: Path, ranks: str, code: int, requeued: bool
) -> None:
    start = time.monotonic()
    with slurm(tmp_path, ranks, nodes=2, wait_s=1) as job:
        job.communicate(timeout=20)
    assert job.returncode == code
    assert is_queued_again(tmp_path) == requeued
    assert time.monotonic() - start < 10


def test_what_slurm_is_asked_for() -> None:
    script = JOB.slurm(Path("/env/bin/evergreen"), Path("/w/words.yaml"), Path("/w/runs"), "gpu")
    asked = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert asked >= {"partition=gpu", "gpus-per-node=2", "mem=32G", "time=12:00:00", "signal=B:TERM@300", "requeue"}
    without = ClusterJob("words", 0, 4, 32, 12, 3).slurm(Path("/e"), Path("/s"), Path("/h"))
    assert "gpus" not in without
    assert "partition" not in without


def test_on_several_machines_srun_starts_the_ranks_and_tells_them_where_to_meet(tmp_path: Path) -> None:
    script = replace(JOB, nodes=2).slurm(
        program(tmp_path, "evergreen", f'echo "$SLURM_PROCID $MASTER_ADDR $MASTER_PORT $1" >> {tmp_path}/ranks'),
        tmp_path / "spec.yaml",
        tmp_path / "home",
    )
    environment = {
        "PATH": f"{install(tmp_path)}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "40017",
        "SLURM_JOB_NODELIST": "a[1-2]",
        "SLURM_NTASKS": "4",
    }
    done = subprocess.run([program(tmp_path, "job", script)], env=environment, timeout=20)
    assert done.returncode == 0
    assert sorted((tmp_path / "ranks").read_text().splitlines()) == [f"{rank} 127.0.0.1 20017 run" for rank in range(4)]
    assert "srun --cpus-per-task=2 --kill-on-bad-exit=0 --wait=60 " in script
    asked = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert asked >= {"nodes=2", "ntasks-per-node=2", "cpus-per-task=2", "gpus-per-node=2"}


def manifest(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    job = ClusterJob(**{**vars(JOB), **changes})
    config, *_, batch = yaml.safe_load_all(job.kubernetes("seed: 3\n", "me/evergreen:1", "volume"))
    return config, batch


def test_a_job_of_kubernetes_begins_again_after_75_and_not_after_a_mistake() -> None:
    config, job = manifest()
    assert (config["kind"], config["data"]) == ("ConfigMap", {"words.yaml": "seed: 3\n"})
    assert (job["kind"], job["apiVersion"], job["spec"]["backoffLimit"]) == ("Job", "batch/v1", 3)
    failing, ignored = job["spec"]["podFailurePolicy"]["rules"]
    assert (failing["action"], failing["onExitCodes"]["values"]) == ("FailJob", [1, 2])
    assert ignored["action"] == "Ignore"
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["restartPolicy"] == "Never", "asked for by a policy of failures"
    assert failing["onExitCodes"]["containerName"] == container["name"]
    assert container["command"][:6] == [
        *("evergreen", "run", "/spec/words.yaml"),
        *("--home", "/workspace/runs", "--resume-if-there"),
    ]
    assert container["command"][-1] == "resources.search_path=/workspace"
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"workspace": "/workspace", "spec": "/spec", "memory": "/dev/shm"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounted)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert (
        "nvidia.com/gpu" not in manifest(gpus=0)[1]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    )


def test_what_kubernetes_would_expand_in_a_command_reaches_the_run_as_it_is() -> None:
    """It makes one dollar of two, and puts a variable's value in place of `$(NAME)`."""
    expanded = re.compile(r"\$\$|\$\((\w+)\)")
    sets = [r"environments.a.reward={pattern: '\d+ \$$'}", "name=$(HOME)", "a=$$(HOME)", "b=$HOME$"]
    _, job = manifest(overrides=sets)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    in_the_pod = [expanded.sub(lambda found: "$" if found[0] == "$$" else "/root", word) for word in command]
    assert in_the_pod[in_the_pod.index("--set") + 1 :: 2][: len(sets)] == sets


def test_a_pod_looks_for_files_where_it_is_told_to(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))  # of this machine, which is no mistake
    spec = {"environments": {"book": {"type": "codebook"}}, "curriculum": {"stages": 1, "stage": {"steps": 1}}}
    job = ["launch", written(tmp_path, spec), "--on", "kubernetes", "--image", "i", "--claim", "c", "--dry-run"]

    def said(*words: str | Path) -> list[str]:
        shown = evergreen(*words)
        assert shown.exit_code == 0, shown.stderr
        *_, batch = yaml.safe_load_all(shown.stdout)
        (container,) = batch["spec"]["template"]["spec"]["containers"]
        return [word for word in container["command"] if word.startswith("resources")]

    assert said(*job) == ["resources.search_path=/workspace"]
    for override in ("resources.search_path=/code", "resources={search_path: /code}"):
        assert said(*job, "--set", override) == [override]
    job[1] = written(tmp_path, spec | {"resources": {"search_path": "/code"}})
    assert said(*job) == []


def test_of_several_machines_in_kubernetes_torchrun_starts_the_ranks_of_each(tmp_path: Path) -> None:
    _, service, job = yaml.safe_load_all(replace(JOB, nodes=3).kubernetes("seed: 3\n", "me/evergreen:1", "volume"))
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 3, 3)
    assert job["spec"]["backoffLimit"] == 9
    assert [rule["action"] for rule in job["spec"]["podFailurePolicy"]["rules"]] == ["Ignore"]
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"] == "words"
    (container,) = pod["containers"]
    (kill_after,) = container["env"]
    assert int(kill_after["value"]) < pod["terminationGracePeriodSeconds"]
    assert container["command"][:12] == [
        *("torchrun", "--nnodes", "3", "--nproc-per-node", "2", "--node-rank", "$(JOB_COMPLETION_INDEX)"),
        *("--master-addr", "words-0.words", "--master-port", "29500", "--no-python"),
    ]
    assert container["command"][12:14] == ["evergreen", "run"]


def test_gpus_that_no_rank_uses_are_told(tmp_path: Path, evergreen: Evergreen) -> None:
    spec = written(tmp_path, alone())
    alone_on_one = evergreen("launch", spec, "--on", "slurm", "--gpus", "8", "--dry-run")
    assert "`--set resources.ranks=8` has it updated on all" in alone_on_one.stderr
    for more in (["--set", "resources.ranks=8"], ["--nodes", "2"]):
        assert not evergreen("launch", spec, "--on", "slurm", "--gpus", "8", "--dry-run", *more).stderr


def test_ranks_without_a_gpu_each_are_refused_and_share_cores_where_there_is_none(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    spec, on_gpus = written(tmp_path, alone()), ["--set", "resources.device=auto"]
    job = ["launch", spec, "--on", "slurm", "--dry-run", "--set", "resources.ranks=8"]
    refused = evergreen(*job, *on_gpus, "--gpus", "2")
    assert refused.exit_code == 2
    assert " ".join(refused.stderr.split()) == (
        "error: resources.ranks: 8 ranks take a GPU each, and the job's machine has 2: say --gpus 8, --nodes 4 or "
        "--set resources.ranks=2"
    )
    for other in (["--gpus", "0"], ["--gpus", "8"], ["--gpus", "2", "--nodes", "4"]):
        assert evergreen(*job, *on_gpus, *other).exit_code == 0
    assert evergreen(*job, "--set", "resources.device=cpu").exit_code == 0


def test_too_little_memory_is_told(tmp_path: Path, evergreen: Evergreen) -> None:
    """A policy of 3.1e9 weights, and what eight ranks train with on their hosts."""
    architecture("3B").save_pretrained(tmp_path / "model")
    policy = {"model": str(tmp_path / "model"), "dtype": "bfloat16", "template": "none"}
    resources = {"ranks": 8, "offload": "optimizer"}
    spec = written(tmp_path, {**alone(), "policy": policy, "sampler": "vllm_server", "resources": resources})
    job = ["launch", spec, "--on", "slurm", "--dry-run"]
    told = evergreen(*job, "--gpus", "8")
    assert told.exit_code == 0
    assert " ".join(told.stderr.split()) == (
        "--memory 64 (GiB) is too little, by arithmetic: the host's memory holds 99 GB while it updates, on a machine "
        "with 8 ranks; say --memory 92 and some more, for programs and data (`validate --plan` has the parts)"
    )
    assert not evergreen(*job, "--gpus", "8", "--memory", "92").stderr
    assert "56 GB while it updates, on a machine with 4 ranks" in " ".join(
        evergreen(*job, "--gpus", "4", "--nodes", "2", "--memory", "40").stderr.split()
    )
    elsewhere = evergreen(*job, "--gpus", "8", "--set", "policy.model=/on/another/machine")
    assert (elsewhere.exit_code, elsewhere.stderr) == (0, "")


def test_launch_prints_a_job_of_a_spec_that_was_checked(tmp_path: Path, evergreen: Evergreen) -> None:
    spec = written(tmp_path, alone())
    shown = evergreen("launch", spec, "--on", "slurm", "--home", tmp_path / "home", "--dry-run")
    assert shown.exit_code == 0
    assert f"run {spec} --home {tmp_path / 'home'} --resume-if-there" in shown.stdout
    assert not (tmp_path / "home").exists()
    wrong = evergreen("launch", spec, "--on", "slurm", "--set", "learner.lr=-1", "--dry-run")
    assert wrong.exit_code == 2
    assert "learner.lr" in wrong.stderr


def test_replicas_are_those_of_the_ranks_that_machines_make(tmp_path: Path, evergreen: Evergreen) -> None:
    options = ["--on", "slurm", "--nodes", "2", "--gpus", "2", "--set", "resources.replicas=2", "--dry-run"]
    shown = evergreen("launch", written(tmp_path, alone()), *options)
    assert shown.exit_code == 0, shown.stderr
    assert "--set resources.replicas=2" in shown.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "kubernetes", "--dry-run"], "needs --image, which has Evergreen installed, and --claim"),
        (["--on", "slurm", "--partition", "a b; rm -r ~", "--dry-run"], "is no name of a partition"),
        (
            ["--on", "kubernetes", "--image", "a b", "--claim", "runs", "--dry-run"],
            "--image 'a b' is no name of an image",
        ),
        (
            ["--on", "kubernetes", "--image", "me/evergreen:1", "--claim", "UP per", "--dry-run"],
            "--claim 'UP per' is no name of a volume claim",
        ),
        (["--on", "slurm"], "there is no `sbatch` here"),
        (["--on", "slurm", "--image", "i", "--claim", "c", "--dry-run"], "--image, --claim: only jobs of Kubernetes"),
        (
            ["--on", "kubernetes", "--image", "i", "--claim", "c", "--hours", "24", "--dry-run"],
            "--hours: only jobs of SLURM have that, and this is --on kubernetes; leave it out",
        ),
        (
            ["--on", "kubernetes", "--image", "i", "--claim", "c", "--set", "name=a_b", "--dry-run"],
            "Kubernetes takes names of a to z",
        ),
        (
            ["--on", "kubernetes", "--image", "i", "--claim", "c", "--home", "/elsewhere", "--dry-run"],
            "--home: pods keep their runs in /workspace/runs",
        ),
        (["--on", "slurm", "--nodes", "2", "--gpus", "2", "--set", "resources.ranks=3"], "2 machines make 4"),
        (["--on", "slurm", "--nodes", "2", "--gpus", "2", "--set", "resources.replicas=3"], "4 ranks cannot be 3"),
        (["--on", "slurm", "--nodes", "2", "--set", "sampler=vllm"], "resources.ranks: 2"),
        (
            ["--on", "kubernetes", "--image", "i", "--claim", "c", "--set", "name=2words", "--dry-run"],
            "that begin with a letter",
        ),
    ],
)
def test_launch_refuses_what_cannot_become_a_job(
    tmp_path: Path, evergreen: Evergreen, options: list[str], said: str
) -> None:
    refused = evergreen("launch", written(tmp_path, alone()), *options)
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())
