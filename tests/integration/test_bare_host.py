"""A host that only trains: torch, transformers, numpy, pydantic and SQLAlchemy, what these ask for, and our tree."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.gpu import SECTIONS

ROOT = Path(__file__).parents[2]
WANTED = ("torch", "transformers", "numpy", "pydantic", "sqlalchemy")
OURS = ("orchestrator", "environments", "policies", "store", "benchmarks")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to the wanted distributions and what they need, and to our packages."""
    folder = tmp_path_factory.mktemp("bare")
    for wheel in _closure(WANTED):
        for top in {file.parts[0] for file in wheel.files or () if not file.is_absolute()} - {
            "..",
            "__pycache__",
        }:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(wheel.locate_file(top))))
    for package in OURS:
        (folder / package).symlink_to(ROOT / package)
    return folder


def _closure(names: tuple[str, ...]) -> list[Distribution]:
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found[name] = distribution(name)
        needs = [Requirement(line) for line in found[name].requires or ()]
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return list(found.values())


def _run(bare: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(bare), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-S", *arguments]  # -S: without the packages of this environment
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


CODE = """
import sys
sys.argv = ["benchmarks.gpu", "--device", "cpu", "--small"]
from benchmarks.gpu import main
main()
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def benchmark(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The GPU benchmark on a toy: play, update, a step, and a whole curriculum."""
    return _run(bare, tmp_path_factory.mktemp("cwd"), "-c", CODE)


@pytest.mark.slow
def test_the_gpu_benchmark_runs_in_all_its_sections(benchmark: subprocess.CompletedProcess[str]) -> None:
    assert benchmark.returncode == 0, benchmark.stderr[-3000:]
    sections = {line.split()[0] for line in benchmark.stdout.splitlines()}
    assert set(SECTIONS) <= sections
    not_there = {line.split()[0] for line in benchmark.stdout.splitlines() if "ended" in line}
    assert not_there == {"sync", "colocated", "sleeping", "adapters"}, "of GPUs, vLLM and peft, which a bare host lacks"
    assert "weights to files: seconds" in benchmark.stdout
    assert "8 steps, finished" in benchmark.stdout


@pytest.mark.slow
def test_a_curriculum_loads_nothing_that_a_bare_host_lacks(
    benchmark: subprocess.CompletedProcess[str],
) -> None:
    """The screen's libraries are there, because transformers asks for them, and still not wanted."""
    loaded = set(benchmark.stdout.splitlines()[-1].split())
    assert {"torch", "orchestrator", "store"} <= loaded
    assert not loaded & {"alembic", "mlflow", "pyarrow", "scipy", "datasketch", "typer", "rich"}


@pytest.mark.slow
def test_without_a_gpu_the_benchmark_says_so(bare: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = _run(bare, tmp_path, "-m", "benchmarks.gpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no CUDA device" in done.stdout
