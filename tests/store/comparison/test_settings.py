"""What makes a setting: few fields, named as people name them, and everything else told."""

from __future__ import annotations

from typing import Any

import pytest

from store.comparison.runs import Flat, differing, distinguishing, flat, grouped, requested, without_options
from store.errors import ComparisonError


def spec(seed: int, preset: str = "rloo", **changes: Any) -> Flat:
    raw = {
        "name": f"{preset}-{seed}",
        "seed": seed,
        "resources": {"threads": seed},
        "checkpoint": {"keep": seed},
        "policy": {"model": "tiny"},
        "objective": {"preset": preset, "shaper": preset, "controller": {"type": f"for {preset}"}},
        "curriculum": {"bandit": {"type": "sec", "floor": 0.2}, "stages": 4},
        "learner": {"lr": 1e-4, "betas": [0.9, 0.99]},
    }
    return flat(raw) | changes


def test_seed_name_and_resources_make_no_setting() -> None:
    assert differing([spec(0), spec(1)]) == []
    assert grouped({"a": spec(0), "b": spec(1)}, distinguishing({"a": spec(0), "b": spec(1)})) == {"": ["a", "b"]}


def test_a_preset_stands_for_all_that_it_changes() -> None:
    specs = {"a": spec(0), "b": spec(0, "repo"), "c": spec(1)}
    assert len(differing(specs.values())) == 3
    assert distinguishing(specs) == ["objective.preset"]
    assert grouped(specs, distinguishing(specs)) == {"rloo": ["a", "c"], "repo": ["b"]}


def test_what_a_preset_does_not_tell_apart_is_named_too() -> None:
    specs = {"a": spec(0), "b": spec(0, "repo"), "c": spec(0, **{"learner.lr": 3e-4})}
    assert grouped(specs, distinguishing(specs)) == {
        "rloo lr=0.0001": ["a"],
        "repo lr=0.0001": ["b"],
        "rloo lr=0.0003": ["c"],
    }


def test_fields_whose_last_words_are_the_same_are_written_whole() -> None:
    fields = ["curriculum.bandit.floor", "learner.floor"]
    assert list(grouped({"a": spec(0, **{"learner.floor": True})}, fields)) == [
        "curriculum.bandit.floor=0.2 learner.floor=true"
    ]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("objective", "objective.preset"),
        ("bandit", "curriculum.bandit.type"),
        ("model", "policy.model"),
        ("objective.controller", "objective.controller.type"),
        ("learner.lr", "learner.lr"),
    ],
)
def test_fields_are_found_by_the_names_people_use(name: str, field: str) -> None:
    assert requested([name], {"a": spec(0)}) == [field]


def test_an_unknown_field_is_refused_with_the_nearest() -> None:
    with pytest.raises(ComparisonError, match=r"no field 'learner\.lrr'.*'learner\.lr'"):
        requested(["learner.lrr"], {"a": spec(0)})


def test_options_are_left_out_of_what_names_them() -> None:
    fields = ["objective.preset", "curriculum.bandit.type", "curriculum.bandit.floor", "objective.controller.type"]
    assert without_options([*fields, "learner.lr"]) == ["objective.preset", "curriculum.bandit.type", "learner.lr"]
    assert without_options(["policy.model", "policy.adapter.rank"]) == ["policy.model", "policy.adapter.rank"]
    assert without_options(["curriculum.bandit.floor"]) == ["curriculum.bandit.floor"]
