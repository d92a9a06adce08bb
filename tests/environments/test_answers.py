"""The answer that an environment reads in a completion: what is the same to its verifier is the same text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from environments import EnvironmentSource
from tests.environments.rows.making import made as rows_of


def read(folder: Path, reward: Any, *completions: str, answer: str = "raw", truth: str = "3") -> list[str | None]:
    rows = [{"question": f"q{n}", "answer": truth} for n in range(40)]
    made = rows_of(folder, rows, reward=reward, answer=answer)
    task = made.task(made.categories[0].name, 0)
    return [made.answer_in(task, completion) for completion in completions]


def test_numbers_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    assert read(tmp_path, "numeric", "1,000", "1000.0", "$1e3", "many") == ["1000", "1000", "1000", None]


def test_choices_are_their_letter(tmp_path: Path) -> None:
    assert read(tmp_path, "choice", "(b)", "B. Paris", "**B**", " Paris ", truth="B") == ["B", "B", "B", "paris"]


def test_texts_are_as_equality_sees_them(tmp_path: Path) -> None:
    plain = {"type": "exact", "ignore_case": True}
    assert read(tmp_path, plain, "Yes", " yes ", "", truth="yes") == ["yes", "yes", None]
    assert read(tmp_path, "exact", r"so \boxed{4}", "so 4", answer="boxed") == ["4", None]


def test_without_a_form_of_its_own_it_is_what_stands_behind_the_thinking() -> None:
    book = EnvironmentSource("book", "codebook", {"categories": {"two": 2}}).create()
    task = book.task("two", 0)
    said = [book.answer_in(task, text) for text in ("<think>a or b</think> a ", "a", "  ")]
    assert said == ["a", "a", None]


def test_reasoning_gym_reads_it_as_its_verifier_does() -> None:
    options = {"dataset": "gcd", "categories": {"10": {"min_value": 1, "max_value": 10}}, "answer": "tag"}
    made = EnvironmentSource("gcd", "reasoning_gym", options).create()
    task = made.task("10", 0)
    texts = ("so <answer> 4 </answer>", "4", "<answer></answer>")
    assert [made.answer_in(task, text) for text in texts] == ["4", None, None]
