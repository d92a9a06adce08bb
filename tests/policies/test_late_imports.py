"""transformers without what its models hardly ever call."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from orchestrator.studies.run_processes import IMPORTED
from policies.late_imports import LateFinder, LateFunction, LateLoader


def printed(program: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


NAMES = """
import importlib, pkgutil, transformers.loss as loss
names = ["transformers.generation.candidate_generator"]
names += [f"transformers.loss.{one.name}" for one in pkgutil.iter_modules(loss.__path__)]
print({name: sorted(vars(importlib.import_module(name))) for name in names})
"""
OURS = f"""
import sys, policies.policy, policies.learner
print([one for one in ("sklearn", "scipy.optimize", "pandas", "pyarrow") if one in sys.modules])
{NAMES}
import numpy, transformers.utils
from transformers.generation.candidate_generator import is_sklearn_available, roc_curve
from transformers.loss.loss_for_object_detection import is_scipy_available, linear_sum_assignment
assert is_sklearn_available() and is_scipy_available() and transformers.utils.is_sklearn_available()
print(linear_sum_assignment(numpy.array([[3, 1], [1, 3]]))[1].tolist(), roc_curve([0, 1], [0.2, 0.7])[1].tolist())
"""


@pytest.mark.slow
def test_a_model_brings_nothing_heavy_and_all_names_are_there_and_import_it_when_they_are_called() -> None:
    heavy, names, called = printed(OURS).splitlines()
    assert heavy == "[]"
    assert names.count("'linear_sum_assignment'") > 3
    assert names == printed(NAMES)
    assert called == "[1, 0] [0.0, 1.0, 1.0]"


def test_the_folders_of_models_are_read_once() -> None:
    program = """
import policies, transformers.models
from transformers.utils import import_utils
kept = import_utils.create_import_structure_from_path.cache_info()
print(kept.currsize > 128, kept.misses == kept.currsize, transformers.models.llama.LlamaConfig.__name__)
"""
    assert printed(program) == "True True LlamaConfig"


def test_a_library_that_says_otherwise_what_is_there_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("found = 1\n")
    loader = LateLoader("mine", str(file), LateFunction("mine", "is_abacus_available", "abacus", "count"))
    spec = spec_from_file_location("mine", file, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    assert (module.found, hasattr(module, "count")) == (1, False)


def test_other_modules_are_found_as_ever() -> None:
    finder = LateFinder()
    assert finder.find_spec("json", None) is None
    assert finder.find_spec("transformers.generation.candidate_generator", []) is None  # where it is not


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux")
@pytest.mark.slow
def test_what_runs_of_a_study_are_forked_from_has_one_thread() -> None:
    imports = "; ".join(f"import {name}" for name in IMPORTED)
    assert printed(f"{imports}; import os; print(len(os.listdir('/proc/self/task')))") == "1"
