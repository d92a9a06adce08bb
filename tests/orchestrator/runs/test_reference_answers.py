"""Reference answers with more tokens than an answer may have; here a token is a byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.episode_options import Budgets
from orchestrator.runs.dry_run import make_plan
from orchestrator.runs.reference_answers import LOOKED_AT, too_long_answers
from orchestrator.spec import load_spec
from policies.encoder import Encoder
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from policies.samplers.contracts import SamplerOptions
from tests.environments.rows.making import made
from tests.orchestrator.specs import small

ENCODER = Encoder(build_tokenizer(VocabularySample({})), "chat")
SOLUTION = "53-24=29\n#### 29"


def told(folder: Path, answers: list[str], max_tokens: int) -> list[str]:
    rows = [{"question": f"What is {number}?", "answer": answer} for number, answer in enumerate(answers)]
    return too_long_answers([made(folder, rows)], ENCODER, Budgets(SamplerOptions(max_tokens=max_tokens)))


def test_answers_that_do_not_fit_are_told_with_the_remedy(tmp_path: Path) -> None:
    (text,) = told(tmp_path, [SOLUTION] * 300, 4)
    assert "rows: 100% of the reference answers are longer than max_tokens 4 (of 64 looked at)" in text
    assert """`truth: COLUMN.split("####")[-1].strip()`""" in text
    assert LOOKED_AT == 64


@pytest.mark.parametrize(("num_long", "is_told"), [(0, False), (30, False), (31, True)])
def test_as_many_short_ones_are_no_warning(tmp_path: Path, num_long: int, is_told: bool) -> None:
    found = told(tmp_path, ["12345"] * num_long + ["1234"] * (60 - num_long), 4)
    assert [text.partition(" of the")[0] for text in found] == ["rows: 52%"] * is_told
    assert not any("####" in text for text in found)


def test_without_a_tokenizer_nothing_is_known(tmp_path: Path) -> None:
    environment = made(tmp_path, [{"question": "What?", "answer": SOLUTION}])
    assert too_long_answers([environment], None, Budgets(SamplerOptions(max_tokens=4))) == []


def test_a_plan_warns_of_them() -> None:
    spec = {"words": {"type": "reasoning_gym", "dataset": "spell_backward", "max_tokens": 1}}
    warnings = make_plan(load_spec(small(environments=spec, warm_start=None)), Path("runs")).warnings
    assert any("words: 100% of the reference answers are longer than max_tokens 1" in line for line in warnings)
    assert make_plan(load_spec(small()), Path("runs")).warnings == ()
