from __future__ import annotations

import json

import pytest

from policies.objectives import registry
from policies.plugins import PARTS
from tests.conftest import Evergreen


def test_all_methods_are_listed_by_kind_with_a_line_and_a_source(evergreen: Evergreen) -> None:
    listed = evergreen("methods").stdout
    for kind in ("bandits", "schedulers", "environments", "samplers", "objectives"):
        assert f"\n{kind}\n" in f"\n{listed}"
    assert "Self-Evolving Curriculum" in listed
    assert "(arXiv 2505.14970)" in listed


def test_a_kind_lists_its_own(evergreen: Evergreen) -> None:
    listed = json.loads(evergreen("methods", "objectives", "--json").stdout)
    assert {entry["kind"] for entry in listed} == {"objectives"}
    assert {"repo_r", "rloo"} <= {entry["name"] for entry in listed}
    assert set(listed[0]) == {"kind", "name", "summary", "source", "family"}


def test_the_parts_of_objectives_are_listed_by_kind(evergreen: Evergreen) -> None:
    assert tuple(PARTS) == registry.KINDS
    for kind in registry.KINDS:
        listed = json.loads(evergreen("methods", kind, "--json").stdout)
        assert [entry["name"] for entry in listed] == registry.names(kind)
        assert all(entry["summary"] and entry["source"] for entry in listed)


@pytest.mark.parametrize(
    ("kind", "name", "option", "default"),
    [
        ("bandits", "sec", "temperature", 0.1),
        ("schedulers", "sequence", "order", "required"),
        ("environments", "codebook", "keys", 64),
        ("samplers", "transformers", "max_tokens", 1024),
        ("objectives", "repo_r", "shapers", ["repo_r"]),
        ("objectives", "repo_r", "strength", 0.001),
        ("shapers", "clip_cov", "clip_cov_ratio", 0.0002),
        ("controllers", "geometric", "factor", 1.2),
    ],
)
def test_a_method_tells_its_story_and_every_option(
    evergreen: Evergreen, kind: str, name: str, option: str, default: object
) -> None:
    told = json.loads(evergreen("methods", kind, name, "--json").stdout)
    assert told["options"][option]["default"] == default
    assert all(entry["meaning"] for entry in told["options"].values())
    printed = " ".join(evergreen("methods", kind, name).stdout.split())
    assert told["source"] in printed
    assert option in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["bandit"],
            "'bandit' is not a kind of method; there are: bandits, schedulers, selections, teachers, "
            "stop_rules, environments, rewards, samplers, objectives; and of parts of an objective: plans, "
            "reward_maps, estimators, shapers, mismatch_weights, ratio_rules, terms, controllers. "
            "Did you mean 'bandits'?",
        ),
        (["bandits", "sek"], "tscl, uniform. Did you mean 'sec'?"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_the_nearest(
    evergreen: Evergreen, words: list[str], message: str
) -> None:
    result = evergreen("methods", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_kind_of_which_there_are_only_the_users_own_says_so(evergreen: Evergreen) -> None:
    listed = evergreen("methods", "measurements")
    assert listed.exit_code == 0
    assert "no measurements but your own" in " ".join(listed.stdout.split())


def test_a_method_without_options_says_so(evergreen: Evergreen) -> None:
    assert "It takes no options." in evergreen("methods", "ratio_rules", "reinforce").stdout
