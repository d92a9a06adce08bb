from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator import registry
from orchestrator.errors import SpecError

BUILT_IN = {
    "bandits": {"fixed", "sec", "uniform"},
    "schedulers": {"round_robin", "sequence", "uniform"},
    "selections": {"adarft", "boltzmann", "bots", "cursor", "learnability", "mopps", "plr", "pools", "vcrl"},
    "environments": {"codebook", "reasoning_gym"},
    "rewards": {"code_tests", "combined", "countdown", "exact", "json_schema", "math", "numeric", "regex"},
    "samplers": {"transformers", "vllm", "vllm_server"},
    "objectives": {"rloo", "grpo", "dr_grpo", "repo", "repo_r", "entropy_bonus"},
}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_method_is_found_with_a_line_and_a_source(kind: str) -> None:
    found = registry.listing(kind)
    assert BUILT_IN[kind] <= {method.name for method in found}
    assert [method.name for method in found] == sorted(method.name for method in found) or kind == "objectives"
    assert all(method.summary and method.source for method in found)


@pytest.mark.parametrize(("kind", "name", "nearest"), [("bandits", "sek", "sec"), ("objectives", "repo_rr", "repo_r")])
def test_an_unknown_method_lists_those_there_are_and_the_nearest(kind: str, name: str, nearest: str) -> None:
    with pytest.raises(SpecError) as refused:
        registry.find(kind, name)
    assert f"{name!r} is not one of the {kind}: " in str(refused.value)
    assert f"Did you mean {nearest!r}?" in str(refused.value)


MINE = '''"""A bandit from outside."""
from orchestrator.bandits.uniform import Uniform
def create(arms, rng, favourite):
    made = Uniform(arms, rng)
    made.favourite = favourite
    return made
'''


def test_a_method_of_the_users_own_is_named_by_package_and_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_bandit_for_a_test.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    registry.search_in(None)
    config = registry.config_class("bandits", "my_bandit_for_a_test:create").model_validate(
        {"type": "my_bandit_for_a_test:create", "favourite": "a"}
    )
    made = registry.create("bandits", config, arms=["a", "b"], rng=np.random.default_rng(0))
    assert (made.favourite, made.arms) == ("a", ["a", "b"])
    assert sys.path[0] != str(tmp_path), "a user's folder never hides a package"


def test_a_factory_that_is_not_there_says_where_it_was_looked_for() -> None:
    with pytest.raises(SpecError, match="cannot import 'no_such_package:create'"):
        registry.factory("no_such_package:create")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("\nraise ValueError('no table')\n", "ValueError: no table, in broken_for_a_test.py:2"),
        ("def create(:\n", "SyntaxError"),
    ],
)
def test_a_users_file_that_raises_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    (tmp_path / "broken_for_a_test.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpecError, match="cannot be imported") as caught:
        registry.factory("broken_for_a_test:create")
    assert said in str(caught.value)
