"""What is tried of environments before a run begins."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from environments import Category, Environment, Task
from orchestrator.errors import UserError
from orchestrator.os_signals import OutOfTime, within
from orchestrator.runs import first_prompts
from orchestrator.runs.first_prompts import PromptLengths
from policies.encoder import Encoder
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from tests.environments.rows.making import made


class Slow(Environment):
    """Makes its first task never, whatever is raised meanwhile."""

    name, version = "slow", "1"

    def __init__(self, size: int | None) -> None:
        self.num = size

    @property
    def categories(self) -> list[Category]:
        return [Category("one")]

    def size(self, category: str) -> int | None:
        return self.num

    def task(self, category: str, index: int) -> Task:
        while True:
            try:
                time.sleep(60)
            except Exception:
                continue


def test_an_environment_that_makes_no_task_in_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_prompts, "LONGEST_S", 0.2)
    with pytest.raises(UserError, match=r"slow: the first task of category one is not made after 0\.2 s, .* smaller"):
        first_prompts.require_quick({"slow": Slow(None)})


def test_tasks_that_are_at_hand_are_not_waited_for() -> None:
    first_prompts.require_quick({"slow": Slow(4)})


def test_how_long_prompts_are_is_told_of_those_that_are_read(tmp_path: Path) -> None:
    encoder = Encoder(build_tokenizer(VocabularySample({})), "chat")  # a token is a byte
    lengths = {n: len(encoder.encode([{"role": "user", "content": n * "x"}])) for n in (10, 20, 300)}
    environment = made(tmp_path, [{"question": n * "x", "answer": "1"} for n in lengths])
    environments = {"rows": environment}
    every = PromptLengths(sum(lengths.values()) / 3, lengths[300])
    assert first_prompts.prompt_lengths(environments, encoder, {"rows": None}) == {"rows": every}
    short = PromptLengths((lengths[10] + lengths[20]) / 2, lengths[20])
    assert first_prompts.prompt_lengths(environments, encoder, {"rows": 100}) == {"rows": short}
    assert first_prompts.prompt_lengths(environments, encoder, {"rows": 5}) == {}


def test_an_alarm_that_somebody_else_has_set_goes_on_afterwards() -> None:
    rung: list[int] = []
    before, left = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number)), signal.alarm(0)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with within(5.0):  # theirs is sooner
            time.sleep(0.5)
        assert rung == [signal.SIGALRM]
        signal.setitimer(signal.ITIMER_REAL, 0.6)
        with pytest.raises(OutOfTime), within(0.1):
            time.sleep(1)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 0.6
        time.sleep(0.7)
        assert len(rung) == 2
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.alarm(left)
