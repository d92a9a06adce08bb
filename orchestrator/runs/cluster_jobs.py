"""Jobs of SLURM and Kubernetes that begin a run and go on with it until it is finished, as text.

Both do `evergreen run SPEC --resume-if-there`, pass on the signal that ends them, which ends in a checkpoint, and read
the exit code: 75 and a death by a signal (128 and above) start the job again, a fault and a mistake do not. Of several
machines in Kubernetes any failure does: torchrun, which starts their ranks, has an exit code of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from orchestrator.errors import OUR_FAULT, RESUMABLE, YOUR_MISTAKE

GRACE_S = 300  # between the signal that ends a job and its kill: a step and a checkpoint fit in
MEETING = """
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
"""
LEFT_ALONE_S = 60  # that ranks have to end by themselves once one has ended: they have saved by then, or never will
KILLED_BY_SIGNAL = 128  # a shell's exit codes from here on, and those of `srun`
MEETING_PORT = 29500  # of pods, which have an address each
SAVING_S = GRACE_S - 20  # that torchrun leaves its processes between the signal and their kill
WORKSPACE = "/workspace"  # of a container: the volume with the home, and with the files that a spec names
PODS_HOME = f"{WORKSPACE}/runs"
SEARCH_PATH = "resources.search_path"


class _PlainDumper(yaml.SafeDumper):
    """Writes what stands twice twice."""

    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True)
class ClusterJob:
    """A run as a job of a cluster."""

    name: str  # the run's
    gpus: int
    cpus: int
    memory_gib: int
    hours: int  # that one start of it may take
    restarts: int  # at most
    nodes: int = 1  # machines; of several, each GPU of each has a rank of its own
    overrides: Sequence[str] = field(default=())
    has_search_path: bool = False  # the spec, or an override, says in which folder of the pod files are looked for

    @property
    def ranks(self) -> int:
        """Ranks of a machine that the job starts; the run itself starts others, of one machine."""
        return max(self.gpus, 1) if self.nodes > 1 else 1

    def _command(self, program: str, spec: str, home: str, *more: str) -> list[str]:
        sets = [word for override in (*self.overrides, *more) for word in ("--set", override)]
        return [program, "run", spec, "--home", home, "--resume-if-there", *sets]

    def slurm(self, program: Path, spec: Path, home: Path, partition: str | None = None) -> str:
        """Write a batch script; all paths are on a file system that every node sees.

        The run is beside the shell, as a trap waits for a command that is in front. SLURM counts the starts. A job that
        was cancelled is not running any more, whatever its processes still do, and is not queued again.

        On several nodes `srun` starts the ranks, which meet on the first node, at a port by the job's number. It ends
        with the highest of their exit codes, which is theirs where all end by themselves: so none is killed because
        another has failed, but all are a while after the first has ended. A SIGTERM it would answer with a SIGKILL to
        them, so they are sent it past `srun`.
        """
        cpus = max(self.cpus // self.ranks, 1)
        options = {
            "job-name": self.name,
            "output": f"{self.name}-%j.log",
            "open-mode": "append",
            **({} if partition is None else {"partition": partition}),
            "nodes": self.nodes,
            "ntasks-per-node": self.ranks,
            "cpus-per-task": cpus,
            "mem": f"{self.memory_gib}G",
            **({"gpus-per-node": self.gpus} if self.gpus else {}),
            "time": f"{self.hours}:00:00",
            "signal": f"B:TERM@{GRACE_S}",
        }
        lines = "\n".join(f"#SBATCH --{key}={value}" for key, value in options.items())
        command, meeting = shlex.join(self._command(str(program), str(spec), str(home))), ""
        tell = 'kill -TERM "$run"'
        if self.nodes > 1:
            ending = f"--kill-on-bad-exit=0 --wait={LEFT_ALONE_S}"  # whatever the cluster's defaults are
            command = f"srun --cpus-per-task={cpus} {ending} {command}"  # it does not take the cores from above
            meeting, tell = MEETING, 'scancel --signal=TERM "$SLURM_JOB_ID"'  # of the job its steps, without this shell
        return f"""\
#!/bin/bash
{lines}
#SBATCH --requeue
{meeting}
{command} &
run=$!
is_told=
trap 'is_told=yes; {tell}' TERM
wait "$run"
code=$?
while [ -n "$is_told" ]; do   # the signal ended the wait: the run finishes its step and saves
    is_told=
    wait "$run"
    code=$?
done

if [ "$code" -eq {RESUMABLE} ] || [ "$code" -ge {KILLED_BY_SIGNAL} ]; then
    state=$(squeue --noheader --states=all --format=%T --jobs="$SLURM_JOB_ID")   # RUNNING, unless it was cancelled
    if [ "$state" = RUNNING ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {self.restarts} ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$code"
"""

    def kubernetes(self, spec: str, image: str, claim: str) -> str:
        """Write a ConfigMap of the spec, given as text, and a Job that mounts it and the volume claim.

        Several machines are pods that torchrun starts ranks in; they meet in the first, which a Service makes known.
        """
        search = () if self.has_search_path else (f"{SEARCH_PATH}={WORKSPACE}",)
        words = self._command("evergreen", f"/spec/{self.name}.yaml", PODS_HOME, *search)
        command = [word.replace("$", "$$") for word in words]  # Kubernetes makes one of two, and a value of `$(NAME)`
        if self.nodes > 1:
            layout = ("--nnodes", str(self.nodes), "--nproc-per-node", str(self.ranks))
            own = ("--node-rank", "$(JOB_COMPLETION_INDEX)")
            meeting = ("--master-addr", f"{self.name}-0.{self.name}", "--master-port", str(MEETING_PORT))
            command = ["torchrun", *layout, *own, *meeting, "--no-python", *command]
        labels = {"app.kubernetes.io/name": "evergreen", "app.kubernetes.io/instance": self.name}
        limits: dict[str, Any] = {"cpu": str(self.cpus), "memory": f"{self.memory_gib}Gi"}
        if self.gpus:
            limits["nvidia.com/gpu"] = str(self.gpus)
        container: dict[str, Any] = {
            "name": "evergreen",
            "image": image,
            "command": command,
            "workingDir": WORKSPACE,
            "resources": {"requests": limits, "limits": limits},
            "volumeMounts": [{"name": "workspace", "mountPath": WORKSPACE}, {"name": "spec", "mountPath": "/spec"}],
        }
        pod: dict[str, Any] = {
            "restartPolicy": "Never",  # the job starts another pod, by the rules below
            "terminationGracePeriodSeconds": GRACE_S,
            "containers": [container],
            "volumes": [
                {"name": "workspace", "persistentVolumeClaim": {"claimName": claim}},
                {"name": "spec", "configMap": {"name": self.name}},
            ],
        }
        if self.gpus > 1:  # processes that share memory need more than a container's 64 MB
            container["volumeMounts"].append({"name": "memory", "mountPath": "/dev/shm"})
            pod["volumes"].append({"name": "memory", "emptyDir": {"medium": "Memory"}})
        stays_failed = {"containerName": "evergreen", "operator": "In", "values": [OUR_FAULT, YOUR_MISTAKE]}
        rules: list[dict[str, Any]] = [
            {"action": "FailJob", "onExitCodes": stays_failed},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},  # a drained node
        ]
        job: dict[str, Any] = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "completions": self.nodes,
                "parallelism": self.nodes,
                "backoffLimit": self.restarts * self.nodes,  # failed pods
                "podFailurePolicy": {"rules": rules},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "labels": labels},
            "data": {f"{self.name}.yaml": spec},
        }
        parts = [config, job]
        if self.nodes > 1:
            del rules[0]
            container["env"] = [{"name": "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "value": str(SAVING_S)}]
            job["spec"]["completionMode"], pod["subdomain"] = "Indexed", self.name
            # the first pod is to be found before it is ready, since it waits for the others
            service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job-name": self.name}}
            about = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name, "labels": labels}}
            parts.insert(1, {**about, "spec": service})
        return yaml.dump_all(parts, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)
