"""Which prompts are too long, who finds out when, and what is told of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from environments import Environment, first_tasks
from orchestrator.episode_options import Budgets
from orchestrator.recording.events import of_prompts
from orchestrator.rollout.task_supply import LISTED, PromptLimits, most_tokens
from policies.encoder import Encoder
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from policies.samplers.contracts import SamplerOptions
from policies.samplers.vllm import Config as VllmConfig
from tests.environments.fakes import create
from tests.environments.rows.making import made

CONTEXT, BUDGET = 100, 20  # so that a prompt may have 80 tokens


@dataclass(frozen=True)
class Counting(Encoder):
    """Counts what it reads."""

    read: list[Any] = field(default_factory=list)

    def encode(self, messages: Sequence[Any]) -> tuple[int, ...]:
        self.read.append(messages)
        return super().encode(messages)


def encoder() -> Counting:
    """One token a byte, and one that the template adds."""
    return Counting(build_tokenizer(VocabularySample({})), "chat")


def prompts(environment: Environment, reading: Encoder, context: int | None = CONTEXT) -> PromptLimits:
    return PromptLimits(reading, context, {environment.name: environment}, Budgets(SamplerOptions(max_tokens=BUDGET)))


def table(folder: Path, lengths: Sequence[int], **options: Any) -> Environment:
    """Rows of so many bytes each."""
    rows = [{"question": f"{i:03}".ljust(length, "?"), "answer": "1"} for i, length in enumerate(lengths)]
    return made(folder, rows, **options)


@pytest.mark.parametrize(
    ("context", "own", "sampler", "budget", "most"),
    [
        (100, None, None, 20, 80),
        (100, None, None, 80, 50),  # half of the context at least
        (100, None, None, 5000, 50),
        (101, None, None, 5000, 51),
        (100, 30, None, 20, 30),
        (100, None, 40, 20, 40),
        (100, 30, 40, 20, 30),
        (100, 90, None, 20, 90),  # the answer gets what is left
        (100, 500, None, 20, 99),
        (None, None, None, 20, None),
        (None, 30, None, 20, 30),
    ],
)
def test_the_limit_is_what_was_asked_for_or_what_the_context_leaves(
    context: int | None, own: int | None, sampler: int | None, budget: int, most: int | None
) -> None:
    environment = create("fake")
    environment.max_prompt_tokens = own
    options = SamplerOptions(max_tokens=budget, max_prompt_tokens=sampler)
    assert most_tokens(environment, Budgets(options), context) == most
    environment.max_tokens = 10
    options = SamplerOptions(max_tokens=budget)
    assert most_tokens(environment, Budgets(options), 100) == (own or 90) if own != 500 else True


def test_an_engine_set_up_for_shorter_rows_leaves_less() -> None:
    environment = create("fake")
    of = PromptLimits(encoder(), CONTEXT, {"fake": environment}, Budgets(VllmConfig(max_tokens=20, max_model_len=60)))
    assert of.limits == {"fake": 40}


def test_rows_are_found_beforehand_and_only_long_ones_are_read(tmp_path: Path) -> None:
    environment, reading = table(tmp_path, [10] * 50 + [79, 80, 10, 200]), encoder()  # and 35 bytes of JSON
    found = prompts(environment, reading)
    assert found.barred(environment, "all").tolist() == [51, 53]
    assert len(reading.read) == 1 + 3, "its frame, and what might be too long"
    admitted = [found.admits(environment.task("all", index)) for index in range(54)]
    assert [index for index, is_admitted in enumerate(admitted) if not is_admitted] == [51, 53]
    assert len(reading.read) == 4
    (known,) = found.unread["rows"].values()
    assert (known.limit, known.num_tasks) == (80, 2)
    assert known.lines[0] == "train.jsonl:52: the prompt is longer than 80 tokens: 81"
    assert str(known.flaw) == "the prompt is longer than 80 tokens: 2 rows (first: train.jsonl:52: 81 tokens)"
    assert not found.take_passed_over()


def test_no_normal_form_makes_more_bytes_of_a_text_than_is_reckoned_with(tmp_path: Path) -> None:
    worst = "\U0001d160"  # three characters in form C
    assert len(unicodedata.normalize("NFC", worst).encode()) == 3 * len(worst.encode())
    reading = encoder()
    reading.tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    environment = made(tmp_path, [{"question": worst * n, "answer": "1"} for n in (1, 6, 7)])
    assert prompts(environment, reading).barred(environment, "all").tolist() == [2]
    assert len(reading.encode(environment.task("all", 1).messages)) == 1 + 6 * 12


def test_what_is_left_out_moves_nothing_else(tmp_path: Path) -> None:
    environment = table(tmp_path, [90 if i % 7 == 0 else 20 for i in range(200)])
    found = prompts(environment, encoder())
    before = [task.index for task in first_tasks(environment, "all", "anchor", 200)]
    after = [task.index for task in first_tasks(environment, "all", "anchor", 200, found)]
    assert after == [index for index in before if index % 7]
    assert len(after) < len(before)


def test_thousands_of_long_rows_are_counted(tmp_path: Path) -> None:
    environment = table(tmp_path, [90] * (LISTED + 2) + [10])
    found = prompts(environment, encoder())
    assert len(found.barred(environment, "all")) == LISTED + 2
    lines = found.unread["rows"]["the prompt is longer than 80 tokens"].lines
    assert (len(lines), lines[-1]) == (LISTED + 1, "2 more: the prompt is longer than 80 tokens")


def test_a_generator_s_tasks_are_passed_over_as_they_are_met_and_told_once() -> None:
    environment = create("fake", categories=["easy", "x" * 90])
    found = prompts(environment, encoder())
    assert found.admits(environment.task("easy", 3))
    assert [found.admits(environment.task("x" * 90, index)) for index in range(3)] == [False] * 3
    told: list[str] = []
    passed = found.take_passed_over()["fake"]
    assert (passed.num, passed.first) == (3, f"task 0 of category {'x' * 90}: 93 tokens of at most 80")
    assert not found.take_passed_over()
    assert not found.admits(environment.task("x" * 90, 9))
    (event,) = of_prompts(told, found)
    assert event.text.startswith("fake: tasks with prompts too long are left out as they are met; the first: task 9")
    found.admits(environment.task("x" * 90, 10))
    assert (of_prompts(told, found), told) == ([], ["fake"])


def test_without_a_limit_nothing_is_read() -> None:
    environment, reading = create("fake", categories=["x" * 900]), encoder()
    assert prompts(environment, reading, None).admits(environment.task("x" * 900, 0))
    assert len(reading.read) == 1


def test_of_rows_it_is_told_how_many_and_which(tmp_path: Path) -> None:
    environment = table(tmp_path, [10, 90, 10, 95])
    found = prompts(environment, encoder())
    found.barred(environment, "all")
    (event,) = of_prompts([], found)
    assert event.text == (
        "2 tasks of rows left out, with prompts longer than 80 tokens: train.jsonl:2 (91), train.jsonl:4 (96)"
    )
