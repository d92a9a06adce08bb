"""A disk that takes 5 ms for every write, fsync and rename: the run is slower, and the same, also when it is killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import orchestrator
from tests.integration.runs import ending, told
from tests.orchestrator.specs import REPOSITORY, alone, written

DELAY_US = 5000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which("cc") is None,
        reason="the slow disk is a library that cc makes, for Linux",
    ),
]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the library that is preloaded."""
    library = tmp_path_factory.mktemp("slow") / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def begin(slow: Path, log: Path, *words: object) -> subprocess.Popen[str]:
    """Start the command on the slow disk."""
    variables = {"LD_PRELOAD": str(slow), "SLOW_DISK_US": str(DELAY_US), "SLOW_DISK_LOG": str(log)}
    command = [Path(sys.executable).with_name("evergreen"), *map(str, words)]
    return subprocess.Popen(
        command,
        env={**os.environ, **variables, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_on_a_slow_disk_that_is_told_to_stop_and_killed_ends_as_on_a_quick_one(
    tmp_path: Path, slow: Path
) -> None:
    spec = {**alone(steps=6), "checkpoint": {"every_steps": 1}}
    orchestrator.run({**spec, "name": "quick"}, home=tmp_path)
    log, rng = tmp_path / "log", random.Random(3)
    run = begin(slow, log, "run", written(tmp_path, spec), "--home", tmp_path)
    for sign, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)):
        before, since = told_steps(tmp_path), time.monotonic()
        while told_steps(tmp_path) < before + 2 and run.poll() is None:
            assert time.monotonic() - since < 120, "it does not get on"
            time.sleep(0.05)
        time.sleep(rng.random() / 2)
        asked = time.monotonic()
        run.send_signal(sign)
        said = run.communicate(timeout=120)[0]
        assert run.returncode == code, said
        assert time.monotonic() - asked < 60
        run = begin(slow, log, "resume", "alone", "--home", tmp_path)
    said = run.communicate(timeout=300)[0]
    assert run.returncode == 0, said
    assert log.stat().st_size > 300, "writes, fsyncs and renames that waited"
    assert ending(tmp_path, "alone") == ending(tmp_path, "quick")


def told_steps(home: Path) -> int:
    """Give how many steps the run has recorded; -2 while it is unknown."""
    try:
        return int(told(home, "alone")["num_steps"])
    except Exception:
        return -2
