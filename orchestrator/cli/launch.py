"""launch: a run as a job of SLURM or Kubernetes that is started again until it is finished."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console import err
from orchestrator.cli.options import DEFAULT_HOME, Home, Set, SpecFile
from orchestrator.errors import UserError
from orchestrator.runs.cluster_jobs import PODS_HOME, ClusterJob
from orchestrator.spec import Spec, load_spec
from policies.errors import PolicyError

_PARTITION = re.compile(r"[\w.,-]+")
_IMAGE = re.compile(r"[\w./:@-]+", re.ASCII)
_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,58}[a-z0-9])?")  # of things in Kubernetes, and with a number of their pods


class Cluster(StrEnum):
    """Who runs the job."""

    slurm = "slurm"
    kubernetes = "kubernetes"


GIB = 2**30
SUBMIT = {Cluster.slurm: ["sbatch"], Cluster.kubernetes: ["kubectl", "apply", "-f", "-"]}


def launch(
    context: typer.Context,
    spec: SpecFile,
    on: Annotated[Cluster, typer.Option(help="Who runs the job.")],
    overrides: Set = None,
    home: Home = DEFAULT_HOME,
    nodes: Annotated[int, typer.Option(min=1, help="Machines; of several, each GPU has a rank.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of a machine.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Cores of a machine.")] = 8,
    memory: Annotated[int, typer.Option(min=1, help="GiB of memory of a machine.")] = 64,
    hours: Annotated[
        int | None, typer.Option(min=1, help="SLURM: hours that a job may take, default 24; the next one goes on.")
    ] = None,
    restarts: Annotated[int, typer.Option(min=0, help="How often it is started again, at most.")] = 20,
    partition: Annotated[str | None, typer.Option(help="SLURM: the partition.")] = None,
    image: Annotated[str | None, typer.Option(help="Kubernetes: an image that has Evergreen.")] = None,
    claim: Annotated[
        str | None, typer.Option(help="Kubernetes: the volume claim with the home, and the files the spec names.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job, and submit nothing.")] = False,
) -> None:
    """Submit a run as a job of SLURM or Kubernetes that is started again until the run is finished.

    The job does `evergreen run SPEC --resume-if-there`. A signal that ends it, as its time is over or its node is
    needed, ends in a checkpoint; exit code 75 and a death by a signal start it again, 1 and 2 do not. For example

    evergreen launch qwen.yaml --on slurm --partition gpu --hours 12

    evergreen launch qwen.yaml --on kubernetes --image me/evergreen:1 --claim runs --dry-run
    """
    given = overrides or []
    others = (
        {"--image": image, "--claim": claim} if on is Cluster.slurm else {"--partition": partition, "--hours": hours}
    )
    if idle := [name for name, value in others.items() if value is not None]:
        whose = "Kubernetes" if on is Cluster.slurm else "SLURM"
        raise UserError(f"{', '.join(idle)}: only jobs of {whose} have that, and this is --on {on.value}; leave it out")
    if on is Cluster.kubernetes and _is_typed(context, "home"):
        raise UserError(f"--home: pods keep their runs in {PODS_HOME}, on the volume claim; leave it out")
    checked = _checked(spec, given, nodes, gpus)
    _tell_more_memory(checked, memory, max(gpus, 1) if nodes > 1 else checked.resources.ranks)
    says_where = checked.resources.search_path != str(spec.absolute().parent)
    job = ClusterJob(checked.name, gpus, cpus, memory, hours or 24, restarts, nodes, given, says_where)
    text = _of_slurm(job, spec, home, partition) if on is Cluster.slurm else _of_kubernetes(job, spec, image, claim)
    if dry_run:
        typer.echo(text, nl=False)
        return
    submit = SUBMIT[on]
    if shutil.which(submit[0]) is None:
        raise UserError(f"there is no `{submit[0]}` here: --dry-run prints the job, to be submitted where there is")
    done = subprocess.run(submit, input=text, text=True, capture_output=True)
    err.print((done.stdout + done.stderr).strip(), markup=False, highlight=False)
    if done.returncode:
        raise UserError(f"`{shlex.join(submit)}` did not take the job, see above; --dry-run prints it")


def _checked(spec: Path, given: list[str], nodes: int, gpus: int) -> Spec:
    """Load the spec as the job will: what is wrong with it is told here, not by a job."""
    if nodes > 1:
        size = nodes * max(gpus, 1)
        ranks = load_spec(spec, [*given, "resources.replicas=1"]).resources.ranks  # replicas are those of `size` ranks
        if ranks not in (1, size):
            raise UserError(f"resources.ranks: {ranks}, but {nodes} machines make {size}: leave it out")
        return load_spec(spec, [*given, f"resources.ranks={size}"])
    checked = load_spec(spec, given)
    _refuse_more_ranks_than_gpus(checked, gpus)
    if gpus > 1 and checked.resources.ranks == 1:
        err.print(
            f"of {gpus} GPUs the policy is updated on one: `--set resources.ranks={gpus}` has it updated on all",
            markup=False,
            highlight=False,
        )
    return checked


def _of_slurm(job: ClusterJob, spec: Path, home: Path, partition: str | None) -> str:
    if partition is not None and not _PARTITION.fullmatch(partition):
        raise UserError(f"--partition {partition!r} is no name of a partition")
    return job.slurm(Path(sys.executable).with_name("evergreen"), spec.absolute(), home.absolute(), partition)


def _of_kubernetes(job: ClusterJob, spec: Path, image: str | None, claim: str | None) -> str:
    if image is None or claim is None:
        raise UserError(
            "a job of Kubernetes needs --image, which has Evergreen installed, and --claim, the volume claim that "
            "keeps the home: a pod's own disk goes with the pod"
        )
    if not _IMAGE.fullmatch(image):
        raise UserError(f"--image {image!r} is no name of an image")
    if not _CLAIM.fullmatch(claim):
        raise UserError(f"--claim {claim!r} is no name of a volume claim")
    if not _NAME.fullmatch(job.name):
        raise UserError(
            "Kubernetes takes names of a to z, 0 to 9 and `-` that begin with a letter, at most 60 characters, "
            f"not {job.name}: say --set name=..."
        )
    return job.kubernetes(spec.read_text("utf-8"), image, claim)


def _is_typed(context: typer.Context, option: str) -> bool:
    """Whether an option stands in the command, which its default and its variable do not."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_more_ranks_than_gpus(spec: Spec, gpus: int) -> None:
    """Refuse what a run would refuse on the one machine of its job; without a GPU ranks share the cores."""
    ranks = spec.resources.ranks
    if ranks <= gpus or not gpus or spec.resources.device == "cpu":
        return
    machines = f", --nodes {ranks // gpus}" if ranks % gpus == 0 else ""
    raise UserError(
        f"resources.ranks: {ranks} ranks take a GPU each, and the job's machine has {gpus}: say --gpus "
        f"{ranks}{machines} or --set resources.ranks={gpus}"
    )


def _tell_more_memory(spec: Spec, memory_gib: int, num_ranks: int) -> None:
    """Tell if a machine with so many ranks takes more memory than is asked for, as far as its policy is known here."""
    if spec.policy.kind == "tiny":
        return
    from orchestrator.runs.host_memory import HostMemory
    from policies.models.description import describe_size

    try:
        host = HostMemory.of(spec, describe_size(spec.policy, saves_base=spec.saves_base), num_ranks)
    except PolicyError:  # a path that is another machine's, a name that is not in the cache
        return
    if host.peak > memory_gib * GIB:
        enough = f"--memory {math.ceil(host.peak / GIB)} and some more, for programs and data"
        err.print(
            f"--memory {memory_gib} (GiB) is too little, by arithmetic: the host's memory holds {host.in_words}; say "
            f"{enough} (`validate --plan` has the parts)",
            markup=False,
            highlight=False,
        )
