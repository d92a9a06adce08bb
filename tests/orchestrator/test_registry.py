from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from environments import EnvironmentFault
from environments.plugins import REWARDS, PluginKind
from environments.registry import module_of
from orchestrator import registry
from orchestrator.errors import SpecError
from orchestrator.registry import Method

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


WHOLE = '"""Whole."""\nSOURCE = "baseline"\nclass Config: pass\ndef create(): pass\n'


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose rewards are broken, each in its way, but for one."""
    files = {
        "broken": "def (",
        "empty": "",
        "whole": WHOLE,
        "raising": f"{WHOLE}raise RuntimeError('no device')",
        "inside/__init__": "raise SystemExit(3)",
        "inside/part": WHOLE,
        "again": '"""Again."""\nfrom of_a_test_whole import Config, create\nSOURCE: str = "baseline"\n',
        "tried": "try:\n    from of_a_test_whole import *\nexcept ImportError:\n    raise\n",
        "exact": WHOLE,
    }
    for name, text in files.items():
        path = tmp_path / f"of_a_test_{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    metadata = tmp_path / "of_a_test-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: of-a-test\nVersion: 1\n")
    modules = [name.removesuffix("/__init__").replace("/", ".") for name in (*files, "missing")]
    lines = [f"{module} = of_a_test_{module}" for module in modules]
    (metadata / "entry_points.txt").write_text("\n".join(["[evergreen.rewards]", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield
    forget()


def forget() -> None:
    PluginKind._entries.cache_clear()
    registry.listing.cache_clear()


def test_a_broken_package_ends_nothing_but_what_names_it(packages: None) -> None:
    listed = {method.name for method in registry.listing("rewards")}
    assert BUILT_IN["rewards"] | {"whole", "raising", "again", "tried"} <= listed
    assert not listed & {"broken", "empty", "missing", "inside.part"}
    assert registry.find("rewards", "exact").module == "environments.rewards.exact"
    assert len(registry.unusable("rewards")) == 6
    assert all(REWARDS.load(name).create for name in ("whole", "again", "tried"))
    assert registry.find("rewards", "again") == Method("rewards", "again", "Again.", "baseline", "of_a_test_again")


def test_a_package_takes_no_name_that_a_built_in_method_has(packages: None) -> None:
    assert registry.find("rewards", "exact").module == REWARDS.load("exact").__name__ == "environments.rewards.exact"
    assert REWARDS.modules()["exact"] == "environments.rewards.exact"
    (told,) = [text for text in registry.unusable("rewards") if "'exact'" in text]
    assert told.startswith("the reward 'exact' of the package of-a-test is not used: of_a_test_exact bears the name of")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken", "SyntaxError"), ("empty", "no `Config` and `create`"), ("missing", "no module 'of_a_test_missing'"),
        ("inside.part", "SystemExit: 3"), ("raising", "RuntimeError: no device"),
    ],
)  # fmt: skip
def test_a_spec_that_names_a_broken_plug_in_hears_of_its_package(packages: None, name: str, why: str) -> None:
    with pytest.raises(SpecError, match="of the package of-a-test cannot be used") as refused:
        registry.config_class("rewards", name)
    assert why in str(refused.value)
    with pytest.raises(EnvironmentFault, match="of the package of-a-test cannot be used"):
        module_of(REWARDS, name)
