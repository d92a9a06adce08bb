"""Prints that nobody takes: a run goes on, and a result that somebody wants is not cut short in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EVERGREEN = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


def evergreen(*words: str, stdout: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EVERGREEN, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=120
    )


def test_a_pipe_that_is_closed_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = evergreen("methods", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
def test_a_result_that_does_not_fit_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = evergreen("methods", stdout=full.fileno())
    assert done.returncode == 2
    assert "error: stdout is incomplete: No space left on device" in done.stderr


def test_a_folder_that_is_gone_is_told_in_words(tmp_path: Path) -> None:
    leave = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    words = ["sh", "-c", leave, "sh", *EVERGREEN, "ls"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the folder that you are in does not exist any more")
