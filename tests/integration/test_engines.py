"""A small curriculum on each engine that vLLM brings: the same kinds of records as with `transformers`."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.runs.api import run
from orchestrator.runs.catalog import opened
from tests.integration.runs import series, told
from tests.linux_processes import any_running, below
from tests.orchestrator.specs import FAKE, REPOSITORY, Raw, small

pytestmark = pytest.mark.vllm


def curriculum(name: str, sampler: dict[str, Any]) -> Raw:
    """Six steps on a book and on noise, whose scores always differ, with a policy whose heads vLLM plays on a CPU."""
    return small(
        name,
        policy={"model": "tiny", "layers": 1, "hidden": 128, "mlp": 64, "heads": 4, "kv_heads": 2},
        warm_start=None,
        environments={
            "book": {"type": "codebook", "categories": {"2": 2, "4": 4}, "keys": 6},
            "noise": {"type": FAKE, "character": "noisy", "in_process": True},
        },
        curriculum={"stages": 2, "scheduler": "round_robin", "stage": {"steps": 3, "replay": 0.25}},
        sampler={"max_tokens": 3, **sampler},
    )


def records(home: Path, name: str) -> set[tuple[str, str | None]]:
    """Name all numbers that a run left: (metric, environment)."""
    with opened(home, name) as (_, ledger):
        return {(number.metric, number.environment) for number in ledger.reading.numbers(name)}


def require_alike(home: Path, spec: dict[str, Any]) -> None:
    """Run it: it must leave the records that `transformers` does, with gaps only where its weights are older."""
    name = spec["name"]
    assert run(spec, home=home).status == "finished"
    assert records(home, name) == records(home, "transformers")
    assert set(told(home, name)) == set(told(home, "transformers"))
    gaps = [gap for gap in series(home, name, "sampler_gap_max") if gap is not None]
    assert gaps
    assert (max(gaps) < 1e-5) == (spec["sampler"]["ahead"] == 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the run to compare with."""
    home = tmp_path_factory.mktemp("engines")
    assert run(curriculum("transformers", {}), home=home).status == "finished"
    return home


@pytest.mark.parametrize("ahead", [0, 1])
def test_vllm_ends_in_the_same_kinds_of_records(home: Path, ahead: int) -> None:
    name = f"vllm-{ahead}"
    spec = curriculum(name, {"type": "vllm", "ahead": ahead, "kv_cache_gib": 0.25, "max_model_len": 512})
    require_alike(home, spec)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that `evergreen serve` started. Ended by SIGTERM, `serve` leaves no process behind."""
    folder = tmp_path_factory.mktemp("serve")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(curriculum("served", {"type": "vllm_server", "urls": [url]})))
    evergreen = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
    words = ["serve", str(spec), "--home", str(folder / "home"), "--", "--max-model-len", "512"]
    with subprocess.Popen([*evergreen, *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as serve:
        assert serve.stdout is not None
        starting, ready, how_to_go_on = (serve.stdout.readline() for _ in range(3))
        assert starting.startswith(f"Starting vLLM for {url};")
        assert f"{url}  ready after" in ready
        assert f"run {spec}" in how_to_go_on
        processes = [one.pid for one in below(serve.pid)]
        assert len(processes) >= 4, "a guard, the server, its engine, a worker"
        yield url
        serve.terminate()
        assert serve.wait(60) == 0
    assert not any_running(processes)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("ahead", [0, 1])
def test_vllm_servers_end_in_the_same_kinds_of_records(home: Path, url: str, ahead: int) -> None:
    name = f"vllm_server-{ahead}"
    spec = curriculum(name, {"type": "vllm_server", "urls": [url], "ahead": ahead, "probe_every": 1})
    require_alike(home, spec)
