"""transformers without what it imports for assisted decoding alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.studies.run_processes import IMPORTED
from policies.lean_imports import LeanImports


def printed(program: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_a_model_brings_neither_sklearn_nor_pandas_and_both_are_there_for_whoever_asks() -> None:
    heavy = "[one for one in ('sklearn', 'pandas', 'pyarrow') if one in sys.modules]"
    assert printed(f"import sys, policies.policy, policies.learner; print({heavy})") == "[]"
    asks = "import policies.policy, sklearn.metrics, transformers.utils as u; print(u.is_sklearn_available())"
    assert printed(asks) == "True"


def test_assisted_decoding_is_as_without_sklearn() -> None:
    program = """
import policies.policy, torch
from transformers import AutoModelForCausalLM, LlamaConfig
small = dict(vocab_size=32, hidden_size=8, intermediate_size=8, num_attention_heads=2, eos_token_id=None)
main, draft = (AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=layers, **small)) for layers in (2, 1))
draft.generation_config.update(num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.4)
given = dict(input_ids=torch.tensor([[1, 2, 3]]), max_new_tokens=8, do_sample=False)
assert main.generate(**given).equal(main.generate(**given, assistant_model=draft))
print(draft.generation_config.assistant_confidence_threshold)
"""
    assert float(printed(program)) == 0.4


def test_other_modules_are_found_as_ever() -> None:
    finder = LeanImports()
    assert finder.find_spec("json", None) is None
    assert finder.find_spec("transformers.generation.candidate_generator", []) is None  # where it is not


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux")
def test_what_runs_of_a_study_are_forked_from_has_one_thread() -> None:
    imports = "; ".join(f"import {name}" for name in IMPORTED)
    assert printed(f"{imports}; import os; print(len(os.listdir('/proc/self/task')))") == "1"
